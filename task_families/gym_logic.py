"""Reasoning-Gym tasks about logic, patterns and programs (names are the suite's, texts and code are ours)."""
import re
from collections import Counter
from fractions import Fraction
from itertools import product

from task_families.kit import (
    BOYS,
    GIRLS,
    WORDS,
    Draft,
    exact,
    grid_text,
    grow,
    integer,
    list_of,
    pick_word,
    pieces,
    string,
    symbol_rows,
    symbols,
    task,
    text,
)
from task_families.puzzles import bfs

# --------------------------------------------------------------------------------------- patterns to continue
# f(x, y) as the question and as python write it.
GRID_RULES = {"x + y": lambda x, y: x + y, "abs(x - y)": lambda x, y: abs(x - y), "x * y": lambda x, y: x * y}


@task("modulo_grid", "RG", "train", "logic", exact(symbols))
def modulo_grid(rng, level):
    size, holes, divisors = grow(level, 6, 12), grow(level, 4, 8), range(2, grow(level, 5, 10))
    cells = [(y, x) for y in range(size) for x in range(size)]
    while True:
        rule, divisor = rng.choice(list(GRID_RULES)), rng.choice(divisors)
        rest = rng.randrange(divisor)
        grid = {(y, x): int(GRID_RULES[rule](x, y) % divisor == rest) for y, x in cells}
        values = [rng.randint(0, 1) for _ in range(holes)]  # the answer is as often 1 as 0
        if min(Counter(grid.values())[value] for value in (0, 1)) < 8:
            continue
        hidden = sorted(cell for value in (0, 1) for cell in rng.sample(
            [cell for cell in cells if grid[cell] == value], values.count(value)))
        shown = [cell for cell in cells if cell not in hidden]
        fitting = [[int(f(x, y) % d == t) for y, x in hidden]
                   for f in GRID_RULES.values() for d in range(2, 10) for t in range(d)
                   if all((f(x, y) % d == t) == grid[y, x] for y, x in shown)]
        if all(found == fitting[0] for found in fitting):
            break
    board = [["?" if (y, x) in hidden else grid[y, x] for x in range(size)] for y in range(size)]
    return Draft(
        f"One hidden rule fills this grid:\n{grid_text(board)}\nThe cell in row y and column x (both counted "
        "from 0) is 1 if f(x, y) divided by d leaves the remainder t, and 0 otherwise. Here f(x, y) is x + y "
        "or |x - y| or x * y, and d is from 2 to 9. Which numbers belong in the cells marked ?, row by row "
        "from the top left?\n"
        "Answer format: the zeros and ones, such as 0110",
        program=f"""
            rows = {[" ".join(map(str, row)) for row in board]}
            grid = [row.split() for row in rows]
            cells = [(x, y) for y in range({size}) for x in range({size})]

            def solve():
                for f in [{", ".join(f"lambda x, y: {rule}" for rule in GRID_RULES)}]:
                    for d in range(2, 10):
                        for t in range(d):
                            value = {{(x, y): str(int(f(x, y) % d == t)) for x, y in cells}}
                            if all(grid[y][x] in ("?", value[x, y]) for x, y in cells):
                                return [value[x, y] for x, y in cells if grid[y][x] == "?"]

            print("".join(solve()))""",
        answer="".join(str(grid[cell]) for cell in hidden))


def equal(values):
    return len(set(values)) == 1


