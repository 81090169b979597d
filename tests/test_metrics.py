"""The numbers of a run for other tools: pandas, a spreadsheet, tensorboard."""
import csv
import json
import sys
import types

import pytest

import r1ci
import runs

LINES = [{"step": 0, "reward": 0.5, "kl": None}, {"step": 1, "reward": 0.75, "kl": 0.25, "value": 2}]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return tmp_path / "run"


def test_csv(run):
    r1ci.main(["metrics", "run", "--csv", "table.csv"])
    with open("table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"step": "0", "reward": "0.5", "kl": "", "value": ""},
                    {"step": "1", "reward": "0.75", "kl": "0.25", "value": "2"}]


def test_pandas_reads_the_file_as_it_is(run):
    pandas = pytest.importorskip("pandas")
    table = pandas.read_json(run / "metrics.jsonl", lines=True)
    assert list(table["reward"]) == [0.5, 0.75] and list(table.columns) == ["step", "reward", "kl", "value"]


def test_tensorboard(run, monkeypatch, capsys):
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            written.append(folder)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            written.append("closed")

        def add_scalar(self, *scalar):
            written.append(scalar)

    fake = types.ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    r1ci.main(["metrics", "run", "--tensorboard", "board"])
    assert written == ["board", ("reward", 0.5, 0), ("reward", 0.75, 1), ("kl", 0.25, 1), ("value", 2, 1),
                       "closed"]
    assert "--logdir board" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, words", [
    (["run", "--tensorboard", "board"], ["tensorboard is not installed", "--csv"]),
    (["run"], ["--csv FILE or --tensorboard DIR"]), (["none", "--csv", "x"], ["none", "has no line"]),
    (["run", "--csv", "run"], ["cannot write run"])])
def test_bad_input_is_one_line(run, monkeypatch, capsys, arguments, words):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SystemExit) as stop:
        runs.command(lambda: r1ci.main(["metrics", *arguments]))
    error = capsys.readouterr().err
    assert stop.value.code == 2 and len(error.splitlines()) == 1 and all(word in error for word in words)
