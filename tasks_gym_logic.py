"""Reasoning-Gym tasks about logic, patterns and programs (names are the suite's, texts and code are ours)."""
from tasks_kit import BOYS, GIRLS, Draft, exact, grow, integer, task


@task("aiw", "RG", "train", "logic", exact(integer), text_solvable=True)
def aiw(rng, level):
    name, is_girl = (rng.choice(GIRLS), True) if rng.random() < 0.5 else (rng.choice(BOYS), False)
    brothers, sisters = (rng.randint(1, grow(level, 9, 20)) for _ in range(2))
    relative, asked = rng.choice(("brother", "sister")), rng.choice(("brothers", "sisters"))
    # A sibling's siblings are name's siblings, with name counted in and the sibling itself left out.
    same = {"brothers": brothers, "sisters": sisters}[asked]
    change = (asked == ("sisters" if is_girl else "brothers")) - (asked == relative + "s")
    calculation = f"{same} + 1" if change > 0 else f"{same} - 1" if change < 0 else f"{same} + 1 - 1"
    if asked != relative + "s" and change == 0:
        calculation = str(same)
    def counted(number, kind):
        return f"{number} {kind}" if number > 1 else f"1 {kind[:-1]}"

    why = {"+": f"and {name}", "-": "but not that one", "±": f"and {name} but not that one", "": "only"}
    kind = "±" if "+ 1 - 1" in calculation else "+" if change > 0 else "-" if change < 0 else ""
    noise = f" {name} also has {rng.randint(2, 9)} cousins." if level == 5 else ""
    return Draft(
        f"{name} has {counted(brothers, 'brothers')} and {counted(sisters, 'sisters')}.{noise} How many {asked} does a {relative} of {name} "
        "have?\nAnswer format: a whole number.",
        program=f"print({calculation})",
        answer=str(same + change),
        reasoning=f"A {relative} of {name} has the {same} {asked} of {name}, {why[kind]}: {calculation} = "
                  f"{same + change}.")
