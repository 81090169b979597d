"""The front door.

    python r1ci.py run --budget 20m         the whole story: untrained, SFT, curriculum, GRPO, evaluations, results page
    python r1ci.py ask "How many times does the letter r occur in strawberry?"
    python r1ci.py ask                      one question after the other; --mode, --run, --model openai:NAME ..
    python r1ci.py ablate --over algorithm  change one thing, and say whether it mattered
    python r1ci.py reproduce                the paper's claims on the tiny model: RESULTS.md
    python r1ci.py tasks                    all tasks; `tasks game24 --seed 3 --level 4` shows one question,
                                            `tasks --audit` checks them all
    python r1ci.py plan --model 7b --gpu-memory 24      what will be in memory, and what fits
    python r1ci.py export --run runs/3b/grpo --out r1ci-3b      the trained model as one ordinary folder
"""
import argparse
import os
import sys
from pathlib import Path

import torch

from experiments import ablate, report, results
from experiments import server as api
import evaluate
from tools import export
import grpo
from experiments import story as pipeline
from tools import bench, plan
import sandbox as sandboxes
from tools import audit
from chat import ChatError
from flags import make_parser, parse_levels, positive
from models import ModelError, exists
from rollout import Episode, Turn
from runs import command, fail
from tasks import TASKS, Question, TaskError, select


# ------------------------------------------------------------------------------------------------------------ tasks
def tasks_command(argv: list[str]) -> None:
    """List tasks, or show one question with its program, that program's real output and the verdict on it."""
    parser = argparse.ArgumentParser(prog="r1ci.py tasks", description=tasks_command.__doc__)
    parser.add_argument("selection", nargs="?", default="all", help="a task's name, or tiny, train, test, an ability ..")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--level", type=int, default=3, help="1 (easy) to 5 (hard)")
    parser.add_argument("--audit", action="store_true", help="check all questions of the selection: right, different, "
                        "short, quick, hard to guess; exit status 1 if a task falls short")
    parser.add_argument("--seeds", type=positive, default=audit.SEEDS, help="with --audit: seeds per level")
    parser.add_argument("--write", type=Path, help="with --audit: write the table to this file, such as TASKS.md")
    sandboxes.add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        parse_levels(str(args.level))
        if args.audit:
            select(args.selection)
            raise SystemExit(audit.main(args.seeds, args.write, args.selection))
        if args.selection in TASKS:
            with sandboxes.from_args(args) as box:
                show_question(TASKS[args.selection].question(args.seed, args.level), box)
            return
        chosen = select(args.selection)
    except (TaskError, argparse.ArgumentTypeError, sandboxes.SandboxError) as error:
        fail(error)
    for task in chosen:
        print(f"{task.name:36} {task.suite:9} {task.split:6} {task.ability:13}"
              f"{'text-solvable' if task.text_solvable else ''}".rstrip())
    train = sum(task.split == "train" for task in chosen)
    print(f"{len(chosen)} tasks: {train} to train on, {len(chosen) - train} held out")


def show_question(question: Question, box: sandboxes.Sandbox) -> None:
    """Print everything there is to know about a question."""
    task = TASKS[question.task]
    program = task.oracle(question)
    result = box.run(program)
    print(f"{task.name} ({task.suite}, {task.split}, {task.ability}), seed {question.seed}, level {question.level}\n\n"
          f"{question.prompt}\n\n--- program that solves it\n{program}\n\n--- its output\n{result.for_model()}\n\n"
          f"--- check of this output: {'right' if task.check(question, result.stdout.strip()) else 'WRONG'}")
    if task.text_solvable:
        print(f"\n--- solution in words\n{task.reasoning(question)}")


