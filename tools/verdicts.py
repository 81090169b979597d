"""Verdicts: does a check call harmless changes of a right answer right, and harmful ones wrong?

A right answer (what the task's program prints) is put into other clothes that change nothing, and is spoilt
in ways that make it wrong. Both are made from the text of the answer and from its kind, which the task's
parser declares (`kit.of_kind`), so that a new task gets them for nothing:

    harmless    bold, quotes, brackets, a full stop ..; 7.0 for 7, a list as JSON, a grid on one line ..
    near miss   off by one, another order, something more, something less, a second answer, another
                question's answer, text behind an equals sign, a unit, another option's text ..

A checker without a kind accepts many answers. Of its near misses only those are tried that no solution can
be: an item that is missing or impossible, words behind the answer, two answers.
"""
import json
import re
from collections.abc import Iterable
from decimal import Decimal

from tasks import Question, Task, lettered

CLOTHES = ("  {}\n", "**{}**", "`{}`", '"{}"', "'{}'", "${}$", "({})", "[{}]", "{}.", "**{}.**", "Answer: {}",
           "The answer is {}.", "```\n{}\n```", "\\boxed{{{}}}")
_NUMBER = re.compile(r"(?<![\w.])[0-9]+(?:\.[0-9]+)?(?:e[+-][0-9]+)?(?![\w])")
_WORD = re.compile(r"\w+")
ORDERED = ("list", "grid", "symbols", "string")  # kinds of answer in which every other order is wrong


def dressed(answer: str) -> list[str]:
    """The answer in the clothes that fit: no quotes round quotes, no brackets round single brackets."""
    odd_brackets = any(answer.count(left) != answer.count(right) for left, right in ("()", "[]", "{}"))
    found = []
    for form in CLOTHES:
        left, right = (part.strip(" .\n") for part in form.format("\0").split("\0"))
        brackets = bool(set(left + right) & set("([{"))
        if not (brackets and odd_brackets or left == right and left and left in answer
                or form.endswith(".") and answer.endswith(".")):
            found.append(form.format(answer))
    return found


def items_of(answer: str) -> list[str]:
    """The items of a list as text."""
    inside = answer.strip("[]")
    return [item.strip(" '\"") for item in (inside.split(",") if "," in inside else inside.split())]


def numbers_like(answer: str) -> list[str]:
    """The same number written in other ways."""
    sign, digits = ("-", answer[1:]) if answer.startswith("-") else ("", answer)
    found = [f"x = {answer}", answer.replace("-", "−"), f"$x = {answer}$"]
    if digits.isdecimal():
        found += [f"{answer}.0", f"{sign}{int(digits):,}"] + [f"+{answer}"] * (not sign)
    if (fraction := re.fullmatch(r"(-?[0-9]+)/([0-9]+)", answer)):
        found += [rf"\frac{{{fraction[1]}}}{{{fraction[2]}}}", f"{fraction[1]} / {fraction[2]}"]
    return found


def like(kind: str, answer: str, options: dict[str, str]) -> list[str]:
    """The same answer as people of this kind of answer may write it."""
    if kind == "choice":
        letter = answer.strip("()")
        text = options[letter]
        return [letter, letter.lower(), f"{letter})", f"( {letter} )", f"Option {letter}", text, text.upper(),
                f"({letter}) {text}", f"({letter}){text}", f"{letter}: {text}.", f"**({letter})** {text}"]
    if kind in ("integer", "number"):
        return numbers_like(answer)
    if kind == "words":
        return [answer.upper(), answer.lower(), answer.replace(" ", "  ")]
    if kind == "list":
        items = items_of(answer)
        listed = ", ".join(items)
        return [listed, f"[{listed}]", f"({listed})", json.dumps(items), " ".join(items), ",".join(items)]
    if kind == "grid":
        rows = [re.split(r"[,\s]+", row) for row in answer.split("\n")]
        spaced, listed = [" ".join(row) for row in rows], [", ".join(row) for row in rows]
        return ["\n".join(spaced), "\n".join(listed), "; ".join(spaced), " ".join(spaced), json.dumps(rows),
                f"[[{'], ['.join(listed)}]]", "\n".join(f"[{row}]" for row in listed)]
    if kind == "symbols":
        return [" ".join(items_of(answer)), "".join(items_of(answer)), json.dumps(items_of(answer))]
    return []


