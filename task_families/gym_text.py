"""Reasoning-Gym tasks about strings, order and knowledge (names are the suite's, texts and code are ours)."""
import json
from calendar import isleap
from datetime import date, timedelta
from decimal import Decimal
from itertools import islice, permutations

from task_families.kit import (
    BOYS,
    GIRLS,
    MONTHS,
    WEEKDAYS,
    WORDS,
    Draft,
    code,
    exact,
    grow,
    integer,
    list_of,
    matrix_of,
    numbered,
    pick_word,
    rational,
    task,
    text,
    words_of,
)


# ---------------------------------------------------------------------------------------- letters and strings
@task("letter_counting", "RG", "train", "string", exact(integer))
def letter_counting(rng, level):
    words, letter, wanted = [], rng.choice("acenoprst"), rng.randrange(4)
    while not words or level == 1 and " ".join(words).count(letter) != wanted:  # 0 to 3 equally often
        words = rng.sample(words_of(level), rng.randint(1, 2) if level == 1 else grow(level, 1, 20))
    if level > 1:
        repeated = [letter for letter in words[0] if words[0].count(letter) > 1]
        letter = rng.choice(repeated or words[0])
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
    if level < 3 and rng.random() < 0.5:
        word = pick_word(rng, 3, 4 + 2 * level)
    else:
        word = "".join(rng.choices(syllables, k=level + rng.randint(1, 2)))
    return Draft(
        f"Spell the word {word} backwards.\nAnswer format: one word.",
        program=f'print("{word}"[::-1])',
        answer=word[::-1],
        recheck=f'print("".join(reversed("{{answer}}")) == "{word}")')


@task("word_sequence_reversal", "RG", "train", "string", exact(list_of(text)))
def word_sequence_reversal(rng, level):
    words = rng.sample(words_of(level), grow(level, 3, 15))
    return Draft(
        f"Write these words in reverse order: {', '.join(words)}\nAnswer format: the words separated by "
        "commas.",
        program=f'words = "{", ".join(words)}".split(", ")\nprint(", ".join(words[::-1]))',
        answer=", ".join(words[::-1]),
        recheck=f'print("{{answer}}".split(", ")[::-1] == {words})')


COMMON = "the and a of to in is on with for it was".split()


def shifted(message, places):
    """Every letter moved forward in the alphabet, Z followed by A."""
    return "".join(chr((ord(letter) - 65 + places) % 26 + 65) if letter != " " else " " for letter in message)


@task("caesar_cipher", "RG", "train", "string", exact(text))
def caesar_cipher(rng, level):
    def hits(message):
        return sum(word.lower() in COMMON for word in message.split())

    while True:
        message = f"the {rng.choice(WORDS)}"
        for _ in range((1, 2, 2, 3, 4)[level - 1]):
            link, article = rng.choice("and of to in on with for".split()), rng.choice("the my this".split())
            message += f" {link} {article} {rng.choice(WORDS)}"
        message = message.upper()
        if all(hits(shifted(message, places)) < hits(message) for places in range(1, 26)):
            break
    places = rng.randint(1, 25)
    cipher = shifted(message, places)
    decode = f"""
        cipher = "{cipher}"

        def decode(places):
            return "".join(chr((ord(c) - 65 - places) % 26 + 65) if c.isalpha() else c for c in cipher)
        """
    if level < 3:
        hint, search = f"by {places} place{'s' if places > 1 else ''}", f"print(decode({places}))"
    else:
        hint, search = "by the same number of places, which you do not know", f"""
            common = "{' '.join(COMMON)}".upper().split()
            best = max(range(26), key=lambda places: sum(word in common for word in decode(places).split()))
            print(decode(best))"""
    return Draft(
        f"In this English text every letter was moved forward in the alphabet {hint} (after Z comes A): "
        f"{cipher}\nDecrypt "
        "it.\nAnswer format: the original text.",
        program=code(decode, search),
        answer=message)


