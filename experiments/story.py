"""The whole story of one model, by one command: how good is it untrained, after SFT, after GRPO?

    python r1ci.py run                                      the tiny model
    python r1ci.py run --model 3b --budget 20h              sizes picked from measured speed
    python r1ci.py run --model FOLDER --preset smollm2 --budget 80m --write docs/RESULTS.md
    python r1ci.py run --model coder-0.5b --budget 10h              learns from its own right answers first

Every phase is a command that you could type yourself (log.txt in the run folder has them, with their
output); this module only chooses their sizes and keeps the books:

    speed          two steps of SFT and a few questions, timed                     only with --budget
    base           evaluate.py --base: 3 modes x (unseen tasks, new questions of the training tasks)
    teach          teacher.py: right answers to learn from                         only with a --teacher
    sft            sft.py
    after-sft      evaluate.py, again 3 modes x 2 selections, the same questions
    potential      curriculum.py: how often does the SFT policy solve its RL questions?
    grpo           grpo.py --curriculum potential, in four stages
    after-grpo     evaluate.py, once more
    results        results.py: RESULTS.md and a picture of the curves

Stopped or killed, the same command goes on where it was: sizes once chosen stay as they are (story.json), and
each of the commands resumes. A budget is a plan, not a limit: evaluations, SFT and potential have fixed
shares of it, and GRPO gets what is left.
"""
import argparse
import contextlib
import resource
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import runs
from experiments import episodes, results
from runs import Parser, UserError, make_parser, run_name
from tasks import select

MODES = ("interpreter", "text", "code")
EVALUATION = 0.4  # of the budget; what SFT, evaluations and potential leave is GRPO's
SFT = 0.35  # conversations of a teacher included
TEACHING = 0.15
POTENTIAL = 0.06
PER_TASK = {"held-out": 10, "training": 3}  # questions of an evaluation without a budget
TEACHER_SAMPLES = 4  # answers per question
POTENTIAL_SAMPLES = 8  # with a budget: answers per measured question (the paper: 20)
CURRICULUM_STAGES = 4
# Flags of the training phases that are chosen here: always, and with a budget.
OURS = {"--tasks", "--out", "--resume", "--overwrite", "--curriculum", "--init", "--sft-run",
        "--eval-questions"}
SIZES = {"sft": {"--steps", "--per-task", "--epochs"}, "grpo": {"--steps"}}


def duration(text: str) -> float:
    """'90s', '45m', '2h', '1.5h' -> seconds, for argparse."""
    with contextlib.suppress(ValueError, KeyError, IndexError):
        seconds = float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]
        if 0 < seconds < float("inf"):
            return seconds
    raise argparse.ArgumentTypeError(f"a time such as 90s, 45m or 2h is needed, not {text!r}")


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """(own flags, flags for every command). Flags of all kinds are checked now, before anything is made."""
    parser = Parser("r1ci.py run", __doc__.split("\n\n")[0],
                    epilog="All other flags (--model, --preset, --levels, --slots ..) go to each phase.")
    add = parser.add_argument
    add("--budget", type=duration, help="time for everything, such as 45m or 2h (default: the sizes of the "
        "preset)")
    add("--tasks", help="training tasks (default: the preset's)")
    add("--test-tasks", help="unseen tasks (default: test if the training tasks are train, else none)")
    add("--teacher", help="whose right answers SFT learns from: self, openai:NAME, a preset, a hub id, "
        "a folder; none: our oracle programs (default: the preset's)")
    add("--sft-flags", type=shlex.split, default=[], help='more flags for sft.py, as "--lr 1e-4"')
    add("--rl-flags", type=shlex.split, default=[], help="more flags for grpo.py")
    add("--out", type=Path, help="run folder (default: runs/MODEL/story)")
    add("--write", type=Path, help="put the results into this file, too, such as docs/RESULTS.md, as a "
        "section of their own")
    own, rest = parser.parse_known_args(argv)
    shared, values = make_parser(rest, "")
    settings = shared.parse_known_args(rest)[0]
    own.model = settings.model
    own.preset = settings.preset
    own.tasks = own.tasks or values["tasks"]
    own.teacher = own.teacher or values["teacher"]
    own.test_tasks = own.test_tasks or ("test" if own.tasks == "train" else None)
    own.out = own.out or Path("runs") / run_name(own.model) / "story"
    check(own, rest)
    return own, rest


