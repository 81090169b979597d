"""Your own files: questions for `--tasks my.jsonl`, conversations for `sft.py --data my.jsonl`. JSON lines.

    {"question": "How old is the oldest of Ann (7), Ben (9) and Cem (8)?", "answer": "9", "match": "number"}
    {"question": "Which is a fruit?", "options": ["stone", "plum"], "answer": "plum", "task": "my_choices"}
    {"question": "Ann has 3 plums and eats one. How many are left?", "answer": "3 - 1 = 2\\n#### 2"}

Fields of a question: `question` and `answer`; optionally `task` (a name of your own, else the file's),
`options` (a list, printed as (A), (B) ..; the answer is an option's text or its letter) and `match`, how
answers are compared: exact (words; case and spacing do not count), number, list, choice (the default with
options). Other fields are left alone. An answer as in GSM8K, a solution and then `#### number`, is taken
apart. A file brings no programs, so the warm start learns from solutions and answers only; a quarter of its
questions, chosen by their text, is kept out of training.

    {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "<<<4>>>"}]}
    {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "<<<4>>>"}]}

A conversation may begin with a system message, else it gets ours. What a program printed is a user message
that begins with "Code Execution Results:". A line that cannot be used is refused by its number.
"""
import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path

from runs import UserError
from task_families.kit import MAX_ANSWER, Question, Task, choice, exact, list_of, rational, text

MATCHES = {
    "exact": exact(text), "number": exact(rational), "list": exact(list_of(text)), "choice": exact(choice)}
ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}


def objects(path: Path) -> Iterator[tuple[int, dict]]:
    """(line number, object) of each line that is not empty. UserError: file and line of another one."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    # Not splitlines(): it would also split at U+2028, which may stand in a JSON text.
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError:
            raise UserError(f"{path}, line {number}: not UTF-8 text") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(record, dict):
            raise UserError(f"{path}, line {number}: an object is needed, {{..}}, one in each line")
        yield number, record


# -------------------------------------------------------------------------------------------------- questions
def solution_and_number(answer: str) -> tuple[str | None, str, bool]:
    """GSM8K's "3 - 1 = <<3-1=2>>2 left\\n#### 2" -> ("3 - 1 = 2 left", "2", True); others as they are."""
    solution, mark, final = answer.rpartition("####")
    if not mark or not final.strip():
        return None, answer, False
    return re.sub(r"<<[^<>]*>>", "", solution).strip() or None, final.strip().replace(",", ""), True


def letters(options: list[str]) -> dict[str, str]:
    """Letter -> option."""
    return {chr(65 + i): option for i, option in enumerate(options)}


def question_of(record: dict) -> tuple[str, str, str, str | None]:
    """(prompt, answer, match, solution) of one line; UserError if it is malformed."""
    if not {"question", "answer"} <= set(record):
        raise UserError('an object with "question" and "answer" is needed')
    prompt, answer, options = record["question"], record["answer"], record.get("options")
    if isinstance(answer, bool) or not isinstance(answer, (str, int, float, list)):
        raise UserError("the answer must be text, a number or a list")
    answer = ", ".join(map(str, answer)) if isinstance(answer, list) else str(answer).strip()
    solution, answer, numeric = solution_and_number(answer)
    match = record.get("match", "choice" if options else "number" if numeric else "exact")
    if not isinstance(prompt, str) or not prompt.strip() or not answer:
        raise UserError("question and answer must not be empty")
    if len(answer) > MAX_ANSWER:
        raise UserError(f"the answer has {len(answer)} characters; {MAX_ANSWER} is the most")
    if match not in MATCHES:
        raise UserError(f"match is {', '.join(MATCHES)}, not {match!r}")
    if options is not None or match == "choice":
        if (not isinstance(options, list) or not 2 <= len(options) <= 26
                or not all(isinstance(option, str) for option in options)):
            raise UserError("options must be a list of 2 to 26 texts")
        named = letters(options)
        prompt = prompt.strip() + "\n" + "\n".join(f"({letter}) {option}" for letter, option in named.items())
        if match == "choice":
            by_text = [letter for letter, option in named.items() if option.strip() == answer]
            if not by_text and answer.strip("()").upper() not in named:
                raise UserError(f"the answer {answer[:40]!r} is none of the options")
            answer = f"({by_text[0] if by_text else answer.strip('()').upper()})"
    try:
        if not MATCHES[match]({"answer": answer}, answer):
            raise ValueError
    except (ValueError, ArithmeticError):
        raise UserError(f"the answer {answer[:40]!r} cannot be read as {match}") from None
    return prompt.strip(), answer, match, solution


def read_tasks(path: Path, taken: dict[str, Task]) -> list[Task]:
    """The tasks in a file, in order of appearance; a question that comes twice is taken once. UserError: a
    line that is wrong."""
    built_in = {name for name, task in taken.items() if not task.pool}
    usual = f"{path.stem}_file" if path.stem in built_in else path.stem
    pools: dict[str, dict[str, Question]] = {}  # task -> prompt -> question
    matches: dict[str, str] = {}
    for number, record in objects(path):
        try:
            name = record.get("task", usual)
            if not isinstance(name, str) or not name.strip():
                raise UserError("the task's name must be text")
            name = name.strip()
            if name in built_in:
                raise UserError(f"{name!r} is the name of a built-in task; choose another")
            prompt, answer, match, solution = question_of(record)
            if matches.setdefault(name, match) != match:
                raise UserError(f"task {name!r} was matched by {matches[name]} before, now by {match}")
            data = {"answer": answer, "program": None, "reasoning": solution, "recheck": None}
            pool = pools.setdefault(name, {})
            if pool.setdefault(prompt, Question(name, len(pool), 3, prompt, data)).data["answer"] != answer:
                raise UserError("the same question has another answer further up")
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
    if not pools:
        raise UserError(f"{path} holds no questions")
    return [Task(name, "file", "file", "file", all(q.data["reasoning"] for q in pool.values()), None,
                 MATCHES[matches[name]], tuple(pool.values())) for name, pool in pools.items()]


# ---------------------------------------------------------------------------------------------- conversations
def messages_of(record: dict, system: str) -> list[dict]:
    """The messages of one line, a system message first; UserError if it is malformed."""
    turns = record.get("messages", record.get("conversations"))
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise UserError("a list `messages` (of role, content) or `conversations` (of from, value) is needed")
    messages = []
    for turn in turns:
        name, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if not isinstance(name, str) or name not in ROLES:
            raise UserError(f"{name!r} is no role: there are system, user and assistant (what a program "
                            'printed is a user message that begins with "Code Execution Results:")')
        if not isinstance(content, str) or not content.strip():
            raise UserError(f"a message of the {ROLES[name]} has no text")
        learn = {"learn": False} if turn.get("learn") is False else {}
        messages.append({"role": ROLES[name], "content": content, **learn})
    if messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    others = [message["role"] for message in messages[1:]]
    if not others or others != ["user", "assistant"] * (len(others) // 2):
        raise UserError("after the system message, user and assistant take turns, and the assistant ends")
    return messages


def read_conversations(path: Path, system: str) -> list[dict]:
    """The conversations in a file; `system` where one has no system message. UserError: a wrong line."""
    found = []
    for number, record in objects(path):
        try:
            found.append({"task": record.get("task"), "messages": messages_of(record, system)})
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
    if not found:
        raise UserError(f"{path} holds no conversations")
    return found
