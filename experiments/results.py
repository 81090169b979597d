"""The results page of `r1ci.py run`: what training added, at what cost, with which episodes.

    python r1ci.py results runs/tiny/story                      writes RESULTS.md into the run folder
    python r1ci.py results runs/SmolLM2/story --write docs/RESULTS.md      and a section into that file

Everything is read from the run folder (evaluations, metrics, episodes, the books in story.json): written
again, the page comes out the same. In a shared file only the section between its own two comment lines is
replaced.
"""
import argparse
import os
import platform
import re
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

from experiments import episodes
from experiments.report import curves
from runs import (
    Parser,
    UserError,
    check_writable,
    read_json,
    read_jsonl,
    run_name,
    settings_of_run,
    write_text,
    writing,
)
from tasks import select

CURVES = (("sft", "loss", "SFT: loss per token"), ("grpo", "accuracy", "RL: accuracy on training questions"),
          ("grpo", "calls", "RL: programs per episode"), ("grpo", "code_errors", "RL: programs that failed"),
          ("grpo", "dead_groups", "RL: dead groups"), ("grpo", "unanswered", "RL: episodes without answer"))
PAPER = """### Beside the paper

The paper's figures (arXiv 2505.21668, from its second version on), **of other and far larger models** on its
own 37 unseen tasks (which ones is not published in a form that could be checked; ours are our choice), to say
how large an effect it reports:

| the paper's | accuracy on its 37 unseen tasks |
|---|---|
| R1-CI-14B (Qwen2.5-14B after SFT and GRPO) | 44.1% before, 72.4% after |
| GPT-4o, text only | 58.6% |
| GPT-4o with Code Interpreter | 70.9% |
| GRPO's part, mean of 3B, 7B and 14B | +3.4 points without curriculum, +9.3 with |
"""


# -------------------------------------------------------------------------------------------------- reading
def evaluations(folder: Path) -> dict[str, dict[str, dict[str, dict]]]:
    """stage -> selection -> mode -> summary, with its logged episodes and the share that is loosely right."""
    found: dict = {}
    for path in sorted((folder / "evaluations").glob("*/*.json")):
        mode, _, selection = path.stem.partition("-")
        result = read_json(path, dict)
        log = read_jsonl(path.with_suffix(".episodes.jsonl"))[1:]
        lines = {line["number"]: line for line in log}  # a batch may be logged twice after a kill
        result["episodes"] = [lines[number] for number in sorted(lines)]
        right = sum(line["correct"] or episodes.loosely_right(
            line["task"], episodes.question_of(line), episodes.last_words(line)) for line in lines.values())
        result["loosely"] = right / max(1, len(lines))
        found.setdefault(path.parent.name, {}).setdefault(selection, {})[mode] = result
    return {stage: found[stage] for stage in episodes.STAGES if stage in found}


# --------------------------------------------------------------------------------------------------- tables
def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def main_columns(result: dict) -> dict[str, str]:
    """What the main tables say about one evaluation, by column; a new column is a line here."""
    from evaluate import interval, percent
    tasks = interval(result["tasks_low"], result["tasks_high"]) if len(result["tasks"]) > 1 else None
    return {
        "accuracy (95%, more questions)": f"**{percent(result['accuracy'])}** "
                                          f"({interval(result['low'], result['high'])})",
        "(95%, more tasks)": f"({tasks})" if tasks else "-",
        "loosely": percent(result["loosely"]),
        "code, where needed": percent(result["code_on_code_needed"]),
        "code, elsewhere": percent(result["code_on_text_solvable"]),
        "failed programs": percent(result["code_errors"]),
        "self-checks": percent(result["self_checks"]),
        "no answer": percent(1 - result["stops"]["answer"] / result["questions"]),
        "tokens": f"{result['tokens']:.0f}",
    }


def main_tables(found: dict) -> str:
    """Each mode at each stage, for each selection of tasks."""
    parts = []
    for selection, title in episodes.TITLES.items():
        lines = {f"{episodes.STAGES[stage]}, {mode}": main_columns(result)
                 for stage, selections in found.items()
                 for mode, result in selections.get(selection, {}).items()}
        if lines:
            one = next(iter(found.values()))[selection]["interpreter"]
            head = ["", *next(iter(lines.values()))]
            parts.append(f"### {title}: {len(one['tasks'])} tasks, {one['questions']} questions\n\n"
                         + markdown(head, [[name, *cells.values()] for name, cells in lines.items()]))
    return "\n\n".join(parts)


