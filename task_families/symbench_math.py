"""Three SymBench tasks from templates: school word problems, geometry, counting and probability.

They stand for the suite's corpus tasks (gsm-hard and two subjects of MATH), whose texts are not copied here.
A template is a function that draws its numbers and returns a `problem`: the question without its format line,
the program, the value, and in geometry the worked solution. Where the program enumerates cases, the value
comes from a formula, so the two check each other.
"""
from collections import Counter
from fractions import Fraction
from math import comb, factorial, isqrt, prod

from task_families.kit import BOYS, GIRLS, WORDS, Draft, code, exact, rational, task

GSM, GEOMETRY, COUNTING = [], [], []


def template_of(templates):
    """Adds the decorated function to this list of templates."""
    def add(function):
        templates.append(function)
        return function
    return add


def problem(text, program, value, solution=None):
    """A draft whose answer is this number."""
    return Draft(text, program, str(value), reasoning=solution)


def decimal(value):
    """'12', '12.5' or '12.25': a value with at most two decimals."""
    return str(value) if value == int(value) else f"{float(value):.2f}".rstrip("0")


# ------------------------------------------------------------------------- gsm: template(rng, big, few, name)
# `big` is a number that grows with the level (up to seven digits), `few()` draws a small one.
@template_of(GSM)
def shopping(rng, big, few, name):
    pens, books, pen, book = few(), few(), few(), few()
    paid = pens * pen + books * book + big
    return problem(
        f"{name} buys {pens} pens at {pen} dollars each and {books} notebooks at {book} dollars each, and "
        f"pays with a voucher of {paid} dollars. How many dollars are left on the voucher?",
        f"""
            pens = {pens} * {pen}
            notebooks = {books} * {book}
            print({paid} - pens - notebooks)""", big)


@template_of(GSM)
def stickers(rng, big, few, name):
    given, size = few(), few()
    total = big * size + given + rng.randrange(size)
    return problem(
        f"{name} has {total} stickers, gives {given} of them to a friend and packs the rest into envelopes "
        f"of {size} stickers, as many full envelopes as possible. How many full envelopes are there?",
        f"""
            rest = {total} - {given}
            print(rest // {size})""", big)


@template_of(GSM)
def journey(rng, big, few, name):
    first, second, fast, slow = few(), few(), 10 * few() + 5, 5 * few()
    total = first * fast + second * slow + big
    return problem(
        f"A research ship has a voyage of {total} km to make. It sails for {first} hours at {fast} km per "
        f"hour and then for {second} hours at {slow} km per hour. How many km are still to go?",
        f"""
            done = {first} * {fast} + {second} * {slow}
            print({total} - done)""", big)


@template_of(GSM)
def ages(rng, big, few, name):
    times, years = few(), few()
    return problem(
        f"A castle is {times} times as old as the {big}-year-old church beside it. How old will the two be "
        f"together in {years} years?",
        f"""
            church = {big}
            castle = {times} * church
            print(church + castle + 2 * {years})""",
        big * (times + 1) + 2 * years)


