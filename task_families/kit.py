"""The kit that the 144 tasks are made of: what a task is, how answers are read, and shared material.

A task is one function. It draws a question with its own random generator and returns a `Draft`: the text,
a program that solves it, the answer (or, where many answers are right, the data its checker needs), and for
tasks that a careful reader solves without a computer the worked solution:

    @task("products", "RG", "train", "math", exact(integer))
    def products(rng, level):
        a, b = rng.randint(2, 10 ** level), rng.randint(2, 10 ** level)
        return Draft(f"What is {a} times {b}?\\nAnswer format: a whole number.",
                     program=f"print({a} * {b})", answer=str(a * b))

An answer is text from a language model: anything at all. What models put around an answer (bold, quotes,
brackets, a full stop ..) is taken off in one place, `unwrapped`, layer by layer: an answer is right if it is
right as it stands or without its outer layers. Parsers turn a reading into a value or raise `ValueError`;
`exact(parser)` compares values, `rounded(places)` allows half a unit of the last digit that was asked for,
checkers replay plans or test constraints. Nothing is ever evaluated: numbers are matched with ASCII patterns,
expressions are walked as syntax trees with exact fractions, and `Task.check` turns every failure into False.
Conventions (format line last, one right answer unless there is a checker, seeded by name, level and seed,
never by hash order) are tested for all tasks at once, and `tools/verdicts.py` tries harmless and harmful
changes of right answers on all of them.
"""
import ast
import inspect
import json
import operator
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any

MAX_ANSWER = 4_000  # characters; anything longer is wrong unread
ABILITIES = ("string", "math", "logic", "order", "search", "spatial", "code", "knowledge", "optimization")
LEVELS = (1, 2, 3, 4, 5)


# --------------------------------------------------------------------------------------------- what a task is
@dataclass(frozen=True)
class Question:
    """One drawn question. `data` is what the check and the oracle need; it never enters prompt or sandbox."""
    task: str
    seed: int
    level: int
    prompt: str
    data: dict = field(repr=False)


@dataclass
class Draft:
    """What a task's function returns.

    program: python that prints a right answer (standard library, data inlined as literals);
    answer: the right answer as text, for tasks with one; data: what a checker needs, for the others;
    reasoning: a worked solution in words, for text-solvable tasks; recheck: a second program that tests the
    answer another way (`{answer!r}` in it stands for what the first one printed), where there is a short one.
    """
    prompt: str
    program: str
    answer: str | None = None
    data: dict = field(default_factory=dict)
    reasoning: str | None = None
    recheck: str | None = None


@dataclass(frozen=True)
class Task:
    """A named family of questions with a rule-based check (no model judges anything).

    Questions are made by `make`. In a task from a file they stand in `pool`: seed i is question i there
    (round and round), and levels do not matter.
    """
    name: str
    suite: str  # "SymBench" | "BBH" | "RG" | "file"
    split: str  # "train" | "test"
    ability: str
    text_solvable: bool
    make: Callable[[random.Random, int], Draft] | None = field(repr=False)
    verify: Callable[[dict, str], bool] = field(repr=False)
    pool: tuple[Question, ...] = field(default=(), repr=False)

    def question(self, seed: int, level: int = 3) -> Question:
        """The question of this seed and level (1 easy .. 5 hard): the same on every run and machine."""
        if self.pool:
            return self.pool[seed % len(self.pool)]
        if level not in LEVELS:
            raise ValueError(f"level {level} does not exist: levels are 1 (easy) to 5 (hard)")
        # Seeding with a string goes through SHA-512, not through hash(): independent of PYTHONHASHSEED.
        draft = self.make(random.Random(f"{self.name}/{level}/{seed}"), level)
        data = {**draft.data, "answer": draft.answer, "program": inspect.cleandoc(draft.program),
                "reasoning": draft.reasoning and inspect.cleandoc(draft.reasoning),
                "recheck": draft.recheck and inspect.cleandoc(draft.recheck)}
        return Question(self.name, seed, level, draft.prompt.strip(), data)

    def check(self, question: Question, answer: str | None) -> bool:
        """Is this answer right? Total: False for anything unreadable, over-long or missing; never raises."""
        if not isinstance(answer, str) or not answer.strip() or len(answer) > MAX_ANSWER:
            return False
        options = lettered(question.prompt) if getattr(self.verify, "kind", "") == "choice" else {}
        return any(self.reads_right(question.data, as_letter(reading, options))
                   for reading in unwrapped(answer))

    def reads_right(self, data: dict, reading: str) -> bool:
        """The check of one reading of an answer; what cannot be read is wrong."""
        try:
            return bool(self.verify(data, reading))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, SyntaxError,
                RecursionError, MemoryError):
            return False

    def oracle(self, question: Question) -> str:
        """A python program that prints a right answer."""
        return question.data["program"]

    def reasoning(self, question: Question) -> str | None:
        """A worked solution in words that ends with <<<answer>>>, for text-solvable tasks; else None."""
        text, answer = question.data["reasoning"], question.data["answer"]
        return f"{text}\n<<<{answer}>>>" if text else None


