"""Reasoning-Gym tasks about numbers, algebra and geometry (names are the suite's, texts and code are ours).

What is to be rounded comes with its exact value, so that half a unit of the last digit is the tolerance.
"""
import ast
import math
import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from itertools import product

from task_families.kit import (
    MONTHS,
    Draft,
    code,
    exact,
    grid_text,
    grow,
    integer,
    list_of,
    matrix_of,
    python_signs,
    rational,
    rounded,
    task,
    text,
    value_part,
    within,
)
from task_families.puzzles import pool, pool_program


# ------------------------------------------------------------------------------------- chains and expressions
def chain(rng, numbers):
    """Numbers joined by + and - at random -> text, value."""
    written, total = str(numbers[0]), numbers[0]
    for number in numbers[1:]:
        sign = rng.choice((1, -1))
        written += f" {'+' if sign > 0 else '-'} {number}"
        total += sign * number
    return written, total


def arithmetic(rng, count, draw, divisor):
    """A random expression over `count` numbers with the parentheses it needs -> text, value, rank.

    `draw()` gives a number, `divisor(value)` one to divide that value by, or None. What binds tighter has the
    higher rank.
    """
    if count == 1:
        number = draw()
        return (str(number), Fraction(number), 3) if number >= 0 else (f"({number})", Fraction(number), 3)
    sign = rng.choice("+-*/")
    split = count - 1 if sign == "/" else rng.randint(1, count - 1)
    left, a, left_rank = arithmetic(rng, split, draw, divisor)
    if sign == "/" and (number := divisor(a)):
        right, b, right_rank = str(number), Fraction(number), 3
    else:
        sign = rng.choice("+-*") if sign == "/" else sign
        right, b, right_rank = arithmetic(rng, count - split, draw, divisor)
    rank = 2 if sign in "*/" else 1
    left = f"({left})" if left_rank < rank else left
    right = f"({right})" if right_rank < rank or (right_rank == rank and sign in "-/") else right
    return f"{left} {sign} {right}", {"+": a + b, "-": a - b, "*": a * b, "/": b and a / b}[sign], rank


@task("chain_sum", "RG", "train", "math", exact(integer))
def chain_sum(rng, level):
    top = 10 ** grow(level, 2, 5) - 1
    written, total = chain(rng, [rng.randint(1, top) for _ in range(grow(level, 2, 8))])
    return Draft(
        f"What is {written}?\nAnswer format: an integer.",
        program=f"print({written})",
        answer=str(total))


@task("decimal_chain_sum", "RG", "train", "math", exact(rational))
def decimal_chain_sum(rng, level):
    places = grow(level, 1, 4)
    numbers = [Decimal(rng.randint(1, 10 ** (places + 2))).scaleb(-rng.randint(1, places))
               for _ in range(grow(level, 2, 8))]
    written, total = chain(rng, numbers)
    exactly = re.sub(r"[0-9.]+", r'Decimal("\g<0>")', written)
    return Draft(
        f"What is {written}? Give the exact value.\nAnswer format: a decimal number.",
        program=f"from decimal import Decimal\n\nprint({exactly})",
        answer=str(total))


@task("basic_arithmetic", "RG", "train", "math", exact(integer))
def basic_arithmetic(rng, level):
    def draw():
        number = rng.randint(2, 10 ** rng.randint(1, grow(level, 2, 4)) - 1)
        return -number if level > 3 and rng.random() < 0.2 else number

    def divisor(value):
        exact_ones = [number for number in range(2, min(100, int(abs(value)))) if value % number == 0]
        return rng.choice(exact_ones) if exact_ones else None

    while True:
        count = rng.randint(max(2, level), level + 1)
        written, value, _ = arithmetic(rng, count, draw, divisor)
        if abs(value) < 10**9 and (level > 2 or "(" not in written):
            break
    return Draft(
        f"What is {written}? Multiplication and division go before addition and subtraction.\n"
        "Answer format: an integer.",
        program=f"print({written.replace('/', '//')})",
        answer=str(value))


@task("decimal_arithmetic", "RG", "train", "math", rounded(4))
def decimal_arithmetic(rng, level):
    def draw():
        places = rng.randint(1, grow(level, 1, 3))
        return Decimal(rng.randint(1, 10 ** (places + grow(level, 1, 2)))).scaleb(-places)

    while True:
        written, value, _ = arithmetic(rng, grow(level, 2, 6), draw, lambda value: draw())
        if abs(value) < 10**6 and (value * 20_000) % 2 != 1:  # a tie could be rounded either way
            break
    numbers = re.sub(r"[0-9.]+", r'D("\g<0>")', written)
    return Draft(
        f"Compute {written} and round the result to 4 decimals.\nAnswer format: a decimal number.",
        program=f"""
            from decimal import Decimal as D, getcontext

            getcontext().prec = 30
            print(round({numbers}, 4))""",
        answer=f"{float(round(value, 4)):.4f}",
        data={"exact": str(value)})


def hexadecimal(answer):
    """-0x94b, 0X94B or 94b -> the number."""
    digits = re.fullmatch(r"([+-]?)\s*(?:0x)?([0-9a-f]+)", value_part(answer).casefold())
    if not digits:
        raise ValueError("not a hexadecimal number")
    return int(digits[1] + digits[2], 16)


