"""Training steps: what moves, what does not, and whether a killed run ends like one that was not."""
import copy
import json
import math
import signal
import subprocess
import sys
import time
from argparse import Namespace

import pytest
import torch
from conftest import ROOT, build, watched

import grpo
import models
import ppo
import sft
from copies import Reference
from models import load, save, score
from rollout import Episode, Turn
from runs import Run, RunError, read_jsonl
from tasks import TASKS
from trajectories import encode

SETTINGS = {"importance_cap": 0.0, "truncated": "keep", "epochs": 1, "minibatches": 1, "micro_tokens": 4096,
            "train_on_code_output": False, "temperature": 1.0, "clip_low": 0.2, "clip_high": 0.2, "kl": 0.0, "aggregate": "sequence",
            "episode_tokens": 64, "max_grad_norm": 1e9, "seed": 0}


def episodes_for(policy, rewards, lengths=(3, 9, 5, 6)):
    """Hand-made episodes: a prompt, sampled tokens, two tokens of tool output, sampled tokens."""
    made = []
    for i, (reward, length) in enumerate(zip(rewards, lengths)):
        ids = [7, 8, *range(20 + i, 20 + i + length), 9, 9, 30 + i, 2]
        mask = [0, 0, *[1] * length, 0, 0, 1, 1]
        episode = Episode(TASKS["products"].question(i, 1), ids, mask, [0.0] * len(ids), stop="answer", reward=reward,
                          turns=[Turn(2, 2 + length, "", "x", "y", "ok"), Turn(4 + length, len(ids), "")])
        made.append(episode)
    with torch.no_grad():
        logprobs, _ = score(policy, sft.pad([e.ids for e in made]), sft.pad([e.mask for e in made]))
    for row, episode in enumerate(made):
        episode.logprobs = logprobs[row, :len(episode.ids)].tolist()
    return made


class Recorder(torch.optim.SGD):
    """SGD that remembers the gradients of its last step."""

    def step(self):
        self.seen = [p.grad.clone() for g in self.param_groups for p in g["params"]]
        super().step()


def gradients(policy, episodes, advantages, **changes):
    policy = copy.deepcopy(policy)
    optimizer = Recorder(policy.parameters(), lr=0.0)
    stats = grpo.train_on(policy, changes.pop("reference", None), [optimizer], episodes, torch.tensor(advantages),
                          Namespace(**{**SETTINGS, **changes}))
    return optimizer.seen, stats


@pytest.mark.parametrize("aggregate", ["sequence", "token", "constant"])
def test_the_gradient_does_not_depend_on_micro_batches(tokenizer, aggregate):
    policy = build(tokenizer)
    episodes, advantages = episodes_for(policy, [1, 0, 1, 0]), [1.0, -1.0, 0.5, -0.5]
    reference = Reference(build(tokenizer, "qwen2"))
    whole, stats = gradients(policy, episodes, advantages, aggregate=aggregate, kl=0.1, reference=reference)
    for micro_tokens in (1, 30):
        parts, same = gradients(policy, episodes, advantages, aggregate=aggregate, kl=0.1, reference=reference,
                                micro_tokens=micro_tokens)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, parts))
        assert same["loss"] == pytest.approx(stats["loss"], abs=1e-6)
    assert any(g.abs().max() > 1e-4 for g in whole)


