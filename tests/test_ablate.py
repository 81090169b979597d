"""Experiments: intervals and verdicts by hand, each switch changes what it says, and commands that go on."""
import copy
import json

import numpy as np
import pytest
import torch
from conftest import build
from test_training import episodes_for, gradients

import grpo
import r1ci
import runs
import sft
from batches import pad, training_mask
from chat import Chat
from experiments import ablate
from experiments.ablate import difference_of_means, half_width, mean_of_seeds, variants_named, verdict
from models import score
from runs import UserError
from tasks import TASKS, draw, select
from trajectories import encode, make


# ---------------------------------------------------------------------------------------------- statistics
def test_half_width_by_hand():
    right = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], float)
    seeds, questions = np.var([0.5, 0.25], ddof=1), np.var([1, 0.5, 0, 0], ddof=1)
    assert half_width(right) == pytest.approx((12.71 ** 2 * seeds / 2 + 1.96 ** 2 * questions / 4) ** 0.5)
    assert half_width(right[:1]) == pytest.approx(1.96 * (1 / 3 / 4) ** 0.5)


def test_intervals_cover_seeds_and_questions():
    """Simulated runs whose seeds and questions both vary: 95% intervals hold the truth about that often."""
    rng = np.random.default_rng(0)
    inside = widths = 0
    for _ in range(400):
        seeds, questions = rng.normal(0, 0.05, (3, 1)), rng.normal(0, 0.2, (1, 60))
        right = (rng.random((3, 60)) < np.clip(0.6 + seeds + questions, 0, 1)).astype(float)
        _, low, high = mean_of_seeds(right)
        inside, widths = inside + (low <= 0.6 <= high), widths + high - low
    assert 0.93 < inside / 400 <= 1 and widths / 400 < 0.6


def test_accuracy_intervals_stay_honest_at_the_ends():
    mean, low, high = mean_of_seeds(np.zeros((3, 400)))
    assert (mean, low) == (0, 0) and 0.003 < high < 0.03
    assert mean_of_seeds(np.ones((1, 20)))[2] == 1 and mean_of_seeds(np.ones((1, 20)))[1] < 0.95


def test_paired_differences_are_sharper():
    rng = np.random.default_rng(1)
    first = (rng.random((1, 300)) < 0.5).astype(float)
    second = first.copy()
    second[0, :30] = 0
    paired, apart = (difference_of_means(first, second, p) for p in (True, False))
    assert paired[0] == apart[0] == pytest.approx(first[0, :30].sum() / 300)
    assert paired[1] > 0 > apart[1] and difference_of_means(first, first) == (0, 0, 0)


@pytest.mark.parametrize("low, high, expected, words", [
    (0.01, 0.2, ">", "agrees"), (-0.2, -0.01, ">", "disagrees"), (-0.1, 0.2, ">", "can't be told"),
    (-0.04, 0.04, "=", "agrees"), (0.06, 0.2, "=", "disagrees"), (0.01, 0.2, "=", "can't be told"),
    (-0.2, 0.2, "=", "can't be told"), (0.1, 0.2, None, "the first is better"),
    (-0.1, 0.2, None, "can't be told")])
def test_verdicts(low, high, expected, words):
    assert words in verdict(low, high, expected)
    assert (verdict(low, high, expected) == "agrees") == (words == "agrees")


def test_selection_of_variants():
    assert variants_named("algorithm,train-on-code-output") == [
        "default", "algorithm=ppo", "algorithm=reinforce", "algorithm=dr-grpo", "train_on_code_output"]
    assert variants_named("mode=code, mode") == ["default", "mode=code", "mode=text"]
    assert variants_named("algorithm=dr-grpo") == ["default", "algorithm=dr-grpo"]
    for wrong in ("", "curry"):
        with pytest.raises(UserError):
            variants_named(wrong)


# ------------------------------------------------------------------------------------------------ switches
def settings(parse, *flags):
    return {name: value for name, value in vars(parse([*flags])).items() if name != "out"}


@pytest.mark.parametrize("name", [name for name in ablate.VARIANTS if not name.startswith("curriculum")])
def test_a_variant_changes_one_setting(name):
    for parse, flags in zip((grpo.parse, sft.parse), ablate.VARIANTS[name]):
        default, variant = settings(parse), settings(parse, *flags.split())
        changed = {key for key in default if default[key] != variant[key]}
        also = {"text_share"} if "--mode" in flags else set()
        asked = {flag[2:].replace("-", "_") for flag in flags.split() if flag.startswith("--")}
        assert asked <= changed <= asked | also


