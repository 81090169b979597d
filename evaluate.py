"""Counting: how often is the policy right, and when does it write code?

    python evaluate.py                              the newest tiny policy on 400 held-out questions
    python evaluate.py --run runs/tiny/sft
    python evaluate.py --model FOLDER --tasks test --levels 1-3 --mode text
    python evaluate.py --run runs/3b/grpo --tasks test --against runs/3b/sft
    python evaluate.py --model openai:gpt-4o --tasks test --mode text      a model behind a server (api.py)

The paper's question is a decision: code where it helps, words where they do as well. So besides accuracy we report
how often code is used on *code-needed* and on *text-solvable* tasks. Every model gets the same questions. Intervals
are of two kinds, for more questions of these tasks and for more tasks like these (intervals.py).

Every finished episode is kept in FILE.episodes.jsonl beside the result FILE.json. Killed, the same command goes on where
it was, and gives the same numbers (with --exact to the bit, else up to rounding): questions are worked on in fixed
batches, and random numbers go by the number of the episode. The same command once more only counts again. Other
settings want another --out, or --overwrite.
"""
import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from experiments import server as api
import memory
import parallel
import sandbox as sandboxes
from chat import Chat, ChatError, Protocol
from copies import Merged
from flags import make_parser, positive
from intervals import accuracy_interval, pass_at_k, sign_test, two_level, wilson
from models import ModelError, exists, faster_dtype, is_mixed, load, preset, run_name, saved, write_json
from rollout import STOPS, Engine, Episode, Limits
from runs import Log, RunError, command, fail, writing
from tasks import TASKS, FileTask, Question, TaskError, draw, select

VERDICTS = {"true", "false", "yes", "no", "ok", "correct", "valid", "wrong", "incorrect", "invalid"}


# ------------------------------------------------------------------------------------------------------- counting
def share(values: list[bool]) -> float | None:
    """Mean of booleans; None where there are none."""
    return sum(values) / len(values) if values else None


def tokens(episode: Episode) -> int:
    """Tokens that the policy wrote."""
    return sum(turn.end - turn.start for turn in episode.turns)


def checks_itself(episode: Episode) -> bool:
    """Did it test a result by a program? The rule, on its turns:

    A program that ran without error has a candidate result: the last line of its output. A later program, other than
    it, checks the candidate if it also runs without error and either ends in the same line (it recomputed it), or has
    the candidate in its text and gives a verdict: its last line is one of VERDICTS, or it asserts something.
    (The paper asks GPT-4o whether a conversation checks itself. A rule can be repeated; it misses checks in words.)
    """
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


def by_task(questions: list[Question], values: np.ndarray) -> list[np.ndarray]:
    """One value per question -> an array for each task."""
    names = np.array([question.task for question in questions])
    return [values[names == name] for name in dict.fromkeys(names.tolist())]


def summary(episodes: list[Episode], samples: int = 1) -> dict:
    """What happened, as plain numbers; episodes: `samples` of the first question, then of the second, and so on.

    accuracy (mean of all samples) with two intervals: low to high for more questions of these tasks, tasks_low to
    tasks_high for more tasks like these. Both take a question as one observation, however many samples it has.
    """
    groups = [episodes[i:i + samples] for i in range(0, len(episodes), samples)]
    questions = [group[0].question for group in groups]
    right = np.array([sum(e.correct for e in group) / samples for group in groups])
    low, high = wilson(right.sum(), len(groups))
    tasks_low, tasks_high = accuracy_interval(by_task(questions, right)) if groups else (0.0, 1.0)
    programs = [turn for e in episodes for turn in e.turns if turn.status]
    failed = sum(turn.status != "ok" for turn in programs)
    total = max(1, len(episodes))
    powers = sorted({2 ** i for i in range(samples.bit_length())} | {samples})  # 1, 2, 4, .. and all

    def part(chosen: list[int]) -> dict:
        """Of some questions."""
        inside = [e for i in chosen for e in groups[i]]
        low, high = accuracy_interval(by_task([questions[i] for i in chosen], right[chosen]))
        return {"questions": len(chosen), "accuracy": float(right[chosen].mean()), "low": low, "high": high,
                "code": share([e.calls > 0 for e in inside]), "calls": sum(e.calls for e in inside) / len(inside),
                "tokens": sum(map(tokens, inside)) / len(inside)}

    def parts(name_of: Callable[[Question], str]) -> dict:
        names = [name_of(question) for question in questions]
        return {name: part([i for i, other in enumerate(names) if other == name]) for name in dict.fromkeys(names)}

    return {
        "questions": len(groups), "accuracy": float(right.mean()) if groups else 0.0, "low": low, "high": high,
        "tasks_low": tasks_low, "tasks_high": tasks_high, "samples": samples,
        "pass_at": {str(k): sum(pass_at_k(samples, sum(e.correct for e in group), k) for group in groups)
                    / max(1, len(groups)) for k in powers},
        "code_on_code_needed": share([e.calls > 0 for e in episodes if not TASKS[e.question.task].text_solvable]),
        "code_on_text_solvable": share([e.calls > 0 for e in episodes if TASKS[e.question.task].text_solvable]),
        "calls": sum(e.calls for e in episodes) / total, "errors": failed / total,
        "code_errors": failed / len(programs) if programs else None,
        "self_checks": share([checks_itself(e) for e in episodes if e.calls]),
        "tokens": sum(map(tokens, episodes)) / total,
        "right": "".join(str(int(e.correct)) for e in episodes),  # episode by episode
        "stops": {stop: sum(e.stop == stop for e in episodes) for stop in STOPS},
        "tasks": parts(lambda question: question.task),
        "suites": parts(lambda question: TASKS[question.task].suite),
        "abilities": parts(lambda question: TASKS[question.task].ability),
    }


