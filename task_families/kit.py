"""The kit that the 144 tasks are made of: what a task is, how answers are read, and shared material.

A task is one function. It draws a question with its own random generator and returns a `Draft`: the text,
a program that solves it, the answer (or, where many answers are right, the data its checker needs), and for
tasks that a careful reader solves without a computer the worked solution:

    @task("products", "RG", "train", "math", exact(integer))
    def products(rng, level):
        a, b = rng.randint(2, 10 ** level), rng.randint(2, 10 ** level)
        return Draft(f"What is {a} times {b}?\\nAnswer format: a whole number.",
                     program=f"print({a} * {b})", answer=str(a * b))

An answer is text from a language model: anything at all. Parsers turn it into a value or raise `ValueError`;
`exact(parser)` compares values, checkers replay plans or test constraints. Nothing is ever evaluated: numbers
are matched with ASCII patterns, expressions are walked as syntax trees with exact fractions, and `Task.check`
turns every failure into False. Conventions (format line last, one right answer unless there is a checker,
seeded by name, level and seed, never by hash order) are tested for all tasks at once.
"""
import ast
import inspect
import json
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
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
        try:
            return bool(self.verify(question.data, answer))
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


# ----------------------------------------------------------------------- parsers: text -> value or ValueError
NUMBER_WORDS = {word: value for value, word in enumerate(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty twenty-one twenty-two twenty-three twenty-four twenty-five "
    "twenty-six twenty-seven twenty-eight twenty-nine thirty".split())}
SAME_WORDS = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}
_INTEGER = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.0*)?")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?")


def unwrapped(answer: str) -> str:
    """Without what models put around an answer: spaces, one pair of quotes or back-ticks, a full stop."""
    answer = answer.strip()
    if len(answer) > 1 and answer[-1] == "." and answer[-2] != ".":
        answer = answer[:-1].rstrip()
    for quote in ("```", "`", '"', "'", "**", "$"):
        if len(answer) > 2 * len(quote) and answer.startswith(quote) and answer.endswith(quote):
            return answer[len(quote):-len(quote)].strip()
    return answer


def text(answer: str) -> str:
    """Words: case and inner spacing do not count; yes/true and no/false are the same."""
    words = " ".join(unwrapped(answer).casefold().split())
    return SAME_WORDS.get(words, words)


def string(answer: str) -> str:
    """A string whose every character counts; only outer spaces and one pair of quotes go."""
    answer = answer.strip()
    return answer[1:-1] if len(answer) > 1 and answer[0] == answer[-1] and answer[0] in "\"'`" else answer


def value_part(answer: str) -> str:
    """'x = 5' -> '5' (one short name in front of one equals sign)."""
    return re.sub(r"^\s*[A-Za-z]\w{0,9}\s*=(?!=)", "", unwrapped(answer)).strip()


def integer(answer: str) -> int:
    """-12, 1,234, +5, 7.0, x = 3, or a number word up to thirty."""
    answer = value_part(answer)
    if answer.casefold().replace(" ", "-") in NUMBER_WORDS:
        return NUMBER_WORDS[answer.casefold().replace(" ", "-")]
    answer = re.sub(r"^([+-])\s+", r"\1", answer)
    if not _INTEGER.fullmatch(answer):
        raise ValueError(f"not an integer: {answer[:40]!r}")
    return int(answer.split(".")[0].replace(",", ""))


def rational(answer: str) -> Fraction:
    """An integer, a decimal, e-notation or a/b, as an exact fraction."""
    answer = value_part(answer)
    parts = answer.split("/")
    if len(parts) > 2:
        raise ValueError("more than one fraction bar")
    values = []
    for part in parts:
        part = re.sub(r"^([+-])\s+", r"\1", part.strip())
        if not _DECIMAL.fullmatch(part) or not re.search("[0-9]", part) or not re.match("[+-]?[.0-9]", part):
            raise ValueError(f"not a number: {part[:40]!r}")
        values.append(Fraction(part.replace(",", "")))
    return values[0] / values[1] if len(values) == 2 else values[0]


def choice(answer: str) -> str:
    """(B), B, b), option B, (B) some text -> 'B'."""
    found = re.fullmatch(r"(?:option\s+|answer\s+)?(?:\(([a-z])\)(?:\s.*)?|([a-z])(?:[).:](?:\s.*)?)?)",
                         unwrapped(answer), re.IGNORECASE | re.DOTALL)
    if not found:
        raise ValueError("not a choice letter")
    return (found[1] or found[2]).upper()


def pieces(answer: str) -> list[str]:
    """The items of a list as text: an outer pair of brackets dropped, split on commas, else on blanks."""
    answer = unwrapped(answer)
    if answer[:1] + answer[-1:] in ("[]", "()", "{}"):
        answer = answer[1:-1].strip()
    if not answer:
        return []
    items = answer.split(",") if "," in answer else re.split(r"\s+", answer)
    return [string(item) for item in items]


def list_of(item: Callable[[str], Any]) -> Callable[[str], list]:
    """Parser of a list whose items `item` reads; order counts."""
    return lambda answer: [item(piece) for piece in pieces(answer)]


