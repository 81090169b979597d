"""Models behind a server: a real server process, which speaks the protocol, sometimes wrongly."""
import json
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import one_kind

import r1ci
import runs
import sft
from chat import RESULTS, Chat
from experiments import server, teacher
from experiments.teacher import teach_command
from rollout import Episode, Limits, Turn
from runs import UserError, read_jsonl
from tasks import TASKS, draw, select

KNOWN = {q.prompt: q for purpose in ("eval", "sft") for q in draw(select("tiny"), purpose, 64, (1,))}


def solve(body):
    """A model that writes the right program, then invents its output; in words it is right half the time."""
    head, question = (message["content"] for message in body["messages"][:2])
    last, question = body["messages"][-1]["content"], KNOWN[question]
    if last.startswith(RESULTS):
        return f"So it is. <<<{last.removeprefix(RESULTS)}>>>"
    if head == Chat(None, "text", "full").head:
        return f"<<<{question.data['answer'] if len(question.prompt) % 2 else 'no idea'}>>>"
    return f"I compute.\n```python\n{question.data['program']}\n```\nIt prints 5. <<<wrong>>>"


@pytest.fixture
def api():
    """A server with .faults (taken one by one before answering), .bodies (of requests), .answer and .url."""
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with http.lock:
                fault = http.faults.pop(0) if http.faults else None
                http.bodies.append({**body, "key": self.headers.get("Authorization"), "path": self.path,
                                    "time": time.monotonic(), "fault": fault})
            data, status, headers = b"", 200, {}
            if fault == "cut":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"choices": [')
                self.close_connection = True
                return
            if fault == "hang":
                time.sleep(0.5)
            elif fault == "broken":
                data = b'{"choices": [{"mess'
            elif fault:
                status, said, headers = fault
                data = json.dumps({"error": {"message": said}}).encode()
            else:
                text = http.answer(body)
                data = json.dumps({"choices": [{"message": {"role": "assistant", "content": text},
                                                "finish_reason": http.finish}],
                                   "usage": {"prompt_tokens": 100, "completion_tokens": 20}}).encode()
            try:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:  # the client gave up waiting
                pass

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.lock, http.faults, http.bodies, http.answer, http.finish = threading.Lock(), [], [], solve, "stop"
    http.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def refused(main, argv, capsys):
    """The one line in which a command ends."""
    with pytest.raises(SystemExit) as stop:
        runs.command(lambda: main([str(word) for word in argv]))
    error = capsys.readouterr().err
    last = error.strip().splitlines()[-1]
    assert stop.value.code == 2 and last.startswith("error: ") and "Traceback" not in error
    return last


def engine_of(api, box, **options):
    return server.Engine("openai:fake", box, Limits(50, 1000, 3, 300), base_url=api.url, **options)


def test_episodes_follow_the_protocol(api, quick, box):
    questions = draw(select("tiny"), "eval", 12, (1,))
    ended = []
    episodes = engine_of(api, box, key="secret").run(questions, 2, on_end=ended.append, seed=3)
    assert [e.number for e in episodes] == list(range(24)) and len(ended) == 24
    assert [e.question for e in episodes] == [q for q in questions for _ in range(2)]
    for episode in episodes:
        first, last = episode.turns
        assert episode.correct and episode.stop == "answer" and first.status == "ok" and last.status is None
        assert first.text.endswith("```") and "wrong" not in first.text and first.code.strip() in first.text
        assert (first.start, first.end, last.start, last.end) == (100, 120, 100, 120)
    assert len(api.bodies) == 48
    for body in api.bodies:
        assert body["key"] == "Bearer secret" and body["path"] == "/v1/chat/completions"
        assert body["model"] == "fake"
        assert body["max_tokens"] == 50 and body["temperature"] == 1.0 and "top_p" not in body
        assert body["messages"][0] == Chat().messages("x")[0]
    assert len({body["seed"] for body in api.bodies}) == 48  # every sample and turn has its own
    assert Counter(len(body["messages"]) for body in api.bodies) == {2: 24, 4: 24}
    long = next(body["messages"] for body in api.bodies if len(body["messages"]) == 4)
    assert [m["role"] for m in long] == ["system", "user", "assistant", "user"]
    assert long[3]["content"].startswith(RESULTS)


def test_every_way_of_stopping(api, quick, box):
    question, = draw(select("products"), "eval", 1, (1,))
    program = "```python\nprint(1)\n```"

    def stops(answer, finish="stop", mode="interpreter", **limits):
        api.answer, api.finish, api.bodies = lambda body: answer, finish, []
        engine = engine_of(api, box)
        engine.chat, engine.limits = Chat(None, mode), replace(engine.limits, **limits)
        episode, = engine.run([question])
        return episode.stop, episode.calls, len(api.bodies)

    assert stops("I do not know") == ("void", 0, 1)
    assert stops("") == ("void", 0, 1)
    assert stops("<<<5>>>") == ("answer", 0, 1)
    assert stops(program) == ("calls", 3, 4)  # a fourth program is one too many
    assert stops(program, episode_tokens=120) == ("length", 1, 1)  # no room for a second turn
    assert stops("<<<5", "length") == stops("<<<5>>> and", "length") == ("length", 0, 1)
    assert stops(program + "\n<<<5>>>", mode="text") == ("answer", 0, 1)


@pytest.mark.parametrize("fault", [
    (429, "slow down", {"Retry-After": "0.2"}), (500, "oops", {}), (503, "busy", {}), (529, "overloaded", {}),
    "broken", "cut", "hang"])
def test_what_may_pass_is_tried_again(api, quick, box, fault):
    questions = draw(select("products"), "eval", 3, (1,))
    api.faults = [None, fault]
    episodes = engine_of(api, box, concurrency=1, timeout=0.25).run(questions)
    assert all(e.correct for e in episodes) and len(api.bodies) == 7
    failed, again = api.bodies[1:3]
    assert failed["fault"] == fault
    assert failed["messages"] == again["messages"] and failed["seed"] == again["seed"]
    if fault[0] == 429:
        assert again["time"] - failed["time"] > 0.19


def test_waits_grow(api, quick, box, monkeypatch):
    monkeypatch.setattr(server, "TRIES", 5)
    api.faults = [(500, "oops", {})] * 99
    with pytest.raises(UserError, match="5 times in a row.*500 oops"):
        engine_of(api, box).run(draw(select("products"), "eval", 1, (1,)))
    times = [body["time"] for body in api.bodies]
    waits = [b - a for a, b in zip(times, times[1:])]
    assert len(times) == 5 and all(wait >= 0.0075 * 2 ** i for i, wait in enumerate(waits))


@pytest.mark.parametrize("faults, words", [
    ([(401, "bad key", {})], ["key", "OPENAI_API_KEY"]),
    ([(404, "no such model", {})], ["fake", "no such model"]),
    ([(400, "temperature must be 1", {})], ["400", "temperature must be 1"]),
    ([(302, "moved", {"Location": "/v1/elsewhere"})], ["302", "moved"]),  # the key would go there, too
    ([(429, "insufficient_quota", {})], ["insufficient_quota"]),
    (["broken"] * 2, ["twice in a row", "--base-url"])])
def test_what_will_not_pass_is_one_line(api, quick, tmp_path, monkeypatch, capsys, faults, words):
    monkeypatch.chdir(tmp_path)
    api.faults = list(faults)
    flags = ["--model", "openai:fake", "--base-url", api.url, "--tasks", "tiny", "--questions", 4,
             "--concurrency", 1]
    last = refused(server.evaluate_command, flags, capsys)
    assert all(word in last for word in words), last
    assert len(api.bodies) == len(faults)  # nothing is tried that cannot help


@pytest.mark.parametrize("flags, words", [
    ([], ["OPENAI_API_KEY"]), (["--base-url", "http://127.0.0.1:9/v1"], ["cannot reach", "127.0.0.1:9"]),
    (["--base-url", "localhost:8000"], ["http://HOST:PORT/v1"])])
def test_no_key_and_no_server(quick, tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    command = ["--model", "openai:fake", "--tasks", "tiny", "--questions", "4", *flags]
    last = refused(server.evaluate_command, command, capsys)
    assert all(word in last for word in words), last


def test_a_parameter_by_its_new_name(api, quick, box):
    api.faults = [(400, "use 'max_completion_tokens' instead of 'max_tokens'", {})]
    episode, = engine_of(api, box).run(draw(select("products"), "eval", 1, (1,)))
    names = [("max_completion_tokens" in body, "max_tokens" in body) for body in api.bodies]
    assert episode.correct and names == [(False, True), (True, False), (True, False)]


def test_a_stopped_evaluation_goes_on(api, quick, tmp_path, monkeypatch, capsys):
    """An error for good in the middle: what is done is kept, and the same command asks only for the rest."""
    monkeypatch.chdir(tmp_path)
    flags = ["--model", "openai:fake", "--base-url", api.url, "--tasks", "tiny", "--levels", "1",
             "--questions", "16", "--concurrency", "2", "--samples", "2", "--price-in", "2", "--price-out",
             "10"]
    api.faults = [None] * 30 + [(401, "bad key", {})]
    refused(server.evaluate_command, flags, capsys)
    kept = len(read_jsonl(tmp_path / "runs/openai--fake/base/eval.episodes.jsonl")) - 1
    assert 12 <= kept <= 16
    asked = len(api.bodies)
    result = server.evaluate_command(flags)
    assert result["accuracy"] == 1.0 and len(api.bodies) - asked == 2 * (32 - kept)
    assert result["tokens_read"] == 6400 and result["tokens_written"] == 1280
    assert result["dollars"] == pytest.approx((6400 * 2 + 1280 * 10) / 1e6)
    assert "$0.0256" in capsys.readouterr().out
    kept = json.loads((tmp_path / "runs/openai--fake/base/eval.json").read_text())
    assert result == {**kept, **{name: result[name] for name in ("tokens_read", "tokens_written", "dollars")}}
    whole = server.evaluate_command([*flags, "--out", "whole.json"])
    assert whole["each"] == result["each"] and whole["low"] == result["low"]
    text = server.evaluate_command([*flags, "--mode", "text", "--against", "whole.json"])
    assert text["calls"] == 0 and 0 < text["accuracy"] < 1 and text["against"]["better"] == 0
    assert text["against"]["difference"] == pytest.approx(text["accuracy"] - 1)
    assert text["tasks_low"] <= text["low"] < text["accuracy"] < text["high"] <= text["tasks_high"]


def test_a_teacher_behind_a_server(api, quick, tmp_path, monkeypatch, capsys):
    """Only right conversations are kept, with the student's prompt; nothing is asked twice."""
    monkeypatch.chdir(tmp_path)
    flags = ["--teacher", "openai:fake", "--base-url", api.url, "--per-task", "4", "--tasks",
             "products,count_bits", "--concurrency", "1", "--rounds", "3", "--out", "data.jsonl"]
    api.faults = [None] * 6 + [(401, "bad key", {})]
    assert "OPENAI_API_KEY" in refused(teach_command, flags, capsys) and len(api.bodies) == 7
    assert not (tmp_path / "data.jsonl").exists()
    teach_command(flags)
    records = read_jsonl(tmp_path / "data.jsonl")
    lines = [line for path in tmp_path.glob("data.round*.jsonl") for line in read_jsonl(path)[1:]]
    wrong = sum(not line["correct"] for line in lines)
    assert Counter(r["task"] for r in records) == {"products": 4, "count_bits": 4} and wrong > 0
    assert len(lines) == len(records) + wrong
    assert len({(line["task"], line["seed"]) for line in lines}) == len(lines)
    calls = Counter(json.dumps([body["messages"], body["seed"]]) for body in api.bodies
                    if body["fault"] is None)
    # At most the episode that the fault met half-way was asked twice.
    assert sum(count > 1 for count in calls.values()) <= 1
    for record in records:
        task, messages = TASKS[record["task"]], record["messages"]
        assert messages[0]["content"] == Chat(style="short").head
        assert record["kind"] in ("code", "text")
        question = task.question(record["seed"], record["level"])
        assert task.check(question, Chat().answer(messages[-1]["content"]))
        assert len(messages) == (3 if record["kind"] == "text" else 5)
    assert len({record["kind"] for record in records}) > 1
    asked = len(api.bodies)
    teach_command(flags)  # once more: nothing is asked
    assert len(api.bodies) == asked and read_jsonl(tmp_path / "data.jsonl") == records
    assert "temperature" in refused(teach_command, [*flags, "--temperature", "0.5"], capsys)
    api.answer = lambda body: "<<<wrong>>>"
    assert "was right at none of" in refused(teach_command, [*flags, "--out", "none.jsonl"], capsys)
    assert sft.main(["--data", "data.jsonl", "--steps", "2", "--batch", "4"])  # and the student learns


@one_kind
def test_a_teacher_on_this_machine(tmp_path, monkeypatch, taught, box):
    """A small policy that learned a dozen questions teaches those that it gets right."""
    policy, tokenizer, _ = taught
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(teacher, "MODES", ("interpreter",))
    monkeypatch.setattr(teacher, "STYLES", {})
    policy.save_pretrained("master")
    tokenizer.save_pretrained("master")
    teach_command(["--teacher", "master", "--per-task", "12", "--tasks", "count_bits", "--rounds", "1",
                   "--temperature", "0", "--out", "made/data.jsonl"])
    records = read_jsonl(tmp_path / "made/data.jsonl")
    assert records and any(m["content"].startswith(RESULTS) for record in records for m in record["messages"])


def test_which_right_answers_are_learned_from():
    """Different questions first; of one question several turns, the last of which worked; failures last."""
    def episode(seed, *statuses):
        question = replace(TASKS["count_bits"].question(0, 1), seed=seed)
        return Episode(question, [], [], [], [Turn(0, 1, "", status=status) for status in (*statuses, None)])

    words, one, two, repaired, failed = (episode(1, *statuses) for statuses in (
        (), ("ok",), ("ok", "ok"), ("error", "ok"), ("error",)))
    other = episode(2)
    order = [two, other, repaired, words, one, failed]
    assert teacher.best([words, failed, other, one, repaired, two], 9) == order
    assert teacher.best([failed, words, other], 2) == [words, other]
    right = {"gcd": [two], "poker": []}
    table = teacher.pass_rates(right, right, {"gcd": 4, "poker": 4})
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["gcd", "1", "4", "25%", "1", "1"], ["poker", "0", "4", "0%", "0", "0"],
        ["all", "1", "8", "12%", "1", "1"]]


@pytest.mark.parametrize("flags, words", [
    (["--out", "."], "cannot write"), (["--out", "mine.jsonl"], "is there already"),
    (["--out", "x.jsonl", "--tasks", "chess"], "chess"),
    (["--out", "x.jsonl", "--model", "openai:gpt-4o"], "no weights")])
def test_a_teacher_is_not_asked_in_vain(tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.jsonl").write_text("{}")
    assert words in refused(teach_command, ["--teacher", "openai:fake", *flags], capsys)
    monkeypatch.setenv("WORLD_SIZE", "2")
    command = ["--teacher", "openai:fake", "--out", "x.jsonl"]
    assert "without torchrun" in refused(teach_command, command, capsys)


def test_a_server_is_asked_by_one_process(api, quick, tmp_path, monkeypatch, capsys):
    """Under torchrun every process would ask, and pay for, every question."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    command = ["--model", "openai:fake", "--base-url", api.url, "--questions", "2"]
    assert "without torchrun" in refused(server.evaluate_command, command, capsys)
    assert not api.bodies and not (tmp_path / "runs").exists()


def test_a_model_on_this_machine_is_evaluated_as_ever(monkeypatch):
    import evaluate
    monkeypatch.setattr(evaluate, "main", lambda argv: ["main", *argv])
    assert server.evaluate_command(["--model", "tiny", "--samples", "2"]) == [
        "main", "--model", "tiny", "--samples", "2"]


def test_asking_in_a_loop(api, quick, tmp_path, monkeypatch, capsys):
    """Ctrl-C stops an answer, an error that stays one question, the end of the input the program."""
    prompts = [q.prompt for q in draw(select("products"), "eval", 2, (1,))]
    lines = iter([prompts[0], "interrupt", "", "fail", prompts[1]])
    before, stopped = set(threading.enumerate()), threading.Event()

    def read(_):
        line = next(lines, None)
        if line is None:
            raise EOFError
        if line == "":
            stopped.set()  # the answer to the line before is over
        api.faults += [(404, "gone", {})] if line == "fail" else []
        return line

    def answer(body):
        if body["messages"][1]["content"] == "interrupt":
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            stopped.wait(60)
            return "late"
        return solve(body)

    api.answer = answer
    monkeypatch.setattr("builtins.input", read)
    r1ci.main(["ask", "--model", "openai:fake", "--base-url", api.url])
    for thread in set(threading.enumerate()) - before:
        thread.join(60)  # also the one that waits for the late answer
    out, error = capsys.readouterr()
    assert "late" not in out  # what came after Ctrl-C
    assert out.count("answer: ") == 2 and out.count("(stopped)") == 1 and "\033" not in out
    assert "```python" in out and "(ok, " in out and "It prints 5" not in out
    assert error.count("error:") == 1 and "gone" in error
