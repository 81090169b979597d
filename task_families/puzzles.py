"""Puzzle material that several families share: generators, checkers and solver programs, each thing once.

Boards are lists of rows. A name that ends in `_ok` tests constraints and never compares with a stored
solution; a name that ends in `_program` returns the text of a python program that computes one named
variable, and the task adds the line that prints it:

    program=queens_program(8, placed) + '\\nprint(", ".join(f"{r} {c}" for r, c in enumerate(columns)))'
"""
import inspect
import random
from collections import deque
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

from task_families.kit import expression, with_givens


# ------------------------------------------------------------------------------------------- grids and search
def neighbours(row: int, column: int, rows: int, columns: int) -> list[tuple[int, int]]:
    """The cells above, right of, below and left of a cell, as far as they are on the board."""
    around = ((row - 1, column), (row, column + 1), (row + 1, column), (row, column - 1))
    return [(r, c) for r, c in around if 0 <= r < rows and 0 <= c < columns]


def bfs(start: Any, moves: Callable[[Any], Iterable[tuple[Any, Any]]], is_goal: Callable[[Any], bool],
        limit: int = 20_000) -> list | None:
    """A shortest list of moves to a goal; None if there is no way, ValueError if `limit` states do not tell.

    `moves(state)` gives pairs (move, next state); states are hashable.
    """
    came_from, queue = {start: None}, deque([start])
    while queue:
        state = queue.popleft()
        if is_goal(state):
            plan = []
            while came_from[state] is not None:
                state, move = came_from[state]
                plan.append(move)
            return plan[::-1]
        for move, following in moves(state):
            if following not in came_from:
                came_from[following] = (state, move)
                queue.append(following)
        if len(came_from) > limit:
            raise ValueError("too many states")
    return None


def replay(start: Any, moves: Callable[[Any], Iterable[tuple[Any, Any]]], plan: Iterable) -> Any:
    """The state after a plan; KeyError if one of its moves is not possible where it stands."""
    for step in plan:
        start = dict(moves(start))[step]
    return start


# The same search as program text: bfs(start, moves, is_goal) -> list of moves or None.
BFS_CODE = inspect.cleandoc('''
    from collections import deque

    def bfs(start, moves, is_goal):
        came_from, queue = {start: None}, deque([start])
        while queue:
            state = queue.popleft()
            if is_goal(state):
                plan = []
                while came_from[state]:
                    state, move = came_from[state]
                    plan.append(move)
                return plan[::-1]
            for move, following in moves(state):
                if following not in came_from:
                    came_from[following] = (state, move)
                    queue.append(following)
    ''')


# ----------------------------------------------------------------------------------- Latin squares and sudoku
def filled_square(rng: random.Random, size: int, groups: Callable[[int, int], tuple],
                  fixed: dict[tuple[int, int], int] | None = None) -> list[list[int]]:
    """A random square on 1..size with no number twice in a group; `groups(r, c)` names those of a cell.

    Filled cell by cell (fewest candidates first) in random order and with steps back: not one square that is
    shuffled again and again, whose structure could be learned instead of the rules.
    """
    fixed, used = fixed or {}, {}
    for (r, c), number in fixed.items():
        for group in groups(r, c):
            used.setdefault(group, set()).add(number)

    def free(cell: tuple[int, int]) -> list[int]:
        taken = set().union(*(used.setdefault(group, set()) for group in groups(*cell)))
        return [number for number in range(1, size + 1) if number not in taken]

    def fill(blanks: list[tuple[int, int]]) -> dict | None:
        if not blanks:
            return {}
        cell = min(blanks, key=lambda blank: len(free(blank)))
        rest, candidates = [blank for blank in blanks if blank != cell], free(cell)
        for number in rng.sample(candidates, len(candidates)):
            for group in groups(*cell):
                used[group].add(number)
            if (found := fill(rest)) is not None:
                return {**found, cell: number}
            for group in groups(*cell):
                used[group].remove(number)
        return None

    cells = [(r, c) for r in range(size) for c in range(size)]
    square = {**fill([cell for cell in rng.sample(cells, len(cells)) if cell not in fixed]), **fixed}
    return [[square[r, c] for c in range(size)] for r in range(size)]


