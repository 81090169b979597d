"""The curriculum: on which questions does the policy learn most?

    python curriculum.py                        how often the warm-started tiny model solves its RL questions
    python grpo.py --curriculum potential       the paper's stages (or difficulty)

GRPO learns from differences within a group. If a policy solves a question with probability p, the variance
of its outcome reward is p(1-p): nothing at p = 0 and p = 1, most at 1/2. The paper (arXiv 2505.21668, v2 and
v3) calls 4p(1-p) the improvement potential of a question (0 to 1), measures p once with the SFT policy (20
answers per question, in several ways: in words, by program, free choice), sorts the questions into four
groups at 0.64, 0.48 and 0.32, and trains in stages: stage s uses groups 1..s.

    --curriculum none         new questions at every step
    --curriculum potential    stages by potential, highest first: p near 1/2, then further out (the paper)
    --curriculum difficulty   stages by success rate, easiest first: what it compares with (bounds: ours)

A measurement is potential.jsonl beside the policy it is about, one line per question:
    {"task": "products", "seed": 1000000, "level": 1, "counts": {"code@1": [right, samples], ..}}
Only what is missing is measured. GRPO takes its questions from there; without any, it measures some first.

Here, too: what a step of RL looked like, and a warning when nothing can be learned from such steps.
"""
import argparse
from pathlib import Path

import runs
from runs import SEED, UserError, command, make_parser, run_name, whole

