"""Questions: the registry of 144 tasks, how to select and draw them, and how an answer is found in a text.

    TASKS["game24"].question(seed=3, level=4)      one question, the same on every machine
    select("tiny"), select("test"), select("game24,letters"), select("math"), select("my.jsonl")
    draw(select("tiny"), "eval", 400, levels=(1,))  400 held-out questions, tasks and levels in turn

Held out means held out: training and evaluation use disjoint seeds, and one prompt in four, chosen by its
SHA-256, is for evaluation alone. So no training question is an evaluation question, word for word.

The 144 names, suites and abilities follow the paper's sources (33 SymBench, 27 BIG-Bench-Hard, 84
Reasoning-Gym). Texts, generators, checkers and the choice of the 37 test tasks are ours: the paper's split is
not published in a form that could be checked."""
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from runs import UserError
from task_families import (  # noqa: F401  (importing a family registers its tasks)
    bbh,
    gym_logic,
    gym_math,
    gym_search,
    gym_spatial,
    gym_text,
    symbench,
)
from task_families.kit import ABILITIES, LEVELS, MAX_ANSWER, REGISTRY, Question, Task, lettered
from task_families.own_file import read_tasks

__all__ = ["LEVELS", "Question", "SEED_START", "TASKS", "TINY", "Task", "draw", "extract_answer", "held_out",
           "lettered", "select"]

TASKS: dict[str, Task] = REGISTRY
# Short questions and short programs, six that need code and two that words solve as well: for the tiny model.
TINY = ("letter_counting", "word_sorting", "word_sequence_reversal", "products", "count_bits", "chain_sum",
        "web_of_lies", "aiw")
SEED_START = {"sft": 0, "rl": 1_000_000, "eval": 2_000_000}  # seed ranges of the three uses


def select(selection: str) -> list[Task]:
    """Tasks by 'all', 'train', 'test', 'tiny', suite, ability, name or JSONL file, separated by commas."""
    chosen: list[Task] = []
    for word in filter(None, (part.strip() for part in selection.split(","))):
        if word.endswith((".jsonl", ".json")):
            found = read_tasks(Path(word).expanduser(), TASKS)
            TASKS.update({task.name: task for task in found})  # the engine looks tasks up by name
        else:
            found = [task for task in TASKS.values()
                     if word in ("all", task.name, task.split, task.ability)
                     or word == "tiny" and task.name in TINY or word.lower() == task.suite.lower()]
        if not found:
            raise UserError(f"no task, suite or ability is called {word!r}: try tiny, train, test, all, "
                            f"{', '.join(ABILITIES)}, or a name that `python r1ci.py tasks` lists")
        chosen += [task for task in found if task not in chosen]
    if not chosen:
        raise UserError("no task selected: try tiny, train, test, or names separated by commas")
    return chosen


def held_out(question: Question) -> bool:
    """Does this question's text belong to evaluation (one in four)?"""
    return hashlib.sha256(question.prompt.encode()).digest()[0] % 4 == 0


def draw(tasks: Iterable[Task], purpose: str, count: int, levels: Iterable[int] = LEVELS, start: int = 0
         ) -> list[Question]:
    """`count` questions for "sft", "rl" or "eval": tasks in turn, then levels, each from its own seed range.
    Question i of "sft" and "rl" is always the same, so a run that resumes at `start` continues the sequence.
    Among "eval" no text comes twice: it would be one observation counted as two. So there may be fewer."""
    # Mixed by a hash of the name, so that a few questions come from all kinds of tasks, not from one suite.
    tasks = sorted(tasks, key=lambda task: hashlib.sha256(task.name.encode()).digest())
    levels = tuple(levels)
    own = {task.name: [q for q in task.pool if held_out(q) == (purpose == "eval")]
           for task in tasks if task.pool}
    questions, asked = [], set()
    for index in range(start, start + count):
        turn, task = index // len(tasks), tasks[index % len(tasks)]
        pool = own.get(task.name)
        if pool == []:
            raise UserError(f"the file of task {task.name!r} is too small: by their text, none of its "
                            f"{len(task.pool)} questions is for {purpose}")
        # Three texts of four are not for "eval", and of those that are some were asked before.
        level, seed = levels[turn % len(levels)], SEED_START[purpose] + 50 * turn
        candidates = pool[turn % len(pool):] if pool else (
            task.question(seed + attempt, level) for attempt in range(1000))
        question = next((q for q in candidates
                         if held_out(q) == (purpose == "eval") and q.prompt not in asked), None)
        if question is not None:
            questions.append(question)
            asked |= {question.prompt} if purpose == "eval" else set()
        elif purpose != "eval":
            raise UserError(f"{task.name} has too few different questions at level {level}")
    return questions


_ANSWERS = {
    "angle": re.compile(r"<<<((?:(?!<<<).)*?)>>>(?!>)", re.DOTALL),  # the innermost pair
    "boxed": re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}"),
    "tags": re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL),
}
_FENCED = re.compile(r"^([ \t]*)```.*?(?:^\1?```[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)


def extract_answer(text: str, answer_format: str = "angle") -> str | None:
    """The last answer in the policy's own words, fenced code left out; None if there is none. `text` must be
    what the policy wrote: tool output never belongs in it. An answer that is too long is none."""
    found = _ANSWERS[answer_format].findall(_FENCED.sub("", text))
    answer = found[-1].strip() if found else ""
    return answer if answer and len(answer) <= MAX_ANSWER else None