def bitwise(rng, depth, top):
    """A fully parenthesised expression over hexadecimal numbers -> text, value."""
    if depth == 0:
        number = rng.randint(1, top)
        return hex(number), number
    left, a = bitwise(rng, depth - 1, top)
    sign = rng.choice("+ - * & | ^ << >>".split())
    shift = rng.randint(1, 4)
    right, b = (str(shift), shift) if sign in ("<<", ">>") else bitwise(rng, rng.randrange(depth), top)
    if sign in ("<<", ">>"):
        value = a * 2**b if sign == "<<" else a // 2**b
    else:
        value = {"+": a + b, "-": a - b, "*": a * b, "&": a & b, "|": a | b, "^": a ^ b}[sign]
    return f"({left} {sign} {right})", value


@task("bitwise_arithmetic", "RG", "test", "math", exact(hexadecimal))
def bitwise_arithmetic(rng, level):
    written, value = bitwise(rng, grow(level, 1, 4), 16 ** grow(level, 2, 4) - 1)
    written = written[1:-1]
    return Draft(
        f"Compute {written}\nNumbers are hexadecimal (0x..) or, as shift counts, decimal; whole numbers "
        "have a sign and "
        "any length, as in python. & is bitwise and, | or, ^ exclusive or, << and >> shift left and right.\n"
        "Answer format: a hexadecimal number, such as 0x5e or -0x5e.",
        program=f"print(hex({written}))",
        answer=hex(value))


def three_digits_ok(data, answer):
    """Three significant figures: within half a unit of the third one (more digits are welcome)."""
    unit = Fraction(10) ** (int(data["answer"].split("e")[1]) - 2)
    return within(rational(answer), Fraction(data["base"]) ** data["exponent"], unit)


