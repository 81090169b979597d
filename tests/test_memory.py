"""Little memory: scoring without all logits, steps and rollouts that give way, checkpoints on a full disk."""
import copy
import gc
import os

import pytest
import torch
from conftest import build, one_kind
from test_training import Recorder, episodes_for, gradients, trainer_of, update
from torch.profiler import ProfilerActivity, profile
from transformers import Qwen2ForCausalLM

import batches
import grpo
import models
import rollout
import sft
from batches import OutOfMemory, Trainer, trained_parameters
from models import load, save, score, token_logprobs
from rollout import Engine, Limits
from runs import Run, UserError
from tasks import draw, select
from trajectories import encode


def peak_bytes(work):
    """The most memory that tensors had at the same time, temporary ones included: torch's own account."""
    gc.collect()  # nothing older is freed while memory is counted
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    changes = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for change in sorted(changes, key=lambda e: e.start_ns()):
        now += change.nbytes()
        most = max(most, now)
    return most


def test_scoring_takes_an_eighth_of_the_memory_of_all_logits():
    assert peak_bytes(lambda: torch.zeros(250, 1000).exp()) == 2_000_000  # the measure itself
    torch.manual_seed(0)
    # a small vocabulary, in chunks as of a large one
    vocabulary, chunk = 152_064 // 8, models.logits_chunk(152_064)
    policy = Qwen2ForCausalLM(models.shape_config(1, 8, 1, 1, 8, vocabulary, True))
    ids = torch.randint(vocabulary, (8, 512))  # 4,096 tokens; the naive way gets an eighth of them
    mask = torch.zeros_like(ids)
    mask[:2] = 1  # a quarter is trained, as in an episode with prompt and results
    row, kept = ids[:1], []

    def naive():
        logprobs, entropy = token_logprobs(policy(input_ids=row).logits[:, :-1], row[:, 1:])
        logprobs.sum().backward()
        kept.append((logprobs, entropy))

    def ours():
        logprobs, entropy = score(policy, ids, mask, chunk=chunk)
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


