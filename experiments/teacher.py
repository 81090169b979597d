"""Conversations from a teacher: a stronger model is asked, and what it gets right is there to learn from.

    python r1ci.py teach --teacher openai:gpt-4o --model 3b --out data.jsonl
                                                        the paper's way (then set OPENAI_API_KEY)
    python r1ci.py teach --teacher FOLDER_OR_HUB_ID --out data.jsonl        a model on this machine
    python r1ci.py teach --teacher coder-0.5b --model coder-0.5b --samples 8 --out data.jsonl
                                    itself: it learns from what it got right (STaR, arXiv 2203.14465)
    python sft.py --model 3b --data data.jsonl                              the student learns from it

The paper (section 3.2) asks GPT-4o in several ways (words only, code, free choice) and keeps the
conversations whose final answer is right, at most 70 per task, 6.5k in all. Here each question is asked in
one mode, drawn from its name, --samples times. In each round every task that is still short of --per-task
gets as many new questions as it lacks. What is learned is the conversation under the *student's* instructions
(--model says who that is): the modes are there to get different solutions, not to be learned.

If a task has more right answers than --per-task, first comes one of each question, then a second of each ..;
among these, several turns before one, and programs that ran before programs that failed (`worth`).

Each answer is kept as it comes, in files beside --out (data.round1-text.jsonl ..): an interrupted
command started again asks, and pays for, nothing twice.
"""
import argparse
import random
from pathlib import Path

from chat import Chat
from experiments import server
from experiments.episodes import occurrences
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

MODES = ("interpreter", "interpreter", "code", "text")  # free choice twice, as the paper has two such agents
STYLES = {"short": "full"}  # student's -> its teacher's, if that is another
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
    add("--samples", type=whole(1, 1024), default=1, help="answers per question; more of a weak teacher")
    add("--temperature", type=real(0, 10), default=1.0, help="of the teacher")
    add("--seed", type=SEED, default=0, help="of the teacher's sampling")
    add("--overwrite", action="store_true", help="forget the answers that are there and ask again")
    server.add_arguments(parser)
    return parser.parse_args(argv)


def as_conversation(episode, student: Chat) -> dict:
    """An episode as a conversation to learn from, in the form of trajectories.make."""
    messages = student.messages(episode.question.prompt)
    for turn in episode.turns:
        messages.append({"role": "assistant", "content": turn.text})
        if turn.output is not None:
            messages.append({"role": "user", "content": student.results(turn.output)})
    question = episode.question
    return {"task": question.task, "seed": question.seed, "level": question.level,
            "kind": "code" if episode.calls else "text", "messages": messages}


def mode_of(question: Question, mode: str) -> str:
    """The mode in which this question is asked, for a student of some mode."""
    name = f"variant/{question.task}/{question.level}/{question.seed}"
    return random.Random(name).choice(MODES) if mode == "interpreter" else mode


def worth(episode) -> tuple[bool, int]:
    """Which of two right answers is the better example? The larger of these."""
    statuses = [turn.status for turn in episode.turns if turn.status]
    return len(statuses) > 1 and statuses[-1] == "ok", -sum(status != "ok" for status in statuses)


def best(right: list, count: int) -> list:
    """`count` of a task's right answers to learn from: one of each question first, the best ones first."""
    ordered = sorted(right, key=worth, reverse=True)
    places = occurrences((episode.question.seed, episode.question.level) for episode in ordered)
    return [ordered[i] for _, i in sorted(zip(places, range(len(ordered))))[:count]]


def open_teacher(args: argparse.Namespace, box):
    """The engine that asks the teacher: a server's, or one for a model on this machine."""
    if args.teacher.startswith(SERVED):
        return server.open_engine(argparse.Namespace(**{**vars(args), "model": args.teacher}), None, box)
    import evaluate
    own = {"model": args.teacher, "quantize": preset(args.teacher)["quantize"], "random_weights": False}
    return evaluate.open_engine(argparse.Namespace(**{**vars(args), **own}), None, box)


def ask_in_rounds(engine, args: argparse.Namespace) -> dict[str, list]:
    """Task -> its right episodes, at most --per-task of them; prints how often it was right, task by task."""
    import evaluate
    tasks = select(args.tasks)
    style = STYLES.get(args.style, args.style)
    settings = {name: value for name, value in vars(args).items() if name not in FREE}
    right: dict[str, list] = {task.name: [] for task in tasks}
    asked = dict.fromkeys(right, 0)
    for number in range(1, args.rounds + 1):
        questions = []
        for task in tasks:
            lacking = max(0, args.per_task - len(right[task.name]))
            questions += draw([task], "sft", lacking, args.levels, start=asked[task.name])
            asked[task.name] += lacking
        for mode in sorted(set(MODES)):
            chosen = [question for question in questions if mode_of(question, args.mode) == mode]
            if not chosen:
                continue
            engine.speak(mode, style)
            answers = args.out.with_name(f"{args.out.stem}.round{number}-{mode}.jsonl")
            log = evaluate.Log(answers, {**settings, "round": number}, args.overwrite)
            _, episodes = evaluate.evaluate(
                engine, chosen, samples=args.samples, temperature=args.temperature,
                seed=args.seed + number - 1, log=log, save_every=4 * args.slots if args.exact else None,
                name=f"teacher, round {number}, {mode}")
            for episode in episodes:
                if episode.correct:
                    right[episode.question.task].append(episode)
    if not any(right.values()):
        raise UserError(f"the teacher {args.teacher} was right at none of {sum(asked.values())} questions: "
                        "nothing to learn from (easier --levels, other --tasks, a stronger teacher)")
    kept = {task: best(episodes, args.per_task) for task, episodes in right.items()}
    print(pass_rates(right, kept, {task: count * args.samples for task, count in asked.items()}))
    return kept


def pass_rates(right: dict[str, list], kept: dict[str, list], asked: dict[str, int]) -> str:
    """How often the teacher was right, by task, the best one first; and in all."""
    lines = [f"{'task':34}{'right':>7}{'asked':>7}{'rate':>7}{'kept':>6}{'with code':>11}"]

    def add(name: str, good: int, count: int, chosen: list) -> None:
        code = sum(episode.calls > 0 for episode in chosen)
        rate = good / max(1, count)
        lines.append(f"{name:34}{good:7}{count:7}{rate:7.0%}{len(chosen):6}{code:11}")

    for task in sorted(right, key=lambda task: (-len(right[task]) / max(1, asked[task]), task)):
        add(task, len(right[task]), asked[task], kept[task])
    everything = [episode for group in kept.values() for episode in group]
    add("all", sum(map(len, right.values())), sum(asked.values()), everything)
    return "\n".join(lines)


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
    student = Chat(None, args.mode, args.style, args.answer_format)
    write_jsonl(args.out, [as_conversation(episode, student) for group in kept.values() for episode in group])
    print(f"written to {args.out}; to learn from it: python sft.py --model {args.model} --data {args.out}")
