"""Rollouts measured side by side: `python r1ci.py bench rollout [--model FOLDER]`.

(a) turn by turn: `generate` on a padded batch until the slowest row has ended its turn, then all programs,
    then the whole conversations again from their first token; in float32 and in bfloat16 (unless that takes
    twice as long here, as on processors without such arithmetic), the better one counts.
(b) our engine, on the same questions, with the same sampling settings and limits; with --rollout-weights
    int8, on a copy in 8 bits (whose making, once per rollout, is in the time).

What is compared is useful tokens per second: tokens that the policy sampled. The limit is what bare forward
passes (no cache, no attention to the past, no sampling) would take for the tokens that the engine has to
read: every sampled token in passes over `slots` rows, and what it reads for the first time (each prompt once,
results) in passes of 512. No engine reaches it: when the last episodes are being written, most slots are
empty, and a small pass is hardly faster than a large one. "of its passes" compares with bare passes of the
sizes that the engine really had. All of it runs in turn, round by round; ratios are taken within a round.
"""
import argparse
import dataclasses
import resource
import statistics
import sys
import time
from unittest.mock import patch

import torch

import models
import rollout
import sandbox
from chat import Chat, find_code
from tasks import draw, select


class TurnByTurn:
    """Multi-turn rollouts the usual way. Sampled tokens and programs are counted, nothing else is kept."""

    def __init__(self, policy, chat: Chat, box, limits: rollout.Limits):
        self.policy = policy
        self.chat = chat
        self.box = box
        self.limits = limits
        self.ticks = {i for token, i in chat.tokenizer.get_vocab().items() if "`" in token}

    @torch.no_grad()
    def __call__(self, questions, samples: int) -> tuple[int, int]:
        """(sampled tokens, programs)."""
        live = [self.chat.prompt_ids(q.prompt) for q in questions for _ in range(samples)]
        calls = [0] * len(live)
        sampled = programs = 0
        while live:
            width = max(map(len, live))
            device = self.policy.device
            ids = torch.tensor([[0] * (width - len(row)) + row for row in live], device=device)
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in live], device=device)

            def has_program(ids, scores, width=width, **kwargs):
                written = [row[width:] if row[-1] in self.ticks else [] for row in ids.tolist()]
                return torch.tensor([self.program(row) is not None for row in written], device=ids.device)

            out = self.policy.generate(
                input_ids=ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                max_new_tokens=self.limits.turn_tokens, eos_token_id=list(self.chat.stop_ids), pad_token_id=0,
                stopping_criteria=[has_program])
            going_on, codes, counts = [], [], []
            for row, written, count in zip(live, out[:, width:].tolist(), calls):
                stops = [i + 1 for i, token in enumerate(written) if token in self.chat.stop_ids]
                written = written[:stops[0]] if stops else written
                code = self.program(written)
                while code is not None and self.program(written[:-1]) is not None:
                    written.pop()  # what was padded after the fence
                sampled += len(written)
                if code is not None and count < self.limits.calls:
                    going_on.append((row + written, written[-1] in self.chat.stop_ids))
                    codes.append(code)
                    counts.append(count + 1)
            programs += len(codes)
            results = [result.for_model(self.limits.results_chars) for result in self.box.run_many(codes)]
            after = [row + self.chat.results_ids(text, closed)
                     for (row, closed), text in zip(going_on, results)]
            kept = [i for i, row in enumerate(after) if len(row) < self.limits.episode_tokens]
            live = [after[i] for i in kept]
            calls = [counts[i] for i in kept]
        return sampled, programs

    def program(self, ids: list[int]) -> str | None:
        """The program that these tokens hold, if they hold a whole one."""
        return find_code(self.chat.tokenizer.decode(ids))


class Slow:
    """A sandbox whose programs take `seconds` longer."""

    def __init__(self, box: sandbox.Sandbox, seconds: float):
        self.box = box
        self.prefix = f"import time; time.sleep({seconds})\n"

    def submit(self, code: str):
        return self.box.submit(self.prefix + code)


def timed(action) -> tuple[float, object]:
    """(seconds, result) of action()."""
    began = time.perf_counter()
    result = action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began, result


