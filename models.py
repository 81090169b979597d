"""Policies: the presets behind `--model` (their values: presets.py), the tiny model, loading (NF4, bf16, LoRA), and scoring.

One dial. A preset says everything that depends on the size of the model; each value is the default of the flag of the
same name, so `python grpo.py --model 3b --lr 1e-5` changes one thing and `--help` shows the rest.

    tiny            1.2 M parameters, made here and trained from nothing: watches the whole pipeline on a laptop
    smollm2         135 M, the smallest real chat model        0.5b 1.5b 3b 7b 14b   Qwen2.5-Instruct (7b, 14b: -1M)
    r1-distill-7b, r1-distill-14b                              any hub id, any local folder

A policy is an ordinary transformers model (or a PEFT model round one). Two functions read it: the rollout engine runs
its backbone on a cache, and `score` computes log-probabilities of given tokens:

    ids (B, T) -> backbone, the prompt that all rows share only once -> only positions that predict a trained token
        -> (N, H) -> in chunks: LM head, log-softmax, recomputed in backward (HeadLogprobs) -> logprobs (B, T)

The full logits (B, T, V) would be the largest tensor of all by far; they never exist.
"""
import json
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
import torch.nn.functional as F
from huggingface_hub import constants
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.utils import logging as quiet

from chat import MODES, RESULTS, head_prompt
from memory import keep_freed
from presets import PRESETS, SHAPES, ModelError, preset  # noqa: F401  (others take PRESETS from here)
from tasks import select
from task_families.kit import BOYS, GIRLS, WORDS
from trajectories import WORDINGS, block

# On a CPU bitsandbytes says at import that an optional package for faster inference is missing: nobody needs to know.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


# ------------------------------------------------------------------------------------------- names and settings
def run_name(model: str) -> str:
    """The name of a model in run folders: 'tiny', 'Qwen--Qwen2.5-3B', the last part of a local path."""
    path = Path(model).expanduser()
    return path.resolve().name if path.is_dir() else model.replace("/", "--").replace(":", "--")


def faster_dtype(device: str) -> str:
    """"bfloat16" on a GPU, and on a processor that multiplies it faster than float32 (measured here, 50 ms)."""
    if not str(device).startswith("cpu"):
        return "bfloat16"
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(64, 1024, dtype=dtype), torch.ones(1024, 1024, dtype=dtype)
        times = []
        for _ in range(8):
            began = time.perf_counter()
            F.linear(a, b)
            times.append(time.perf_counter() - began)
        seconds[dtype] = min(times)
    return "bfloat16" if seconds[torch.bfloat16] < 0.8 * seconds[torch.float32] else "float32"


def check_arguments(quantize: str, lora_rank: int) -> None:
    """Refuse combinations that cannot work, before anything is made or loaded."""
    if quantize != "none" and lora_rank == 0:
        raise ModelError("quantised weights cannot be trained themselves: use --lora-rank above 0, or --quantize none")


# ------------------------------------------------------------------------------------------------ the tiny model
TEMPLATE = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def tiny_texts() -> Iterable[str]:
    """What the tiny tokenizer learns its merges from: questions, programs and wordings of the tiny tasks."""
    fixed = [head_prompt(mode, "short") for mode in MODES] + [text for texts in WORDINGS.values() for text in texts]
    fixed += ["system\n", "user\n", "assistant\n", RESULTS, "<<<", ">>>", "True", "Traceback (most recent call last):"]
    yield from fixed * 50
    for task in select("tiny"):
        for seed in range(150):
            question = task.question(seed, 1)
            yield from (question.prompt, block(question.data["program"]), question.data["reasoning"] or "",
                        question.data["recheck"] or "")


