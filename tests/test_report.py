"""The report: what it says about a run, that hostile text stays text, and (with a Chromium) that it works."""
import json
import re
import shutil
import subprocess
from urllib.parse import urlencode

import pytest

import runs
from batches import training_mask
from experiments import report
from runs import read_jsonl
from trajectories import encode

HOSTILE = ('</script><script>document.title = "owned"</script><img src=x onerror="document.title=1">'
           '<!-- \x00\x1b[31m \u202eright to left\u2066 \ud800 \u2028 {{data}} <<<5>>>')
CONFIG = {"model": "tiny", "algorithm": "grpo", "steps": 3, "sft_run": "runs/none", "mode": "interpreter",
          "style": "short", "answer_format": "angle"}
SUMMARY = {"questions": 20, "accuracy": 0.5, "low": 0.3, "high": 0.7, "code_on_code_needed": 0.4,
           "code_on_text_solvable": None, "code_errors": 0.1,
           "tasks": {"products": {"questions": 20, "accuracy": 0.5}}}


def conversation(*turns):
    roles = ["system", "user", *["assistant", "user"] * len(turns)]
    texts = ("Think.", "What is 2 + 3?", *turns)
    return [{"role": role, "content": text} for role, text in zip(roles, texts)]


def a_record(chat, step=0, *turns, **changes):
    """An episode as it is logged: turn, output, turn."""
    turns = turns or ("A program.\n```python\nprint(2 + 3)\n```", "5", "So \U0001f600 <<<5>>>")
    ids, mask = encode(chat, conversation(*turns))
    starts = [t for t in range(1, len(mask)) if mask[t] > mask[t - 1]]
    ends = [t for t in range(1, len(mask)) if mask[t] < mask[t - 1]] + [len(mask)]
    logged = [{"start": start, "end": end, "code": None, "output": output, "status": output and "ok",
               "text": chat.tokenizer.decode(ids[start:end], skip_special_tokens=True), "seconds": 0.0}
              for start, end, output in zip(starts, ends, (*turns[1::2], None))]
    return {"step": step, "advantage": 0.5, "task": "products", "seed": 0, "level": 1,
            "messages": conversation(*turns), "answer": "5", "correct": True, "reward": 1.0, "stop": "answer",
            "turns": logged, "ids": ids, "mask": mask, "logprobs": [-0.25 * m for m in mask], **changes}


@pytest.fixture
def run_folder(tmp_path):
    """Writes a run folder from records and returns it."""
    def make(records, metrics=3, config=CONFIG, results=True):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))
        lines = [{"step": i, "reward": 0.1 * i, "kl": float("nan"), "stop_answer": 1} for i in range(metrics)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "episodes.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        if results:
            (folder / "before-after.json").write_text(json.dumps({"before": SUMMARY, "after": SUMMARY}))
        return folder
    return make


def contents(html):
    """The data of a page."""
    return json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])


# ------------------------------------------------------------------------------------------------- the data
def test_pieces_put_together_are_the_text(tokenizer):
    pieces = report.Pieces(tokenizer)
    text = "print(12)  \U0001f600\U0001f601 <|im_end|>\n  caf\u00e9 \u6f22\u5b57"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert "".join(pieces(ids)) == text and len(pieces(ids)) == len(ids) and "" in pieces(ids)
    half = tokenizer("\U0001f600", add_special_tokens=False)["input_ids"][:2]
    assert len(pieces(half + ids)) == len(half + ids) and "".join(pieces(half + ids)).endswith("\u6f22\u5b57")
    assert pieces([10**6]) == ["\u27e81000000\u27e9"]


def test_parts_follow_the_mask(chat):
    record, pieces = a_record(chat), report.Pieces(chat.tokenizer)
    parts = report.parts_of_tokens(record, CONFIG, pieces)
    assert [part["own"] for part in parts] == [part["trained"] for part in parts] == [0, 1, 0, 1]
    lengths = [turn["end"] - turn["start"] for turn in record["turns"]]
    assert [part["tokens"] for part in parts if part["own"]] == lengths
    assert parts[2]["status"] == "ok" and "5" in parts[2]["text"]
    assert parts[1]["nats"] == [25] * parts[1]["tokens"]
    assert "".join("".join(p.get("pieces", [p.get("text")])) for p in parts) == pieces.decode(record["ids"])
    record["turns"][-1] |= {"output": "late", "status": "ok"}  # an output that was not read any more
    assert report.parts_of_tokens(record, CONFIG, pieces)[-1]["text"] == "late"


@pytest.mark.parametrize("changes, config", [
    ({}, {}), ({"stop": "length"}, {}), ({}, {"train_on_code_output": True})])
