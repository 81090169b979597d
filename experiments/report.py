"""One HTML page about a run: curves, accuracy before and after, and every episode token by token.

    python report.py runs/tiny/grpo                       writes runs/tiny/grpo/report.html
    python report.py runs/tiny/sft runs/tiny/grpo         several runs on one page (warm start and RL, seeds, variants)
    python report.py RUN --out page.html --episodes 2000

Training writes the page, too: grpo.py at every checkpoint, sft.py at its end. It is one file that needs nothing else,
no network and no server: this module turns a run folder into plain data, report_page.html draws them.

An episode becomes parts, one for each stretch of equal mask, in the order in which the model saw them:

    given    system message and question             text, never trained
    own      what the policy wrote                   pieces: the text of each token; nats: -log p of each, in hundredths
    given    what its program printed                text
    own      ...

What a policy writes is hostile until shown otherwise: the data are ASCII JSON without a "<", and the page shows them as
text only. A page stays below 5 MB: where episodes are too many, some are chosen, evenly over the run; the page says so.
"""
import argparse
import json
import math
import os
import random
import sys
import time
from pathlib import Path

import models
from chat import Chat
from curriculum import POTENTIAL_BOUNDS, RATE_BOUNDS, improvement_potential, total
from evaluate import wilson
from flags import positive
from runs import Run, RunError, command, fail, read_jsonl
from sft import training_mask
from tasks import TASKS
from trajectories import encode

LIMIT = 5_000_000  # bytes of a page
POINTS = 300  # of a curve; more steps are averaged
PAGE = Path(__file__).with_name("report_page.html")

# What is drawn over the steps: field of metrics.jsonl (or of `derived`), title, what to look for. Fields that a run
# does not have are left out. A new curve is a line here.
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


