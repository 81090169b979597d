"""Counting and its intervals: against simulations, by hand, and across kills."""
import json
import time

import numpy as np
import pytest
from conftest import build, start

import evaluate
import intervals
from evaluate import checks_itself, compare, each_question, sheet, summary
from intervals import accuracy_interval, pass_at_k, sign_test, two_level
from rollout import Episode, Turn
from runs import RunError, read_jsonl
from tasks import TASKS, draw, select


@pytest.mark.parametrize("tasks, questions, a, b", [(8, 50, 8, 2), (37, 10, 4, 4), (4, 20, 3, 3)])
def test_the_interval_covers_the_truth(monkeypatch, tasks, questions, a, b):
    """Populations of tasks, each with its own Beta(a, b) chance of being solved: the mean is a / (a + b)."""
    monkeypatch.setattr(intervals, "RESAMPLES", 300)
    rng, covered, by_questions = np.random.default_rng(1), 0, 0
    for seed in range(250):
        groups = [(rng.random(questions) < p).astype(float) for p in rng.beta(a, b, tasks)]
        low, high = accuracy_interval(groups, seed)
        covered += low <= a / (a + b) <= high
        low, high = intervals.wilson(sum(g.sum() for g in groups), tasks * questions)
        by_questions += low <= a / (a + b) <= high
    assert 0.9 <= covered / 250 <= 0.99
    assert by_questions / 250 < 0.9  # what counting questions as independent would give


def test_the_differences_of_two_runs_are_covered(monkeypatch):
    """Gaps whose mean differs by task: the interval without bounds of a share."""
    monkeypatch.setattr(intervals, "RESAMPLES", 300)
    rng = np.random.default_rng(2)
    hits = []
    for seed in range(250):
        low, high = two_level([rng.normal(mean, 0.5, 12) for mean in rng.normal(0.1, 0.2, 10)], seed)
        hits.append(low <= 0.1 <= high)
    assert 0.9 <= np.mean(hits) <= 0.99


def test_intervals_at_the_edges():
    assert accuracy_interval([np.ones(20)]) == intervals.wilson(20, 20)
    low, high = accuracy_interval([np.ones(20), np.ones(20)])
    assert 0.8 < low < 1 and high == pytest.approx(1)  # all right is not certainly right
    groups = [np.array([0.0, 1, 1]), np.array([0.0, 0])]
    assert two_level(groups, 1) == two_level(groups, 1) != two_level(groups, 2)
    assert accuracy_interval(groups)[0] == 0.0


def test_sign_test_and_pass_at_k():
    assert sign_test(0, 0) == 1 and sign_test(3, 3) == 1 and sign_test(1, 9) == pytest.approx(22 / 1024)
    rng = np.random.default_rng(0)  # pass@3 of 10 samples with 4 right: draw 3 without replacement
    drawn = np.mean([rng.choice([1] * 4 + [0] * 6, 3, replace=False).any() for _ in range(4000)])
    assert pass_at_k(10, 4, 3) == pytest.approx(drawn, abs=0.03) and pass_at_k(10, 4, 3) == pytest.approx(1 - 20 / 120)
    assert pass_at_k(3, 0, 2) == 0 and pass_at_k(3, 2, 2) == 1


def program(code, output, status="ok"):
    return Turn(0, 10, f"```python\n{code}\n```", code, output, status)


@pytest.mark.parametrize("turns, checks", [
    ([program("print(6*7)", "42")], False),
    ([program("print(6*7)", "42"), program("print(sum([6]*7))", "42")], True),  # computed in another way
    ([program("print(6*7)", "42"), program("print(6*7)", "42")], False),  # the same again is no check
    ([program("print(6*7)", "42"), program("print(42 % 7 == 0)", "True")], True),
    ([program("print(6*7)", "42"), program("print(5 > 3)", "True")], False),  # tests something else
    ([program("print(6*7)", "42"), program("print(42 + 1)", "43")], False),  # goes on with it
    ([program("print(6*7)", "42"), program("assert 42 == 6 * 7\nprint('fine')", "fine")], True),
    ([program("prin(6*7)", "NameError", "error"), program("print(6*7)", "42")], False),  # a repair
    ([program("x = 1", "[no output; use print() to show a result]"), program("print(1)", "1")], False)])
def test_what_is_a_check(turns, checks):
    question = TASKS["products"].question(0, 1)
    assert checks_itself(Episode(question, [], [], [], [*turns, Turn(10, 15, "<<<42>>>")])) is checks


