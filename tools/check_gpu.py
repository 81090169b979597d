"""What nobody can prove without a GPU, proved on one: `python r1ci.py check-gpu` (minutes, no download).

Random weights of a model's shape, a few layers of it. For each way to store the base (bf16, NF4, int8), and
for a merged copy:

    sampler = scorer   log-probabilities of a rollout, computed again as the trainer does: mean difference
    after a step       the same once more with the weights of one optimizer step, so that a stale copy shows
    memory             the highest that was allocated, against what `r1ci.py plan` says
    speed              tokens per second of the rollout, and of the step

Then: a GPU that is full halves the work and makes the same step; two processes on two GPUs make the step of
one. What comes out is a table to paste. `--device cpu` runs what needs no GPU, to try the command itself.
"""
import argparse
import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

from runs import UserError, make_parser, whole

WAYS = (("none", "same"), ("none", "merged"), ("nf4", "same"), ("nf4", "merged"), ("int8", "same"),
        ("int8", "merged"))
ALLOWED = 0.05  # mean difference of log-probabilities; other kernels in sampler and trainer round differently
NEAR = 0.25  # measured memory may differ from the plan by so much


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser, values = make_parser(argv, __doc__.split("\n\n")[0], "r1ci.py check-gpu")
    parser.add_argument("--layers", type=whole(), default=4, help="of the model (its head is whole)")
    parser.add_argument("--episodes", type=whole(2, 1024), default=16, help="of a rollout")
    parser.set_defaults(micro_tokens=values["micro_tokens"])
    args = parser.parse_args(argv)
    args.random_weights, args.lora_rank = True, args.lora_rank or 16
    return args


def load(args: argparse.Namespace, quantize: str):
    """(policy, tokenizer) with few layers, and adapters that are not zero."""
    import torch

    import models
    policy, tokenizer = models.load(
        args.model, random_weights=True, layers=args.layers, dtype=args.dtype, quantize=quantize,
        lora_rank=args.lora_rank, device=models.device_of(args.device), gradient_checkpointing=True)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    return policy, tokenizer


