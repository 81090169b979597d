"""Copies beside the policy that is trained: one to sample from (`Merged`), a frozen one to measure from (`Reference`)."""
import copy
from contextlib import contextmanager
from pathlib import Path

import torch

from models import unwrap


class Merged:
    """A plain copy of the policy to sample from: one dtype, nothing quantised, LoRA merged in.

    An NF4 matrix is unpacked at every use; for a decode step, that is most of the work. The copy costs the memory of
    the whole model in `dtype`, and is the sampled policy only up to rounding: `--importance-cap` corrects for that.
    """

    def __init__(self, policy, dtype: torch.dtype):
        source = unwrap(policy)
        config = copy.deepcopy(source.config)
        config.__dict__.pop("quantization_config", None)
        weight = source.get_input_embeddings().weight
        with torch.device(weight.device):
            self.policy = type(source)._from_config(config, dtype=dtype, attn_implementation="sdpa").eval()
        self.policy.requires_grad_(False)
        self.refresh(policy)

    @torch.no_grad()
    def refresh(self, policy) -> None:
        """Copy the policy's weights as they are now."""
        source = unwrap(policy)
        for name, module in self.policy.named_modules():
            for kind, parameter in module.named_parameters(recurse=False):
                layer = source.get_submodule(name)
                parameter.copy_(plain_weight(layer) if kind == "weight" else getattr(base_layer(layer), kind))


def base_layer(layer):
    """The layer that LoRA was put round, or the layer itself."""
    return getattr(layer, "base_layer", layer)


def plain_weight(layer) -> torch.Tensor:
    """The weight that this layer multiplies with: unpacked if it is quantised, active LoRA adapters added."""
    weight = base_layer(layer).weight
    if hasattr(weight, "quant_state"):
        from bitsandbytes.functional import dequantize_4bit
        weight = dequantize_4bit(weight.data, weight.quant_state)
    elif hasattr(weight, "SCB"):  # int8: each row has its own scale
        weight = weight.data.float() * weight.SCB[:, None] / 127
    if hasattr(layer, "lora_A"):
        weight = weight.float() + sum(layer.get_delta_weight(name).float() for name in layer.active_adapters)
    return weight


class Reference:
    """The policy that RL started from, frozen: what the KL term measures the distance to.

    With full parameters it is a copy. With LoRA it is a second, frozen copy of the SFT adapter on the same base (the
    adapter switched *off* would be the base model before SFT, and KL would pull back to the cold start); only a cold
    start with LoRA refers to the base itself.
    """

    def __init__(self, policy, adapter: Path | None = None):
        self.policy, self.kind = policy, "copy"
        if hasattr(policy, "peft_config"):
            self.kind = "adapter" if adapter else "base"
            if adapter:
                policy.load_adapter(str(adapter), adapter_name="reference", is_trainable=False)
                policy.set_adapter("default")
        else:
            self.policy = copy.deepcopy(policy).requires_grad_(False)

    @contextmanager
    def active(self):
        """Yields the policy to score with; switches adapters back at the end."""
        if self.kind == "copy":
            yield self.policy
        elif self.kind == "base":
            with self.policy.disable_adapter():
                yield self.policy
        else:
            self.policy.set_adapter("reference")
            try:
                yield self.policy
            finally:
                self.policy.set_adapter("default")
