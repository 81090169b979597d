"""The 27 BIG-Bench-Hard tasks (names are the suite's, texts, tables and code are ours).

The seven tasks about what people know or mean have a module of their own, `bbh_knowledge.py`; the word
lists of both are in `bbh_tables.py`. Yes/no tasks draw the truth first and then a question that has it.
In multiple choice the program computes what is right and then looks its letter up.
"""
from datetime import date, timedelta
from itertools import permutations, product

from task_families import bbh_knowledge  # noqa: F401  (registers the knowledge tasks)
from task_families.bbh_tables import (
    ACTIVITIES,
    ADJECTIVES,
    CATEGORIES,
    COLOURS,
    GIRAFFES,
    GROUPS,
    HOLIDAYS,
    NOUNS,
    ORDER_THEMES,
    PENGUINS,
    PLACES,
    PROPERTIES,
    SWAP_THEMES,
    THINGS,
)
from task_families.kit import (
    BOYS,
    GIRLS,
    LETTER,
    MONTHS,
    NUMBER_WORDS,
    WORDS,
    YES_NO,
    Draft,
    capital,
    choice,
    code,
    enumeration,
    exact,
    expression,
    grow,
    integer,
    list_of,
    numbered,
    options,
    task,
    text,
    with_article,
    words_of,
    yes_no,
)

NAMES = GIRLS + BOYS
COUNT_WORDS = list(NUMBER_WORDS)
ORDINALS = "first second third fourth fifth sixth seventh".split()


# --------------------------------------------------------------------------------------- logic and arithmetic
def boolean(rng, operators):
    """A random expression of True and False -> (text, value, how tightly its outermost operator binds)."""
    if operators == 0:
        value = rng.random() < 0.5
        return str(value), value, 3
    operator = rng.choice(("not", "and", "or"))
    if operator == "not":
        inner, value, binding = boolean(rng, operators - 1)
        return f"not {inner}" if binding >= 2 else f"not ({inner})", not value, 2
    own, left = ("or", "and").index(operator), rng.randrange(operators)
    sides = [boolean(rng, left), boolean(rng, operators - 1 - left)]
    terms = [inner if binding >= own and (binding > 1 or rng.random() < 0.6) else f"({inner})"
             for inner, _, binding in sides]
    values = [value for _, value, _ in sides]
    return f" {operator} ".join(terms), all(values) if own else any(values), own


@task("boolean_expressions", "BBH", "test", "logic", exact(text))
def boolean_expressions(rng, level):
    truth, value = rng.random() < 0.5, None
    while value is not truth:
        formula, value, _ = boolean(rng, grow(level, 3, 9) + rng.randint(0, 1))
    return Draft(
        f"What is the value of this expression? First comes not, then and, then or.\n{formula}\n"
        "Answer format: True or False.",
        program=f"print({formula})",
        answer=str(truth))


