"""Reasoning-Gym tasks about searching, planning, shortest ways (the suite's names, our own texts and code).

Every game is one function, `x_moves(..)`, that gives the pairs (move, next state) of a state: `bfs` finds
plans with it, and `replay` checks an answer move by move.
"""
import re

from task_families.kit import (
    BOYS,
    GIRLS,
    Draft,
    code,
    exact,
    grid_text,
    grow,
    integer,
    mapping,
    pieces,
    steps_of,
    task,
    text,
    with_givens,
    words_of,
)
from task_families.puzzles import (
    BFS_CODE,
    bfs,
    is_latin,
    latin_square,
    neighbours,
    numbers_program,
    random_expression,
    reaches,
    replay,
    sudoku,
    sudoku_ok,
    sudoku_program,
    uses_numbers,
)


# ------------------------------------------------------------------------------------ words, sums and colours
@task("needle_haystack", "RG", "train", "search", exact(text), text_solvable=True)
def needle_haystack(rng, level):
    verbs = "buys sells likes paints cleans finds hides draws".split()
    count = grow(level, 4, 40)
    names = rng.sample(GIRLS + BOYS, count)
    pool = rng.sample(words_of(level), grow(level, 50, 8))
    pairs = rng.sample([(verb, thing) for verb in verbs for thing in pool], count)
    facts = [f"{name} {verb} {thing}" for name, (verb, thing) in zip(names, pairs)]
    passage = ". ".join(facts) + "."
    # "buys sand" also stands in "buys sandals": ask for a pair that is found once.
    asked = rng.choice([i for i, pair in enumerate(pairs) if passage.count(" ".join(pair)) == 1])
    verb, thing = pairs[asked]
    return Draft(
        f"{passage}\nWho {verb} {thing}?\nAnswer format: one name.",
        program=f"""
            text = "{passage}"
            for fact in text.split(". "):
                if "{verb} {thing}" in fact:
                    print(fact.split()[0])""",
        answer=names[asked],
        reasoning=f"The one who {verb} {thing} is {names[asked]}.")


# Common words that have many neighbours with one other letter.
SHORT_WORDS = (
    "bad bag ban bar bat bed bee beg bet bid big bit bow box boy bug bun bus but buy can cap car cat cob cod "
    "cog cot cow cub cup cut day den dig dim dip dog dot dry dug fan far fat fed fig fin fit fix fog for fox "
    "fun fur gap gas get gum gun gut had ham hat hay hen hid him hip hit hog hop hot hug hut jam jar jet job "
    "jog jug key kid kit lab lap law lay leg let lid lie lip lit log lot low mad man map mat men met mix mop "
    "mud mug nap net nod nut oar pan pat paw pay pen pet pie pig pin pit pot pub put rag ram ran rat raw ray "
    "red rib rid rim rip rob rod row rub rug run sad sat saw say set sew sip sit son sun tab tag tan tap tar "
    "tax ten tie tin tip toe ton top toy tub tug van vet wag war wax way web wet wig win yes yet "
    "back bake bald ball band bank bare bark barn base bath bead beam bean bear beat bell belt bend best "
    "bike bill bind bird bite boat bold bone book boot bore born bowl cage cake call calm came cane cape "
    "card care cart case cash cast cave cell coal coat code coin cold cone cook cool cord core cork corn "
    "cost dame dare dark date deal dear desk dine dock doll door face fact fade fair fall fame fare farm "
    "fast fate fear feel fell file fill film find fine fire firm five fold fond food foot fork form fort "
    "game gate gave gear gold gone hair half hall hand hang hard hare harm hate head heal heap hear heat "
    "hell help hide hill hint hire hold hole home hood hook horn host lace lake lamb lamp land lane last "
    "late lead leaf lean line link list live load loan lock look lord lose lost made mail main make male "
    "mall mark mask mate meal mean meat meet melt mild mile milk mill mind mine mint "
    "miss mode mood moon more most nail name near neat neck nest nice nine nose note").split()


def one_letter_apart(a, b):
    return len(a) == len(b) and sum(x != y for x, y in zip(a, b)) == 1


def ladder_ok(data, answer):
    ladder = [text(word) for word in pieces(answer.replace("->", ",").replace("\n", ","))]
    return (ladder[0] == data["first"] and ladder[-1] == data["last"] and len(set(ladder)) == len(ladder)
            and set(ladder) <= set(data["words"]) and all(map(one_letter_apart, ladder, ladder[1:])))


