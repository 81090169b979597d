"""A run that is killed again and again, at random moments, ends like one that was not."""
import importlib
import random
import time

import pytest
from conftest import chance, start
from test_training import numbers

import grpo
from runs import UserError, read_jsonl

RL = ["--tasks", "count_bits,products", "--questions", 2, "--samples", 2, "--turn-tokens", 8,
      "--eval-questions", 0, "--init", "base", "--lr", "1e-3", "--reward", "chance", "--steps", 12,
      "--save-every", 2]
RUNS = {"grpo": ("grpo", RL), "ppo": ("grpo", [*RL, "--algorithm", "ppo"]), "sft": ("sft", [
    "--tasks", "count_bits,products", "--batch", 4, "--per-task", 12, "--steps", 12, "--save-every", 2])}


def kill_and_resume(folder, module, flags, kills, rng):
    """Start a run in folder/killed, kill it so many times, and let it finish; the kills that hit it alive."""
    run, log = folder / "killed", folder / "log"
    hit = 0
    for kill in range(kills + 1):
        again = ["--resume"] if (run / "config.json").exists() else []
        process = start(module, [*flags, "--out", run, *again], log)
        goal = rng.uniform(0, 12 * (kill + 1) / (kills + 1))  # kills spread over the whole run
        while kill < kills and process.is_alive():
            lines = read_jsonl(run / "metrics.jsonl")
            if lines and lines[-1]["step"] >= goal:
                break
            time.sleep(0.002)
        if kill < kills:
            time.sleep(rng.uniform(0, 0.2))  # in the middle of whatever it does by then
            process.kill()
        process.join(600)
        hit += process.exitcode == -9
        if kill == 0:
            with open(run / "metrics.jsonl", "a") as file:
                file.write('{"step": 99, "los')  # a line that was cut short
    assert process.exitcode == 0, log.read_text()
    return hit


@pytest.mark.parametrize("name, kills", [("grpo", 3), ("ppo", 1), ("sft", 2)])
def test_kills_at_random_moments_leave_no_trace(tmp_path, monkeypatch, name, kills):
    module, flags = RUNS[name]
    whole = start(module, [*flags, "--out", tmp_path / "whole"], tmp_path / "log of whole")
    assert kill_and_resume(tmp_path, module, flags, kills, random.Random(1)) >= (kills + 1) // 2
    whole.join(600)
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")
    assert [line["step"] for line in numbers(tmp_path / "whole")] == list(range(12))
    monkeypatch.setitem(grpo.REWARDS, "chance", chance)
    with pytest.raises(UserError, match="--resume"):
        importlib.import_module(module).main([str(flag) for flag in (*flags, "--out", tmp_path / "whole")])
