"""Your own questions: a JSONL file as a task, for `--tasks my.jsonl` in sft.py, grpo.py and evaluate.py.

    {"question": "How old is the oldest of Ann (7), Ben (9) and Cem (8)?", "answer": "9", "match": "number"}
    {"question": "Which is a fruit?", "options": ["stone", "plum"], "answer": "plum", "task": "my_choices"}

Fields: `question` and `answer`; optionally `task` (a name of your own, else the file's), `options` (a list,
printed as (A), (B) ..; the answer is an option's text or its letter) and `match`, how answers are compared:
exact (words; case and spacing do not count), number, list, choice (the default with options). This is how a
BIG-Bench-Hard, GSM8K or in-house file is used. A file brings no programs, so the warm start learns from its
answers only; a quarter of its questions, chosen by their text, is kept out of training.
"""
import json
from pathlib import Path

from runs import UserError
from task_families.kit import MAX_ANSWER, Question, Task, choice, exact, list_of, rational, text

MATCHES = {
    "exact": exact(text), "number": exact(rational), "list": exact(list_of(text)), "choice": exact(choice)}
FIELDS = {"question", "answer", "task", "options", "match"}


def letters(options: list[str]) -> dict[str, str]:
    """Letter -> option."""
    return {chr(65 + i): option for i, option in enumerate(options)}


def read_line(number: int, line: str, default_task: str) -> tuple[str, str, str, str]:
    """(task, prompt, answer, match) of one line; UserError with its number if it is malformed."""
    def wrong(what: str) -> UserError:
        return UserError(f"line {number}: {what}")

    try:
        record = json.loads(line)
    except ValueError as error:
        raise wrong(f"not JSON ({error})") from None
    if not isinstance(record, dict) or not {"question", "answer"} <= set(record):
        raise wrong('an object with "question" and "answer" is needed')
    if set(record) - FIELDS:
        raise wrong(f"unknown field {min(set(record) - FIELDS)!r}; there are {', '.join(sorted(FIELDS))}")
    answer = record["answer"]
    if isinstance(answer, bool) or not isinstance(answer, (str, int, float, list)):
        raise wrong("the answer must be text, a number or a list")
    answer = ", ".join(map(str, answer)) if isinstance(answer, list) else str(answer).strip()
    prompt, options, task = record["question"], record.get("options"), record.get("task", default_task)
    match = record.get("match", "choice" if options else "exact")
    if not isinstance(prompt, str) or not prompt.strip() or not answer or len(answer) > MAX_ANSWER:
        raise wrong("question and answer must not be empty")
    if not isinstance(task, str) or not task.strip():
        raise wrong("the task's name must be text")
    if match not in MATCHES:
        raise wrong(f"match is {', '.join(MATCHES)}, not {match!r}")
    if options is not None or match == "choice":
        if (not isinstance(options, list) or not 2 <= len(options) <= 26
                or not all(isinstance(option, str) for option in options)):
            raise wrong("options must be a list of 2 to 26 texts")
        named = letters(options)
        prompt = prompt.strip() + "\n" + "\n".join(f"({letter}) {option}" for letter, option in named.items())
        if match == "choice":
            by_text = [letter for letter, option in named.items() if option.strip() == answer]
            if not by_text and answer.strip("()").upper() not in named:
                raise wrong(f"the answer {answer!r} is none of the options")
            answer = f"({by_text[0] if by_text else answer.strip('()').upper()})"
    try:
        if not MATCHES[match]({"answer": answer}, answer):
            raise ValueError
    except ValueError:
        raise wrong(f"the answer {answer[:40]!r} cannot be read as {match}") from None
    return task.strip(), prompt.strip(), answer, match


def read_tasks(path: Path, taken: dict[str, Task]) -> list[Task]:
    """The tasks in a file, in order of appearance. A UserError names the line that is wrong."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"cannot read {path}: {reason}") from None
    pools: dict[str, list[Question]] = {}
    matches: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            task, prompt, answer, match = read_line(number, line, path.stem)
            if task in taken and not taken[task].pool:
                raise UserError(f"line {number}: {task!r} is the name of a built-in task; choose another")
            if matches.setdefault(task, match) != match:
                raise UserError(f"line {number}: task {task!r} was matched by {matches[task]} before, "
                                f"now by {match}")
        except UserError as error:
            raise UserError(f"{path}, {error}") from None
        data = {"answer": answer, "program": None, "reasoning": None, "recheck": None}
        pool = pools.setdefault(task, [])
        pool.append(Question(task, len(pool), 3, prompt, data))
    if not pools:
        raise UserError(f"{path} holds no questions")
    return [Task(name, "file", "file", "file", False, None, MATCHES[matches[name]], tuple(pool))
            for name, pool in pools.items()]
