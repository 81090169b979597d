"""What will be in memory, before anything is loaded: plain arithmetic from the model's shape.

    python r1ci.py plan --model 7b --gpu-memory 24
    python r1ci.py plan --table                      what fits, per size and per GPU (the README's table)

There are two phases, and the larger one is the peak. Weights, adapters and the optimizer's state are there in both.

    rollout     cache: 2 x layers x key/value width for each token of each slot, and what one layer needs on the way
    training    gradients; for each token of a micro-batch one saved hidden state per layer (gradient checkpointing), the
                activations of the one layer that is being recomputed, and the logits of one chunk of positions

Weights, adapters, optimizer and cache are exact (tests compare them with real models, to the byte where that makes
sense). The bytes per token of a layer in training are linear in its widths; the coefficients in ACTIVATIONS are a fit
to torch's own record of allocations on the CPU. CONTEXT and HEADROOM are assumptions. None of it was checked on a GPU.
"""
import argparse
import sys
import time
from dataclasses import dataclass

import torch

import models
from flags import make_parser, positive
from models import PRESETS, SHAPES, ModelError, logits_chunk
from runs import fail

GIB = 2**30
CONTEXT = 0.8 * GIB  # CUDA context, cuBLAS workspaces, compiled kernels: an assumption
HEADROOM = 0.08  # of the memory, left free for fragmentation: an assumption
CHUNK = 1024  # tokens of one prefill: the default of rollout.Engine
MOST_SLOTS, MOST_TOKENS = 256, 32768  # more brings no speed
GPUS = (16, 24, 40, 48, 80, 141)
BYTES = {"bfloat16": 2, "float32": 4}
# Bytes per token of a micro-batch for each unit of (hidden, keys, mlp, LoRA rank): kept in every layer, and needed once.
# By what the base is stored in, and whether gradient checkpointing is on. Fits to measurements on the CPU.
ACTIVATIONS = {
    ("nf4", True): ((2, 0, 0, 0), (47, 4, 14, 24)), ("nf4", False): ((36, 4, 10, 28), (8, 0, 0, 0)),
    ("none", True): ((2, 0, 0, 0), (49, 4, 18, 24)), ("none", False): ((36, 4, 10, 28), (8, 0, 0, 0)),
    ("int8", True): ((8, 0, 2, 0), (49, 4, 14, 24)), ("int8", False): ((40, 4, 12, 28), (8, 0, 0, 0)),
    ("full", True): ((4, 0, 0, 0), (35, 8, 24, 0)), ("full", False): ((32, 8, 16, 0), (16, 0, 0, 0)),
    ("mixed", True): ((4, 0, 0, 0), (31, 2, 12, 0)), ("mixed", False): ((30, 4, 8, 0), (20, 0, 0, 0)),
}