@task("multistep_arithmetic_two", "BBH", "train", "math", exact(integer))
def multistep_arithmetic_two(rng, level):
    count = grow(level, 4, 10)
    sides = []
    for size in (count // 2, count - count // 2):
        terms = [f"{rng.choice('+-*')} {rng.randint(-9, 9)}" for _ in range(size)]
        sides.append("(" + " ".join(terms)[2:] + ")")
    formula = f" {rng.choice('+-*')} ".join(sides)
    return Draft(
        f"Calculate {formula}\nMultiplication comes before addition and subtraction.\n"
        "Answer format: an integer.",
        program=f"print({formula})",
        answer=str(expression(formula)[0]))


@task("web_of_lies", "BBH", "train", "logic", exact(text), text_solvable=True)
def web_of_lies(rng, level):
    people = rng.sample(NAMES, grow(level, 3, 9))
    honest = rng.random() < 0.5
    tells = {True: "tells the truth", False: "lies"}
    prompt, steps = [f"{people[0]} {tells[honest]}."], [f"{people[0]} {tells[honest]}."]
    program = [f"truth = {honest}"]
    for before, person in zip(people, people[1:]):
        claim = rng.random() < 0.5
        honest = honest == claim
        prompt.append(f"{person} says {before} {tells[claim]}.")
        steps.append(f"{person} says {before} {tells[claim]}, so {person} {tells[honest]}.")
        program.append(f"truth = truth == {claim}")
    if level >= 4:  # statements that lead nowhere
        for _ in range(2):
            side, about = rng.sample(people[:-1], 2)
            prompt.append(f"{side} owns {with_article(rng.choice(WORDS))} that {about} once saw.")
    return Draft(
        "Everyone here either always tells the truth or always lies. " + " ".join(prompt)
        + f" Does {people[-1]} tell the truth?\n{YES_NO}",
        program="\n".join(program) + '\nprint("Yes" if truth else "No")',
        answer=yes_no(honest),
        reasoning=" ".join(steps))


# A literal is (property, does it hold); a rule is (literals that together imply, literal implied).
def holds(literal):
    name, positive = literal
    return f"is {name}" if positive else f"is not {name}"


def being(literal):
    name, positive = literal
    return f"being {name}" if positive else f"not being {name}"


def opposite(literal):
    return literal[0], not literal[1]


def rule_text(rng, group, premises, conclusion):
    """One of several wordings of 'whoever has the first properties has the last one'."""
    if len(premises) == 1 and rng.random() < 0.25:  # the same, turned round
        premises, conclusion = [opposite(conclusion)], opposite(premises[0])
    who = f"{group} who {' and '.join(map(holds, premises))}"
    # Never 'every .. is not ..', which can be read in two ways.
    wordings = [f"Every {who} {holds(conclusion)}." if conclusion[1] else f"No {who} is {conclusion[0]}."] * 2
    if len(premises) == 1:
        wordings += [f"{capital(being(premises[0]))} is sufficient for {being(conclusion)}.",
                     f"{capital(being(conclusion))} is necessary for {being(premises[0])}."]
        if not premises[0][1]:
            wordings += [f"Every {group} {holds(opposite(premises[0]))} or {holds(conclusion)}, or both."] * 2
    return rng.choice(wordings)


def rule_true(rule, world):
    premises, conclusion = rule
    return not all(world[name] == sign for name, sign in premises) or world[conclusion[0]] == conclusion[1]


def rule_code(rule, letter):
    signed = [("" if sign else "not ") + letter[name] for name, sign in [*map(opposite, rule[0]), rule[1]]]
    return f"({' or '.join(signed)})"


@task("formal_fallacies", "BBH", "train", "logic", exact(text), text_solvable=True)
def formal_fallacies(rng, level):
    group, truth = rng.choice(GROUPS), rng.random() < 0.5
    while True:
        names = rng.sample(PROPERTIES, (3, 4, 5, 5, 6)[level - 1])
        chain = [(name, rng.random() < 0.6) for name in names]
        rules = [([a], b) for a, b in zip(chain, chain[1:])]
        if level >= 4:  # one step of the chain needs the step before it too
            step = rng.randrange(1, len(rules))
            rules[step] = ([chain[step - 1], chain[step]], chain[step + 1])
        conclusion = ([chain[0]], chain[-1])
        side = [(name, rng.random() < 0.5) for name in rng.sample(names, 2)]  # leads nowhere, or nowhere new
        if not truth:  # a near miss: converse, inverse, dropped negation, or one premise turned round
            slip = rng.randrange(4)
            if slip == 3:
                turned = rng.randrange(len(rules))
                if len(rules[turned][0]) > 1:
                    continue
                rules[turned] = ([rules[turned][1]], rules[turned][0][0])
            else:
                conclusion = (([chain[-1]], chain[0]), ([opposite(chain[0])], opposite(chain[-1])),
                              ([chain[0]], opposite(chain[-1])))[slip]
        used = [*rules, ([side[0]], side[1])]
        different = {frozenset([*premises, opposite(end)]) for premises, end in [*used, conclusion]}
        if len(different) < len(used) + 1:
            continue
        worlds = [dict(zip(names, values)) for values in product((True, False), repeat=len(names))]
        models = [world for world in worlds if all(rule_true(rule, world) for rule in used)]
        against = [world for world in models if not rule_true(conclusion, world)]
        (start,), end = conclusion
        if (truth == (not against) and any(world[start[0]] == start[1] for world in models)
                and any(world[end[0]] != end[1] for world in models)):
            break
    rng.shuffle(used)
    letter = dict(zip(names, "abcdef"))
    if truth:
        steps, known = [], [chain[0]]
        for rule in rules:
            known.append(rule[1])
            steps.append(f"by {used.index(rule) + 1}, this {group.split()[0]} {holds(rule[1])}")
        why = f"Take a {group} who {holds(chain[0])}: {'; '.join(steps)}. That is what the conclusion says."
    else:
        case = enumeration([holds((name, value)) for name, value in against[0].items()])
        why = f"Imagine a {group} who {case}. This breaks none of the premises, but it breaks the conclusion."
    return Draft(
        f"About every {group} this is known:\n" + numbered(rule_text(rng, group, *rule) for rule in used)
        + f"\nConclusion: {rule_text(rng, group, *conclusion)}\n"
        "Does the conclusion follow from the premises by logic alone?\nAnswer format: valid or invalid.",
        program=f"""
            from itertools import product

            # {", ".join(f"{sign}: {name}" for name, sign in letter.items())}
            def breaks({", ".join(letter.values())}):
                premises = {" and ".join(rule_code(rule, letter) for rule in used)}
                return premises and not {rule_code(conclusion, letter)}

            found = any(breaks(*values) for values in product([True, False], repeat={len(names)}))
            print("invalid" if found else "valid")""",
        answer="valid" if truth else "invalid",
        reasoning=why)


# ------------------------------------------------------------------------------------------------------ order
def written(day):
    return f"{MONTHS[day.month - 1]} {day.day}, {day.year}"


def as_code(day):
    return f"date({day.year}, {day.month}, {day.day})"


def in_figures(day):
    return f"{day.month:02}/{day.day:02}/{day.year}"


def month_later(day, months):
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, 28))


def todays_date(rng, level):
    """A date given in a roundabout way -> (sentence, the date, the same in python)."""
    day = date(rng.randint(1901, 2059), rng.randint(1, 12), rng.randint(1, 28))
    month = f"{MONTHS[day.month - 1]} {day.year}"
    kinds = ("plain", "month", "beside", "british", "distance", "anniversary", "holiday")
    match rng.choice(kinds[:grow(level, 2, 7)]):
        case "month" if rng.random() < 0.5:
            day = day.replace(day=1)
            return f"Today is the first day of {month}", day, as_code(day)
        case "month":
            following = month_later(day, 1).replace(day=1)
            return (f"Today is the last day of {month}", following - timedelta(1),
                    f"{as_code(following)} - timedelta(1)")
        case "beside":
            words, shift = rng.choice((("Yesterday was", 1), ("The day before yesterday was", 2),
                                       ("Tomorrow is", -1), ("The day after tomorrow is", -2)))
            return f"{words} {written(day)}", day + timedelta(shift), f"{as_code(day)} + timedelta({shift})"
        case "british":
            words = f"Today is {day.day}/{day.month}/{day.year}, written the British way, day first"
            return words, day, as_code(day)
        case "distance":
            shift = rng.randint(3, 30) * rng.choice((1, -1))
            event = rng.choice(("exam", "birthday party", "job interview", "first concert", "flight to Rome"))
            words = f"was {shift} days ago, on" if shift > 0 else f"is in {-shift} days, on"
            return (f"{rng.choice(NAMES)}'s {event} {words} {written(day)}", day + timedelta(shift),
                    f"{as_code(day)} + timedelta({shift})")
        case "anniversary":
            years = rng.randint(2, 60)
            wedding = day.replace(year=day.year - years)
            couple = f"{rng.choice(GIRLS)} and {rng.choice(BOYS)}"
            return (f"{couple} married on {written(wedding)}, exactly {years} years ago", day,
                    f"date({wedding.year} + {years}, {day.month}, {day.day})")
        case "holiday":
            name, (number, day_number) = rng.choice(list(HOLIDAYS.items()))
            day = date(day.year, number, day_number)
            return f"Today is {name} of the year {day.year}", day, as_code(day)
    return f"Today is {written(day)}", day, as_code(day)


