"""Command lines: the flags that every script shares, with defaults from the preset of --model."""
import argparse
from pathlib import Path

import torch

from chat import PROMPTS
from models import run_name
from presets import PRESETS, SERVED, ModelError, preset
from runs import settings_of_run


def make_parser(argv: list[str] | None, description: str, prog: str | None = None, served: bool = False
                ) -> tuple[argparse.ArgumentParser, dict]:
    """(parser, preset) of a command: --model is read first, because the other flags' defaults depend on it.

    A command with --run works on the model of that run, so there --model need not be given; another one is refused (but
    for a folder in the place of a hub id, or of a folder that has gone).
    served: the command only asks the model, so one behind a server (api.py) will do.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)  # or --mode would be read as --model
    first.add_argument("--model")
    first.add_argument("--preset", choices=tuple(PRESETS))
    first.add_argument("--run", type=Path)
    parser = argparse.ArgumentParser(prog=prog, description=description, allow_abbrev=False,
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    known = first.parse_known_args(argv)[0]
    trained = known.run and settings_of_run(known.run) or {}
    model = known.model or trained.get("model", "tiny")
    recorded = trained.get("model", model)
    moved = Path(model).is_dir() and recorded not in PRESETS and not Path(recorded).is_dir()
    if run_name(recorded) != run_name(model) and not moved:
        raise ModelError(f"{known.run} holds a policy of --model {recorded}, not of {model}: leave --model out")
    chosen = known.preset or trained.get("preset")
    if model.startswith(SERVED) and not served:
        raise ModelError(f"{model} answers over the network, so there are no weights to work on here: it can be asked "
                         "(evaluate.py, r1ci.py ask) and can teach (sft.py --teacher)")
    values = add_arguments(parser, preset(model, chosen))
    parser.set_defaults(model=model, preset=chosen)
    return parser, values


def add_arguments(parser: argparse.ArgumentParser, values: dict) -> dict:
    """Flags about the model and the limits of an episode, with the preset's values as defaults; these values."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", default="tiny", help="preset, hub id or local folder; openai:NAME "
                       "(a model behind a server) where it is only asked")
    group.add_argument("--preset", choices=tuple(PRESETS), help="take the other defaults from here (for a hub id or a "
                       "folder: which size it has)")
    group.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default=values["dtype"], help="what "
                       "matrices are multiplied in; weights that are trained themselves (--lora-rank 0) are kept in "
                       "float32 all the same; auto: what is faster")
    group.add_argument("--quantize", choices=("none", "nf4", "int8"), default=values["quantize"],
                       help="how the frozen base is stored (QLoRA: nf4)")
    group.add_argument("--lora-rank", type=int, default=values["lora_rank"], help="0 trains all parameters")
    group.add_argument("--random-weights", action="store_true", help="the model's shape without its weights")
    group.add_argument("--layers", type=int, help="keep only so many layers (with --random-weights)")
    group.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    group = parser.add_argument_group("episodes")
    group.add_argument("--tasks", default=values["tasks"], help="tiny, train, test, all, a suite, an ability, "
                       "task names, or a JSONL file of your own questions (task_families/own_file.py)")
    group.add_argument("--levels", type=parse_levels, default=parse_levels(values["levels"]),
                       help="difficulty: 1, 1-3, 2,4")
    group.add_argument("--mode", choices=("interpreter", "text", "code"), default="interpreter")
    group.add_argument("--style", choices=tuple(PROMPTS), default=values["style"], help="wording of the head prompt")
    group.add_argument("--answer-format", choices=("angle", "boxed", "tags"), default="angle")
    for name, what in (("turn_tokens", "most tokens in one turn"), ("episode_tokens", "most tokens in all"),
                       ("calls", "most programs"), ("results_chars", "most characters of output shown"),
                       ("slots", "rows of the cache: episodes at once (a fifth of them may wait for programs)")):
        group.add_argument("--" + name.replace("_", "-"), type=positive, default=values[name], help=what)
    group.add_argument("--exact", action=argparse.BooleanOptionalAction, default=values["exact"], help="take a "
                       "program's output after --lag decode steps, waiting if need be: a run repeats bit by bit")
    group.add_argument("--lag", type=int, default=4, help="see --exact")
    group.add_argument("--rollout-weights", choices=("same", "merged"), default=values["rollout_weights"],
                       help="merged: sample from a plain copy of the policy (LoRA merged in, not quantised), made anew "
                       "at every step: faster, if memory allows (in mixed precision always)")
    group.add_argument("--static", action=argparse.BooleanOptionalAction, help="decode in fixed shapes, as CUDA graphs "
                       "on a GPU (default: on a GPU)")
    return values


def parse_levels(text: str | tuple) -> tuple[int, ...]:
    """'1-3,5' -> (1, 2, 3, 5)."""
    if isinstance(text, tuple):
        return text
    levels = []
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        if not low.isdigit() or not (high or low).isdigit():
            raise argparse.ArgumentTypeError(f"levels are numbers from 1 to 5, such as 1-3 or 2,4, not {text!r}")
        levels += range(int(low), int(high or low) + 1)
    if not levels or not set(levels) <= {1, 2, 3, 4, 5}:
        raise argparse.ArgumentTypeError(f"levels go from 1 (easy) to 5 (hard), not {text!r}")
    return tuple(levels)


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on is needed, not {text!r}")
    return int(text)
