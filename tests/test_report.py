"""The report: what it says about a run, that hostile text stays text, and (with a Chromium) that it works."""
import json
import re
import shutil
import subprocess
from urllib.parse import urlencode

import pytest

import runs
from batches import training_mask
from experiments import episodes, report, tokens
from runs import read_jsonl
from tools import picture
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


def a_line(number, correct, program, text="Hello."):
    """A line of before.jsonl or after.jsonl."""
    turns = [{"text": "```python\nprint(7)\n```", "output": "7", "status": "ok", "code": "x"}] * program
    return {"number": number, "task": f"task{number % 3}", "level": 1, "correct": correct, "answer": "7",
            "stop": "answer", "turns": [*turns, {"text": text, "output": None, "status": None}]}


def ask(folder, before, after=()):
    """Put held-out questions beside a run."""
    for name, lines in (("before", before), ("after", after)):
        if lines:
            head = {"settings": {"steps": 0, "questions": [f"Question {i}?" for i in range(len(lines))]}}
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in (head, *lines)))


def contents(html):
    """The data of a page."""
    return json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])


# ------------------------------------------------------------------------------------------------- the data
def test_pieces_put_together_are_the_text(tokenizer):
    pieces = tokens.Pieces(tokenizer)
    text = "print(12)  \U0001f600\U0001f601 <|im_end|>\n  caf\u00e9 \u6f22\u5b57"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert "".join(pieces(ids)) == text and len(pieces(ids)) == len(ids) and "" in pieces(ids)
    half = tokenizer("\U0001f600", add_special_tokens=False)["input_ids"][:2]
    assert len(pieces(half + ids)) == len(half + ids) and "".join(pieces(half + ids)).endswith("\u6f22\u5b57")
    assert pieces([10**6]) == ["\u27e81000000\u27e9"]


def test_parts_follow_the_mask(chat):
    record, pieces = a_record(chat), tokens.Pieces(chat.tokenizer)
    parts = tokens.parts_of_tokens(record, CONFIG, pieces)
    assert [part["own"] for part in parts] == [part["trained"] for part in parts] == [0, 1, 0, 1]
    lengths = [turn["end"] - turn["start"] for turn in record["turns"]]
    assert [part["tokens"] for part in parts if part["own"]] == lengths
    assert parts[0]["text"] == "What is 2 + 3?" and "Think." in parts[0]["frame"][0]
    assert parts[2]["status"] == "ok" and parts[2]["text"] == "5" and parts[2]["frame"][1]
    assert parts[1]["nats"] == [25] * parts[1]["tokens"]
    whole = [p.get("pieces") or [p["frame"][0], p["text"], p["frame"][1]] for p in parts]
    assert "".join(text for texts in whole for text in texts) == pieces.decode(record["ids"])
    record["turns"][-1] |= {"output": "late", "status": "ok"}  # an output that was not read any more
    assert tokens.parts_of_tokens(record, CONFIG, pieces)[-1]["text"] == "late"


@pytest.mark.parametrize("changes, config", [
    ({}, {}), ({"stop": "length"}, {}), ({}, {"train_on_code_output": True})])
def test_trained_is_what_training_trains_on(chat, changes, config):
    record = a_record(chat, **changes)
    trained = training_mask(record["mask"], config.get("train_on_code_output", False))
    assert tokens.trained_tokens(record, config) == trained and 1 in trained
    assert not any(tokens.trained_tokens({**record, "advantage": 0.0}, config))
    assert not any(tokens.trained_tokens({**record, "mask": [0] * len(record["mask"])}, config))


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


def test_the_most_telling_question_comes_first(chat, run_folder):
    folder = run_folder([a_record(chat)])
    before = [a_line(0, False, 1), a_line(1, True, 0), *(a_line(i, False, 0) for i in range(2, 6))]
    after = [a_line(0, True, 1), a_line(1, False, 0), a_line(2, True, 0), a_line(3, False, 1),
             a_line(4, True, 1), a_line(5, True, 1, "x" * 5000)]
    ask(folder, before, [*after, a_line(2, True, 1)])  # a number that comes twice: the later one counts
    found = contents(report.html_of([folder]))["runs"][0]["pairs"]
    assert {kind: found[kind]["count"] for kind in found} == {"made right": 4, "still wrong": 1, "lost": 1}
    shown = found["made right"]["shown"]
    assert [pair["question"][9] for pair in shown] == ["2", "4", "5", "0"]  # words first, then a program
    outcomes = [side["outcome"] for side in shown[0]["sides"]]
    assert outcomes == ["wrong, in words", "right, with a program that ran"]
    assert len(shown[2]["sides"][1]["turns"][1]["text"]) < 1300
    ask(folder, before)
    (folder / "after.jsonl").unlink()
    (folder / "before-after.json").write_text(json.dumps({"before": SUMMARY}))  # it is training
    found = contents(report.html_of([folder]))["runs"][0]["pairs"]
    assert {kind: found[kind]["count"] for kind in found} == {"wrong so far": 5, "right so far": 1}
    (folder / "before.jsonl").write_text('{"number": 1}\n')
    data = contents(report.html_of([folder]))["runs"][0]
    assert data["pairs"] == {} and "before.jsonl" in str(data["notes"])


