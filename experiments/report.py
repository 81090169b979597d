"""One HTML page about a run: curves, accuracy before and after, and every episode token by token.

    python r1ci.py report runs/tiny/grpo                  writes runs/tiny/grpo/report.html
    python r1ci.py report runs/tiny/sft runs/tiny/grpo    several runs on one page (warm start and RL, seeds)
    python r1ci.py report RUN --out page.html --episodes 2000

It can be written at any time, also while the run is training. It is one file that needs nothing else, no
network and no server: this module turns a run folder into plain data, and report_page.html draws them.

An episode becomes parts, one for each stretch of equal mask, in the order in which the model saw them:

    given    system message and question             text, never trained
    own      what the policy wrote                   pieces: the text of each token; nats: -log p of each, in
                                                     hundredths
    given    what its program printed                text
    own      ...

What a policy writes is hostile until shown otherwise: the data are ASCII JSON without a "<", and the page
shows them as text only. A page stays below 5 MB: where there are too many episodes, some are chosen, evenly
over the run, and the page says so.
"""
import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path

from runs import Parser, UserError, check_writable, preset, read_jsonl, whole, write_text
from tasks import TASKS

LIMIT = 5_000_000  # bytes of a page
POINTS = 300  # of a curve; more steps are averaged
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
def rounded(value, digits: int = 4) -> float | None:
    """To significant digits; None for what JSON cannot say (NaN, infinity) or what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


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


# --------------------------------------------------------------------------------------------------- tokens
class Pieces:
    """The text of each token. Put together, the pieces are the decoded text."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.known: dict[tuple, str] = {}
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


def find_tokenizer(folder: Path, config: dict):
    """The tokenizer of a run, or None: beside its policy or its warm start's, or the one it was made with."""
    import models
    model = str(config.get("model", ""))
    name = config.get("sft_run")
    warm_starts = [Path(name), folder.parent / Path(name).name] if name else []  # moved together, perhaps
    try:
        for place in (folder, *warm_starts):
            for saved in (place / "model", place / "adapter"):
                if (saved / "tokenizer_config.json").is_file():
                    return models.load_tokenizer(str(saved))
        hub = preset(model)["hub"]
        if hub is None or config.get("random_weights"):
            return models.tiny_tokenizer()
        return models.load_tokenizer(hub)  # a folder, or in the hub's cache
    except Exception:  # noqa: BLE001  (whatever transformers raises: the page does without)
        return None


# ------------------------------------------------------------------------------------------------- episodes
def trained_tokens(record: dict, config: dict) -> list[int]:
    """What grpo.py trained: the policy's own tokens; nothing of an episode whose advantage is 0."""
    from batches import training_mask
    mask = record["mask"]
    if 1 not in mask or record.get("advantage") == 0:
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
    return parts + [{"own": 0, "trained": 0, "text": turn["output"],
                     "status": f"{turn['status']}, not read any more"} for turn in outputs]


def parts_of_messages(record: dict) -> list[dict]:
    """The parts without a tokenizer: whole turns, as text."""
    parts = [(message["role"] == "assistant", message) for message in record["messages"]]
    return [{"own": int(own), "trained": int(own and message.get("learn", True)), "text": message["content"]}
            for own, message in parts]


def shown_episode(record: dict, config: dict, pieces: Pieces | None) -> dict:
    """A line of episodes.jsonl (or data.jsonl: no tokens yet, no stop) as the page wants it."""
    turns = record.get("turns")
    if turns is not None:
        calls = sum(turn["status"] is not None for turn in turns)
    else:
        calls = sum(message["role"] == "user" for message in record["messages"][2:])
    whole = pieces and "ids" in record
    return {"step": record.get("step"), "task": str(record["task"]), "level": record.get("level"),
            "right": record.get("correct"), "reward": rounded(record.get("reward")),
            "answer": record.get("answer"), "advantage": rounded(record.get("advantage")),
            "stop": record.get("stop") or f"example: {record.get('kind')}", "calls": calls,
            "parts": parts_of_tokens(record, config, pieces) if whole else parts_of_messages(record)}


