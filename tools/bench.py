"""Speed, measured side by side.

    python r1ci.py bench sandbox [--quick]      against a fresh interpreter and against a bare fork
    python r1ci.py bench rollout                the engine against `generate` and against bare forward passes
    python r1ci.py bench training               an update that reads a group's prompt once, against others

Every contestant runs in every round, in turn, so that whatever else the machine does hits all of them alike;
ratios are taken within a round, and their median over the rounds is compared with a bar. Each bar is printed
with PASS or MISS, and the exit code is 1 if one was missed.
"""
import argparse
import concurrent.futures
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import sandbox
from isolation import worker
from runs import SEED, Parser, make_parser, whole

PROGRAMS = {
    "print": "print(2+2)",
    "imports": "import numpy as np, sympy as sp\nx = sp.symbols('x')\n"
               "print(sp.integrate(x**2, x), np.arange(10).sum())",
}
FRESH_BAR = {"print": 3, "imports": 40}        # times as fast as a fresh interpreter
FLOOR_BAR = {"print": 65, "imports": 80}       # percent of the floor's speed
# The floor: what any fork server must do. A process like a worker (same modules, same memory allocator)
# forks, runs the program and waits; no layer, no pipe, no trainer to talk to.
FLOOR = """
import os, sys, time
sys.path.insert(0, {here!r})
from isolation import worker
worker._preload(["numpy", "sympy"])
code = {code!r}
print("ready", flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    for _ in range(int(line)):
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
            exec(compile(code, "program.py", "exec"), {{"__name__": "__main__"}})
            sys.stdout.flush()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    print(time.perf_counter() - start, flush=True)
"""


class Floor:
    """`workers` processes that fork, run and wait, all at the same time."""

    def __init__(self, code: str, workers: int):
        source = FLOOR.format(here=worker.ROOT, code=code)
        self.processes = [subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, text=True,
                                           stdout=subprocess.PIPE, env=worker.environment())
                          for _ in range(workers)]
        for process in self.processes:
            process.stdout.readline()

    def __call__(self, count: int) -> float:
        start = time.perf_counter()
        for process in self.processes:
            process.stdin.write(f"{count // len(self.processes)}\n")
            process.stdin.flush()
        for process in self.processes:
            process.stdout.readline()
        return count / (time.perf_counter() - start)

    def close(self) -> None:
        for process in self.processes:
            process.stdin.close()
            process.stdout.close()
            process.wait()


class Fresh:
    """A new interpreter for every program: what everybody tries first."""

    def __init__(self, code: str, workers: int):
        self.code = code
        self.threads = concurrent.futures.ThreadPoolExecutor(workers)

    def __call__(self, count: int) -> float:
        def one(_):
            subprocess.run([sys.executable, "-c", self.code], capture_output=True, check=True)
        start = time.perf_counter()
        list(self.threads.map(one, range(count)))
        return count / (time.perf_counter() - start)

    def close(self) -> None:
        self.threads.shutdown()


class Boxed:
    """The sandbox with all the layers that this machine has."""

    def __init__(self, code: str, workers: int):
        self.code = code
        self.latencies = []
        self.box = sandbox.Sandbox(workers=workers)
        self.threads = concurrent.futures.ThreadPoolExecutor(workers)
        self.box.run_many([code] * 4 * workers)

    def __call__(self, count: int) -> float:
        def one(_):
            start = time.perf_counter()
            result = self.box.run(self.code)
            assert result.ok, result
            return time.perf_counter() - start
        start = time.perf_counter()
        self.latencies += self.threads.map(one, range(count))
        return count / (time.perf_counter() - start)

    def close(self) -> None:
        self.threads.shutdown()
        self.box.close()


def verdict(what: str, value: float, bar: float, unit: str) -> bool:
    print(f"{'PASS' if value >= bar else 'MISS'}  {what}: {value:.2f}{unit}, the bar is {bar:g}{unit}")
    return value >= bar


def race(rounds: int, counts: dict) -> bool:
    """Programs per second of all contestants, round by round; True if every bar is held."""
    passed = True
    print(f"{'program':9}{'workers':>8}{'fresh/s':>10}{'sandbox/s':>11}{'floor/s':>10}"
          f"{'/ fresh':>10}{'/ floor':>10}{'median ms':>11}{'p99 ms':>9}")
    bars = []
    for name, code in PROGRAMS.items():
        for workers in (1, 2):
            field = {"fresh": Fresh(code, workers), "sandbox": Boxed(code, workers),
                     "floor": Floor(code, workers)}
            try:
                rates = [{who: run(counts[name, who]) for who, run in field.items()} for _ in range(rounds)]
                latencies = sorted(field["sandbox"].latencies)
            finally:
                for contestant in field.values():
                    contestant.close()
            middle = {who: statistics.median(rate[who] for rate in rates) for who in field}
            fresh = statistics.median(rate["sandbox"] / rate["fresh"] for rate in rates)
            floor = statistics.median(rate["sandbox"] / rate["floor"] for rate in rates)
            print(f"{name:9}{workers:8}"
                  f"{middle['fresh']:10.1f}{middle['sandbox']:11.1f}{middle['floor']:10.1f}"
                  f"{fresh:9.1f}x{100 * floor:9.0f}%{1000 * statistics.median(latencies):11.1f}"
                  f"{1000 * latencies[int(0.99 * len(latencies))]:9.1f}", flush=True)
            bars.append((f"{name}, workers: {workers}, against fresh", fresh, FRESH_BAR[name], "x"))
            bars.append((f"{name}, workers: {workers}, against the floor", 100 * floor, FLOOR_BAR[name], "%"))
    print()
    for bar in bars:
        passed &= verdict(*bar)
    return passed


