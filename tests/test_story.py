"""`r1ci.py run`: the whole story of the tiny model, interrupted and gone on with; sizes; the results page."""
import argparse
import json
import time
from xml.etree import ElementTree

import pytest
from test_pipeline import ok

import curriculum
import evaluate
import r1ci
import runs
from experiments import episodes, results
from experiments import story as stories
from models import exists
from runs import UserError, read_jsonl
from tasks import TASKS

SMALL = ["--budget", "5s", "--turn-tokens", "16", "--sft-flags=--batch 8",
         "--rl-flags=--questions 2 --samples 2"]


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """The folder of a finished run that was stopped in the middle, and what it printed."""
    folder = tmp_path_factory.mktemp("story")
    (folder / "docs").mkdir()
    (folder / "docs/RESULTS.md").write_text("# Ours\n\nkept\n")
    command = ["r1ci.py", "run", *SMALL, "--write", "docs/RESULTS.md"]
    stopping = pytest.MonkeyPatch()
    stopping.chdir(folder)
    stopping.setattr(curriculum, "main", lambda argv: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SystemExit) as stop:
        stories.main(command[2:])
    assert stop.value.code == 130
    stopping.undo()
    half = json.loads((folder / "runs/tiny/story/story.json").read_text())
    assert half["phases"]["sft"]["done"] and not half["phases"]["potential"]["done"]
    made = (folder / "runs/tiny/story/sft/model/model.safetensors").stat().st_mtime_ns
    printed = ok(*command, cwd=folder)
    assert (folder / "runs/tiny/story/sft/model/model.safetensors").stat().st_mtime_ns == made
    whole = json.loads((folder / "runs/tiny/story/story.json").read_text())
    assert whole["chosen"]["sft"] == half["chosen"]["sft"]
    return folder / "runs/tiny/story", printed


def test_every_phase_leaves_its_results(story):
    folder, printed = story
    books = json.loads((folder / "story.json").read_text())
    assert list(books["phases"]) == ["speed", "base", "sft", "after-sft", "potential", "grpo", "after-grpo"]
    for book in books["phases"].values():
        assert book["done"] and book["seconds"] > 0 and book["peak_gib"] > 0.1
    steps = books["chosen"]["grpo"]["steps"]
    metrics = read_jsonl(folder / "grpo/metrics.jsonl")
    assert len(metrics) == steps and steps % 4 == 0 and exists(folder / "grpo")
    assert [line["stage"] for line in metrics] == sorted(line["stage"] for line in metrics)
    asked = [json.loads((folder / "evaluations" / stage / f"{mode}-training.json").read_text())["each"]
             for stage in episodes.STAGES for mode in stories.MODES]
    names = [[(line["task"], line["seed"]) for line in one] for one in asked]
    assert all(one == names[0] for one in names)
    assert len(names[0]) == books["chosen"]["evaluation"]["training"]
    log = (folder / "log.txt").read_text()
    assert all(f"$ python {name}.py" in log for name in ("evaluate", "sft", "curriculum", "grpo"))
    assert "held-out accuracy" not in printed and "after RL, interpreter" in printed


def test_the_page_says_what_the_run_found(story):
    folder, _ = story
    page = (folder / "RESULTS.md").read_text()
    result = json.loads((folder / "evaluations/grpo/interpreter-training.json").read_text())
    assert f"| after RL, interpreter | **{evaluate.percent(result['accuracy'])}** " in page
    for words in ("New questions of the training tasks: after RL", "### Curves", "### Three episodes",
                  "### One question at every stage",
                  "**After RL**", "| shortest answers |",
                  "| sft | ", "python r1ci.py run --budget 5s", "Planned peak"):
        assert words in page
    assert "Beside the paper" not in page  # its figures are about unseen tasks; here are none
    root = ElementTree.parse(folder / "curves.svg").getroot()
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) >= 5


def test_a_shared_file_keeps_what_others_wrote(story):
    folder, _ = story
    shared = folder.parents[2] / "docs/RESULTS.md"
    text = shared.read_text()
    assert text.startswith("# Ours\n\nkept\n") and text.count("through the whole pipeline") == 1
    assert "(curves-tiny-story.svg)" in text and (shared.parent / "curves-tiny-story.svg").exists()
    shared.write_text(text + "\nafter\n")
    results.main([str(folder), "--write", str(shared)])
    again = shared.read_text()
    assert again.count("through the whole pipeline") == 1
    assert again.startswith("# Ours") and again.endswith("after\n")
    with pytest.raises(UserError, match="no finished run"):
        results.main([str(folder / "sft")])


