"""The commands: what they print, and that bad input ends in one clear line and exit code 2."""
import pytest
from conftest import start

import evaluate
import grpo
import r1ci
import runs
import sft
from evaluate import sheet, summary, wilson
from rollout import Episode, Turn
from tasks import TASKS


@pytest.mark.parametrize("script, arguments, words", [
    ("grpo.py", ["--model", "gpt5"], ["unknown model", "tiny"]),
    ("sft.py", ["--model", "nobody/nothing"], ["nobody/nothing", "local folder"]),
    ("evaluate.py", ["--model", "nobody/nothing"], ["nobody/nothing", "local folder"]),
    ("grpo.py", ["--model", "openai:gpt-4o"], ["no weights", "r1ci.py teach"]),
    ("r1ci.py", ["run", "--model", "gpt5"], ["unknown model", "tiny"]),
    ("grpo.py", ["--tasks", "chess"], ["chess", "r1ci.py tasks"]),
    ("sft.py", ["--levels", "9"], ["levels go from 1", "5"]),
    ("grpo.py", ["--samples", "0"], ["--samples", "from 1 to 1,024"]),
    ("grpo.py", ["--resume"], ["no run to resume"]),
    ("grpo.py", ["--out", "/proc/nowhere/run"], ["cannot write", "/proc/nowhere"]),
    ("grpo.py", ["--quantize", "nf4"], ["--lora-rank"]),
    ("evaluate.py", ["--run", "runs/none"], ["holds no policy"]),
    ("sft.py", ["--data", "none.jsonl"], ["cannot read none.jsonl"]),
    ("r1ci.py", ["tasks", "chess"], ["chess"]),
    ("r1ci.py", ["tasks", "game24", "--level", "7"], ["level", "5"]),
    ("r1ci.py", ["dance"], ["unknown command", "ask"]),
    ("r1ci.py", ["ask", "x", "--run", "none"], ["holds no policy"]),
])
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, script, arguments, words):
    monkeypatch.chdir(tmp_path)
    module = {"grpo.py": grpo, "sft.py": sft, "evaluate.py": evaluate, "r1ci.py": r1ci}[script]
    with pytest.raises(SystemExit) as stop:
        runs.command(lambda: module.main(arguments))
    error = capsys.readouterr().err
    lines = error.strip().splitlines()
    assert stop.value.code == 2 and all(word in lines[-1] for word in words), error
    assert lines[-1].count("error:") == 1
    assert not list(tmp_path.glob("runs/*/*/model"))


def test_a_folder_that_is_no_model(tmp_path):
    """The same in a process of its own: one line, no traceback."""
    (tmp_path / "stuff").mkdir()
    process = start("grpo", ["--model", "./stuff"], tmp_path / "log", folder=tmp_path)
    process.join(300)
    printed = (tmp_path / "log").read_text()
    assert process.exitcode == 2 and "config.json" in printed and len(printed.strip().splitlines()) == 1


def test_help_shows_the_defaults_of_the_model(capsys):
    texts = []
    for model in ([], ["--model", "3b"]):
        with pytest.raises(SystemExit) as stop:
            grpo.main([*model, "--help"])
        assert stop.value.code == 0
        texts.append(" ".join(capsys.readouterr().out.split()))
    tiny, large = texts
    assert "of the frozen base (default: none)" in tiny and "of the frozen base (default: nf4)" in large
    assert "--lr LR learning rate (default: 0.0005)" in tiny
    assert "--lr LR learning rate (default: 1e-05)" in large


def test_tasks_command(capsys):
    r1ci.main(["tasks", "tiny"])
    out = capsys.readouterr().out
    assert "letter_counting" in out and "8 tasks" in out
    r1ci.main(["tasks", "game24", "--seed", "3", "--level", "4"])
    out = capsys.readouterr().out
    assert TASKS["game24"].question(3, 4).prompt in out and "check of this output: right" in out


def test_wilson_intervals():
    low, high = wilson(50, 100)
    assert (round(low, 3), round(high, 3)) == (0.404, 0.596)  # textbook values
    assert wilson(0, 10)[0] == 0 and wilson(10, 10)[1] == pytest.approx(1) and wilson(0, 0) == (0, 1)


def test_summary_counts(tokenizer):
    code = Turn(0, 1, "", "print(1)", "1", "ok")
    bad = Turn(0, 1, "", "print(", "error", "error")
    end = Turn(1, 2, "")
    product, lies = TASKS["products"].question(0, 1), TASKS["web_of_lies"].question(0, 1)
    episodes = [Episode(product, [], [], [], [code, end], correct=True, stop="answer"),
                Episode(product, [], [], [], [bad, code, end], stop="void"),
                Episode(lies, [], [], [], [end], correct=True, stop="answer")]
    result = summary(episodes)
    assert result["accuracy"] == 2 / 3 and result["calls"] == 1.0 and result["code_errors"] == 1 / 3
    assert result["code_on_code_needed"] == 1.0 and result["code_on_text_solvable"] == 0.0
    assert result["stops"] == {"answer": 2, "void": 1, "length": 0, "calls": 0}
    single, several = sheet({"now": result}), sheet({"then": result, "now": result})
    assert "67%" in single and "products*" in single and "web_of_lies " in single
    assert several.count("67%") == 2 and "products *" in several
