"""The plan against real models built here: the exact terms to the byte, activations within a few percent."""
import dataclasses

import pytest
import torch
from conftest import build as small_policy
from test_memory import peak_bytes

import models
import r1ci
import runs
from batches import make_optimizers, trained_parameters
from kvcache import SlotCache
from runs import UserError
from tools import plan

SHAPE = (2, 256, 4, 2, 1024, 512, False)


def setup(quantize="nf4", rank=16, checkpointing=True, **changes):
    return plan.Setup(**{"dtype": "bfloat16", "quantize": quantize, "lora_rank": rank, "slots": 3,
                         "gradient_checkpointing": checkpointing, "episode_tokens": 256, "micro_tokens": 256,
                         **changes})


@pytest.fixture(autouse=True)
def no_new_tokenizer(tokenizer, monkeypatch):
    """Random weights come with the tiny tokenizer, which need not be made every time."""
    monkeypatch.setattr(models, "tiny_tokenizer", lambda: tokenizer)


def build(monkeypatch, quantize, rank, checkpointing=True, dtype="bfloat16", shape=SHAPE):
    monkeypatch.setitem(models.SHAPES, "small", shape)
    monkeypatch.setitem(runs.PRESETS, "small", runs.PRESETS["3b"])
    return models.load("small", random_weights=True, dtype=dtype, quantize=quantize, lora_rank=rank,
                       gradient_checkpointing=checkpointing)[0]


