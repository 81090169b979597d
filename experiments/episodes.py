"""The logged episodes of an evaluation: what became of them, and which ones show a reader what happened.

An episode is a line of FILE.episodes.jsonl as evaluate.py writes it (or of before.jsonl and after.jsonl in a
run folder): the question's name, the turns, answer, verdict and why it stopped.
"""
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable

from chat import ANSWER_FORMATS
from tasks import TASKS, extract_answer

STAGES = {"base": "untrained", "sft": "after SFT", "grpo": "after RL"}  # folder: name
TITLES = {"held-out": "Unseen tasks", "training": "New questions of the training tasks"}
LENGTH = 600  # characters of an example, as nearly as there is one
LONGEST_PART = 1200  # characters of a question, turn or output; longer ones are cut in the middle
# Right before, right after -> kind. After comes None where it has not been measured yet.
KINDS = {(False, True): "made right", (False, False): "still wrong", (True, False): "lost",
         (True, True): "right both times", (False, None): "wrong so far", (True, None): "right so far"}


def question_of(line: dict):
    """The question of a logged episode."""
    return TASKS[line["task"]].question(line["seed"], line["level"])


def last_words(line: dict) -> str:
    """The text of the last turn; a prompt that left no room has none."""
    return line["turns"][-1]["text"] if line["turns"] else ""


def loosely_right(task: str, question, text: str) -> bool:
    """Is any of the closing words of a text right? A generous rule: the format may never have been learned.

    Tried: the answer stated in any format, the last line, what follows its last "is", ":" or "=", its last
    word, and the last option letter.
    """
    lines = [line.strip() for line in text.strip().splitlines() if line.strip(" `")]
    last = lines[-1] if lines else ""
    options = re.findall(r"\(([A-Z])\)|\b([A-Z])\)", text)
    tried = [*(extract_answer(text, kind) or "" for kind in ANSWER_FORMATS), last,
             re.split(r"\bis\b|:|=", last)[-1], (last.split() or [""])[-1]]
    tried += [f"({''.join(options[-1])})"] if options else []
    return any(TASKS[task].check(question, found) for word in tried
               for found in {word.strip(), word.strip(" .*`\"'$")} if found)


def wrote_program(line: dict) -> bool:
    """Did a program of this episode run, well or not?"""
    return any(turn["status"] for turn in line["turns"])


def occurrences(names: Iterable) -> list[int]:
    """The how-manieth of its name each one is: a b a -> 1 1 2."""
    seen, places = Counter(), []
    for name in names:
        seen[name] += 1
        places.append(seen[name])
    return places


def outcome(line: dict) -> str:
    """What became of an episode, in a few words: where right answers come from, and where it goes wrong."""
    programs = [turn for turn in line["turns"] if turn["status"]]
    ran = [turn for turn in programs if turn["status"] == "ok"]
    if line["correct"]:
        return "right, with a program that ran" if ran else "right, in words"
    if line["stop"] != "answer":
        return {"void": "no answer: stopped without one", "length": "no answer: too long",
                "calls": "no answer: too many programs"}[line["stop"]]
    if not ran:
        return "wrong, its programs failed" if programs else "wrong, in words"
    same = (line["answer"] or "").split() == (ran[-1]["output"] or "").split()
    return "wrong, as its program printed" if same else "wrong, though its program printed something else"


def example_episodes(found: dict) -> list[tuple[str, dict]]:
    """(heading, episode): a question that training won, one that it lost, one wrong though its program ran.

    found: as results.evaluations gives it. By rule: of all that fit, the unseen tasks first, then those with
    a program, then the one whose length is nearest to LENGTH characters.
    """
    pairs = []  # (order, name of the earlier stage, its episode, the last stage's)
    for order, selection in enumerate(TITLES):
        if selection in found["grpo"]:
            after = found["grpo"][selection]["interpreter"]["episodes"]
            for stage in ("sft", "base"):
                earlier = found[stage][selection]["interpreter"]["episodes"]
                before = {line["number"]: line for line in earlier}
                pairs += [(order, STAGES[stage], before[line["number"]], line) for line in after]

    def pick(heading: str, fits: Callable[[dict, dict], bool]) -> list[tuple[str, dict]]:
        fitting = [(order, not wrote_program(new), abs(len(question_of(new).prompt) + characters(new)
                                                       - LENGTH), i, name, new)
                   for i, (order, name, old, new) in enumerate(pairs) if fits(old, new)]
        return [(heading.format(best[4]), best[5]) for best in sorted(fitting, key=lambda one: one[:4])[:1]]

    def ran(line: dict) -> bool:
        return line["stop"] == "answer" and any(turn["status"] == "ok" and (turn["output"] or "").strip()
                                                for turn in line["turns"])

    last = STAGES["grpo"]
    return [*pick(f"Wrong {{}}, right {last}", lambda old, new: new["correct"] and not old["correct"]),
            *pick(f"Right {{}}, wrong {last}", lambda old, new: old["correct"] and not new["correct"]),
            *pick("A program that runs, and a wrong answer",
                  lambda old, new: not new["correct"] and ran(new))]


