"""The knowledge tasks of BIG-Bench-Hard: causes, pronouns, sarcasm, sports, films, puns, translations.

They draw from the hand-made tables in `bbh_tables.py`, so that the right answer is certain by
construction and not a matter of opinion. The programs get the table's entries for what the question names,
and nothing else. There are only 80 puns, however many questions are made of them.
"""
import re

from task_families.bbh_tables import (
    ASIDES,
    BAD_THINGS,
    CITIES,
    COMPLAINTS,
    ERRORS,
    FILMS,
    GERMAN_NUMBERS,
    GERMAN_VERBS,
    GOOD_THINGS,
    INTENTIONS,
    JOBS,
    LEADS,
    MEN,
    OPEN_FRAMES,
    OPPOSITES,
    PHRASES,
    PLAIN_ADJECTIVES,
    PRAISE,
    REASONS,
    ROLES,
    RUINED_NAMES,
    SCENES,
    SPORTS,
    THINGS_MADE,
    VERB_FRAMES,
    WOMEN,
)
from task_families.kit import (
    BOYS,
    GIRLS,
    LETTER,
    YES_NO,
    Draft,
    capital,
    choice,
    enumeration,
    exact,
    options,
    task,
    text,
    with_article,
    yes_no,
)

NAMES = GIRLS + BOYS


def both_forms(phrase):
    """'loses/lost the key' -> ('loses the key', 'lost the key')."""
    return tuple(re.sub(r"(\S+)/(\S+)", form, phrase) for form in (r"\1", r"\2"))


def cause_story(rng, level, truth):
    """Somebody's act among others' -> (story, the one asked about, reasoning, program)."""
    happens, *acts, idle = (both_forms(phrase) for phrase in rng.choice(SCENES))
    rng.shuffle(acts)
    size = (1, rng.randint(1, 2), 2, rng.randint(2, 3), 3)[level - 1]
    acts, needed = acts[:size], rng.randint(1, size)
    rng.shuffle(acts)
    spare = not truth and needed < size and rng.random() < 0.6  # one act more than was needed
    people = rng.sample(NAMES, size + 2)
    done = dict(zip(people, acts[:needed + spare]))
    others = {}
    for person in people[len(done):][:1 if level < 4 else 2]:
        late = rng.random() < 0.5 and "late" not in others.values()
        others[person] = "late" if late or "idle" in others.values() else "idle"
    asked = rng.choice(list(done) if truth or spare else list(others))
    rule = enumeration([f"someone {present}" for present, _ in acts], "and" if needed > 1 else "or")
    if size > 1:
        rule += f" ({'one' if needed == 1 else 'all' if needed == size else 'any two'} of these needed)"
    story = [f"{capital(happens[0])} as soon as {rule}.",
             capital(enumeration([f"{person} {past}" for person, (_, past) in done.items()]))
             + (" at the same moment" if len(done) > 1 else "") + f", and at once {happens[1]}."]
    for person, kind in others.items():
        late_act = acts[-1][1] + (" too" if len(done) == size else "")
        story.append(f"Only minutes later {person} {late_act}." if kind == "late" else
                     f"Meanwhile {person} {idle[1]}.")
    if level == 5:
        story.append(f"{rng.choice(people[:len(done) + 2])} had been told to touch nothing that day.")
    left = len(done) - 1
    if asked in others:
        why = (f"{asked} acted only after it had happened" if others[asked] == "late" else
               f"What {asked} did is not one of the things that matter") + ": No."
    else:
        why = (f"Needed: {needed}. Done in time: {len(done)}, one of them by {asked}. Without {asked} there "
               f"would be {left}, and it would {'still' if spare else 'not'} have happened: {yes_no(truth)}.")
    question = ("Somebody's act counts as a cause if without it, all else being the same, the result would "
                f"not have happened at that moment. Is what {asked} did a cause of this: {happens[1]}?")
    return " ".join(story) + "\n" + question, why, f"""
        needed = {needed}
        in_time = {({person: int(person in done) for person in [*done, *others]})}
        total = sum(in_time.values())
        print("Yes" if total >= needed > total - in_time["{asked}"] else "No")"""


