"""Policies: the tiny model, loading (NF4, bf16, LoRA), saving, scoring, and a merged copy to sample from.

A policy is an ordinary transformers model (or a PEFT model round one). Two places run it: the rollout
engine runs its backbone on a cache, and `score` computes log-probabilities of given tokens:

    ids (B, T) -> backbone, the prompt that all rows share only once -> positions that predict a trained token
        -> (N, H) -> in chunks, recomputed in backward: LM head, log-softmax -> logprobs (B, T)

The full logits (B, T, V) would be the largest tensor of all by far; they never exist."""
import argparse
import copy
import functools
import logging
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import logging as quiet

from runs import PRESETS, UserError, preset, rank, read_json, writing
from task_families.tiny_tokenizer import tiny_tokenizer

# Nobody needs to know: a package for a faster CPU is missing; PEFT and Int8Linear use what will go one day.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", ".*gradient_checkpointing.* is deprecated|.*quantized tensor creation")

SHAPES = {name: values["shape"] for name, values in PRESETS.items() if values["shape"]}


def shape_config(layers, hidden, heads, kv_heads, mlp, vocabulary, tied, kind="qwen2", **more):
    """A configuration with these sizes, see SHAPES."""
    from transformers import AutoConfig
    return AutoConfig.for_model(kind, num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads,
                                num_key_value_heads=kv_heads, intermediate_size=mlp, vocab_size=vocabulary,
                                tie_word_embeddings=tied, max_position_embeddings=32768, **more)


