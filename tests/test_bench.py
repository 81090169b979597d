"""The benches of training and rollouts run and compare what they say (their numbers depend on the machine)."""
import re

import pytest

from tools import bench_rollout
from tools import bench_training
import models


def test_training_with_prompts_read_once_or_whole(monkeypatch, capsys):
    monkeypatch.setattr(models, "SHORTEST_SHARED", 12)
    read, inner = [], models.DynamicCache.batch_repeat_interleave
    monkeypatch.setattr(models.DynamicCache, "batch_repeat_interleave", lambda self, n: (read.append(n), inner(self, n))[1])
    assert bench_training.main(["--model", "tiny", "--questions", "2", "--samples", "3", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["SFT", "GRPO"]
    assert all(re.search(r"prompts once [\d.]+ s: [\d.]+x \(gradients differ by 0\.0\d%", line) for line in lines)
    assert read.count(3) == 4 and len(read) > 4  # two questions of three episodes, warm-up and one round; SFT
    assert models.SHORTEST_SHARED == 12  # as it was


@pytest.mark.parametrize("flags, said", [(["--model", "nothing"], "nothing"), (["--tasks", "nosuch"], "nosuch")])
def test_bad_input_is_one_line(capsys, flags, said):
    for main in (bench_training.main, bench_rollout.main):
        with pytest.raises(SystemExit) as ended:
            main(flags)
        err = capsys.readouterr().err
        assert ended.value.code == 2 and said in err and "Traceback" not in err
