"""Training steps: what moves, what does not, and whether a killed run ends like one that was not."""
import copy
import doctest
import json
import math
import os
import signal
import sys
import time
from argparse import Namespace
from collections import Counter
from unittest import mock

import pytest
import torch
from conftest import build, start, watched

import batches
import grpo
import models
import sft
from batches import Trainer, pad, trained_parameters
from models import load, save, score
from ppo import Reference
from rollout import Episode, Turn
from runs import Run, UserError, read_jsonl, write_jsonl
from tasks import TASKS
from trajectories import encode

SETTINGS = {"importance_cap": 0.0, "dual_clip": 0.0, "epochs": 1, "micro_tokens": 4096,
            "train_on_code_output": False,
            "temperature": 1.0, "clip_high": 0.2, "kl": 0.0, "aggregate": "sequence", "episode_tokens": 64}


def episodes_for(policy, rewards, lengths=(3, 9, 5, 6)):
    """Hand-made episodes: a prompt, sampled tokens, two tokens of tool output, sampled tokens."""
    made = []
    for i, (reward, length) in enumerate(zip(rewards, lengths)):
        ids = [7, 8, *range(20 + i, 20 + i + length), 9, 9, 30 + i, 2]
        mask = [0, 0, *[1] * length, 0, 0, 1, 1]
        turns = [Turn(2, 2 + length, "", "x", "y", "ok"), Turn(4 + length, len(ids), "")]
        made.append(Episode(TASKS["products"].question(i, 1), ids, mask, [0.0] * len(ids), turns,
                            stop="answer", reward=reward))
    with torch.no_grad():
        logprobs, _ = score(policy, pad([e.ids for e in made]), pad([e.mask for e in made]))
    for row, episode in enumerate(made):
        episode.logprobs = logprobs[row, :len(episode.ids)].tolist()
    return made


class Recorder(torch.optim.SGD):
    """SGD that remembers the gradients of its last step."""

    def step(self):
        self.seen = [p.grad.clone() for g in self.param_groups for p in g["params"]]
        super().step()


class Unclipped(Trainer):
    """A trainer that does not clip gradients."""

    def step(self, *arguments, **options):
        measure = torch.nn.utils.clip_grad_norm_
        with mock.patch.object(torch.nn.utils, "clip_grad_norm_", lambda p, max_norm: measure(p, 1e9)):
            return super().step(*arguments, **options)


def trainer_of(policy, kind=torch.optim.SGD, lr=0.0, micro_tokens=4096):
    """A trainer that does not clip, with an optimizer of the test's choice."""
    trainer = Unclipped(trained_parameters(policy), lr, micro_tokens)
    trainer.optimizers = [kind(trainer.parameters.values(), lr=lr)]
    return trainer


def update(policy, trainer, episodes, advantages, reference=None, **changes):
    """What `grpo.train` does with the episodes of a step and their advantages."""
    args = Namespace(**{**SETTINGS, **changes})
    masks = [batches.training_mask(episode.mask, args.train_on_code_output) for episode in episodes]
    old = grpo.old_logprobs(policy, trainer, episodes, masks, args)
    return grpo.train_on(policy, reference, trainer, episodes, masks, old, torch.as_tensor(advantages), args)


def gradients(policy, episodes, advantages, micro_tokens=4096, **changes):
    policy = copy.deepcopy(policy)
    trainer = trainer_of(policy, Recorder, micro_tokens=micro_tokens)
    stats = update(policy, trainer, episodes, advantages, **changes)
    return trainer.optimizers[0].seen, stats


def test_numbers_that_are_not_finite_are_reported(tokenizer, monkeypatch):
    """A run that diverges must not look calm in its metrics."""
    policy = build(tokenizer)
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda *args: step(*args) | {"grad_norm": math.nan, "kl": math.nan})
    _, stats = gradients(policy, episodes_for(policy, [1, 0, 1, 0]), [1.0, -1.0, 0.5, -0.5])
    assert math.isnan(stats["grad_norm"]) and math.isnan(stats["kl"]) and stats["trained_tokens"] > 0


