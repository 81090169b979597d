"""The 33 SymBench tasks (names are the suite's, texts and code are ours; its known defects are repaired).

Here are orders, equations, card games, codes, exchange rules and strings. Boards and plans are in
`symbench_boards.py`, the three tasks made from templates in `symbench_math.py`.
"""
import re
from fractions import Fraction
from itertools import combinations, permutations

from task_families import symbench_boards, symbench_math  # noqa: F401  (registers their tasks)
from task_families.kit import (
    WORDS,
    Draft,
    code,
    exact,
    expression,
    grow,
    integer,
    list_of,
    listing,
    numbered,
    rational,
    string,
    symbols,
    task,
    within,
)
from task_families.puzzles import (
    numbers_program,
    random_expression,
    reaches,
    uses_numbers,
)

# ------------------------------------------------------------------------------- orders, equations, operators
# kind of rule -> (sentence, the same in python, the same as a test of places)
BOOK_RULES = {
    "at": ("Book {x} is at position {y}.", 'at["{x}"] == {y}', lambda at, x, y: at[x] == y),
    "not at": ("Book {x} is not at position {y}.", 'at["{x}"] != {y}', lambda at, x, y: at[x] != y),
    "left": ("Book {x} is somewhere to the left of book {y}.", 'at["{x}"] < at["{y}"]',
             lambda at, x, y: at[x] < at[y]),
    "right": ("Book {x} is somewhere to the right of book {y}.", 'at["{x}"] > at["{y}"]',
              lambda at, x, y: at[x] > at[y]),
    "next": ("Book {x} is directly next to book {y}.", 'abs(at["{x}"] - at["{y}"]) == 1',
             lambda at, x, y: abs(at[x] - at[y]) == 1),
}


def books_ok(data, answer):
    order = symbols(answer.upper())
    at = {book: place for place, book in enumerate(order, 1)}
    return (sorted(order) == data["books"]
            and all(BOOK_RULES[kind][2](at, x, y) for kind, x, y in data["rules"]))


@task("permutations_and_combinations", "SymBench", "train", "order", books_ok)
def permutations_and_combinations(rng, level):
    n = grow(level, 4, 8)
    books = list("ABCDEFGH"[:n])
    at = {book: place for place, book in enumerate(rng.sample(books, n), 1)}
    rules = {}
    while len(rules) < grow(level, n, 2 * n):
        kind = rng.choice(("at", "not at", "not at", "left", "left", "right", "right", "next"))
        x, y = rng.sample(books, 2)
        if kind in ("at", "not at"):
            y = at[x] if kind == "at" else rng.randint(1, n)
        at_taken = any(rule[0] == "at" for rule in rules.values())  # one of these is enough
        if BOOK_RULES[kind][2](at, x, y) and not (kind == "at" and at_taken):
            rules.setdefault(frozenset((x, y)), (kind, x, y))
    rules = list(rules.values())
    return Draft(
        f"The {n} books {', '.join(books)} stand on positions 1 to {n} of a shelf, counted from the left. "
        "All of this is true:\n" + numbered(BOOK_RULES[kind][0].format(x=x, y=y) for kind, x, y in rules)
        + "\nFind an order of the books that fits.\nAnswer format: a list of the letters from left to right, "
          "such as "
        '["Z", "X", "Y"]',
        program=code(
            "from itertools import permutations",
            listing("rules", (f"lambda at: {BOOK_RULES[kind][1].format(x=x, y=y)}" for kind, x, y in rules)),
            f"""
            for order in permutations("{''.join(books)}"):
                at = {{book: place for place, book in enumerate(order, 1)}}
                if all(rule(at) for rule in rules):
                    print(list(order))
                    break"""),
        data={"books": books, "rules": rules})


# kind of relation -> (sentence, the same in python, the same as a test of two values)
RELATIONS = {
    "sum": ("{x} + {y} = {k}", 'v["{x}"] + v["{y}"] == {k}', lambda a, b, k: a + b == k),
    "difference": ("{x} - {y} = {k}", 'v["{x}"] - v["{y}"] == {k}', lambda a, b, k: a - b == k),
    "ratio": ("{x} = {k} * {y}", '10 * v["{x}"] == {tenths} * v["{y}"]',
              lambda a, b, k: a == Fraction(k) * b),
    "equal": ("{x} = {y}", 'v["{x}"] == v["{y}"]', lambda a, b, k: a == b),
    "greater": ("{x} > {y}", 'v["{x}"] > v["{y}"]', lambda a, b, k: a > b),
}


def equations_ok(data, answer):
    values = list_of(integer)(answer)
    at = dict(zip("ABCDEFGHIJ", values))
    return sorted(values) == data["numbers"] and all(
        RELATIONS[kind][2](at[x], at[y], k) for kind, x, y, k in data["relations"])


