"""The whole story of one model, by one command: how good is it untrained, after SFT, after GRPO?

    python r1ci.py run                                      the tiny model
    python r1ci.py run --model 3b --budget 20h              sizes picked from measured speed
    python r1ci.py run --model FOLDER --preset smollm2 --budget 80m --write RESULTS.md

Every phase is a command that you could type yourself (log.txt in the run folder has them, with their output); this
module only chooses their sizes and keeps the books:

    speed          two steps of SFT and a few questions, timed                     only with --budget
    base           evaluate.py --base: 3 modes x (held-out tasks, new questions of the training tasks)
    sft            sft.py
    after-sft      evaluate.py, again 3 modes x 2 selections, the same questions
    potential      curriculum.py: how often does the SFT policy solve its RL questions?
    grpo           grpo.py --curriculum potential, in four stages
    after-grpo     evaluate.py, once more
    results        results.py: RESULTS.md and a picture of the curves

Stopped or killed, the same command goes on where it was: sizes once chosen stay as they are (story.json), and each of
the commands resumes. A budget is a plan, not a limit: evaluations, SFT and potential have fixed shares of it, and GRPO
gets what is left.
"""
import argparse
import contextlib
import json
import os
import resource
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import curriculum
import evaluate
import grpo
from experiments import results
import sft
from flags import make_parser
from memory import release
from models import ModelError, check_arguments, exists, preset, run_name, write_json
from runs import RunError, changed, fail, plain, read_jsonl
from tasks import TaskError, select

MODES = ("interpreter", "text", "code")
# What each part may take of the budget; what is left is GRPO's.
EVALUATION, SFT, POTENTIAL = 0.25, 0.35, 0.06
PROBE = 32  # questions that are timed
PER_TASK = {"held-out": 10, "training": 3}  # questions of an evaluation without a budget
POTENTIAL_SAMPLES = 8  # with a budget: answers per measured question (the paper: 20)
CURRICULUM_STAGES = 4
# Flags of the training phases that are chosen here: always, and with a budget.
OURS = {"--tasks", "--out", "--resume", "--overwrite", "--curriculum", "--potential", "--init", "--sft-run",
        "--eval-questions"}
SIZES = {sft: {"--steps", "--per-task", "--epochs"}, grpo: {"--steps", "--stage-steps", "--pool", "--potential-samples"}}


def duration(text: str) -> float:
    """'90s', '45m', '2h', '1.5h' -> seconds, for argparse."""
    with contextlib.suppress(ValueError, KeyError, IndexError):
        seconds = float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]
        if 0 < seconds < float("inf"):
            return seconds
    raise argparse.ArgumentTypeError(f"a time such as 90s, 45m or 2h is needed, not {text!r}")


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """(own flags, flags for every command). Flags of all kinds are checked now, before anything is made."""
    parser = argparse.ArgumentParser("r1ci.py run", description=__doc__.split("\n\n")[0], allow_abbrev=False,
                                     epilog="All other flags (--model, --preset, --levels, --slots ..) go to each phase.")
    parser.add_argument("--budget", type=duration, help="time for everything, such as 45m or 2h (default: the sizes of "
                        "the preset)")
    parser.add_argument("--tasks", help="training tasks (default: the preset's)")
    parser.add_argument("--test-tasks", help="unseen tasks (default: test if the training tasks are train, else none)")
    parser.add_argument("--sft-flags", type=shlex.split, default=[], help='more flags for sft.py, as "--lr 1e-4"')
    parser.add_argument("--rl-flags", type=shlex.split, default=[], help="more flags for grpo.py")
    parser.add_argument("--out", type=Path, help="run folder (default: runs/MODEL/story)")
    parser.add_argument("--write", type=Path, help="put the results into this file, too, such as RESULTS.md, as a "
                        "section of their own")
    own, rest = parser.parse_known_args(argv)
    known, values = make_parser(rest, "")
    settings = known.parse_known_args(rest)[0]
    own.model, own.preset = settings.model, settings.preset
    own.tasks = own.tasks or values["tasks"]
    own.test_tasks = own.test_tasks or ("test" if own.tasks == "train" else None)
    own.out = own.out or Path("runs") / run_name(own.model) / "story"
    both = {task.name for task in select(own.tasks)} & {
        task.name for task in (select(own.test_tasks) if own.test_tasks else [])}
    if both:
        raise TaskError(f"--tasks and --test-tasks must not share tasks, and both have {', '.join(sorted(both))}")
    adapters = set()
    for command, more in ((evaluate, []), (curriculum, []), (sft, own.sft_flags), (grpo, own.rl_flags)):
        args = command.parse([*rest, *more])
        given = {word.partition("=")[0] for word in more}
        refused = given & (OURS | SIZES.get(command, set()) if own.budget else OURS)
        if refused:
            raise RunError(f"{min(refused)} is chosen by r1ci.py run itself"
                           + ("" if refused & OURS else " when there is a --budget"))
        if command in (sft, grpo):
            check_arguments(args.quantize, args.lora_rank)
            adapters.add(args.lora_rank > 0)
        if command is sft and args.data and not args.data.is_file():
            raise RunError(f"there is no file {args.data}")
    if len(adapters) > 1:
        raise RunError("--lora-rank must be 0 in both training phases, or in neither: put it among the common flags")
    if own.write and own.write.is_dir():
        raise RunError(f"{own.write} is a folder: --write takes a file, such as RESULTS.md")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RunError("r1ci.py run is one process; for several GPUs start its commands (log.txt has them) with torchrun")
    return own, rest


