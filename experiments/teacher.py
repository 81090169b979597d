"""Conversations from a teacher: a stronger model is asked, and what it got right is what the warm start learns from.

    python sft.py --model 3b --teacher openai:gpt-4o          the paper's way (then set OPENAI_API_KEY)
    python sft.py --model 3b --teacher FOLDER_OR_HUB_ID       a model on this machine

The paper (section 3.2) asks GPT-4o in several ways (words only, code, free choice), keeps the conversations whose final
answer is right, at most 70 per task, 6.5k in all. Here each question is asked in one of VARIANTS, drawn from its name. In
each round every task that is still short of --per-task gets as many new questions as it lacks. What is learned is the
conversation under the *student's* head prompt: the variants are there to get different solutions, not to be learned.

Each answer is kept in the run folder as soon as it is there (teacher-ROUND-MODE-STYLE.jsonl), so an interrupted
`sft.py --resume` does not ask, or pay for, anything twice.
"""
import argparse
import math
import random
from pathlib import Path

import torch

from experiments import server as api
import evaluate
import memory
import sandbox as sandboxes
from chat import RESULTS, Protocol
from presets import preset
from rollout import Episode
from runs import Log, RunError
from tasks import Question, Task, draw

VARIANTS = (("interpreter", "full"), ("interpreter", "short"), ("code", "full"), ("text", "full"))


def record(episode: Episode, chat: Protocol, kind: str) -> dict:
    """An episode as a conversation to learn from, in the form of trajectories.make."""
    messages = chat.messages(episode.question.prompt)
    for turn in episode.turns:
        messages.append({"role": "assistant", "content": turn.text})
        if turn.output is not None:
            messages.append({"role": "user", "content": RESULTS + turn.output})
    return {"task": episode.question.task, "seed": episode.question.seed, "level": episode.question.level, "kind": kind,
            "messages": messages}


def variant_of(question: Question, variants: list[tuple[str, str]]) -> tuple[str, str]:
    """The way in which this question is asked."""
    return random.Random(f"variant/{question.task}/{question.level}/{question.seed}").choice(variants)


def conversations(tasks: list[Task], chat: Protocol, folder: Path, args: argparse.Namespace) -> list[dict]:
    """At most --per-task right conversations per task; kind: the mode in which the teacher was asked."""
    variants = [(mode, style) for mode, style in VARIANTS if args.mode in ("interpreter", mode)]
    wanted = min(args.per_task, math.ceil(args.steps * args.batch / len(tasks)) if args.steps else args.per_task)
    kept: dict[str, list[dict]] = {task.name: [] for task in tasks}
    asked = dict.fromkeys(kept, 0)
    theirs = argparse.Namespace(**{**vars(args), "random_weights": False, "layers": None})
    if not args.teacher.startswith(api.PREFIX):
        theirs.quantize = preset(args.teacher)["quantize"]
    with sandboxes.from_args(args) as box, torch.no_grad():
        engine = evaluate.open_engine(args.teacher, None, box, theirs)
        for turn in range(args.teacher_rounds):
            questions = []
            for task in tasks:
                lacking = wanted - len(kept[task.name])
                questions += draw([task], "sft", lacking, args.levels, start=asked[task.name])
                asked[task.name] += lacking
            for mode, style in variants:
                mine = [question for question in questions if variant_of(question, variants) == (mode, style)]
                if not mine:
                    continue
                evaluate.speak(engine, mode, style)
                log = Log(folder / f"teacher-{turn}-{mode}-{style}.jsonl",
                                   {"teacher": args.teacher, "temperature": args.teacher_temperature, "round": turn})
                _, episodes = evaluate.evaluate(
                    engine, mine, temperature=args.teacher_temperature, seed=args.seed + turn, log=log, alone=True,
                    save_every=4 * args.slots, name=f"teacher, round {turn + 1}, {mode}, {style}")
                for episode in episodes:
                    if episode.correct:
                        kept[episode.question.task].append(record(episode, chat, mode))
    del engine
    memory.release()
    made = [one for group in kept.values() for one in group]
    if not made:
        raise RunError(f"the teacher {args.teacher} was right at none of {sum(asked.values())} questions: nothing to learn "
                       "from (easier --levels, other --tasks, a stronger teacher)")
    tasks_left = sum(len(group) < wanted for group in kept.values())
    print(f"teacher: {len(made)} right conversations from {sum(asked.values())} questions; {tasks_left} of {len(tasks)} "
          f"tasks have fewer than {wanted} (more: --teacher-rounds)")
    return made