@dataclass(frozen=True)
class Shape:
    """The widths that memory depends on."""
    layers: int
    hidden: int
    heads: int  # width of all query heads together
    keys: int  # width of all key (or value) heads together
    mlp: int
    vocabulary: int
    tied: bool
    bias: bool  # on queries, keys and values

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of the seven matrices of a layer."""
        return [(self.hidden, self.heads), *[(self.hidden, self.keys)] * 2, (self.heads, self.hidden),
                *[(self.hidden, self.mlp)] * 2, (self.mlp, self.hidden)]


def shape_of(model: str, layers: int | None = None) -> Shape:
    """The shape of a preset (no download), a folder or a hub id. Raises ModelError."""
    if model in SHAPES:
        config = models.shape_config(*SHAPES[model])
    elif model == "tiny":
        config = models.load("tiny", trainable=False)[0].config
    else:
        config = models.config_of(models.preset(model)["hub"])
    try:
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return Shape(layers or config.num_hidden_layers, config.hidden_size, config.num_attention_heads * size,
                     config.num_key_value_heads * size, config.intermediate_size, config.vocab_size,
                     config.tie_word_embeddings, getattr(config, "attention_bias", config.model_type == "qwen2"))
    except AttributeError as error:
        raise ModelError(f"cannot plan for {model}: its configuration has another form ({error})") from None


@dataclass(frozen=True)
class Setup:
    """How a model is held and run; the names are those of the flags."""
    dtype: str
    quantize: str
    lora_rank: int
    gradient_checkpointing: bool
    slots: int
    episode_tokens: int
    micro_tokens: int
    reference: bool = True  # a frozen copy of what RL started from
    merged: bool = False  # a plain copy to sample from


def memory(shape: Shape, setup: Setup) -> dict[str, dict[str, float]]:
    """Bytes by what they are for: {"always": {..}, "rollout": {..}, "training": {..}}."""
    full = setup.lora_rank == 0
    wide = 4 if full else BYTES[setup.dtype]  # load() makes weights that are trained themselves float32
    linear = sum(a * b for a, b in shape.matrices) * shape.layers
    small = ((shape.heads + 2 * shape.keys) * shape.bias + 2 * shape.hidden) * shape.layers + shape.hidden
    embeddings = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    constants = 0.0
    if setup.quantize == "nf4":  # a byte per block of 64 weights, a float per 256 of those; two tables and an offset
        constants = linear * (1 / 64 + 4 / 64 / 256) + (256 + 16 + 1) * 4 * 7 * shape.layers
    elif setup.quantize == "int8":
        constants = sum(b for _, b in shape.matrices) * shape.layers * 4
    each = {"nf4": 0.5, "int8": 1.0, "none": wide}[setup.quantize]
    weights = linear * each + (small + embeddings) * wide
    adapter = sum(a + b for a, b in shape.matrices) * shape.layers * setup.lora_rank * 4
    trained = (linear + small + embeddings) * 4 if full else adapter
    always = {"weights": weights, "quantisation constants": constants, "adapter": adapter,
              "reference": (trained if setup.reference else 0), "optimizer": 2 * trained,
              "copy to sample from": (linear + small + embeddings) * BYTES[setup.dtype] if setup.merged else 0,
              "CUDA context": CONTEXT}
    return {"always": always, "rollout": rollout_memory(shape, setup, BYTES[setup.dtype] if setup.merged else wide),
            "training": training_memory(shape, setup, wide) | {"gradients": trained}}


def rollout_memory(shape: Shape, setup: Setup, wide: int) -> dict[str, float]:
    """The cache; and on the way the larger of a chunk of prefill and a late decoding step."""
    groups = shape.heads // shape.keys  # what query heads and key heads are wide
    # A chunk's activations in one layer, its mask, and the keys and values of its rows, gathered a layer at a time.
    prefill = (CHUNK * (3 * shape.mlp + 6 * shape.hidden + groups * setup.episode_tokens) * wide
               + setup.slots * setup.episode_tokens * 2 * shape.keys * wide)
    # Logits, probabilities and their sums for sampling.
    decode = setup.slots * shape.vocabulary * (wide + 3 * 4)
    return {"cache": setup.slots * (setup.episode_tokens + 1) * shape.layers * 2 * shape.keys * wide,
            "one layer, sampling": max(prefill, decode)}


def training_memory(shape: Shape, setup: Setup, wide: int) -> dict[str, float]:
    """Activations of a micro-batch (at least one whole episode), the logits of a chunk, matrices in another form."""
    tokens = max(setup.micro_tokens, setup.episode_tokens)
    mixed = setup.lora_rank == 0 and setup.dtype == "bfloat16"
    kind = ("mixed" if mixed else "full" if setup.lora_rank == 0 else setup.quantize, setup.gradient_checkpointing)
    per_layer, once = ACTIVATIONS[kind]
    scale = 1 if setup.lora_rank == 0 else wide / 2  # the fits of adapters are for bfloat16
    widths = [scale * width for width in (shape.hidden, shape.keys, shape.mlp, setup.lora_rank)]
    unpacked = max(a * b for a, b in shape.matrices) * wide if setup.quantize != "none" else 0
    if mixed:  # copies in bfloat16: kept until backward, with gradient checkpointing those of one layer
        unpacked = 2 * sum(a * b for a, b in shape.matrices) * (1 if setup.gradient_checkpointing else shape.layers)
    if setup.lora_rank == 0:  # the LM head's gradient of one pass, and its copy in bfloat16
        unpacked += (6 if mixed else 4) * shape.vocabulary * shape.hidden
    return {"saved activations": tokens * shape.layers * sum(a * b for a, b in zip(per_layer, widths)),
            "one layer, forward and back": tokens * sum(a * b for a, b in zip(once, widths)) + unpacked,
            "logits chunk": logits_chunk(shape.vocabulary) * shape.vocabulary * (4 * 4 + wide)}


def peak(parts: dict) -> float:
    """Bytes at the worst moment."""
    return sum(parts["always"].values()) + max(sum(parts[phase].values()) for phase in ("rollout", "training"))


def most(fits, limit: int) -> int:
    """The largest number up to `limit` that fits (bisection; 0 if not even 1 does)."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def largest(shape: Shape, setup: Setup, gib: float) -> dict[str, int]:
    """{"slots", "micro_tokens", "episode_tokens"}: the most of each that fits into `gib` GiB; 0 where nothing does.

    Slots and budget are for the setup's episodes. The longest episode is one with a group of 8 in the cache and one
    sequence per forward pass.
    """
    def fits(**changes) -> bool:
        return peak(memory(shape, Setup(**{**vars(setup), **changes}))) <= gib * GIB * (1 - HEADROOM)

    small = {"slots": 1, "micro_tokens": 1}
    return {"slots": most(lambda n: fits(**{**small, "slots": n}), MOST_SLOTS),
            "micro_tokens": most(lambda n: n <= setup.episode_tokens and fits(**small)
                                 or fits(**{**small, "micro_tokens": n}), MOST_TOKENS),
            "episode_tokens": most(lambda n: fits(slots=8, micro_tokens=1, episode_tokens=n), 2**17)}