REGISTRY: dict[str, Task] = {}


def task(name: str, suite: str, split: str, ability: str, verify: Callable[[dict, str], bool],
         text_solvable: bool = False):
    """Register the decorated `make(rng, level) -> Draft` as a task."""
    if name in REGISTRY or ability not in ABILITIES or split not in ("train", "test"):
        raise ValueError(f"task {name!r}: name taken, or unknown ability {ability!r} or split {split!r}")

    def register(make):
        REGISTRY[name] = Task(name, suite, split, ability, text_solvable, make, verify)
        return make
    return register


def grow(level: int, low: int, high: int) -> int:
    """A size that grows evenly from `low` at level 1 to `high` at level 5."""
    return round(low + (high - low) * (level - 1) / 4)


# --------------------------------------------------------------- the answer itself, and what is put around it
PLAIN_SIGNS = str.maketrans({"−": "-", "–": "-", "→": "->", "’": "'", "‘": "'", "“": '"', "”": '"',
                             "\u00a0": " "})
LAYERS = 6  # so many are taken off at most
WRAPPERS = [("**", "**"), ("__", "__"), ("$$", "$$"), ("$", "$"), ("`", "`"), ('"', '"'), ("'", "'"),
            ("\\(", "\\)"), ("\\[", "\\]"), ("\\boxed{", "}"), ("\\text{", "}"), ("(", ")"), ("[", "]"),
            ("{", "}")]
_FENCE = re.compile(r"```(?:[a-z]*\n)?(.*?)```", re.DOTALL)
_ANNOUNCED = re.compile(r"(?:the )?(?:final )?answer(?: is|:| =)\s*(.+)", re.DOTALL | re.IGNORECASE)


def encloses(left: str, right: str, answer: str) -> bool:
    """Does this pair of signs stand around the whole answer (and not around its first and last item)?"""
    if not answer.startswith(left) or not answer.endswith(right) or len(answer) < len(left) + len(right):
        return False
    inside = answer[len(left):len(answer) - len(right)]
    if left == right:
        return inside != "" and left not in inside
    depth = 0
    for sign in re.findall(f"[{re.escape(left[-1] + right[-1])}]", inside):
        depth += 1 if sign == left[-1] else -1
        if depth < 0:
            return False
    return depth == 0


def peeled(answer: str) -> str:
    """The answer without its outermost layer, if it has one."""
    if len(answer) > 1 and answer[-1] == "." != answer[-2]:
        return answer[:-1].rstrip()
    for pattern in (_FENCE, _ANNOUNCED):
        if (found := pattern.fullmatch(answer)):
            return found[1].strip()
    fitting = (pair for pair in WRAPPERS if answer[:1] == pair[0][0] and encloses(*pair, answer))
    left, right = next(fitting, ("", ""))
    return answer[len(left):len(answer) - len(right)].strip()


def unwrapped(answer: str) -> Iterator[str]:
    """The answer as it stands, then without one layer after another of what models put around an answer."""
    reading, before = answer.translate(PLAIN_SIGNS).strip(), None
    for _ in range(LAYERS + 1):
        if reading == before:
            break
        yield reading
        reading, before = peeled(reading), reading


@lru_cache(1000)
def bare(answer: str) -> str:
    """The answer without any layer."""
    return list(unwrapped(answer))[-1]


def lettered(prompt: str) -> dict[str, str]:
    """The options of a multiple choice question: letter -> text."""
    return dict(re.findall(r"^\(([A-Z])\) (.+)$", prompt, re.MULTILINE))


