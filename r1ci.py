"""The front door: one command for everything that is not a training script of its own.

    ask "How many ..?"      ask a model; without a question one after the other (--run, --model openai:..)
    tasks [NAME]            all tasks, or one question of one; `tasks --audit` checks them all
    report RUN ..           one HTML page about a run, or several
    run --budget 20m        the whole story: untrained, SFT, curriculum, GRPO, evaluations, results page
    results RUN             the results page of such a run, written again
    evaluate --model openai:NAME                 evaluate.py for a model behind a server
    teach --teacher openai:NAME --out FILE       conversations of a stronger model, for sft.py --data FILE
    ablate --over algorithm                      change one thing, and say whether it mattered
    reproduce               the paper's claims on the tiny model: docs/RESULTS.md
    plan --model 7b --gpu-memory 24              what will be in memory, and what fits
    export --run runs/3b/grpo --out FOLDER       the trained model as one ordinary folder
    bench sandbox           speed, measured side by side: sandbox, rollout
    check-gpu               what only a GPU can prove, as a table to paste

For example: python r1ci.py tasks game24 --seed 3 --level 4. Each command explains itself with --help.
The training scripts are sft.py, curriculum.py, grpo.py and evaluate.py.
"""
import importlib
import sys
from collections import Counter
from pathlib import Path

from runs import SEED, Parser, UserError, check_writable, command, whole

# Command -> (module, function). A module is imported only when its command is called.
COMMANDS = {
    "ask": ("experiments.ask", "main"), "tasks": ("r1ci", "tasks_command"),
    "report": ("experiments.report", "main"), "run": ("experiments.story", "main"),
    "results": ("experiments.results", "main"), "evaluate": ("experiments.server", "evaluate_command"),
    "teach": ("experiments.teacher", "teach_command"), "ablate": ("experiments.ablate", "ablate_command"),
    "reproduce": ("experiments.ablate", "reproduce_command"), "plan": ("tools.plan", "main"),
    "export": ("tools.export", "main"), "bench": ("tools.bench", "main"),
    "check-gpu": ("tools.check_gpu", "main"),
}


# ------------------------------------------------------------------------------------------------------ tasks
def tasks_command(argv: list[str]) -> int | None:
    """List tasks, or show one question with its program, that program's real output and the verdict on it."""
    parser = Parser("r1ci.py tasks", tasks_command.__doc__)
    parser.add_argument("selection", nargs="?", default="all",
                        help="a task's name, or tiny, train, test, an ability ..")
    parser.add_argument("--seed", type=SEED, default=0, help="which question")
    parser.add_argument("--level", type=int, choices=range(1, 6), default=3, help="1 (easy) to 5 (hard)")
    parser.add_argument("--audit", action="store_true", help="check all questions of the selection: right, "
                        "different, short, quick, hard to guess; exit status 1 if a task falls short")
    parser.add_argument("--seeds", type=whole(), default=200, help="with --audit: seeds per level")
    parser.add_argument("--write", type=Path, help="with --audit: write the table to this file, such as "
                        "docs/TASKS.md")
    args = parser.parse_args(argv)
    from tasks import TASKS, select
    chosen = select(args.selection)
    if args.write and args.audit:
        check_writable(args.write)
    if args.audit:
        from tools import audit
        return audit.main(args.seeds, args.write, args.selection)
    if args.selection in TASKS:
        return show_question(TASKS[args.selection].question(args.seed, args.level))
    for task in chosen:
        print(f"{task.name:36} {task.suite:9} {task.split:6} {task.ability:13}"
              f"{'text-solvable' if task.text_solvable else ''}".rstrip())
    kinds = {"train": "to train on", "test": "held out", "file": "from a file (a quarter of it is held out)"}
    counts = Counter(kinds[task.split] for task in chosen)
    print(f"{len(chosen)} tasks: " + ", ".join(f"{count} {what}" for what, count in counts.items()))


def show_question(question) -> None:
    """Print everything there is to know about a question."""
    from sandbox import Sandbox
    from tasks import TASKS
    task = TASKS[question.task]
    program = task.oracle(question)
    with Sandbox() as box:
        result = box.run(program)
    right = task.check(question, result.stdout.strip())
    print(f"{task.name} ({task.suite}, {task.split}, {task.ability}), seed {question.seed}, level "
          f"{question.level}\n\n{question.prompt}\n\n--- program that solves it\n{program}\n\n--- its "
          f"output\n{result.for_model()}\n\n--- check of this output: {'right' if right else 'WRONG'}")
    if task.text_solvable:
        print(f"\n--- solution in words\n{task.reasoning(question)}")


def main(argv: list[str] | None = None) -> None:
    """Call a command; a number that it returns is the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__.strip())
        return
    if argv[0] not in COMMANDS:
        raise UserError(f"unknown command {argv[0]!r}: there are {', '.join(COMMANDS)}")
    module, function = COMMANDS[argv[0]]
    code = getattr(importlib.import_module(module), function)(argv[1:])
    if isinstance(code, int) and not isinstance(code, bool) and code:
        raise SystemExit(code)


if __name__ == "__main__":
    command(main, hint="The same command goes on where it was.")
