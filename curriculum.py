"""The curriculum: on which questions does the policy learn most?

    python curriculum.py                        how often the warm-started tiny model solves its RL questions
    python curriculum.py --model 3b --questions 900
    python grpo.py --curriculum potential       the paper's stages (or difficulty, or online)

GRPO learns from differences within a group. If a policy solves a question with probability p, the variance of
its outcome reward is p(1-p): nothing at p = 0 and p = 1, most at 1/2. The paper (arXiv 2505.21668, v2 and v3)
calls

    4p(1-p)     the improvement potential of a question, 0 to 1

measures p once with the SFT policy (20 answers per question, in several ways: in words, by program, free
choice), sorts the questions into four groups at 0.64, 0.48 and 0.32, and trains in stages: stage s uses
groups 1..s.

    --curriculum none         new questions at every step
    --curriculum potential    stages by potential, highest first: p near 1/2, then further out (the paper)
    --curriculum difficulty   stages by success rate, easiest first: what the paper compares with. The bounds
                              on p are ours; the measurement is the same, so only the order differs
    --curriculum online       no measurement: a running estimate of p, from the training episodes themselves,
                              prefers questions of high potential (ours; the paper regroups by sampling anew)

A measurement is a JSONL file beside the policy it is about, one line per question:
    {"task": "products", "seed": 1000000, "level": 1, "counts": {"code@1": [right, samples], ..}}
Asking for more questions later measures only the missing ones.
"""
import argparse
import json
import random
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import torch
from tqdm import tqdm

import parallel
import sandbox as sandboxes
from chat import ChatError
from evaluate import make_engine, speak
from flags import make_parser, positive
from models import ModelError, exists, load, run_name
from rollout import Engine, Episode
from runs import Run, RunError, command, fail, write_jsonl
from sft import batch_of
from tasks import LEVELS, SEED_START, TASKS, FileTask, Question, TaskError, draw, held_out, select

POTENTIAL_BOUNDS, RATE_BOUNDS = (0.64, 0.48, 0.32), (0.75, 0.5, 0.25)
# Mode and temperature. The paper: text, code and two agents that choose freely, at several temperatures.
WAYS = (("text", 1.0), ("code", 1.0), ("interpreter", 0.6), ("interpreter", 1.0))
BATCH = 64  # questions measured between two saves

Id = tuple[str, int, int]  # task, seed, level: names a question
Counts = dict[str, list[int]]  # way -> [right, samples]


def improvement_potential(correct: int, samples: int) -> float:
    """4p(1-p) of p = correct / samples.

    From integers: in floats p = 0.2 and p = 0.8 would fall on different sides of the bound 0.64.
    """
    if not 0 <= correct <= samples or samples < 1:
        raise ValueError(f"{correct} right of {samples} is no measurement")
    return 4 * correct * (samples - correct) / samples ** 2


def stages(potentials: dict | list[float], bounds: tuple[float, ...] = POTENTIAL_BOUNDS) -> list[list]:
    """Question ids of each stage; stage s holds groups 1..s, so the last one holds all.

    potentials: {id: value}, or a list of values whose ids are their positions. Group 1 is [bounds[0], 1],
    group 2 is [bounds[1], bounds[0]), and so on: a value on a bound belongs to the better group, as in the
    paper. (It also calls its groups equally large, which ranges need not be; we follow the ranges.)
    """
    items = list(potentials.items() if isinstance(potentials, dict) else enumerate(potentials))
    if list(bounds) != sorted(bounds, reverse=True) or not all(0 <= value <= 1 for _, value in items):
        raise ValueError("bounds must fall, and potentials lie between 0 and 1")
    return [[name for name, value in items if value >= bound] for bound in (*bounds, 0.0)]


# -------------------------------------------------------------------------------------------- the measurement
def identity(question: Question) -> Id:
    """What names a question in files."""
    return question.task, question.seed, question.level


def pool(args: argparse.Namespace) -> dict[Id, Question]:
    """The RL questions that a curriculum chooses from."""
    drawn = draw(select(args.tasks), "rl", args.pool, args.levels)
    return {identity(question): question for question in drawn}


