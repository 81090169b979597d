"""One GRPO step here and in TRL, side by side: `python -m tools.compare_trl --model FOLDER`.

TRL is no dependency: `pip install trl==1.16.0` by hand, into an environment that also has requirements.txt.
Each step runs in a process of its own, ours and TRL's in turn, on the same questions (the token ids of their
prompts are compared), from the same weights, with the same settings: LoRA on all linear layers, G samples a
question, temperature 1, no KL, one update, a reward that tells samples apart without knowing the answer.

    text        one turn of at most --turn-tokens
    programs    with --programs 2: ours in interpreter mode; TRL's `tools` with a python tool. What the model
                then writes is not the same: TRL's template asks for tool calls in JSON

Tokens are those that the policy wrote; a step is sampling and training; memory is the process's peak.
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runs import Parser, UserError, command, parse_levels, whole  # before torch: it tells threads not to spin

ROOT = Path(__file__).resolve().parents[1]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = Parser("python -m tools.compare_trl", __doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--model", required=True, help="a folder or hub id")
    add("--questions", type=whole(), default=8)
    add("--samples", type=whole(2), default=8)
    add("--turn-tokens", type=whole(), default=96)
    add("--programs", type=whole(0), default=0, help="programs at most; 0: text mode, one turn")
    add("--tasks", default="train")
    add("--levels", type=parse_levels, default=(1, 2, 3))
    add("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    add("--lora-rank", type=whole(), default=32)
    add("--rows", type=whole(), default=8, help="sequences of TRL's micro-batch; ours: as many tokens")
    add("--rounds", type=whole(), default=2)
    add("--only", choices=("ours", "trl"), help=argparse.SUPPRESS)  # what the processes are started with
    return parser.parse_args()


def questions_of(args: argparse.Namespace) -> list:
    """The same questions for both."""
    from tasks import draw, select
    return draw(select(args.tasks), "rl", args.questions, args.levels)


def chat_of(args: argparse.Namespace, tokenizer):
    """Our protocol: text mode, or with programs."""
    from chat import Chat
    return Chat(tokenizer, "interpreter" if args.programs else "text")


def report(policy, prompts: list, tokens: int, sampling: float, training: float, loss: float) -> None:
    """What a process has measured, for the one that started it."""
    from tools.bench_rollout import peak_mb
    print("\nRESULT " + json.dumps({"prompts": prompts, "tokens": tokens, "sampling": sampling, "loss": loss,
                                    "training": training, "memory": peak_mb(policy) / 2**10}))


def ours(args: argparse.Namespace) -> None:
    """A step of grpo.py: its engine, its advantages, its update."""
    import torch

    import batches
    import grpo
    import models
    import sandbox
    from rollout import Engine, Limits
    device = models.device_of("auto")
    policy, tokenizer = models.load(args.model, dtype=args.dtype, lora_rank=args.lora_rank, device=device)
    chat, questions = chat_of(args, tokenizer), questions_of(args)
    settings = grpo.parse(["--model", args.model, "--kl", "0", "--no-gradient-checkpointing"])
    prompts = [chat.prompt_ids(question.prompt) for question in questions]
    prompt = max(map(len, prompts))
    longest = prompt + (args.programs + 1) * args.turn_tokens + args.programs * 1024
    limits = Limits(args.turn_tokens, longest + 1, args.programs, 2000)
    trainer = batches.Trainer(batches.trained_parameters(policy), settings.lr,
                              args.rows * (prompt + args.turn_tokens))
    with sandbox.Sandbox() as box:
        engine = Engine(policy, tokenizer, box, limits, chat=chat, slots=args.questions * args.samples)
        began = time.perf_counter()
        episodes = engine.run(questions, args.samples, seed=1)
        sampled = time.perf_counter()
        rewards = torch.tensor([float(sum(episode.ids) % 2) for episode in episodes])
        groups = torch.arange(len(questions)).repeat_interleave(args.samples)
        masks = [episode.mask for episode in episodes]
        old = grpo.old_logprobs(policy, trainer, episodes, masks, settings)
        stats = grpo.train_on(policy, None, trainer, episodes, masks, old,
                              grpo.group_advantages(rewards, groups), settings)
        ended = time.perf_counter()
    report(policy, prompts, sum(map(sum, masks)), sampled - began, ended - sampled, stats["loss"])


def run_python(code: str) -> str:
    """Run a python program and return what it prints.

    Args:
        code: The program.

    Returns:
        Its output.
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=10,
                          check=False)
    return (done.stdout or done.stderr)[-2000:]


