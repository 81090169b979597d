"""Counting: how often is the policy right, how sure is that, and when does it write code?

    python evaluate.py                              the newest tiny policy on 400 held-out questions
    python evaluate.py --run runs/3b/grpo --tasks test --against runs/3b/sft
    python r1ci.py evaluate --model openai:gpt-4o --tasks test          a model behind a server

The paper's question is a decision: code where it helps, words where they do as well. So besides accuracy we
report how often code is used on *code-needed* and on *text-solvable* tasks.

Two populations, two intervals. *More questions of these tasks*: Wilson's, the only one for a single task.
*More tasks like these*: a task's questions are right or wrong together, so 400 questions about 8 tasks say
less than 400 independent ones; the two-level bootstrap draws tasks, then questions within each.

Every finished episode is kept in FILE.episodes.jsonl beside the result FILE.json. Killed, the same command
goes on where it was and gives the same numbers (with --exact to the bit, else up to rounding).
"""
import argparse
from pathlib import Path

import runs
from runs import SEED, UserError, command, make_parser, rank, real, run_name, whole


def parse(argv: list[str] | None = None, more=None) -> argparse.Namespace:
    """The command line; defaults come from the preset of --model. more(parser): adds flags about servers."""
    parser, values = make_parser(argv, __doc__.split("\n\n")[0], served=more is not None)
    add = parser.add_argument_group("evaluation").add_argument
    add("--run", type=Path, help="run folder of the policy (default: the newest of --model)")
    add("--base", action="store_true", help="the untrained model, even if there are runs")
    add("--questions", type=whole(), help=f"default: {values['eval_questions']}; of your own files all")
    add("--samples", type=whole(1, 1024), default=1, help="answers per question; above 1 also pass@k")
    add("--temperature", type=real(0, 10), default=values["eval_temperature"], help="of sampling")
    add("--top-p", type=real(0.01, 1), default=1.0, help="sample from the likeliest tokens only")
    add("--seed", type=SEED, default=0, help="of sampling")
    add("--out", type=Path, help="the result (default: eval.json or eval-MODE.json in the run folder)")
    add("--overwrite", action="store_true", help="forget the finished episodes and start again")
    add("--save-every", type=whole(), help="episodes worked on together (--exact: 4 x --slots; else all)")
    add("--against", type=Path, help="compare with this evaluation: its file, or a run folder")
    if more:
        more(parser)
    args = parser.parse_args(argv)
    args.save_every = args.save_every or (4 * args.slots if args.exact else None)
    return args


if __name__ == "__main__":
    command(parse)  # --help and mistakes are answered before torch is imported

import hashlib
import json
import math

import numpy as np
import torch

import batches
import sandbox as sandboxes
from models import device_of, exists, load_from_args, saved
from rollout import STOPS, Engine, Episode, Turn, make_engine
from tasks import TASKS, Question, draw, select

RESAMPLES = 2000  # of the bootstrap
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)  # t's 97.5% quantiles, 1 to 9 degrees
VERDICTS = {"true", "false", "yes", "no", "ok", "correct", "valid", "wrong", "incorrect", "invalid"}
# Flags that change no answer, or stand in an evaluation's settings in another form.
FREE = {"out", "against", "overwrite", "base", "device", "lora_rank", "sandbox"}


# ------------------------------------------------------------------------------------- intervals, as arrays
def wilson(right: float, total: int) -> tuple[float, float]:
    """95% interval of a fraction (E. B. Wilson 1927): sensible also near 0 and 1 and for few cases."""
    if total == 0:
        return 0.0, 1.0
    z, p = 1.959964, right / total
    centre = p + z * z / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return max(0.0, (centre - half) / (1 + z * z / total)), min(1.0, (centre + half) / (1 + z * z / total))