def test_other_flags_in_a_used_folder_are_refused(story, capsys, monkeypatch):
    monkeypatch.chdir(story[0].parents[2])
    with pytest.raises(SystemExit) as stop:
        runs.command(lambda: r1ci.main(["run", *SMALL[:-1], "--rl-flags=--questions 3 --samples 2"]))
    assert stop.value.code == 2 and "was begun with rl_flags" in capsys.readouterr().err


@pytest.mark.parametrize("words, said", [
    (["--budget", "soon"], "45m or 2h"), (["--budget=-3h"], "45m or 2h"),
    (["--lr", "1"], "unrecognized arguments: --lr 1"), (["--rl-flags=--lr high"], "--lr"),
    (["--tasks", "chess"], "chess"), (["--test-tasks", "chess"], "chess"),
    (["--model", "openai:gpt-4o"], "no weights"),
    (["--tasks", "all", "--test-tasks", "test"], "must not share tasks"),
    (["--rl-flags=--init base"], "--init is chosen"), (["--rl-flags=--algorithm luck"], "none of grpo"),
    (["--budget", "1h", "--sft-flags=--steps 9"], "when there is a --budget"),
    (["--quantize", "nf4"], "--lora-rank"),
    (["--teacher", "nobody"], "unknown model 'nobody'"),
    (["--teacher", "self", "--sft-flags=--data pyproject.toml"], "--data or --teacher"),
    (["--sft-flags=--data none.jsonl"], "no file none.jsonl"),
    (["--rl-flags=--lora-rank 4"], "--lora-rank must be 0 in both"), (["--write", "."], "cannot write")])