def device_of(name: str) -> str:
    """The device that --device names, for this process: each of torchrun's processes has a GPU of its own."""
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if name in ("auto", "cuda"):
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if gpus or name == "cuda" else "cpu"
    if name not in ("cpu", *gpus):
        raise UserError(f"--device {name}: torch sees {', '.join(('cpu', *gpus))} here; leave --device out")
    if name != "cpu":
        torch.cuda.set_device(name)
        torch.backends.cuda.enable_cudnn_sdp(False)  # it would plan anew for every shape, and all are new
        torch.set_float32_matmul_precision("high")  # TF32 for adapters, which are float32
    return name


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what cannot work, before anything is made or loaded."""
    if args.quantize != "none" and args.lora_rank == 0:
        raise UserError("quantised weights cannot be trained: use --lora-rank above 0, or --quantize none")
    if device_of(args.device) != "cpu" and args.rollout_weights == "int8":
        raise UserError("--rollout-weights int8 is for a CPU: use merged, or --device cpu")


def load_from_args(args: argparse.Namespace, folder: Path | None = None, trainable: bool = True):
    """(policy, tokenizer) as the flags say; `folder`: the run folder of the policy to start from."""
    return load(args.model, checkpoint_folder=folder, dtype=args.dtype, quantize=args.quantize,
                lora_rank=args.lora_rank, random_weights=args.random_weights, device=device_of(args.device),
                gradient_checkpointing=getattr(args, "gradient_checkpointing", False), seed=args.seed,
                trainable=trainable)


def load(model: str, *, checkpoint_folder: Path | None = None, dtype: str = "bfloat16",
         quantize: str = "none", lora_rank: int = 0, random_weights: bool = False, layers: int | None = None,
         device: str = "cpu", gradient_checkpointing: bool = False, seed: int = 0, trainable: bool = True):
    """(policy, tokenizer). `checkpoint_folder`: a stage's run folder with adapter/ or model/ to start from.
    layers: only so many, with random weights. UserError if there is no such model, or none can be had."""
    quiet.disable_progress_bar()  # its bars for loading and saving would tear ours apart
    torch.manual_seed(seed)
    mixed = trainable and lora_rank == 0 and dtype == "bfloat16"
    if trainable and lora_rank == 0:
        dtype = "float32"  # bfloat16 has 8 bits of precision: an update of a thousandth would be rounded away
    if checkpoint_folder and not exists(checkpoint_folder):
        raise UserError(f"{checkpoint_folder} holds no policy (adapter/ or model/): give a stage's folder")
    full = checkpoint_folder and saved(checkpoint_folder, "model")
    source = str(full) if full and full.is_dir() else preset(model)["hub"]
    if source is None or random_weights:
        policy, tokenizer = _from_nothing(model, layers, dtype, quantize, device)
    else:
        policy, tokenizer = _from_weights(source, dtype, quantize, device)
    if gradient_checkpointing and trainable:
        policy.gradient_checkpointing_enable({"use_reentrant": False})
    adapter = checkpoint_folder and saved(checkpoint_folder, "adapter")
    if trainable and checkpoint_folder and (full if lora_rank else adapter).is_dir():
        what = "all parameters: train on with --lora-rank 0" if lora_rank else (
            "an adapter (LoRA): train on with --lora-rank above 0")
        raise UserError(f"{checkpoint_folder} holds {what}, or begin from an exported model (r1ci.py export)")
    if adapter and adapter.is_dir():
        from peft import PeftModel
        try:
            policy = PeftModel.from_pretrained(policy, str(adapter), is_trainable=trainable)
        except DAMAGED as error:
            raise UserError(f"cannot load {adapter}: {first_line(error)}") from None
    elif lora_rank and trainable:
        from peft import LoraConfig, get_peft_model
        # Dropout 0: in RL the scored policy must be the sampled one.
        policy = get_peft_model(policy, LoraConfig(r=lora_rank, lora_alpha=2 * lora_rank, lora_dropout=0.0,
                                                   target_modules="all-linear", task_type="CAUSAL_LM"))
    if not trainable:
        policy.requires_grad_(False)
    unwrap(policy).mixed_precision = mixed
    return policy.eval(), tokenizer


def _from_nothing(model: str, layers: int | None, dtype: str, quantize: str, device: str):
    from transformers import AutoModelForCausalLM
    if model != "tiny" and model not in SHAPES:
        raise UserError(f"--random-weights knows the shapes of {', '.join(SHAPES)}, not of {model!r}")
    tokenizer = tiny_tokenizer()
    if model == "tiny":
        # Not qwen2: beside one, AutoTokenizer takes every tokenizer for Qwen's own. Fast rotations: texts are
        # short, and copying is learned sooner.
        config = shape_config(layers or 2, 192, 4, 4, 512, len(tokenizer), True, "llama", attention_bias=True,
                              rope_parameters={"rope_type": "default", "rope_theta": 100.0})
    else:
        config = shape_config(layers or SHAPES[model][0], *SHAPES[model][1:])
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    with torch.device("cpu" if quantize != "none" else device):
        policy = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype),
                                                  attn_implementation="sdpa")
    if quantize == "none":
        return policy, tokenizer
    with tempfile.TemporaryDirectory() as folder:  # bitsandbytes quantises while it loads from a file
        policy.save_pretrained(folder)
        del policy
        return _from_weights(folder, dtype, quantize, device, tokenizer)


DAMAGED = (OSError, ValueError, KeyError, RuntimeError, SafetensorError)  # what libraries raise while loading


def first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def from_hub(loader, source: str, **options):
    """loader.from_pretrained of a folder or hub model: what is on this machine first, then the network."""
    for local in (True,) if Path(source).is_dir() else (True, False):
        try:
            loaded = loader.from_pretrained(source, local_files_only=local, **options)
            if not hasattr(loaded, "get_vocab") or len(loaded) > 1:
                return loaded
            reason = "its tokenizer is empty"  # of a hub model of which only config.json is here
        except DAMAGED as error:
            reason = first_line(error)
    raise UserError(f"cannot load {source!r}: {reason} (no network? give --model a local folder, or tiny)")


def _from_weights(source: str, dtype: str, quantize: str, device: str, tokenizer=None):
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    stored = {"nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
                      "bnb_4bit_compute_dtype": getattr(torch, dtype)}, "int8": {"load_in_8bit": True}}
    extra = {"quantization_config": BitsAndBytesConfig(**stored[quantize])} if quantize != "none" else {}
    tokenizer = tokenizer or load_tokenizer(source)
    policy = from_hub(AutoModelForCausalLM, source, dtype=getattr(torch, dtype), device_map={"": device},
                      attn_implementation="sdpa", **extra)
    for module in policy.modules():
        # bitsandbytes repacks 4-bit weights for its AVX-512 kernel at the first forward in eval mode. Packed
        # weights cannot be trained through, and sampler and trainer would compute differently.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return policy, tokenizer


def load_tokenizer(source: str):
    """The tokenizer of a hub model or folder, exactly as saved. AutoTokenizer puts Qwen's own pre-tokenizer
    into *any* tokenizer beside a qwen2 configuration (seen with transformers 5.23). That would spoil ours,
    which says that it is a plain tokenizer.json."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    config = Path(source) / "tokenizer_config.json"
    named = read_json(config, dict).get("tokenizer_class") if config.is_file() else None
    plain = named in ("TokenizersBackend", "PreTrainedTokenizerFast")
    return from_hub(PreTrainedTokenizerFast if plain else AutoTokenizer, source)


