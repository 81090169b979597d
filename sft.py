"""Warm start: supervised fine-tuning on worked conversations, with the loss on the policy's own tokens only.

    python sft.py                          the tiny model, from nothing (about 4 minutes on 2 cores)
    python sft.py --model 3b               QLoRA on one GPU
    python sft.py --data FILE              conversations of your own, or of a teacher (r1ci.py teach)

A conversation alternates between what the policy writes and what it is given. Only the first is learned. With
ids (B, T) and mask (B, T), mask 1 on what the assistant wrote, its end of turn included:

    loss = - sum_t mask[t] log p(ids[t] | ids[<t]) / sum_t mask[t]

The paper (section 3.2) fine-tunes on 6.5k conversations for 3 epochs, and does not say whether it masks code
output. We do: who learns to predict results invents them (`trajectories.encode`, `batches.training_mask`)."""
import argparse
import math
import time
from collections import Counter
from pathlib import Path

import runs
from runs import SEED, Run, UserError, command, make_parser, real, run_name, stoppable, whole


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; defaults come from the preset of --model."""
    parser, values = make_parser(argv, __doc__.split("\n\n")[0])
    sft, share = values["sft"], real(0, 1)
    add = parser.add_argument_group("training").add_argument
    add("--lr", type=real(0, 1), default=sft["lr"], help="peak learning rate")
    add("--batch", type=whole(1, 4096), default=sft["batch"], help="conversations per step")
    add("--epochs", type=real(0.01, 1000), help=f"passes over the data, if not --steps ({sft['epochs']})")
    add("--steps", type=whole(0), help=f"0: as many as --epochs needs ({sft['steps']})")
    add("--optimizer", choices=("adamw", "muon"), default=sft["optimizer"], help="of the weight matrices")
    add("--micro-tokens", type=whole(), default=values["micro_tokens"], help="tokens per forward pass")
    add("--no-gradient-checkpointing", dest="gradient_checkpointing", action="store_false",
        default=values["gradient_checkpointing"], help="keep all activations: faster, if memory allows")
    add("--seed", type=SEED, default=0, help="of weights and shuffling")
    add = parser.add_argument_group("data").add_argument
    add("--data", type=Path, help="conversations as messages JSONL, instead of making them")
    add("--fill", type=whole(0), default=sft["fill"],
        help="with --data: tasks with fewer conversations there get worked ones of ours, up to so many")
    add("--per-task", type=whole(), default=sft["per_task"], help="most conversations per task")
    add("--text-share", type=share, default=sft["text_share"], help="share that is answered in words")
    add("--multi-share", type=share, default=sft["multi_share"], help="share of code with several turns")
    add("--fallback-share", type=share, default=sft["fallback_share"], help="of code that fails, then words")
    add("--learn-slips", action=argparse.BooleanOptionalAction, default=sft["learn_slips"],
        help="train on programs with a slip, too, not only on what follows")
    add("--keep-wrong", action="store_true", help="ablation: keep wrong guesses, too")
    add("--train-on-code-output", action="store_true", help="ablation: do not mask results")
    add = parser.add_argument_group("run").add_argument
    add("--out", type=Path, help="run folder (default: runs/MODEL/sft)")
    add("--resume", action="store_true", help="go on with an interrupted run")
    add("--overwrite", action="store_true", help="start again in a used folder")
    add("--save-every", type=whole(), default=100, help="steps between checkpoints")
    args = parser.parse_args(argv)
    if args.epochs and args.steps:
        raise UserError("--epochs or --steps: one of them says how long it trains")
    args.steps = sft["steps"] if args.epochs is args.steps is None else args.steps or 0
    args.epochs = args.epochs or sft["epochs"]
    args.out = args.out or Path("runs") / run_name(args.model) / "sft"
    args.text_share = {"text": 1.0, "code": 0.0}.get(args.mode, args.text_share)
    args.fallback_share = 0.0 if args.mode == "code" else args.fallback_share
    return args


if __name__ == "__main__":
    command(parse)  # --help and mistakes are answered before torch is imported

import torch

import batches
import sandbox as sandboxes
from batches import Progress, Trainer, pad
from chat import Chat, head_prompt
from models import check_arguments, device_of, load_from_args, save, score, token_logprobs
from task_families.own_file import read_conversations
from tasks import draw, select
from trajectories import encode, make


def masked_cross_entropy(logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the trained tokens: a scalar. logits (B, T, V) as the model returns them for
    ids (B, T): logits[:, t-1] predict ids[:, t]. mask (B, T): is token t itself trained (the first one cannot
    be). An empty mask gives 0, with a gradient of 0."""
    trained = mask[:, 1:].bool()
    logprobs, _ = token_logprobs(logits[:, :-1][trained], ids[:, 1:][trained], want_entropy=False)
    return -logprobs.sum() / trained.sum().clamp_min(1)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over a tenth of the steps (at most 30), then a cosine down to a tenth of the peak."""
    warmup = max(1, min(30, steps // 10))
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def train_step(policy, trainer: Trainer, batch: list[tuple[list[int], list[int]]], lr: float) -> dict:
    """One optimizer step on (ids, mask) pairs; its numbers for the log."""
    device = next(policy.parameters()).device
    trained = sum(sum(mask[1:]) for _, mask in batch)

    def loss_of(group: list[int]) -> tuple[torch.Tensor, dict]:
        ids, mask = (pad([batch[i][k] for i in group], device) for k in (0, 1))
        logprobs, _ = score(policy, ids, mask, want_entropy=False)
        return -(logprobs * mask).sum() / max(1, trained), {}

    numbers = trainer.step([len(ids) for ids, _ in batch], loss_of, lr=lr)
    return {**numbers, "trained_tokens": trained, "tokens": sum(len(ids) for ids, _ in batch)}


def train(policy, examples: list[tuple[list[int], list[int]]], run: Run, args: argparse.Namespace) -> bool:
    """The loop: shuffled epochs, resumable at every checkpoint. False if Ctrl-C stopped it early."""
    steps = args.steps or max(1, round(args.epochs * len(examples) / args.batch))
    trainer = Trainer(batches.trained_parameters(policy), args.lr, args.micro_tokens, args.optimizer)
    start = batches.restore(run, trainer.parameters, trainer.optimizers)
    policy.train()
    finished = start >= steps
    with stoppable() as stopped, Progress(steps, "SFT", "step", start) as bar:
        for step in range(start, steps):
            began = time.perf_counter()
            batch = [examples[i] for i in batches.batch_of(step, len(examples), args.batch, args.seed)]
            numbers = train_step(policy, trainer, batch, learning_rate(step, steps, args.lr))
            seconds = time.perf_counter() - began
            run.append("metrics.jsonl", [{"step": step, **numbers, "seconds": seconds}])
            bar.set_postfix(loss=f"{numbers['loss']:.3f}", tok_s=f"{numbers['tokens'] / seconds:.0f}")
            bar.update()
            finished, stop = step + 1 == steps, any(batches.gather([stopped()]))
            if (step + 1) % args.save_every == 0 or finished or stop:
                batches.save_checkpoint(run, trainer.parameters, trainer.optimizers, step + 1)
            if stop:
                break
    policy.eval()
    return finished


def lacking(own: list[dict], tasks: list, fill: int) -> list[tuple]:
    """[(task, how many conversations it has too few)], for --fill."""
    there = Counter(record.get("task") for record in own)
    return [(task, max(0, fill - there[task.name])) for task in tasks]


def conversations(args: argparse.Namespace, chat: Chat, run: Run, own: list[dict]) -> list[dict]:
    """Conversations to train on, from an earlier start of this run or made now; beside `own`, if there are
    any, only what --fill asks for."""
    saved = run.folder / "data.jsonl"
    if saved.is_file():
        return runs.read_jsonl(saved)
    tasks = select(args.tasks)
    wanted = min(args.per_task * len(tasks), args.steps * args.batch or math.inf)  # a short run needs fewer
    questions = [] if own else draw(tasks, "sft", wanted, args.levels)
    for task, count in lacking(own, tasks, args.fill) if own else ():
        questions += draw([task], "sft", count, args.levels)
    with sandboxes.from_args(args) as box, Progress(len(questions), "conversations") as bar:
        made = make(questions, chat, box, text_share=args.text_share,
                    multi_share=args.multi_share, fallback_share=args.fallback_share, per_task=args.per_task,
                    keep_wrong=args.keep_wrong, learn_slips=args.learn_slips or args.train_on_code_output,
                    progress=bar)
    runs.write_jsonl(saved, made)
    return made


def examples_of(data: list[dict], chat: Chat, args: argparse.Namespace) -> list[tuple[list[int], list[int]]]:
    """(ids, mask) of each conversation that fits; says how many do not. UserError if none does."""
    encoded = [encode(chat, record["messages"]) for record in data]
    examples = [(ids, batches.training_mask(mask, args.train_on_code_output)) for ids, mask in encoded
                if len(ids) <= args.episode_tokens and 1 in mask]
    if not examples:
        raise UserError(f"no conversation to learn from fits into --episode-tokens {args.episode_tokens}")
    if len(examples) < len(data):
        print(f"{len(data) - len(examples)} of {len(data)} conversations are longer than --episode-tokens "
              f"{args.episode_tokens}, or have nothing to learn: left out")
    return examples


def main(argv: list[str] | None = None) -> bool:
    """Run the command; False if it was stopped early. Bad input: UserError."""
    args = parse(argv)
    check_arguments(args)
    select(args.tasks)
    batches.join_processes(device_of(args.device))
    run = batches.first_then_others(lambda: Run(args.out, vars(args), args.resume, args.overwrite))
    head = head_prompt(args.mode, args.style, args.answer_format)
    own = read_conversations(args.data, head) if args.data else []
    policy, tokenizer = load_from_args(args)
    chat = Chat(tokenizer, args.mode, args.style, args.answer_format)
    examples = examples_of(own, chat, args) if own else []  # no use: it ends here, before the run begins
    run.begin()
    if args.fill or not own:
        made = batches.first_then_others(lambda: conversations(args, chat, run, own))
        examples += examples_of(made, chat, args) if made else []
    if not train(policy, examples, run, args):
        print(f"Stopped; {args.out} keeps the finished steps. The same command with --resume goes on.")
        return False
    batches.first_then_others(lambda: save(policy, tokenizer, run.folder))  # who goes on finds it saved
    losses = [line["loss"] for line in run.read("metrics.jsonl") if line["loss"] is not None]
    part = max(1, len(losses) // 5)
    print(f"SFT: {len(examples)} conversations, {len(losses)} steps, loss {sum(losses[:part]) / part:.3f} -> "
          f"{sum(losses[-part:]) / part:.3f} (means of the first and the last fifth); saved in {run.folder}")
    return True


if __name__ == "__main__":
    command(main)
