"""Warm start: supervised fine-tuning on worked conversations, with the loss on the policy's own tokens only.

    python sft.py                          the tiny model, from nothing (about 3 minutes on 2 cores)
    python sft.py --model 3b               QLoRA on one GPU
    python sft.py --model FOLDER --steps 20
    python sft.py --model 3b --teacher openai:gpt-4o     conversations of a stronger model (teacher.py), not the oracle's

A conversation alternates between what the policy writes and what it is given. Both are read; only the first is
learned. With ids (B, T) and mask (B, T), mask 1 on what the assistant wrote (its end of turn included; not a program with
a slip, which is there to be read, unless `--learn-slips`, the tiny model's default):

    loss = - sum_t mask[t] log p(ids[t] | ids[<t]) / sum_t mask[t]

The paper (section 3.2) fine-tunes on 6.5k conversations for 3 epochs; whether code output is masked in its SFT is not
stated. We mask it: a policy that learns to *predict* results will invent them. `--train-on-code-output` is the
ablation. Two places decide on the mask: `trajectories.encode` (whose message it is) and `training_mask` (the ablation).
"""
import argparse
import math
import random
import time
from pathlib import Path

import torch
from tqdm import tqdm

from experiments import server as api
import parallel
import sandbox as sandboxes
from experiments import teacher
from chat import Chat, ChatError
from flags import make_parser, positive
from memory import accumulate, micro_batches  # noqa: F401  (micro_batches: others take it from here)
from models import ModelError, check_arguments, load, run_name, score, token_logprobs
from runs import Run, RunError, command, fail, read_jsonl, stoppable, trained_parameters, write_jsonl
from tasks import TaskError, draw, select
from trajectories import encode, make


