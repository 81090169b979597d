"""The house stays as it is: small modules, no circles, few flags, quick answers, short documents."""
import argparse
import ast
import graphlib
import os
import re
import subprocess
import sys
import traceback

import pytest
import torch
from conftest import ROOT, chance

import curriculum
import evaluate
import grpo
import sft

PACKAGES = ("task_families", "isolation", "experiments", "tools")
LECTURE = sorted(path.stem for path in ROOT.glob("*.py"))
EVENING = ("chat", "tasks", "sandbox", "trajectories", "models", "kvcache", "rollout", "batches", "sft",
           "grpo")
FILES = {name: ROOT / f"{name}.py" for name in LECTURE} | {
    f"{package}.{path.stem}": path for package in PACKAGES for path in sorted((ROOT / package).glob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}


def commands():
    """r1ci.COMMANDS, without importing anything: command -> (module, function)."""
    return next(ast.literal_eval(node.value) for node in TREES["r1ci"].body
                if isinstance(node, ast.Assign) and node.targets[0].id == "COMMANDS")


def imports(name):
    """Our modules that this one imports, wherever in its text."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports here are absolute"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    if name == "r1ci":
        found |= {module for module, _ in commands().values()}
    return found & set(FILES) - {name}


GRAPH = {name: imports(name) for name in FILES}


def lines_of(*names):
    return sum(len(FILES[name].read_text("utf-8").splitlines()) for name in names)


# ---------------------------------------------------------------------------------------------------- size
def test_the_lecture_is_short():
    assert len(LECTURE) <= 15
    assert {name: lines_of(name) for name in LECTURE if lines_of(name) > 450} == {}
    assert lines_of(*LECTURE) <= 4000


def test_the_evening_is_short():
    assert lines_of(*EVENING) <= 2500


def test_lines_are_short():
    paths = [*FILES.values(), *(ROOT / "tests").glob("*.py")]
    assert [f"{path.name}:{number}" for path in paths
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1) if len(line) > 110] == []


def test_ruff_is_content():
    if subprocess.run([sys.executable, "-m", "ruff", "--version"], capture_output=True,
                      check=False).returncode:
        pytest.skip("ruff is not installed")
    result = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache",
                             "--output-format=concise", ROOT],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_the_documents_are_short():
    def words(*paths):
        return sum(len(path.read_text("utf-8").split()) for path in paths)

    assert words(ROOT / "README.md") <= 2200
    assert words(*(path for path in (ROOT / "docs").glob("*.md")
                   if path.name not in ("RESULTS.md", "TASKS.md", "exercises.md"))) <= 5000
    assert words(ROOT / "docs" / "exercises.md") <= 1500


def test_six_packages_are_required():
    required = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.strip()]
    assert all(re.fullmatch(r"[a-z]+==[0-9.]+", line) for line in required)
    assert sorted(line.split("==")[0] for line in required) == [
        "bitsandbytes", "peft", "pytest", "torch", "tqdm", "transformers"]


# ------------------------------------------------------------------------------------------------- imports
def test_imports_make_no_circle():
    order = list(graphlib.TopologicalSorter(GRAPH).static_order())  # a CycleError names the circle
    assert set(order) == set(FILES) and len(GRAPH["grpo"]) > 5


@pytest.mark.parametrize("wing, doors", [
    ("experiments", {"r1ci"}), ("tools", {"r1ci"}), ("isolation", {"sandbox", "tools.bench"}),
    ("task_families", {"tasks", "models", "sft", "tools.audit"})])
def test_a_wing_has_few_doors(wing, doors):
    looking = {name for name, found in GRAPH.items() if not name.startswith(f"{wing}.")
               and any(module.startswith(f"{wing}.") for module in found)}
    if wing in ("experiments", "tools"):  # these two may know each other
        looking &= set(LECTURE)
    assert looking <= doors


def test_every_command_is_there():
    for command, (module, function) in commands().items():
        defined = {node.name for node in TREES[module].body if isinstance(node, ast.FunctionDef)}
        assert function in defined, f"r1ci.py {command}: there is no {module}.{function}"


# ------------------------------------------------------------------------------------------ flags and calls
def flags_of(module, monkeypatch):
    """The flags of a script's parser, --help left out."""
    class Caught(Exception):
        pass

    def catch(parser, *rest):
        raise Caught(parser)

    with monkeypatch.context() as patched:
        patched.setattr(argparse.ArgumentParser, "parse_args", catch)
        with pytest.raises(Caught) as caught:
            module.parse([])
    return [action for action in caught.value.args[0]._actions if action.dest != "help"]


@pytest.mark.parametrize("module", [grpo, sft, evaluate, curriculum])
def test_every_flag_has_a_help_text(module, monkeypatch):
    flags = flags_of(module, monkeypatch)
    assert len(flags) > 15 and all(flag.help for flag in flags)
    if module is grpo:
        assert len({flag.help for flag in flags}) == len(flags) <= 45


def test_from_train_to_backward_it_is_at_most_five_calls(tmp_path, monkeypatch):
    paths, backward = [], torch.Tensor.backward

    def look(*arguments, **options):
        names = [frame.name for frame in traceback.extract_stack()]
        paths.append(names[len(names) - names[::-1].index("train"):])  # what train has called, up to here
        return backward(*arguments, **options)

    monkeypatch.setitem(grpo.REWARDS, "chance", chance)
    monkeypatch.setattr(torch.Tensor, "backward", look)
    grpo.main("--tasks count_bits --questions 2 --samples 4 --turn-tokens 6 --eval-questions 0 --init base "
              "--reward chance --steps 1 --algorithm ppo --out".split() + [str(tmp_path / "run")])
    assert paths and {path[-1] for path in paths} == {"look"}
    assert max(map(len, paths)) <= 5, paths


# -------------------------------------------------------------------------------------------------- quickness
SCRIPTS = [f"{script}.py --help" for script in ("grpo", "sft", "evaluate", "curriculum")]


@pytest.mark.parametrize("words", [*SCRIPTS, "r1ci.py tasks tiny",
                                   *(f"r1ci.py {command} --help" for command in commands())])
def test_an_answer_takes_less_than_a_second(tmp_path, words):
    script, *arguments = words.split()
    with open(tmp_path / "out", "w") as out:
        process = subprocess.Popen([sys.executable, ROOT / script, *arguments], stdout=out, stderr=out,
                                   cwd=tmp_path)
        _, status, used = os.wait4(process.pid, 0)  # of this child alone
        process.returncode = os.waitstatus_to_exitcode(status)
    printed = (tmp_path / "out").read_text()
    assert process.returncode == 0 and len(printed.splitlines()) > 5, printed
    assert used.ru_utime + used.ru_stime < 1
