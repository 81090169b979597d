"""What a run is: its settings (presets, shared flags), its folder, and how it ends when something is wrong.

One dial: `--model`. A preset says everything that depends on the size of the model; each value is the default
of the flag of the same name, so `python grpo.py --model 3b --lr 1e-5` changes one thing and `--help` shows
the rest.

    runs/<model>/<stage>/config.json     every resolved setting
                         metrics.jsonl   one line a step
                         episodes.jsonl  some episodes a step, token by token
                         questions.jsonl the questions of each step: [task, seed, level, right, samples]
                         trainer.pt      the last checkpoint: parameters, optimizer, random state, position
                         adapter/ or model/            the policy at the end

`trainer.pt` is written under a temporary name and renamed, so there is always one whole checkpoint, even when
the disk is full. A resumed run cuts metrics and episodes back to that checkpoint before it goes on: no gap,
no double line. Questions and sampling depend on (seed, step) only, so a run that was killed and resumed gives
the numbers of one that was not. With several processes (torchrun), rank 0 writes.

Nothing here needs torch before a checkpoint is written, so that `--help` answers at once.
"""
import argparse
import contextlib
import copy
import json
import math
import os
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path


# ----------------------------------------------------------------------------------------- how a command ends
class UserError(ValueError):
    """Something the user can put right; the message says in one line what is wrong and what is right."""


def command(main, hint: str = "The same command with --resume goes on with it.") -> None:
    """Run a script's main. A UserError ends it in one line with exit code 2, Ctrl-C in one line with 130."""
    try:
        main()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print(f"\nStopped. {hint}", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # whoever read the output has seen enough, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


@contextlib.contextmanager
def stoppable():
    """Yields a function that tells whether Ctrl-C was pressed: the step is finished and saved, then the run
    stops.

    A second Ctrl-C stops at once (the last checkpoint stays whole).
    """
    pressed = []

    def handler(number, frame):
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)
        print("\nStopping after this step (press Ctrl-C again to stop at once) ..", file=sys.stderr)

    try:
        previous = signal.signal(signal.SIGINT, handler)
    except ValueError:  # not the main thread (a notebook, a test): nothing to catch there
        yield lambda: False
        return
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, previous)