def trl(args: argparse.Namespace) -> None:
    """A step of TRL's GRPOTrainer."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    chat, questions = chat_of(args, tokenizer), questions_of(args)
    seconds: dict[str, float] = {}
    prompts = []

    def reward(completion_ids, **_) -> list[float]:
        return [float(sum(ids) % 2) for ids in completion_ids]

    class Timed(GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            began = time.perf_counter()
            result = super()._generate_and_score_completions(inputs)
            seconds["sampling"] = time.perf_counter() - began
            mask = result["completion_mask"] * result.get("tool_mask", 1)
            seconds["tokens"] = int(mask.sum())
            for row, seen in zip(result["prompt_ids"].tolist(), result["prompt_mask"].tolist()):
                prompts.append([token for token, one in zip(row, seen) if one])
            return result

    rows = args.questions * args.samples
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder, per_device_train_batch_size=args.rows,
            gradient_accumulation_steps=rows // args.rows, num_generations=args.samples, max_steps=1,
            max_completion_length=args.turn_tokens * (args.programs + 1), temperature=1.0, beta=0.0,
            learning_rate=1e-5, gradient_checkpointing=False, bf16=False, report_to=[], save_strategy="no",
            shuffle_dataset=False, logging_steps=1, model_init_kwargs={"dtype": args.dtype},
            use_cpu=not torch.cuda.is_available(), disable_tqdm=True, loss_type="grpo",
            **({"max_tool_calling_iterations": args.programs} if args.programs else {}))
        data = Dataset.from_list([{"prompt": chat.messages(question.prompt)} for question in questions])
        trainer = Timed(
            model=args.model, args=config, reward_funcs=reward, train_dataset=data,
            processing_class=tokenizer, tools=[run_python] if args.programs else None,
            peft_config=LoraConfig(r=args.lora_rank, lora_alpha=2 * args.lora_rank, lora_dropout=0.0,
                                   target_modules="all-linear", task_type="CAUSAL_LM"))
        began = time.perf_counter()
        result = trainer.train()
        total = time.perf_counter() - began
    report(trainer.model, prompts[::args.samples], seconds["tokens"], seconds["sampling"],
           total - seconds["sampling"], result.training_loss)


def main() -> None:
    """Run both in turn; print the table."""
    args = parse()
    if args.only:
        return {"ours": ours, "trl": trl}[args.only](args)
    found: dict[str, list[dict]] = {"ours": [], "trl": []}
    for _ in range(args.rounds):
        for name, results in found.items():
            run = subprocess.run([sys.executable, "-m", "tools.compare_trl", "--only", name, *sys.argv[1:]],
                                 cwd=ROOT, capture_output=True, text=True, check=False)
            line = next((x for x in run.stdout.splitlines() if x.startswith("RESULT ")), None)
            if line is None:
                why = "killed: too little memory? (--rows)" if run.returncode < 0 else (
                    run.stderr.strip() or "no output").splitlines()[-1]
                raise UserError(f"{name} failed: {why}")
            results.append(json.loads(line.removeprefix("RESULT ")))
            print({key: value for key, value in results[-1].items() if key != "prompts"}, flush=True)
    if not args.programs:  # TRL's template says what tools there are, so prompts differ then
        assert all(sorted(a["prompts"]) == sorted(b["prompts"]) for a, b in zip(*found.values()))
    rates = {"sampling, tokens/s": lambda r: r["tokens"] / r["sampling"],
             "training, tokens/s": lambda r: r["tokens"] / r["training"],
             "whole step, tokens/s": lambda r: r["tokens"] / (r["sampling"] + r["training"]),
             "peak memory, GB": lambda r: r["memory"]}
    print(f"{'':24}{'ours':>16}{'TRL':>16}{'ratio':>8}")
    for name, rate in rates.items():
        here, there = ([rate(result) for result in found[key]] for key in ("ours", "trl"))
        ratio = statistics.median(a / b for a, b in zip(here, there))
        cells = "".join(f"{' / '.join(f'{x:.3g}' for x in values):>16}" for values in (here, there))
        print(f"{name:24}{cells}{ratio:7.2f}x")


if __name__ == "__main__":
    command(main, hint="Nothing is left running.")
