"""`r1ci.py tasks`: all tasks, one question of one, or the audit of them (audit.py)."""
from collections import Counter
from pathlib import Path

from runs import SEED, Parser, check_writable, whole


def main(argv: list[str]) -> int | None:
    """List tasks, or show one question with its program, that program's real output and the verdict on it."""
    parser = Parser("r1ci.py tasks", main.__doc__)
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