def check(own: argparse.Namespace, rest: list[str]) -> None:
    """Refuse what one of the phases would refuse, and what does not go together."""
    names = [{task.name for task in select(tasks)} for tasks in (own.tasks, own.test_tasks) if tasks]
    both = set.intersection(*names) if len(names) > 1 else set()
    if both:
        raise UserError("--tasks and --test-tasks must not share tasks, and both have "
                        + ", ".join(sorted(both)))
    if own.write:
        runs.check_writable(own.write)
    runs.check_writable(own.out / "story.json")
    if runs.world_size() > 1:
        raise UserError("r1ci.py run is one process; for several GPUs start its commands (log.txt has them) "
                        "with torchrun")
    import curriculum
    import evaluate
    import grpo
    import sft
    from models import check_arguments
    evaluate.parse(rest)
    curriculum.parse(rest)
    for name, more in (("sft", own.sft_flags), ("grpo", own.rl_flags)):
        given = {word.partition("=")[0] for word in more}
        if given & OURS:
            raise UserError(f"{min(given & OURS)} is chosen by r1ci.py run itself")
        if own.budget and given & SIZES[name]:
            raise UserError(f"{min(given & SIZES[name])} is chosen by r1ci.py run itself when there is a "
                            "--budget")
    sft_args = sft.parse([*rest, *own.sft_flags])
    rl_args = grpo.parse([*rest, *own.rl_flags])
    check_arguments(sft_args)
    grpo.check(rl_args)
    if own.teacher not in ("self", "none"):
        runs.preset(own.teacher)  # is there such a model?
    if sft_args.data and own.teacher != "none":
        raise UserError("--data or --teacher: one of them says what SFT learns from (--teacher none)")
    if sft_args.data and not sft_args.data.is_file():
        raise UserError(f"there is no file {sft_args.data}")
    if (sft_args.lora_rank > 0) != (rl_args.lora_rank > 0):
        raise UserError("--lora-rank must be 0 in both training phases, or in neither: put it among the "
                        "common flags")