@template_of(GSM)
def wages(rng, big, few, name):
    wage, hours, extra, weeks = 2 * few(), 10 + few(), few(), few()
    return problem(
        f"{name} earns {wage} dollars per hour and one and a half times as much for every extra hour. In "
        f"each of {weeks} weeks {name} works {hours} hours and {extra} extra hours, and at the end there is "
        f"a bonus of {big} dollars. How many dollars does this make in all?",
        f"""
            week = {hours} * {wage} + {extra} * {wage} * 1.5
            print({weeks} * week + {big})""",
        weeks * (hours * wage + extra * wage * 3 // 2) + big)


@template_of(GSM)
def fence(rng, big, few, name):
    width, wires, price = few(), few(), few()
    return problem(
        f"A rectangular field is {big} m long and {width} m wide. A fence with {wires} parallel wires is put "
        f"all round it, and a metre of wire costs {price} dollars. How many dollars does the wire cost?",
        f"""
            round_the_field = 2 * ({big} + {width})
            print(round_the_field * {wires} * {price})""",
        2 * (big + width) * wires * price)


@template_of(GSM)
def discount(rng, big, few, name):
    percent, count = rng.choice((5, 10, 15, 20, 25, 30, 40)), few()
    thing = rng.choice(("lamps", "chairs", "bicycles", "tables", "guitars"))
    value = Fraction(big * count * (100 - percent), 100)
    return problem(
        f"The {thing} in a shop cost {big} dollars each, but today there is a discount of {percent} percent. "
        f"How many dollars do {count} of them cost today?",
        f"""
            price = {big} * (100 - {percent}) / 100
            print(round({count} * price, 2))""", value)


@template_of(GSM)
def ribbon(rng, big, few, name):
    bows, hats, bow = few(), few(), few()
    hat = Fraction(2 * few() + 1, 2)
    total = big + int(bows * bow + hats * hat) + 1
    return problem(
        f"A workshop has {total} m of ribbon. It uses {bow} m for each of {bows} bows and {decimal(hat)} m "
        f"for each of {hats} hats. How many metres of ribbon are left?",
        f"""
            used = {bows} * {bow} + {hats} * {decimal(hat)}
            print({total} - used)""", total - bows * bow - hats * hat)


@template_of(GSM)
def savings(rng, big, few, name):
    months, monthly, share = few(), few(), rng.randint(2, 5)
    start = big + (-(big + months * monthly)) % share
    saved = start + months * monthly
    return problem(
        f"{name} has {start} dollars and adds another {monthly} dollars in each of {months} months. Then "
        f"{name} spends one {('half', 'third', 'quarter', 'fifth')[share - 2]} of all the money. How many "
        "dollars are left?",
        f"""
            saved = {start} + {months} * {monthly}
            print(saved - saved // {share})""", saved - saved // share)


@template_of(GSM)
def eggs(rng, big, few, name):
    eaten, price, days = few(), few(), few()
    hens, per_hen = big, rng.randint(2, 6)
    laid = hens * per_hen
    eaten = min(eaten, laid - 1)
    return problem(
        f"Each of the {hens} hens of a farm lays {per_hen} eggs a week. Every week {eaten} eggs are eaten on "
        f"the farm and the others are sold for {price} dollars each. How many dollars do they bring in "
        f"{days} weeks?",
        f"""
            sold = {hens} * {per_hen} - {eaten}
            print(sold * {price} * {days})""", (laid - eaten) * price * days)


@template_of(GSM)
def archive(rng, big, few, name):
    first, per_day, rest = few(), few(), few()
    total = first * per_day + rest * big
    return problem(
        f"{name} has to scan {total} pages. On each of the first {first} days {name} manages {per_day} "
        f"pages. The rest is spread evenly over {rest} more days. How many pages are to be scanned on each "
        "of these days?",
        f"""
            left = {total} - {first} * {per_day}
            print(left // {rest})""", big)


@template_of(GSM)
def tank(rng, big, few, name):
    leak, minutes = few(), few()
    inflow = leak + few()
    total = (inflow - leak) * minutes + big
    return problem(
        f"A tank that can hold {total} litres is empty. Every minute {inflow} litres flow in and {leak} "
        f"litres leak out. How many litres are missing from the full tank after {minutes} minutes?",
        f"""
            filled = ({inflow} - {leak}) * {minutes}
            print({total} - filled)""", big)


@template_of(GSM)
def visitors(rng, big, few, name):
    left, came, share = few(), few(), rng.randint(2, 5)
    start = big + left + (-(big + came)) % share
    inside = start - left + came
    return problem(
        f"There are {start} visitors at a fair. {left} of them leave and {came} new ones come. Then one "
        f"{('half', 'third', 'quarter', 'fifth')[share - 2]} of those who are there go home. How many "
        "visitors stay?",
        f"""
            inside = {start} - {left} + {came}
            print(inside - inside // {share})""", inside - inside // share)


@template_of(GSM)
def buses(rng, big, few, name):
    teachers, seats, price = few(), 20 + 2 * few(), 50 * few()
    count = -(-(big + teachers) // seats)
    return problem(
        f"{big} students and {teachers} teachers go on a trip in buses with {seats} seats each. No more "
        f"buses are taken than needed, and each costs {price} dollars. How many dollars do the buses cost?",
        f"""
            people = {big} + {teachers}
            buses = -(-people // {seats})  # rounded up
            print(buses * {price})""",
        count * price)


@template_of(GSM)
def recipe(rng, big, few, name):
    people, per_head, eaters = few(), 5 * few(), big
    spare = few()
    return problem(
        f"A recipe for {people} people needs {people * per_head} g of flour. A canteen cooks it for {eaters} "
        f"people and needs {spare} g more to dust the tables. How many grams of flour does it use?",
        f"""
            per_head = {people * per_head} // {people}
            print(per_head * {eaters} + {spare})""", per_head * eaters + spare)


@template_of(GSM)
def interest(rng, big, few, name):
    percent, years = rng.randint(1, 9), rng.randint(2, 9)
    return problem(
        f"{name} lends {big} dollars for {years} years at {percent} percent simple interest per year (the "
        "interest is not added to the loan). How many dollars does the borrower pay back in all?",
        f"""
            interest = {big} * {percent} / 100 * {years}
            print(round({big} + interest, 2))""",
        big + Fraction(big * percent * years, 100))


@template_of(GSM)
def average(rng, big, few, name):
    days, goal = few(), big + few()
    return problem(
        f"In the first {days} days a museum had {big} visitors a day on average. How many must come on the "
        f"next day so that the average of all {days + 1} days is {goal}?",
        f"""
            so_far = {days} * {big}
            needed = {days + 1} * {goal}
            print(needed - so_far)""",
        (days + 1) * goal - days * big)


@task("gsm", "SymBench", "train", "math", exact(rational))
def gsm(rng, level):
    low, high = ((2, 20), (20, 200), (200, 5_000), (5_000, 90_000), (90_000, 9_999_999))[level - 1]
    draft = rng.choice(GSM)(rng, rng.randint(low, high), lambda: rng.randint(2, 4 + 3 * level),
                            rng.choice(GIRLS + BOYS))
    draft.prompt += "\nAnswer format: a number."
    draft.answer = decimal(Fraction(draft.answer))
    return draft


# ----------------------------------------------------------------------- geometry: template(rng, level, size)
# `size()` draws a length; some templates ask for a second step from level 3 or 4 on.
TRIPLES = ((3, 4, 5), (5, 12, 13), (8, 15, 17), (7, 24, 25), (20, 21, 29), (9, 40, 41), (12, 35, 37))
QUADRUPLES = ((1, 2, 2, 3), (2, 3, 6, 7), (1, 4, 8, 9), (4, 4, 7, 9), (2, 6, 9, 11), (6, 6, 7, 11),
              (3, 4, 12, 13), (2, 5, 14, 15), (2, 10, 11, 15))


def right_triangle(rng, level):
    """Legs and hypotenuse, whole numbers."""
    scale = rng.randint(1, 2 * level)
    a, b, c = (scale * side for side in rng.choice(TRIPLES[:level + 2]))
    return (a, b, c) if rng.random() < 0.5 else (b, a, c)


@template_of(GEOMETRY)
def triangle_from_points(rng, level, size):
    low, high = -level - 2, 3 * level
    points = [(rng.randint(low, high), rng.randint(low, high)) for _ in range(3)]
    (ax, ay), (bx, by), (cx, cy) = points
    cross = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    if cross == 0:
        return triangle_from_points(rng, level, size)
    return problem(
        f"What is the area of the triangle with the corners {points[0]}, {points[1]} and {points[2]}?",
        f"""
            (ax, ay), (bx, by), (cx, cy) = {points}
            print(Fraction(abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)), 2))""",
        Fraction(abs(cross), 2),
        f"From the first corner, the other two lie at ({bx - ax}, {by - ay}) and ({cx - ax}, {cy - ay}). The "
        f"area is half the absolute value of ({bx - ax}) * ({cy - ay}) - ({cx - ax}) * ({by - ay}) = "
        f"{cross}, so it is {Fraction(abs(cross), 2)}.")


@template_of(GEOMETRY)
def trapezoid(rng, level, size):
    a, b, h = size(), size(), size()
    return problem(
        f"The parallel sides of a trapezoid are {a} and {b} long and {h} apart. What is its area?",
        f"print(Fraction(({a} + {b}) * {h}, 2))", Fraction((a + b) * h, 2),
        f"The area is the mean of the parallel sides times their distance: ({a} + {b}) / 2 * {h} = "
        f"{Fraction((a + b) * h, 2)}.")


@template_of(GEOMETRY)
def hypotenuse(rng, level, size):
    a, b, c = right_triangle(rng, level)
    whole = level >= 4
    return problem(
        f"The legs of a right triangle are {a} and {b} long. What is "
        + ("its perimeter?" if whole else "the length of its hypotenuse?"),
        f"""
            hypotenuse = isqrt({a} ** 2 + {b} ** 2)
            print({f'{a} + {b} + ' if whole else ''}hypotenuse)""",
        a + b + isqrt(a * a + b * b) if whole else isqrt(a * a + b * b),
        f"The hypotenuse is the square root of {a}^2 + {b}^2 = {a * a} + {b * b} = {a * a + b * b}, which is "
        f"{c}."
        + f" The perimeter is {a} + {b} + {c} = {a + b + c}." * whole)


@template_of(GEOMETRY)
def missing_leg(rng, level, size):
    a, b, c = right_triangle(rng, level)
    area = level >= 4
    return problem(
        f"A right triangle has a hypotenuse of length {c} and a leg of length {a}. What is "
        + ("its area?" if area else "the length of the other leg?"),
        f"""
            leg = isqrt({c} ** 2 - {a} ** 2)
            print({f'Fraction({a} * leg, 2)' if area else 'leg'})""",
        Fraction(a * b, 2) if area else b,
        f"The other leg is the square root of {c}^2 - {a}^2 = {c * c} - {a * a} = {b * b}, which is {b}."
        + f" The area is {a} * {b} / 2 = {Fraction(a * b, 2)}." * area)


@template_of(GEOMETRY)
def rectangle_diagonal(rng, level, size):
    a, b, c = right_triangle(rng, level)
    given = f"the perimeter {2 * (a + b)}" if level >= 3 else f"another of length {b}"
    return problem(
        f"A rectangle has a side of length {a} and {given}. How long is its diagonal?",
        f"""
            other = {f'{2 * (a + b)} // 2 - {a}' if level >= 3 else b}
            print(isqrt({a} ** 2 + other ** 2))""", c,
        (f"The other side is {2 * (a + b)} / 2 - {a} = {b}. " if level >= 3 else "")
        + f"The diagonal is the square root of {a}^2 + {b}^2 = {c * c}, which is {c}.")


@template_of(GEOMETRY)
def squared_distance(rng, level, size):
    a, b, c, d = (rng.randint(-5 * level, 5 * level) for _ in range(4))
    return problem(
        f"What is the square of the distance between the points ({a}, {b}) and ({c}, {d})?",
        f"print(({c} - ({a})) ** 2 + ({d} - ({b})) ** 2)", (c - a) ** 2 + (d - b) ** 2,
        f"The differences are {c} - ({a}) = {c - a} and {d} - ({b}) = {d - b}; their squares add up to "
        f"{(c - a) ** 2} + {(d - b) ** 2} = {(c - a) ** 2 + (d - b) ** 2}.")


@template_of(GEOMETRY)
def circle_area(rng, level, size):
    diameter = size() + size()
    value = Fraction(diameter, 2) ** 2
    return problem(
        f"A circle has the diameter {diameter}. Its area is k times pi. What is k?",
        f"print(Fraction({diameter}, 2) ** 2)", value,
        f"The radius is {Fraction(diameter, 2)}, and the area is pi times its square, so k = {value}.")


@template_of(GEOMETRY)
def sector(rng, level, size):
    radius, angle = size(), rng.choice((15, 20, 24, 30, 36, 40, 45, 60, 72, 90, 100, 120, 135, 150, 210, 240))
    value = Fraction(radius ** 2 * angle, 360)
    return problem(
        f"A sector of a circle with radius {radius} has an angle of {angle} degrees at the centre. Its area "
        "is k times pi. What is k?",
        f"print(Fraction({radius} ** 2 * {angle}, 360))", value,
        f"The whole circle has the area {radius ** 2} pi. The sector is {angle}/360 = {Fraction(angle, 360)} "
        f"of it, so k = {radius ** 2} * {Fraction(angle, 360)} = {value}.")


@template_of(GEOMETRY)
def cylinder_or_cone(rng, level, size):
    body, part = rng.choice((("cylinder", 1), ("cone", 3)))
    radius, height = size(), size()
    value = Fraction(radius ** 2 * height, part)
    third = "a third of the base area times the height" if part == 3 else "the base area times the height"
    return problem(
        f"A {body} has a base of radius {radius} and the height {height}. Its volume is k times pi. What is "
        "k?",
        f"print(Fraction({radius} ** 2 * {height}, 3))" if part == 3 else f"print({radius} ** 2 * {height})",
        value,
        f"The base area is {radius}^2 pi = {radius ** 2} pi. The volume is {third}, so k = {radius ** 2} * "
        f"{height}{' / 3' if part == 3 else ''} = {value}.")


@template_of(GEOMETRY)
def polygon_angle(rng, level, size):
    n = rng.randint(3, 10 * level)
    value = Fraction(180 * (n - 2), n)
    return problem(
        f"How many degrees does an interior angle of a regular polygon with {n} sides have?",
        f"print(Fraction(180 * ({n} - 2), {n}))", value,
        f"The interior angles add up to 180 * ({n} - 2) = {180 * (n - 2)} degrees. Each of the {n} has "
        f"{180 * (n - 2)} / {n} = {value} degrees.")


@template_of(GEOMETRY)
def similar_triangles(rng, level, size):
    a, b, larger = size(), size(), size() + size()
    if a == larger:
        larger += 1
    value = Fraction(b * larger, a)
    return problem(
        f"Two triangles are similar. Sides of length {a} and {b} in the first correspond to sides of length "
        f"{larger} and x in the second. What is x?",
        f"print(Fraction({b} * {larger}, {a}))", value,
        f"Corresponding sides have the same ratio, {larger}/{a}. So x = {b} * {larger} / {a} = {value}.")


@template_of(GEOMETRY)
def inradius(rng, level, size):
    a, b, c = right_triangle(rng, level)
    return problem(
        f"A right triangle has legs of length {a} and {b}. What is the radius of its inscribed circle?",
        f"""
            hypotenuse = isqrt({a} ** 2 + {b} ** 2)
            print(Fraction({a} * {b}, {a} + {b} + hypotenuse))""",
        Fraction(a + b - c, 2),
        f"The hypotenuse is the square root of {a * a} + {b * b} = {c * c}, which is {c}. In a right "
        f"triangle the radius is half of the sum of the legs minus the hypotenuse: ({a} + {b} - {c}) / 2 = "
        f"{(a + b - c) // 2}.")


@template_of(GEOMETRY)
def box_diagonal(rng, level, size):
    scale = rng.randint(1, 2 * level)
    *sides, diagonal = (scale * x for x in rng.choice(QUADRUPLES))
    rng.shuffle(sides)
    a, b, c = sides
    return problem(
        f"A box is {a} long, {b} wide and {c} high. How long is the straight line between two opposite "
        "corners through its inside?",
        f"print(isqrt({a} ** 2 + {b} ** 2 + {c} ** 2))", diagonal,
        f"The square of the diagonal is {a}^2 + {b}^2 + {c}^2 = {a * a} + {b * b} + {c * c} = "
        f"{diagonal ** 2}, so the diagonal is {diagonal}.")


@template_of(GEOMETRY)
def frame(rng, level, size):
    inner, width = size(), size()
    outer = inner + 2 * width
    return problem(
        f"A square picture with sides of length {inner} has a frame all round it that is {width} wide, so "
        "that picture and frame together are again a square. What is the area of the frame alone?",
        f"""
            outer = {inner} + 2 * {width}
            print(outer ** 2 - {inner} ** 2)""", 4 * width * (inner + width),
        f"The outer square has sides of length {inner} + 2 * {width} = {outer}. The frame is what is left "
        f"without the picture: {outer ** 2} - {inner ** 2} = {outer ** 2 - inner ** 2}.")


@template_of(GEOMETRY)
def median_to_hypotenuse(rng, level, size):
    a, b, c = right_triangle(rng, level)
    return problem(
        f"A right triangle has legs of length {a} and {b}. How long is the line from the corner with the "
        "right angle to the middle of the hypotenuse?",
        f"print(Fraction(isqrt({a} ** 2 + {b} ** 2), 2))", Fraction(c, 2),
        f"The hypotenuse is the square root of {a * a} + {b * b} = {c * c}, which is {c}. Its middle is "
        "equally far from all three corners, so the line is half as long as the hypotenuse: "
        f"{Fraction(c, 2)}.")


@template_of(GEOMETRY)
def altitude(rng, level, size):
    a, b, c = right_triangle(rng, level)
    value = Fraction(a * b, c)
    return problem(
        f"A right triangle has legs of length {a} and {b}. How far is the corner with the right angle from "
        "the hypotenuse?",
        f"""
            hypotenuse = isqrt({a} ** 2 + {b} ** 2)
            print(Fraction({a} * {b}, hypotenuse))""", value,
        f"The hypotenuse is the square root of {a * a} + {b * b} = {c * c}, which is {c}. Twice the area is "
        f"{a} * {b} = {a * b} and also the hypotenuse times the distance, so the distance is {a * b} / {c} = "
        f"{value}.")


@template_of(GEOMETRY)
def rhombus(rng, level, size):
    a, b, c = right_triangle(rng, level)
    return problem(
        f"A rhombus has sides of length {c}, and one of its diagonals is {2 * a} long. What is its area?",
        f"""
            half = isqrt({c} ** 2 - ({2 * a} // 2) ** 2)
            print({2 * a} * 2 * half // 2)""", 2 * a * b,
        "The diagonals halve each other at right angles, so half of the other one is the square root of "
        f"{c}^2 - {a}^2 = {b * b}, which is {b}, and the other diagonal is {2 * b} long. The area is {2 * a} "
        f"* {2 * b} / 2 = {2 * a * b}.")


@template_of(GEOMETRY)
def box_surface(rng, level, size):
    a, b, c = size(), size(), size()
    return problem(
        f"A closed box is {a} long, {b} wide and {c} high. What is the area of its whole surface?",
        f"print(2 * ({a} * {b} + {a} * {c} + {b} * {c}))", 2 * (a * b + a * c + b * c),
        f"There are two sides of each kind: 2 * ({a} * {b} + {a} * {c} + {b} * {c}) = 2 * ({a * b} + {a * c} "
        f"+ {b * c}) = {2 * (a * b + a * c + b * c)}.")


@task("math_geometry", "SymBench", "train", "math", exact(rational), text_solvable=True)
def math_geometry(rng, level):
    draft = rng.choice(GEOMETRY)(rng, level, lambda: rng.randint(2, 4 + 5 * level))
    draft.prompt += "\nAnswer format: a whole number or a fraction such as 17/3."
    imports = (("Fraction", "from fractions import Fraction"), ("isqrt", "from math import isqrt"))
    draft.program = code(*(line for name, line in imports if name in draft.program), draft.program)
    return draft


# ----------------------------------------------------------------------------- counting: template(rng, level)
@template_of(COUNTING)
def letter_arrangements(rng, level):
    word = rng.choice([word for word in WORDS if 3 + (level + 1) // 2 <= len(word) <= 4 + (level + 1) // 2
                       and len(set(word)) < len(word)])
    value = factorial(len(word)) // prod(map(factorial, Counter(word).values()))
    return problem(
        f'In how many different ways can the letters of the word "{word}" be arranged in a row?',
        f"""
            from itertools import permutations

            print(len(set(permutations("{word}"))))""", value)


@template_of(COUNTING)
def committee(rng, level):
    women, men = rng.randint(3, 4 + level), rng.randint(3, 3 + level)
    size = rng.randint(3, min(women, men, 2 + level))
    least = rng.randint(1, size - 1)
    return problem(
        f"A committee of {size} people is chosen from {women} women and {men} men. How many committees are "
        f"possible that have at least {least} wom{'a' if least == 1 else 'e'}n?",
        f"""
            from itertools import combinations

            people = "w" * {women} + "m" * {men}
            print(sum(team.count("w") >= {least} for team in combinations(people, {size})))""",
        sum(comb(women, w) * comb(men, size - w) for w in range(least, size + 1)))


@template_of(COUNTING)
def round_table(rng, level):
    n = rng.randint(4, 5 + (level + 1) // 2)
    first, second = rng.sample(GIRLS + BOYS, 2)
    together = rng.random() < 0.5
    value = 2 * factorial(n - 2)
    return problem(
        f"{n} people, among them {first} and {second}, sit down at a round table with {n} chairs. {first} "
        f"and {second} must {'' if together else 'not '}sit next to each other. How many seatings are there, "
        "if seatings that differ only by a rotation count as one?",
        f"""
            from itertools import permutations

            # Person 0 keeps chair 0 (rotations count once); the two are 0 and 1.
            seats = [p.index(1) + 1 for p in permutations(range(1, {n}))]
            print(sum({'' if together else 'not '}seat in (1, {n} - 1) for seat in seats))""",
        value if together else factorial(n - 1) - value)


@template_of(COUNTING)
def lattice_paths(rng, level):
    a, b = rng.randint(3, 4 + level), rng.randint(3, 4 + level)
    x, y = rng.randint(1, a - 1), rng.randint(1, b - 1)
    through = rng.random() < 0.5
    value = comb(x + y, x) * comb(a - x + b - y, a - x)
    return problem(
        f"A path goes from (0, 0) to ({a}, {b}) in steps of length 1 to the right or upwards. How many such "
        f"paths {'pass through' if through else 'avoid'} the point ({x}, {y})?",
        f"""
            from functools import cache

            @cache
            def paths(x, y, to_x, to_y):
                if x > to_x or y > to_y:
                    return 0
                return (x, y) == (to_x, to_y) or paths(x + 1, y, to_x, to_y) + paths(x, y + 1, to_x, to_y)

            through = paths(0, 0, {x}, {y}) * paths({x}, {y}, {a}, {b})
            print({'through' if through else f'paths(0, 0, {a}, {b}) - through'})""",
        value if through else comb(a + b, a) - value)


@template_of(COUNTING)
def divisible(rng, level):
    high = rng.randint(20, 100 * level ** 2)
    p, q = rng.sample((2, 3, 5, 7, 11, 13)[:level + 2], 2)
    neither = rng.random() < 0.5
    value = high // p + high // q - high // (p * q)
    return problem(
        f"How many of the integers from 1 to {high} are divisible by "
        + (f"neither {p} nor {q}?" if neither else f"{p} or by {q} or by both?"),
        f"print(sum({'not ' * neither}(n % {p} == 0 or n % {q} == 0) for n in range(1, {high} + 1)))",
        high - value if neither else value)


@template_of(COUNTING)
def without_digit(rng, level):
    k, digit = rng.randint(2, 2 + (level + 1) // 2), rng.randint(1, 9)
    once = level >= 3 and rng.random() < 0.5
    low = 10 ** (k - 1)
    # exactly once: the digit leads, or it stands behind another leading digit
    value = 9 ** (k - 1) + 8 * (k - 1) * 9 ** (k - 2) if once else 8 * 9 ** (k - 1)
    return problem(
        f"How many integers from {low} to {10 * low - 1} contain the digit {digit} "
        f"{'exactly once' if once else 'nowhere'}?",
        f'print(sum(str(n).count("{digit}") == {int(once)} for n in range({low}, {10 * low})))', value)


@template_of(COUNTING)
def dice_sum(rng, level):
    dice = rng.randint(2, 2 + level // 2)
    total, least = rng.randint(dice + 1, 6 * dice - 1), rng.random() < 0.5
    ways = Counter({0: 1})
    for _ in range(dice):  # the sums of one die more
        ways = Counter({s: sum(ways[s - face] for face in range(1, 7)) for s in range(6 * dice + 1)})
    good = sum(count for s, count in ways.items() if (s >= total if least else s == total))
    sign = ">=" if least else "=="
    return problem(
        f"{dice} fair dice with faces 1 to 6 are thrown. What is the probability that their sum is "
        f"{'at least' if least else 'exactly'} {total}?",
        f"""
            from fractions import Fraction
            from itertools import product

            throws = list(product(range(1, 7), repeat={dice}))
            print(Fraction(sum(sum(throw) {sign} {total} for throw in throws), len(throws)))""",
        Fraction(good, 6 ** dice))


@template_of(COUNTING)
def drawing_balls(rng, level):
    red, blue = rng.randint(3, 4 + level), rng.randint(3, 4 + level)
    drawn = rng.randint(2, min(red, 2 + (level + 1) // 2))
    wanted = rng.randint(max(0, drawn - blue), drawn)
    return problem(
        f"A bag holds {red} red and {blue} blue balls. {drawn} balls are drawn at random without putting any "
        f"back. What is the probability that exactly {wanted} of them {'is' if wanted == 1 else 'are'} red?",
        f"""
            from fractions import Fraction
            from itertools import combinations

            draws = list(combinations("r" * {red} + "b" * {blue}, {drawn}))
            print(Fraction(sum(draw.count("r") == {wanted} for draw in draws), len(draws)))""",
        Fraction(comb(red, wanted) * comb(blue, drawn - wanted), comb(red + blue, drawn)))


@template_of(COUNTING)
def at_least_one(rng, level):
    fields, spins = rng.randint(3, 6 + level), rng.randint(2, 2 + (level + 1) // 2)
    limit = rng.randint(1, fields - 1)
    return problem(
        f"A wheel of fortune has {fields} equal fields with the numbers 1 to {fields} and is spun {spins} "
        f"times. What is the probability that at least one of the numbers is greater than {limit}?",
        f"""
            from fractions import Fraction
            from itertools import product

            spins = list(product(range(1, {fields} + 1), repeat={spins}))
            print(Fraction(sum(max(spin) > {limit} for spin in spins), len(spins)))""",
        1 - Fraction(limit, fields) ** spins)


@template_of(COUNTING)
def expected_product(rng, level):
    cards = sorted(rng.sample(range(1, 6 + 4 * level), rng.randint(3, 3 + level)))
    n, total = len(cards), sum(cards)
    return problem(
        f"Two of the cards with the numbers {', '.join(map(str, cards))} are drawn at random without putting "
        "any back. What is the expected value of the product of their numbers?",
        f"""
            from fractions import Fraction
            from itertools import combinations

            pairs = list(combinations({cards}, 2))
            print(Fraction(sum(a * b for a, b in pairs), len(pairs)))""",
        Fraction(total ** 2 - sum(card ** 2 for card in cards), n * (n - 1)))


@template_of(COUNTING)
def handshakes(rng, level):
    groups = [rng.randint(2, 3 + 3 * level) for _ in range(rng.randint(2, 4))]
    everyone = sum(groups)
    return problem(
        f"At a meeting there are {len(groups)} teams with {', '.join(map(str, groups[:-1]))} and "
        f"{groups[-1]} members. Everyone shakes hands once with everyone who is not in the same team. How "
        "many handshakes are there?",
        f"""
            from itertools import combinations

            teams = [team for team, size in enumerate({groups}) for _ in range(size)]
            print(sum(a != b for a, b in combinations(teams, 2)))""",
        (everyone ** 2 - sum(size ** 2 for size in groups)) // 2)


@template_of(COUNTING)
def sharing_out(rng, level):
    children, least = rng.randint(2, 2 + (level + 1) // 2), rng.randint(0, 2)
    sweets = children * least + rng.randint(3, 4 + 2 * level)
    sweets = min(sweets, {2: 30, 3: 25, 4: 18, 5: 11}[children] + least)
    return problem(
        f"In how many ways can {sweets} equal sweets be given to {children} children, if every child must "
        f"get at least {least}?" if least else
        f"In how many ways can {sweets} equal sweets be given to {children} children, if a child may also "
        "get none?",
        f"""
            from itertools import product

            shares = product(range({least}, {sweets} + 1), repeat={children})
            print(sum(sum(share) == {sweets} for share in shares))""",
        comb(sweets - children * least + children - 1, children - 1))


@template_of(COUNTING)
def coin_sequences(rng, level):
    n = rng.randint(4, 4 + 2 * level)
    heads = rng.randint(2, (n + 1) // 2)
    apart = rng.random() < 0.5
    condition = " and 'HH' not in toss" * apart
    return problem(
        f"A coin is tossed {n} times. How many sequences of heads and tails have exactly {heads} heads"
        + (", no two of them directly after each other?" if apart else "?"),
        f"""
            from itertools import product

            tosses = [''.join(toss) for toss in product('HT', repeat={n})]
            print(sum(toss.count('H') == {heads}{condition} for toss in tosses))""",
        comb(n - heads + 1, heads) if apart else comb(n, heads))


@template_of(COUNTING)
def passwords(rng, level):
    letters, digits = rng.randint(2, 3 + level), rng.randint(2, 2 + level)
    length = rng.randint(2, 3 + level // 4)
    return problem(
        f"A password has {length} characters, each of which is one of {letters} letters or one of {digits} "
        "digits; characters may be repeated. How many passwords have at least one digit and at least one "
        "letter?",
        f"""
            from itertools import product

            characters = ["letter"] * {letters} + ["digit"] * {digits}
            print(sum(len(set(kinds)) == 2 for kinds in product(characters, repeat={length})))""",
        (letters + digits) ** length - letters ** length - digits ** length)


@template_of(COUNTING)
def even_sums(rng, level):
    n, k = rng.randint(5, 6 + 2 * level), rng.randint(2, 3 + level // 2)
    odd = (n + 1) // 2
    return problem(
        f"How many sets of {k} different integers from 1 to {n} have an even sum?",
        f"""
            from itertools import combinations

            print(sum(sum(chosen) % 2 == 0 for chosen in combinations(range(1, {n} + 1), {k})))""",
        sum(comb(odd, j) * comb(n - odd, k - j) for j in range(0, k + 1, 2)))


@template_of(COUNTING)
def matched_letters(rng, level):
    n = rng.randint(3, 4 + (level + 1) // 2)
    fixed = rng.randint(0, n - 2)
    wrong = [1, 0]  # ways in which none of m letters is right
    for m in range(2, n + 1):
        wrong.append((m - 1) * (wrong[-1] + wrong[-2]))
    return problem(
        f"{n} letters for {n} different people are put into their {n} addressed envelopes at random, one in "
        f"each. What is the probability that exactly {fixed} of the letters {'is' if fixed == 1 else 'are'} "
        "in the right envelope?",
        f"""
            from fractions import Fraction
            from itertools import permutations

            orders = list(permutations(range({n})))
            hits = [sum(i == x for i, x in enumerate(order)) for order in orders]
            print(Fraction(hits.count({fixed}), len(orders)))""",
        Fraction(comb(n, fixed) * wrong[n - fixed], factorial(n)))


@template_of(COUNTING)
def larger_die(rng, level):
    first, second = rng.sample(range(4, 8 + 3 * level), 2)
    return problem(
        f"A fair die with the faces 1 to {first} and one with the faces 1 to {second} are thrown. What is "
        "the probability that the first shows more than the second?",
        f"""
            from fractions import Fraction

            wins = sum(a > b for a in range(1, {first} + 1) for b in range(1, {second} + 1))
            print(Fraction(wins, {first} * {second}))""",
        Fraction(sum(min(a - 1, second) for a in range(1, first + 1)), first * second))


@task("math_counting_and_probability", "SymBench", "test", "math", exact(rational))
def math_counting_and_probability(rng, level):
    draft = rng.choice(COUNTING)(rng, level)
    draft.prompt += "\nAnswer format: a whole number or an exact fraction such as 22/7."
    return draft