def sampled_and_scored(engine, args: argparse.Namespace) -> tuple[list, float, float]:
    """(episodes, mean difference of their log-probabilities, sampled tokens per second)."""
    import torch

    from batches import pad
    from models import score
    from tasks import draw, select
    questions = draw(select("tiny"), "rl", args.episodes // 2, (1,))
    began = time.perf_counter()
    episodes = engine.run(questions, 2)
    seconds = time.perf_counter() - began
    ids, mask = (pad([getattr(e, name) for e in episodes], engine.policy.device) for name in ("ids", "mask"))
    with torch.no_grad():
        again = score(engine.policy, ids, mask)[0].cpu()
    sampled = torch.nn.utils.rnn.pad_sequence([torch.tensor(e.logprobs) for e in episodes], True)
    own = mask.bool().cpu()
    return episodes, (again - sampled)[own].abs().mean().item(), int(own.sum()) / seconds


def one_step(policy, episodes: list, micro_tokens: int) -> tuple[dict, float]:
    """(numbers, tokens per second) of one step that makes these episodes likelier."""
    from batches import Trainer, trained_parameters
    from sft import train_step
    trainer = Trainer(trained_parameters(policy), 1e-3, micro_tokens)
    examples = [(e.ids, e.mask) for e in episodes]
    began = time.perf_counter()
    numbers = train_step(policy.train(), trainer, examples, 1e-3)
    policy.eval()
    return numbers, numbers["tokens"] / (time.perf_counter() - began)


def check_way(args: argparse.Namespace, quantize: str, weights: str, box) -> list[str]:
    """A row of the table; its last cell says what is wrong."""
    import torch

    import models
    from rollout import Engine, Limits
    from tools import plan
    gpu = args.device != "cpu"
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    policy, tokenizer = load(args, quantize)
    copied = models.Merged(policy, getattr(torch, args.dtype)) if weights == "merged" else None
    engine = Engine(policy, tokenizer, box, Limits(48, args.episode_tokens, 2, 300), slots=args.slots,
                    merged=copied)
    episodes, before, sampling = sampled_and_scored(engine, args)
    _, training = one_step(policy, episodes, args.micro_tokens)
    _, after, _ = sampled_and_scored(engine, args)
    wrong = [f"differs by more than {ALLOWED}"] * (not max(before, after) < ALLOWED)
    ratio = "-"
    if gpu:
        setup = plan.Setup(args.dtype, quantize, args.lora_rank, True, min(args.slots, len(episodes)),
                           args.episode_tokens, args.micro_tokens, reference=False,
                           copy=args.dtype if copied else "")
        shape = dataclasses.replace(plan.shape_of(args.model), layers=args.layers)
        planned = plan.peak(plan.memory(shape, setup)) - plan.CONTEXT
        share = torch.cuda.max_memory_allocated() / planned
        ratio = f"{share:.2f}"
        wrong += [f"memory is {share:.2f} of the plan"] * (not abs(share - 1) < NEAR)
    return [quantize.replace("none", args.dtype), weights, f"{before:.4f}", f"{after:.4f}", ratio,
            f"{sampling:.0f}", f"{training:.0f}", "; ".join(wrong) or "ok"]


def check_giving_way(args: argparse.Namespace, box) -> str:
    """On a GPU that is nearly full, the step is split, and its gradient norm stays."""
    import torch

    from rollout import Engine, Limits
    from tasks import draw, select
    policy, tokenizer = load(args, "none")
    engine = Engine(policy, tokenizer, box, Limits(48, args.episode_tokens, 2, 300), slots=args.slots)
    episodes = engine.run(draw(select("tiny"), "rl", 64, (1,)), 2)
    usual, _ = one_step(policy, episodes, 1024)
    policy, _ = load(args, "none")
    torch.cuda.empty_cache()
    room = torch.cuda.memory_allocated() + 2**30
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    try:
        split, _ = one_step(policy, episodes, 1 << 20)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    same = abs(split["grad_norm"] - usual["grad_norm"]) <= 0.05 * usual["grad_norm"]
    halved = split["micro_tokens"] < 1 << 20
    return f"{1 << 20} -> {split['micro_tokens']} tokens, gradient {split['grad_norm']:.4f} and " \
           f"{usual['grad_norm']:.4f}: {'ok' if same and halved else 'WRONG'}"


def check_two_ranks() -> str:
    """Two processes on two GPUs run to the end (they compare their weights themselves)."""
    root = Path(__file__).resolve().parent.parent
    out = Path(os.environ.get("TMPDIR", "/tmp")) / f"check-gpu-{os.getpid()}"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", root / "grpo.py",
               "--init", "base", "--steps", "2", "--eval-questions", "0", "--out", out]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300)
    return "ok" if result.returncode == 0 else f"WRONG: {result.stderr.strip().splitlines()[-1]}"


def main(argv: list[str]) -> int:
    """Check what only a GPU can show, and print a table; the exit code is 1 if something is wrong."""
    args = parse(argv)
    import torch

    import models
    import sandbox
    device = models.device_of("cuda" if args.device == "auto" else args.device)
    args.device = device
    if args.model == "tiny":
        raise UserError("check-gpu needs the shape of a real model: --model 0.5b, 1.5b, 3b, 7b or 14b")
    name = torch.cuda.get_device_name() if device != "cpu" else "the CPU"
    print(f"{args.model}, {args.layers} layers, random weights, torch {torch.__version__}, {name}\n")
    lines = [["base", "sampled from", "difference", "after a step", "memory / plan", "sampled tokens/s",
              "trained tokens/s", ""]]
    with sandbox.from_args(args) as box:
        for quantize, weights in WAYS:
            lines.append(check_way(args, quantize, weights, box))
            print(f"{quantize}, {weights}: {lines[-1][-1]}", file=sys.stderr, flush=True)
        text = [f"| {' | '.join(line)} |" for line in lines]
        print("\n".join([text[0], "|---" * len(lines[0]) + "|", *text[1:]]))
        more = [f"a full GPU gives way: {check_giving_way(args, box)}"] if device != "cpu" else []
    if device != "cpu" and torch.cuda.device_count() > 1:
        more.append(f"two processes: {check_two_ranks()}")
    print("\n".join(["", *more]) if more else "\n(no GPU: memory, giving way and two processes were not "
          "checked)")
    return int(any(line[-1] != "ok" for line in lines[1:]) or any("WRONG" in line for line in more))
