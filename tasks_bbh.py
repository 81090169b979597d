"""The 27 BIG-Bench-Hard tasks (names are the suite's, texts, tables and code are ours)."""
from tasks_kit import BOYS, GIRLS, WORDS, Draft, exact, grow, list_of, task, text


@task("web_of_lies", "BBH", "train", "logic", exact(text), text_solvable=True)
def web_of_lies(rng, level):
    people = rng.sample(GIRLS + BOYS, grow(level, 3, 9))
    honest = rng.random() < 0.5
    tells = {True: "tells the truth", False: "lies"}
    prompt, steps, code = [f"{people[0]} {tells[honest]}."], [f"{people[0]} {tells[honest]}."], [f"truth = {honest}"]
    for before, person in zip(people, people[1:]):
        claim = rng.random() < 0.5
        honest = honest == claim
        prompt.append(f"{person} says {before} {tells[claim]}.")
        steps.append(f"{person} says {before} {tells[claim]}, so {person} {tells[honest]}.")
        code.append(f"truth = truth == {claim}")
    if level >= 4:  # statements that lead nowhere
        for _ in range(2):
            side, about = rng.sample(people[:-1], 2)
            prompt.append(f"{side} owns a {rng.choice(WORDS)} that {about} once saw.")
    return Draft(
        "Everyone here either always tells the truth or always lies. " + " ".join(prompt)
        + f" Does {people[-1]} tell the truth?\nAnswer format: Yes or No.",
        program="\n".join(code) + '\nprint("Yes" if truth else "No")',
        answer="Yes" if honest else "No",
        reasoning=" ".join(steps))


@task("word_sorting", "BBH", "train", "string", exact(list_of(text)))
def word_sorting(rng, level):
    pool = WORDS
    if level >= 3:  # words that share first letters
        initials = rng.sample("abcfgmprst", 6 - level)
        pool = [word for word in WORDS if word[0] in initials]
    words = rng.sample(pool, min(grow(level, 5, 20), len(pool)))
    return Draft(
        f"Sort these words alphabetically: {' '.join(words)}\nAnswer format: the words separated by spaces.",
        program=f'words = "{" ".join(words)}".split()\nprint(*sorted(words))',
        answer=" ".join(sorted(words)),
        recheck='words = "{answer}".split()\nprint(all(a < b for a, b in zip(words, words[1:])))')
