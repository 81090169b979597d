"""The results page of `r1ci.py run`: what training added, at what cost, with which episodes. Markdown and a picture.

    python results.py runs/tiny/story                     writes RESULTS.md into the run folder
    python results.py runs/SmolLM2/story --write RESULTS.md     and a section into that file

Everything is read from the run folder (evaluations, metrics, episodes, the books in story.json): written again, the page
comes out the same. In a shared file only the section between its own two comment lines is replaced.
"""
import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from tools import plan
from evaluate import compare, interval, percent
from models import ModelError, run_name
from experiments.report import curves
from runs import RunError, command, fail, read_jsonl, settings_of_run, write_section, write_text
from tasks import TASKS, TaskError, extract_answer, select

STAGES = {"base": "untrained", "sft": "after SFT", "grpo": "after RL"}  # folder: name
TITLES = {"held-out": "Unseen tasks", "training": "New questions of the training tasks"}
ROWS: list[tuple[str, Callable[[dict], str]]] = [  # columns of the main tables; a new one is a line here
    ("accuracy (95%, more questions)", lambda r: f"**{percent(r['accuracy'])}** ({interval(r['low'], r['high'])})"),
    ("(95%, more tasks)", lambda r: f"({interval(r['tasks_low'], r['tasks_high'])})" if len(r["tasks"]) > 1 else "-"),
    ("loosely", lambda r: percent(r["loosely"])),
    ("code, where needed", lambda r: percent(r["code_on_code_needed"])),
    ("code, elsewhere", lambda r: percent(r["code_on_text_solvable"])),
    ("failed programs", lambda r: percent(r["code_errors"])),
    ("self-checks", lambda r: percent(r["self_checks"])),
    ("no answer", lambda r: percent(1 - r["stops"]["answer"] / r["questions"])),
    ("tokens", lambda r: f"{r['tokens']:.0f}"),
]
CURVES = (("sft", "loss", "SFT: loss per token"), ("grpo", "accuracy", "RL: accuracy on training questions"),
          ("grpo", "calls", "RL: programs per episode"), ("grpo", "code_errors", "RL: programs that failed"),
          ("grpo", "dead_groups", "RL: dead groups"), ("grpo", "unanswered", "RL: episodes without answer"))
PAPER = """### Beside the paper

The paper's figures (arXiv 2505.21668, from its second version on), **of other and far larger models** on its own
37 unseen tasks (which ones is not published in a form that could be checked; ours are our choice), to say how large
an effect it reports:

| the paper's | accuracy on its 37 unseen tasks |
|---|---|
| R1-CI-14B (Qwen2.5-14B after SFT and GRPO) | 44.1% before, 72.4% after |
| GPT-4o, text only | 58.6% |
| GPT-4o with Code Interpreter | 70.9% |
| GRPO's part, mean of 3B, 7B and 14B | +3.4 points without curriculum, +9.3 with |
"""


# --------------------------------------------------------------------------------------------------- reading
def loosely(task: str, question, text: str) -> bool:
    """Is any of the closing words of a text right? A generous rule, for a model that was never taught the format.

    Tried: the stated answer, the last line, what follows its last "is", ":" or "=", its last word, the last option letter.
    """
    lines = [line.strip() for line in text.strip().splitlines() if line.strip(" `")]
    last = lines[-1] if lines else ""
    options = re.findall(r"\(([A-Z])\)|\b([A-Z])\)", text)
    tried = [extract_answer(text, "angle") or "", last, re.split(r"\bis\b|:|=", last)[-1], (last.split() or [""])[-1]]
    tried += [f"({''.join(options[-1])})"] if options else []
    return any(TASKS[task].check(question, found) for word in tried
               for found in {word.strip(), word.strip(" .*`\"'$")} if found)


