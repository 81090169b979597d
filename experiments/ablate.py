"""Change one thing at a time, and say whether it mattered: the paper's ablations and findings, at any scale.

    python r1ci.py ablate --over algorithm,init --seeds 0,1,2   flags of grpo.py may follow, as --steps 20
    python r1ci.py reproduce                                    the paper's claims on the tiny model

A variant is the default plus a few flags (`VARIANTS`, the one place). Every run is an ordinary run folder,
runs/MODEL/ablate/VARIANT/seedS, so an interrupted command goes on where it stopped; finished runs are not
repeated. Variants that do not touch SFT start from one and the same SFT checkpoint.

All variants answer the same held-out questions, so they are compared question by question. How far off a mean
over seeds s and questions q may be, from right[s, q] in {0, 1} or from differences of two variants:

    half width^2 = t^2 Var_s(mean_q) / S + 1.96^2 Var_q(mean_s) / Q     t: Student's, S - 1 degrees of freedom

A few seeds tell little about other seeds, hence t (4.3 for three seeds). The noise of single answers counts
in both terms, which errs on the careful side. The seeds are seeds of RL; all share one warm start, so how
much another warm start would change is not in these intervals. With one seed, only the questions are, and the
tables say so.
"""
import argparse
import math
from pathlib import Path

import numpy as np

import runs
from experiments.results import write_section
from runs import SEED, Parser, Run, UserError, make_parser, read_jsonl, run_name, whole, write_text
from tasks import select

VARIANTS = {  # name -> (flags of grpo.py, flags of sft.py where the warm start is another one, too)
    "default": ("", ""),
    "init=base": ("--init base", ""),
    "algorithm=ppo": ("--algorithm ppo", ""),
    "algorithm=reinforce": ("--algorithm reinforce", ""),
    "algorithm=dr-grpo": ("--algorithm dr-grpo", ""),
    "train_on_code_output": ("--train-on-code-output", ""),
    "curriculum=potential": ("--curriculum potential", ""),
    "curriculum=difficulty": ("--curriculum difficulty", ""),
    "aggregate=token": ("--aggregate token", ""),
    "aggregate=constant": ("--aggregate constant", ""),
    "reward=shaped": ("--reward shaped", ""),
    "answer_format=boxed": ("--answer-format boxed", "--answer-format boxed"),
    "answer_format=tags": ("--answer-format tags", "--answer-format tags"),
    "mode=text": ("--mode text", "--mode text"),
    "mode=code": ("--mode code", "--mode code"),
    "text_share=0": ("", "--text-share 0"),
    "text_share=1": ("", "--text-share 1"),
    "multi_share=0": ("", "--multi-share 0"),
    "keep_wrong": ("", "--keep-wrong"),
    "sft_on_code_output": ("", "--train-on-code-output"),
    "tasks=chain_sum": ("--tasks chain_sum", ""),
    "warm_start=weak": ("", "--steps 200"),
    "lr=5e-3": ("--lr 5e-3", ""),
    "kl=0.001": ("--kl 0.001", ""),
    "kl=0.01": ("--kl 0.01", ""),
    "samples=4": ("--samples 4 --questions 32", ""),  # as many episodes in smaller groups, and in larger ones
    "samples=16": ("--samples 16 --questions 8", ""),
    "steps=98": ("--steps 98", ""),  # as many episodes as 60 steps and the curriculum's 240 questions x 20
}
# name: (what the paper says, variant, the one it is compared with, sign of the difference, compared value).
# Sign: ">" the first is better, "=" within EQUAL of each other, None: the direction is unknown to us.
CLAIMS = {
    "warm-start": ("Warm start is far better than cold start: GRPO without SFT barely moves (no figure).",
                   "default", "init=base", ">", "accuracy"),
    "ppo": ("GRPO, PPO and Reinforce++ are about equal (v2).", "algorithm=ppo", "default", "=", "accuracy"),
    "masking": ("Compares masked with unmasked code output (v1); which one won is unknown to us.",
                "default", "train_on_code_output", None, "accuracy"),
    "curriculum-none": (
        "RL gains 9.3 points with stages by potential, 3.4 without (mean of 3 sizes, from v2 on).",
        "curriculum=potential", "default", ">", "accuracy"),
    "curriculum-difficulty": ("Grouping by potential beats grouping by difficulty.",
                              "curriculum=potential", "curriculum=difficulty", ">", "accuracy"),
    "multi-turn": ("Raises the share of multi-turn conversations in SFT on purpose (no figure known to us).",
                   "default", "multi_share=0", ">", "accuracy"),
    "interpreter-text": ("GPT-4o: 70.9 with Code Interpreter, 58.6 in text only.",
                         "default", "mode=text", ">", "accuracy"),
    "interpreter-code": ("Free choice is the method, code only one of its baselines (figure unknown to us).",
                         "default", "mode=code", ">", "accuracy"),
    "one-task": ("RL on one task (Game24) gains 27.4 points, on 107 tasks 3.3.",
                 "tasks=chain_sum", "default", ">", "gain"),
    "weak-warm-start": ("SFT on 6.5k conversations comes first; how much of it is needed is not said.",
                        "default", "warm_start=weak", ">", "accuracy"),
    "learning-rate": ("RL at 1e-6 (all parameters); other rates are not compared.",
                      "default", "lr=5e-3", ">", "accuracy"),
    "shaped": ("The second version rewards the form, too (+-0.1).", "reward=shaped", "default", None,
               "accuracy"),
    "kl": ("A KL coefficient of 0.001.", "kl=0.001", "default", None, "accuracy"),
    "kl-strong": ("A KL coefficient of 0.001, not more.", "kl=0.01", "default", None, "accuracy"),
    "group-size": ("Groups of 5.", "samples=16", "samples=4", None, "accuracy"),
    "curriculum-cost": ("Does not count the 20 answers per question in which the curriculum is measured.",
                        "curriculum=potential", "steps=98", ">", "accuracy"),
    "answer-format": ("The answer in <<<>>>; other formats are in an ablation whose figures we do not know.",
                      "answer_format=boxed", "default", "=", "accuracy"),
}
EQUAL = 0.05


