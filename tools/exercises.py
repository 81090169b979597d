"""Measure the exercises of docs/exercises.md on the tiny model: `python -m tools.exercises [NUMBER ..]`.

Each solution is applied to a copy of this repository, and GRPO runs there from the same warm start as without
it, once for each seed. What is finished is not run again, so it can be stopped and started at will.

    runs/exercises/seed0/sft          the warm start that all variants of a seed share
    runs/exercises/seed0/3            exercise 3;  seed0/plain: nothing changed
"""
import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from experiments.ablate import difference_of_means, in_points
from runs import command, real, whole

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "exercises.md").read_text("utf-8")
# Exercise -> flags of grpo.py. 7 has a warm start of its own, in its format.
FLAGS = {1: "--reward mine:brief", 2: "--epochs 2 --clip-high 0.28", 3: "", 4: "", 5: "--algorithm ppo",
         6: "--tasks tiny,factorial_zeros", 7: "--answer-format hash", 8: ""}
BASES = {2: "--epochs 2", 5: "--algorithm ppo"}  # what they are compared with, if it is not the plain run
PACKAGES = ("task_families", "isolation", "experiments")


def parts(number: int) -> tuple[str, str]:
    """(patch, file of one's own) of an exercise; empty if it has none."""
    section = re.split(r"^## ", TEXT, flags=re.MULTILINE)[number]
    found = [re.search(rf"```{kind}\n(.*?)```", section, re.DOTALL) for kind in ("diff", "python")]
    patch, own = (match[1] if match else "" for match in found)
    return patch, own


def copy_with(number: int, folder: Path) -> Path:
    """A copy of the code with this exercise's solution in it."""
    shutil.rmtree(folder, ignore_errors=True)
    for package in (".", *PACKAGES):
        (folder / package).mkdir(parents=True, exist_ok=True)
        for path in (ROOT / package).iterdir():
            if path.suffix in (".py", ".txt", ".html", ".json") and path.is_file():
                shutil.copy(path, folder / package)
    patch, own = parts(number) if number else ("", "")
    if patch:
        subprocess.run(["git", "apply", "-"], input=patch, text=True, cwd=folder, check=True)
    if own:
        (folder / "mine.py").write_text(own)
    return folder


def finished(folder: Path) -> dict | None:
    """What a finished run has measured: name -> summary."""
    path = folder / "before-after.json"
    results = json.loads(path.read_text()) if path.is_file() else {}
    return results if len(results) == 2 else None


def measure(name: str, number: int, flags: str, seed: int, home: Path, more: list[str]) -> dict:
    """Run one variant with one seed, unless that is done; number: of the exercise it has in it, or 0."""
    out, form = home / f"seed{seed}" / name, flags.split() if "--answer-format" in flags else []
    warm = home / f"seed{seed}" / ("-".join(["sft", *form[1:]]))
    if found := finished(out):
        return found
    code = copy_with(number, home / f"code-{name}")

    def run(script: str, *words: str) -> None:
        print(f"{script} {' '.join(words)}", flush=True)
        subprocess.run([sys.executable, script, "--seed", str(seed), *words], cwd=code, check=True)

    if not (warm / "model" / "config.json").is_file():
        run("sft.py", "--out", str(warm), *form, *(["--resume"] if (warm / "config.json").is_file() else []))
    resume = ["--resume"] if (out / "config.json").is_file() else []
    run("grpo.py", "--init", "sft", "--sft-run", str(warm), "--out", str(out), *flags.split(), *more, *resume)
    return finished(out) or {}


def gaps(first: list[dict], second: list[dict]) -> str:
    """The mean difference of accuracy, in points, and its 95% interval over seeds and questions."""
    before, after = (np.array([list(result["right"]) for result in results], float)
                     for results in (first, second))
    return in_points(difference_of_means(after, before))


def main() -> None:
    """Run what is missing; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("numbers", nargs="*", type=whole(1, 8), help="exercises (default: all)")
    parser.add_argument("--seeds", type=whole(1, 100), default=3)
    parser.add_argument("--share", type=real(0.01, 1), default=1.0, help="of the steps: less is quicker")
    args = parser.parse_args()
    home = ROOT / "runs" / "exercises"
    more = ["--steps", str(max(1, round(60 * args.share)))] if args.share < 1 else []
    rows = []
    for number in args.numbers or FLAGS:
        variants = {"base": (f"{number}-base", 0, BASES[number]) if number in BASES else ("plain", 0, ""),
                    "changed": (str(number), number, FLAGS[number])}
        runs = {kind: [measure(*variant, seed, home, more) for seed in range(args.seeds)]
                for kind, variant in variants.items()}
        last = {kind: [list(found.values())[-1] for found in results] for kind, results in runs.items()}
        rows.append([str(number), *(" ".join(f"{100 * x[key]:.0f}" for x in last[kind])
                                    for key in ("accuracy", "code") for kind in ("base", "changed")),
                     gaps(last["base"], last["changed"]) if number != 6 else "other questions"])
    print("| exercise | accuracy without, % | with | code without, % | with | difference |\n"
          + "|---" * 6 + "|")
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))


if __name__ == "__main__":
    command(main, hint="The same command goes on.")