def evaluations(folder: Path) -> dict[str, dict[str, dict[str, dict]]]:
    """stage -> selection -> mode -> summary, with its episodes as they were logged and the share that is loosely right."""
    found: dict = {}
    for path in sorted((folder / "evaluations").glob("*/*.json")):
        mode, _, selection = path.stem.partition("-")
        result = json.loads(path.read_text("utf-8"))
        lines = {line["number"]: line for line in read_jsonl(path.with_suffix(".episodes.jsonl"))[1:]}
        result["episodes"] = [lines[number] for number in sorted(lines)]  # a batch may be logged twice after a kill
        right = [line["correct"] or loosely(line["task"], question_of(line), last_words(line)) for line in lines.values()]
        result["loosely"] = sum(right) / max(1, len(right))
        found.setdefault(path.parent.name, {}).setdefault(selection, {})[mode] = result
    return {stage: found[stage] for stage in STAGES if stage in found}


def last_words(line: dict) -> str:
    """The text of the last turn; a prompt that left no room has none."""
    return line["turns"][-1]["text"] if line["turns"] else ""


def question_of(line: dict):
    """The question of a logged episode."""
    return TASKS[line["task"]].question(line["seed"], line["level"])


# ---------------------------------------------------------------------------------------------------- tables
def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def main_tables(found: dict) -> str:
    """Each mode at each stage, for each selection of tasks."""
    parts = []
    for selection, title in TITLES.items():
        rows = [[f"{STAGES[stage]}, {mode}", *(cell(result) for _, cell in ROWS)]
                for stage, selections in found.items() for mode, result in selections.get(selection, {}).items()]
        if rows:
            one = next(iter(found.values()))[selection]["interpreter"]
            parts.append(f"### {title}: {len(one['tasks'])} tasks, {one['questions']} questions\n\n"
                         + markdown(["", *(name for name, _ in ROWS)], rows))
    return "\n\n".join(parts)


def findings(found: dict) -> str:
    """Paired comparisons on the same questions, in words."""
    def said(selection: str, before: tuple[str, str]) -> str:
        old, new = found[before[0]][selection][before[1]], found["grpo"][selection]["interpreter"]
        gap = compare(new["each"], old["each"])
        apart = "separate" if old["high"] < new["low"] or new["high"] < old["low"] else "not separate"
        more = "more tasks like these" if len(new["tasks"]) > 1 else "more questions"
        return (f"- {TITLES[selection]}: {STAGES['grpo']} (interpreter mode) against {STAGES[before[0]]} ({before[1]} mode): "
                f"**{100 * gap['difference']:+.1f} points** (95%, {more}: {100 * gap['low']:+.1f} to "
                f"{100 * gap['high']:+.1f}); better at {gap['better']}, worse at {gap['worse']} questions, sign test "
                f"p = {gap['p']:.2g}; the two intervals for more questions are {apart}.")

    parts = []
    for selection in found["grpo"]:
        base = found["base"][selection]
        best = max(base, key=lambda mode: base[mode]["accuracy"])
        parts += [said(selection, ("base", best)), said(selection, ("sft", "interpreter"))]
        loose = max(base, key=lambda mode: base[mode]["loosely"])
        parts.append(f"- {TITLES[selection]}: how much of this is only the format? Read loosely, the untrained model is right "
                     f"in at most {percent(base[loose]['loosely'])} ({loose} mode), the trained one in "
                     f"{percent(found['grpo'][selection]['interpreter']['loosely'])}.")
    return "\n".join(parts)


def breakdown(found: dict, kind: str, selection: str) -> str:
    """Interpreter mode by suite, ability or task."""
    results = {stage: selections[selection]["interpreter"][kind] for stage, selections in found.items()}
    names = list(next(iter(results.values())))
    rows = [[name, str(next(iter(results.values()))[name]["questions"]),
             *(f"{percent(parts[name]['accuracy'])} ({interval(parts[name]['low'], parts[name]['high'])})"
               for parts in results.values()), percent(results["grpo"][name]["code"])]
            for name in (sorted(names) if kind == "tasks" else names)]
    return markdown([kind, "questions", *(STAGES[stage] for stage in results), "code after RL"], rows)