def test_trained_is_what_training_trains_on(chat, changes, config):
    record = a_record(chat, **changes)
    trained = training_mask(record["mask"], config.get("train_on_code_output", False))
    assert report.trained_tokens(record, config) == trained and 1 in trained
    assert not any(report.trained_tokens({**record, "advantage": 0.0}, config))
    assert not any(report.trained_tokens({**record, "mask": [0] * len(record["mask"])}, config))


def test_hostile_text_cannot_leave_its_script_element(chat, run_folder):
    html = report.html_of([run_folder([a_record(chat, task=HOSTILE, answer=HOSTILE)])])
    assert html.count("<script") == 2
    data = re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1]
    assert data.isascii() and "<" not in data and json.loads(data)["episodes"][0]["task"] == HOSTILE
    unsafe = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|https?://(?!www\.w3\.org/2000/svg)"
    assert not re.search(unsafe, html)


def test_curves_are_averaged_and_leave_out_what_is_no_number():
    found = report.curves([{"step": i, "reward": i, "kl": float("inf") if i % 3 else 0.5,
                            "entropy": float("nan"), "stop_answer": 0.75, "seconds_rollout": 3,
                            "seconds_sandbox": 1} for i in range(3 * report.POINTS)])
    assert found["every"] == 3 and len(found["reward"]) == len(found["step"]) == report.POINTS
    assert found["reward"][1] == 4 and found["step"][1] == 5
    assert found["kl"][1] == 0.5 and "entropy" not in found
    assert report.curves([{"step": 7, "loss": 2.0, "grad_norm": 1}]) == {
        "every": 1, "step": [7], "stage": [0], "loss": [2.0]}
    assert found["unanswered"][0] == 0.25 and found["sampling"][0] == 2 and found["sandbox"][0] == 1


def test_accuracies_before_and_after_or_of_an_evaluation(tmp_path):
    assert report.accuracies(tmp_path) == []
    (tmp_path / "eval.json").write_text(json.dumps(SUMMARY))
    single, = report.accuracies(tmp_path)
    assert single["name"] == "evaluation" and 0.2 < single["tasks"]["products"]["low"] < 0.5
    (tmp_path / "before-after.json").write_text(json.dumps({"after SFT": SUMMARY, "after PPO": SUMMARY}))
    assert [result["name"] for result in report.accuracies(tmp_path)] == ["after SFT", "after PPO"]


def test_a_page_stays_below_its_limit_and_shows_the_whole_run(chat, run_folder, monkeypatch):
    monkeypatch.setattr(report, "LIMIT", 100_000)
    folder = run_folder([a_record(chat, step) for step in range(400)])
    html = report.html_of([folder], episodes=300)
    data = contents(html)
    steps = [episode["step"] for episode in data["episodes"]]
    assert 70_000 < len(html.encode()) < 100_000 and data["runs"][0]["episodes"] == 400
    assert steps == sorted(set(steps)) and steps[0] < 20 and steps[-1] > 380
    assert max(b - a for a, b in zip(steps, steps[1:])) < 5 * 400 / len(steps)
    assert len({i % 8 for i in report.spread(list(range(800)), 100)}) == 8  # not always the same of 8 tasks


# ------------------------------------------------------------------------------------------- missing things
def test_a_run_that_has_just_begun_and_one_that_was_cut_short(chat, run_folder):
    data = contents(report.html_of([run_folder([], metrics=0, results=False)]))
    assert "no line yet" in str(data["runs"][0]["notes"])
    assert "before-after.json" in str(data["runs"][0]["notes"])
    folder = run_folder([a_record(chat, 0, task="a\u2028b"), {"step": 1}])
    with open(folder / "episodes.jsonl", "ab") as file:
        file.write(b'{"step": 2, "task": "caf\xc3')  # killed within a character
    (folder / "before-after.json").write_text('{"after": 3}')
    data = contents(report.html_of([folder]))
    notes = " ".join(data["runs"][0]["notes"])
    assert "1 broken line " in notes and "1 line left out" in notes
    assert "cannot be used as it is: before-after.json" in notes
    assert [episode["task"] for episode in data["episodes"]] == ["a\u2028b"]
    odd = json.dumps({"task": "a\u2028b\u0085"}, ensure_ascii=False)
    (folder / "episodes.jsonl").write_text(odd + "\n")
    assert read_jsonl(folder / "episodes.jsonl") == [{"task": "a\u2028b\u0085"}]