@task("logical_equation", "SymBench", "train", "logic", equations_ok)
def logical_equation(rng, level):
    n = (4, 5, 7, 8, 10)[level - 1]
    letters = "ABCDEFGHIJ"[:n]
    numbers = rng.sample(range(1, (9, 25, 50, 100, 225)[level - 1] + 1), n)
    if rng.random() < 0.5:
        numbers[0] = numbers[1]
    rng.shuffle(numbers)
    value = dict(zip(letters, numbers))
    relations = []
    for index in range(n + rng.randint(0, 3)):
        x = letters[index % n]
        x, y = sorted((x, rng.choice(letters.replace(x, ""))), key=lambda letter: -value[letter])
        a, b = value[x], value[y]
        kinds = [("sum", a + b)] + ([("difference", a - b), ("greater", 0)] if a > b else [("equal", 0)])
        if 11 * b <= 10 * a <= 49 * b and 10 * a % b == 0:
            kinds.append(("ratio", f"{a / b:g}"))
        kind, k = rng.choice(kinds)
        if (kind, x, y, k) not in relations:
            relations.append((kind, x, y, k))
    return Draft(
        f"The letters {', '.join(letters)} stand for the numbers {', '.join(map(str, sorted(numbers)))}, "
        "each number in this list being used for exactly one letter (a number that is listed twice belongs "
        "to two letters). These relations are true:\n"
        + numbered(RELATIONS[kind][0].format(x=x, y=y, k=k) for kind, x, y, k in relations)
        + "\nFind values for the letters that fit.\nAnswer format: a list of the values in alphabetical "
        "order of the letters",
        program=code(
            listing("relations", (
                f'("{x}", "{y}", lambda v: '
                f'{RELATIONS[kind][1].format(x=x, y=y, k=k, tenths=round(float(k) * 10))})'
                for kind, x, y, k in relations)),
            f"""
        letters = "{letters}"

        def solve(v, left):
            if not left:
                return [v[letter] for letter in letters]
            # Next comes the letter that has most relations with those that are set.
            letter = max((x for x in letters if x not in v), key=lambda letter: sum(
                letter in (x, y) and (x in v or y in v) for x, y, _ in relations))
            for number in sorted(set(left)):
                new = {{**v, letter: number}}
                if all(holds(new) for x, y, holds in relations if letter in (x, y) and x in new and y in new):
                    rest = left.copy()
                    rest.remove(number)
                    found = solve(new, rest)
                    if found:
                        return found

        print(solve({{}}, {sorted(numbers)}))"""),
        data={"numbers": sorted(numbers), "relations": relations})


def keeps_digits(data, answer):
    """The digits in their order, two-sided operators only (a sign would be a second meaning of minus)."""
    text = re.sub(r"""[\[\],"']""", " ", answer)
    value, numbers = expression(text)
    return (value == data["target"] and numbers == data["numbers"]
            and not re.search(r"(^|[-+*/(×÷])\s*[-+]", text.strip()))


@task("combinatorial_calculation", "SymBench", "train", "search", keeps_digits)
def combinatorial_calculation(rng, level):
    digits, target = [], 0
    while not 0 < target <= grow(level, 20, 200):
        digits = [rng.randint(1, 9) for _ in range(grow(level, 3, 6))]
        target = random_expression(rng, digits)[0]
    return Draft(
        f"Put + - * / between the digits {' '.join(map(str, digits))} and set parentheses where you like, so "
        f"that the value is {target}. Keep the order of the digits, use each of them once and do not join "
        "them to larger numbers; no sign in front of a number or a parenthesis.\nAnswer format: the "
        "expression, such as (7 - 2) * 3",
        program=f"""
            from fractions import Fraction

            digits = {digits}
            n = len(digits)
            made = {{}}  # (i, j) -> expression for each value that digits[i:j] can have
            for size in range(1, n + 1):
                for i in range(n - size + 1):
                    j = i + size
                    made[i, j] = table = {{Fraction(digits[i]): str(digits[i])}} if size == 1 else {{}}
                    for k in range(i + 1, j):
                        for a, x in made[i, k].items():
                            for b, y in made[k, j].items():
                                table[a + b] = f"({{x}} + {{y}})"
                                table[a - b] = f"({{x}} - {{y}})"
                                table[a * b] = f"({{x}} * {{y}})"
                                if b:
                                    table[a / b] = f"({{x}} / {{y}})"
            print(made[0, n][{target}])""",
        data={"numbers": digits, "target": target})


