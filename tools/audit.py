"""The audit of the tasks: are the questions different, right, short and quick, and can they be guessed?

    python r1ci.py tasks --audit                        200 seeds x 5 levels; exit code 1 if one falls short
    python r1ci.py tasks --audit --write docs/TASKS.md  the same, and the table as a file

Each question is drawn, its oracle program is run (in the sandbox, as a policy's program would be), and what
it printed goes through the task's own check; of some questions the answer is also tried in harmless other
forms and spoilt in many ways (`tools/verdicts.py`). Then lazy guessers try without reading:

    same answer   always the one answer that is right most often
    first option  always (A), in multiple choice
    copying       the first, the last or the largest number of the question, whichever does best
    learner       the best of the cheap learners in `tools/guessing.py`, at level 1

A figure must grow from level to level: the lines that the program executes, or the length of its answer or
of the question. Tasks that may be guessed or stay flat on purpose stand with a reason in `tools/remarks.py`.

Question lengths are given in characters and in tokens. The tokens are an estimate, because the audit runs
without any model: text is cut as Qwen's tokenizer cuts it before its merges (words with the space before
them, digits one by one, runs of other signs), and a piece counts as one token for every 8 lower-case letters,
3 capitals or 3 signs that it has.

Time is processor time for drawing and checking, and what the sandbox measured for the program.
"""
import contextlib
import io
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import mean, median
from typing import Any

from tqdm import tqdm

from runs import UserError
from task_families.kit import text as without_case
from tasks import LEVELS, SEED_START, Question, Task, select
from tools.guessing import learned
from tools.remarks import DIFFERS, FLAT, GUESSED
from tools.verdicts import wrong_verdicts

SEEDS = 200
DISTINCT = 200           # different questions that a task must have over 200 seeds and five levels
SLOW = 2.0               # seconds: drawing one question, or running its program
SLOW_CHECK = 0.05        # seconds: checking an honest answer
YES_NO_LIMIT = 0.60      # the same answer every time, where there are only two
CHOICE_LIMIT = 0.15      # the same above 1/k, where there are k options
OPEN_LIMIT = 0.50        # any lazy guesser anywhere else
LEARNER_LIMIT = 0.15     # a cheap learner above the share of the commonest answer, at level 1
JUDGE_FROM = 500         # questions from which on guessers are judged: with fewer, luck decides
FIRST_LEVEL = 5          # at level 1 so many times the seeds are drawn; half of them must be different
VERDICT_SEEDS = 20       # questions of each level whose answer is varied
MOST_STEPS = 50_000      # of a program so many steps are counted,
ALL_STEPS = 300_000      # and of a level as many programs as it takes to see so many, or all

_PIECES = re.compile(r"'(?:[sdmt]|ll|ve|re)|[^\r\n\w]?[^\W\d_]+|\d| ?[^\s\w]+[\r\n]*|_+|\s*[\r\n]+|\s+")


def estimate_tokens(prompt: str) -> int:
    """About how many tokens of a Qwen tokenizer the text has (the rule is above)."""
    count = 0
    for piece in _PIECES.findall(prompt):
        letters = [letter for letter in piece if letter.isalpha()]
        capitals = sum(letter.isupper() for letter in letters)
        if capitals > 1:
            count += ceil(capitals / 3) + ceil((len(letters) - capitals) / 8)
        else:
            count += ceil(len(letters) / 8) if letters else ceil(len(piece.strip()) / 3) or 1
    return count


@dataclass
class Row:
    """What the audit found out about one task. Shares are between 0 and 1."""
    task: Task
    questions: int
    distinct: int
    oracle: float               # share of questions that the program answers right
    chars: tuple[float, int]    # median, maximum
    tokens: tuple[float, int]
    draw_seconds: float         # the slowest of all questions
    oracle_seconds: float
    check_seconds: float
    kind: str                   # "yes/no" | "choice" | "open"
    constant: float             # what the lazy guessers get
    first: float | None
    copying: float
    first_level: int            # different questions at level 1
    verdicts: list[str]         # wrong ones
    learner: float | None       # what the best cheap learner gets at level 1
    growth: str                 # what grows from level to level, or "flat"
    problems: list[str] = field(default_factory=list)


