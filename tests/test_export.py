"""Exported folders: what transformers loads from them says what the trained policy says."""
import json

import pytest
import torch
from conftest import build
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import r1ci
from models import load, save, unwrap
from runs import Run, UserError, make_parser
from tasks import draw, select
from tools import export

CONFIG = {"dtype": "float32", "quantize": "nf4", "random_weights": False, "seed": 0, "mode": "interpreter",
          "answer_format": "angle", "tasks": "products,/home/me/my.jsonl", "levels": [1, 2], "lr": 3e-4}


def greedy(policy, prompts):
    options = {"do_sample": False, "max_new_tokens": 24, "pad_token_id": 0}
    return [policy.generate(torch.tensor([ids]), **options)[0].tolist() for ids in prompts]


@pytest.fixture
def prompts(chat):
    questions = ("What is 12 times 34?", "Sort: pear, apple.", "Reverse: stream")
    return [chat.prompt_ids(question) for question in questions]


def test_an_adapter_is_merged_into_unquantised_weights(tmp_path, tokenizer, prompts, capsys):
    base, run, out = tmp_path / "base", tmp_path / "runs/m/grpo", tmp_path / "exported"
    build(tokenizer, "llama").save_pretrained(base)
    tokenizer.save_pretrained(base)
    settings = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    policy = get_peft_model(build(tokenizer, "llama"), settings)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    before = greedy(policy.eval(), prompts)
    Run(run, {"model": str(base), **CONFIG}).begin()
    save(policy, tokenizer, run)
    out.mkdir()  # an empty folder is no obstacle
    r1ci.main(["export", "--run", str(run), "--out", str(out)])
    assert "exported" in capsys.readouterr().out and not (tmp_path / "exported.new").exists()
    merged = AutoModelForCausalLM.from_pretrained(out)
    assert greedy(merged, prompts) == before != greedy(AutoModelForCausalLM.from_pretrained(base), prompts)
    expected = unwrap(policy.merge_and_unload()).state_dict()
    assert all(torch.allclose(expected[name], value, atol=1e-6)
               for name, value in merged.state_dict().items())
    loaded = AutoTokenizer.from_pretrained(out)
    text = "Count the r in strawberry, 12 34.\n```python\nprint(45)\n```"
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.chat_template == tokenizer.chat_template
    card = (out / "README.md").read_text()  # of a base that is a folder of this machine
    assert "# base after SFT" in card and "Not measured" in card and str(tmp_path) not in card
    assert export.export(run, tmp_path / "half", "bfloat16") == "bfloat16"
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    assert export.export(run, tmp_path / "as trained") == "bfloat16"
    half = AutoModelForCausalLM.from_pretrained(tmp_path / "half")
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    assert all(torch.equal(value, expected[name].bfloat16()) or (value - expected[name]).abs().max() < 0.02
               for name, value in half.state_dict().items())


def test_full_parameters_are_exported_as_they_are(tmp_path, tokenizer, prompts):
    policy, _ = load("tiny", dtype="float32", seed=3)
    run = Run(tmp_path / "run", {"model": "tiny", "algorithm": "grpo", **CONFIG})
    run.begin()
    part = {"accuracy": 0.5, "code": 0.9, "questions": 20}
    run.write("before-after.json", {"after GRPO": {**part, "low": 0.3, "high": 0.7,
                                                   "tasks": {"products": part}}})
    save(policy, tokenizer, tmp_path / "run")
    export.export(tmp_path / "run", tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert "| after GRPO | 50% (30% to 70%) | 90% | 20 |" in card and "| after GRPO: products | 50% |" in card
    assert "tiny after GRPO" in card and "| lr | 0.0003 |" in card and "level 1, 2" in card
    assert "`products,my.jsonl`" in card and str(tmp_path) not in card and "/home" not in card
    assert greedy(AutoModelForCausalLM.from_pretrained(tmp_path / "out"), prompts) == greedy(policy, prompts)
    # Beside a model of the type qwen2, AutoTokenizer would take it for Qwen's own.
    loaded = AutoTokenizer.from_pretrained(tmp_path / "out")
    for question in draw(select("tiny"), "rl", 40, (1,)):
        assert loaded(question.prompt)["input_ids"] == tokenizer(question.prompt)["input_ids"]


def test_nothing_is_overwritten(tmp_path, tokenizer):
    Run(tmp_path / "run", {"model": "tiny", **CONFIG}).begin()
    save(load("tiny", dtype="float32")[0], tokenizer, tmp_path / "run")
    (tmp_path / "used").mkdir()
    (tmp_path / "used/thesis.txt").write_text("the only copy")
    for run, out, words in (("run", "used", "not an empty folder"),
                            ("run", "used/thesis.txt", "not an empty folder"),
                            ("nothing", "new", "holds no policy")):
        with pytest.raises(UserError, match=words):
            r1ci.main(["export", "--run", str(tmp_path / run), "--out", str(tmp_path / out)])
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["thesis.txt"]
    assert not (tmp_path / "new").exists()


def test_an_adapter_alone_is_a_run_folder(tmp_path, tokenizer, prompts, capsys):
    base, run, out = tmp_path / "base", tmp_path / "runs/m/grpo", tmp_path / "adapters/m"
    build(tokenizer, "llama").save_pretrained(base)
    tokenizer.save_pretrained(base)
    policy = get_peft_model(build(tokenizer, "llama"), LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in policy.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
            parameter.data = parameter.data.bfloat16().float()
    Run(run, {"model": str(base), "preset": "smollm2", **CONFIG}).begin()
    save(policy, tokenizer, run)
    r1ci.main(["export", "--run", str(run), "--out", str(out), "--adapter-only"])
    assert "evaluate.py --run" in capsys.readouterr().out
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == {"README.md", "config.json", "adapter/adapter_config.json",
                     "adapter/adapter_model.safetensors"}
    assert not any(str(tmp_path) in (out / name).read_text() for name in files if "safetensors" not in name)
    assert json.loads((out / "config.json").read_text())["tasks"] == "products,my.jsonl"
    parser, _ = make_parser(["--model", str(base), "--run", str(out)], "")
    again, _ = load(str(base), checkpoint_folder=out, dtype="float32", trainable=False)
    assert parser.get_default("preset") == "smollm2"
    assert greedy(again, prompts) == greedy(policy.eval(), prompts)
    with pytest.raises(UserError, match="not an empty folder"):
        export.export_adapter(run, out)
    with pytest.raises(UserError, match="holds a policy of smollm2"):
        make_parser(["--model", "3b", "--run", str(out)], "")
    Run(tmp_path / "whole", {"model": "tiny", **CONFIG}).begin()
    save(load("tiny", dtype="float32")[0], tokenizer, tmp_path / "whole")
    with pytest.raises(UserError, match="leave --adapter-only out"):
        export.export_adapter(tmp_path / "whole", tmp_path / "new")