def as_letter(answer: str, options: dict[str, str]) -> str:
    """'(B) plum', 'B: plum' or 'plum' -> 'B' if plum is the text of option B; else the answer as it is."""
    if not options:
        return answer

    def words(option: str) -> str:
        return text(re.sub(r"[*`\"']", "", option).strip().removesuffix("."))

    found = re.fullmatch(r"\W*(?:option\s+)?([a-z])[]).:]+(.+)", answer, re.IGNORECASE | re.DOTALL)
    if found and words(found[2]) == words(options.get(found[1].upper(), "")):
        return found[1]
    said = words(answer)
    return next((letter for letter, option in options.items() if words(option) == said), answer)


# ---------------------------------------------------------------- parsers: one reading -> value or ValueError
# A parser's `kind` says what sort of answer it reads: tools/verdicts.py varies answers by their kind.
NUMBER_WORDS = {word: value for value, word in enumerate(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty twenty-one twenty-two twenty-three twenty-four twenty-five "
    "twenty-six twenty-seven twenty-eight twenty-nine thirty".split())}
SAME_WORDS = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}
_INTEGER = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.0*)?")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?")


def of_kind(kind: str):
    """Mark a parser with the sort of answer that it reads."""
    def mark(parser):
        parser.kind = kind
        return parser
    return mark


@of_kind("words")
def text(answer: str) -> str:
    """Words: case and inner spacing do not count; yes/true and no/false are the same."""
    words = " ".join(answer.casefold().split())
    return SAME_WORDS.get(words, words)


@of_kind("string")
def string(answer: str) -> str:
    """A string whose every character counts; only outer spaces and one pair of quotes go."""
    answer = answer.strip()
    return answer[1:-1] if len(answer) > 1 and answer[0] == answer[-1] and answer[0] in "\"'`" else answer


def value_part(answer: str) -> str:
    r"""'x = 5', 'F(x) = 5' -> '5' (one short name in front of one equals sign); \frac{1}{2} -> 1/2."""
    answer = re.sub(r"^\s*[A-Za-z]\w{0,9}(?:\(\w\))?\s*=(?!=)", "", answer).strip()
    return re.sub(r"\\[dt]?frac\s*\{([\w.-]+)\}\s*\{([\w.]+)\}", r"\1/\2", answer)


@of_kind("integer")
def integer(answer: str) -> int:
    """-12, 1,234, +5, 7.0, x = 3, or a number word up to thirty."""
    answer = value_part(answer)
    if answer.casefold().replace(" ", "-") in NUMBER_WORDS:
        return NUMBER_WORDS[answer.casefold().replace(" ", "-")]
    answer = re.sub(r"^([+-])\s+", r"\1", answer)
    if not _INTEGER.fullmatch(answer):
        raise ValueError(f"not an integer: {answer[:40]!r}")
    return int(answer.split(".")[0].replace(",", ""))


@of_kind("number")
def rational(answer: str) -> Fraction:
    """An integer, a decimal, e-notation, dollars or a/b, as an exact fraction."""
    parts = value_part(answer).removeprefix("$").split("/")
    if len(parts) > 2:
        raise ValueError("more than one fraction bar")
    values = []
    for part in parts:
        part = re.sub(r"^([+-])\s+", r"\1", part.strip())
        if not _DECIMAL.fullmatch(part) or not re.search("[0-9]", part) or not re.match("[+-]?[.0-9]", part):
            raise ValueError(f"not a number: {part[:40]!r}")
        values.append(Fraction(part.replace(",", "")))
    return values[0] / values[1] if len(values) == 2 else values[0]


@of_kind("choice")
def choice(answer: str) -> str:
    """B, (B), b), option B -> 'B'. Nothing may follow; `as_letter` has read the text of the option."""
    found = re.fullmatch(r"(?:option\s+)?(\([a-z]\)|[a-z]\)?)[.:]?", answer, re.IGNORECASE)
    if not found:
        raise ValueError("not a choice letter")
    return found[1].strip("()").upper()


@of_kind("list")
def pieces(answer: str) -> list[str]:
    """The items of a list as text: split on commas, else on blanks."""
    return [string(item) for item in (answer.split(",") if "," in answer else answer.split())]


def list_of(item: Callable[[str], Any]) -> Callable[[str], list]:
    """Parser of a list whose items `item` reads; order counts."""
    return of_kind("list")(lambda answer: [item(piece) for piece in pieces(answer)])


def steps_of(answer: str) -> list[str]:
    """The steps of a plan as text: split on line ends, commas and semicolons; numbers and bullets dropped."""
    steps = [string(step) for step in re.split(r"[\n,;]", answer) if step.strip()]
    return [re.sub(r"^(?:[0-9]{1,3}[.):]|[-*•])\s*", "", step).strip().removesuffix(".") for step in steps]


