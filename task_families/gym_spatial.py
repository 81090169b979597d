"""Reasoning-Gym tasks about grids, pictures, turning things (the suite's names, our own texts and code)."""
import inspect
import re
from itertools import groupby

from task_families.kit import (
    Draft,
    code,
    exact,
    grid_text,
    grow,
    integer,
    list_of,
    listing,
    matrix_of,
    task,
    text,
    with_givens,
)
from task_families.puzzles import TRANSFORMATIONS, neighbours, queens, queens_ok, queens_program

PRINT_MATRIX = 'print("\\n".join(" ".join(map(str, row)) for row in m))'
AS_ROWS = "Answer format: the rows, one per line, entries separated by spaces."


def source(function):
    """The text of a function of this module, to be part of a program, where its docstring is one line."""
    return "\n" + re.sub(r'(""".*)\n +(.*""")', r"\1 \2", inspect.getsource(function), count=1)


def stands_in(result, matrix):
    """Can the result be read off the printed matrix, as some rows of it?"""
    return " ".join(grid_text(result).split()) in " ".join(grid_text(matrix).split())


# ------------------------------------------------------------------------------------------- turning matrices
@task("rotate_matrix", "RG", "train", "spatial", exact(matrix_of(integer)))
def rotate_matrix(rng, level):
    size = grow(level, 2, 8)
    turns, m = rng.choice((1, 2, 3) if level < 3 else (1, 2, 3, 5, 6, 7)), [[0]]
    rotated = m
    while stands_in(rotated, m):
        rotated = m = [[rng.randint(0, 99) for _ in range(size)] for _ in range(size)]
        for _ in range(turns):
            rotated = TRANSFORMATIONS["rotate by 90 degrees clockwise"][0](rotated)
    return Draft(
        f"Rotate this matrix clockwise by {90 * turns} degrees:\n{grid_text(m)}\n{AS_ROWS}",
        program=code(f"""
            m = {m}
            for _ in range({turns} % 4):
                m = [list(row) for row in zip(*m[::-1])]""", PRINT_MATRIX),
        answer=grid_text(rotated))