def mapping(answer: str) -> dict[str, str]:
    """'A=1, B=2', 'A: 1' line by line, or a JSON object of such: key -> value as text; no key twice."""
    parts = [part.strip() for part in re.split(r"[,;\n]", unwrapped(answer).strip("{}")) if part.strip()]
    pairs = [[string(side) for side in re.split(r"[=:]", part)] for part in parts]
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def rows(answer: str) -> list[str]:
    """The rows of a matrix as text: split at line ends, ';' or '],[', all brackets dropped."""
    answer = unwrapped(answer)
    if any(answer.count(left) != answer.count(right) for left, right in ("[]", "()", "{}")):
        raise ValueError("brackets that do not pair up")
    lines = re.split(r"\n|;|\]\s*,\s*\[", answer)
    lines = [re.sub(r"[\[\](){}]", " ", line).strip().rstrip(",").strip() for line in lines]
    return [line for line in lines if line]


def matrix_of(item: Callable[[str], Any]) -> Callable[[str], list[list]]:
    """Parser of a matrix: rows as in `rows`, entries split on commas or spaces; the shape counts."""
    def parse(answer: str) -> list[list]:
        return [[item(string(entry)) for entry in re.split(r"\s*,\s*|\s+", line)] for line in rows(answer)]
    return parse


def flat_of(item: Callable[[str], Any]) -> Callable[[str], list]:
    """Parser of a matrix read row by row: the entries count, line ends and brackets do not."""
    return lambda answer: [entry for row in matrix_of(item)(answer) for entry in row]


def cells(answer: str) -> list[tuple[int, int]]:
    """'0 3, 1 0' or '(0, 3), (1, 0)': pairs of whole numbers, whatever separates them."""
    numbers = [int(number) if re.fullmatch(r"-?[0-9]{1,4}", number) else None
               for number in re.split(r"[\s,;\[\](){}\"'`]+", answer.strip(" \n,;[](){}\"'`."))]
    if None in numbers or len(numbers) % 2:
        raise ValueError("not a list of cells")
    return list(zip(numbers[::2], numbers[1::2]))


def symbols(answer: str) -> list[str]:
    """The symbols of a grid, row by row; commas, white space, quotes and brackets do not count."""
    return list(re.sub(r"[\s,;\[\](){}\"'`]", "", answer))


def literal(answer: str) -> Any:
    """A JSON value, or the same written as a python literal (data only, never code)."""
    answer = unwrapped(answer)
    try:
        return json.loads(answer)
    except ValueError:
        return ast.literal_eval(answer)


def python_signs(answer: str) -> str:
    """An expression with the signs of print (times, divided by, minus, ^) turned into python's."""
    return answer.translate(str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "^": "**"})).strip()


def expression(answer: str, variables: dict[str, Fraction] | None = None, powers: bool = False
               ) -> tuple[Fraction, list[int]]:
    """Value of an arithmetic expression, and the integers written in it from left to right.

    Allowed: integers, + - * / and parentheses, the given variables, and with `powers` also ** with an
    exponent from 0 to 50. The signs x-times, divided-by and ^ are mapped; '= 24' at the end is dropped.
    Exact fractions; ValueError or ZeroDivisionError for anything else. Nothing is evaluated as python.
    """
    source = python_signs(unwrapped(answer).split("=")[0])
    if len(source) > 1_000:
        raise ValueError("too long for an expression")
    numbers: list[int] = []

    def walk(node) -> Fraction:
        match node:
            case ast.Constant(value=int() as number) if not isinstance(number, bool):
                numbers.append(number)
                return Fraction(number)
            case ast.Name(id=name) if variables and name in variables:
                return Fraction(variables[name])
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -walk(inner)
            case ast.UnaryOp(op=ast.UAdd(), operand=inner):
                return walk(inner)
            case ast.BinOp(left=left, op=ast.Pow(), right=right) if powers:
                base, exponent = walk(left), walk(right)
                size = max(abs(base.numerator), base.denominator)
                if exponent.denominator != 1 or not 0 <= exponent <= 50 or size > 10**6:
                    raise ValueError("power out of range")
                return base ** int(exponent)
            case ast.BinOp(left=left, op=op, right=right):
                left, right = walk(left), walk(right)
                match op:
                    case ast.Add(): return left + right
                    case ast.Sub(): return left - right
                    case ast.Mult(): return left * right
                    case ast.Div(): return left / right
        raise ValueError("only numbers, + - * / and parentheses")

    return walk(ast.parse(source, mode="eval").body), numbers


# ----------------------------------------------------------------------------- checks: (data, answer) -> bool
def exact(parser: Callable[[str], Any]) -> Callable[[dict, str], bool]:
    """Right iff the parser reads the same value from the answer as from `data["answer"]`."""
    return lambda data, answer: parser(answer) == parser(data["answer"])


def near(tolerance: float, relative: bool = False) -> Callable[[dict, str], bool]:
    """Right iff the number lies within the tolerance of `data["answer"]`."""
    def check(data: dict, answer: str) -> bool:
        truth, found = rational(data["answer"]), rational(answer)
        return abs(found - truth) <= Fraction(tolerance) * (abs(truth) if relative else 1)
    return check


def near_all(tolerance: float, parser: Callable[[str], list] | None = None) -> Callable[[dict, str], bool]:
    """Right iff lists (or matrices) of numbers agree in shape and in every entry within the tolerance."""
    parser = parser or list_of(rational)

    def agree(truth, found) -> bool:
        if isinstance(truth, list) != isinstance(found, list):
            return False
        if isinstance(truth, list):
            return len(truth) == len(found) and all(map(agree, truth, found))
        return abs(truth - found) <= Fraction(tolerance)
    return lambda data, answer: agree(parser(data["answer"]), parser(answer))


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