@task("power_function", "RG", "train", "math", three_digits_ok)
def power_function(rng, level):
    places, top = rng.randint(1, min(level + 1, 4)), (12, 30, 100, 300, 1000)[level - 1]
    unit = 10 ** places
    base = rng.choice((-1, 1)) * Decimal(rng.randint(unit // 2 + 2, top * unit)).scaleb(-places)
    most = grow(level, 4, 8)
    exponent = rng.choice([e for e in range(-most if level > 1 else 2, most + 1) if e not in (0, 1)])
    return Draft(
        f"What is {base if base > 0 else f'({base})'} to the power of {exponent}? Give three significant "
        "figures.\n"
        "Answer format: e-notation, such as -7.35e+04.",
        program=f'print(f"{{({base}) ** {exponent}:.2e}}")',
        answer=f"{float(Fraction(base) ** exponent):.2e}",
        data={"base": str(base), "exponent": exponent})


@task("products", "RG", "train", "math", exact(integer))
def products(rng, level):
    digits = grow(level, 2, 5)
    numbers = [rng.randint(10 ** (digits - 1), 10 ** digits - 1) for _ in range(3 if level == 5 else 2)]
    return Draft(
        f"What is {' times '.join(map(str, numbers))}?\nAnswer format: a whole number.",
        program=f"print({' * '.join(map(str, numbers))})",
        answer=str(math.prod(numbers)),
        recheck=f"print({{answer}} // {numbers[0]} == {' * '.join(map(str, numbers[1:]))})")


# ------------------------------------------------------------------------------------------------ polynomials
def polynomial_text(coefficients, letter):
    """[5, -1, 0, 2] -> 2*x**3 - x + 5 (the list starts with the constant term)."""
    written = ""
    for power, number in reversed(list(enumerate(coefficients))):
        if number:
            factors = [str(abs(number))] if power == 0 or abs(number) != 1 else []
            factors += [letter if power == 1 else f"{letter}**{power}"] if power else []
            written += (" - " if number < 0 else " + ") + "*".join(factors)
    return {" + ": "", " - ": "-"}.get(written[:3], "0") + written[3:]


def convolve(left, right):
    """The product of two polynomials as coefficient lists."""
    product = [0] * (len(left) + len(right) - 1)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            product[i + j] += a * b
    return product


def monomials(answer):
    """3*x**2 - x + 4, also 3x^2: a collected sum without parentheses -> {(letter, exponent): coefficient}."""
    source = python_signs(value_part(answer))
    source = re.sub(r"\s*([-+*a-z])\s*", r"\1", source).replace("+-", "-").replace("--", "+")
    terms = re.findall("[+-]?[^+-]+", source)
    if "".join(terms) != source:
        raise ValueError("two signs in a row, or a sign at the end")
    total = {}
    for term in terms:
        found = re.fullmatch(r"([+-]?)(?:([0-9]{1,40})(?:\.0*)?(?:\*(?=[a-z]))?)?"
                             r"(?:([a-z])(?:\*\*([0-9]{1,3}))?)?", term)
        if not found:
            raise ValueError(f"not a monomial: {term[:40]!r}")
        sign, number, letter, exponent = found.groups()
        exponent = int(exponent or 1) if letter else 0
        key = (letter if exponent else "", exponent)
        if key in total:
            raise ValueError("like terms that were not collected")
        total[key] = int(sign + (number or "1"))
    return {key: number for key, number in total.items() if number}


@task("polynomial_multiplication", "RG", "test", "math", exact(monomials))
def polynomial_multiplication(rng, level):
    letter, factors, product = rng.choice("xyz"), [], [1]
    for _ in range(2 if level < 4 else 3):
        degree, factor = rng.randint(1, grow(level, 1, 3)), []
        while sum(map(bool, factor)) < 2 or not factor[-1]:
            factor = [rng.choice((-1, 0, 1)) * rng.randint(1, grow(level, 9, 99)) for _ in range(degree + 1)]
        factors.append(factor)
        product = convolve(product, factor)
    return Draft(
        "Multiply out and collect like terms: "
        f"{'*'.join(f'({polynomial_text(f, letter)})' for f in factors)}\n"
        "Answer format: a sum of terms without parentheses, with * for times and ** for powers, such as "
        f"5*{letter}**3 - {letter} + 8",
        program=f"""
            product = [1]  # coefficients, constant term first
            for factor in {factors}:
                longer = [0] * (len(product) + len(factor) - 1)
                for i, a in enumerate(product):
                    for j, b in enumerate(factor):
                        longer[i + j] += a * b
                product = longer
            terms = [f"{{c}}*{letter}**{{n}}" if n else str(c) for n, c in enumerate(product) if c]
            print(" + ".join(reversed(terms)).replace("+ -", "- "))""",
        answer=polynomial_text(product, letter))


def complex_text(real, imaginary):
    return f"{real} {'-' if imaginary < 0 else '+'} {abs(imaginary)}i"


@task("complex_arithmetic", "RG", "test", "math", exact(lambda answer: monomials(answer.replace("j", "i"))))
def complex_arithmetic(rng, level):
    sign = rng.choice("+-") if level < 3 else "*" if level == 3 else "/"
    shown = answer = ""
    while answer in shown:
        a, b, c, d = (rng.choice((-1, 1)) * rng.randint(1, grow(level, 5, 20)) for _ in range(4))
        product = a * c - b * d, a * d + b * c
        result = {"+": (a + c, b + d), "-": (a - c, b - d), "*": product, "/": (a, b)}[sign]
        if sign == "/":  # the dividend is made from the quotient, so that the result is whole
            a, b = product
        shown, answer = f"({complex_text(a, b)}) {sign} ({complex_text(c, d)})", complex_text(*result)
    formula = {"+": "real, imaginary = a + c, b + d", "-": "real, imaginary = a - c, b - d",
               "*": "real, imaginary = a * c - b * d, a * d + b * c",
               "/": "size = c * c + d * d  # times the conjugate, divided by the squared length\n"
                    "real, imaginary = (a * c + b * d) // size, (b * c - a * d) // size"}[sign]
    return Draft(
        f"Compute {shown}, where i is the square root of -1.\n"
        "Answer format: a complex number, such as 70 - 80i.",
        program=f"a, b, c, d = {a}, {b}, {c}, {d}\n{formula}\n"
                "print(f\"{real} {'-' if imaginary < 0 else '+'} {abs(imaginary)}i\")",
        answer=answer)


@task("simple_equations", "RG", "train", "math", exact(integer))
def simple_equations(rng, level):
    letter = rng.choice("abcdkmnpqrstuvwxyz")
    solution = rng.choice((-1, 1)) * rng.randint(1, grow(level, 10, 500))
    a, b, c, d = (rng.randint(2, 8 + 4 * level) for _ in range(4))
    b *= rng.choice((-1, 1))
    if level == 1:
        a, b = rng.choice(((a, 0), (1, b)))
    c, d = (c if level == 5 else 0), (d if level >= 4 else 0)
    a += c + d if a == c + d else 0
    e = (a - c - d) * solution + b
    left = polynomial_text([b, a], letter) + (f" - {c}*{letter}" if c else "")
    right = polynomial_text([e, d], letter)
    return Draft(
        f"Solve for {letter}: {left} = {right}\nAnswer format: an integer.",
        program=f"""
            # a*x + b - c*x = d*x + e, so (a - c - d)*x = e - b
            a, b, c, d, e = {a}, {b}, {c}, {d}, {e}
            print((e - b) // (a - c - d))""",
        answer=str(solution),
        recheck=f"{letter} = {{answer}}\nprint({left} == {right})")


def roots(answer):
    """x = -1.5 or x = 2 -> the numbers in their order."""
    return list_of(rational)(re.sub(r"[a-z](?:_?[0-9])?\s*=", "", re.sub(r"\s+(?:or|and)\s+", ", ", answer)))


@task("polynomial_equations", "RG", "train", "math", rounded(4, roots))
def polynomial_equations(rng, level):
    letter = rng.choice("uvwxyz")
    while True:
        product = [rng.randint(2, 9) if level == 1 else 1]
        linear = [[rng.randint(-12, 12), rng.randint(1, 2)] for _ in range(level if level < 4 else 1)]
        if level >= 4:  # one whole root and a quadratic without rational ones
            linear[0][1] = 1
            c, b, a = rng.randint(-20, 20), rng.randint(-9, 9), rng.randint(1, level - 3)
            inside = b * b - 4 * a * c
            if inside >= 0 and math.isqrt(inside) ** 2 == inside:
                continue
            product = [c, b, a]
        for factor in linear:
            product = convolve(product, factor)
        if max(map(abs, product)) <= 300:
            break
    values = {-b / a for b, a in linear}
    if level >= 4 and inside > 0:
        values |= {(-b + math.sqrt(inside)) / (2 * a), (-b - math.sqrt(inside)) / (2 * a)}
    return Draft(
        f"Find all real solutions of {polynomial_text(product, letter)} = 0\nName each solution once, in "
        "ascending "
        "order, rounded to 4 decimals where it is not exact.\nAnswer format: numbers separated by commas.",
        program=f"""
            from math import sqrt

            rest, solutions = {product[::-1]}, set()  # highest power first
            for candidate in (n / 2 for n in range(-600, 601)):
                while len(rest) > 1:
                    row = rest[:1]  # Horner's rule: the quotient, then the remainder
                    for number in rest[1:]:
                        row.append(row[-1] * candidate + number)
                    if row[-1] != 0:
                        break
                    solutions.add(candidate)
                    rest = row[:-1]
            if len(rest) == 3:
                a, b, c = rest
                if b * b > 4 * a * c:
                    solutions |= {{(-b + s * sqrt(b * b - 4 * a * c)) / (2 * a) for s in (1, -1)}}
            print(", ".join(f"{{round(x, 4):g}}" for x in sorted(solutions)))""",
        answer=", ".join(f"{round(value + 0.0, 4):g}" for value in sorted(values)),
        data={"exact": ", ".join(map(repr, sorted(values)))})


# ------------------------------------------------------------------------------------------------ integration
FUNCTIONS = {  # name: the function and its derivative
    "exp": (math.exp, math.exp), "sin": (math.sin, math.cos), "cos": (math.cos, lambda u: -math.sin(u)),
    "tan": (math.tan, lambda u: 1 + math.tan(u) ** 2), "atan": (math.atan, lambda u: 1 / (1 + u * u)),
    "log": (math.log, lambda u: 1 / u), "ln": (math.log, lambda u: 1 / u),
    "sqrt": (math.sqrt, lambda u: 0.5 / math.sqrt(u)), "abs": (abs, lambda u: math.copysign(1, u))}


def value_and_slope(answer, x, constant=0.0):
    """Value and derivative at x of an expression in x (dual numbers: every step carries its slope along)."""
    source = re.sub(r"\|([^|]*)\|", r"(abs(\1))", python_signs(value_part(answer)))
    source = re.sub(r"([0-9)])\s*(?=[a-zA-Z(])", r"\1*", source)  # 2x means 2*x
    if len(source) > 1_000 or "#" in source:  # behind that sign python reads nothing
        raise ValueError("not an expression")

    def walk(node):
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number), 0.0
            case ast.Name(id="x"):
                return x, 1.0
            case ast.Name(id="e" | "E"):
                return math.e, 0.0
            case ast.Name(id=name) if re.fullmatch("[CcKk]_?[0-9]?", name):
                return constant, 0.0
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=inner):
                sign, (u, du) = -1 if isinstance(op, ast.USub) else 1, walk(inner)
                return sign * u, sign * du
            case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in FUNCTIONS:
                u, du = walk(inner)
                function, derivative = FUNCTIONS[name]
                return function(u), derivative(u) * du
            case ast.BinOp(left=left, op=op, right=right):
                (u, du), (v, dv) = walk(left), walk(right)
                match op:
                    case ast.Add(): return u + v, du + dv
                    case ast.Sub(): return u - v, du - dv
                    case ast.Mult(): return u * v, du * v + u * dv
                    case ast.Div(): return u / v, (du * v - u * dv) / (v * v)
                    case ast.Pow():
                        power = math.pow(u, v)
                        return power, v * math.pow(u, v - 1) * du + (power * math.log(u) * dv if dv else 0.0)
        raise ValueError("not an expression in x")

    return walk(ast.parse(source, mode="eval").body)


