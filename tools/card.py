"""The model card of a run: what the policy was trained on and how, what was measured, and its limits."""
from pathlib import Path

from runs import PRESETS, read_json, run_name

# Settings that a card tells, where a run has them.
TOLD = ("algorithm", "reward", "aggregate", "steps", "questions", "samples", "batch", "lr", "kl",
        "temperature", "curriculum", "lora_rank", "quantize", "dtype", "turn_tokens", "episode_tokens",
        "calls", "seed")
ANSWERS = {"angle": "<<<answer>>>", "boxed": "\\boxed{answer}", "tags": "<answer>answer</answer>"}
TASKS_SHOWN = 40


def card(run: Path, config: dict) -> str:
    """The card as markdown; config: the settings of the run."""
    tiny, stage = config["model"] == "tiny", config.get("algorithm", "sft")
    base = ("A model of 1.2 million parameters, made from nothing" if tiny
            else (PRESETS.get(config["model"]) or {}).get("hub") or run_name(config["model"]))
    settings = "\n".join(f"| {name} | {config[name]} |" for name in TOLD if name in config)
    return f"""# {run_name(config["model"])} after {stage.upper()} (r1ci)

{base}, trained with r1ci, a reimplementation of R1-Code-Interpreter
(arXiv 2505.21668), to decide while it reasons when to write Python. A turn that ends in a python block waits
for the block's output, which is the next turn. The answer stands in `{ANSWERS[config["answer_format"]]}`.
Something has to run the programs, and that should be a sandbox.

## Data

{data(config, stage)}

## Settings

| | |
|---|---|
{settings}

## Accuracy

{accuracy(run)}

## Limits

- Trained and measured on questions that a rule can check. {"It knows nothing else." if tiny else ""}
- One run with one seed. The intervals are for more questions of the same tasks, not for other tasks.
- Measured with the prompts and the sampling of r1ci ({config["mode"]} mode); others give other figures.
- A program that it writes may be wrong, or do harm.
"""


def data(config: dict, stage: str) -> str:
    """What it was trained on."""
    if stage == "sft" and config.get("data"):
        return f"Conversations from `{Path(config['data']).name}`."
    levels = ", ".join(map(str, config["levels"]))
    tasks = ",".join(Path(name).name for name in config["tasks"].split(","))
    chosen = f"questions of the tasks `{tasks}`, level {levels} (`r1ci.py tasks`)"
    return (f"Worked conversations about {chosen}, their programs really run." if stage == "sft"
            else f"New {chosen} at every step.")


def accuracy(run: Path) -> str:
    """A table of what was measured: before and after training, and by evaluate.py."""
    from evaluate import interval, percent
    found: dict[str, dict] = {}
    for file in (run / "before-after.json", run / "eval.json"):
        result = read_json(file, dict) if file.is_file() else {}
        found |= {"evaluate.py": result} if "tasks" in result else result
    if not found:
        return "Not measured; `evaluate.py --run` does it."

    def row(name: str, part: dict) -> str:
        sure = f" ({interval(part['low'], part['high'])})" if "low" in part else ""
        share, code = percent(part["accuracy"]), percent(part["code"])
        return f"| {name} | {share}{sure} | {code} | {part['questions']} |"

    last, result = list(found.items())[-1]
    tasks = [row(f"{last}: {task}", part) for task, part in list(result["tasks"].items())[:TASKS_SHOWN]]
    return "\n".join([
        "| held-out questions | right (95%) | answered with a program | questions |", "|---|---|---|---|",
        *(row(name, part) for name, part in found.items()), *tasks])
