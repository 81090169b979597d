"""Counting and its intervals: against simulations, by hand, and across kills."""
import json
import socket
import time

import numpy as np
import pytest
from conftest import build, start

import evaluate
from evaluate import Log, accuracy_interval, compare, each_question, pass_at_k, sheet, sign_test, summary
from rollout import Episode, Turn
from runs import UserError, read_jsonl
from tasks import TASKS, draw, select


@pytest.mark.parametrize("tasks, questions, a, b", [(8, 50, 8, 2), (37, 10, 4, 4), (4, 20, 3, 3)])
def test_the_interval_covers_the_truth(monkeypatch, tasks, questions, a, b):
    """Populations of tasks, each with its own Beta(a, b) chance of being solved: the mean is a / (a + b)."""
    monkeypatch.setattr(evaluate, "RESAMPLES", 300)
    rng, covered, by_questions = np.random.default_rng(1), 0, 0
    for seed in range(250):
        groups = [(rng.random(questions) < p).astype(float) for p in rng.beta(a, b, tasks)]
        low, high = accuracy_interval(groups, seed)
        covered += low <= a / (a + b) <= high
        low, high = evaluate.wilson(sum(g.sum() for g in groups), tasks * questions)
        by_questions += low <= a / (a + b) <= high
    assert 0.9 <= covered / 250 <= 0.99
    assert by_questions / 250 < 0.9  # what counting questions as independent would give


def test_the_differences_of_two_runs_are_covered(monkeypatch):
    """Gaps whose mean differs by task: the interval without bounds of a share."""
    monkeypatch.setattr(evaluate, "RESAMPLES", 300)
    rng = np.random.default_rng(2)
    hits = []
    for seed in range(250):
        low, high = evaluate.two_level([rng.normal(mean, 0.5, 12) for mean in rng.normal(0.1, 0.2, 10)], seed)
        hits.append(low <= 0.1 <= high)
    assert 0.9 <= np.mean(hits) <= 0.99


def test_intervals_at_the_edges():
    assert accuracy_interval([np.ones(20)]) == evaluate.wilson(20, 20)
    low, high = accuracy_interval([np.ones(20), np.ones(20)])
    assert 0.8 < low < 1 and high == pytest.approx(1)  # all right is not certainly right
    groups = [np.array([0.0, 1, 1]), np.array([0.0, 0])]
    assert evaluate.two_level(groups, 1) == evaluate.two_level(groups, 1) != evaluate.two_level(groups, 2)
    assert accuracy_interval(groups)[0] == 0.0


def test_sign_test_and_pass_at_k():
    assert sign_test(0, 0) == 1 and sign_test(3, 3) == 1 and sign_test(1, 9) == pytest.approx(22 / 1024)
    rng = np.random.default_rng(0)  # pass@3 of 10 samples with 4 right: draw 3 without replacement
    drawn = np.mean([rng.choice([1] * 4 + [0] * 6, 3, replace=False).any() for _ in range(4000)])
    assert pass_at_k(10, 4, 3) == pytest.approx(drawn, abs=0.03)
    assert pass_at_k(10, 4, 3) == pytest.approx(1 - 20 / 120)
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
    assert evaluate.checks_itself(Episode(question, [], [], [], [*turns, Turn(10, 15, "<<<42>>>")])) is checks


def episodes_of(rights, samples):
    """Two questions each of two tasks, so many samples, right as given."""
    questions = [TASKS[name].question(seed, 1) for name in ("products", "web_of_lies") for seed in (0, 1)]
    turns = [Turn(0, 7, "")], [program("print(1)", "1"), Turn(10, 15, "")]
    return [Episode(question, [], [], [], turns[i % 2], correct=bool(rights[q * samples + i]), stop="answer")
            for q, question in enumerate(questions) for i in range(samples)]