def outcome(line: dict) -> str:
    """What became of a logged episode, in a few words: where right answers come from, and where it goes wrong."""
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


def outcomes(found: dict, selection: str) -> str:
    """Shares of the outcomes at each stage, interpreter mode."""
    counts = {stage: Counter(map(outcome, selections[selection]["interpreter"]["episodes"]))
              for stage, selections in found.items()}
    names = sorted(set().union(*counts.values()), key=lambda name: (not name.startswith("right"), name))
    rows = [[name, *(percent(one[name] / one.total()) for one in counts.values())] for name in names]
    return markdown(["what became of the questions", *(STAGES[stage] for stage in counts)], rows)


def costs(folder: Path, story: dict, found: dict) -> str:
    """Seconds, tokens and memory of each phase."""
    metrics = {stage: read_jsonl(folder / stage / "metrics.jsonl") for stage in ("sft", "grpo")}

    def total(stage: str, name: str) -> float:
        return sum(line.get(name, 0) for line in metrics[stage])

    def written(stage: str) -> str:
        return f"{sum(r['tokens'] * r['questions'] for s in found[stage].values() for r in s.values()):,.0f} written"

    tokens = {"base": written("base"), "after-sft": written("sft"), "after-grpo": written("grpo"),
              "sft": f"{total('sft', 'tokens'):,.0f} read, {total('sft', 'trained_tokens'):,.0f} of them trained",
              "grpo": f"{total('grpo', 'sampled_tokens'):,.0f} written"}
    everything = sum(book["seconds"] for book in story["phases"].values())
    rows = [[name, f"{book['seconds']:.0f}", percent(book["seconds"] / everything), tokens.get(name, ""),
             f"{book['peak_gib']:.1f}"] for name, book in story["phases"].items()]
    rows.append(["all", f"{everything:.0f}", "100%", "", ""])
    step = {name: total("grpo", f"seconds_{name}") for name in ("rollout", "sandbox", "training")}
    whole = max(1e-9, step["rollout"] + step["training"])
    rate = total("grpo", "sampled_tokens") / max(1e-9, step["rollout"])
    config = argparse.Namespace(**settings_of_run(folder / "grpo"))
    return (markdown(["phase", "seconds", "share", "tokens", "peak so far, GiB"], rows)
            + f"\n\nOf the time of RL ({config.algorithm.upper()}), {percent(step['rollout'] / whole)} was sampling "
            f"({rate:.0f} tokens/s), {percent(step['training'] / whole)} training; {percent(step['sandbox'] / whole)} was "
            f"waiting for programs, which ran for {total('grpo', 'program_seconds'):.0f} s in all. {planned(config)}")


def planned(config: argparse.Namespace) -> str:
    """What `r1ci.py plan` says about the memory of an RL run with these settings, in a sentence."""
    try:
        parts = plan.memory(plan.shape_of(config.model, config.layers), plan.setup_of(config))
    except ModelError:
        return ""
    parts["always"].pop("CUDA context")
    return f"Planned peak of RL (without the program itself): {plan.peak(parts) / plan.GIB:.1f} GiB."