def moved(day, months, days):
    """The date so many months and then so many days later."""
    return (month_later(day, months) if months else day) + timedelta(days)


def dates_like(rng, right, months, days):
    """Five wrong dates for a question about a shift by so many months and days.

    All six form a pattern: even steps of the shift that is asked for (so that today and the shift in the
    other direction are often among them) and, across, of one, two or ten days or a month. The right one may
    stand anywhere in it, so that neither the first, nor the last, nor what most options resemble stands out.
    """
    while True:
        month, day = rng.choice(((0, 1), (0, 2), (0, 10), (1, 0)))
        sizes = rng.choice(((6, 1), (3, 2), (2, 3)))
        i, j = map(rng.randrange, sizes)
        shifts = [(months * (k - i) + month * (n - j), days * (k - i) + day * (n - j))
                  for k in range(sizes[0]) for n in range(sizes[1])]
        dates = {moved(right, *shift) for shift in shifts}
        if len(dates) == 6 and (right.day <= 28 or not any(shift[0] for shift in shifts)):
            return sorted(dates - {right})


@task("date_understanding", "BBH", "train", "order", exact(choice), text_solvable=True)
def date_understanding(rng, level):
    sentence, today, program = todays_date(rng, level)
    far = rng.randint(8, grow(level, 10, 60))
    asks = {"tomorrow": 1, "yesterday": -1, "one week ago": -7, "one week from today": 7,
            f"{far} days ago": -far, f"{far} days from today": far}
    months = {"one month ago": -1, "one month from today": 1, "one year ago": -12, "one year from today": 12}
    ask = rng.choice([*asks, *(months if today.day <= 28 and level >= 2 else ())])
    shift = (0, asks[ask]) if ask in asks else (months[ask], 0)
    right = moved(today, *shift)
    step = f"day = today + timedelta({asks.get(ask)})" if ask in asks else f"""
        months = today.year * 12 + today.month - 1 {'-' if shift[0] < 0 else '+'} {abs(shift[0])}
        day = date(months // 12, months % 12 + 1, today.day)"""
    lines, letter, letters = options(rng, in_figures(right), map(in_figures, dates_like(rng, right, *shift)))
    return Draft(
        f"{sentence}. What is the date {ask} in MM/DD/YYYY?\n{lines}\n{LETTER}",
        program=code("from datetime import date, timedelta", f"today = {program}", step,
                     f"letters = {letters}", 'print(letters[f"{day.month:02}/{day.day:02}/{day.year}"])'),
        answer=letter,
        reasoning=f"{sentence}, so today's date is {in_figures(today)}. The date {ask} is {written(right)}, "
                  f"that is {in_figures(right)}: {letter}.")


@task("hyperbaton", "BBH", "train", "order", exact(choice), text_solvable=True)
def hyperbaton(rng, level):
    kinds = sorted(rng.sample(list(ADJECTIVES), grow(level, 2, 5)), key=list(ADJECTIVES).index)
    right = [rng.choice(ADJECTIVES[kind]) for kind in kinds]
    wrong = list(right)
    if level >= 4:  # only two neighbours change places
        i = rng.randrange(len(wrong) - 1)
        wrong[i], wrong[i + 1] = wrong[i + 1], wrong[i]
    while wrong == right:
        rng.shuffle(wrong)
    noun = rng.choice(NOUNS)
    lines, letter, letters = options(rng, " ".join([*right, noun]), [" ".join([*wrong, noun])])
    facts = dict(zip(right, kinds))
    return Draft(
        "Which of the two has its adjectives in the usual English order "
        f"({', '.join(ADJECTIVES)})?\n{lines}\n{LETTER}",
        program=f"""
            order = {list(ADJECTIVES)}
            kind = {({word: facts[word] for word in sorted(facts)})}
            for phrase, letter in {letters}.items():
                ranks = [order.index(kind[word]) for word in phrase.split()[:-1]]
                if ranks == sorted(ranks):
                    print(letter)""",
        answer=letter,
        reasoning="In the usual order, " + ", ".join(f"{word} ({kind})" for word, kind in facts.items())
                  + f" stand like this: {' '.join(right)} {noun}. So the answer is {letter}.")


def orders_left(things, statements):
    """A worked solution for a few things: which orders each statement leaves."""
    steps, orders = [], list(permutations(things))
    for sentence, test, _ in statements:
        orders = [order for order in orders if test({thing: k for k, thing in enumerate(order, 1)})]
        shown = [", ".join(thing.removeprefix("the ") for thing in order) for order in orders]
        steps.append(f"{capital(sentence)}. This leaves {' or '.join(shown)}.")
    return " ".join(steps)


