"""Run folders: what a training run leaves behind, and how it survives being killed.

    runs/<model>/<stage>/config.json     every resolved setting
                         metrics.jsonl   one line a step
                         episodes.jsonl  some episodes a step, token by token
                         questions.jsonl the questions of each step: [task, seed, level, right, samples]
                         trainer.pt      trained parameters, optimizer, random state, position
                         adapter/ or model/, eval.json

`trainer.pt` is written under a temporary name and renamed, so there is always one whole checkpoint. A resumed run
cuts metrics and episodes back to that checkpoint before it goes on: no gap, no double line. Questions and sampling
depend on (seed, step) only, so a run that was killed and resumed gives the numbers of one that was not.
"""
import contextlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import torch

from models import write_json


class RunError(ValueError):
    """A run folder that cannot be used; the message says what to do."""


def fail(message: object) -> None:
    """One clear line on stderr and exit code 2: the end of every bad input."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(2)


def command(main) -> None:
    """Run a script's main; Ctrl-C outside a training step ends it in one line, too."""
    try:
        main()
    except KeyboardInterrupt:
        print("\nStopped. The same command with --resume goes on with it.", file=sys.stderr)
        raise SystemExit(130) from None


class Run:
    """A run folder. New ones are created; used ones need --resume (go on) or --overwrite (start again)."""

    def __init__(self, folder: Path, config: dict, resume: bool = False, overwrite: bool = False):
        self.folder, self.config = folder, json.loads(json.dumps(config, default=str))
        used = (folder / "config.json").exists()
        if used and not resume and not overwrite:
            raise RunError(f"{folder} already holds a run: --resume goes on with it, --overwrite starts again, "
                           "--out DIR uses another folder")
        if resume and not used:
            raise RunError(f"there is no run to resume in {folder}")
        if resume:
            self._same_settings()
        try:
            if overwrite and used:
                shutil.rmtree(folder)
            folder.mkdir(parents=True, exist_ok=True)
            if not resume:
                write_json(folder / "config.json", self.config)
        except OSError as error:
            raise RunError(f"cannot write the run folder {folder}: {error.strerror}") from None

    def _same_settings(self) -> None:
        """A resumed run must be the same run; only how long it goes on may change."""
        old = json.loads((self.folder / "config.json").read_text())
        free = {"resume", "overwrite", "steps", "out", "device", "save_every", "eval_questions"}
        for name in sorted(set(old) | set(self.config) - free):
            if name not in free and old.get(name) != self.config.get(name):
                raise RunError(f"{self.folder} was run with {name}={old.get(name)}, not {self.config.get(name)}: resume "
                               "with the same settings, or use another --out")

    def log(self, metrics: dict) -> None:
        """Append one line to metrics.jsonl."""
        self._append("metrics.jsonl", [metrics])

    def log_episodes(self, records: list[dict]) -> None:
        """Append lines to episodes.jsonl."""
        self._append("episodes.jsonl", records)

    def log_drawn(self, record: dict) -> None:
        """Append one line to questions.jsonl: what a step asked, and how often it was answered right."""
        self._append("questions.jsonl", [record])

    def _append(self, name: str, records: list[dict]) -> None:
        with open(self.folder / name, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)

    def metrics(self) -> list[dict]:
        """All lines of metrics.jsonl."""
        return read_jsonl(self.folder / "metrics.jsonl")

    def drawn(self) -> list[dict]:
        """All lines of questions.jsonl."""
        return read_jsonl(self.folder / "questions.jsonl")

    def checkpoint(self, policy, optimizers: list, step: int) -> None:
        """Save what training needs to go on after `step` finished steps."""
        state = {"step": step, "parameters": trained_parameters(policy), "random": torch.get_rng_state(),
                 "optimizers": [optimizer.state_dict() for optimizer in optimizers]}
        fresh = self.folder / "trainer.pt.new"
        torch.save(state, fresh)
        os.replace(fresh, self.folder / "trainer.pt")

    def restore(self, policy, optimizers: list) -> int:
        """Load the last checkpoint into policy and optimizers; the number of finished steps (0 if there is none)."""
        path = self.folder / "trainer.pt"
        state = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else {"step": 0}
        if state["step"]:
            with torch.no_grad():
                for name, parameter in trained_parameters(policy).items():
                    parameter.copy_(state["parameters"][name])
            for optimizer, saved in zip(optimizers, state["optimizers"]):
                optimizer.load_state_dict(saved)
            torch.set_rng_state(state["random"])
        for name in ("metrics.jsonl", "episodes.jsonl", "questions.jsonl"):
            kept = [record for record in read_jsonl(self.folder / name) if record["step"] < state["step"]]
            fresh = self.folder / f"{name}.new"
            fresh.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept), "utf-8")
            os.replace(fresh, self.folder / name)
        return state["step"]


def trained_parameters(policy) -> dict[str, torch.Tensor]:
    """Name -> parameter, of the parameters that are trained."""
    return {name: parameter for name, parameter in policy.named_parameters() if parameter.requires_grad}


def read_jsonl(path: Path) -> list[dict]:
    """The lines of a JSONL file; a last line that a kill cut short is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text("utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return records


@contextlib.contextmanager
def stoppable():
    """Yields a function that tells whether Ctrl-C was pressed: the step is finished and saved, then the run stops.

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