def test_of_many_held_out_questions_some_are_shown(monkeypatch):
    lines = [a_line(i, i % 2, 1, "x" * 900) for i in range(4000)]
    head = {"settings": {"questions": ["?" * 300] * 4000}}
    found = episodes.pairs([head, *lines], [head, *lines], 250_000)
    assert {name: one["count"] for name, one in found.items()} == {"still wrong": 2000,
                                                                   "right both times": 2000}
    assert all(50 < len(one["shown"]) < 200 for one in found.values())
    assert len(report.embedded(found)) < 510_000
    assert {pair["task"] for pair in found["still wrong"]["shown"][:3]} == {"task0", "task1", "task2"}


def test_a_page_of_many_runs_stays_below_its_limit(chat, run_folder, monkeypatch):
    monkeypatch.setattr(report, "LIMIT", 20_000)
    monkeypatch.setattr(report, "PAIRS", 8_000)
    folder = run_folder([a_record(chat, step) for step in range(20)])
    ask(folder, [a_line(i, False, 0, "\u6f22" * 100) for i in range(50)],
        [a_line(i, True, 1) for i in range(50)])
    found = contents(report.html_of([folder] * 6))
    assert all(1 <= len(run["pairs"]["made right"]["shown"]) < 5 for run in found["runs"])
    assert found["episodes"] == []  # there is no room for them


def test_groups_stay_whole_where_episodes_are_left_out(chat, run_folder):
    record = a_record(chat)
    folder = run_folder([{**record, "step": step, "seed": i} for step in range(50) for i in range(4)])
    shown = contents(report.html_of([folder], episodes=100))["episodes"]
    steps = [episode["step"] for episode in shown]
    assert len(steps) == 100 and all(steps.count(step) == 4 for step in steps)


def test_how_far_a_run_is():
    config = {"algorithm": "grpo", "steps": 60, "eval_questions": 4}
    metrics = [{"seconds_rollout": 1.0, "seconds_training": 0.5, "seconds_sandbox": 0.7}] * 40
    found = report.progress(config, metrics, [SUMMARY])
    assert found == {"steps": 40, "of": 60, "over": False, "seconds": 30}
    assert not report.progress(config, metrics + metrics[:20], [SUMMARY])["over"]  # it is measured now
    assert report.progress(config, metrics + metrics[:20], [SUMMARY] * 2)["over"]
    assert report.progress({**config, "eval_questions": 0}, metrics + metrics[:20], [])["over"]
    assert report.progress({"steps": 2}, [{"seconds": 3.0}], [])["seconds"] == 3  # SFT
    assert not report.progress(config, [], [])["over"] and report.progress({}, metrics, [])["of"] == 0


def test_watching_ends_with_the_run(chat, run_folder, monkeypatch, capsys):
    folder = run_folder([a_record(chat)], metrics=2, config={**CONFIG, "eval_questions": 20})
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 2:  # a checkpoint
            (folder / "trainer.pt").write_text("")
        if len(waited) == 4:  # the last step, and the results
            with open(folder / "metrics.jsonl", "a") as file:
                file.write('{"step": 2, "reward": 1}\n')
            (folder / "before-after.json").write_text(json.dumps({"before": SUMMARY, "after": SUMMARY}))

    monkeypatch.setattr(report.time, "sleep", sleep)
    report.main([str(folder), "--watch"])
    assert capsys.readouterr().out.count("Written") == 3 and len(waited) == 4
    assert contents((folder / "report.html").read_text())["runs"][0]["progress"]["over"]


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
def chromium(tmp_path):
    """Opens an address in a headless Chromium: (document after its script has run, console)."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")

    def open_(address, *flags):
        result = subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
             f"--user-data-dir={tmp_path / 'browser'}", "--enable-logging=stderr", "--v=0",
             "--virtual-time-budget=3000", "--dump-dom", *flags, address],
            capture_output=True, timeout=100, check=True)
        return (result.stdout.decode("utf-8", "replace"),
                [line for line in result.stderr.decode().splitlines() if "CONSOLE" in line])
    return open_


@pytest.fixture
def browse(chromium):
    """Opens a run's page: (its episodes, or with story=True what stands before them; console)."""
    def browse(folder, story=False, **fragment):
        dom, console = chromium(f"file://{folder}/report.html#{urlencode(fragment)}")
        start = dom.index('id="episodes"')  # what comes before tells the story
        return dom[dom.rindex("</script>", 0, start):start] if story else dom[start:], console
    return browse