@task("word_ladder", "RG", "train", "search", ladder_ok)
def word_ladder(rng, level):
    letters = 3 if level < 3 else rng.choice((3, 4))
    length = rng.randint(grow(level, 3, 6), grow(level, 4, 7))
    pool, ladder = [word for word in SHORT_WORDS if len(word) == letters], []
    while len(ladder) < length:  # no word is next to an earlier one, so there is no short cut in the ladder
        following = [word for word in pool if one_letter_apart(word, ladder[-1])
                     and not any(one_letter_apart(word, before) or word == before for before in ladder[:-1])
                     ] if ladder else pool
        ladder = [*ladder, rng.choice(following)] if following else []
    others = rng.sample([word for word in pool if word not in ladder], grow(level, 12, 40) - length)
    words = sorted(ladder + others)
    return Draft(
        f"Turn the word {ladder[0]} into the word {ladder[-1]}. Every step changes exactly one letter and "
        f"gives another of these words, none of them twice:\n{' '.join(words)}\n"
        "Answer format: all words from the first to the last, separated by commas.",
        program=f"""
            words = "{' '.join(words)}".split()
            ladders = [["{ladder[0]}"]]
            seen = {{"{ladder[0]}"}}
            for ladder in ladders:
                if ladder[-1] == "{ladder[-1]}":
                    print(", ".join(ladder))
                    break
                for word in words:
                    if word not in seen and sum(a != b for a, b in zip(word, ladder[-1])) == 1:
                        seen.add(word)
                        ladders.append(ladder + [word])""",
        data={"first": ladder[0], "last": ladder[-1], "words": words})


def cryptarithm_ok(data, answer):
    digits = {letter.upper(): digit for letter, digit in mapping(answer).items()}
    words = [*data["addends"], data["total"]]
    if set(digits) != set("".join(words)):
        return False
    if not all(re.fullmatch("[0-9]", digit) for digit in digits.values()):
        return False
    numbers = ["".join(digits[letter] for letter in word) for word in words]
    return (len(set(digits.values())) == len(digits) == len(mapping(answer))
            and all(number[0] != "0" for number in numbers)
            and sum(map(int, numbers[:-1])) == int(numbers[-1]))


@task("cryptarithm", "RG", "train", "search", cryptarithm_ok)
def cryptarithm(rng, level):
    digits, seen = grow(level, 2, 5), ""
    while len(seen) < 4:
        numbers = [rng.randrange(10 ** (digits - 1), 10 ** digits) for _ in range(3 if level == 5 else 2)]
        numbers.append(sum(numbers))
        seen = sorted(set("".join(map(str, numbers))))
    letters = dict(zip(seen, rng.sample("ABCDEFGHIJKLMNOPQRST", len(seen))))
    *addends, total = ("".join(letters[digit] for digit in str(number)) for number in numbers)
    return Draft(
        f"{' + '.join(addends)} = {total}\nIn this sum every letter stands for one digit, different letters "
        "stand for different digits, and no number begins with 0. Find digits that make the sum right.\n"
        "Answer format: each letter with its digit, separated by commas, such as X=4, Y=0",
        program=f"""
        addends, total = {addends}, "{total}"
        first = {{word[0] for word in addends + [total]}}

        def solve(column, row, amount, digit):
            # Columns from the right; in each, the addends from the top, then the total. amount: sum so far.
            if column == len(total):
                return digit if amount == 0 else None
            if row == len(addends):
                letter, d = total[-1 - column], amount % 10
                clash = digit[letter] != d if letter in digit else d in digit.values()
                if clash or d == 0 and letter in first:
                    return None
                return solve(column + 1, 0, amount // 10, {{**digit, letter: d}})
            if column >= len(addends[row]):
                return solve(column, row + 1, amount, digit)
            letter = addends[row][-1 - column]
            for d in [digit[letter]] if letter in digit else range(10):
                if letter in digit or d not in digit.values() and (d or letter not in first):
                    found = solve(column, row + 1, amount + d, {{**digit, letter: d}})
                    if found:
                        return found

        print(", ".join(f"{{letter}}={{d}}" for letter, d in solve(0, 0, 0, {{}}).items()))""",
        data={"addends": addends, "total": total})


def colouring_ok(data, answer):
    colour = {integer(vertex): integer(shade) for vertex, shade in mapping(answer).items()}
    return (sorted(colour) == list(range(data["vertices"])) and len(mapping(answer)) == len(colour)
            and all(1 <= shade <= data["colours"] for shade in colour.values())
            and all(colour[a] != colour[b] for a, b in data["edges"]))


@task("graph_color", "RG", "train", "search", colouring_ok)
def graph_color(rng, level):
    vertices, colours = grow(level, 6, 12), 4 if level == 5 else 3
    classes = [vertex % colours for vertex in range(vertices)]
    rng.shuffle(classes)  # the hidden colouring
    pairs = [(a, b) for b in range(vertices) for a in range(b) if classes[a] != classes[b]]
    edges = sorted(rng.sample(pairs, grow(level, 7, 20)))
    shown = ", ".join(f"{a}-{b}" for a, b in edges)
    return Draft(
        f"A graph has the vertices 0 to {vertices - 1} and these edges: {shown}. Give every vertex one of "
        f"the colours 1 to {colours} so that the two ends of every edge have different colours.\n"
        'Answer format: a JSON object from vertices to colours, such as {"17": 2, "18": 1}',
        program=f"""
            import json

            edges = {edges}
            joined = {{v: [a + b - v for a, b in edges if v in (a, b)] for v in range({vertices})}}

            def solve(colour):
                v = len(colour)
                if v == {vertices}:
                    return colour
                for c in range(1, {colours + 1}):
                    if all(colour.get(other) != c for other in joined[v]):
                        found = solve({{**colour, v: c}})
                        if found:
                            return found

            print(json.dumps(solve({{}})))""",
        data={"vertices": vertices, "colours": colours, "edges": edges})


