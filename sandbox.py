"""Runs Python programs that nobody has read: quickly, one after another, and none of them can get out.

    with Sandbox() as box:
        box.run("print(2 + 2)").for_model()                  # "4"

The policy writes hundreds of programs per training step. Some are harmful by accident, and some because
cheating pays in reward. A fresh interpreter that imports numpy and sympy needs 250 ms; forking the trainer
would hand every program the trainer's memory, answers included. So there are three kinds of process:

    trainer  --- socket --->  worker                 --- fork --->  program
    is never forked itself,   has imported numpy                    gives up its last rights, runs one text
    keeps the clock, reads    and sympy, has given up               and is killed at its limits; only its
    the output, decides       what no program needs,                exit status and what it printed are
    what has happened         waits and forks (3 ms)                left of it

A program's text and the pipes for its output go from the trainer to the program as open file descriptors. The
worker only passes them on, so the next program, a copy of the worker, finds no trace of the one before.

What is promised, and which layer keeps which promise, is the table LAYERS; `python sandbox.py` shows which of
them this machine has, and attacks them. How the promises are kept is in `isolation/`: `handle.py` is the
trainer's side of a worker, `worker.py` is worker and program, `kernel.py` the system calls behind the layers.

Not covered: bugs of the kernel (against people who attack on purpose, use gVisor or a virtual machine), side
channels such as timing, competition with the trainer for the CPU, the names and sizes of files (they can be
asked for, not opened), and whatever lies in Python's own library folders, which can be read.
"""
import argparse
import concurrent.futures
import dataclasses
import functools
import os
import queue
import re
import signal
import sys
import tempfile
import threading
from typing import ClassVar

if sys.platform == "win32":
    raise ImportError("the sandbox needs Linux (or, with less protection, macOS); on Windows use WSL")

from isolation import selftest
from isolation.handle import WorkerHandle
from isolation.worker import LIBRARIES
from runs import UserError, command

LAYERS = {  # name -> the promise that it keeps
    "fork_server": "no program waits for Python to start or for numpy and sympy to be imported",
    "limits": "CPU time, memory, file size and the number of open files are limited",
    "session": "a signal to the program's process group reaches nobody else; it has no terminal",
    "privileges": "no capability of root is left, and none can be won back",
    "namespaces": "no network; other processes cannot be seen; all processes of a worker end with it",
    "tmpfs": "the working folder is 64 MB of memory, gone when the worker is gone",
    "landlock": "only Python's libraries can be read, only the working folder can be written",
    "seccomp": "no other process, socket, signal to others, shared memory, or rare system call",
}
ESSENTIAL = ("limits", "privileges", "landlock", "seccomp")  # --sandbox require refuses to start without them
NOTES = {  # status -> what the model is told
    "timeout": "[stopped: the program ran longer than its time limit]",
    "memory": "[stopped: the program needed more memory than it may use]",
    "output": "[stopped: the program printed far more than it may]",
    "killed": "[the program was killed]",
}