def mapping(answer: str) -> dict[str, str]:
    """'A=1, B=2', 'A: 1' line by line, or a JSON object of such: key -> value as text; no key twice."""
    parts = [part.strip() for part in re.split(r"[,;\n]", answer) if part.strip()]
    pairs = [[string(side) for side in re.split(r"=|->|:", part)] for part in parts]
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def rows(answer: str) -> list[str]:
    """The rows of a grid as text: split at '],[', else at ';', else at line ends; all brackets dropped."""
    if any(answer.count(left) != answer.count(right) for left, right in ("[]", "()", "{}")):
        raise ValueError("brackets that do not pair up")
    brackets = (r"\]\s*,?\s*\[", r"\)\s*,?\s*\(")
    between = next((sign for sign in (*brackets, ";") if re.search(sign, answer)), "\n")
    lines = [re.sub(r"[\[\](){}]", " ", line).strip(", \n\t") for line in re.split(between, answer)]
    return lines if between in brackets else list(filter(None, lines))


def matrix_of(item: Callable[[str], Any]) -> Callable[[str], list[list]]:
    """Parser of a grid: rows as in `rows`, entries split on commas or spaces."""
    return of_kind("grid")(lambda answer: [
        [item(string(entry)) for entry in re.split(r"\s*,\s*|\s+", line)] for line in rows(answer)])


def flat_of(item: Callable[[str], Any]) -> Callable[[str], list]:
    """Parser of a grid read row by row: the entries count, line ends and brackets do not."""
    return of_kind("list")(lambda answer: [entry for row in matrix_of(item)(answer) for entry in row])


def cells(answer: str) -> list[tuple[int, int]]:
    """'0 3, 1 0' or '(0, 3), (1, 0)': pairs of whole numbers, whatever separates them."""
    numbers = [int(number) if re.fullmatch(r"-?[0-9]{1,4}", number) else None
               for number in re.split(r"[\s,;\[\](){}\"'`]+", answer.strip(" \n,;[](){}\"'`."))]
    if None in numbers or len(numbers) % 2:
        raise ValueError("not a list of cells")
    return list(zip(numbers[::2], numbers[1::2]))


@of_kind("symbols")
def symbols(answer: str) -> list[str]:
    """Symbols one after the other; commas, white space, quotes and brackets do not count."""
    return list(re.sub(r"[\s,;|\[\](){}\"'`]", "", answer))


@of_kind("grid")
def symbol_rows(answer: str) -> list[list[str]]:
    """A grid of single symbols: separators do not count, the shape does."""
    return [symbols(row) for row in rows(answer)]


def folded(grid: list[list], width: int) -> list[list]:
    """A grid that stands on one line, cut into rows of this width; any other grid as it is."""
    if len(grid) != 1:
        return grid
    return [grid[0][start:start + width] for start in range(0, len(grid[0]), width)]


def with_givens(answer: str, puzzle: list[list], blank: Any) -> list[list[str]]:
    """A square board like the puzzle that keeps the symbols given there; ValueError for any other."""
    size = len(puzzle)
    grid = folded(symbol_rows(answer), size)
    kept = (given in (blank, entry) for row, line in zip(puzzle, grid) for given, entry in zip(row, line))
    if [len(row) for row in grid] != [size] * size or not all(kept):
        raise ValueError("not a board of this size with the symbols that were given")
    return grid


def literal(answer: str) -> Any:
    """A JSON value, or the same written as a python literal (data only, never code or a comment)."""
    if "#" in answer:
        raise ValueError("not a value")
    try:
        return json.loads(answer)
    except ValueError:
        return ast.literal_eval(answer)


def python_signs(answer: str) -> str:
    """An expression with the signs of print (times, divided by, ^) turned into python's."""
    for sign in (r"\times", r"\cdot"):
        answer = answer.replace(sign, "*")
    return answer.translate(str.maketrans({"×": "*", "·": "*", "÷": "/", "^": "**"})).strip()