@torch.no_grad()
def pass_seconds(policy, rows: int, steps: int, repeats: int) -> float:
    """Seconds of one bare forward pass over (rows, steps) tokens: the median of `repeats`."""
    ids = torch.randint(10, 1000, (rows, steps), device=policy.device)
    return statistics.median(timed(lambda: policy(input_ids=ids, use_cache=False, logits_to_keep=1))[0]
                             for _ in range(repeats))


def read_tokens(episodes, samples: int) -> int:
    """Tokens that must be read without being sampled: each question's prompt once, and every result."""
    prompts = sum(e.mask.index(1) for e in episodes[::samples] if 1 in e.mask)
    return prompts + sum(e.mask[e.mask.index(1):].count(0) for e in episodes if 1 in e.mask)


def peak_mb(policy) -> float:
    """Most memory in use so far."""
    if policy.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 10 if sys.platform == "linux"
                                                                 else 1 << 20)


def bench(args: argparse.Namespace) -> int:
    """Run the bench; exit code 1 if a bar is missed."""
    tasks = select(args.tasks)
    models.check_arguments(args)
    names = ("float32", "bfloat16") if args.quantize == "none" else (args.dtype,)
    policies = {}
    for dtype in names:
        policies[dtype], tokenizer = models.load_from_args(
            argparse.Namespace(**{**vars(args), "dtype": dtype}), args.run, trainable=False)
    chat = Chat(tokenizer, args.mode, args.style, args.answer_format)
    limits = rollout.Limits(args.turn_tokens, args.episode_tokens, args.calls, args.results_chars)
    passes = {name: pass_seconds(policy, 16, 1, 3) for name, policy in policies.items()}
    policies = {name: policies[name] for name in names if passes[name] < 2 * min(passes.values())}
    args.dtype = args.dtype if args.dtype in policies else next(iter(policies))
    ours = policies[args.dtype]
    with sandbox.from_args(args) as box:
        passed, programs = speed(args, policies, chat, box, limits, tasks)
        if programs > max(args.episodes) // 8:
            passed &= overlap(args, ours, chat, limits, tasks)
        else:
            print("\ntoo few programs to measure their overlap: give --run a policy that writes some")
        passed &= growth(args, ours, chat, box, limits, tasks)
    return 0 if passed else 1


