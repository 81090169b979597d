"""Runs python programs that nobody has read: fast, one after another, and none of them can get out.

    with Sandbox() as box:
        box.run("print(2 + 2)").for_model()                  # "4"

The policy writes hundreds of programs per training step, some of them hostile by accident, some because a
reward is to be had. A fresh interpreter that imports numpy and sympy needs 250 ms; forking the trainer would
hand every program the trainer's memory, answers included. So there are three kinds of process:

    trainer  --- socket --->  worker                 --- fork --->  program
    never forks itself,       has numpy and sympy               takes the last steps down, runs one text,
    keeps the clock, reads    imported; has given up            is killed at its limits; its exit status and
    the output, decides       what no program needs;            what it printed are all that is left of it
    what has happened         waits, forks (3 ms)

The text and the pipes for the output go from the trainer to the program as open descriptors. The worker only
passes them on, so the next fork finds nothing of the program before in its memory.

What is promised, and which layer stands for which promise, is the table LAYERS; `python sandbox.py` shows
what this machine has of it and attacks it. This file is the trainer's side; `isolation/worker.py` is worker and
program, `isolation/kernel.py` the system calls behind the layers.

Not covered: bugs of the kernel (all share one; against people who attack on purpose take gVisor or a virtual
machine), side channels such as timing, CPU contention with the trainer, the names and sizes of files (they
can be asked for, not opened), and whatever lies in python's own library folders, which can be read.
"""
import argparse
import concurrent.futures
import contextlib
import dataclasses
import math
import os
import queue
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import ClassVar

if sys.platform == "win32":
    raise ImportError("the sandbox needs Linux (or, with less protection, macOS); on Windows use WSL")

from isolation import kernel
from isolation.worker import (
    CLEAN,
    LIBRARIES,
    MEMORY_EXIT,
    ORDER,
    REPORT,
    ROOT,
    boot,
    environment,
    receive_json,
    send_json,
)

LAYERS = {  # name -> the promise it keeps
    "fork_server": "no program waits for python to start or for numpy and sympy to be imported",
    "limits": "CPU time, memory, file size and open files end where they should",
    "session": "a signal to the program's group reaches nobody else; it has no terminal",
    "privileges": "no capability of root is left, and none can be won back",
    "namespaces": "no network; other processes cannot be seen; all processes of a worker end with it",
    "tmpfs": "the working folder is 64 MB of memory, gone when the worker is gone",
    "landlock": "only python's libraries can be read, only the working folder can be written",
    "seccomp": "no other process, socket, signal to others, shared memory, or rare system call",
}
ESSENTIAL = ("limits", "privileges", "landlock", "seccomp")  # without these, --sandbox require refuses
KILL_OUTPUT = 64           # a program that prints this many times max_output is stopped
GRACE = 2.0                # seconds that a worker has to report a program that it was told to kill
SENTENCES = {
    "timeout": "[stopped: the program ran longer than its time limit]",
    "memory": "[stopped: the program needed more memory than it may use]",
    "output": "[stopped: the program printed far more than it may]",
    "killed": "[the program was killed]",
}