# ------------------------------------------------------------------------------------------------ giving way
@pytest.mark.parametrize("error, ran_out", [
    (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"), True),
    (RuntimeError("The size of tensor a (3) must match the size of tensor b (2)"), False),
    (KeyboardInterrupt("out of memory"), False), (None, False)])
def test_what_counts_as_out_of_memory(error, ran_out):
    """Such an error ends the block and is remembered; any other one goes on its way."""
    try:
        with OutOfMemory() as memory:
            if error:
                raise error
        reached = True
    except type(error) as seen:
        reached = seen is not error
    assert memory.ran_out == ran_out and reached == (ran_out or error is None)
    with OutOfMemory() as fresh:
        assert not fresh.ran_out


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
    advantages = [1.0, -1.0, 0.5, -0.5]
    expected, stats = gradients(policy, episodes, advantages, 9)
    limited(monkeypatch, grpo, 16)  # 13 fit; then two of 9 do not, with gradients of the first already there
    found, same = gradients(policy, episodes, advantages, 18)
    assert all(torch.equal(a, b) for a, b in zip(expected, found)) and same == stats
    assert same["micro_tokens"] == 9
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "from 18 to 9 tokens" in error and "--micro-tokens 9" in error
    limited(monkeypatch, grpo, 12)
    with pytest.raises(UserError, match="13 tokens.*--episode-tokens"):
        gradients(policy, episodes, advantages)
    # another RuntimeError is not hidden
    monkeypatch.setattr(grpo, "score", lambda *rest: 1 / torch.ones(2).view(3))
    with pytest.raises(RuntimeError, match="shape"):
        gradients(policy, episodes, advantages)


def test_out_of_memory_while_scoring(tokenizer, monkeypatch, capsys):
    """The pass before the update (--importance-cap) gives way like the update."""
    policy = build(tokenizer)
    episodes, advantages = episodes_for(policy, [1, 0, 1, 0], (7, 3, 3, 2)), [1.0, -1.0, 0.5, -0.5]
    expected, stats = gradients(policy, episodes, advantages, 9, importance_cap=2.0)
    limited(monkeypatch, grpo, 16)
    found, same = gradients(policy, episodes, advantages, 18, importance_cap=2.0)
    assert all(torch.equal(a, b) for a, b in zip(expected, found)) and same == stats
    assert capsys.readouterr().err.count("from 18 to 9 tokens") == 1


def test_out_of_memory_in_sft(tokenizer, chat, conversations, monkeypatch):
    batch = [encode(chat, record["messages"]) for record in conversations[:8]]
    longest = max(len(ids) for ids, _ in batch)
    results = []
    for most in (10**9, longest):
        limited(monkeypatch, sft, most)
        policy = build(tokenizer)
        trainer = trainer_of(policy, Recorder, micro_tokens=100_000)
        results.append((sft.train_step(policy, trainer, batch, 0.0), trainer.optimizers[0].seen))
    (whole, expected), (parts, found) = results
    assert whole["micro_tokens"] == 100_000 and parts["micro_tokens"] <= 2 * longest
    assert parts["loss"] == pytest.approx(whole["loss"], abs=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(expected, found))


@one_kind
def test_out_of_memory_in_rollouts_halves_the_slots(taught, box, monkeypatch, capsys):
    policy, tokenizer, chat = taught
    questions = draw(select("count_bits"), "sft", 4, (1,))
    options = {"samples": 2, "temperature": 0.8, "seed": 1}
    engine = Engine(policy, tokenizer, box, Limits(60, 300, 3, 300), chat=chat, slots=64)
    expected = [episode.ids for episode in engine.run(questions, **options)]
    assert engine.slots == 64

    class Small(rollout.SlotCache):
        def decode(self, ids, places):
            if max(places) > 70 and self.slots > most:  # some turns are over by then
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
            return super().decode(ids, places)

    monkeypatch.setattr(rollout, "SlotCache", Small)
    engine.cache = None
    most, ended = 3, {}
    found = engine.run(questions, on_end=lambda episode: ended.update({episode.number: episode}), **options)
    assert [episode.ids for episode in found] == expected and engine.slots == 2
    # the last call for a number is the one that counts
    assert [ended[number] for number in range(8)] == found
    error = capsys.readouterr().err
    assert "from 8 to 4 slots" in error and "--slots 2" in error and error.count("\n") == 2
    most = 0
    with pytest.raises(UserError, match="300 tokens.*--episode-tokens"):
        engine.run(questions, **options)


# ----------------------------------------------------------------------------------------------- checkpoints
def full_disk(*arguments, **options):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("broken", ["write", "fsync", "rename"])
def test_a_full_disk_costs_no_checkpoint(tmp_path, tokenizer, monkeypatch, broken):
    policy = build(tokenizer)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    run = Run(tmp_path / "run", {})
    run.begin()
    batches.save_checkpoint(run, trained_parameters(policy), [optimizer], 1)
    first = copy.deepcopy(policy.state_dict())
    with torch.no_grad():
        next(policy.parameters()).add_(1)
    if broken == "write":  # really no space: the kernel says so
        (tmp_path / "run/trainer.pt.new").symlink_to("/dev/full")
    else:
        monkeypatch.setattr(os, {"fsync": "fsync", "rename": "replace"}[broken], full_disk)
    with pytest.raises(UserError, match="No space left.*--resume") as failed:
        batches.save_checkpoint(run, trained_parameters(policy), [optimizer], 2)
    monkeypatch.undo()
    assert "\n" not in str(failed.value)
    again = Run(tmp_path / "run", {}, resume=True)
    assert batches.restore(again, trained_parameters(policy), [optimizer]) == 1
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
    with pytest.raises((UserError, KeyboardInterrupt)):
        save(other, tokenizer, tmp_path)
    monkeypatch.undo()
    assert models.exists(tmp_path)
    kept = load("tiny", checkpoint_folder=tmp_path, dtype="float32")[0]
    assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), policy.parameters()))
    save(other, tokenizer, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


# ---------------------------------------------------------------------------------------------- quantisation
@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_a_quantised_model_is_trained_on_this_machine(tokenizer, chat, conversations, tmp_path, quantize):
    from bitsandbytes.nn import Linear4bit, Linear8bitLt
    build(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    policy, _ = load(str(tmp_path), dtype="bfloat16", quantize=quantize, lora_rank=8,
                     gradient_checkpointing=True)
    kinds = {"nf4": Linear4bit, "int8": Linear8bitLt}
    frozen = {name: module for name, module in policy.named_modules()
              if isinstance(module, kinds[quantize])}
    assert len(frozen) == 14  # seven matrices in each of the two layers; never the LM head
    before = {name: module.weight.clone() for name, module in frozen.items()}
    batch = [encode(chat, record["messages"]) for record in conversations[:4]]
    trainer = Trainer(trained_parameters(policy.train()), 1e-2, 600)
    losses = [sft.train_step(policy, trainer, batch, 1e-2)["loss"] for _ in range(8)]
    assert losses[-1] < losses[0] - 0.2
    assert all(torch.equal(before[name], module.weight) for name, module in frozen.items())
    trained = [name for name, parameter in policy.named_parameters() if parameter.requires_grad]
    assert len(trained) == 28 and all("lora" in name for name in trained)
    episodes = episodes_for(policy.eval(), [1, 0, 1, 0])
    stats = update(policy, trainer, episodes, [1.0, -1.0, 1.0, -1.0])
    assert stats["grad_norm"] > 0