def speed(args, policies: dict, chat: Chat, box, limits: rollout.Limits, tasks) -> tuple[bool, int]:
    """Engine against generate and against the limit, by number of episodes; (bars held, programs run)."""
    weights = ", sampled in 8 bits" if args.rollout_weights == "int8" else ""
    print(f"{args.model}, {args.dtype}{weights}, {limits.turn_tokens} tokens a turn at most, {args.rounds} "
          "rounds; useful tokens per second")
    print(f"{'episodes':>8}{'slots':>6}" + "".join(f"{'generate ' + name[:1] + name[-2:]:>14}"
                                                   for name in policies)
          + f"{'engine':>8}{'ratio':>7}{'of limit':>10}{'of its passes':>15}{'programs':>10}")
    ours = policies[args.dtype]
    copied = models.Merged(ours, torch.float32, int8=True) if args.rollout_weights == "int8" else None
    if copied:
        copied.refresh(ours)
    sampler = copied.policy if copied else ours
    found = {}
    programs = 0
    for count in args.episodes:
        slots = min(args.slots, count)
        samples = min(4, count)
        sizes = sorted({1, *range(8, slots, 8), slots})
        bare = {size: pass_seconds(sampler, size, 1, 5) for size in sizes}
        long = pass_seconds(sampler, 1, 512, 3)
        engine = rollout.Engine(ours, chat.tokenizer, box, limits, chat=chat, slots=slots, merged=copied)
        engine.run(draw(tasks, "rl", 2, args.levels), temperature=0)  # start the sandbox, warm the caches
        rates: dict[str, list[float]] = {}
        for turn in range(args.rounds):
            questions = draw(tasks, "rl", count // samples, args.levels, start=turn * count)
            engine.batches.clear()
            seconds, episodes = timed(lambda: engine.run(questions, samples, seed=turn))  # noqa: B023
            sampled = sum(sum(e.mask) for e in episodes)
            reading = read_tokens(episodes, samples) / 512 * long
            passes = sum(steps * bare[min(size for size in sizes if size >= rows)]
                         for rows, steps in engine.batches.items())
            usual = {}
            for name, policy in policies.items():
                turn_by_turn = TurnByTurn(policy, chat, box, limits)
                took, (tokens, _) = timed(lambda: turn_by_turn(questions, samples))  # noqa: B023
                usual[name] = tokens / took
            for name, rate in {**usual, "engine": sampled / seconds,
                               "ratio": sampled / seconds / max(usual.values()),
                               "limit": (sampled / slots * bare[slots] + reading) / seconds,
                               "passes": (passes + reading) / seconds}.items():
                rates.setdefault(name, []).append(rate)
        middle = found[count] = {name: statistics.median(values) for name, values in rates.items()}
        programs = sum(e.calls for e in episodes)
        print(f"{count:8}{slots:6}" + "".join(f"{middle[name]:14.0f}" for name in policies)
              + f"{middle['engine']:8.0f}{middle['ratio']:6.1f}x{100 * middle['limit']:9.0f}%"
              + f"{100 * middle['passes']:14.0f}%{programs:10}", flush=True)
    count = 64 if 64 in found else max(found)
    ratio, limit, passes = (found[count][name] for name in ("ratio", "limit", "passes"))
    checks = [(f"{ratio:.1f}x generate", ratio >= 4, "4x")]
    if args.model != "tiny":
        what = f"{100 * passes:.0f}% of bare passes of the same sizes ({100 * limit:.0f}% of the limit)"
        checks.append((what, passes >= 0.75, "75%"))
    for what, fine, bar in checks:
        print(f"{'PASS' if fine else 'MISS'}  {count} episodes: {what}, the bar is {bar}")
    return all(fine for _, fine, _ in checks), programs


def overlap(args, policy, chat: Chat, limits: rollout.Limits, tasks) -> bool:
    """The same engine with slow programs: waiting for each at once, a few steps later, or going on."""
    count = min(64, max(args.episodes))
    samples = min(4, count)
    questions = draw(tasks, "rl", count // samples, args.levels)
    rates: dict[str, list[float]] = {}
    with sandbox.Sandbox(workers=16) as box:
        slow = Slow(box, 0.2)
        box.run_many(["1"] * 64)
        for turn in range(args.rounds):
            # No flag sets the lag, so "at once" changes the constant.
            for name, exact, lag in (("at once", True, 0), ("exact", True, rollout.LAG),
                                     ("going on", False, rollout.LAG)):
                engine = rollout.Engine(policy, chat.tokenizer, slow, limits, chat=chat, slots=count,
                                        exact=exact)
                with patch.object(rollout, "LAG", lag):
                    seconds, episodes = timed(lambda: engine.run(questions, samples, seed=turn))  # noqa: B023
                rates.setdefault(name, []).append(seconds)
    calls = sum(e.calls for e in episodes)
    print(f"\nprograms that take 200 ms, {count} episodes, {calls} programs, 16 workers; seconds: "
          + ", ".join(f"{name} {statistics.median(values):.1f}" for name, values in rates.items()))
    ratio = statistics.median(a / b for a, b in zip(rates["at once"], rates["going on"]))
    print(f"{'PASS' if ratio >= 1.5 else 'MISS'}  going on against waiting: {ratio:.1f}x, the bar is 1.5x")
    return ratio >= 1.5


def growth(args, policy, chat: Chat, box, limits: rollout.Limits, tasks) -> bool:
    """Sixteen times as many episodes through the same slots need no more memory."""
    engine = rollout.Engine(policy, chat.tokenizer, box, dataclasses.replace(limits, turn_tokens=16),
                            chat=chat, slots=8)
    questions = draw(tasks, "rl", 16, args.levels)
    engine.run(questions)
    before = peak_mb(policy)
    engine.run(questions * 16)
    grown = peak_mb(policy) - before
    bar = 0.02 * before
    print(f"\npeak memory: {before:.0f} MB with 16 episodes, {grown:.0f} MB more with 256, 8 slots each time")
    print(f"{'PASS' if grown < bar else 'MISS'}  growth of peak memory: {grown:.0f} MB, the bar is "
          f"{bar:.0f} MB")
    return grown < bar
