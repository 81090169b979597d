"""The plan against real models built here: the exact terms to the byte, activations within a few percent."""
import pytest
import torch
from test_memory import peak_bytes

import models
from tools import plan
import r1ci
import sft
from tools.plan import GIB, Setup, Shape, choose, largest, memory, peak
from rollout import SlotCache

SHAPE = (2, 256, 4, 2, 1024, 512, False)


def setup(quantize="nf4", rank=16, checkpointing=True, **changes):
    return Setup(**{"dtype": "bfloat16", "quantize": quantize, "lora_rank": rank, "slots": 3, "episode_tokens": 512,
                    "gradient_checkpointing": checkpointing, "micro_tokens": 512, **changes})


def build(monkeypatch, quantize, rank, checkpointing=True):
    monkeypatch.setitem(models.SHAPES, "small", SHAPE)
    monkeypatch.setitem(models.PRESETS, "small", models.PRESETS["3b"])
    return models.load("small", random_weights=True, dtype="bfloat16", quantize=quantize, lora_rank=rank,
                       gradient_checkpointing=checkpointing)[0]


def size(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("quantize, rank", [("nf4", 16), ("none", 16), ("none", 0)])
def test_weights_adapter_optimizer_and_cache_are_exact(monkeypatch, quantize, rank):
    policy = build(monkeypatch, quantize, rank)
    parts = memory(plan.shape_of("small"), setup(quantize, rank))
    always = parts["always"]
    adapter = [p for name, p in policy.named_parameters() if "lora_" in name]
    assert always["adapter"] == size(adapter)
    assert always["weights"] == size(p for name, p in policy.named_parameters() if "lora_" not in name)
    states = [p.quant_state for p in policy.parameters() if hasattr(p, "quant_state")]
    constants = size(t for s in states for t in (s.absmax, s.code, s.offset, s.state2.absmax, s.state2.code))
    assert always["quantisation constants"] == constants and (constants > 0) == (quantize == "nf4")
    optimizer, = sft.make_optimizers(policy, "adamw", 1e-3)
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moments = [t for state in optimizer.state.values() for t in state.values() if t.numel() > 1]
    assert always["optimizer"] == size(moments)
    assert parts["training"]["gradients"] == size(p.grad for p in policy.parameters() if p.grad is not None)
    assert parts["rollout"]["cache"] == size(t for layer in SlotCache(policy, 3, 512).layers
                                             for t in (layer.keys, layer.values))


@pytest.mark.parametrize("quantize, rank, checkpointing", [
    ("nf4", 16, True), ("nf4", 16, False), ("none", 16, True), ("none", 0, True), ("none", 0, False)])
def test_activations_of_training(monkeypatch, quantize, rank, checkpointing):
    policy = build(monkeypatch, quantize, rank, checkpointing).train()
    ids = torch.randint(512, (1, 512))

    def work():
        models.score(policy, ids, torch.ones_like(ids))[0].sum().backward()

    work()  # gradients exist from now on
    parts = memory(plan.shape_of("small"), setup(quantize, rank, checkpointing))["training"]
    logits = 512 * 512 * (4 * 4 + 2)  # only 512 of the positions that a chunk has room for
    expected = sum(parts.values()) - parts["gradients"] - parts["logits chunk"] + (0 if checkpointing else logits)
    assert peak_bytes(work) == pytest.approx(expected, rel=0.15)


def test_the_published_sizes():
    for model, parameters in (("0.5b", 0.494e9), ("1.5b", 1.54e9), ("3b", 3.09e9), ("7b", 7.62e9), ("14b", 14.77e9)):
        always = memory(plan.shape_of(model), setup("none", 8))["always"]
        assert always["weights"] == pytest.approx(2 * parameters, rel=0.01)


def test_what_fits_is_the_most_that_fits():
    shape, wanted = plan.shape_of("7b"), setup(episode_tokens=4096)
    found = largest(shape, wanted, 24)
    budget = 24 * GIB * (1 - plan.HEADROOM)
    for name, changes in (("slots", {"micro_tokens": 1}), ("micro_tokens", {"slots": 1})):
        exact, more = (peak(memory(shape, Setup(**{**vars(wanted), **changes, name: found[name] + extra})))
                       for extra in (0, 1))
        assert exact <= budget < more
    assert found["episode_tokens"] > 4096 and largest(shape, wanted, 3)["slots"] == 0
    chosen = choose(shape, wanted, 24, 5)
    assert chosen.slots == 5 and chosen.micro_tokens <= found["micro_tokens"] and choose(shape, wanted, 3, 5) is None


def test_plan_command(capsys, monkeypatch):
    r1ci.main(["plan", "--model", "7b", "--gpu-memory", "24"])
    out = capsys.readouterr().out
    assert all(word in out for word in ("weights", "cache", "logits chunk", "peak", "--slots", "never checked on a GPU"))
    r1ci.main(["plan", "--table"])
    assert capsys.readouterr().out.count("\n") == 7
    with pytest.raises(SystemExit) as stop:
        r1ci.main(["plan", "--model", "14b", "--quantize", "none", "--gpu-memory", "16"])
    assert stop.value.code == 1 and "does not fit into 16 GiB" in capsys.readouterr().err
    monkeypatch.setitem(models.SHAPES, "0.5b", (3, 64, 2, 1, 128, 512, True))
    r1ci.main(["plan", "--model", "0.5b", "--probe", "--device", "cpu", "--episode-tokens", "64", "--slots", "2"])
    assert "tokens/s decoding" in capsys.readouterr().out


def test_shapes_of_other_configurations(tmp_path, tokenizer):
    from conftest import build as policy_of
    policy_of(tokenizer, "llama").save_pretrained(tmp_path)
    assert plan.shape_of(str(tmp_path)) == Shape(2, 64, 64, 64, 128, len(tokenizer), False, False)