def test_flags_for_the_warm_start_are_those_that_were_given():
    flags = ["--steps", "3", "--levels", "2,4", "--no-exact", "--slots", "7", "--random-weights", "--lr", "1"]
    written = ["--model", "tiny", "--random-weights", "--levels", "2,4", "--slots", "7", "--no-exact"]
    assert ablate.sft_flags(flags) == written
    args = sft.parse(ablate.sft_flags(["--preset", "smollm2", "--mode", "text"]))
    assert args.preset == "smollm2" and args.mode == "text" and args.turn_tokens == 192


def test_train_on_code_output_changes_the_mask_alone(tokenizer):
    """Every place that reads a mask reads this one: loss, divisor, statistics, rewards."""
    policy = build(tokenizer)
    advantages = [1.0, -1, 0.5, -0.5]
    for aggregate in ("sequence", "token", "constant"):
        episodes = episodes_for(policy, [1, 0, 1, 0])
        unmasked = copy.deepcopy(episodes)
        for episode in unmasked:
            episode.mask = [0, 0, *[1] * (len(episode.ids) - 2)]
        with torch.no_grad():
            logprobs, _ = score(policy, pad([e.ids for e in unmasked]), pad([e.mask for e in unmasked]))
        for row, episode in enumerate(unmasked):
            episode.logprobs = logprobs[row, :len(episode.ids)].tolist()
        switched, stats = gradients(policy, episodes, advantages, train_on_code_output=True,
                                    aggregate=aggregate)
        by_hand, same = gradients(policy, unmasked, advantages, aggregate=aggregate)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(switched, by_hand))
        assert any(gradient.abs().max() > 1e-4 for gradient in by_hand)
        assert stats["trained_tokens"] == same["trained_tokens"] > sum(sum(e.mask) for e in episodes)


def test_algorithms_differ_in_their_advantages_alone(tokenizer):
    policy = build(tokenizer)
    rewards, groups = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0, 0, 0, 0])
    by_hand = {"grpo": torch.tensor([1.5, -0.5, -0.5, -0.5]),
               "dr-grpo": torch.tensor([0.75, -0.25, -0.25, -0.25]),
               "reinforce": torch.tensor([1, -1 / 3, -1 / 3, -1 / 3])}
    assert set(by_hand) == set(grpo.ADVANTAGES)
    for name, expected in by_hand.items():
        episodes = episodes_for(policy, rewards.tolist())
        advantages = grpo.ADVANTAGES[name](rewards, groups)
        _, stats = gradients(policy, episodes, advantages.tolist())
        assert torch.allclose(advantages, expected)
        assert stats["trained_tokens"] == sum(sum(e.mask) for e in episodes)
    for function in grpo.ADVANTAGES.values():
        assert (function(torch.tensor([1.0, 0.3]), torch.tensor([0, 1])) == 0).all()


def data(box, tokenizer, mode="interpreter", **changes):
    flags = [word for name, value in changes.items() for word in (f"--{name.replace('_', '-')}", str(value))
             if value is not True or word.startswith("--")]
    args = sft.parse(["--mode", mode, *flags])
    chat = Chat(tokenizer, args.mode, "short", args.answer_format)
    return make(draw(select("tiny"), "sft", 160, (1,)), chat, box, text_share=args.text_share,
                multi_share=args.multi_share, fallback_share=args.fallback_share, per_task=1000,
                keep_wrong=args.keep_wrong, learn_slips=args.learn_slips)


def test_sft_switches_change_the_kinds_of_conversations(box, tokenizer):
    kinds = {name: {record["kind"] for record in data(box, tokenizer, **flags)} for name, flags in {
        "default": {}, "text": {"mode": "text"}, "code": {"mode": "code"}, "text data": {"text_share": 1},
        "code data": {"text_share": 0}, "single": {"multi_share": 0},
        "fallback": {"fallback_share": 1},
        "code, no fallback": {"fallback_share": 1, "mode": "code"}}.items()}
    assert kinds["default"] == {"reason", "guess", "code", "repair", "recheck"}
    assert kinds["text"] == kinds["text data"] == {"reason", "guess"}
    assert kinds["code"] == kinds["code data"] == {"code", "repair", "recheck"}
    assert kinds["fallback"] == {"reason", "guess", "fallback"}
    assert kinds["code, no fallback"] == kinds["code"]
    assert kinds["single"] == {"reason", "guess", "code"}