def resampled_means(groups: list[np.ndarray], seed: int = 0) -> np.ndarray:
    """Means (RESAMPLES,) over all values of `groups` (a task's questions each), drawn on both levels."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(groups), size=(RESAMPLES, len(groups)))
    sums, counts = np.zeros(chosen.shape), np.zeros(chosen.shape)
    for index, values in enumerate(groups):
        places = chosen == index
        sums[places] = values[rng.integers(len(values), size=(int(places.sum()), len(values)))].sum(1)
        counts[places] = len(values)
    return sums.sum(1) / counts.sum(1)


def student_factor(degrees: int) -> float:
    """How much wider 95% are by Student's t than by the normal distribution; a series beyond the table."""
    if degrees <= len(STUDENT):
        return STUDENT[degrees - 1] / 1.96
    return 1 + 1.2104 / degrees + 1.44 / degrees ** 2 + 1.30 / degrees ** 3


def two_level(groups: list[np.ndarray], seed: int = 0) -> tuple[float, float]:
    """95% interval of the mean for more tasks like these; groups: a task's values each, at least two tasks.
    Percentiles of the bootstrap, stretched about the mean because few tasks look more alike than they are: by
    Student's t, not the normal distribution's, and by sqrt(K / (K - 1)), as the bootstrap divides by K."""
    tasks, mean = len(groups), float(np.concatenate(groups).mean())
    stretch = student_factor(tasks - 1) * math.sqrt(tasks / (tasks - 1))
    low, high = np.percentile(resampled_means(groups, seed), (2.5, 97.5))
    return mean - stretch * (mean - float(low)), mean + stretch * (float(high) - mean)


def accuracy_interval(groups: list[np.ndarray], seed: int = 0) -> tuple[float, float]:
    """95% interval of an accuracy for more tasks like these; groups: a task's values (0 to 1) each. For a
    single task Wilson's, for more of its questions: one task says nothing about others. Never narrower than
    Wilson's: all right is not certainly right."""
    low, high = wilson(float(sum(values.sum() for values in groups)), sum(map(len, groups)))
    if len(groups) > 1:
        wide = two_level(groups, seed)
        low, high = max(0.0, min(low, wide[0])), min(1.0, max(high, wide[1]))
    return low, high


