"""Conversations from a teacher: a stronger model is asked, and what it gets right is there to learn from.

    python r1ci.py teach --teacher openai:gpt-4o --model 3b --out data.jsonl
                                                        the paper's way (then set OPENAI_API_KEY)
    python r1ci.py teach --teacher FOLDER_OR_HUB_ID --out data.jsonl        a model on this machine
    python sft.py --model 3b --data data.jsonl                              the student learns from it

The paper (section 3.2) asks GPT-4o in several ways (words only, code, free choice) and keeps the
conversations whose final answer is right, at most 70 per task, 6.5k in all. Here each question is asked in
one of VARIANTS, drawn from its name. In each round every task that is still short of --per-task gets as many
new questions as it lacks. What is learned is the conversation under the *student's* head prompt (--model says
who that is): the variants are there to get different solutions, not to be learned.

Each answer is kept as it comes, in files beside --out (data.round1-text-full.jsonl ..): an interrupted
command started again asks, and pays for, nothing twice.
"""
import argparse
import random
from pathlib import Path

from chat import RESULTS, Chat
from experiments import server
from runs import (
    SEED,
    SERVED,
    UserError,
    check_writable,
    make_parser,
    preset,
    real,
    whole,
    world_size,
    write_jsonl,
)
from tasks import Question, draw, select

VARIANTS = (("interpreter", "full"), ("interpreter", "short"), ("code", "full"), ("text", "full"))
FREE = server.FREE | {"out", "overwrite", "rounds", "device"}  # flags that change no answer


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; defaults come from the preset of --model, the student."""
    parser, values = make_parser(argv, __doc__.split("\n\n")[0], "r1ci.py teach")
    add = parser.add_argument_group("teacher").add_argument
    add("--teacher", required=True, help=f"who is asked: {SERVED}NAME, a preset, a hub id or a folder")
    add("--out", type=Path, required=True, help="file for the conversations, as messages JSONL")
    add("--per-task", type=whole(), default=values["sft"]["per_task"], help="most conversations per task")
    add("--rounds", type=whole(), default=2,
        help="rounds of new questions for tasks with too few right answers")
    add("--temperature", type=real(0, 10), default=1.0, help="of the teacher")
    add("--seed", type=SEED, default=0, help="of the teacher's sampling")
    add("--overwrite", action="store_true", help="forget the answers that are there and ask again")
    server.add_arguments(parser)
    return parser.parse_args(argv)


def as_conversation(episode, student: Chat, kind: str) -> dict:
    """An episode as a conversation to learn from, in the form of trajectories.make."""
    messages = student.messages(episode.question.prompt)
    for turn in episode.turns:
        messages.append({"role": "assistant", "content": turn.text})
        if turn.output is not None:
            messages.append({"role": "user", "content": RESULTS + turn.output})
    question = episode.question
    return {"task": question.task, "seed": question.seed, "level": question.level, "kind": kind,
            "messages": messages}


def variant_of(question: Question, variants: list[tuple[str, str]]) -> tuple[str, str]:
    """The way in which this question is asked."""
    name = f"variant/{question.task}/{question.level}/{question.seed}"
    return random.Random(name).choice(variants)


def open_teacher(args: argparse.Namespace, box):
    """The engine that asks the teacher: a server's, or one for a model on this machine."""
    if args.teacher.startswith(SERVED):
        return server.open_engine(argparse.Namespace(**{**vars(args), "model": args.teacher}), None, box)
    import evaluate
    own = {"model": args.teacher, "quantize": preset(args.teacher)["quantize"], "random_weights": False}
    return evaluate.open_engine(argparse.Namespace(**{**vars(args), **own}), None, box)


def ask_in_rounds(engine, args: argparse.Namespace) -> dict[str, list[dict]]:
    """Task -> its right conversations, at most --per-task; kind: the mode in which the teacher was asked."""
    import evaluate
    tasks = select(args.tasks)
    student = Chat(None, args.mode, args.style, args.answer_format)
    variants = [(mode, style) for mode, style in VARIANTS if args.mode in ("interpreter", mode)]
    settings = {name: value for name, value in vars(args).items() if name not in FREE}
    kept: dict[str, list[dict]] = {task.name: [] for task in tasks}
    asked = dict.fromkeys(kept, 0)
    for number in range(1, args.rounds + 1):
        questions = []
        for task in tasks:
            lacking = args.per_task - len(kept[task.name])
            questions += draw([task], "sft", lacking, args.levels, start=asked[task.name])
            asked[task.name] += lacking
        for mode, style in variants:
            chosen = [question for question in questions if variant_of(question, variants) == (mode, style)]
            if not chosen:
                continue
            engine.speak(mode, style)
            answers = args.out.with_name(f"{args.out.stem}.round{number}-{mode}-{style}.jsonl")
            log = evaluate.Log(answers, {**settings, "round": number}, args.overwrite)
            _, episodes = evaluate.evaluate(
                engine, chosen, temperature=args.temperature, seed=args.seed + number - 1, log=log,
                save_every=4 * args.slots, name=f"teacher, round {number}, {mode}, {style}")
            for episode in episodes:
                if episode.correct:
                    kept[episode.question.task].append(as_conversation(episode, student, mode))
    if not any(kept.values()):
        raise UserError(f"the teacher {args.teacher} was right at none of {sum(asked.values())} questions: "
                        "nothing to learn from (easier --levels, other --tasks, a stronger teacher)")
    short = sum(len(group) < args.per_task for group in kept.values())
    right = sum(map(len, kept.values()))
    print(f"teacher: {right} right conversations from {sum(asked.values())} questions; {short} of "
          f"{len(tasks)} tasks have fewer than {args.per_task} (more: --rounds)")
    return kept


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot work, before anything is asked."""
    select(args.tasks)
    if world_size() > 1:
        raise UserError("a teacher is asked by one process: start r1ci.py teach without torchrun")
    check_writable(args.out)
    if args.out.exists() and not list(args.out.parent.glob(f"{args.out.stem}.round1-*.jsonl")):
        raise UserError(f"{args.out} is there already, and not from this command: give another --out")


def teach_command(argv: list[str]) -> None:
    """Ask a teacher, and write what it gets right to --out."""
    args = parse(argv)
    check(args)
    import torch

    import sandbox
    with sandbox.from_args(args) as box, torch.no_grad():
        kept = ask_in_rounds(open_teacher(args, box), args)
    write_jsonl(args.out, [record for group in kept.values() for record in group])
    print(f"written to {args.out}; to learn from it: python sft.py --model {args.model} --data {args.out}")
