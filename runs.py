"""What a run is: its settings (presets, shared flags), its folder, and how it ends when something is wrong.

One dial: `--model`. A preset says everything that depends on the size of the model; each value is the default
of the flag of the same name, so `python grpo.py --model 3b --lr 1e-5` changes one thing.

    runs/<model>/<stage>/config.json     every resolved setting
                         metrics.jsonl   one line a step
                         episodes.jsonl  a whole group of each step; before.jsonl, after.jsonl: held out
                         questions.jsonl the questions of each step: [task, seed, level, right, samples]
                         trainer.pt      the last checkpoint: parameters, optimizer, random state, position
                         adapter/ or model/            the policy at the end
                         r1ci.lock       says that this is a run's folder, and which process works in it

There is always one whole checkpoint, also when the disk is full. A resumed run cuts metrics and episodes back
to it: no gap, no double line. Questions and sampling depend on (seed, step) only, so a run that was killed
and resumed gives the numbers of one that was not. Nothing here needs torch, so `--help` answers at once.
"""
import argparse
import contextlib
import copy
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # how long torch's threads spin while they wait


# ----------------------------------------------------------------------------------------- how a command ends
class UserError(ValueError):
    """Something the user can put right; the message says in one line what is wrong and what is right."""


def command(main, hint: str = "If the run had begun, the same command with --resume goes on.") -> None:
    """Run a script's main. A mistake of the user ends it in one line with exit code 2, Ctrl-C with 130."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a terminal that has no such letter shows "?"
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # Slurm's way to press Ctrl-C
    try:
        main()
        sys.stdout.flush()  # what cannot be printed shows now
        return
    except UserError as error:
        code, text = 2, f"error: {' '.join(str(error).split())}"
    except KeyboardInterrupt:
        code, text = 130, f"\nStopped. {hint}"
    except OSError as error:  # a full disk; or whoever read the output has seen enough, as with `| head`
        code, text = 2, f"error: {error.filename or 'the output'}: {error.strerror or error}"
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(text, file=sys.stderr)
    raise SystemExit(code)


@contextlib.contextmanager
def stoppable():
    """Yields a function: was Ctrl-C pressed, or SIGTERM sent? A step is finished then; twice ends at once."""
    pressed, previous = [], {}

    def handler(number, frame):
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)
        print("\nStopping after this step (press Ctrl-C again to stop at once) ..", file=sys.stderr)

    with contextlib.suppress(ValueError):  # not the main thread (a notebook, a test): nothing to catch there
        previous = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(pressed)
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


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
    "dtype": "bfloat16", "quantize": "none", "lora_rank": 32, "tasks": "train", "teacher": "none",
    "levels": "1-5", "style": "full", "answer_format": "angle", "turn_tokens": 768, "episode_tokens": 4096,
    "calls": 8, "results_chars": 2000, "slots": 64, "exact": False, "rollout_weights": "same",
    "eval_questions": 128, "eval_temperature": 0.6, "micro_tokens": 8192, "gradient_checkpointing": True,
    "sft": {"lr": 1e-4, "batch": 32, "epochs": 3, "steps": 0, "per_task": 70, "text_share": 0.2,
            "multi_share": 0.3, "fallback_share": 0.0, "learn_slips": False, "fill": 0, "optimizer": "adamw"},
    "rl": {"lr": 1e-5, "critic_lr": 1e-4, "questions": 25, "samples": 5, "steps": 150, "kl": 0.001}}


def _preset(hub: str | None, shape: tuple | None = None, **changes) -> dict:
    parts = {part: {**PRETRAINED[part], **changes.pop(part, {})} for part in ("sft", "rl")}
    return {**PRETRAINED, "hub": hub, "shape": shape, **changes, **parts}


TINY = {"dtype": "float32", "lora_rank": 0, "tasks": "tiny", "levels": "1", "style": "short",
        "turn_tokens": 96, "episode_tokens": 320, "calls": 4, "results_chars": 300, "slots": 128,
        "exact": True, "eval_questions": 400, "eval_temperature": 1.0, "gradient_checkpointing": False,
        "sft": {"lr": 1.5e-2, "epochs": 1, "steps": 900, "per_task": 1500, "text_share": 0.55,
                "multi_share": 0.1, "learn_slips": True, "optimizer": "muon"},
        "rl": {"lr": 5e-4, "critic_lr": 1e-3, "questions": 16, "samples": 8, "steps": 60, "kl": 0.0}}
SMALL = {"turn_tokens": 256, "episode_tokens": 1536, "calls": 4, "results_chars": 1000, "micro_tokens": 2048,
         "eval_questions": 32, "gradient_checkpointing": False, "sft": {"batch": 8},
         "rl": {"questions": 8, "samples": 4}}
# So small that all its parameters are trained (with LoRA it learns less), on what is short and easy.
SMOLLM2 = {**SMALL, "lora_rank": 0, "rollout_weights": "merged", "levels": "1", "turn_tokens": 192,
           "episode_tokens": 640, "calls": 2, "results_chars": 400, "micro_tokens": 4096,
           "sft": {"batch": 16, "lr": 2e-4, "text_share": 0.5, "multi_share": 0.1, "fallback_share": 0.25},
           "rl": {"questions": 8, "samples": 8, "lr": 3e-5, "kl": 0.0}}
# They see instructions only behind the question, and learn most from what they wrote (r1ci.py teach, or run).
CODER = {**SMALL, "style": "after", "answer_format": "boxed", "lora_rank": 8, "rollout_weights": "merged",
         "levels": "1-3", "turn_tokens": 384, "episode_tokens": 1024, "calls": 3, "teacher": "self",
         "sft": {"batch": 16, "lr": 2e-4, "multi_share": 0.1, "fill": 3},
         "rl": {"questions": 16, "samples": 8, "lr": 1e-4, "kl": 0.0}}
# Shapes: layers, hidden, heads, key/value heads, MLP, vocabulary, tied embeddings (for --random-weights).
PRESETS = {
    "tiny": _preset(None, **TINY),
    "smollm2": _preset("HuggingFaceTB/SmolLM2-135M-Instruct", (30, 576, 9, 3, 1536, 49152, True), **SMOLLM2),
    "0.5b": _preset("Qwen/Qwen2.5-0.5B-Instruct", (24, 896, 14, 2, 4864, 151936, True), **SMALL),
    "1.5b": _preset("Qwen/Qwen2.5-1.5B-Instruct", (28, 1536, 12, 2, 8960, 151936, True)),
    "coder-0.5b": _preset("Qwen/Qwen2.5-Coder-0.5B-Instruct", (24, 896, 14, 2, 4864, 151936, True), **CODER),
    "coder-1.5b": _preset("Qwen/Qwen2.5-Coder-1.5B-Instruct", (28, 1536, 12, 2, 8960, 151936, True), **CODER),
    "3b": _preset("Qwen/Qwen2.5-3B-Instruct", (36, 2048, 16, 2, 11008, 151936, True), quantize="nf4"),
    "7b": _preset("Qwen/Qwen2.5-7B-Instruct-1M", (28, 3584, 28, 4, 18944, 152064, False),
                  quantize="nf4", slots=48),
    "14b": _preset("Qwen/Qwen2.5-14B-Instruct-1M", (48, 5120, 40, 8, 13824, 152064, False),
                   quantize="nf4", slots=32)}
for _b in ("7b", "14b"):
    PRESETS[f"r1-distill-{_b}"] = PRESETS[_b] | {"hub": f"deepseek-ai/DeepSeek-R1-Distill-Qwen-{_b.upper()}"}
SERVED = "openai:"  # a model behind a server: it can be asked, not trained


def preset(model: str, settings: str | None = None) -> dict:
    """A copy of a preset; for a hub id PRETRAINED's, for a folder SMALL's, or that of `settings`."""
    if settings:
        return {**copy.deepcopy(PRESETS[settings]), "hub": preset(model)["hub"]}
    if model in PRESETS:
        return copy.deepcopy(PRESETS[model])
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"{model} is a folder without config.json, so it is no model of transformers")
        return _preset(str(path), **SMALL)
    if model.startswith(SERVED) or model.count("/") == 1 and not model.startswith((".", "/", "~")):
        return _preset(model)
    raise UserError(f"unknown model {model!r}: choose {', '.join(PRESETS)}, a hub id (org/name), a local "
                    "folder, or openai:NAME to ask a server")


def run_name(model: str) -> str:
    """The name of a model in run folders: 'tiny', 'Qwen--Qwen2.5-3B', the last part of a local path."""
    path = Path(model).expanduser()
    return path.resolve().name if path.is_dir() else re.sub("[/:]", "--", model)


# ------------------------------------------------------------------------------------------------------ flags
def real(low: float, high: float, kind=float):
    """An argparse type: a number from `low` to `high`."""
    def read(text: str):
        with contextlib.suppress(ValueError):
            value = kind(text)
            if low <= value <= high:  # not NaN
                return value
        what = f"a {'whole ' if kind is int else ''}number from {low:,} to {high:,}"
        raise argparse.ArgumentTypeError(f"{what} is needed, not {text!r}")
    return read


def whole(low: int = 1, high: int = 1_000_000):
    """An argparse type: a whole number from `low` to `high`."""
    return real(low, high, int)


SEED = whole(0, 2**31 - 1)


def parse_levels(text: str) -> tuple[int, ...]:
    """'1-3,5' -> (1, 2, 3, 5)."""
    parts = [re.fullmatch(r"\s*([1-5])(?:-([1-5]))?\s*", part) for part in text.split(",")]
    levels = [level for part in parts if part for level in range(int(part[1]), int(part[2] or part[1]) + 1)]
    if not (levels and all(parts)):
        raise argparse.ArgumentTypeError(f"levels go from 1 (easy) to 5 (hard): 1, 1-3 or 2,4, not {text!r}")
    return tuple(levels)


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default to each help text, where there is one to speak of."""

    def _get_help_string(self, action):
        return action.help if action.default in (None, False, []) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with a flag (argparse prints all flags first)."""

    def __init__(self, prog: str | None = None, description: str | None = None, **more):
        super().__init__(prog, None, description, formatter_class=HelpFormatter, allow_abbrev=False, **more)

    def error(self, message: str):
        raise UserError(f"{message} ({self.prog} --help lists what there is)")


def make_parser(argv, description: str, prog: str | None = None, served=False) -> tuple[Parser, dict]:
    """(parser with the flags that all commands share, preset): --model is read first, as it rules defaults.
    With --run, the model is that run's; another is refused, unless it is a folder and the run's own was a hub
    id, or a folder that is gone. served: one behind a server will do, as it is only asked."""
    first = Parser(add_help=False)
    first.add_argument("--model")
    first.add_argument("--preset", choices=tuple(PRESETS))
    first.add_argument("--run", type=Path)
    given = first.parse_known_args(argv)[0]
    trained = given.run and settings_of_run(given.run) or {}
    model = given.model or trained.get("model", "tiny")
    recorded = trained.get("model", model)
    moved = Path(model).is_dir() and recorded != "tiny" and not Path(recorded).is_dir()
    if run_name(recorded) != run_name(model) and not moved:
        raise UserError(f"{given.run} holds a policy of {recorded}, not of {model}: leave --model out")
    if model.startswith(SERVED) and not served:
        raise UserError(f"{model} answers over the network, so there are no weights to work on here: it can "
                        "be asked (r1ci.py evaluate, r1ci.py ask) and can teach (r1ci.py teach)")
    chosen = given.preset or trained.get("preset")
    values = preset(model, chosen)
    parser = Parser(prog, description)
    add_shared_flags(parser, values)
    parser.set_defaults(model=model, preset=chosen, style=values["style"],  # the last two have no flag
                        results_chars=values["results_chars"])
    return parser, values


def add_shared_flags(parser: argparse.ArgumentParser, values: dict) -> None:
    """The flags about model, episodes and sandbox, with the preset's values as defaults."""
    add = parser.add_argument_group("model").add_argument
    add("--model", help="preset, hub id, folder, or where it is only asked: openai:NAME (behind a server)")
    add("--preset", choices=tuple(PRESETS), help="where other defaults come from, for a hub id or a folder")
    add("--dtype", choices=("float32", "bfloat16"), default=values["dtype"], help="what matrices are "
        "multiplied in (trained weights stay float32); on a CPU without bfloat16, float32 is faster")
    add("--quantize", choices=("none", "nf4", "int8"), default=values["quantize"], help="of the frozen base")
    add("--lora-rank", type=whole(0, 4096), default=values["lora_rank"], help="0 trains all parameters")
    add("--random-weights", action="store_true", help="the model's shape without its weights (no download)")
    add("--device", default="auto", help="cpu, cuda, cuda:1 ..; auto: a GPU if there is one")
    add = parser.add_argument_group("episodes").add_argument
    add("--tasks", default=values["tasks"], help="tiny, train, test, all, a suite, an ability, names, a file")
    add("--levels", type=parse_levels, default=parse_levels(values["levels"]), help="difficulty: 1, 1-3, 2,4")
    add("--mode", choices=("interpreter", "text", "code"), default="interpreter", help="what prompts allow")
    add("--answer-format", choices=("angle", "boxed", "tags"), default=values["answer_format"],
        help="how answers are marked")
    add("--turn-tokens", type=whole(), default=values["turn_tokens"], help="most tokens in one turn")
    add("--episode-tokens", type=whole(32), default=values["episode_tokens"], help="most tokens in all")
    add("--calls", type=whole(), default=values["calls"], help="most programs")
    add("--slots", type=whole(), default=values["slots"], help="episodes that are written at the same time")
    add("--exact", action=argparse.BooleanOptionalAction, default=values["exact"], help="repeat bit by bit")
    add("--rollout-weights", choices=("same", "merged", "int8"), default=values["rollout_weights"],
        help="merged: from a plain copy (LoRA merged in, nothing quantised); int8: in 8 bits, on a CPU")
    add = parser.add_argument_group("sandbox").add_argument
    add("--sandbox", choices=("auto", "require"), default="auto", help="require: no start if it has holes")
    add("--sandbox-timeout", type=real(0.01, 3600), default=5.0, help="seconds per program")