def save(policy, tokenizer, folder: Path) -> None:
    """Write adapter/ (PEFT) or model/ under a stage's run folder: to a temporary name first, then renamed."""
    if rank() > 0:
        return
    name = "adapter" if hasattr(policy, "peft_config") else "model"
    fresh, final, old = folder / f"{name}.new", saved(folder, name), folder / f"{name}.old"
    extra = {"selected_adapters": ["default"]} if name == "adapter" else {}
    with writing(folder, SafetensorError):
        shutil.rmtree(fresh, ignore_errors=True)
        policy.save_pretrained(str(fresh), **extra)
        tokenizer.save_pretrained(str(fresh))
        shutil.rmtree(old, ignore_errors=True)
        if final.exists():
            os.replace(final, old)
        os.replace(fresh, final)
        shutil.rmtree(old, ignore_errors=True)


def saved(folder: Path, name: str) -> Path:
    """folder/name as `save` has written it; killed between its two renames, the older one is put back."""
    final, old = folder / name, folder / f"{name}.old"
    if not final.exists() and old.exists():
        os.replace(old, final)
    return final


def exists(folder: Path) -> bool:
    """Is there a saved policy in this run folder?"""
    return (saved(folder, "adapter") / "adapter_config.json").is_file() or (
        saved(folder, "model") / "config.json").is_file()


def unwrap(policy):
    """The transformers model itself: backbone in `.model`, LM head in `.get_output_embeddings()`. LoRA layers
    live inside the modules, so they act also when PEFT's wrapper is left out."""
    return policy.get_base_model() if hasattr(policy, "get_base_model") else policy


def backbone(policy):
    """The model without its LM head: ids -> hidden states."""
    inner = unwrap(policy)
    return getattr(inner, inner.base_model_prefix)


def is_mixed(policy) -> bool:
    """Are float32 weights multiplied in bfloat16 here?"""
    return getattr(unwrap(policy), "mixed_precision", False)


def mixed_precision(policy):
    """For `with`: weights that are trained themselves are kept in float32, so that no update is rounded away,
    but may be multiplied in bfloat16 (`load` decides), which can be two to three times as fast."""
    return torch.autocast(next(policy.parameters()).device.type, torch.bfloat16, enabled=is_mixed(policy))


