"""Two processes on the CPU make the step of one."""
import socket

import pytest
import torch
from conftest import start
from test_training import numbers

from runs import read_jsonl

RL = ["--tasks", "count_bits,products", "--questions", 3, "--samples", 3, "--turn-tokens", 12,
      "--eval-questions", 0, "--init", "base", "--lr", "1e-3", "--reward", "chance", "--kl", "0.1",
      "--epochs", 2, "--steps", 2]
SFT = ["--batch", 5, "--per-task", 4, "--steps", 2, "--optimizer", "adamw", "--lr", "1e-3"]


def finish(processes, folder):
    for process in processes:
        process.join(600)
        assert process.exitcode == 0, "".join(path.read_text()[-2000:] for path in folder.glob("*.log"))


@pytest.mark.parametrize("module, arguments", [("grpo", RL), ("sft", SFT)])
def test_two_processes_make_the_step_of_one(tmp_path, module, arguments):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [{"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
              "MASTER_PORT": str(port)} for rank in (0, 1)]
    both = [start(module, [*arguments, "--out", tmp_path / "two"], tmp_path / f"{rank['RANK']}.log", rank)
            for rank in ranks]
    alone = start(module, [*arguments, "--out", tmp_path / "one"], tmp_path / "one.log")
    finish([*both, alone], tmp_path)
    one, two = (torch.load(tmp_path / name / "trainer.pt", weights_only=True)["parameters"]
                for name in ("one", "two"))
    assert one.keys() == two.keys() and all(torch.allclose(one[name], two[name], atol=5e-5) for name in one)
    for a, b in zip(numbers(tmp_path / "one"), numbers(tmp_path / "two"), strict=True):
        rates = {"tokens_per_second"}
        assert a.keys() == b.keys()
        assert all(a[key] == pytest.approx(b[key], rel=1e-3, abs=1e-5) for key in a if key not in rates)
        assert a["grad_norm"] > 0 and a["trained_tokens"] > 0
    assert (tmp_path / "1.log").read_text().count("steps; saved") == 0  # rank 0 alone speaks
    assert (tmp_path / "0.log").read_text().count("saved in") == 1
    if module == "grpo":
        a, b = (read_jsonl(tmp_path / name / "episodes.jsonl") for name in ("one", "two"))
        assert [e["ids"] for e in a if e["step"] == 0] == [e["ids"] for e in b if e["step"] == 0]