def integral_ok(data, answer):
    """Is the slope of the answer the integrand, at eight places, whatever the constant of integration?"""
    for place, constant in product((0.31, 0.59, 0.87, 1.13, 1.42, 1.69, 1.97, 2.26), (0.0, 1.0)):
        truth = value_and_slope(data["integrand"], place)[0]
        _, slope = value_and_slope(answer, place, constant)
        if not abs(slope - truth) <= 1e-9 * (1 + abs(truth)):  # no more than what floats lose
            return False
    return True


def integral(integrand, program):
    """The draft that both kinds of integrals share."""
    functions = " exp, log, sqrt, sin, cos may occur," * bool(re.search(r"[a-z]{2}|/\(", integrand))
    return Draft(
        f"Find an antiderivative (with respect to x, for x > 0) of {integrand}\n"
        f"Answer format: an expression in x with * for times and ** for powers;{functions} + C is "
        "optional.",
        program=program,
        data={"integrand": integrand},
        recheck=f"""
            from math import *
            C, x, h = 0, 0.7, 1e-6
            F = lambda x: {{answer}}
            print(abs((F(x + h) - F(x - h)) / (2 * h) - ({integrand})) < 1e-3 * (1 + abs({integrand})))""")


@task("simple_integration", "RG", "train", "math", integral_ok)
def simple_integration(rng, level):
    powers = rng.sample(range(grow(level, 3, 8) + 1), min(5, rng.randint(level, level + 1)))
    coefficients = [0] * (max(powers) + 1)
    for power in powers:
        below = rng.randint(2, 6) if level > 3 and rng.random() < 0.5 else 1
        coefficients[power] = Fraction(rng.choice((-1, 1)) * rng.randint(1, 9 + 3 * level), below)
    terms = [(str(number), power) for power, number in enumerate(coefficients) if number]
    return integral(polynomial_text(coefficients, "x"), f"""
        from fractions import Fraction

        terms = {terms}  # coefficient, power
        print(" + ".join(f"({{Fraction(c) / (n + 1)}})*x**{{n + 1}}" for c, n in terms), "+ C")""")


