"""The 33 SymBench tasks (names are the suite's, texts and code are ours; known defects of the suite are repaired)."""
from tasks_kit import Draft, task
from tasks_puzzles import numbers_program, reaches, uses_numbers


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