def test_numbers_by_task_suite_and_ability():
    episodes = episodes_of([1, 1, 0, 0, 0, 1, 1, 1], 2)
    result = summary(episodes, 2)
    assert (result["questions"], result["accuracy"], result["tokens"]) == (4, 0.625, 11.0)
    assert result["pass_at"] == {"1": 0.625, "2": 0.75}
    assert result["self_checks"] == 0 and result["errors"] == 0
    assert (result["low"], result["high"]) == evaluate.wilson(2.5, 4)  # four observations, not eight
    assert result["tasks"]["products"]["accuracy"] == 0.5
    assert result["tasks"]["web_of_lies"]["accuracy"] == 0.75
    assert set(result["suites"]) == {TASKS[name].suite for name in ("products", "web_of_lies")}
    assert sum(one["questions"] for one in result["abilities"].values()) == 4
    lines = each_question(episodes, 2)
    assert lines[1] == {"task": "products", "seed": 1, "level": 1, "right": [0, 0], "calls": [0, 1],
                        "tokens": [7, 15]}
    all_right = each_question(episodes_of([1] * 8, 2), 2)
    gap = compare(all_right, lines)
    assert (gap["difference"], gap["better"], gap["worse"], gap["p"]) == (0.375, 2, 0, 0.5)
    assert gap["low"] < 0.375 < gap["high"] and compare(lines, all_right)["difference"] == -0.375
    with pytest.raises(UserError, match="different questions"):
        compare(lines, lines[:-1])


TABLE = """\
                                           after SFT          after GRPO
held-out accuracy                   62% (22% to 91%)  100% (51% to 100%)
code used, code-needed tasks                     50%                 50%
code used, text-solvable tasks                   50%                 50%
programs per question                           0.50                0.50
programs that failed                              0%                  0%
questions                                          4                   4
  products *                          50% (code 50%)     100% (code 50%)
  web_of_lies                         75% (code 50%)     100% (code 50%)
* code-needed"""


def test_one_sheet_for_one_and_for_several_results():
    before, after = (summary(episodes_of(rights, 2), 2) for rights in ([1, 1, 0, 0, 0, 1, 1, 1], [1] * 8))
    assert sheet({"after SFT": before, "after GRPO": after}) == TABLE
    text = sheet({"whatever": before})
    assert "whatever" not in text and "held-out" not in text
    found = {line[:32].strip(): line[32:].split() for line in text.split("\n\n")[0].splitlines()}
    assert found["accuracy (95%: more questions)"] == "62% (22% to 91%)".split()
    wide = evaluate.interval(before["tasks_low"], before["tasks_high"])
    assert found["95%: more tasks like these"] == wide.split() and found["questions"] == ["4"]
    assert found["pass@2"] == ["75%"] and found["tokens per question"] == ["11"]
    assert found["checks itself, if code is used"] == ["0%"]
    rows = text.split("\n\n")[1].splitlines()
    assert rows[0].split() == ["n", "accuracy", "(95%)", "code", "tokens"] and rows[-1] == "* code-needed"
    names = [row[:40].strip() for row in rows[1:-1]]
    kinds = [sum(name.startswith(kind) for name in names) for kind in ("suite: ", "ability: ")]
    assert names[-2:] == ["products*", "web_of_lies"]
    assert kinds == [len(before["suites"]), len(before["abilities"])]
    assert rows[-3][40:].split() == ["2", "50%", "(9%", "to", "91%)", "50%", "11"]
    many = summary([Episode(question, [], [], [], [Turn(0, 1, "")], stop="length")
                    for question in draw(select("test"), "eval", 37)])
    assert "*" not in sheet({"before": many, "after": many})  # no rows for more than 12 tasks
    assert "stopped: length" in sheet({"now": many}) and "pass@" not in sheet({"now": many})


def test_the_table_fits_80_columns():
    long = [TASKS["tracking_shuffled_objects_three_objects"], *select("test")]
    episodes = [Episode(question, [], [], [], [Turn(0, 4096, "")], correct=True, stop="answer")
                for question in draw(long, "eval", 80)]
    lines = sheet({"all": summary(episodes)}).splitlines()
    assert max(map(len, lines)) <= 80 and len({len(line) for line in lines if line.endswith("4096")}) <= 2


