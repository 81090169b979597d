"""Training measured side by side: `python bench.py training [--model FOLDER --preset smollm2] [--run FOLDER]`.

What it brings to read a prompt that rows have in common only once (`models.predicting_states`): one step of SFT on
oracle conversations, and the update of one GRPO step on episodes that the policy has just sampled, with it and without
it in turn, on the same rows. Learning rate 0, so every round is the same; ratios are taken within a round. The two
gradients are the same sums in another order: equal in float32, far apart in bfloat16, where each is as far from float32's.
"""
import argparse
import statistics
import time
from pathlib import Path

import torch

import evaluate
import grpo
import models
import sandbox
import sft
from chat import ChatError
from flags import make_parser, positive
from models import ModelError
from runs import fail, trained_parameters
from tasks import TaskError, draw, select
from trajectories import encode, make

WHOLE = 10**9  # no prefix is as long as this


class Gradient(torch.optim.SGD):
    """Remembers the gradient and changes nothing."""

    def step(self):
        self.seen = torch.cat([p.grad.flatten() for g in self.param_groups for p in g["params"] if p.grad is not None])


def race(name: str, step, policy, rounds: int) -> None:
    """Time step(optimizer) with prompts read once and with rows read whole, and compare their gradients."""
    usual, seconds, gradients = models.SHORTEST_SHARED, {"once": [], "whole": []}, {}
    try:
        for turn in range(rounds + 1):  # the first round warms up
            for way, shortest in (("once", usual), ("whole", WHOLE)):
                models.SHORTEST_SHARED = shortest
                optimizer = Gradient(trained_parameters(policy).values(), lr=0.0)
                policy.train()
                began = time.perf_counter()
                step(optimizer)
                seconds[way] += [time.perf_counter() - began] * (turn > 0)
                gradients[way] = optimizer.seen
    finally:
        models.SHORTEST_SHARED = usual
    ratio = statistics.median(whole / once for once, whole in zip(seconds["once"], seconds["whole"]))
    apart = (gradients["once"] - gradients["whole"]).norm() / gradients["whole"].norm()
    print(f"{name}: rows whole {statistics.median(seconds['whole']):.1f} s, prompts once "
          f"{statistics.median(seconds['once']):.1f} s: {ratio:.1f}x (gradients differ by {apart:.2%})")


def main(argv: list[str]) -> int:
    """Run the command. Bad input: one line, exit code 2."""
    own = argparse.ArgumentParser("bench.py training", description=__doc__.split("\n\n")[0], allow_abbrev=False,
                                  epilog="All other flags are those of grpo.py.")
    own.add_argument("--run", type=Path, help="run folder of a policy (default: the model itself)")
    own.add_argument("--rounds", type=positive, default=3)
    given, rest = own.parse_known_args(argv)
    try:
        known = make_parser(argv, "")[0].parse_known_args(argv)[0]  # with --run, the model of that run
        args = grpo.parse(["--model", known.model, *(["--preset", known.preset] if known.preset else []), *rest])
        policy, tokenizer = models.load(args.model, checkpoint_folder=given.run, dtype=args.dtype, quantize=args.quantize,
                                        lora_rank=args.lora_rank, random_weights=args.random_weights,
                                        layers=args.layers, device=args.device,
                                        gradient_checkpointing=args.gradient_checkpointing)
        box = sandbox.from_args(args)
        engine = evaluate.make_engine(policy, tokenizer, box, args)
        tasks, settings = select(args.tasks), models.preset(args.model, args.preset)["sft"]
        questions = draw(tasks, "rl", args.questions, args.levels)
        asked = draw(tasks, "sft", settings["batch"], args.levels)
    except (ModelError, TaskError, ChatError, sandbox.SandboxError) as error:
        fail(error)
    with box:
        records = make(asked, engine.chat, box, text_share=settings["text_share"], multi_share=settings["multi_share"],
                       fallback_share=settings["fallback_share"])
        episodes = engine.run(questions, args.samples, seed=args.seed)
    batch = [encode(engine.chat, record["messages"]) for record in records]
    race(f"SFT, {len(batch)} conversations of {statistics.mean(len(ids) for ids, _ in batch):.0f} tokens",
         lambda optimizer: sft.train_step(policy, [optimizer], batch, args.micro_tokens, 0.0), policy, given.rounds)
    advantages = torch.randn(len(episodes), generator=torch.Generator().manual_seed(0))  # none of them is dead
    race(f"{args.algorithm.upper()}, {args.questions} x {args.samples} episodes of "
         f"{statistics.mean(len(e.ids) for e in episodes):.0f} tokens, of which prompts "
         f"{statistics.mean(e.turns[0].start for e in episodes):.0f}",
         lambda optimizer: grpo.train_on(policy, None, [optimizer], episodes, advantages, args), policy, given.rounds)
    return 0