def intention_story(rng, level, truth):
    """A plan with a known side effect, wanted or not -> (story, reasoning, program)."""
    plan, goal, effect = rng.choice(INTENTIONS)
    (act, acted), (would, happened) = both_forms(plan), both_forms(effect)
    person, friend, other = rng.sample(NAMES, 3)
    subject = re.match(r"(.*?) (?=\S+/)", effect)[1]
    foreseen = f"that {subject} would{would[len(subject):]}"
    role = rng.choice(("goal", "means") if truth else ("not cared about", "regretted"))
    reason = {
        "goal": f"{person} wanted both: to {goal}, and {foreseen}.",
        "means": f"{person} had bet with {friend} {foreseen}, and only did it to win the bet.",
        "not cared about": f"{person} did not care about that at all and only wanted to {goal}.",
        "regretted": f"{person} was sorry about that, but did it all the same, only to {goal}."}[role]
    story = f"{person} had a plan: to {act}. {person} knew {foreseen}. {reason}"
    if level >= 3:
        story += f" {other} {rng.choice(('advised against it', 'liked the plan', 'never heard of it'))}."
    if level == 5:
        story += " A rule of the town forbade it."
    question = ("An effect counts as intended if it is wanted for its own sake or as a means to something "
                f"wanted; an effect that is only foreseen does not. Did {person} intend {foreseen}?")
    judged = f"wanted as a {role}" if truth else f"foreseen, but {role}"
    return (f"{story} So {person} {acted}, and {happened}.\n{question}",
            f"For {person} the effect was {judged}: {yes_no(truth)}.", f"""
        role = {{"{happened}": "{role}"}}
        print("Yes" if role["{happened}"] in ("goal", "means") else "No")""")


@task("causal_judgement", "BBH", "train", "knowledge", exact(text), text_solvable=True)
def causal_judgement(rng, level):
    truth = rng.random() < 0.5
    prompt, why, program = (cause_story if rng.random() < 0.6 else intention_story)(rng, level, truth)
    return Draft(f"{prompt}\n{YES_NO}", program=program, answer=yes_no(truth), reasoning=why)


@task("disambiguation_qa", "BBH", "train", "knowledge", exact(choice), text_solvable=True)
def disambiguation_qa(rng, level):
    kind = rng.choice(("gender", "verb", "open"))
    first, second = rng.sample(ROLES, 2)
    if kind == "verb":
        (sentence, target, fact), pronoun = rng.choice(VERB_FRAMES), "they"
        fits = {first: target == "X", second: target == "Y"}
    elif kind == "open":
        sentence, pronoun, fact = rng.choice(OPEN_FRAMES), "their", "nothing in the sentence decides this"
        fits = {first: True, second: True}
    else:
        first, second = rng.sample((man := rng.choice(MEN), woman := rng.choice(WOMEN)), 2)
        meant, pronoun = rng.choice(((man, "his"), (woman, "her")))
        sentence = rng.choice(OPEN_FRAMES).replace("their", pronoun)
        fits = {first: first == meant, second: second == meant}
        fact = f"of the two only the {meant} can be meant by '{pronoun}'"
    fitting = [f"the {role}" for role in fits if fits[role]]
    right = fitting[0] if len(fitting) == 1 else "ambiguous"
    wrong = [option for option in (f"the {first}", f"the {second}", "ambiguous") if option != right]
    lines, letter, letters = options(rng, right, wrong)
    aside = f", {rng.choice(ASIDES)}," if level >= 4 else ""
    named = {"X": f"the {first}{aside}", "Y": f"the {second}"}
    sentence = re.sub(r"\b[XY]\b", lambda found: named[found[0]], sentence)
    if level >= 3 and (kind != "verb" or level == 5):
        sentence = f"{rng.choice(LEADS)}, {sentence}"
    return Draft(
        f"{capital(sentence)}.\nThe word '{pronoun}' means one of the two people named. Which one? "
        f"Choose 'ambiguous' if the sentence leaves it open.\n{lines}\n{LETTER}",
        program=f"""
            can_be_meant = {fits}
            fitting = [person for person in can_be_meant if can_be_meant[person]]
            meant = "the " + fitting[0] if len(fitting) == 1 else "ambiguous"
            letters = {letters}
            print(letters[meant])""",
        answer=letter,
        reasoning=f"{capital(fact)}. So the answer is {right}: {letter}.")