@task("intermediate_integration", "RG", "train", "math", integral_ok)
def intermediate_integration(rng, level):
    a, b, k = rng.randint(1, 9), rng.randint(1, 9), rng.randint(2, 9)
    inner, n = polynomial_text([0, a], "x"), rng.randint(2, 6)
    if level <= 3:  # k*f(a*x + b)
        f, whole = rng.choice({1: [(f"(u)**{n}", f"(u)**{n + 1}/{n + 1}")],
                               2: [("exp(u)", "exp(u)"), ("sin(u)", "-cos(u)"), ("cos(u)", "sin(u)")],
                               3: [("1/(u)", "log(u)"), ("sqrt(u)", "2/3*(u)**(3/2)")]}[level])
        return integral(f"{k}*{f}".replace("*1/", "/").replace("(u)", f"({inner} + {b})"), f"""
            from fractions import Fraction

            # The integral of k*f(a*x + b) is k/a*F(a*x + b), where F is an antiderivative of f.
            k, a, b = {k}, {a}, {b}
            F = "{whole}"  # of {f}
            print(f"({{Fraction(k, a)}})*(" + F.replace("(u)", f"({{a}}*x + {{b}})") + ") + C")""")
    function = rng.choice(("exp", "sin", "cos"))
    if level == 5 and function != "exp":
        p, q = ("k*a", "-k*b") if function == "sin" else ("k*b", "k*a")
        return integral(f"{k}*exp({inner})*{function}({polynomial_text([0, b], 'x')})", f"""
            from fractions import Fraction

            # The slope of exp(a*x)*(p*sin(b*x) + q*cos(b*x)) is
            # exp(a*x)*((a*p - b*q)*sin(b*x) + (a*q + b*p)*cos(b*x)): set equal and solved for p and q.
            k, a, b = {k}, {a}, {b}
            p, q = Fraction({p}, a*a + b*b), Fraction({q}, a*a + b*b)
            print(f"exp({{a}}*x)*(({{p}})*sin({{b}}*x) + ({{q}})*cos({{b}}*x)) + C")""")
    polynomial = [0, k] if function != "exp" else [b, k] if level == 4 else [rng.randint(-9, 9), b, k]
    factor = polynomial_text(polynomial, "x")
    integrals = {"exp": ["exp"], "sin": ["-cos", "-sin", "cos", "sin"],
                 "cos": ["sin", "-cos", "-sin", "cos"]}[function]
    return integral(f"{f'({factor})' if ' ' in factor else factor}*{function}({inner})", f"""
        from fractions import Fraction

        # By parts, again and again: P*F1 - P'*F2 + P''*F3 - .., with F1, F2, .. integrated once, twice, ..
        polynomial, a = {polynomial}, {a}  # constant term first
        integrals = {integrals}
        terms, step = [], 0
        while any(polynomial):
            scale = Fraction((-1) ** step, a ** (step + 1))
            factor = " + ".join(f"({{scale * c}})*x**{{n}}" for n, c in enumerate(polynomial) if c)
            terms.append(f"({{factor}})*({{integrals[step % len(integrals)]}}({{a}}*x))")
            polynomial = [n * c for n, c in enumerate(polynomial)][1:]
            step += 1
        print(" + ".join(terms), "+ C")""")


# ---------------------------------------------------------------------------------------------- whole numbers
def base_digits(number, base):
    """A whole number written in a base up to 16."""
    digits = ""
    while number:
        number, digit = divmod(number, base)
        digits = "0123456789abcdef"[digit] + digits
    return digits


def plain_digits(answer):
    """Lower case, without 0x, 0b or 0o and without leading zeros."""
    digits = re.fullmatch("(?:0[xbo])?0*([0-9a-f]+)", text(answer))
    if not digits:
        raise ValueError("not a row of digits")
    return digits[1]


@task("base_conversion", "RG", "train", "math", exact(plain_digits))
def base_conversion(rng, level):
    number, (old, new) = rng.randint(17, 13 * 6 ** level), rng.sample(range(2, 17), 2)
    names = {2: "binary", 8: "octal", 10: "decimal", 16: "hexadecimal"}
    shown, answer = base_digits(number, old), base_digits(number, new)
    return Draft(
        f"Convert {shown} from {names.get(old, f'base {old}')} to {names.get(new, f'base {new}')}. The "
        "digits above 9 "
        "are a, b, c, d, e, f.\nAnswer format: the digits of the converted number.",
        program=f"""
            number, digits = int("{shown}", {old}), ""
            while number:
                number, digit = divmod(number, {new})
                digits = "0123456789abcdef"[digit] + digits
            print(digits)""",
        answer=answer,
        recheck=f'print(int("{{answer}}", {new}) == int("{shown}", {old}))')


@task("count_bits", "RG", "train", "math", exact(integer))
def count_bits(rng, level):
    number = rng.randint(10 ** (level + 1), 10 ** (2 * level + 1) if level < 5 else 2 ** 31)
    return Draft(
        f"How many 1 bits does the binary form of {number} have?\nAnswer format: a whole number.",
        program=f'print(bin({number}).count("1"))',
        answer=str(number.bit_count()),
        recheck=f"print(sum({number} >> i & 1 for i in range(40)) == {{answer}})")