# ----------------------------------------------------------------------------------------------- statistics
def half_width(values: np.ndarray) -> float:
    """Half the 95% interval of the mean of values (S, Q), over seeds and questions (S = 1: questions)."""
    from evaluate import STUDENT
    seeds, questions = values.shape
    square = 1.96 ** 2 * values.mean(0).var(ddof=1) / questions if questions > 1 else math.inf
    if seeds > 1:
        square += STUDENT[min(seeds - 2, len(STUDENT) - 1)] ** 2 * values.mean(1).var(ddof=1) / seeds
    return math.sqrt(square)


def mean_of_seeds(right: np.ndarray) -> tuple[float, float, float]:
    """(mean, low, high) of right (S, Q) in {0, 1}. Two questions more on each side, always wrong and always
    right (Agresti and Coull), keep 0 of 400 from coming out as certainly 0."""
    mean = right.mean()
    ends = np.tile([0.0, 0.0, 1.0, 1.0], (len(right), 1))
    half = half_width(np.hstack([right, ends]))
    centre = (right.mean(0).sum() + 2) / (right.shape[1] + 4)
    return mean, max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))


def difference_of_means(first: np.ndarray, second: np.ndarray, paired: bool = True
                        ) -> tuple[float, float, float]:
    """(mean, low, high) of first - second, each (S, Q); paired: of the same seeds and questions."""
    mean = first.mean() - second.mean()
    half = half_width(first - second) if paired else math.hypot(half_width(first), half_width(second))
    return mean, mean - half, mean + half


