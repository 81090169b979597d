"""The curriculum: potentials and stages, the measurement on disk, and which questions a step gets."""
import json
import random
from collections import Counter

import pytest
import torch
from conftest import one_kind

import curriculum
import grpo
import rollout
from curriculum import improvement_potential, read_counts, split, stages, total
from rollout import Engine, Episode, Limits
from runs import Run, UserError, read_jsonl
from tasks import Question, draw, held_out, select

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


@one_kind
def test_a_killed_measurement_goes_on_to_the_same_file(taught, box, tmp_path, monkeypatch):
    policy, tokenizer, chat = taught
    engine = Engine(policy, tokenizer, box, Limits(40, 200, 4, 300), chat=chat, slots=128)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    monkeypatch.setattr(curriculum, "BATCH", 2)
    end = Engine._end

    def judge(self, episode, *more):  # by all that was sampled: this policy is hardly ever right
        end(self, episode, *more)
        episode.correct = sum(episode.ids) % 3 == 0

    monkeypatch.setattr(Engine, "_end", judge)
    questions = draw(select("count_bits"), "rl", 6, (1,))
    counts = curriculum.measure(engine, questions, whole, 8, 0)
    assert list(read_counts(whole)) == [curriculum.identity(q) for q in questions] == list(counts)
    assert all(list(found) == list(split(8)) and total(found)[1] == 8 for found in counts.values())
    assert 0 < sum(total(found)[0] for found in counts.values()) < 48
    assert (engine.chat.mode, engine.chat.style) == ("interpreter", "short")  # training goes on as before

    calls, undisturbed = [], Engine.run

    def dies(self, asked, *more, **options):
        calls.append(self.chat.mode)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return undisturbed(self, asked, *more, **options)

    monkeypatch.setattr(Engine, "run", dies)
    with pytest.raises(KeyboardInterrupt):
        curriculum.measure(engine, questions, killed, 8, 0)
    assert calls[:4] == ["text", "code", "interpreter", "interpreter"]
    part = tmp_path / "killed.part"  # half a measurement is not taken for a whole one
    assert not killed.exists() and len(read_counts(part)) == 2
    curriculum.measure(engine, questions, killed, 8, 0)
    assert killed.read_bytes() == whole.read_bytes() and len(calls) == 7 + 8 and not part.exists()
    curriculum.measure(engine, questions[:3] * 2, killed, 8, 0)
    assert len(calls) == 15 and killed.read_bytes() == whole.read_bytes()  # nothing was missing
    with pytest.raises(UserError, match="line 1 .*--potential-samples"):
        curriculum.measure(engine, questions, whole, 20, 0)
    more = draw(select("count_bits"), "rl", 7, (1,))
    longer = curriculum.measure(engine, more, whole, 8, 0)  # only what is missing is asked
    assert len(calls) == 19 and list(longer) == [curriculum.identity(q) for q in more]
    assert whole.read_bytes().startswith(killed.read_bytes()) and list(read_counts(whole)) == list(longer)


LINE = {"task": "products", "seed": 1_000_000, "level": 1, "counts": {"code@1": [1, 2]}}


@pytest.mark.parametrize("second", [
    "{", "[1]", '{"task": "products"}', "", *(json.dumps({**LINE, "counts": counts}) for counts in (
        {}, [], 3, {"code@1": [3, 2]}, {"code@1": [0, 0]}, {"code@1": [1]}, {"code@1": ["1", "2"]}))])
def test_a_bad_line_is_named_and_nothing_is_overwritten(tmp_path, monkeypatch, second):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs/tiny/grpo"
    folder.mkdir(parents=True)
    text = "\n".join([json.dumps(LINE), second, json.dumps(LINE)])
    (folder / "potential.jsonl").write_text(text)
    monkeypatch.setattr(grpo, "load_from_args", lambda *_, **__: (torch.nn.Linear(1, 1), None))
    monkeypatch.setattr(grpo, "make_engine", lambda *_: None)
    with pytest.raises(UserError, match="potential.jsonl, line 2 is (no measurement|damaged)"):
        grpo.main(["--curriculum", "potential", "--init", "base", "--eval-questions", "0", "--kl", "0"])
    assert (folder / "potential.jsonl").read_text() == text and not (folder / "stages.json").exists()


@pytest.mark.parametrize("main, arguments, words", [
    (curriculum.main, [], "runs/tiny/sft .*python sft.py"),
    (curriculum.main, ["--tasks", "held.jsonl"], "held.* too small")])