def settings_of_run(folder: Path) -> dict | None:
    """The settings of the run that this folder belongs to; None if there are none. UserError: damaged."""
    path = folder / "config.json"
    return read_json(path, dict) if path.is_file() else None


# ------------------------------------------------------------------------------------------------------ files
@contextlib.contextmanager
def writing(what: Path, *others: type[Exception], hint: str = ""):
    """A write that fails is a UserError. others: what a library raises when the disk is full, not OSError."""
    try:
        yield
    except (OSError, *others) as error:
        raise UserError(f"cannot write {what}: {getattr(error, 'strerror', None) or error}{hint}") from None


def check_writable(path: Path) -> None:
    """UserError if no file can be written there: tried before the work. Leaves nothing behind."""
    missing = [place for place in (path, *path.parents) if not place.exists()]  # the innermost first
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        open(path, "ab").close()
    for place in missing:
        place.rmdir() if place.is_dir() else place.unlink()


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


def read_json(path: Path, kind: type):
    """The JSON value in a file, which must be of this type. UserError if it is not."""
    with contextlib.suppress(ValueError):
        value = json.loads(path.read_text("utf-8"))
        if isinstance(value, kind):
            return value
    raise UserError(f"{path} is damaged, or no such file: mend it, or take it away")


def read_jsonl(path: Path) -> list[dict]:
    """The objects in a JSONL file; a last line that a kill cut short is left out. UserError: damaged."""
    # Not splitlines(): it also splits at U+2028 and U+0085, which JSON keeps as they are.
    lines, records = path.read_bytes().split(b"\n") if path.exists() else [], []
    for number, line in enumerate(lines, 1):
        value = None
        with contextlib.suppress(ValueError):  # UnicodeDecodeError is one, too
            value = json.loads(line)
        if isinstance(value, dict):
            records.append(value)
        elif number < len(lines):
            raise UserError(f"{path}, line {number} is damaged, no JSON object: mend it, or take it away")
    return records