def verdict(low: float, high: float, expected: str | None) -> str:
    """Does an interval of a difference agree with its expected sign?"""
    if expected is None:
        return "nothing to compare with: " + (
            "the first is better" if low > 0 else "the second is better" if high < 0 else "can't be told")
    agrees, disagrees = (low > 0, high < 0) if expected == ">" else (
        -EQUAL < low and high < EQUAL, low > EQUAL or high < -EQUAL)
    return "agrees" if agrees else "disagrees" if disagrees else "can't be told"


# ----------------------------------------------------------------------------------------------------- runs
def sft_flags(argv: list[str]) -> list[str]:
    """The flags about model and episodes among those of grpo.py, written out for sft.py."""
    parser, _ = make_parser(argv, "")
    settings = vars(parser.parse_known_args(argv)[0])
    flags = ["--model", settings["model"]]
    if settings["preset"]:
        flags += ["--preset", settings["preset"]]
    for name, value in settings.items():
        if value == parser.get_default(name):  # of --model and --preset, too: they rule the defaults
            continue
        flag = name.replace("_", "-")
        flags.append(f"--no-{flag}" if value is False else f"--{flag}")
        if not isinstance(value, bool):
            flags.append(",".join(map(str, value)) if isinstance(value, tuple) else str(value))
    return flags


def make_warm_start(folder: Path, argv: list[str], more: list[str]) -> None:
    """Fine-tune in this folder, if that has not been done yet."""
    import sft
    from models import exists
    if exists(folder):
        return
    resume = ["--resume"] if (folder / "config.json").exists() else []
    print(f"Warm start {folder} ..", flush=True)
    if not sft.main([*sft_flags(argv), *more, "--out", str(folder), *resume]):
        raise SystemExit(130)


def finished(folder: Path, args: argparse.Namespace) -> bool:
    """Is this run trained and evaluated to the end? UserError if it was another run."""
    path = folder / "before-after.json"
    if not path.exists() or len(runs.read_json(path, dict)) < 2:  # not measured after training yet
        return False
    Run(folder, vars(args), resume=True)  # the same settings?
    steps = len(read_jsonl(folder / "metrics.jsonl"))
    if steps > args.steps:
        raise UserError(f"{folder} was trained for {steps} steps, not {args.steps}: use another --out")
    return steps == args.steps and before_and_after(folder)[1]["questions"] == args.eval_questions


def before_and_after(folder: Path) -> tuple[dict, dict]:
    """What was counted before RL and after it."""
    results = list(runs.read_json(folder / "before-after.json", dict).values())
    return results[0], results[-1]


def run_variants(names: list[str], seeds: list[int], argv: list[str], root: Path, sft_steps: int | None
                 ) -> dict[str, dict]:
    """Run what is not finished. Name -> {"before", "after": right (S, Q), "code", "dead", "tasks"}."""
    import grpo
    short = ["--steps", str(sft_steps)] if sft_steps else []
    for name in names:  # a flag that is wrong shows before anything runs
        if grpo.parse([*argv, *VARIANTS[name][0].split()]).eval_questions < 1:
            raise UserError("--eval-questions 0 leaves nothing to compare")
    measured = {}
    for name in names:
        rl, own_sft = (flags.split() for flags in VARIANTS[name])
        args = grpo.parse([*argv, *rl])
        warm = root / name / "sft" if own_sft else root / "sft" if short else args.sft_run
        if args.init != "base":
            make_warm_start(warm, argv, [*short, *own_sft])
        runs = []
        for seed in seeds:
            folder = root / name / f"seed{seed}"
            flags = [*argv, *rl, "--sft-run", str(warm), "--seed", str(seed), "--out", str(folder)]
            if not finished(folder, grpo.parse(flags)):
                print(f"\n{name}, seed {seed} ..", flush=True)
                grpo.main([*flags, *(["--resume"] if (folder / "config.json").exists() else [])])
            dead = [line["dead_groups"] for line in read_jsonl(folder / "metrics.jsonl")]
            runs.append((*before_and_after(folder), sum(dead) / len(dead)))
        before, after = (np.array([list(run[k]["right"]) for run in runs], float) for k in (0, 1))
        shares = [run[1]["code_on_code_needed"] for run in runs]
        needed = [share for share in shares if share is not None]
        measured[name] = {"before": before, "after": after, "tasks": args.tasks,
                          "dead": sum(run[2] for run in runs) / len(runs),
                          "code": sum(needed) / len(needed) if needed else None}
    return measured


