"""Rollouts measured side by side: `python bench.py rollout [--model tiny|FOLDER|3b --random-weights]`.

(a) turn by turn: `generate` on a padded batch until the slowest row has ended its turn, then all programs, then the
    whole conversations again from their first token; in float32 and in bfloat16, and the better one counts.
(b) our engine, on the same questions, with the same sampling settings and limits.

What is compared is useful tokens per second: tokens that the policy sampled. The limit is what bare forward passes
would take for the tokens that the engine has to read: every sampled token in passes over `slots` rows, and what it
reads for the first time (each prompt once, results) in passes of 512, with no cache, no attention to the past, no
sampling. All of it runs in turn, round by round; ratios are taken within a round.
"""
import argparse
import resource
import statistics
import sys
import time

import torch

import evaluate
import sandbox
from chat import Chat, find_code
from models import ModelError, faster_dtype, load, make_parser
from rollout import Engine, Limits
from runs import fail
from tasks import TaskError, draw, select


class TurnByTurn:
    """Multi-turn rollouts the usual way. Sampled tokens and programs are counted, nothing else is kept."""

    def __init__(self, policy, chat: Chat, box, limits: Limits):
        self.policy, self.chat, self.box, self.limits = policy, chat, box, limits
        self.ticks = {i for token, i in chat.tokenizer.get_vocab().items() if "`" in token}

    @torch.no_grad()
    def __call__(self, questions, samples: int) -> tuple[int, int]:
        """(sampled tokens, programs)."""
        live = [self.chat.prompt_ids(q.prompt) for q in questions for _ in range(samples)]
        sampled, programs, calls = 0, 0, [0] * len(live)
        while live:
            width, device = max(map(len, live)), self.policy.device
            ids = torch.tensor([[0] * (width - len(row)) + row for row in live], device=device)
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in live], device=device)

            def has_program(ids, scores, width=width, **kwargs):
                closed = [row[-1] in self.ticks and find_code(self.chat.tokenizer.decode(row[width:])) is not None
                          for row in ids.tolist()]
                return torch.tensor(closed, device=ids.device)

            out = self.policy.generate(
                input_ids=ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                max_new_tokens=self.limits.turn_tokens, eos_token_id=list(self.chat.stop_ids), pad_token_id=0,
                stopping_criteria=[has_program])
            going_on, codes, counts = [], [], []
            for row, written, count in zip(live, out[:, width:].tolist(), calls):
                end = next((i + 1 for i, token in enumerate(written) if token in self.chat.stop_ids), len(written))
                written = written[:end]
                code = find_code(self.chat.tokenizer.decode(written))
                while code is not None and find_code(self.chat.tokenizer.decode(written[:-1])) is not None:
                    written.pop()  # what was padded after the fence
                sampled += len(written)
                if code is not None and count < self.limits.calls:
                    going_on.append((row + written, written[-1] in self.chat.stop_ids))
                    codes.append(code)
                    counts.append(count + 1)
            programs += len(codes)
            results = [result.for_model(self.limits.results_chars) for result in self.box.run_many(codes)]
            after = [row + self.chat.results_ids(text, closed) for (row, closed), text in zip(going_on, results)]
            kept = [i for i, row in enumerate(after) if len(row) < self.limits.episode_tokens]
            live, calls = [after[i] for i in kept], [counts[i] for i in kept]
        return sampled, programs


class Slow:
    """A sandbox whose programs take `seconds` longer."""

    def __init__(self, box: sandbox.Sandbox, seconds: float):
        self.box, self.prefix = box, f"import time; time.sleep({seconds})\n"

    def submit(self, code: str):
        return self.box.submit(self.prefix + code)


def timed(action) -> tuple[float, object]:
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
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 10 if sys.platform == "linux" else 1 << 20)


def main(argv: list[str]) -> int:
    """Run the command; exit code 1 if a bar is missed."""
    try:
        args = parse(argv)
        tasks = select(args.tasks)
        args.dtype = faster_dtype(args.device) if args.dtype == "auto" else args.dtype
        dtypes = ("float32", "bfloat16") if args.quantize == "none" else (args.dtype,)
        policies = {dtype: load(args.model, checkpoint_folder=args.run, dtype=dtype, quantize=args.quantize,
                                random_weights=args.random_weights, layers=args.layers, device=args.device,
                                trainable=False) for dtype in dtypes}
        tokenizer = policies[dtypes[0]][1]
        chat = Chat(tokenizer, args.mode, args.style, args.answer_format)
    except (ModelError, TaskError, sandbox.SandboxError) as error:
        fail(error)
    policies = {dtype: policy for dtype, (policy, _) in policies.items()}
    limits = Limits(args.turn_tokens, args.episode_tokens, args.calls, args.results_chars)
    with sandbox.from_args(args) as box:
        passed = speed(args, policies, chat, box, limits, tasks)
        ours = policies[args.dtype]
        passed &= overlap(args, ours, chat, limits, tasks) and memory(args, ours, chat, box, limits, tasks)
    return 0 if passed else 1