# ---------------------------------------------------------------------------- every finished episode is kept
class Pretend:
    """An engine whose answers depend on the number only; it can be killed, and once it runs out of memory.

    skips: it leaves out single episodes, as a server's engine does, not only whole batches.
    """

    def __init__(self, dies_after=None, skips=False):
        self.dies_after = dies_after
        self.skips = skips
        self.ran = []

    def run(self, questions, samples=1, *, temperature, top_p, seed, first, skip, on_end):
        numbers = range(first, first + len(questions) * samples)
        if all(number in skip for number in numbers):
            return []
        numbers = [number for number in numbers if not self.skips or number not in skip]
        if numbers[0] == 4 and not self.skips:  # memory runs out: this one will come again
            on_end(Episode(questions[0], [], [], [], [Turn(0, 9, "lost")], number=4, stop="length"))
        episodes = []
        for number in sorted(numbers, key=lambda number: -number):  # the last one ends first
            self.ran.append(number)
            episode = Episode(questions[(number - first) // samples], [], [], [], [Turn(0, number, "new")],
                              correct=number * 7 % 5 < 3, stop="answer", number=number)
            on_end(episode)
            episodes.insert(0, episode)
            if len(self.ran) == self.dies_after:
                raise KeyboardInterrupt
        return episodes


def last_line(capsys):
    """Of the progress bar."""
    return capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]


@pytest.mark.parametrize("skips", [False, True])
def test_every_episode_is_kept_as_it_ends(tmp_path, capsys, skips):
    questions = draw(select("products,web_of_lies"), "eval", 8, (1,))

    def run(engine, path, seed=0):
        log = Log(path, {"seed": seed})
        return evaluate.evaluate(engine, questions, samples=2, temperature=1.0, log=log, save_every=4)

    whole, episodes = run(Pretend(), tmp_path / "whole.jsonl")
    assert [e.number for e in episodes] == list(range(16)) and "16/16" in last_line(capsys)
    assert [e.question for e in episodes] == [q for q in questions for _ in range(2)]
    assert whole["right"] == "".join(str(int(number * 7 % 5 < 3)) for number in range(16))
    assert whole["stops"]["length"] == 0  # what was lost does not count

    killed = tmp_path / "killed.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(Pretend(dies_after=6, skips=skips), killed)
    kept = [line["number"] for line in read_jsonl(killed)[1:]]
    assert kept == [3, 2, 1, 0, 7, 6] if skips else kept == [3, 2, 1, 0, 4, 7, 6]
    killed.write_text(killed.read_text() + '{"number": 5, "cut sho')
    engine = Pretend(skips=skips)
    again, resumed = run(engine, killed)
    assert again == whole and [e.turns for e in resumed] == [e.turns for e in episodes]
    # The whole batch again: who decodes beside whom moves the last bit. A server has no such neighbours.
    assert sorted(engine.ran) == ([4, 5, *range(8, 16)] if skips else list(range(4, 16)))
    assert "16/16" in last_line(capsys)  # no episode counts twice
    lines = read_jsonl(killed)
    assert {line["number"] for line in lines[1:]} == set(range(16)) and "cut sho" not in killed.read_text()
    engine = Pretend(skips=skips)
    assert run(engine, killed)[0] == whole and not engine.ran
    with pytest.raises(UserError, match="seed=0, not 1"):
        run(engine, killed, seed=1)


FLAGS = ["--tasks", "count_bits,web_of_lies", "--levels", 1, "--questions", 14, "--samples", 2, "--slots", 3,
         "--save-every", 4, "--turn-tokens", 12]


@pytest.fixture
def small(tmp_path, tokenizer, monkeypatch):
    """The flags for a small model in a folder."""
    monkeypatch.chdir(tmp_path)
    build(tokenizer).save_pretrained("small")
    tokenizer.save_pretrained("small")
    return [str(flag) for flag in ["--model", tmp_path / "small", *FLAGS]]


def texts_of(log):
    """Number -> first turn; of a number that is there twice, the later one."""
    return {line["number"]: line["turns"][0]["text"] for line in read_jsonl(log)[1:]}


