"""Nothing is lost, nothing goes wrong silently: folders, locks, damaged files, steps that are not finite."""
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
import torch
from conftest import ROOT, build, chance, start
from test_training import episodes_for, gradients
from transformers import Gemma2Config, Gemma2ForCausalLM, MistralConfig, MistralForCausalLM

import batches
import curriculum
import grpo
import models
import sft
from batches import Trainer, trained_parameters
from kvcache import check_cache
from models import load, save
from runs import MARKER, Run, UserError, check_writable, hold, read_jsonl

QUICK = ["--tasks", "count_bits", "--questions", "2", "--samples", "2", "--turn-tokens", "6", "--init",
         "base", "--eval-questions", "0", "--steps", "2"]


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """An empty folder, and we are in it; rewards by chance, so that something is learned."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(grpo.REWARDS, "chance", chance)
    return tmp_path


def script(words, folder, **options):
    """A command as a process of its own."""
    return subprocess.run([sys.executable, *map(str, words)], cwd=folder, capture_output=True, timeout=300,
                          check=False, **options)


# ----------------------------------------------------------------------------------------- overwriting, locks
def test_overwrite_removes_what_a_run_wrote_and_nothing_else(inside):
    grpo.main([*QUICK, "--out", "run"])
    (inside / "run/thesis.txt").write_text("mine")
    (inside / "run/evaluation-notes.json").write_text("mine")
    (inside / "run/model-card.md").write_text("mine")
    (inside / "run/eval.json").write_text("about the old policy")
    grpo.main([*QUICK, "--out", "run", "--overwrite", "--seed", "3"])
    left = {path.name for path in (inside / "run").iterdir()}
    assert {"thesis.txt", "evaluation-notes.json", "model-card.md"} <= left and "eval.json" not in left
    assert json.loads((inside / "run/config.json").read_text())["seed"] == 3


@pytest.mark.parametrize("flags, words", [
    (["--init", "sft"], "no SFT checkpoint"), (["--levels", "1", "--model", "./broken"], "cannot load"),
    (["--sft-run", "empty", "--init", "auto"], "no SFT checkpoint in empty")])
def test_the_old_run_stays_until_the_new_one_can_start(inside, flags, words):
    grpo.main([*QUICK, "--out", "run"])
    before = {path: path.read_bytes() for path in (inside / "run").rglob("*") if path.is_file()}
    (inside / "empty").mkdir()
    (inside / "broken").mkdir()
    (inside / "broken/config.json").write_text('{"model_type": "llama"}')
    if "--init" in flags:
        (inside / "runs").mkdir()
    with pytest.raises(UserError, match=words):
        flags = flags if "--model" in flags or "--sft-run" in flags else [*flags, "--sft-run", "empty"]
        grpo.main([*QUICK[:-4], "--eval-questions", "0", "--steps", "1", *flags, "--out", "run",
                   "--overwrite"])
    assert before == {path: path.read_bytes() for path in (inside / "run").rglob("*") if path.is_file()}


def test_a_first_start_that_fails_leaves_nothing(inside):
    (inside / "bad.jsonl").write_text('{"messages": []}\n')
    for _ in range(2):  # the corrected command finds no run, and neither does the same one
        with pytest.raises(UserError, match="line 1"):
            sft.main(["--data", "bad.jsonl", "--out", "run"])
        assert sorted(path.name for path in inside.iterdir()) == ["bad.jsonl"]


def test_a_second_process_is_refused_and_a_dead_one_is_not_waited_for(tmp_path):
    code = f"import sys, time; sys.path.insert(0, {str(ROOT)!r}); import runs, pathlib; " \
           f"lock = runs.hold(pathlib.Path({str(tmp_path / MARKER)!r})); print('held', flush=True); " \
           "time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"process {other.pid} works in"):
        hold(tmp_path / MARKER)
    other.kill()
    other.wait()
    lock = hold(tmp_path / MARKER)
    assert (tmp_path / MARKER).read_text() == f"{os.getpid()}\n" and not lock.closed


def test_who_was_quicker_keeps_the_folder(tmp_path):
    first, second = (Run(tmp_path / "run", {"seed": seed}) for seed in (1, 2))  # both see no run
    first.begin()
    with pytest.raises(UserError, match="already holds a run"):
        second.begin()
    assert json.loads((tmp_path / "run/config.json").read_text()) == {"seed": 1}


def test_places_are_tried_without_leaving_a_trace(tmp_path):
    check_writable(tmp_path / "a/b/c.json")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there.json").write_text("old")
    check_writable(tmp_path / "there.json")
    assert (tmp_path / "there.json").read_text() == "old"


# ---------------------------------------------------------------------------------------------- damaged files
@pytest.mark.parametrize("name, content, words", [
    ("trainer.pt", b"", "trainer.pt is damaged"), ("trainer.pt", b"PK\x03\x04 half", "trainer.pt is damaged"),
    ("metrics.jsonl", b'{"step": 0}\n3\n{"step": 1}\n', "metrics.jsonl, line 2 is damaged"),
    ("metrics.jsonl", b'{"step": 0}\n\xff\n{"step": 1}\n', "metrics.jsonl, line 2 is damaged"),
    ("config.json", b"{", "config.json is damaged"), ("config.json", b"[]", "config.json is damaged")])
def test_damaged_run_files_are_named(inside, name, content, words):
    grpo.main([*QUICK, "--out", "run"])
    (inside / "run" / name).write_bytes(content)
    with pytest.raises(UserError, match=words):
        grpo.main([*QUICK[:-1], "4", "--out", "run", "--resume"])


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_damaged_weights_are_named(tmp_path, tokenizer, size):
    save(build(tokenizer), tokenizer, tmp_path)
    weights = tmp_path / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(UserError, match="cannot load .*model") as error:
        load("tiny", checkpoint_folder=tmp_path)
    assert "\n" not in str(error.value)


def test_a_damaged_adapter_is_named(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(models, "tiny_tokenizer", lambda: tokenizer)
    save(load("tiny", dtype="float32", lora_rank=2)[0], tokenizer, tmp_path)
    weights = tmp_path / "adapter/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot load .*adapter"):
        load("tiny", dtype="float32", lora_rank=2, checkpoint_folder=tmp_path)


def test_a_checkpoint_folder_without_policy_is_no_fresh_model(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds no policy"):
        load("tiny", checkpoint_folder=tmp_path)


def test_an_empty_tokenizer_is_not_taken_for_one(tokenizer):
    """What AutoTokenizer makes of a hub model of which only config.json has been downloaded."""
    asked = []

    class Loader:
        @staticmethod
        def from_pretrained(source, local_files_only):
            asked.append(local_files_only)
            return Empty() if local_files_only else tokenizer

    class Empty:
        def get_vocab(self):
            return {}

        def __len__(self):
            return 0

    assert models.from_hub(Loader, "org/name") is tokenizer and asked == [True, False]


# ---------------------------------------------------------------------------------- steps that are not finite
def bad_step(policy, trainer, value):
    """A step whose loss has this value."""
    weight = next(policy.parameters())
    return trainer.step([3], lambda group: ((weight * value).sum(), {}))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_steps_that_are_not_finite_are_not_taken_and_end_the_run(tokenizer, value):
    policy = build(tokenizer)
    trainer = Trainer(trained_parameters(policy), 1e-2, 4096)
    before = [parameter.clone() for parameter in policy.parameters()]
    for number in range(batches.SKIPPED - 1):
        assert bad_step(policy, trainer, value)["skipped"] == 1
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters()))
    assert bad_step(policy, trainer, 1.0)["skipped"] == 0  # counts in a row only
    for number in range(batches.SKIPPED - 1):
        bad_step(policy, trainer, value)
    with pytest.raises(UserError, match="5 steps in a row .*last checkpoint"):
        bad_step(policy, trainer, value)
    assert all(parameter.isfinite().all() for parameter in policy.parameters())


def test_weights_that_are_not_finite_are_not_saved(tmp_path, tokenizer):
    policy, run = build(tokenizer), Run(tmp_path / "run", {})
    run.begin()
    batches.save_checkpoint(run, trained_parameters(policy), [], 1)
    saved = (tmp_path / "run/trainer.pt").read_bytes()
    with torch.no_grad():
        next(policy.parameters())[0] = math.nan
    with pytest.raises(UserError, match="not finite after 2 steps"):
        batches.save_checkpoint(run, trained_parameters(policy), [], 2)
    assert (tmp_path / "run/trainer.pt").read_bytes() == saved


def test_a_spoilt_policy_is_named_when_it_samples(tokenizer, box):
    from rollout import Engine, Limits
    from tasks import draw, select
    policy = build(tokenizer)
    with torch.no_grad():
        next(policy.parameters()).fill_(math.nan)
    with pytest.raises(UserError, match="not numbers any more"):
        Engine(policy, tokenizer, box, Limits(8, 1000)).run(draw(select("count_bits"), "rl", 1, (1,)))


def test_metrics_hold_no_nan(tmp_path):
    run = Run(tmp_path / "run", {})
    run.begin()
    run.append("metrics.jsonl", [{"step": 0, "loss": math.nan, "grad_norm": math.inf, "kl": 0.5}])
    assert run.read("metrics.jsonl") == [{"step": 0, "loss": None, "grad_norm": None, "kl": 0.5}]


def test_dual_clip_bounds_what_the_clip_leaves_unbounded():
    one = torch.ones(1, 1)
    for ratio, advantage, expected, slope in ((50.0, -1.0, 3.0, 0.0), (2.0, -1.0, 2.0, 2.0),
                                              (50.0, 1.0, -1.2, 0.0), (0.5, -1.0, 0.8, 0.0)):
        logprobs = torch.tensor([[math.log(ratio)]], requires_grad=True)
        loss, _ = grpo.policy_loss(logprobs, torch.zeros(1, 1), advantage * one[0], one, dual_clip=3.0)
        loss.backward()
        assert loss.item() == pytest.approx(expected) and logprobs.grad.item() == pytest.approx(slope,
                                                                                                abs=1e-6)
    far = torch.tensor([[200.0]], requires_grad=True)
    grpo.policy_loss(far, torch.zeros(1, 1), -one[0], one, dual_clip=3.0)[0].backward()
    assert far.grad.isfinite().all()


def test_a_collapse_is_said_once(capsys):
    fine = {"dead_groups": 0.5, "stop_answer": 0.5, "trained_tokens": 9, "entropy": 0.3,
            "logprob_error": 1e-4}
    streaks = Counter()
    for metrics in [{**fine, "dead_groups": 1.0}] * 9 + [fine] + [{**fine, "dead_groups": 1.0}] * 30:
        curriculum.warn(metrics, streaks)
    printed = capsys.readouterr().err.strip().splitlines()
    assert len(printed) == 1 and "no group had different rewards" in printed[0] and "--levels" in printed[0]
    for change, words in (({"stop_answer": 0.0}, "no episode ended"), ({"entropy": 1e-4}, "certain"),
                          ({"logprob_error": 0.5}, "--importance-cap")):
        for _ in range(curriculum.PATIENCE):
            curriculum.warn({**fine, **change}, streaks)
        assert words in capsys.readouterr().err


def test_kl_counts_for_dead_groups(tokenizer):
    """With a KL term all dead groups still pull the policy back; without one they cost nothing."""
    from ppo import Reference
    policy, other = build(tokenizer), build(tokenizer)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    episodes = episodes_for(policy, [1, 1, 0, 0])
    pulled, stats = gradients(policy, episodes, [0.0] * 4, kl=0.1, reference=Reference(other))
    assert stats["trained_tokens"] > 0 and max(g.abs().max() for g in pulled) > 0
    mixed, _ = gradients(policy, episodes, [1.0, -1.0, 0.0, 0.0], kl=0.1, reference=Reference(other))
    reward, _ = gradients(policy, episodes, [1.0, -1.0, 0.0, 0.0])
    for both, one, two in zip(mixed, reward, pulled):  # the gradient is the sum of the two terms
        assert torch.allclose(both, one + two, atol=1e-5)


# ------------------------------------------------------------------------------ models that cannot be trained
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 1, "vocab_size": 64, "head_dim": 8}


@pytest.mark.parametrize("make, words", [
    (lambda: MistralForCausalLM(MistralConfig(**SMALL, sliding_window=8)), "looks back only 8 tokens"),
    (lambda: Gemma2ForCausalLM(Gemma2Config(**SMALL, sliding_window=4096, query_pre_attn_scalar=8,
                                            attn_logit_softcapping=0.05, layer_types=["full_attention"] * 2)),
     "cannot be trained here"),
    (lambda: Gemma2ForCausalLM(Gemma2Config(**SMALL, sliding_window=4096, query_pre_attn_scalar=8,
                                            final_logit_softcapping=0.01, attn_logit_softcapping=None,
                                            layer_types=["full_attention"] * 2)),
     "off by")])
def test_models_that_would_be_sampled_differently_are_refused(make, words):
    torch.manual_seed(0)
    policy = make().eval()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(8)
    with pytest.raises(UserError, match=words):
        check_cache(policy, list(range(2, 40)), 2048)


def test_models_that_are_the_same_are_not_refused(tokenizer):
    for policy in (build(tokenizer), build(tokenizer, "qwen2"), MistralForCausalLM(
            MistralConfig(**SMALL, sliding_window=4096)).eval()):
        check_cache(policy, list(range(2, 40)), 2048)


# ----------------------------------------------------------------------------------------- how a command ends
def test_a_full_disk_for_the_output_is_one_line(tmp_path):
    with open("/dev/full", "w") as full:
        process = subprocess.run([sys.executable, ROOT / "r1ci.py", "tasks"], stdout=full,
                                 stderr=subprocess.PIPE, cwd=tmp_path, check=False)
    assert process.returncode == 2 and process.stderr.decode().strip().splitlines() == [
        "error: the output: No space left on device"]


def test_a_closed_pipe_is_one_line(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run([sys.executable, ROOT / "r1ci.py", "tasks"], stdout=writer,
                             stderr=subprocess.PIPE, cwd=tmp_path, check=False)
    os.close(writer)
    assert process.returncode == 2 and process.stderr.decode().strip() == "error: the output: Broken pipe"


@pytest.mark.parametrize("variables", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
                                       {"PYTHONIOENCODING": "ascii"}])
def test_a_poor_terminal_shows_question_marks(tmp_path, variables):
    (tmp_path / "caf\u00e9.jsonl").write_text('{"question": "1 \u2265 0?", "answer": "yes", "task": '
                                              '"caf\u00e9"}\n')
    process = script([ROOT / "r1ci.py", "tasks", "caf\u00e9.jsonl"], tmp_path,
                     env={**os.environ, **variables})
    assert process.returncode == 0 and b"from a file" in process.stdout, process.stderr
    process = script([ROOT / "r1ci.py", "tasks", b"\xff\xfe".decode("utf-8", "surrogateescape")], tmp_path,
                     env={**os.environ, **variables})
    assert process.returncode == 2 and process.stderr.count(b"\n") == 1 and b"no task" in process.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(tmp_path, number):
    flags = [*QUICK[:-1], "300", "--reward", "chance", "--save-every", "1000", "--out", tmp_path / "run"]
    process = start("grpo", flags, tmp_path / "log")
    while process.is_alive() and len(read_jsonl(tmp_path / "run/metrics.jsonl")) < 2:
        time.sleep(0.05)
    os.kill(process.pid, number)
    process.join(120)
    steps = len(read_jsonl(tmp_path / "run/metrics.jsonl"))
    state = torch.load(tmp_path / "run/trainer.pt", weights_only=True)
    assert process.exitcode == 130 and state["step"] == steps < 300
    assert "--resume goes on" in (tmp_path / "log").read_text()


def test_ranks_with_different_weights_are_refused(monkeypatch):
    monkeypatch.setattr(batches, "gather", lambda items: [*items, items[0] + 1e-3])
    with pytest.raises(UserError, match="different weights"):
        batches.same_on_all_ranks({"weight": torch.ones(3)})
    monkeypatch.setattr(batches, "gather", lambda items: items * 2)
    batches.same_on_all_ranks({"weight": torch.ones(3)})


def test_the_automatic_warm_start_is_as_the_flags_say(inside, monkeypatch):
    seen = []

    def main(argv):
        seen.append(sft.parse(argv))
        raise UserError("enough")

    monkeypatch.setattr(sft, "main", main)
    with pytest.raises(UserError, match="enough"):
        grpo.main(["--answer-format", "boxed", "--sandbox-timeout", "2", "--device", "cpu", "--dtype",
                   "bfloat16"])
    args, = seen
    assert (args.answer_format, args.sandbox_timeout, args.device, args.dtype) == ("boxed", 2, "cpu",
                                                                                   "bfloat16")
    assert not list(inside.iterdir())
