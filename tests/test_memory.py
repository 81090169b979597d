"""Little memory: scoring that never holds the logits, steps and rollouts that give way, checkpoints on a full disk."""
import copy
import json
import os
import platform
import subprocess
import sys
from argparse import Namespace

import pytest
import torch
from conftest import ROOT, build
from test_training import SETTINGS, Recorder, episodes_for, gradients
from torch.profiler import ProfilerActivity, profile
from transformers import Qwen2ForCausalLM

import grpo
import memory
import models
import sft
from models import load, save, score, token_logprobs
from rollout import Engine, Limits
from runs import Run, trained_parameters
from tasks import draw, select
from trajectories import encode


def peak_bytes(work):
    """The most memory that tensors, temporary ones included, had at the same time: torch's own account, to the byte."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    changes = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for change in sorted(changes, key=lambda e: e.start_ns()):
        now += change.nbytes()
        most = max(most, now)
    return most


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_kept():
    """In a process of its own: a tensor that comes and goes asks the system for new pages at the first times only."""
    program = """if True:
        import resource, sys, torch
        from memory import keep_freed
        if sys.argv[1] == "keep":
            assert keep_freed()
        def faults():
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        def work():
            before = faults()
            torch.ones(12_000_000)  # 48 MB, more than malloc ever keeps of its own accord
            return faults() - before
        print(sum(work() > 5000 for _ in range(60)))
        """
    kept, given_back = (int(subprocess.run([sys.executable, "-c", program, word], capture_output=True, text=True,
                                           check=True, cwd=ROOT).stdout) for word in ("keep", "give back"))
    assert kept < 20 and given_back == 60


def test_scoring_takes_an_eighth_of_the_memory_of_all_logits():
    assert peak_bytes(lambda: torch.zeros(250, 1000).exp()) == 2_000_000  # the measure itself
    torch.manual_seed(0)
    policy = Qwen2ForCausalLM(models.shape_config(1, 8, 1, 1, 8, 152_064, True))
    ids = torch.randint(152_064, (8, 512))  # 4,096 tokens; the naive way gets an eighth of them
    mask = torch.zeros_like(ids)
    mask[:2] = 1  # a quarter is trained, as in an episode with prompt and results
    row, kept = ids[:1], []

    def naive():
        logprobs, entropy = token_logprobs(policy(input_ids=row).logits[:, :-1], row[:, 1:])
        logprobs.sum().backward()
        kept.append((logprobs, entropy))

    def ours():
        logprobs, entropy = score(policy, ids, mask)
        logprobs[0].sum().backward()
        kept.append((logprobs[:1, 1:], entropy[:1, 1:]))

    eighth = peak_bytes(naive)
    expected = [parameter.grad.clone() for parameter in policy.parameters()]
    policy.zero_grad()
    assert peak_bytes(ours) < eighth
    for a, b in zip(*kept):
        assert torch.allclose(a, b, atol=1e-5)
    for parameter, grad in zip(policy.parameters(), expected):
        assert torch.allclose(parameter.grad, grad, atol=1e-5)


# ------------------------------------------------------------------------------------------------------- giving way
def limited(monkeypatch, module, most):
    """Calls of module.score see memory for `most` places only."""
    def small(policy, ids, *rest, **options):
        if ids.numel() > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return score(policy, ids, *rest, **options)
    monkeypatch.setattr(module, "score", small)


def test_out_of_memory_in_rl_halves_the_budget_and_changes_nothing_else(tokenizer, monkeypatch, capsys):
    policy = build(tokenizer)
    episodes = episodes_for(policy, [1, 0, 1, 0], (7, 3, 3, 2))  # 13, 9, 9 and 8 tokens
    step = ([1.0, -1.0, 0.5, -0.5],)
    expected, stats = gradients(policy, episodes, *step, micro_tokens=9)
    limited(monkeypatch, grpo, 16)  # 13 fit; then two of 9 do not, with gradients of the first already there
    found, same = gradients(policy, episodes, *step, micro_tokens=18)
    assert all(torch.equal(a, b) for a, b in zip(expected, found)) and same == stats
    assert same["micro_tokens"] == 9
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "from 18 to 9 tokens" in error and "--micro-tokens 9" in error
    limited(monkeypatch, grpo, 12)
    with pytest.raises(memory.DoesNotFit, match="13 tokens.*--episode-tokens"):
        gradients(policy, episodes, *step)
    monkeypatch.setattr(grpo, "score", lambda *rest: 1 / torch.ones(2).view(3))  # another RuntimeError is not hidden
    with pytest.raises(RuntimeError, match="shape"):
        gradients(policy, episodes, *step)


def test_out_of_memory_in_sft(tokenizer, chat, conversations, monkeypatch):
    batch = [encode(chat, record["messages"]) for record in conversations[:8]]
    longest = max(len(ids) for ids, _ in batch)
    results = []
    for most in (10**9, longest):
        limited(monkeypatch, sft, most)
        policy = build(tokenizer)
        optimizer = Recorder(policy.parameters(), lr=0.0)
        results.append((sft.train_step(policy, [optimizer], batch, 100_000, 0.0), optimizer.seen))
    (whole, expected), (parts, found) = results
    assert whole["micro_tokens"] == 100_000 and parts["micro_tokens"] <= 2 * longest
    assert parts["loss"] == pytest.approx(whole["loss"], abs=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(expected, found))


def test_out_of_memory_in_rollouts_halves_the_slots(taught, box, monkeypatch, capsys):
    import rollout
    policy, tokenizer, chat = taught
    questions = draw(select("count_bits"), "sft", 5, (1,))
    options = {"samples": 2, "temperature": 0.8, "seed": 1}
    engine = Engine(policy, tokenizer, box, Limits(60, 300, 3, 300), chat=chat, slots=64)
    expected = [episode.ids for episode in memory.rollouts(engine, questions, **options)]
    assert engine.slots == 64

    class Small(rollout.SlotCache):
        def decode(self, ids, places):
            if max(places) > 70 and self.slots > most:  # some turns are over by then
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
            return super().decode(ids, places)

    monkeypatch.setattr(rollout, "SlotCache", Small)
    engine.cache = None
    most, restarts = 3, []
    found = memory.rollouts(engine, questions, on_restart=lambda: restarts.append(1), **options)
    assert [episode.ids for episode in found] == expected and engine.slots == 2 and len(restarts) == 2
    error = capsys.readouterr().err
    assert "from 10 to 5 slots" in error and "--slots 2" in error and error.count("\n") == 2
    most = 0
    with pytest.raises(memory.DoesNotFit, match="300 tokens.*--episode-tokens"):
        memory.rollouts(engine, questions, **options)


# ------------------------------------------------------------------------------------------------------ checkpoints
def full_disk(*arguments, **options):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("broken", ["write", "fsync", "rename"])
def test_a_full_disk_costs_no_checkpoint(tmp_path, tokenizer, monkeypatch, capsys, broken):
    policy = build(tokenizer)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    run = Run(tmp_path / "run", {})
    run.checkpoint(trained_parameters(policy), [optimizer], 1)
    first = copy.deepcopy(policy.state_dict())
    with torch.no_grad():
        next(policy.parameters()).add_(1)
    if broken == "write":  # really no space: the kernel says so
        (tmp_path / "run/trainer.pt.new").symlink_to("/dev/full")
    else:
        monkeypatch.setattr(os, {"fsync": "fsync", "rename": "replace"}[broken], full_disk)
    with pytest.raises(SystemExit) as stop:
        run.checkpoint(trained_parameters(policy), [optimizer], 2)
    monkeypatch.undo()
    error = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and "\n" not in error and "No space left" in error and "--resume" in error
    assert Run(tmp_path / "run", {}, resume=True).restore(trained_parameters(policy), [optimizer]) == 1
    assert all(torch.equal(first[name], value) for name, value in policy.state_dict().items())


@pytest.mark.parametrize("broken", ["save_pretrained", "replace 1", "replace 2"])
def test_a_saved_policy_survives_a_failing_save(tmp_path, tokenizer, monkeypatch, broken):
    policy, other = build(tokenizer), build(tokenizer)
    save(policy, tokenizer, tmp_path)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    calls, rename = [], os.replace

    def replace(source, target):
        calls.append(source)
        if len(calls) == int(broken[-1]):
            raise KeyboardInterrupt  # as good as a kill: nothing that follows is run
        rename(source, target)

    if broken == "save_pretrained":
        monkeypatch.setattr(tokenizer, "save_pretrained", full_disk)
    else:
        monkeypatch.setattr(os, "replace", replace)
    with pytest.raises((OSError, KeyboardInterrupt)):
        save(other, tokenizer, tmp_path)
    monkeypatch.undo()
    assert models.exists(tmp_path)
    kept = load("tiny", checkpoint_folder=tmp_path, dtype="float32")[0]
    assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), policy.parameters()))
    save(other, tokenizer, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_the_most_accurate_steps_are_kept(tmp_path, tokenizer):
    run, policies = Run(tmp_path / "run", {}), {}
    for step, accuracies in ((2, (0.1, 0.3)), (4, (0.6, 0.4)), (6, (0.9, 0.0)), (8, (0.5, 0.5))):
        policies[step] = build(tokenizer)
        with torch.no_grad():
            next(policies[step].parameters()).add_(step)
        for i, accuracy in enumerate(accuracies):
            run.log({"step": step - 2 + i, "accuracy": accuracy})
        run.keep_best(policies[step], tokenizer, step)
        run.checkpoint(trained_parameters(policies[step]), [], step)
        if step == 4:
            run = Run(tmp_path / "run", {}, resume=True)
            run.restore(trained_parameters(policies[step]), [])
    kept = load("tiny", checkpoint_folder=tmp_path / "run/best", dtype="float32")[0]
    assert torch.equal(next(kept.parameters()), next(policies[4].parameters()))
    assert json.loads((tmp_path / "run/best/best.json").read_text()) == {"step": 4, "accuracy": 0.5, "steps": 2}


# ----------------------------------------------------------------------------------------------------- quantisation
@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_a_quantised_model_is_trained_on_this_machine(tokenizer, chat, conversations, tmp_path, quantize):
    from bitsandbytes.nn import Linear4bit, Linear8bitLt
    build(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    policy, _ = load(str(tmp_path), dtype="bfloat16", quantize=quantize, lora_rank=8, gradient_checkpointing=True)
    kinds = {"nf4": Linear4bit, "int8": Linear8bitLt}
    frozen = {name: module for name, module in policy.named_modules() if isinstance(module, kinds[quantize])}
    assert len(frozen) == 14  # seven matrices in each of the two layers; never the LM head
    before = {name: module.weight.clone() for name, module in frozen.items()}
    batch = [encode(chat, record["messages"]) for record in conversations[:4]]
    optimizers = sft.make_optimizers(policy.train(), "adamw", 1e-2)
    losses = [sft.train_step(policy, optimizers, batch, 600, 1e-2)["loss"] for _ in range(8)]
    assert losses[-1] < losses[0] - 0.2
    assert all(torch.equal(before[name], module.weight) for name, module in frozen.items())
    trained = [name for name, parameter in policy.named_parameters() if parameter.requires_grad]
    assert len(trained) == 28 and all("lora" in name for name in trained)
    episodes = episodes_for(policy.eval(), [1, 0, 1, 0])
    stats = grpo.train_on(policy, None, optimizers, episodes, torch.tensor([1.0, -1.0, 1.0, -1.0]), Namespace(**SETTINGS))
    assert stats["grad_norm"] > 0
