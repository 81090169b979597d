"""Run folders: what a training run leaves behind, and how it survives being killed.

    runs/<model>/<stage>/config.json     every resolved setting
                         metrics.jsonl   one line a step
                         episodes.jsonl  some episodes a step, token by token
                         questions.jsonl the questions of each step: [task, seed, level, right, samples]
                         trainer.pt      the last checkpoint: trained parameters, optimizer, random state, position
                         adapter/ or model/, eval.json     the policy at the end
                         best/           RL: the policy of the checkpoint whose steps were the most accurate

`trainer.pt` is written under a temporary name and renamed, so there is always one whole checkpoint, also when the disk
is full. A resumed run cuts metrics and episodes back to that checkpoint before it goes on: no gap, no double line.
Questions and sampling depend on (seed, step) only, so a run that was killed and resumed gives the numbers of one that
was not. With several processes (`parallel.py`), rank 0 writes. An evaluation keeps every finished episode (`Log`).
"""
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError

import parallel
from memory import DoesNotFit
from models import save, write_json
from rollout import Episode, Turn
from tasks import Question


class RunError(ValueError):
    """A run folder that cannot be used; the message says what to do."""


def fail(message: object) -> None:
    """One clear line on stderr and exit code 2: the end of every bad input."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(2)


def command(main, hint: str = "The same command with --resume goes on with it.") -> None:
    """Run a script's main; Ctrl-C outside a training step, and too little memory, end it in one line, too."""
    try:
        main()
    except DoesNotFit as error:
        fail(error)
    except KeyboardInterrupt:
        print(f"\nStopped. {hint}", file=sys.stderr)
        raise SystemExit(130) from None


@contextlib.contextmanager
def writing(what: Path):
    """A write that fails ends the run in one line; what was there before is still there."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        fail(f"cannot write {what}: {reason}. Nothing older is lost: when there is room again, --resume goes on from the "
             "last checkpoint")


class Run:
    """A run folder. New ones are created; used ones need --resume (go on) or --overwrite (start again)."""

    def __init__(self, folder: Path, config: dict, resume: bool = False, overwrite: bool = False):
        self.folder, self.config = folder, plain(config)
        self.writes, self.last = parallel.rank() == 0, 0  # last: finished steps of the last checkpoint
        if not self.writes:
            return
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
        free = {"resume", "overwrite", "steps", "out", "device", "save_every", "eval_questions", "slots", "micro_tokens",
                "concurrency", "api_timeout", "price_in", "price_out"}
        for name in changed(old, self.config):
            if name not in free:
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
        if not self.writes:
            return
        with writing(self.folder / name), open(self.folder / name, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)

    def metrics(self) -> list[dict]:
        """All lines of metrics.jsonl."""
        return read_jsonl(self.folder / "metrics.jsonl")

    def drawn(self) -> list[dict]:
        """All lines of questions.jsonl."""
        return read_jsonl(self.folder / "questions.jsonl")

    def checkpoint(self, trained: dict[str, torch.Tensor], optimizers: list, step: int) -> None:
        """Save what training needs to go on after `step` finished steps; trained: name -> parameter."""
        state = {"step": step, "parameters": trained, "random": torch.get_rng_state(),
                 "optimizers": [optimizer.state_dict() for optimizer in optimizers]}
        if not self.writes:
            return
        fresh, final = self.folder / "trainer.pt.new", self.folder / "trainer.pt"
        with writing(final):
            with open(fresh, "wb") as file:
                torch.save(state, file)
                os.fsync(file.fileno())  # on the disk before it gets the good name
            os.replace(fresh, final)
        self.last = step

    def keep_best(self, policy, tokenizer, step: int) -> None:
        """Save the policy to best/ if the steps since the last checkpoint were the most accurate so far.

        The measure costs nothing and cannot be trained on: every step's questions are new, so its accuracy is that of
        the policy on unseen questions of the training tasks. It is a mean over some steps, and noisy. With a curriculum
        the questions are those of a pool and come again, and its stages are not equally hard.
        """
        if not self.writes:
            return
        best = self.folder / "best"
        kept = json.loads((best / "best.json").read_text()) if (best / "best.json").exists() else {"accuracy": -1}
        recent = [line["accuracy"] for line in self.metrics() if self.last <= line["step"] < step]
        accuracy = sum(recent) / max(1, len(recent))
        if recent and accuracy > kept["accuracy"]:
            with writing(best):
                best.mkdir(exist_ok=True)
                save(policy, tokenizer, best)
                write_json(best / "best.json", {"step": step, "accuracy": accuracy, "steps": len(recent)})

    def restore(self, trained: dict[str, torch.Tensor], optimizers: list) -> int:
        """Load the last checkpoint, if there is one; the number of finished steps. trained: name -> parameter."""
        path = self.folder / "trainer.pt"
        state = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else {"step": 0}
        if state["step"]:
            with torch.no_grad():
                for name, parameter in trained.items():
                    parameter.copy_(state["parameters"][name])
            for optimizer, saved in zip(optimizers, state["optimizers"]):
                optimizer.load_state_dict(saved)
            torch.set_rng_state(state["random"])
        for name in ("metrics.jsonl", "episodes.jsonl", "questions.jsonl") if self.writes else ():
            kept = [record for record in read_jsonl(self.folder / name) if record["step"] < state["step"]]
            write_jsonl(self.folder / name, kept)
        self.last = state["step"]
        return self.last

    def write(self, name: str, value) -> None:
        """Write a JSON file."""
        if self.writes:
            with writing(self.folder / name):
                write_json(self.folder / name, value)

    def save(self, policy, tokenizer) -> None:
        """Save the policy of the finished run."""
        if self.writes:
            with writing(self.folder):
                save(policy, tokenizer, self.folder)


def plain(settings: dict) -> dict:
    """Settings as JSON gives them back: tuples are lists, paths are texts."""
    return json.loads(json.dumps(settings, default=str))


def changed(old: dict, new: dict) -> list[str]:
    """The names of settings that differ."""
    return [name for name in sorted(set(old) | set(new)) if old.get(name) != new.get(name)]


class Log:
    """FILE.episodes.jsonl: the settings of an evaluation, then its finished episodes, one a line, numbered.

    RunError where there is an evaluation with other settings, unless `overwrite`.
    """

    def __init__(self, path: Path, settings: dict, overwrite: bool = False):
        self.path, self.settings = path, plain(settings)
        self.lines, self.opened = [] if overwrite else read_jsonl(path), False
        old = self.lines[0].get("settings", {}) if self.lines else self.settings
        for name in changed(old, self.settings):
            values = f"{old.get(name)}, not {self.settings.get(name)}"
            what = "the policy was saved anew since" if name == "policy" else "the questions have changed" \
                if name == "questions_hash" else f"it has {name}={values}"
            raise RunError(f"{path} holds another evaluation ({what}): go on with the same settings, write elsewhere "
                           "with --out, or start again with --overwrite")

    def read(self, questions: list[Question], samples: int) -> dict[int, Episode]:
        """Number -> episode, of those that are finished; ids, mask and log-probabilities are not kept."""
        done = {}
        for line in self.lines[1:]:
            episode = Episode(questions[line["number"] // samples], [], [], [])
            episode.turns = [Turn(**turn) for turn in line["turns"]]
            episode.answer, episode.correct, episode.stop = line["answer"], line["correct"], line["stop"]
            episode.reward = float(episode.correct)
            done[line["number"]] = episode
        return done

    def write(self, episodes: dict[int, Episode]) -> None:
        """Add finished episodes (on rank 0). The first time, a line that a kill cut short goes."""
        if parallel.rank() > 0:
            return
        with writing(self.path):
            if not self.opened:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_jsonl(self.path, [{"settings": self.settings}, *self.lines[1:]])
                self.opened = True
            with open(self.path, "a", encoding="utf-8") as file:
                for number, e in episodes.items():
                    line = {"number": number, "task": e.question.task, "seed": e.question.seed,
                            "level": e.question.level, "correct": e.correct, "answer": e.answer, "stop": e.stop,
                            "turns": [asdict(turn) for turn in e.turns]}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")


def trained_parameters(policy) -> dict[str, torch.Tensor]:
    """Name -> parameter, of the parameters that are trained."""
    return {name: parameter for name, parameter in policy.named_parameters() if parameter.requires_grad}


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader, and a run that is killed, never leave or see half of it."""
    fresh = path.with_name(path.name + ".new")
    with writing(path):
        fresh.write_text(text, "utf-8")
        os.replace(fresh, path)


