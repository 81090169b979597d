"""Counting: how often is the policy right, and when does it write code?

    python evaluate.py                              the newest tiny policy on 400 held-out questions
    python evaluate.py --run runs/tiny/sft
    python evaluate.py --model FOLDER --tasks test --levels 1-3 --mode text

The paper's question is a decision: code where it helps, words where they do as well. So besides accuracy we report
how often code is used on *code-needed* and on *text-solvable* tasks. Intervals are Wilson's 95% intervals for a share.
"""
import argparse
import math
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

import parallel
import sandbox as sandboxes
from chat import Chat, ChatError
from models import (
    Merged,
    ModelError,
    exists,
    faster_dtype,
    load,
    make_parser,
    positive,
    preset,
    run_name,
    write_json,
)
from rollout import STOPS, Engine, Episode, Limits
from runs import command, fail
from tasks import TASKS, FileTask, Question, TaskError, draw, select


def wilson(right: int, total: int) -> tuple[float, float]:
    """95% interval of a share (E. B. Wilson 1927): sensible also near 0 and 1 and for few cases."""
    if total == 0:
        return 0.0, 1.0
    z, p = 1.959964, right / total
    centre = p + z * z / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return max(0.0, (centre - half) / (1 + z * z / total)), min(1.0, (centre + half) / (1 + z * z / total))


def share(values: list[bool]) -> float | None:
    """Mean of booleans; None where there are none."""
    return sum(values) / len(values) if values else None


def summary(episodes: list[Episode]) -> dict:
    """Accuracy with interval, code use by kind of task, calls, errors, ways of stopping, and accuracy per task."""
    right = sum(e.correct for e in episodes)
    turns = [turn for e in episodes for turn in e.turns if turn.status]
    low, high = wilson(right, len(episodes))
    by_task: dict[str, list[Episode]] = {}
    for episode in episodes:
        by_task.setdefault(episode.question.task, []).append(episode)
    return {
        "questions": len(episodes), "accuracy": right / max(1, len(episodes)), "low": low, "high": high,
        "code_on_code_needed": share([e.calls > 0 for e in episodes if not TASKS[e.question.task].text_solvable]),
        "code_on_text_solvable": share([e.calls > 0 for e in episodes if TASKS[e.question.task].text_solvable]),
        "calls": sum(e.calls for e in episodes) / max(1, len(episodes)),
        "code_errors": share([turn.status != "ok" for turn in turns]),
        "right": "".join(str(int(e.correct)) for e in episodes),  # question by question
        "stops": {stop: sum(e.stop == stop for e in episodes) for stop in STOPS},
        "tasks": {task: {"questions": len(group), "accuracy": share([e.correct for e in group]),
                         "code": share([e.calls > 0 for e in group])} for task, group in by_task.items()},
    }


def evaluate(engine: Engine, questions: list[Question], *, samples: int = 1, temperature: float, top_p: float = 1.0,
             seed: int = 0, name: str = "evaluation") -> tuple[dict, list[Episode]]:
    """(summary, episodes) for these questions, under a progress bar. The same seed gives the same numbers."""
    with tqdm(total=len(questions) * samples // parallel.size(), desc=name, unit="", disable=parallel.rank() > 0) as bar:
        right = done = 0

        def on_end(episode: Episode) -> None:
            nonlocal right, done
            right, done = right + episode.correct, done + 1
            bar.update()
            bar.set_postfix(accuracy=f"{right / done:.2f}", refresh=False)

        def on_restart() -> None:
            nonlocal right, done
            right = done = 0
            bar.reset()

        episodes = parallel.rollouts(engine, questions, samples, temperature=temperature, top_p=top_p, seed=seed,
                                     on_end=on_end, on_restart=on_restart)
    return summary(episodes), episodes


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
    if args.rollout_weights == "merged":
        dtype = faster_dtype(args.device) if args.dtype == "auto" else args.dtype
        merged = Merged(policy, getattr(torch, dtype))
    return Engine(policy, tokenizer, box, limits, chat=chat, slots=args.slots, lag=args.lag, exact=args.exact,
                  static=args.static, merged=merged)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; defaults come from the preset of --model."""
    parser, values = make_parser(argv, __doc__.split("\n\n")[0])
    parser.add_argument("--run", type=Path, help="run folder of the policy (default: the newest of --model)")
    parser.add_argument("--base", action="store_true", help="the untrained model, even if there are runs")
    parser.add_argument("--questions", type=positive, help=f"default: {values['eval_questions']}; of own files all")
    parser.add_argument("--samples", type=positive, default=1, help="answers per question")
    parser.add_argument("--temperature", type=float, default=values["eval_temperature"])
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where to write the result as JSON (default: eval.json in the run)")
    sandboxes.add_arguments(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict:
    """Run the command. Bad input: one line, exit code 2."""
    try:
        args = parse(argv)
        args.device = parallel.start(args.device)
        folder = None if args.base else args.run or newest(args.model)
        if args.run and not exists(args.run):
            fail(f"{args.run} holds no policy: give a stage's folder, such as runs/tiny/sft")
        tasks = select(args.tasks)
        if args.questions is None and all(isinstance(task, FileTask) for task in tasks):
            questions = [question for task in tasks for question in task.pool]
        else:
            questions = draw(tasks, "eval", args.questions or preset(args.model)["eval_questions"], args.levels)
        policy, tokenizer = load(args.model, checkpoint_folder=folder, dtype=args.dtype, quantize=args.quantize,
                                 random_weights=args.random_weights, layers=args.layers, device=args.device,
                                 seed=args.seed, trainable=False)
        with sandboxes.from_args(args) as box, torch.no_grad():
            engine = make_engine(policy, tokenizer, box, args)
            result, episodes = evaluate(engine, questions, samples=args.samples, temperature=args.temperature,
                                        top_p=args.top_p, seed=args.seed)
    except (ModelError, TaskError, ChatError, sandboxes.SandboxError) as error:
        fail(error)
    print(table({str(folder or args.model): result}))
    print("\nOne episode:\n" + show(episodes[0]))
    out = args.out or (folder / "eval.json" if folder else None)
    if out and parallel.rank() == 0:
        write_json(out, result)
        print(f"\nwritten to {out}")
    return result


if __name__ == "__main__":
    command(main)
