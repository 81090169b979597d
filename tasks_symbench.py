"""The 33 SymBench tasks (names are the suite's, texts and code are ours; known defects of the suite are repaired)."""
from fractions import Fraction

from tasks_kit import Draft, expression, task


def solve24(numbers, target):
    """An expression over all numbers with the value `target`, or None: merge pairs until one value is left."""
    if len(numbers) == 1:
        return numbers[0][1] if numbers[0][0] == target else None
    for i, (a, left) in enumerate(numbers):
        for j, (b, right) in enumerate(numbers):
            if i == j:
                continue
            rest = [pair for k, pair in enumerate(numbers) if k not in (i, j)]
            merged = [(a - b, f"({left} - {right})")] + ([(a / b, f"({left} / {right})")] if b else [])
            merged += [(a + b, f"({left} + {right})"), (a * b, f"({left} * {right})")] if i < j else []
            for value, term in merged:
                if (found := solve24(rest + [(value, term)], target)):
                    return found
    return None


def uses_numbers(data, answer):
    value, numbers = expression(answer)
    return value == data["target"] and sorted(numbers) == sorted(data["numbers"])


@task("game24", "SymBench", "train", "search", uses_numbers)
def game24(rng, level):
    while True:
        numbers = [rng.randint(1, 13) for _ in range({1: 3, 5: 5}.get(level, 4))]
        if solve24([(Fraction(n), str(n)) for n in numbers], 24):
            break
    return Draft(
        f"Use each of the numbers {', '.join(map(str, numbers))} exactly once, with + - * / and parentheses, to "
        "make 24.\nAnswer format: one expression, such as (10 - 4) * 4",
        program=f"""
            from fractions import Fraction

            def solve(items):
                if len(items) == 1:
                    return items[0][1] if items[0][0] == 24 else None
                for i, (a, x) in enumerate(items):
                    for j, (b, y) in enumerate(items):
                        if i == j:
                            continue
                        rest = [items[k] for k in range(len(items)) if k not in (i, j)]
                        made = [(a + b, f"({{x}} + {{y}})"), (a - b, f"({{x}} - {{y}})"), (a * b, f"({{x}} * {{y}})")]
                        if b:
                            made.append((a / b, f"({{x}} / {{y}})"))
                        for item in made:
                            found = solve(rest + [item])
                            if found:
                                return found

            print(solve([(Fraction(n), str(n)) for n in {numbers}]))""",
        data={"numbers": numbers, "target": 24})