class SandboxError(Exception):
    """The sandbox was misused, or cannot give the protection that was asked for."""


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
        """What a person would want to see, in about `limit` characters; the same for the same behaviour."""
        note = SENTENCES.get(self.status, "")
        if self.status == "killed" and self.signal:
            names = {s.value: s.name for s in signal.Signals}
            note = f"[the program was killed: {names.get(self.signal, f'signal {self.signal}')}]"
        elif self.status == "error":
            note = _cut(_plain(self.stderr).strip("\n"), limit // 2, head=0.0)
            note = note or f"[the program ended with exit code {self.exit_code}]"
        elif self.ok and not self.stdout.strip():
            note = "[no output; use print() to show a result]"
        output = _cut(_plain(self.stdout).rstrip("\n"), limit - len(note), head=0.5)
        return "\n".join(part for part in (output, note) if part)


def _plain(text: str) -> str:
    """Without what differs from machine to machine: folders of the libraries, addresses of objects."""
    text = re.sub(r'(File ")[^"\n]*/(?:site-packages|dist-packages|python3\.\d+)/', r"\1", text)
    return re.sub(r"\bat 0x[0-9a-fA-F]+>", "at 0x...>", text)


def _cut(text: str, limit: int, head: float) -> str:
    """At most about `limit` characters: first ones, last ones, and between them how many are missing."""
    if len(text) <= limit:
        return text
    room = max(limit - 40, 40)
    first = int(room * head)
    middle = f"... [{len(text) - room} characters cut] ..."
    return "\n".join(part for part in (text[:first], middle, text[first - room:]) if part)


# ---- the trainer's side --------------------------------------------------------------------------

class Sandbox:
    """A handful of workers. Thread-safe: every call takes an idle worker, or waits until there is one."""

    _without: ClassVar[dict] = {}      # layers not to try, and why: the tests pretend to be other machines

    def __init__(self, timeout: float = 5.0, memory_mb: int = 512, workers: int | None = None,
                 preload: tuple = ("numpy", "sympy"), max_output: int = 64 * 1024, protection: str = "auto"):
        if protection not in ("auto", "require"):
            raise SandboxError(f'protection is "auto" or "require", not {protection!r}')
        self.timeout, self.max_output, self.closed = timeout, max_output, False
        self._settings = {"memory_mb": memory_mb, "preload": list(preload), "without": dict(self._without),
                          "path": [p for p in sys.path if os.path.basename(p) in LIBRARIES],
                          "temp": tempfile.gettempdir()}
        self._workers = set()          # all that are alive, so that close() can end the busy ones too
        self._lock = threading.Lock()
        self._layers, self._required = {}, ESSENTIAL if protection == "require" else ()
        self._count = max(1, workers or os.cpu_count() or 1)
        self._idle = queue.LifoQueue()                       # last in, first out: a started worker goes first
        for _ in range(self._count - 1):
            self._idle.put(None)                             # None: to be started by whoever needs it
        self._threads = concurrent.futures.ThreadPoolExecutor(self._count, thread_name_prefix="sandbox")
        self._idle.put(self._start())                        # the first one warms up while the caller goes on
        if self._required:
            try:
                self.run("")                                 # no worker is accepted that lacks something
            except SandboxError:
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
            self._idle.put(None)                             # whoever waits for one finds it closed

    def run(self, code: str, timeout: float | None = None) -> Result:
        """Run one program to its end. Whatever it does, the answer is a Result."""
        source = code.encode("utf-8", "backslashreplace")
        if self.closed:
            raise SandboxError("this sandbox is closed")
        worker, reusable = self._idle.get(), None
        try:
            worker = self._ready(worker)
            result = worker.run(source, timeout or self.timeout, self.max_output)
            if result is None:                               # it had died while idle, and took no program
                self._end(worker)
                worker = self._ready(self._start())
                result = worker.run(source, timeout or self.timeout, self.max_output) or Result("killed")
            reusable = worker if worker.alive else None
            return result
        finally:
            if reusable is None and worker is not None:      # it died, or we were interrupted in the middle
                self._end(worker)
            self._idle.put(reusable)

    def submit(self, code: str, timeout: float | None = None) -> concurrent.futures.Future:
        if self.closed:
            raise SandboxError("this sandbox is closed")
        return self._threads.submit(self.run, code, timeout)

    def run_many(self, codes) -> list[Result]:
        return [future.result() for future in [self.submit(code) for code in codes]]

    @property
    def layers(self) -> dict:
        """Which protections are active: name -> True, or a string that says why not."""
        if not self._layers:
            worker = self._idle.get()
            try:
                worker = self._ready(worker)
            finally:
                self._idle.put(worker)
        return dict(self._layers)

    def _end(self, worker: "_Worker") -> None:
        worker.kill()
        worker.sock.close()
        self._workers.discard(worker)

    def _start(self) -> "_Worker":
        with self._lock:
            if self.closed:
                raise SandboxError("this sandbox is closed")
            worker = _Worker(self._settings)
            self._workers.add(worker)
            return worker

    def _ready(self, worker: "_Worker | None") -> "_Worker":
        """A worker that has said hello. One that can't even start is tried once more in the plainest way."""
        worker = worker or self._start()
        hello = worker.hello()
        if "error" in hello and not self.closed:
            reason = "it could not start: " + hello["error"].strip().splitlines()[-1]
            self._settings["without"].setdefault("fork_server", reason)
            self._end(worker)
            worker = self._start()
            hello = worker.hello()
        if "error" in hello:
            self._end(worker)
            raise SandboxError("this sandbox is closed" if self.closed else hello["error"])
        if not worker.accepted:
            self._accept(hello["layers"])
            worker.accepted = True
        return worker

    def _accept(self, layers: dict) -> None:
        """Look at what a new worker has. A box has a layer if all of its workers have it."""
        missing = {name: why for name, why in layers.items() if why is not True}
        with self._lock:
            self._layers = {**layers, **self._layers, **missing}
            _announce(missing)
        if any(name in missing for name in self._required):
            text = ", ".join(f"{name} ({missing[name]})" for name in self._required if name in missing)
            raise SandboxError(f"no safe sandbox on this machine, missing: {text}")


_said: set[str] = set()


def _announce(missing: dict) -> None:
    """Say in plain words, once per process, that something is missing."""
    reasons = "; ".join(f"{name}: {why}" for name, why in missing.items())
    text = f"sandbox: programs run with reduced protection on this machine ({reasons})"
    if missing and text not in _said:
        _said.add(text)
        print(text + "; see `python sandbox.py`", file=sys.stderr)


class _Worker:
    """The trainer's handle on one worker process."""

    def __init__(self, settings: dict):
        self.alive, self.accepted, self.dirty, self._hello = True, False, False, None
        self.sock, theirs = socket.socketpair()
        with theirs:
            # Popen without preexec_fn is a vfork and an exec: no copy of the trainer's memory ever exists.
            self.process = subprocess.Popen(
                boot(f"serve({theirs.fileno()})"), pass_fds=[theirs.fileno()], env=environment(), cwd="/",
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True)
        send_json(self.sock, settings)

    def hello(self) -> dict:
        if self._hello is None:
            try:
                self._hello = receive_json(self.sock)
            except (OSError, ValueError):
                self._hello = {"error": "the worker process ended before it was ready"}
        return self._hello

    def kill(self) -> None:
        """End it with everything in it. The kernel takes its namespaces, mounts and programs along."""
        self.alive = False
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)             # a worker without namespaces cleans up on this
        try:
            self.process.wait(0.5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            if self._hello and self._hello.get("temporary"):
                kernel.remove_folder(self._hello["folder"])  # it could not do so itself

    def run(self, source: bytes, timeout: float, max_output: int) -> Result | None:
        """Send one program, read what it prints, stop it at its limits, judge it by the worker's report.

        None: nobody was there to take it.
        """
        if not self._is_clean():
            return None
        started = time.monotonic()
        with _Stream(max_output) as out, _Stream(max_output) as err:
            try:
                _send_program(self.sock, source, timeout, (out.writer, err.writer))
            except OSError:
                return None
            out.close_writer()
            err.close_writer()
            verdict, report = self._watch((out, err), started + timeout, KILL_OUTPUT * max_output)
            result = Result("killed", seconds=time.monotonic() - started)
            # A folder with a random name (no tmpfs) must not make two equal runs look different.
            renamed = self._hello["folder"] if self._hello.get("temporary") else None
            result.stdout, result.stderr = out.text(renamed), err.text(renamed)
            result.truncated = out.cut or err.cut
        if not report:
            result.status = verdict or "killed"              # by close(), or the worker is lost
            return result
        code, peak, cpu, too_much_disk, self.dirty = REPORT.unpack(report)
        result.max_rss_mb = peak / (1 << 10 if sys.platform == "linux" else 1 << 20)
        if code >= 0:
            result.exit_code = code
            result.status = {0: "ok", MEMORY_EXIT: "memory"}.get(code, "error")
        else:
            result.signal = -code
            out_of_time = code == -signal.SIGXCPU or code == -signal.SIGKILL and cpu >= timeout
            if verdict and code == -signal.SIGKILL:
                result.status = verdict
            elif out_of_time and not too_much_disk:
                result.status = "timeout"
        return result

    def _is_clean(self) -> bool:
        """Wait until the worker has removed what the program before left behind."""
        if self.dirty:
            poller = select.poll()
            poller.register(self.sock, select.POLLIN)
            self.dirty = not (poller.poll(60_000) and self.sock.recv(len(CLEAN)) == CLEAN)
        return not self.dirty

    def _watch(self, streams: tuple, deadline: float, flood: int) -> tuple[str | None, bytes]:
        """Keep both pipes empty until the worker reports; give the order to kill at the limits."""
        poller, by_fd, report, verdict = select.poll(), {s.reader: s for s in streams}, b"", None
        poller.register(self.sock, select.POLLIN)
        # Most programs end soon, and what they print fits into a pipe: let the report alone wake us, once and
        # not four times. Only after 20 ms look at the pipes too.
        patience = 0.02
        while self.alive:
            left = deadline - time.monotonic()
            events = dict(poller.poll(max(0, math.ceil(1000 * min(left, patience)))))
            if self.sock.fileno() in events:
                with contextlib.suppress(ConnectionError):
                    report = self.sock.recv(REPORT.size)
                self.alive = bool(report)
                break
            for fd, event in events.items():
                if event & select.POLLIN:
                    by_fd[fd].read()
                else:
                    poller.unregister(fd)                    # closed and empty; the program itself may go on
            if left <= 0 and verdict:
                self.alive = False                           # it did not kill: its own end will
            elif left <= 0 or verdict is None and sum(s.total for s in streams) > flood:
                verdict = "timeout" if left <= 0 else "output"
                deadline = time.monotonic() + GRACE
                with contextlib.suppress(OSError):
                    self.sock.sendall(ORDER.pack(b"K", 0.0))
            if patience < math.inf:
                for fd in by_fd:
                    poller.register(fd, select.POLLIN)
                patience = math.inf
        return verdict, report


class _Stream:
    """One output pipe of a program: its first and its last half max_output bytes, never more."""

    def __init__(self, keep: int):
        self.half, self.total, self.first, self.last = keep // 2, 0, bytearray(), bytearray()
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.reader)
        self.close_writer()

    def close_writer(self) -> None:
        if self.writer is not None:
            os.close(self.writer)
            self.writer = None

    def read(self) -> bool:
        """Take what is there. False: nothing there, or nothing will ever come again."""
        try:
            chunk = os.read(self.reader, 1 << 16)
        except BlockingIOError:
            return False
        self.total += len(chunk)
        room = self.half - len(self.first)
        self.first += chunk[:room]
        self.last += chunk[room:] if room > 0 else chunk
        del self.last[:-self.half or None]
        return bool(chunk)

    @property
    def cut(self) -> bool:
        return self.total > len(self.first) + len(self.last)

    def text(self, renamed: str | None) -> str:
        """All of it as text, with a line that says how much is missing from the middle."""
        for _ in range(64):                                  # what was left in the pipe
            if not self.read():
                break
        missing = self.total - len(self.first) - len(self.last)
        middle = b"\n... [%d bytes cut] ...\n" % missing if missing else b""
        text = (self.first + middle + self.last).decode("utf-8", "replace")
        return text.replace(renamed, "/tmp") if renamed else text