# ------------------------------------------------------------------------------------------------------ numbers
def number(value: float, digits: int = 4) -> float | None:
    """Rounded to significant digits; None for what JSON cannot say (NaN, infinity) or what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def derived(line: dict) -> dict:
    """A line of metrics.jsonl with what is drawn but not logged; the loss of RL says nothing and is left out."""
    if "reward" not in line:  # SFT
        return {"step": line.get("step"), "loss": line.get("loss")}
    wait, rollout = line.get("seconds_sandbox", 0), line.get("seconds_rollout", 0)  # the wait is a part of the rollout
    return {**line, "loss": None, "unanswered": 1 - line.get("stop_answer", 1), "sampling": max(0, rollout - wait),
            "sandbox": wait, "training": line.get("seconds_training", 0)}


def curves(metrics: list[dict]) -> dict:
    """{"step": [..], field: [..]}, at most POINTS long: each point is the mean of `every` steps."""
    every = max(1, math.ceil(len(metrics) / POINTS))
    bins = [[derived(line) for line in metrics[i:i + every]] for i in range(0, len(metrics), every)]

    def mean(lines: list[dict], field: str) -> float | None:
        values = [line[field] for line in lines if number(line.get(field)) is not None]
        return number(sum(values) / len(values)) if values else None

    found = {field: [mean(lines, field) for lines in bins] for field in (*(curve[0] for curve in CURVES), *PHASES)}
    return {"every": every, "step": [lines[-1].get("step") for lines in bins],
            "stage": [lines[-1].get("stage", 0) for lines in bins],
            **{field: values for field, values in found.items() if any(value is not None for value in values)}}


def potential(folder: Path, config: dict) -> dict | None:
    """How many questions have which success rate, in twentieths, and the curriculum's group of each rate."""
    by_rate = config.get("curriculum") == "difficulty"
    places = [folder / "potential.jsonl"]
    if by_rate or config.get("curriculum") == "potential":
        places += [Path(config["potential"])] if config.get("potential") else [
            start / "potential.jsonl" for start in warm_starts(folder, config)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return None
    counts = [total(record["counts"]) for record in read_jsonl(path)]

    def group(right: int, samples: int) -> int:
        bounds, value = ((RATE_BOUNDS, right / samples) if by_rate else
                         (POTENTIAL_BOUNDS, improvement_potential(right, samples)))
        return 1 + sum(value < bound for bound in bounds)

    bins = [[0, 0, 0, 0] for _ in range(21)]  # [rate][group]: in a twentieth there may be two groups
    for right, samples in counts:
        bins[(40 * right + samples) // (2 * samples)][group(right, samples) - 1] += 1
    return {"bins": bins, "questions": len(counts), "by": "p" if by_rate else "4p(1-p)",
            "bounds": RATE_BOUNDS if by_rate else POTENTIAL_BOUNDS, "curriculum": config.get("curriculum", "none"),
            "stage_steps": config.get("stage_steps")}


def accuracies(folder: Path) -> list[dict]:
    """The summaries in eval.json (before and after, or the one of evaluate.py), with an interval for each task."""
    path = folder / "eval.json"
    found = read_json(path) if path.exists() else {}
    for summary in ([found] if "tasks" in found else found.values()):
        for task in summary["tasks"].values():
            task["low"], task["high"] = wilson(round(task["accuracy"] * task["questions"]), task["questions"])
    return [{"name": "evaluation", **found}] if "tasks" in found else [
        {"name": name, **summary} for name, summary in found.items()]


# ------------------------------------------------------------------------------------------------------- tokens
class Pieces:
    """The text of each token. Put together, the pieces are the decoded text."""

    def __init__(self, tokenizer):
        self.tokenizer, self.known = tokenizer, {}
        # Some tokenizers drop a space at the start of a text, so each token is decoded behind another one.
        self.anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
        self.before = len(self.decode(self.anchor))

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def text(self, ids: list[int]) -> str:
        """Of some tokens that stand together."""
        key = tuple(ids)
        if key not in self.known:
            self.known[key] = self.decode(self.anchor + ids)[self.before:] or f"\u27e8{ids[0]}\u27e9"
        return self.known[key]

    def __call__(self, ids: list[int]) -> list[str]:
        """A character of several tokens is shown at the last of them; the ones before it are ''."""
        pieces, open_ids = [], []
        for token in ids:
            open_ids.append(token)
            text = self.text(open_ids)
            if text.endswith("\ufffd") and len(open_ids) < 4 and len(pieces) + 1 < len(ids):
                pieces.append("")
                continue
            pieces.append(text)
            open_ids = []
        return pieces


def warm_starts(folder: Path, config: dict) -> list[Path]:
    """Where the SFT run of this run may be, also if the folders were moved together."""
    name = config.get("sft_run")
    return [Path(name), folder.parent / Path(name).name] if name else []


def find_tokenizer(folder: Path, config: dict):
    """The tokenizer of a run, or None: saved beside its policy or its warm start's, or the one it was made with."""
    model = str(config.get("model", ""))
    try:
        for place in (folder, folder / "best", *warm_starts(folder, config)):
            for saved in (place / "model", place / "adapter"):
                if (saved / "tokenizer_config.json").is_file():
                    return models._tokenizer(str(saved))
        hub = models.preset(model)["hub"]
        if hub is None or config.get("random_weights"):
            return models.tiny_tokenizer()
        return models._tokenizer(hub)  # a folder, or in the hub's cache
    except Exception:  # noqa: BLE001  (whatever transformers raises: the page does without)
        return None


# ----------------------------------------------------------------------------------------------------- episodes
def trained_tokens(record: dict, config: dict) -> list[int]:
    """As grpo.trained_tokens, and nothing of an episode whose advantage is 0: such a group is dead."""
    mask = record["mask"]
    dropped = config.get("truncated") == "drop" and record.get("stop") == "length"
    if 1 not in mask or dropped or record.get("advantage") == 0:
        return [0] * len(mask)
    return training_mask(mask, config.get("train_on_code_output", False))


def parts_of_tokens(record: dict, config: dict, pieces: Pieces) -> list[dict]:
    """The parts of an episode (see above), cut where the mask changes."""
    ids, mask, trained = record["ids"], record["mask"], trained_tokens(record, config)
    outputs = iter(turn for turn in record.get("turns", []) if turn["output"] is not None)
    edges = [0] + [t for t in range(1, len(mask)) if mask[t] != mask[t - 1]] + [len(mask)]
    parts = []
    for start, end in zip(edges, edges[1:]):
        part = {"own": mask[start], "trained": trained[start], "tokens": end - start}
        if mask[start]:
            part["pieces"] = pieces(ids[start:end])
            if "logprobs" in record:
                part["nats"] = [round(100 * -max(-99.0, min(0.0, p))) for p in record["logprobs"][start:end]]
        else:
            part["text"] = pieces.decode(ids[start:end])
            result = next(outputs, None) if start else None
            part |= {"status": result["status"]} if result else {}
        parts.append(part)
    # An output that no longer fitted into the episode, so the policy has not read it.
    return parts + [{"own": 0, "trained": 0, "text": turn["output"], "status": f"{turn['status']}, not read any more"}
                    for turn in outputs]


def parts_of_messages(record: dict) -> list[dict]:
    """The parts without a tokenizer: whole turns, as text."""
    parts = [(message["role"] == "assistant", message) for message in record["messages"]]
    return [{"own": int(own), "trained": int(own and message.get("learn", True)), "text": message["content"]}
            for own, message in parts]


def episode(record: dict, config: dict, pieces: Pieces | None) -> dict:
    """A line of episodes.jsonl (or data.jsonl: no tokens yet, no stop) as the page wants it."""
    turns, kind = record.get("turns"), record.get("kind")
    return {"step": record.get("step"), "task": str(record["task"]), "level": record.get("level"),
            "right": record.get("correct"), "reward": number(record.get("reward")), "answer": record.get("answer"),
            "advantage": number(record.get("advantage")), "stop": record.get("stop") or f"example: {kind}",
            "calls": sum(turn["status"] is not None for turn in turns) if turns is not None
            else sum(message["role"] == "user" for message in record["messages"][2:]),
            "parts": parts_of_tokens(record, config, pieces) if pieces and "ids" in record
            else parts_of_messages(record)}


def spread(items: list, count: int) -> list:
    """`count` of the items, evenly over all of them: one from each of as many stretches.

    Which one is drawn: every 8th item of a run that goes round 8 tasks would be of the same task.
    """
    if count >= len(items):
        return items
    rng, edges = random.Random(0), [i * len(items) // count for i in range(count + 1)]
    return [items[rng.randrange(start, end)] for start, end in zip(edges, edges[1:])]


def fitting(texts: list[str], budget: int) -> list[str]:
    """As many of the texts as fit into `budget` characters, evenly over all of them."""
    while (size := sum(len(text) + 1 for text in texts)) > budget:
        texts = spread(texts, max(0, min(len(texts) - 1, len(texts) * budget // size)))
    return texts


# --------------------------------------------------------------------------------------------------- run folder
def read_json(path: Path):
    """A JSON file; RunError if it is none."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'not JSON'}") from None


def read_lines(path: Path, notes: list[str]) -> list[dict]:
    """The records of a JSONL file; a note about lines that are none (the last one, if a kill cut it short)."""
    records = [record for record in read_jsonl(path) if isinstance(record, dict)]
    if path.exists():
        with open(path, "rb") as file:
            broken = sum(bool(line.strip()) for line in file) - len(records)
        if broken:
            notes.append(f"{path}: {broken} broken line{'s' if broken > 1 else ''} left out.")
    return records


def read_run(folder: Path, wanted: int, tokenizer=None) -> tuple[dict, list[dict]]:
    """(what the page shows of a run, its episodes: `wanted` at most)."""
    if not (folder / "config.json").is_file():
        inside = sorted(str(path.parent) for path in folder.glob("*/config.json") if path.parent.name != "model")
        raise RunError(f"{folder} is no run folder (it has no config.json): give "
                       + (" or ".join(inside) if inside else "a stage's folder, such as runs/tiny/grpo"))
    config, notes = read_json(folder / "config.json"), []
    if not isinstance(config, dict):
        raise RunError(f"{folder / 'config.json'} holds no settings")
    metrics = read_lines(folder / "metrics.jsonl", notes)
    rl = "algorithm" in config
    if not metrics:
        notes.append(f"{folder}/metrics.jsonl has no line yet: no curves.")
    results = attempt("eval.json", lambda: accuracies(folder), notes) or []
    if rl and len(results) < 2:
        notes.append(f"{folder}: no accuracy before and after; eval.json is written at the end of a run.")
    records = read_lines(folder / ("episodes.jsonl" if rl else "data.jsonl"), notes)
    shown, bad = [], 0
    chosen = spread(records, wanted)
    pieces = pieces_for(folder, config, chosen, tokenizer, notes) if chosen else None
    chat = None if rl or not pieces else attempt("the prompt of config.json", lambda: Chat(
        pieces.tokenizer, config["mode"], config["style"], config["answer_format"]), notes)
    for record in chosen:
        try:
            if chat:
                ids, mask = encode(chat, record["messages"])
                record = {**record, "ids": ids, "mask": mask}
            shown.append(episode(record, config, pieces))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            bad += 1
    if bad:
        notes.append(f"{folder}: {bad} line{'s' if bad > 1 else ''} left out that hold{'' if bad > 1 else 's'} "
                     "no episode.")
    return {"name": str(folder), "config": config, "rl": rl, "curves": curves(metrics), "steps": len(metrics),
            "results": results, "potential": attempt("potential.jsonl", lambda: potential(folder, config), notes),
            "notes": notes, "episodes": len(records)}, shown


def attempt(what: str, read, notes: list[str]):
    """What read() returns; None and a note where the file does not hold what it should."""
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        notes.append(f"Left out, because it cannot be used as it is: {what}.")
        return None


def pieces_for(folder: Path, config: dict, records: list[dict], tokenizer, notes: list[str]) -> Pieces | None:
    """The texts of the run's tokens, if its tokenizer is found; else a note."""
    tokenizer = tokenizer or find_tokenizer(folder, config)
    why = "there is no tokenizer in this folder (it is saved with the policy)"
    if tokenizer:
        turn = next((turn for record in records for turn in record.get("turns", [])), None)
        if turn is None:
            return Pieces(tokenizer)
        ids = next(record["ids"] for record in records if record.get("turns"))
        if tokenizer.decode(ids[turn["start"]:turn["end"]], skip_special_tokens=True) == turn["text"]:
            return Pieces(tokenizer)
        why = "the tokenizer that was found is not the one of these episodes"
    notes.append(f"{folder}: turns are shown without their tokens: {why}.")
    return None


def page(folders: list[Path], episodes: int = 1000, tokenizer=None) -> str:
    """The report as HTML. RunError: a folder holds no run."""
    found = [read_run(folder, max(1, episodes // len(folders)), tokenizer) for folder in folders]
    data = {"made": time.strftime("%Y-%m-%d %H:%M"), "runs": [run for run, _ in found],
            "curves": CURVES, "phases": PHASES,
            "words": sorted(name for name, task in TASKS.items() if task.text_solvable)}
    html, head = PAGE.read_text("utf-8"), embedded(data)
    texts = [[embedded({"run": i, **one}) for one in shown] for i, (_, shown) in enumerate(found)]
    budget = (LIMIT - len(html.encode()) - len(head)) // len(found)
    texts = [text for of_run in texts for text in fitting(of_run, budget)]
    return html.replace("{{data}}", f'{head[:-1]},"episodes":[{",".join(texts)}]}}')


def embedded(value) -> str:
    """JSON that is safe inside an HTML script element, whatever a model wrote: ASCII only, and no "<"."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"), default=str).replace("<", "\\u003c")


def write(folders: list[Path], out: Path, episodes: int = 1000, tokenizer=None) -> None:
    """Write the page, as a whole or not at all. RunError: a folder holds no run, or `out` cannot be written."""
    html = page(folders, episodes, tokenizer)
    fresh = out.with_name(out.name + ".new")
    try:
        fresh.write_text(html, "utf-8")
        os.replace(fresh, out)
    except OSError as error:
        raise RunError(f"cannot write {out}: {error.strerror}") from None


def refresh(run: Run, tokenizer) -> None:
    """Write report.html into the folder of a run that is training: whatever goes wrong, it goes on."""
    if not run.writes:
        return
    try:
        write([run.folder], run.folder / "report.html", tokenizer=tokenizer)
    except Exception as error:  # noqa: BLE001  (a page is not worth a run)
        print(f"no report: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)


def main(argv: list[str] | None = None) -> Path:
    """Run the command. Bad input: one line, exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, such as runs/tiny/grpo")
    parser.add_argument("--out", type=Path, help="the page (default: report.html in the last RUN)")
    parser.add_argument("--episodes", type=positive, default=1000, help="show at most so many (default: 1000); "
                        "fewer where the page would pass 5 MB")
    args = parser.parse_args(argv)
    out = args.out or args.runs[-1] / "report.html"
    try:
        write(args.runs, out, args.episodes)
    except RunError as error:
        fail(error)
    print(f"Written: {out} ({out.stat().st_size / 1e6:.1f} MB)")
    return out


if __name__ == "__main__":
    command(main)