def numbers_in(question: Question) -> tuple[str, str, str] | None:
    """The first, the last and the largest number of a question, its format line left out."""
    found = re.findall(r"-?[0-9]+(?:\.[0-9]+)?", question.prompt.rpartition("\n")[0])
    return (found[0], found[-1], max(found, key=float)) if found else None


def steps(program: str) -> int:
    """The lines that a program (ours, so it needs no sandbox) executes, or MOST_STEPS if it is more."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        count += event == "line"
        if count > MOST_STEPS:
            raise TimeoutError
        return trace

    code = compile(program, "<program>", "exec")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(TimeoutError):
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            exec(code, {"__name__": "__main__"})  # noqa: S102
        finally:
            sys.settrace(before)
    return count


def mean_steps(programs: Iterable[str]) -> float:
    """The steps of a program on average: of all, or where they are long of as many as make ALL_STEPS."""
    counts = []
    for program in programs:
        counts.append(steps(program))
        if sum(counts) >= ALL_STEPS:
            break
    return mean(counts)


def growth(task: Task, solved: dict[int, list[tuple[Question, str]]]) -> str:
    """The first figure that grows with every level (its means), or 'flat' and the steps."""
    figures = {
        "steps": [mean_steps(task.oracle(question) for question, _ in pairs) for pairs in solved.values()],
        "answer": [mean(len(answer) for _, answer in pairs) for pairs in solved.values()],
        "question": [mean(len(question.prompt) for question, _ in pairs) for pairs in solved.values()]}
    for name, values in figures.items():
        if all(a < b for a, b in zip(values, values[1:])):
            return f"{name} {' '.join(f'{value:.4g}' for value in values)}"
    return f"flat: steps {' '.join(f'{value:.4g}' for value in figures['steps'])}"


def first_level(task: Task, seeds: int) -> tuple[int, float | None, float]:
    """Different questions at level 1; what the best learner gets there, and the commonest answer."""
    train = [task.question(seed, 1) for seed in range(FIRST_LEVEL * seeds)]
    seen = {question.prompt for question in train}
    judged = [question for seed in range(2 * seeds)
              if (question := task.question(SEED_START["eval"] + seed, 1)).prompt not in seen]
    if not judged or train[0].data["answer"] is None:
        return len(seen), None, 0.0
    pairs = [[(question, question.data["answer"]) for question in questions] for questions in (train, judged)]
    commonest = Counter(answer for _, answer in pairs[1]).most_common(1)[0][1] / len(judged)
    return len(seen), learned(*pairs), commonest


def audit_task(task: Task, questions: list[Question], draw_seconds: float, results: Iterable[Any]) -> Row:
    """One row from a task's questions and what the sandbox says about their programs, in the same order."""
    answers, failures, solved = [], [], {}
    oracle_seconds = check_seconds = 0.0
    for question, result in zip(questions, results):
        printed = result.stdout.strip()
        before = time.thread_time()
        correct = result.status == "ok" and task.check(question, printed)
        check_seconds = max(check_seconds, time.thread_time() - before)
        oracle_seconds = max(oracle_seconds, result.seconds)
        answers.append(question.data["answer"] or printed)
        solved.setdefault(question.level, []).append((question, printed))
        if not correct:
            failures.append(f"level {question.level} seed {question.seed} ({result.status}): "
                            f"{printed[:40]!r}")

    def share(guesses: Iterable[str | None]) -> float:
        pairs = list(zip(questions, guesses))
        return sum(task.check(question, guess) for question, guess in pairs) / len(pairs)

    common = [answer for answer, _ in Counter(map(without_case, answers)).most_common(3)]
    letters = all(re.fullmatch(r"\([A-Z]\)", answer) for answer in answers)
    kind = "choice" if letters else "yes/no" if len(set(map(without_case, answers))) <= 2 else "open"
    numbers = [numbers_in(question) for question in questions]
    seeds = len(questions) // len(solved)
    verdicts = [] if failures else [line for pairs in solved.values()
                                    for line in wrong_verdicts(task, pairs[:VERDICT_SEEDS])]
    different, learner, commonest = first_level(task, seeds)
    chars = [len(question.prompt) for question in questions]
    tokens = [estimate_tokens(question.prompt) for question in questions]
    row = Row(
        task, len(questions), distinct=len({question.prompt for question in questions}),
        oracle=1 - len(failures) / len(questions),
        chars=(median(chars), max(chars)), tokens=(median(tokens), max(tokens)),
        draw_seconds=draw_seconds, oracle_seconds=oracle_seconds, check_seconds=check_seconds, kind=kind,
        constant=max(share([answer] * len(questions)) for answer in common),
        first=share(["(A)"] * len(questions)) if kind == "choice" else None,
        copying=max(share([number and number[i] for number in numbers]) for i in range(3)),
        first_level=different, verdicts=verdicts, learner=learner, growth=growth(task, solved))
    options = [len(re.findall(r"^\([A-Z]\) ", question.prompt, re.MULTILINE)) or 1 for question in questions]
    limit = (YES_NO_LIMIT if kind == "yes/no" else OPEN_LIMIT if kind == "open" else
             CHOICE_LIMIT + sum(1 / k for k in options) / len(options))
    needed = min(DISTINCT, DISTINCT * len(questions) // (SEEDS * len(LEVELS)))
    guessed, enough = max(row.constant, row.first or 0, row.copying), row.questions >= JUDGE_FROM
    row.problems = [problem for problem, found in (
        (f"{len(failures)} programs fail, such as {failures[:1]}", failures),
        (f"{row.distinct} different questions, {needed} needed", row.distinct < needed),
        (f"drawing takes {draw_seconds:.1f} s", draw_seconds > SLOW),
        (f"a program takes {oracle_seconds:.1f} s", oracle_seconds > SLOW),
        (f"a check takes {check_seconds:.2f} s", check_seconds > SLOW_CHECK),
        (f"a lazy guesser gets {guessed:.0%}, above {limit:.0%}",
         guessed > limit and enough),
        (f"{different} different questions at level 1, {FIRST_LEVEL * seeds // 2} needed",
         different < FIRST_LEVEL * seeds // 2),
        (f"{len(verdicts)} wrong verdicts, such as {verdicts[:1]}", verdicts),
        (f"a learner gets {learner or 0:.0%} at level 1, the commonest answer {commonest:.0%}",
         learner and learner > commonest + LEARNER_LIMIT and enough and task.name not in GUESSED),
        (f"no figure grows with the level ({row.growth})",
         row.growth.startswith("flat") and enough and task.name not in FLAT),
    ) if found]
    return row


@contextlib.contextmanager
def runner(sandbox_run: Callable[[str], Any] | None) -> Iterator[Callable[[list[str]], Iterable[Any]]]:
    """A function from programs to their results: `sandbox_run` one by one, or the sandbox, all at once."""
    if sandbox_run:
        yield lambda programs: map(sandbox_run, programs)
        return
    from sandbox import Sandbox  # here, so that an audit with a runner of its own needs no sandbox

    with Sandbox(timeout=5.0) as box:
        yield lambda programs: (future.result() for future in [box.submit(program) for program in programs])


def run_again_if_slow(programs: list[str], run_all: Callable[[list[str]], Iterable[Any]]) -> Iterator[Any]:
    """The results in order; what took too long runs up to three times more: the machine may be busy."""
    for program, result in zip(programs, run_all(programs)):
        for _ in range(3):
            if result.seconds > SLOW:
                result = min(result, *run_all([program]), key=lambda one: one.seconds)
        yield result


def audit(tasks: Iterable[Task], seeds: int = SEEDS, levels: Iterable[int] = LEVELS,
          sandbox_run: Callable[[str], Any] | None = None, quiet: bool = False) -> list[Row]:
    """One row per task, over the seeds 0 .. seeds - 1 at every level.

    `sandbox_run(program)` gives a result with `status`, `stdout` and `seconds`; the default is the sandbox.
    """
    rows, levels = [], tuple(levels)
    with runner(sandbox_run) as run_all:
        for task in (bar := tqdm(list(tasks), unit="task", disable=quiet)):
            bar.set_postfix_str(task.name)
            questions, slowest = [], 0.0
            for level in levels:
                for seed in range(seeds):
                    before = time.thread_time()
                    questions.append(task.question(seed, level))
                    slowest = max(slowest, time.thread_time() - before)
            results = run_again_if_slow([task.oracle(question) for question in questions], run_all)
            rows.append(audit_task(task, questions, slowest, results))
    return rows


HEADER = ("task", "suite", "split", "ability", "words do", "distinct", "level 1", "oracle", "wrong verdicts",
          "chars", "tokens", "draw s", "program s", "kind", "same answer", "first option", "copying",
          "learner", "grows with the level", "differs from the benchmark")


def cells(row: Row) -> list[str]:
    """The row as text, in the order of the header."""
    task = row.task
    return [task.name, task.suite, task.split, task.ability, "yes" if task.text_solvable else "",
            str(row.distinct), str(row.first_level),
            f"{row.oracle:.0%}" if row.oracle in (0, 1) else f"{row.oracle:.1%}", str(len(row.verdicts)),
            *(f"{middle:.0f} / {most}" for middle, most in (row.chars, row.tokens)),
            f"{row.draw_seconds:.2f}", f"{row.oracle_seconds:.2f}", row.kind, f"{row.constant:.0%}",
            "" if row.first is None else f"{row.first:.0%}", f"{row.copying:.0%}",
            "" if row.learner is None else f"{row.learner:.0%}" + f" ({GUESSED.get(task.name)})" * (
                task.name in GUESSED),
            row.growth + f" ({FLAT.get(task.name)})" * (row.growth.startswith("flat") and task.name in FLAT),
            DIFFERS.get(task.name, "")]


def table(rows: list[Row]) -> str:
    """The table for people: a markdown table with aligned columns."""
    lines = [list(HEADER), *map(cells, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    lines.insert(1, ["-" * width for width in widths])
    padded = ([cell.ljust(width) for cell, width in zip(line, widths)] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def summary(rows: list[Row]) -> str:
    """A sentence on the whole, and what falls short."""
    short = [f"- {row.task.name}: {'; '.join(row.problems)}" for row in rows if row.problems]
    return "\n".join([f"{len(rows)} tasks, {sum(row.questions for row in rows):,} questions: "
                      + (f"{len(short)} tasks fall short." if short else "all as they should be."), *short])


def report(rows: list[Row], seeds: int) -> str:
    """docs/TASKS.md."""
    return f"""# The tasks, audited

Made by `python r1ci.py tasks --audit --seeds {seeds} --write docs/TASKS.md`, never by hand.
{summary(rows)}

*words do*: a careful reader solves it without a computer; *distinct*: different questions among those drawn;
*oracle*: share of the questions that the task's own program answers right, judged by the task's own check;
*chars*, *tokens*: median / maximum length of a question (tokens are estimated, see `tools/audit.py`);
*level 1*: different questions among {FIRST_LEVEL * seeds} at level 1; *wrong verdicts*: of the check on
right answers in other clothes and on near misses (`tools/verdicts.py`); *draw s*, *program s*: the slowest
question; *same answer*, *first option*, *copying*: what lazy guessers get; *learner*: what the best of some
cheap learners gets at level 1, by words and numbers alone (`tools/guessing.py`); *grows with the level*:
lines that the program executes, or the length of its answer or of the question, at levels 1 to 5.

{table(rows)}
"""


def main(seeds: int = SEEDS, write: str | Path | None = None, selection: str = "all",
         sandbox_run: Callable[[str], Any] | None = None) -> int:
    """Audit, print, write the file if asked to; 1 if a task falls short, else 0."""
    tasks = select(selection)
    if any(task.pool for task in tasks):
        raise UserError("only tasks with programs can be audited, not those of a file")
    if write and not Path(write).absolute().parent.is_dir():
        raise UserError(f"cannot write {write}: there is no such folder")
    rows = audit(tasks, seeds, sandbox_run=sandbox_run)
    print(table(rows), summary(rows), sep="\n\n")
    if write:
        Path(write).write_text(report(rows, seeds), encoding="utf-8")
    return int(any(row.problems for row in rows))