def tiny_tokenizer():
    """A byte-level BPE tokenizer with ChatML tokens, made from the tasks' own texts (about 1,700 tokens).

    Copying from the question into the program is what so small a model learns last. So what is copied comes in few
    pieces that look the same everywhere: numbers two digits at a time, letters alone, and the words and names that
    questions draw as one token each, with the space before them a token of its own.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    pieces = r"[0-9]{1,2}| ?[A-Za-z]{2,}|[A-Za-z]| ?[^\sA-Za-z0-9]+|\n *| +"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pieces), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    words = [AddedToken(word, single_word=True, normalized=False) for word in (*WORDS, *GIRLS, *BOYS)]
    tokenizer.add_tokens(words)  # before training, so that no merge is spent on them
    tokenizer.train_from_iterator(tiny_texts(), trainers.BpeTrainer(
        vocab_size=1200, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_tokens(words)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>",
                                   additional_special_tokens=["<|im_start|>"], chat_template=TEMPLATE,
                                   clean_up_tokenization_spaces=False)


def shape_config(layers, hidden, heads, kv_heads, mlp, vocabulary, tied):
    """A Qwen2 configuration."""
    from transformers import Qwen2Config
    return Qwen2Config(num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads,
                       num_key_value_heads=kv_heads, intermediate_size=mlp, vocab_size=vocabulary,
                       tie_word_embeddings=tied, max_position_embeddings=32768)


# ------------------------------------------------------------------------------------------------------- loading
def load(model: str, *, checkpoint_folder: Path | None = None, dtype: str = "bfloat16", quantize: str = "none",
         lora_rank: int = 0, random_weights: bool = False, layers: int | None = None, device: str = "cpu",
         gradient_checkpointing: bool = False, seed: int = 0, trainable: bool = True):
    """(policy, tokenizer). `checkpoint_folder`: a stage's run folder with adapter/ or model/ to start from.

    Raises ModelError with one clear line: unknown name, no weights, hub not reachable, wrong combination.
    """
    check_arguments(quantize, lora_rank if trainable else 1)
    keep_freed()
    quiet.disable_progress_bar()  # its bars for loading and saving would tear ours apart
    torch.manual_seed(seed)
    dtype = faster_dtype(device) if dtype == "auto" else dtype
    mixed = trainable and lora_rank == 0 and dtype == "bfloat16"
    if trainable and lora_rank == 0:
        dtype = "float32"  # bfloat16 has 8 bits of precision: an update of a thousandth would be rounded away
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
        raise ModelError(f"{checkpoint_folder} holds " + (
            "all parameters, trained: train on with --lora-rank 0" if lora_rank else
            "an adapter (LoRA): train on with --lora-rank above 0") + ", or begin from an exported model (r1ci.py export)")
    if adapter and adapter.is_dir():
        from peft import PeftModel
        policy = PeftModel.from_pretrained(policy, str(adapter), is_trainable=trainable)
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
        raise ModelError(f"--random-weights knows the shapes of {', '.join(SHAPES)}, not of {model!r}")
    tokenizer = tiny_tokenizer()
    shape = (2, 192, 4, 4, 512, len(tokenizer), True) if model == "tiny" else SHAPES[model]
    config = shape_config(*(layers or shape[0], *shape[1:]))
    if model == "tiny":  # fast rotations: its texts are short, and copying is learned sooner
        config.rope_parameters = {"rope_type": "default", "rope_theta": 100.0}
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    with torch.device("cpu" if quantize != "none" else device):
        policy = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), attn_implementation="sdpa")
    if quantize == "none":
        return policy, tokenizer
    with tempfile.TemporaryDirectory() as folder:  # bitsandbytes quantises while it loads, so there must be a file
        policy.save_pretrained(folder)
        del policy
        policy, _ = _from_weights(folder, dtype, quantize, device, tokenizer)
    return policy, tokenizer


def hub_reachable(seconds: float = 10.0) -> bool:
    """Does the model hub take connections? (The hub's own client tries for most of a minute before it gives up.)"""
    hub = urlsplit(constants.ENDPOINT)
    if getproxies().get(hub.scheme):
        return True  # behind a proxy only a whole request would tell
    try:
        socket.create_connection((hub.hostname, hub.port or (80 if hub.scheme == "http" else 443)), seconds).close()
    except OSError:
        return False
    return True


def config_of(source: str):
    """The configuration of a hub model or folder. Raises ModelError."""
    from transformers import AutoConfig
    try:
        return AutoConfig.from_pretrained(source, local_files_only=_local(source))
    except (OSError, ValueError) as error:
        raise _cannot_load(source, error) from None


def _local(source: str) -> bool:
    """Look on this machine only? Without network a model that was downloaded before loads, any other fails at once."""
    return Path(source).is_dir() or constants.HF_HUB_OFFLINE or not hub_reachable()


def _cannot_load(source: str, error: Exception) -> ModelError:
    first_line = str(error).strip().splitlines()[0]
    return ModelError(f"cannot load {source!r}: {first_line} (no network? give --model a local folder, or tiny)")


def _from_weights(source: str, dtype: str, quantize: str, device: str, tokenizer=None):
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    stored = {"nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
                      "bnb_4bit_compute_dtype": getattr(torch, dtype)}, "int8": {"load_in_8bit": True}}
    extra = {"quantization_config": BitsAndBytesConfig(**stored[quantize])} if quantize != "none" else {}
    extra["local_files_only"] = local = _local(source)
    try:
        tokenizer = tokenizer or _tokenizer(source, local)
        policy = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, dtype), device_map={"": device},
                                                      attn_implementation="sdpa", **extra)
    except (OSError, ValueError) as error:
        raise _cannot_load(source, error) from None
    for module in policy.modules():
        # bitsandbytes repacks 4-bit weights for its AVX-512 kernel at the first forward in eval mode. Packed weights
        # cannot be trained through, and sampler and trainer would compute differently.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return policy, tokenizer