def size(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("quantize, rank", [("nf4", 16), ("none", 16), ("none", 0)])
def test_weights_adapter_optimizer_and_cache_are_exact(monkeypatch, quantize, rank):
    policy = build(monkeypatch, quantize, rank)
    parts = plan.memory(plan.shape_of("small"), setup(quantize, rank))
    always = parts["always"]
    adapter = [p for name, p in policy.named_parameters() if "lora_" in name]
    assert always["adapter"] == size(adapter)
    assert always["weights"] == size(p for name, p in policy.named_parameters() if "lora_" not in name)
    states = [p.quant_state for p in policy.parameters() if hasattr(p, "quant_state")]
    constants = size(t for s in states for t in (s.absmax, s.code, s.offset, s.state2.absmax, s.state2.code))
    assert always["quantisation constants"] == constants and (constants > 0) == (quantize == "nf4")
    optimizer, = make_optimizers(trained_parameters(policy), "adamw", 1e-3)
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moments = [t for state in optimizer.state.values() for t in state.values() if t.numel() > 1]
    assert always["optimizer"] == size(moments)
    assert parts["training"]["gradients"] == size(p.grad for p in policy.parameters() if p.grad is not None)
    assert parts["rollout"]["cache"] == size(t for layer in SlotCache(policy, 3, 256).layers
                                             for t in (layer.keys, layer.values))


@pytest.mark.parametrize("tied", [True, False])
def test_the_copy_in_eight_bits(monkeypatch, tied):
    policy = build(monkeypatch, "none", 16, dtype="float32", shape=(*SHAPE[:-1], tied))
    merged = models.Merged(policy, torch.float32, int8=True)
    merged.refresh(policy)
    copied = merged.policy
    packed = [module.packed for module in copied.modules() if isinstance(module, models.Int8Linear)]
    real = size(torch.ops.quantized.linear_unpack(weight)[0] for weight in packed) + size(copied.parameters())
    planned = plan.memory(plan.shape_of("small"), setup("none", dtype="float32", copy="int8"))["always"]
    assert len(packed) == 15 and planned["copy to sample from"] == real


def planned_and_real(policy, wanted):
    """Bytes of a forward and backward pass over one sequence, without the gradients that stay."""
    ids = torch.randint(512, (1, wanted.micro_tokens))

    def work():
        models.score(policy.train(), ids, torch.ones_like(ids))[0].sum().backward()

    work()  # gradients exist from now on
    parts = plan.memory(plan.shape_of("small"), wanted)["training"]
    return sum(parts.values()) - parts["gradients"], peak_bytes(work)


@pytest.mark.parametrize("quantize, rank, checkpointing, dtype", [
    ("nf4", 16, True, "bfloat16"), ("nf4", 16, False, "bfloat16"), ("none", 16, True, "bfloat16"),
    ("none", 16, False, "bfloat16"), ("none", 16, True, "float32"), ("none", 16, False, "float32"),
    ("int8", 16, True, "bfloat16"), ("int8", 16, False, "bfloat16"),
    ("none", 0, True, "bfloat16"), ("none", 0, False, "bfloat16"), ("none", 0, True, "float32"),
    ("none", 0, False, "float32")])
def test_activations_of_training(monkeypatch, quantize, rank, checkpointing, dtype):
    policy = build(monkeypatch, quantize, rank, checkpointing, dtype, (2, 192, 4, 2, 768, 512, False))
    planned, real = planned_and_real(policy, setup(quantize, rank, checkpointing, dtype=dtype))
    assert real == pytest.approx(planned, rel=0.15)


@pytest.mark.parametrize("chunk", [16, 64])
@pytest.mark.parametrize("rank, dtype", [(16, "bfloat16"), (0, "bfloat16"), (0, "float32")])
def test_the_head_of_a_large_vocabulary(monkeypatch, rank, dtype, chunk):
    """Chunk by chunk; where it is trained, the sums of its gradients can be more than the logits."""
    monkeypatch.setattr(models, "logits_chunk", lambda vocabulary: chunk)
    policy = build(monkeypatch, "none", rank, dtype=dtype, shape=(1, 128, 4, 2, 128, 20_000, True))
    planned, real = planned_and_real(policy, setup("none", rank, dtype=dtype, episode_tokens=128,
                                                   micro_tokens=128))
    assert real == pytest.approx(planned, rel=0.15)


def test_the_published_sizes():
    for model, parameters in (("0.5b", 0.494e9), ("1.5b", 1.54e9), ("3b", 3.09e9), ("7b", 7.62e9),
                              ("14b", 14.77e9)):
        always = plan.memory(plan.shape_of(model), setup("none", 8))["always"]
        assert always["weights"] == pytest.approx(2 * parameters, rel=0.01)


def test_what_fits_is_the_most_that_fits():
    shape, wanted = plan.shape_of("7b"), setup(episode_tokens=4096)
    found = plan.what_fits(shape, wanted, 24)
    budget = 24 * plan.GIB * (1 - plan.HEADROOM)
    for name, changes in (("slots", {"micro_tokens": 1}), ("micro_tokens", {"slots": 1})):
        exact, more = (plan.peak(plan.memory(shape, dataclasses.replace(wanted, **changes,
                                                                        **{name: found[name] + extra})))
                       for extra in (0, 1))
        assert exact <= budget < more
    assert found["episode_tokens"] > 4096 and plan.what_fits(shape, wanted, 3)["slots"] == 0
    chosen = plan.fitting_setup(shape, wanted, 24, 5)
    assert chosen.slots == 5 and chosen.micro_tokens <= found["micro_tokens"]
    assert plan.fitting_setup(shape, wanted, 3, 5) is None


def test_plan_command(capsys, monkeypatch):
    r1ci.main(["plan", "--model", "7b", "--gpu-memory", "24"])
    out = capsys.readouterr().out
    assert all(word in out for word in ("weights", "cache", "LM head", "peak", "never checked on a GPU"))
    assert "use: --slots 64 --micro-tokens 16384\n" in out and "--no-gradient-checkpointing" not in out
    r1ci.main(["plan", "--model", "3b", "--gpu-memory", "80"])
    assert "--slots 125 --micro-tokens 8192 --no-gradient-checkpointing\n" in capsys.readouterr().out
    r1ci.main(["plan", "--table"])
    assert capsys.readouterr().out.count("\n") == 7
    with pytest.raises(UserError, match="14b .* does not fit into 16 GiB"):
        r1ci.main(["plan", "--model", "14b", "--quantize", "none", "--gpu-memory", "16"])
    with pytest.raises(UserError, match="quantised weights cannot be trained"):
        r1ci.main(["plan", "--model", "7b", "--lora-rank", "0"])
    monkeypatch.setitem(models.SHAPES, "0.5b", (3, 64, 2, 1, 128, 512, True))
    monkeypatch.setattr(plan, "MOST_TOKENS", 256)  # on a GPU so small a model would get a large batch
    r1ci.main(["plan", "--model", "0.5b", "--probe", "--device", "cpu", "--episode-tokens", "64",
               "--dtype", "float32"])
    assert "tokens/s decoding" in capsys.readouterr().out


def test_shapes_of_other_configurations(tmp_path, tokenizer):
    small_policy(tokenizer, "llama").save_pretrained(tmp_path)
    assert plan.shape_of(str(tmp_path)) == plan.Shape(2, 64, 64, 64, 128, len(tokenizer), False, False)


def test_the_memory_of_an_rl_run():
    """What the results page asks, of the settings of a run."""
    import grpo
    parts = plan.memory(plan.shape_of("smollm2"), plan.setup_of(grpo.parse(["--model", "smollm2"])))
    assert parts["always"]["reference"] == 0 < parts["always"]["copy to sample from"]
    assert 2 * plan.GIB < plan.peak(parts) < 8 * plan.GIB