class Story:
    """The books of a run: what was chosen, how long each phase took, how much memory it needed (story.json)."""

    def __init__(self, own: argparse.Namespace, rest: list[str]):
        self.own, self.rest, self.folder = own, rest, own.out
        self.values = preset(own.model, own.preset)
        self.sft, self.rl = sft.parse([*rest, *own.sft_flags]), grpo.parse([*rest, *own.rl_flags])
        settings = plain({"flags": rest, **{name: value for name, value in vars(own).items()
                                            if name not in ("out", "write")}})
        path = self.folder / "story.json"
        self.state = json.loads(path.read_text("utf-8")) if path.exists() else {
            "settings": settings, "about": results.about(evaluate.parse(rest)), "phases": {}, "chosen": {},
            "timed": {"seconds": 0.0, "episodes": 0}}
        for name in changed(self.state["settings"], settings):
            raise RunError(f"{self.folder} was begun with {name}={self.state['settings'].get(name)}, not "
                           f"{settings.get(name)}: go on with the same flags, or use another --out")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.save()
        except OSError as error:
            raise RunError(f"cannot write the run folder {self.folder}: {error.strerror}") from None

    def save(self) -> None:
        write_json(self.folder / "story.json", self.state)

    def choose(self, name: str, choice: Callable[[], dict]) -> dict:
        """Sizes of a phase: chosen once, said, and kept."""
        if name not in self.state["chosen"]:
            self.state["chosen"][name] = choice()
            self.save()
            print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in self.state["chosen"][name].items()))
        return self.state["chosen"][name]

    @contextlib.contextmanager
    def phase(self, name: str):
        """Books the time of what is done inside, after each command and at the end, and the most memory so far."""
        self.book = self.state["phases"].setdefault(name, {"seconds": 0.0, "done": False})
        self.mark = time.perf_counter()
        try:
            yield
            self.note(done=True)
        finally:
            self.note()

    def note(self, done: bool = False) -> None:
        """Write down the time since the last note; a phase that was finished before takes none."""
        now = time.perf_counter()
        if not self.book["done"]:
            self.book["seconds"] += now - self.mark
            self.book["peak_gib"] = max(self.book.get("peak_gib", 0.0), peak_memory())
            self.book["done"] = done
            self.save()
        self.mark = now

    def seconds(self, *names: str) -> float:
        """What these phases took; all of them by default."""
        return sum(book["seconds"] for name, book in self.state["phases"].items() if not names or name in names)

    def call(self, main: Callable, name: str, *words) -> object:
        """One command, with its output in log.txt; ends the run as the command does if it fails or is stopped."""
        argv = [*self.rest, *map(str, words)]
        with open(self.folder / "log.txt", "a", encoding="utf-8") as log:
            print(f"\n$ python {name}.py {shlex.join(argv)}", file=log, flush=True)
            with contextlib.redirect_stdout(log):
                value = main(argv)
        self.note()
        release()  # the next command starts with the memory of this one given back
        if value is False:  # sft.main, stopped by Ctrl-C
            raise SystemExit(130)
        return value

    # ----------------------------------------------------------------------------------------------- sizes
    def selections(self) -> dict[str, str]:
        """What is evaluated: name -> selection of tasks."""
        return {"held-out": self.own.test_tasks, "training": self.own.tasks} if self.own.test_tasks else {
            "training": self.own.tasks}

    def speed(self) -> dict:
        """Seconds of an episode (untrained, so long-winded) and of a token in SFT."""
        probe = self.folder / "probe"
        tasks = self.own.test_tasks or self.own.tasks
        began = time.perf_counter()
        self.call(evaluate.main, "evaluate", "--base", "--tasks", tasks, "--questions", PROBE, "--overwrite",
                  "--out", probe / "evaluation.json")
        episode = (time.perf_counter() - began) / PROBE
        self.call(sft.main, "sft", "--tasks", self.own.tasks, *self.own.sft_flags, "--steps", 2, "--overwrite",
                  "--out", probe / "sft")
        lines = read_jsonl(probe / "sft" / "metrics.jsonl")
        shutil.rmtree(probe)
        return {"seconds_per_episode": round(episode, 4),
                "sft_tokens_per_second": round(lines[-1]["tokens"] / lines[-1]["seconds"], 1),
                "tokens_per_conversation": round(sum(line["tokens"] for line in lines) / len(lines) / self.sft.batch, 1)}

    def evaluation_size(self) -> dict:
        """Questions of each selection: so many that all evaluations together stay within their share."""
        counts = {name: len(select(tasks)) for name, tasks in self.selections().items()}
        if not self.own.budget:
            return {name: max(self.values["eval_questions"], PER_TASK[name] * count) for name, count in counts.items()}
        speed = self.state["chosen"]["speed"]
        each = EVALUATION * self.own.budget / speed["seconds_per_episode"] / len(results.STAGES) / len(MODES)
        most = {name: 50 * count for name, count in counts.items()}
        share = {"held-out": 0.6, "training": 0.4} if len(counts) == 2 else {"training": 1.0}
        return {name: min(most[name], max(8, int(each * share[name]))) for name in counts}

    def sft_size(self) -> dict:
        """Conversations per task and epochs (or steps, where the preset counts in steps)."""
        args = self.sft
        if not self.own.budget:
            return {"steps": args.steps} if args.steps else {"per_task": args.per_task, "epochs": args.epochs}
        speed = self.state["chosen"]["speed"]
        tokens = SFT * self.own.budget * speed["sft_tokens_per_second"]
        conversations = tokens / speed["tokens_per_conversation"]
        if args.steps:
            return {"steps": max(2, min(args.steps, int(conversations / args.batch)))}
        tasks = len(select(self.own.tasks))
        per_task = max(1, min(70, int(conversations / tasks)))
        return {"per_task": per_task, "epochs": int(100 * max(1.0, min(3.0, conversations / per_task / tasks))) / 100}

    def seconds_per_episode(self) -> float:
        """Of the SFT policy, from its evaluations, as far as they were not interrupted."""
        timed = self.state["timed"]
        return timed["seconds"] / timed["episodes"] if timed["episodes"] else (
            self.state["chosen"]["speed"]["seconds_per_episode"])

    def potential_size(self) -> dict:
        """Questions to measure, and answers to each."""
        args = self.rl
        if not self.own.budget:
            return {"questions": args.pool, "samples": args.potential_samples}
        answers = POTENTIAL * self.own.budget / self.seconds_per_episode()
        return {"questions": max(args.questions, min(args.pool, int(answers / POTENTIAL_SAMPLES))),
                "samples": POTENTIAL_SAMPLES}

    def grpo_size(self) -> dict:
        """Steps, the same number in each stage of the curriculum."""
        args = self.rl
        if not self.own.budget:
            return {"steps": args.steps, "stage_steps": args.stage_steps}
        speed = self.state["chosen"]["speed"]
        left = 0.97 * self.own.budget - self.seconds() - self.seconds("after-sft")
        # Sampling as in the evaluation; training: a forward and a backward pass, perhaps the reference's forward pass.
        training = (4 / 3 if args.kl else 1) * args.epochs * speed["tokens_per_conversation"] / speed["sft_tokens_per_second"]
        step = args.questions * args.samples * (self.seconds_per_episode() + training)
        stage = max(1, min(150, int(left / step / CURRICULUM_STAGES)))
        return {"steps": CURRICULUM_STAGES * stage, "stage_steps": stage}

    # ---------------------------------------------------------------------------------------------- phases
    def evaluate(self, stage: str) -> None:
        """All modes and selections of one stage; each result is kept as STAGE/MODE-SELECTION.json."""
        questions = self.choose("evaluation", self.evaluation_size)
        with self.phase("base" if stage == "base" else f"after-{stage}"):
            for name, tasks in self.selections().items():
                for mode in MODES:
                    out = self.folder / "evaluations" / stage / f"{mode}-{name}.json"
                    where = ["--base"] if stage == "base" else ["--run", self.folder / stage]
                    fresh, began = not out.with_suffix(".episodes.jsonl").exists(), time.perf_counter()
                    result = self.call(evaluate.main, "evaluate", *where, "--tasks", tasks, "--questions",
                                       questions[name], "--mode", mode, "--out", out)
                    if fresh and stage == "sft":
                        self.state["timed"]["seconds"] += time.perf_counter() - began
                        self.state["timed"]["episodes"] += questions[name]
                    print(f"{stage:5} {mode:12} {name:9} {evaluate.percent(result['accuracy'])} "
                          f"({evaluate.interval(result['low'], result['high'])})", flush=True)

    def train(self, name: str, main: Callable, script: str, *words) -> None:
        """A training phase: begun, resumed, or finished already."""
        folder = self.folder / name
        with self.phase(name):
            if not exists(folder):
                resume = ["--resume"] if (folder / "config.json").exists() else []
                self.call(main, script, "--tasks", self.own.tasks, *words, "--out", folder, *resume)

    def tell(self) -> Path:
        """Everything, in order; where the results are."""
        if self.own.budget:
            with self.phase("speed"):
                self.choose("speed", self.speed)
        self.evaluate("base")
        size = self.choose("sft", self.sft_size)
        self.train("sft", sft.main, "sft", *self.own.sft_flags, *flags(size))
        self.evaluate("sft")
        size = self.choose("potential", self.potential_size)
        with self.phase("potential"):
            self.call(curriculum.main, "curriculum", "--tasks", self.own.tasks, "--run", self.folder / "sft",
                      "--questions", size["questions"], "--potential-samples", size["samples"])
        pool = ["--pool", size["questions"], "--potential-samples", size["samples"]]
        size = self.choose("grpo", self.grpo_size)
        self.train("grpo", grpo.main, "grpo", "--curriculum", "potential", *pool, "--eval-questions", 0, "--sft-run",
                   self.folder / "sft", *self.own.rl_flags, *flags(size))
        self.evaluate("grpo")
        return results.write(self.folder, self.own.write)


def flags(size: dict) -> list:
    """{"per_task": 3} -> ["--per-task", 3]."""
    return [word for name, value in size.items() for word in ("--" + name.replace("_", "-"), value)]


def peak_memory() -> float:
    """GiB: the most that was allocated on the GPU, or that this process had in memory."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # bytes or KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def main(argv: list[str]) -> None:
    """Run the command. Bad input: one line, exit code 2."""
    try:
        story = Story(*parse(argv))
    except (ModelError, RunError, TaskError) as error:
        fail(error)
    story.state["command"] = shlex.join(["python", "r1ci.py", "run", *argv])
    try:
        path = story.tell()
    except (SystemExit, KeyboardInterrupt) as error:
        if isinstance(error, SystemExit) and error.code != 130:
            raise
        print(f"\nStopped. The same command goes on: {story.state['command']}", file=sys.stderr)
        raise SystemExit(130) from None
    words = ["--preset", story.own.preset] if story.own.preset else []
    print(f"\n{path.read_text('utf-8')}\nwritten to {path}; ask the model with: "
          + shlex.join(["python", "r1ci.py", "ask", "--model", story.own.model, *words, "--run", str(story.folder / "grpo")]))