def latin_square(rng: random.Random, size: int, antidiagonal: bool = False) -> list[list[int]]:
    """A random Latin square on 1..size, if asked with an anti-diagonal of equals."""
    equal = rng.randint(1, size)
    fixed = {(r, size - 1 - r): equal for r in range(size)} if antidiagonal else None
    return filled_square(rng, size, lambda r, c: (("row", r), ("column", c)), fixed)


def is_latin(square: list[list]) -> bool:
    """Is this a square over as many symbols as rows, none of them twice in a row or column?"""
    size = len(square)
    return (all(len(row) == size for row in square)
            and len({entry for row in square for entry in row}) == size
            and all(len(set(line)) == size for line in [*square, *zip(*square)]))


def sudoku_solutions(puzzle: list[list[int]], limit: int = 2) -> list[list[list[int]]]:
    """Up to `limit` solutions of a sudoku with 0 for blanks (side 4 or 9): fewest candidates first."""
    size, box = len(puzzle), 2 if len(puzzle) == 4 else 3
    groups = [[0] * size for _ in range(3)]  # bit masks of the digits used per row, column, box
    grid, found = [list(row) for row in puzzle], []

    def mark(r: int, c: int, digit: int) -> None:
        for kind, index in enumerate((r, c, r // box * box + c // box)):
            groups[kind][index] ^= 1 << digit

    def search(blanks: list[tuple[int, int]]) -> None:
        best, used = None, 0
        for r, c in blanks:
            used_here = groups[0][r] | groups[1][c] | groups[2][r // box * box + c // box]
            if best is None or used_here.bit_count() > used.bit_count():
                best, used = (r, c), used_here
                if used.bit_count() >= size - 1:
                    break
        if best is None:
            found.append([list(row) for row in grid])
            return
        r, c = best
        rest = [cell for cell in blanks if cell != best]
        for digit in range(1, size + 1):
            if len(found) < limit and not used >> digit & 1:
                grid[r][c] = digit
                mark(r, c, digit)
                search(rest)
                mark(r, c, digit)
        grid[r][c] = 0

    cells = [(r, c) for r in range(size) for c in range(size)]
    for r, c in cells:
        if grid[r][c]:
            mark(r, c, grid[r][c])
    search([(r, c) for r, c in cells if not grid[r][c]])
    return found


def sudoku(rng: random.Random, size: int, blanks: int) -> list[list[int]]:
    """A sudoku of side 4 or 9 with one solution and `blanks` blanks (0), or a few fewer if no more can go."""
    box = 2 if size == 4 else 3
    puzzle = filled_square(rng, size, lambda r, c: (("row", r), ("column", c), ("box", r // box, c // box)))
    for cell in rng.sample(range(size * size), size * size):
        if blanks == 0:
            break
        r, c = divmod(cell, size)
        digit, puzzle[r][c] = puzzle[r][c], 0
        if len(sudoku_solutions(puzzle)) > 1:
            puzzle[r][c] = digit
        else:
            blanks -= 1
    return puzzle


def sudoku_ok(data: dict, answer: str) -> bool:
    """Verifier with `data["puzzle"]`: rows, columns and boxes complete, the given digits kept."""
    grid = with_givens(answer, [list(map(str, row)) for row in data["puzzle"]], "0")
    size, box = len(grid), 2 if len(grid) == 4 else 3
    boxes = [[grid[r + i][c + j] for i in range(box) for j in range(box)]
             for r in range(0, size, box) for c in range(0, size, box)]
    return (is_latin(grid) and {digit for row in grid for digit in row} == set("123456789"[:size])
            and all(len(set(entries)) == size for entries in boxes))


def sudoku_program(puzzle: list[list[int]]) -> str:
    """Program that leaves the solved puzzle in `grid` (bit masks, fewest candidates first)."""
    size, box = len(puzzle), 2 if len(puzzle) == 4 else 3
    return inspect.cleandoc(f"""
        grid = {puzzle}

        def candidates(r, c):
            used = set(grid[r]) | {{row[c] for row in grid}}
            top, left = r // {box} * {box}, c // {box} * {box}
            used |= {{grid[i][j] for i in range(top, top + {box}) for j in range(left, left + {box})}}
            return [digit for digit in range(1, {size + 1}) if digit not in used]

        def solve():
            blanks = [(r, c) for r in range({size}) for c in range({size}) if grid[r][c] == 0]
            if not blanks:
                return True
            options, r, c = min(((candidates(r, c), r, c) for r, c in blanks), key=lambda item: len(item[0]))
            for digit in options:
                grid[r][c] = digit
                if solve():
                    return True
            grid[r][c] = 0
            return False

        solve()""")


# ----------------------------------------------------------------------------------------------------- queens
def queens(rng: random.Random, size: int) -> list[int]:
    """The columns of `size` >= 4 queens, row by row, that do not attack each other, drawn at random."""
    def place(columns: list[int]) -> list[int] | None:
        row = len(columns)
        if row == size:
            return columns
        for column in rng.sample(range(size), size):
            free = all(column != c and abs(column - c) != row - r for r, c in enumerate(columns))
            if free and (found := place([*columns, column])):
                return found
        return None
    return place([])


def queens_ok(squares: list[tuple[int, int]], size: int) -> bool:
    """Are these `size` squares on the board, no two in one row, column or diagonal?"""
    return (len(squares) == size and all(0 <= r < size and 0 <= c < size for r, c in squares)
            and all(len({line(r, c) for r, c in squares}) == size
                    for line in (lambda r, c: r, lambda r, c: c, lambda r, c: r + c, lambda r, c: r - c)))


def queens_program(size: int, placed: list[tuple[int, int]], forbidden: Iterable[tuple[int, int]] = ()
                   ) -> str:
    """Program that leaves a completion in `columns`: the queen's column, row by row."""
    forbidden = sorted(forbidden)
    not_forbidden = " and (row, c) not in forbidden" if forbidden else ""
    return inspect.cleandoc(f"""
        placed = {dict(sorted(placed))}  # row: column{f'''
        forbidden = {forbidden}''' if forbidden else ''}

        def solve(columns):
            row = len(columns)
            if row == {size}:
                return columns
            for c in [placed[row]] if row in placed else range({size}):
                if all(c != k and abs(c - k) != row - r for r, k in enumerate(columns)){not_forbidden}:
                    found = solve(columns + [c])
                    if found:
                        return found

        columns = solve([])""")


# --------------------------------------------------------------------------------------------------- matrices
# What the question says -> (what it does, the line of python that does it to `m`).
TRANSFORMATIONS: dict[str, tuple[Callable[[list[list]], list[list]], str]] = {
    "rotate by 90 degrees clockwise": (lambda m: [list(row) for row in zip(*m[::-1])],
                                       "m = [list(row) for row in zip(*m[::-1])]"),
    "rotate by 180 degrees": (lambda m: [row[::-1] for row in m[::-1]], "m = [row[::-1] for row in m[::-1]]"),
    "rotate by 270 degrees clockwise": (lambda m: [list(row) for row in zip(*m)][::-1],
                                        "m = [list(row) for row in zip(*m)][::-1]"),
    "flip left-right": (lambda m: [row[::-1] for row in m], "m = [row[::-1] for row in m]"),
    "flip upside down": (lambda m: m[::-1], "m = m[::-1]"),
    "transpose": (lambda m: [list(row) for row in zip(*m)], "m = [list(row) for row in zip(*m)]"),
}


def pool(matrix: list[list[int]], size: int, stride: int, average: bool) -> list[list[Fraction]]:
    """Max or average pooling; with stride 1 only whole windows count, else the last may be cut."""
    rows, columns = len(matrix), len(matrix[0])
    cut = 0 if stride == size else size - 1
    windows = [[[entry for row in matrix[r:r + size] for entry in row[c:c + size]]
                for c in range(0, columns - cut, stride)] for r in range(0, rows - cut, stride)]
    return [[Fraction(sum(window), len(window)) if average else Fraction(max(window)) for window in line]
            for line in windows]


def pool_program(matrix: list[list[int]], size: int, stride: int, average: bool) -> str:
    """Program that leaves the pooled rows in `pooled` (averages rounded to two decimals)."""
    cut = "" if stride == size else f" - {size - 1}"
    step = "" if stride == 1 else f", {stride}"
    start = "0, " if step else ""
    return inspect.cleandoc(f"""
        m = {matrix}
        pooled = []
        for r in range({start}len(m){cut}{step}):
            pooled.append([])
            for c in range({start}len(m[0]){cut}{step}):
                window = [x for row in m[r:r + {size}] for x in row[c:c + {size}]]
                pooled[-1].append({'round(sum(window) / len(window), 2)' if average else 'max(window)'})""")


# -------------------------------------------------------------------------- numbers, operators and one target
def random_expression(rng: random.Random, numbers: list[int]) -> tuple[int, str]:
    """A random expression over the numbers in this order, whole numbers all the way -> (value, text)."""
    items = [(number, str(number)) for number in numbers]
    while len(items) > 1:
        at = rng.randrange(len(items) - 1)
        (a, left), (b, right) = items[at:at + 2]
        results = {"+": a + b, "-": a - b, "*": a * b} | ({"/": a // b} if b and a % b == 0 else {})
        sign = rng.choice(list(results))
        items[at:at + 2] = [(results[sign], f"({left} {sign} {right})")]
    return items[0]


def reaches(numbers: list, target: int) -> bool:
    """Can the numbers, each used once, make `target` >= 0 with + - * / and parentheses?

    Two values are merged until one is left. The larger minus the smaller is enough: signs can be moved
    outwards.
    """
    seen: set[tuple] = set()

    def search(values: tuple) -> bool:
        if len(values) == 1:
            return values[0] == target
        if values in seen:
            return False
        seen.add(values)
        for j, larger in enumerate(values):
            for i, smaller in enumerate(values[:j]):
                rest = values[:i] + values[i + 1:j] + values[j + 1:]
                made = [larger + smaller, larger - smaller, larger * smaller]
                made += [larger / smaller] if smaller else []
                made += [smaller / larger] if larger else []
                if any(search(tuple(sorted((*rest, value)))) for value in made):
                    return True
        return False
    return search(tuple(sorted(map(Fraction, numbers))))


def uses_numbers(data: dict, answer: str) -> bool:
    """Verifier: an expression over exactly `data["numbers"]`, in any order, that makes `data["target"]`."""
    value, numbers = expression(answer)
    return value == data["target"] and sorted(numbers) == sorted(data["numbers"])


def numbers_program(numbers: list[int], target: int, whole: bool = False) -> str:
    """Program that leaves an expression over the numbers in `found`; `whole`: no fractions on the way."""
    division = ("made += [(a // b, f'({x} / {y})')] if b and a % b == 0 else []" if whole else
                "made += [(a / b, f'({x} / {y})')] if b else []")
    others = "[(a + b, f'({x} + {y})'), (a - b, f'({x} - {y})'), (a * b, f'({x} * {y})')]"
    start = f"[(n, str(n)) for n in {numbers}]" if whole else f"[(Fraction(n), str(n)) for n in {numbers}]"
    return ("" if whole else "from fractions import Fraction\n\n") + inspect.cleandoc(f"""
        seen = set()

        def solve(items):
            if len(items) == 1:
                return items[0][1] if items[0][0] == {target} else None
            values = tuple(sorted(value for value, _ in items))
            if values in seen:
                return None
            seen.add(values)
            for i, (a, x) in enumerate(items):
                for j, (b, y) in enumerate(items):
                    if i == j:
                        continue
                    rest = [items[k] for k in range(len(items)) if k not in (i, j)]
                    made = []
                    if a >= b:
                        made = {others}
                    {division}
                    for item in made:
                        found = solve(rest + [item])
                        if found:
                            return found

        found = solve({start})""")