def findings(found: dict) -> str:
    """Paired comparisons on the same questions, in words."""
    from evaluate import percent
    parts = []
    for selection, title in episodes.TITLES.items():
        if selection not in found["grpo"]:
            continue
        base = found["base"][selection]
        best = max(base, key=lambda mode: base[mode]["accuracy"])
        parts.append(compared(found, selection, "base", best))
        parts.append(compared(found, selection, "sft", "interpreter"))
        loose = max(base, key=lambda mode: base[mode]["loosely"])
        trained = found["grpo"][selection]["interpreter"]
        parts.append(f"- {title}: how much of this is only the format? Read loosely, the untrained model is "
                     f"right in at most {percent(base[loose]['loosely'])} ({loose} mode), the trained one in "
                     f"{percent(trained['loosely'])}.")
    return "\n".join(parts)


def compared(found: dict, selection: str, stage: str, mode: str) -> str:
    """The trained policy against an earlier stage in some mode, on the same questions."""
    from evaluate import compare
    old, new = found[stage][selection][mode], found["grpo"][selection]["interpreter"]
    gap = compare(new["each"], old["each"])
    apart = "separate" if old["high"] < new["low"] or new["high"] < old["low"] else "not separate"
    more = "more tasks like these" if len(new["tasks"]) > 1 else "more questions"
    return (f"- {episodes.TITLES[selection]}: {episodes.STAGES['grpo']} (interpreter mode) against "
            f"{episodes.STAGES[stage]} ({mode} mode): **{100 * gap['difference']:+.1f} points** (95%, "
            f"{more}: {100 * gap['low']:+.1f} to {100 * gap['high']:+.1f}); better at {gap['better']}, worse "
            f"at {gap['worse']} questions, sign test p = {gap['p']:.2g}; the two intervals for more "
            f"questions are {apart}.")


def breakdown(found: dict, kind: str, selection: str) -> str:
    """Interpreter mode by suite, ability or task."""
    from evaluate import interval, percent
    results = {stage: selections[selection]["interpreter"][kind] for stage, selections in found.items()}
    first = next(iter(results.values()))
    rows = []
    for name in sorted(first) if kind == "tasks" else first:
        shares = [f"{percent(parts[name]['accuracy'])} ({interval(parts[name]['low'], parts[name]['high'])})"
                  for parts in results.values()]
        code = " / ".join(percent(parts[name]["code"]) for parts in results.values())
        rows.append([name, str(first[name]["questions"]), *shares, code])
    stages = [episodes.STAGES[stage] for stage in results]
    return markdown([kind, "questions", *stages, f"code: {' / '.join(stages)}"], rows)


