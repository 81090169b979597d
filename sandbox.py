"""Runs Python programs that nobody has read: quickly, one after another, and none of them can get out.

    with Sandbox() as box:
        box.run("print(2 + 2)").for_model()                  # "4"

The policy writes hundreds of programs per training step. Some are harmful by accident, and some because
cheating pays in reward. A fresh interpreter that imports numpy and sympy needs 250 ms; forking the trainer
would hand every program the trainer's memory, answers included. So there are three kinds of process:

    trainer  --- socket --->  worker                 --- fork --->  program
    is never forked itself,   has imported numpy                    gives up its last rights, runs one text
    reads the output,         and sympy, has given up               and is killed at its limits; only its
    decides what has          what no program needs,                exit status and what it printed are
    happened                  forks (3 ms), keeps the clock         left of it

What is promised is the table LAYERS; `python sandbox.py` shows which this machine has, and attacks them. How
they keep it is in `isolation/`; what each of them stops, and what nothing here stops, in docs/sandbox.md."""
import argparse
import concurrent.futures
import contextlib
import dataclasses
import os
import signal
import sys
from typing import ClassVar

if sys.platform == "win32":
    raise ImportError("the sandbox needs Linux (or, with less protection, macOS); on Windows use WSL")

from isolation import selftest
from isolation.pool import Pool
from isolation.texts import cut, portable
from runs import UserError, command

LAYERS = {  # name -> the promise that it keeps
    "fork_server": "no program waits for Python to start or for numpy and sympy to be imported",
    "limits": "CPU time, address space, file size, open files and queued signals are limited",
    "session": "a signal to the program's process group reaches nobody else; it has no terminal",
    "privileges": "no capability of root is left, and none can be won back",
    "namespaces": "no network; other processes cannot be seen; all processes of a worker end with it",
    "threads": "a program has a few hundred threads at most",
    "tmpfs": "the working folder is 64 MB of memory, gone with the worker; without it there is none",
    "landlock": "only Python's libraries can be read, only the working folder can be written",
    "seccomp": "only listed system calls: no process, no socket, no signal to others, nothing new or rare",
    "cgroup": "all programs together are bounded in memory, that of the kernel included",
}
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
            note = cut(portable(self.stderr).strip("\n"), limit // 2, head=0.0)
            note = note or f"[the program ended with exit code {self.exit_code}]"
        elif self.ok and not self.stdout.strip():
            note = "[no output; use print() to show a result]"
        output = cut(portable(self.stdout).rstrip("\n"), limit - len(note), head=0.5)
        return "\n".join(part for part in (output, note) if part)


class Sandbox(contextlib.AbstractContextManager):
    """A handful of workers. Thread-safe: every program takes an idle worker, or waits until there is one."""
    _without: ClassVar[dict] = {}      # layers to leave out, and why: tests pretend to be on other machines

    def __init__(self, timeout: float = 5.0, memory_mb: int = 512, workers: int | None = None,
                 preload: tuple = ("numpy", "sympy"), max_output: int = 64 * 1024, protection: str = "auto"):
        if protection not in ("auto", "require"):
            raise UserError(f'protection is "auto" or "require", not {protection!r}')
        workers = workers or os.cpu_count() or 1
        for name, value, least in (("memory_mb", memory_mb, 1), ("workers", workers, 1),
                                   ("max_output", max_output, 0)):
            if not isinstance(value, int) or value < least:
                raise UserError(f"{name} is a whole number, at least {least}, not {value!r}")
        self.timeout, self.max_output = timeout, max_output
        self._order("", None)                                # is this time limit one?
        settings = {"memory_mb": memory_mb, "preload": list(preload), "without": dict(self._without)}
        self._pool = Pool(settings, workers, protection == "require", Result)
        if protection == "require":
            try:
                self.run("")                                 # a worker that lacks one of them is refused
            except UserError:
                self.close()
                raise

    def close(self, *_) -> None:
        """End all workers, running programs included. Closing twice does no harm."""
        self._pool.close()

    __exit__ = close

    def run(self, code: str, timeout: float | None = None) -> Result:
        """Run one program to its end. Whatever it does, the answer is a Result."""
        return self._pool.run(*self._order(code, timeout))

    def submit(self, code: str, timeout: float | None = None) -> concurrent.futures.Future:
        return self._pool.submit(*self._order(code, timeout))

    def _order(self, code: str, timeout: float | None) -> tuple[bytes, float, int]:
        seconds = self.timeout if timeout is None else timeout
        if not 0 < seconds <= 86_400:
            raise UserError(f"a time limit is more than 0 seconds and at most a day, not {seconds!r}")
        return code.encode("utf-8", "backslashreplace"), seconds, self.max_output

    def run_many(self, codes) -> list[Result]:
        return [future.result() for future in [self.submit(code) for code in codes]]

    @property
    def layers(self) -> dict:
        """Which protections are active: name -> True, or a string that says why not."""
        if "seccomp" not in self._pool.layers:
            self.run("")                                     # now at least one worker has said what it has
        return {name: self._pool.layers[name] for name in LAYERS}


def from_args(args: argparse.Namespace) -> Sandbox:
    """As a command's flags say, 512 MB for each program; a worker for each core that torchrun leaves us."""
    workers = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) or 1
    return Sandbox(args.sandbox_timeout, workers=workers, protection=args.sandbox)


def main() -> None:
    argparse.ArgumentParser(description="Show the protections of this machine, and attack them.").parse_args()
    with Sandbox() as box:
        sys.exit(0 if selftest.passes(box, LAYERS) else 1)


if __name__ == "__main__":
    command(main, hint="No program is left running.")
