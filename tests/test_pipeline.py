"""The whole way through the commands, with few steps: warm start, RL, evaluation, report, asking."""
import copy
import json

import pytest
from conftest import build, start

import grpo
import models
from models import exists
from runs import read_jsonl

EVERY_STEP = {"step", "reward", "accuracy", "dead_groups", "stop_answer", "stop_void", "stop_length",
              "stop_calls", "turns_over_6", "calls", "code_share", "code_errors", "entropy", "kl",
              "clip_share", "logprob_error", "grad_norm", "loss", "tokens_per_second", "seconds_rollout",
              "seconds_sandbox", "seconds_training"}


def ok(script, *arguments, cwd):
    """What `python script arguments` prints in the folder cwd, where it must succeed."""
    out, errors = cwd / "printed.out", cwd / "printed.err"
    process = start(script.removesuffix(".py"), arguments, out, folder=cwd, errors=errors)
    process.join(300)
    said = errors.read_text()
    assert process.exitcode == 0, said[-2000:]
    # A log stays short, whatever the size of the run, and libraries do not talk.
    assert len(said) + len(out.read_text()) < 10_000 and "Warning" not in said and "deprecated" not in said
    assert all(said.count(f"{bar}: ") <= 15 for bar in ("conversations", "SFT", "GRPO", "before", "after"))
    return out.read_text()


def test_tiny_from_nothing_to_an_answer(tmp_path):
    ok("sft.py", "--steps", 6, "--per-task", 8, cwd=tmp_path)
    records = read_jsonl(tmp_path / "runs/tiny/sft/data.jsonl")
    assert 40 < len(records) <= 64 and all(r["messages"][-1]["role"] == "assistant" for r in records)
    out = ok("grpo.py", "--steps", 2, "--questions", 2, "--samples", 2, "--eval-questions", 16, "--reward",
             "shaped", cwd=tmp_path)
    assert "after SFT" in out and "after GRPO" in out and "code used, code-needed tasks" in out
    assert all(text in out for text in ("One question before", "Next:", "r1ci.py report", "ask --run runs/"))
    folder = tmp_path / "runs/tiny/grpo"
    metrics = read_jsonl(folder / "metrics.jsonl")
    assert len(metrics) == 2 and all(set(line) >= EVERY_STEP for line in metrics)
    assert all(isinstance(value, (int, float, type(None))) for line in metrics for value in line.values())
    assert metrics[0].keys() == metrics[1].keys()  # a table, as it is
    episode = read_jsonl(folder / "episodes.jsonl")[0]
    assert len(episode["ids"]) == len(episode["mask"]) == len(episode["logprobs"]) and "advantage" in episode
    assert json.loads((folder / "before-after.json").read_text())["after GRPO"]["questions"] == 16
    assert json.loads((folder / "config.json").read_text())["reward"] == "shaped" and exists(folder)
    ok("r1ci.py", "report", "runs/tiny/sft", "runs/tiny/grpo", cwd=tmp_path)
    page = (folder / "report.html").read_text()
    assert "{{data}}" not in page and '"after GRPO"' in page and '"pairs":{"' in page
    ok("r1ci.py", "metrics", "runs/tiny/grpo", "--csv", "table.csv", cwd=tmp_path)
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 3
    assert "after SFT" not in ok("evaluate.py", "--questions", 8, cwd=tmp_path)
    first = ok("evaluate.py", "--questions", 8, "--run", "runs/tiny/sft", cwd=tmp_path)
    assert first == ok("evaluate.py", "--questions", 8, "--run", "runs/tiny/sft", cwd=tmp_path)
    assert "answer" in ok("r1ci.py", "ask", "What is 12 times 34?", cwd=tmp_path)


@pytest.mark.parametrize("lora_rank", [4, 0])
def test_a_llama_folder_whose_pad_is_its_end_of_turn(tmp_path, tokenizer, lora_rank):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    build(tokenizer, "llama").save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    common = ["--model", "llama", "--lora-rank", lora_rank, "--tasks", "products", "--levels", 1]
    out = ok("sft.py", *common, "--steps", 12, "--batch", 4, "--lr", "2e-2" if lora_rank else "3e-3",
             cwd=tmp_path)
    losses = [line["loss"] for line in read_jsonl(tmp_path / "runs/llama/sft/metrics.jsonl")]
    assert len(losses) == 12 and losses[-1] < losses[0] - (0.15 if lora_rank else 0.5) and "12 steps" in out
    ok("grpo.py", *common, "--steps", 1, "--questions", 2, "--samples", 2, "--eval-questions", 2,
       "--turn-tokens", 20, cwd=tmp_path)
    assert (tmp_path / "runs/llama/grpo" / ("adapter" if lora_rank else "model")).is_dir()


def test_a_real_shape_with_random_weights(tmp_path, monkeypatch):
    """Two layers of the 0.5b in NF4, its whole vocabulary: load, sample, score, save (the 3b likewise)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(models.SHAPES, "0.5b", (2, *models.SHAPES["0.5b"][1:]))
    grpo.main(["--model", "0.5b", "--random-weights", "--quantize", "nf4", "--steps", "1", "--questions", "1",
               "--samples", "2", "--turn-tokens", "6", "--eval-questions", "0", "--tasks", "products",
               "--levels", "1", "--dtype", "float32"])  # bfloat16 takes a minute on some processors
    assert len(read_jsonl(tmp_path / "runs/0.5b/grpo/metrics.jsonl")) == 1
    assert (tmp_path / "runs/0.5b/grpo/adapter/adapter_config.json").is_file()
