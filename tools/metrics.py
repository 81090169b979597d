"""The numbers of a run for other tools.

    python r1ci.py metrics runs/tiny/grpo --csv metrics.csv
    python r1ci.py metrics runs/tiny/grpo --tensorboard runs/tensorboard/grpo

metrics.jsonl has one flat object of numbers a step: `pandas.read_json(FILE, lines=True)` reads it as it is.
"""
import csv
import io
from pathlib import Path

from runs import Parser, UserError, check_writable, read_jsonl, write_text


def as_csv(metrics: list[dict]) -> str:
    """A line of names, then one of values a step; what a step does not have, or was no number, is empty."""
    out = io.StringIO()
    names = dict.fromkeys(name for line in metrics for name in line)
    table = csv.DictWriter(out, list(names), lineterminator="\n")
    table.writeheader()
    table.writerows(metrics)
    return out.getvalue()


def write_tensorboard(metrics: list[dict], folder: Path) -> None:
    """A curve for each number, over the steps. UserError: tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("tensorboard is not installed: pip install tensorboard, or use --csv FILE") from None
    with SummaryWriter(str(folder)) as writer:
        for line in metrics:
            for name, value in line.items():
                if name != "step" and value is not None:
                    writer.add_scalar(name, value, line["step"])


def main(argv: list[str] | None = None) -> None:
    """Write the numbers of a run's steps as CSV, or for tensorboard."""
    parser = Parser("r1ci.py metrics", main.__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, such as runs/tiny/grpo")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="for a spreadsheet")
    parser.add_argument("--tensorboard", type=Path, metavar="DIR", help="for tensorboard --logdir DIR")
    args = parser.parse_args(argv)
    metrics = read_jsonl(args.run / "metrics.jsonl")
    if not metrics:
        raise UserError(f"{args.run / 'metrics.jsonl'} has no line: give a stage's folder, such as "
                        "runs/tiny/grpo")
    if not args.csv and not args.tensorboard:
        raise UserError("--csv FILE or --tensorboard DIR says what to write; pandas reads "
                        f"{args.run / 'metrics.jsonl'} as it is (lines=True)")
    if args.csv:
        check_writable(args.csv)
        write_text(args.csv, as_csv(metrics))
        print(f"Written: {args.csv} ({len(metrics)} steps)")
    if args.tensorboard:
        check_writable(args.tensorboard / "events")
        write_tensorboard(metrics, args.tensorboard)
        print(f"Written: {args.tensorboard} ({len(metrics)} steps): tensorboard --logdir {args.tensorboard}")