# -------------------------------------------------------------------------------------------------- episodes
def chosen(found: dict) -> list[tuple[str, dict]]:
    """(heading, logged episode): one question that training won, one that it lost, and one that fails although its
    program ran. By rule: of all that fit, the unseen tasks first, then those with a program, then the one whose length
    is nearest to 600 characters."""
    pairs = []  # (order, name of the earlier stage, its episode, the last stage's)
    for order, selection in enumerate(TITLES):
        if selection in found["grpo"]:
            after = found["grpo"][selection]["interpreter"]["episodes"]
            for stage in ("sft", "base"):
                before = {line["number"]: line for line in found[stage][selection]["interpreter"]["episodes"]}
                pairs += [(order, STAGES[stage], before[line["number"]], line) for line in after]

    def pick(heading: str, fits: Callable[[dict, dict], bool]) -> list[tuple[str, dict]]:
        fitting = [(order, not any(turn["status"] for turn in new["turns"]), abs(length(new) - 600), i, name, new)
                   for i, (order, name, old, new) in enumerate(pairs) if fits(old, new)]
        return [(heading.format(best[4]), best[5]) for best in sorted(fitting, key=lambda one: one[:4])[:1]]

    def ran(line: dict) -> bool:
        return line["stop"] == "answer" and any(turn["status"] == "ok" and (turn["output"] or "").strip()
                                                for turn in line["turns"])

    last = STAGES["grpo"]
    return [*pick(f"Wrong {{}}, right {last}", lambda old, new: new["correct"] and not old["correct"]),
            *pick(f"Right {{}}, wrong {last}", lambda old, new: old["correct"] and not new["correct"]),
            *pick("A program that runs, and a wrong answer", lambda old, new: not new["correct"] and ran(new))]


def length(line: dict) -> int:
    """Characters of an episode."""
    return len(question_of(line).prompt) + sum(len(turn["text"]) + len(turn["output"] or "") for turn in line["turns"])


def episode(line: dict, most: int = 1200) -> str:
    """An episode as it looks to a reader, in a code block of markdown; long parts are cut in the middle."""
    def cut(text: str) -> str:
        return text if len(text) <= most else f"{text[:most // 2]}\n[.. {len(text) - most} characters ..]\n{text[-most // 2:]}"

    question = question_of(line)
    parts = [f"question ({line['task']}, level {line['level']}): {cut(question.prompt)}"]
    for turn in line["turns"]:
        parts.append(f"policy: {cut(turn['text'])}")
        if turn["output"] is not None:
            parts.append(f"interpreter ({turn['status']}): {cut(turn['output'])}")
    right = question.data.get("answer")
    verdict = "right" if line["correct"] else "wrong" + (f"; right would be {right}" if right else "")
    parts.append(f"-> {verdict}" + ("" if line["stop"] == "answer" else f" (stopped: {line['stop']})"))
    text = "\n".join(parts).replace("````", "` ` ` `").replace("<!--", "<! --")  # can end neither block nor section
    return f"````\n{text}\n````"


