"""The presets behind `--model`: everything that depends on the size of a model. Tables and one function that reads them.

A value is the default of the flag of the same name, so `python grpo.py --model 3b --lr 1e-5` changes one thing.
"""
import copy
from pathlib import Path

# What all pretrained models share. Learning rates: the paper trains all parameters (RL at 1e-6); LoRA wants 10 to 100
# times as much, so 1e-5 for RL and 1e-4 for SFT. KL, group size, temperature: the paper's.
PRETRAINED = {
    "dtype": "auto", "quantize": "none", "lora_rank": 32, "tasks": "train", "levels": "1-5", "style": "full",
    "turn_tokens": 768, "episode_tokens": 4096, "calls": 8, "results_chars": 2000, "slots": 64,
    "exact": False, "rollout_weights": "same",
    "eval_questions": 128, "eval_temperature": 0.6, "micro_tokens": 8192, "gradient_checkpointing": True,
    "sft": {"lr": 1e-4, "batch": 32, "epochs": 3, "steps": 0, "per_task": 70, "text_share": 0.2, "multi_share": 0.3,
            "fallback_share": 0.0, "learn_slips": False, "optimizer": "adamw"},
    "rl": {"lr": 1e-5, "critic_lr": 1e-4, "questions": 25, "samples": 5, "steps": 150, "kl": 0.001, "save_every": 10},
}
TINY = {
    "dtype": "float32", "quantize": "none", "lora_rank": 0, "tasks": "tiny", "levels": "1", "style": "short",
    "turn_tokens": 96, "episode_tokens": 320, "calls": 4, "results_chars": 300, "slots": 128,
    "exact": True, "rollout_weights": "same",
    "eval_questions": 400, "eval_temperature": 1.0, "micro_tokens": 8192, "gradient_checkpointing": False,
    "sft": {"lr": 1.5e-2, "batch": 32, "epochs": 1, "steps": 900, "per_task": 1500, "text_share": 0.55,
            "multi_share": 0.1, "fallback_share": 0.0, "learn_slips": True, "optimizer": "muon"},
    "rl": {"lr": 5e-4, "critic_lr": 1e-3, "questions": 16, "samples": 8, "steps": 60, "kl": 0.001, "save_every": 10},
}


def _pretrained(hub: str, **changes) -> dict:
    sft, rl = changes.pop("sft", {}), changes.pop("rl", {})
    return {**PRETRAINED, "hub": hub, **changes, "sft": {**PRETRAINED["sft"], **sft}, "rl": {**PRETRAINED["rl"], **rl}}


SMALL = {"turn_tokens": 256, "episode_tokens": 1536, "calls": 4, "results_chars": 1000, "eval_questions": 32,
         "gradient_checkpointing": False,
         "sft": {"batch": 8}, "rl": {"questions": 8, "samples": 4}}
# So small that all its parameters are trained, which is faster here than LoRA, and learns more. It cannot carry long
# programs through, nor repair them: what it learns from is short and easy, half of it is answered without a program, and
# a quarter of its programs fail and are followed by words. No KL term: over so few steps one this small does nothing,
# and the reference's pass would take a quarter of the training. SFT at 5e-4 learns to write programs faster, and forgets
# more: 20 training tasks left out, 200 questions, 55 steps of SFT: 11% (7..16) right with 5e-4, 16% (12..22) with 2e-4.
SMOLLM2 = {**SMALL, "lora_rank": 0, "rollout_weights": "merged", "levels": "1",
           "turn_tokens": 192, "episode_tokens": 640, "calls": 2, "results_chars": 400, "micro_tokens": 4096,
           "sft": {"batch": 16, "lr": 2e-4, "epochs": 3, "per_task": 70, "text_share": 0.5, "multi_share": 0.1,
                   "fallback_share": 0.25},
           "rl": {"questions": 8, "samples": 8, "lr": 3e-5, "kl": 0.0}}
PRESETS = {
    "tiny": {**TINY, "hub": None},
    "smollm2": _pretrained("HuggingFaceTB/SmolLM2-135M-Instruct", **SMOLLM2),
    "0.5b": _pretrained("Qwen/Qwen2.5-0.5B-Instruct", **SMALL),
    "1.5b": _pretrained("Qwen/Qwen2.5-1.5B-Instruct"),
    "3b": _pretrained("Qwen/Qwen2.5-3B-Instruct", quantize="nf4"),
    "7b": _pretrained("Qwen/Qwen2.5-7B-Instruct-1M", quantize="nf4", slots=48),
    "14b": _pretrained("Qwen/Qwen2.5-14B-Instruct-1M", quantize="nf4", slots=32),
    "r1-distill-7b": _pretrained("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", quantize="nf4", slots=48),
    "r1-distill-14b": _pretrained("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", quantize="nf4", slots=32),
}
# The shapes of the presets, for --random-weights (no download needed to measure memory and speed).
SHAPES = {  # layers, hidden, heads, key/value heads, MLP, vocabulary, tied embeddings
    "smollm2": (30, 576, 9, 3, 1536, 49152, True),
    "0.5b": (24, 896, 14, 2, 4864, 151936, True),
    "1.5b": (28, 1536, 12, 2, 8960, 151936, True),
    "3b": (36, 2048, 16, 2, 11008, 151936, True),
    "7b": (28, 3584, 28, 4, 18944, 152064, False),
    "14b": (48, 5120, 40, 8, 13824, 152064, False),
}
SHAPES |= {"r1-distill-7b": SHAPES["7b"], "r1-distill-14b": SHAPES["14b"]}


SERVED = "openai:"  # a model behind a server (api.py)


class ModelError(ValueError):
    """A model that cannot be had; the message says what is wrong and what would be right."""


def preset(model: str, settings: str | None = None) -> dict:
    """A copy of a preset; for a hub id PRETRAINED's settings, for a local folder SMALL's.

    settings: the name of the preset to take them from, for a hub id or folder that holds a model of that size.
    """
    if settings:
        return {**copy.deepcopy(PRESETS[settings]), "hub": preset(model)["hub"]}
    if model in PRESETS:
        return copy.deepcopy(PRESETS[model])
    if model.startswith(SERVED):
        return _pretrained(model)
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{model} is a folder without config.json, so it is no model; give a folder that "
                             "transformers can load")
        return _pretrained(str(path), **SMALL)
    if model.count("/") == 1 and not model.startswith((".", "/", "~")):
        return _pretrained(model)
    raise ModelError(f"unknown model {model!r}: choose {', '.join(PRESETS)}, a hub id (org/name), a local folder, "
                     "or openai:NAME to ask a server")