def split(samples: int) -> dict[str, tuple[str, float, int]]:
    """Way -> (mode, temperature, samples): answers divided over the WAYS, a remainder to the last ones."""
    shares = [(samples + i) // len(WAYS) for i in range(len(WAYS))]
    return {f"{mode}@{temperature:g}": (mode, temperature, share)
            for (mode, temperature), share in zip(WAYS, shares) if share}


def total(counts: Counts) -> tuple[int, int]:
    """(right, samples) over all ways."""
    return sum(right for right, _ in counts.values()), sum(samples for _, samples in counts.values())


def read_line(line: str) -> tuple[Id, Counts]:
    """One line of a measurement. ValueError says what is wrong with it."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(record, dict) or set(record) != {"task", "seed", "level", "counts"}:
        raise ValueError('an object with "task", "seed", "level" and "counts" is needed')
    task, seed, level, counts = (record[field] for field in ("task", "seed", "level", "counts"))
    if not isinstance(task, str) or task not in TASKS:
        raise ValueError(f"no task is called {task!r}")
    if type(seed) is not int or seed < 0 or type(level) is not int or level not in LEVELS:
        raise ValueError(f"seed and level must be whole numbers, level 1 to 5, not {seed!r} and {level!r}")
    in_range = isinstance(TASKS[task], FileTask) or SEED_START["rl"] <= seed < SEED_START["eval"]
    if not in_range or held_out(TASKS[task].question(seed, level)):
        raise ValueError("this is not a question for RL: its seed or its text is kept for another use")
    pairs = list(counts.values()) if isinstance(counts, dict) else []
    if not pairs or not all(isinstance(pair, list) and [type(n) for n in pair] == [int, int]
                            and 0 <= pair[0] <= pair[1] and pair[1] > 0 for pair in pairs):
        raise ValueError('"counts" must hold [right, samples] for each way, such as {"code@1": [3, 5]}')
    return (task, seed, level), counts


def read_counts(path: Path) -> dict[Id, Counts]:
    """A measurement, in the order of the file. RunError names the line that is wrong."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise RunError(f"cannot read {path}: {reason}") from None
    counts: dict[Id, Counts] = {}
    for number, line in enumerate(lines, 1):
        try:
            name, found = read_line(line)
            if name in counts:
                raise ValueError(f"{name} stands here a second time")
        except ValueError as error:
            raise RunError(f"{path}, line {number}: {error}") from None
        counts[name] = found
    return counts


def known(path: Path, samples: int) -> dict[Id, Counts]:
    """What is measured already; RunError if it was measured in other ways than asked for now."""
    counts = read_counts(path) if path.exists() else {}
    wanted = {way: share for way, (_, _, share) in split(samples).items()}
    for number, found in enumerate(counts.values(), 1):
        if {way: asked for way, (_, asked) in found.items()} != wanted:
            raise RunError(f"{path}, line {number} was measured as {found}, not with {samples} samples in "
                           f"{len(wanted)} ways: use the same --potential-samples, or delete the file")
    return counts


def measure(policy, tokenizer, box, questions: Iterable[Question], path: Path, args: argparse.Namespace
            ) -> dict[Id, Counts]:
    """Counts of these questions and of those in `path` already; saved there after each batch.

    The file is replaced as a whole, and a batch's random numbers depend on its first question: who kills this
    and starts it again gets the file of an undisturbed run.
    """
    counts, ways = known(path, args.potential_samples), split(args.potential_samples)
    missing = [question for question in questions if identity(question) not in counts]
    if not missing:
        return counts
    print(f"Success rates: {len(missing)} questions are not measured yet, asking each "
          f"{args.potential_samples} times now (once; saved in {path}).")
    engine = make_engine(policy, tokenizer, box, args)
    with tqdm(total=len(missing) * args.potential_samples, desc="measuring", unit="",
              disable=parallel.rank() > 0) as bar, torch.no_grad():
        for first in range(0, len(missing), BATCH):
            batch = missing[first:first + BATCH]
            counts |= {identity(question): {way: [0, ways[way][-1]] for way in ways} for question in batch}
            for way, (mode, temperature, samples) in ways.items():
                seed = random.Random(f"potential/{args.seed}/{way}/{identity(batch[0])}").getrandbits(48)
                speak(engine, mode, args.style)
                for episode in parallel.rollouts(engine, batch, samples, temperature=temperature, seed=seed,
                                                 on_end=lambda episode: bar.update()):
                    counts[identity(episode.question)][way][0] += episode.correct
            if parallel.rank() == 0:
                write_jsonl(path, ({"task": task, "seed": seed, "level": level, "counts": found}
                                   for (task, seed, level), found in counts.items()))
    return counts


# ----------------------------------------------------------------------------------------------- as a picture
def group_sizes(potentials: list[float]) -> list[int]:
    """How many questions are in each group."""
    upto = [0] + [len(stage) for stage in stages(potentials)]
    return [after - before for before, after in zip(upto, upto[1:])]


def histogram(counts: Iterable[Counts]) -> str:
    """How many questions have which success rate, in twentieths: with 20 samples each rate has a row."""
    rates = [total(found) for found in counts]
    rows = [sum((40 * right + samples) // (2 * samples) == k for right, samples in rates) for k in range(21)]
    lines = ["success rate p  4p(1-p)  group  questions"]
    for k, questions in enumerate(rows):
        potential = improvement_potential(k, 20)
        group = group_sizes([potential]).index(1) + 1
        stars = "#" * -(-36 * questions // max(rows))  # at least one where there is a question
        lines.append(f"{k / 20:14.2f}{potential:9.2f}{group:7}{questions:11}  {stars}".rstrip())
    return "\n".join(lines)


def task_table(counts: dict[Id, Counts]) -> str:
    """Success rate, potential, group sizes and the success rate of each way, by task; best first."""
    by_task: dict[str, list[Counts]] = defaultdict(list)
    for name, found in counts.items():
        by_task[name[0]].append(found)
    ways = list(dict.fromkeys(way for found in counts.values() for way in found))

    def rate(pairs: list) -> str:
        return f"{sum(right for right, _ in pairs) / sum(n for _, n in pairs):.2f}" if pairs else "-"

    rows = []
    for task, measured in [*by_task.items(), ("all", list(counts.values()))]:
        potentials = [improvement_potential(*total(found)) for found in measured]
        mean = sum(potentials) / len(potentials)
        line = f"{task[:22]:22}{len(measured):10}{rate(list(map(total, measured))):>6}{mean:9.2f}"
        line += "".join(f"{size:4}" for size in group_sizes(potentials))
        line += "".join(f"{rate([found[way] for found in measured if way in found]):>5}" for way in ways)
        rows.append((task == "all", -mean, line))
    letters = [chr(ord("A") + i) for i in range(len(ways))]
    head = f"{'task':22}{'questions':>10}{'p':>6}{'4p(1-p)':>9}{'groups 1 to 4':>16}"
    head += "".join(f"{letter:>5}" for letter in letters)
    legend = "p by way: " + ", ".join(map(" ".join, zip(letters, ways)))
    return "\n".join([head, *(line for *_, line in sorted(rows)), legend])


# ------------------------------------------------------------------------------ questions for a training step
DECAY = 0.97  # an answer counts so much less with each later step: the policy that gave it is gone
PRIOR = 1  # the rate of its task counts like so many answers of the question itself
FLOOR = 0.05  # least weight of a question: what seems hopeless or solved is tried again now and then


def running_rates(names: Iterable[Id], history: list[dict]) -> dict[Id, float]:
    """Success rate of each question, estimated from the training steps so far (lines of questions.jsonl).

    What a question's own answers leave open is taken from its task (at its level); what those leave open,
    from 1/2. Older answers count less and less.
    """
    right, asked = defaultdict(float), defaultdict(float)
    for age, line in enumerate(reversed(history)):
        for task, seed, level, correct, samples in line["questions"]:
            for key in ((task, level), (task, seed, level)):
                right[key] += DECAY ** age * correct
                asked[key] += DECAY ** age * samples
    rates = {}
    for task, seed, level in names:
        prior = (right[task, level] + 1) / (asked[task, level] + 2)
        name = task, seed, level
        rates[name] = (right[name] + PRIOR * prior) / (asked[name] + PRIOR)
    return rates


def choose(rates: dict[Id, float], count: int, rng: random.Random) -> list[Id]:
    """`count` different questions with chances in proportion to 4p(1-p).

    The largest keys u ** (1 / weight), u uniform (Efraimidis and Spirakis 2006).
    """
    keys = {name: rng.random() ** (1 / max(FLOOR, 4 * p * (1 - p))) for name, p in rates.items()}
    return sorted(keys, key=keys.get, reverse=True)[:count]


class Source:
    """The questions of each RL step, as --curriculum says.

    They depend on (seed, step) and, for `online`, on the earlier lines of questions.jsonl, which a resumed
    run cuts back to its checkpoint, as it does with its metrics: it goes on with the same questions.
    """

    def __init__(self, args: argparse.Namespace, engine: Engine, run: Run):
        self.args, self.run, self.history = args, run, run.drawn()
        self.tasks = select(args.tasks)
        self.pool = {} if args.curriculum == "none" else pool(args)
        self.stages: list[tuple[int, list[Id]]] = []  # number and questions; empty stages are left out
        if args.curriculum in ("potential", "difficulty"):
            self._make_stages(engine)

    def _make_stages(self, engine: Engine) -> None:
        """From the measurement, which is read, or completed now with the policy that RL starts from."""
        args, path = self.args, measurement(self.args)
        if args.potential:
            counts = selected(read_counts(path), args)
            self.pool = {name: TASKS[name[0]].question(*name[1:]) for name in counts}
        else:
            counts = measure(engine.policy, engine.tokenizer, engine.sandbox, self.pool.values(), path, args)
        totals = {name: total(counts[name]) for name in self.pool}
        if args.curriculum == "potential":
            made = stages({name: improvement_potential(*pair) for name, pair in totals.items()})
        else:
            made = stages({name: right / samples for name, (right, samples) in totals.items()}, RATE_BOUNDS)
        self.stages = [(number, names) for number, names in enumerate(made, 1) if names]
        print(f"Curriculum by {args.curriculum}: stages of {', '.join(str(len(names)) for names in made)} "
              f"questions, {args.stage_steps} steps each (from {path})")

    def questions(self, step: int) -> list[Question]:
        """The questions of this step."""
        count, seed = self.args.questions, self.args.seed
        if self.args.curriculum == "none":
            return draw(self.tasks, "rl", count, self.args.levels, start=step * count)
        if self.args.curriculum == "online":
            rates = running_rates(self.pool, self.history)
            return [self.pool[name] for name in choose(rates, count, random.Random(f"online/{seed}/{step}"))]
        index = self._index(step)
        number, names = self.stages[index]
        # Round after round through the stage, each in an order of its own.
        places = batch_of(step - index * self.args.stage_steps, len(names), count, f"stage/{seed}/{number}")
        return [self.pool[names[place]] for place in places]

    def stage(self, step: int) -> int:
        """The number of the stage, 1 to 4; 0 for a curriculum without stages."""
        return self.stages[self._index(step)][0] if self.stages else 0

    def _index(self, step: int) -> int:
        return min(step // self.args.stage_steps, len(self.stages) - 1)

    def record(self, step: int, episodes: list[Episode]) -> None:
        """Note what was asked in this step, and how often it was answered right."""
        rows: dict[Id, list[int]] = {}
        for episode in episodes:
            row = rows.setdefault(identity(episode.question), [0, 0])
            row[0], row[1] = row[0] + episode.correct, row[1] + 1
        self.history.append({"step": step, "questions": [[*name, *row] for name, row in rows.items()]})
        self.run.log_drawn(self.history[-1])


def measurement(args: argparse.Namespace) -> Path:
    """The file of success rates: --potential, or potential.jsonl beside the policy that RL starts from."""
    warm = args.init != "base" and not args.random_weights and exists(args.sft_run)
    return args.potential or (args.sft_run if warm else args.out) / "potential.jsonl"


def selected(counts: dict[Id, Counts], args: argparse.Namespace) -> dict[Id, Counts]:
    """Those of the selected tasks and levels. RunError if there are none."""
    names = {task.name for task in select(args.tasks)}
    kept = {name: found for name, found in counts.items()
            if name[0] in names and (name[2] in args.levels or isinstance(TASKS[name[0]], FileTask))}
    if not kept:
        raise RunError(f"{args.potential} has no question of --tasks {args.tasks} at the levels of --levels")
    return kept


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot work before anything is made or overwritten: RunError or TaskError."""
    if args.potential and args.curriculum not in ("potential", "difficulty"):
        raise RunError(f"--potential is for --curriculum potential and difficulty, not {args.curriculum}")
    if args.potential:
        selected(read_counts(args.potential), args)
    elif args.curriculum != "none":
        pool(args)
        if args.curriculum != "online":
            known(measurement(args), args.potential_samples)


# ------------------------------------------------------------------------------------------------ the command
def pool_size(values: dict) -> int:
    """By default: a quarter of the questions that a run of this preset draws without a curriculum."""
    return values["rl"]["steps"] * values["rl"]["questions"] // 4


def add_arguments(parser: argparse.ArgumentParser, values: dict) -> None:
    """The flags of a training script; `values`: the preset."""
    group = parser.add_argument_group("curriculum")
    group.add_argument("--curriculum", choices=("none", "potential", "difficulty", "online"), default="none",
                       help="which questions are trained on when (curriculum.py)")
    group.add_argument("--stage-steps", type=positive, default=values["rl"]["steps"] // 4,
                       help="steps per stage; the last stage goes on to the end (paper: 150)")
    group.add_argument("--pool", type=positive, default=pool_size(values), help="questions to choose from")
    group.add_argument("--potential", type=Path, help="measured success rates to use as they are (default: "
                       "potential.jsonl beside the SFT policy; what is missing there is measured first)")
    group.add_argument("--potential-samples", type=positive, default=20, help="answers per measured question")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; defaults come from the preset of --model."""
    parser, values = make_parser(argv, __doc__.split("\n\n")[0])
    parser.add_argument("--questions", dest="pool", type=positive, default=pool_size(values),
                        help="how many RL questions")
    parser.add_argument("--potential-samples", type=positive, default=20, help="answers per question, over "
                        f"{', '.join(f'{mode} at temperature {heat:g}' for mode, heat in WAYS)}")
    parser.add_argument("--run", type=Path, help="run folder of the policy (default: runs/MODEL/sft)")
    parser.add_argument("--seed", type=int, default=0)
    sandboxes.add_arguments(parser)
    args = parser.parse_args(argv)
    args.run = args.run or Path("runs") / run_name(args.model) / "sft"
    return args


def main(argv: list[str] | None = None) -> None:
    """Measure what is not measured yet, then show it. Bad input: one line, exit code 2."""
    try:
        args = parse(argv)
        questions, path = pool(args), args.run / "potential.jsonl"
        if not exists(args.run):
            fail(f"{args.run} holds no policy: make one with python sft.py --model {args.model}"
                 " or give --run")
        counts = known(path, args.potential_samples)
        if set(questions) - set(counts):
            policy, tokenizer = load(args.model, checkpoint_folder=args.run, dtype=args.dtype,
                                     quantize=args.quantize, random_weights=args.random_weights,
                                     layers=args.layers, device=args.device, seed=args.seed, trainable=False)
            with sandboxes.from_args(args) as box:
                counts = measure(policy, tokenizer, box, questions.values(), path, args)
    except (ModelError, TaskError, ChatError, RunError, sandboxes.SandboxError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        print(f"\nStopped; {path} keeps what is measured. The same command goes on.")
        raise SystemExit(130) from None
    counts = {name: counts[name] for name in questions}
    print(f"{histogram(counts.values())}\n\n{task_table(counts)}\n\n{len(counts)} questions, saved in {path}")


if __name__ == "__main__":
    command(main)
