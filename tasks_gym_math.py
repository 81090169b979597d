"""Reasoning-Gym tasks about numbers, algebra and geometry (names are the suite's, texts and code are ours)."""
from tasks_kit import Draft, exact, grow, integer, task


@task("products", "RG", "train", "math", exact(integer))
def products(rng, level):
    digits = grow(level, 2, 5)
    numbers = [rng.randint(10 ** (digits - 1), 10 ** digits - 1) for _ in range(3 if level == 5 else 2)]
    product = 1
    for number in numbers:
        product *= number
    return Draft(
        f"What is {' times '.join(map(str, numbers))}?\nAnswer format: a whole number.",
        program=f"print({' * '.join(map(str, numbers))})",
        answer=str(product),
        recheck=f"print({{answer}} // {numbers[0]} == {' * '.join(map(str, numbers[1:]))})")


@task("count_bits", "RG", "train", "math", exact(integer))
def count_bits(rng, level):
    number = rng.randint(10 ** (level + 1), 10 ** (2 * level + 1) if level < 5 else 2 ** 31)
    return Draft(
        f"How many 1 bits does the binary form of {number} have?\nAnswer format: a whole number.",
        program=f'print(bin({number}).count("1"))',
        answer=str(number.bit_count()),
        recheck=f"print(sum({number} >> i & 1 for i in range(40)) == {{answer}})")