def choose(shape: Shape, setup: Setup, gib: float, wanted: int) -> Setup | None:
    """The setup with as many slots (up to `wanted`, the episodes of a step) and tokens as fit; None if nothing does."""
    found = largest(shape, setup, gib)
    if not found["slots"] or not found["micro_tokens"]:
        return None
    # Powers of two: a little memory stays free, and two runs on the same GPU choose the same.
    slots, tokens = (1 << (found[name].bit_length() - 1) for name in ("slots", "micro_tokens"))
    return Setup(**{**vars(setup), "slots": min(slots, wanted), "micro_tokens": tokens})


def gpu_dtype(dtype: str) -> str:
    """What "auto" means on a GPU."""
    return "bfloat16" if dtype == "auto" else dtype


def setup_of(args: argparse.Namespace) -> Setup:
    """The setup that the flags of a training script name."""
    return Setup(gpu_dtype(args.dtype), args.quantize, args.lora_rank, args.gradient_checkpointing, args.slots,
                 args.episode_tokens, args.micro_tokens, getattr(args, "kl", 1.0) > 0,
                 args.rollout_weights == "merged" or args.lora_rank == 0 and gpu_dtype(args.dtype) == "bfloat16")


def set_defaults(args: argparse.Namespace, given: list[str], wanted: int) -> None:
    """On a GPU: --slots and --micro-tokens as planned, unless they were given. Raises ModelError if nothing fits."""
    if not str(args.device).startswith("cuda"):
        return
    gib = torch.cuda.get_device_properties(args.device).total_memory / GIB
    chosen = choose(shape_of(args.model, args.layers), setup_of(args), gib, wanted)
    if chosen is None:
        raise ModelError(nothing_fits(args, gib))
    flags = {word.partition("=")[0] for word in given}
    for name in ("slots", "micro_tokens"):
        if "--" + name.replace("_", "-") not in flags:
            setattr(args, name, getattr(chosen, name))


def nothing_fits(args: argparse.Namespace, gib: float) -> str:
    """The line that says so, and what might help."""
    return (f"{args.model} ({args.quantize}, LoRA rank {args.lora_rank}) with episodes of {args.episode_tokens} tokens does "
            f"not fit into {gib:.0f} GiB: try --quantize nf4, a smaller --lora-rank or --episode-tokens, or a smaller model")