def expression(answer: str) -> tuple[Fraction, list[int]]:
    """Value of an arithmetic expression, and the integers written in it from left to right.

    Allowed: integers, + - * / and parentheses; the signs x-times and divided-by are mapped; behind an equals
    sign may stand the value and nothing else. Exact fractions; ValueError or ZeroDivisionError for anything
    else. Nothing is evaluated as python.
    """
    source, *tail = python_signs(answer).split("=")
    if not re.fullmatch(r"[-+*/()0-9\s]{1,1000}", source) or "**" in source or "//" in source:
        raise ValueError("only numbers, + - * / and parentheses")
    numbers: list[int] = []

    def walk(node) -> Fraction:
        match node:
            case ast.Constant(value=number):
                numbers.append(number)
                return Fraction(number)
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -walk(inner)
            case ast.UnaryOp(op=ast.UAdd(), operand=inner):
                return walk(inner)
            case ast.BinOp(left=left, op=op, right=right):
                left, right = walk(left), walk(right)
                match op:
                    case ast.Add(): return left + right
                    case ast.Sub(): return left - right
                    case ast.Mult(): return left * right
                    case ast.Div(): return left / right
        raise ValueError("not an arithmetic expression")

    result = walk(ast.parse(" ".join(source.split()), mode="eval").body)
    if any(tail) and [rational(side) for side in tail] != [result]:
        raise ValueError("this is not equal")
    return result, numbers


# ----------------------------------------------------------------------------- checks: (data, answer) -> bool
def agree(found: Any, truth: Any, equal: Callable[[Any, Any], bool] = operator.eq) -> bool:
    """Are two values equal, or two lists or grids entry by entry? A grid may stand on one line."""
    if not isinstance(truth, list) or not isinstance(found, list):
        return not isinstance(found, list) and equal(found, truth)
    if truth and found and isinstance(truth[0], list) and isinstance(found[0], list):
        found = folded(found, len(truth[0]))
    return len(found) == len(truth) and all(agree(a, b, equal) for a, b in zip(found, truth))


def exact(parser: Callable[[str], Any]) -> Callable[[dict, str], bool]:
    """Right iff the parser reads the same value from the answer as from `data["answer"]`."""
    def check(data: dict, answer: str) -> bool:
        return agree(parser(answer), parser(bare(data["answer"])))
    return of_kind(getattr(parser, "kind", "own"))(check)


def within(found: Fraction, truth: Fraction, unit: Fraction) -> bool:
    """The one rule for tolerances: exact where the truth is a multiple of the unit, else half a unit."""
    return found == truth if truth % unit == 0 else abs(found - truth) <= unit / 2


def rounded(places: int, parser: Callable[[str], Any] = rational) -> Callable[[dict, str], bool]:
    """Right iff every number is `data["exact"]` (unrounded, as text) up to half a unit of the last place."""
    def check(data: dict, answer: str) -> bool:
        return agree(parser(answer), parser(data["exact"]), lambda found, truth: within(
            found, truth, Fraction(1, 10 ** places)))
    return of_kind(getattr(parser, "kind", "own"))(check)


# -------------------------------------------------------------------------------------------- shared material
def options(rng: random.Random, right: Any, wrong: Iterable) -> tuple[str, str, dict[str, str]]:
    """Lettered options in random order -> (lines to print, the right letter as '(B)', option -> letter)."""
    entries = [str(right), *map(str, wrong)]
    rng.shuffle(entries)
    letters = {entry: f"({chr(65 + i)})" for i, entry in enumerate(entries)}
    return "\n".join(f"{letter} {entry}" for entry, letter in letters.items()), letters[str(right)], letters


def capital(sentence: str) -> str:
    """With a capital at the start, the rest as it is."""
    return sentence[0].upper() + sentence[1:]


