"""The SymBench tasks on boards and about plans: queens, reversi, lights, sudoku .. robots, boxes, blocks."""
import re
from fractions import Fraction
from itertools import combinations

from task_families.kit import (
    Draft,
    cells,
    code,
    exact,
    flat_of,
    grid_text,
    grow,
    integer,
    list_of,
    listing,
    literal,
    matrix_of,
    rational,
    rounded,
    steps_of,
    symbols,
    task,
    with_givens,
)
from task_families.puzzles import (
    BFS_CODE,
    TRANSFORMATIONS,
    is_latin,
    latin_square,
    pool,
    pool_program,
    queens,
    queens_ok,
    queens_program,
    sudoku,
    sudoku_ok,
    sudoku_program,
)


# ------------------------------------------------------------------------------------------ boards and lights
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
    board = [["1" if (r, c) in placed else "X" if (r, c) in forbidden else "0" for c in range(8)]
             for r in range(8)]
    return Draft(
        "Complete this chess board to eight queens of which no two share a row, a column or a diagonal. 1 is "
        "a queen that stands already and stays, X a square that must stay empty, 0 a free "
        f"square.\n{grid_text(board)}\nAnswer format: all eight squares, those that were given included, as "
        "'row column' with rows and columns counted from 0 at the top left, separated by commas, such as 7 "
        "7, 3 5, ...",
        program=queens_program(8, placed, forbidden)
        + '\nprint(", ".join(f"{r} {c}" for r, c in enumerate(columns)))',
        data={"placed": placed, "forbidden": forbidden})


@task("pooling", "SymBench", "train", "math", rounded(2, flat_of(rational)))
def pooling(rng, level):
    n = grow(level, 3, 6)
    size, average = rng.randint(2, min(3, n - 1)), rng.random() < 0.5
    matrix = [[rng.randint(-10, 20) for _ in range(n)] for _ in range(n)]
    entries = [entry for row in pool(matrix, size, 1, average) for entry in row]
    pooled = [round(float(entry), 2) if average else int(entry) for entry in entries]
    return Draft(
        f"A {size} x {size} window slides over this {n} x {n} matrix with stride 1, so the windows overlap:\n"
        f"{grid_text(matrix)}\nFor every place where the window lies wholly inside, "
        + ("take the average of its numbers, rounded to two decimals." if average else
           "take its largest number.")
        + " List the results row by row.\nAnswer format: numbers separated by commas.",
        program=pool_program(matrix, size, 1, average)
        + '\nprint(", ".join(str(x) for row in pooled for x in row))',
        answer=", ".join(map(str, pooled)),
        data={"exact": ", ".join(map(str, entries))})


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
        f"Reversi on {'an' if n == 8 else 'a'} {n} x {n} board: 0 is a black piece, 1 a white one, * an "
        "empty square. A new piece flips every unbroken straight run of enemy pieces (all eight directions) "
        f"between it and another piece of its own colour.\n{grid_text(boards[before])}\n"
        "Now these pieces are put down, one after "
        f"the other, as (row, column) counted from 1 at the top left: {shown}. What does the board look like "
        f"then?\nAnswer format: the {n * n} symbols row by row, separated by commas.",
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
        f"A panel has {n} rows of {n} lights, 1 is on and 0 is off:\n{grid_text(start)}\nA button switches "
        "each of its lights over, from on to off or from off to on. The lights are given as (row,column), "
        "counted from 1 at the top left.\n"
        + "\n".join(f"Button {name}: {' '.join(f'({r},{c})' for r, c in lights)}"
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


@task("game_2048", "SymBench", "test", "code", exact(matrix_of(integer)))
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
        f"{grid[row][column]} in row {row + 1}, column {column + 1} (counted from 1 at the top left), and "
        f"the moves are {moves} (u up, d down, l left, r right), one cell per letter. It moves into a cell "
        "with 0 and leaves 0 behind. If the cell holds an equal number, the two merge into their sum, which "
        "is the number that moves from then on. If the cell holds a different number or lies outside the "
        "grid, nothing happens. What does the grid look like in the end?\nAnswer format: the rows of the "
        "grid, numbers separated by commas.",
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
    low, high = ((2, 3), (2, 4), (3, 5), (3, 5), (3, 6))[level - 1]
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
        f"Take this matrix:\n{grid_text(matrix)}\nTransform it: {', then '.join(steps)}. What does it look "
        "like then?\nAnswer format: the symbols of the new matrix row by row, separated by commas.",
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
        if (max(sides) == size and sides.count(size) == 1
                and sum(side >= 3 for side in sides) == (size - 2) ** 2):
            break
    return Draft(
        "Somewhere in this matrix there is a solid square of equal letters, at least 3 x "
        f"3:\n{grid_text(grid)}\nWhere is the bottom right corner of the largest such square?\nAnswer "
        "format: [row, column], both counted from 0 at the top left.",
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
        grid = [[rng.randint(1, 4) if small else rng.choice((-1, -1, 1)) * rng.randint(1, 20)
                 for _ in range(n)] for _ in range(n)]
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
            "in every row and every column that has chosen cells the product of the chosen numbers is "
            "positive")
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
        f"Choose {count} cells of this grid:\n{grid_text(grid)}\nTheir numbers must all be different, the "
        f"top right cell must be among them, and {rule}.\nAnswer format: the chosen cells as 'row column' "
        "with rows and columns counted from 0 at the top left, separated by commas, such as 8 8, 9 7, ...",
        program=program,
        data={"grid": grid, "count": count, "most": most})