def harmless(task: Task, question: Question, answer: str) -> list[str]:
    """The right answer in other words."""
    found = dressed(answer) + like(kind_of(task), answer, lettered(question.prompt))
    return [text for text in found if text.strip()]  # an empty list without its brackets is no answer


def off_by_one(number: str) -> str:
    """The next whole number; of a decimal two units of its last place, as one may be a tie of rounding."""
    mantissa, exponent = re.fullmatch(r"([0-9.]+)(.*)", number).groups()
    value = Decimal(mantissa)
    return f"{value + (Decimal(2).scaleb(value.as_tuple().exponent) if '.' in mantissa else 1):f}{exponent}"


def other_orders(kind: str, answer: str) -> list[str]:
    """Backwards, and the first two different items exchanged."""
    found = re.finditer(r"\w" if kind == "string" else r"[^\s,\[\]\"']+", answer)
    spans = [match.span() for match in found]
    items = [answer[start:end] for start, end in spans]
    at = next((i for i in range(len(items) - 1) if items[i] != items[i + 1]), None)
    if kind not in ORDERED or at is None:
        return []
    orders = [items[::-1], [*items[:at], items[at + 1], items[at], *items[at + 2:]]]
    return [filled(answer, spans, order) for order in orders if order != items]


def filled(answer: str, spans: list[tuple[int, int]], items: list[str]) -> str:
    """The answer with other items in these places."""
    for (start, end), item in reversed(list(zip(spans, items))):
        answer = answer[:start] + item + answer[end:]
    return answer


def near_misses(task: Task, question: Question, answer: str, others: list[str]) -> list[str]:
    """Wrong answers that look like the right one. `others`: answers to other questions of the task."""
    kind, options = kind_of(task), lettered(question.prompt)
    numbers = [match.span() for match in _NUMBER.finditer(answer)]
    places = numbers or [match.span() for match in _WORD.finditer(answer)] or [(0, len(answer))]
    ends = dict.fromkeys((places[0], places[-1]))
    found = [f"{answer} banana", f"{answer} = banana", f"{answer} kilograms", f"{answer} or banana", "banana",
             f"{answer} or {answer}", f"{answer} # x", f"not {answer}"]
    found += [filled(answer, [place], [impossible]) for place in ends for impossible in ("", "98765", "qqq")
              if impossible or answer[slice(*place)] != "0"]  # "0 + 1i" without its 0 is the same number
    if kind == "checked":
        return found + ["[]", "?"]
    different = [other for other in dict.fromkeys(others) if other.casefold() != answer.casefold()][:3]
    found += [filled(answer, [place], [off_by_one(answer[slice(*place)])]) for place in numbers[:2]]
    found += [f"{answer} {answer}", f"{answer}, {answer}", *other_orders(kind, answer), *different]
    found += [text for other in different[:2] for text in (f"{answer} or {other}", f"{answer} {other}",
                                                           f"{answer} = {other}", f"{other}, no, {answer}")]
    if kind == "choice":
        letter = answer.strip("()")
        for wrong in [other for other in options if other != letter][:2]:
            found += [f"({wrong})", options[wrong], f"({letter}) {options[wrong]}", f"({letter}) ({wrong})",
                      f"({wrong}) or ({letter})", f"({letter}) is wrong, it is ({wrong})"]
        found += [" ".join(f"({letter})" for letter in options), f"({letter}"]
    return found


def kind_of(task: Task) -> str:
    """What sort of answer the task's parser reads; 'checked' where a checker accepts many."""
    return getattr(task.verify, "kind", "checked")


def wrong_verdicts(task: Task, solved: list[tuple[Question, str]]) -> Iterable[str]:
    """Tries all of it on questions and their right answers; a line for each verdict that is wrong."""
    answers = [answer for _, answer in solved]
    for at, (question, answer) in enumerate(solved):
        where = f"level {question.level} seed {question.seed}"
        for text in harmless(task, question, answer):
            if not task.check(question, text):
                yield f"{where}: {text!r} is right, and counts as wrong"
        for text in near_misses(task, question, answer, answers[at + 1:] + answers[:at]):
            if task.check(question, text):
                yield f"{where}: {text!r} is wrong, and counts as right ({answer!r} is right)"