# --------------------------------------------------------------------------------------------------- tables
def in_points(interval: tuple[float, float, float]) -> str:
    """(0.1, 0.02, 0.18) -> '+10.0 (+2.0 to +18.0)'."""
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * x for x in interval))


def in_percent(interval: tuple[float, float, float]) -> str:
    """(0.5, 0.4, 0.6) -> '50% (40% to 60%)'."""
    return "{:.0f}% ({:.0f}% to {:.0f}%)".format(*(100 * x for x in interval))


def variants_table(measured: dict[str, dict]) -> str:
    """Markdown: one line a variant, with paired differences to the default."""
    from evaluate import percent
    lines = ["| variant | before RL | after RL | minus default, points | code where needed | dead groups |",
             "|---|---|---|---|---|---|"]
    default = measured["default"]
    for name, one in measured.items():
        same = name != "default" and one["tasks"] == default["tasks"]
        gap = in_points(difference_of_means(one["after"], default["after"])) if same else "-"
        before, after = (in_percent(mean_of_seeds(one[when])) for when in ("before", "after"))
        lines.append(f"| {name} | {before} | {after} | {gap} | {percent(one['code'])} | "
                     f"{percent(one['dead'])} |")
    seeds, questions = default["after"].shape
    covered = "seeds and questions" if seeds > 1 else "questions only (one seed)"
    note = (f"{seeds} {'seeds' if seeds > 1 else 'seed'}, {questions} held-out questions each; 95% intervals "
            f"over {covered}. Dead groups: all episodes of a question right, or all wrong; mean over steps.")
    return "\n".join([*lines, "", note])


def claims_table(names: list[str], measured: dict[str, dict]) -> str:
    """Markdown: what the paper says, what was measured, whether the signs agree."""
    lines = ["| claim | the paper (arXiv 2505.21668) | compared here | measured here, points | sign |",
             "|---|---|---|---|---|"]
    for name in names:
        says, first, second, expected, what = CLAIMS[name]
        a, b = (measured[variant]["after"] - (measured[variant]["before"] if what == "gain" else 0)
                for variant in (first, second))
        gap = difference_of_means(a, b, paired=measured[first]["tasks"] == measured[second]["tasks"])
        sign = verdict(*gap[1:], expected)
        lines.append(f"| {name} | {says} | {what}, {first} minus {second} | {in_points(gap)} | {sign} |")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------- commands
def parse_seeds(text: str) -> list[int]:
    """'0,1,2' -> [0, 1, 2]."""
    words = [word.strip() for word in text.split(",")]
    if len(set(words)) < len(words):
        raise argparse.ArgumentTypeError(f"different numbers, such as 0,1,2, are needed, not {text!r}")
    return [SEED(word) for word in words]


def variants_named(over: str) -> list[str]:
    """'algorithm,mode=text' -> the names of these variants, the default first."""
    chosen = ["default"]
    for word in filter(None, (part.strip().replace("-", "_") for part in over.split(","))):
        names = {name: name.replace("-", "_") for name in VARIANTS if name != "default"}
        found = [name for name, spelt in names.items() if word in (spelt, spelt.split("=")[0])]
        if not found:
            raise UserError(f"no variant is called {word!r}: choose from {', '.join(what_can_change())}")
        chosen += [name for name in found if name not in chosen]
    if len(chosen) == 1:
        raise UserError("--over names nothing to change")
    return chosen


def what_can_change() -> list[str]:
    """What --over takes: 'init', 'algorithm', .. as they stand in VARIANTS."""
    return list(dict.fromkeys(name.split("=")[0] for name in VARIANTS if name != "default"))