@pytest.mark.parametrize("aggregate", ["sequence", "token", "constant"])
def test_the_gradient_does_not_depend_on_micro_batches(tokenizer, aggregate):
    policy = build(tokenizer)
    episodes, advantages = episodes_for(policy, [1, 0, 1, 0]), [1.0, -1.0, 0.5, -0.5]
    reference = Reference(build(tokenizer, "qwen2"))
    whole, stats = gradients(policy, episodes, advantages, aggregate=aggregate, kl=0.1, reference=reference)
    for micro_tokens in (1, 30):
        parts, same = gradients(policy, episodes, advantages, aggregate=aggregate, kl=0.1,
                                reference=reference, micro_tokens=micro_tokens)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, parts))
        assert same["loss"] == pytest.approx(stats["loss"], abs=1e-6)
    assert any(g.abs().max() > 1e-4 for g in whole)


def group_episodes(policy, groups=2, samples=4):
    """Episodes of questions with long prompts; a few of them are far longer than the others."""
    made = episodes_for(policy, [0.0] * groups * samples, [3 + 5 * (i % 3) for i in range(groups * samples)])
    for i, episode in enumerate(made):  # 16 tokens before the prompt of two
        prompt = [40 + i // samples, *range(3, 18)]
        episode.question = TASKS["products"].question(i // samples, 1)
        for name, values in (("ids", prompt), ("mask", [0] * 16), ("logprobs", [0.0] * 16)):
            setattr(episode, name, values + getattr(episode, name))
    return made


@pytest.mark.parametrize("aggregate", ["sequence", "token", "constant"])
def test_the_gradient_does_not_depend_on_reading_prompts_once(tokenizer, monkeypatch, aggregate):
    policy = build(tokenizer)
    episodes, reference = group_episodes(policy), Reference(build(tokenizer))
    advantages = torch.randn(8, generator=torch.Generator().manual_seed(0)).tolist()
    read, results = [], []
    kind = type(models.backbone(policy))
    monkeypatch.setattr(kind, "forward", watched(kind.forward, read))
    for way in ("once", "checkpointing", "whole"):
        if way == "checkpointing":
            policy.gradient_checkpointing_enable({"use_reentrant": False})
        if way == "whole":
            policy.gradient_checkpointing_disable()
            monkeypatch.setattr(models, "shared_prefix", lambda *_: 0)
        read.clear()
        results.append((*gradients(policy, episodes, advantages, aggregate=aggregate, kl=0.1,
                                   reference=reference, epochs=2), sum(read)))
    (once, stats, fewest), (_, _, some), (_, _, most) = results
    assert fewest == some and 1.25 * fewest < most
    assert any(g.abs().max() > 1e-4 for g in once)
    for whole, same, _ in results[1:]:
        assert stats["loss"] == pytest.approx(same["loss"], abs=1e-6)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(once, whole))


def test_what_rows_share_ends_before_it_predicts_a_trained_token():
    ids = torch.tensor([[1, 2, 3, 4, 5], [1, 2, 3, 9, 0]])
    for mask, shared in (([0, 0, 0, 0, 1], 3), ([0, 0, 0, 1, 1], 2), ([0, 0, 1, 1, 1], 1),
                         ([0, 1, 1, 1, 1], 0), ([0, 0, 0, 0, 0], 0)):
        assert models.shared_prefix(ids, torch.tensor([mask, [0] * 5]).bool()) == shared
        assert models.shared_prefix(ids, torch.tensor([[0] * 5, mask]).bool()) == shared
    assert models.shared_prefix(ids.flip(1), torch.ones(2, 5).bool()) == 0
    assert models.shared_prefix(ids[:1].repeat(3, 1), torch.tensor([[0, 0, 0, 0, 1]] * 3).bool()) == 3


def test_sft_gradient_does_not_depend_on_micro_batches(tokenizer, chat, conversations):
    batch = [encode(chat, record["messages"]) for record in conversations[:8]]
    results = []
    for micro_tokens in (10, 500, 100_000):
        policy = build(tokenizer)
        trainer = trainer_of(policy, Recorder, micro_tokens=micro_tokens)
        metrics = sft.train_step(policy, trainer, batch, 0.0)
        results.append((metrics["loss"], trainer.optimizers[0].seen))
    logits = build(tokenizer)(input_ids=pad([ids for ids, _ in batch])).logits
    expected = sft.masked_cross_entropy(logits, *(pad([example[k] for example in batch]) for k in (0, 1)))
    for loss, grads in results:
        assert loss == pytest.approx(expected.item(), abs=1e-4)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(grads, results[0][1]))


def test_a_dead_group_changes_nothing(tokenizer):
    policy = build(tokenizer)
    before = copy.deepcopy(policy.state_dict())
    episodes = episodes_for(policy, [1, 1, 1, 1])
    advantages = grpo.group_advantages(torch.ones(4), torch.zeros(4, dtype=torch.long))
    stats = update(policy, trainer_of(policy, torch.optim.AdamW, 0.1), episodes, advantages)
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())
    assert stats["trained_tokens"] == 0