def _send_program(sock: socket.socket, source: bytes, cpu_seconds: float, pipes: tuple) -> None:
    """The text travels as an open file without a name: the worker passes it on, and never sees it."""
    in_memory = hasattr(os, "memfd_create")
    with open(os.memfd_create("program"), "wb", 0) if in_memory else tempfile.TemporaryFile("wb", 0) as file:
        file.write(source)
        socket.send_fds(sock, [ORDER.pack(b"R", cpu_seconds)], [file.fileno(), *pipes])


# ---- command line --------------------------------------------------------------------------------

def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sandbox")
    group.add_argument("--sandbox", choices=("auto", "require"), default="auto",
                       help="require: refuse to start where programs could get out (default: %(default)s)")
    group.add_argument("--sandbox-timeout", type=float, default=5.0,
                       help="seconds per program (default: %(default)s)")
    group.add_argument("--sandbox-memory", type=int, default=512,
                       help="MB per program (default: %(default)s)")
    group.add_argument("--sandbox-workers", type=int, help="programs at a time (default: one per core)")


def from_args(args: argparse.Namespace) -> Sandbox:
    return Sandbox(timeout=args.sandbox_timeout, memory_mb=args.sandbox_memory, workers=args.sandbox_workers,
                   protection=args.sandbox)


