"""A run that is killed again and again, at random moments, ends like one that was not."""
import random
import time

from conftest import start
from test_training import numbers

from runs import read_jsonl

RUN = ["--tasks", "count_bits,products", "--questions", 2, "--samples", 2, "--turn-tokens", 8, "--eval-questions", 0,
       "--init", "base", "--lr", "1e-3", "--reward", "chance", "--steps", 12, "--save-every", 2]


def kill_and_resume(folder, kills, rng):
    """Start a run in folder/killed, kill it so many times, and let it finish; the kills that hit it alive."""
    run, log = folder / "killed", folder / "log"
    hit = 0
    for kill in range(kills + 1):
        process = start("grpo", [*RUN, "--out", run, *(["--resume"] if (run / "config.json").exists() else [])], log)
        goal = rng.uniform(0, 12 * (kill + 1) / (kills + 1))  # kills spread over the whole run
        while kill < kills and process.is_alive():
            lines = read_jsonl(run / "metrics.jsonl")
            if lines and lines[-1]["step"] >= goal:
                break
            time.sleep(0.002)
        if kill < kills:
            time.sleep(rng.uniform(0, 0.2))  # in the middle of whatever it does by then
            process.kill()
        process.join(120)
        hit += process.exitcode == -9
    assert process.exitcode == 0, log.read_text()
    return hit


def test_kills_at_random_moments_leave_no_trace(tmp_path):
    assert kill_and_resume(tmp_path, 3, random.Random(1)) >= 2
    whole = start("grpo", [*RUN, "--out", tmp_path / "whole"], tmp_path / "log")
    whole.join(120)
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")
    assert [line["step"] for line in numbers(tmp_path / "whole")] == list(range(12))
    best = [(tmp_path / name / "best/best.json").read_text() for name in ("killed", "whole")]
    assert best[0] == best[1]