# ---------------------------------------------------------------------------------------------------------- the probe
def probe(args: argparse.Namespace, setup: Setup) -> dict[str, float]:
    """Seconds, measured on the device: {"decode": one token for all slots, "training": one micro-batch}.

    With random weights and few layers, carried forward in a straight line to all layers. The cache is half full.
    """
    from kvcache import SlotCache
    full, times = shape_of(args.model, args.layers).layers, {}
    few = (1, 2) if full < 8 else (2, 4)
    for layers in few:
        policy, _ = models.load(args.model, random_weights=True, layers=layers, dtype=gpu_dtype(args.dtype),
                                quantize=args.quantize, lora_rank=args.lora_rank, device=args.device,
                                gradient_checkpointing=args.gradient_checkpointing)
        cache = SlotCache(policy, setup.slots, setup.episode_tokens)
        at = [setup.episode_tokens // 2] * setup.slots
        count = max(1, setup.micro_tokens // setup.episode_tokens)
        ids = torch.ones(count, min(setup.episode_tokens, setup.micro_tokens), dtype=torch.long, device=args.device)

        def decode(cache=cache, at=at):
            cache.decode([1] * setup.slots, at)

        def train(policy=policy, ids=ids):
            with torch.no_grad():
                models.score(policy, ids, torch.ones_like(ids))  # the reference
            models.score(policy.train(), ids, torch.ones_like(ids))[0].sum().backward()
            policy.eval()

        times[layers] = {"decode": seconds(decode, args.device), "training": seconds(train, args.device)}
        del policy, cache
    low, high = few
    return {name: max(times[high][name], times[low][name] + (full - low) * (times[high][name] - times[low][name])
                      / (high - low)) for name in ("decode", "training")}


def seconds(work, device: str) -> float:
    """Of the second call."""
    for _ in range(2):
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
    return time.perf_counter() - began


# -------------------------------------------------------------------------------------------------------- the command
def table(samples: int = 8) -> str:
    """What fits, per size and GPU, in markdown: episodes of 4,096 tokens as the presets train them."""
    rows = ["| model | " + " | ".join(f"{gpu} GB" for gpu in GPUS) + " |", "|---" * (len(GPUS) + 1) + "|"]
    for model in ("0.5b", "1.5b", "3b", "7b", "14b"):
        values = PRESETS[model]
        setup = Setup(gpu_dtype(values["dtype"]), values["quantize"], values["lora_rank"], True, 1, 4096, 4096)
        cells = []
        for gpu in GPUS:
            found = largest(shape_of(model), setup, gpu)
            cells.append("-" if not found["slots"] or not found["micro_tokens"] else
                         f"{found['slots']} / {found['micro_tokens'] // 1024}k / {found['episode_tokens'] // 1024}k")
        rows.append(f"| {model} {values['quantize'].replace('none', 'bf16')} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def show(parts: dict) -> str:
    """The parts of memory as lines."""
    lines = [f"{phase:9} {name:30} {size / GIB:8.2f} GiB" for phase, sizes in parts.items() for name, size in sizes.items()
             if size]
    return "\n".join([*lines, f"{'peak':40} {peak(parts) / GIB:8.2f} GiB"])


def main(argv: list[str] | None = None) -> None:
    """Say what will be in memory and what fits; exit status 1 if nothing does."""
    try:
        parser, values = make_parser(argv, main.__doc__, "r1ci.py plan")
        parser.add_argument("--gpu-memory", type=float, help="GiB of the GPU (default: those of this machine's, else 24)")
        parser.add_argument("--micro-tokens", type=positive, default=values["micro_tokens"])
        parser.add_argument("--no-gradient-checkpointing", dest="gradient_checkpointing", action="store_false",
                            default=values["gradient_checkpointing"])
        parser.add_argument("--probe", action="store_true", help="measure step times on --device (on a GPU always done)")
        parser.add_argument("--table", action="store_true", help="the table of what fits, for all sizes and GPUs")
        args = parser.parse_args(argv)
        if args.table:
            print(table())
            return
        models.check_arguments(args.quantize, args.lora_rank)
        shape, on_gpu = shape_of(args.model, args.layers), args.device.startswith("cuda")
        gib = args.gpu_memory or (torch.cuda.get_device_properties(args.device).total_memory / GIB if on_gpu else 24.0)
        settings = values["rl"]
        args.kl = settings["kl"]
        wanted = settings["questions"] * settings["samples"]
        setup = choose(shape, setup_of(args), gib, wanted)
        if setup is None:
            print(f"error: {nothing_fits(args, gib)}", file=sys.stderr)
            raise SystemExit(1)
        found = largest(shape, setup, gib)
        times = probe(args, setup) if args.probe or on_gpu else {}
    except ModelError as error:
        fail(error)
    print(f"{args.model}: {args.quantize}, {gpu_dtype(args.dtype)}, LoRA rank {args.lora_rank}, episodes of {args.episode_tokens} "
          f"tokens, {gib:.0f} GiB\n\n{show(memory(shape, setup))}\n\n"
          f"most that fits: {found['slots']} slots, {found['micro_tokens']} tokens per forward pass; episodes of up to "
          f"{found['episode_tokens']} tokens (8 slots, one per forward pass)\n"
          f"chosen: --slots {setup.slots} --micro-tokens {setup.micro_tokens}\n"
          "(arithmetic; never checked on a GPU, see plan.py)")
    if times:
        rollout = times["decode"] * args.episode_tokens * -(-wanted // setup.slots)
        training = times["training"] * wanted * args.episode_tokens / setup.micro_tokens
        print(f"measured on {args.device}: {setup.slots / times['decode']:.0f} tokens/s decoding, "
              f"{setup.micro_tokens / times['training']:.0f} tokens/s training; a step of {wanted} episodes, if all are as "
              f"long as they may be, {rollout:.0f} s + {training:.0f} s")
