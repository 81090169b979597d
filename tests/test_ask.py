"""`r1ci.py ask`: what it says of itself, and that nothing it prints is obeyed by the terminal."""
import io
import sys

from conftest import build

import models
import r1ci
from experiments.ask import Printer, plain, what_the_tiny_model_knows
from models import save
from rollout import Turn
from tasks import draw, select


def test_it_says_what_the_tiny_model_knows():
    said = what_the_tiny_model_knows()
    assert "8 kinds" in said and len(said.splitlines()) == 4
    assert all(question.prompt.startswith(line.strip()) for question, line in zip(
        draw(select("tiny"), "rl", 3, (1,)), said.splitlines()[1:]))


def test_control_characters_are_shown_not_obeyed(tokenizer, capsys):
    assert plain("a\x1b[31mb\x07\r\n\tc\x9b") == "a\\x1b[31mb\\x07\\x0d\n\tc\\x9b"
    printer = Printer(tokenizer)
    for token in tokenizer("red \x1b[2J", add_special_tokens=False)["input_ids"]:
        printer.token(None, token)
    printer.turn(None, Turn(0, 1, "", "print()", "\x1b]0;title\x07done", "ok"))
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "\x07" not in printed and "\\x1b]0;title" in printed


def test_odd_bytes_are_asked_and_answered(tmp_path, tokenizer, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(build(tokenizer), tokenizer, tmp_path / "run")
    monkeypatch.setattr(models, "tiny_tokenizer", lambda: tokenizer)
    command = ["ask", "--run", "run", "--turn-tokens", "4", "--episode-tokens", "300"]
    r1ci.main([*command, b"what is \xff?".decode("utf-8", "surrogateescape")])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\nwhat is 2?\n"), "utf-8"))
    r1ci.main(command)
    assert capsys.readouterr().out.count("no answer") == 3
