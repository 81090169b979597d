"""One HTML page about a run: what it said before and after, whole groups, curves, every episode by tokens.

    python r1ci.py report runs/tiny/grpo                  writes runs/tiny/grpo/report.html
    python r1ci.py report runs/tiny/sft runs/tiny/grpo    several runs on one page (warm start and RL, seeds)
    python r1ci.py report RUN --watch                     again after every checkpoint, until the run is over

It is one file that needs nothing else, no network and no server: this module turns a run folder into plain
data, and report_page.html draws them. Of a run that is still training, it says how far it is.

What a policy writes is hostile until shown otherwise: the data are ASCII JSON without a "<", and the page
shows them as text only. A page stays below 5 MB: where there are too many episodes, some are chosen, whole
groups, evenly over the run, and the page says so.
"""
import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path

from experiments.episodes import pairs
from experiments.tokens import Pieces, encoder, pieces_for, rounded, shown_episode
from runs import Parser, UserError, check_writable, read_jsonl, whole, write_text
from tasks import TASKS

LIMIT = 5_000_000  # bytes of a page
PAIRS = 1_000_000  # of it for questions before and after, which are of four kinds
POINTS = 300  # of a curve; more steps are averaged
PACE = 10  # the last so many steps say how long the next ones will take
TEMPLATE = Path(__file__).with_name("report_page.html")

# What is drawn over the steps: field of metrics.jsonl (or of `drawn_values`), title, what to look for. Fields
# that a run does not have are left out. A new curve is a line here.
CURVES = (
    ("loss", "SFT loss", "cross-entropy of a trained token"),
    ("accuracy", "Accuracy", "on each step's new training questions"),
    ("reward", "Reward", "mean of the step's episodes"),
    ("calls", "Programs per episode", "does it learn to use code?"),
    ("code_errors", "Programs that failed", "errors, time-outs"),
    ("dead_groups", "Dead groups", "all samples alike: nothing to learn"),
    ("unanswered", "Episodes without answer", "void, too long, too many programs"),
    ("entropy", "Entropy", "nats per token; near 0: no more exploring"),
    ("kl", "KL to the start", "how far the policy has moved"),
    ("grad_norm", "Gradient norm", "before clipping"),
    ("tokens_per_episode", "Tokens per episode", "written by the policy"),
)
PHASES = ("sampling", "sandbox", "training")  # seconds of a step, one upon the other


# -------------------------------------------------------------------------------------------------- numbers
def drawn_values(line: dict) -> dict:
    """A line of metrics.jsonl with what is drawn but not logged; RL's loss says nothing and is left out."""
    if "reward" not in line:  # SFT
        return {"step": line.get("step"), "loss": line.get("loss")}
    wait = line.get("seconds_sandbox", 0)  # a part of the rollout
    sampling = max(0, line.get("seconds_rollout", 0) - wait)
    return {**line, "loss": None, "unanswered": 1 - line.get("stop_answer", 1), "sampling": sampling,
            "sandbox": wait, "training": line.get("seconds_training", 0)}


def curves(metrics: list[dict]) -> dict:
    """{"step": [..], field: [..]}, at most POINTS long: each point is the mean of `every` steps."""
    every = max(1, math.ceil(len(metrics) / POINTS))
    bins = [[drawn_values(line) for line in metrics[i:i + every]] for i in range(0, len(metrics), every)]

    def mean(lines: list[dict], field: str) -> float | None:
        values = [line[field] for line in lines if rounded(line.get(field)) is not None]
        return rounded(sum(values) / len(values)) if values else None

    fields = (*(curve[0] for curve in CURVES), *PHASES)
    found = {field: [mean(lines, field) for lines in bins] for field in fields}
    return {"every": every, "step": [lines[-1].get("step") for lines in bins],
            "stage": [lines[-1].get("stage", 0) for lines in bins],
            **{field: values for field, values in found.items() if any(v is not None for v in values)}}


def accuracies(folder: Path) -> list[dict]:
    """Summaries with an interval for each task: before and after training, or the one of evaluate.py."""
    from evaluate import wilson
    both, single = folder / "before-after.json", folder / "eval.json"
    results = {}
    if both.exists():
        results = read_json(both)
    elif single.exists():
        results = {"evaluation": read_json(single)}
    for summary in results.values():
        for task in summary["tasks"].values():
            right = round(task["accuracy"] * task["questions"])
            task["low"], task["high"] = wilson(right, task["questions"])
    return [{"name": name, **summary} for name, summary in results.items()]