def six_digits_ok(data, answer):
    """Six significant digits, or more: half a unit of the sixth; what has fewer digits must be exact."""
    truth = Fraction(data["answer"])
    first_digit = int(f"{float(truth):e}".partition("e")[2])
    return within(rational(answer), truth, Fraction(10) ** (first_digit - 5))


@task("new_operator", "SymBench", "train", "math", six_digits_ok)
def new_operator(rng, level):
    uses = grow(level, 1, 4)
    names = rng.sample("#@$&~%", min(uses, grow(level, 1, 3)))
    p, q = rng.randint(2, 5), rng.randint(2, 5)
    formulas = dict(zip(names, rng.sample((
        (f"{p} * a + {q} * b", lambda a, b: p * a + q * b),
        (f"a + {q} * b", lambda a, b: a + q * b),
        (f"{p} * a * b", lambda a, b: p * a * b),
        ("(a + b) / b", lambda a, b: (a + b) / b),
        ("a * a - b", lambda a, b: a * a - b)), len(names))))
    while True:
        numbers = [rng.randint(1, 10) for _ in range(uses + 1)]
        items = [(Fraction(n), str(n), f"Fraction({n})") for n in numbers]
        wanted = names + rng.choices(names, k=uses - len(names))
        rng.shuffle(wanted)
        try:
            for name in wanted:
                at = rng.randrange(len(items) - 1)
                (a, left, x), (b, right, y) = items[at:at + 2]
                call = f"{'fgh'[names.index(name)]}({x}, {y})"
                items[at:at + 2] = [(formulas[name][1](a, b), f"({left} {name} {right})", call)]
        except ZeroDivisionError:
            continue
        (value, text, call), = items
        if abs(value) < 10**7 and value.denominator < 1000:
            break
    return Draft(
        "New operators are defined for numbers a and b:\n"
        + "\n".join(f"a {name} b = {formulas[name][0]}" for name in names)
        + f"\nWhat is {text[1:-1]}? Calculate exactly.\nAnswer format: an integer, a fraction such as "
        "22/7, or a decimal with at least six significant digits",
        program=code("from fractions import Fraction", *(
            f"\ndef {'fgh'[i]}(a, b):  # a {name} b\n    return {formulas[name][0]}"
            for i, name in enumerate(names)),
            f"print({call})"),
        answer=str(value))


@task("game24", "SymBench", "train", "search", uses_numbers)
def game24(rng, level):
    numbers = [0]
    while not reaches(numbers, 24):
        numbers = [rng.randint(1, (20, 9, 11, 13, 13)[level - 1]) for _ in range({1: 3, 5: 5}.get(level, 4))]
    return Draft(
        f"Use each of the numbers {', '.join(map(str, numbers))} exactly once, with + - * / and parentheses, "
        "to make 24.\nAnswer format: one expression, such as (10 - 4) * 4",
        program=numbers_program(numbers, 24) + "\nprint(found)",
        data={"numbers": numbers, "target": 24})


@task("number_multiply", "SymBench", "train", "math", exact(integer))
def number_multiply(rng, level):
    numbers, product = [], 1
    for _ in range(rng.randint(2, grow(level, 2, 4))):
        digits = rng.randint(max(1, level - 1), level + 1)
        number = rng.randint(2 if digits == 1 else 10 ** (digits - 1), 10 ** digits - 1)
        numbers.append(number * rng.choice((1, -1)))
        product *= numbers[-1]
    term = " * ".join(str(n) if n > 0 else f"({n})" for n in numbers)
    return Draft(
        f"What is {term}?\nAnswer format: a whole number, with a minus sign if it is negative.",
        program=f"print({term})",
        answer=str(product),
        recheck=f"print({{answer}} % {numbers[0]} == 0 and {{answer}} // ({numbers[0]}) == "
                f"{' * '.join(f'({n})' for n in numbers[1:])})")