# ---------------------------------------------------------------------------------- numbers and Latin squares
@task("puzzle24", "RG", "train", "search", uses_numbers)
def puzzle24(rng, level):
    numbers = [0]
    while not reaches(numbers, 24):
        numbers = [rng.randint(1, (7, 8, 9, 10, 13)[level - 1]) for _ in range(4)]
    return Draft(
        f"Make 24 from the numbers {', '.join(map(str, numbers))}. Every number is used exactly once; + - * "
        "/ and parentheses are allowed, as often as needed.\n"
        "Answer format: one expression, such as 30 - 2 * (5 - 2)",
        program=code(numbers_program(numbers, 24), "print(found)"),
        data={"numbers": numbers, "target": 24})


@task("countdown", "RG", "train", "search", uses_numbers)
def countdown(rng, level):
    target, numbers = 0, []
    while not 10 <= target <= 999 or target in numbers:
        numbers = [rng.randint(1, 50) for _ in range(grow(level, 3, 6))]
        target, _ = random_expression(rng, numbers)
    rng.shuffle(numbers)
    return Draft(
        f"Reach {target} with the numbers {', '.join(map(str, numbers))}. All of them have to be used, each "
        "exactly once, with + - * / and parentheses.\n"
        "Answer format: one expression, such as (8 - 1) * 60 + 2",
        program=code(numbers_program(numbers, target, whole=True), "print(found)"),
        data={"numbers": numbers, "target": target})


def print_grid(name):
    return f'print("\\n".join(" ".join(map(str, row)) for row in {name}))'


@task("mini_sudoku", "RG", "train", "search", sudoku_ok)
def mini_sudoku(rng, level):
    puzzle = sudoku(rng, 4, grow(level, 6, 11) + rng.randint(0, 1))
    shown = grid_text([[digit or "_" for digit in row] for row in puzzle])
    return Draft(
        f"Fill the blanks (_) of this small sudoku:\n{shown}\nEvery row, every column and every 2 x 2 corner "
        "block holds each of the numbers 1 to 4 once.\n"
        "Answer format: the four full rows, one per line, numbers separated by spaces.",
        program=code(sudoku_program(puzzle), print_grid("grid")),
        data={"puzzle": puzzle})


@task("sudoku", "RG", "train", "search", sudoku_ok)
def sudoku_9x9(rng, level):
    puzzle = sudoku(rng, 9, grow(level, 25, 50) + rng.randint(0, 2))
    shown = grid_text([[digit or "_" for digit in row] for row in puzzle])
    return Draft(
        f"Solve this sudoku, in which _ marks a blank:\n{shown}\nEvery row, every column and each of the "
        "nine 3 x 3 blocks holds the digits 1 to 9.\n"
        "Answer format: the nine full rows, one per line, digits separated by spaces.",
        program=code(sudoku_program(puzzle), print_grid("grid")),
        data={"puzzle": puzzle})


def futoshiki_ok(data, answer):
    square = with_givens(answer, [list(map(str, row)) for row in data["puzzle"]], "0")
    return (is_latin(square) and {digit for row in square for digit in row} == set("123456"[:len(square)])
            and all(square[r][c] < square[i][j] for (r, c), (i, j) in data["less"]))


