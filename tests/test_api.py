"""Models behind a server: a real server process, which speaks the protocol, sometimes wrongly."""
import json
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from experiments import server as api
import evaluate
import parallel
import r1ci
import sft
from chat import RESULTS, Protocol
from rollout import Limits
from runs import read_jsonl
from tasks import TASKS, draw, select

KNOWN = {q.prompt: q for purpose in ("eval", "sft") for q in draw(select("tiny"), purpose, 64, (1,))}


def solve(body):
    """A model that writes the right program, and then invents its output; in words it is right about half the time."""
    head, question = (message["content"] for message in body["messages"][:2])
    last, question = body["messages"][-1]["content"], KNOWN[question]
    if last.startswith(RESULTS):
        return f"So it is. <<<{last.removeprefix(RESULTS)}>>>"
    if head == Protocol("text", "full").head:
        return f"<<<{question.data['answer'] if len(question.prompt) % 2 else 'no idea'}>>>"
    return f"I compute.\n```python\n{question.data['program']}\n```\nIt prints 5. <<<wrong>>>"


@pytest.fixture
def server():
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
    monkeypatch.setattr(api, "FIRST_WAIT", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def engine_of(server, box, **options):
    return api.Engine("openai:fake", box, Limits(50, 1000, 3, 300), base_url=server.url, **options)


def test_episodes_follow_the_protocol(server, quick, box):
    questions = draw(select("tiny"), "eval", 12, (1,))
    ended = []
    episodes = engine_of(server, box, key="secret").run(questions, 2, on_end=ended.append, seed=3)
    assert [e.number for e in episodes] == list(range(24)) and len(ended) == 24
    assert [e.question for e in episodes] == [q for q in questions for _ in range(2)]
    for episode in episodes:
        first, last = episode.turns
        assert episode.correct and episode.stop == "answer" and first.status == "ok" and last.status is None
        assert first.text.endswith("```") and "wrong" not in first.text and first.code.strip() in first.text
        assert (first.start, first.end, last.start, last.end) == (100, 120, 100, 120)
    assert len(server.bodies) == 48
    for body in server.bodies:
        assert body["key"] == "Bearer secret" and body["path"] == "/v1/chat/completions" and body["model"] == "fake"
        assert body["max_tokens"] == 50 and body["temperature"] == 1.0 and "top_p" not in body
        assert body["messages"][0] == Protocol().messages("x")[0]
    assert len({body["seed"] for body in server.bodies}) == 48  # every sample and turn has its own
    assert Counter(len(body["messages"]) for body in server.bodies) == {2: 24, 4: 24}
    long = next(body["messages"] for body in server.bodies if len(body["messages"]) == 4)
    assert [m["role"] for m in long] == ["system", "user", "assistant", "user"] and long[3]["content"].startswith(RESULTS)


def test_every_way_of_stopping(server, quick, box):
    question, = draw(select("products"), "eval", 1, (1,))
    program = "```python\nprint(1)\n```"

    def stops(answer, finish="stop", mode="interpreter", **limits):
        server.answer, server.finish, server.bodies = lambda body: answer, finish, []
        engine = engine_of(server, box)
        engine.chat, engine.limits = Protocol(mode), replace(engine.limits, **limits)
        episode, = engine.run([question])
        return episode.stop, episode.calls, len(server.bodies)

    assert stops("I do not know") == ("void", 0, 1)
    assert stops("") == ("void", 0, 1)
    assert stops("<<<5>>>") == ("answer", 0, 1)
    assert stops(program) == ("calls", 3, 4)  # a fourth program is one too many
    assert stops(program, episode_tokens=120) == ("length", 1, 1)  # no room for a second turn
    assert stops("<<<5", "length") == stops("<<<5>>> and", "length") == ("length", 0, 1)
    assert stops(program + "\n<<<5>>>", mode="text") == ("answer", 0, 1)


@pytest.mark.parametrize("fault", [(429, "slow down", {"Retry-After": "0.2"}), (500, "oops", {}), (503, "busy", {}),
                                   (529, "overloaded", {}), "broken", "cut", "hang"])
def test_what_may_pass_is_tried_again(server, quick, box, fault):
    questions = draw(select("products"), "eval", 3, (1,))
    server.faults = [None, fault]
    episodes = engine_of(server, box, concurrency=1, timeout=0.25).run(questions)
    assert all(e.correct for e in episodes) and len(server.bodies) == 7
    failed, again = server.bodies[1:3]
    assert failed["fault"] == fault and failed["messages"] == again["messages"] and failed["seed"] == again["seed"]
    if fault[0] == 429:
        assert again["time"] - failed["time"] > 0.19


def test_waits_grow(server, quick, box, monkeypatch):
    monkeypatch.setattr(api, "TRIES", 5)
    server.faults = [(500, "oops", {})] * 99
    with pytest.raises(api.ApiError, match="5 times in a row.*500 oops"):
        engine_of(server, box).run(draw(select("products"), "eval", 1, (1,)))
    times = [body["time"] for body in server.bodies]
    waits = [b - a for a, b in zip(times, times[1:])]
    assert len(times) == 5 and all(wait >= 0.0075 * 2 ** i for i, wait in enumerate(waits))


@pytest.mark.parametrize("faults, words", [
    ([(401, "bad key", {})], ["key", "OPENAI_API_KEY"]), ([(404, "no such model", {})], ["fake", "no such model"]),
    ([(400, "temperature must be 1", {})], ["400", "temperature must be 1"]),
    ([(302, "moved", {"Location": "/v1/elsewhere"})], ["302", "moved"]),  # not followed: the key would go there, too
    ([(429, "insufficient_quota", {})], ["insufficient_quota"]), (["broken"] * 2, ["twice in a row", "--base-url"])])
def test_what_will_not_pass_is_one_line(server, quick, tmp_path, monkeypatch, capsys, faults, words):
    monkeypatch.chdir(tmp_path)
    server.faults = list(faults)
    flags = ["--model", "openai:fake", "--base-url", server.url, "--tasks", "tiny", "--questions", 4, "--concurrency", 1]
    with pytest.raises(SystemExit) as stop:
        evaluate.main([str(flag) for flag in flags])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2 and last.startswith("error: ") and all(word in last for word in words), last
    assert len(server.bodies) == len(faults)  # nothing is tried that cannot help


@pytest.mark.parametrize("flags, words", [
    ([], ["OPENAI_API_KEY"]), (["--base-url", "http://127.0.0.1:9/v1"], ["cannot reach", "127.0.0.1:9"]),
    (["--base-url", "localhost:8000"], ["http://HOST:PORT/v1"])])
def test_no_key_and_no_server(quick, tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        evaluate.main(["--model", "openai:fake", "--tasks", "tiny", "--questions", "4", *flags])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and all(word in error.splitlines()[-1] for word in words) and "Traceback" not in error


def test_a_parameter_by_its_new_name(server, quick, box):
    server.faults = [(400, "use 'max_completion_tokens' instead of 'max_tokens'", {})]
    episode, = engine_of(server, box).run(draw(select("products"), "eval", 1, (1,)))
    assert episode.correct and [("max_completion_tokens" in body, "max_tokens" in body) for body in server.bodies] == [
        (False, True), (True, False), (True, False)]


def test_a_stopped_evaluation_goes_on(server, quick, tmp_path, monkeypatch, capsys):
    """An error for good in the middle: what is done is kept, and the same command asks only for the rest."""
    monkeypatch.chdir(tmp_path)
    flags = ["--model", "openai:fake", "--base-url", server.url, "--tasks", "tiny", "--levels", "1", "--questions", "16",
             "--concurrency", "2", "--samples", "2", "--price-in", "2", "--price-out", "10"]
    server.faults = [None] * 30 + [(401, "bad key", {})]
    with pytest.raises(SystemExit):
        evaluate.main(flags)
    kept = len(read_jsonl(tmp_path / "runs/openai--fake/base/eval.episodes.jsonl")) - 1
    assert 12 <= kept <= 16
    asked = len(server.bodies)
    result = evaluate.main(flags)
    assert result["accuracy"] == 1.0 and len(server.bodies) - asked == 2 * (32 - kept)
    assert result["tokens_read"] == 6400 and result["tokens_written"] == 1280
    assert result["dollars"] == pytest.approx((6400 * 2 + 1280 * 10) / 1e6) and "$0.0256" in capsys.readouterr().out
    whole = evaluate.main([*flags, "--out", "whole.json"])
    assert whole["each"] == result["each"] and whole["low"] == result["low"]
    text = evaluate.main([*flags, "--mode", "text", "--against", "whole.json"])
    assert text["calls"] == 0 and 0 < text["accuracy"] < 1 and text["against"]["better"] == 0
    assert text["against"]["difference"] == pytest.approx(text["accuracy"] - 1)
    assert text["tasks_low"] <= text["low"] < text["accuracy"] < text["high"] <= text["tasks_high"]


def test_a_teacher_behind_a_server(server, quick, tmp_path, monkeypatch, capsys):
    """Only right conversations are kept, with the student's prompt, and an interrupted start asks nothing twice."""
    monkeypatch.chdir(tmp_path)
    flags = ["--teacher", "openai:fake", "--base-url", server.url, "--per-task", "4", "--tasks", "products,count_bits",
             "--steps", "2", "--batch", "4", "--concurrency", "1", "--teacher-rounds", "3"]
    server.faults = [None] * 6 + [(401, "bad key", {})]
    with pytest.raises(SystemExit):
        sft.main(flags)
    asked = len(server.bodies)
    assert asked == 7 and "OPENAI_API_KEY" in capsys.readouterr().err
    sft.main([*flags, "--resume"])
    folder = tmp_path / "runs/tiny/sft"
    records = read_jsonl(folder / "data.jsonl")
    lines = [line for path in folder.glob("teacher-*.jsonl") for line in read_jsonl(path)[1:]]
    wrong = sum(not line["correct"] for line in lines)
    assert Counter(r["task"] for r in records) == {"products": 4, "count_bits": 4} and wrong > 0
    assert len(lines) == len(records) + wrong and len({(li["task"], li["seed"]) for li in lines}) == len(lines)
    calls = Counter(json.dumps([body["messages"], body["seed"]]) for body in server.bodies if body["fault"] is None)
    assert sum(count > 1 for count in calls.values()) <= 1  # at most the episode that the fault met half-way
    for record in records:
        task, messages = TASKS[record["task"]], record["messages"]
        assert messages[0]["content"] == Protocol(style="short").head and record["kind"] in ("interpreter", "code", "text")
        assert task.check(task.question(record["seed"], record["level"]), Protocol().answer(messages[-1]["content"]))
        assert len(messages) == (3 if record["kind"] == "text" else 5)
    assert len({record["kind"] for record in records}) > 1
    server.answer = lambda body: "<<<wrong>>>"
    with pytest.raises(SystemExit):
        sft.main([*flags, "--out", "none"])
    assert "was right at none of" in capsys.readouterr().err.splitlines()[-1]


def test_a_teacher_on_this_machine(tmp_path, monkeypatch, taught, box):
    """A small policy that learned one task teaches what it gets right."""
    policy, tokenizer, _ = taught
    monkeypatch.chdir(tmp_path)
    policy.save_pretrained("master")
    tokenizer.save_pretrained("master")
    sft.main(["--teacher", "master", "--per-task", "8", "--tasks", "count_bits", "--steps", "1", "--batch", "8"])
    records = read_jsonl(tmp_path / "runs/tiny/sft/data.jsonl")
    assert records and any(m["content"].startswith(RESULTS) for record in records for m in record["messages"])


def test_a_server_is_asked_by_one_process(server, quick, tmp_path, monkeypatch, capsys):
    """Under torchrun every process would ask, and pay for, every question."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parallel, "size", lambda: 2)
    with pytest.raises(SystemExit) as ended:
        evaluate.main(["--model", "openai:fake", "--base-url", server.url, "--questions", "2"])
    assert ended.value.code == 2 and "without torchrun" in capsys.readouterr().err and not server.bodies
    assert not (tmp_path / "runs").exists()


def test_asking_in_a_loop(server, quick, tmp_path, monkeypatch, capsys):
    """Ctrl-C stops an answer, an error for good stops one question, the end of the input stops the program."""
    prompts = [q.prompt for q in draw(select("products"), "eval", 2, (1,))]
    lines = iter([prompts[0], "interrupt", "", "fail", prompts[1]])

    def read(_):
        line = next(lines, None)
        if line is None:
            raise EOFError
        server.faults += [(404, "gone", {})] if line == "fail" else []
        return line

    def answer(body):
        if body["messages"][1]["content"] == "interrupt":
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.1)
            return "late"
        return solve(body)

    server.answer = answer
    monkeypatch.setattr("builtins.input", read)
    r1ci.main(["ask", "--model", "openai:fake", "--base-url", server.url])
    time.sleep(0.2)
    out, error = capsys.readouterr()
    assert "late" not in out  # what came after Ctrl-C
    assert out.count("answer: ") == 2 and out.count("(stopped)") == 1 and "\033" not in out
    assert "```python" in out and "(ok, " in out and "It prints 5" not in out
    assert error.count("error:") == 1 and "gone" in error