def claims_named(only: str) -> list[str]:
    """'warm,curriculum' -> the names of the claims that begin like this."""
    words = [word.strip() for word in only.split(",")]
    for word in words:
        if not any(word and name.startswith(word) for name in CLAIMS):
            raise UserError(f"no claim is called {word!r}: choose from {', '.join(CLAIMS)}")
    return [name for name in CLAIMS if name.startswith(tuple(words))]


def add_arguments(parser: argparse.ArgumentParser, folder: str) -> None:
    """The flags that both commands share; all others go on to grpo.py."""
    add = parser.add_argument
    add("--seeds", type=parse_seeds, default=[0, 1, 2], help="seeds of RL (default: 0,1,2)")
    add("--sft-steps", type=whole(), help="warm starts of their own, of so many steps")
    add("--out", type=Path, help=f"folder of the runs (default: runs/MODEL/{folder})")
    add("--table", type=Path, help="where to write the result")


def ablate_command(argv: list[str]) -> None:
    """Run variants that differ from the default in one thing, and compare them. Other flags go to grpo.py."""
    parser = Parser("r1ci.py ablate", ablate_command.__doc__)
    parser.add_argument("--over", required=True, help=f"what to change: {', '.join(what_can_change())}")
    add_arguments(parser, "ablate")
    own, rest = parser.parse_known_args(argv)
    names = variants_named(own.over)
    import grpo
    root = own.out or Path("runs") / run_name(grpo.parse(rest).model) / "ablate"
    path = own.table or root / "table.md"
    runs.check_writable(path)
    text = variants_table(run_variants(names, own.seeds, rest, root, own.sft_steps))
    print("\n" + text)
    write_text(path, text + "\n")
    print(f"\nwritten to {path}")


def reproduce_command(argv: list[str]) -> None:
    """Run what is behind RESULTS.md on the tiny model (hours on 2 cores; goes on where it stopped)."""
    parser = Parser("r1ci.py reproduce", reproduce_command.__doc__)
    parser.add_argument("--only", default=",".join(CLAIMS), help="claims, such as " + ",".join(CLAIMS))
    add_arguments(parser, "reproduce")
    own, rest = parser.parse_known_args(argv)
    claims = claims_named(own.only)
    names = dict.fromkeys(["default", *(variant for name in claims for variant in CLAIMS[name][1:3])])
    import grpo
    args = grpo.parse(rest)
    select(args.tasks)
    root = own.out or Path("runs") / run_name(args.model) / "reproduce"
    path = own.table or (Path("docs") if Path("docs").is_dir() else Path()) / "RESULTS.md"
    runs.check_writable(path)
    measured = run_variants(list(names), own.seeds, rest, root, own.sft_steps)
    text = CLAIMS_SECTION.format(
        model=args.model, steps=args.steps, questions=args.questions, samples=args.samples,
        claims=claims_table(claims, measured), variants=variants_table(measured),
        sft=f"{own.sft_steps} steps" if own.sft_steps else "the default",
        command=" ".join(["python r1ci.py reproduce", *argv]), equal=f"{100 * EQUAL:.0f}")
    part = "" if len(claims) == len(CLAIMS) else " " + ",".join(claims)  # beside what the whole has written
    write_section(path, f"reproduce{part}", text)
    print(f"\n{text}\nwritten to {path}")


CLAIMS_SECTION = """## The paper's claims, at our scale

Written by `{command}`: the {model} model, RL of {steps} steps of {questions} questions x {samples} episodes,
warm start: {sft}. The paper trains 3B to 14B models on 107 tasks and tests on 37 unseen ones; the tiny model
answers new questions of the kinds it was trained on. So a sign that agrees says that the mechanism shows at
this size, too, and one that disagrees does not refute the paper.

A sign agrees or disagrees only if the 95% interval of the difference says so; "about equal" wants the whole
interval within {equal} points. How the intervals are computed stands at the top of `experiments/ablate.py`.

{claims}

### All variants

{variants}
"""