def as_json(settings: dict) -> dict:
    """Settings as JSON gives them back: tuples are lists, paths are texts."""
    return json.loads(json.dumps(settings, default=str))


def differing(old: dict, new: dict) -> list[str]:
    """The names of settings that differ."""
    return [name for name in sorted(set(old) | set(new)) if old.get(name) != new.get(name)]


# ------------------------------------------------------------------------------------------------ run folders
# What may change when a run is resumed: how long it goes on, and what only decides about speed.
FREE = set("resume overwrite steps out device save_every eval_questions slots micro_tokens".split())
KEPT = "; nothing older is lost, and the same command with --resume goes on from the last checkpoint"
MARKER = "r1ci.lock"
TRAINED = ("config.json", "trainer.pt*", "metrics.jsonl", "episodes.jsonl", "questions.jsonl", "adapter",
           "adapter.???", "model", "model.???", "data.jsonl")
# What --overwrite removes: this, and what was done with the policy. Nothing else.
WRITTEN = (*TRAINED, "stages.json", "potential.jsonl*", "before-after.json", "before.[jl]*", "after.[jl]*",
           "eval.*", "eval-text.*", "eval-code.*", "report.html")


def hold(path: Path):
    """Lock this file, our pid in it, as long as the result lives. UserError if another process has it."""
    import fcntl
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115  (closed, the lock is gone)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # other errors: a file system without locks
        raise UserError(f"process {path.read_text().strip()} works in {path.parent}: wait for its end, or "
                        "use another folder") from None
    except OSError:
        pass
    file.truncate(0)
    print(os.getpid(), file=file, flush=True)
    return file