@task("futoshiki", "RG", "test", "search", futoshiki_ok)
def futoshiki(rng, level):
    size = grow(level, 3, 6)
    square = latin_square(rng, size)
    cells = [(r, c) for r in range(size) for c in range(size)]
    blank = set(rng.sample(cells, round(size * size * grow(level, 40, 80) / 100)))
    puzzle = [[0 if (r, c) in blank else square[r][c] for c in range(size)] for r in range(size)]
    pairs = [(cell, other) for cell in cells for other in neighbours(*cell, size, size)
             if square[cell[0]][cell[1]] < square[other[0]][other[1]]]
    less = sorted(rng.sample(pairs, rng.randint(size, min(2 * size, len(pairs)))))
    signs = ", ".join(f"({r + 1},{c + 1}) < ({i + 1},{j + 1})" for (r, c), (i, j) in less)
    return Draft(
        f"Fill the zeros of this {size} x {size} grid so that every row and every column holds each of the "
        f"numbers 1 to {size} once:\n{grid_text(puzzle)}\nThese inequalities must hold, where (2,1) is the "
        f"first cell of the second row: {signs}.\n"
        "Answer format: the full rows, one per line, numbers separated by spaces.",
        program=f"""
            rows = {puzzle}
            grid = {{(r, c): number for r, row in enumerate(rows) for c, number in enumerate(row)}}
            less = {less}  # the first cell holds less than the second

            def fitting(cell):
                taken = {{grid[r, c] for r, c in grid if r == cell[0] or c == cell[1]}}
                least = max((grid[a] for a, b in less if b == cell), default=0) + 1
                most = min((grid[b] for a, b in less if a == cell and grid[b]), default={size + 1}) - 1
                return [x for x in range(least, most + 1) if x not in taken]

            def solve():
                blanks = [cell for cell in grid if not grid[cell]]
                if not blanks:
                    return True
                choices = {{cell: fitting(cell) for cell in blanks}}
                cell = min(blanks, key=lambda blank: len(choices[blank]))
                for x in choices[cell]:
                    grid[cell] = x
                    if solve():
                        return True
                grid[cell] = 0

            solve()
            for r in range({size}):
                print(*(grid[r, c] for c in range({size})))""",
        data={"puzzle": puzzle, "less": less})


# ---------------------------------------------------------------------------------------- plans, move by move
def jug_moves(sizes):
    """moves(state) of jugs of these sizes; a state is the tuple of contents."""
    def moves(state):
        for i, name in enumerate("abcd"[:len(sizes)]):
            yield f"fill {name}", (*state[:i], sizes[i], *state[i + 1:])
            yield f"empty {name}", (*state[:i], 0, *state[i + 1:])
            for j, other in enumerate("abcd"[:len(sizes)]):
                if i != j:
                    after, amount = list(state), min(state[i], sizes[j] - state[j])
                    after[i], after[j] = state[i] - amount, state[j] + amount
                    yield f"pour {name}->{other}", tuple(after)
    return moves


def jugs_ok(data, answer):
    plan = [re.sub(r"\s*(?:->|\b(?:in)?to\b)\s*", "->", text(step)) for step in steps_of(answer)]
    sizes = [*data["sizes"]]
    return len(plan) <= 100 and data["target"] in replay((0,) * len(sizes), jug_moves(sizes), plan)


@task("jugs", "RG", "test", "search", jugs_ok)
def jugs(rng, level):
    count, plan = 2 if level < 3 else 3 if level < 5 else rng.choice((3, 4)), []
    low, high = {2: (2 * level + 1, 4 * level + 2), 3: (level + 1, 2 * level), 4: (5, 8)}[count]
    while not low <= len(plan) <= high:
        sizes = rng.sample(range(3, 14 if count > 2 else 26), count)
        target = rng.randint(1, max(sizes) - 1)
        try:
            plan = bfs((0,) * count, jug_moves(sizes), lambda state, target=target: target in state,
                       3000) or []
        except ValueError:  # too many states
            continue
    shown = ", ".join(f"{name} holds {size} litres" for name, size in zip("ABCD", sizes))
    return Draft(
        f"You have {count} empty jugs ({shown}) and a tap with as much water as you like. The moves are "
        "'fill X' (to the brim), 'empty X' (pour it away) and 'pour X->Y' (until X is empty or Y is full). "
        f"Get exactly {target} litres into one of the jugs.\n"
        'Answer format: the moves as a JSON list of texts, in the form ["fill X", "pour X->Y", "empty Y"]',
        program=code("import json\n" + BFS_CODE, f"""
            sizes = {sizes}

            def moves(state):
                for i in range({count}):
                    yield "fill " + "ABCD"[i], state[:i] + (sizes[i],) + state[i + 1:]
                    yield "empty " + "ABCD"[i], state[:i] + (0,) + state[i + 1:]
                    for j in range({count}):
                        if i != j:
                            after = list(state)
                            amount = min(state[i], sizes[j] - state[j])
                            after[i] -= amount
                            after[j] += amount
                            yield f"pour {{'ABCD'[i]}}->{{'ABCD'[j]}}", tuple(after)

            print(json.dumps(bfs({(0,) * count}, moves, lambda state: {target} in state)))"""),
        data={"sizes": sizes, "target": target})


def is_jump(one, other):
    """Does a knight get from one square to the other, such as from A1 to B3?"""
    return {abs(ord(one[0]) - ord(other[0])), abs(int(one[1]) - int(other[1]))} == {1, 2}


def knight_moves(squares):
    """moves(state) on a board of these squares; a state is (white squares, black squares, w or B to move)."""
    jumps = {one: [other for other in squares if is_jump(one, other)] for one in squares}

    def moves(state):
        white, black, side = state
        own = white if side == "w" else black
        for one in own:
            for other in jumps[one]:
                if other not in white + black:
                    moved = tuple(sorted({*own, other} - {one}))
                    yield f"{side},{one},{other}", (moved, black, "B") if side == "w" else (white, moved, "w")
    return moves