def token_logprobs(logits: torch.Tensor, ids: torch.Tensor, temperature: float = 1.0,
                   want_entropy: bool = True) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(logprobs, entropy) of shape ids.shape. logits (..., V) at a place predict the id at that place. In
    float32 at least, of the distribution that was sampled: logits / temperature. The entropy is a statistic:
    it carries no gradient, which would cost several more copies of the logits."""
    logits = logits if logits.dtype == torch.float64 else logits.float()  # bfloat16 is too coarse to sum
    logprobs, entropy = F.log_softmax(logits if temperature == 1 else logits / temperature, dim=-1), None
    chosen = logprobs.gather(-1, ids.unsqueeze(-1)).squeeze(-1)  # first: backward recomputes only so far
    if want_entropy:
        with torch.no_grad():  # a logit of -inf counts 0, not NaN
            entropy = -logprobs.exp().mul_(logprobs.clamp_min(-1e4)).sum(-1)
    return chosen, entropy


def logits_chunk(vocabulary: int) -> int:
    """Positions whose logits exist at the same time: at most 128 MiB in float32 (220 of Qwen2.5)."""
    return max(1, min(1024, 2**25 // vocabulary))


def predicting_states(policy, model, ids: torch.Tensor, mask: torch.Tensor
                      ) -> tuple[torch.Tensor, torch.Tensor]:
    """(states (N, H), where (B, T)): hidden states of `model`, a backbone, that predict the trained tokens.
    Only what these see goes through the layers, as one sequence without padding: first what all B rows share,
    S tokens (the episodes of a group start with the same prompt), then the rest of each row, up to R tokens.
    `shared_attention` knows who sees what."""
    where = torch.zeros_like(mask, dtype=torch.bool)
    where[:, 1:] = mask[:, 1:].bool()  # token t is predicted at position t-1; the first token never is
    if not where.any():
        return model(input_ids=ids[:1, :1], use_cache=False)[0][0, :0], where
    shared, places = shared_prefix(ids, where), torch.arange(ids.shape[1], device=ids.device)
    read = where.flip(1).cumsum(1).flip(1)[:, shared + 1:] > 0  # (B, R): something behind it is trained
    rest = places[shared:-1].expand_as(read)
    index = (shared - 1 + read.flatten().cumsum(0)).view_as(read)  # where a token of the rest stands
    groups = model.config.num_attention_heads // model.config.num_key_value_heads
    dtype = torch.bfloat16 if is_mixed(policy) else unwrap(policy).get_input_embeddings().weight.dtype
    later = (places[:-1] > rest[0, :, None]).repeat(groups, 1)[None, None]  # (1, 1, groups * R, S + R)
    unseen = torch.zeros_like(later, dtype=dtype).masked_fill_(later, float("-inf"))  # one for all layers
    model.config._attn_implementation = "shared"  # for good: backward may run the layers again
    with mixed_precision(policy):
        hidden = model(input_ids=torch.cat((ids[0, :shared], ids[:, shared:-1][read]))[None],
                       position_ids=torch.cat((places[:shared], rest[read]))[None], use_cache=False,
                       attention_mask=unseen, shared=shared, index=index, read=read)[0][0]
    return hidden[index[where[:, shared + 1:]]], where


def shared_attention(module, query, key, value, attention_mask, shared=0, index=None, read=None, **options):
    """Attention of one sequence, query (1, heads, L, size), that starts with S `shared` tokens, followed by
    the rest of B rows: token r of row b stands at index[b, r] if read[b, r] (else it is padding). Each row
    sees the shared tokens and its own; attention_mask (1, 1, heads / G * R, S + R) is added. Without an index
    it is transformers' "sdpa"."""
    if index is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    parts = [(x[:, :, :shared], x[0, :, index].transpose(0, 1)) for x in (query, key, value)]
    keys, values = (torch.cat((begun.expand(len(own), -1, -1, -1), own), 2) for begun, own in parts[1:])
    own, groups = parts[0][1], query.shape[1] // key.shape[1]  # (B, heads, R, size)
    # The query heads that share a key stand in one row of queries: keys are not copied for each of them.
    second = F.scaled_dot_product_attention(
        own.reshape(len(own), key.shape[1], groups * own.shape[2], -1), keys, values,
        attn_mask=attention_mask, scale=options.get("scaling"))
    out = second.reshape(own.shape).transpose(1, 2)[read][None]
    if shared:
        first, _ = sdpa_attention_forward(module, *(begun for begun, _ in parts), None, **options)
        out = torch.cat((first, out), 1)
    return out, None


AttentionInterface.register("shared", shared_attention)
AttentionMaskInterface.register("shared", sdpa_mask)


def shared_prefix(ids: torch.Tensor, mask: torch.Tensor) -> int:
    """How many leading tokens all rows of ids (B, T) share, as far as none of them predicts a trained one."""
    same = (ids == ids[:1]).all(0).long().cumprod(0).sum()
    trained = mask.any(0).nonzero()
    return max(0, min(int(same), int(trained[0]) - 1)) if len(trained) else 0