class Run:
    """A run folder. Used ones need --resume (go on) or --overwrite (start again). Made, it only checks;
    `begin` takes the folder. What fails before that leaves everything as it was."""

    def __init__(self, folder: Path, config: dict, resume: bool = False, overwrite: bool = False):
        self.folder, self.config, self.resume, self.overwrite = folder, as_json(config), resume, overwrite
        self.writes = rank() == 0  # with torchrun, one process writes
        if self.writes:
            self._check()
            check_writable(folder / MARKER)

    def _check(self) -> None:
        """UserError if this run may not work in this folder, by its place, its files or its settings."""
        place, here, folder = self.folder.resolve(), Path.cwd(), self.folder
        why = ("the folder you are in, or one round it" if place in (here, *here.parents)
               else "a git repository" if (place / ".git").exists() else None)
        for name in {"model", "sft_run", "data"} & set(self.config):
            given = Path(self.config[name] or "tiny").expanduser().resolve()
            if str(self.config[name]) not in ("None", *PRESETS) and place in (given, *given.parents):
                why = why or f"what --{name.replace('_', '-')} names, or a folder round it"
        if why:
            raise UserError(f"--out {folder} is {why}: a run needs a folder of its own, such as runs/mine")
        used = (place / MARKER).is_file() and (place / "config.json").is_file()
        others = sorted(path.name for pattern in TRAINED for path in place.glob(pattern))
        if self.resume and not used:
            raise UserError(f"there is no run to resume in {folder}")
        if used and not self.resume and not self.overwrite:
            raise UserError(f"{folder} already holds a run: --resume goes on with it, --overwrite starts "
                            "again, --out DIR uses another folder")
        if others and not used:
            raise UserError(f"{folder} has a {others[0]}, which no run wrote: --out DIR uses another folder")
        old = settings_of_run(folder) if self.resume else self.config
        free = FREE - ({"steps"} if old.get("curriculum", "none") != "none" else set())  # of its stages
        for name in differing(old, self.config):
            if name not in free:
                raise UserError(f"{folder} was run with {name}={old.get(name)}, not {self.config.get(name)}: "
                                "resume with the same settings, or use another --out")

    def begin(self) -> None:
        """Take the folder, now that nothing is missing; an older run in it is removed only here."""
        if self.writes:
            self.lock = hold(self.folder / MARKER)
            self._check()  # another process may have been quicker
        if self.writes and not self.resume:
            old = (self.folder / "config.json").is_file()
            for path in [path for pattern in WRITTEN if old for path in self.folder.glob(pattern)]:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            self.write("config.json", self.config)

    def append(self, name: str, records: list[dict]) -> None:
        """Add lines to a JSONL file of this folder."""
        path = self.folder / name
        if self.writes:
            with writing(path, hint=KEPT), open(path, "a", encoding="utf-8") as file:
                for record in records:  # JSON has no NaN
                    none = {k: None for k, v in record.items() if isinstance(v, float) and v - v != 0}
                    file.write(json.dumps(record | none, ensure_ascii=False) + "\n")

    def read(self, name: str) -> list[dict]:
        """The lines of a JSONL file of this folder."""
        return read_jsonl(self.folder / name)

    def write(self, name: str, value) -> None:
        """Write a JSON file."""
        if self.writes:
            write_json(self.folder / name, value)

    def cut(self, steps: int) -> None:
        """Take out of the logs what was written after so many steps."""
        for name in ("metrics.jsonl", "episodes.jsonl", "questions.jsonl") if self.writes else ():
            if lines := self.read(name):
                write_jsonl(self.folder / name, [line for line in lines if line["step"] < steps])