def knights_ok(data, answer):
    if text(answer) == "no":
        return not data["possible"]
    moves = re.findall(r"([wb])\s*,\s*([a-d][1-4])\s*,\s*([a-d][1-4])", answer.casefold())
    if re.sub(r"[\s,;\[\]\"']", "", answer).casefold() != "".join(map("".join, moves)):
        raise ValueError("not a list of moves")
    plan = [f"{'w' if side == 'w' else 'B'},{one.upper()},{other.upper()}" for side, one, other in moves]
    white, black, side = data["start"]
    after = replay((white, black, side), knight_moves(data["squares"]), plan)
    return after[:2] == (black, white)


@task("knight_swap", "RG", "train", "search", knights_ok)
def knight_swap(rng, level):
    possible, knights = rng.random() < 0.8, 1 if level < 3 else 2
    low, high = grow(level, 2, 8), grow(level, 8, 20)
    board = [column + row for column in ("ABC" if level < 3 else "ABCD") for row in "1234"]
    while True:
        squares = []
        while len(squares) < rng.randint(6, 9):  # grow the board by knight's moves
            near = [square for square in board if square not in squares
                    and (not squares or any(is_jump(square, one) for one in squares))]
            if not near:
                break
            squares.append(rng.choice(near))
        squares.sort()
        if len(squares) < 6:
            continue
        places = rng.sample(squares, 2 * knights)
        start = tuple(sorted(places[:knights])), tuple(sorted(places[knights:])), rng.choice("wB")
        goal = start[1], start[0]
        plan = bfs(start, knight_moves(squares), lambda state, goal=goal: state[:2] == goal)
        if low <= len(plan) <= high if plan and possible else not plan and not possible:
            break
    white, black, side = start
    return Draft(
        f"A board has only these squares (column letter and row number): {', '.join(squares)}. White knights "
        f"(w) stand on {' and '.join(white)}, black knights (B) on {' and '.join(black)}. Knights move as in "
        "chess, two squares along a row or column and one to the side, and only to empty squares of this "
        f"board. The sides move in turn, {'white' if side == 'w' else 'black'} first, one knight at a time. "
        "At the end white knights shall stand where the black ones stood at first, and the other way round. "
        "Find such moves, or answer No if it is impossible.\n"
        'Answer format: a JSON list of moves "side,from,to", such as ["w,E5,F7", "B,G5,E6"], or No.',
        program=code("import json\n" + BFS_CODE, f"""
            squares = {squares}
            white, black = frozenset({list(white)}), frozenset({list(black)})

            def moves(state):
                white, black, side = state
                for one in sorted(white if side == "w" else black):
                    for other in squares:
                        jump = abs(ord(one[0]) - ord(other[0])), abs(int(one[1]) - int(other[1]))
                        if jump in [(1, 2), (2, 1)] and other not in white | black:
                            after = (white - {{one}} | {{other}}, black, "B") if side == "w" else (
                                white, black - {{one}} | {{other}}, "w")
                            yield f"{{side}},{{one}},{{other}}", after

            plan = bfs((white, black, "{side}"), moves, lambda state: state[:2] == (black, white))
            print("No" if plan is None else json.dumps(plan))"""),
        data={"squares": squares, "start": start, "possible": possible})


def sokoban_moves(walls, width):
    """moves(state) for squares numbered row by row; a state is (player, the set of boxes)."""
    def moves(state):
        player, boxes = state
        for letter, step in (("U", -width), ("D", width), ("L", -1), ("R", 1)):
            to, beyond = player + step, player + 2 * step
            if to in boxes and beyond not in walls and beyond not in boxes:
                yield letter, (to, boxes - {to} | {beyond})
            elif to not in walls and to not in boxes:
                yield letter, (to, boxes)
    return moves


def sokoban_pulls(walls, width, state):
    """All states from which one letter leads to this one."""
    player, boxes = state
    for step in (-width, width, -1, 1):
        before, box = player - step, player + step
        if before not in walls and before not in boxes:
            yield before, boxes
            if box in boxes:
                yield before, boxes - {box} | {player}


def sokoban_ok(data, answer):
    letters = re.sub(r"[\s,]", "", answer).upper()
    _, boxes = replay((data["player"], data["boxes"]), sokoban_moves(data["walls"], data["width"]), letters)
    return len(letters) <= 400 and boxes == data["goals"]