def sign_test(better: int, worse: int) -> float:
    """Exact two-sided p-value of so many questions better and worse, if either were as likely (McNemar)."""
    total, extreme = better + worse, max(better, worse)
    return min(1.0, 2 * sum(math.comb(total, k) for k in range(extreme, total + 1)) / 2 ** total)


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Is one of k answers right? Unbiased from n >= k samples with c right: 1 - C(n - c, k) / C(n, k)."""
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


# ------------------------------------------------------------------------------------------------- counting
def checks_itself(episode: Episode) -> bool:
    """Did it test a result by a program? (The paper asks GPT-4o. A rule can be repeated; it misses words.) A
    program that ran without error has a candidate result: the last line of its output. A later, different
    program checks it if it, too, runs without error and either ends in the same line (computed again), or has
    the candidate in its text and gives a verdict: a last line of VERDICTS, or an assert."""
    earlier: list[tuple[str, str]] = []  # programs and their candidates
    for turn in episode.turns:
        lines = (turn.output or "").strip().splitlines()
        if turn.status != "ok" or not lines or lines[-1].startswith("[no output"):
            continue
        last, program = lines[-1].strip(), turn.code.strip()
        verdict = last.lower().rstrip(".!") in VERDICTS or "assert " in program
        if any(program != before and (last == candidate or verdict and candidate in program)
               for before, candidate in earlier):
            return True
        earlier.append((program, last))
    return False


def by_task(tasks: list[str], values: np.ndarray) -> list[np.ndarray]:
    """The values of each task; tasks, values: of each question."""
    names = np.array(tasks)
    return [values[names == task] for task in dict.fromkeys(tasks)]


def summary(episodes: list[Episode], samples: int = 1) -> dict:
    """What happened, as plain numbers; episodes: `samples` of the first question, then of the second, ...
    accuracy (mean of all samples) with two intervals: low to high for more questions of these tasks,
    tasks_low to tasks_high for more tasks like these. Both take a question as one observation."""
    groups = [episodes[i:i + samples] for i in range(0, len(episodes), samples)]
    tasks = [group[0].question.task for group in groups]
    right = np.array([sum(e.correct for e in group) / samples for group in groups])

    def row(chosen: list[int]) -> dict:
        inside = [e for i in chosen for e in groups[i]]
        low, high = accuracy_interval(by_task([tasks[i] for i in chosen], right[chosen]))
        return {"questions": len(chosen), "accuracy": float(right[chosen].mean()), "low": low, "high": high,
                "code": sum(e.calls > 0 for e in inside) / len(inside),
                "calls": sum(e.calls for e in inside) / len(inside),
                "tokens": sum(turn.end - turn.start for e in inside for turn in e.turns) / len(inside)}

    def breakdown(field: str) -> dict:
        names = [getattr(TASKS[task], field) for task in tasks]
        return {name: row([i for i, other in enumerate(names) if other == name])
                for name in dict.fromkeys(names)}

    overall, (low, high) = row(list(range(len(groups)))), wilson(right.sum(), len(groups))
    solvable = breakdown("text_solvable")
    failed = [turn.status != "ok" for e in episodes for turn in e.turns if turn.status]
    checked = [checks_itself(e) for e in episodes if e.calls]
    powers = sorted({2 ** i for i in range(samples.bit_length())} | {samples})  # 1, 2, 4, .. and all
    return {
        **overall, "low": low, "high": high, "tasks_low": overall["low"], "tasks_high": overall["high"],
        "pass_at": {str(k): sum(pass_at_k(samples, sum(e.correct for e in group), k) for group in groups)
                    / len(groups) for k in powers},
        "code_on_code_needed": solvable[False]["code"] if False in solvable else None,
        "code_on_text_solvable": solvable[True]["code"] if True in solvable else None,
        "errors": sum(failed) / len(episodes), "code_errors": sum(failed) / len(failed) if failed else None,
        "self_checks": sum(checked) / len(checked) if checked else None,
        "samples": samples, "right": "".join(str(int(e.correct)) for e in episodes),  # episode by episode
        "stops": {stop: sum(e.stop == stop for e in episodes) for stop in STOPS},
        "tasks": breakdown("name"), "suites": breakdown("suite"), "abilities": breakdown("ability")}


def each_question(episodes: list[Episode], samples: int) -> list[dict]:
    """One line per question, so that two evaluations can be paired; lists: one entry per sample."""
    groups = [episodes[i:i + samples] for i in range(0, len(episodes), samples)]
    return [{"task": group[0].question.task, "seed": group[0].question.seed,
             "level": group[0].question.level, "right": [int(e.correct) for e in group],
             "calls": [e.calls for e in group],
             "tokens": [sum(turn.end - turn.start for turn in e.turns) for e in group]} for group in groups]


def compare(first: list[dict], second: list[dict]) -> dict:
    """Paired comparison of two evaluations, each as `each_question` gives it; they must have asked the same.
    difference of the accuracies (first minus second); low to high: 95% for more tasks like these (for one
    task: for more of its questions); better, worse: questions at which the first was right more often, or
    less; p: exact sign test over these, which is about questions like these of the same tasks."""
    names = [[(line["task"], line["seed"], line["level"]) for line in lines] for lines in (first, second)]
    if names[0] != names[1]:
        raise UserError(f"the two evaluations asked different questions ({len(names[0])} and "
                        f"{len(names[1])}): use the same --tasks, --levels and --questions")
    gaps = np.array([np.mean(a["right"]) - np.mean(b["right"]) for a, b in zip(first, second)])
    groups = by_task([task for task, _, _ in names[0]], gaps)
    groups = groups if len(groups) > 1 else [gaps[i:i + 1] for i in range(len(gaps))]
    low, high = two_level(groups) if len(groups) > 1 else (-1.0, 1.0)
    better, worse = int((gaps > 1e-9).sum()), int((gaps < -1e-9).sum())
    return {"difference": float(gaps.mean()), "low": max(-1.0, low), "high": min(1.0, high), "better": better,
            "worse": worse, "p": sign_test(better, worse), "questions": len(gaps)}


# --------------------------------------------------------------------------------------------------- asking
class Log:
    """FILE.episodes.jsonl: the settings of an evaluation, then its finished episodes as they come. If a
    number comes twice (a killed batch is run again), the later one counts. Other settings: UserError."""

    def __init__(self, path: Path, settings: dict, overwrite: bool = False):
        self.path = path
        self.lines = [] if overwrite else runs.read_jsonl(path)
        settings = runs.as_json(settings)
        old = self.lines[0].get("settings", {}) if self.lines else settings
        for name in runs.differing(old, settings):
            what = {"policy": "the policy was saved anew", "questions_hash": "the questions changed"}.get(
                name, f"it has {name}={old.get(name)}, not {settings.get(name)}")
            raise UserError(f"{path} holds another evaluation ({what}): go on with the same settings, write "
                            "elsewhere with --out, or start again with --overwrite")
        self.lines = [{"settings": settings}, *self.lines[1:]]

    def begin(self) -> None:
        """Take the file; a line that a kill cut short goes. Only now is anything written."""
        if rank() == 0:
            self.lock = runs.hold(self.path.with_suffix(".lock"))
            runs.write_jsonl(self.path, self.lines)

    def read(self, questions: list[Question], samples: int) -> dict[int, Episode]:
        """Number -> episode, of those that were finished; ids, mask and log-probabilities are not kept."""
        try:
            done = {line["number"]: Episode(
                questions[line["number"] // samples], [], [], [], [Turn(**turn) for turn in line["turns"]],
                line["answer"], line["correct"], float(line["correct"]), line["stop"], line["number"])
                for line in self.lines[1:]}
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(f"{self.path} is damaged ({error!r}): start again with --overwrite") from None
        return batches.gather([done])[0]  # all ranks know what rank 0 has found

    def write(self, episode: Episode) -> None:
        """Add a finished episode (on rank 0)."""
        question = episode.question
        line = {"number": episode.number, "task": question.task, "seed": question.seed,
                "level": question.level, "correct": episode.correct, "answer": episode.answer,
                "stop": episode.stop, "turns": [vars(turn) for turn in episode.turns]}
        if rank() == 0:
            with runs.writing(self.path), open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def evaluate(engine, questions: list[Question], *, samples: int = 1, temperature: float, top_p: float = 1.0,
             seed: int = 0, name: str = "evaluation", log: Log | None = None, save_every: int | None = None
             ) -> tuple[dict, list[Episode]]:
    """(summary, episodes) for these questions, in batches of `save_every` episodes; repeatable by the seed.
    engine: has `run` as rollout.Engine. log: what is finished is read there; each episode is kept as it
    ends."""
    total = len(questions) * samples
    done = log.read(questions, samples) if log else {}
    if log:
        log.begin()
    ended: set[int] = set()  # in this process
    with batches.Progress(total, name, done=len(done)) as bar:
        def keep(episode: Episode) -> None:
            done[episode.number] = episode
            ended.add(episode.number)
            if log:
                log.write(episode)
            accuracy = sum(e.correct for e in done.values()) / len(done)
            bar.set_postfix(accuracy=f"{accuracy:.2f}", refresh=False)
            bar.update(len(done) - bar.n)  # each number once, also if it came twice

        size = max(1, (save_every or total) // samples)
        for start in range(0, len(questions), size):
            batch, first = questions[start:start + size], start * samples
            for episode in batches.rollouts(engine, batch, samples, first=first, skip=set(done), on_end=keep,
                                            temperature=temperature, top_p=top_p, seed=seed):
                if episode.number not in ended:  # another rank's
                    keep(episode)
    episodes = [done[number] for number in range(total)]
    return summary(episodes, samples), episodes


def kept(engine, questions: list[Question], path: Path, temperature: float, steps: int = 0):
    """As `evaluate`, kept in `path` below the questions: a resumed run asks nothing twice. steps: trained."""
    settings = {"steps": steps, "questions": [question.prompt for question in questions]}
    log = Log(path, settings, overwrite=runs.read_jsonl(path)[:1] != [{"settings": settings}])
    return evaluate(engine, questions, temperature=temperature, name=path.stem, log=log)


# -------------------------------------------------------------------------------------------------- showing
def percent(value: float | None) -> str:
    """0.513 -> '51%'; '-' for nothing to count."""
    return "-" if value is None else f"{100 * value:.0f}%"


def interval(low: float, high: float) -> str:
    """'86% to 92%'."""
    return f"{percent(low)} to {percent(high)}"


def sheet(results: dict[str, dict]) -> str:
    """Summaries by name, side by side as aligned text; of a single one, everything (in 80 columns)."""
    def accuracy(row: dict) -> str:
        return f"{percent(row['accuracy'])} ({interval(row['low'], row['high'])})"

    single, columns = len(results) == 1, []
    for result in results.values():
        column = {"accuracy (95%: more questions)" if single else "held-out accuracy": accuracy(result)}
        if single and len(result["tasks"]) > 1:
            column["  95%: more tasks like these"] = interval(result["tasks_low"], result["tasks_high"])
        column |= {"code used, code-needed tasks": percent(result["code_on_code_needed"]),
                   "code used, text-solvable tasks": percent(result["code_on_text_solvable"]),
                   "programs per question": f"{result['calls']:.2f}",
                   "programs that failed": percent(result["code_errors"]), "questions": result["questions"]}
        if single:
            column |= {"checks itself, if code is used": percent(result["self_checks"]),
                       "tokens per question": f"{result['tokens']:.0f}"}
            column |= {f"pass@{k}": percent(value) for k, value in result["pass_at"].items() if k != "1"}
            column |= {f"stopped: {name}": n for name, n in result["stops"].items() if n and name != "answer"}
        elif len(result["tasks"]) <= 12:
            column |= {f"  {task}{'' if TASKS[task].text_solvable else ' *'}":
                       f"{percent(row['accuracy'])} (code {percent(row['code'])})"
                       for task, row in result["tasks"].items()}
        columns.append(column)
    lines = [] if single else [f"{'':32}" + "".join(f"{name:>20}" for name in results)]
    lines += [f"{label:32}" + "".join(f"{column[label]:>20}" for column in columns) for label in columns[0]]
    if single:
        lines += ["", f"{'':40}{'n':>5}{'accuracy (95%)':>20}{'code':>6}{'tokens':>9}"]
        for title, kind in (("suite: ", "suites"), ("ability: ", "abilities"), ("", "tasks")):
            for name, row in result[kind].items():
                label = title + name + ("" if title or TASKS[name].text_solvable else "*")
                lines.append(f"{label:40.40}{row['questions']:>5}{accuracy(row):>20}"
                             f"{percent(row['code']):>6}{row['tokens']:>9.0f}")
    return "\n".join(lines) + ("\n* code-needed" if single or len(result["tasks"]) <= 12 else "")


def comparison(gap: dict, other: Path) -> str:
    """A paired comparison in words."""
    difference, low, high = (f"{100 * gap[name]:+.1f}" for name in ("difference", "low", "high"))
    return (f"against {other}\n  {difference} points (95%: {low} to {high})\n  better at {gap['better']}, "
            f"worse at {gap['worse']} of {gap['questions']} questions; sign test: p = {gap['p']:.2g}")


def show(*episodes: Episode) -> str:
    """Episodes of one question as they look to a reader."""
    question = episodes[0].question
    texts = [f"question ({question.task}, level {question.level}): {question.prompt}"]
    for episode in episodes:
        for turn in episode.turns:
            texts += [f"policy: {turn.text}"] + ([f"interpreter: {turn.output}"] if turn.status else [])
        stopped = "" if episode.stop == "answer" else f" (stopped: {episode.stop})"
        texts.append(f"-> {'right' if episode.correct else 'wrong'}{stopped}")
    return "\n".join("  " + line for text in texts for line in text.splitlines())


# ---------------------------------------------------------------------------------------------- the command
def newest(model: str) -> Path | None:
    """The run folder of the furthest stage of a model that has a saved policy."""
    stages = ("grpo", "ppo", "dr-grpo", "reinforce", "sft")
    return next(filter(exists, (Path("runs") / run_name(model) / stage for stage in stages)), None)


def open_engine(args: argparse.Namespace, folder: Path | None, box: sandboxes.Sandbox) -> Engine:
    """The engine of the model here, with the policy of `folder` if there is one."""
    policy, tokenizer = load_from_args(args, folder, trainable=False)
    return make_engine(policy, tokenizer, box, args)


def earlier_result(path: Path) -> list[dict]:
    """The questions of an earlier evaluation."""
    try:
        return runs.read_json(path, dict)["each"]
    except (OSError, UserError, KeyError):
        raise UserError(f"{path} is no evaluation: python evaluate.py --run FOLDER writes one") from None


def settings_of(args: argparse.Namespace, folder: Path | None, questions: list[Question], free: set) -> dict:
    """What an evaluation depends on. Resumed, it must be the same; what only changes its speed may differ."""
    prompts = "\0".join(question.prompt for question in questions)
    return {**{name: value for name, value in vars(args).items() if name not in free}, "run": folder,
            "policy": [path.stat().st_mtime_ns for kind in ("adapter", "model") if folder
                       for path in sorted(saved(folder, kind).glob("*config.json"))],
            "questions": len(questions), "questions_hash": hashlib.sha256(prompts.encode()).hexdigest()[:16]}


def run(args: argparse.Namespace, open_engine=open_engine, free: set = FREE) -> tuple[dict, list[Episode]]:
    """The whole command: (result, episodes). open_engine: who answers; free: flags that change no answer."""
    batches.join_processes(device_of(args.device))
    if args.run and not exists(args.run):
        raise UserError(f"{args.run} holds no policy: give a stage's folder, such as runs/tiny/sft")
    folder = None if args.base else args.run or newest(args.model)
    name = "eval.json" if args.mode == "interpreter" else f"eval-{args.mode}.json"
    out = args.out or (folder or Path("runs") / run_name(args.model) / "base") / name
    tasks = select(args.tasks)
    own = args.questions is None and all(task.pool for task in tasks)
    count = args.questions or runs.preset(args.model, args.preset)["eval_questions"]
    questions = [q for task in tasks for q in task.pool] if own else draw(tasks, "eval", count, args.levels)
    if args.against:  # what cannot be paired is refused before the work
        against = earlier_result(args.against / name if args.against.is_dir() else args.against)
        compare([{"task": q.task, "seed": q.seed, "level": q.level, "right": 0} for q in questions], against)
    if rank() == 0:
        runs.check_writable(out)
    log = Log(out.with_suffix(".episodes.jsonl"), settings_of(args, folder, questions, free), args.overwrite)
    done = log.read(questions, args.samples)
    if len(done) == len(questions) * args.samples:
        episodes = [done[number] for number in range(len(done))]
        result = summary(episodes, args.samples)
    else:
        with sandboxes.from_args(args) as box, torch.no_grad():
            engine = open_engine(args, folder, box)
            result, episodes = evaluate(engine, questions, samples=args.samples, temperature=args.temperature,
                                        top_p=args.top_p, seed=args.seed, log=log, save_every=args.save_every)
    result |= {"model": args.model, "run": str(folder) if folder else None, "selection": args.tasks,
               "mode": args.mode, "each": each_question(episodes, args.samples)}
    if args.against:
        result["against"] = {"file": str(args.against), **compare(result["each"], against)}
    if rank() == 0:
        runs.write_json(out, result)  # before anything is printed: a pipe may be closed (.. | head)
    print(f"{folder or args.model}, {args.mode} mode, --tasks {args.tasks}\n\n{sheet({'': result})}\n\n"
          f"One episode:\n{show(episodes[0])}\n")
    if args.against:
        print(f"{comparison(result['against'], args.against)}\n")
    print(f"written to {out}; the episodes: {log.path}")
    return result, episodes


def main(argv: list[str] | None = None) -> dict:
    """Run the command. Bad input: UserError."""
    return run(parse(argv))[0]


if __name__ == "__main__":
    command(main, "The same command goes on with it.")