def rank() -> int:
    """Which of torchrun's processes this is; rank 0 writes and prints. 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


# ---------------------------------------------------------------------------------------------------- presets
# What all pretrained models share. Learning rates: the paper trains all parameters (RL at 1e-6); LoRA wants
# 10 to 100 times as much, so 1e-5 for RL and 1e-4 for SFT. KL, group size, temperature: the paper's.
PRETRAINED = {
    "shape": None, "dtype": "bfloat16", "quantize": "none", "lora_rank": 32, "tasks": "train",
    "levels": "1-5", "style": "full",
    "turn_tokens": 768, "episode_tokens": 4096, "calls": 8, "results_chars": 2000, "slots": 64,
    "exact": False, "rollout_weights": "same",
    "eval_questions": 128, "eval_temperature": 0.6, "micro_tokens": 8192, "gradient_checkpointing": True,
    "sft": {"lr": 1e-4, "batch": 32, "epochs": 3, "steps": 0, "per_task": 70, "text_share": 0.2,
            "multi_share": 0.3, "fallback_share": 0.0, "learn_slips": False, "optimizer": "adamw"},
    "rl": {"lr": 1e-5, "critic_lr": 1e-4, "questions": 25, "samples": 5, "steps": 150, "kl": 0.001,
           "save_every": 10},
}
TINY = {
    "hub": None, "shape": None, "dtype": "float32", "quantize": "none", "lora_rank": 0, "tasks": "tiny",
    "levels": "1", "style": "short", "turn_tokens": 96, "episode_tokens": 320, "calls": 4,
    "results_chars": 300, "slots": 128, "exact": True, "rollout_weights": "same",
    "eval_questions": 400, "eval_temperature": 1.0, "micro_tokens": 8192, "gradient_checkpointing": False,
    "sft": {"lr": 1.5e-2, "batch": 32, "epochs": 1, "steps": 900, "per_task": 1500, "text_share": 0.55,
            "multi_share": 0.1, "fallback_share": 0.0, "learn_slips": True, "optimizer": "muon"},
    "rl": {"lr": 5e-4, "critic_lr": 1e-3, "questions": 16, "samples": 8, "steps": 60, "kl": 0.001,
           "save_every": 10},
}


def _pretrained(hub: str, **changes) -> dict:
    parts = {part: {**PRETRAINED[part], **changes.pop(part, {})} for part in ("sft", "rl")}
    return {**PRETRAINED, "hub": hub, **changes, **parts}


SMALL = {"turn_tokens": 256, "episode_tokens": 1536, "calls": 4, "results_chars": 1000, "eval_questions": 32,
         "gradient_checkpointing": False, "sft": {"batch": 8}, "rl": {"questions": 8, "samples": 4}}
# So small that all its parameters are trained, which is faster than LoRA here, and learns more. It cannot
# carry long
# programs through, nor repair them: what it learns from is short and easy, half of it is answered without a
# program, and a quarter of its programs fail and are followed by words. No KL term: over so few steps it does
# nothing, and the reference's pass would take a quarter of the training. SFT at 5e-4 learns to write programs
# faster, and forgets more: 20 training tasks left out, 200 questions, 55 steps of SFT: 11% (7..16) right with
# 5e-4, 16% (12..22) with 2e-4.
SMOLLM2 = {**SMALL, "shape": (30, 576, 9, 3, 1536, 49152, True), "lora_rank": 0,
           "rollout_weights": "merged", "levels": "1", "turn_tokens": 192,
           "episode_tokens": 640, "calls": 2, "results_chars": 400, "micro_tokens": 4096,
           "sft": {"batch": 16, "lr": 2e-4, "text_share": 0.5, "multi_share": 0.1, "fallback_share": 0.25},
           "rl": {"questions": 8, "samples": 8, "lr": 3e-5, "kl": 0.0}}
# Shapes: layers, hidden, heads, key/value heads, MLP, vocabulary, tied embeddings (for --random-weights).
SHAPE_3B = (36, 2048, 16, 2, 11008, 151936, True)
SHAPE_7B = (28, 3584, 28, 4, 18944, 152064, False)
SHAPE_14B = (48, 5120, 40, 8, 13824, 152064, False)
DISTILLED = "deepseek-ai/DeepSeek-R1-Distill-Qwen"
PRESETS = {
    "tiny": TINY,
    "smollm2": _pretrained("HuggingFaceTB/SmolLM2-135M-Instruct", **SMOLLM2),
    "0.5b": _pretrained("Qwen/Qwen2.5-0.5B-Instruct", shape=(24, 896, 14, 2, 4864, 151936, True), **SMALL),
    "1.5b": _pretrained("Qwen/Qwen2.5-1.5B-Instruct", shape=(28, 1536, 12, 2, 8960, 151936, True)),
    "3b": _pretrained("Qwen/Qwen2.5-3B-Instruct", shape=SHAPE_3B, quantize="nf4"),
    "7b": _pretrained("Qwen/Qwen2.5-7B-Instruct-1M", shape=SHAPE_7B, quantize="nf4", slots=48),
    "14b": _pretrained("Qwen/Qwen2.5-14B-Instruct-1M", shape=SHAPE_14B, quantize="nf4", slots=32),
    "r1-distill-7b": _pretrained(f"{DISTILLED}-7B", shape=SHAPE_7B, quantize="nf4", slots=48),
    "r1-distill-14b": _pretrained(f"{DISTILLED}-14B", shape=SHAPE_14B, quantize="nf4", slots=32),
}
SERVED = "openai:"  # a model behind a server: it can be asked, not trained


def preset(model: str, settings: str | None = None) -> dict:
    """A copy of a preset; for a hub id PRETRAINED's settings, for a local folder SMALL's.

    settings: the name of the preset to take them from, for a hub id or folder that holds a model of that
    size.
    """
    if settings:
        return {**copy.deepcopy(PRESETS[settings]), "hub": preset(model)["hub"]}
    if model in PRESETS:
        return copy.deepcopy(PRESETS[model])
    if model.startswith(SERVED):
        return _pretrained(model)
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"{model} is a folder without config.json, so it is no model; give a folder that "
                            "transformers can load")
        return _pretrained(str(path), **SMALL)
    if model.count("/") == 1 and not model.startswith((".", "/", "~")):
        return _pretrained(model)
    raise UserError(f"unknown model {model!r}: choose {', '.join(PRESETS)}, a hub id (org/name), a local "
                    "folder, or openai:NAME to ask a server")


def run_name(model: str) -> str:
    """The name of a model in run folders: 'tiny', 'Qwen--Qwen2.5-3B', the last part of a local path."""
    path = Path(model).expanduser()
    return path.resolve().name if path.is_dir() else model.replace("/", "--").replace(":", "--")


# ------------------------------------------------------------------------------------------------------ flags
def at_least(low: float, kind=int):
    """An argparse type: a finite number, not below `low`."""
    def number(text: str):
        with contextlib.suppress(ValueError):
            value = kind(text)
            if low <= value < math.inf:
                return value
        raise argparse.ArgumentTypeError(f"a {'whole ' if kind is int else ''}number from {low:g} on is "
                                         f"needed, not {text!r}")
    return number


positive = at_least(1)


def parse_levels(text: str | tuple) -> tuple[int, ...]:
    """'1-3,5' -> (1, 2, 3, 5)."""
    if isinstance(text, tuple):
        return text
    levels = []
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        if not low.isdigit() or not (high or low).isdigit():
            raise argparse.ArgumentTypeError(f"levels are numbers from 1 to 5, such as 1-3 or 2,4, not "
                                             f"{text!r}")
        levels += range(int(low), int(high or low) + 1)
    if not levels or not set(levels) <= {1, 2, 3, 4, 5}:
        raise argparse.ArgumentTypeError(f"levels go from 1 (easy) to 5 (hard), not {text!r}")
    return tuple(levels)


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default to each help text, where there is one to speak of."""

    def _get_help_string(self, action):
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def make_parser(argv: list[str] | None, description: str, prog: str | None = None, served: bool = False
                ) -> tuple[argparse.ArgumentParser, dict]:
    """(parser with the flags that all commands share, preset): --model is read first, since it rules the
    defaults.

    A command with --run works on the model of that run, so --model need not be given; another model is
    refused, unless it is a local folder and the run's own was a hub id, or a folder that is not there any
    more.
    served: the command only asks the model, so one behind a server will do.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)  # or --mode would be read as --model
    first.add_argument("--model")
    first.add_argument("--preset", choices=tuple(PRESETS))
    first.add_argument("--run", type=Path)
    given = first.parse_known_args(argv)[0]
    trained = given.run and settings_of_run(given.run) or {}
    model = given.model or trained.get("model", "tiny")
    recorded = trained.get("model", model)
    moved = Path(model).is_dir() and recorded not in PRESETS and not Path(recorded).is_dir()
    if run_name(recorded) != run_name(model) and not moved:
        raise UserError(f"{given.run} holds a policy of --model {recorded}, not of {model}: leave --model "
                        "out")
    if model.startswith(SERVED) and not served:
        raise UserError(f"{model} answers over the network, so there are no weights to work on here: it can "
                        "be asked (r1ci.py evaluate, r1ci.py ask) and can teach (r1ci.py teach)")
    chosen = given.preset or trained.get("preset")
    values = preset(model, chosen)
    parser = argparse.ArgumentParser(prog=prog, description=description, allow_abbrev=False,
                                     formatter_class=HelpFormatter)
    add_shared_flags(parser, values)
    # What depends on the model but has no flag stands in the settings all the same.
    parser.set_defaults(model=model, preset=chosen, style=values["style"],
                        results_chars=values["results_chars"])
    return parser, values


def add_shared_flags(parser: argparse.ArgumentParser, values: dict) -> None:
    """The flags about model, episodes and sandbox, with the preset's values as defaults."""
    add = parser.add_argument_group("model").add_argument
    add("--model", help="preset, hub id or local folder; openai:NAME (behind a server) where it is only "
        "asked")
    add("--preset", choices=tuple(PRESETS), help="for a hub id or a folder: take the other defaults from "
        "here")
    add("--dtype", choices=("float32", "bfloat16"), default=values["dtype"],
        help="what matrices are multiplied in "
        "(trained weights stay float32); on a CPU without bfloat16 arithmetic, float32 is faster")
    add("--quantize", choices=("none", "nf4", "int8"), default=values["quantize"], help="of the frozen base")
    add("--lora-rank", type=at_least(0), default=values["lora_rank"], help="0 trains all parameters")
    add("--random-weights", action="store_true", help="the model's shape without its weights (no download)")
    add("--device", default="auto", help="cpu, cuda, cuda:1 ..; auto: a GPU if there is one")
    add = parser.add_argument_group("episodes").add_argument
    add("--tasks", default=values["tasks"], help="tiny, train, test, all, a suite, an ability, names, a "
        "JSONL file")
    add("--levels", type=parse_levels, default=parse_levels(values["levels"]), help="difficulty: 1, 1-3, 2,4")
    add("--mode", choices=("interpreter", "text", "code"), default="interpreter",
        help="what the prompt allows")
    add("--answer-format", choices=("angle", "boxed", "tags"), default="angle",
        help="how an answer is marked")
    for name, what in (("turn_tokens", "most tokens in one turn"), ("episode_tokens", "most tokens in all"),
                       ("calls", "most programs"), ("slots", "episodes that are written at the same time")):
        add("--" + name.replace("_", "-"), type=positive, default=values[name], help=what)
    add("--exact", action=argparse.BooleanOptionalAction, default=values["exact"],
        help="wait for slow programs, so "
        "that a run repeats bit by bit")
    add("--rollout-weights", choices=("same", "merged"), default=values["rollout_weights"],
        help="merged: sample "
        "from a plain copy (LoRA merged in, nothing quantised): faster, if memory allows")
    add = parser.add_argument_group("sandbox").add_argument
    add("--sandbox", choices=("auto", "require"), default="auto",
        help="require: no start where programs could get out")
    add("--sandbox-timeout", type=at_least(0.01, float), default=5.0, help="seconds per program")


