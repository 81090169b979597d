"""What will be in memory, before anything is loaded: plain arithmetic from the model's shape.

    python r1ci.py plan --model 7b --gpu-memory 24
    python r1ci.py plan --table                      what fits, per size and per GPU (the README's table)

There are two phases, and the larger one is the peak. Weights, adapters and the optimizer's state are there in
both.

    rollout     cache: 2 x layers x key/value width for each token of each slot, and what one layer needs on
                the way
    training    gradients; for each token of a micro-batch one saved hidden state per layer (gradient
                checkpointing); and the larger of two: the activations of the one layer that is being
                recomputed, or the LM head with the logits of one chunk of positions

Weights, adapters, optimizer and cache are exact (tests compare them with real models, to the byte where that
makes sense). The bytes per token of a layer in training are linear in its widths; the coefficients in
ACTIVATIONS are a fit to torch's own record of allocations on the CPU. CONTEXT and HEADROOM are assumptions.
None of it was checked on a GPU. So nothing is chosen by itself: the command prints the flags to use, and a
run that does not fit all the same gives way (batches.py, rollout.py).
"""
import argparse
import dataclasses
import time
from dataclasses import dataclass

from runs import PRESETS, UserError, make_parser, preset, real, whole

GIB = 2**30
CONTEXT = 0.8 * GIB  # CUDA context, cuBLAS workspaces, compiled kernels: an assumption
HEADROOM = 0.08  # of the memory, left free for fragmentation: an assumption
CHUNK = 1024  # tokens of one prefill: the default of rollout.Engine
MOST_SLOTS = 256  # more brings no speed
MOST_TOKENS = 32768  # likewise
LONGEST = 2**17  # tokens of an episode
GPUS = (16, 24, 40, 48, 80, 141)
BYTES = {"bfloat16": 2, "float32": 4}
# Bytes per token of a micro-batch for each unit of (hidden, keys, mlp, LoRA rank): kept in every layer, and
# needed once. By what the base is stored in (float32: not quantised, under an adapter), and whether
# gradient checkpointing is on. Fits to measurements on the CPU.
ACTIVATIONS = {
    ("nf4", True): ((2, 0, 0, 0), (47, 4, 14, 24)), ("nf4", False): ((36, 4, 10, 28), (8, 0, 0, 0)),
    ("none", True): ((2, 0, 0, 0), (49, 4, 18, 24)), ("none", False): ((36, 4, 10, 28), (8, 0, 0, 0)),
    ("int8", True): ((8, 0, 2, 0), (49, 4, 14, 24)), ("int8", False): ((40, 4, 12, 28), (8, 0, 0, 0)),
    ("float32", True): ((4, 0, 0, 0), (35, 8, 24, 28)), ("float32", False): ((28, 8, 16, 28), (16, 0, 0, 0)),
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


def shape_of(model: str) -> Shape:
    """The shape of a preset (no download), a folder or a hub id. UserError if there is none."""
    from transformers import AutoConfig

    import models
    if model in models.SHAPES:
        config = models.shape_config(*models.SHAPES[model])
    elif model == "tiny":
        config = models.load("tiny", trainable=False)[0].config
    else:
        config = models.from_hub(AutoConfig, preset(model)["hub"])
    try:
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return Shape(config.num_hidden_layers, config.hidden_size, config.num_attention_heads * size,
                     config.num_key_value_heads * size, config.intermediate_size, config.vocab_size,
                     config.tie_word_embeddings,
                     bias=getattr(config, "attention_bias", config.model_type == "qwen2"))
    except AttributeError as error:
        raise UserError(f"cannot plan for {model}: its configuration has another form ({error})") from None


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
    copy: str = ""  # what a copy to sample from is made of: a dtype, or int8 (embeddings in float32)


def memory(shape: Shape, setup: Setup) -> dict[str, dict[str, float]]:
    """Bytes by what they are for: {"always": {..}, "rollout": {..}, "training": {..}}."""
    full = setup.lora_rank == 0
    wide = 4 if full else BYTES[setup.dtype]  # load() makes weights that are trained themselves float32
    sampled = {"": wide, "int8": 4, **BYTES}[setup.copy]
    linear = sum(a * b for a, b in shape.matrices) * shape.layers
    small = ((shape.heads + 2 * shape.keys) * shape.bias + 2 * shape.hidden) * shape.layers + shape.hidden
    embeddings = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    constants = 0.0
    # NF4: a byte per block of 64 weights, a float per 256 of those; two tables and an offset.
    if setup.quantize == "nf4":
        constants = linear * (1 / 64 + 4 / 64 / 256) + (256 + 16 + 1) * 4 * 7 * shape.layers
    elif setup.quantize == "int8":
        constants = sum(b for _, b in shape.matrices) * shape.layers * 4
    each = {"nf4": 0.5, "int8": 1.0, "none": wide}[setup.quantize]
    weights = linear * each + (small + embeddings) * wide
    adapter = sum(a + b for a, b in shape.matrices) * shape.layers * setup.lora_rank * 4
    trained = (linear + small + embeddings) * 4 if full else adapter
    plain = (linear + small + embeddings) * sampled
    eight = linear + small * 4 + shape.vocabulary * shape.hidden * (1 + 4)  # LM head, embeddings
    always = {"weights": weights, "quantisation constants": constants, "adapter": adapter,
              "reference": trained if setup.reference else 0, "optimizer": 2 * trained,
              "copy to sample from": {"": 0, "int8": eight}.get(setup.copy, plain),
              "CUDA context": CONTEXT}
    return {"always": always, "rollout": rollout_memory(shape, setup, sampled),
            "training": training_memory(shape, setup, wide) | {"gradients": trained}}


def rollout_memory(shape: Shape, setup: Setup, wide: int) -> dict[str, float]:
    """The cache; and on the way the larger of a chunk of prefill and a late decoding step."""
    groups = shape.heads // shape.keys  # what query heads and key heads are wide
    # A chunk's activations in one layer, its mask; the keys and values of its rows, gathered layer by layer.
    prefill = (CHUNK * (3 * shape.mlp + 6 * shape.hidden + groups * setup.episode_tokens) * wide
               + setup.slots * setup.episode_tokens * 2 * shape.keys * wide)
    # Logits, probabilities and their sums for sampling.
    decode = setup.slots * shape.vocabulary * (wide + 3 * 4)
    return {"cache": setup.slots * (setup.episode_tokens + 1) * shape.layers * 2 * shape.keys * wide,
            "one layer, sampling": max(prefill, decode)}


def training_memory(shape: Shape, setup: Setup, wide: int) -> dict[str, float]:
    """Activations of a micro-batch (at least one whole episode), and on the way the larger of a layer and the
    LM head."""
    import models
    tokens = max(setup.micro_tokens, setup.episode_tokens)
    full = setup.lora_rank == 0
    mixed = full and setup.dtype == "bfloat16"
    plain = not full and setup.quantize == "none" and wide == 4
    kind = "mixed" if mixed else "full" if full else "float32" if plain else setup.quantize
    per_layer, once = ACTIVATIONS[kind, setup.gradient_checkpointing]
    scale = 1 if full or plain else wide / 2  # the other fits are for bfloat16
    widths = [scale * width for width in (shape.hidden, shape.keys, shape.mlp, setup.lora_rank)]
    saved = tokens * shape.layers * sum(a * b for a, b in zip(per_layer, widths))
    layer = tokens * sum(a * b for a, b in zip(once, widths))
    if mixed:  # copies in bfloat16: kept until backward, with gradient checkpointing those of one layer
        copies = 2 * sum(a * b for a, b in shape.matrices)
        saved += 0 if setup.gradient_checkpointing else copies * shape.layers
        layer += copies if setup.gradient_checkpointing else 0
    elif setup.quantize != "none":  # one matrix, unpacked
        layer += max(a * b for a, b in shape.matrices) * wide
    matrix = shape.vocabulary * shape.hidden
    # Of a chunk of positions: logits, log-probabilities, and two more for the entropy, or for the gradient.
    head = min(tokens, models.logits_chunk(shape.vocabulary)) * shape.vocabulary * 4 * 4
    if mixed:  # a copy of the matrix in bfloat16; gradients of the chunks, while they are added up
        head = max(head + 2 * matrix, 8 * matrix)
    elif full:
        head = max(head + 4 * matrix, 12 * matrix)
    return {"saved activations": saved, "one layer, LM head": max(layer, head)}


def peak(parts: dict) -> float:
    """Bytes at the worst moment."""
    return sum(parts["always"].values()) + max(sum(parts[phase].values())
                                               for phase in ("rollout", "training"))


def largest_fitting(fits, limit: int) -> int:
    """The largest number up to `limit` that fits (bisection; 0 if not even 1 does)."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def what_fits(shape: Shape, setup: Setup, gib: float) -> dict[str, int]:
    """{"slots", "micro_tokens", "episode_tokens"}: the most of each that fits into `gib` GiB; 0 where nothing
    does.

    Slots and budget are for the setup's episodes. The longest episode is one with a group of 8 in the cache
    and one sequence per forward pass.
    """
    def fits(**changes) -> bool:
        return peak(memory(shape, dataclasses.replace(setup, **changes))) <= gib * GIB * (1 - HEADROOM)

    # A micro-batch holds at least one episode, so a budget of 1 token stands for just that.
    return {
        "slots": largest_fitting(lambda n: fits(slots=n, micro_tokens=1), MOST_SLOTS),
        "micro_tokens": largest_fitting(lambda n: fits(slots=1, micro_tokens=n), MOST_TOKENS),
        "episode_tokens": largest_fitting(lambda n: fits(slots=8, micro_tokens=1, episode_tokens=n), LONGEST)}


def fitting_setup(shape: Shape, setup: Setup, gib: float, episodes: int) -> Setup | None:
    """The setup with as many slots and tokens as fit, for so many episodes a step; None if nothing does."""
    found = what_fits(shape, setup, gib)
    if not found["slots"] or not found["micro_tokens"]:
        return None
    # Powers of two: a little memory stays free, and nearly equal GPUs get the same flags.
    slots, tokens = (1 << (found[name].bit_length() - 1) for name in ("slots", "micro_tokens"))
    return dataclasses.replace(setup, slots=min(slots, episodes), micro_tokens=tokens)


def setup_of(args: argparse.Namespace) -> Setup:
    """The setup that the flags of an RL run name."""
    layered, mixed = args.lora_rank > 0 or args.quantize != "none", args.dtype == "bfloat16"
    merged = args.rollout_weights == "merged" and layered or args.lora_rank == 0 and mixed
    copied = "int8" if args.rollout_weights == "int8" else args.dtype if merged else ""
    return Setup(args.dtype, args.quantize, args.lora_rank, args.gradient_checkpointing, args.slots,
                 args.episode_tokens, args.micro_tokens, reference=args.kl > 0, copy=copied)


# -------------------------------------------------------------------------------------------------- the probe
def step_seconds(args: argparse.Namespace, setup: Setup, device: str) -> dict[str, float]:
    """Measured on the device: {"decode": one token for all slots, "training": one micro-batch}.

    With random weights and few layers, carried forward in a straight line to all layers. The cache is half
    full.
    """
    import torch

    import models
    from kvcache import SlotCache

    all_layers = shape_of(args.model).layers
    few = (1, 2) if all_layers < 8 else (2, 4)
    times = {}
    for layers in few:
        policy, _ = models.load(args.model, random_weights=True, layers=layers, dtype=args.dtype,
                                quantize=args.quantize, lora_rank=args.lora_rank, device=device,
                                gradient_checkpointing=args.gradient_checkpointing)
        cache = SlotCache(policy, setup.slots, setup.episode_tokens)
        places = [setup.episode_tokens // 2] * setup.slots
        sequences = max(1, setup.micro_tokens // setup.episode_tokens)
        ids = torch.ones(sequences, min(setup.episode_tokens, setup.micro_tokens), dtype=torch.long,
                         device=device)

        def decode(cache=cache, places=places):
            cache.decode([1] * setup.slots, places)

        def train(policy=policy, ids=ids):
            with torch.no_grad():
                models.score(policy, ids, torch.ones_like(ids))  # the reference
            models.score(policy.train(), ids, torch.ones_like(ids))[0].sum().backward()
            policy.eval()

        times[layers] = {"decode": second_call(decode, device), "training": second_call(train, device)}
        del policy, cache
    low, high = (times[layers] for layers in few)
    more = (all_layers - few[0]) / (few[1] - few[0])
    return {name: max(high[name], low[name] + more * (high[name] - low[name])) for name in low}


def second_call(work, device: str) -> float:
    """Seconds that the second call of work() takes."""
    import torch
    for _ in range(2):
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
    return time.perf_counter() - began


# ------------------------------------------------------------------------------------------------ the command
def markdown_of_gpus() -> str:
    """What fits, per size and GPU, in markdown: episodes of 4,096 tokens as the presets train them."""
    lines = ["| model | " + " | ".join(f"{gpu} GB" for gpu in GPUS) + " |", "|---" * (len(GPUS) + 1) + "|"]
    for model in ("0.5b", "1.5b", "3b", "7b", "14b"):
        values = PRESETS[model]
        setup = Setup(values["dtype"], values["quantize"], values["lora_rank"], gradient_checkpointing=True,
                      slots=1, episode_tokens=4096, micro_tokens=4096)
        cells = []
        for gpu in GPUS:
            found = what_fits(shape_of(model), setup, gpu)
            cells.append("-" if not found["slots"] or not found["micro_tokens"] else
                         f"{found['slots']} / {found['micro_tokens'] // 1024}k / "
                         f"{found['episode_tokens'] // 1024}k")
        lines.append(f"| {model} {values['quantize'].replace('none', 'bf16')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def lines_of_memory(parts: dict) -> str:
    """Everything that takes memory, a line each, and the peak."""
    lines = [f"{phase:9} {name:30} {size / GIB:8.2f} GiB" for phase, sizes in parts.items()
             for name, size in sizes.items() if size]
    return "\n".join([*lines, f"{'peak':40} {peak(parts) / GIB:8.2f} GiB"])


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line; episodes: how many a step of RL has."""
    parser, values = make_parser(argv, main.__doc__, "r1ci.py plan")
    parser.add_argument("--gpu-memory", type=real(0.1, 100_000),
                        help="GiB of the GPU (default: those of this machine's, else 24)")
    parser.add_argument("--micro-tokens", type=whole(), default=values["micro_tokens"],
                        help="tokens per forward pass")
    parser.add_argument("--no-gradient-checkpointing", dest="gradient_checkpointing", action="store_false",
                        default=values["gradient_checkpointing"], help="keep all activations")
    parser.add_argument("--probe", action="store_true",
                        help="measure step times on --device (on a GPU always done)")
    parser.add_argument("--table", action="store_true", help="what fits, for all sizes and GPUs")
    settings = values["rl"]
    parser.set_defaults(kl=settings["kl"], episodes=settings["questions"] * settings["samples"])
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Say what will be in memory, what fits, and which flags to use."""
    args = parse(argv)
    if args.table:
        print(markdown_of_gpus())
        return
    import torch

    import models
    models.check_arguments(args)
    device = models.device_of(args.device)
    on_gpu = device.startswith("cuda")
    gib = args.gpu_memory or (torch.cuda.get_device_properties(device).total_memory / GIB if on_gpu else 24.0)
    shape = shape_of(args.model)
    setup = fitting_setup(shape, setup_of(args), gib, args.episodes)
    if setup is None:
        raise UserError(f"{args.model} ({args.quantize}, LoRA rank {args.lora_rank}) with episodes of "
                        f"{args.episode_tokens} tokens does not fit into {gib:.0f} GiB: try --quantize nf4, "
                        "a smaller --lora-rank or --episode-tokens, or a smaller model")
    found = what_fits(shape, setup, gib)
    kept = fitting_setup(shape, dataclasses.replace(setup, gradient_checkpointing=False), gib, args.episodes)
    times = step_seconds(args, setup, device) if args.probe or on_gpu else {}
    print(f"{args.model}: {args.quantize}, {args.dtype}, LoRA rank {args.lora_rank}, episodes of "
          f"{args.episode_tokens} tokens, {gib:.0f} GiB\n\n{lines_of_memory(memory(shape, setup))}\n\n"
          f"most that fits: {found['slots']} slots, {found['micro_tokens']} tokens per forward pass; "
          f"episodes of up to {found['episode_tokens']} tokens (8 slots, one per forward pass)\n"
          f"use: --slots {setup.slots} --micro-tokens {setup.micro_tokens}\n"
          "(arithmetic; never checked on a GPU, see tools/plan.py)")
    if setup.gradient_checkpointing and kept and kept.micro_tokens >= args.episode_tokens:
        print(f"faster, as no layer is computed twice: --slots {kept.slots} --micro-tokens "
              f"{kept.micro_tokens} --no-gradient-checkpointing")
    if times:
        rollout = times["decode"] * args.episode_tokens * -(-args.episodes // setup.slots)
        training = times["training"] * args.episodes * args.episode_tokens / setup.micro_tokens
        print(f"measured on {device}: {setup.slots / times['decode']:.0f} tokens/s decoding, "
              f"{setup.micro_tokens / times['training']:.0f} tokens/s training; a step of {args.episodes} "
              f"episodes, if all are as long as they may be, {rollout:.0f} s + {training:.0f} s")