def episodes_of(rights, samples):
    """Two questions each of two tasks, so many samples, right as given."""
    questions = [TASKS[name].question(seed, 1) for name in ("products", "web_of_lies") for seed in (0, 1)]
    return [Episode(question, [], [], [], [program("print(1)", "1"), Turn(10, 15, "")] if i % 2 else [Turn(0, 7, "")],
                    correct=bool(rights[q * samples + i]), stop="answer")
            for q, question in enumerate(questions) for i in range(samples)]


def test_numbers_by_task_suite_and_ability():
    episodes = episodes_of([1, 1, 0, 0, 0, 1, 1, 1], 2)
    result = summary(episodes, 2)
    assert (result["questions"], result["accuracy"], result["tokens"]) == (4, 0.625, 11.0)
    assert result["pass_at"] == {"1": 0.625, "2": 0.75} and result["self_checks"] == 0 and result["errors"] == 0
    assert (result["low"], result["high"]) == intervals.wilson(2.5, 4)  # four observations, not eight
    assert result["tasks"]["products"]["accuracy"] == 0.5 and result["tasks"]["web_of_lies"]["accuracy"] == 0.75
    assert set(result["suites"]) == {TASKS[name].suite for name in ("products", "web_of_lies")}
    assert sum(one["questions"] for one in result["abilities"].values()) == 4
    lines = each_question(episodes, 2)
    assert lines[1] == {"task": "products", "seed": 1, "level": 1, "right": [0, 0], "calls": [0, 1], "tokens": [7, 15]}
    all_right = each_question(episodes_of([1] * 8, 2), 2)
    gap = compare(all_right, lines)
    assert (gap["difference"], gap["better"], gap["worse"], gap["p"]) == (0.375, 2, 0, 0.5)
    assert gap["low"] < 0.375 < gap["high"] and compare(lines, all_right)["difference"] == -0.375
    with pytest.raises(RunError, match="different questions"):
        compare(lines, lines[:-1])


def test_the_table_fits_80_columns():
    long = [TASKS["tracking_shuffled_objects_three_objects"], *select("test")]
    episodes = [Episode(q, [], [], [], [Turn(0, 4096, "")], correct=True, stop="answer") for q in draw(long, "eval", 80)]
    lines = sheet(summary(episodes)).splitlines()
    assert max(map(len, lines)) <= 80 and len({len(line) for line in lines if line.endswith("4096")}) <= 2


FLAGS = ["--tasks", "count_bits,web_of_lies", "--levels", 1, "--questions", 14, "--samples", 2, "--slots", 3, "--save-every",
         4, "--turn-tokens", 12, "--style", "short"]


def test_a_killed_evaluation_goes_on(tmp_path, tokenizer, monkeypatch, capsys):
    """Killed in the middle, the same command gives the numbers of an undisturbed one, and does nothing twice."""
    monkeypatch.chdir(tmp_path)
    build(tokenizer).save_pretrained("small")
    tokenizer.save_pretrained("small")
    flags = [str(flag) for flag in ["--model", tmp_path / "small", *FLAGS]]
    process = start("evaluate", [*flags, "--out", tmp_path / "killed.json"], tmp_path / "log")
    log = tmp_path / "killed.episodes.jsonl"
    while process.is_alive() and len(read_jsonl(log)) < 9:
        time.sleep(0.002)
    process.kill()
    process.join(60)
    before = read_jsonl(log)[:-1]  # as if it had been killed while it wrote a batch
    assert process.exitcode == -9 and 8 <= len(before) < 28
    log.write_text("".join(json.dumps(line) + "\n" for line in before) + '{"number": 27, "cut sho')
    again = evaluate.main([*flags, "--out", "killed.json"])
    assert read_jsonl(log)[:len(before)] == before
    whole = evaluate.main([*flags, "--out", "whole.json", "--save-every", "28"])
    texts, whole_texts = ({line["number"]: line["turns"][0]["text"] for line in read_jsonl(path)[1:]}
                          for path in (log, tmp_path / "whole.episodes.jsonl"))
    assert texts == whole_texts and list(whole_texts) == list(range(28)) and len(set(texts.values())) > 20
    assert again == whole and len(whole["each"]) == 14 and whole == json.loads((tmp_path / "whole.json").read_text())
    flags += ["--out", "whole.json", "--save-every", "28"]
    monkeypatch.setattr(evaluate, "load", None)  # a finished evaluation is only counted again
    assert evaluate.main(flags) == whole
    for more, words in ((["--temperature", "0.5"], "temperature=0.6, not 0.5"), (["--seed", "1"], "seed=0, not 1"),
                        (["--against", "none"], "is no evaluation"),
                        (["--questions", "12", "--against", "whole.json", "--out", "x.json"], "different questions")):
        with pytest.raises(SystemExit):
            evaluate.main([*flags, *more])
        assert words in capsys.readouterr().err.splitlines()[-1]