def spread(items: list, count: int) -> list:
    """`count` of the items, evenly over all of them: one from each of as many stretches.

    Which one is drawn: every 8th item of a run that goes round 8 tasks would be of the same task.
    """
    if count >= len(items):
        return items
    rng = random.Random(0)
    edges = [i * len(items) // count for i in range(count + 1)]
    return [items[rng.randrange(start, end)] for start, end in zip(edges, edges[1:])]


def fitting(texts: list[str], budget: int) -> list[str]:
    """As many of the texts as fit into `budget` characters, evenly over all of them."""
    while (size := sum(len(text) + 1 for text in texts)) > budget:
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


def read_run(folder: Path, wanted: int, tokenizer=None) -> tuple[dict, list[dict]]:
    """(what the page shows of a run, its episodes: `wanted` at most)."""
    config = settings_of(folder)
    notes: list[str] = []
    metrics = read_lines(folder / "metrics.jsonl", notes)
    rl = "algorithm" in config
    if not metrics:
        notes.append(f"{folder}/metrics.jsonl has no line yet: no curves.")
    file = "before-after.json" if (folder / "before-after.json").exists() else "eval.json"
    results = usable(file, lambda: accuracies(folder), notes) or []
    if rl and len(results) < 2:
        notes.append(f"{folder}: no accuracy before and after; before-after.json is written at the end of a "
                     "run.")
    records = read_lines(folder / ("episodes.jsonl" if rl else "data.jsonl"), notes)
    shown = shown_episodes(folder, config, spread(records, wanted), tokenizer, notes) if records else []
    return {"name": str(folder), "config": config, "rl": rl, "curves": curves(metrics), "steps": len(metrics),
            "results": results, "notes": notes, "episodes": len(records)}, shown


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


def shown_episodes(folder: Path, config: dict, records: list[dict], tokenizer, notes: list[str]
                   ) -> list[dict]:
    """These lines of episodes.jsonl, or of SFT's data.jsonl, as the page wants them."""
    pieces = pieces_for(folder, config, records, tokenizer, notes)
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


def encoder(pieces: Pieces | None, config: dict) -> Callable[[dict], dict] | None:
    """Adds tokens and mask to a conversation of SFT, as sft.py encodes it; None where there are no tokens."""
    if not pieces or "algorithm" in config:
        return None
    from chat import Chat
    from trajectories import encode
    chat = Chat(pieces.tokenizer, config["mode"], config["style"], config["answer_format"])
    return lambda record: {**record, **dict(zip(("ids", "mask"), encode(chat, record["messages"])))}


def usable(what: str, read: Callable, notes: list[str]):
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


# ------------------------------------------------------------------------------------------------- the page
def html_of(folders: list[Path], episodes: int = 1000, tokenizer=None) -> str:
    """The report as HTML. UserError: a folder holds no run."""
    found = [read_run(folder, max(1, episodes // len(folders)), tokenizer) for folder in folders]
    data = {"made": time.strftime("%Y-%m-%d %H:%M"), "runs": [run for run, _ in found],
            "curves": CURVES, "phases": PHASES,
            "words": sorted(name for name, task in TASKS.items() if task.text_solvable)}
    html = TEMPLATE.read_text("utf-8")
    head = embedded(data)
    texts = [[embedded({"run": i, **one}) for one in shown] for i, (_, shown) in enumerate(found)]
    budget = (LIMIT - len(html.encode()) - len(head)) // len(found)
    texts = [text for of_run in texts for text in fitting(of_run, budget)]
    return html.replace("{{data}}", f'{head[:-1]},"episodes":[{",".join(texts)}]}}')


def embedded(value) -> str:
    """JSON that is safe inside an HTML script element, whatever a model wrote: ASCII only, and no "<"."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"), default=str).replace("<", "\\u003c")


def write_report(folders: list[Path], out: Path, episodes: int = 1000, tokenizer=None) -> None:
    """Write the page, as a whole or not at all. UserError: a folder holds no run, or `out` is no place."""
    write_text(out, html_of(folders, episodes, tokenizer))


def main(argv: list[str] | None = None) -> Path:
    """Write the page; where it is."""
    parser = Parser("r1ci.py report", __doc__.split("\n\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN",
                        help="run folder, such as runs/tiny/grpo")
    parser.add_argument("--out", type=Path, help="the page (default: report.html in the last RUN)")
    parser.add_argument("--episodes", type=whole(), default=1000,
                        help="show at most so many (default: 1000); fewer where the page would pass 5 MB")
    args = parser.parse_args(argv)
    out = args.out or args.runs[-1] / "report.html"
    check_writable(out)
    write_report(args.runs, out, args.episodes)
    print(f"Written: {out} ({out.stat().st_size / 1e6:.1f} MB)")
    return out