def settings_of_run(folder: Path) -> dict | None:
    """The settings of the run that this folder belongs to; None if there are none."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / "config.json").read_text("utf-8"))
    return None


# ------------------------------------------------------------------------------------------------------ files
@contextlib.contextmanager
def writing(what: Path, *others: type[Exception]):
    """A write that fails ends the run in one line; what was there before is still there.

    others: what a library raises in place of OSError when the disk is full.
    """
    try:
        yield
    except (OSError, *others) as error:
        raise UserError(f"cannot write {what}: {getattr(error, 'strerror', None) or error}. Nothing older "
                        "is lost: when there is room again, --resume goes on from the last "
                        "checkpoint") from None


def write_text(path: Path, text: str) -> None:
    """Write a file so that nobody ever sees half of it, also after a kill."""
    fresh = path.with_name(path.name + ".new")
    with writing(path):
        fresh.write_text(text, "utf-8")
        os.replace(fresh, path)


def write_json(path: Path, value) -> None:
    """Write JSON, as a whole."""
    write_text(path, json.dumps(value, indent=1, default=str) + "\n")


def write_jsonl(path: Path, records: Iterable[dict]) -> None:
    """Write JSONL, as a whole."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def read_jsonl(path: Path) -> list[dict]:
    """The lines of a JSONL file; a last line that a kill cut short is left out."""
    if not path.exists():
        return []
    records = []
    # Not splitlines(): it also splits at U+2028 and U+0085, which JSON keeps as they are. A cut may split a
    # character.
    for line in path.read_text("utf-8", errors="replace").split("\n"):
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return records