def progress(config: dict, metrics: list[dict], results: list[dict]) -> dict:
    """How far a run is. of: its steps, if known; seconds: what the missing ones take, if as long as the last
    ones; over: nothing is to come."""
    seconds = [sum(line.get(name) or 0 for name in ("seconds", "seconds_rollout", "seconds_training"))
               for line in metrics[-PACE:]]
    steps = config.get("steps") or 0
    missing = max(0, steps - len(metrics))
    measured = len(results) > 1 or not config.get("eval_questions") or "algorithm" not in config
    return {"steps": len(metrics), "of": steps, "over": bool(steps and not missing and measured),
            "seconds": rounded(missing * sum(seconds) / max(1, len(seconds)))}


# ------------------------------------------------------------------------------------------------ choosing
def spread(items: list, count: int) -> list:
    """`count` of the items, evenly over all of them: one from each of as many stretches.

    Which one is drawn: every 8th item of a run that goes round 8 tasks would be of the same task.
    """
    if count >= len(items):
        return items
    rng = random.Random(0)
    edges = [i * len(items) // max(1, count) for i in range(count + 1)]
    return [items[rng.randrange(start, end)] for start, end in zip(edges, edges[1:])]


def groups_of(records: list[dict]) -> list[list[dict]]:
    """The records of each step of RL together; a conversation of SFT is alone."""
    groups: list[list[dict]] = []
    for record in records:
        if groups and record.get("step") is not None and record["step"] == groups[-1][0].get("step"):
            groups[-1].append(record)
        else:
            groups.append([record])
    return groups


def fitting(texts: list[str], budget: int) -> list[str]:
    """As many of the texts as fit into `budget` characters, evenly over all of them."""
    while texts and (size := sum(len(text) + 1 for text in texts)) > budget:
        texts = spread(texts, max(0, min(len(texts) - 1, len(texts) * budget // size)))
    return texts


# ----------------------------------------------------------------------------------------------- run folder
def read_json(path: Path):
    """A JSON file; UserError if it is none."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'not JSON'}") from None


def read_lines(path: Path, notes: list[str]) -> list[dict]:
    """The records of a JSONL file; a note about lines that are none (such as one cut short)."""
    records = [record for record in read_jsonl(path) if isinstance(record, dict)]
    if path.exists():
        with open(path, "rb") as file:
            broken = sum(bool(line.strip()) for line in file) - len(records)
        if broken:
            notes.append(f"{path}: {broken} broken line{'s' if broken > 1 else ''} left out.")
    return records


def read_run(folder: Path, wanted: int, room: int, tokenizer=None) -> tuple[dict, list[dict]]:
    """(what the page shows of a run, about `wanted` of its episodes); room: characters of a kind of pairs."""
    config = settings_of(folder)
    notes: list[str] = []
    metrics = read_lines(folder / "metrics.jsonl", notes)
    rl = "algorithm" in config
    if not metrics:
        notes.append(f"{folder}/metrics.jsonl has no line yet: no curves.")
    file = "before-after.json" if (folder / "before-after.json").exists() else "eval.json"
    results = usable(file, lambda: accuracies(folder), notes) or []
    if rl and not results:
        notes.append(f"{folder}: no accuracy on held-out questions (yet); before-after.json would hold it.")
    records = read_lines(folder / ("episodes.jsonl" if rl else "data.jsonl"), notes)
    groups = groups_of(records)
    groups = spread(groups, max(1, len(groups) * wanted // max(wanted, len(records))))
    chosen = [record for group in groups for record in group]
    pieces = pieces_for(folder, config, chosen, tokenizer, notes) if chosen else None
    logs = [read_lines(folder / f"{name}.jsonl", notes) for name in ("before", "after")[:len(results)]]
    asked = usable("before.jsonl", lambda: pairs(logs[0], (*logs, [])[1], room), notes) if any(logs) else {}
    return {"name": str(folder), "config": config, "rl": rl, "curves": curves(metrics),
            "progress": progress(config, metrics, results), "results": results, "notes": notes,
            "episodes": len(records), "special": pieces.special if pieces else [],
            "pairs": asked or {}}, shown_episodes(folder, config, chosen, pieces, notes)


def settings_of(folder: Path) -> dict:
    """What is in config.json; UserError where there is no run."""
    if not (folder / "config.json").is_file():
        inside = sorted(str(path.parent) for path in folder.glob("*/config.json")
                        if path.parent.name != "model")
        raise UserError(f"{folder} is no run folder (it has no config.json): give "
                        + (" or ".join(inside) if inside else "a stage's folder, such as runs/tiny/grpo"))
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise UserError(f"{folder / 'config.json'} holds no settings")
    return config


def shown_episodes(folder: Path, config: dict, records: list[dict], pieces: Pieces | None, notes: list[str]
                   ) -> list[dict]:
    """These lines of episodes.jsonl, or of SFT's data.jsonl, as the page wants them."""
    encoded = usable("the prompt of config.json", lambda: encoder(pieces, config), notes)
    shown = []
    for record in records:
        try:
            shown.append(shown_episode(encoded(record) if encoded else record, config, pieces))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            continue
    bad = len(records) - len(shown)
    if bad:
        what = "lines left out that hold" if bad > 1 else "line left out that holds"
        notes.append(f"{folder}: {bad} {what} no episode.")
    return shown


def usable(what: str, read: Callable, notes: list[str]):
    """What read() returns; None and a note where the file does not hold what it should."""
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        notes.append(f"Left out, because it cannot be used as it is: {what}.")
        return None


# ------------------------------------------------------------------------------------------------- the page
def html_of(folders: list[Path], episodes: int = 1000, tokenizer=None) -> str:
    """The report as HTML. UserError: a folder holds no run."""
    return page_of(read_runs(folders, episodes, tokenizer))


def read_runs(folders: list[Path], episodes: int, tokenizer=None) -> list[tuple[dict, list[dict]]]:
    """Each run with its share of the page."""
    return [read_run(folder, max(1, episodes // len(folders)), PAIRS // 4 // len(folders), tokenizer)
            for folder in folders]


def page_of(found: list[tuple[dict, list[dict]]]) -> str:
    """The page about these runs, as `read_run` gives them."""
    frames: dict[tuple, int] = {}  # most are those of every episode
    for part in (part for _, shown in found for one in shown for part in one["parts"] if "frame" in part):
        part["frame"] = frames.setdefault(tuple(part["frame"]), len(frames))
    data = {"made": time.strftime("%Y-%m-%d %H:%M"), "runs": [run for run, _ in found],
            "curves": CURVES, "phases": PHASES, "frames": list(frames),
            "words": sorted(name for name, task in TASKS.items() if task.text_solvable)}
    html = TEMPLATE.read_text("utf-8")
    head = embedded(data)
    texts = [[",".join(embedded({"run": i, **one}) for one in group) for group in groups_of(shown)]
             for i, (_, shown) in enumerate(found)]
    budget = (LIMIT - len(html.encode()) - len(head)) // len(found)
    texts = [text for of_run in texts for text in fitting(of_run, budget)]
    return html.replace("{{data}}", f'{head[:-1]},"episodes":[{",".join(texts)}]}}')


def embedded(value) -> str:
    """JSON that is safe inside an HTML script element, whatever a model wrote: ASCII only, and no "<"."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"), default=str).replace("<", "\\u003c")


def write_report(folders: list[Path], out: Path, episodes: int = 1000, tokenizer=None) -> bool:
    """Write the page, as a whole or not at all. Are the runs over? UserError: no run, or bad `out`."""
    found = read_runs(folders, episodes, tokenizer)
    write_text(out, page_of(found))
    return all(run["progress"]["over"] for run, _ in found)


def main(argv: list[str] | None = None) -> Path:
    """Write the page; where it is."""
    parser = Parser("r1ci.py report", __doc__.split("\n\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN",
                        help="run folder, such as runs/tiny/grpo")
    parser.add_argument("--out", type=Path, help="the page (default: report.html in the last RUN)")
    parser.add_argument("--episodes", type=whole(), default=1000,
                        help="show about so many; fewer where the page would pass 5 MB")
    parser.add_argument("--watch", action="store_true", help="write it again after every checkpoint, until "
                        "the run is over")
    args = parser.parse_args(argv)
    out = args.out or args.runs[-1] / "report.html"
    check_writable(out)
    while True:
        seen = checkpoints(args.runs)
        over = write_report(args.runs, out, args.episodes)
        print(f"Written: {out} ({out.stat().st_size / 1e6:.1f} MB)", flush=True)
        if over or not args.watch:
            return out
        while checkpoints(args.runs) == seen:
            time.sleep(1)


def checkpoints(folders: list[Path]) -> list[int]:
    """When the files were written that a run writes now and then."""
    paths = [folder / name for folder in folders for name in ("trainer.pt", "before-after.json")]
    return [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]