def memory_kb(pids: list[int]) -> int:
    """Memory that these processes do not share with others, in all."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("Private"))
    return total


def descendants(root: int, without: int = 0) -> list[int]:
    """All processes that this one has started, and those that they have; `without` one and its own."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid and child != without]
    return found[1:]


def endurance(programs: int) -> bool:
    """Many programs in a row: after the last one there is not more of anything than after the first ones."""
    with sandbox.Sandbox(workers=2) as box:
        def snapshot() -> tuple[int, int, int, int]:
            family = descendants(os.getpid())
            files = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in (*family, os.getpid()))
            return memory_kb([os.getpid()]), memory_kb(family), files, len(family)

        def spell(first: int, count: int) -> None:
            mixed = ["print({0}+2)", "open('f', 'w').write('x' * {0})", "1/0", "print('y' * 100000)"]
            for start in range(first, first + count, 100):   # a hundred at a time: results are memory too
                box.run_many([mixed[i % len(mixed)].format(i) for i in range(start, start + 100)])
        spell(0, min(1000, programs // 2))                    # whatever grows once has grown now
        before = snapshot()
        start = time.perf_counter()
        spell(0, programs)
        seconds = time.perf_counter() - start
        after = snapshot()
    print(f"\n{programs} programs in a row, 2 workers: {programs / seconds:.0f} per second")
    grown = {}
    for what, old, new in zip(("trainer kB", "workers kB", "descriptors", "processes"), before, after):
        grown[what] = new - old
        print(f"  {what:12} {old:8} -> {new:8}")
    # A leak of as little as 1 kB a program would be 10 MB after 10,000.
    steady = [("trainer kB", 2048), ("workers kB", 2048), ("descriptors", 0), ("processes", 0)]
    passed = True
    for what, most in steady:
        fine = grown[what] <= most
        passed &= fine
        print(f"{'PASS' if fine else 'MISS'}  growth of {what}: {grown[what]}, the bar is {most}")
    return passed


def bench_sandbox(args: argparse.Namespace) -> int:
    # Short turns, many rounds: what else the machine does then hits all contestants of a round alike.
    rounds = 7 if args.quick else 25
    counts = {("print", "fresh"): 16, ("print", "sandbox"): 50, ("print", "floor"): 50,
              ("imports", "fresh"): 2, ("imports", "sandbox"): 30, ("imports", "floor"): 30}
    passed = race(rounds, counts)
    passed &= endurance(1000 if args.quick else 10_000)
    return 0 if passed else 1


def parse_rollout(argv: list[str]) -> argparse.Namespace:
    """The command line of `bench rollout`, answered before torch is imported."""
    parser, _ = make_parser(argv, "Rollouts: the engine against `generate`, and against bare forward passes.",
                            "r1ci.py bench rollout")
    parser.add_argument("--run", type=Path, help="run folder of a policy (default: the model itself)")
    parser.add_argument("--episodes", type=lambda text: [whole()(part) for part in text.split(",")],
                        default=[8, 32, 64, 128], help="numbers of episodes to measure, such as 8,32,64,128")
    parser.add_argument("--rounds", type=whole(), default=2)
    parser.add_argument("--seed", type=SEED, default=0, help="of random weights")
    return parser.parse_args(argv)


def parse_training(argv: list[str]) -> argparse.Namespace:
    """The command line of `bench training`."""
    parser, values = make_parser(argv, "Updates: a group's prompt read once, or for each of its rows.",
                                 "r1ci.py bench training")
    add = parser.add_argument
    add("--run", type=Path, help="run folder of a policy (default: the model itself)")
    add("--prompt-tokens", type=whole(), default=240, help="of the prompt that all rows share")
    add("--answer-tokens", type=whole(2), default=120, help="of the first half of the rows")
    add("--samples", type=whole(2, 1024), default=8, help="rows")
    add("--no-gradient-checkpointing", dest="gradient_checkpointing", action="store_false",
        default=values["gradient_checkpointing"], help="keep all activations")
    add("--rounds", type=whole(), default=3)
    add("--seed", type=SEED, default=0, help="of random weights and tokens")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run one of the benches; the exit code is 1 if a bar is missed. Without a name: say what there is."""
    if argv[:1] == ["rollout"]:
        args = parse_rollout(argv[1:])
        from tools import bench_rollout
        return bench_rollout.bench(args)
    if argv[:1] == ["training"]:
        args = parse_training(argv[1:])
        from tools import bench_training
        return bench_training.bench(args)
    parser = Parser("r1ci.py bench", __doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="bench")
    command = commands.add_parser("sandbox", help="against a fresh interpreter and against a bare fork")
    command.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    commands.add_parser("rollout", help="the engine against generate and against bare forward passes")
    commands.add_parser("training", help="an update that reads a group's prompt once, against others")
    args = parser.parse_args(argv)
    if args.bench is None:
        parser.print_help()
        return 0
    return bench_sandbox(args)