def _tokenizer(source: str, local: bool = True):
    """The tokenizer of a hub model or folder, exactly as saved.

    AutoTokenizer replaces the pre-tokenizer of *any* tokenizer beside a qwen2 configuration by Qwen's own (seen with
    transformers 5.23). For ours, which says that it is a plain tokenizer.json, that would be another tokenizer.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    config = Path(source) / "tokenizer_config.json"
    if config.is_file() and json.loads(config.read_text()).get("tokenizer_class") in ("TokenizersBackend",
                                                                                      "PreTrainedTokenizerFast"):
        return PreTrainedTokenizerFast.from_pretrained(source)
    return AutoTokenizer.from_pretrained(source, local_files_only=local)


def save(policy, tokenizer, folder: Path) -> None:
    """Write adapter/ (PEFT) or model/ under a stage's run folder: to a temporary name first, then renamed."""
    name = "adapter" if hasattr(policy, "peft_config") else "model"
    fresh, final, old = folder / f"{name}.new", saved(folder, name), folder / f"{name}.old"
    shutil.rmtree(fresh, ignore_errors=True)
    extra = {"selected_adapters": ["default"]} if name == "adapter" else {}
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


# ------------------------------------------------------------------------------------------------------- scoring
def unwrap(policy):
    """The transformers model itself: backbone in `.model`, LM head in `.get_output_embeddings()`.

    LoRA layers live inside the modules, so they act also when PEFT's wrapper is left out.
    """
    return policy.get_base_model() if hasattr(policy, "get_base_model") else policy


def is_mixed(policy) -> bool:
    """Are float32 weights multiplied in bfloat16 here?"""
    return getattr(unwrap(policy), "mixed_precision", False)


def mixed_precision(policy):
    """Where weights are kept in float32 because they are trained themselves, matrices may still be multiplied in
    bfloat16 (`load` decides): two to three times as fast, and an update is never rounded away. For `with`."""
    return torch.autocast(next(policy.parameters()).device.type, torch.bfloat16, enabled=is_mixed(policy))


def backbone(policy):
    """The model without its LM head: ids -> hidden states."""
    inner = unwrap(policy)
    return getattr(inner, inner.base_model_prefix)


def wide(logits: torch.Tensor) -> torch.Tensor:
    """In float32 at least: bfloat16 is too coarse for a sum over the vocabulary."""
    return logits if logits.dtype == torch.float64 else logits.float()