def one_question(found: dict) -> list[tuple[str, dict]]:
    """(stage, episode) of one question at every stage, found as above. By rule: of the unseen tasks, if there
    are any; if there is one, right by a program after RL and wrong before; then the one whose episodes are
    nearest to LENGTH characters each."""
    selection = next(name for name in TITLES if name in found["grpo"])
    stages = {stage: {line["number"]: line for line in selections[selection]["interpreter"]["episodes"]}
              for stage, selections in found.items()}

    def order(number: int) -> tuple:
        all_of_it = [lines[number] for lines in stages.values()]
        return (not all_of_it[-1]["correct"], not wrote_program(all_of_it[-1]), all_of_it[0]["correct"],
                abs(sum(map(characters, all_of_it)) - len(stages) * LENGTH), number)

    chosen = min(stages["grpo"], key=order)
    return [(STAGES[stage], lines[chosen]) for stage, lines in stages.items()]


def pairs(before: list[dict], after: list[dict], most: int) -> dict[str, dict]:
    """Held-out questions before and after RL. Kind -> {"count", "shown": the most telling ones first}.

    before, after: before.jsonl and after.jsonl, in each the questions first; `after` may be empty. most:
    characters of one kind's questions, as JSON.
    """
    prompts = before[0]["settings"]["questions"]
    old, new = ({line["number"]: line for line in lines[1:]} for lines in (before, after))
    found: dict[str, list] = {kind: [] for kind in KINDS.values()}
    for number in sorted(old.keys() & new.keys() if new else old):
        both = [lines[number] for lines in (old, new) if lines]
        found[KINDS[old[number]["correct"], new[number]["correct"] if new else None]].append(
            {"task": both[0]["task"], "level": both[0]["level"], "question": cut(prompts[number]),
             "sides": [side(line) for line in both]})
    return {kind: {"count": len(some), "shown": within(telling_first(some), most)}
            for kind, some in found.items() if some}


def telling_first(some: list[dict]) -> list[dict]:
    """Pairs in the order of what they tell: words before and a program after, where a program is needed; then
    one of each task in turn; then by how near their length is to LENGTH."""
    def tells(pair: dict) -> tuple:
        programs = [wrote_program(side) for side in pair["sides"]]
        return programs[0], not programs[-1], pair["task"] in TASKS and TASKS[pair["task"]].text_solvable

    def distance(pair: dict) -> int:
        return abs(sum(characters(side) for side in pair["sides"]) + len(pair["question"]) - LENGTH)

    ordered = sorted(some, key=distance)
    names = [(tells(pair), pair["task"]) for pair in ordered]  # those that tell as much, about the same task
    places = zip((told for told, _ in names), occurrences(names), range(len(ordered)))
    return [ordered[i] for *_, i in sorted(places)]


def within(ordered: list[dict], most: int) -> list[dict]:
    """The first ones, as many as fit into `most` characters of JSON; one at least."""
    sizes = itertools.accumulate(len(json.dumps(pair)) for pair in ordered)
    return ordered[:max(1, sum(size <= most for size in sizes))]


def side(line: dict) -> dict:
    """An episode as one of the two sides of a pair."""
    return {"right": line["correct"], "outcome": outcome(line), "answer": line["answer"], "turns": [
        {"text": cut(turn["text"]), "output": cut(turn["output"] or ""), "status": turn["status"]}
        for turn in line["turns"]]}


def cut(text: str) -> str:
    """A text without its middle, if it is long."""
    half = LONGEST_PART // 2
    if len(text) <= LONGEST_PART:
        return text
    return f"{text[:half]}\n[.. {len(text) - LONGEST_PART} characters ..]\n{text[-half:]}"


def characters(line: dict) -> int:
    """How long an episode is, without its question."""
    return sum(len(turn["text"]) + len(turn["output"] or "") for turn in line["turns"])


def as_code_block(line: dict) -> str:
    """An episode as it looks to a reader, in a code block of markdown; long parts are cut in the middle."""
    question = question_of(line)
    parts = [f"question ({line['task']}, level {line['level']}): {cut(question.prompt)}"]
    for turn in line["turns"]:
        parts.append(f"policy: {cut(turn['text'])}")
        if turn["output"] is not None:
            parts.append(f"interpreter ({turn['status']}): {cut(turn['output'])}")
    right = question.data.get("answer")
    said = "right" if line["correct"] else "wrong" + (f"; right would be {right}" if right else "")
    parts.append(f"-> {said}" + ("" if line["stop"] == "answer" else f" (stopped: {line['stop']})"))
    # What the model wrote can end neither the block nor the section.
    text = "\n".join(parts).replace("````", "` ` ` `").replace("<!--", "<! --")
    return f"````\n{text}\n````"
