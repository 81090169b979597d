"""The benches run and compare what they say (their numbers depend on the machine)."""
import json
from argparse import Namespace
from contextlib import nullcontext

import pytest
from conftest import build

import models
import r1ci
import rollout
import runs
from rollout import Limits
from runs import UserError
from tasks import select
from tools import bench, bench_rollout, compare_trl


def test_bench_alone_shows_what_there_is(capsys):
    assert r1ci.main(["bench"]) is None
    out = capsys.readouterr().out
    assert "sandbox" in out and "rollout" in out
    with pytest.raises(UserError, match="nothing"):
        bench.main(["nothing"])


@pytest.mark.parametrize("flag", ["--model", "--tasks"])
def test_bad_input_is_one_line(flag):
    with pytest.raises(UserError, match="nosuch") as error:
        bench.main(["rollout", flag, "nosuch"])
    assert "\n" not in str(error.value)


def test_rollouts_beside_generate(monkeypatch, capsys):
    monkeypatch.setattr(bench_rollout, "growth", lambda *arguments: True)
    code = bench.main(["rollout", "--episodes", "2,4", "--rounds", "1", "--turn-tokens", "48",
                       "--rollout-weights", "int8"])
    head, names, two, four, verdict = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert head.startswith("tiny, float32, sampled in 8 bits, 48 tokens a turn")
    assert names.split()[:2] == ["episodes", "slots"]
    assert two.split()[:2] == ["2", "2"] and four.split()[:2] == ["4", "4"]
    assert all(float(part.strip("x%")) > 0 for part in four.split()[:-1])
    assert verdict.split()[0] == ("MISS" if code else "PASS") and "4 episodes" in verdict


def test_our_side_of_the_comparison_with_trl(tmp_path, tokenizer, capsys):
    build(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    compare_trl.ours(Namespace(model=str(tmp_path), questions=2, samples=3, turn_tokens=4, programs=0,
                               tasks="tiny", levels=(1,), dtype="float32", lora_rank=4, rows=2))
    found = json.loads(capsys.readouterr().out.split("RESULT ")[1])
    assert len(found["prompts"]) == 2 and 6 <= found["tokens"] <= 24
    assert min(found["sampling"], found["training"], found["memory"]) > 0


def test_three_ways_to_update_agree(capsys):
    code = bench.main("training --samples 4 --rounds 1 --prompt-tokens 40 --answer-tokens 20".split())
    head, *rows, verdict = capsys.readouterr().out.splitlines()
    assert head.startswith("tiny, float32")
    assert [row.split()[0] for row in rows] == ["padded", "whole", "shared"]
    norms = [float(row.split()[-1]) for row in rows]
    assert norms[0] > 0 and max(norms) - min(norms) < 1e-4 * norms[0]
    assert verdict.split()[0] == ("MISS" if code else "PASS")


def test_waiting_at_once_and_going_on(tokenizer, chat, box, monkeypatch, capsys):
    """The three ways are what they are called; the constant that one of them changes is put back."""
    ways = []

    class Watched(rollout.Engine):
        def run(self, *arguments, **options):
            ways.append((self.exact, rollout.LAG))
            return super().run(*arguments, **options)

    monkeypatch.setattr(rollout, "Engine", Watched)
    monkeypatch.setattr(bench_rollout.sandbox, "Sandbox", lambda workers: nullcontext(box))
    lag = rollout.LAG
    args = Namespace(episodes=[2], rounds=1, levels=(1,))
    bench_rollout.overlap(args, build(tokenizer), chat, Limits(8, 300, 2, 300), select("tiny"))
    assert ways == [(True, 0), (True, lag), (False, lag)] and rollout.LAG == lag > 0
    out = capsys.readouterr().out
    assert "at once" in out and "the bar is 1.5x" in out


def test_growth_of_memory(tokenizer, chat, box, capsys):
    args = Namespace(levels=(1,))
    bench_rollout.growth(args, build(tokenizer), chat, box, Limits(8, 300, 2, 300), select("count_bits"))
    assert "8 slots each time" in capsys.readouterr().out


def test_check_gpu_runs_without_one(monkeypatch, capsys, tokenizer):
    """Everything of it that needs no GPU, on a small shape."""
    monkeypatch.setattr(models, "tiny_tokenizer", lambda: tokenizer)
    monkeypatch.setitem(models.SHAPES, "small", (2, 128, 4, 2, 128, 2000, True))
    monkeypatch.setitem(runs.PRESETS, "small", runs.PRESETS["3b"])
    assert r1ci.main(["check-gpu", "--model", "small", "--device", "cpu", "--layers", "2", "--episodes", "4",
                      "--episode-tokens", "700"]) is None
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")] for line in printed.splitlines()
            if line.endswith("| ok |")]
    assert [(row[1], row[2]) for row in rows] == [
        (base, weights) for base in ("bfloat16", "nf4", "int8") for weights in ("same", "merged")], printed
    assert all(0 <= float(cell) < 0.05 for row in rows for cell in row[3:5]) and "no GPU" in printed