def test_keep_wrong_adds_wrong_guesses_and_changes_nothing_else(box, tokenizer):
    kept, all_of_them = data(box, tokenizer), data(box, tokenizer, keep_wrong=True)
    before = {(r["task"], r["seed"]): r for r in kept}
    wrong = 0
    for record in all_of_them:
        same = before.get((record["task"], record["seed"]))
        if same and same != record:
            question = TASKS[record["task"]].question(record["seed"], record["level"])
            answer = Chat().answer(record["messages"][-1]["content"])
            assert record["kind"] == "guess" and same["messages"][:-1] == record["messages"][:-1]
            wrong += not TASKS[record["task"]].check(question, answer)
    guesses = sum(record["kind"] == "guess" for record in kept)
    # A busy machine may lose a program or two to the time limit.
    assert len(all_of_them) > 0.95 * len(kept) and 0.2 * guesses < wrong < 0.8 * guesses


def test_code_output_is_never_learned_unless_asked(chat, conversations):
    record = next(r for r in conversations if r["kind"] == "repair")
    ids, mask = encode(chat, record["messages"])
    own = chat.tokenizer.decode([i for i, m in zip(ids, mask) if m])
    everything = chat.tokenizer.decode([i for i, m in zip(ids, training_mask(mask, True)) if m])
    assert "Code Execution Results" not in own and "Code Execution Results" in everything
    assert record["messages"][1]["content"] not in everything


# ------------------------------------------------------------------------------------------------ commands
FEW = ["--steps", "1", "--questions", "2", "--samples", "2", "--eval-questions", "8", "--turn-tokens", "12",
       "--sft-steps", "2"]


def test_ablate_runs_resumes_and_skips(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    called = []
    trained, fine_tuned = grpo.main, sft.main
    monkeypatch.setattr(grpo, "main", lambda argv: called.append("rl") or trained(argv))
    monkeypatch.setattr(sft, "main", lambda argv: called.append("sft") or fine_tuned(argv))
    command = ["ablate", "--over", "algorithm=ppo,multi_share", "--seeds", "0,1", *FEW]
    r1ci.main(command)
    assert called == ["sft", "rl", "rl", "rl", "rl", "sft", "rl", "rl"]
    folder = tmp_path / "runs/tiny/ablate"
    text = (folder / "table.md").read_text()
    assert text in capsys.readouterr().out and "2 seeds, 8 held-out questions" in text
    names = [line.split(" | ")[0] for line in text.splitlines()[2:5]]
    assert names == ["| default", "| algorithm=ppo", "| multi_share=0"]
    configs = {path.parent.parent.name + path.parent.name[-1]: json.loads(path.read_text())
               for path in folder.glob("*/seed*/config.json")}
    assert len(configs) == 6 and configs["default1"]["seed"] == 1
    assert configs["algorithm=ppo0"]["algorithm"] == "ppo"
    warm = {name: config["sft_run"] for name, config in configs.items()}
    assert warm["default0"] == warm["algorithm=ppo1"] != warm["multi_share=00"]
    (folder / "default/seed1/before-after.json").unlink()
    r1ci.main(command)
    assert called[8:] == ["rl"] and (folder / "table.md").read_text() == text
    r1ci.main([*command, "--steps", "2", "--seeds", "0"])  # the same runs, longer
    assert called[9:] == ["rl"] * 3
    for wrong, words in (
            (["--steps", "1"], "was trained for 2 steps"), (["--lr", "1", "--steps", "2"], "lr="),
            (["--over", "luck"], "choose from"), (["--seeds", "0,0"], "different numbers")):
        with pytest.raises(SystemExit) as stop:
            runs.command(lambda wrong=wrong: r1ci.main([*command, "--seeds", "0", *wrong]))
        assert stop.value.code == 2 and words in capsys.readouterr().err.splitlines()[-1]
    assert len(called) == 12


def test_reproduce_writes_what_it_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["reproduce", "--only", "warm,one-task", "--seeds", "3", *FEW]
    r1ci.main(command)
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| warm-start |" in text and "| one-task |" in text and "one seed" in text
    assert "| ppo |" not in text and "<!-- reproduce warm-start,one-task: end -->" in text
    folder = tmp_path / "runs/tiny/reproduce"
    counted = json.loads((folder / "tasks=chain_sum/seed3/before-after.json").read_text())
    assert len(counted["after SFT"]["right"]) == len(counted["after GRPO"]["right"]) == 8
    assert "before" in json.loads((folder / "init=base/seed3/before-after.json").read_text())
    (tmp_path / "docs").mkdir()
    r1ci.main(command)  # nothing is run again
    assert (tmp_path / "docs/RESULTS.md").read_text() == text
    with pytest.raises(UserError, match="choose from"):
        r1ci.main(["reproduce", "--only", "luck"])


def test_every_claim_names_variants():
    for _, first, second, expected, what in ablate.CLAIMS.values():
        assert {first, second} <= set(ablate.VARIANTS)
        assert expected in (">", "=", None) and what in ("accuracy", "gain")
