"""Guessing: how often is an answer right that comes from the surface of a question alone?

Three cheap learners look at training questions and are judged on others:

    words     naive Bayes from the words, pairs of words and lengths of a question to its answer
    options   naive Bayes over the options: which looks like a right one (its words, its length, how many of
              its words stand in the other options and in the question)?
    numbers   the answer is the n-th number of the question, or one more or less; for each question sentence
              the n that was right most often

None of them can do what a question asks for. Where one of them is right far more often than chance, a model
can get rewards without learning the task.
"""
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from math import log

from tasks import Question, lettered

Pairs = list[tuple[Question, str]]  # questions and their right answers


def body(question: Question) -> str:
    """The question without its format line and its options."""
    return re.split(r"\n(?:\(A\) |Answer format: )", question.prompt)[0].casefold()


def surface(text: str) -> set[str]:
    """Words, pairs of words, how often each occurs, and the lengths and different letters of strings."""
    words = re.findall(r"[\w.'-]*\w", text)
    counts = Counter(words)
    found = {*words, *map(" ".join, zip(words, words[1:])), *(f"{word} x{n}" for word, n in counts.items())}
    quoted = re.findall(r'"([^"]*)"', text)
    return found | {f"string {i}: {len(q)} {len(set(q))}" for i, q in enumerate(quoted)}


class Bayes:
    """Naive Bayes over sets of features, with one added to every count."""

    def __init__(self, examples: Iterable[tuple[set[str], str]]):
        self.classes, self.features = Counter(), defaultdict(Counter)
        for features, label in examples:
            self.classes[label] += 1
            self.features[label].update(features)
        self.known = Counter(feature for counts in self.features.values() for feature in counts)

    def score(self, features: set[str], label: str) -> float:
        """The logarithm of prior times likelihood, up to a constant."""
        seen, count = self.features[label], self.classes[label]
        return log(count) + sum(log((seen[feature] + 0.5) / (count + 1))
                                for feature in features if feature in self.known)

    def best(self, features: set[str]) -> str:
        """The most probable label."""
        return max(self.classes, key=lambda label: self.score(features, label))


def by_words(train: Pairs) -> Callable[[Question], str]:
    """Question -> answer, from words."""
    common = {answer for answer, _ in Counter(answer for _, answer in train).most_common(30)}
    bayes = Bayes((surface(body(question)), answer) for question, answer in train if answer in common)
    return lambda question: bayes.best(surface(body(question)))


def options_of(question: Question) -> dict[str, set[str]]:
    """'(A)' -> what its text looks like beside the others."""
    texts = {f"({letter})": text for letter, text in lettered(question.prompt).items()}
    words = {letter: set(re.findall(r"\w+", text.casefold())) for letter, text in texts.items()}
    asked = set(re.findall(r"\w+", body(question)))
    shared = {letter: sum(len(own & other) for other in words.values()) for letter, own in words.items()}
    here = {letter: len(own & asked) for letter, own in words.items()}

    def rank(letter: str, values: dict[str, int]) -> str:
        return f"{sum(value > values[letter] for value in values.values())}"

    sizes = {letter: len(text) for letter, text in texts.items()}
    return {letter: {*own, f"shared {rank(letter, shared)}", f"here {rank(letter, here)}",
                     f"long {rank(letter, sizes)}"} for letter, own in words.items()}


def by_options(train: Pairs) -> Callable[[Question], str]:
    """Question -> letter, from the look of the options."""
    bayes = Bayes((features, "right" if letter == answer else "wrong") for question, answer in train
                  for letter, features in options_of(question).items())

    def guess(question: Question) -> str:
        options = options_of(question)
        return max(options, key=lambda letter: bayes.score(options[letter], "right")
                   - bayes.score(options[letter], "wrong"))
    return guess


def by_numbers(train: Pairs) -> Callable[[Question], str]:
    """Question -> number, from its place among the numbers of the question."""
    def sentence(question: Question) -> str:
        return " ".join(re.findall(r"[a-z]+", re.split(r"[.:\n]\s", body(question))[-1])[:4])

    def candidates(question: Question) -> dict[tuple[int, int], str]:
        found = re.findall(r"(?<![\w.])-?[0-9]{1,9}(?![\w.]*\w)", body(question))
        numbers = list(map(int, found))
        places = {i: n for i, n in enumerate(numbers[:8])} | {~i: n for i, n in enumerate(numbers[:-9:-1])}
        return {(place, more): str(number + more) for place, number in places.items() for more in (-1, 0, 1)}

    hits = defaultdict(Counter)
    for question, answer in train:
        fitting = (rule for rule, number in candidates(question).items() if number == answer)
        hits[sentence(question)].update(fitting)

    def guess(question: Question) -> str:
        (rule, _), = hits[sentence(question)].most_common(1) or [((0, 0), 0)]
        return candidates(question).get(rule, "0")
    return guess


def learned(train: Pairs, judged: Pairs) -> float:
    """The share of answers that the best of the learners gets right."""
    several = all(re.search(r"^\(B\) ", question.prompt, re.MULTILINE) for question, _ in train)
    guessers = [learner(train) for learner in ([by_options] if several else [by_words, by_numbers])]
    return max(sum(guess(question) == answer for question, answer in judged) / len(judged)
               for guess in guessers)