def token_logprobs(logits: torch.Tensor, ids: torch.Tensor, temperature: float = 1.0, want_entropy: bool = True
                   ) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(logprobs, entropy) of shape ids.shape. logits (..., V) at a place already predict the id at that place.

    Computed in float32 (float64 for float64 logits), of the distribution that was sampled: logits / temperature.
    The entropy is a statistic: it carries no gradient, which would cost several more copies of the logits.
    """
    logits = wide(logits)
    logprobs, entropy = F.log_softmax(logits if temperature == 1 else logits / temperature, dim=-1), None
    if want_entropy:
        with torch.no_grad():
            entropy = -logprobs.exp().mul_(logprobs.clamp_min(-1e4)).sum(-1)  # a logit of -inf counts 0, not NaN
    return logprobs.gather(-1, ids.unsqueeze(-1)).squeeze(-1), entropy


def logits_chunk(vocabulary: int) -> int:
    """Positions whose logits exist at the same time: 128 MiB in float32 at most (220 positions of Qwen2.5)."""
    return max(1, min(1024, 2**25 // vocabulary))


class HeadLogprobs(torch.autograd.Function):
    """LM head and log-probability in one, so that the logits (N, V) exist a chunk of positions at a time only.

    z = W h / temperature        log p(id) = z[id] - logsumexp(z)        d log p(id) / d z = onehot(id) - softmax(z)

    Backward computes the logits of a chunk again. Left to autograd, the same formula takes five passes over them more.
    """

    @staticmethod
    def forward(ctx, states, weight, bias, ids, temperature, dtype, chunk, want_entropy):
        """states (N, H), weight (V, H), bias (V,) or None, ids (N,) -> logprobs (N,), entropy (N,).

        dtype: what to multiply in. The entropy is a statistic without gradient: 0 if it is not wanted.
        """
        ctx.save_for_backward(states, weight, bias, ids)
        ctx.temperature, ctx.dtype, ctx.chunk = temperature, dtype, chunk
        plain, logprobs, entropy = weight.to(dtype), [], []
        bias = None if bias is None else bias.to(dtype)
        for part, some in zip(states.to(dtype).split(chunk), ids.split(chunk)):
            one = token_logprobs(F.linear(part, plain, bias), some, temperature, want_entropy)
            logprobs.append(one[0])
            entropy.append(torch.zeros_like(one[0]) if one[1] is None else one[1])
        logprobs, entropy = torch.cat(logprobs), torch.cat(entropy)
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope, _):
        """slope (N,): how the loss changes with each log-probability."""
        states, weight, bias, ids = ctx.saved_tensors
        plain = weight.to(ctx.dtype)
        to_states = torch.empty_like(states)
        to_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        to_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        for start in range(0, len(ids), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            logits = F.linear(states[part].to(ctx.dtype), plain, None if bias is None else bias.to(ctx.dtype))
            down = -slope[part, None] / ctx.temperature
            gradient = torch.softmax(wide(logits) / ctx.temperature, -1).mul_(down)
            gradient.scatter_add_(1, ids[part, None], -down)
            gradient = gradient.to(ctx.dtype)
            to_states[part] = gradient @ plain
            if to_weight is not None:
                to_weight += gradient.T @ states[part].to(ctx.dtype)
            if to_bias is not None:
                to_bias += gradient.sum(0)
        return to_states, to_weight, to_bias, None, None, None, None, None


# A common prefix that is shorter, or less than a quarter of the rows, is not worth a pass of its own (on a CPU).
SHORTEST_SHARED = 96


def shared_prefix(ids: torch.Tensor, mask: torch.Tensor) -> int:
    """How many leading tokens of ids (B, T) all rows have in common; at most as many as stand before the first place
    that predicts a trained token."""
    same = (ids == ids[:1]).all(0).long().cumprod(0).sum()
    trained = mask.any(0).nonzero()
    return max(0, min(int(same), int(trained[0]) - 1)) if len(trained) else 0


def predicting_states(policy, model, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(states (N, H), where (B, T)): the hidden states of `model`, a backbone, that predict the trained tokens in order.

    The episodes of a group start with the same prompt, all conversations with the same system message. What the rows
    share is read once, with its keys and values kept for all rows; gradients flow back through them. That is most of
    a short episode. Not with gradient checkpointing, which runs layers again without a cache, and not with models
    that remember in another way than by keys and values.
    """
    where = torch.zeros_like(mask, dtype=torch.bool)
    where[:, 1:] = mask[:, 1:].bool()  # token t is predicted at position t-1; the first token never is
    shared = shared_prefix(ids, where) if len(ids) > 1 and can_share(model) else 0
    with mixed_precision(policy):
        if shared < max(SHORTEST_SHARED, ids.shape[1] // 4):
            shared, hidden = 0, model(input_ids=ids, use_cache=False).last_hidden_state
        else:
            cache = DynamicCache(config=model.config)
            model(input_ids=ids[:1, :shared], past_key_values=cache, use_cache=True)
            cache.batch_repeat_interleave(len(ids))
            hidden = model(input_ids=ids[:, shared:], past_key_values=cache, use_cache=True).last_hidden_state
    return hidden[:, :-1][where[:, shared + 1:]], where  # hidden (B, T - shared, H)


def can_share(model) -> bool:
    """Can this backbone read a common prefix once for all rows?"""
    return (all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer)
                for layer in DynamicCache(config=model.config).layers)
            and not any(layer.training and getattr(layer, "gradient_checkpointing", False) for layer in model.modules()))


def score(policy, ids: torch.Tensor, mask: torch.Tensor, temperature: float = 1.0, chunk: int | None = None,
          want_entropy: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """(logprobs, entropy), each (B, T): of token ids[b, t] given what stands before it, where mask[b, t]; 0 elsewhere.

    ids (B, T) are padded on the right with anything. No attention mask is needed: attention is causal, so padding
    behind a token cannot reach it, and a pad token that equals end-of-turn cannot do harm.
    """
    states, where = predicting_states(policy, backbone(policy), ids, mask)  # (N, H)
    targets = ids[where]  # (N,)
    head = unwrap(policy).get_output_embeddings()
    empty = states.new_zeros(ids.shape, dtype=torch.float32)
    if not len(targets):
        return empty + 0 * states.sum(), empty
    dtype = torch.bfloat16 if is_mixed(policy) else head.weight.dtype
    values = HeadLogprobs.apply(states, head.weight, head.bias, targets, temperature, dtype,
                                chunk or logits_chunk(len(head.weight)), want_entropy)
    logprobs, entropy = (empty.masked_scatter(where, value.float()) for value in values)
    return logprobs, entropy


def write_json(path: Path, value) -> None:
    """Write JSON so that a reader never sees half a file."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(value, indent=1, default=str) + "\n")
    os.replace(fresh, path)