ATTACKS = {  # each prints ESCAPED if it gets through; {pid} is the trainer, {port} its ear, {folder} outside
    "list the root folder": "import os; os.listdir('/'); print('ESCAPED')",
    "read the checkout": "open({here!r} + '/sandbox.py').read(); print('ESCAPED')",
    "read the trainer's environment": "open('/proc/{pid}/environ', 'rb').read(); print('ESCAPED')",
    "write outside its folder": "open({folder!r} + '/x', 'w'); print('ESCAPED')",
    "connect to this machine": "import socket; socket.create_connection(('', {port})); print('ESCAPED')",
    "start a process": "import os; os.fork(); print('ESCAPED')",
    "signal the trainer": "import os; os.kill({pid}, 0); print('ESCAPED')",
    "signal the worker": "import os; os.kill(os.getppid(), 0); print('ESCAPED')",
    "take 2 GB of memory": "x = bytearray(2 << 30); print('ESCAPED')",
    "write a file of 100 MB": "open('x', 'wb').write(bytes(100 << 20)); print('ESCAPED')",
    "run for a minute": "import time; time.sleep(60); print('ESCAPED')",
    "print without end": "while True: print('x' * 1000)",
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Show which protections this machine has, and attack them.")
    add_arguments(parser)
    args = parser.parse_args()
    failures = 0
    with from_args(args) as box, socket.create_server(("127.0.0.1", 0)) as server, \
            tempfile.TemporaryDirectory() as folder:
        for name, state in box.layers.items():
            print(f"{name:12} {'active' if state is True else 'MISSING':8} {LAYERS[name]}")
            if state is not True:
                print(f"{'':21} because: {state}")
        print()
        port = server.getsockname()[1]
        for name, attack in ATTACKS.items():
            code = attack.format(here=ROOT, pid=os.getpid(), port=port, folder=folder)
            result = box.run(code, timeout=1.0)
            escaped = "ESCAPED" in result.stdout or result.ok
            failures += escaped
            print(f"{name:32} {'GOT THROUGH' if escaped else 'stopped: ' + result.status}")
        harmless = box.run("print(2 + 2)")
        failures += harmless.stdout != "4\n"
        print(f"{'print(2 + 2)':32} {harmless.for_model()!r} in {1000 * harmless.seconds:.1f} ms")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