class Story:
    """The books of a run (story.json): what was chosen, how long each phase took, what memory it needed."""

    def __init__(self, own: argparse.Namespace, rest: list[str]):
        import evaluate
        import grpo
        import sft
        self.own = own
        self.rest = rest
        self.folder = own.out
        self.data = own.out / "teacher" / "data.jsonl"
        self.values = runs.preset(own.model, own.preset)
        self.sft = sft.parse([*rest, *own.sft_flags])
        self.rl = grpo.parse([*rest, *own.rl_flags])
        settings = runs.as_json({"flags": rest, **{name: value for name, value in vars(own).items()
                                                   if name not in ("out", "write")}})
        path = self.folder / "story.json"
        self.state = runs.read_json(path, dict) if path.exists() else {
            "settings": settings, "about": results.about(evaluate.parse(rest)), "phases": {}, "chosen": {},
            "timed": {"seconds": 0.0, "episodes": 0}}
        for name in runs.differing(self.state["settings"], settings):
            raise UserError(f"{self.folder} was begun with {name}={self.state['settings'].get(name)}, not "
                            f"{settings.get(name)}: go on with the same flags, or use another --out")
        with runs.writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.save()

    def save(self) -> None:
        runs.write_json(self.folder / "story.json", self.state)

    def remembered(self, name: str, choose: Callable[[], dict]) -> dict:
        """The sizes of a phase: chosen once, said, and kept."""
        chosen = self.state["chosen"]
        if name not in chosen:
            chosen[name] = choose()
            self.save()
            print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in chosen[name].items()))
        return chosen[name]

    @contextlib.contextmanager
    def phase(self, name: str):
        """Books the time of what is done inside, after each command and at the end, and the most memory."""
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
        phases = self.state["phases"]
        return sum(book["seconds"] for name, book in phases.items() if not names or name in names)

    def call(self, main: Callable, name: str, *words) -> object:
        """One command, with its output in log.txt; ends the run as the command does if it fails or stops."""
        from batches import release
        argv = [*self.rest, *map(str, words)]
        with open(self.folder / "log.txt", "a", encoding="utf-8") as log:
            script = "r1ci.py teach" if name == "teach" else f"{name}.py"
            print(f"\n$ python {script} {shlex.join(argv)}", file=log, flush=True)
            with contextlib.redirect_stdout(log):
                value = main(argv)
        self.note()
        release()  # the next command starts with the memory of this one given back
        if value is False:  # sft.main, stopped by Ctrl-C
            raise SystemExit(130)
        return value

    # ------------------------------------------------------------------------------------------------ sizes
    def selections(self) -> dict[str, str]:
        """What is evaluated: name -> selection of tasks."""
        unseen = {"held-out": self.own.test_tasks} if self.own.test_tasks else {}
        return {**unseen, "training": self.own.tasks}

    def speed(self) -> dict:
        """Seconds of an episode (untrained, so long-winded) and of a token in SFT."""
        import evaluate
        import sft
        probe, count = self.folder / "probe", self.rl.slots  # fewer would take nearly as long
        tasks = self.own.test_tasks or self.own.tasks
        began = time.perf_counter()
        self.call(evaluate.main, "evaluate", "--base", "--tasks", tasks, "--questions", count, "--overwrite",
                  "--out", probe / "evaluation.json")
        seconds = (time.perf_counter() - began) / count
        self.call(sft.main, "sft", "--tasks", self.own.tasks, *self.own.sft_flags, "--steps", 2,
                  "--overwrite", "--out", probe / "sft")
        lines = runs.read_jsonl(probe / "sft" / "metrics.jsonl")
        shutil.rmtree(probe)
        tokens = sum(line["tokens"] for line in lines) / len(lines) / self.sft.batch
        return {"seconds_per_episode": round(seconds, 4),
                "sft_tokens_per_second": round(lines[-1]["tokens"] / lines[-1]["seconds"], 1),
                "tokens_per_conversation": round(tokens, 1)}

    def evaluation_size(self) -> dict:
        """Questions of each selection: so many that all evaluations together stay within their share."""
        counts = {name: len(select(tasks)) for name, tasks in self.selections().items()}
        if not self.own.budget:
            least = self.values["eval_questions"]
            return {name: max(least, PER_TASK[name] * count) for name, count in counts.items()}
        evaluations = len(episodes.STAGES) * len(MODES)
        seconds = self.state["chosen"]["speed"]["seconds_per_episode"]
        each = EVALUATION * self.own.budget / seconds / evaluations
        share = {"held-out": 0.7, "training": 0.3} if len(counts) == 2 else {"training": 1.0}
        return {name: min(50 * count, max(8, int(each * share[name]))) for name, count in counts.items()}

    def teach_size(self) -> dict:
        """Conversations wanted per task, and answers to each question."""
        wanted = self.sft.per_task
        if self.own.budget:
            seconds = TEACHING * self.own.budget / self.state["chosen"]["speed"]["seconds_per_episode"]
            rounds = 2  # nearly: most tasks lack some after the first one
            wanted = min(wanted, int(seconds / TEACHER_SAMPLES / rounds / len(select(self.own.tasks))))
        return {"per_task": max(1, wanted), "samples": TEACHER_SAMPLES}

    def sft_size(self) -> dict:
        """Conversations per task and epochs (or steps, where the preset counts in steps)."""
        import sft
        args = self.sft
        if not self.own.budget:
            return {"steps": args.steps} if args.steps else {"per_task": args.per_task, "epochs": args.epochs}
        speed = self.state["chosen"]["speed"]
        data = args.data or self.data  # given, or a teacher's
        tokens = (SFT - TEACHING * self.data.is_file()) * self.own.budget * speed["sft_tokens_per_second"]
        conversations = tokens / speed["tokens_per_conversation"]
        if data.is_file():
            own = runs.read_jsonl(data)
            filled = sft.lacking(own, select(self.own.tasks), args.fill)
            count = len(own) + sum(lacking for _, lacking in filled)
            return {"epochs": max(0.1, min(3.0, int(100 * conversations / count) / 100))}
        if args.steps:
            return {"steps": max(2, min(args.steps, int(conversations / args.batch)))}
        tasks = len(select(self.own.tasks))
        per_task = max(1, min(70, int(conversations / tasks)))
        epochs = max(1.0, min(3.0, conversations / per_task / tasks))
        return {"per_task": per_task, "epochs": int(100 * epochs) / 100}

    def seconds_per_episode(self) -> float:
        """Of the SFT policy, from its evaluations, as far as they were not interrupted."""
        timed = self.state["timed"]
        if timed["episodes"]:
            return timed["seconds"] / timed["episodes"]
        return self.state["chosen"]["speed"]["seconds_per_episode"]

    def potential_size(self) -> dict:
        """Questions to measure, and answers to each."""
        import curriculum
        usual = curriculum.parse(self.rest)
        if not self.own.budget:
            return {"questions": usual.questions, "samples": usual.potential_samples}
        answers = POTENTIAL * self.own.budget / self.seconds_per_episode()
        questions = min(usual.questions, int(answers / POTENTIAL_SAMPLES))
        return {"questions": max(self.rl.questions, questions), "samples": POTENTIAL_SAMPLES}

    def grpo_size(self) -> dict:
        """Steps, the same number in each stage of the curriculum."""
        args = self.rl
        if not self.own.budget:
            return {"steps": args.steps}
        speed = self.state["chosen"]["speed"]
        left = 0.97 * self.own.budget - self.seconds() - self.seconds("after-sft")
        # Sampling as in the evaluation; training: forward and backward, perhaps the reference's forward.
        conversation = speed["tokens_per_conversation"] / speed["sft_tokens_per_second"]
        training = (4 / 3 if args.kl else 1) * args.epochs * conversation
        step = args.questions * args.samples * (self.seconds_per_episode() + training)
        stage = max(1, min(150, int(left / step / CURRICULUM_STAGES)))
        return {"steps": CURRICULUM_STAGES * stage}

    # ----------------------------------------------------------------------------------------------- phases
    def evaluate_stage(self, stage: str) -> None:
        """All modes and selections of one stage; each result is kept as STAGE/MODE-SELECTION.json."""
        import evaluate
        questions = self.remembered("evaluation", self.evaluation_size)
        with self.phase("base" if stage == "base" else f"after-{stage}"):
            for name, tasks in self.selections().items():
                for mode in MODES:
                    out = self.folder / "evaluations" / stage / f"{mode}-{name}.json"
                    where = ["--base"] if stage == "base" else ["--run", self.folder / stage]
                    fresh = not out.with_suffix(".episodes.jsonl").exists()
                    began = time.perf_counter()
                    result = self.call(evaluate.main, "evaluate", *where, "--tasks", tasks, "--questions",
                                       questions[name], "--mode", mode, "--out", out)
                    if fresh and stage == "sft":
                        self.state["timed"]["seconds"] += time.perf_counter() - began
                        self.state["timed"]["episodes"] += questions[name]
                    print(f"{stage:5} {mode:12} {name:9} {evaluate.percent(result['accuracy'])} "
                          f"({evaluate.interval(result['low'], result['high'])})", flush=True)

    def train(self, name: str, main: Callable, *words) -> None:
        """A training phase: begun, resumed, or finished already."""
        from models import exists
        folder = self.folder / name
        with self.phase(name):
            if not exists(folder):
                resume = ["--resume"] if (folder / "config.json").exists() else []
                self.call(main, name, "--tasks", self.own.tasks, *words, "--out", folder, *resume)

    def teach(self) -> list:
        """Let the teacher answer, if there is one; flags for sft.py."""
        from experiments import teacher
        if self.own.teacher == "none":
            return []
        size = self.remembered("teach", self.teach_size)
        with self.phase("teach"):
            if not self.data.is_file():
                name = self.own.model if self.own.teacher == "self" else self.own.teacher
                self.call(teacher.teach_command, "teach", "--teacher", name, "--tasks",
                          self.own.tasks, "--out", self.data, *flags_of(size))
        return ["--data", self.data]

    def tell(self) -> Path:
        """Everything, in order; where the results are."""
        import curriculum
        import grpo
        import sft
        if self.own.budget:
            with self.phase("speed"):
                self.remembered("speed", self.speed)
        self.evaluate_stage("base")
        taught = self.teach()
        size = self.remembered("sft", self.sft_size)
        self.train("sft", sft.main, *self.own.sft_flags, *taught, *flags_of(size))
        self.evaluate_stage("sft")
        size = self.remembered("potential", self.potential_size)
        with self.phase("potential"):
            self.call(curriculum.main, "curriculum", "--tasks", self.own.tasks, "--run", self.folder / "sft",
                      "--questions", size["questions"], "--potential-samples", size["samples"])
        size = self.remembered("grpo", self.grpo_size)
        self.train("grpo", grpo.main, "--curriculum", "potential", "--eval-questions", 0, "--sft-run",
                   self.folder / "sft", *self.own.rl_flags, *flags_of(size))
        self.evaluate_stage("grpo")
        return results.write_results(self.folder, self.own.write)


def flags_of(size: dict) -> list:
    """{"per_task": 3} -> ["--per-task", 3]."""
    return [word for name, value in size.items() for word in ("--" + name.replace("_", "-"), value)]


def peak_memory() -> float:
    """GiB: the most that was allocated on the GPU, or that this process had in memory."""
    import torch
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # bytes or KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def main(argv: list[str]) -> None:
    """Run the command."""
    story = Story(*parse(argv))
    story.state["command"] = shlex.join(["python", "r1ci.py", "run", *argv])
    try:
        page = story.tell()
    except (SystemExit, KeyboardInterrupt) as error:
        if isinstance(error, SystemExit) and error.code != 130:
            raise
        print(f"\nStopped. The same command goes on: {story.state['command']}", file=sys.stderr)
        raise SystemExit(130) from None
    own = story.own
    preset = ["--preset", own.preset] if own.preset else []
    ask = ["python", "r1ci.py", "ask", "--model", own.model, *preset, "--run", str(story.folder / "grpo")]
    print(f"\n{page.read_text('utf-8')}\nwritten to {page}; ask the model with: {shlex.join(ask)}")