def test_a_step_raises_the_rewarded_arm(tokenizer):
    """Two arms: the same prompt, one token each; the rewarded one gets likelier, the other less likely."""
    policy = build(tokenizer)
    arms = [Episode(TASKS["products"].question(0, 1), [7, 8, arm], [0, 0, 1], [0.0] * 3, stop="answer")
            for arm in (40, 41)]

    def probabilities():
        with torch.no_grad():
            ids, mask = torch.tensor([[7, 8, 40], [7, 8, 41]]), torch.tensor([[0, 0, 1]] * 2)
            return score(policy, ids, mask)[0][:, 2]

    before = probabilities()
    for row, arm in enumerate(arms):
        arm.logprobs[2] = before[row].item()
    advantages = grpo.group_advantages(torch.tensor([1.0, 0.0]), torch.tensor([0, 0]))
    stats = update(policy, trainer_of(policy, lr=1e-3), arms, advantages)
    after = probabilities()
    assert after[0] > before[0] and after[1] < before[1]
    assert stats["loss"] == pytest.approx(0, abs=1e-6)  # ratio 1, advantages of sum 0: the value says nothing


def test_importance_weights_correct_the_sampler(tokenizer):
    """A sampler that reports log-probs too low by log 1.2 sampled too rarely: tokens count 1.2 times."""
    policy = build(tokenizer)
    episodes = episodes_for(policy, [1, 0, 1, 0])
    right, _ = gradients(policy, episodes, [1.0, -1.0, 0.5, -0.5])
    for episode in episodes:
        episode.logprobs = [p - math.log(1.2) for p in episode.logprobs]
    weighted, stats = gradients(policy, episodes, [1.0, -1.0, 0.5, -0.5], importance_cap=2.0)
    capped, _ = gradients(policy, episodes, [1.0, -1.0, 0.5, -0.5], importance_cap=1.1)
    for a, b, c in zip(right, weighted, capped):
        assert torch.allclose(1.2 * a, b, atol=1e-6) and torch.allclose(1.1 * a, c, atol=1e-6)
    assert stats["importance_weight"] == pytest.approx(1.2, abs=1e-4)
    assert stats["logprob_error"] == pytest.approx(math.log(1.2), abs=1e-4)


def test_only_own_tokens_are_trained_unless_asked(tokenizer):
    policy = build(tokenizer)
    episodes = episodes_for(policy, [1, 0, 1, 0])
    own, _ = gradients(policy, episodes, [1.0, -1.0, 0.5, -0.5])
    _, all_stats = gradients(policy, episodes, [1.0, -1.0, 0.5, -0.5], train_on_code_output=True)
    _, own_stats = gradients(policy, episodes, [1.0, -1.0, 0.5, -0.5])
    assert own_stats["trained_tokens"] == sum(sum(e.mask) for e in episodes)
    assert all_stats["trained_tokens"] == sum(len(e.ids) - 2 for e in episodes)  # all but the prompt
    assert all_stats["logprob_error"] == 0  # the sampler has no log-probs of results: their ratio starts at 1
    for episode in episodes:
        episode.ids[-4] = episode.ids[-3] = 11  # other tool output
    others, _ = gradients(policy, episodes, [1.0, -1.0, 0.5, -0.5])
    assert not all(torch.equal(a, b) for a, b in zip(own, others))  # it is read ..
    assert batches.training_mask([0, 1, 0, 1]) == [0, 1, 0, 1]
    assert batches.training_mask([0, 1, 0, 1], True) == [0, 1, 1, 1]


def test_episodes_without_own_tokens_are_left_out(tokenizer):
    """A prompt may fill an episode: there is nothing to train, and nothing that could become NaN."""
    policy = build(tokenizer)
    episodes = episodes_for(policy, [1, 0, 1, 0])
    _, every = gradients(policy, episodes, [1.0, -1.0, 0.5, -0.5])
    episodes[1].mask, episodes[1].stop = [0] * len(episodes[1].mask), "length"
    seen, some = gradients(policy, episodes, [1.0, -1.0, 0.5, -0.5])
    assert every["trained_tokens"] - some["trained_tokens"] == 11 and all(g.isfinite().all() for g in seen)
    for episode in episodes:
        episode.mask = [0] * len(episode.mask)
    policy = copy.deepcopy(policy)
    stats = update(policy, trainer_of(policy, lr=0.1), episodes, [1.0, -1.0, 0.5, -0.5])
    assert stats["loss"] == stats["trained_tokens"] == 0
    assert all(p.isfinite().all() for p in policy.parameters())