def continuations(terms):
    """The next term by every rule of the pool that fits all shown terms (see `number_sequence`)."""
    steps = [b - a for a, b in zip(terms, terms[1:])]
    bends = [b - a for a, b in zip(steps, steps[1:])]
    found = set()
    if equal(bends):  # arithmetic, or a polynomial of degree 2
        found.add(terms[-1] + steps[-1] + bends[-1])
    if all(c == a + b for a, b, c in zip(terms, terms[1:], terms[2:])):
        found.add(terms[-1] + terms[-2])
    if all(a == b for a, b in zip(steps, steps[2:])):  # two steps in turn
        found.add(terms[-1] + steps[-2])
    if all(a * steps[1] == b * steps[0] for a, b in zip(steps, steps[1:])):  # geometric, or times m plus c
        found.add(terms[-1] + steps[-1] * steps[1] // steps[0])
    if all(equal(b - a for a, b in zip(terms[i::2], terms[i + 2::2])) for i in (0, 1)):  # two in turn
        found.add(2 * terms[-2] - terms[-4])
    return found


# What else a reader may think of: (terms needed before it starts, the next term from those before).
SEQUENCE_RIVALS = [
    *((2, lambda t, p=p, q=q: p * t[-1] + q * t[-2]) for p in range(-3, 4) for q in range(-3, 4)),
    (2, lambda t: t[-1] * t[-2]), (2, lambda t: abs(t[-1] - t[-2])),
    (3, lambda t: t[-1] + t[-2] + t[-3]),
    (3, lambda t: 2 * t[-1] - t[-3]),  # the differences, or the terms up to a constant, as Fibonacci's
    (3, lambda t: t[-1] * Fraction(t[-2], t[-3])),  # two factors in turn
    (3, lambda t: t[-1] * (2 * Fraction(t[-1], t[-2]) - Fraction(t[-2], t[-3]))),  # factors that grow evenly
    (4, lambda t: 4 * t[-1] - 6 * t[-2] + 4 * t[-3] - t[-4]),  # a polynomial of degree 3
    (4, lambda t: t[-1] + t[-3] - t[-4]),  # three steps in turn
    (4, lambda t: t[-2] * Fraction(t[-2], t[-4])),  # two geometric ones in turn
    *((3, lambda t, m=m, odd=odd: t[-1] * m if len(t) % 2 == odd else t[-1] + t[-2] - t[-3])
      for m in (-3, -2, -1, 2, 3, 4) for odd in (0, 1))]  # times m and plus c in turn


def possible_terms(terms):
    """The next terms by all rules and rivals that fit: more than one is too many."""
    def fits(start, rule):
        try:
            return len(terms) > start + 1 and all(
                rule(terms[:i]) == terms[i] for i in range(start, len(terms)))
        except ZeroDivisionError:
            return False

    return continuations(terms) | {rule(terms) for start, rule in SEQUENCE_RIVALS if fits(start, rule)}


def sequence(rng, kind, length, size):
    """`length` + 1 terms of a sequence of this kind, and how the last one comes about."""
    start, step = rng.randint(-size, size), rng.choice([n for n in range(-size, size + 1) if abs(n) > 1])
    other = rng.choice([n for n in range(-size, size + 1) if n not in (0, step, -step)])
    factor = rng.choice((2, 3, -2, -3) if size > 15 else (2, 3))
    terms = [start or 1]
    for i in range(length):
        last = terms[-1]
        match kind:
            case "arithmetic":
                terms.append(last + step)
                why = f"Each term is the one before plus {step}, so the next is {last} + {step}"
            case "alternating":
                change = other if i % 2 else step
                terms.append(last + change)
                why = (f"The steps are {step} and {other} in turn. The next step is {change}: "
                       f"{last} + {change}")
            case "quadratic":
                change = step + other * i
                terms.append(last + change)
                shown = ", ".join(str(step + other * j) for j in range(length - 1))
                why = (f"The differences are {shown}: each is the one before plus {other}. The next "
                       f"difference is {change}: {last} + {change}")
            case "geometric":
                terms.append(last * factor)
                why = f"Each term is the one before times {factor}: {last} * {factor}"
            case "fibonacci":
                terms.append(last + terms[-2] if i else step)
                why = ("From the third term on, each is the sum of the two before: "
                       f"{terms[-3] if i else 0} + {last}")
            case "affine":
                terms.append(factor * last + step)
                why = f"Each term is the one before times {factor}, plus {step}: {last} * {factor} + {step}"
            case "interleaved":
                change = step if i % 2 else other
                terms.append(terms[-2] + change if i else terms[0] + size)
                why = ("Every other term forms a sequence of its own. The one whose turn it is changes by "
                       f"{change} each time: {terms[-3] if i else 0} + {change}")
    return terms, why.replace("+ -", "- ").replace("plus -", "minus ")


@task("number_sequence", "RG", "test", "logic", exact(integer), text_solvable=True)
def number_sequence(rng, level):
    kinds = ("arithmetic", "geometric", "alternating", "quadratic", "fibonacci", "affine", "interleaved")
    while True:
        kind = rng.choice(kinds[:level + 2])
        shown = {"arithmetic": 5, "geometric": 5, "quadratic": 5, "interleaved": 8}.get(
            kind, rng.randint(6, 7))
        terms, why = sequence(rng, kind, shown, grow(level, 9, 40))
        if len(set(terms)) == len(terms) and possible_terms(terms[:-1]) == {terms[-1]}:
            break
    return Draft(
        f"Which number comes next in this sequence? {', '.join(map(str, terms[:-1]))}\n"
        "Answer format: an integer.",
        program=f"""
            t = {terms[:-1]}
            d = [b - a for a, b in zip(t, t[1:])]
            dd = [b - a for a, b in zip(d, d[1:])]
            if len(set(dd)) == 1:  # steps that are equal or change evenly
                print(t[-1] + d[-1] + dd[-1])
            elif all(t[i] == t[i - 1] + t[i - 2] for i in range(2, len(t))):
                print(t[-1] + t[-2])
            elif all(d[i] == d[i - 2] for i in range(2, len(d))):  # two steps in turn
                print(t[-1] + d[-2])
            elif all(a * d[1] == b * d[0] for a, b in zip(d, d[1:])):  # times m, plus c
                print(t[-1] + d[-1] * d[1] // d[0])
            else:  # two arithmetic sequences in turn
                print(2 * t[-2] - t[-4])""",
        answer=str(terms[-1]),
        reasoning=f"{why} = {terms[-1]}.")


# The pool of hidden rules as python; easy ones first.
LIST_RULES = (
    "x[::-1]", "sorted(x)", "[x[0]]", "[x[-1]]", "[len(x)]", "[max(x)]", "[2 * v for v in x]", "[sum(x)]",
    "sorted(x, reverse=True)", "[x[2]]", "[v for v in x if v % 2 == 0]", "[x[0] + 1, x[-1] + 1]",
    *(f"[x.count({k})]" for k in range(2, 7)), "list(dict.fromkeys(x))", "[v + i for i, v in enumerate(x)]",
    "[2 * v - 4 for v in x]", "[a for a, b in zip(x, x[1:]) if b % 2 == 0]",
    "[max(x) - min(x)]", "[sum(x[::2])]", "x")
LIST_FUNCTIONS = [eval(f"lambda x: {rule}") for rule in LIST_RULES]  # our own text, never an answer
# What else a reader may think of: a question to which one of these gives another answer is drawn again.
LIST_RIVALS = [eval(f"lambda x: {rule}") for rule in (
    *(part for k in range(1, 6) for part in (f"x[:{k}]", f"x[{k}:]", f"x[-{k}:]", f"x[:-{k}]")),
    *(f"x[{k}:{k + 1}]" for k in range(9)), *(f"x[-{k}:][:1]" for k in range(1, 9)), "x[::2]", "x[1::2]",
    *(f"[x.count({k})]" for k in range(100)), "[x.count(x[0])]", "[x.count(x[-1])]", "[x.count(max(x))]",
    "[x.count(min(x))]", "[max(map(x.count, x))]", "[len(set(x))]", "[len(x) - len(set(x))]", "[len(x) - 1]",
    "[sum(set(x))]", "[min(x)]", "[sorted(x)[1]]", "[sorted(x)[-2]]", "[sorted(x)[len(x) // 2]]",
    "sorted(set(x))", "sorted(set(x), reverse=True)", "list(dict.fromkeys(x[::-1]))",
    "[v for v in x if x.count(v) == 1]", "[v for v in x if x.count(v) > 1]", "[max(x, key=x.count)]",
    *(f"[sum({{v for v in x if v {sign} {k}}})]" for sign in "<>" for k in range(1, 100)),
    *(f"[sum(v for v in x if v {sign} {k})]" for sign in "<>" for k in range(1, 100)),
    *(f"[sum(v {sign} {k} for v in x)]" for sign in "<>" for k in range(1, 100)),
    *(f"[v for v in x if v {sign} {k}]" for sign in "<>" for k in range(1, 100)),
    *(f"[v for v in x if v % {m} == {k}]" for m in range(2, 10) for k in range(m)),
    *(f"[sum(v % {m} == {k} for v in x)]" for m in range(2, 6) for k in range(m)),
    *(f"[sum(v for v in x if v % 2 == {k})]" for k in (0, 1)), "[sum(x[1::2])]", "[x[0] + x[-1]]",
    "[abs(x[0] - x[-1])]", "[x[0] - x[-1]]", "[x[-1] - x[0]]", "[x[0] + x[1]]", "[max(x) + min(x)]",
    "[x.index(max(x))]", "[x.index(min(x))]", "[x[x[0] % len(x)]]", "[x[x[-1] % len(x)]]",
    "[b for a, b in zip(x, x[1:]) if a % 2 == 0]", "[a for a, b in zip(x, x[1:]) if b > a]",
    "[a for a, b in zip(x, x[1:]) if b < a]", "[b for a, b in zip(x, x[1:]) if b > a]",
    "[v for v in x if v > x[0]]", "[v for v in x if v < x[0]]", "[v for v in x if v != x[0]]",
    "[v for v in x if v != max(x)]", "[v for v in x if v != min(x)]", "[v - i for i, v in enumerate(x)]",
    "[v * i for i, v in enumerate(x)]", "[v + i for i, v in enumerate(x, 1)]")]


def possible_lists(examples, asked):
    """What the rules and their rivals that fit all examples make of the list: more than one is too many."""
    def fits(rule):
        try:
            return all(rule(x) == y for x, y in examples)
        except (IndexError, ValueError):  # does not apply to every list
            return False

    return {tuple(rule(asked)) for rule in (*LIST_FUNCTIONS, *LIST_RIVALS) if fits(rule)}


@task("list_functions", "RG", "train", "logic", exact(list_of(integer)))
def list_functions(rng, level):
    def draw():
        values = [rng.choice((rng.randint(0, 9), rng.randint(0, 99)))
                  for _ in range(rng.randint(3, 4 + level))]
        if rng.random() < 0.5:
            values[rng.randrange(len(values))] = rng.choice(values)  # rules about doubles need some
        if (found := re.search(r"count\((\d)\)", rule)):
            values = [int(found[1]) if rng.random() < 0.4 else value for value in values]
        return values

    while True:
        at = rng.randrange(grow(level, 12, len(LIST_RULES) - 1))  # never the last one, which changes nothing
        rule, apply = LIST_RULES[at], LIST_FUNCTIONS[at]
        lists = [draw() for _ in range(5)]
        *examples, asked = lists
        if (asked not in (apply(asked), *examples) and len({str(apply(x)) for x in lists}) > 2
                and len(possible_lists([(x, apply(x)) for x in examples], asked)) == 1):
            break
    shown = "\n".join(f"{x} -> {apply(x)}" for x in examples)
    lines = "\n                ".join(f"lambda x: {rule}," for rule in LIST_RULES)
    return Draft(
        "One hidden rule turns each list into the list on its right. It picks, counts, adds up, orders, "
        f"drops or changes numbers.\n{shown}\nWhat does the rule make of {asked}?\n"
        "Answer format: a list in square brackets, such as [3, 0, 41]",
        program=f"""
            examples = {[(x, apply(x)) for x in examples]}
            rules = [
                {lines}
            ]
            for rule in rules:
                if all(rule(x) == y for x, y in examples):
                    print(rule({asked}))
                    break""",
        answer=str(apply(asked)))


# --------------------------------------------------------------------------------------- families and friends
# Steps from person Y to person X (m: to the spouse, u: up to a parent, d: down to a child) -> what X is to Y.
KINSHIP = {"m": ("husband", "wife"), "u": ("father", "mother"), "d": ("son", "daughter"),
           "ud": ("brother", "sister"), "uu": ("grandfather", "grandmother"),
           "dd": ("grandson", "granddaughter"), "mu": ("father-in-law", "mother-in-law"),
           "dm": ("son-in-law", "daughter-in-law"), "uud": ("uncle", "aunt"),
           "udd": ("nephew", "niece"), "uudd": ("cousin", "cousin")}


def kinship(answer):
    """A kinship word; hyphens, spaces and an article do not count."""
    return re.sub(r"^(?:the|an?) |[- ]", "", text(answer))


@task("family_relationships", "RG", "train", "logic", exact(kinship), text_solvable=True)
def family_relationships(rng, level):
    boys, girls = rng.sample(BOYS, 12), rng.sample(GIRLS, 12)
    men, couples = [], []  # couples: (husband, wife, children)

    def person(is_boy):
        if is_boy:
            men.append(boys.pop())
        return men[-1] if is_boy else girls.pop()

    def add_couple(one, children):
        husband, wife = (one or person(True), person(False)) if one in men or not one else (person(True), one)
        couples.append((husband, wife, [person(rng.random() < 0.5) for _ in range(children)]))

    add_couple(None, 2 if level < 4 else 3)
    # How many children each of the first children has who marries.
    for one, children in zip(couples[0][2], rng.choice({1: [[1]], 2: [[2]], 3: [[1, 1]], 4: [[1, 1], [1, 2]],
                                                        5: [[2, 1], [2, 2]]}[level])):
        add_couple(one, children)
    moves = {}  # person -> pairs (step, the step and the person it leads to)
    for husband, wife, children in couples:
        for one, step, other in [(husband, "m", wife), (wife, "m", husband)] + [
                pair for parent in (husband, wife) for child in children
                for pair in ((parent, "d", child), (child, "u", parent))]:
            moves.setdefault(one, []).append(((step, other), other))
    ways = [(x, y, bfs(y, moves.get, lambda z, x=x: z == x)) for x in moves for y in moves if x != y]
    known = [(x, y, way, KINSHIP[path][x not in men]) for x, y, way in ways
             if (path := "".join(step for step, _ in way)) in KINSHIP]
    word = rng.choice(sorted({word for *_, word in known}))
    x, y, way, _ = rng.choice([entry for entry in known if entry[-1] == word])
    story = []
    for husband, wife, children in couples:
        pair = rng.sample((husband, wife), 2)
        kids = f"one child, {children[0]}" if len(children) == 1 else (
            f"{len(children)} children, {', '.join(children[:-1])} and {children[-1]}")
        story.append(f"{pair[0]} is married to {pair[1]}. They have {kids}.")
    if level >= 3:
        rng.shuffle(story)
    if len(way) == 1:
        steps = [f"{x} and {y} are married" if way[0][0] == "m" else
                 f"{y} is a child of {x}" if way[0][0] == "u" else f"{x} is a child of {y}"]
    else:
        steps = [f"{other} is the {KINSHIP[step][other not in men]} of {one}"
                 for one, (step, other) in zip([y, *(person for _, person in way)], way)]
    return Draft(
        f"{' '.join(story)} What is {x} to {y}?\n"
        f"Answer format: the word that fits in '{x} is the ... of {y}'.",
        program=f"""
            couples = {couples}
            men = {men}
            steps = {{"m": {{}}, "u": {{}}, "d": {{}}}}  # to the spouse, up to parents, down to children
            for husband, wife, children in couples:
                steps["m"][husband], steps["m"][wife] = [wife], [husband]
                steps["d"][husband] = steps["d"][wife] = children
                for child in children:
                    steps["u"][child] = [husband, wife]
            words = {KINSHIP}
            for path, (male, female) in words.items():
                people = ["{y}"]
                for step in path:
                    people = [other for one in people for other in steps[step].get(one, [])]
                if "{x}" in people:
                    print(male if "{x}" in men else female)
                    break""",
        answer=word,
        reasoning=f"{'. '.join(steps)}. So {x} is the {word} of {y}.")


@task("aiw", "RG", "train", "logic", exact(integer), text_solvable=True)
def aiw(rng, level):
    name, is_girl = (rng.choice(GIRLS), True) if rng.random() < 0.5 else (rng.choice(BOYS), False)
    numbers = [rng.randint(2, grow(level, 9, 20)) for _ in range(2)]  # male, female
    relative_girl, asked_girls = rng.randrange(2), rng.randrange(2)
    kind = rng.choice(("siblings", "friends", "colleagues")) if level > 1 else "siblings"
    words = ("brother", "sister") if kind == "siblings" else (f"male {kind[:-1]}", f"female {kind[:-1]}")

    def counted(number, word):
        return f"{number} {word}" if number == 1 else f"{number} {word}s"

    first, second = map(counted, numbers, words)
    relative, asked = f"a {words[relative_girl]} of {name}", words[asked_girls] + "s"
    if kind == "siblings":
        story = f"{name} has {first} and {second}."
    elif kind == "friends":
        story = f"{name} has {first} and {second}. All of them are friends of each other and have no others."
    else:  # the first of the two teams does not matter
        relative = rng.choice([other for other in (BOYS, GIRLS)[relative_girl] if other != name])
        elsewhere = " and ".join(map(counted, (rng.randint(1, 9), rng.randint(1, 9)), words))
        story = (f"{name} works in two teams. In the red team {name} has {elsewhere}, in the blue team "
                 f"{first} and {second}; no colleague is in both teams. {relative} works in the blue team "
                 "only.")
    if level == 5:
        story += f" {name} also has {rng.randint(2, 9)} cousins."
    # The relative has what `name` has, with `name` counted in and the relative itself left out.
    same = numbers[asked_girls]
    plus, minus = asked_girls == is_girl, asked_girls == relative_girl
    calculation, herself = f"{same}{' + 1' * plus}{' - 1' * minus}", ("himself", "herself")[relative_girl]
    why = {(0, 0): "", (0, 1): f" but not {herself}", (1, 0): f" and {name}",
           (1, 1): f" and {name} but not {herself}"}
    owned = f"The {asked} of {name}" + " in the blue team" * (kind == "colleagues")
    result = f"{calculation} = {same + plus - minus}" if plus or minus else calculation
    return Draft(
        f"{story} How many {asked} does {relative} have?\nAnswer format: a whole number.",
        program=f"print({calculation})",
        answer=str(same + plus - minus),
        reasoning=f"{owned}: {same}. {relative[0].upper()}{relative[1:]} has the same{why[plus, minus]}: "
                  f"{result}.")


# --------------------------------------------------------------------------------------------- logic formulas
# A formula is a name, ("NOT", formula), or (connective, formula, formula).
CONNECTIVES = {"AND": lambda a, b: a and b, "OR": lambda a, b: a or b, "IMPLIES": lambda a, b: not a or b,
               "IFF": lambda a, b: a == b}
AS_PYTHON = {"AND": "({} and {})", "OR": "({} or {})", "IMPLIES": "(not {} or {})", "IFF": "({} == {})",
             "NOT": "(not {})"}
AS_TEXT = {"AND": "({} AND {})", "OR": "({} OR {})", "IMPLIES": "({} IMPLIES {})", "IFF": "({} IFF {})",
           "NOT": "NOT {}"}


def holds(formula, world):
    """Is the formula true when each name has the truth value that `world` gives it?"""
    match formula:
        case ("NOT", inner):
            return not holds(inner, world)
        case (connective, left, right):
            return CONNECTIVES[connective](holds(left, world), holds(right, world))
    return world[formula]


def written(formula, templates):
    """The formula as text, with one template per connective and without the outermost parentheses."""
    def write(part):
        return part if isinstance(part, str) else templates[part[0]].format(*map(write, part[1:]))

    shown = write(formula)
    return shown[1:-1] if shown[0] == "(" else shown


def names_in(formula):
    """The names in a formula, sorted."""
    if isinstance(formula, str):
        return [formula]
    return sorted({name for part in formula[1:] for name in names_in(part)})


def worlds(names):
    """All ways to give the names truth values."""
    return [dict(zip(names, values)) for values in product((True, False), repeat=len(names))]


def random_formula(rng, names, nested, connectives=tuple(CONNECTIVES)):
    """A connective over two literals with different names; nested: over two such and a literal."""
    def literal(name):
        return name if rng.random() < 0.5 else ("NOT", name)

    a, b, c = map(literal, (rng.sample(names, 3) if len(names) > 2 else [*names, names[0]]))
    if nested:
        inner = (rng.choice(("AND", "OR")), a, b)
        return rng.choice((("IMPLIES", inner, c), ("IMPLIES", c, inner), ("IFF", c, inner)))
    return (rng.choice(connectives), a, b)


def roles(answer):
    """'Ann is a knight, Bob: knave' -> the pairs (person, role), sorted."""
    found = []
    for part in re.split(r"\s*(?:,|;|\n|\band\b)\s*", text(answer.replace("\n", ","))):
        if part:
            person, role = re.fullmatch(r"(\w+)(?: is an? |\s*[:=]\s*(?:an? )?)(\w+)", part).groups()
            found.append((person, role))
    return sorted(found)


@task("knights_knaves", "RG", "train", "logic", exact(roles))
def knights_knaves(rng, level):
    people = rng.sample(GIRLS + BOYS, level + 1)
    good, bad = rng.choice((("a knight", "a knave"), ("a saint", "a sinner"), ("an angel", "a devil"),
                            ("a hero", "a villain"), ("a sage", "a fool")))
    while True:
        claims = []
        for speaker in people:
            others = [person for person in people if person != speaker]
            if rng.random() < 0.3 or len(others) == 1 and rng.random() < 0.3:
                other = rng.choice(others)
                claims.append(other if rng.random() < 0.5 else ("NOT", other))
            else:
                names = others if len(others) > 1 else [speaker, *others]
                claims.append(random_formula(rng, names, level >= 4 and rng.random() < 0.4))
        solutions = [world for world in worlds(people)
                     if all(world[speaker] == holds(claim, world) for speaker, claim in zip(people, claims))]
        if len(solutions) == 1:
            break
    english = {"AND": "{} and {}", "OR": "{} or {}", "IMPLIES": "if {}, then {}",
               "IFF": "{} if and only if {}"}

    def say(formula):
        if isinstance(formula, str) or formula[0] == "NOT":
            return f"{formula} is {good}" if isinstance(formula, str) else f"{formula[1]} is {bad}"
        return english[formula[0]].format(*map(say, formula[1:]))

    says = [say(claim) for claim in claims]
    shown = "\n".join(f"{speaker}: {claim[0].upper()}{claim[1:]}." for speaker, claim in zip(people, says))
    code = ", ".join(written(claim, AS_PYTHON) for claim in claims)
    return Draft(
        f"Everyone here is either {good} or {bad}. What {good} says is always true, and what {bad} says is "
        "always false. ('Or' means one of the two or both; 'if X, then Y' is false only when X is true and "
        f"Y is false.)\n{shown}\nWho is what?\n"
        f"Answer format: everybody with their role, separated by commas, such as Xenia is {bad}, Yuri is "
        f"{good}",
        program=f"""
            from itertools import product

            people = {people}
            for roles in product([True, False], repeat={len(people)}):
                {", ".join(people)} = roles
                claims = [{code}]
                if all(role == claim for role, claim in zip(roles, claims)):
                    print(", ".join(f"{{person}} is {{'{good}' if role else '{bad}'}}"
                                    for person, role in zip(people, roles)))""",
        answer=", ".join(f"{person} is {good if role else bad}" for person, role in solutions[0].items()))


def new_conclusions(premises):
    """All literals that follow from the premises and are not premises themselves: [(name, value)]."""
    names = names_in(("", *premises))
    models = [world for world in worlds(names) if all(holds(premise, world) for premise in premises)]
    literals = [(name, models[0][name]) for name in names if len({model[name] for model in models}) == 1]
    return [(name, value) for name, value in literals if (name if value else ("NOT", name)) not in premises]


def new_conclusion_ok(data, answer):
    sign, name = re.fullmatch(r"(not\s+|[~!¬-]\s*)?([a-z])", answer.casefold()).groups()
    return (name.upper(), not sign) in new_conclusions(data["premises"])


def forced(premises, assumed):
    """What single premises force, in turn: ([(name, value, premise number)], the broken premise or 0)."""
    known, steps, before = dict(assumed), [], -1
    while len(steps) > before:
        before = len(steps)
        for number, premise in enumerate(premises, 1):
            names = names_in(premise)
            possible = [world for world in worlds(names) if holds(premise, world)
                        and all(known.get(name, value) == value for name, value in world.items())]
            if not possible:
                return steps, number
            for name in names:
                if name not in known and len({world[name] for world in possible}) == 1:
                    known[name] = possible[0][name]
                    steps.append((name, known[name], number))
    return steps, 0


def derivation(premises, conclusions):
    """(conclusion, its derivation in words), by forced steps, if need be after an assumption; or None."""
    def say(steps):
        return " ".join(f"By premise {number}, {'NOT ' * (not value)}{name}."
                        for name, value, number in steps)

    steps, _ = forced(premises, {})
    for at, (name, value, _) in enumerate(steps):
        if (name, value) in conclusions:
            return (name, value), say(steps[:at + 1])
    for name, value in conclusions:
        steps, broken = forced(premises, {name: not value})
        if broken:
            literal, opposite = (f"NOT {name}", name) if not value else (name, f"NOT {name}")
            return (name, value), (f"Suppose {opposite}. {say(steps)} But then premise {broken} cannot be "
                                   f"true. So {literal} must be true.").replace("  ", " ")
    return None


@task("propositional_logic", "RG", "train", "logic", new_conclusion_ok, text_solvable=True)
def propositional_logic(rng, level):
    names = sorted(rng.sample("PQRSTUVW", grow(level, 3, 4)))
    while True:
        premises = []
        for _ in range(grow(level, 2, 5)):
            fact = rng.choice(names)
            premises.append((fact if rng.random() < 0.5 else ("NOT", fact))
                            if rng.random() < 0.6 - 0.1 * level
                            else random_formula(rng, names, level >= 4 and rng.random() < 0.5,
                                                ("OR", "IMPLIES", "IFF")))
        if len({str(premise) for premise in premises}) < len(premises) or not any(
                all(holds(premise, world) for premise in premises) for world in worlds(names)):
            continue
        conclusions = new_conclusions(premises)
        if 1 <= len(conclusions) <= 2 and (found := derivation(premises, conclusions)):
            break
    (name, value), why = found
    shown, used = [written(premise, AS_TEXT) for premise in premises], names_in(("", *premises))
    functions = "\n                ".join(
        f"{line!r}: lambda {', '.join(used)}: {written(premise, AS_PYTHON)},"
        for line, premise in zip(shown, premises))
    return Draft(
        "These premises are all true:\n" + "\n".join(f"{i}. {line}" for i, line in enumerate(shown, 1))
        + f"\nFind one literal (one of the letters {', '.join(used)}, or NOT and a letter) that follows from "
        "them and is not itself one of the premises.\n"
        "Answer format: a letter, or NOT and a letter, such as NOT X",
        program=f"""
            from itertools import product

            premises = {{
                {functions}
            }}
            models = [values for values in product([True, False], repeat={len(used)})
                      if all(premise(*values) for premise in premises.values())]
            for letter, values in zip("{''.join(used)}", zip(*models)):
                literal = letter if values[0] else "NOT " + letter
                if len(set(values)) == 1 and literal not in premises:
                    print(literal)
                    break""",
        answer=name if value else f"NOT {name}",
        data={"premises": premises},
        reasoning=why)


def bit(answer):
    """0 or 1; false and true count as well."""
    return {"0": 0, "no": 0, "1": 1, "yes": 1}[text(answer)]


# What a gate makes of a list of bits, and python's sign for it; the negations are written with "1 -".
GATES = {"AND": (min, " and "), "OR": (max, " or "), "XOR": (lambda bits: sum(bits) % 2, " ^ "),
         "NAND": (lambda bits: 1 - min(bits), " and "), "NOR": (lambda bits: 1 - max(bits), " or ")}


@task("circuit_logic", "RG", "test", "logic", exact(bit))
def circuit_logic(rng, level):
    inputs, gates, wanted = "ABCDEF"[:grow(level, 2, 6)], grow(level, 3, 8), rng.randint(0, 1)
    value, last = {}, rng.choice(list(GATES))  # drawn with the result, so that it does not give it away
    while value.get(f"g{gates}") != wanted:
        value = {name: rng.randint(0, 1) for name in inputs}
        start = ", ".join(f"{name} = {bit}" for name, bit in value.items())
        lines, code = [], [f"{', '.join(inputs)} = {', '.join(map(str, value.values()))}"]
        for number in range(1, gates + 1):
            before = [f"g{number - 1}"] if number > 1 else []  # no gate is idle
            others = [name for name in value if name not in before]
            sources = before + rng.sample(others, min(len(others), rng.randint(1, 2) + (number == 1)))
            rng.shuffle(sources)
            kind = last if number == gates else rng.choice(list(GATES))
            inputs_of = [(name, rng.random() < 0.3) for name in sources]  # name, negated?
            compute, sign = GATES[kind]
            value[f"g{number}"] = compute([value[name] ^ negated for name, negated in inputs_of])
            text_of = ", ".join("NOT " * negated + name for name, negated in inputs_of)
            code_of = sign.join("1 - " * negated + name for name, negated in inputs_of)
            lines.append(f"g{number} = {kind}({text_of})")
            code.append(f"g{number} = " + (f"1 - ({code_of})" if kind in ("NAND", "NOR") else code_of))
    return Draft(
        "A logic circuit (XOR is 1 when an odd number of its inputs is 1; NAND is AND negated, NOR is OR "
        "negated):\n"
        + "\n".join(lines)
        + f"\nThe inputs are {start}. What is g{gates}?\nAnswer format: 0 or 1.",
        program="\n" + "\n".join(code) + f"\nprint(g{gates})",
        answer=str(wanted))


@task("self_reference", "RG", "test", "logic", exact(integer))
def self_reference(rng, level):
    size, wanted = min(level + 4, 7), rng.randint(0, 2 if level < 3 else 3)
    near = level == 5 or level == 4 and rng.random() < 0.5
    for _ in range(300):
        if near:  # a planted number of true statements, which is harder to see
            planted = rng.randint(1, 6)
            a, b, c, d = (max(0, min(size, number + rng.randint(-1, 1)))
                          for number in (planted, size - planted, planted, size - planted))
        else:
            a, b, c, d = (rng.randint(0, size) for _ in range(4))
        # A consistent assignment is settled by the number of true statements and by the value of statement 5.
        count = 0
        for true, five in product(range(size + 1), (False, True)):
            claims = [true >= a, size - true <= b, true == c, size - true == d, five, true in (2, 3, 5, 7),
                      size - true in (4, 6)][:size]
            count += sum(claims) == true and five == (claims[2] != claims[3])
        if count == wanted:
            break
    are = ("are", "is")
    lines = [f"At least {a} of these statements {are[a == 1]} true.",
             f"At most {b} of these statements {are[b == 1]} false.",
             f"Exactly {c} of these statements {are[c == 1]} true.",
             f"Exactly {d} of these statements {are[d == 1]} false."]
    claims = [f"true >= {a}", f"false <= {b}", f"true == {c}", f"false == {d}"]
    lines += ["Exactly one of statements 3 and 4 is true.", "The number of true statements is prime.",
              "The number of false statements is composite."]
    claims += ["s[2] != s[3]", "true in (2, 3, 5, 7)", "false in (4, 6)"]
    return Draft(
        "\n".join(f"Statement {i}: {line}" for i, line in enumerate(lines[:size], 1))
        + f"\nEach of these {size} statements is either true or false. In how many of the ways to call them "
        "true or false is each statement true exactly when what it says is the "
        f"case?{' (0 and 1 are neither prime nor composite.)' if size > 5 else ''}\n"
        "Answer format: a whole number.",
        program=f"""
            from itertools import product

            count = 0
            for s in product([True, False], repeat={size}):
                true, false = s.count(True), s.count(False)
                says = ({", ".join(claims[:size])})
                count += s == says
            print(count)""",
        answer=str(count))


# ------------------------------------------------------------------------------------------------- syllogisms
PEOPLE = ("bakers bankers barbers builders climbers dancers dentists doctors drivers farmers fishers "
          "gardeners golfers hikers hunters jugglers lawyers miners painters pilots plumbers poets runners "
          "sailors singers skaters swimmers tailors teachers writers").split()
FORMS = {"All": "All {} are {}", "No": "No {} are {}", "Some": "Some {} are {}",
         "Some not": "Some {} are not {}"}
KINDS_OF_PEOPLE = list(product((True, False), repeat=3))  # belongs to the first, second, third class?


def region(form, subject, other):
    """The kinds of people that must not exist (All, No) or of which one must exist (Some, Some not)."""
    return {kind for kind in KINDS_OF_PEOPLE if kind[subject] and kind[other] == (form in ("No", "Some"))}


@task("syllogism", "RG", "train", "logic", exact(text), text_solvable=True)
def syllogism(rng, level):
    classes, valid = rng.sample(PEOPLE, 3), rng.random() < 0.5

    def say(statement):
        form, *pair = statement
        return FORMS[form].format(*(classes[one] for one in pair))

    def describe(kind):
        return ", ".join(("" if member else "not ") + one[:-1] for one, member in zip(classes, kind))

    while True:
        premises = [(rng.choice(list(FORMS)), *pair) for pair in ((0, 1), (1, 2))]
        conclusion = (rng.choice(list(FORMS)), 0, 2)
        if level >= 4:
            premises = [(form, *rng.sample(pair, 2)) for form, *pair in rng.sample(premises, 2)]
            conclusion = (conclusion[0], *rng.sample((0, 2), 2))
        forbidden = set().union(*(region(*premise) for premise in premises if premise[0] in ("All", "No")))
        # Whoever must exist: a member of each class, and what the premises with "some" promise.
        exists = [(f"there is at least one {classes[i][:-1]}", {kind for kind in KINDS_OF_PEOPLE if kind[i]})
                  for i in range(3)] + [(f"'{say(premise)}'", region(*premise)) for premise in premises
                                        if premise[0] in ("Some", "Some not")]
        exists = [(why, [kind for kind in KINDS_OF_PEOPLE if kind in kinds - forbidden])
                  for why, kinds in exists]
        target, universal = region(*conclusion), conclusion[0] in ("All", "No")
        proofs = [(why, kinds) for why, kinds in exists if target.issuperset(kinds)]
        if valid == (target <= forbidden if universal else bool(proofs)):
            break
    if valid and universal:
        laws = [(say(premise), region(*premise)) for premise in premises if premise[0] in ("All", "No")]
        reasons = [f"one ({describe(kind)}), but '{next(law for law, kinds in laws if kind in kinds)}'"
                   for kind in KINDS_OF_PEOPLE if kind in target]
        reasoning = f"The conclusion could only be broken by {', or by '.join(reasons)}. So it follows."
    elif valid:
        why, kinds = proofs[-1]
        left = " or ".join(f"({describe(kind)})" for kind in kinds)
        reasoning = (f"Take somebody who must exist because {why}. What the premises leave for this person "
                     f"is {left}. So '{say(conclusion)}' is true.")
    else:
        needed = [kinds for _, kinds in exists] + [target - forbidden] * universal
        model = [kind for kind in KINDS_OF_PEOPLE
                 if kind not in forbidden and (universal or kind not in target)]
        for kind in list(model):  # as few people as possible
            if all(any(other in kinds for other in model if other != kind) for kinds in needed):
                model.remove(kind)
        people = " and ".join(f"one ({describe(kind)})" for kind in model)
        reasoning = (f"Suppose there are just these people: {people}. Then every group has a member and both "
                     f"premises hold, but '{say(conclusion)}' is false.")
    checks = {"All": "all(m[{1}] for m in members if m[{0}])",
              "No": "not any(m[{0}] and m[{1}] for m in members)",
              "Some": "any(m[{0}] and m[{1}] for m in members)",
              "Some not": "any(m[{0}] and not m[{1}] for m in members)"}
    first, second, third = (checks[form].format(*pair) for form, *pair in (*premises, conclusion))
    return Draft(
        f"Premises: {say(premises[0])}. {say(premises[1])}.\nConclusion: {say(conclusion)}.\nEvery group "
        "named here has at least one member. Does the conclusion follow from the premises?\n"
        "Answer format: Yes or No.",
        program=f"""
            from itertools import combinations, product

            # m: is somebody one of the {classes[0]}, {classes[1]}, {classes[2]}?
            kinds = list(product([True, False], repeat=3))
            follows = True
            for size in range(1, 9):
                for members in combinations(kinds, size):
                    if (all(any(m[i] for m in members) for i in range(3))
                            and {first}
                            and {second}
                            and not {third}):
                        follows = False
            print("Yes" if follows else "No")""",
        answer="Yes" if valid else "No",
        reasoning=reasoning)


# --------------------------------------------------------------------------------------------------- programs
@task("ab", "RG", "train", "code", exact(pieces))
def ab(rng, level):
    while True:
        tokens = [rng.choice(("A#", "#A", "B#", "#B"))
                  for _ in range(rng.randint(2 * level + 3, 2 * level + 4))]
        left, right = [], []  # tokens '#X' end on the left; 'X#' wait for one that cancels them
        for token in tokens:
            partner = token[::-1]
            if token[1] == "#":
                right.append(token)
            elif partner in right:
                del right[len(right) - 1 - right[::-1].index(partner)]
            else:
                left.append(token)
        result = " ".join(left + right)
        if len(left + right) > 1 and result not in " ".join(tokens):
            break
    return Draft(
        "A row of the tokens A#, #A, B# and #B is rewritten. Two neighbours change when their # signs face "
        "each other: A# #A and B# #B vanish, A# #B becomes #B A#, and B# #A becomes #A B#. This goes on "
        f"until nothing changes any more. What is left of this row?\n{' '.join(tokens)}\n"
        "Answer format: the tokens separated by spaces.",
        program=f"""
        row = "{' '.join(tokens)}".split()
        rules = {{("A#", "#A"): [], ("B#", "#B"): [], ("A#", "#B"): ["#B", "A#"], ("B#", "#A"): ["#A", "B#"]}}
        changed = True
        while changed:
            changed = False
            for i in range(len(row) - 1):
                if (row[i], row[i + 1]) in rules:
                    row[i:i + 2] = rules[row[i], row[i + 1]]
                    changed = True
                    break
        print(*row)""",
        answer=result)


def life_step(living, size):
    """The living cells after one step of the game of life on a board whose edges are joined."""
    around = Counter(((r + i) % size, (c + j) % size) for r, c in living
                     for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j)
    return {cell for cell, count in around.items() if count == 3 or count == 2 and cell in living}


def life_board(living, size):
    return [[int((r, c) in living) for c in range(size)] for r in range(size)]


LIFE_RULES = (
    "A cell has eight neighbours, and the edges are joined: left of the first column is the last one, above "
    "the top row is the bottom row. In one step, a 1 stays 1 if two or three neighbours are 1, a 0 becomes 1 "
    "if exactly three neighbours are 1, and every other cell becomes 0.")


def life_program(board, steps, printed):
    size = len(board)
    return f"""
            board = {board}
            n = {size}

            def neighbours(r, c):
                around = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
                return sum(board[(r + i) % n][(c + j) % n] for i, j in around)

            for step in range({steps}):
                counts = [[neighbours(r, c) for c in range(n)] for r in range(n)]
                board = [[int(counts[r][c] == 3 or board[r][c] and counts[r][c] == 2) for c in range(n)]
                         for r in range(n)]
            {printed}"""


@task("game_of_life", "RG", "train", "code", exact(symbol_rows))
def game_of_life(rng, level):
    size, steps = grow(level, 4, 9), grow(level, 1, 3)
    cells, start, result = [(r, c) for r in range(size) for c in range(size)], None, None
    while not result or result == start:
        density = rng.uniform(0.2, 0.4)
        start = result = {cell for cell in cells if rng.random() < density}
        for _ in range(steps):
            result = life_step(result, size)
    board = life_board(start, size)
    return Draft(
        f"The game of life on this {size} x {size} board:\n{grid_text(board)}\n{LIFE_RULES} What does the "
        f"board look like after {steps} step{'s' * (steps > 1)}?\n"
        "Answer format: the rows, one per line, entries separated by spaces.",
        program=life_program(board, steps, 'print("\\n".join(" ".join(map(str, row)) for row in board))'),
        answer=grid_text(life_board(result, size)))


@task("game_of_life_halting", "RG", "train", "code", exact(text))
def game_of_life_halting(rng, level):
    size, steps, dies = grow(level, 8, 14), rng.randint(8, 8 + 3 * level - 3), rng.random() < 0.5
    groups = [rng.randint(4, 6) for _ in range(grow(level, 1, 3))]  # cells in each, whether they die or not
    near = [(r, c) for r in range(3) for c in range(4)]
    while True:
        corners = [(rng.randrange(size), rng.randrange(size)) for _ in groups]
        living = {((top + r) % size, (left + c) % size) for count, (top, left) in zip(groups, corners)
                  for r, c in rng.sample(near, count)}
        history = [living]
        for _ in range(steps):
            history.append(life_step(history[-1], size))
        if len(living) == sum(groups) and dies != bool(history[-1]) and history[2]:  # none dies at once
            break
    board = life_board(living, size)
    return Draft(
        f"The game of life on this {size} x {size} board:\n{grid_text(board)}\n{LIFE_RULES} Are all cells 0 "
        f"after {steps} steps?\n"
        "Answer format: True or False.",
        program=life_program(board, steps, "print(not any(map(any, board)))"),
        answer=str(dies))


def brainf_cell(rng, code, nested):
    """Brainf code that moves on and sets a fresh cell to `code` by a loop (nested: two) that multiplies."""
    if nested:
        a, b = rng.randint(2, 4), rng.randint(2, 5)
        c = code // (a * b)
        made = f"{'+' * a}[>{'+' * b}[>{'+' * c}<-]<-]>>"
        return made + "+" * (code - a * b * c)
    a = rng.randint(4, 12)
    b, rest = (code // a, code % a) if rng.random() < 0.5 else (code // a + 1, code % a - a)
    move = "[->+<]>" if rng.random() < 0.3 else ""
    return f"{'+' * a}[>{'+' * b}<-]>" + ("+" if rest > 0 else "-") * abs(rest) + move


@task("bf", "RG", "test", "code", exact(string))
def bf(rng, level):
    if level == 5:
        word = pick_word(rng, 5, 6) if rng.random() < 0.6 else str(rng.randint(10000, 999999))
    else:
        word = rng.choice(WORDS)[:level] if level > 1 else chr(rng.choice((65, 97)) + rng.randrange(26))
    codes = [ord(letter) for letter in word]
    program, last, pairs = "", None, level >= 3 and rng.random() < 0.5
    while codes:
        move = ">" if program else ""
        if pairs and len(codes) > 1:  # one loop fills two cells
            factor = rng.randint(6, 12)
            (first, rest), (second, other) = (divmod(code, factor) for code in codes[:2])
            program += (f"{move}{'+' * factor}[>{'+' * first}>{'+' * second}<<-]"
                        f">{'+' * rest}.>{'+' * other}.")
        elif last and abs(codes[0] - last) <= 9:
            program += ("+" if codes[0] > last else "-") * abs(codes[0] - last) + "."
        else:
            program += move + brainf_cell(rng, codes[0], level == 5 and rng.random() < 0.4) + "."
        used = 2 if pairs and len(codes) > 1 else 1
        last, codes = codes[used - 1], codes[used:]
    return Draft(
        f"What does this program print?\n{program}\nIt works on a tape of cells that start at 0 and hold 0 "
        "to 255 (255 + 1 is 0). > and < move to the next and the previous cell, + and - add and subtract 1 "
        "in the current cell, . prints the character with the code in the cell. [ jumps behind the matching "
        "] if the cell is 0, and ] jumps back to the matching [ if it is not 0.\n"
        "Answer format: the printed characters.",
        program=f"""
            code = "{program}"
            match, stack = {{}}, []
            for i, c in enumerate(code):
                if c == "[":
                    stack.append(i)
                elif c == "]":
                    match[i] = stack.pop()
                    match[match[i]] = i
            tape, pointer, i, printed = [0] * 1000, 0, 0, ""
            while i < len(code):
                c = code[i]
                if c in "<>":
                    pointer += 1 if c == ">" else -1
                elif c in "+-":
                    tape[pointer] = (tape[pointer] + (1 if c == "+" else -1)) % 256
                elif c == ".":
                    printed += chr(tape[pointer])
                elif (c == "[") == (tape[pointer] == 0):
                    i = match[i]
                i += 1
            print(printed)""",
        answer=word)