def group_episodes(policy, monkeypatch, groups=2, samples=4):
    """Episodes of questions with long prompts, that are worth reading once; a few of them are far longer."""
    monkeypatch.setattr(models, "SHORTEST_SHARED", 8)
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
    episodes, reference = group_episodes(policy, monkeypatch), Reference(build(tokenizer, "qwen2"))
    names = ppo.families(models.backbone(policy), episodes)
    assert names == [(("products", 1, i // 4), 18) for i in range(8)]
    advantages = torch.randn(8, generator=torch.Generator().manual_seed(0)).tolist()
    read, results = [], []
    kind = type(models.backbone(policy))
    monkeypatch.setattr(kind, "forward", watched(kind.forward, read))
    for shortest in (8, 1000):
        monkeypatch.setattr(models, "SHORTEST_SHARED", shortest)
        read.clear()
        results.append((*gradients(policy, episodes, advantages, aggregate=aggregate, kl=0.1, reference=reference,
                                   epochs=2), sum(read)))
    assert 1.25 * results[0][2] < results[1][2]
    assert results[0][1]["loss"] == pytest.approx(results[1][1]["loss"], abs=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(results[0][0], results[1][0]))
    assert any(g.abs().max() > 1e-4 for g in results[0][0])


def test_families_are_for_long_prompts_that_several_episodes_share(tokenizer, monkeypatch):
    policy = build(tokenizer)
    episodes = group_episodes(policy, monkeypatch)
    model = models.backbone(policy)
    assert ppo.families(model, episodes) and ppo.families(model, []) is None
    assert ppo.families(model, episodes[::3]) is None  # three episodes of two questions
    monkeypatch.setattr(models, "SHORTEST_SHARED", 18)
    assert ppo.families(model, episodes) is None
    monkeypatch.setattr(models, "SHORTEST_SHARED", 8)
    policy.gradient_checkpointing_enable({"use_reentrant": False})
    assert ppo.families(model, episodes)  # in eval mode nothing is run again
    policy.train()
    assert ppo.families(model, episodes) is None


def test_sft_gradient_does_not_depend_on_micro_batches(tokenizer, chat, conversations):
    batch = [encode(chat, record["messages"]) for record in conversations[:8]]
    results = []
    for micro_tokens in (10, 500, 100_000):
        policy = build(tokenizer)
        optimizer = Recorder(policy.parameters(), lr=0.0)
        metrics = sft.train_step(policy, [optimizer], batch, micro_tokens, 0.0)
        results.append((metrics["loss"], optimizer.seen))
    logits = build(tokenizer)(input_ids=sft.pad([ids for ids, _ in batch])).logits
    expected = sft.masked_cross_entropy(logits, *(sft.pad([example[k] for example in batch]) for k in (0, 1)))
    for loss, grads in results:
        assert loss == pytest.approx(expected.item(), abs=1e-4)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(grads, results[0][1]))


def test_a_dead_group_changes_nothing(tokenizer):
    policy = build(tokenizer)
    before = copy.deepcopy(policy.state_dict())
    episodes = episodes_for(policy, [1, 1, 1, 1])
    advantages = grpo.group_advantages(torch.ones(4), torch.zeros(4, dtype=torch.long))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.1)
    stats = grpo.train_on(policy, None, [optimizer], episodes, advantages, Namespace(**SETTINGS))
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())
    assert stats["trained_tokens"] == 0


def test_a_step_raises_the_rewarded_arm(tokenizer):
    """Two arms: the same prompt, one token each; the rewarded one gets likelier, the other less likely."""
    policy = build(tokenizer)
    arms = [Episode(TASKS["products"].question(0, 1), [7, 8, arm], [0, 0, 1], [0.0] * 3, stop="answer")
            for arm in (40, 41)]

    def probabilities():
        with torch.no_grad():
            return score(policy, torch.tensor([[7, 8, 40], [7, 8, 41]]), torch.tensor([[0, 0, 1]] * 2))[0][:, 2]

    before = probabilities()
    for row, arm in enumerate(arms):
        arm.logprobs[2] = before[row].item()
    advantages = grpo.group_advantages(torch.tensor([1.0, 0.0]), torch.tensor([0, 0]))
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.5)
    stats = grpo.train_on(policy, None, [optimizer], arms, advantages, Namespace(**SETTINGS))
    after = probabilities()
    assert after[0] > before[0] and after[1] < before[1]
    assert stats["loss"] == pytest.approx(0, abs=1e-6)  # ratio 1, advantages of sum 0: the value says nothing


def test_importance_weights_correct_the_sampler(tokenizer):
    """A sampler that reports every log-prob too low by log 1.2 sampled those tokens too rarely: they count 1.2 times."""
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
    assert sft.training_mask([0, 1, 0, 1]) == [0, 1, 0, 1] and sft.training_mask([0, 1, 0, 1], True) == [0, 1, 1, 1]


def test_truncated_episodes_can_be_dropped(tokenizer):
    policy = build(tokenizer)
    episodes = episodes_for(policy, [1, 0, 1, 0])
    episodes[1].stop = "length"
    _, kept = gradients(policy, episodes, [1.0, -1.0, 0.5, -0.5])
    _, dropped = gradients(policy, episodes, [1.0, -1.0, 0.5, -0.5], truncated="drop")
    assert kept["trained_tokens"] - dropped["trained_tokens"] == sum(episodes[1].mask)
    for episode in episodes:
        episode.stop = "length"
    policy = copy.deepcopy(policy)
    stats = grpo.train_on(policy, None, [torch.optim.SGD(policy.parameters(), lr=0.1)], episodes,
                          torch.tensor([1.0, -1.0, 0.5, -0.5]), Namespace(**{**SETTINGS, "truncated": "drop"}))
    assert stats["loss"] == 0 and all(p.isfinite().all() for p in policy.parameters())