@task("sokoban", "RG", "train", "search", sokoban_ok)
def sokoban(rng, level):
    width, count = grow(level, 4, 6) + 2, grow(level, 1, 3)
    depths = range(grow(level, 3, 10), grow(level, 9, 18))
    while True:
        inside = [row * width + column for row in range(1, width - 1) for column in range(1, width - 1)]
        inner_walls = rng.sample(inside, rng.randint(1, width - 3))
        floor = [square for square in inside if square not in inner_walls]
        walls = {square for square in range(width * width) if square not in floor}
        player, *goals = rng.sample(floor, count + 1)
        start = player, frozenset(goals)
        # Pull boxes away from the goals, state by state: what `depth` steps find takes `depth` moves.
        depth, layer, seen, far = 0, [start], {start}, []
        while layer and len(seen) < 2500 and depth < depths[-1]:
            depth += 1
            layer = [state for one in layer for state in sokoban_pulls(walls, width, one)
                     if state not in seen and not seen.add(state)]
            far += [state for state in layer if depth in depths and not state[1] & start[1]]
        player, boxes = rng.choice(far or [start])
        try:
            plan = bfs((player, boxes), sokoban_moves(walls, width),
                       lambda state, goals=start[1]: state[1] == goals)
        except ValueError:  # too many states
            continue
        if len(plan) >= depths[0]:
            break
    signs = {(): "-", ("box",): "@", ("goal",): "X", ("box", "goal"): "$", ("player",): "*",
             ("goal", "player"): "%"}
    things = {"box": boxes, "goal": start[1], "player": [player]}
    board = ["".join("+" if square in walls else signs[tuple(
        name for name, squares in things.items() if square in squares)]
        for square in range(row * width, row * width + width)) for row in range(width)]
    board_text = "\n".join(board)
    return Draft(
        f"A warehouse:\n{board_text}\n+ is a wall, - floor, * the player, @ a box, X a goal, $ a box on a "
        "goal and % the player on a goal. The player walks up, down, left or right (U D L R). Walking into a "
        "box pushes it one square further if nothing (no wall, no other box) is behind it; boxes cannot be "
        "pulled. Bring every box onto a goal.\n"
        "Answer format: the moves as letters without spaces, such as RRUL",
        program=code(BFS_CODE, f"""
            board = "{''.join(board)}"
            width = {width}
            walls = {{i for i, c in enumerate(board) if c == "+"}}
            goals = {{i for i, c in enumerate(board) if c in "X$%"}}
            boxes = frozenset(i for i, c in enumerate(board) if c in "@$")
            player = next(i for i, c in enumerate(board) if c in "*%")
            dead = {{i for i in range(len(board)) if i not in walls | goals  # a box in a corner stays there
                    and (i - 1 in walls or i + 1 in walls) and (i - width in walls or i + width in walls)}}

            def moves(state):
                player, boxes = state
                for letter, step in zip("UDLR", (-width, width, -1, 1)):
                    to, beyond = player + step, player + 2 * step
                    if to in boxes:
                        if beyond not in walls | boxes | dead:
                            yield letter, (to, boxes - {{to}} | {{beyond}})
                    elif to not in walls:
                        yield letter, (to, boxes)

            print("".join(bfs((player, boxes), moves, lambda state: state[1] == goals)))"""),
        data={"walls": walls, "width": width, "player": player, "boxes": boxes, "goals": start[1]})


def hanoi_moves(pegs):
    """moves(state); a state is the tuple of the pegs (from 1) of disk 1, disk 2, .."""
    def moves(state):
        smaller = set()  # the pegs on which smaller disks lie
        for disk, peg in enumerate(state):
            for to in range(1, pegs + 1):
                if to != peg and to not in smaller and peg not in smaller:
                    after = (*state[:disk], to, *state[disk + 1:])
                    yield f"move disk {disk + 1} from peg {peg} to peg {to}", after
            smaller.add(peg)
    return moves


def hanoi_ok(data, answer):
    one_a_line = re.sub(r"(?<=[0-9])\s+(?=(?:[0-9]+[.):]\s*)?move)", "\n", answer, flags=re.IGNORECASE)
    plan = [text(step) for step in steps_of(one_a_line)]
    state = replay(data["start"], hanoi_moves(data["pegs"]), plan[:data["most"] + 1])
    return len(plan) <= data["most"] and set(state) == {data["target"]}


