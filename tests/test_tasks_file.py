"""Own questions from a JSONL file."""
import json
from pathlib import Path

import pytest
from test_pipeline import ok

import evaluate
import sft
from runs import UserError
from task_families.own_file import read_conversations
from tasks import draw, held_out, select
from tools import audit
from trajectories import make

LINES = [{"question": f"What is {i} plus {i}?", "answer": 2 * i, "match": "number"} for i in range(40)]


def write(path, lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return str(path)


def test_matches_and_options(tmp_path):
    name = write(tmp_path / "mine.jsonl", [
        {"question": "Which is a fruit?", "options": ["stone", "plum"], "answer": "plum",
         "task": "mine_choice"},
        {"question": "Who?", "answer": "Ann Lee", "task": "mine_words"}, "",
        {"question": "How much?", "answer": "0.5", "match": "number", "task": "mine_number"},
        {"question": "Which?", "answer": ["a", "b"], "match": "list", "task": "mine_list"}])
    tasks = {task.name: task for task in select(name)}
    assert list(tasks) == ["mine_choice", "mine_words", "mine_number", "mine_list"]
    cases = {"mine_choice": (["B", "(b)", "(B) plum"], ["A", "plum stone"]),
             "mine_words": (["ann  lee."], ["Ann"]),
             "mine_number": (["1/2", ".5", "x = 0.50"], ["0.6", "half"]),
             "mine_list": (["[a, b]", "a b"], ["b, a"])}
    for name, (right, wrong) in cases.items():
        question = tasks[name].question(7)
        assert all(tasks[name].check(question, answer) for answer in right)
        assert not any(tasks[name].check(question, answer)
                       for answer in [*wrong, "", "9" * 10**5, "(" * 3000])
    assert tasks["mine_choice"].question(0).prompt.endswith("(A) stone\n(B) plum")


@pytest.mark.parametrize("line, words", [
    ("{", "not JSON"), ("[1]", "object is needed"), ({"question": "x"}, '"answer"'),
    ({"question": "", "answer": 1}, "empty"), ({"question": "x", "answer": True}, "answer"),
    ({"question": "x", "answer": "y", "match": "regex"}, "regex"),
    ({"question": "x", "answer": "y", "match": "number"}, "number"),
    ({"question": "x", "answer": "z", "options": ["a", "b"]}, "none of the options"),
    ({"question": "x", "answer": "a", "options": ["a"]}, "2 to 26"),
    ({"question": "x", "answer": "a", "task": "game24"}, "built-in"),
    ({"question": "x", "answer": "a", "task": "lines", "match": "exact"}, "matched by")])
def test_a_malformed_line_is_named(tmp_path, line, words):
    good = {"question": "x", "answer": "1", "match": "number", "task": "lines"}
    with pytest.raises(UserError, match="line 2") as error:
        select(write(tmp_path / "bad.jsonl", [good, line]))
    assert words in str(error.value) and "bad.jsonl" in str(error.value)


def test_files_as_they_are_found(tmp_path):
    """GSM8K, a BOM, U+2028 and U+0085 inside a text, other columns, the name of a built-in task."""
    solution = "She has 3 - 1 = <<3-1=2>>2.\\n#### 2"
    lines = [f'{{"question": "Ann has 3 plums \u2028 and eats one\u0085?", "answer": "{solution}", "id": 7}}',
             '{"question": "How many?", "answer": "#### 1,200"}',
             '{"question": "How many?", "answer": "#### 1,200", "comment": "again"}']
    path = tmp_path / "products.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode("utf-8"))
    task, = select(str(path))
    assert task.name == "products_file" and len(task.pool) == 2 and not task.text_solvable
    first, second = task.pool
    assert "\u2028" in first.prompt and task.check(first, "2") and not task.check(first, "3")
    assert task.check(second, "1200") and task.check(second, "1,200") and not task.check(second, "1")
    assert task.reasoning(first) == "She has 3 - 1 = 2.\n<<<2>>>" and task.reasoning(second) is None


def test_solutions_in_a_file_are_learned_from(tmp_path, chat, box):
    lines = [{"question": f"What is {i} + {i}?", "answer": f"{i} + {i} = {2 * i}.\n#### {2 * i}"}
             for i in range(9)]
    questions = draw(select(write(tmp_path / "gsm.jsonl", lines)), "sft", 4)
    for record in make(questions, chat, box):
        assert record["kind"] == "reason" and " + " in record["messages"][-1]["content"]


def hub(turns, keys=("role", "content"), name="messages", **more):
    return {name: [dict(zip(keys, turn)) for turn in turns], **more}


def test_conversations_as_they_are_found(tmp_path):
    asked = [("user", "2 + 2?"), ("assistant", "<<<4>>>")]
    share = [("human", "2 + 2?"), ("gpt", "<<<4>>>")]
    lines = [hub(asked), hub([("system", "Be brief."), *asked], id=3),
             hub(share, ("from", "value"), "conversations"),
             hub([("system", "Be brief."), *share, *share], ("from", "value"), "conversations", source="x")]
    found = read_conversations(Path(write(tmp_path / "mine.jsonl",
                                          ["\ufeff" + json.dumps(lines[0]), *lines[1:]])),
                               "ours")
    assert [[(m["role"], m["content"]) for m in one["messages"]] for one in found] == [
        [("system", "ours"), *asked], [("system", "Be brief."), *asked], [("system", "ours"), *asked],
        [("system", "Be brief."), *asked, *asked]]


def test_sft_learns_from_such_a_file_and_says_what_it_leaves_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = [("user", "2 + 2?"), ("assistant", "<<<4>>>")]
    write(tmp_path / "mine.jsonl", [hub(asked), hub([asked[0], ("assistant", "word " * 900)]), hub(asked)])
    assert sft.main(["--data", "mine.jsonl", "--steps", "1", "--batch", "2", "--out", "run"])
    printed = capsys.readouterr().out
    assert "1 of 3 conversations" in printed and "SFT: 2 conversations" in printed


def test_missing_and_empty_files(tmp_path):
    for name, words in (("none.jsonl", "cannot read"), ("empty.jsonl", "no questions")):
        if "empty" in name:
            (tmp_path / name).write_text("\n")
        with pytest.raises(UserError, match=words):
            select(str(tmp_path / name))


def test_a_quarter_is_kept_out_of_training(tmp_path):
    tasks = select(write(tmp_path / "sums.jsonl", LINES))
    train, held = ({q.prompt for q in draw(tasks, purpose, 200)} for purpose in ("rl", "eval"))
    assert len(train) + len(held) == 40 and not train & held and len(held) > 3
    small = select(write(tmp_path / "one.jsonl", [next(line for line in LINES if not held_out(
        tasks[0].pool[LINES.index(line)]))]))
    with pytest.raises(UserError, match="too small"):
        draw(small, "eval", 1)


def test_a_file_has_no_programs_to_audit(tmp_path):
    with pytest.raises(UserError, match="only tasks with programs"):
        audit.main(selection=write(tmp_path / "sums.jsonl", LINES))


def test_the_commands_take_a_file(tmp_path, monkeypatch):
    write(tmp_path / "sums.jsonl", LINES)
    common = ["--tasks", "sums.jsonl"]
    ok("sft.py", *common, "--steps", 2, "--per-task", 30, "--batch", 8, cwd=tmp_path)
    ok("grpo.py", *common, "--steps", 1, "--questions", 2, "--samples", 2, "--eval-questions", 4,
       cwd=tmp_path)
    assert "questions                                         40" in ok("evaluate.py", *common, cwd=tmp_path)
    write(tmp_path / "sums.jsonl", [*LINES, "oops"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="line 41"):
        evaluate.main(common)
