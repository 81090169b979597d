"""Updates measured side by side: `python r1ci.py bench training [--model FOLDER]`.

A group's episodes share their prompt. Scored and differentiated in three ways, in turn, round by round:

(a) padded: each row whole, all rows as long as the longest, attention told what is padding (the usual way)
(b) whole: each row whole, no padding (what we do for rows that share nothing)
(c) shared: the prompt once, then the rest of each row (what we do)

The rows are random tokens, the first half of them as long as --answer-tokens, the others half as long.
"""
import argparse
import statistics
from collections.abc import Callable
from unittest.mock import patch

import torch

import models
from batches import pad, release, trained_parameters
from tools.bench_rollout import timed

BAR = 1.6  # times as fast as (b), with prompts twice as long as the answers


def padded_score(policy, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (B, T) of the trained tokens; every place is read."""
    seen = torch.arange(ids.shape[1], device=ids.device) <= mask.cumsum(1).argmax(1, keepdim=True)
    hidden = models.backbone(policy)(input_ids=ids, attention_mask=seen.long(), use_cache=False)[0]
    where = mask[:, 1:].bool()
    head = models.unwrap(policy).get_output_embeddings()
    logprobs = [models.token_logprobs(head(states), targets, want_entropy=False)[0]
                for states, targets in zip(hidden[:, :-1][where].split(256), ids[:, 1:][where].split(256))]
    return torch.zeros_like(mask[:, 1:], dtype=torch.float32).masked_scatter(where, torch.cat(logprobs))


def bench(args: argparse.Namespace) -> int:
    """Run the bench; exit code 1 if the bar is missed."""
    models.check_arguments(args)
    policy, _ = models.load_from_args(args, args.run)
    policy.train()
    device, words = next(policy.parameters()).device, len(models.unwrap(policy).get_input_embeddings().weight)
    lengths = [args.answer_tokens // (1 if i < args.samples / 2 else 2) for i in range(args.samples)]
    mask = pad([[0] * args.prompt_tokens + [1] * length for length in lengths], device)
    ids = torch.randint(10, words, mask.shape, generator=torch.Generator().manual_seed(args.seed)).to(device)
    ids[:, :args.prompt_tokens] = ids[0, :args.prompt_tokens]

    def whole() -> torch.Tensor:
        with patch.object(models, "shared_prefix", lambda *_: 0):
            return models.score(policy, ids, mask, want_entropy=False)[0]

    ways: dict[str, Callable] = {"padded": lambda: padded_score(policy, ids, mask), "whole": whole,
                                 "shared": lambda: models.score(policy, ids, mask, want_entropy=False)[0]}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    norms = {}
    for turn in range(args.rounds + 1):
        for name, way in ways.items():
            took, _ = timed(lambda: way().sum().backward())  # noqa: B023
            if turn:  # the first round warms up
                seconds[name].append(took)
            gradients = [p.grad.float().norm() for p in trained_parameters(policy).values()
                         if p.grad is not None]
            norms[name] = torch.stack(gradients).norm().item()
            policy.zero_grad()
            release()
    print(f"{args.model}, {args.dtype}, LoRA {args.lora_rank}, gradient checkpointing "
          f"{'on' if args.gradient_checkpointing else 'off'}: {args.samples} rows, prompt of "
          f"{args.prompt_tokens}, answers of {args.answer_tokens} or half as many; {args.rounds} rounds")
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(values, seconds["shared"]))
        print(f"{name:8}{statistics.median(values):8.2f} s{ratio:8.2f}x   norm of the gradient "
              f"{norms[name]:.6g}")
    ratio = statistics.median(a / b for a, b in zip(seconds["whole"], seconds["shared"]))
    print(f"{'PASS' if ratio >= BAR else 'MISS'}  shared against whole: {ratio:.2f}x, the bar is {BAR}x")
    return 0 if ratio >= BAR else 1