def test_the_story_comes_before_the_curves(chat, run_folder, browse):
    record = a_record(chat)
    wrong = a_record(chat, 0, "I guess <<<6>>>", correct=False, reward=0.0, answer="6", advantage=-0.5)
    folder = run_folder([record, wrong, {**record, "step": 1}, {**record, "step": 1, "advantage": 0.0}])
    ask(folder, [a_line(0, False, 0, HOSTILE), a_line(1, False, 0), a_line(2, True, 1)],
        [a_line(0, True, 1), a_line(1, False, 1), a_line(2, True, 1)])
    report.write_report([folder], folder / "report.html")
    dom, console = browse(folder, story=True)
    places = [dom.index(f'id="{name}"') for name in ("pairs0", "tasks0", "groups", "curves")]
    assert not console and places == sorted(places) and "3 steps" in dom
    assert "<img" not in dom and "&lt;/script&gt;" in dom and "\u2039U+202E\u203a" in dom
    assert "Question 0?" in dom
    assert "made right: 1" in dom and "still wrong: 1" in dom and "right both times: 1" in dom
    assert "1 of 2 answers are right; the mean reward is 0.5" in dom and "1 above the mean" in dom
    assert "100% of the rewarded answers use a program, 0% of the others" in dom
    dom, console = browse(folder, story=True, kind0="still wrong", pair0=9, group=9)
    assert not console and "Question 1?" in dom and "Question 0?" not in dom


@pytest.mark.parametrize("width", [360, 1180])
def test_nothing_sticks_out(chat, run_folder, chromium, tmp_path, width):
    """On a phone the two sides stand one below the other; on a desk, beside each other."""
    record, long = a_record(chat), "x" * 300
    folder = run_folder([record, {**record, "advantage": -0.5, "correct": False, "answer": long}])
    ask(folder, [a_line(0, False, 0, long)], [a_line(0, True, 1)])
    report.write_report([folder], folder / "report.html")
    (tmp_path / "frame.html").write_text(f"""<iframe src="run/report.html" width="{width}"></iframe><script>
onload = () => setTimeout(() => {{
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  const [left, right] = [...page.querySelector(".two").children].map(e => e.getBoundingClientRect());
  document.title = `${{root.scrollWidth <= root.clientWidth ? "fits" : "sticks out"}}, ${{
    left.right <= right.left ? "beside" : left.bottom <= right.top ? "below" : "over"}}`;
}}, 300)</script>""")
    dom, console = chromium(f"file://{tmp_path}/frame.html", "--allow-file-access-from-files")
    title = re.search("<title>(.*?)</title>", dom)[1]
    assert not console and title == ("fits, below" if width == 360 else "fits, beside")


def test_a_page_of_a_run_of_before(chat, run_folder, browse):
    """Four episodes of different questions a step, and no conversations of the evaluations."""
    record = a_record(chat)
    folder = run_folder([{**record, "step": i // 4, "seed": i} for i in range(12)])
    report.write_report([folder], folder / "report.html")
    dom, console = browse(folder, story=True)
    assert not console and 'id="pairs0"' not in dom and 'id="groups"' not in dom and 'id="tasks0"' in dom
    dom, console = browse(folder, step=1, special=1)
    assert not console and "4 of 12 episodes" in dom and 'class="shown"' in dom and "im_start" in dom


@pytest.mark.parametrize("dark", [False, True])
def test_a_picture_of_a_page(tmp_path, chromium, dark):
    (tmp_path / "page.html").write_text("<style>:root { color-scheme: light dark }</style>")
    picture.picture(tmp_path / "page.html", tmp_path / "page.png", 64, 64, dark)
    data = (tmp_path / "page.png").read_bytes()
    assert data[:4] == b"\x89PNG" and [int.from_bytes(data[i:i + 4], "big") for i in (16, 20)] == [64, 64]


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
    assert steps == [4907 - 100 * i for i in range(20, 40)]  # newest first
    assert dom.count('class="turn') == 4 and len(dom) < 100_000  # only what is open is in the document
    dom, _ = browse(folder, task="task7", right="wrong", color="logprob", page=99)
    assert "page 3 of 3" in dom and "step 57" in dom and "p = 0.78" in dom
    assert re.search(r"--c: ?var\(--rare\); ?--a: ?0.08", dom)