def as_json(settings: dict) -> dict:
    """Settings as JSON gives them back: tuples are lists, paths are texts."""
    return json.loads(json.dumps(settings, default=str))


def differing(old: dict, new: dict) -> list[str]:
    """The names of settings that differ."""
    return [name for name in sorted(set(old) | set(new)) if old.get(name) != new.get(name)]


# ------------------------------------------------------------------------------------------------ run folders
# What may change when a run is resumed: how long it goes on, and what only decides about speed.
FREE = {"resume", "overwrite", "steps", "out", "device", "save_every", "eval_questions", "slots",
        "micro_tokens"}


class Run:
    """A run folder. New ones are created; used ones need --resume (go on) or --overwrite (start again)."""

    def __init__(self, folder: Path, config: dict, resume: bool = False, overwrite: bool = False):
        self.folder, self.config = folder, as_json(config)
        self.writes = rank() == 0
        if not self.writes:
            return
        used = (folder / "config.json").exists()
        if used and not resume and not overwrite:
            raise UserError(f"{folder} already holds a run: --resume goes on with it, --overwrite starts "
                            "again, --out DIR uses another folder")
        if resume and not used:
            raise UserError(f"there is no run to resume in {folder}")
        if resume:
            self._check_settings()
        try:
            if overwrite and used:
                shutil.rmtree(folder)
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write the run folder {folder}: {error.strerror}") from None
        if not resume:
            write_json(folder / "config.json", self.config)

    def _check_settings(self) -> None:
        """A resumed run must be the same run. With a curriculum, its steps decide about the stages."""
        old = json.loads((self.folder / "config.json").read_text("utf-8"))
        free = FREE - ({"steps"} if old.get("curriculum", "none") != "none" else set())
        for name in differing(old, self.config):
            if name not in free:
                raise UserError(f"{self.folder} was run with {name}={old.get(name)}, not "
                                f"{self.config.get(name)}: resume with the same settings, or use another "
                                "--out")

    def append(self, name: str, records: list[dict]) -> None:
        """Add lines to a JSONL file of this folder."""
        if self.writes:
            with writing(self.folder / name), open(self.folder / name, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)

    def read(self, name: str) -> list[dict]:
        """The lines of a JSONL file of this folder."""
        return read_jsonl(self.folder / name)

    def write(self, name: str, value) -> None:
        """Write a JSON file."""
        if self.writes:
            write_json(self.folder / name, value)

    def checkpoint(self, parameters: dict, optimizers: list, step: int) -> None:
        """Save what training needs to go on after `step` steps; parameters: name -> trained tensor."""
        import torch
        if not self.writes:
            return
        state = {"step": step, "parameters": parameters, "random": torch.get_rng_state(),
                 "optimizers": [optimizer.state_dict() for optimizer in optimizers]}
        fresh, final = self.folder / "trainer.pt.new", self.folder / "trainer.pt"
        with writing(final, RuntimeError):
            with open(fresh, "wb") as file:
                torch.save(state, file)
                os.fsync(file.fileno())  # on the disk before it gets the good name
            os.replace(fresh, final)

    def restore(self, parameters: dict, optimizers: list) -> int:
        """Load the last checkpoint, if there is one, and cut the logs back to it; the finished steps."""
        import torch
        path = self.folder / "trainer.pt"
        state = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else {"step": 0}
        if state["step"]:
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(state["parameters"][name])
            for optimizer, saved in zip(optimizers, state["optimizers"]):
                optimizer.load_state_dict(saved)
            torch.set_rng_state(state["random"])
        for name in ("metrics.jsonl", "episodes.jsonl", "questions.jsonl") if self.writes else ():
            write_jsonl(self.folder / name, [line for line in self.read(name)
                                             if line["step"] < state["step"]])
        return state["step"]