@dataclasses.dataclass
class Result:
    """What became of one program. `status` is decided by the trainer, never by what the program said."""
    status: str                        # "ok" | "error" | "timeout" | "memory" | "output" | "killed"
    stdout: str = ""
    stderr: str = ""
    exit_code: int | None = None       # None: it did not exit by itself
    signal: int | None = None
    truncated: bool = False            # the middle of its output is missing
    seconds: float = 0.0
    max_rss_mb: float = 0.0

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    def for_model(self, limit: int = 2000) -> str:
        """The text that goes back to the policy, in about `limit` characters; equal runs give equal texts."""
        note = NOTES.get(self.status, "")
        if self.status == "killed" and self.signal:
            names = {s.value: s.name for s in signal.Signals}
            note = f"[the program was killed: {names.get(self.signal, f'signal {self.signal}')}]"
        elif self.status == "error":
            note = _cut(_portable(self.stderr).strip("\n"), limit // 2, head=0.0)
            note = note or f"[the program ended with exit code {self.exit_code}]"
        elif self.ok and not self.stdout.strip():
            note = "[no output; use print() to show a result]"
        output = _cut(_portable(self.stdout).rstrip("\n"), limit - len(note), head=0.5)
        return "\n".join(part for part in (output, note) if part)


def _portable(text: str) -> str:
    """`text` without what differs from machine to machine: folders of libraries, addresses of objects."""
    text = re.sub(r'(File ")[^"\n]*/(?:site-packages|dist-packages|python3\.\d+)/', r"\1", text)
    return re.sub(r"\bat 0x[0-9a-fA-F]+>", "at 0x...>", text)


def _cut(text: str, limit: int, head: float) -> str:
    """At most about `limit` characters: the first, the last, and between them how many are missing."""
    if len(text) <= limit:
        return text
    room = max(limit - 40, 40)
    first = int(room * head)
    middle = f"... [{len(text) - room} characters cut] ..."
    return "\n".join(part for part in (text[:first], middle, text[first - room:]) if part)


class Sandbox:
    """A handful of workers. Thread-safe: every call takes an idle worker, or waits until there is one."""

    _without: ClassVar[dict] = {}      # layers to leave out, and why: tests pretend to be on other machines

    def __init__(self, timeout: float = 5.0, memory_mb: int = 512, workers: int | None = None,
                 preload: tuple = ("numpy", "sympy"), max_output: int = 64 * 1024, protection: str = "auto"):
        if protection not in ("auto", "require"):
            raise UserError(f'protection is "auto" or "require", not {protection!r}')
        self.timeout = timeout
        self.max_output = max_output
        self.closed = False
        self._settings = {"memory_mb": memory_mb, "preload": list(preload), "without": dict(self._without),
                          "path": [p for p in sys.path if os.path.basename(p) in LIBRARIES],
                          "temp": tempfile.gettempdir()}
        self._workers = set()          # all that are alive, so that close() can end the busy ones too
        self._lock = threading.Lock()
        self._layers = {}
        self._required = ESSENTIAL if protection == "require" else ()
        self._count = max(1, workers or os.cpu_count() or 1)
        self._threads = concurrent.futures.ThreadPoolExecutor(self._count, thread_name_prefix="sandbox")
        self._idle = queue.LifoQueue()                       # last in, first out: a started worker goes first
        for worker in [None] * (self._count - 1) + [self._start()]:
            self._idle.put(worker)                           # None: whoever takes it starts a worker
        if self._required:
            try:
                self.run("")                                 # a worker that lacks one of them is refused
            except UserError:
                self.close()
                raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """End all workers, running programs included. Closing twice does no harm."""
        with self._lock:
            self.closed = True
            workers = list(self._workers)
        for worker in workers:
            worker.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in [self._idle.get() for _ in range(self._count)]:    # the busy ones are back soon
            if worker:
                worker.sock.close()
            self._idle.put(None)                             # whoever waits for one finds the sandbox closed

    def run(self, code: str, timeout: float | None = None) -> Result:
        """Run one program to its end. Whatever it does, the answer is a Result."""
        self._check_open()
        order = (code.encode("utf-8", "backslashreplace"), timeout or self.timeout, self.max_output)
        worker = self._idle.get()
        reusable = None
        try:
            worker = self._ready(worker)
            outcome = worker.run(*order)
            if outcome is None:                              # it had died while idle, and took no program
                self._end(worker)
                worker = self._ready(self._start())
                outcome = worker.run(*order) or {"status": "killed"}
            reusable = worker if worker.alive else None
            return Result(**outcome)
        finally:
            if reusable is None and worker is not None:      # it died, or this call was interrupted
                self._end(worker)
            self._idle.put(reusable)

    def submit(self, code: str, timeout: float | None = None) -> concurrent.futures.Future:
        self._check_open()
        return self._threads.submit(self.run, code, timeout)

    def run_many(self, codes) -> list[Result]:
        return [future.result() for future in [self.submit(code) for code in codes]]

    @property
    def layers(self) -> dict:
        """Which protections are active: name -> True, or a string that says why not."""
        if not self._layers:
            self.run("")                                     # now at least one worker has said what it has
        return dict(self._layers)

    def _check_open(self) -> None:
        if self.closed:
            raise RuntimeError("this sandbox is closed")

    def _start(self) -> WorkerHandle:
        with self._lock:
            self._check_open()
            worker = WorkerHandle(self._settings)
            self._workers.add(worker)
            return worker

    def _end(self, worker: WorkerHandle) -> None:
        worker.kill()
        worker.sock.close()
        self._workers.discard(worker)

    def _ready(self, worker: WorkerHandle | None) -> WorkerHandle:
        """A worker that has said hello. If it cannot even start, a plainer one (no fork server) is tried."""
        worker = worker or self._start()
        if "error" in worker.hello() and not self.closed:
            self._settings["without"].setdefault("fork_server", "could not start: " + worker.hello()["error"])
            self._end(worker)
            worker = self._start()
        if "error" in worker.hello():
            self._end(worker)
            self._check_open()
            raise UserError(f"no worker of the sandbox can start: {worker.hello()['error']}")
        if not worker.accepted:
            self._accept(worker.hello()["layers"])
            worker.accepted = True
        return worker

    def _accept(self, layers: dict) -> None:
        """Check the layers of a new worker. The sandbox has a layer if all of its workers have it."""
        missing = {name: why for name, why in layers.items() if why is not True}
        with self._lock:
            self._layers = {**layers, **self._layers, **missing}
            if missing:
                _warn("; ".join(f"{name}: {why}" for name, why in missing.items()))
        if any(name in missing for name in self._required):
            text = ", ".join(f"{name} ({missing[name]})" for name in self._required if name in missing)
            raise UserError(f"no safe sandbox on this machine, missing: {text}")


@functools.cache                       # the same warning is given once per process
def _warn(reasons: str) -> None:
    print(f"sandbox: programs run with reduced protection on this machine ({reasons}); "
          "see `python sandbox.py`", file=sys.stderr)


def from_args(args: argparse.Namespace) -> Sandbox:
    """The sandbox that a command's flags ask for: 512 MB for each program, one worker for each core."""
    return Sandbox(timeout=args.sandbox_timeout, protection=args.sandbox)


def main() -> None:
    argparse.ArgumentParser(description="Show the protections of this machine, and attack them.").parse_args()
    with Sandbox() as box:
        sys.exit(0 if selftest.passes(box, LAYERS) else 1)


if __name__ == "__main__":
    command(main, hint="No program is left running.")
