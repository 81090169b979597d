"""The exercises: every solution applies to the code as it is, and all of them work together."""
import subprocess
import sys

import pytest
from conftest import ROOT, chance

import grpo
from runs import read_jsonl
from tools import exercises

SHORT = "--steps 2 --questions 2 --samples 2 --init base --turn-tokens 8 --eval-questions 0".split()
TOGETHER = f"""
import grpo, tasks
from chat import state_answer
from sandbox import Sandbox
ways = [], ["--algorithm", "ppo"], ["--answer-format", "hash", "--tasks", "factorial_zeros"]
for number, flags in enumerate(ways):
    grpo.main([*flags, *{SHORT!r}, "--out", f"runs/{{number}}"])
task = tasks.TASKS["factorial_zeros"]
with Sandbox(workers=1) as box:
    for question in (task.question(seed, level) for seed in range(3) for level in (1, 5)):
        assert task.check(question, box.run(task.oracle(question)).stdout)
said = state_answer("42", "hash")
print(said, tasks.extract_answer(f"It is 6 * 7.\\n{{said}}", "hash"))
"""


def test_there_are_eight_and_each_says_what_to_predict():
    sections = exercises.TEXT.split("\n## ")[1:]
    assert [int(section.split(".")[0]) for section in sections] == list(exercises.FLAGS) == list(range(1, 9))
    assert all(word in section for section in sections for word in ("*Question:*", "*Predict:*", "*Result:*"))


@pytest.mark.parametrize("number", range(3, 9))
def test_a_solution_applies_alone(number):
    patch, own = exercises.parts(number)
    assert patch and not own
    subprocess.run(["git", "apply", "--check", "-"], input=patch, text=True, cwd=ROOT, check=True)


def test_all_solutions_work_together(tmp_path):
    folder = exercises.copy_with(3, tmp_path / "code")
    for number in range(4, 9):
        subprocess.run(["git", "apply", "-"], input=exercises.parts(number)[0], text=True,
                       cwd=folder, check=True)
    done = subprocess.run([sys.executable, "-c", TOGETHER], cwd=folder, capture_output=True, text=True,
                          check=False)
    assert done.stdout.endswith("#### 42 42\n"), done.stderr[-2000:]


def test_clipping_higher_changes_nothing_with_one_update(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(grpo.REWARDS, "chance", chance)  # an untrained policy earns no other
    found = []
    for flags in ([], ["--clip-high", "0.28"]):
        out = tmp_path / str(len(flags))
        grpo.main([*flags, *SHORT, "--samples", "8", "--reward", "chance", "--out", str(out)])
        found.append([{key: value for key, value in line.items() if "second" not in key}
                      for line in read_jsonl(out / "metrics.jsonl")])
    assert found[0] == found[1] and found[0][-1]["trained_tokens"] > 0