def test_a_killed_evaluation_goes_on(tmp_path, small, monkeypatch):
    """Killed in the middle, the same command gives the numbers of an undisturbed one."""
    process = start("evaluate", [*small, "--out", tmp_path / "killed.json"], tmp_path / "log")
    log = tmp_path / "killed.episodes.jsonl"
    while process.is_alive() and len(read_jsonl(log)) < 9:
        time.sleep(0.002)
    process.kill()
    process.join(60)
    before = read_jsonl(log)[:-1]  # as if it had been killed while it wrote a line
    assert process.exitcode == -9 and 8 <= len(before) < 28
    log.write_text("".join(json.dumps(line) + "\n" for line in before) + '{"number": 27, "cut sho')
    again = evaluate.main([*small, "--out", "killed.json"])
    assert read_jsonl(log)[:len(before)] == before
    flags = [*small, "--out", "whole.json", "--save-every", "28"]
    whole = evaluate.main(flags)
    texts = texts_of(tmp_path / "whole.episodes.jsonl")
    assert texts_of(log) == texts and set(texts) == set(range(28)) and len(set(texts.values())) > 20
    assert again == whole and len(whole["each"]) == 14
    assert whole == json.loads((tmp_path / "whole.json").read_text())
    monkeypatch.setattr(evaluate, "load_from_args", None)  # a finished evaluation is only counted again
    assert evaluate.main(flags) == whole
    compared = evaluate.main([*flags, "--against", "killed.json"])["against"]
    assert (compared["difference"], compared["better"], compared["file"]) == (0, 0, "killed.json")
    other = ["--questions", "12", "--against", "whole.json", "--out", "x.json"]
    for more, words in ((["--temperature", "0.5"], "temperature=0.6, not 0.5"),
                        (["--seed", "1"], "seed=0, not 1"), (["--against", "none"], "is no evaluation"),
                        (["--against", "small"], "eval.json is no evaluation"),
                        (other, "different questions")):
        with pytest.raises(UserError, match=words):
            evaluate.main([*flags, *more])

    def closed(*_):
        raise BrokenPipeError

    (tmp_path / "whole.json").unlink()
    monkeypatch.setattr(evaluate, "print", closed, raising=False)
    with pytest.raises(BrokenPipeError):  # | head
        evaluate.main(flags)
    assert json.loads((tmp_path / "whole.json").read_text()) == whole


def test_two_processes_give_the_numbers_of_one(tmp_path, small):
    """Under torchrun, also where a part is there already; rank 0 alone writes."""
    small += ["--mode", "text", "--seed", "1"]  # no token of seed 1 is so near the edge that rounding decides
    whole = evaluate.main(small)
    path = tmp_path / "runs/small/base/eval-text.json"
    assert json.loads(path.read_text()) == whole  # the file of another mode
    log = path.with_suffix(".episodes.jsonl")
    texts, lines = texts_of(log), log.read_text().splitlines(True)
    log.write_text("".join(lines[:8]))  # the first batch, and a part of the second
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [start("evaluate", small, tmp_path / f"{rank}.log",
                   {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(port)}, folder=tmp_path) for rank in (0, 1)]
    for rank, process in enumerate(ranks):
        process.join(120)
        assert process.exitcode == 0, (tmp_path / f"{rank}.log").read_text()[-2000:]
    assert json.loads(path.read_text()) == whole and texts_of(log) == texts
    numbers = [line["number"] for line in read_jsonl(log)[1:]]
    assert max(numbers.count(number) for number in range(28)) <= 2 and numbers.count(0) == 1
    assert "written to" in (tmp_path / "0.log").read_text()
    assert "written to" not in (tmp_path / "1.log").read_text()


def test_a_model_behind_a_server_is_for_another_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--model", "openai:fake", "--samples", "2"]
    with pytest.raises(UserError, match="r1ci.py evaluate"):
        evaluate.parse(flags)
    args = evaluate.parse([*flags, "--key", "x"], more=lambda parser: parser.add_argument("--key"))
    assert (args.model, args.key, args.samples, args.save_every) == ("openai:fake", "x", 2, None)


@pytest.mark.parametrize("degrees, quantile", [(1, 12.706), (5, 2.571), (9, 2.262), (10, 2.228), (20, 2.086),
                                               (36, 2.028), (120, 1.980)])
def test_student_factor(degrees, quantile):
    """97.5% quantiles as printed in tables of Student's t."""
    assert evaluate.student_factor(degrees) == pytest.approx(quantile / 1.96, rel=2e-3)