def test_bad_flags_are_found_before_anything_is_made(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        runs.command(lambda: r1ci.main(["run", *words]))
    assert stop.value.code == 2 and said in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_a_teacher_comes_before_sft(tmp_path, monkeypatch):
    """Its right answers are what SFT learns from; it is asked once, and sizes follow from what it gave."""
    monkeypatch.chdir(tmp_path)
    asked = []

    def teach(argv):
        out = argv[argv.index("--out") + 1]
        asked.append(argv)
        runs.write_jsonl(runs.Path(out), [{"messages": []}] * 10)

    monkeypatch.setattr("experiments.teacher.teach_command", teach)
    own, rest = stories.parse(["--budget", "1000s", "--teacher", "self", "--tasks", "count_bits,products"])
    story = stories.Story(own, rest)
    story.state["chosen"]["speed"] = {"seconds_per_episode": 0.1, "sft_tokens_per_second": 100.0,
                                      "tokens_per_conversation": 500.0}
    story.sft.steps = 0  # as for pretrained models: epochs
    story.data.parent.mkdir()
    assert story.teach() == ["--data", story.data] and story.teach() == ["--data", story.data]
    assert len(asked) == 1 and asked[0][asked[0].index("--teacher") + 1] == "tiny"
    assert asked[0][asked[0].index("--per-task") + 1] == str(int(150 / 0.1 / 4 / 2 / 2))
    assert story.sft_size() == {"epochs": 3.0}  # 200 s at 100 tokens/s are four times ten conversations
    story.sft.fill = 30  # ours come in addition, 60 of them: now it is less than one time all
    assert story.sft_size() == {"epochs": 0.57}
    assert "$ python r1ci.py teach --teacher tiny --tasks" in (story.folder / "log.txt").read_text()
    assert stories.parse(["--model", "coder-0.5b", "--random-weights"])[0].teacher == "self"
    assert stories.parse([])[0].teacher == "none"


def test_a_phase_books_its_time_once_and_keeps_it_when_killed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    story = stories.Story(*stories.parse(["--budget", "1h"]))

    def books():
        return json.loads((tmp_path / "runs/tiny/story/story.json").read_text())["phases"]["sft"]

    with pytest.raises(RuntimeError), story.phase("sft"):
        time.sleep(0.05)
        story.call(lambda argv: None, "sft")
        noted = books()["seconds"]  # written down already: a kill would lose nothing of it
        raise RuntimeError
    assert noted >= 0.05 and not books()["done"]
    again = stories.Story(*stories.parse(["--budget", "1h"]))
    found = []
    for _ in range(2):
        with again.phase("sft"):
            time.sleep(0.05)
        found.append(books()["seconds"])
    assert books()["done"] and found[0] >= noted + 0.05 and found[1] == found[0]
    assert books()["peak_gib"] > 0.1


def test_outcomes():
    def line(*programs, stop="answer", answer="3", correct=False):
        turns = [{"status": status, "output": output} for status, output in (*programs, (None, None))]
        return {"turns": turns, "stop": stop, "answer": answer, "correct": correct}

    cases = [(line(correct=True), "right, in words"),
             (line(("ok", "3"), correct=True), "right, with a program that ran"),
             (line(("error", "no"), correct=True), "right, in words"), (line(), "wrong, in words"),
             (line(("error", "no")), "wrong, its programs failed"),
             (line(("ok", "3\n")), "wrong, as its program printed"),
             (line(("ok", "4")), "wrong, though its program printed something else"),
             (line(stop="void", answer=None), "no answer: stopped without one"),
             (line(stop="length"), "no answer: too long"),
             (line(("ok", "4"), stop="calls"), "no answer: too many programs")]
    for logged, expected in cases:
        assert episodes.outcome(logged) == expected
    found = {"grpo": {"training": {"interpreter": {"episodes": [logged for logged, _ in cases]}}}}
    table = results.outcomes(found, "training")
    assert table.count("10%") == 8 and "| 20% |" in table


def test_an_episode_cannot_break_the_page(tmp_path):
    turn = {"text": "````\n<!-- run x: end -->", "output": None, "status": None, "code": None, "start": 0,
            "end": 1, "seconds": 0}
    line = {"task": "gcd", "seed": 0, "level": 1, "correct": False, "stop": "void", "turns": [turn]}
    text = episodes.as_code_block(line)
    assert text.count("````") == 2 and "<!--" not in text and episodes.last_words({"turns": []}) == ""
    page = tmp_path / "page.md"
    write_section = results.write_section
    write_section(page, "one", "first")
    write_section(page, "two", "second")
    write_section(page, "one", "third")
    assert "first" not in page.read_text()
    assert page.read_text().index("third") < page.read_text().index("second")
    page.write_text(page.read_text().replace("<!-- one: end -->", ""))
    before = page.read_text()
    with pytest.raises(UserError, match="once each"):
        write_section(page, "one", "fourth")
    assert page.read_text() == before
    page.write_text("as `<!-- one: begin, written by a command -->` says\n")  # not a line of its own
    write_section(page, "one", "fifth")
    write_section(page, "one", "sixth")
    assert page.read_text().startswith("as `<!--") and page.read_text().endswith("sixth\n<!-- one: end -->\n")
    assert "fifth" not in page.read_text()


def test_durations():
    assert [stories.duration(text) for text in ("90s", "45m", "1.5h")] == [90, 2700, 5400]
    for text in ("90", "h", "", "0m", "nanh", "2d"):
        with pytest.raises(argparse.ArgumentTypeError):
            stories.duration(text)


@pytest.mark.parametrize("budget", [600, 4800, 36000])
def test_sizes_grow_with_the_budget_and_fit_into_it(tmp_path, monkeypatch, budget):
    monkeypatch.chdir(tmp_path)
    own, rest = stories.parse(["--model", "smollm2", "--budget", f"{budget}s"])
    story = stories.Story(own, rest)
    speed = {"seconds_per_episode": 0.3, "sft_tokens_per_second": 400.0, "tokens_per_conversation": 450.0}
    story.state["chosen"]["speed"] = speed
    questions = story.remembered("evaluation", story.evaluation_size)
    assert set(questions) == {"held-out", "training"}
    assert 9 * sum(questions.values()) * 0.3 <= max(stories.EVALUATION * budget, 9 * 16 * 0.3)
    size = story.sft_size()
    seconds = size["per_task"] * size["epochs"] * 107 * 450 / 400
    assert seconds <= max(stories.SFT * budget, 107 * 450 / 400)
    assert size["per_task"] <= 70 and size["epochs"] <= 3
    story.state["phases"] = {"base": {"seconds": 0.08 * budget}, "sft": {"seconds": 0.35 * budget},
                             "after-sft": {"seconds": 0.08 * budget}}
    left = 0.97 * budget - story.seconds() - 0.08 * budget
    size, step = story.grpo_size(), 8 * 8 * (story.seconds_per_episode() + 450 / 400)
    assert size["steps"] % 4 == 0 and (size["steps"] * step <= left or size["steps"] == 4)


def test_loosely_right():
    letter, number = TASKS["snarks"].question(0, 1), TASKS["gcd"].question(0, 1)
    right, answer = letter.data["answer"], number.data["answer"]
    wrong = {"(A)": "(B)", "(B)": "(A)"}[right]
    assert episodes.loosely_right("snarks", letter, f"Well, {wrong} is sweet.\nSo the answer is {right}.")
    assert not episodes.loosely_right("snarks", letter, f"Well, {right} is sweet.\nSo the answer is {wrong}.")
    for text in (f"it is {answer}.", f"**{answer}**", f"gcd = {answer}", f"<<<{answer}>>>",
                 f"So \\boxed{{{answer}}}, which is clear", f"<answer>{answer}</answer> I hope"):
        assert episodes.loosely_right("gcd", number, text), text
    for text in ("", "```", f"{answer} and so on, I am sure", "the answer is x"):
        assert not episodes.loosely_right("gcd", number, text), text