@task("tower_of_hanoi", "RG", "train", "search", hanoi_ok)
def tower_of_hanoi(rng, level):
    disks, pegs = max(3, level + 1), rng.randint(4, 5) if level == 1 else rng.randint(3, 4)
    target, start = rng.randint(1, pegs), ()
    while not set(start) - {target}:
        start = tuple(rng.randint(1, pegs) for _ in range(disks))
    best = bfs(start, hanoi_moves(pegs), lambda state: set(state) == {target})
    most = min(10 * len(best) + 10, 120)  # so many fit into an answer
    piles = [[str(disk + 1) for disk in reversed(range(disks)) if start[disk] == peg]
             for peg in range(1, pegs + 1)]
    stacks = "; ".join(f"peg {peg}: {', '.join(pile) or 'empty'}" for peg, pile in enumerate(piles, 1))
    return Draft(
        f"The disks 1 (smallest) to {disks} (largest) lie on {pegs} pegs, listed from the bottom to the top: "
        f"{stacks}. Bring all of them onto peg {target}. A move takes the top disk of a peg to another peg, "
        f"and never onto a smaller disk. At most {most} moves are allowed.\n"
        "Answer format: one move per line, in the form: Move disk 8 from Peg 7 to Peg 9",
        program=code(BFS_CODE, f"""
            start = {start}  # the pegs of disk 1, disk 2, ..

            def moves(state):
                for disk, peg in enumerate(state):
                    for to in range(1, {pegs + 1}):
                        if to != peg and all(other not in (peg, to) for other in state[:disk]):
                            after = state[:disk] + (to,) + state[disk + 1:]
                            yield f"Move disk {{disk + 1}} from Peg {{peg}} to Peg {{to}}", after

            print("\\n".join(bfs(start, moves, lambda state: set(state) == {{{target}}})))"""),
        data={"start": start, "pegs": pegs, "target": target, "most": most})