def speed(args, policies: dict, chat: Chat, box, limits: Limits, tasks) -> bool:
    """Engine against generate and against the limit, for every number of episodes."""
    print(f"{args.model}, {limits.turn_tokens} tokens a turn at most, {args.rounds} rounds; useful tokens per second")
    print(f"{'episodes':>8}{'slots':>6}" + "".join(f"{'generate ' + name[:1] + name[-2:]:>14}" for name in policies)
          + f"{'engine':>10}{'ratio':>8}{'of limit':>10}{'programs':>10}{'step ms':>9}")
    bars = {}
    for count in args.episodes:
        slots = min(args.slots, count)
        samples = min(4, count)
        ours = policies[args.dtype]
        engine = Engine(ours, chat.tokenizer, box, limits, chat=chat, slots=slots)
        rates: dict[str, list[float]] = {name: [] for name in (*policies, "engine", "ratio", "limit")}
        for turn in range(args.rounds + 1):  # the first round only warms everybody up
            questions = draw(tasks, "rl", count // samples, args.levels, start=turn * count)
            seconds, episodes = timed(lambda: engine.run(questions, samples, seed=turn))  # noqa: B023
            engine_rate = sum(sum(e.mask) for e in episodes) / seconds
            read = read_tokens(episodes, samples)
            bare = (sum(sum(e.mask) for e in episodes) / slots * pass_seconds(ours, slots, 1, 5)
                    + read / 512 * pass_seconds(ours, 1, 512, 1))
            others = {}
            if turn == 0 and count != args.episodes[0]:
                continue
            for name, policy in policies.items():
                usual = TurnByTurn(policy, chat, box, limits)
                took, (sampled, _) = timed(lambda: usual(questions, samples))  # noqa: B023
                others[name] = sampled / took
            if turn:
                for name, rate in {**others, "engine": engine_rate, "ratio": engine_rate / max(others.values()),
                                   "limit": bare / seconds}.items():
                    rates[name].append(rate)
        middle = {name: statistics.median(values) for name, values in rates.items()}
        steps = max(sum(e.mask) for e in episodes)
        print(f"{count:8}{slots:6}" + "".join(f"{middle[name]:14.0f}" for name in policies)
              + f"{middle['engine']:10.0f}{middle['ratio']:7.1f}x{100 * middle['limit']:9.0f}%"
              + f"{sum(e.calls for e in episodes):10}{1000 * seconds / steps:9.1f}", flush=True)
        bars[count] = middle
    target = 4 if args.model == "tiny" else 3
    count = 64 if 64 in bars else max(bars)
    fine = bars[count]["ratio"] >= target
    print(f"{'PASS' if fine else 'MISS'}  {count} episodes: {bars[count]['ratio']:.1f}x generate, the bar is {target}x")
    if args.model != "tiny":
        reached = bars[count]["limit"] >= 0.6
        print(f"{'PASS' if reached else 'MISS'}  {count} episodes: {100 * bars[count]['limit']:.0f}% of the limit, the "
              "bar is 60%")
        fine &= reached
    return fine


def overlap(args, policy, chat: Chat, limits: Limits, tasks) -> bool:
    """The same engine with slow programs, waiting for each at once, or going on meanwhile."""
    count = min(64, max(args.episodes))
    questions = draw(tasks, "rl", count // min(4, count), args.levels)
    with sandbox.Sandbox(workers=16) as box:
        slow, rates = Slow(box, 0.2), {}
        box.run_many(["1"] * 64)
        for turn in range(args.rounds):
            for name, settings in {"wait at once": {"lag": 0}, "exact": {}, "go on": {"exact": False}}.items():
                engine = Engine(policy, chat.tokenizer, slow, limits, chat=chat, slots=count, **settings)
                seconds, episodes = timed(lambda: engine.run(questions, min(4, count), seed=turn))  # noqa: B023
                rates.setdefault(name, []).append(seconds)
    calls = sum(e.calls for e in episodes)
    print(f"\nprograms that take 200 ms, {count} episodes, {calls} programs, 16 workers; seconds: "
          + ", ".join(f"{name} {statistics.median(values):.1f}" for name, values in rates.items()))
    if calls < count // 4:
        print("too few programs to say anything about overlap: give --run a policy that writes some")
        return True
    ratio = statistics.median(a / b for a, b in zip(rates["wait at once"], rates["go on"]))
    print(f"{'PASS' if ratio >= 1.5 else 'MISS'}  going on against waiting: {ratio:.1f}x, the bar is 1.5x")
    return ratio >= 1.5


def memory(args, policy, chat: Chat, box, limits: Limits, tasks) -> bool:
    """Sixteen times as many episodes through the same slots need no more memory."""
    engine = Engine(policy, chat.tokenizer, box, limits, chat=chat, slots=8)
    engine.run(draw(tasks, "rl", 16, args.levels))
    before = peak_mb(policy)
    engine.run(draw(tasks, "rl", 16 * 16, args.levels, start=16) if args.model == "tiny" else
               draw(tasks, "rl", 16, args.levels, start=16) * 16)
    grown = peak_mb(policy) - before
    print(f"\npeak memory: {before:.0f} MB, grown by {grown:.0f} MB over 16 times as many episodes")
    fine = grown < 0.02 * before + 8
    print(f"{'PASS' if fine else 'MISS'}  growth of peak memory: {grown:.0f} MB, the bar is {0.02 * before + 8:.0f} MB")
    return fine


def parse(argv: list[str]) -> argparse.Namespace:
    parser, _ = make_parser(argv, __doc__.split("\n\n")[0], "bench.py rollout")
    parser.add_argument("--run", type=evaluate.Path, help="run folder of a policy (default: the model itself)")
    parser.add_argument("--episodes", type=lambda text: [int(part) for part in text.split(",")], default=[8, 32, 128],
                        help="numbers of episodes to measure, such as 8,32,128")
    parser.add_argument("--rounds", type=int, default=3)
    sandbox.add_arguments(parser)
    return parser.parse_args(argv)
