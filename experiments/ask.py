"""Asking a model on the terminal: `r1ci.py ask "How many ..?"`; without a question, one after the other.

Reasoning, programs, their output and the answer stream as they come. What a program prints is shown, not
obeyed: an escape code of it cannot paint over the terminal.
"""
import argparse
import os
import re
import sys
from pathlib import Path

from runs import SEED, SERVED, UserError, make_parser, real


def main(argv: list[str]) -> None:
    """Ask a model; reasoning, program, output and answer stream as they come. Without a question: asks for
    questions."""
    parser, _ = make_parser(argv, main.__doc__, "r1ci.py ask", served=True)
    parser.add_argument("question", nargs="?", help="default: read questions from the terminal, one a line")
    parser.add_argument("--run", type=Path, help="run folder of the policy (default: the newest of --model)")
    parser.add_argument("--temperature", type=real(0, 10), default=0.0,
                        help="0: always the likeliest token")
    parser.add_argument("--seed", type=SEED, default=0, help="of sampling")
    from experiments import server
    server.add_arguments(parser)
    args = parser.parse_args(argv)
    import torch

    import evaluate
    import grpo
    import models
    import sandbox
    models.device_of(args.device)
    folder = args.run or evaluate.newest(args.model)
    if args.run and not models.exists(args.run):
        raise UserError(f"{args.run} holds no policy: give a stage's folder, such as runs/tiny/grpo")
    if folder is None and args.model == "tiny":
        folder = grpo.starting_point(grpo.parse([]))
    if args.model == "tiny":
        print(what_the_tiny_model_knows(), file=sys.stderr)
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")  # odd bytes are no question, but no crash either
    open_engine = server.open_engine if args.model.startswith(SERVED) else evaluate.open_engine
    with sandbox.from_args(args) as box, torch.no_grad():
        engine = open_engine(args, folder, box)
        if args.question is not None:
            ask(engine, args.question, args)
        else:
            answer_questions(engine, args)


def what_the_tiny_model_knows() -> str:
    """What it can be asked, with examples in the wording it was trained on."""
    from tasks import draw, select
    tasks = select("tiny")
    examples = [question.prompt.partition("\nAnswer format")[0] for question in draw(tasks, "rl", 3, (1,))]
    said = (f"The tiny model knows only the {len(tasks)} kinds of questions it was trained on, in their own "
            "words (python r1ci.py tasks tiny). For example:")
    return "\n  ".join([said, *examples])


def plain(text: str) -> str:
    """Text without control characters; what they are is written out."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)


def ask(engine, text: str, args: argparse.Namespace) -> None:
    """Answer one question on the terminal."""
    from tasks import Question
    printer = Printer(getattr(engine, "tokenizer", None))
    streaming = {"on_token": printer.token} if printer.tokenizer else {}
    episode, = engine.run([Question("ask", 0, 1, text, {})], temperature=args.temperature, seed=args.seed,
                          on_turn=printer.turn, **streaming)
    print(f"\n{bold('answer:')} {plain(episode.answer)}" if episode.answer
          else f"\nno answer (stopped: {episode.stop})")


def answer_questions(engine, args: argparse.Namespace) -> None:
    """One question after the other, each on its own, until the input ends. Ctrl-C, or a server that fails,
    stops the answer, not the program."""
    if sys.stdin.isatty():
        print(f"{args.model}, {args.mode} mode. One question a line; Ctrl-C stops an answer, Ctrl-D ends.")
    while True:
        try:
            text = input("> " if sys.stdin.isatty() else "").strip()
            if text:
                ask(engine, text, args)
        except KeyboardInterrupt:
            print("\n(stopped)")
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
        except EOFError:
            return


def bold(text: str) -> str:
    """Bold on a terminal, plain elsewhere and with NO_COLOR."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text


class Printer:
    """Prints an episode as it is written; without a tokenizer (a server's model) turn by turn."""

    def __init__(self, tokenizer=None):
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.shown = 0

    def token(self, episode, token: int) -> None:
        """Print what the new token adds (half a character of several bytes waits for its other half)."""
        self.ids.append(token)
        text = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        if not text.endswith("\ufffd"):
            sys.stdout.write(plain(text[self.shown:]))
            sys.stdout.flush()
            self.shown = len(text)

    def turn(self, episode, turn) -> None:
        """A turn is over, or its program has run."""
        self.ids = []
        self.shown = 0
        if turn.output is not None:
            print("".join(f"\n  | {line}" for line in plain(turn.output).splitlines()))
            print(f"  ({turn.status}, {turn.seconds:.2f} s)", end="\n\n")
        elif not self.tokenizer:
            print(plain(turn.text), end="", flush=True)