def by_tokens(found: dict, selection: str) -> str:
    """Accuracy against tokens: each stage's answers in four equal parts, from the shortest to the longest."""
    from evaluate import percent
    rows = []
    for stage, selections in found.items():
        answers = sorted(pair for line in selections[selection]["interpreter"]["each"]
                         for pair in zip(line["tokens"], line["right"]))
        parts = [answers[len(answers) * i // 4:len(answers) * (i + 1) // 4] for i in range(4)]
        rows.append([episodes.STAGES[stage], *(
            f"{percent(sum(right for _, right in part) / len(part))} ({part[0][0]} to {part[-1][0]})"
            if part else "-" for part in parts)])
    return markdown(["accuracy (tokens written)", "shortest answers", "second quarter", "third quarter",
                     "longest answers"], rows)


def outcomes(found: dict, selection: str) -> str:
    """Shares of the outcomes at each stage, interpreter mode."""
    from evaluate import percent
    counts = {stage: Counter(map(episodes.outcome, selections[selection]["interpreter"]["episodes"]))
              for stage, selections in found.items()}
    names = sorted(set().union(*counts.values()), key=lambda name: (not name.startswith("right"), name))
    rows = [[name, *(percent(one[name] / one.total()) for one in counts.values())] for name in names]
    return markdown(["what became of the questions", *(episodes.STAGES[stage] for stage in counts)], rows)


def costs(folder: Path, story: dict, found: dict) -> str:
    """Seconds, tokens and memory of each phase."""
    from evaluate import percent
    metrics = {stage: read_jsonl(folder / stage / "metrics.jsonl") for stage in ("sft", "grpo")}

    def total(stage: str, name: str) -> float:
        return sum(line.get(name, 0) for line in metrics[stage])

    def written(stage: str) -> str:
        counts = (r["tokens"] * r["questions"] for modes in found[stage].values() for r in modes.values())
        return f"{sum(counts):,.0f} written"

    tokens = {"base": written("base"), "after-sft": written("sft"), "after-grpo": written("grpo"),
              "sft": f"{total('sft', 'tokens'):,.0f} read, {total('sft', 'trained_tokens'):,.0f} of them "
                     "trained",
              "grpo": f"{total('grpo', 'sampled_tokens'):,.0f} written"}
    everything = sum(book["seconds"] for book in story["phases"].values())
    rows = [[name, f"{book['seconds']:.0f}", percent(book["seconds"] / everything), tokens.get(name, ""),
             f"{book['peak_gib']:.1f}"] for name, book in story["phases"].items()]
    rows.append(["all", f"{everything:.0f}", "100%", "", ""])
    rollout = total("grpo", "seconds_rollout")
    training = total("grpo", "seconds_training")
    waiting = total("grpo", "seconds_sandbox")
    whole = max(1e-9, rollout + training)
    rate = total("grpo", "sampled_tokens") / max(1e-9, rollout)
    config = argparse.Namespace(**settings_of_run(folder / "grpo"))
    phases = markdown(["phase", "seconds", "share", "tokens", "peak so far, GiB"], rows)
    return (f"{phases}\n\nOf the time of RL ({config.algorithm.upper()}), {percent(rollout / whole)} was "
            f"sampling ({rate:.0f} tokens/s), {percent(training / whole)} training; "
            f"{percent(waiting / whole)} was waiting for programs, which ran for "
            f"{total('grpo', 'program_seconds'):.0f} s in all. {planned(config)}")


def planned(config: argparse.Namespace) -> str:
    """What `r1ci.py plan` says about the memory of an RL run with these settings, in a sentence."""
    from tools import plan
    try:
        parts = plan.memory(plan.shape_of(config.model), plan.setup_of(config))
    except UserError:
        return ""
    parts["always"].pop("CUDA context")
    return f"Planned peak of RL (without the program itself): {plan.peak(parts) / plan.GIB:.1f} GiB."


# -------------------------------------------------------------------------------------------------- picture
def curves_svg(folder: Path) -> str:
    """The curves as SVG: small panels, each with its range; points are means where there are many steps."""
    data = {stage: curves(read_jsonl(folder / stage / "metrics.jsonl")) for stage in ("sft", "grpo")}
    panels = [(title, data[stage]["step"], data[stage][field]) for stage, field, title in CURVES
              if field in data[stage]]
    width, height, columns = 300, 150, 3
    drawn = [panel_svg(title, steps, values, (i % columns) * width, (i // columns) * height)
             for i, (title, steps, values) in enumerate(panels)]
    rows = -(-len(panels) // columns)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * columns} {height * rows}" '
            'font-family="sans-serif" font-size="11" fill="#222"><rect width="100%" height="100%" '
            f'fill="#fff"/>{"".join(drawn)}</svg>\n')


def panel_svg(title: str, steps: list, values: list, left: int, top: int) -> str:
    """One curve in its own frame, whose corner is at (left, top)."""
    points = [(step, value) for step, value in zip(steps, values) if value is not None]
    low = min(0.0, *(value for _, value in points))
    high = max(value for _, value in points) or 1.0
    last = max(1, points[-1][0])
    line = " ".join(f"{left + 40 + 240 * step / last:.1f},{top + 120 - 85 * (value - low) / (high - low):.1f}"
                    for step, value in points)
    frame = f"M{left + 40} {top + 35}V{top + 120}H{left + 280}"
    return (f'<text x="{left + 40}" y="{top + 20}" font-weight="bold">{title}</text>'
            f'<path d="{frame}" fill="none" stroke="#999"/>'
            f'<polyline points="{line}" fill="none" stroke="#2563eb" stroke-width="1.5"/>'
            f'<text x="{left + 36}" y="{top + 41}" text-anchor="end">{high:.2g}</text>'
            f'<text x="{left + 36}" y="{top + 121}" text-anchor="end">{low:.2g}</text>'
            f'<text x="{left + 280}" y="{top + 134}" text-anchor="end">step {points[-1][0]}</text>')


# ------------------------------------------------------------------------------------------------- the text
def commit() -> str:
    """The commit of this code, if it is a git checkout."""
    try:
        words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def machine() -> str:
    """What ran it, in words."""
    import torch
    import transformers
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    return (f"{os.cpu_count()} CPU cores ({platform.machine()}){gpu}; torch {torch.__version__}, "
            f"transformers {transformers.__version__}")


def about(args: argparse.Namespace) -> dict:
    """What the page says about its run; noted when the run begins. args: as evaluate.py would take them."""
    return {"commit": commit(), "date": time.strftime("%Y-%m-%d"), "machine": machine(),
            "temperature": args.temperature, "levels": ", ".join(map(str, args.levels))}


def as_markdown(folder: Path, image: str) -> str:
    """The whole page, or section."""
    story = read_json(folder / "story.json", dict)
    for name in filter(None, (story["settings"]["tasks"], story["settings"]["test_tasks"])):
        select(name)  # tasks of a file are known from now on
    found = evaluations(folder)
    sizes = "\n".join(f"| {name} | {', '.join(f'{key} {value}' for key, value in size.items())} |"
                      for name, size in story["chosen"].items())
    examples = "\n\n".join(f"**{heading}**\n\n{episodes.as_code_block(line)}"
                           for heading, line in episodes.example_episodes(found))
    thrice = "\n\n".join(f"**{stage[0].upper()}{stage[1:]}**\n\n{episodes.as_code_block(line)}"
                         for stage, line in episodes.one_question(found))
    details = "\n\n".join(
        f"{episodes.TITLES[selection]}, interpreter mode:\n\n{outcomes(found, selection)}\n\n"
        f"{by_tokens(found, selection)}\n\n"
        f"{breakdown(found, 'suites', selection)}\n\n{breakdown(found, 'abilities', selection)}"
        for selection in found["grpo"])
    first = next(iter(found["grpo"]))
    noted = story["about"]
    return f"""## {run_name(story['settings']['model'])}, through the whole pipeline

Written by `{story['command']}` (commit {noted['commit']}, {noted['date']}; {noted['machine']}). One run, one
seed. Every evaluation asks the same questions, none of which was trained on; temperature
{noted['temperature']:g}, levels {noted['levels']}. Loosely: the share that would be right if any closing word
of the text counted as the answer (`loosely_right` in `experiments/episodes.py`).

{findings(found)}

{main_tables(found)}

{details}

### Curves

![Loss of SFT; accuracy, programs, failures, dead groups and missing answers of RL]({image})

### Sizes and costs

| phase | chosen |
|---|---|
{sizes}

{costs(folder, story, found)}

### One question at every stage

{thrice}

### Three episodes

{examples}

### Every task

{episodes.TITLES[first]}, interpreter mode:

{breakdown(found, "tasks", first)}

{PAPER if story['settings']['test_tasks'] == 'test' else ''}"""


# -------------------------------------------------------------------------------------------------- writing
def write_section(path: Path, name: str, text: str) -> None:
    """Put a text into a markdown file that several commands write, between comment lines with this name; what
    else is in the file stays."""
    begin, end = f"<!-- {name}: begin, written by a command -->", f"<!-- {name}: end -->"
    old = path.read_text("utf-8") if path.exists() else ""
    block = f"{begin}\n{text.strip()}\n{end}"
    lines = old.split("\n")
    first, last = ([i for i, line in enumerate(lines) if line == mark] for mark in (begin, end))
    if not first and not last:
        new = (old.rstrip() + "\n\n" if old.strip() else "") + block + "\n"
    elif len(first) == len(last) == 1 and first < last:
        new = "\n".join([*lines[:first[0]], block, *lines[last[0] + 1:]])
    else:
        raise UserError(f"{path} must have the lines {begin} and {end} once each, in this order, or neither: "
                        "put the missing one back, or take the other one out")
    write_text(path, new)


def write_results(folder: Path, shared: Path | None = None) -> Path:
    """Write RESULTS.md and curves.svg into the run folder, and the same as a section into a shared file, with
    the picture beside it; the page's path."""
    page = folder / "RESULTS.md"
    write_text(folder / "curves.svg", curves_svg(folder))
    write_text(page, as_markdown(folder, "curves.svg"))
    if shared:
        name = re.sub(r"[^\w.-]+", "-", "-".join(folder.resolve().parts[-2:]))
        image = shared.with_name(f"curves-{name}.svg")
        with writing(shared):
            shared.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / "curves.svg", image)
        write_section(shared, f"run {name}", as_markdown(folder, image.name))
    return page


def main(argv: list[str] | None = None) -> None:
    """Write the page of a finished run again."""
    parser = Parser("r1ci.py results", main.__doc__)
    parser.add_argument("run", type=Path, help="folder of r1ci.py run, such as runs/tiny/story")
    parser.add_argument("--write", type=Path, help="put the results into this file, too, such as "
                        "docs/RESULTS.md, as a section of their own")
    args = parser.parse_args(argv)
    if not (args.run / "evaluations" / "grpo").is_dir():
        raise UserError(f"{args.run} is no finished run of `python r1ci.py run`: give its folder, such as "
                        "runs/tiny/story")
    if args.write:
        check_writable(args.write)
    try:
        print(f"written to {write_results(args.run, args.write)}")
    except (OSError, KeyError) as error:
        raise UserError(f"{args.run} cannot be read as a finished run: {error!r}") from None