@task("snarks", "BBH", "test", "knowledge", exact(choice), text_solvable=True)
def snarks(rng, level):
    praise = rng.random() < 0.5
    frame = rng.choice(PRAISE if praise else COMPLAINTS)
    good, bad = rng.choice(GOOD_THINGS), rng.choice(BAD_THINGS)
    before = f"{rng.choice(NAMES)} said: " if level >= 3 else ""
    after = "!"
    if level == 5:
        after += rng.choice((" I told my sister at once.", " It is in my diary.", " It happened last week."))
    said = {thing: f'{before}"{capital(frame.format(thing))}{after}"' for thing in (good, bad)}
    odd, plain = (bad, good) if praise else (good, bad)
    lines, letter, letters = options(rng, said[odd], [said[plain]])
    things = sorted((letters[said[thing]], thing, "good" if thing == good else "bad") for thing in said)
    return Draft(
        "One of these two statements is meant sarcastically, the other one sincerely. Which one is sarcastic?"
        f"\n{lines}\n{LETTER}",
        program=f"""
            tone = "{"praise" if praise else "complaint"}"
            wrong = "bad" if tone == "praise" else "good"
            for letter, thing, quality in {things}:
                if quality == wrong:
                    print(letter)""",
        answer=letter,
        reasoning=(f"Both statements praise something. {capital(odd)} is bad, so praise of it" if praise else
                   f"Both statements are complaints. {capital(odd)} is good, so a complaint about it")
        + f" cannot be meant seriously: {letter}.")


def plausible(answer):
    return {"plausible": "yes", "implausible": "no", "not plausible": "no"}.get(text(answer), text(answer))


@task("sports_understanding", "BBH", "test", "knowledge", exact(plausible), text_solvable=True)
def sports_understanding(rng, level):
    truth = rng.random() < 0.5
    sport, other = rng.sample(list(SPORTS), 2)
    athletes, actions, events = SPORTS[sport]
    parts = [rng.choice(athletes), rng.choice(actions)] + [rng.choice(events)] * (level >= 3)
    if level == 5:
        parts.insert(2, rng.choice([action for action in actions if action != parts[1]]))
    sports = dict.fromkeys(parts, sport)
    if not truth:  # one part comes from another sport
        place = rng.randrange(len(parts))
        kind = 0 if place == 0 else 2 if level >= 3 and place == len(parts) - 1 else 1
        parts[place] = rng.choice(SPORTS[other][kind])
        sports = {part: other if i == place else sport for i, part in enumerate(parts)}
    sentence = parts[0] + " " + " and later ".join(parts[1:3 if level == 5 else 2])
    if level >= 3:
        sentence += f" in {parts[-1]}"
    facts = "; ".join(f"{part}: {kind}" for part, kind in sports.items())
    return Draft(
        "Is this sentence plausible? It is if all of it belongs to the sport that the athlete is famous for."
        f"\n{sentence}.\nAnswer format: yes or no.",
        program=f"""
            sport = {sports}
            print("yes" if len(set(sport.values())) == 1 else "no")""",
        answer="yes" if truth else "no",
        reasoning=f"{facts}. {'All of it is one sport: yes' if truth else 'That does not fit together: no'}.")


