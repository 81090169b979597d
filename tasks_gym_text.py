"""Reasoning-Gym tasks about strings, order and knowledge (names are the suite's, texts and code are ours)."""
from tasks_kit import WORDS, Draft, exact, grow, integer, pick_word, task, text


@task("letter_counting", "RG", "train", "string", exact(integer))
def letter_counting(rng, level):
    words = rng.sample(WORDS, grow(level, 1, 20))
    letter = rng.choice(words[0])
    passage = " ".join(words)
    shown = passage if len(words) == 1 else f'"{passage}"'
    return Draft(
        f"How many times does the letter {letter} occur in {shown}?\nAnswer format: a whole number.",
        program=f'text = "{passage}"\nprint(text.count("{letter}"))',
        answer=str(passage.count(letter)),
        recheck=f'print(sum(c == "{letter}" for c in "{passage}") == {{answer}})')


@task("spell_backward", "RG", "train", "string", exact(text))
def spell_backward(rng, level):
    syllables = "ba co di fu ga ho ki lu ma ne po ra su ti vo we".split()
    if level < 3:
        word = pick_word(rng, 3, 4 + 2 * level)
    else:
        word = "".join(rng.choices(syllables, k=level + rng.randint(0, 2)))
    return Draft(
        f"Spell the word {word} backwards.\nAnswer format: one word.",
        program=f'print("{word}"[::-1])',
        answer=word[::-1],
        recheck=f'print("".join(reversed("{{answer}}")) == "{word}")')