# --------------------------------------------------------------------------------------- card games and codes
@task("mahjong_pattern", "SymBench", "train", "logic", exact(integer))
def mahjong_pattern(rng, level):
    letters, chi = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:grow(level, 14, 26)], level >= 3

    def judge(hand, card):
        near_by = [chr(ord(card) + step) in hand for step in (-2, -1, 1, 2)]
        return 1 if hand.count(card) >= 2 else 2 * (chi and any(map(all, zip(near_by, near_by[1:]))))

    verdict, fitting = rng.randrange(3 if chi else 2), []
    while not fitting:  # the last card is one that gets the verdict
        start = rng.sample(letters * 2, 13)
        hand, rounds = start.copy(), []
        for _ in range(grow(level, 1, 10) - 1):
            card = rng.choice(letters)
            hand.append(card)
            gone = rng.choice(hand)
            hand.remove(gone)
            rounds.append((card, gone))
        fitting = [card for card in letters if judge(hand, card) == verdict]
    rounds.append((rng.choice(fitting), None))
    story = [f"{card} is added and judged" + (f", then {gone} is removed." if gone else ".")
             for card, gone in rounds]
    rules = ("1 (Peng) if the hand before it already holds at least two cards of the same letter; "
             + ("otherwise 2 (Chi) if two cards of the hand, of two different letters, make three "
                "consecutive letters of the alphabet together with it (the new card may be the first, the "
                "middle or the last of the three); "
                if chi else "") + "otherwise 0.")
    steps = ((-2, -1), (-1, 1), (1, 2))  # from the new card to the other two of three consecutive letters
    return Draft(
        f"A hand of 13 letter cards: {' '.join(start)}\nIn every round a card is added to the hand and "
        f"judged. The verdict is {rules}\n" + numbered(story)
        + f"\nWhat is the verdict of the last round?\nAnswer format: {'0, 1 or 2' if chi else '0 or 1'}.",
        program=f"""
            from collections import Counter

            hand = Counter("{"".join(start)}")
            for card, gone in {rounds}:
                if hand[card] >= 2:
                    verdict = 1{f'''
                elif any(hand[chr(ord(card) + i)] and hand[chr(ord(card) + j)] for i, j in {steps}):
                    verdict = 2''' if chi else ''}
                else:
                    verdict = 0
                hand[card] += 1
                if gone:
                    hand[gone] -= 1
            print(verdict)""",
        answer=str(verdict))


# Who wins in the three card games: (cards, rule, pairs in which the first card beats the second).
CARD_GAMES = (
    ("ABCD", "A beats B, B beats C, C beats D and D beats A; any other two cards are a draw.",
     "AB BC CD DA".split()),
    ("ABCDE", (
     "Each card makes the next one in the circle A, B, C, D, E, A, and a player whose card makes the other "
     "player's card loses. Each card overcomes the next one in the circle A, C, E, B, D, A, and a player "
     "whose card overcomes the other player's card wins. Equal cards are a draw."),
     "BA CB DC ED AE AC CE EB BD DA".split()),
    ("ABCDEFGH", (
     "A card beats all that come later in the alphabet, A being the strongest and H the weakest, but H "
     "beats A. Equal cards are a draw."),
     [a + b for a, b in combinations("ABCDEFGH", 2) if a + b != "AH"] + ["HA"]),
)


def card_result(wins, mine, theirs):
    return "win" if mine + theirs in wins else "loss" if theirs + mine in wins else "draw"


def opponent_ok(data, answer):
    cards, _, wins = CARD_GAMES[data["game"]]
    found = symbols(answer.upper())
    return (len(found) == len(set(found)) == len(data["mine"]) and set(found) <= set(cards)
            and [card_result(wins, *pair) for pair in zip(data["mine"], found)] == data["results"])


@task("constrained_linear_arrangement", "SymBench", "test", "order", opponent_ok)
def constrained_linear_arrangement(rng, level):
    game = rng.choice(((0,), (0, 1), (0, 1, 2), (1, 2), (1, 2))[level - 1])
    cards, rule, wins = CARD_GAMES[game]
    rounds = min(grow(level, 3, 5), 4 if game == 0 else 5)
    mine, hidden = rng.choices(cards, k=rounds), rng.sample(cards, rounds)
    results = [card_result(wins, a, b) for a, b in zip(mine, hidden)]
    return Draft(
        f"Two players show one card each in every round; the cards are {', '.join(cards)}. {rule} My "
        "opponent used no card twice. This is what I played and how it ended for me:\n"
        + numbered(f"{card}: {result}" for card, result in zip(mine, results))
        + "\nWhich cards can my opponent have played?\nAnswer format: the opponent's cards in the order of "
        "the rounds, separated by commas. If several sequences are possible, any of them is right.",
        program=f"""
            from itertools import permutations

            beats = "{" ".join(wins)}".split()
            mine = {mine}
            results = {results}

            def result(a, b):
                return "win" if a + b in beats else "loss" if b + a in beats else "draw"

            for theirs in permutations("{cards}", {rounds}):
                if [result(a, b) for a, b in zip(mine, theirs)] == results:
                    print(",".join(theirs))
                    break""",
        data={"game": game, "mine": mine, "results": results})


def lock_feedback(code, guess, hints):
    """(in place, misplaced, wrong, wrong and below all of the code, wrong and above all of the code)"""
    wrong = [symbol for symbol in guess if symbol not in code]
    placed = sum(a == b for a, b in zip(code, guess))
    below, above = (sum(symbol < min(code) for symbol in wrong), sum(symbol > max(code) for symbol in wrong))
    return (placed, 2 - placed - len(wrong), len(wrong), below if hints else 0, above if hints else 0)