def is_prime(number):
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


@task("count_primes", "RG", "train", "math", exact(integer))
def count_primes(rng, level):
    last = rng.randint(50, 120) if level == 1 else rng.randint(16 * 3 ** level, 21 * 3 ** level)
    first = rng.randint(2, last // 2)
    return Draft(
        f"How many prime numbers p are there with {first} <= p <= {last}?\nAnswer format: a whole number.",
        program=f"""
            def is_prime(n):
                return n > 1 and all(n % d for d in range(2, int(n ** 0.5) + 1))

            print(sum(is_prime(n) for n in range({first}, {last} + 1)))""",
        answer=str(sum(map(is_prime, range(first, last + 1)))))


def factors_ok(data, answer):
    named = rf"^\s*{data['number']}\s*=|=\s*{data['number']}\s*$"
    factors = [integer(piece) for piece in re.split("[xX*,]", python_signs(re.sub(named, "", answer)))]
    return math.prod(factors) == data["number"] and all(map(is_prime, factors))


@task("prime_factorization", "RG", "train", "math", factors_ok)
def prime_factorization(rng, level):
    number = 2
    while is_prime(number):
        number = rng.randint(10, 250 * 4 ** level if level < 5 else 200_000)
    return Draft(
        f"Write {number} as a product of prime numbers. Repeat a prime as often as it divides the number; "
        "use no "
        "powers.\nAnswer format: the primes joined by x, such as 3 x 3 x 7.",
        program=f"""
            number, factors, divisor = {number}, [], 2
            while number > 1:
                if number % divisor == 0:
                    factors.append(divisor)
                    number //= divisor
                else:
                    divisor += 1
            print(" x ".join(map(str, factors)))""",
        data={"number": number},
        recheck=f"from math import prod\nprint(prod(map(int, \"{{answer}}\".split(' x '))) == {number})")


@task("gcd", "RG", "test", "math", exact(integer))
def gcd(rng, level):
    top = 400 * 5 ** level
    while True:
        common = rng.randint(1, top // 20)
        factors = rng.sample(range(2, top // common + 1), grow(level, 2, 4))
        numbers = [common * factor for factor in factors]
        if math.gcd(*numbers) not in numbers:
            break
    shown = ", ".join(map(str, numbers))
    return Draft(
        f"What is the greatest common divisor of the numbers {shown}?\nAnswer format: a whole number.",
        program=f"""
            from math import gcd

            print(gcd({shown}))""",
        answer=str(math.gcd(*numbers)))


@task("lcm", "RG", "test", "math", exact(integer))
def lcm(rng, level):
    top = (40, 80, 150, 300, 500)[level - 1]
    while True:
        numbers = rng.sample(range(2, top + 1), grow(level, 2, 4))
        if math.lcm(*numbers) not in numbers:
            break
    return Draft(
        f"What is the least common multiple of the numbers {', '.join(map(str, numbers))}?\nAnswer format: "
        "a whole number.",
        program=f"""
            from math import gcd

            multiple = 1
            for number in {numbers}:
                multiple = multiple * number // gcd(multiple, number)
            print(multiple)""",
        answer=str(math.lcm(*numbers)))


# --------------------------------------------------------------------------------------- fractions and chance
def ratio(answer):
    """12/18 -> (12, 18)."""
    found = re.fullmatch(r"([0-9]+)\s*/\s*([0-9]+)", value_part(answer))
    if not found:
        raise ValueError("not a fraction")
    return int(found[1]), int(found[2])


@task("fraction_simplification", "RG", "train", "math", exact(ratio))
def fraction_simplification(rng, level):
    top = (80, 400, 2_000, 20_000, 100_000)[level - 1]
    common = rng.randint(2, min(100, top // 6))
    above, below = 2, 1
    while above % below == 0:  # that would leave a whole number
        above, below = (common * rng.randint(1, top // common) for _ in range(2))
    shown = rng.choice(("{}/{}", r"\frac{{{}}}{{{}}}", r"\dfrac{{{}}}{{{}}}")).format(above, below)
    divisor = math.gcd(above, below)
    return Draft(
        f"Reduce the fraction {shown} to lowest terms.\nAnswer format: numerator/denominator.",
        program=f"""
            from math import gcd

            above, below = {above}, {below}
            divisor = gcd(above, below)
            print(f"{{above // divisor}}/{{below // divisor}}")""",
        answer=f"{above // divisor}/{below // divisor}",
        recheck=f'a, b = map(int, "{{answer}}".split("/"))\nprint(a * {below} == b * {above})')


@task("dice", "RG", "test", "math", exact(ratio))
def dice(rng, level):
    sides = sorted(rng.choice((4, 6, 8, 10, 12, 20)) for _ in range(grow(level, 3, 7)))
    ways = [1]  # ways[n]: in how many ways the dice so far give the total n
    for side in sides:
        ways = convolve(ways, [0] + [1] * side)
    at_least = rng.randint(len(sides) + 1, sum(sides))
    chance = Fraction(sum(ways[at_least:]), sum(ways))
    shown = [f"{sides.count(side)}d{side}" for side in sorted(set(sides))]
    return Draft(
        f"These dice are rolled together: {', '.join(shown)} (2d6 would mean two dice with the numbers 1 "
        "to 6). What is the "
        f"probability that the total is at least {at_least}?\nAnswer format: a fraction in lowest terms, "
        "such as 7/10.",
        program=f"""
            from fractions import Fraction

            ways = {{0: 1}}  # total: number of ways
            for sides in {sides}:
                more = {{}}
                for total, count in ways.items():
                    for face in range(1, sides + 1):
                        more[total + face] = more.get(total + face, 0) + count
                ways = more
            good = sum(count for total, count in ways.items() if total >= {at_least})
            print(Fraction(good, sum(ways.values())))""",
        answer=str(chance))


# -------------------------------------------------------------------------------------- matrices, time, shape
@task("pool_matrix", "RG", "train", "math", rounded(2, matrix_of(rational)))
def pool_matrix(rng, level):
    size = rng.randint(2, 2 if level < 3 else 3)
    fewest, most = ((1, 2), (1, 3), (2, 3), (2, 4), (3, 5))[level - 1]
    blocks = [rng.randint(fewest, min(most, 12 // size)) for _ in range(2)]
    blocks[0] += blocks == [1, 1]
    rows, columns = (count * size for count in blocks)
    if level > 3:
        rows, columns = rows - rng.randint(0, size - 1), columns - rng.randint(0, size - 1)
    average = rng.random() < 0.5
    while True:
        matrix = [[rng.randint(0, 9) for _ in range(columns)] for _ in range(rows)]
        pooled = pool(matrix, size, size, average)
        answer = [" ".join(f"{float(entry):.2f}" if average else str(entry) for entry in row)
                  for row in pooled]
        if " ".join(answer) not in grid_text(matrix).replace("\n", " "):
            break
    rule = "average, rounded to two decimals." if average else "largest number."
    if level > 3:
        rule += " Blocks at the right and lower edge may be smaller: they use the cells that exist."
    return Draft(
        f"Apply {'average' if average else 'max'} pooling to this matrix: cut it into blocks of {size} x "
        f"{size} cells "
        f"(kernel {size}, stride {size}, from the top left) and replace each block by its "
        f"{rule}\n{grid_text(matrix)}\n"
        "Answer format: one row per line, numbers separated by spaces.",
        program=pool_program(matrix, size, size, average) + "\nfor row in pooled:\n    print(*row)",
        answer="\n".join(answer),
        data={"exact": grid_text(pooled)})


def duration(answer):
    """37 days; 2 days, 04:10; 01:45:29.250 -> milliseconds."""
    found = re.fullmatch(r"(?:([0-9]{1,6}) ?(?:days?|$))?"
                         r"(?:,? ?([0-9]{1,3}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,3}))?)?)?", text(answer))
    if not found or not any(found.groups()):
        raise ValueError("not a span of time")
    days, hours, minutes, seconds, part = (group or "0" for group in found.groups())
    minutes = (int(days) * 24 + int(hours)) * 60 + int(minutes)
    return minutes * 60_000 + int(seconds) * 1000 + int(part.ljust(3, "0"))


@task("time_intervals", "RG", "train", "math", exact(duration))
def time_intervals(rng, level):
    kind = level if level != 3 else rng.choice((3, "dates"))
    unit = {1: 60_000, 2: 1000, 3: 1, "dates": 86_400_000}.get(kind, 60_000)  # milliseconds
    start = datetime(rng.randint(1990, 2035), rng.randint(1, 12), rng.randint(1, 28))
    if kind in (1, 2, 3):  # on one day, whichever
        start = datetime(2000, 1, 1)
        first, last = sorted(rng.sample(range(86_400_000 // unit), 2))
    else:
        first = 0 if kind == "dates" else rng.randrange(1440)
        last = first + (rng.randint(2, 700) if kind == "dates" else rng.randint(30, 60 * 1440))
    start, end = (start + timedelta(milliseconds=unit * moment) for moment in (first, last))
    if kind == 5:
        zones = [timezone(timedelta(minutes=30 * rng.randint(-20, 24))) for _ in range(2)]
        start, end = (moment.replace(tzinfo=UTC).astimezone(zone)
                      for moment, zone in zip((start, end), zones))

    def shown(moment):
        day = rng.choice((f"{moment:%Y-%m-%d}", f"{moment.day} {MONTHS[moment.month - 1]} {moment.year}",
                          f"{MONTHS[moment.month - 1]} {moment.day} {moment.year}"))
        return {1: f"{moment:%H:%M}", 2: f"{moment:%H:%M:%S}", 3: f"{moment:%H:%M:%S.%f}"[:-3], "dates": day,
                4: f"{day} at {moment:%H:%M}", 5: f"{day} at {moment:%H:%M} ({moment.tzname()})"}[kind]

    form, template = {
        1: ("hours and minutes as HH:MM", "{hours:02}:{minutes:02}"),
        2: ("HH:MM:SS", "{hours:02}:{minutes:02}:{seconds:02}"),
        3: ("HH:MM:SS.mmm", "{hours:02}:{minutes:02}:{seconds:02}.{thousandths:03}"),
        "dates": ("a number of days, such as 5 days", "{days} days"),
    }.get(kind, ("D days, HH:MM", "{days} days, {hours:02}:{minutes:02}"))
    passed = (last - first) * unit
    parts = {"days": passed // 86_400_000, "hours": passed // 3_600_000 % 24,
             "minutes": passed // 60_000 % 60, "seconds": passed // 1000 % 60, "thousandths": passed % 1000}
    formulas = {"days": "passed.days", "hours": "passed.seconds // 3600",
                "minutes": "passed.seconds // 60 % 60", "seconds": "passed.seconds % 60",
                "thousandths": "passed.microseconds // 1000"}
    return Draft(
        f"How much time passes from {shown(start)} to "
        f"{shown(end)}{' on the same day' if kind in (1, 2, 3) else ''}?\n"
        f"Answer format: {form}.",
        program=code(
            f"import datetime\n\nstart = {start!r}\nend = {end!r}\npassed = end - start",
            *(f"{part} = {formula}" for part, formula in formulas.items() if part in template),
            f'print(f"{template}")'),
        answer=template.format(**parts))


def measures(answer):
    """1.5, -2 or 63.4 degrees -> the numbers."""
    return list_of(rational)(re.sub(r"°|\^?\\circ|\s*\bdeg(rees?)?\b", "", answer))


@task("simple_geometry", "RG", "train", "math", exact(measures), text_solvable=True)
def simple_geometry(rng, level):
    corners = rng.randint(grow(level, 3, 6), grow(level, 4, 8))
    total, angles = 180 * (corners - 2), []
    for left in reversed(range(corners)):  # `left` angles of 30 to 175 degrees are still to come
        rest = total - sum(angles)
        angles.append(rng.randint(max(30, rest - 175 * left), min(175, rest - 30 * left)))
    rng.shuffle(angles)
    given, missing = angles[:-1], angles[-1]
    sides = "triangle quadrilateral pentagon hexagon heptagon octagon".split()[corners - 3]
    return Draft(
        f"All interior angles but one of a convex {sides} are known, in degrees: "
        f"{', '.join(map(str, given))}. How large is "
        "the missing one?\nAnswer format: a number of degrees.",
        program=f"print(180 * ({corners} - 2) - sum({given}))",
        answer=str(missing),
        reasoning=f"In every convex {sides} the interior angles add up to 180 * ({corners} - 2) = {total} "
                  f"degrees. The known ones add up to {' + '.join(map(str, given))} = {sum(given)}. The "
                  f"missing one has {total} - {sum(given)} = {missing} degrees.")


@task("advanced_geometry", "RG", "train", "math", rounded(3, measures))
def advanced_geometry(rng, level):
    top = grow(level, 5, 20)
    while True:
        corners = a, b, c = [(rng.randint(-top, top), rng.randint(-top, top)) for _ in range(3)]
        (ax, ay), (bx, by), (cx, cy) = corners
        twice_area = abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay))
        squares = sorted((p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 for p, q in ((a, b), (b, c), (c, a)))
        if twice_area >= 2 and squares[0] + squares[1] != squares[2]:  # no right angle: too easy
            break
    asked = rng.choice(("orthocentre", "radius", "angle"))
    if asked == "orthocentre":
        title = "the orthocentre (where the altitudes meet)"
        form = "two numbers in parentheses, such as (1.250, -3.000)"
        # H = A + B + C - 2 * O, with O the centre of the circumscribed circle
        d = ax * (by - cy) + bx * (cy - ay) + cx * (ay - by)
        aa, bb, cc = (x * x + y * y for x, y in corners)
        x = ax + bx + cx - Fraction(aa * (by - cy) + bb * (cy - ay) + cc * (ay - by), d)
        y = ay + by + cy - Fraction(aa * (cx - bx) + bb * (ax - cx) + cc * (bx - ax), d)
        answer, value = f"({float(x):.3f}, {float(y):.3f})", f"{x}, {y}"
        needs, steps = "", """
            # (H - A) . (C - B) = 0 and (H - B) . (C - A) = 0: linear equations, solved by Cramer's rule
            p, q, r = cx - bx, cy - by, ax * (cx - bx) + ay * (cy - by)
            s, t, u = cx - ax, cy - ay, bx * (cx - ax) + by * (cy - ay)
            d = p * t - q * s
            print(f"({(r * t - q * u) / d:.3f}, {(p * u - r * s) / d:.3f})")"""
    elif asked == "radius":
        title, form = "the radius of the inscribed circle", "a decimal number"
        value = f"{twice_area / sum(map(math.sqrt, squares)):.9f}"
        answer = f"{float(value):.3f}"
        needs, steps = "from math import hypot\n", """
            twice_area = abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay))
            sides = [hypot(ax - bx, ay - by), hypot(bx - cx, by - cy), hypot(cx - ax, cy - ay)]
            print(f"{twice_area / sum(sides):.3f}")"""
    else:
        title, form = "the angle at B in degrees", "a decimal number"
        dot = (ax - bx) * (cx - bx) + (ay - by) * (cy - by)
        value = f"{math.degrees(math.atan2(twice_area, dot)):.9f}"
        answer = f"{float(value):.3f}"
        needs, steps = "from math import acos, degrees, hypot\n", """
            dot = (ax - bx) * (cx - bx) + (ay - by) * (cy - by)
            print(f"{degrees(acos(dot / (hypot(ax - bx, ay - by) * hypot(cx - bx, cy - by)))):.3f}")"""
    return Draft(
        f"A triangle has the corners A{a}, B{b} and C{c}. Find {title}, rounded to 3 decimals.\nAnswer "
        f"format: {form}.",
        program=code(f"{needs}\n(ax, ay), (bx, by), (cx, cy) = {a}, {b}, {c}", steps),
        answer=answer,
        data={"exact": value})
