"""The front door: one command for everything that is not a training script of its own.

    ask "How many ..?"      ask a model; without a question one after the other (--run, --model openai:..)
    tasks [NAME]            all tasks, or one question of one; `tasks --audit` checks them all
    report RUN ..           one HTML page about a run, or several
    metrics RUN --csv FILE  the numbers of a run's steps for a spreadsheet, or --tensorboard DIR
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

from runs import UserError, command

# Command -> (module, function). A module is imported only when its command is called.
COMMANDS = {
    "ask": ("experiments.ask", "main"), "tasks": ("tools.tasks_command", "main"),
    "report": ("experiments.report", "main"), "metrics": ("tools.metrics", "main"),
    "run": ("experiments.story", "main"),
    "results": ("experiments.results", "main"), "evaluate": ("experiments.server", "evaluate_command"),
    "teach": ("experiments.teacher", "teach_command"), "ablate": ("experiments.ablate", "ablate_command"),
    "reproduce": ("experiments.ablate", "reproduce_command"), "plan": ("tools.plan", "main"),
    "export": ("tools.export", "main"), "bench": ("tools.bench", "main"),
    "check-gpu": ("tools.check_gpu", "main"),
}


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