def lock_sentence(feedback, low, high):
    placed, misplaced, wrong, below, above = feedback
    hints = [f"{count} {word}" for count, word in ((below, low), (above, high)) if count]
    parts = [f"{placed} in place"] * (placed > 0) + [f"{misplaced} misplaced"] * (misplaced > 0)
    return ", ".join(parts + [f"{wrong} wrong" + f" ({', '.join(hints)})" * bool(hints)] * (wrong > 0))


@task("cryptanalysis", "SymBench", "test", "logic", exact(lambda answer: symbols(answer.upper())))
def cryptanalysis(rng, level):
    alphabets = ("0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:grow(level, 8, 26)])
    hints = (True, level >= 3)
    code_ = [rng.sample(alphabet, 2) for alphabet in alphabets]
    left, clues = [], []
    while left != code_:
        left, clues = [list(map(list, permutations(alphabet, 2))) for alphabet in alphabets], []
        for _ in range(40):
            guess = [rng.sample(alphabet, 2) for alphabet in alphabets]
            for half, right in zip(guess, code_):
                if rng.random() < 0.4 and right[0] not in half:
                    half[rng.randrange(2)] = right[0]
            answers = [lock_feedback(*three) for three in zip(code_, guess, hints)]
            fewer = [[pair for pair in pairs if lock_feedback(pair, half, hint) == answer]
                     for pairs, half, hint, answer in zip(left, guess, hints, answers)]
            if guess != code_ and sum(map(len, fewer)) < sum(map(len, left)):
                left = fewer
                clues.append(("".join(guess[0]), "".join(guess[1]), *answers))
            if len(left[0]) == len(left[1]) == 1:
                break
        left = [pairs[0] for pairs in left] if 3 <= len(clues) <= 8 and sum(map(len, left)) == 2 else []
    shown = [f"{digits}{letters} - digits: {lock_sentence(d, 'too small', 'too large')}; letters: "
             f"{lock_sentence(l, 'too early', 'too late')}" for digits, letters, d, l in clues]
    return Draft(
        "A lock code has two different digits (0 to 9), then two different letters (A to "
        f"{alphabets[1][-1]}). Guesses were answered separately for the digits and for the letters: how many "
        "are right and in place, how many are in the code but misplaced, and how many are wrong. Of the "
        "wrong digits it is also said how many are too small (below both digits of the code) or too large "
        "(above both); those of which neither is said lie in between. "
        + ("In the same way wrong letters are too early in the alphabet (before both letters of the code) or "
           "too late (after both).\n" if level >= 3 else
           "Nothing of this kind is said about wrong letters.\n")
        + numbered(shown) + "\nWhat is the code?\nAnswer format: a list of its four symbols, such as "
        '["0", "1", "B", "A"]',
        program=code("from itertools import permutations", listing("clues", (
            f'("{digits}", "{letters}", {d}, {l})' for digits, letters, d, l in clues)), f"""
            def feedback(code, guess, hints):
                placed = sum(a == b for a, b in zip(code, guess))
                wrong = [x for x in guess if x not in code]
                small = sum(x < min(code) for x in wrong) if hints else 0
                large = sum(x > max(code) for x in wrong) if hints else 0
                return placed, 2 - placed - len(wrong), len(wrong), small, large

            for digits in permutations("{alphabets[0]}", 2):
                if all(feedback(digits, guess, True) == seen for guess, _, seen, _ in clues):
                    break
            for letters in permutations("{alphabets[1]}", 2):
                if all(feedback(letters, guess, {level >= 3}) == seen for _, guess, _, seen in clues):
                    break
            print([*digits, *letters])"""),
        answer=str([*code_[0], *code_[1]]))


# --------------------------------------------------------------------------------------------- exchange rules
def exchanges(text):
    """'2A + B -> X; 3X -> B' as a list of (inputs, outputs), dicts from name to number."""
    def side(part):
        return {name: int(count or 1) for count, name in re.findall(r"([0-9]*)([^\s+]+)", part)}
    return [tuple(map(side, method.split("->"))) for method in text.split("; ")]


def exchange(stock, methods, often):
    """The stock after passes through the methods until nothing happens; None if 200 passes are not enough.

    In a pass each method is used as often as possible (`often`) or at most once.
    """
    stock = dict(stock)
    for _ in range(200):
        before = dict(stock)
        for inputs, outputs in methods:
            while all(stock[name] >= count for name, count in inputs.items()):
                for name, count in inputs.items():
                    stock[name] -= count
                for name, count in outputs.items():
                    stock[name] += count
                if not often:
                    break
        if stock == before:
            return stock
    return None


def exchange_program(stock, methods, often):
    """Program that leaves the final stock in `stock`."""
    return code(f"stock = {stock}", listing("methods", methods), f"""
        busy = True
        while busy:
            busy = False
            for inputs, outputs in methods:
                {'while' if often else 'if'} all(stock[name] >= count for name, count in inputs.items()):
                    for name, count in inputs.items():
                        stock[name] -= count
                    for name, count in outputs.items():
                        stock[name] += count
                    busy = True""")


def draw_stock(rng, names, raw, high, methods, often):
    """A start (0 to `high` of each raw thing, none of the others) from which things change, and the end."""
    while True:
        start = {name: rng.randint(0, high) if name in raw else 0 for name in names}
        end = exchange(start, methods, often)
        if end not in (None, start):
            return start, end


def shown_stock(stock):
    return ", ".join(f"{count} {name}" for name, count in stock.items() if count)


BARTER = (  # for levels 1-2, 3, 4-5
    ("A + B -> X; 3A -> 2X", "2A + B -> X; 2B -> A", "A + 2B -> 2X; 3A -> B", "2A -> B; A + 2B -> 3X",
     "A + 2B -> X; 2A -> X + B"),
    ("A + B -> X; 2A -> B + X; 3B -> 2X", "2A -> B; A + 2B -> X; A + X -> Y",
     "A + 2B -> X; B + X -> Y; 3A -> B", "2A + B -> 2X; 2B -> Y; X + Y -> B",
     "3A -> B + X; A + B -> Y; 2X + Y -> 2B"),
    ("2A + B + C -> 3X; A + B -> 2C; 2C + X -> Y; A + 2X -> Y", "A + B -> C; 2C -> X; A + X -> Y; 3B -> 2C",
     "3A -> B + C; B + C -> X; 2B + X -> Y; A + 2C -> X", "A + C -> 2B; 2B + X -> Y; B + C -> X; 4A -> 2C",
     "2B + C -> A + X; A + C -> Y; X + Y -> 2B; 3A -> 2X"),
)


@task("synthesis_decomposition", "SymBench", "train", "code", exact(list_of(integer)))
def synthesis_decomposition(rng, level):
    chosen = rng.choice(BARTER[(0, 0, 1, 2, 2)[level - 1]]).split("; ")
    rng.shuffle(chosen)
    methods = exchanges("; ".join(chosen))
    names = [name for name in "ABCXY" if name in "".join(chosen)]
    start, end = draw_stock(rng, names, "ABC", grow(level, 10, 18), methods, often=False)
    return Draft(
        f"A farm barters crops ({', '.join(name for name in names if name in 'ABC')}) for goods "
        f"({', '.join(name for name in names if name in 'XY')}) by these methods: what stands on the left is "
        "given away, what stands on the right is received.\n" + numbered(chosen)
        + f"\nAt the start it has {shown_stock(start)} and nothing else. The farm goes through the methods "
        "in this order, uses each of them once if it has enough for it and skips it otherwise. It repeats "
        f"such passes until a whole pass changes nothing. How many {', '.join(names)} are there in the "
        f"end?\nAnswer format: a list of {len(names)} whole numbers in the order {', '.join(names)}",
        program=exchange_program(start, methods, often=False) + "\nprint(list(stock.values()))",
        answer=str(list(end.values())))


@task("string_synthesis", "SymBench", "train", "code", exact(list_of(integer)))
def string_synthesis(rng, level):
    rules = ("[A] + [B] + [C] -> {A}; [A] + [B] -> {C}; [B] + [C] -> {B}; 2[C] -> {C}; {A} + {C} -> (A) + "
             "(B); 2{B} -> (C)")
    names, methods = "[A] [B] [C] {A} {B} {C} (A) (B) (C)".split(), exchanges(rules)
    start, end = draw_stock(rng, names, names[:3], grow(level, 10, 20), methods, often=True)
    return Draft(
        "Blocks are turned into other blocks by these rules:\n" + numbered(rules.split("; "))
        + f"\nThe blocks at the start: {shown_stock(start)}. Go through the rules in this order and use each "
        "of them as often as possible before going on to the next one. Repeat such passes until a whole pass "
        "changes nothing. How many blocks of each kind are there then?\nAnswer format: nine whole numbers "
        f"separated by spaces, in the order {' '.join(names)}",
        program=exchange_program(start, methods, often=True) + "\nprint(*stock.values())",
        answer=" ".join(map(str, end.values())))


@task("string_splitting", "SymBench", "train", "code", exact(list_of(integer)))
def string_splitting(rng, level):
    methods = exchanges("A -> 2X + Y; 2B -> X; 2C -> Y; B + C -> A; X + Y -> Z")
    start, end = draw_stock(rng, list("ABCXYZ"), "ABC", grow(level, 7, 18), methods, often=False)
    wording = rng.choice(("{} can be turned into {}", "take {} and get {}", "{} can be exchanged for {}",
                          "from {} one makes {}"))

    def amounts(side):
        return " and ".join(f"{count} {name}" for name, count in side.items())

    return Draft(
        "A workshop has machines A, B, C and parts X, Y, Z, and knows these methods:\n"
        + numbered(wording.format(amounts(inputs), amounts(outputs)) for inputs, outputs in methods)
        + f"\nAt the start it has {shown_stock(start)} and nothing else. The workshop passes through the "
        "methods in this order and carries out each of them once, if there is enough for it. It stops after "
        "a pass in which nothing was carried out. What is there in the end?\nAnswer format: a list of six "
        "whole numbers in the order A, B, C, X, Y, Z",
        program=exchange_program(start, methods, often=False) + "\nprint(list(stock.values()))",
        answer=str(list(end.values())))


# ---------------------------------------------------------------------------------------------------- strings
@task("statistical_counting", "SymBench", "train", "string", exact(integer))
def statistical_counting(rng, level):
    letters, text = "ABCDEFG"[:grow(level, 3, 7)], ""
    for _ in range(rng.randint(grow(level, 5, 50), grow(level, 12, 65))):
        text += text[-1] if text and rng.random() < 0.35 else rng.choice(letters)
    score = sum(letters.index(run[0]) + 1 for run in re.findall(r"((.)\2+)", text) for run in run[:1])
    return Draft(
        "In a string, every unbroken run of two or more equal letters scores once, however long it is: "
        + ", ".join(f"{letter} scores {points}" for points, letter in enumerate(letters, 1))
        + f". Single letters score nothing. What is the total score of {text}?\nAnswer format: a whole "
          "number.",
        program=f"""
            from itertools import groupby

            score = 0
            for letter, run in groupby("{text}"):
                if len(list(run)) >= 2:
                    score += "{letters}".index(letter) + 1
            print(score)""",
        answer=str(score))


@task("string_insertion", "SymBench", "test", "string", exact(string))
def string_insertion(rng, level):
    insert = {"ABCD": "A", "BCDE": "B", "CDEA": "C", "DEAB": "D", "EABC": "E"}
    parts = rng.choices(list(insert), k=rng.randint(level, level + 1))
    parts += rng.choices("ABCDE", k=rng.randint(4 * level, 4 * level + 6))
    rng.shuffle(parts)
    text = "".join(parts)
    result = re.sub("|".join(insert), lambda found: found[0] + insert[found[0]], text)
    return Draft(
        "Scan a string from left to right. Where the next four letters are one of these patterns, insert a "
        "letter behind them:\n"
        + "\n".join(f"{pattern}: insert {letter}" for pattern, letter in insert.items())
        + "\nThen go on behind the four letters of the original string: patterns do not overlap, and "
        "inserted letters are not scanned. Where no pattern starts, go on by one letter. What becomes of "
        f"{text}?\nAnswer format: the new string.",
        program=f"""
            text = "{text}"
            insert = {insert}
            result, i = "", 0
            while i < len(text):
                pattern = text[i:i + 4]
                if pattern in insert:
                    result += pattern + insert[pattern]
                    i += 4
                else:
                    result += text[i]
                    i += 1
            print(result)""",
        answer=result)


# (sentence, test and edit in python, the same as functions of the string s, the pattern p, the new letters q)
STRING_EDITS = (
    ("If it starts with '{p}', replace this prefix with '{q}'.", "s.startswith('{p}')",
     "'{q}' + s[len('{p}'):]", lambda s, p, q: s.startswith(p), lambda s, p, q: q + s[len(p):]),
    ("If it starts with '{p}', delete this prefix.", "s.startswith('{p}')", "s[len('{p}'):]",
     lambda s, p, q: s.startswith(p), lambda s, p, q: s[len(p):]),
    ("If it starts with '{p}', move its first letter to the end.", "s.startswith('{p}')", "s[1:] + s[0]",
     lambda s, p, q: s.startswith(p), lambda s, p, q: s[1:] + s[0]),
    ("If it ends with '{p}', replace this suffix with '{q}'.", "s.endswith('{p}')", "s[:-len('{p}')] + '{q}'",
     lambda s, p, q: s.endswith(p), lambda s, p, q: s[:-len(p)] + q),
    ("If it ends with '{p}', delete this suffix.", "s.endswith('{p}')", "s[:-len('{p}')]",
     lambda s, p, q: s.endswith(p), lambda s, p, q: s[:-len(p)]),
    ("If it ends with '{p}', remove its last letter.", "s.endswith('{p}')", "s[:-1]",
     lambda s, p, q: s.endswith(p), lambda s, p, q: s[:-1]),
    ("If it contains '{p}', replace the first occurrence with '{q}'.", "'{p}' in s",
     "s.replace('{p}', '{q}', 1)", lambda s, p, q: p in s, lambda s, p, q: s.replace(p, q, 1)),
    ("If it contains '{p}', delete the first occurrence.", "'{p}' in s", "s.replace('{p}', '', 1)",
     lambda s, p, q: p in s, lambda s, p, q: s.replace(p, "", 1)),
    ("If the number of its letters {p[0]} is even and not zero, append '{q}'.",
     "s.count('{p[0]}') > 0 and s.count('{p[0]}') % 2 == 0", "s + '{q}'",
     lambda s, p, q: s.count(p[0]) > 0 and s.count(p[0]) % 2 == 0, lambda s, p, q: s + q),
    ("If it is longer than 15 letters, remove the middle one (index length // 2, counted from 0).",
     "len(s) > 15", "s[:len(s) // 2] + s[len(s) // 2 + 1:]",
     lambda s, p, q: len(s) > 15, lambda s, p, q: s[:len(s) // 2] + s[len(s) // 2 + 1:]),
)


def edited(text, rules):
    """All strings on the way: always the first rule that applies, until none does; None if they never end."""
    seen = [text]
    while True:
        step = next((edit(text, p, q) for *_, test, edit, p, q in rules if test(text, p, q)), None)
        if step is None:
            return seen
        if step in seen or len(seen) > 60 or not 0 < len(step) <= 40:
            return None
        seen.append(step)
        text = step


@task("string_deletion_and_modification", "SymBench", "train", "string", exact(string))
def string_deletion_and_modification(rng, level):
    steps = None
    while not steps or len(steps) <= level + 1 or steps[-1] in steps[0]:
        text = "".join(rng.choices("abc", k=grow(level, 8, 20)))
        rules = []
        for edit in rng.sample(STRING_EDITS, grow(level, 3, 6)):
            p = "".join(rng.choices("abc", k=rng.randint(2, 3)))
            rules.append((*edit, p, "".join(rng.choices("abc", k=rng.randint(1, 2)))))
        steps = edited(text, rules)
    return Draft(
        "A string is edited by numbered rules. Apply the first rule whose condition holds, once; then start "
        "again from rule 1 with the new string; stop when no rule applies.\n"
        + numbered(sentence.format(p=p, q=q) for sentence, *_, p, q in rules)
        + f"\nWhat becomes of {text}?\nAnswer format: the final string.",
        program=code(listing("rules", (
            f"(lambda s: {test.format(p=p, q=q)}, lambda s: {edit.format(p=p, q=q)})"
            for _, test, edit, _, _, p, q in rules)), f"""
            s = "{text}"
            while True:
                for test, edit in rules:
                    if test(s):
                        s = edit(s)
                        break
                else:
                    break
            print(s)"""),
        answer=steps[-1])


def count_and_positions(answer):
    """'Count: 2, Positions: [1, 3]' -> (2, [1, 3]); the order of the positions does not count."""
    plain = " ".join(re.sub(r"[\[\](),;:.=]", " ", answer.casefold()).split())
    found = re.fullmatch(r"(?:count )?([0-9]{1,4})(?: positions?)?((?: [0-9]{1,4})*)", plain)
    if not found:
        raise ValueError("not a count and positions")
    return int(found[1]), sorted(map(int, found[2].split()))


@task("letters", "SymBench", "train", "string", exact(count_and_positions))
def letters(rng, level):
    while True:
        word = "".join(rng.sample(WORDS, 2) if level <= 2 else rng.choices(
            "abcdefghijklmnopqrstuvwxyz"[:24 - 2 * level], k=rng.randint(4 * level - 2, 5 * level)))
        letter = rng.choice(word)
        positions = [place for place, other in enumerate(word, 1) if other == letter]
        if 8 <= len(word) <= 25 and len(positions) <= 5 and (len(positions) > 1 or rng.random() < 0.2):
            break
    return Draft(
        f'How many times does the letter {letter} occur in "{word}", and at which positions (counted from '
        '1)?\n'
        "Answer format: the count and the list of positions, such as Count: 7, Positions: [20, 30, ...]",
        program=f"""
            word = "{word}"
            positions = [i for i, letter in enumerate(word, 1) if letter == "{letter}"]
            print(f"Count: {{len(positions)}}, Positions: {{positions}}")""",
        answer=f"Count: {len(positions)}, Positions: {positions}")