def with_article(noun: str) -> str:
    """'an apple', 'a pear'."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def enumeration(words: list[str], last: str = "and") -> str:
    """'a, b and c'."""
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else words[0]


def yes_no(truth: bool) -> str:
    """The answer to a yes/no question."""
    return "Yes" if truth else "No"


def grid_text(grid: list[list], separator: str = " ") -> str:
    """A grid printed row by row."""
    return "\n".join(separator.join(map(str, row)) for row in grid)


def numbered(lines: Iterable[str]) -> str:
    """One line each, with '1. ', '2. ' .. in front."""
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))


def code(*parts: str) -> str:
    """A program from parts, each of which may be an indented block; a blank line sets off the longer ones."""
    text = ""
    for before, part in zip(("", *parts), map(inspect.cleandoc, parts)):
        text += "\n" * (bool(text) + bool(text and "\n" in before.strip() + part)) + part
    return text


def listing(name: str, items: Iterable) -> str:
    """A line of python that names a list, one item per line."""
    return f"{name} = [\n" + "".join(f"    {item},\n" for item in items) + "]"


def words_of(level: int) -> list[str]:
    """The words that questions of a level draw from: 64 everyday words at level 1, else all."""
    return COMMON_WORDS if level == 1 else WORDS


def pick_word(rng: random.Random, low: int, high: int, words: list[str] | None = None) -> str:
    """A word of the list with `low` to `high` letters."""
    return rng.choice([word for word in words or WORDS if low <= len(word) <= high])


WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()

LETTER = "Answer format: the letter of one option in parentheses."
YES_NO = "Answer format: Yes or No."

GIRLS = ("Alice Anna Clara Diana Emma Eva Grace Hannah Ida Jane Julia Karen Laura Lena Lucy Maria Nina "
         "Olivia Paula Rosa Sarah Sofia Tina Vera").split()
BOYS = ("Adam Ben Carl David Eric Frank George Henry Ivan Jack James Leo Liam Lucas Mark Max Noah Oscar Paul "
        "Peter Robert Simon Thomas Victor").split()

COMMON_WORDS = (
    "apple banana bird boat bottle bread butter candle carrot cat chair cheese cherry clock coffee cookie "
    "cup dinner dog door elephant flower forest frog garden glass grass hammer hat honey horse house kettle "
    "key kitchen lake lamp lemon letter lion mirror moon music night ocean onion paper pepper pizza rabbit "
    "river road school sheep spoon strawberry street summer sun table tomato train tree window").split()
WORDS = (
    "acorn actor agent album alley amber angel ankle apple apron arena armor arrow attic autumn avocado "
    "badge bagel baker balloon bamboo banana banjo barn barrel basil basket beach beaver beetle bench berry "
    "bicycle bird biscuit blanket blossom boat bottle bowl branch bread brick bridge broom brother brush "
    "bubble bucket budget butter button cabbage cabin cactus camel camera candle canoe canvas captain "
    "caramel carbon carpet carrot castle cat cattle cave cellar cement cereal chain chair chalk cheese "
    "cherry chess chicken chimney cinema circle circus city clay cliff clock cloud clover coach coal coconut "
    "coffee collar comet compass concert cookie copper coral corn corner cotton cousin cradle crane crayon "
    "cream cricket crown crystal cup curtain dagger daisy dance danger deer desert desk dinner dog dolphin "
    "donkey door dragon drawer dream drum duck eagle earth echo elbow elephant engine envelope evening "
    "fabric falcon farmer feather fence fern field finger fire flag flame flower flute forest fork fossil "
    "fountain fox frame friend frog fruit garden garlic gate ghost giant ginger glacier glass globe glove "
    "goat gold grape grass guitar hammer harbor harvest hat hazel helmet hill honey horse hotel house "
    "iceberg insect iron island ivory jacket jar jewel juice jungle kettle key king kitchen kite kitten "
    "ladder lake lamp lantern leaf leather lemon letter library lily lion lizard lobster locket lumber "
    "machine magnet mango map maple marble market meadow medal melon metal milk mirror mitten monkey moon "
    "morning moss motor mountain mouse mushroom music napkin needle nest night noodle north nose oak oasis "
    "ocean olive onion orange orbit orchid otter oven owl oyster paddle paint palace pancake panda paper "
    "parade parrot pasta peach peanut pear pebble pelican pencil penguin pepper piano pickle picture pigeon "
    "pillow pilot pine pirate pizza planet plate plum pocket poem pond pony potato powder prince pumpkin "
    "puppet puzzle pyramid queen quilt rabbit radio rain raisin raven ribbon rice ring river road robin "
    "robot rocket roof root rope rose ruby saddle sailor salad salmon salt sand sandal scarf school scissors "
    "season seed shadow shark sheep shelf shell shield ship shoe shovel silk silver sister sky sled sleeve "
    "snail snow soap sock sofa soldier soup spade sparrow spider spinach spoon spring squirrel stable "
    "stadium star statue stone storm stove strawberry stream street sugar summer sun swan sweater sword "
    "table tailor tea temple tent thread throne thunder ticket tiger timber tomato torch tower tractor train "
    "treasure tree trumpet tulip tunnel turkey turtle umbrella uncle valley vase velvet village vinegar "
    "violet violin volcano waffle wagon wallet walnut walrus water wave whale wheat wheel whistle willow "
    "window winter wizard wolf wood wool yard yogurt zebra zipper").split()