def line_up(rng, level, count):
    """Things in a hidden order, described until one order is left; what stands at one place?"""
    story, things, before, after, (first, last, at_end), ordinals = rng.choice(ORDER_THEMES)
    things = rng.sample(things, count)
    place = dict(zip(things, rng.sample(range(1, count + 1), count)))  # the hidden order

    def stands(thing, k, from_end):
        """'the owl is the second from the left': the k-th place, counted from one of the two ends."""
        k = count + 1 - k if from_end else k
        return f"{thing} {(first, last)[from_end] if k == 1 else ordinals[from_end].format(ORDINALS[k - 1])}"

    def statement():
        """Something true of the hidden order: sentence, test of a dict of places, the same in python."""
        x, y = rng.sample(things, 2)
        if rng.random() > (0.7, 0.5, 0.4, 0.25, 0.15)[level - 1]:
            low, high = sorted((x, y), key=place.get)
            sentence = f"{low} {before} {high}" if rng.random() < 0.5 else f"{high} {after} {low}"
            return sentence, lambda at: at[low] < at[high], f'at["{low}"] < at["{high}"]'
        if place[x] in (1, count) and rng.random() < 0.4:
            return f"{x} {at_end}", lambda at: at[x] in (1, count), f'at["{x}"] in (1, {count})'
        sentence = stands(x, place[x], level > 1 and rng.random() < 0.4)
        return sentence, lambda at: at[x] == place[x], f'at["{x}"] == {place[x]}'

    possible = [dict(zip(things, places)) for places in permutations(range(1, count + 1))]
    statements = []
    while len(possible) > 1:
        new = statement()
        remaining = [at for at in possible if new[1](at)]
        if len(remaining) < len(possible):
            statements.append(new)
            possible = remaining
    rng.shuffle(statements)
    sentences = [capital(sentence) for sentence, _, _ in statements]

    told = [python for _, _, python in statements]
    untold = [k for thing, k in place.items() if f'at["{thing}"] == {k}' not in told]
    asked = rng.choice(untold or list(place.values()))
    right = next(thing for thing in things if place[thing] == asked)
    from_end = rng.random() < 0.5
    claims = {thing: capital(stands(thing, asked, from_end)) for thing in things}
    lines, letter, letters = options(rng, claims[right], [claims[t] for t in things if t != right])
    conditions = (",\n" + " " * 20).join(told)
    return Draft(
        f"{story.format(n=count)} {enumeration(things)}. {'. '.join(sentences)}.\nWhich of these is true?\n"
        f"{lines}\n{LETTER}",
        program=f"""
            from itertools import permutations

            def fits(at):
                return all([
                    {conditions}])

            things = {things}
            orders = [order for order in permutations(things)
                      if fits({{thing: place for place, thing in enumerate(order, 1)}})]
            letters = {({thing: letters[claims[thing]] for thing in things})}
            print(letters[orders[0][{asked - 1}]])""",
        answer=letter,
        reasoning=f"{orders_left(things, statements)} So: {claims[right]}, {letter}." if count == 3 else None)


@task("logical_deduction_three_objects", "BBH", "train", "order", exact(choice), text_solvable=True)
def logical_deduction_three_objects(rng, level):
    return line_up(rng, level, 3)


@task("logical_deduction_five_objects", "BBH", "train", "order", exact(choice))
def logical_deduction_five_objects(rng, level):
    return line_up(rng, level, 5)


@task("logical_deduction_seven_objects", "BBH", "train", "order", exact(choice))
def logical_deduction_seven_objects(rng, level):
    return line_up(rng, level, 7)


def shuffle_story(rng, level, count):
    """Everybody has something, then they swap in pairs; who has what at the end?"""
    start, swap, question, things = rng.choice(SWAP_THEMES)
    people, things = rng.sample(NAMES, count), rng.sample(things, count)
    has = dict(zip(people, things))
    swaps = [tuple(rng.sample(people, 2))]
    while len(swaps) < grow(level, count - 1, 2 * count + 1):
        pair = tuple(rng.sample(people, 2))
        if set(pair) != set(swaps[-1]):
            swaps.append(pair)
    beginning, steps = repr(has), []
    for a, b in swaps:
        has[a], has[b] = has[b], has[a]
        steps.append(f"{a} and {b} swap: {', '.join(f'{person} {thing}' for person, thing in has.items())}.")
    asked = rng.choice(people)
    lines, letter, letters = options(rng, has[asked], [thing for thing in things if thing != has[asked]])
    first = enumeration([start.format(*pair) for pair in zip(people, things)])
    return Draft(
        f"At first, {first}. Then they swap, in this order: "
        f"{'; '.join(swap.format(*pair) for pair in swaps)}.\n{question.format(asked)} at the end?\n{lines}\n"
        f"{LETTER}",
        program=f"""
            has = {beginning}
            for a, b in {swaps}:
                has[a], has[b] = has[b], has[a]
            letters = {letters}
            print(letters[has["{asked}"]])""",
        answer=letter,
        reasoning=f"{' '.join(steps)} So it is {has[asked]} for {asked}: {letter}." if count == 3 else None)


@task("tracking_shuffled_objects_three_objects", "BBH", "train", "order", exact(choice), text_solvable=True)
def tracking_shuffled_objects_three_objects(rng, level):
    return shuffle_story(rng, level, 3)


@task("tracking_shuffled_objects_five_objects", "BBH", "train", "order", exact(choice))
def tracking_shuffled_objects_five_objects(rng, level):
    return shuffle_story(rng, level, 5)


@task("tracking_shuffled_objects_seven_objects", "BBH", "train", "order", exact(choice))
def tracking_shuffled_objects_seven_objects(rng, level):
    return shuffle_story(rng, level, 7)