# ---------------------------------------------------------------------------------------------- shortest ways
@task("binary_alternation", "RG", "test", "optimization", exact(integer))
def binary_alternation(rng, level):
    length = rng.randint(grow(level, 8, 22), grow(level, 12, 30))
    bits = list(("01", "10")[rng.randrange(2)] * length)[:length]
    # Swapping k zeros with k ones takes k swaps back; with an even length, the other pattern may be nearer.
    places = [rng.sample(range(start, length, 2), length // 2) for start in (0, 1)]
    swaps = rng.randint(0, length // (2 if length % 2 else 4))
    for a, b in zip(places[0][:swaps], places[1]):
        bits[a], bits[b] = bits[b], bits[a]
    if rng.random() < 0.2:  # one too many of a kind, or two
        few = min(rng.sample("01", 2), key=bits.count)
        swaps, bits[bits.index(few)] = -1, "1" if few == "0" else "0"
    return Draft(
        "How many swaps of two characters, which need not be neighbours, does it take at least to make "
        f"{''.join(bits)} alternate, so that no two neighbours are equal? If it is impossible, the answer is "
        "-1.\n"
        "Answer format: an integer.",
        program=f"""
            s = "{''.join(bits)}"
            best = []
            for start in ("01", "10"):
                goal = (start * len(s))[:len(s)]
                if sorted(goal) == sorted(s):
                    best.append(sum(a != b for a, b in zip(s, goal)) // 2)
            print(min(best, default=-1))""",
        answer=str(swaps))


def grid_moves(open_cells):
    """moves(cell) to the open cells above, below, left and right."""
    def moves(cell):
        for word, (i, j) in (("up", (-1, 0)), ("down", (1, 0)), ("left", (0, -1)), ("right", (0, 1))):
            if (following := (cell[0] + i, cell[1] + j)) in open_cells:
                yield word, following
    return moves


@task("maze", "RG", "train", "optimization", exact(integer))
def maze(rng, level):
    size, low, detour = grow(level, 6, 12), grow(level, 3, 8), rng.random() < 0.5
    wall, passage, first, last = rng.sample("#*@%&+=~^$oxwzTKVHQ", 4)
    while True:
        inside = [(r, c) for r in range(1, size - 1) for c in range(1, size - 1)]
        a, b, *others = rng.sample(inside, len(inside))
        cells = {a, b, *others[:round(len(others) * rng.uniform(0.6, 0.75))]}
        path = bfs(a, grid_moves(cells), lambda cell, b=b: cell == b)
        direct = abs(a[0] - b[0]) + abs(a[1] - b[1])
        if path and low <= len(path) <= 25 and (len(path) > direct or not detour):
            break
    ends = {a: first, b: last}
    grid = ["".join(ends.get((r, c), passage if (r, c) in cells else wall) for c in range(size))
            for r in range(size)]
    grid_lines = "\n".join(grid)
    return Draft(
        f"In this maze {wall} is a wall, {passage} a passage, {first} the start and {last} the "
        f"goal:\n{grid_lines}\nOne step goes up, down, left or right. How many steps does the shortest way "
        "from the start to the goal take?\n"
        "Answer format: a whole number.",
        program=f"""
            grid = {grid}
            cells = [(r, c) for r in range({size}) for c in range({size})]
            start = next((r, c) for r, c in cells if grid[r][c] == "{first}")
            steps = {{start: 0}}
            queue = [start]
            for r, c in queue:
                if grid[r][c] == "{last}":
                    print(steps[r, c])
                for cell in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                    if cell not in steps and grid[cell[0]][cell[1]] != "{wall}":
                        steps[cell] = steps[r, c] + 1
                        queue.append(cell)""",
        answer=str(len(path)))


def path_ok(data, answer):
    if text(answer) == "infeasible":
        return data["steps"] is None
    cell = replay(data["start"], grid_moves(data["cells"]), map(text, pieces(answer)))
    return cell == data["goal"] and len(pieces(answer)) == data["steps"]


@task("shortest_path", "RG", "train", "optimization", path_ok)
def shortest_path(rng, level):
    feasible, path = rng.random() < 0.8, []
    low = grow(level, 2, 6)
    while (path is not None) != feasible or feasible and len(path) < low:
        rows, columns = (rng.randint(grow(level, 4, 7), grow(level, 5, 8)) for _ in range(2))
        everywhere = [(r, c) for r in range(rows) for c in range(columns)]
        start, goal, *others = rng.sample(everywhere, rows * columns)
        cells = {start, goal, *others[:round(len(others) * rng.uniform(0.5, 0.7))]}
        path = bfs(start, grid_moves(cells), lambda cell, goal=goal: cell == goal)
    grid = [["*" if (r, c) == start else "#" if (r, c) == goal else "O" if (r, c) in cells else "X"
             for c in range(columns)] for r in range(rows)]
    return Draft(
        "Find a shortest way from * to # in this grid. O is open, X is blocked, and a step goes up, down, "
        f"left or right.\n{grid_text(grid)}\n"
        "Answer format: the steps as words separated by spaces, such as up down up; or infeasible if there "
        "is no way.",
        program=code(BFS_CODE, f"""
            rows = {[" ".join(row) for row in grid]}
            grid = {{(r, c): sign for r, row in enumerate(rows) for c, sign in enumerate(row.split())}}
            start = next(cell for cell in grid if grid[cell] == "*")

            def moves(cell):
                r, c = cell
                steps = {{"up": (r - 1, c), "down": (r + 1, c), "left": (r, c - 1), "right": (r, c + 1)}}
                return [(word, after) for word, after in steps.items() if grid.get(after, "X") != "X"]

            path = bfs(start, moves, lambda cell: grid[cell] == "#")
            print("infeasible" if path is None else " ".join(path))"""),
        data={"cells": cells, "start": start, "goal": goal, "steps": path and len(path)})


LOCK_LIMIT = 200
OPERATIONS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
OPERATION_CODE = 'value + number if sign == "+" else value - number if sign == "-" else value * number'


def lock_moves(buttons):
    """moves(state) for buttons (name, sign, number, light or "any"); a state is (value, light)."""
    def moves(state):
        value, light = state
        for name, sign, number, when in buttons:
            after = OPERATIONS[sign](value, number) if when in ("any", light) else value
            if abs(after) <= LOCK_LIMIT:
                yield name, (after, "green" if light == "red" else "red")
    return moves


def lock_ok(data, answer):
    presses = re.sub(r"->|[\s,;\-\[\]\"'`]", "", answer).upper()
    value, _ = replay((data["start"], "red"), lock_moves(data["buttons"]), presses)
    return value == data["target"] and len(presses) == data["fewest"]


@task("quantum_lock", "RG", "test", "optimization", lock_ok)
def quantum_lock(rng, level):
    plan = None
    while not plan or not grow(level, 2, 6) <= len(plan) <= grow(level, 4, 10):
        lights = rng.sample(["any", rng.choice(("red", "green")), rng.choice(("any", "red", "green"))], 3)
        effects = [rng.choice((("+", rng.randint(1, 9)), ("-", rng.randint(1, 9)), ("*", rng.randint(2, 3))))
                   for _ in lights]
        buttons = [(name, *effect, when) for name, effect, when in zip("ABC", effects, lights)]
        start, target = rng.randint(0, 3), rng.randint(5, 50)
        plan = bfs((start, "red"), lock_moves(buttons), lambda state, target=target: state[0] == target)
    words = {"+": "adds {}", "-": "subtracts {}", "*": "multiplies by {}"}
    lines = "\n".join(
        f"{name} {words[sign].format(number)}" + f", but only when the light is {when}" * (when != "any")
        for name, sign, number, when in buttons)
    return Draft(
        f"A lock shows the number {start} and a red light. It has three buttons that change the "
        f"number:\n{lines}\nAfter every press the light changes from red to green or back, also when the "
        f"button did nothing. The number must never leave the range -{LOCK_LIMIT} to {LOCK_LIMIT}. Bring the "
        f"number to {target} with as few presses as possible.\n"
        "Answer format: the buttons in order, such as X -> Y -> X",
        program=code(BFS_CODE, f"""
            buttons = {buttons}

            def moves(state):
                value, light = state
                for name, sign, number, when in buttons:
                    after = value
                    if when in ("any", light):
                        after = {OPERATION_CODE}
                    if abs(after) <= {LOCK_LIMIT}:
                        yield name, (after, "green" if light == "red" else "red")

            print(" -> ".join(bfs(({start}, "red"), moves, lambda state: state[0] == {target})))"""),
        data={"buttons": buttons, "start": start, "target": target, "fewest": len(plan)})