def letter_square_ok(data, answer):
    n = len(data["grid"])
    grid = with_givens(answer.casefold(), data["grid"], "")
    return ({letter for row in grid for letter in row} == set("abcdefg"[:n]) and is_latin(grid)
            and len({grid[r][n - 1 - r] for r in range(n)}) == 1)


@task("letter_logic_diagram", "SymBench", "train", "logic", letter_square_ok)
def letter_logic_diagram(rng, level):
    n = grow(level, 4, 7)
    square = latin_square(rng, n, antidiagonal=True)
    blank = set(rng.sample(range(n * n), n * n * grow(level, 40, 70) // 100))
    grid = [["" if r * n + c in blank else "abcdefg"[entry - 1] for c, entry in enumerate(row)]
            for r, row in enumerate(square)]
    return Draft(
        f"Fill the empty places of this {n} x {n} square (rows one below the other, places separated by "
        f"commas):\n{grid_text(grid, ',')}\nEvery row and every column must hold each of the letters "
        f"{', '.join('abcdefg'[:n])} exactly once, and all places on the diagonal from the top right to the "
        f"bottom left must hold the same letter. The letters that are given stay.\nAnswer format: {n} lines "
        f"of {n} letters separated by commas.",
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
        f"Solve this sudoku; a full stop is an empty cell:\n{grid_text(shown, ',')}\nEvery row, every column "
        "and every 3 x 3 box must hold the digits 1 to 9 once each.\nAnswer format: 9 lines of 9 digits "
        "separated by commas.",
        program=sudoku_program(puzzle) + '\nfor row in grid:\n    print(*row, sep=",")',
        data={"puzzle": puzzle})


# ------------------------------------------------------------------------------------------------------ plans
def first_touch(start, end, box):
    """The share of the straight way from start to end at which it meets the closed rectangle, or None."""
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
            x, y = rng.randint(-12, 9), rng.randint(-12, 9)
            width, height = rng.randint(2, 8), rng.randint(2, 8)
            box = (x, min(12, x + width), y, min(12, y + height))
            if len(boxes) < len(colours) and all(gap(box, other) >= 2 for other in boxes):
                boxes.append(box)
        free = [(x, y) for x in range(-13, 14) for y in range(-13, 14)
                if all(gap(box, (x, x, y, y)) > 0 for box in boxes)]
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
        "A robot moves in the plane along straight lines between waypoints; x and y of every waypoint must "
        "be greater than -1.4 and less than 1.4. There are coloured rectangles:\n" + "\n".join(shuffled)
        + f"\nThe robot starts at ({start[0] / 10}, {start[1] / 10}) and stops at ({end[0] / 10}, "
        f"{end[1] / 10}). On its way it must touch "
        f"{', '.join(visited[:-1])}{' and ' * (len(visited) > 1)}{visited[-1]}"
        + (", reaching them for the first time in this order" if level >= 3 else "")
        + (f", and it must never touch {' or '.join(avoided)}, not even the border" if avoided else "")
        + (". It may cross the other rectangles." if len(avoid) + len(visit) < len(boxes) else ".")
        + " Find a path.\nAnswer format: a list of 2 to 60 waypoints, the start first and the end last, such "
        "as [(-9.1, 8.0), (7.5, 6.2), (8.3, 9.4)]",
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
            teams = (free[:k] for k in range(1, len(free) + 1))
            team = next((team for team in teams if sum(capacities[i] for i in team) >= weight), None)
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
        f"Lifters with the capacities {capacities} (lifter 0 first) must lift boxes with the weights "
        f"{weights}. In one step every lifter helps with at most one box, and several boxes can be lifted at "
        "the same time. A box is lifted if the capacities of its lifters add up to at least its weight. "
        f"Every box is lifted once. Find a plan of at most {len(steps)} steps.\nAnswer format: one line per "
        "step, a list of pairs (weight, list of lifters), such as\nStep 1: [(999, [7, 9]), (888, [8])]\nStep "
        "2: [(777, [8])]",
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
    moves = steps_of(answer)
    for move in moves:
        found = re.fullmatch(r"move\s+(?:block\s+)?([A-Z])\s+from\s+(?:stack\s*)?([0-9])\s+to\s+"
                             r"(?:stack\s*)?([0-9])", move, re.IGNORECASE)
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
        f"Blocks stand on {count} stacks, listed from bottom to "
        f"top.\nNow:\n{described(start)}\nGoal:\n{described(goal)}\nOne move takes the top block of a stack "
        "and puts it on top of another stack, which may be empty. Find moves that lead to the goal (at most "
        "60).\nAnswer format: one move per line, such as\nMove Y from 8 to 9\nMove Z from 7 to 8",
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
                rf"move\(\s*box_([a-z]+)\s*,\s*(?:square{number}|target_([a-z]+))\s*\)",
                action.strip()).groups()
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
    colours = rng.sample("blue red green purple orange yellow".split(), grow(level, 2, 5))
    places = [(r, c) for r in range(rows) for c in range(columns)]
    pairs = {colour: rng.sample(places, 2) for colour in colours}
    boxes, targets = ({colour: pair[i] for colour, pair in pairs.items()} for i in (0, 1))
    most = 12 * len(colours)

    def listed(kind, where):
        return ", ".join(f"{kind}_{colour} in [{r}.5, {c}.5]" for colour, (r, c) in where.items())

    return Draft(
        f"A floor of {rows} x {columns} square cells ({rows} row{'s' * (rows > 1)}, {columns} columns). A "
        "cell is named by its centre [row, column]: the top left one is [0.5, 0.5], its right neighbour "
        "[0.5, 1.5]. In every cell there is an agent, named after it, as in Agent[0.5, 0.5].\nBoxes: "
        f"{listed('box', boxes)}\nTargets: {listed('target', targets)}\nIn one step each agent may do one "
        "thing with a box that is in its own cell when the step starts: move it to a cell that shares a side "
        "with its own, or put it into the target of the same colour if that is in its own cell; box and "
        "target are gone then. Several agents may act in the same step. Get rid of all boxes in at most "
        f"{most} steps.\nAnswer format: a JSON list with one object per step, such as "
        '[{"Agent[8.5, 8.5]": "move(box_x, square[8.5, 9.5])"}, {"Agent[8.5, 9.5]": "move(box_x, '
        'target_x)"}]',
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