# -------------------------------------------------------------------------------------------------------------- ask
def ask_command(argv: list[str]) -> None:
    """Ask a model; reasoning, program, output and answer stream as they come. Without a question: asks for questions."""
    try:
        parser, _ = make_parser(argv, ask_command.__doc__, "r1ci.py ask", served=True)
        parser.add_argument("question", nargs="?", help="default: read questions from the terminal, one a line")
        parser.add_argument("--run", type=Path, help="run folder of the policy (default: the newest of --model)")
        parser.add_argument("--temperature", type=float, default=0.0, help="0: always the likeliest token")
        parser.add_argument("--seed", type=int, default=0)
        api.add_arguments(parser)
        sandboxes.add_arguments(parser)
        args = parser.parse_args(argv)
        folder = args.run or evaluate.newest(args.model)
        if args.run and not exists(args.run):
            fail(f"{args.run} holds no policy: give a stage's folder, such as runs/tiny/grpo")
        if folder is None and args.model == "tiny":
            folder = grpo.starting_point(grpo.parse([]))
        with sandboxes.from_args(args) as box, torch.no_grad():
            engine = evaluate.open_engine(args.model, folder, box, args)
            if args.question is not None:
                ask(engine, args.question, args)
            else:
                converse(engine, args)
    except (ModelError, TaskError, ChatError, sandboxes.SandboxError, api.ApiError) as error:
        fail(error)


def ask(engine, text: str, args: argparse.Namespace) -> None:
    """Answer one question on the terminal."""
    printer = Printer(getattr(engine, "tokenizer", None))
    streaming = {"on_token": printer.token} if printer.tokenizer else {}
    episode, = engine.run([Question("ask", 0, 1, text, {})], temperature=args.temperature, seed=args.seed,
                          on_turn=printer.turn, **streaming)
    print(f"\n{bold('answer:')} {episode.answer}" if episode.answer else f"\nno answer (stopped: {episode.stop})")


def converse(engine, args: argparse.Namespace) -> None:
    """One question after the other, each on its own, until the input ends. Ctrl-C stops an answer, not the program."""
    if sys.stdin.isatty():
        print(f"{args.model}, {args.mode} mode. One question a line; Ctrl-C stops an answer, Ctrl-D ends.")
    while True:
        try:
            text = input("> " if sys.stdin.isatty() else "").strip()
            if text:
                ask(engine, text, args)
        except KeyboardInterrupt:
            print("\n(stopped)")
        except api.ApiError as error:
            print(f"error: {error}", file=sys.stderr)
        except EOFError:
            return


def bold(text: str) -> str:
    """Bold on a terminal, plain elsewhere and with NO_COLOR."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text


class Printer:
    """Prints an episode as it is written; without a tokenizer (a server's model) turn by turn."""

    def __init__(self, tokenizer=None):
        self.tokenizer, self.ids, self.shown = tokenizer, [], 0

    def token(self, episode: Episode, token: int) -> None:
        """Print what the new token adds (half a character of several bytes waits for its other half)."""
        self.ids.append(token)
        text = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        if not text.endswith("\ufffd"):
            sys.stdout.write(text[self.shown:])
            sys.stdout.flush()
            self.shown = len(text)

    def turn(self, episode: Episode, turn: Turn) -> None:
        """A turn is over, or its program has run."""
        self.ids, self.shown = [], 0
        if turn.output is not None:
            print("".join(f"\n  | {line}" for line in turn.output.splitlines()))
            print(f"  ({turn.status}, {turn.seconds:.2f} s)", end="\n\n")
        elif not self.tokenizer:
            print(turn.text, end="", flush=True)


COMMANDS = {"run": pipeline.main, "ask": ask_command, "tasks": tasks_command, "plan": plan.main, "export": export.main,
            "ablate": ablate.ablate_command, "reproduce": ablate.reproduce_command,
            "report": report.main, "results": results.main, "bench": bench.main}


def main(argv: list[str] | None = None) -> None:
    """Dispatch to a command."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__.strip())
        return
    if argv[0] not in COMMANDS:
        fail(f"unknown command {argv[0]!r}: there are {', '.join(COMMANDS)}")
    COMMANDS[argv[0]](argv[1:])


if __name__ == "__main__":
    command(main)