@task("movie_recommendation", "BBH", "train", "knowledge", exact(choice), text_solvable=True)
def movie_recommendation(rng, level):
    genre, *others = rng.sample(list(FILMS), 5 if level >= 4 else 4)
    right = rng.choice([film for film, year in FILMS[genre].items() if level < 4 or year >= "1980"])
    liked = rng.sample([film for film in FILMS[genre] if film != right], 3 if level < 3 else 4)
    decade = FILMS[genre][right][:3]
    wrong = [rng.choice([film for film, year in FILMS[other].items() if level < 4 or year[:3] == decade])
             for other in others]
    lines, letter, letters = options(rng, right, wrong)
    genres = {film: name for name in FILMS for film in FILMS[name] if film in (*liked, *letters)}
    listed = "; ".join(f"{film} is {with_article(genres[film])}" for film in letters)
    return Draft(
        f"Which option has the same main genre as these films: {', '.join(liked)}?\n{lines}\n{LETTER}",
        program=f"""
            genre = {({film: genres[film] for film in (*liked, *letters)})}
            letters = {letters}
            print(next(letter for film, letter in letters.items() if genre[film] == genre[{liked[0]!r}]))""",
        answer=letter,
        reasoning=f"Each of these films is {with_article(genre)}. Of the options, {listed}: {letter}.")


def non_words(rng, word):
    """Edits of one letter that cannot be English words: letters clash, or no vowel is left."""
    edits = [clash + word for clash in "lmn" if word[0] in "bcdfghkpstvw"]
    consonants = [i for i, letter in enumerate(word) if letter not in "aeiouy"]
    edits += [word[:i] + clash + word[i:] for clash in "jq" for i in consonants if i > 0]
    vowels = [i for i in range(len(word)) if i not in consonants]
    if len(vowels) == 1:
        edits += [word[:vowels[0]] + consonant + word[vowels[0] + 1:] for consonant in "bdfgkp"]
    return rng.sample(edits, min(3, len(edits)))


@task("ruin_names", "BBH", "train", "knowledge", exact(choice), text_solvable=True)
def ruin_names(rng, level):
    name, right = rng.choice(list(RUINED_NAMES.items()))
    words = name.split()
    edits = [" ".join([*words[:i], edit, *words[i + 1:]]) for i, word in enumerate(words) if len(word) > 2
             for edit in non_words(rng, word)]
    lines, letter, letters = options(rng, right, rng.sample(edits, 3))
    old, new = next((a, b) for a, b in zip(words, right.split()) if a != b)
    known = list(dict.fromkeys(words + right.split()))
    return Draft(
        f"Which option is a humorous edit of the name '{name}', one that turns a word into another real word?"
        f"\n{lines}\n{LETTER}",
        program=f"""
            words = {sorted(known)}
            letters = {letters}
            for option in letters:
                if all(word in words for word in option.split()):
                    print(letters[option])""",
        answer=letter,
        reasoning=f"In {right} the word {old} has become {new}, a real word that sounds silly there. In each "
                  f"other option a word has become no word at all. So the answer is {letter}.")