# --------------------------------------------------------------------------------------------------- picture
def picture(folder: Path) -> str:
    """The curves as SVG: small panels, each with its range; the points are means where there are many steps."""
    data = {stage: curves(read_jsonl(folder / stage / "metrics.jsonl")) for stage in ("sft", "grpo")}
    panels = [(title, data[stage]["step"], data[stage][field]) for stage, field, title in CURVES if field in data[stage]]
    width, height, columns = 300, 150, 3
    drawn = []
    for i, (title, steps, values) in enumerate(panels):
        left, top = (i % columns) * width, (i // columns) * height
        points = [(step, value) for step, value in zip(steps, values) if value is not None]
        low, high = min(0.0, *(value for _, value in points)), max(value for _, value in points) or 1.0
        last = max(1, points[-1][0])
        line = " ".join(f"{left + 40 + 240 * step / last:.1f},{top + 120 - 85 * (value - low) / (high - low):.1f}"
                        for step, value in points)
        drawn.append(f'<text x="{left + 40}" y="{top + 20}" font-weight="bold">{title}</text>'
                     f'<path d="M{left + 40} {top + 35}V{top + 120}H{left + 280}" fill="none" stroke="#999"/>'
                     f'<polyline points="{line}" fill="none" stroke="#2563eb" stroke-width="1.5"/>'
                     f'<text x="{left + 36}" y="{top + 41}" text-anchor="end">{high:.2g}</text>'
                     f'<text x="{left + 36}" y="{top + 121}" text-anchor="end">{low:.2g}</text>'
                     f'<text x="{left + 280}" y="{top + 134}" text-anchor="end">step {points[-1][0]}</text>')
    rows = -(-len(panels) // columns)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * columns} {height * rows}" '
            f'font-family="sans-serif" font-size="11" fill="#222"><rect width="100%" height="100%" fill="#fff"/>'
            + "".join(drawn) + "</svg>\n")


# ------------------------------------------------------------------------------------------------------- page
def commit() -> str:
    """The commit of this code, if it is a git checkout."""
    try:
        words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def machine() -> str:
    """What ran it, in words."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    return (f"{os.cpu_count()} CPU cores ({platform.machine()}){gpu}; torch {torch.__version__}, "
            f"transformers {transformers.__version__}")


def page(folder: Path, image: str) -> str:
    """The whole page, or section."""
    story = json.loads((folder / "story.json").read_text("utf-8"))
    for name in filter(None, (story["settings"]["tasks"], story["settings"]["test_tasks"])):
        select(name)  # tasks of a file are known from now on
    found = evaluations(folder)
    picked = "\n".join(f"| {name} | {', '.join(f'{key} {value}' for key, value in sizes.items())} |"
                       for name, sizes in story["chosen"].items())
    examples = "\n\n".join(f"**{heading}**\n\n{episode(line)}" for heading, line in chosen(found))
    details = "\n\n".join(
        f"{TITLES[selection]}, interpreter mode:\n\n" + "\n\n".join(
            [outcomes(found, selection), *(breakdown(found, kind, selection) for kind in ("suites", "abilities"))])
        for selection in found["grpo"])
    first = next(iter(found["grpo"]))
    about = story["about"]
    return f"""## {run_name(story['settings']['model'])}, through the whole pipeline

Written by `{story['command']}` (commit {about['commit']}, {about['date']}; {about['machine']}). One run, one seed. Every
evaluation asks the same questions, none of which was trained on; temperature {about['temperature']:g}, levels {about['levels']}.
Loosely: the share that would be right if any closing word of the text counted as the answer (`results.loosely`).

{findings(found)}

{main_tables(found)}

{details}

### Curves

![Loss of SFT; accuracy, programs, failures, dead groups and missing answers of RL]({image})

### Sizes and costs

| phase | chosen |
|---|---|
{picked}

{costs(folder, story, found)}

### Three episodes

{examples}

### Every task

{TITLES[first]}, interpreter mode:

{breakdown(found, "tasks", first)}

{PAPER if story['settings']['test_tasks'] == 'test' else ''}"""


def about(args: argparse.Namespace) -> dict:
    """What a page says about its run; noted when the run begins. args: as evaluate.py would take them."""
    return {"commit": commit(), "date": time.strftime("%Y-%m-%d"), "machine": machine(),
            "temperature": args.temperature, "levels": ", ".join(map(str, args.levels))}


def write(folder: Path, shared: Path | None = None) -> Path:
    """Write RESULTS.md and curves.svg into the run folder, and the section into a shared file; the page's path."""
    path = folder / "RESULTS.md"
    write_text(folder / "curves.svg", picture(folder))
    write_text(path, page(folder, "curves.svg"))
    if shared:
        name = re.sub(r"[^\w.-]+", "-", "-".join(folder.resolve().parts[-2:]))
        image = shared.parent / "docs" / f"curves-{name}.svg"
        image.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "curves.svg", image)
        write_section(shared, f"run {name}", page(folder, f"docs/{image.name}"))
    return path


def main(argv: list[str] | None = None) -> None:
    """Write the page of a finished run again."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run", type=Path, help="folder of r1ci.py run, such as runs/tiny/story")
    parser.add_argument("--write", type=Path, help="put the results into this file, too, as a section of their own")
    args = parser.parse_args(argv)
    if not (args.run / "evaluations" / "grpo").is_dir():
        fail(f"{args.run} is no finished run of `python r1ci.py run`: give its folder, such as runs/tiny/story")
    try:
        print(f"written to {write(args.run, args.write)}")
    except (RunError, TaskError, OSError, KeyError) as error:
        fail(f"{args.run} cannot be read as a finished run: {error!r}")


if __name__ == "__main__":
    command(main)