def each_question(episodes: list[Episode], samples: int) -> list[dict]:
    """One line per question, so that two evaluations can be paired; lists: one entry per sample."""
    lines = []
    for group in (episodes[i:i + samples] for i in range(0, len(episodes), samples)):
        question = group[0].question
        lines.append({"task": question.task, "seed": question.seed, "level": question.level,
                      "right": [int(e.correct) for e in group], "calls": [e.calls for e in group],
                      "tokens": [tokens(e) for e in group]})
    return lines


def evaluate(engine, questions: list[Question], *, samples: int = 1, temperature: float, top_p: float = 1.0,
             seed: int = 0, name: str = "evaluation", log: Log | None = None, save_every: int | None = None,
             alone: bool = False) -> tuple[dict, list[Episode]]:
    """(summary, episodes) for these questions, under a progress bar. The same seed gives the same numbers.

    engine: rollout.Engine or api.Engine. log: finished episodes are read from there and kept there, every `save_every`
    episodes (a server's: each one). alone: this is rank 0 and the other ranks do not take part.
    """
    total, ranks = len(questions) * samples, 1 if alone else parallel.size()
    done = log.read(questions, samples) if log else {}
    right, ended = sum(e.correct for e in done.values()) // ranks, len(done) // ranks
    options = {"temperature": temperature, "top_p": top_p, "seed": seed}
    with tqdm(total=total // ranks, initial=ended, desc=name, unit="", disable=parallel.rank() > 0) as bar:
        def show_progress(more_right: int, more: int) -> None:
            nonlocal right, ended
            right, ended = right + more_right, ended + more
            bar.update(more)
            bar.set_postfix(accuracy=f"{right / max(1, ended):.2f}", refresh=False)

        def on_end(episode: Episode) -> None:
            show_progress(int(episode.correct), 1)
            if log and isinstance(engine, api.Engine):
                log.write({episode.number: episode})

        if isinstance(engine, api.Engine):  # episodes on their own: whichever are missing
            answered = engine.run(questions, samples, **options, on_end=on_end, skip=set(done))
            done |= {episode.number: episode for episode in answered}
        else:  # in batches: who decodes beside whom moves the last bit of a logit
            size = max(1, (save_every or total) // samples)
            for start in range(0, len(questions), size):
                batch = questions[start:start + size]
                numbers = range(start * samples, (start + len(batch)) * samples)
                if all(number in done for number in numbers):
                    continue
                before = right, ended

                def on_restart(before=before) -> None:
                    show_progress(before[0] - right, before[1] - ended)

                runner = memory.rollouts if alone else parallel.rollouts
                episodes = runner(engine, batch, samples, first=numbers[0], **options, on_end=on_end,
                                  on_restart=on_restart)
                done |= zip(numbers, episodes)
                if log:
                    log.write(dict(zip(numbers, episodes)))
    episodes = [done[number] for number in range(total)]
    return summary(episodes, samples), episodes


# -------------------------------------------------------------------------------------------------------- showing
def percent(value: float | None) -> str:
    """0.513 -> '51%'; '-' for nothing to count."""
    return "-" if value is None else f"{100 * value:.0f}%"


def table(results: dict[str, dict]) -> str:
    """Results of several policies side by side, as aligned text."""
    rows: list[tuple[str, Callable[[dict], str]]] = [
        ("held-out accuracy", lambda r: f"{percent(r['accuracy'])} ({percent(r['low'])} to {percent(r['high'])})"),
        ("code used, code-needed tasks", lambda r: percent(r["code_on_code_needed"])),
        ("code used, text-solvable tasks", lambda r: percent(r["code_on_text_solvable"])),
        ("programs per question", lambda r: f"{r['calls']:.2f}"),
        ("programs that failed", lambda r: percent(r["code_errors"])),
        ("questions", lambda r: str(r["questions"])),
    ]
    names = [task for task in next(iter(results.values()))["tasks"]]
    if len(names) <= 12:
        rows += [(f"  {name}{'' if TASKS[name].text_solvable else ' *'}",
                  lambda r, name=name: f"{percent(r['tasks'][name]['accuracy'])} "
                                       f"(code {percent(r['tasks'][name]['code'])})") for name in names]
    lines = [f"{'':32}" + "".join(f"{name:>20}" for name in results)]
    lines += [f"{label:32}" + "".join(f"{cell(result):>20}" for result in results.values()) for label, cell in rows]
    return "\n".join(lines) + ("\n* code-needed" if len(names) <= 12 else "")


def interval(low: float, high: float) -> str:
    """'86% to 92%'."""
    return f"{percent(low)} to {percent(high)}"


def sheet(result: dict) -> str:
    """One evaluation as aligned text of at most 80 columns: all together, then by suite, ability and task."""
    samples, kinds = result["samples"], result["tasks"]
    rows = [("accuracy", percent(result["accuracy"])),
            ("  95%: more questions of the tasks", interval(result["low"], result["high"]))]
    if len(kinds) > 1:
        rows.append(("  95%: more tasks like these", interval(result["tasks_low"], result["tasks_high"])))
    if samples > 1:
        rows += [(f"pass@{k}", percent(value)) for k, value in result["pass_at"].items()]
    rows += [("code used, code-needed tasks", percent(result["code_on_code_needed"])),
             ("code used, text-solvable tasks", percent(result["code_on_text_solvable"])),
             ("programs per question", f"{result['calls']:.2f}"), ("  of them failed", f"{result['errors']:.2f}"),
             ("programs that failed", percent(result["code_errors"])),
             ("checks itself, if code is used", percent(result["self_checks"])),
             ("tokens per question", f"{result['tokens']:.0f}"), ("questions", str(result["questions"]))]
    if samples > 1:
        rows.append(("answers per question", str(samples)))
    rows += [(f"stopped: {stop}", str(count)) for stop, count in result["stops"].items() if count and stop != "answer"]
    lines = [f"{label:32}{cell:>20}" for label, cell in rows]
    lines += ["", f"{'':40}{'n':>5}{'accuracy (95%)':>20}{'code':>6}{'tokens':>9}"]
    for title, parts in (("suite", result["suites"]), ("ability", result["abilities"]), ("task", kinds)):
        for name, one in parts.items():
            label = f"{title}: {name}" if title != "task" else name if TASKS[name].text_solvable else name + "*"
            cell = f"{percent(one['accuracy'])} ({interval(one['low'], one['high'])})"
            lines.append(f"{label:40.40}{one['questions']:>5}{cell:>20}{percent(one['code']):>6}{one['tokens']:>9.0f}")
    return "\n".join([*lines, "* code-needed"])


def compare(first: list[dict], second: list[dict]) -> dict:
    """Paired comparison of two evaluations, each as `each_question` gives it. RunError if the questions differ.

    difference of the accuracies (first minus second); low to high: 95% for more tasks like these (for one task: for more
    of its questions); better, worse: questions at which the first was right more often, or less; p: exact sign test
    over these, which is about questions like these of the same tasks.
    """
    names = [[(line["task"], line["seed"], line["level"]) for line in lines] for lines in (first, second)]
    if names[0] != names[1]:
        raise RunError(f"the two evaluations asked different questions ({len(names[0])} and {len(names[1])}): use the "
                       "same --tasks, --levels and --questions")
    gaps = np.array([np.mean(a["right"]) - np.mean(b["right"]) for a, b in zip(first, second)])
    tasks = [task for task, _, _ in names[0]]
    groups = [gaps[np.array(tasks) == task] for task in dict.fromkeys(tasks)]
    groups = groups if len(groups) > 1 else [gaps[i:i + 1] for i in range(len(gaps))]
    low, high = two_level(groups) if len(groups) > 1 else (-1.0, 1.0)
    better, worse = int((gaps > 1e-9).sum()), int((gaps < -1e-9).sum())
    return {"difference": float(gaps.mean()), "low": max(-1.0, low), "high": min(1.0, high), "better": better,
            "worse": worse, "p": sign_test(better, worse), "questions": len(gaps)}


def comparison(gap: dict, other: Path) -> str:
    """A paired comparison in words."""
    points = "{difference:+.1f} points (95%: {low:+.1f} to {high:+.1f})".format(
        **{name: 100 * gap[name] for name in ("difference", "low", "high")})
    return (f"against {other}\n  {points}\n  better at {gap['better']}, worse at {gap['worse']} of {gap['questions']} "
            f"questions; sign test: p = {gap['p']:.2g}")


def show(episode: Episode) -> str:
    """One episode as it looks to a reader."""
    lines = [f"question ({episode.question.task}, level {episode.question.level}): {episode.question.prompt}"]
    for turn in episode.turns:
        lines.append(f"policy: {turn.text}")
        if turn.output is not None:
            lines.append(f"interpreter: {turn.output}")
    verdict = "right" if episode.correct else "wrong"
    lines.append(f"-> {verdict}" + ("" if episode.stop == "answer" else f" (stopped: {episode.stop})"))
    return "\n".join("  " + line for text in lines for line in text.splitlines())


def newest(model: str) -> Path | None:
    """The run folder of the furthest stage of a model that has a saved policy."""
    found = [Path("runs") / run_name(model) / stage for stage in ("grpo", "ppo", "reinforce", "sft")]
    return next((folder for folder in found if exists(folder)), None)


def make_engine(policy, tokenizer, box, args: argparse.Namespace) -> Engine:
    """An engine with the limits and the protocol that the flags name."""
    eos = getattr(policy, "generation_config", None) and policy.generation_config.eos_token_id
    extra = tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,)
    chat = Chat(tokenizer, args.mode, args.style, args.answer_format, extra)
    limits = Limits(args.turn_tokens, args.episode_tokens, args.calls, args.results_chars)
    merged = None
    if args.rollout_weights == "merged" or is_mixed(policy):  # as the trainer multiplies
        dtype = faster_dtype(args.device) if args.dtype == "auto" else args.dtype
        merged = Merged(policy, getattr(torch, dtype))
    return Engine(policy, tokenizer, box, limits, chat=chat, slots=args.slots, lag=args.lag, exact=args.exact,
                  static=args.static, merged=merged)


def speak(engine, mode: str, style: str) -> None:
    """From now on, the engine asks in this way (see chat.PROMPTS)."""
    chat = engine.chat
    engine.chat = Protocol(mode, style, chat.answer_format) if isinstance(engine, api.Engine) else Chat(
        engine.tokenizer, mode, style, chat.answer_format, tuple(chat.stop_ids))


def open_engine(model: str, folder: Path | None, box, args: argparse.Namespace):
    """What answers: a server for openai:NAME, else the model here, with the policy of `folder` if there is one."""
    if model.startswith(api.PREFIX):
        return api.from_args(model, box, args)
    policy, tokenizer = load(model, checkpoint_folder=folder, dtype=args.dtype, quantize=args.quantize,
                             random_weights=args.random_weights, layers=args.layers, device=args.device,
                             seed=args.seed, trainable=False)
    return make_engine(policy, tokenizer, box, args)


# ---------------------------------------------------------------------------------------------------- the command
def result_file(folder: Path, mode: str) -> Path:
    """Where a run folder's evaluation goes: eval.json, or eval-MODE.json (also where training has its own eval.json)."""
    path = folder / "eval.json"
    trainings = path.exists() and "accuracy" not in json.loads(path.read_text("utf-8"))
    return path if mode == "interpreter" and not trainings else folder / f"eval-{mode}.json"


def read_result(path: Path, mode: str) -> list[dict]:
    """The questions of an earlier evaluation, by its file or run folder. RunError if it is none."""
    path = result_file(path, mode) if path.is_dir() else path
    try:
        return json.loads(path.read_text("utf-8"))["each"]
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(f"{path} is no evaluation with its questions: python evaluate.py --run FOLDER writes one") from None


def settings_of(args: argparse.Namespace, folder: Path | None, questions: list[Question]) -> dict:
    """What an evaluation depends on. Resumed, it must be the same; what only changes its speed may differ."""
    free = {"out", "against", "overwrite", "base", "device", "lora_rank", "sandbox", "sandbox_workers", *api.FREE}
    settings = {name: value for name, value in vars(args).items() if name not in free}
    prompts = "\0".join(question.prompt for question in questions)
    files = [saved(folder, "adapter") / "adapter_config.json", saved(folder, "model") / "config.json"] if folder else []
    return {**settings, "run": folder, "questions": len(questions),
            "policy": [path.stat().st_mtime_ns for path in files if path.exists()],
            "questions_hash": hashlib.sha256(prompts.encode()).hexdigest()[:16]}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; defaults come from the preset of --model."""
    parser, values = make_parser(argv, __doc__.split("\n\n")[0], served=True)
    parser.add_argument("--run", type=Path, help="run folder of the policy (default: the newest of --model)")
    parser.add_argument("--base", action="store_true", help="the untrained model, even if there are runs")
    parser.add_argument("--questions", type=positive, help=f"default: {values['eval_questions']}; of own files all")
    parser.add_argument("--samples", type=positive, default=1, help="answers per question; pass@k if more than 1")
    parser.add_argument("--temperature", type=float, default=values["eval_temperature"])
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="the result (default: eval.json in the run folder, or eval-MODE.json)")
    parser.add_argument("--overwrite", action="store_true", help="forget the finished episodes and start again")
    parser.add_argument("--save-every", type=positive, help="episodes between two saves (default: 4 x --slots)")
    parser.add_argument("--against", type=Path, help="compare with this evaluation: its file, or a run folder")
    api.add_arguments(parser)
    sandboxes.add_arguments(parser)
    args = parser.parse_args(argv)
    args.save_every = args.save_every or 4 * args.slots
    return args


def main(argv: list[str] | None = None) -> dict:
    """Run the command. Bad input: one line, exit code 2."""
    try:
        args = parse(argv)
        args.device = parallel.start(args.device)
        if args.model.startswith(api.PREFIX) and parallel.size() > 1:
            fail("a model behind a server is asked by one process, which sends many questions at once: without torchrun")
        folder = None if args.base else args.run or newest(args.model)
        if args.run and not exists(args.run):
            fail(f"{args.run} holds no policy: give a stage's folder, such as runs/tiny/sft")
        tasks = select(args.tasks)
        if args.questions is None and all(isinstance(task, FileTask) for task in tasks):
            questions = [question for task in tasks for question in task.pool]
        else:
            questions = draw(tasks, "eval", args.questions or preset(args.model, args.preset)["eval_questions"],
                             args.levels)
        out = args.out or result_file(folder or Path("runs") / run_name(args.model) / "base", args.mode)
        if args.against:
            against = read_result(args.against, args.mode)
            compare([{"task": q.task, "seed": q.seed, "level": q.level, "right": 0} for q in questions], against)
        log = Log(out.with_suffix(".episodes.jsonl"), settings_of(args, folder, questions), args.overwrite)
        done = log.read(questions, args.samples)
        if len(done) == len(questions) * args.samples:
            episodes = [done[number] for number in range(len(done))]
            result = summary(episodes, args.samples)
        else:
            log.write({})  # a place that cannot be written to shows before the work
            with sandboxes.from_args(args) as box, torch.no_grad():
                engine = open_engine(args.model, folder, box, args)
                result, episodes = evaluate(engine, questions, samples=args.samples, temperature=args.temperature,
                                            top_p=args.top_p, seed=args.seed, log=log, save_every=args.save_every)
    except (ModelError, RunError, TaskError, ChatError, sandboxes.SandboxError, api.ApiError) as error:
        fail(error)
    result |= {"model": args.model, "run": str(folder) if folder else None, "selection": args.tasks, "mode": args.mode}
    print(f"{folder or args.model}, {args.mode} mode, --tasks {args.tasks}\n\n{sheet(result)}")
    if args.model.startswith(api.PREFIX):
        result |= api.usage(episodes, args.price_in, args.price_out)
        print(f"\n{api.bill(result)}")
    print("\nOne episode:\n" + show(episodes[0]))
    result["each"] = each_question(episodes, args.samples)
    if args.against:
        result["against"] = {"file": str(args.against), **compare(result["each"], against)}
        print(f"\n{comparison(result['against'], args.against)}")
    if parallel.rank() == 0:
        with writing(out):
            write_json(out, result)
        print(f"\nwritten to {out}; the episodes: {log.path}")
    return result


if __name__ == "__main__":
    command(main, "The same command goes on with it.")
