"""The changes that the README shows: they apply to the code as it is, and they work."""
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

DIFFS = re.findall(r"```diff\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
# flags that need the change, and what python prints that uses it
USES = [
    (["--reward", "brief"], """if True:
        from grpo import REWARDS
        from rollout import Episode, Turn
        turn = Turn(0, 1, "", "x", "", "ok")
        print([REWARDS["brief"](Episode(None, [], [], [], [turn] * n, correct=True)) for n in (0, 1, 3)])
        """, "[1.0, 1.0, 0.81]"),
    (["--advantage", "batch"], """if True:
        import torch
        from grpo import ADVANTAGES
        advantages = ADVANTAGES["batch"](torch.tensor([1.0, 1, 0, 0]), torch.tensor([0, 0, 1, 1]))
        print([round(a, 3) for a in advantages.tolist()])
        """, "[0.866, 0.866, -0.866, -0.866]"),
    (["--tasks", "factorial_zeros"], """if True:
        from sandbox import Sandbox
        from tasks import TASKS
        task = TASKS["factorial_zeros"]
        with Sandbox() as box:
            for question in (task.question(seed, level) for seed in range(3) for level in (1, 3, 5)):
                print(task.check(question, box.run(task.oracle(question)).stdout), end=" ")
        """, " ".join(["True"] * 9)),
]


@pytest.mark.parametrize("diff, use", list(zip(DIFFS, USES, strict=True)))
def test_a_change_applies_and_works(tmp_path, diff, use):
    flags, code, printed = use
    shutil.copytree(ROOT, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*", "runs", "docs", "tests"))
    assert sum(line[:1] in ("+", "-") and line[:3] not in ("+++", "---") for line in diff.splitlines()) < 15
    if subprocess.run(["git", "apply", "--reverse", "--check", "-"], input=diff, text=True, cwd=tmp_path, check=False,
                      capture_output=True).returncode == 0:
        pytest.skip("this change has been made here")
    subprocess.run(["git", "apply", "-"], input=diff, text=True, cwd=tmp_path, check=True)
    short = "--steps 1 --questions 2 --samples 2 --init base --turn-tokens 8 --eval-questions 0".split()
    result = subprocess.run([sys.executable, "grpo.py", *flags, *short], capture_output=True, text=True, cwd=tmp_path,
                            check=False)
    assert result.returncode == 0, result.stderr[-1000:]
    used = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert used.stdout.strip() == printed