def write_section(path: Path, name: str, text: str) -> None:
    """Put a text into a markdown file that several commands write, between comment lines with this name; what else is
    in the file stays."""
    begin, end = f"<!-- {name}: begin, written by a command -->", f"<!-- {name}: end -->"
    old = path.read_text("utf-8") if path.exists() else ""
    block, lines = f"{begin}\n{text.strip()}\n{end}", old.split("\n")
    first, last = ([i for i, line in enumerate(lines) if line == mark] for mark in (begin, end))
    if not first and not last:
        new = (old.rstrip() + "\n\n" if old.strip() else "") + block + "\n"
    elif len(first) == len(last) == 1 and first < last:
        new = "\n".join([*lines[:first[0]], block, *lines[last[0] + 1:]])
    else:
        raise RunError(f"{path} must have the lines {begin} and {end} once each, in this order, or neither: put the "
                       "missing one back, or take the other one out")
    write_text(path, new)


def settings_of_run(folder: Path) -> dict | None:
    """The settings of the run that this folder, or the one above it (for best/), belongs to; None if there are none."""
    for place in (folder, folder.resolve().parent):
        with contextlib.suppress(OSError, ValueError):
            return json.loads((place / "config.json").read_text("utf-8"))
    return None


def write_jsonl(path: Path, records: Iterable[dict]) -> None:
    """Write JSONL, as a whole."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def read_jsonl(path: Path) -> list[dict]:
    """The lines of a JSONL file; a last line that a kill cut short is left out."""
    if not path.exists():
        return []
    records = []
    # Not splitlines(): it also splits at U+2028 and U+0085, which JSON keeps as they are. A cut may split a character.
    for line in path.read_text("utf-8", errors="replace").split("\n"):
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