def test_several_epochs_clip(tokenizer):
    policy = build(tokenizer)
    episodes = episodes_for(policy, [1, 0, 1, 0])
    stats = grpo.train_on(policy, None, [torch.optim.SGD(policy.parameters(), lr=1.0)], episodes,
                          torch.tensor([1.0, -1.0, 1.0, -1.0]), Namespace(**{**SETTINGS, "epochs": 6, "minibatches": 2}))
    assert stats["clip_share"] > 0 and stats["logprob_error"] > 0


@pytest.mark.parametrize("correct, stop, codes, reward", [
    (True, "answer", [], 1.1), (False, "answer", ["x"], 0.1), (False, "void", [], -0.1), (False, "length", ["x"], -0.1),
    (True, "answer", ["x"] * 5, 1.1), (True, "answer", ["x"] * 6, 1.0)])
def test_shaped_reward(correct, stop, codes, reward):
    turns = [Turn(0, 1, "", code, "", "ok") for code in codes] + [Turn(0, 1, "")]
    episode = Episode(TASKS["products"].question(0, 1), [], [], [], turns, correct=correct, stop=stop)
    assert grpo.shaped_reward(episode) == pytest.approx(reward)
    assert grpo.outcome_reward(episode) == float(correct)


# ------------------------------------------------------------------------------------------- references and adapters
def test_the_reference_is_the_sft_adapter_not_the_base(tokenizer, tmp_path):
    from peft import LoraConfig, get_peft_model
    build(tokenizer).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    policy = get_peft_model(build(tokenizer), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    save(policy, tokenizer, tmp_path)
    ids, mask = torch.arange(10, 22)[None], torch.ones(1, 12)

    def logprobs(model):
        with torch.no_grad():
            return score(model, ids, mask)[0]

    trained, _ = load(str(tmp_path / "base"), checkpoint_folder=tmp_path, dtype="float32", lora_rank=4)
    reference = Reference(trained, tmp_path / "adapter")
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


# ---------------------------------------------------------------------------------------------------------- resuming
SMALL = ["--tasks", "count_bits,products", "--questions", "2", "--samples", "2", "--turn-tokens", "16",
         "--eval-questions", "0", "--save-every", "2", "--init", "base", "--lr", "1e-3"]


def numbers(folder):
    return [{k: v for k, v in line.items() if "second" not in k} for line in read_jsonl(folder / "metrics.jsonl")]


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    command = [sys.executable, str(ROOT / "grpo.py"), *SMALL, "--steps", "500", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(1200):
        time.sleep(0.05)
        if read_jsonl(tmp_path / "run/metrics.jsonl") or process.poll() is not None:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "--resume" in out and "Traceback" not in err
    steps = len(read_jsonl(tmp_path / "run/metrics.jsonl"))
    assert torch.load(tmp_path / "run/trainer.pt", weights_only=True)["step"] == steps


@pytest.mark.parametrize("script", ["grpo.py", "sft.py"])
def test_ctrl_c_before_the_first_step(tmp_path, script):
    command = [sys.executable, str(ROOT / script), "--out", str(tmp_path / "run")]
    process = subprocess.Popen([*command, *(["--init", "base"] if script == "grpo.py" else [])],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    for _ in range(1200):
        time.sleep(0.05)
        if (tmp_path / "run/config.json").exists() or process.poll() is not None:
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in err and "Traceback" not in err, err


def test_run_folders_are_not_overwritten(tmp_path):
    Run(tmp_path / "a", {"lr": 1})
    with pytest.raises(RunError, match="--resume"):
        Run(tmp_path / "a", {"lr": 1})
    with pytest.raises(RunError, match="lr=1, not 2"):
        Run(tmp_path / "a", {"lr": 2}, resume=True)
    with pytest.raises(RunError, match="no run to resume"):
        Run(tmp_path / "b", {}, resume=True)
    Run(tmp_path / "a", {"lr": 2}, overwrite=True)
    assert json.loads((tmp_path / "a/config.json").read_text()) == {"lr": 2}


def test_batches_walk_through_permutations():
    seen = [i for step in range(6) for i in sft.batch_of(step, 10, 5, seed=3)]
    for epoch in range(3):
        assert sorted(seen[10 * epoch:10 * epoch + 10]) == list(range(10))
    assert seen[:10] != seen[10:20] and sft.batch_of(4, 10, 5, 3) == seen[20:25]