SAMPLES = 20  # answers per measured question


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; defaults come from the preset of --model."""
    parser, values = make_parser(argv, __doc__.split("\n\n")[0])
    add = parser.add_argument_group("measurement").add_argument
    add("--run", type=Path, help="run folder of the policy (default: runs/MODEL/sft)")
    add("--questions", type=whole(), default=values["rl"]["steps"] * values["rl"]["questions"] // 4,
        help="how many RL questions")
    add("--potential-samples", type=whole(1, 1024), default=SAMPLES, help="answers per question, all modes")
    add("--seed", type=SEED, default=0, help="of sampling")
    args = parser.parse_args(argv)
    args.run = args.run or Path("runs") / run_name(args.model) / "sft"
    return args


if __name__ == "__main__":
    command(parse)  # --help and mistakes are answered before torch is imported

import math
import random
import sys
from collections import Counter
from collections.abc import Iterable

import torch

import batches
import sandbox as sandboxes
from models import device_of, exists, load_from_args
from rollout import STOPS, Engine, Episode, make_engine
from runs import Run, rank
from tasks import TASKS, Question, draw, select

POTENTIAL_BOUNDS, RATE_BOUNDS = (0.64, 0.48, 0.32), (0.75, 0.5, 0.25)
# Mode and temperature. The paper: text, code and two agents that choose freely, at several temperatures.
WAYS = (("text", 1.0), ("code", 1.0), ("interpreter", 0.6), ("interpreter", 1.0))
BATCH = 64  # questions measured between two saves
SIBLINGS = 16  # of a larger group, so many are kept in episodes.jsonl
PATIENCE = 10  # steps in a row until a warning
Id = tuple[str, int, int]  # task, seed, level: names a question
Counts = dict[str, list[int]]  # way -> [right, samples]


def improvement_potential(correct: int, samples: int) -> float:
    """4p(1-p) of p = correct / samples. From integers: in floats p = 0.2 and p = 0.8 would fall on different
    sides of the bound 0.64."""
    if not 0 <= correct <= samples or samples < 1:
        raise ValueError(f"{correct} right of {samples} is no measurement")
    return 4 * correct * (samples - correct) / samples ** 2


def stages(potentials: dict | list[float], bounds: tuple[float, ...] = POTENTIAL_BOUNDS) -> list[list]:
    """Question ids of each stage; stage s holds groups 1..s, so the last one holds all. potentials: {id:
    value}, or a list of values whose ids are their positions. Group 1 is [bounds[0], 1], group 2 is
    [bounds[1], bounds[0]), and so on: a value on a bound belongs to the better group, as in the paper. (It
    also calls its groups equally large, which ranges need not be; we follow the ranges.)"""
    items = list(potentials.items() if isinstance(potentials, dict) else enumerate(potentials))
    if list(bounds) != sorted(bounds, reverse=True) or not all(0 <= value <= 1 for _, value in items):
        raise ValueError("bounds must fall, and potentials lie between 0 and 1")
    return [[name for name, value in items if value >= bound] for bound in (*bounds, 0.0)]


# ------------------------------------------------------------------------------------------ the measurement
def identity(question: Question) -> Id:
    """What names a question in files."""
    return question.task, question.seed, question.level


def split(samples: int) -> dict[str, tuple[str, float, int]]:
    """Way -> (mode, temperature, samples): answers divided over the WAYS, a remainder to the last ones."""
    parts = [(samples + i) // len(WAYS) for i in range(len(WAYS))]
    return {f"{mode}@{temperature:g}": (mode, temperature, part)
            for (mode, temperature), part in zip(WAYS, parts) if part}


def total(counts: Counts) -> tuple[int, int]:
    """(right, samples) over all ways."""
    return sum(right for right, _ in counts.values()), sum(samples for _, samples in counts.values())


def read_counts(path: Path, samples: int | None = None) -> dict[Id, Counts]:
    """A measurement in the order of its file, empty if there is none; samples: what each line must have."""
    counts: dict[Id, Counts] = {}
    for number, record in enumerate(runs.read_jsonl(path), 1):
        try:
            right, asked = total(record["counts"])
            improvement_potential(right, asked)
            counts[record["task"], record["seed"], record["level"]] = record["counts"]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{path}, line {number} is no measurement (task, seed, level, and counts of "
                            "[right, samples]): mend it, or delete the file") from None
        if samples not in (None, asked):
            raise UserError(f"{path}, line {number} counts {asked} answers, not {samples}: use the same "
                            "--potential-samples, or delete the file")
    return counts


def measure(engine: Engine, questions: list[Question], path: Path, samples: int, seed: int) -> dict:
    """Counts of these questions and of those in `path` already, saved there when all are measured. Until then
    they are in PATH.part. A batch's random numbers depend on its first question, so who kills this and starts
    it again gets the file of an undisturbed run."""
    ways, partial = split(samples), path.with_name(path.name + ".part")
    counts = batches.gather([read_counts(partial, samples) or read_counts(path, samples)])[0]
    missing = [q for name, q in {identity(q): q for q in questions}.items() if name not in counts]
    mode, style, asked = engine.chat.mode, engine.chat.style, 0
    with batches.Progress(len(missing) * samples, "measuring") as bar:
        for first in range(0, len(missing), BATCH):
            batch = missing[first:first + BATCH]
            counts |= {identity(q): {way: [0, part] for way, (*_, part) in ways.items()} for q in batch}
            for way, (way_mode, temperature, part) in ways.items():
                engine.speak(way_mode, style)
                episodes = batches.rollouts(
                    engine, batch, part, temperature=temperature, on_end=lambda episode: bar.update(),
                    seed=random.Random(f"potential/{seed}/{way}/{identity(batch[0])}").getrandbits(48))
                for episode in episodes:
                    counts[identity(episode.question)][way][0] += episode.correct
                asked += len(episodes)
                bar.update(asked - bar.n)  # other ranks' episodes, or some that came twice
            if rank() == 0:
                runs.write_jsonl(partial, (dict(zip(("task", "seed", "level"), name), counts=found)
                                           for name, found in counts.items()))
    engine.speak(mode, style)
    if rank() == 0 and partial.exists():
        partial.replace(path)
    return counts


def histogram(counts: Iterable[Counts]) -> str:
    """How many questions have which success rate, in twentieths: with 20 samples each rate has a row."""
    rates = [total(found) for found in counts]
    rows = [sum((40 * right + samples) // (2 * samples) == k for right, samples in rates) for k in range(21)]
    lines = ["success rate p  4p(1-p)  group  questions"]
    for k, questions in enumerate(rows):
        potential = improvement_potential(k, 20)
        group = 1 + sum(potential < bound for bound in POTENTIAL_BOUNDS)
        stars = "#" * -(-36 * questions // max(rows))  # at least one where there is a question
        lines.append(f"{k / 20:14.2f}{potential:9.2f}{group:7}{questions:11}  {stars}".rstrip())
    return "\n".join(lines)


# ---------------------------------------------------------------------------- questions for a training step
class Curriculum:
    """The questions of each RL step, as --curriculum says; they depend on the seed and the step only."""

    def __init__(self, args: argparse.Namespace, engine: Engine, run: Run):
        self.args = args
        self.run, self.engine = run, engine
        self.tasks = select(args.tasks)
        self.stage_steps = max(1, args.steps // 4)
        saved = run.folder / "stages.json"  # a resumed run goes on with them, whatever is measured meanwhile
        made = runs.read_json(saved, list) if saved.exists() else []
        if args.curriculum != "none" and not made:
            made = self._make_stages(engine)
            run.write("stages.json", made)
        self.stages = [(number, names) for number, names in enumerate(made, 1) if names]  # no empty ones

    def _make_stages(self, engine: Engine) -> list[list[Id]]:
        """From what is measured; if that is nothing yet, some questions are measured first."""
        args, names = self.args, {task.name for task in self.tasks}
        warm = args.init != "base" and not args.random_weights and exists(args.sft_run)
        path = (args.sft_run if warm else args.out) / "potential.jsonl"

        def chosen(counts: dict[Id, Counts]) -> dict[Id, tuple[int, int]]:
            return {name: total(found) for name, found in counts.items() if name[0] in names
                    and (name[2] in args.levels or TASKS[name[0]].pool)}

        totals = chosen(read_counts(path))
        if not totals:
            questions = draw(self.tasks, "rl", max(1, args.steps * args.questions // 4), args.levels)
            print(f"Measuring {len(questions)} questions for {path}, {SAMPLES} answers each (once).")
            totals = chosen(measure(engine, questions, path, SAMPLES, args.seed))
        if args.curriculum == "potential":
            made = stages({name: improvement_potential(*pair) for name, pair in totals.items()})
        else:
            made = stages({name: right / samples for name, (right, samples) in totals.items()}, RATE_BOUNDS)
        print(f"Curriculum by {args.curriculum}: stages of {', '.join(str(len(names)) for names in made)} "
              f"questions, {self.stage_steps} steps each (from {path})")
        return made

    def questions(self, step: int) -> list[Question]:
        """The questions of this step."""
        count = self.args.questions
        if not self.stages:
            return draw(self.tasks, "rl", count, self.args.levels, start=step * count)
        index, number, names = self._stage(step)
        # Round after round through the stage, each in an order of its own.
        places = batches.batch_of(step - index * self.stage_steps, len(names), count,
                                  f"stage/{self.args.seed}/{number}")
        return [TASKS[task].question(seed, level) for task, seed, level in (names[i] for i in places)]

    def stage(self, step: int) -> int:
        """The number of the stage, 1 to 4; 0 for a curriculum without stages."""
        return self._stage(step)[1] if self.stages else 0

    def _stage(self, step: int) -> tuple[int, int, list[Id]]:
        index = min(step // self.stage_steps, len(self.stages) - 1)
        return index, *self.stages[index]

    def record(self, step: int, episodes: list[Episode], advantages: torch.Tensor) -> None:
        """Note what was asked in this step, how often it was answered right, and one group whole: one with
        different rewards if there is any. advantages: (N,), or of tokens, (N, T): then the mean is kept."""
        rows: dict[Id, list[bool]] = {}
        for episode in episodes:
            rows.setdefault(identity(episode.question), []).append(episode.correct)
        asked = [[*name, sum(right), len(right)] for name, right in rows.items()]
        self.run.append("questions.jsonl", [{"step": step, "questions": asked}])
        size = self.args.samples
        groups = [range(i, min(i + size, i + SIBLINGS)) for i in range(0, len(episodes), size)]
        live = [group for group in groups if len({episodes[i].reward for i in group}) > 1]
        for i in random.Random(f"log/{self.args.seed}/{step}").choice(live or groups):
            advantage = advantages[i][advantages[i] != 0].mean().nan_to_num().item()
            self.run.append("episodes.jsonl", [{"step": step, "advantage": advantage,
                                                **episodes[i].record(self.engine.chat)}])


def rollout_metrics(episodes: list[Episode], groups: torch.Tensor) -> dict:
    """What the episodes of a step were like; a step that cannot learn says so here."""
    count = len(episodes)
    programs = [turn for e in episodes for turn in e.turns if turn.status]
    rewards = torch.tensor([e.reward for e in episodes])
    inside = [rewards[groups == g] for g in groups.unique()]
    dead = sum(bool(group.max() == group.min()) for group in inside) / len(inside)
    sampled = sum(sum(e.mask) for e in episodes)
    stops = {f"stop_{stop}": sum(e.stop == stop for e in episodes) / count for stop in STOPS}
    return {"reward": sum(e.reward for e in episodes) / count, "dead_groups": dead,
            "accuracy": sum(e.correct for e in episodes) / count, **stops,
            "calls": len(programs) / count, "code_share": sum(e.calls > 0 for e in episodes) / count,
            "code_errors": sum(turn.status != "ok" for turn in programs) / max(1, len(programs)),
            "sampled_tokens": sampled, "tokens_per_episode": sampled / count,
            "turns_over_6": sum(len(e.turns) > 6 for e in episodes) / count,
            "program_seconds": sum(turn.seconds for turn in programs)}


# What a step looks like from which nothing is learned -> what may help.
ALARMS = {
    "no group had different rewards; easier --levels, more --samples, or a warm start may help":
        lambda m: m["dead_groups"] == 1,
    "no episode ended with an answer; more --turn-tokens, a lower --lr, or a warm start may help":
        lambda m: m["stop_answer"] == 0,
    "the policy was certain of every token; a lower --lr, or more --kl, may help":
        lambda m: m["trained_tokens"] > 0 and m["entropy"] < 0.002,
    "sampler and trainer differed; --importance-cap 2 may help": lambda m: m["logprob_error"] > 0.1}


def warn(metrics: dict, streaks: Counter) -> None:
    """Say once what has been wrong for PATIENCE steps in a row; streaks: so many steps so far."""
    for text, found in ALARMS.items():
        streaks[text] = streaks[text] + 1 if found(metrics) else min(0, streaks[text])
        if streaks[text] == PATIENCE:
            streaks[text] = -math.inf
            if rank() == 0:
                batches.Progress.write(f"warning: in {PATIENCE} steps in a row {text}", sys.stderr)


def main(argv: list[str] | None = None) -> None:
    """Measure what is not measured yet, then show it. Bad input: UserError."""
    args = parse(argv)
    batches.join_processes(device_of(args.device))
    path = args.run / "potential.jsonl"
    questions = draw(select(args.tasks), "rl", args.questions, args.levels)
    if not exists(args.run):
        raise UserError(f"{args.run} holds no policy: make one with python sft.py --model {args.model}, or "
                        "give --run")
    counts = read_counts(path, args.potential_samples)
    if {identity(question) for question in questions} - set(counts):
        policy, tokenizer = load_from_args(args, args.run, trainable=False)
        with sandboxes.from_args(args) as box:
            engine = make_engine(policy, tokenizer, box, args)
            counts = measure(engine, questions, path, args.potential_samples, args.seed)
    counts = {identity(question): counts[identity(question)] for question in questions}
    print(f"{histogram(counts.values())}\n\n{len(counts)} questions, saved in {path}")


if __name__ == "__main__":
    command(main, "What is measured is kept; the same command goes on.")