@task("salient_translation_error_detection", "BBH", "train", "knowledge", exact(choice), text_solvable=True)
def salient_translation_error_detection(rng, level):
    (name, woman), (second, _), (third, _) = rng.sample([(n, 0) for n in BOYS] + [(n, 1) for n in GIRLS], 3)
    city, other_city, second_city = rng.sample(list(CITIES), 3)
    job, other_job = rng.sample(JOBS, 2)
    numbers = rng.sample(list(GERMAN_NUMBERS), 3)
    thing, second_thing = rng.sample(list(THINGS_MADE), 2)
    verb, second_verb = rng.sample(GERMAN_VERBS, 2)
    (adjective, meaning), (_, reverse) = (word.split("/") for word in rng.sample(rng.choice(OPPOSITES), 2))
    if rng.random() < 0.3:  # a colour or a form instead
        adjective, meaning = rng.choice(list(PLAIN_ADJECTIVES.items()))
        reverse = None
    phrase, reason = rng.choice(PHRASES), rng.choice(REASONS)
    source = {"phrase": phrase[1], "person": name, "profession": job[2], "city": CITIES[city],
              "verb": verb[1], "number": GERMAN_NUMBERS[numbers[0]], "adjective": meaning}
    german = [capital(phrase[0]), verb[0], f"{name},", ("ein", "eine")[woman], job[woman], f"aus {city},",
              numbers[0], adjective, thing]
    second_adjective = rng.choice([word for word in PLAIN_ADJECTIVES if word != adjective])
    if level >= 3:
        source |= {"person 2": second, "verb 2": second_verb[1], "number 2": GERMAN_NUMBERS[numbers[1]]}
        german += ["und", second, second_verb[0], numbers[1], second_thing]
    if level >= 4:
        source["city 2"] = CITIES[second_city]
        german.insert(-3, f"aus {second_city}")
    if level == 5:
        source["adjective 2"] = PLAIN_ADJECTIVES[second_adjective]
        german.insert(-1, second_adjective)
    if level >= 2:
        source["reason"] = reason[1]
        german[-1] += f", {reason[0]}"

    def one_of(*slots):
        return rng.choice([slot for slot in slots if slot in source])

    slips = {
        "Named entities": rng.choice(({"person": third}, {one_of("city", "city 2"): CITIES[other_city]})),
        "Facts": {"profession": other_job[2]},
        "Numerical values": {one_of("number", "number 2"): GERMAN_NUMBERS[numbers[2]]},
        "Modifiers or adjectives": {one_of("adjective", "adjective 2"): rng.choice(
            [word for word in PLAIN_ADJECTIVES.values() if word not in source.values()])},
        "Negation or antonyms": rng.choice(({"adjective": reverse}, {"verb": verb[2]})),
        "Dropped content": {one_of("phrase", "reason"): ""},
    }
    if not reverse:
        slips["Negation or antonyms"] = {"verb": verb[2]}
    error = rng.choice(list(slips))
    given = {**source, **slips[error]}
    (slot, slip), = slips[error].items()
    profession = with_article(given["profession"])
    english = f"{given['phrase']} {given['person']}, {profession} from {given['city']},"
    english = f"{english} {given['verb']} {given['number']} {given['adjective']} {THINGS_MADE[thing]}".strip()
    if level >= 3:
        home = f" from {given['city 2']}" if level >= 4 else ""
        things = f"{given.get('adjective 2', '')} {THINGS_MADE[second_thing]}".strip()
        english += f", and {second}{home} {given['verb 2']} {given['number 2']} {things}"
    if given.get("reason"):
        english += f", {given['reason']}"
    lines, letter, letters = options(rng, f"{error}: {ERRORS[error]}",
                                      [f"{kind}: {ERRORS[kind]}" for kind in ERRORS if kind != error])
    return Draft(
        f"There is exactly one error in this translation of a German sentence:\nGerman: {' '.join(german)}.\n"
        f"Translation: {capital(english)}.\nOf which kind is the error?\n{lines}\n{LETTER}",
        program=f"""
            source = {source}
            translation = {given}
            reverse = {[(source["adjective"], reverse), (verb[1], verb[2])]}
            kinds = {{"person": "Named entities", "city": "Named entities", "profession": "Facts",
                     "number": "Numerical values", "adjective": "Modifiers or adjectives"}}
            slot = next(slot for slot in source if source[slot] != translation[slot])
            if not translation[slot]:
                kind = "Dropped content"
            elif (source[slot], translation[slot]) in reverse:
                kind = "Negation or antonyms"
            else:
                kind = kinds[slot.split()[0]]
            letters = {({option.split(':')[0]: mark for option, mark in letters.items()})}
            print(letters[kind])""",
        answer=letter,
        reasoning=f"The German says, piece by piece: {', '.join(source.values())}. The translation "
        + (f"says '{slip}' where it should say '{source[slot]}'" if slip else f"leaves out '{source[slot]}'")
        + f". That is an error of the kind {error}: {letter}.")
