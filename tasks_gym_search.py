"""Reasoning-Gym tasks about searching, planning and shortest ways (names are the suite's, texts and code are ours)."""
from tasks_kit import BOYS, GIRLS, WORDS, Draft, exact, grow, task, text


@task("needle_haystack", "RG", "train", "search", exact(text), text_solvable=True)
def needle_haystack(rng, level):
    verbs = "buys sells likes paints cleans finds hides draws".split()
    count = grow(level, 4, 40)
    names = rng.sample(GIRLS + BOYS, count)
    pool = rng.sample(WORDS, grow(level, 50, 8))
    pairs = rng.sample([(verb, thing) for verb in verbs for thing in pool], count)
    facts = [f"{name} {verb} {thing}" for name, (verb, thing) in zip(names, pairs)]
    asked = rng.randrange(count)
    verb, thing = pairs[asked]
    passage = ". ".join(facts) + "."
    return Draft(
        f"{passage}\nWho {verb} {thing}?\nAnswer format: one name.",
        program=f"""
            text = "{passage}"
            for fact in text.split(". "):
                if "{verb} {thing}" in fact:
                    print(fact.split()[0])""",
        answer=names[asked],
        reasoning=f"The text says: {facts[asked]}. So it is {names[asked]}.")
