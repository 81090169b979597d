"""The changes that the README shows: they apply to the code as it is, and they work."""
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from tools.exercises import copy_with

README = (ROOT / "README.md").read_text("utf-8")
DIFFS = re.findall(r"```diff\n(.*?)```", README, re.DOTALL)
# A name that the change adds: flags that need it, what python prints that uses it, and what that is.
USES = {
    '"batch"': (["--algorithm", "batch"], """if True:
        import torch
        from grpo import ADVANTAGES
        advantages = ADVANTAGES["batch"](torch.tensor([1.0, 0, 0, 0]), torch.tensor([0, 0, 1, 1]))
        print([round(a, 3) for a in advantages.tolist()])
        """, "[1.0, -1.0, 0.0, 0.0]"),
    '"factorial_zeros"': (["--tasks", "factorial_zeros"], """if True:
        from sandbox import Sandbox
        from tasks import TASKS
        task = TASKS["factorial_zeros"]
        with Sandbox() as box:
            for question in (task.question(seed, level) for seed in range(3) for level in (1, 3, 5)):
                print(task.check(question, box.run(task.oracle(question)).stdout), end=" ")
        """, " ".join(["True"] * 9)),
}
SHORT = "--steps 1 --questions 2 --samples 2 --init base --turn-tokens 8 --eval-questions 0".split()


def test_the_readme_shows_a_reward(tmp_path):
    """It stands in a file of one's own, in the folder one is in."""
    (block,) = [code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "def brief" in code]
    assert "python grpo.py --reward mine:brief --out" in README and "`mine.py`" in README
    (tmp_path / "mine.py").write_text(block)
    program = f"""if True:
        import sys
        sys.path.remove("")
        sys.path.insert(0, {str(ROOT)!r})
        import grpo
        from rollout import Episode, Turn
        grpo.main({["--reward", "mine:brief", *SHORT]!r})
        reward, turn = grpo.reward_function("mine:brief"), Turn(0, 1, "", "x", "", "ok")
        print([reward(Episode(None, [], [], [], [turn] * n, correct=True)) for n in (0, 1, 3)])"""
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True,
                            check=False)
    assert result.stdout.endswith("[1.0, 1.0, 0.81]\n"), result.stderr[-1000:]


def test_the_readme_shows_a_change():
    assert DIFFS


@pytest.mark.parametrize("diff", DIFFS, ids=[f"change {i + 1}" for i in range(len(DIFFS))])
def test_a_change_applies_and_works(tmp_path, diff):
    lines = [line for line in diff.splitlines() if line[:1] in ("+", "-") and line[:3] not in ("+++", "---")]
    assert len(lines) < 15
    name = next((name for name in USES if any(name in line for line in lines)), None)
    assert name, "USES does not say how to try this change"
    flags, code, printed = USES[name]
    assert " ".join(flags) in README  # it says how to run it
    copy_with(0, tmp_path)

    def apply(*options):
        return subprocess.run(["git", "apply", *options, "-"], input=diff, text=True, cwd=tmp_path,
                              capture_output=True, check=False)

    if apply("--reverse", "--check").returncode == 0:
        pytest.skip("this change has been made here")
    applied = apply()
    assert applied.returncode == 0, applied.stderr
    command = f"import grpo; grpo.main({[*flags, *SHORT]!r})"  # one process for both: importing takes longest
    result = subprocess.run([sys.executable, "-c", f"{command}\nprint('=====')\n{code}"], cwd=tmp_path,
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-1000:]
    assert result.stdout.split("=====")[1].strip() == printed