def test_without_its_tokenizer_turns_are_plain_text(chat, run_folder):
    record = a_record(chat)
    record["turns"][0]["text"] = "other"
    data = contents(report.html_of([run_folder([record])]))
    assert "not the one of these episodes" in str(data["runs"][0]["notes"])
    assert [p["own"] for p in data["episodes"][0]["parts"]] == [0, 0, 1, 0, 1]
    data = contents(report.html_of([run_folder([record], config={**CONFIG, "model": "nobody/nothing"})]))
    assert "no tokenizer" in str(data["runs"][0]["notes"]) and "pieces" not in data["episodes"][0]["parts"][2]


def test_sft_shows_its_conversations(tmp_path, chat, tokenizer):
    config = {key: CONFIG[key] for key in CONFIG if key != "algorithm"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    messages = conversation("```python\nprint(5)\n```", "5", "<<<5>>>")
    (tmp_path / "data.jsonl").write_text(json.dumps(
        {"task": "products", "kind": "code", "seed": 1, "level": 1, "messages": messages}))
    episode, = contents(report.html_of([tmp_path]))["episodes"]
    assert [part["trained"] for part in episode["parts"]] == [0, 1, 0, 1] and episode["calls"] == 1
    assert "pieces" in episode["parts"][1] and "pieces" not in episode["parts"][0]


@pytest.mark.parametrize("arguments, words", [
    (["none"], ["none", "run folder", "runs/tiny/grpo"]), (["."], ["no run folder", "run"]),
    (["run", "--out", "no/such/page.html"], ["cannot write", "no/such/page.html"]),
    (["run", "--episodes", "0"], ["--episodes"]), (["broken"], ["config.json", "not JSON"])])
def test_bad_input_is_one_line(run_folder, chat, monkeypatch, tmp_path, capsys, arguments, words):
    run_folder([a_record(chat)])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        runs.command(lambda: report.main(arguments))
    lines = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and all(word in lines[-1] for word in words) and "error:" in lines[-1]


def test_the_command_writes_one_page_of_several_runs(chat, run_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_folder([a_record(chat)])
    assert report.main(["run", "run"]) == report.main(["run", "run", "--out", "run/report.html"])
    data = contents((tmp_path / "run/report.html").read_text())
    assert [run["name"] for run in data["runs"]] == ["run", "run"] and len(data["episodes"]) == 2
    assert "Written: run/report.html" in capsys.readouterr().out


# -------------------------------------------------------------------------------------------- in a browser
@pytest.fixture
def browse(tmp_path):
    """Opens a page in a headless Chromium: (document after its script has run, messages of its console)."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")

    def browse(folder, **fragment):
        result = subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu",
             f"--user-data-dir={tmp_path / 'browser'}",
             "--enable-logging=stderr", "--v=0", "--virtual-time-budget=3000", "--dump-dom",
             f"file://{folder}/report.html#{urlencode(fragment)}"],
            capture_output=True, timeout=100, check=True)
        dom = result.stdout.decode("utf-8", "replace")
        messages = result.stderr.decode().splitlines()
        return dom[dom.index('id="episodes"'):], [line for line in messages if "CONSOLE" in line]
    return browse


def test_hostile_output_is_shown_as_text(chat, run_folder, browse):
    folder = run_folder([a_record(chat, 0, HOSTILE.replace("\ud800", ""), answer=HOSTILE, task=HOSTILE)])
    report.write_report([folder], folder / "report.html")
    dom, console = browse(folder)
    assert not console and "owned" in dom
    assert "<img" not in dom and "<script" not in dom and "&lt;/script&gt;" in dom
    assert all(shown in dom for shown in ("\u2039U+202E\u203a", "\u2400\u241b", "\u2039U+D800\u203a"))
    assert "\u202e" not in dom


def test_five_thousand_episodes_with_filters_and_pages(chat, run_folder, browse):
    record = a_record(chat)
    folder = run_folder([{**record, "step": i, "task": f"task{i % 50}", "correct": i % 100 < 50}
                         for i in range(5000)])
    report.write_report([folder], folder / "report.html", episodes=5000)
    assert len(contents((folder / "report.html").read_text())["episodes"]) == 5000
    dom, console = browse(folder, task="task7", right="right", page=2)
    assert not console and "50 of 5000 episodes" in dom and "page 2 of 3" in dom
    steps = [int(step) for step in re.findall(r"step (\d+)", dom)]
    assert steps == [7 + 100 * i for i in range(20, 40)]
    assert dom.count('class="turn') == 4 and len(dom) < 100_000  # only what is open is in the document
    dom, _ = browse(folder, task="task7", right="wrong", color="logprob", page=99)
    assert "page 3 of 3" in dom and "step 4957" in dom and "p = 0.78" in dom
    assert re.search(r"--c: ?var\(--rare\); ?--a: ?0.08", dom)
