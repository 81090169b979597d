"""The 33 SymBench tasks (names are the suite's, texts and code are ours; known defects of the suite are repaired).

The three tasks that are made from templates (gsm, math_geometry, math_counting_and_probability) have a module of
their own, `tasks_symbench_math.py`.
"""
import re
from fractions import Fraction
from itertools import combinations, permutations

import tasks_symbench_math  # noqa: F401  (registers the three template tasks)
from tasks_kit import (
    WORDS,
    Draft,
    cells,
    code,
    exact,
    expression,
    flat_of,
    grid_text,
    grow,
    integer,
    list_of,
    listing,
    literal,
    near,
    near_all,
    numbered,
    rational,
    string,
    symbols,
    task,
)
from tasks_puzzles import (
    BFS_CODE,
    TRANSFORMATIONS,
    is_latin,
    latin_square,
    numbers_program,
    pool,
    pool_program,
    queens,
    queens_ok,
    queens_program,
    random_expression,
    reaches,
    sudoku,
    sudoku_ok,
    sudoku_program,
    uses_numbers,
)

# ------------------------------------------------------------------------------------- orders, equations, operators
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
    return sorted(order) == data["books"] and all(BOOK_RULES[kind][2](at, x, y) for kind, x, y in data["rules"])


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
        if BOOK_RULES[kind][2](at, x, y) and (kind != "at" or all(rule[0] != "at" for rule in rules.values())):
            rules.setdefault(frozenset((x, y)), (kind, x, y))
    rules = list(rules.values())
    return Draft(
        f"The {n} books {', '.join(books)} stand on positions 1 to {n} of a shelf, counted from the left. All of this "
        "is true:\n" + numbered(BOOK_RULES[kind][0].format(x=x, y=y) for kind, x, y in rules)
        + "\nFind an order of the books that fits.\nAnswer format: a list of the letters from left to right, such as "
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
    "ratio": ("{x} = {k} * {y}", '10 * v["{x}"] == {tenths} * v["{y}"]', lambda a, b, k: a == Fraction(k) * b),
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
        f"The letters {', '.join(letters)} stand for the numbers {', '.join(map(str, sorted(numbers)))}, each number "
        "in this list being used for exactly one letter (a number that is listed twice belongs to two letters). These "
        "relations are true:\n" + numbered(RELATIONS[kind][0].format(x=x, y=y, k=k) for kind, x, y, k in relations)
        + "\nFind values for the letters that fit.\nAnswer format: a list of the values in alphabetical order of the "
        "letters",
        program=code(
            listing("relations", (f'("{x}", "{y}", lambda v: {RELATIONS[kind][1].format(x=x, y=y, k=k, tenths=round(float(k) * 10))})'
                                  for kind, x, y, k in relations)),
            f"""
            letters = "{letters}"

            def solve(v, left):
                if not left:
                    return list(v.values())
                letter = letters[len(v)]
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
    return (value == data["target"] and numbers == data["numbers"] and not re.search(r"(^|[-+*/(×÷−])\s*[-+−]", text.strip()))


@task("combinatorial_calculation", "SymBench", "train", "search", keeps_digits)
def combinatorial_calculation(rng, level):
    digits, target = [], 0
    while not 0 < target <= grow(level, 20, 200):
        digits = [rng.randint(1, 9) for _ in range(grow(level, 3, 6))]
        target = random_expression(rng, digits)[0]
    return Draft(
        f"Put + - * / between the digits {' '.join(map(str, digits))} and set parentheses where you like, so that the "
        f"value is {target}. Keep the order of the digits, use each of them once and do not join them to larger "
        "numbers; no sign in front of a number or a parenthesis.\nAnswer format: the expression, such as (7 - 2) * 3",
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


@task("new_operator", "SymBench", "train", "math", near(1e-4, relative=True))
def new_operator(rng, level):
    uses = grow(level, 1, 4)
    names = rng.sample("#@$&~%", min(uses, grow(level, 1, 3)))
    formulas = {}
    for name in names:
        p, q = rng.randint(2, 5), rng.randint(2, 5)
        formulas[name] = rng.choice((
            (f"{p} * a + {q} * b", lambda a, b, p=p, q=q: p * a + q * b),
            (f"a + {q} * b", lambda a, b, q=q: a + q * b),
            (f"{p} * a * b", lambda a, b, p=p: p * a * b),
            ("(a + b) / b", lambda a, b: (a + b) / b),
            ("a * a - b", lambda a, b: a * a - b)))
    while True:
        items = [(Fraction(n), str(n), f"Fraction({n})") for n in (rng.randint(1, 10) for _ in range(uses + 1))]
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
        + f"\nWhat is {text[1:-1]}? Calculate exactly.\nAnswer format: a whole number, a fraction such as 22/7, or a "
        "decimal with at least six significant digits",
        program=code("from fractions import Fraction", *(
            f"\ndef {'fgh'[i]}(a, b):  # a {name} b\n    return {formulas[name][0]}" for i, name in enumerate(names)),
            f"print({call})"),
        answer=str(value))


@task("game24", "SymBench", "train", "search", uses_numbers)
def game24(rng, level):
    numbers = [0]
    while not reaches(numbers, 24):
        numbers = [rng.randint(1, 13) for _ in range({1: 3, 5: 5}.get(level, 4))]
    return Draft(
        f"Use each of the numbers {', '.join(map(str, numbers))} exactly once, with + - * / and parentheses, to "
        "make 24.\nAnswer format: one expression, such as (10 - 4) * 4",
        program=numbers_program(numbers, 24) + "\nprint(found)",
        data={"numbers": numbers, "target": 24})


@task("number_multiply", "SymBench", "train", "math", exact(integer))
def number_multiply(rng, level):
    numbers, product = [], 1
    for _ in range(rng.randint(2, grow(level, 2, 4))):
        digits = rng.randint(max(1, level - 1), level + 1)
        numbers.append(rng.randint(2 if digits == 1 else 10 ** (digits - 1), 10 ** digits - 1) * rng.choice((1, -1)))
        product *= numbers[-1]
    term = " * ".join(str(n) if n > 0 else f"({n})" for n in numbers)
    return Draft(
        f"What is {term}?\nAnswer format: a whole number, with a minus sign if it is negative.",
        program=f"print({term})",
        answer=str(product),
        recheck=f"print({{answer}} % {numbers[0]} == 0 and {{answer}} // ({numbers[0]}) == "
                f"{' * '.join(f'({n})' for n in numbers[1:])})")


# ----------------------------------------------------------------------------------------------- boards and lights
def full_board_ok(data, answer):
    squares = cells(answer)
    return (queens_ok(squares, 8) and set(data["placed"]) <= set(squares)
            and not set(data["forbidden"]) & set(squares))


@task("eight_queens", "SymBench", "train", "spatial", full_board_ok)
def eight_queens(rng, level):
    solution = list(enumerate(queens(rng, 8)))
    placed = sorted(rng.sample(solution, grow(level, 6, 1)))
    others = [(r, c) for r in range(8) for c in range(8) if (r, c) not in solution]
    forbidden = sorted(rng.sample(others, grow(level, 0, 10)))
    board = [["1" if (r, c) in placed else "X" if (r, c) in forbidden else "0" for c in range(8)] for r in range(8)]
    return Draft(
        "Complete this chess board to eight queens of which no two share a row, a column or a diagonal. 1 is a queen "
        f"that stands already and stays, X a square that must stay empty, 0 a free square.\n{grid_text(board)}\n"
        "Answer format: all eight squares, those that were given included, as 'row column' with rows and columns "
        "counted from 0 at the top left, separated by commas, such as 7 7, 3 5, ...",
        program=queens_program(8, placed, forbidden)
        + '\nprint(", ".join(f"{r} {c}" for r, c in enumerate(columns)))',
        data={"placed": placed, "forbidden": forbidden})


@task("pooling", "SymBench", "train", "math", near_all(0.01, flat_of(rational)))
def pooling(rng, level):
    n = grow(level, 3, 6)
    size, average = rng.randint(2, min(3, n - 1)), rng.random() < 0.5
    matrix = [[rng.randint(-10, 20) for _ in range(n)] for _ in range(n)]
    pooled = [round(float(entry), 2) if average else int(entry)
              for row in pool(matrix, size, 1, average) for entry in row]
    return Draft(
        f"A {size} x {size} window slides over this {n} x {n} matrix with stride 1, so the windows overlap:\n"
        f"{grid_text(matrix)}\nFor every place where the window lies wholly inside, "
        + ("take the average of its numbers, rounded to two decimals." if average else "take its largest number.")
        + " List the results row by row.\nAnswer format: numbers separated by commas.",
        program=pool_program(matrix, size, 1, average) + '\nprint(", ".join(str(x) for row in pooled for x in row))',
        answer=", ".join(map(str, pooled)))


def reversi_flips(board, piece, row, column):
    """The enemy pieces that a piece on this square would flip."""
    flips = []
    for down, right in ((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
        run, r, c = [], row + down, column + right
        while 0 <= r < len(board) and 0 <= c < len(board) and board[r][c] not in ("*", piece):
            run.append((r, c))
            r, c = r + down, c + right
        if 0 <= r < len(board) and 0 <= c < len(board) and board[r][c] == piece:
            flips += run
    return flips


def reversi_game(rng, n, count):
    """Boards and moves of a random game from the four centre pieces; shorter where a player cannot move."""
    board, half = [["*"] * n for _ in range(n)], n // 2
    board[half - 1][half - 1] = board[half][half] = "1"
    board[half - 1][half] = board[half][half - 1] = "0"
    boards, moves = [[row[:] for row in board]], []
    for turn in range(count):
        piece = "01"[turn % 2]
        legal = [(r, c) for r in range(n) for c in range(n)
                 if board[r][c] == "*" and reversi_flips(board, piece, r, c)]
        if not legal:
            break
        row, column = rng.choice(legal)
        for r, c in [(row, column), *reversi_flips(board, piece, row, column)]:
            board[r][c] = piece
        boards.append([row[:] for row in board])
        moves.append((piece, row + 1, column + 1))
    return boards, moves


@task("reversi", "SymBench", "test", "spatial", exact(symbols))
def reversi(rng, level):
    n, asked = (4, 4, 6, 6, 8)[level - 1], grow(level, 1, 4)
    before = rng.randint(2, 12 if n > 4 else 5)
    boards, moves = [], []
    while len(moves) < before + asked:
        boards, moves = reversi_game(rng, n, before + asked)
    moves = moves[before:]
    shown = "; ".join(f"{piece} at ({r}, {c})" for piece, r, c in moves)
    return Draft(
        f"Reversi on a {n} x {n} board: 0 is a black piece, 1 a white one, * an empty square. A new piece flips every "
        "unbroken straight run of enemy pieces (all eight directions) between it and another piece of its own colour."
        f"\n{grid_text(boards[before])}\nNow these pieces are put down, one after the other, as (row, column) counted "
        f"from 1 at the top left: {shown}. What does the board look like then?\nAnswer format: the {n * n} symbols "
        "row by row, separated by commas.",
        program=f"""
            n = {n}
            board = [list(row) for row in {["".join(row) for row in boards[before]]}]
            for piece, row, column in {moves}:
                row, column = row - 1, column - 1
                board[row][column] = piece
                for dr in (-1, 0, 1):
                    for dc in (-1, 0, 1):
                        run, r, c = [], row + dr, column + dc
                        while 0 <= r < n and 0 <= c < n and board[r][c] not in ("*", piece):
                            run.append((r, c))
                            r, c = r + dr, c + dc
                        if run and 0 <= r < n and 0 <= c < n and board[r][c] == piece:
                            for i, j in run:
                                board[i][j] = piece
            print(",".join(symbol for row in board for symbol in row))""",
        answer=",".join(symbol for row in boards[-1] for symbol in row))


@task("light_puzzles", "SymBench", "train", "spatial", exact(symbols))
def light_puzzles(rng, level):
    n = grow(level, 2, 6)
    start = [[rng.randint(0, 1) for _ in range(n)] for _ in range(n)]
    places = [(r, c) for r in range(n) for c in range(n)]
    final = start
    while final == start:
        buttons = {name: sorted(rng.sample(places, rng.randint(1, n * n // 2)))
                   for name in "ABCD"[:rng.randint(grow(level, 1, 3), grow(level, 2, 4))]}
        presses = rng.choices(list(buttons), k=rng.randint(level, level + 3))
        final = [[light ^ sum((r, c) in buttons[name] for name in presses) % 2 for c, light in enumerate(row)]
                 for r, row in enumerate(start)]
    wiring = {name: [(r + 1, c + 1) for r, c in lights] for name, lights in buttons.items()}
    return Draft(
        f"A panel has {n} rows of {n} lights, 1 is on and 0 is off:\n{grid_text(start)}\nA button switches each of its "
        "lights over, from on to off or from off to on. The lights are given as (row,column), counted from 1 at the "
        "top left.\n" + "\n".join(f"Button {name}: {' '.join(f'({r},{c})' for r, c in lights)}"
                                  for name, lights in wiring.items())
        + f"\nThe buttons are pressed in this order: {', '.join(presses)}. What does the panel show then?\n"
        f"Answer format: the {n * n} digits row by row, separated by commas.",
        program=f"""
            panel = {start}
            buttons = {wiring}
            for name in "{"".join(presses)}":
                for row, column in buttons[name]:
                    panel[row - 1][column - 1] ^= 1
            print(",".join(str(light) for row in panel for light in row))""",
        answer=",".join(str(light) for row in final for light in row))


def play_2048(grid, row, column, moves):
    """Moves the number at this place about; the grid that results."""
    grid, n = [line[:] for line in grid], len(grid)
    for move in moves:
        down, right = {"u": (-1, 0), "d": (1, 0), "l": (0, -1), "r": (0, 1)}[move]
        r, c = row + down, column + right
        if 0 <= r < n and 0 <= c < n and grid[r][c] in (0, grid[row][column]):
            value, grid[row][column] = grid[row][column], 0
            grid[r][c] += value
            row, column = r, c
    return grid


@task("game_2048", "SymBench", "test", "code", exact(flat_of(integer)))
def game_2048(rng, level):
    n = grow(level, 2, 5)
    final = grid = None
    while final == grid:
        grid = [[0] * n for _ in range(n)]
        filled = rng.sample([(r, c) for r in range(n) for c in range(n)], rng.randint(n, 2 * n))
        for r, c in filled:
            grid[r][c] = rng.choice((2, 2, 4, 4, 8, 16))
        row, column = filled[0]
        moves = "".join(rng.choices("udlr", k=rng.randint(2 * level - 1, 2 * level)))
        final = play_2048(grid, row, column, moves)
    return Draft(
        f"One number of this {n} x {n} grid is moved about, the others stay:\n{grid_text(grid)}\nIt is the "
        f"{grid[row][column]} in row {row + 1}, column {column + 1} (counted from 1 at the top left), and the moves are "
        f"{moves} (u up, d down, l left, r right), one cell per letter. It moves into a cell with 0 and leaves 0 "
        "behind. If the cell holds an equal number, the two merge into their sum, which is the number that moves from "
        "then on. If the cell holds a different number or lies outside the grid, nothing happens. What does the grid "
        "look like in the end?\nAnswer format: the rows of the grid, numbers separated by commas.",
        program=f"""
            grid = {grid}
            r, c = {row}, {column}
            for move in "{moves}":
                dr, dc = {{"u": (-1, 0), "d": (1, 0), "l": (0, -1), "r": (0, 1)}}[move]
                i, j = r + dr, c + dc
                if not (0 <= i < {n} and 0 <= j < {n}):
                    continue
                if grid[i][j] == 0 or grid[i][j] == grid[r][c]:
                    grid[i][j] += grid[r][c]
                    grid[r][c] = 0
                    r, c = i, j
            for row in grid:
                print(*row, sep=", ")""",
        answer=grid_text(final, ", "))


@task("matrix_transformation", "SymBench", "train", "spatial", exact(symbols))
def matrix_transformation(rng, level):
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + "0123456789" * (level >= 3)
    low, high = grow(level, 2, 3), grow(level, 3, 6)
    matrix = [rng.choices(alphabet, k=rng.randint(low, high))]
    matrix += [rng.choices(alphabet, k=len(matrix[0])) for _ in range(rng.randint(low, high) - 1)]
    result = matrix
    while "".join(map("".join, result)) == "".join(map("".join, matrix)):
        steps = ["rotate by 90 degrees clockwise"]
        if level >= 4:
            steps = rng.choices(list(TRANSFORMATIONS), k=rng.randint(2, 3))
        result = matrix
        for step in steps:
            result = TRANSFORMATIONS[step][0](result)
    return Draft(
        f"Take this matrix:\n{grid_text(matrix)}\nTransform it: {', then '.join(steps)}. What does it look like then?\n"
        "Answer format: the symbols of the new matrix row by row, separated by commas.",
        program=code(f"m = {matrix}", *(TRANSFORMATIONS[step][1] for step in steps),
                     'print(",".join(symbol for row in m for symbol in row))'),
        answer=",".join(symbol for row in result for symbol in row))


def equal_squares(grid):
    """For each cell the side of the largest square of equal symbols whose bottom right corner it is."""
    side = [[1] * len(grid[0]) for _ in grid]
    for r in range(1, len(grid)):
        for c in range(1, len(grid[0])):
            if grid[r][c] == grid[r - 1][c] == grid[r][c - 1] == grid[r - 1][c - 1]:
                side[r][c] = 1 + min(side[r - 1][c], side[r][c - 1], side[r - 1][c - 1])
    return side


@task("pattern_recognition", "SymBench", "train", "spatial", exact(list_of(integer)))
def pattern_recognition(rng, level):
    alphabet = rng.sample("ABCDEFGHIJKLMNOPQRSTUVWXYZ", (26, 20, 12, 8, 5)[level - 1])
    while True:
        rows, columns = (rng.randint(grow(level, 6, 11), grow(level, 8, 15)) for _ in range(2))
        grid = [rng.choices(alphabet, k=columns) for _ in range(rows)]
        size, letter = rng.randint(3, grow(level, 3, 5)), rng.choice(alphabet)
        bottom, right = rng.randint(size - 1, rows - 1), rng.randint(size - 1, columns - 1)
        for r in range(bottom - size + 1, bottom + 1):
            grid[r][right - size + 1:right + 1] = [letter] * size
        sides = [side for row in equal_squares(grid) for side in row]
        # One square of this size, none larger, and no 3 x 3 one that is not part of it.
        if max(sides) == size and sides.count(size) == 1 and sum(side >= 3 for side in sides) == (size - 2) ** 2:
            break
    return Draft(
        f"Somewhere in this matrix there is a solid square of equal letters, at least 3 x 3:\n{grid_text(grid)}\n"
        "Where is the bottom right corner of the largest such square?\nAnswer format: [row, column], both counted from "
        "0 at the top left.",
        program=code(listing("grid", (f'"{"".join(row)}"' for row in grid)), """
            best, corner = 0, None
            side = {}
            for r in range(len(grid)):
                for c in range(len(grid[0])):
                    side[r, c] = 1
                    if r and c and grid[r][c] == grid[r - 1][c] == grid[r][c - 1] == grid[r - 1][c - 1]:
                        side[r, c] += min(side[r - 1, c], side[r, c - 1], side[r - 1, c - 1])
                    if side[r, c] > best:
                        best, corner = side[r, c], [r, c]
            print(corner)"""),
        answer=str([bottom, right]))


def logic_cells_ok(data, answer):
    """k cells with different numbers, the top right one among them; sums at most S, or products above 0."""
    grid, n, chosen = data["grid"], len(data["grid"]), cells(answer)
    if len(set(chosen)) != len(chosen) or len(chosen) != data["count"] or (0, n - 1) not in chosen or not all(
            0 <= r < n and 0 <= c < n for r, c in chosen):
        return False
    numbers = [grid[r][c] for r, c in chosen]
    lines = [[grid[r][c] for r, c in chosen if (r, c)[axis] == i] for axis in (0, 1) for i in range(n)]
    if data["most"] is not None:
        fits = all(sum(line) <= data["most"] for line in lines)
    else:
        fits = all(sum(number < 0 for number in line) % 2 == 0 for line in lines)
    return len(set(numbers)) == len(numbers) and fits


@task("logic_puzzle", "SymBench", "train", "search", logic_cells_ok)
def logic_puzzle(rng, level):
    small = level <= 2
    count = rng.randint(2, level + 2) if small else grow(level, 3, 10) - rng.randint(0, 1)
    most = None
    while True:
        n = rng.randint(2, 2 + level) if small else level + 2
        grid = [[rng.randint(1, 4) if small else rng.choice((-1, -1, 1)) * rng.randint(1, 20) for _ in range(n)]
                for _ in range(n)]
        corner, others = (0, n - 1), [(r, c) for r in range(n) for c in range(n) if (r, c) != (0, n - 1)]
        if small:  # the smallest bound that can be kept, found by trying all choices
            bounds = [bound for bound in range(1, 9) if any(
                logic_cells_ok({"grid": grid, "count": count, "most": bound}, str([corner, *rest]))
                for rest in combinations(others, count - 1))] if n * n >= count else []
            if bounds:
                most = bounds[0]
                break
        else:
            negative = [] if grid[0][-1] > 0 else [
                (grid[0][c], grid[r][c], grid[r][-1]) for r in range(1, n) for c in range(n - 1)
                if max(grid[0][c], grid[r][c], grid[r][-1]) < 0
                and len({grid[0][-1], grid[0][c], grid[r][c], grid[r][-1]}) == 4]
            positive = {number for row in grid for number in row if number > 0}
            if len(positive) >= count and grid[0][-1] > 0 or negative and len(positive) >= count - 4 >= 0:
                break
    rule = (f"the chosen numbers of every row and of every column add up to at most {most}" if small else
            "in every row and every column that has chosen cells the product of the chosen numbers is positive")
    if small:
        program = code("from itertools import combinations", f"grid = {grid}", f"""
            n, count, most = {n}, {count}, {most}
            others = [(r, c) for r in range(n) for c in range(n) if (r, c) != (0, n - 1)]
            for rest in combinations(others, count - 1):
                chosen = [(0, n - 1), *rest]
                different = len({{grid[r][c] for r, c in chosen}}) == count
                row_sums = [sum(grid[r][c] for r, c in chosen if r == i) for i in range(n)]
                column_sums = [sum(grid[r][c] for r, c in chosen if c == i) for i in range(n)]
                if different and max(row_sums + column_sums) <= most:
                    print(", ".join(f"{{r}} {{c}}" for r, c in chosen))
                    break""")
    else:
        program = code(listing("grid", grid), f"""
            n, count = {n}, {count}
            chosen = [(0, n - 1)]
            if grid[0][n - 1] < 0:  # a rectangle of four different negative numbers keeps all products positive
                chosen = next(corners for r in range(1, n) for c in range(n - 1)
                              for corners in [[(0, n - 1), (0, c), (r, c), (r, n - 1)]]
                              if all(grid[i][j] < 0 for i, j in corners)
                              and len({{grid[i][j] for i, j in corners}}) == 4)
            used = {{grid[r][c] for r, c in chosen}}
            for r in range(n):
                for c in range(n):
                    if len(chosen) < count and grid[r][c] > 0 and grid[r][c] not in used:
                        chosen.append((r, c))
                        used.add(grid[r][c])
            print(", ".join(f"{{r}} {{c}}" for r, c in chosen))""")
    return Draft(
        f"Choose {count} cells of this grid:\n{grid_text(grid)}\nTheir numbers must all be different, the top right "
        f"cell must be among them, and {rule}.\nAnswer format: the chosen cells as 'row column' with rows and columns "
        "counted from 0 at the top left, separated by commas, such as 8 8, 9 7, ...",
        program=program,
        data={"grid": grid, "count": count, "most": most})


def letter_square_ok(data, answer):
    givens, found = data["grid"], symbols(answer.casefold())
    n = len(givens)
    grid = [found[start:start + n] for start in range(0, n * n, n)]
    return (len(found) == n * n and set(found) == set("abcdefg"[:n]) and is_latin(grid)
            and len({grid[r][n - 1 - r] for r in range(n)}) == 1
            and all(given in ("", letter) for row, line in zip(givens, grid) for given, letter in zip(row, line)))


@task("letter_logic_diagram", "SymBench", "train", "logic", letter_square_ok)
def letter_logic_diagram(rng, level):
    n = grow(level, 4, 7)
    square = latin_square(rng, n, antidiagonal=True)
    blank = set(rng.sample(range(n * n), n * n * grow(level, 40, 70) // 100))
    grid = [["" if r * n + c in blank else "abcdefg"[entry - 1] for c, entry in enumerate(row)]
            for r, row in enumerate(square)]
    return Draft(
        f"Fill the empty places of this {n} x {n} square (rows one below the other, places separated by commas):\n"
        f"{grid_text(grid, ',')}\nEvery row and every column must hold each of the letters {', '.join('abcdefg'[:n])} "
        "exactly once, and all places on the diagonal from the top right to the bottom left must hold the same letter. "
        f"The letters that are given stay.\nAnswer format: {n} lines of {n} letters separated by commas.",
        program=code(listing("grid", grid), f"""
            n = {n}

            def candidates(r, c):
                used = set(grid[r]) | {{row[c] for row in grid}}
                if r + c == n - 1:  # on the diagonal: the letter that stands there already, if any
                    same = {{grid[i][n - 1 - i] for i in range(n)}} - {{""}}
                    return [letter for letter in sorted(same) or "{'abcdefg'[:n]}" if letter not in used]
                return [letter for letter in "{'abcdefg'[:n]}" if letter not in used]

            def solve():
                blanks = [(r, c) for r in range(n) for c in range(n) if not grid[r][c]]
                if not blanks:
                    return True
                options, r, c = min(((candidates(r, c), r, c) for r, c in blanks), key=lambda item: len(item[0]))
                for letter in options:
                    grid[r][c] = letter
                    if solve():
                        return True
                grid[r][c] = ""
                return False

            solve()
            for row in grid:
                print(",".join(row))"""),
        data={"grid": grid})


@task("standard_sudoku", "SymBench", "train", "search", sudoku_ok)
def standard_sudoku(rng, level):
    puzzle = sudoku(rng, 9, grow(level, 20, 50) - rng.randint(0, 3))
    shown = [[digit or "." for digit in row] for row in puzzle]
    return Draft(
        f"Solve this sudoku; a full stop is an empty cell:\n{grid_text(shown, ',')}\nEvery row, every column and every "
        "3 x 3 box must hold the digits 1 to 9 once each.\nAnswer format: 9 lines of 9 digits separated by commas.",
        program=sudoku_program(puzzle) + '\nfor row in grid:\n    print(*row, sep=",")',
        data={"puzzle": puzzle})


# ------------------------------------------------------------------------------------------ card games and codes
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
    story = [f"{card} is added and judged" + (f", then {gone} is removed." if gone else ".") for card, gone in rounds]
    rules = ("1 (Peng) if the hand before it already holds at least two cards of the same letter; "
             + ("otherwise 2 (Chi) if two cards of the hand, of two different letters, make three consecutive letters "
                "of the alphabet together with it (the new card may be the first, the middle or the last of the three); "
                if chi else "") + "otherwise 0.")
    return Draft(
        f"A hand of 13 letter cards: {' '.join(start)}\nIn every round a card is added to the hand and judged. The "
        f"verdict is {rules}\n" + numbered(story)
        + f"\nWhat is the verdict of the last round?\nAnswer format: {'0, 1 or 2' if chi else '0 or 1'}.",
        program=f"""
            from collections import Counter

            hand = Counter("{"".join(start)}")
            for card, gone in {rounds}:
                if hand[card] >= 2:
                    verdict = 1{'''
                elif any(hand[chr(ord(card) + i)] and hand[chr(ord(card) + j)] for i, j in ((-2, -1), (-1, 1), (1, 2))):
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
    ("ABCDE", ("Each card makes the next one in the circle A, B, C, D, E, A, and a player whose card makes the other "
     "player's card loses. Each card overcomes the next one in the circle A, C, E, B, D, A, and a player whose card "
     "overcomes the other player's card wins. Equal cards are a draw."),
     "BA CB DC ED AE AC CE EB BD DA".split()),
    ("ABCDEFGH", ("A card beats all that come later in the alphabet, A being the strongest and H the weakest, but H "
     "beats A. Equal cards are a draw."),
     [a + b for a, b in combinations("ABCDEFGH", 2) if a + b != "AH"] + ["HA"]),
)


def card_result(wins, mine, theirs):
    return "win" if mine + theirs in wins else "loss" if theirs + mine in wins else "draw"


def opponent_ok(data, answer):
    cards, _, wins = CARD_GAMES[data["game"]]
    found = symbols(answer.upper())
    return (len(found) == len(set(found)) == len(data["mine"]) and set(found) <= set(cards)
            and [card_result(wins, mine, theirs) for mine, theirs in zip(data["mine"], found)] == data["results"])


@task("constrained_linear_arrangement", "SymBench", "test", "order", opponent_ok)
def constrained_linear_arrangement(rng, level):
    game = rng.choice(((0,), (0, 1), (0, 1, 2), (1, 2), (1, 2))[level - 1])
    cards, rule, wins = CARD_GAMES[game]
    rounds = min(grow(level, 3, 5), 4 if game == 0 else 5)
    mine, hidden = rng.choices(cards, k=rounds), rng.sample(cards, rounds)
    results = [card_result(wins, a, b) for a, b in zip(mine, hidden)]
    return Draft(
        f"Two players show one card each in every round; the cards are {', '.join(cards)}. {rule} My opponent used no "
        "card twice. This is what I played and how it ended for me:\n"
        + numbered(f"{card}: {result}" for card, result in zip(mine, results))
        + "\nWhich cards can my opponent have played?\nAnswer format: the opponent's cards in the order of the rounds, "
        "separated by commas. If several sequences are possible, any of them is right.",
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
        f"A lock code has two different digits (0 to 9), then two different letters (A to {alphabets[1][-1]}). Guesses "
        "were answered separately for the digits and for the letters: how many are right and in place, how many are in "
        "the code but misplaced, and how many are wrong. Of the wrong digits it is also said how many are too small "
        "(below both digits of the code) or too large (above both); those of which neither is said lie in between. "
        + ("In the same way wrong letters are too early in the alphabet (before both letters of the code) or too late "
           "(after both).\n" if level >= 3 else "Nothing of this kind is said about wrong letters.\n")
        + numbered(shown) + "\nWhat is the code?\nAnswer format: a list of its four symbols, such as "
        '["0", "1", "B", "A"]',
        program=code("from itertools import permutations", listing("clues", (
            f'("{digits}", "{letters}", {d}, {l})' for digits, letters, d, l in clues)), f"""
            def feedback(code, guess, hints=True):
                placed = sum(a == b for a, b in zip(code, guess))
                wrong = [x for x in guess if x not in code]
                small = sum(x < min(code) for x in wrong) if hints else 0
                large = sum(x > max(code) for x in wrong) if hints else 0
                return placed, 2 - placed - len(wrong), len(wrong), small, large

            for digits in permutations("{alphabets[0]}", 2):
                if all(feedback(digits, guess) == seen for guess, _, seen, _ in clues):
                    break
            for letters in permutations("{alphabets[1]}", 2):
                if all(feedback(letters, guess{'' if level >= 3 else ', hints=False'}) == seen for _, guess, _, seen in clues):
                    break
            print([*digits, *letters])"""),
        answer=str([*code_[0], *code_[1]]))


# -------------------------------------------------------------------------------------------------- exchange rules
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
    """Start and end: `raw` things from 0 to `high` each, none of the others; something happens, and it ends."""
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
    ("A + B -> X; 2A -> B + X; 3B -> 2X", "2A -> B; A + 2B -> X; A + X -> Y", "A + 2B -> X; B + X -> Y; 3A -> B",
     "2A + B -> 2X; 2B -> Y; X + Y -> B", "3A -> B + X; A + B -> Y; 2X + Y -> 2B"),
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
    start, end = draw_stock(rng, names, "ABC", grow(level, 6, 12), methods, often=False)
    return Draft(
        f"A farm barters crops ({', '.join(name for name in names if name in 'ABC')}) for goods "
        f"({', '.join(name for name in names if name in 'XY')}) by these methods: what stands on the left is given "
        "away, what stands on the right is received.\n" + numbered(chosen)
        + f"\nAt the start it has {shown_stock(start)} and nothing else. The farm goes through the methods in this "
        "order, uses each of them once if it has enough for it and skips it otherwise. It repeats such passes until a "
        f"whole pass changes nothing. How many {', '.join(names)} are there in the end?\nAnswer format: a list of "
        f"{len(names)} whole numbers in the order {', '.join(names)}",
        program=exchange_program(start, methods, often=False) + "\nprint(list(stock.values()))",
        answer=str(list(end.values())))


@task("string_synthesis", "SymBench", "train", "code", exact(list_of(integer)))
def string_synthesis(rng, level):
    rules = ("[A] + [B] + [C] -> {A}; [A] + [B] -> {C}; [B] + [C] -> {B}; 2[C] -> {C}; {A} + {C} -> (A) + (B); "
             "2{B} -> (C)")
    names, methods = "[A] [B] [C] {A} {B} {C} (A) (B) (C)".split(), exchanges(rules)
    start, end = draw_stock(rng, names, names[:3], grow(level, 3, 12), methods, often=True)
    return Draft(
        "Blocks are turned into other blocks by these rules:\n" + numbered(rules.split("; "))
        + f"\nThe blocks at the start: {shown_stock(start)}. Go through the rules in this order and use each of them as "
        "often as possible before going on to the next one. Repeat such passes until a whole pass changes nothing. How "
        f"many blocks of each kind are there then?\nAnswer format: nine whole numbers separated by spaces, in the order "
        f"{' '.join(names)}",
        program=exchange_program(start, methods, often=True) + "\nprint(*stock.values())",
        answer=" ".join(map(str, end.values())))


@task("string_splitting", "SymBench", "train", "code", exact(list_of(integer)))
def string_splitting(rng, level):
    methods = exchanges("A -> 2X + Y; 2B -> X; 2C -> Y; B + C -> A; X + Y -> Z")
    start, end = draw_stock(rng, list("ABCXYZ"), "ABC", grow(level, 3, 12), methods, often=False)
    wording = rng.choice(("{} can be taken apart into {}", "take {} and get {}", "{} can be exchanged for {}",
                          "from {} one makes {}"))

    def amounts(side):
        return " and ".join(f"{count} {name}" for name, count in side.items())

    return Draft(
        "A workshop has machines A, B, C and parts X, Y, Z, and knows these methods:\n"
        + numbered(wording.format(amounts(inputs), amounts(outputs)) for inputs, outputs in methods)
        + f"\nAt the start it has {shown_stock(start)} and nothing else. The workshop passes through the methods in "
        "this order and carries out each of them once, if there is enough for it. It stops after a pass in which "
        "nothing was carried out. What is there in the end?\nAnswer format: a list of six whole numbers in the order "
        "A, B, C, X, Y, Z",
        program=exchange_program(start, methods, often=False) + "\nprint(list(stock.values()))",
        answer=str(list(end.values())))


# --------------------------------------------------------------------------------------------------------- strings
@task("statistical_counting", "SymBench", "train", "string", exact(integer))
def statistical_counting(rng, level):
    letters, text = "ABCDEFG"[:grow(level, 3, 7)], ""
    for _ in range(rng.randint(grow(level, 5, 50), grow(level, 12, 65))):
        text += text[-1] if text and rng.random() < 0.35 else rng.choice(letters)
    score = sum(letters.index(run[0]) + 1 for run in re.findall(r"((.)\2+)", text) for run in run[:1])
    return Draft(
        "In a string, every unbroken run of two or more equal letters scores once, however long it is: "
        + ", ".join(f"{letter} scores {points}" for points, letter in enumerate(letters, 1))
        + f". Single letters score nothing. What is the total score of {text}?\nAnswer format: a whole number.",
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
        "Scan a string from left to right. Where the next four letters are one of these patterns, insert a letter "
        "behind them:\n" + "\n".join(f"{pattern}: insert {letter}" for pattern, letter in insert.items())
        + "\nThen go on behind the four letters of the original string: patterns do not overlap, and inserted letters "
        f"are not scanned. Where no pattern starts, go on by one letter. What becomes of {text}?\nAnswer format: the "
        "new string.",
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


# (sentence, test and edit in python, the same as functions of the string s, the pattern p and the new letters q)
STRING_EDITS = (
    ("If it starts with '{p}', replace this prefix with '{q}'.", "s.startswith('{p}')", "'{q}' + s[len('{p}'):]",
     lambda s, p, q: s.startswith(p), lambda s, p, q: q + s[len(p):]),
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
    ("If it contains '{p}', replace the first occurrence with '{q}'.", "'{p}' in s", "s.replace('{p}', '{q}', 1)",
     lambda s, p, q: p in s, lambda s, p, q: s.replace(p, q, 1)),
    ("If it contains '{p}', delete the first occurrence.", "'{p}' in s", "s.replace('{p}', '', 1)",
     lambda s, p, q: p in s, lambda s, p, q: s.replace(p, "", 1)),
    ("If the number of its letters {p[0]} is even and not zero, append '{q}'.",
     "s.count('{p[0]}') > 0 and s.count('{p[0]}') % 2 == 0", "s + '{q}'",
     lambda s, p, q: s.count(p[0]) > 0 and s.count(p[0]) % 2 == 0, lambda s, p, q: s + q),
    ("If it is longer than 15 letters, remove the middle one (index length // 2, counted from 0).", "len(s) > 15",
     "s[:len(s) // 2] + s[len(s) // 2 + 1:]",
     lambda s, p, q: len(s) > 15, lambda s, p, q: s[:len(s) // 2] + s[len(s) // 2 + 1:]),
)


def edited(text, rules):
    """All strings on the way: always the first rule that applies, until none does; None if that goes too far."""
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
        "A string is edited by numbered rules. Apply the first rule whose condition holds, once; then start again from "
        "rule 1 with the new string; stop when no rule applies.\n"
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
    found = re.fullmatch(r"(?:count\s*[:=]?)?\s*([0-9]{1,4})\s*[,;.]?\s*(?:positions?\s*[:=]?)?\s*"
                         r"[\[(]?\s*([0-9]{1,4}(?:[\s,]+[0-9]{1,4})*)?\s*[\])]?\s*\.?", answer.strip().casefold())
    if not found:
        raise ValueError("not a count and positions")
    return int(found[1]), sorted(map(int, re.findall("[0-9]+", found[2] or "")))


@task("letters", "SymBench", "train", "string", exact(count_and_positions))
def letters(rng, level):
    while True:
        word = "".join(rng.sample(WORDS, 2)) if level <= 2 else "".join(
            rng.choices("abcdefghijklmnopqrstuvwxyz"[:24 - 2 * level], k=rng.randint(4 * level - 2, 5 * level)))
        letter = rng.choice(word)
        positions = [place for place, other in enumerate(word, 1) if other == letter]
        if 8 <= len(word) <= 25 and len(positions) <= 5 and (len(positions) > 1 or rng.random() < 0.2):
            break
    return Draft(
        f'How many times does the letter {letter} occur in "{word}", and at which positions (counted from 1)?\n'
        "Answer format: the count and the list of positions, such as Count: 7, Positions: [20, 30, ...]",
        program=f"""
            word = "{word}"
            positions = [i for i, letter in enumerate(word, 1) if letter == "{letter}"]
            print(f"Count: {{len(positions)}}, Positions: {{positions}}")""",
        answer=f"Count: {len(positions)}, Positions: {positions}")


# ----------------------------------------------------------------------------------------------------------- plans
def first_touch(start, end, box):
    """Where the straight way from start to end first meets the closed rectangle: a share of the way, or None."""
    low, high = Fraction(0), Fraction(1)
    for a, b, least, most in ((start[0], end[0], *box[:2]), (start[1], end[1], *box[2:])):
        if a == b:
            if not least <= a <= most:
                return None
        else:
            enter, leave = sorted(((least - a) / (b - a), (most - a) / (b - a)))
            low, high = max(low, enter), min(high, leave)
    return low if low <= high else None


def robot_path_ok(data, answer):
    """All lengths in tenths, as exact fractions of what was written."""
    points = [tuple(10 * Fraction(str(x)) for x in point) for point in literal(answer)]
    if not 2 <= len(points) <= 60 or any(len(p) != 2 or max(map(abs, p)) >= 14 for p in points):
        return False
    ends = zip((points[0], points[-1]), (data["start"], data["end"]))
    if any(abs(a - b) > Fraction(1, 10**5) for found, given in ends for a, b in zip(found, given)):
        return False

    def touches(box):
        met = ((leg, first_touch(a, b, box)) for leg, (a, b) in enumerate(zip(points, points[1:])))
        return next(((leg, share) for leg, share in met if share is not None), None)

    met = [touches(box) for box in data["visit"]]
    return (None not in met and (met == sorted(met) or not data["ordered"])
            and not any(touches(box) for box in data["avoid"]))


@task("path_plan", "SymBench", "train", "spatial", robot_path_ok)
def path_plan(rng, level):
    colours = rng.sample("red blue green yellow orange purple brown pink".split(), grow(level, 4, 7))

    def gap(box, point):  # room between a rectangle and a point or rectangle, in tenths
        return max(box[0] - point[1], point[0] - box[1], box[2] - point[3], point[2] - box[3])

    while True:
        boxes = []
        for _ in range(200):
            x, y, width, height = rng.randint(-12, 9), rng.randint(-12, 9), rng.randint(2, 8), rng.randint(2, 8)
            box = (x, min(12, x + width), y, min(12, y + height))
            if len(boxes) < len(colours) and all(gap(box, other) >= 2 for other in boxes):
                boxes.append(box)
        free = [(x, y) for x in range(-13, 14) for y in range(-13, 14) if all(gap(b, (x, x, y, y)) > 0 for b in boxes)]
        start, end = rng.sample(free, 2)
        visit, avoid = boxes[:grow(level, 1, 3)], boxes[grow(level, 1, 3):][:level - 1]
        data = {"start": start, "end": end, "visit": visit, "avoid": avoid, "ordered": level >= 3}
        straight = f"[[{start[0] / 10}, {start[1] / 10}], [{end[0] / 10}, {end[1] / 10}]]"
        if len(boxes) == len(colours) and not robot_path_ok(data, straight):
            break
    lines = [f"{colour}: x from {x0 / 10} to {x1 / 10}, y from {y0 / 10} to {y1 / 10}"
             for colour, (x0, x1, y0, y1) in zip(colours, boxes)]
    shuffled = rng.sample(lines, len(lines))
    visited, avoided = colours[:len(visit)], colours[len(visit):][:len(avoid)]
    return Draft(
        "A robot moves in the plane along straight lines between waypoints; x and y of every waypoint must be greater "
        "than -1.4 and less than 1.4. There are coloured rectangles:\n" + "\n".join(shuffled)
        + f"\nThe robot starts at ({start[0] / 10}, {start[1] / 10}) and stops at ({end[0] / 10}, {end[1] / 10}). On its "
        f"way it must touch {', '.join(visited[:-1])}{' and ' * (len(visited) > 1)}{visited[-1]}"
        + (", reaching them for the first time in this order" if level >= 3 else "")
        + (f", and it must never touch {' or '.join(avoided)}, not even the border" if avoided else "")
        + (". It may cross the other rectangles." if len(avoid) + len(visit) < len(boxes) else ".")
        + " Find a path.\nAnswer format: a list of 2 to 60 waypoints, the start first and the end last, such as "
        "[(-9.1, 8.0), (7.5, 6.2), (8.3, 9.4)]",
        program=code(BFS_CODE, f"""
            start, end = {start}, {end}  # all lengths in tenths; rectangles as (x0, x1, y0, y1)
            visit = {visit}
            avoid = {avoid}

            def inside(point, box):
                return box[0] <= point[0] <= box[1] and box[2] <= point[1] <= box[3]

            def moves(point):
                x, y = point
                for new in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
                    if max(map(abs, new)) <= 13 and not any(inside(new, box) for box in blocked):
                        yield new, new

            path = [start]
            for turn, box in enumerate(visit):
                blocked = avoid + visit[turn + 1:]
                path += bfs(path[-1], moves, lambda point: inside(point, box))
            blocked = avoid
            path += bfs(path[-1], moves, lambda point: point == end)

            corners = [b for a, b, c in zip(path, path[1:], path[2:])
                       if (b[0] - a[0], b[1] - a[1]) != (c[0] - b[0], c[1] - b[1])]
            print([(x / 10, y / 10) for x, y in [start, *corners, end]])"""),
        data=data)


def lift_steps(weights, capacities):
    """The greedy plan: heaviest box first, free lifters in turn until they are strong enough."""
    left, steps = sorted(weights, reverse=True), []
    while left:
        free, step, waiting = list(range(len(capacities))), [], []
        for weight in left:
            team = next((free[:k] for k in range(1, len(free) + 1) if sum(capacities[i] for i in free[:k]) >= weight), None)
            if team:
                step.append((weight, team))
                free = free[len(team):]
            else:
                waiting.append(weight)
        left = waiting
        steps.append(step)
    return steps


def boxlift_ok(data, answer):
    before, *parts = re.split(r"step\s*[0-9]{1,3}\s*:", answer, flags=re.IGNORECASE)
    steps = [literal(part.strip().rstrip(",;")) for part in parts]
    lifted = []
    for step in steps:
        busy = [lifter for _, lifters in step for lifter in lifters]
        if len(set(busy)) != len(busy) or not set(busy) <= set(range(len(data["capacities"]))):
            return False
        if any(sum(data["capacities"][lifter] for lifter in lifters) < weight for weight, lifters in step):
            return False
        lifted += [weight for weight, _ in step]
    return not before.strip() and len(steps) <= data["most"] and sorted(lifted) == sorted(data["weights"])


@task("boxlift", "SymBench", "test", "optimization", boxlift_ok)
def boxlift(rng, level):
    weights, steps = [], []
    while len(steps) >= len(weights):
        capacities = [rng.randint(20, 80) for _ in range(grow(level, 2, 6))]
        weights = [rng.randint(10, min(sum(capacities), 60 + 20 * level)) for _ in range(grow(level, 4, 14))]
        steps = lift_steps(weights, capacities)
    return Draft(
        f"Lifters with the capacities {capacities} (lifter 0 first) must lift boxes with the weights {weights}. In one "
        "step every lifter helps with at most one box, and several boxes can be lifted at the same time. A box is lifted "
        "if the capacities of its lifters add up to at least its weight. Every box is lifted once. Find a plan of at "
        f"most {len(steps)} steps.\nAnswer format: one line per step, a list of pairs (weight, list of lifters), such "
        "as\nStep 1: [(999, [7, 9]), (888, [8])]\nStep 2: [(777, [8])]",
        program=f"""
            capacities = {capacities}
            left = sorted({weights}, reverse=True)
            step = 0
            while left:
                free, lifts, waiting = list(range(len(capacities))), [], []
                for weight in left:
                    if sum(capacities[i] for i in free) < weight:
                        waiting.append(weight)
                        continue
                    team = []
                    while sum(capacities[i] for i in team) < weight:
                        team.append(free.pop(0))
                    lifts.append((weight, team))
                left = waiting
                step += 1
                print(f"Step {{step}}: {{lifts}}")""",
        data={"capacities": capacities, "weights": weights, "most": len(steps)})


def blocks_ok(data, answer):
    stacks = [list(stack) for stack in data["start"]]
    moves = [part.strip() for part in re.split(r"[\n,;]", answer.strip().rstrip(".")) if part.strip()]
    for move in moves:
        found = re.fullmatch(r"(?:[0-9]{1,2}[.)]\s*)?move\s+(?:block\s+)?([A-Z])\s+from\s+(?:stack\s*)?([0-9])\s+to\s+"
                             r"(?:stack\s*)?([0-9])\.?", move, re.IGNORECASE)
        source, target = int(found[2]) - 1, int(found[3]) - 1
        if source == target or min(source, target) < 0 or stacks[source].pop() != found[1].upper():
            return False
        stacks[target].append(found[1].upper())
    return len(moves) <= 60 and ["".join(stack) for stack in stacks] == data["goal"]


@task("blocksworld", "SymBench", "test", "search", blocks_ok)
def blocksworld(rng, level):
    blocks = "ABCDEF"[:(rng.randint(2, 3), 3, 4, 5, 6)[level - 1]]
    count = rng.randint(3, (3, 5, 5, 4, 3)[level - 1])  # the number of states stays below 21,000

    def arrangement():
        stacks = [""] * count
        for block in rng.sample(blocks, len(blocks)):
            stacks[rng.randrange(count)] += block
        return stacks

    start = goal = arrangement()
    while goal == start:
        goal = arrangement()

    def described(stacks):
        return "\n".join(f"stack{i}: {' '.join(stack) or 'empty'}" for i, stack in enumerate(stacks, 1))

    return Draft(
        f"Blocks stand on {count} stacks, listed from bottom to top.\nNow:\n{described(start)}\nGoal:\n{described(goal)}"
        "\nOne move takes the top block of a stack and puts it on top of another stack, which may be empty. Find moves "
        "that lead to the goal (at most 60).\nAnswer format: one move per line, such as\nMove Y from 8 to 9\n"
        "Move Z from 7 to 8",
        program=code(BFS_CODE, f"""
            start, goal = {tuple(start)}, {tuple(goal)}

            def moves(stacks):
                for i, source in enumerate(stacks):
                    for j in range(len(stacks)):
                        if source and i != j:
                            new = list(stacks)
                            new[i] = source[:-1]
                            new[j] += source[-1]
                            yield f"Move {{source[-1]}} from {{i + 1}} to {{j + 1}}", tuple(new)

            print("\\n".join(bfs(start, moves, lambda stacks: stacks == goal)))"""),
        data={"start": start, "goal": goal})


def boxnet_ok(data, answer):
    """Replays the steps; cells are kept as pairs of whole numbers."""
    number = r"\[\s*([0-9])\.5\s*,\s*([0-9])\.5\s*\]"
    boxes, steps = dict(data["boxes"]), literal(answer)
    for step in steps:
        before = dict(boxes)
        for agent, action in step.items():
            cell = tuple(map(int, re.fullmatch("Agent" + number, agent.strip()).groups()))
            colour, row, column, target = re.fullmatch(
                rf"move\(\s*box_([a-z]+)\s*,\s*(?:square{number}|target_([a-z]+))\s*\)", action.strip()).groups()
            if before[colour] != cell:
                return False
            if target:
                if target != colour or data["targets"][colour] != cell:
                    return False
                del boxes[colour]
            else:
                boxes[colour] = (int(row), int(column))
                inside = boxes[colour][0] < data["rows"] and boxes[colour][1] < data["columns"]
                if not inside or abs(cell[0] - int(row)) + abs(cell[1] - int(column)) != 1:
                    return False
    # An agent that is named twice in one step would be read once only: count the names.
    return not boxes and len(steps) <= data["most"] and answer.count("Agent[") == sum(map(len, steps))


@task("boxnet1", "SymBench", "train", "optimization", boxnet_ok)
def boxnet1(rng, level):
    rows, columns = rng.choice((((1, 2), (1, 3), (2, 2)), ((2, 2), (1, 4), (2, 3)), ((2, 3), (3, 3)),
                                ((3, 3), (2, 4)), ((3, 3), (3, 4)))[level - 1])
    colours = rng.sample("blue red green purple orange yellow".split(), (1, rng.randint(1, 2), 2, 3, 3)[level - 1])
    places = [(r, c) for r in range(rows) for c in range(columns)]
    pairs = {colour: rng.sample(places, 2) for colour in colours}
    boxes, targets = ({colour: pair[i] for colour, pair in pairs.items()} for i in (0, 1))
    most = 12 * len(colours)

    def listed(kind, where):
        return ", ".join(f"{kind}_{colour} in [{r}.5, {c}.5]" for colour, (r, c) in where.items())

    return Draft(
        f"A floor of {rows} x {columns} square cells ({rows} row{'s' * (rows > 1)}, {columns} columns). A cell is named by "
        "its centre [row, column]: the top left one is [0.5, 0.5], its right neighbour [0.5, 1.5]. In every cell there "
        f"is an agent, named after it, as in Agent[0.5, 0.5].\nBoxes: {listed('box', boxes)}\nTargets: "
        f"{listed('target', targets)}\nIn one step each agent may do one thing with a box that is in its own cell when "
        "the step starts: move it to a cell that shares a side with its own, or put it into the target of the same "
        "colour if that is in its own cell; box and target are gone then. Several agents may act in the same step. Get "
        f"rid of all boxes in at most {most} steps.\nAnswer format: a JSON list with one object per step, such as "
        '[{"Agent[8.5, 8.5]": "move(box_x, square[8.5, 9.5])"}, {"Agent[8.5, 9.5]": "move(box_x, target_x)"}]',
        program=f"""
            import json

            boxes = {boxes}
            targets = {targets}
            steps = []
            for colour, (r, c) in boxes.items():
                i, j = targets[colour]
                while (r, c) != (i, j):
                    agent = f"Agent[{{r}}.5, {{c}}.5]"
                    if r != i:
                        r += 1 if r < i else -1
                    else:
                        c += 1 if c < j else -1
                    steps.append({{agent: f"move(box_{{colour}}, square[{{r}}.5, {{c}}.5])"}})
                steps.append({{f"Agent[{{r}}.5, {{c}}.5]": f"move(box_{{colour}}, target_{{colour}})"}})
            print(json.dumps(steps))""",
        data={"rows": rows, "columns": columns, "boxes": boxes, "targets": targets, "most": most})