def score(policy, ids: torch.Tensor, mask: torch.Tensor, temperature: float = 1.0, chunk: int | None = None,
          want_entropy: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """(logprobs, entropy), each (B, T): of ids[b, t] given what stands before, where mask[b, t]; 0 elsewhere.
    ids (B, T) are padded on the right with anything: padding is not read, so a pad token that equals
    end-of-turn cannot do harm."""
    states, where = predicting_states(policy, backbone(policy), ids, mask)  # (N, H)
    head = unwrap(policy).get_output_embeddings()
    empty = states.new_zeros(ids.shape, dtype=torch.float32)
    if not len(states):
        return empty + 0 * states.sum(), empty

    def of_chunk(states: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        return token_logprobs(head(states), targets, temperature, want_entropy)

    size = chunk or logits_chunk(len(head.weight))
    with mixed_precision(policy):
        parts = [checkpoint(of_chunk, *part, use_reentrant=False, preserve_rng_state=False)
                 for part in zip(states.split(size), ids[where].split(size))]
    logprobs = torch.cat([part for part, _ in parts]).float()
    entropy = torch.cat([part for _, part in parts]).float() if want_entropy else torch.zeros_like(logprobs)
    return empty.masked_scatter(where, logprobs), empty.masked_scatter(where, entropy)


class Merged:
    """A plain copy of the policy to sample from: one dtype, nothing quantised, LoRA merged in. An NF4 matrix
    is unpacked at every use, which is most of the work of a decode step. The copy costs the memory of the
    whole model, and equals the policy only up to rounding: see `--importance-cap`. int8: with Int8Linear.
    Nothing is in it before `refresh`, which rollouts call first."""

    def __init__(self, policy, dtype: torch.dtype, int8: bool = False):
        source = unwrap(policy)
        config = copy.deepcopy(source.config)
        config.__dict__.pop("quantization_config", None)
        weight = source.get_input_embeddings().weight
        with torch.device(weight.device):
            self.policy = type(source)._from_config(config, dtype=dtype, attn_implementation="sdpa").eval()
        self.policy.requires_grad_(False)
        for name, layer in list(self.policy.named_modules()):
            if int8 and isinstance(layer, torch.nn.Linear) and layer.in_features % 32 == 0:
                self.policy.set_submodule(name, Int8Linear(layer.bias))

    @torch.no_grad()
    def refresh(self, policy) -> None:
        """Copy the policy's weights as they are now."""
        source = unwrap(policy)
        for name, module in self.policy.named_modules():
            if isinstance(module, Int8Linear):
                module.pack(plain_weight(source.get_submodule(name)))
            for kind, parameter in module.named_parameters(recurse=False):
                layer = source.get_submodule(name)
                inner = getattr(layer, "base_layer", layer)  # inside LoRA
                parameter.copy_(plain_weight(layer) if kind == "weight" else getattr(inner, kind))


def plain_weight(layer) -> torch.Tensor:
    """The weight that this layer multiplies with: unpacked if it is quantised, active LoRA adapters added."""
    weight = getattr(layer, "base_layer", layer).weight
    if hasattr(weight, "quant_state"):
        from bitsandbytes.functional import dequantize_4bit
        weight = dequantize_4bit(weight.data, weight.quant_state)
    elif hasattr(weight, "SCB"):  # int8: each row has its own scale
        layer_ = getattr(layer, "base_layer", layer)  # the first forward moves the scales
        weight = weight.data.float() * (layer_.state.SCB if weight.SCB is None else weight.SCB)[:, None] / 127
    if hasattr(layer, "lora_A"):
        weight = weight.float() + sum(layer.get_delta_weight(name).float() for name in layer.active_adapters)
    return weight


class Int8Linear(torch.nn.Module):
    """A linear layer in 8 bits, up to three times as fast on a CPU. A large value would leave the others of
    its row few of the 8 bits. So inputs and weights are both turned by a Hadamard matrix, 32 values at a
    time: the product is the same, and no value stands out (QuaRot, arXiv 2404.00456)."""
    turn = functools.reduce(torch.kron, [torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / 2**0.5] * 5)

    def __init__(self, bias: torch.nn.Parameter | None):
        super().__init__()
        self.bias = bias

    def turned(self, x: torch.Tensor) -> torch.Tensor:
        """x (.., in), each 32 values turned."""
        return (x.unflatten(-1, (-1, 32)) @ self.turn).flatten(-2)

    def pack(self, weight: torch.Tensor) -> None:
        """Multiply by this weight (out, in) from now on; a scale for each output."""
        weight = self.turned(weight.float())
        scales = weight.abs().amax(1).clamp_min(1e-9).double() / 127
        rounded = torch.quantize_per_channel(weight, scales, torch.zeros(len(scales)).long(), 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(rounded, None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.turned(x)
        size = x.abs().amax(-1, keepdim=True).clamp_min(1e-9)  # a scale for each row
        out = torch.ops.quantized.linear_dynamic(x / size, self.packed, True).mul_(size)
        return out if self.bias is None else out.add_(self.bias)
