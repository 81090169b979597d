"""The curriculum: potentials and stages, the measurement on disk, and which questions a step gets."""
import json
import random
from argparse import Namespace
from collections import Counter

import pytest
import torch

import curriculum
import grpo
from curriculum import choose, improvement_potential, read_counts, running_rates, split, stages, total
from models import PRESETS
from rollout import Engine, Episode
from runs import Run, read_jsonl
from tasks import SEED_START, TASKS, Question, draw, held_out, select

TASK_NAMES = "count_bits,products"


# ----------------------------------------------------------------------------------------- potentials, stages
def test_potential_from_integers():
    assert 4 * 0.2 * (1 - 0.2) != 4 * 0.8 * (1 - 0.8)  # in floats
    assert improvement_potential(4, 20) == improvement_potential(16, 20) == 0.64
    assert [improvement_potential(k, 5) for k in range(6)] == [0, 0.64, 0.96, 0.96, 0.64, 0]
    assert improvement_potential(0, 1) == improvement_potential(1, 1) == 0
    for n in range(1, 40):
        for k in range(n + 1):
            assert improvement_potential(k, n) == improvement_potential(n - k, n)
            assert improvement_potential(k, n) == pytest.approx(4 * (k / n) * (1 - k / n), abs=1e-12)
    for wrong in ((-1, 5), (6, 5), (0, 0)):
        with pytest.raises(ValueError):
            improvement_potential(*wrong)


def test_a_bound_belongs_to_the_better_group():
    values = {"best": 1.0, "64": 0.64, "63": 0.64 - 1e-9, "48": 0.48, "47": 0.48 - 1e-9, "32": 0.32,
              "31": 0.32 - 1e-9, "dead": 0.0}
    names = list(values)
    assert stages(values) == [names[:2], names[:4], names[:6], names]
    twentieths = stages([improvement_potential(k, 20) for k in range(21)])
    assert twentieths[0] == list(range(4, 17))  # p from 0.2 to 0.8, both included
    assert [len(stage) for stage in twentieths] == [13, 15, 17, 21]


def test_stages_are_nested_and_the_last_is_everything():
    rng = random.Random(0)
    values = {(name, i): rng.random() for name in "ab" for i in range(50)}
    made = stages(values, bounds=(0.9, 0.5))
    assert len(made) == 3 and made[-1] == list(values)
    assert all(set(a) < set(b) for a, b in zip(made, made[1:]))
    assert stages([]) == [[]] * 4
    for wrong, bounds in (([0.5], (0.3, 0.6)), ([1.1], (0.5,)), ([float("nan")], (0.5,))):
        with pytest.raises(ValueError):
            stages(wrong, bounds)


# -------------------------------------------------------------------------------------------- the measurement
@pytest.mark.parametrize("samples, shares", [(20, [5, 5, 5, 5]), (10, [2, 2, 3, 3]), (1, [1])])
def test_samples_are_divided_over_the_ways(samples, shares):
    assert [share for _, _, share in split(samples).values()] == shares
    assert list(split(samples))[-1] == "interpreter@1"


def settings():
    return Namespace(**{
        **PRESETS["tiny"], "answer_format": "angle", "levels": (1,), "tasks": "count_bits", "seed": 0,
        "turn_tokens": 40, "episode_tokens": 200, "pool": 6, "potential_samples": 8, "lag": 4,
        "static": None, "device": "cpu", "mode": "interpreter"})


def test_a_killed_measurement_goes_on_to_the_same_file(taught, box, tmp_path, monkeypatch):
    policy, tokenizer, _ = taught
    args, whole, killed = settings(), tmp_path / "whole", tmp_path / "killed"
    monkeypatch.setattr(curriculum, "BATCH", 2)
    questions = list(curriculum.pool(args).values())
    counts = curriculum.measure(policy, tokenizer, box, questions, whole, args)
    assert list(read_counts(whole)) == [curriculum.identity(q) for q in questions] == list(counts)
    assert all(list(found) == list(split(8)) and total(found)[1] == 8 for found in counts.values())
    assert 0 < sum(total(found)[0] for found in counts.values()) < 48

    calls, undisturbed = [], Engine.run

    def dies(self, asked, *more, **options):
        calls.append(self.chat.mode)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return undisturbed(self, asked, *more, **options)

    monkeypatch.setattr(Engine, "run", dies)
    with pytest.raises(KeyboardInterrupt):
        curriculum.measure(policy, tokenizer, box, questions, killed, args)
    assert len(read_counts(killed)) == 2 and calls[:4] == ["text", "code", "interpreter", "interpreter"]
    curriculum.measure(policy, tokenizer, box, questions, killed, args)
    assert killed.read_bytes() == whole.read_bytes() and len(calls) == 7 + 8
    curriculum.measure(policy, tokenizer, box, questions, killed, args)
    assert len(calls) == 15  # nothing was missing
    with pytest.raises(curriculum.RunError, match="line 1 .*--potential-samples"):
        curriculum.known(whole, 20)