def masked_cross_entropy(logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the trained tokens: a scalar.

    logits (B, T, V) as the model returns them for ids (B, T): logits[:, t-1] predict ids[:, t]. mask (B, T): is token t
    itself trained (the first one cannot be). An empty mask gives 0, with a gradient of 0.
    """
    trained = mask[:, 1:].bool()
    logprobs, _ = token_logprobs(logits[:, :-1][trained], ids[:, 1:][trained], want_entropy=False)
    return -logprobs.sum() / trained.sum().clamp_min(1)


def training_mask(mask: list[int], train_on_code_output: bool = False) -> list[int]:
    """Which tokens are trained: those the policy wrote. With the ablation: everything after the prompt."""
    first = mask.index(1)
    return [0] * first + [1] * (len(mask) - first) if train_on_code_output else mask


def pad(sequences: list[list[int]], device="cpu") -> torch.Tensor:
    """(B, T), padded on the right with 0 (masks rule everything; the value of padding never matters)."""
    width = max(map(len, sequences))
    return torch.tensor([sequence + [0] * (width - len(sequence)) for sequence in sequences], device=device)


def make_optimizers(policy, kind: str, lr: float) -> list[torch.optim.Optimizer]:
    """AdamW, or Muon on the weight matrices of the layers and AdamW on the rest (embeddings, norms, biases)."""
    parameters = trained_parameters(policy)
    matrices = [p for name, p in parameters.items() if p.ndim == 2 and "embed" not in name and "lm_head" not in name]
    if kind == "adamw" or not matrices:
        return [torch.optim.AdamW(parameters.values(), lr=lr, betas=(0.9, 0.95), weight_decay=0.0)]
    others = [p for p in parameters.values() if all(p is not m for m in matrices)]
    return [torch.optim.Muon(matrices, lr=lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over a tenth of the steps (at most 30), then a cosine down to a tenth of the peak."""
    warmup = max(1, min(30, steps // 10))
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def train_step(policy, optimizers: list, batch: list[tuple[list[int], list[int]]], micro_tokens: int, lr: float) -> dict:
    """One optimizer step on (ids, mask) pairs. The loss is normalised once, by the batch's trained tokens, so the
    gradient does not depend on how the batch is split."""
    device = next(policy.parameters()).device
    parameters = trained_parameters(policy).values()
    trained = sum(sum(mask[1:]) for _, mask in batch)
    mine = sorted(batch, key=lambda example: -len(example[0]))[parallel.rank()::parallel.size()]

    def backward(group: list[int]) -> dict:
        ids, mask = (pad([mine[i][k] for i in group], device) for k in (0, 1))
        logprobs, _ = score(policy, ids, mask, want_entropy=False)
        loss = -(logprobs * mask).sum() / max(1, trained)
        loss.backward()
        return {"loss": loss.item()}

    sums, micro_tokens = accumulate([len(ids) for ids, _ in mine], micro_tokens, backward, parameters)
    parallel.sum_gradients(parameters)
    norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return {"loss": parallel.totals(sums)["loss"], "trained_tokens": trained, "tokens": sum(len(ids) for ids, _ in batch),
            "grad_norm": norm.item(), "micro_tokens": micro_tokens}


def train(policy, examples: list[tuple[list[int], list[int]]], run: Run, args) -> bool:
    """The loop: shuffled epochs, resumable at every checkpoint. False if Ctrl-C stopped it early."""
    steps = args.steps or max(1, round(args.epochs * len(examples) / args.batch))
    optimizers = make_optimizers(policy, args.optimizer, args.lr)
    start = run.restore(trained_parameters(policy), optimizers)
    policy.train()
    bar = tqdm(total=steps, initial=start, desc="SFT", unit="step", disable=parallel.rank() > 0)
    with stoppable() as stopped:
        for step in range(start, steps):
            began = time.perf_counter()
            batch = [examples[i] for i in batch_of(step, len(examples), args.batch, args.seed)]
            metrics = train_step(policy, optimizers, batch, args.micro_tokens, learning_rate(step, steps, args.lr))
            args.micro_tokens = metrics["micro_tokens"]  # what fitted, if memory ran out
            metrics = {"step": step, **metrics, "seconds": time.perf_counter() - began}
            run.log(metrics)
            bar.update()
            bar.set_postfix(loss=f"{metrics['loss']:.3f}", tok_s=f"{metrics['tokens'] / metrics['seconds']:.0f}")
            stop = parallel.any_rank(stopped())
            if (step + 1) % args.save_every == 0 or step + 1 == steps or stop:
                run.checkpoint(trained_parameters(policy), optimizers, step + 1)
            if stop:
                break
    bar.close()
    policy.eval()
    return step + 1 == steps if start < steps else True


def batch_of(step: int, size: int, batch: int, seed: int) -> list[int]:
    """Indices of a step's examples: each epoch is a permutation of its own, and steps run on across epochs."""
    chosen = []
    for place in range(step * batch, (step + 1) * batch):
        epoch, offset = divmod(place, size)
        if not chosen or offset == 0:
            order = list(range(size))
            random.Random(f"{seed}/{epoch}").shuffle(order)
        chosen.append(order[offset])
    return chosen


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; defaults come from the preset of --model."""
    parser, values = make_parser(argv, __doc__.split("\n\n")[0])
    settings = values["sft"]
    group = parser.add_argument_group("training")
    group.add_argument("--lr", type=float, default=settings["lr"], help="peak learning rate")
    group.add_argument("--batch", type=positive, default=settings["batch"], help="conversations per step")
    group.add_argument("--epochs", type=float, default=settings["epochs"])
    group.add_argument("--steps", type=int, default=settings["steps"], help="0: as many as --epochs needs")
    group.add_argument("--optimizer", choices=("adamw", "muon"), default=settings["optimizer"])
    group.add_argument("--micro-tokens", type=positive, default=values["micro_tokens"], help="tokens per forward pass")
    group.add_argument("--no-gradient-checkpointing", dest="gradient_checkpointing", action="store_false",
                       default=values["gradient_checkpointing"])
    group.add_argument("--seed", type=int, default=0)
    group = parser.add_argument_group("data")
    group.add_argument("--data", type=Path, help="conversations as messages JSONL, instead of making them")
    group.add_argument("--teacher", help="openai:NAME, a hub id or a folder: learn from what this model gets right "
                       "(default: the oracle programs)")
    group.add_argument("--teacher-rounds", type=positive, default=2, help="times that tasks with too few right "
                       "conversations get new questions")
    group.add_argument("--teacher-temperature", type=float, default=1.0)
    group.add_argument("--per-task", type=positive, default=settings["per_task"], help="most conversations per task")
    group.add_argument("--text-share", type=float, default=settings["text_share"], help="share answered in words "
                       "(--mode text: all, --mode code: none)")
    group.add_argument("--multi-share", type=float, default=settings["multi_share"], help="share of code that takes "
                       "several turns (a slip and its repair, a second program that checks)")
    group.add_argument("--fallback-share", type=float, default=settings["fallback_share"], help="share of code that "
                       "fails and is followed by an answer in words (--mode code: none): for models that can seldom repair a "
                       "program")
    group.add_argument("--learn-slips", action=argparse.BooleanOptionalAction, default=settings["learn_slips"],
                       help="train on programs with a slip, too, not only on what follows")
    group.add_argument("--keep-wrong", action="store_true", help="ablation: keep a teacher's wrong guesses, too")
    group.add_argument("--train-on-code-output", action="store_true", help="ablation: do not mask results")
    group = parser.add_argument_group("run")
    group.add_argument("--out", type=Path, help="run folder (default: runs/MODEL/sft)")
    group.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    group.add_argument("--overwrite", action="store_true", help="start again in a used folder")
    group.add_argument("--save-every", type=positive, default=100, help="steps between checkpoints")
    api.add_arguments(parser)
    sandboxes.add_arguments(parser)
    args = parser.parse_args(argv)
    args.out = args.out or Path("runs") / run_name(args.model) / "sft"
    args.text_share = {"text": 1.0, "code": 0.0}.get(args.mode, args.text_share)
    args.fallback_share = 0.0 if args.mode == "code" else args.fallback_share
    return args


def conversations(args: argparse.Namespace, chat: Chat, run: Run) -> list[dict]:
    """The conversations to train on: from --data, from an earlier start of this run, or made now."""
    saved = args.data or run.folder / "data.jsonl"
    if args.data and not args.data.is_file():
        raise RunError(f"there is no file {args.data}")
    if saved.is_file():
        return read_jsonl(saved)
    tasks = select(args.tasks)
    if args.teacher:
        made = teacher.conversations(tasks, chat, run.folder, args)
        write_jsonl(saved, made)
        return made
    wanted = args.per_task * len(tasks)
    if args.steps:  # a short run does not need them all
        wanted = min(wanted, args.steps * args.batch)
    with sandboxes.from_args(args) as box, tqdm(total=wanted, desc="conversations", unit="") as bar:
        made = make(draw(tasks, "sft", wanted, args.levels), chat, box, text_share=args.text_share,
                    multi_share=args.multi_share, fallback_share=args.fallback_share, per_task=args.per_task,
                    keep_wrong=args.keep_wrong, learn_slips=args.learn_slips or args.train_on_code_output,
                    progress=bar)
    write_jsonl(saved, made)
    return made


def main(argv: list[str] | None = None) -> bool:
    """Run the command; False if it was stopped early. Bad input: one line, exit code 2."""
    try:
        args = parse(argv)
        check_arguments(args.quantize, args.lora_rank)
        select(args.tasks)
        args.device = parallel.start(args.device)
        run = parallel.first_then_others(lambda: Run(args.out, vars(args), args.resume, args.overwrite))
        policy, tokenizer = load(args.model, dtype=args.dtype, quantize=args.quantize, lora_rank=args.lora_rank,
                                 random_weights=args.random_weights, layers=args.layers, device=args.device,
                                 gradient_checkpointing=args.gradient_checkpointing, seed=args.seed)
        chat = Chat(tokenizer, args.mode, args.style, args.answer_format)
        data = parallel.first_then_others(lambda: conversations(args, chat, run))
    except (ModelError, RunError, TaskError, ChatError, sandboxes.SandboxError, api.ApiError, ValueError) as error:
        fail(error)
    examples = [encode(chat, record["messages"]) for record in data]
    examples = [(ids, training_mask(mask, args.train_on_code_output)) for ids, mask in examples
                if len(ids) <= args.episode_tokens and 1 in mask]
    if not examples:
        fail(f"no conversation with anything to learn fits into --episode-tokens {args.episode_tokens}")
    finished = train(policy, examples, run, args)
    if not finished:
        print(f"Stopped; {args.out} keeps the finished steps. The same command with --resume goes on.")
        return False
    run.save(policy, tokenizer)
    from experiments import report  # here: it needs this module
    report.refresh(run, tokenizer)
    losses = [line["loss"] for line in run.metrics()]
    part = max(1, len(losses) // 5)
    print(f"SFT: {len(examples)} conversations, {len(losses)} steps, loss {sum(losses[:part]) / part:.3f} -> "
          f"{sum(losses[-part:]) / part:.3f} (means of the first and the last fifth); saved in {run.folder}")
    return True


if __name__ == "__main__":
    command(main)