def test_several_epochs_clip(tokenizer):
    policy = build(tokenizer)
    episodes = episodes_for(policy, [1, 0, 1, 0])
    stats = update(policy, trainer_of(policy, lr=1.0), episodes, [1.0, -1.0, 1.0, -1.0], epochs=6)
    assert stats["clip_share"] > 0 and stats["logprob_error"] > 0


def test_the_example_of_group_advantages():
    examples = doctest.DocTestFinder(recurse=False).find(grpo.group_advantages, globs={**vars(grpo)})
    assert doctest.DocTestRunner().run(examples[0]) == (0, 1)  # failed, tried


@pytest.mark.parametrize("shape", [(48, 128), (128, 48), (64, 64)])
@pytest.mark.parametrize("theirs_in, apart", [("bfloat16", 0.02), ("float64", 1e-9)])
def test_muon_is_that_of_torch(monkeypatch, shape, theirs_in, apart):
    """Torch's multiplies in bfloat16: it agrees to about a hundredth, and kept from that, exactly."""
    if theirs_in == "float64":
        monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    other = matrix.detach().clone().requires_grad_()
    ours = batches.Muon([matrix], lr=0.02)
    theirs = torch.optim.Muon([other], lr=0.02, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        before, same = matrix.detach().clone(), other.detach().clone()
        matrix.grad = torch.randn(shape, generator=generator, dtype=torch.float64)
        other.grad = matrix.grad.clone()
        ours.step()
        theirs.step()
        moved, expected = matrix.detach() - before, other.detach() - same
        assert (moved - expected).norm() < apart * expected.norm()
        assert moved.square().mean().sqrt().item() == pytest.approx(0.02 * 0.2, rel=0.2)  # as AdamW's
    assert matrix.dtype == ours.state[matrix]["momentum"].dtype == torch.float64


@pytest.mark.parametrize("correct, stop, codes, reward", [
    (True, "answer", [], 1.1), (False, "answer", ["x"], 0.1), (False, "void", [], -0.1),
    (False, "length", ["x"], -0.1), (True, "answer", ["x"] * 5, 1.1), (True, "answer", ["x"] * 6, 1.0)])
def test_shaped_reward(correct, stop, codes, reward):
    turns = [Turn(0, 1, "", code, "", "ok") for code in codes] + [Turn(0, 1, "")]
    episode = Episode(TASKS["products"].question(0, 1), [], [], [], turns, correct=correct, stop=stop)
    assert grpo.shaped_reward(episode) == pytest.approx(reward)
    assert grpo.outcome_reward(episode) == float(correct)


@pytest.mark.parametrize("value", ["None", "'1'", "float('nan')"])
def test_a_reward_that_is_no_number_ends_in_one_line(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    name = f"rewards_{abs(hash(value))}"
    (tmp_path / f"{name}.py").write_text(f"def mine(episode): return {value}\ndef one(episode): return True")
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert grpo.reward_function(f"{name}:one")(None) == 1.0
    with pytest.raises(UserError, match="a finite number is needed"):
        grpo.reward_function(f"{name}:mine")(None)


# ----------------------------------------------------------------------------------- references and adapters
def test_the_reference_is_the_sft_adapter_not_the_base(tokenizer, tmp_path):
    from peft import LoraConfig, get_peft_model
    build(tokenizer).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    policy = get_peft_model(build(tokenizer), LoraConfig(r=4, target_modules="all-linear",
                                                         task_type="CAUSAL_LM"))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    save(policy, tokenizer, tmp_path)
    ids, mask = torch.arange(10, 22)[None], torch.ones(1, 12)

    def logprobs(model):
        with torch.no_grad():
            return score(model, ids, mask)[0]

    trained, _ = load(str(tmp_path / "base"), checkpoint_folder=tmp_path, dtype="float32", lora_rank=4)
    reference = Reference(trained)
    start, base = logprobs(trained), logprobs(build(tokenizer))
    assert torch.allclose(start, logprobs(policy), atol=1e-5) and not torch.allclose(start, base, atol=1e-3)
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            if parameter.requires_grad:
                assert ".default." in name
                parameter.add_(0.01)
    with reference.active() as frozen:
        assert torch.allclose(logprobs(frozen), start, atol=1e-6)
    assert not torch.allclose(logprobs(trained), start, atol=1e-3)
    assert all(p.requires_grad == (".default." in name) for name, p in trained.named_parameters())
    cold = Reference(load(str(tmp_path / "base"), dtype="float32", lora_rank=4)[0])
    with cold.active() as frozen:
        assert torch.allclose(logprobs(frozen), base, atol=1e-6)


def test_a_lora_reference_gives_the_gradient_of_a_copy(tokenizer, tmp_path):
    """Its adapter takes the policy's place while the policy's own pass waits for its backward."""
    build(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    results = []
    for kind in ("adapter", "copy"):
        policy, _ = load(str(tmp_path), dtype="float32", lora_rank=4, gradient_checkpointing=True)
        reference = Reference(policy) if kind == "adapter" else Reference(build(tokenizer))
        episodes = episodes_for(policy, [1, 0, 1, 0])
        with torch.no_grad():
            for name, parameter in policy.named_parameters():
                if "lora_B.default" in name:
                    parameter.add_(0.02)
        trainer = trainer_of(policy, Recorder)
        stats = update(policy, trainer, episodes, [1.0, -1.0, 0.5, -0.5], reference, kl=0.5)
        results.append((stats, trainer.optimizers[0].seen))
    (stats, adapter), (same, whole) = results
    assert stats["kl"] == pytest.approx(same["kl"], rel=1e-4) and stats["kl"] > 1e-4
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(adapter, whole, strict=True))
    assert any(g.abs().max() > 1e-4 for g in adapter)


# -------------------------------------------------------------------------------------------------- resuming
SMALL = ["--tasks", "count_bits,products", "--questions", "2", "--samples", "2", "--turn-tokens", "16",
         "--save-every", "2", "--init", "base", "--lr", "1e-3"]


def numbers(folder):
    return [{k: v for k, v in line.items() if "second" not in k}
            for line in read_jsonl(folder / "metrics.jsonl")]


def test_held_out_questions_are_asked_once_and_kept(tmp_path, monkeypatch, capsys):
    """Before and after stay in the run folder; a resumed run has the same, and asks "before" never again."""
    def run(folder, *more):
        grpo.main([*SMALL, "--eval-questions", "6", "--kl", "0.001", "--out", str(tmp_path / folder), *more])

    def kept(folder, name):
        settings, *lines = read_jsonl(tmp_path / folder / f"{name}.jsonl")
        for line in lines:
            for turn in line["turns"]:
                turn["seconds"] = 0
        return settings["settings"], sorted(lines, key=lambda line: line["number"])

    run("whole", "--steps", "4")
    assert "One question before and after GRPO:" in capsys.readouterr().out
    step, asked = Trainer.step, []

    def dies(self, *arguments, **options):
        assert len(json.loads((tmp_path / "killed/before-after.json").read_text())) == 1  # already
        asked.append(1)
        if len(asked) == 4:
            raise SystemError("killed")
        return step(self, *arguments, **options)

    monkeypatch.setattr(Trainer, "step", dies)
    with pytest.raises(SystemError):
        run("killed", "--steps", "4")
    monkeypatch.setattr(Trainer, "step", step)
    before = (tmp_path / "killed/before.jsonl").read_bytes()
    run("killed", "--steps", "4", "--resume")
    assert (tmp_path / "killed/before.jsonl").read_bytes() == before
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")
    for name in ("before", "after"):
        assert kept("killed", name) == kept("whole", name) and len(kept("whole", name)[1]) == 6
        assert len(set(kept("whole", name)[0]["questions"])) == 6
    results = [json.loads((tmp_path / f"{run}/before-after.json").read_text()) for run in ("killed", "whole")]
    assert results[0] == results[1] and list(results[0]) == ["before", "after GRPO"]
    run("killed", "--steps", "5", "--resume")  # another policy at the end: asked again
    assert (tmp_path / "killed/before.jsonl").read_bytes() == before
    assert kept("killed", "after")[0]["steps"] == 5
    run("killed", "--steps", "5", "--resume", "--eval-questions", "4")
    assert len(kept("killed", "before")[1]) == len(kept("killed", "after")[1]) == 4
    (tmp_path / "killed/before.txt").write_text("mine")
    run("killed", "--steps", "1", "--eval-questions", "0", "--overwrite")
    assert [path.name for path in (tmp_path / "killed").glob("[ab]*")] == ["before.txt"]


def test_without_a_terminal_a_bar_is_a_few_lines(capsys, monkeypatch):
    def printed(total, done=0):
        with batches.Progress(total, "name", "step", done) as bar:
            for i in range(done, total):
                bar.set_postfix(loss=i)
                bar.update()
        return capsys.readouterr().err

    lines = printed(5000).splitlines()
    assert len(lines) <= 15 and "0/5000" in lines[0] and "5000/5000" in lines[-1] and "loss=" in lines[-1]
    assert max(map(len, lines)) < 90 and "\r" not in "".join(lines)
    assert "3/3" in printed(3) and "4/9" in printed(9, 4) and printed(0) is not None
    monkeypatch.setenv("RANK", "1")
    assert printed(100) == ""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(batches.sys.stderr, "isatty", lambda: True)
    assert "\r" in printed(100)  # a bar, drawn again and again


def interrupt(process, log, sign):
    """Ctrl-C for a process as soon as sign() is true; what it has printed by its end."""
    while not sign():
        assert process.is_alive(), log.read_text()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    process.join(300)
    text = log.read_text()
    assert process.exitcode == 130 and "--resume" in text and "Traceback" not in text, text
    return text


def test_tasks_without_conversations_of_their_own_get_ours(tmp_path):
    """--data has two about products and none about the other task; --fill 3 makes one and three."""
    data, run = tmp_path / "data.jsonl", tmp_path / "run"
    write_jsonl(data, [{"task": "products", "messages": [
        {"role": "user", "content": f"What is {i} x 2?"},
        {"role": "assistant", "content": f"<<<{2 * i}>>>"}]} for i in range(2)])
    flags = ["--tasks", "products,count_bits", "--steps", "1", "--batch", "2", "--data", str(data)]
    assert sft.main([*flags, "--out", str(run), "--fill", "3"])
    made = Counter(record["task"] for record in read_jsonl(run / "data.jsonl"))
    assert made == {"products": 1, "count_bits": 3}
    assert sft.main([*flags, "--out", str(tmp_path / "alone")])
    assert not (tmp_path / "alone/data.jsonl").exists()
    assert sft.main([*flags, "--out", str(tmp_path / "enough"), "--tasks", "products", "--fill", "2"])
    assert read_jsonl(tmp_path / "enough/data.jsonl") == []


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    process = start("grpo", [*SMALL, "--eval-questions", 0, "--steps", 500, "--out", run], log)
    text = interrupt(process, log, lambda: read_jsonl(run / "metrics.jsonl"))
    assert "Stopping after this step" in text
    steps = len(read_jsonl(run / "metrics.jsonl"))
    assert 0 < steps < 500 and torch.load(run / "trainer.pt", weights_only=True)["step"] == steps


@pytest.mark.parametrize("script, sign", [("grpo", "before: "), ("sft", "conversations: ")])
def test_ctrl_c_before_the_first_step(tmp_path, script, sign):
    """While questions are asked, or conversations made: their progress bar says when."""
    more = [*SMALL, "--eval-questions", 4000] if script == "grpo" else ["--per-task", 2000, "--steps", 0]
    run, log = tmp_path / "run", tmp_path / "log"
    process = start(script, [*more, "--out", run], log)
    interrupt(process, log, lambda: log.exists() and sign in log.read_text())
    assert (run / "config.json").exists() and not (run / "metrics.jsonl").exists()


def test_run_folders_are_not_overwritten(tmp_path):
    Run(tmp_path / "a", {"lr": 1}).begin()
    with pytest.raises(UserError, match="--resume"):
        Run(tmp_path / "a", {"lr": 1})
    with pytest.raises(UserError, match="lr=1, not 2"):
        Run(tmp_path / "a", {"lr": 2}, resume=True)
    with pytest.raises(UserError, match="no run to resume"):
        Run(tmp_path / "b", {}, resume=True)
    again = Run(tmp_path / "a", {"lr": 2}, overwrite=True)
    assert json.loads((tmp_path / "a/config.json").read_text()) == {"lr": 1}  # until it begins
    again.begin()
    assert json.loads((tmp_path / "a/config.json").read_text()) == {"lr": 2}


def test_batches_walk_through_permutations():
    seen = [i for step in range(6) for i in batches.batch_of(step, 10, 5, seed=3)]
    for epoch in range(3):
        assert sorted(seen[10 * epoch:10 * epoch + 10]) == list(range(10))
    assert seen[:10] != seen[10:20] and batches.batch_of(4, 10, 5, 3) == seen[20:25]