@task("temporal_sequences", "BBH", "test", "order", exact(choice), text_solvable=True)
def temporal_sequences(rng, level):
    count = grow(level, 3, 7)
    hours = [rng.randint(5, 7)]
    for _ in range(count + 1):
        hours.append(hours[-1] + rng.randint(1, 16 // (count + 1)))
    spans = [f"{start}:00 to {end}:00" for start, end in zip(hours, hours[1:])]
    gap = rng.randrange(count + 1)
    busy = [i for i in range(count + 1) if i != gap]
    seen = dict(zip(busy, rng.sample(ACTIVITIES, count)))
    told = rng.sample(busy, count) if level >= 3 else busy
    person, place = rng.choice(NAMES), rng.choice(PLACES)
    lines, letter, letters = options(rng, spans[gap], [spans[i] for i in rng.sample(busy, 3)])
    choices = [(hours[spans.index(span)], hours[spans.index(span) + 1], letters[span]) for span in letters]
    wake, close = hours[0], hours[-1]
    return Draft(
        f"Today {person} went to the {place}. {person} woke up at {wake}:00 and was seen "
        f"{'; '.join(f'from {spans[i]} {seen[i]}' for i in told)}. The {place} closed at {close}:00. Between "
        f"which times could {person} have been at the {place}?\n{lines}\n{LETTER}",
        program=f"""
            busy = {[(hours[i], hours[i + 1]) for i in told]}
            for start, end, letter in {choices}:
                awake_and_open = start >= {wake} and end <= {close}
                if awake_and_open and all(end <= a or b <= start for a, b in busy):
                    print(letter)""",
        answer=letter,
        reasoning=f"In the order of time, {person} was busy "
                  f"{', '.join(f'{spans[i]} ({seen[i]})' for i in busy)}. "
                  f"Between {wake}:00 and closing time at {close}:00 only {spans[gap]} is free: {letter}.")


@task("word_sorting", "BBH", "train", "string", exact(list_of(text)))
def word_sorting(rng, level):
    pool = words_of(level)
    if level >= 3:  # words that share first letters
        initials = rng.sample("abcfgmprst" if level < 5 else "bcps", 6 - level)  # far more words than asked
        pool = [word for word in WORDS if word[0] in initials]
    words = rng.sample(pool, grow(level, 5, 20))
    while words == sorted(words):
        rng.shuffle(words)
    return Draft(
        f"Sort these words alphabetically: {' '.join(words)}\nAnswer format: the words separated by spaces.",
        program=f'words = "{" ".join(words)}".split()\nprint(*sorted(words))',
        answer=" ".join(sorted(words)),
        recheck='words = "{answer}".split()\nprint(all(a < b for a, b in zip(words, words[1:])))')


# ------------------------------------------------------------------------------------------ shapes and places
def without_spaces(answer):
    return "".join(answer.split())


@task("dyck_languages", "BBH", "test", "string", exact(without_spaces))
def dyck_languages(rng, level):
    closing = {"(": ")", "[": "]", "{": "}"}
    missing = rng.randint(grow(level, 1, 3), grow(level, 3, 8))
    closed = rng.randint(grow(level, 1, 5), grow(level, 3, 11))  # brackets that are closed already
    while True:
        opens, pairs, sequence, stack = missing + closed, closed, [], []
        while opens or pairs:
            if opens and (not stack or not pairs or rng.random() < 0.5):
                sequence.append(rng.choice("([{"))
                stack.append(sequence[-1])
                opens -= 1
            else:
                sequence.append(closing[stack.pop()])
                pairs -= 1
        answer = [closing[bracket] for bracket in reversed(stack)]
        if "".join(answer) not in "".join(sequence) or len(answer) < 4:
            break
    return Draft(
        f"Close all brackets that are still open, in the right order: {' '.join(sequence)}\n"
        "Answer format: only the missing closing brackets, separated by spaces.",
        program=f"""
            closing = {closing}
            stack = []
            for bracket in "{' '.join(sequence)}".split():
                if bracket in closing:
                    stack.append(closing[bracket])
                else:
                    stack.pop()
            print(*reversed(stack))""",
        answer=" ".join(answer))


@task("navigate", "BBH", "test", "spatial", exact(text))
def navigate(rng, level):
    truth, turning = rng.random() < 0.5, rng.random() < 0.5
    sides = ("forward", "right", "backward", "left")
    count = grow(level, 3, 6) if turning else grow(level, 4, 9)
    while True:  # steps to the four sides whose sums cancel, and for No one of them a little wrong
        moves = [[rng.randrange(4), rng.randint(1, 10)] for _ in range(count - 2)]
        for axis in (0, 1):
            ahead = sum(steps if side == axis else -steps for side, steps in moves if side % 2 == axis)
            if ahead:
                moves.append([axis + 2 if ahead > 0 else axis, abs(ahead)])
        rng.shuffle(moves)
        if not truth:
            wrong = rng.choice(moves)
            if rng.random() < 0.5:
                wrong[0] = (wrong[0] + 2) % 4
            else:
                wrong[1] = max(1, wrong[1] + rng.choice((-2, -1, 1, 2)))
        x = sum((0, steps, 0, -steps)[side] for side, steps in moves)
        y = sum((steps, 0, -steps, 0)[side] for side, steps in moves)
        if len(moves) >= 2 and max(steps for _, steps in moves) <= 10 and truth == (x == y == 0):
            break
    if not turning:
        lines = [f"Take {steps} step{'s' * (steps > 1)} {sides[side]}." for side, steps in moves]
        moving = f"""
            x = y = 0
            for side, steps in {[(sides[side], steps) for side, steps in moves]}:
                x += {{"right": steps, "left": -steps}}.get(side, 0)
                y += {{"forward": steps, "backward": -steps}}.get(side, 0)"""
    else:
        lines, facing = [], 0
        for side, steps in moves:
            turn = (side - facing) % 4
            lines += [("Turn right.", "Turn around.", "Turn left.")[turn - 1]] * (turn > 0)
            lines.append(f"Take {steps} step{'s' * (steps > 1)}.")
            facing = side
        moving = f"""
            x, y, dx, dy = 0, 0, 0, 1
            for line in {lines}:
                if "right" in line:
                    dx, dy = dy, -dx
                elif "left" in line:
                    dx, dy = -dy, dx
                elif "around" in line:
                    dx, dy = -dx, -dy
                else:
                    steps = int(line.split()[1])
                    x, y = x + steps * dx, y + steps * dy"""
    how = "You start facing north; steps go straight ahead." if turning else "Always face forward."
    return Draft(
        "If you follow these instructions, are you back at the starting point at the end? "
        f"{how} {' '.join(lines)}\n{YES_NO}",
        program=code(moving, 'print("Yes" if x == y == 0 else "No")'),
        answer=yes_no(truth))


# Points of the unit circle with rational coordinates, in the order of their angle.
CIRCLE = sorted(((sx * a / c, sy * b / c) for p, q, c in ((3, 4, 5), (5, 12, 13), (8, 15, 17), (20, 21, 29))
                 for a, b in ((p, q), (q, p)) for sx in (1, -1) for sy in (1, -1)),
                key=lambda point: (point[1] < 0, -point[0] if point[1] > 0 else point[0]))
SHAPES = {"triangle": 3, "pentagon": 5, "hexagon": 6, "heptagon": 7, "octagon": 8}


def outline(rng, shape):
    """Corners of a random convex polygon, rectangle, kite or line, as pairs of text with two decimals."""
    centre, size = (rng.randint(30, 60), rng.randint(30, 60)), rng.randint(12, 25)
    ux, uy = rng.choice(CIRCLE)
    if shape == "rectangle":
        short = size * rng.randint(3, 7) / 10
        corners = [(size, short), (-size, short), (-size, -short), (size, -short)]
    elif shape == "kite":
        wide = size * rng.randint(4, 8) / 10
        corners = [(size, 0), (0, wide), (-size * rng.randint(1, 3) / 10, 0), (0, -wide)]
    elif shape == "line":
        corners = [(size, 0), (-size, rng.randint(-9, 9))]
    else:  # on an ellipse, the angles between neighbours not too small
        step = len(CIRCLE) // SHAPES[shape]
        spots = [i * step + rng.randrange(max(1, step - 2)) + rng.randint(0, 1) for i in range(SHAPES[shape])]
        flat = rng.randint(6, 10) / 10
        corners = [(CIRCLE[i][0] * size, CIRCLE[i][1] * size * flat) for i in spots]
    turned = [(centre[0] + x * ux - y * uy, centre[1] + x * uy + y * ux) for x, y in corners]
    return [f"{x:.2f},{y:.2f}" for x, y in turned]


@task("geometric_shapes", "BBH", "train", "spatial", exact(choice))
def geometric_shapes(rng, level):
    names = ["circle", "kite", "line", "rectangle", "sector", *SHAPES]
    shape = rng.choice(names)
    if shape in ("circle", "sector"):
        x, y, radius = rng.randint(30, 60), rng.randint(30, 60), rng.randint(50, 300) / 10
        turn = rng.randrange(len(CIRCLE))

        def point(i):
            dx, dy = CIRCLE[i % len(CIRCLE)]
            return f"{x + radius * dx:.2f},{y + radius * dy:.2f}"

        arc = f"A {radius:.2f},{radius:.2f} 0.00 0,1"
        if shape == "circle":
            one, other = point(turn), point(turn + len(CIRCLE) // 2)
            path = f"M {one} {arc} {other} {arc} {one}"
        else:
            one, other = point(turn), point(turn + rng.randint(3, len(CIRCLE) // 2 - 3))
            path = f"M {x:.2f},{y:.2f} L {one} {arc} {other} L {x:.2f},{y:.2f}"
    else:
        corners = outline(rng, shape)
        corners = corners if shape == "line" else [*corners, corners[0]]
        inner = range(1, len(corners) - 1)
        cuts = sorted(rng.sample(inner, min(level - 1, len(inner))))
        parts = [corners[a:b + 1] for a, b in zip([0, *cuts], [*cuts, len(corners) - 1])]
        if level >= 4:
            rng.shuffle(parts)
        path = " ".join("M " + " L ".join(part) for part in parts)
    lines, letter, letters = options(rng, shape, [name for name in names if name != shape])
    return Draft(
        f'Which shape does this SVG path draw?\n"{path}"\n{lines}\n{LETTER}',
        program=f"""
            import re
            from math import atan2

            path = "{path}"
            found = sorted(set(re.findall(r"[ML] ([-.0-9]+),([-.0-9]+)", path)))
            points = [(float(x), float(y)) for x, y in found]
            names = {{2: "line", 3: "triangle", 5: "pentagon", 6: "hexagon", 7: "heptagon", 8: "octagon"}}
            if "A" in path:
                shape = "sector" if "L" in path else "circle"
            elif len(points) != 4:
                shape = names[len(points)]
            else:
                cx, cy = sum(x for x, y in points) / 4, sum(y for x, y in points) / 4
                points.sort(key=lambda p: atan2(p[1] - cy, p[0] - cx))
                sides = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(points, points[1:] + points[:1])]
                right_angles = all(abs(s[0] * t[0] + s[1] * t[1]) < 0.01 * (s[0] ** 2 + s[1] ** 2)
                                   for s, t in zip(sides, sides[1:]))
                shape = "rectangle" if right_angles else "kite"
            letters = {letters}
            print(letters[shape])""",
        answer=letter)


# ---------------------------------------------------------------------------------------- tables and counting
@task("object_counting", "BBH", "train", "math", exact(integer), text_solvable=True)
def object_counting(rng, level):
    asked, *others = rng.sample(list(CATEGORIES), 4)
    size, strange = grow(level, 3, 6), 0 if level == 1 else rng.randint(1, level - 1)
    everything = rng.random() < 0.2
    pool = [(item, asked) for item in rng.sample(list(CATEGORIES[asked].items()), rng.randint(3, size))]
    pool += rng.sample([(item, other) for other in others for item in CATEGORIES[other].items()], strange)
    rng.shuffle(pool)
    have = [(one, many, rng.choice((1, 1, 1, 2, 2, 3, 4)), kind) for (one, many), kind in pool]
    shown = [with_article(one) if number == 1 else f"{COUNT_WORDS[number]} {many}"
             for one, many, number, _ in have]
    counted = [(one, many, number) for one, many, number, kind in have if everything or kind == asked]
    total = sum(number for _, _, number in counted)
    what, kind = ("objects in all", None) if everything else (asked.split("/")[1], asked.split("/")[0])
    rows = [(one, owned.split("/")[0], number) for one, _, number, owned in have]
    adding = " + ".join(str(number) for _, _, number in counted)
    return Draft(
        f"I have {enumeration(shown)}. How many {what} do I have?\nAnswer format: a whole number.",
        program=code(f"have = {rows}", "print(sum(number for thing, kind, number in have))" if everything else
                     f'print(sum(number for thing, kind, number in have if kind == "{kind}"))'),
        answer=str(total),
        reasoning=f"{'All of it counts' if everything else f'Of these, {what} are'}: "
                  + ", ".join(f"{one} {number}" for one, _, number in counted) + f". {adding} = {total}.")


def herd(rng, names, sizes):
    """A table {name: {"age": .., "height": .., "weight": ..}} whose numbers differ within each column."""
    columns = [rng.sample(range(low, high, step), len(names)) for low, high, step in sizes]
    return {name: dict(zip(("age", "height", "weight"), values)) for name, *values in zip(names, *columns)}


# column -> (unit, more, less, most, least)
MEASURES = {"age": ("years", "older", "younger", "oldest", "youngest"),
            "height": ("cm", "taller", "shorter", "tallest", "shortest"),
            "weight": ("kg", "heavier", "lighter", "heaviest", "lightest")}


def table_question(rng, level, kind, animals):
    """-> (question, right answer, wrong ones of the same sort, python for `found`, reasoning)."""
    column = rng.choice(list(MEASURES))
    unit, more, _, most, least = MEASURES[column]
    values = {name: row[column] for name, row in animals.items()}
    shown = ", ".join(f"{name} {value}" for name, value in values.items())
    ranked = sorted(values, key=values.get)
    ask = rng.choice(("extreme", "count", "rank", "column", "initial"))
    if ask == "extreme":
        top = rng.random() < 0.5
        right = ranked[-1 if top else 0]
        return (f"Which {kind} is the {most if top else least}?", right, None,
                f'{"max" if top else "min"}(animals, key=lambda name: animals[name]["{column}"])',
                f"The {column}s are {shown}. The {'largest' if top else 'smallest'} is that of {right}")
    if ask == "rank" and rng.random() < 0.5:
        k = rng.randrange(1, len(ranked) - 1)
        return (f"Which {kind} is the {ORDINALS[k]} {least}?", ranked[k], None,
                f'sorted(animals, key=lambda name: animals[name]["{column}"])[{k}]',
                f"From the {least} to the {most}: {', '.join(ranked)}. Number {k + 1} is {ranked[k]}")
    if ask == "rank":
        k, names = rng.randrange(len(ranked)), sorted(animals)
        return (f"Which name of a {kind} is the {ORDINALS[k]} in alphabetical order?", names[k], None,
                f"sorted(animals)[{k}]",
                f"In alphabetical order: {', '.join(names)}. Number {k + 1} is {names[k]}")
    if ask == "count":
        bound = rng.choice(list(values.values()))
        condition = f"more than {bound} years old" if column == "age" else f"{more} than {bound} {unit}"
        test, fits = f'row["{column}"] > {bound}', [name for name in animals if values[name] > bound]
        if level >= 4:
            other = rng.choice([name for name in MEASURES if name != column])
            limit = rng.choice([row[other] for row in animals.values()]) + 1
            unit, _, less, _, _ = MEASURES[other]
            condition += (f" and less than {limit} years old" if other == "age" else
                          f" and {less} than {limit} {unit}")
            test += f' and row["{other}"] < {limit}'
            fits = [name for name in fits if animals[name][other] < limit]
        right = len(fits)
        return (f"How many {kind}s are {condition}?", right, [n for n in range(7) if n != right],
                f"sum({test} for row in animals.values())",
                f"This is true of {enumeration(fits) if fits else 'none'}, so the number is {right}")
    if ask == "column":
        total = rng.random() < 0.5
        right = sum(values.values()) if total else max(values.values()) - min(values.values())
        near = [right + shift for shift in (-10, -5, -3, -2, -1, 1, 2, 3, 5, 10) if right + shift > 0]
        if total:
            return (f"What do you get if you add up the {column}s of all {kind}s?", right, near,
                    f'sum(row["{column}"] for row in animals.values())',
                    f"The {column}s are {shown}: {' + '.join(map(str, values.values()))} = {right}")
        return (f"By how many {unit} do the largest and smallest {column} of a {kind} differ?", right, near,
                f'max(values := [row["{column}"] for row in animals.values()]) - min(values)',
                f"The {column}s are {shown}: {values[ranked[-1]]} - {values[ranked[0]]} = {right}")
    name = rng.choice(list(animals))
    near = dict.fromkeys(value for row in animals.values() for value in row.values() if value != values[name])
    return (f"What is the {column} of the {kind} whose name starts with {name[0]}?", values[name], list(near),
            f'next(row["{column}"] for name, row in animals.items() if name[0] == "{name[0]}")',
            f"That is {name}, with {column} {values[name]}")


def table_row(name, row):
    return ", ".join([name, *map(str, row.values())])


@task("penguins_in_a_table", "BBH", "test", "search", exact(choice), text_solvable=True)
def penguins_in_a_table(rng, level):
    names = rng.sample(PENGUINS, 7)
    pool = herd(rng, names[:6], ((3, 20, 1), (40, 110, 5), (4, 25, 1)))
    tables = {"penguin": {name: pool[name] for name in names[:4]}}
    if level >= 3:
        tables["giraffe"] = herd(rng, rng.sample(GIRAFFES, 4), ((2, 25, 1), (350, 600, 10), (600, 1500, 20)))
    kind = rng.choice(("penguin", "penguin", list(tables)[-1]))
    shown = "\n".join(f"Table of {species}s:\nname, age (years), height (cm), weight (kg)\n"
                      + "\n".join(table_row(name, row) for name, row in animals.items())
                      for species, animals in tables.items())
    steps = [f"animals = {tables[kind]}"]
    changes = []
    for edit in rng.sample(("add", "delete", "change"), (0, 1, 1, 2, 3)[level - 1]):
        penguins = tables["penguin"]
        if edit == "add":
            name = names[4]
            penguins[name] = pool[name]
            changes.append(f"A penguin is added to its table: {table_row(name, pool[name])}.")
            step = f'animals["{name}"] = {pool[name]}'
        elif edit == "delete":
            name = rng.choice(list(penguins))
            del penguins[name]
            changes.append(f"The penguin {name} is deleted.")
            step = f'del animals["{name}"]'
        else:
            name, age = rng.choice(list(penguins)), pool[names[5]]["age"]
            penguins[name] = {**penguins[name], "age": age}
            changes.append(f"The age of {name} is corrected to {age}.")
            step = f'animals["{name}"]["age"] = {age}'
        if kind == "penguin":
            steps.append(step)
    animals = tables[kind]
    question, right, wrong, python, why = table_question(rng, level, kind, animals)
    if wrong is None:  # names: those of the table first
        wrong = [name for name in animals if name != right]
        wrong += [name for name in (PENGUINS if kind == "penguin" else GIRAFFES) if name not in animals]
        wrong = wrong[:4]
    lines, letter, letters = options(rng, right, rng.sample(wrong, 4))
    changed = " ".join(changes) + "\n" if changes else ""
    now = f"The penguins now: {'; '.join(table_row(name, row) for name, row in animals.items())}. "
    return Draft(
        f"{shown}\n{changed}{question}\n{lines}\n{LETTER}",
        program="\n".join(steps) + f"\nfound = {python}\nletters = {letters}\nprint(letters[str(found)])",
        answer=letter,
        reasoning=(now if changes and kind == "penguin" else "") + f"{why}: {letter}.")


@task("reasoning_about_colored_objects", "BBH", "train", "spatial", exact(choice), text_solvable=True)
def reasoning_about_colored_objects(rng, level):
    count = grow(level, 3, 7)
    asks = ("colour", "is there", "neither", "beside", "furthest", "beside colour", "remain")
    ask = rng.choice(asks[:grow(level, 2, 7)])
    colours = rng.sample(COLOURS, 4)
    things = rng.sample(list(THINGS), count)
    if ask == "remain":
        things = rng.choices(things[:3], k=count)
    row = [(thing, rng.choice(colours)) for thing in things]
    thing, colour = rng.choice(row)
    i = things.index(thing)
    seen = f"The row is: {', '.join(f'{c} {t}' for t, c in row)}."
    numbers = [str(n) for n in range(8)]
    if ask == "neither":
        first, second = rng.sample(colours, 2)
        fits = [f"{c} {t}" for t, c in row if c not in (first, second)]
        question, right, pool = f"How many things are neither {first} nor {second}?", str(len(fits)), numbers
        found = f'sum(colour not in ("{first}", "{second}") for thing, colour in row)'
        why = f"Neither: {', '.join(fits) or 'none'}. That makes {right}"
    elif ask == "remain":
        fits = [f"{c} {t}" for t, c in row if t == thing and c != colour]
        question = f"If all {colour} things are taken away, how many {THINGS[thing]} remain?"
        right, pool = str(len(fits)), numbers
        found = f'sum(thing == "{thing}" and colour != "{colour}" for thing, colour in row)'
        why = f"What remains of the {THINGS[thing]}: {', '.join(fits) or 'nothing'}. That makes {right}"
    elif ask == "is there":
        truth = rng.random() < 0.5
        if not truth:
            colour = rng.choice([c for c in COLOURS if c != colour])
        question, right, pool = f"Is the {thing} {colour}?", yes_no(truth).lower(), ["yes", "no"]
        found = f'"yes" if ("{thing}", "{colour}") in row else "no"'
        why = f"The {thing} is {row[i][1]}: {right}"
    else:
        pool, named = COLOURS, [c for _, c in row]
        pairs = [(k, k + step) for k in range(count) for step in (1, -1) if 0 <= k + step < count]
        if ask == "beside colour":
            pairs = [(k, other) for k, other in pairs if named.index(named[k]) == k]
        i, j = rng.choice(pairs)
        where, sign = ("to the right of", "+ 1") if j > i else ("to the left of", "- 1")
        if ask == "beside":
            question = f"What is the colour of the thing directly {where} the {things[i]}?"
            found = f'row[[thing for thing, colour in row].index("{things[i]}") {sign}][1]'
        elif ask == "beside colour":
            question = f"What is the colour of the thing directly {where} the leftmost {named[i]} thing?"
            found = f'row[[colour for thing, colour in row].index("{named[i]}") {sign}][1]'
        elif ask == "furthest":
            i = rng.choice([k for k in range(count) if 2 * k != count - 1])
            j = 0 if 2 * i > count - 1 else count - 1
            question = f"What is the colour of the thing furthest from the {things[i]}?"
            found = f"row[max(range({count}), key=lambda k: abs(k - {i}))][1]"
        else:
            j = things.index(thing)
            question, found = f"What is the colour of the {thing}?", f'dict(row)["{thing}"]'
        right = row[j][1]
        why = f"This is the {things[j]}, which is {right}"
    near = [c for c in dict.fromkeys(c for _, c in row) if c != right] if pool is COLOURS else []
    others = [option for option in pool if option != right and option not in near]
    wrong = near + rng.sample(others, min(len(others), max(0, 6 - len(near))))
    lines, letter, letters = options(rng, right, wrong)
    shown = enumeration([with_article(f"{c} {t}") for t, c in row])
    return Draft(
        f"On a table lie, in a row from left to right, {shown}. {question}\n{lines}\n{LETTER}",
        program=f"row = {row}\nfound = {found}\nletters = {letters}\nprint(letters[str(found)])",
        answer=letter,
        reasoning=f"{seen} {why}: {letter}.")