def test_what_cannot_be_measured(tmp_path, monkeypatch, main, arguments, words):
    monkeypatch.chdir(tmp_path)
    held = next(f"Question {i}?" for i in range(99) if held_out(Question("held", 0, 3, f"Question {i}?", {})))
    (tmp_path / "held.jsonl").write_text(json.dumps({"question": held, "answer": "a"}))
    with pytest.raises(UserError, match=words):
        main(arguments)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("parse, arguments, words", [
    (curriculum.parse, ["--questions", "0"], "from 1 to"), (grpo.parse, ["--curriculum", "hard"], "hard"),
    (grpo.parse, ["--curriculum", "online"], "online")])
def test_bad_flags(parse, arguments, words):
    with pytest.raises(UserError, match=words):
        parse(arguments)


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
    assert max(map(len, curriculum.histogram(counts.values()).splitlines())) <= 80


# --------------------------------------------------------------------------------------- questions for a step
def solves(question):
    """The made-up success rate of a question: what a real policy's would be like, but known."""
    rates = [0.0, 0.02, 0.15, 0.5, 0.6, 0.9, 0.98, 1.0]
    return random.Random(f"{question.task}/{question.seed}").choice(rates)


@pytest.fixture
def pretend(monkeypatch, tokenizer):
    """An engine whose answers are right as often as `solves` says; nothing is sampled, nothing is trained."""
    def run(self, questions, samples=1, *, temperature=1.0, seed=0, first=0, on_end=None, **_):
        rng, episodes = random.Random(seed), []
        for question in questions:
            for _ in range(samples):
                right, number = rng.random() < solves(question), first + len(episodes)
                episodes.append(Episode(question, [7, 8], [0, 1], [0.0] * 2, correct=right, stop="void",
                                        number=number))
                if on_end:
                    on_end(episodes[-1])
        return episodes

    monkeypatch.setattr(Engine, "run", run)
    nothing = {"trained_tokens": 0, "entropy": 0.0, "logprob_error": 0.0}
    monkeypatch.setattr(grpo, "train_on", lambda *_: dict(nothing))
    monkeypatch.setattr(grpo, "load_from_args", lambda *_, **__: (torch.nn.Linear(1, 1), tokenizer))
    monkeypatch.setattr(rollout, "check_cache", lambda *_: None)
    monkeypatch.setattr(grpo, "save", lambda *_: None)


FLAGS = ["--tasks", TASK_NAMES, "--init", "base", "--eval-questions", "0", "--questions", "8",
         "--samples", "4", "--kl", "0", "--save-every", "4"]


def train(folder, kind, steps, *more):
    """The questions of each step, and the metrics."""
    grpo.main([*FLAGS, "--out", str(folder), "--curriculum", kind, "--steps", str(steps), *more])
    return read_jsonl(folder / "questions.jsonl"), read_jsonl(folder / "metrics.jsonl")


def measured(folder, path):
    """A folder for a run that finds this measurement."""
    folder.mkdir()
    (folder / "potential.jsonl").write_bytes(path.read_bytes())
    return folder


def names(lines):
    return [tuple(name) for line in lines for *name, _, _ in line["questions"]]


def test_none_draws_what_was_always_drawn(pretend, tmp_path):
    drawn, metrics = train(tmp_path, "none", 3)
    assert names(drawn) == [curriculum.identity(q) for q in draw(select(TASK_NAMES), "rl", 24, (1,))]
    assert [m["stage"] for m in metrics] == [0, 0, 0] and not (tmp_path / "potential.jsonl").exists()


@pytest.mark.parametrize("kind", ["potential", "difficulty"])
def test_stages_train_on_their_groups(pretend, tmp_path, capsys, kind):
    drawn, metrics = train(tmp_path, kind, 22)
    out = capsys.readouterr().out
    assert "Measuring 44 questions" in out and "20 answers each" in out  # a quarter of 22 x 8
    counts = read_counts(tmp_path / "potential.jsonl")
    assert list(counts) == [curriculum.identity(q) for q in draw(select(TASK_NAMES), "rl", 44, (1,))]
    rates = {name: total(found) for name, found in counts.items()}
    if kind == "potential":
        value, bounds = lambda rate: improvement_potential(*rate), (0.64, 0.48, 0.32, 0)
    else:
        value, bounds = lambda rate: rate[0] / 20, (0.75, 0.5, 0.25, 0)
    allowed = [{name for name, rate in rates.items() if value(rate) >= bound} for bound in bounds]
    sizes = [len(stage) for stage in allowed]
    assert 8 < sizes[0] < sizes[-1] == 44 and f"stages of {', '.join(map(str, sizes))} questions" in out
    assert [m["stage"] for m in metrics] == [1] * 5 + [2] * 5 + [3] * 5 + [4] * 7
    for stage, part in ((1, drawn[:5]), (2, drawn[5:10]), (3, drawn[10:15]), (4, drawn[15:])):
        seen = Counter(names(part))
        assert set(seen) <= allowed[stage - 1]
        assert set(Counter(names(part)[:sizes[stage - 1]]).values()) == {1}  # round after round
    assert len({tuple(names(drawn[i:i + 1])) for i in range(22)}) == 22
    # What is measured is used as it is: the same questions again, with another seed others, fewer of a part.
    path = tmp_path / "potential.jsonl"
    assert names(train(measured(tmp_path / "again", path), kind, 22)[0]) == names(drawn)
    assert names(train(measured(tmp_path / "seed", path), kind, 22, "--seed", "1")[0]) != names(drawn)
    assert "Measuring" not in capsys.readouterr().out
    part, _ = train(measured(tmp_path / "part", path), kind, 4, "--tasks", "products")
    assert set(names(part)) <= {name for name in counts if name[0] == "products"}
    train(measured(tmp_path / "other", path), kind, 1, "--tasks", "chain_sum")
    assert "Measuring 2 questions" in capsys.readouterr().out
    added = read_counts(tmp_path / "other/potential.jsonl")
    assert list(added)[:44] == list(counts) and [name[0] for name in list(added)[44:]] == ["chain_sum"] * 2