def random_step(rng, m):
    """Something to do with a matrix: (how to say it, the result, how python says it)."""
    rows, columns = len(m), len(m[0])
    kind = rng.randrange(11)
    if kind < 6:
        sentence = list(TRANSFORMATIONS)[kind]
        apply, line = TRANSFORMATIONS[sentence]
        return sentence, apply(m), line
    if kind == 6:
        return ("mirror along the diagonal from the top right to the bottom left",
                [[m[rows - 1 - r][columns - 1 - c] for r in range(rows)] for c in range(columns)],
                "m = [list(row[::-1]) for row in zip(*m)][::-1]")
    if kind == 7:
        old, new = rng.choice(rng.choice(m)), rng.randint(0, 9)
        return (f"replace every {old} by {new}",
                [[new if entry == old else entry for entry in row] for row in m],
                f"m = [[{new} if x == {old} else x for x in row] for row in m]")
    if kind == 8:
        factor = rng.randint(2, 4)
        return (f"set all multiples of {factor} to 0",
                [[entry * (entry % factor > 0) for entry in row] for row in m],
                f"m = [[0 if x % {factor} == 0 else x for x in row] for row in m]")
    if kind == 9:
        every, of_rows = rng.randint(2, 3), rng.random() < 0.5
        if of_rows:
            return (f"remove every row whose number is a multiple of {every}",
                    [row for i, row in enumerate(m) if (i + 1) % every],
                    f"m = [row for i, row in enumerate(m, 1) if i % {every}]")
        return (f"remove every column whose number is a multiple of {every}",
                [[entry for i, entry in enumerate(row) if (i + 1) % every] for row in m],
                f"m = [[x for i, x in enumerate(row, 1) if i % {every}] for row in m]")
    top, left = rng.randint(1, (rows + 1) // 2), rng.randint(1, (columns + 1) // 2)
    bottom, right = rng.randint(rows // 2 + 1, rows), rng.randint(columns // 2 + 1, columns)
    return (f"keep only rows {top} to {bottom} and columns {left} to {right}",
            [[m[r - 1][c - 1] for c in range(left, right + 1)] for r in range(top, bottom + 1)],
            f"m = [row[{left - 1}:{right}] for row in m[{top - 1}:{bottom}]]")


@task("manipulate_matrix", "RG", "train", "spatial", exact(matrix_of(integer)))
def manipulate_matrix(rng, level):
    result = m = [[0]]
    while stands_in(result, m):
        low, high = grow(level, 3, 6), grow(level, 4, 8)
        columns = rng.randint(low, high)
        result = m = [[rng.randint(0, 9) for _ in range(columns)] for _ in range(rng.randint(low, high))]
        sentences, lines = [], []
        while len(sentences) < grow(level, 1, 6):
            sentence, after, line = random_step(rng, result)
            if after != result and line not in lines[-1:]:
                sentences.append(f"{len(sentences) + 1}. {sentence}")
                lines.append(line)
                result = after
    steps = "\n".join(sentences)
    return Draft(
        f"Start with this matrix:\n{grid_text(m)}\nDo the following, one after the other (rows and columns "
        f"are counted from 1):\n{steps}\nWhat is the result?\n{AS_ROWS}",
        program=code(f"m = {m}", *lines, PRINT_MATRIX),
        answer=grid_text(result))


@task("spiral_matrix", "RG", "test", "spatial", exact(list_of(integer)))
def spiral_matrix(rng, level):
    rows, columns = (rng.randint(grow(level, 2, 6), grow(level, 3, 8)) for _ in range(2))
    m = [[rng.randint(0, 99) for _ in range(columns)] for _ in range(rows)]
    spiral, seen, (r, c), (down, right) = [], set(), (0, 0), (0, 1)
    while len(spiral) < rows * columns:  # walk, and turn right where the edge or a visited cell is ahead
        spiral.append(m[r][c])
        seen.add((r, c))
        if not (0 <= r + down < rows and 0 <= c + right < columns) or (r + down, c + right) in seen:
            down, right = right, -down
        r, c = r + down, c + right
    return Draft(
        "List the entries of this matrix along a clockwise spiral from the top left corner to the "
        f"middle:\n{grid_text(m)}\n"
        "Answer format: the entries separated by spaces.",
        program=f"""
            m = {m}
            spiral = []
            while m:
                spiral += m.pop(0)
                m = [list(row) for row in zip(*m)][::-1]  # turn the rest to the left
            print(*spiral)""",
        answer=" ".join(map(str, spiral)))


# --------------------------------------------------------------------------------------- cells and neighbours
@task("binary_matrix", "RG", "train", "spatial", exact(matrix_of(integer)))
def binary_matrix(rng, level):
    size, result = grow(level, 4, 9), [[0]]
    while max(map(max, result)) < 2:
        zero = rng.uniform(0.1, 0.3)
        m = [[int(rng.random() > zero) for _ in range(size)] for _ in range(size)]
        zeros = [(r, c) for r in range(size) for c in range(size) if m[r][c] == 0]
        result = [[min((abs(r - i) + abs(c - j) for i, j in zeros), default=0) for c in range(size)]
                  for r in range(size)]
    return Draft(
        f"Replace every entry of this matrix by its distance to the nearest 0:\n{grid_text(m)}\nThe distance "
        f"is the number of steps up, down, left or right, so a 0 stays 0.\n{AS_ROWS}",
        program=code(f"""
            m = {m}
            n = {size}
            queue = [(r, c) for r in range(n) for c in range(n) if m[r][c] == 0]
            distance = {{cell: 0 for cell in queue}}
            for r, c in queue:
                for i, j in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                    if 0 <= i < n and 0 <= j < n and (i, j) not in distance:
                        distance[i, j] = distance[r, c] + 1
                        queue.append((i, j))
            m = [[distance[r, c] for c in range(n)] for r in range(n)]""", PRINT_MATRIX),
        answer=grid_text(result))


@task("rotten_oranges", "RG", "train", "spatial", exact(integer))
def rotten_oranges(rng, level):
    size = grow(level, 5, 10)
    wanted, minutes = rng.choice((-1, *range(size - 2, size + 3))), None
    empty, rotten = rng.randint(size * size // 8, size * size // 5), rng.randint(2, 3)
    places = [0] * empty + [2] * rotten + [1] * (size * size - empty - rotten)
    cells = [(r, c) for r in range(size) for c in range(size)]
    while minutes != wanted:  # as many of each kind whatever the answer, so that they do not give it away
        rng.shuffle(places)
        grid = [places[r * size:(r + 1) * size] for r in range(size)]
        fresh, bad = ({(r, c) for r, c in cells if grid[r][c] == kind} for kind in (1, 2))
        minutes = 0
        while fresh and minutes >= 0:
            bad = {cell for cell in fresh if bad & set(neighbours(*cell, size, size))}  # turn bad now
            fresh, minutes = fresh - bad, minutes + 1 if bad else -1
    return Draft(
        f"In this box 0 is an empty place, 1 a fresh orange and 2 a rotten one:\n{grid_text(grid)}\nEvery "
        "minute, all fresh oranges directly above, below, left or right of a rotten one rot as well. After "
        "how many minutes is no fresh orange left? If some stay fresh for ever, the answer is -1.\n"
        "Answer format: an integer.",
        program=f"""
            grid = {grid}
            n = {size}
            queue = [(r, c) for r in range(n) for c in range(n) if grid[r][c] == 2]
            minute = {{cell: 0 for cell in queue}}
            for r, c in queue:
                for i, j in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                    if 0 <= i < n and 0 <= j < n and grid[i][j] == 1 and (i, j) not in minute:
                        minute[i, j] = minute[r, c] + 1
                        queue.append((i, j))
            oranges = sum(x > 0 for row in grid for x in row)
            print(max(minute.values(), default=0) if len(minute) == oranges else -1)""",
        answer=str(minutes))


@task("largest_island", "RG", "test", "spatial", exact(integer))
def largest_island(rng, level):
    rows, columns = (rng.randint(grow(level, 4, 8), grow(level, 5, 10)) for _ in range(2))
    land = rng.uniform(0.3, 0.6)
    grid = [[int(rng.random() < land) for _ in range(columns)] for _ in range(rows)]
    unseen, largest = [(r, c) for r in range(rows) for c in range(columns) if grid[r][c]], 0
    while unseen:
        island = [unseen.pop()]
        for cell in island:
            for other in neighbours(*cell, rows, columns):
                if other in unseen:
                    unseen.remove(other)
                    island.append(other)
        largest = max(largest, len(island))
    return Draft(
        f"On this map 1 is land and 0 is water:\n{grid_text(grid)}\nPieces of land belong to one island if "
        "they touch at a side (not only at a corner). How many 1s has the largest island? Without any land "
        "the answer is 0.\n"
        "Answer format: a whole number.",
        program=f"""
            grid = {grid}

            def size(r, c):
                if not (0 <= r < {rows} and 0 <= c < {columns} and grid[r][c]):
                    return 0
                grid[r][c] = 0
                return 1 + size(r - 1, c) + size(r + 1, c) + size(r, c - 1) + size(r, c + 1)

            print(max(size(r, c) for r in range({rows}) for c in range({columns})))""",
        answer=str(largest))


@task("rectangle_count", "RG", "train", "spatial", exact(integer))
def rectangle_count(rng, level):
    rows, columns, wanted = grow(level, 10, 16), grow(level, 10, 30), rng.randint(1, grow(level, 4, 8))
    drawn, covered, count = set(), set(), 0
    frame = level >= 3 and rng.random() < 0.5  # a large one first, so that others come to lie inside
    for attempt in range(60):
        height, width = (rng.randint(side // 2, side) if frame and attempt == 0 else
                         rng.randint(3, side * rng.choice((1, 1, 2)) // 3 + 1) for side in (rows, columns))
        top, left = rng.randint(0, rows - height), rng.randint(0, columns - width)
        area = {(r, c) for r in range(top, top + height) for c in range(left, left + width)}
        outline = {(r, c) for r, c in area if r in (top, top + height - 1) or c in (left, left + width - 1)}
        halo = {(r + i, c + j) for r, c in outline for i in (-1, 0, 1) for j in (-1, 0, 1)}
        nested = covered & halo or drawn & area  # inside or round another one: from level 3 on
        if count < wanted and not drawn & halo and (level >= 3 or not nested):
            drawn, covered, count = drawn | outline, covered | area, count + 1
    picture = ["".join("#" if (r, c) in drawn else "." for c in range(columns)) for r in range(rows)]
    lines = "\n".join(picture)
    return Draft(
        f"How many rectangles are drawn in this picture?\n{lines}\nOnly their outlines are drawn, with #. "
        f"They do not touch or cross each other{', but one may lie inside another' * (level >= 3)}.\n"
        "Answer format: a whole number.",
        program=code(listing("picture", map(repr, picture)), """
            marks = {(r, c) for r, row in enumerate(picture) for c, sign in enumerate(row) if sign == "#"}
            count = 0
            while marks:
                count += 1
                stack = [marks.pop()]
                while stack:
                    r, c = stack.pop()
                    near = {(r + i, c + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & marks
                    marks -= near
                    stack += near
            print(count)"""),
        answer=str(count))


def full_board_ok(data, answer):
    size = data["size"]
    puzzle = [["Q" if (r, c) in data["placed"] else "_" for c in range(size)] for r in range(size)]
    signs = with_givens(answer.upper(), puzzle, "_")
    squares = [(r, c) for r, row in enumerate(signs) for c, sign in enumerate(row) if sign == "Q"]
    return {sign for row in signs for sign in row} == {"Q", "_"} and queens_ok(squares, size)


@task("n_queens", "RG", "train", "spatial", full_board_ok)
def n_queens(rng, level):
    size = rng.choice({1: (5, 6, 7, 7), 2: (7,), 3: (8,), 4: (9,), 5: (10,)}[level])
    placed = sorted(rng.sample(list(enumerate(queens(rng, size))), size - rng.randint(1, size - 1)))
    board = grid_text([["Q" if (r, c) in placed else "_" for c in range(size)] for r in range(size)])
    return Draft(
        f"Put queens (Q) on free squares (_) of this {size} x {size} board, so that there are {size} queens "
        f"and no two stand in the same row, column or diagonal. The queens that are there stay.\n{board}\n"
        f"Answer format: the whole board, {size} lines of Q and _ separated by spaces.",
        program=code(queens_program(size, placed), f"""
            for column in columns:
                print(*("Q" if c == column else "_" for c in range({size})))"""),
        data={"size": size, "placed": placed})


# -------------------------------------------------------------------------------------------- rows of colours
def runs(x):
    return [(colour, len(list(cells))) for colour, cells in groupby(x)]


def flat(pairs):
    return [colour for colour, length in pairs for _ in range(length)]


def longest(x):
    return max(length for colour, length in runs(x) if colour)


# The pool of hidden rules: python in the row x and a number k -> (values of k, kind of row it is shown with).
ARC_RULES = {
    "x[-k:] + x[:-k]": ((1, 2, 3), "blocks"), "x[k:] + x[:k]": ((1, 2, 3), "blocks"),
    "[0] * k + x[:-k]": ((1, 2, 3), "blocks"), "x[k:] + [0] * k": ((1, 2, 3), "blocks"),
    "x[::-1]": ((0,), "blocks"), "[c for c in x if c] + [0] * x.count(0)": ((0,), "blocks"),
    "[0] * x.count(0) + [c for c in x if c]": ((0,), "blocks"),
    "[max(x) if any(x[:i + 1]) and any(x[i:]) else 0 for i in range(len(x))]": ((0,), "one colour"),
    "[max(x) - c for c in x]": ((0,), "one colour"),
    "flat((c if n > 1 else 0, n) for c, n in runs(x))": ((0,), "noise"),
    "flat((n if c else 0, n) for c, n in runs(x))": ((0,), "blocks"),
    "flat((k if c and n == longest(x) else c, n) for c, n in runs(x))": (tuple(range(1, 9)), "blocks"),
    "flat((c if n == longest(x) else 0, n) for c, n in runs(x))": ((0,), "blocks"),
    "[x[j] if 0 <= (j := 2 * x.index(9) - i) < len(x) else 0 for i in range(len(x))] if 9 in x else x": (
        (0,), "pivot")}
ARC_FUNCTIONS = [(eval(f"lambda x, k: {rule}"), values, kind)  # our own text, nobody else's
                 for rule, (values, kind) in ARC_RULES.items()]


# The rules above are what the program searches. A reader may think of others that fit the same examples: the
# first block or the short ones instead of the longest, a step to the edge instead of one by 3, and so on.
def blocks(x):
    """The blocks of a row as (start, colour, length)."""
    starts = [i for i, colour in enumerate(x) if colour and (i == 0 or x[i - 1] != colour)]
    return [(start, *runs(x[start:])[0]) for start in starts]


def repainted(x, paint):
    """The row with each block in the colour paint(block, all blocks)."""
    row, there = [0] * len(x), blocks(x)
    for start, colour, length in there:
        row[start:start + length] = [paint((start, colour, length), there)] * length
    return row


def moved(x, by):
    """The whole pattern moved; what leaves the row is lost."""
    return [x[i - by] if 0 <= i - by < len(x) else 0 for i in range(len(x))]


def mirrored(x, copied=False):
    """The pattern on the other side of the mark 9, the old one kept or not."""
    if 9 not in x:
        return x
    at = x.index(9)
    return [x[2 * at - i] if 0 <= 2 * at - i < len(x) and (x[2 * at - i] or not copied) else x[i] * copied
            for i in range(len(x))]


def stretched(x, from_left, to_edge):
    """Empty cells take the colour of the next block on one side: all of them, or those between blocks."""
    row, colour = (x if from_left else x[::-1]), 0
    full = []
    for i, here in enumerate(row):
        colour = here or colour
        full.append(colour if to_edge or any(row[i:]) else 0)
    return full if from_left else full[::-1]


def in_turn(x, order):
    """The blocks' colours in another order, each block where it was."""
    there = blocks(x)
    colours = dict(zip((start for start, *_ in there), order([colour for _, colour, _ in there])))
    return repainted(x, lambda block, _: colours[block[0]])


def rearranged(x, order):
    """The blocks in another order, the gaps as they were."""
    pairs = runs(x)
    coloured = iter(order([pair for pair in pairs if pair[0]]))
    return flat(pair if pair[0] == 0 else next(coloured) for pair in pairs)


SELECTIONS = [
    lambda block, there: block == there[0], lambda block, there: block == there[-1],
    lambda block, there: block[2] == max(length for *_, length in there),
    lambda block, there: block[2] == min(length for *_, length in there),
    lambda block, there: block[1] == max(colour for _, colour, _ in there),
    lambda block, there: block[1] == min(colour for _, colour, _ in there),
    *(lambda block, there, n=n: block[2] == n for n in range(1, 10)),
    *(lambda block, there, n=n: block[2] >= n for n in range(2, 10)),
    *(lambda block, there, n=n: block[1] == n for n in range(1, 10))]
RIVALS = [
    *(lambda x, s=s: repainted(x, lambda b, there: b[1] * s(b, there)) for s in SELECTIONS),
    *(lambda x, s=s: repainted(x, lambda b, there: b[1] * (not s(b, there))) for s in SELECTIONS),
    *(lambda x, s=s, k=k: repainted(x, lambda b, there: k if s(b, there) else b[1])
      for s in SELECTIONS for k in range(1, 10)),
    *(lambda x, step=step: moved(x, step) for step in range(-12, 13)),
    *(lambda x, step=step: x[step:] + x[:step] for step in range(-12, 13)),
    lambda x: moved(x, -blocks(x)[0][0]),
    lambda x: moved(x, len(x) - blocks(x)[-1][0] - blocks(x)[-1][2]),
    lambda x: mirrored(x) if blocks(x)[0][1] == 9 else x,
    lambda x: mirrored(x) if blocks(x)[-1][1] == 9 else x,
    lambda x: mirrored(x, copied=True), lambda x: rearranged(x, lambda pairs: pairs[::-1]),
    *(lambda x, left=left, edge=edge: stretched(x, left, edge) for left in (True, False)
      for edge in (True, False)),
    *(lambda x, change=change, order=order: change(x, order) for change in (in_turn, rearranged)
      for order in (lambda these: these[::-1], lambda these: these[1:] + these[:1],
                    lambda these: these[-1:] + these[:-1], sorted)),
    lambda x: [next(cells) if c else 0 for cells in [iter([c for c in x[::-1] if c])] for c in x],
    lambda x: [max(x) if c == 0 else 0 for c in x], lambda x: [max(x) if c == 0 else c for c in x],
    *(lambda x, paint=paint: repainted(x, paint) for paint in (
        lambda b, there: len(there), lambda b, there: there.index(b) + 1,
        lambda b, there: max(length for *_, length in there),
        lambda b, there: 1 + sum(length < b[2] for *_, length in there),
        lambda b, there: 1 + sum(length > b[2] for *_, length in there)))]


def possible_rows(shown, asked):
    """What the rules and their rivals that fit all shown pairs make of the row: more than one is too many."""
    rules = [*(lambda x, rule=rule, k=k: rule(x, k) for rule, ks, _ in ARC_FUNCTIONS for k in ks), *RIVALS]
    return {tuple(rule(asked)) for rule in rules if all(rule(x) == y for x, y in shown)}


def coloured_row(rng, length, kind):
    """A row of blocks on empty ground (0). Pivot: a block beside the mark 9."""
    if kind == "pivot":
        size, gap = rng.randint(1, length // 3), rng.randint(0, 1)
        blocks = flat([(rng.randint(1, 8), size), (0, gap), (9, 1)])
        blocks = blocks if rng.random() < 0.5 else blocks[::-1]
        before = rng.randint(0, length - len(blocks))
        return [0] * before + blocks + [0] * (length - before - len(blocks))
    colours = [rng.randint(1, 8)] * 3 if kind == "one colour" else rng.sample(range(1, 9), 3)
    possible = range(2 if kind == "noise" else 1, length // 4 + 2)
    lengths = rng.sample(possible, min(len(possible), rng.randint(2, 3)))
    row = flat(pair for pair in zip(colours, lengths) for pair in ((0, 1), pair))[1:]
    while len(row) < length:  # widen the gaps
        at = rng.choice([0, len(row)] + [i for i, colour in enumerate(row) if colour == 0])
        row.insert(at, 0)
    if kind == "noise":
        for i in rng.sample(range(1, length - 1), length - 2):
            if not any(row[i - 1:i + 2]) and rng.random() < 0.4:
                row[i] = rng.randint(1, 8)
    return row


@task("arc_1d", "RG", "train", "spatial", exact(list_of(integer)))
def arc_1d(rng, level):
    while True:
        rule, values, kind = rng.choice(ARC_FUNCTIONS)
        chosen, length = rng.choice(values), rng.randint(grow(level, 8, 16), grow(level, 10, 20))
        examples = [(x, rule(x, chosen)) for x in (coloured_row(rng, length, kind) for _ in range(4))]
        *shown, (asked, answer) = examples
        if (all(len(x) == length and x != y for x, y in examples)
                and len({tuple(x) for x, _ in examples}) == 4 and len(possible_rows(shown, asked)) == 1
                and not stands_in([answer], [row for pair in shown for row in pair])):
            break
    pairs = "\n".join(f"{' '.join(map(str, x))} -> {' '.join(map(str, y))}" for x, y in shown)
    rules = listing("rules", (f"(lambda x, k: {rule}, {list(ks)})" for rule, (ks, _) in ARC_RULES.items()))
    return Draft(
        "The numbers are colours, and 0 is empty ground. One hidden rule turns each row into the row on its "
        f"right:\n{pairs}\nWhat does the rule make of this row?\n{' '.join(map(str, asked))}\n"
        "Answer format: the new row, numbers separated by spaces.",
        program=code("from itertools import groupby", *map(source, (runs, flat, longest)), rules,
                     listing("examples", shown), f"""
            def solve(asked):
                for rule, ks in rules:
                    for k in ks:
                        if all(rule(x, k) == y for x, y in examples):
                            return rule(asked, k)

            print(*solve({asked}))"""),
        answer=" ".join(map(str, answer)))


# ------------------------------------------------------------------------------------------------------ cubes
# Bringing a side to the top moves four sides on, each to the place of the next one.
ROLLS = {"front": ("front", "top", "back", "bottom"), "back": ("back", "top", "front", "bottom"),
         "left": ("left", "top", "right", "bottom"), "right": ("right", "top", "left", "bottom")}


@task("color_cube_rotation", "RG", "test", "spatial", exact(text))
def color_cube_rotation(rng, level):
    sides = ("top", "right", "front", "left", "back", "bottom")
    colours = rng.sample("red blue green yellow white orange purple gray pink brown black".split(), 6)
    cube = dict(zip(sides, colours))
    start, count = dict(cube), rng.randint(grow(level, 1, 5), grow(level, 2, 6))
    names = rng.choices((*ROLLS, "bottom"), k=count)
    for name in names:
        for roll in [name] if name in ROLLS else ["front", "front"]:
            cycle = ROLLS[roll]
            cube |= {after: cube[before] for before, after in zip(cycle, (*cycle[1:], cycle[0]))}
    asked = rng.choice(sides)
    has = ", ".join(f"{side} {colour}" for side, colour in start.items())
    return Draft(
        f"The sides of a cube have these colours: {has}. The cube is rolled so that one side after the other "
        f"comes to the top, each named by where it is at that moment: {', '.join(names)}. When the front or "
        "the back side comes up, the left and the right side stay where they are; when the left or the "
        "right side comes up, the front and the back side stay; for the bottom side the cube makes a half "
        f"turn that leaves left and right in place. Which colour is the {asked} side in the end?\n"
        "Answer format: one colour.",
        program=f"""
            cube = {start}
            cycles = {ROLLS}  # each side takes the place of the next
            for name in {names}:
                for roll in ["front", "front"] if name == "bottom" else [name]:
                    old = dict(cube)
                    cycle = cycles[roll]
                    for i in range(4):
                        cube[cycle[(i + 1) % 4]] = old[cycle[i]]
            print(cube["{asked}"])""",
        answer=cube[asked])


def quarter_turn(v, n):
    """The vector v turned clockwise about the axis n (length 1), seen from outside: what lies along n
    stays."""
    along = v[0] * n[0] + v[1] * n[1] + v[2] * n[2]
    across = (n[1] * v[2] - n[2] * v[1], n[2] * v[0] - n[0] * v[2], n[0] * v[1] - n[1] * v[0])  # n x v
    return tuple(along * a - b for a, b in zip(n, across))


def cube_turns():
    """Turn -> for each of the 54 stickers, numbered face by face, the one that comes to its place."""
    faces = {  # sticker in row r, column c of a face -> where it is
        "U": lambda r, c: (c - 1, 1, r - 1), "R": lambda r, c: (1, 1 - r, 1 - c),
        "F": lambda r, c: (c - 1, 1 - r, 1), "D": lambda r, c: (c - 1, -1, 1 - r),
        "L": lambda r, c: (-1, 1 - r, c - 1), "B": lambda r, c: (1 - c, 1 - r, -1)}
    axes = {name: place(1, 1) for name, place in faces.items()}  # the middle sticker lies on the axis
    stickers = [(faces[name](r, c), axes[name]) for name in faces for r in range(3) for c in range(3)]
    turns = {}
    for name, axis in axes.items():
        turns[name] = list(range(54))
        for i, (place, look) in enumerate(stickers):
            if sum(a * b for a, b in zip(place, axis)) == 1:
                turns[name][stickers.index((quarter_turn(place, axis), quarter_turn(look, axis)))] = i
    return turns


TURNS = cube_turns()


def turn_cube(cube, move):
    """The stickers (a string) after a move such as U, U' or U2."""
    for _ in range({"": 1, "2": 2, "'": 3}[move[1:]]):
        cube = "".join(cube[i] for i in TURNS[move[0]])
    return cube


def is_solved(cube):
    return all(len(set(cube[i:i + 9])) == 1 for i in range(0, 54, 9))


def cube_ok(data, answer):
    moves = re.split(r"[\s,]+", answer)
    cube = data["cube"]
    for move in moves[:41]:
        cube = turn_cube(cube, move)
    return len(moves) <= 40 and is_solved(cube)


@task("rubiks_cube", "RG", "train", "spatial", cube_ok)
def rubiks_cube(rng, level):
    solved = "".join(colour * 9 for colour in rng.sample("wyrogb", 6))
    cube = solved
    while is_solved(cube):
        cube, moves = solved, []
        while len(moves) < (1, 2, 3, 3, 4)[level - 1]:
            move = rng.choice("URFDLB") + rng.choice(("", "'"))
            if not moves or move[0] != moves[-1][0] or move == moves[-1]:  # no undoing
                moves.append(move)
                cube = turn_cube(cube, move)
        if len({move[0] for move in moves}) != (1, 2, 2, 3, 3)[level - 1]:
            cube = solved
    faces = "\n".join(f"{face}: {' '.join(cube[9 * i + 3 * r:9 * i + 3 * r + 3] for r in range(3))}"
                      for i, face in enumerate("URFDLB"))
    return Draft(
        "Solve this 3 x 3 x 3 cube, so that every face has one colour. The faces are U (up), R (right), F "
        f"(front), D (down), L (left) and B (back), each given by its three rows:\n{faces}\nThe rows are "
        "those of the usual net: U above F, D below F, L left of F, R right of F and B right of R. A letter "
        "turns the face clockwise by a quarter (as seen from outside), with ' counter-clockwise, with 2 by a "
        "half.\n"
        "Answer format: at most 40 moves separated by spaces, in the style U2 U' U'",
        program=code(source(quarter_turn), source(cube_turns), f"""
            turns = cube_turns()

            def solve(cube, depth):
                if all(len(set(cube[i:i + 9])) == 1 for i in range(0, 54, 9)):
                    return []
                if depth == 0:
                    return None
                for name, source in turns.items():
                    after = cube
                    for sign in ("", "2", "'"):
                        after = [after[i] for i in source]
                        rest = solve(after, depth - 1)
                        if rest is not None:
                            return [name + sign] + rest

            depth = 1
            while not (moves := solve("{cube}", depth)):
                depth += 1
            print(*moves)"""),
        data={"cube": cube})