def line(seed=1_000_000, task="products", level=1, counts=None):
    while task in TASKS and held_out(TASKS[task].question(seed, 1)):
        seed += 1
    return {"task": task, "seed": seed, "level": level, "counts": counts or {"code@1": [1, 2]}}


HELD_OUT = next(seed for seed in range(1_000_000, 1_001_000) if held_out(TASKS["products"].question(seed, 1)))


@pytest.mark.parametrize("second, words", [
    ("{", "not JSON"), ([1], '"counts"'), ({"task": "products"}, '"seed"'), (line(task="chess"), "chess"),
    ({**line(), "seed": "7"}, "whole numbers"), ({**line(), "level": 9}, "level 1 to 5"),
    (line(SEED_START["eval"]), "not a question for RL"), (line(3), "not a question for RL"),
    ({**line(), "seed": HELD_OUT}, "not a question for RL"), (line(), "second time"),
    (line(1_000_500, counts={"code@1": [3, 2]}), "right, samples"),
    ({**line(1_000_500), "counts": {}}, "right, samples"),
    (line(1_000_500, counts={"code@1": [True, 2]}), "right, samples"),
    (line(1_000_500, counts={"code@1": [0, 0]}), "right, samples")])
def test_a_bad_line_is_named_and_nothing_is_overwritten(tmp_path, monkeypatch, capsys, second, words):
    monkeypatch.chdir(tmp_path)
    second = second if second == "{" else json.dumps(second)
    (tmp_path / "bad.jsonl").write_text(json.dumps(line()) + "\n" + second)
    (tmp_path / "runs/tiny/grpo").mkdir(parents=True)
    (tmp_path / "runs/tiny/grpo/config.json").write_text("{}")
    with pytest.raises(SystemExit) as stop:
        grpo.main(["--curriculum", "potential", "--potential", "bad.jsonl", "--overwrite", "--init", "base"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "bad.jsonl, line 2: " in error and words in error
    assert error.count("\n") == 1
    assert (tmp_path / "runs/tiny/grpo/config.json").read_text() == "{}"


@pytest.mark.parametrize("main, arguments, words", [
    (curriculum.main, [], ["runs/tiny/sft", "python sft.py"]),
    (curriculum.main, ["--questions", "0"], ["from 1 on"]),
    (grpo.main, ["--curriculum", "hard"], ["hard"]),
    (grpo.main, ["--curriculum", "potential", "--potential", "none.jsonl"], ["cannot read none.jsonl"]),
    (grpo.main, ["--curriculum", "online", "--potential", "x.jsonl"], ["--potential is for", "not online"]),
    (grpo.main, ["--curriculum", "online", "--tasks", "held.jsonl"], ["held", "too small"])])
def test_bad_flags(tmp_path, monkeypatch, capsys, main, arguments, words):
    monkeypatch.chdir(tmp_path)
    held = next(f"Question {i}?" for i in range(99) if held_out(Question("held", 0, 3, f"Question {i}?", {})))
    (tmp_path / "held.jsonl").write_text(json.dumps({"question": held, "answer": "a"}))
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2 and all(word in last for word in words) and not (tmp_path / "runs").exists()


def test_the_picture():
    counts = {("products", i, 1): {"text@1": [min(k, 10), 10], "code@1": [max(0, k - 10), 10]}
              for i, k in enumerate([0] * 8 + [4, 16, 10, 17, 19, 20])}
    counts["aiw", 0, 1] = {"text@1": [3, 8]}  # 7.5 twentieths
    rows = [row.split() for row in curriculum.histogram(counts.values()).splitlines()[1:]]
    assert len(rows) == 21 and [row[:4] for row in rows if row[3] != "0"] == [
        ["0.00", "0.00", "4", "8"], ["0.20", "0.64", "1", "1"], ["0.40", "0.96", "1", "1"],
        ["0.50", "1.00", "1", "1"], ["0.80", "0.64", "1", "1"], ["0.85", "0.51", "2", "1"],
        ["0.95", "0.19", "4", "1"], ["1.00", "0.00", "4", "1"]]
    assert len(rows[0][4]) == 36 and len(rows[10][4]) == 5
    text = curriculum.task_table(counts).splitlines()
    assert text[0].split()[-2:] == ["A", "B"] and text[-1] == "p by way: A text@1, B code@1"
    assert [row.split() for row in text[1:-1]] == [
        ["aiw", "1", "0.38", "0.94", "1", "0", "0", "0", "0.38", "-"],
        ["products", "14", "0.31", "0.21", "3", "1", "0", "10", "0.39", "0.23"],
        ["all", "15", "0.31", "0.26", "4", "1", "0", "10", "0.39", "0.23"]]
    assert max(map(len, text + curriculum.histogram(counts.values()).splitlines())) <= 80


# --------------------------------------------------------------------------------------- questions for a step
def solves(question):
    """The made-up success rate of a question: what a real policy's would be like, but known."""
    rates = [0.0, 0.02, 0.15, 0.5, 0.6, 0.9, 0.98, 1.0]
    return random.Random(f"{question.task}/{question.seed}").choice(rates)


@pytest.fixture
def pretend(monkeypatch, tokenizer, chat):
    """An engine whose answers are right as often as `solves` says; nothing is sampled, nothing is trained."""
    def run(self, questions, samples=1, *, temperature=1.0, seed=0, on_end=None, **_):
        rng, episodes = random.Random(seed), []
        for question in questions:
            for _ in range(samples):
                right = rng.random() < solves(question)
                episodes.append(Episode(question, [7, 8], [0, 1], [0.0] * 2, correct=right, stop="void"))
                if on_end:
                    on_end(episodes[-1])
        return episodes

    monkeypatch.setattr(Engine, "run", run)
    monkeypatch.setattr(grpo, "train_on", lambda *_: {})
    monkeypatch.setattr(grpo, "load", lambda *_, **__: (torch.nn.Linear(1, 1), tokenizer))
    monkeypatch.setattr(Run, "save", lambda *_: None)
    monkeypatch.setattr(Run, "keep_best", lambda *_: None)


FLAGS = ["--tasks", TASK_NAMES, "--init", "base", "--eval-questions", "0", "--questions", "4",
         "--samples", "4", "--kl", "0", "--pool", "40", "--stage-steps", "5", "--save-every", "4"]


def train(folder, kind, steps, *more):
    """The questions of each step, and the metrics."""
    grpo.main([*FLAGS, "--out", str(folder), "--curriculum", kind, "--steps", str(steps), *more])
    return read_jsonl(folder / "questions.jsonl"), read_jsonl(folder / "metrics.jsonl")


def names(lines):
    return [tuple(name) for line in lines for *name, _, _ in line["questions"]]


def test_none_draws_what_was_always_drawn(pretend, tmp_path):
    drawn, metrics = train(tmp_path, "none", 3)
    assert names(drawn) == [curriculum.identity(q) for q in draw(select(TASK_NAMES), "rl", 12, (1,))]
    assert [m["stage"] for m in metrics] == [0, 0, 0] and not (tmp_path / "potential.jsonl").exists()


@pytest.mark.parametrize("kind", ["potential", "difficulty"])
def test_stages_train_on_their_groups(pretend, tmp_path, capsys, kind):
    drawn, metrics = train(tmp_path, kind, 22)
    out = capsys.readouterr().out
    assert "40 questions are not measured yet" in out
    counts = read_counts(tmp_path / "potential.jsonl")
    assert list(counts) == [curriculum.identity(q) for q in draw(select(TASK_NAMES), "rl", 40, (1,))]
    rates = {name: total(found) for name, found in counts.items()}
    if kind == "potential":
        value, bounds = lambda rate: improvement_potential(*rate), (0.64, 0.48, 0.32, 0)
    else:
        value, bounds = lambda rate: rate[0] / 20, (0.75, 0.5, 0.25, 0)
    allowed = [{name for name, rate in rates.items() if value(rate) >= bound} for bound in bounds]
    sizes = [len(stage) for stage in allowed]
    assert 4 < sizes[0] < sizes[-1] == 40 and f"stages of {', '.join(map(str, sizes))} questions" in out
    assert [m["stage"] for m in metrics] == [1] * 5 + [2] * 5 + [3] * 5 + [4] * 7
    for stage, part in ((1, drawn[:5]), (2, drawn[5:10]), (3, drawn[10:15]), (4, drawn[15:])):
        seen = Counter(names(part))
        assert set(seen) <= allowed[stage - 1]
        assert set(Counter(names(part)[:sizes[stage - 1]]).values()) == {1}  # round after round
    assert len({tuple(names(drawn[i:i + 1])) for i in range(22)}) == 22
    reused = ["--potential", str(tmp_path / "potential.jsonl")]
    assert names(train(tmp_path / "again", kind, 22, *reused)[0]) == names(drawn)
    assert names(train(tmp_path / "seed", kind, 22, *reused, "--seed", "1")[0]) != names(drawn)


@pytest.mark.parametrize("kind", ["none", "potential", "difficulty", "online"])
def test_a_resumed_run_asks_the_same_questions(pretend, tmp_path, monkeypatch, kind):
    whole, metrics = train(tmp_path / "whole", kind, 12)
    calls, undisturbed = [], Run.log_episodes

    def dies(self, records):
        calls.append(records)
        if len(calls) == 7:  # in step 6, after the checkpoint of step 4
            raise SystemError("killed")
        undisturbed(self, records)

    monkeypatch.setattr(Run, "log_episodes", dies)
    with pytest.raises(SystemError):
        train(tmp_path / "killed", kind, 12)
    resumed, more = train(tmp_path / "killed", kind, 12, "--resume")
    assert resumed == whole and [line["step"] for line in resumed] == list(range(12)) and len(calls) == 7 + 8
    for name in ("step", "stage", "reward"):
        assert [m[name] for m in more] == [m[name] for m in metrics]


def test_online_finds_the_questions_near_one_half(pretend, tmp_path):
    drawn, metrics = train(tmp_path, "online", 45, "--pool", "80", "--questions", "8", "--samples", "8")
    assert [m["stage"] for m in metrics] == [0] * 45 and not (tmp_path / "potential.jsonl").exists()
    pool = {curriculum.identity(q): solves(q) for q in draw(select(TASK_NAMES), "rl", 80, (1,))}
    assert set(names(drawn)) <= set(pool) and all(len(set(names([line]))) == 8 for line in drawn)
    useful = {name for name, p in pool.items() if 0.4 < p < 0.7}
    hopeless = {name for name, p in pool.items() if p < 0.1 or p > 0.95}

    def advantage(group):
        """How much oftener than by chance its questions come, once something is known."""
        late = names(drawn[15:])
        return sum(name in group for name in late) / len(late) / (len(group) / len(pool))

    assert advantage(useful) > 1.4 and advantage(hopeless) < 0.75
    assert set(names(drawn)) > useful and set(names(drawn)) & hopeless


def test_running_rates_by_hand():
    a, b, other = ("products", 1, 1), ("products", 2, 1), ("count_bits", 1, 1)
    assert running_rates([a, other], []) == {a: 0.5, other: 0.5}
    history = [{"questions": [[*a, 8, 8]]}, {"questions": [[*a, 0, 4]]}]
    rates = running_rates([a, b, other, ("products", 1, 2)], history)
    prior = (0.97 * 8 + 1) / (0.97 * 8 + 4 + 2)
    assert rates[a] == pytest.approx((0.97 * 8 + prior) / (0.97 * 8 + 4 + 1))
    assert rates[b] == pytest.approx(prior)
    assert rates[other] == rates["products", 1, 2] == 0.5  # another task, another level: nothing is known


def test_choose_in_proportion_to_potential():
    rates = {"half": 0.5, "fifth": 0.2, "solved": 1.0, "hopeless": 0.0}
    first = Counter(choose(rates, 1, random.Random(i))[0] for i in range(4000))
    weights = {"half": 1, "fifth": 0.64, "solved": 0.05, "hopeless": 0.05}
    for name, weight in weights.items():
        assert first[name] / 4000 == pytest.approx(weight / sum(weights.values()), abs=0.03)
    assert sorted(choose(rates, 9, random.Random(0))) == sorted(rates)