@pytest.mark.parametrize("kind", ["none", "potential", "difficulty"])
def test_a_resumed_run_asks_the_same_questions(pretend, tmp_path, monkeypatch, kind):
    whole, metrics = train(tmp_path / "whole", kind, 12)
    calls, undisturbed = [], Run.append

    def dies(self, name, records):
        calls.append(name)
        if calls.count("metrics.jsonl") == 7:  # in step 6, after the checkpoint of step 4
            raise SystemError("killed")
        undisturbed(self, name, records)

    monkeypatch.setattr(Run, "append", dies)
    with pytest.raises(SystemError):
        train(tmp_path / "killed", kind, 12)
    monkeypatch.setattr(Run, "append", undisturbed)
    if kind != "none":  # what is measured meanwhile changes nothing
        with open(tmp_path / "killed/potential.jsonl", "a") as file:
            file.write(json.dumps({**LINE, "seed": 1_009_000}) + "\n")
    resumed, more = train(tmp_path / "killed", kind, 12, "--resume")
    assert resumed == whole and [line["step"] for line in resumed] == list(range(12))
    for name in ("step", "stage", "reward"):
        assert [m[name] for m in more] == [m[name] for m in metrics]


@pytest.mark.parametrize("samples", [4, 40])
def test_one_group_of_each_step_is_logged_whole(pretend, tmp_path, samples):
    _, metrics = train(tmp_path / "run", "none", 12, "--samples", str(samples), "--questions", "4")
    logged = read_jsonl(tmp_path / "run/episodes.jsonl")
    size, live = min(samples, curriculum.SIBLINGS), 0
    assert [line["step"] for line in logged] == [step for step in range(12) for _ in range(size)]
    for step, numbers in enumerate(metrics):
        group = [line for line in logged if line["step"] == step]
        assert len({(line["task"], line["seed"], line["level"]) for line in group}) == 1
        rewards = torch.tensor([line["reward"] for line in group])
        if samples == size:  # a group with different rewards is preferred
            expected = grpo.group_advantages(rewards, torch.zeros(size))
            assert [line["advantage"] for line in group] == pytest.approx(expected.tolist())
            assert bool(expected.any()) == (numbers["dead_groups"] < 1)
        live += len(set(rewards.tolist())) > 1
    assert live >= 8
    train(tmp_path / "again", "none", 12, "--samples", str(samples), "--questions", "4")
    assert read_jsonl(tmp_path / "again/episodes.jsonl") == logged
    train(tmp_path / "seed", "none", 12, "--samples", str(samples), "--questions", "4", "--seed", "1")
    assert read_jsonl(tmp_path / "seed/episodes.jsonl") != logged


@pytest.mark.parametrize("steps, expected", [(2, [1, 2]), (4, [1, 2, 3, 4]), (7, [1, 2, 3, 4, 4, 4, 4])])
def test_stages_are_equal_parts_of_the_steps(pretend, tmp_path, steps, expected):
    path = tmp_path / "potential.jsonl"
    rows = [{**LINE, "seed": q.seed, "counts": {"code@1": [right, 20]}} for right, q in zip(
        (10, 3, 2, 0), draw(select("products"), "rl", 4, (1,)))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, metrics = train(measured(tmp_path / "run", path), "potential", steps, "--tasks", "products")
    assert [line["stage"] for line in metrics] == expected
    assert [len(names) for names in json.loads((tmp_path / "run/stages.json").read_text())] == [1, 2, 3, 4]