@task("isomorphic_strings", "RG", "train", "string", exact(text))
def isomorphic_strings(rng, level):
    truth, alphabet = rng.random() < 0.5, "abcdefghijklmnopqrstuvwxyz"
    length = rng.randint(grow(level, 4, 10), grow(level, 5, 12))

    def fits(s, t):
        return len(set(zip(s, t))) == len(set(s)) == len(set(t))

    while True:
        s = "".join(rng.choices(rng.sample(alphabet, length // 2 + 1), k=length))
        image = dict(zip(alphabet, rng.sample(alphabet, 26)))
        t = [image[letter] for letter in s]
        if not truth and rng.random() < 0.8:  # two places exchanged, so that the letters say nothing
            one, other = rng.sample(range(length), 2)
            t[one], t[other] = t[other], t[one]
        elif not truth:  # one letter changed, to one that occurs elsewhere or to a new one
            t[rng.randrange(length)] = rng.choice([*t, rng.choice(alphabet)])
        if len(set(s)) < length and fits(s, t) == truth:
            break
    t = "".join(t)
    return Draft(
        f'Is there a one-to-one mapping of letters that turns "{s}" into "{t}"? Each letter is always '
        'replaced by the same '
        "letter, two letters never by the same one; a letter may stay as it is.\nAnswer format: True or "
        "False.",
        program=f"""
            s, t = "{s}", "{t}"
            there, back = {{}}, {{}}
            print(all(there.setdefault(a, b) == b and back.setdefault(b, a) == a for a, b in zip(s, t)))""",
        answer=str(truth),
        recheck=f'print((len(set(zip("{s}", "{t}"))) == len(set("{s}")) == len(set("{t}"))) == {{answer}})')


@task("ransom_note", "RG", "train", "string", exact(text))
def ransom_note(rng, level):
    truth, alphabet = rng.random() < 0.5, "abcdefghijklmnopqrstuvwxyz"[:grow(level, 8, 14)]
    note = rng.choices(alphabet, k=rng.randint(grow(level, 3, 10), grow(level, 4, 12)))
    extra = rng.choices(alphabet, k=grow(level, 3, 18))
    magazine = note + extra
    if not truth:  # exactly one letter is missing
        missing = rng.choice(note)
        others = [letter for letter in alphabet if letter != missing]
        extra = [rng.choice(others) if letter == missing else letter for letter in extra]
        magazine = note + extra + [rng.choice(others)]
        magazine.remove(missing)
    rng.shuffle(magazine)
    note, magazine = "".join(note), "".join(magazine)
    return Draft(
        f'Can the note "{note}" be put together from letters cut out of "{magazine}", each letter used at '
        'most once?\n'
        "Answer format: True or False.",
        program=f"""
            from collections import Counter

            missing = Counter("{note}") - Counter("{magazine}")
            print(not missing)""",
        answer=str(truth),
        recheck=f'note, magazine = "{note}", "{magazine}"\n'
                "print(all(note.count(c) <= magazine.count(c) for c in note) == {answer})")


def palindrome_ok(data, answer):
    word = answer.casefold()
    return word == word[::-1] and sorted(word) == sorted(data["letters"])


@task("palindrome_generation", "RG", "test", "string", palindrome_ok)
def palindrome_generation(rng, level):
    length = rng.randint(grow(level, 4, 12), grow(level, 6, 15))
    letters = ""
    while letters == letters[::-1]:
        half = rng.choices("abcdefghijklmnopqrstuvwxyz", k=length // 2)
        letters = half * 2 + rng.choices("abcdefghijklmnopqrstuvwxyz", k=length % 2)
        rng.shuffle(letters)
    return Draft(
        "Form a palindrome (a string that reads the same backwards) from all of these letters: "
        f"{' '.join(letters)}\n"
        "Answer format: one word without spaces.",
        program=f"""
            letters = "{''.join(letters)}"
            half = "".join(c * (letters.count(c) // 2) for c in sorted(set(letters)))
            middle = "".join(c for c in sorted(set(letters)) if letters.count(c) % 2)
            print(half + middle + half[::-1])""",
        data={"letters": letters},
        recheck=f"""
            word = "{{answer}}"
            print(word == word[::-1] and sorted(word) == {sorted(letters)})""")


def cuts(string):
    """All ways to cut a string into palindromes."""
    if not string:
        return [[]]
    heads = [string[:size] for size in range(1, len(string) + 1) if string[:size] == string[size - 1::-1]]
    return [[head, *rest] for head in heads for rest in cuts(string[len(head):])]


@task("palindrome_partitioning", "RG", "train", "string",
      exact(lambda answer: sorted(tuple(pieces) for pieces in matrix_of(text)(answer))))
def palindrome_partitioning(rng, level):
    while True:
        alphabet = rng.sample("abcdefghijklmnopqrstuvwxyz", rng.randint(2, 3))
        string = "".join(rng.choices(alphabet, k=rng.randint(grow(level, 3, 8), grow(level, 4, 9))))
        ways = cuts(string)
        if 2 <= len(ways) <= 40:
            break
    return Draft(
        f'List all ways to cut the string "{string}" into pieces that are all palindromes (read the same '
        'backwards; a single '
        'letter is one). Keep the pieces of each way in order; the order of the ways does not '
        'matter.\nAnswer format: a list '
        'of lists, such as [["1", "22"], ["1", "2", "2"]].',
        program=f"""
            def cuts(s):
                if not s:
                    return [[]]
                heads = [s[:k] for k in range(1, len(s) + 1) if s[:k] == s[:k][::-1]]
                return [[head] + rest for head in heads for rest in cuts(s[len(head):])]

            print(cuts("{string}"))""",
        answer=json.dumps(ways))


ANAGRAMS = (
    "eat tea ate", "dog god", "cat act", "listen silent enlist", "star rats arts", "night thing", "save vase",
    "stone notes onset", "least steal slate tales", "peach cheap", "angle angel glean", "ocean canoe",
    "below elbow", "state taste", "study dusty", "grab brag", "part trap", "lamp palm", "sword words",
    "dear read", "inch chin", "melon lemon", "live evil vile", "stop spot pots post", "bored robed",
    "cider cried", "flow wolf fowl", "earth heart hater", "saint stain satin", "rescue secure")


@task("group_anagrams", "RG", "test", "string",
      exact(lambda answer: sorted(tuple(sorted(group)) for group in matrix_of(text)(answer))))
def group_anagrams(rng, level):
    count, groups, kind = grow(level, 6, 20), [], "word" if level < 3 else "string"
    if level < 3:
        while sum(map(len, groups)) < count:
            group = rng.choice(ANAGRAMS).split()
            groups += [rng.sample(group, len(group))] if sorted(group) not in map(sorted, groups) else []
    else:
        alphabet, taken = rng.sample("abcdefghijklmnopqrstuvwxyz", 5), []
        while sum(map(len, groups)) < count:
            letters = rng.choices(alphabet, k=rng.randint(3, 6))
            shuffles = ["".join(rng.sample(letters, len(letters))) for _ in range(rng.randint(1, 4))]
            if sorted(letters) not in taken:
                taken.append(sorted(letters))
                groups.append(list(dict.fromkeys(shuffles)))
    words = [word for group in groups for word in group]
    rng.shuffle(words)
    return Draft(
        f"Put these {kind}s into groups, so that {kind}s of the same letters (anagrams) are together: "
        f"{', '.join(words)}\nA {kind} "
        "without a partner is a group of its own. The order does not matter.\nAnswer format: a list of "
        f"lists of {kind}s, such "
        'as [["arm", "ram"], ["oak"]].',
        program=f"""
            groups = {{}}
            for word in {words}:
                groups.setdefault("".join(sorted(word)), []).append(word)
            print(list(groups.values()))""",
        answer=json.dumps(groups))


# ------------------------------------------------------------------------------------------- numbers in order
def decimals(rng, count, top, places):
    """Different decimals as text, some negative, each with up to `places` places."""
    numbers = []
    while len(numbers) < count:
        digits = rng.randint(0, places)
        number = Decimal(rng.randint(-top * 10 ** digits, top * 10 ** digits)).scaleb(-digits)
        if number and all(number != Decimal(other) for other in numbers):
            numbers.append(str(number))
    return numbers


@task("number_sorting", "RG", "train", "order", exact(list_of(rational)))
def number_sorting(rng, level):
    numbers = decimals(rng, grow(level, 3, 15), grow(level, 100, 1000), grow(level, 0, 2))
    falling = rng.random() < 0.5
    result = sorted(numbers, key=Decimal, reverse=falling)
    return Draft(
        f"Sort these numbers in {'descending' if falling else 'ascending'} order: {', '.join(numbers)}\n"
        "Answer format: the numbers in square brackets, separated by commas.",
        program=f"""
            numbers = "{', '.join(numbers)}".split(", ")
            numbers.sort(key=float{', reverse=True' if falling else ''})
            print("[" + ", ".join(numbers) + "]")""",
        answer=f"[{', '.join(result)}]")


@task("number_filtering", "RG", "train", "order", exact(list_of(rational)))
def number_filtering(rng, level):
    keep, larger = rng.random() < 0.5, rng.random() < 0.5
    numbers = result = []
    while result == numbers or (not result and rng.random() < 0.8):  # not all stay, rarely none
        *numbers, limit = decimals(rng, grow(level, 4, 13), 100, grow(level, 0, 4))
        result = [number for number in numbers if (Decimal(number) > Decimal(limit)) == (keep == larger)]
    return Draft(
        f"{'Keep only' if keep else 'Remove'} the numbers that are {'larger' if larger else 'smaller'} "
        f"than {limit} in this "
        f"list: {', '.join(numbers)}\nAnswer format: what is left, in the same order, in square brackets "
        "and separated by "
        "commas; [] if nothing is left.",
        program=f"""
            numbers = "{', '.join(numbers)}".split(", ")
            left = [n for n in numbers if {'' if keep else 'not '}float(n) {'>' if larger else '<'} {limit}]
            print("[" + ", ".join(left) + "]")""",
        answer=f"[{', '.join(result)}]")


@task("number_format", "RG", "train", "order", exact(rational), text_solvable=True)
def number_format(rng, level):
    gap = 0
    while gap < 10**-6:
        top = rng.randint(10 ** rng.randint(7, 11), 10**12)  # thousandths
        low = top - top // (1, 4, 50, 500, 5000)[level - 1] + 10**6 * (level == 1)
        values = sorted(round(Decimal(rng.randint(low, top)).scaleb(-3), rng.randint(0, 3))
                        for _ in range(grow(level, 4, 8)))
        gap = min((b - a) / b for a, b in zip(values, values[1:]))
    largest = rng.random() < 0.5
    right = values[-1] if largest else values[0]
    rng.shuffle(values)
    plain = [f"{value.normalize():f}" for value in values]
    forms = ["{:f}", "{:,f}", "{:e}"]
    shown = [rng.choice(forms).format(value.normalize()) for value in values]
    kind = "largest" if largest else "smallest"
    return Draft(
        f"Which of these numbers is the {kind}? {' | '.join(shown)}\nAnswer format: the number, with all "
        "its digits, in any "
        "notation.",
        program=f"""
            numbers = "{' | '.join(shown)}".split(" | ")
            print({'max' if largest else 'min'}(numbers, key=lambda n: float(n.replace(",", ""))))""",
        answer=shown[values.index(right)],
        reasoning=f"Written without commas and powers of ten the numbers are: {' | '.join(plain)}. The "
                  f"{kind} of them is {plain[values.index(right)]}.")


# --------------------------------------------------------------------------------------------------- calendar
def date_text(day):
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def word_or_number(answer):
    try:
        return integer(answer)
    except ValueError:
        return text(answer)


@task("calendar_arithmetic", "RG", "train", "order", exact(word_or_number))
def calendar_arithmetic(rng, level):
    first = date(1900, 1, 1) + timedelta(days=rng.randrange(73_000))
    span, weekday = rng.randint(10, grow(level, 30, 400)), rng.randrange(7)
    last = first + timedelta(days=span)
    days = [first + timedelta(days=passed) for passed in range(span + 1)]
    between = f"from {date_text(first)} to {date_text(last)}, both dates included"
    start = f"from datetime import date, timedelta\n\nfirst = date({first.year}, {first.month}, {first.day})"
    loop = (f"last = date({last.year}, {last.month}, {last.day})\n"
            "days = [first + timedelta(days=n) for n in range((last - first).days + 1)]")
    match rng.choice(("shift", "weekday", "january", "count", "working", "nth", "leap")):
        case "shift":
            later = rng.random() < 0.5
            word, sign = ("after", "+") if later else ("before", "-")
            span += span % 7 == 0
            target = first + timedelta(days=span if later else -span)
            known = f", a {WEEKDAYS[first.weekday()]}" if level < 3 else ""
            asked = f"Which weekday is {span} days {word} {date_text(first)}{known}?"
            answer = WEEKDAYS[target.weekday()]
            program = f'{start}\nday = first {sign} timedelta(days={span})\nprint(day.strftime("%A"))'
        case "weekday":
            asked, answer = f"Which weekday is {date_text(first)}?", WEEKDAYS[first.weekday()]
            program = f'{start}\nprint(first.strftime("%A"))'.replace(", timedelta", "")
        case "january":
            leap, first = rng.random() < 0.5, first.replace(day=min(first.day, 27))
            passed = first.replace(year=2024 if leap else 2023).timetuple().tm_yday - 1
            passed, day = passed + (passed % 7 == 0), first.day + (passed % 7 == 0)
            asked = (f"In a year {'with' if leap else 'without'} a 29th of February, 1 January is a "
                     f"{WEEKDAYS[weekday]}. Which weekday is {day} {MONTHS[first.month - 1]} of that year?")
            answer = WEEKDAYS[(weekday + passed) % 7]
            program = f"""
                weekdays = "{' '.join(WEEKDAYS)}".split()
                months = [31, {29 if leap else 28}, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
                passed = sum(months[:{first.month - 1}]) + {day} - 1
                print(weekdays[({weekday} + passed) % 7])"""
        case "count":
            asked = f"How many {WEEKDAYS[weekday]}s are there {between}?"
            answer = sum(day.weekday() == weekday for day in days)
            program = f"{start}\n{loop}\nprint(sum(day.weekday() == {weekday} for day in days))"
        case "working":
            asked = f"How many days from Monday to Friday are there {between}?"
            answer = sum(day.weekday() < 5 for day in days)
            program = f"{start}\n{loop}\nprint(sum(day.weekday() < 5 for day in days))"
        case "nth":
            number, opening = rng.randrange(4), first.replace(day=1)
            name = "first second third fourth".split()[number]
            asked = (f"On which day of the month is the {name} {WEEKDAYS[weekday]} of "
                     f"{MONTHS[first.month - 1]} {first.year}?")
            answer = 1 + (weekday - opening.weekday()) % 7 + 7 * number
            program = f"""
                from datetime import date

                opening = date({first.year}, {first.month}, 1).weekday()
                print(1 + ({weekday} - opening) % 7 + 7 * {number})"""
        case "leap":
            leap = rng.random() < 0.5
            years = [year for year in range(1900, 2101) if isleap(year) == leap]
            year = rng.choice((1900, 2100)) if not leap and rng.random() < 0.2 else rng.choice(years)
            asked, answer = f"Is the year {year} a leap year?", "Yes" if leap else "No"
            program = f"""
                year = {year}
                print("Yes" if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else "No")"""
    form = ("a whole number" if isinstance(answer, int) else "Yes or No" if answer in ("Yes", "No")
            else "the name of a weekday")
    return Draft(f"{asked} (Gregorian calendar)\nAnswer format: {form}.", program=program, answer=str(answer))


# ----------------------------------------------------------------------------------------- orders and puzzles
@task("course_schedule", "RG", "test", "order", exact(text))
def course_schedule(rng, level):
    count, truth = grow(level, 5, 12), rng.random() < 0.5
    order = rng.sample(range(count), count)
    before = {course: rng.sample(order[:place], min(place, rng.randint(1, 2)))
              for place, course in enumerate(order)}
    if not truth:  # in a circle of courses each needs the next
        circle = rng.sample(order[1:], rng.randint(3, min(5, count - 1)))
        for course, needed in zip(circle, circle[1:] + circle[:1]):
            before[course] = [needed, *(other for other in before[course][1:] if other != needed)]
    pairs = [(course, needed) for course, others in before.items() for needed in others]
    rng.shuffle(pairs)
    return Draft(
        f"There are {count} courses, numbered 0 to {count - 1}. A pair (a, b) means that course b has to "
        "be finished before "
        f"course a can begin: {', '.join(map(str, pairs))}\nCan all courses be finished?\nAnswer format: "
        "True or False.",
        program=f"""
            pairs = {pairs}
            waiting = set(range({count}))
            while True:
                ready = {{c for c in waiting if all(a != c or b not in waiting for a, b in pairs)}}
                if not ready:
                    break
                waiting -= ready
            print(not waiting)""",
        answer=str(truth))


CLUES = {  # kind of a clue about two values, or a value and a house: when it holds, how it is worded
    "in": (lambda a, b: a == b, "{} lives in house {}."),
    "not in": (lambda a, b: a != b, "{} does not live in house {}."),
    "is": (lambda a, b: a == b, "{} is {}."),
    "left": (lambda a, b: a + 1 == b, "{} lives directly to the left of {}."),
    "beside": (lambda a, b: abs(a - b) == 1, "{} lives next to {}."),
    "before": (lambda a, b: a < b, "{} lives somewhere to the left of {}."),
}
TRAITS = {  # what the houses differ in: how a value is worded, values
    "pet": ("the owner of the {}", "cat dog parrot rabbit hamster goldfish".split()),
    "favourite colour": ("the person who likes {}", "red green blue white yellow purple".split()),
    "drink": ("the {} drinker", "tea coffee milk water juice cocoa".split()),
    "child": ("the parent of {}", "Lily Max Ella Tom Zoe Finn".split()),
}


def arrangements(kinds, clues, place=None):
    """All ways to place the values of each kind in houses so that the clues hold: {value: house}."""
    if not kinds:
        yield place
        return
    place = place or {}

    def ready(values):  # the clues that these values complete
        known = {*place, *values}
        return [(CLUES[kind][0], a, b) for kind, a, b in clues
                if (a in values or b in values) and a in known and (b in known or isinstance(b, int))]

    values = max(kinds, key=lambda values: len(ready(values)))
    tests, rest = ready(values), [kind for kind in kinds if kind != values]
    for houses in permutations(range(1, len(values) + 1)):
        longer = {**place, **dict(zip(values, houses))}
        if all(holds(longer[a], longer.get(b, b)) for holds, a, b in tests):
            yield from arrangements(rest, clues, longer)


def zebra(rng, count, traits):
    """A puzzle with one solution and no clue too many -> values by kind, clues, {value: house}."""
    names = [name for name in GIRLS + BOYS if name != "Max"]
    kinds = [rng.sample(names, count), *(rng.sample(TRAITS[trait][1], count) for trait in traits)]
    place = {value: house for values in kinds for house, value in enumerate(rng.sample(values, count), 1)}
    kind_of = {value: number for number, values in enumerate(kinds) for value in values}
    pairs = [(a, b) for a in place for b in place if a != b]
    spots = [(value, house) for value in place for house in range(1, count + 1)]
    size, pool = count * len(kinds), []
    for kind, most in (("is", size), ("left", size), ("beside", size // 2), ("before", size // 2), ("in", 1),
                       ("not in", size // 2)):
        true = [(kind, a, b) for a, b in (spots if "in" in kind else pairs)
                if CLUES[kind][0](place[a], place.get(b, b)) and (kind != "is" or kind_of[a] < kind_of[b])]
        pool += rng.sample(true, min(most, len(true)))
    rng.shuffle(pool)

    def unique(clues):
        return len(list(islice(arrangements(kinds, clues), 2))) == 1

    clues = []
    for clue in pool:
        clues.append(clue)
        if len(clues) >= count and unique(clues):
            break
    else:
        return zebra(rng, count, traits)
    for clue in list(clues):
        if unique([other for other in clues if other != clue]):
            clues.remove(clue)
    return kinds, clues, place


@task("zebra_puzzles", "RG", "test", "order", exact(text))
def zebra_puzzles(rng, level):
    count, size = ((3, 1), (3, 2), (4, 1), (4, 2), (4, 3))[level - 1]  # houses, traits
    traits = rng.sample(list(TRAITS), size)
    while True:
        kinds, clues, place = zebra(rng, count, traits)
        asked = rng.choice([value for value in place if value not in kinds[0]])
        house = place[asked] if rng.random() < 0.5 else None
        answer = next(name for name in kinds[0] if place[name] == place[asked])
        told = [clue for clue in clues if clue[0::2] == ("in", house) or clue == ("is", answer, asked)]
        if not told:
            break
    worded = {name: name for name in kinds[0]}
    for trait, values in zip(traits, kinds[1:]):
        worded |= {value: TRAITS[trait][0].format(value) for value in values}
    lines = [CLUES[kind][1].format(worded[a], worded.get(b, b)) for kind, a, b in clues]
    traits = [f"{trait} ({', '.join(sorted(values))})" for trait, values in zip(traits, kinds[1:])]
    return Draft(
        f"{'Three' if count == 3 else 'Four'} houses stand in a row, numbered 1 to {count} from left to "
        "right. One person lives "
        f"in each: {', '.join(sorted(kinds[0]))}. No two have the same {' or the same '.join(traits)}.\n"
        f"{numbered(line[0].upper() + line[1:] for line in lines)}\n"
        f"{f'Who lives in house {house}?' if house else f'Who is {worded[asked]}?'}\nAnswer format: one "
        "name.",
        program=f"""
            from itertools import permutations

            kinds = {kinds}
            clues = {clues}
            rules = {{"in": lambda a, b: a == b, "not in": lambda a, b: a != b, "is": lambda a, b: a == b,
                     "left": lambda a, b: a + 1 == b, "before": lambda a, b: a < b,
                     "beside": lambda a, b: abs(a - b) == 1}}

            def solve(kinds, place):
                if not kinds:
                    return place
                for houses in permutations(range(1, {count} + 1)):
                    now = dict(place, **dict(zip(kinds[0], houses)))
                    known = [c for c in clues if c[1] in now and (c[2] in now or c[2] in houses)]
                    if all(rules[kind](now[a], now.get(b, b)) for kind, a, b in known):
                        found = solve(kinds[1:], now)
                        if found:
                            return found

            place = solve(kinds, {{}})
            print(next(name for name in kinds[0] if place[name] == {house or f'place["{asked}"]'}))""",
        answer=answer)


# -------------------------------------------------------------------------------------------------- knowledge
@task("letter_jumble", "RG", "train", "knowledge", exact(list_of(text)), text_solvable=True)
def letter_jumble(rng, level):
    vocabulary = {}  # sorted letters: word
    for word in rng.sample(WORDS, grow(level, 15, 50)):
        vocabulary.setdefault("".join(sorted(word)), word)
    words = rng.sample(list(vocabulary.values()), grow(level, 2, 8))
    jumbled = []
    for word in words:
        letters = word
        while letters == word:
            letters = "".join(rng.sample(word, len(word)))
        jumbled.append(letters)
    return Draft(
        "The letters of each word of a message were shuffled; the order of the words was kept. All its "
        "words are in this "
        f"list: {', '.join(vocabulary.values())}\nThe shuffled message: {' '.join(jumbled)}\nWhat was the "
        "message?\n"
        "Answer format: the words separated by spaces.",
        program=f"""
            vocabulary = "{' '.join(vocabulary.values())}".split()
            word_of = {{"".join(sorted(word)): word for word in vocabulary}}
            print(*(word_of["".join(sorted(word))] for word in "{' '.join(jumbled)}".split()))""",
        answer=" ".join(words),
        reasoning="Word by word: " + "; ".join(
            f"{letters} has the letters {' '.join(sorted(word))}, which make {word}"
            for letters, word in zip(jumbled, words)) + ".")


LEGS = {  # number of legs: one animal/several animals
    0: "snake/snakes slug/slugs shark/sharks dolphin/dolphins earthworm/earthworms salmon/salmon eel/eels",
    2: "chicken/chickens duck/ducks goose/geese eagle/eagles ostrich/ostriches penguin/penguins human/humans",
    4: "dog/dogs cat/cats horse/horses cow/cows sheep/sheep lion/lions elephant/elephants lizard/lizards "
       "frog/frogs mouse/mice tortoise/tortoises",
    6: "ant/ants bee/bees beetle/beetles butterfly/butterflies grasshopper/grasshoppers mosquito/mosquitoes",
    8: "spider/spiders scorpion/scorpions tick/ticks",
    10: "crab/crabs lobster/lobsters",
    14: "woodlouse/woodlice",
}


@task("leg_counting", "RG", "test", "knowledge", exact(integer))
def leg_counting(rng, level):
    legs = {animal: number for number, animals in LEGS.items() for animal in animals.split()}
    animals = rng.sample(list(legs), grow(level, 2, 10))
    counts = [rng.randint(1, 15) for _ in animals]
    total = sum(legs[animal] * count for animal, count in zip(animals, counts))
    shown = [f"{count} {animal.split('/')[count > 1]}" for animal, count in zip(animals, counts)]
    herd = [(animal.split("/")[0], count, legs[animal]) for animal, count in zip(animals, counts)]
    return Draft(
        f"How many legs do these animals have together: {', '.join(shown)}? Each animal has all the legs "
        "of its kind.\n"
        "Answer format: a whole number.",
        program=f"""
            legs = {({animal: number for animal, _, number in herd})}
            counts = {({animal: count for animal, count, _ in herd})}
            print(sum(legs[animal] * count for animal, count in counts.items()))""",
        answer=str(total))
