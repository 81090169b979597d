"""The trainer's side: a handle for each worker process, and the pool that starts and replaces them."""
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from isolation import kernel
from isolation.worker import MEMORY_EXIT, ORDER, REPORT, boot, environment, remove
from runs import UserError

ESSENTIAL = ("limits", "privileges", "landlock", "seccomp")  # or else: a plain subprocess with limits
KEPT = ("limits", "session")           # layers of a plain worker
QUIET = ("threads", "cgroup")          # layers that many machines lack: no warning
RESERVE = 256 << 20        # bytes of a worker beside its program: Python, its libraries, the kernel's part
ATTEMPTS, FLOOD = 3, 64    # to start a worker; times max_output (or 1 MB): a program has printed too much
GRACE, START = 2.0, 120.0  # seconds that a worker has to report beyond a program's time limit, and to start
# A process that the trainer forks must not keep workers alive by their sockets when the trainer is gone.
_sockets = weakref.WeakSet()
os.register_at_fork(after_in_child=lambda: [sock.close() for sock in _sockets])


class WorkerHandle:
    """One worker process, as the trainer sees it. It runs one program at a time. OSError: it cannot start.

    `layers`: name -> True, or why not; `folder`: of a plain worker, on disk."""
    def __init__(self, settings: dict, plain: bool, group: str | None):
        self.alive, self.number, self.process = True, 0, None          # number of the program that it runs
        self.folder = tempfile.mkdtemp(prefix="r1ci-") if plain else None
        ours, theirs = socket.socketpair()
        with ours, theirs:
            # 0, 1 and 2 may be free: the trainer was started without them, but libraries still write there.
            self.sock = socket.socket(fileno=fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, 3))
            _sockets.add(self.sock)
            self.sock.settimeout(START)
            try:
                # Popen without preexec_fn is a vfork and an exec: the trainer's memory is never copied.
                self.process = subprocess.Popen(
                    boot(settings | {"folder": self.folder}), env=environment(), cwd="/", stdin=theirs,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
                theirs.close()
                if group:
                    Path(f"{group}/cgroup.procs").write_text(str(self.process.pid))
                hello = json.loads(self.sock.recv(1 << 16) or '{"error": "it ended before it was ready"}')
                if "error" in hello:
                    raise OSError(hello["error"])
                self.layers = hello["layers"]
            except BaseException:
                self.kill()
                raise

    def kill(self) -> None:
        """End it with everything in it. The kernel takes its namespaces, mounts and programs along."""
        self.alive = False
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)             # it ends by itself when it sees that
        if self.process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.5)
            self.process.kill()
            self.process.wait()
        self.sock.close()
        if self.folder:
            remove(self.folder)

    def run(self, source: bytes, timeout: float, max_output: int) -> dict | None:
        """Run one program: the fields of a `sandbox.Result`. None: the worker died before it had begun."""
        started, report, self.number = time.monotonic(), b"", self.number + 1
        with _nameless_file() as text, _nameless_file() as out, _nameless_file() as err:
            os.pwrite(text.fileno(), source, 0)
            with contextlib.suppress(OSError):               # it is gone, or (a TimeoutError) does not report
                self.sock.settimeout(timeout + GRACE)
                fds = [file.fileno() for file in (text, out, err)]
                socket.send_fds(self.sock, [ORDER.pack(self.number, timeout)], fds)
                report = self.sock.recv(REPORT.size)
            seconds = time.monotonic() - started
            if len(report) != REPORT.size or REPORT.unpack(report)[0] != self.number:
                self.kill()
            if not self.alive and not text.tell():           # a program begins with a move in this file
                return None
            sizes, printed = zip(*(self._read(file.fileno(), max_output) for file in (out, err)))
        result = _judge(*REPORT.unpack(report)[1:], timeout) if self.alive else {
            "status": "timeout" if seconds > timeout else "killed"}
        if max(sizes) > max(FLOOD * max_output, 1 << 20):
            result["status"] = "output"
        return result | {"stdout": printed[0], "stderr": printed[1], "seconds": seconds,
                         "truncated": max(sizes) > max_output // 2 * 2}

    def _read(self, fd: int, most: int) -> tuple[int, str]:
        """What was printed: how many bytes, and the first and the last most / 2 of them as text."""
        size, half = os.fstat(fd).st_size, most // 2
        first, last = os.pread(fd, half, 0), os.pread(fd, half, max(half, size - half))
        middle = b"\n... [%d bytes cut] ...\n" % (size - 2 * half) if size > 2 * half else b""
        text = (first + middle + last).decode("utf-8", "replace")
        return size, text.replace(self.folder, "/tmp") if self.folder else text    # equal runs, equal texts


def _judge(code: int, peak: int, cpu: float, too_late: bool, timeout: float) -> dict:
    used = {"max_rss_mb": peak / (1 << 10 if sys.platform == "linux" else 1 << 20)}
    if code >= 0:
        return used | {"status": {0: "ok", MEMORY_EXIT: "memory"}.get(code, "error"), "exit_code": code}
    out_of_time = code == -signal.SIGXCPU or code == -signal.SIGKILL and (too_late or cpu >= timeout)
    return used | {"status": "timeout" if out_of_time else "killed", "signal": -code}


def _nameless_file():                        # program and output travel in such: the worker never sees them
    memfd = getattr(os, "memfd_create", None)
    return open(memfd("r1ci"), "r+b", 0) if memfd else tempfile.TemporaryFile("r+b", 0)


# A layer counts only if it holds: every new worker has to stand this.
ATTACK = b"""import os, socket
for name, attack in (("landlock", lambda: os.listdir("/")), ("seccomp", os.fork), ("seccomp", socket.socket)):
    try: attack()
    except OSError: continue
    print(name)"""

# At its end Python waits for all that was ever submitted, unless somebody says that nobody needs it any more.
_open, _warned = weakref.WeakSet(), set()
threading._register_atexit(lambda: [pool.close() for pool in list(_open)])


class Pool:
    """Runs at most `count` programs at a time, each in a worker; it starts one when all others are busy.

    settings: see `Worker`; required: nothing runs without the essential layers; finish: makes a result of its
    fields. `layers`: name -> True, or why not; almost empty until a worker has started."""
    def __init__(self, settings: dict, count: int, required: bool, finish: type):
        self.settings, self.required, self.finish = settings, required, finish
        self.layers, self.closed, self.group = {}, False, None
        self.workers, self.idle = weakref.WeakSet(), []      # the last to become idle goes first: few run
        self.lock, self.turns = threading.Lock(), threading.Semaphore(count)
        self.threads = ThreadPoolExecutor(count)             # for those who don't wait themselves
        memory = count * ((settings["memory_mb"] << 20) + kernel.DISK_SIZE + RESERVE)
        bounds = {"memory.max": memory, "memory.swap.max": 0, "pids.max": 2 * count * kernel.THREADS}
        try:
            self.group = kernel.make_cgroup(bounds)
        except OSError as error:
            self.layers["cgroup"] = str(error)
        _open.add(self)

    def submit(self, *arguments) -> Future:
        if self.closed:
            raise RuntimeError("this sandbox is closed")
        return self.threads.submit(self.run, *arguments)

    def close(self) -> None:
        with self.lock:
            self.closed, workers = True, list(self.workers)
        for worker in workers:
            worker.kill()
        self.threads.shutdown()                              # whatever still waits finds the pool closed
        if self.group and os.path.exists(self.group):
            kernel.remove_cgroup(self.group)

    def run(self, *arguments):
        """Run a program: the arguments of `WorkerHandle.run` -> its result."""
        problem = None
        with self.turns:
            for _ in range(ATTEMPTS):                        # again only if the program has not begun
                if self.closed:
                    raise RuntimeError("this sandbox is closed")
                with self.lock:
                    worker = self.idle.pop() if self.idle else None
                try:
                    worker = worker or self._start()
                except OSError as error:
                    problem = error
                    continue
                outcome = worker.run(*arguments)             # Ctrl-C: nobody holds it any more, so it ends
                if worker.alive:
                    self.idle.append(worker)
                if outcome:
                    return self.finish(**outcome)
        if problem:
            raise UserError(f"no worker of the sandbox can start: {problem}")
        return self.finish("killed")

    def _start(self) -> WorkerHandle:
        """A worker that stands the attack or, where this machine lacks an essential layer, a plain one."""
        worker = self._new(self.settings, plain=False)
        layers = worker.layers | {"cgroup": self.layers.get("cgroup", True)}
        if all(layers[name] is True for name in ESSENTIAL):
            trial = worker.run(ATTACK, 30.0, 1000)
            if not worker.alive:
                raise OSError("it ended in its first program")
            for name in trial["stdout"].split() if trial["status"] == "ok" else ESSENTIAL:
                layers[name] = "the kernel accepted it, but a trial attack came through"
        missing = ", ".join(f"{name} ({layers[name]})" for name in ESSENTIAL if layers[name] is not True)
        if missing:
            worker.kill()
            layers |= {name: f"not without {missing}" for name in layers.keys() - {*KEPT, "cgroup"}
                       if layers[name] is True}
        with self.lock:                                      # the pool has a layer if all workers have it
            self.layers = layers | {name: why for name, why in self.layers.items() if why is not True}
        if self.required and missing:
            raise UserError(f"no safe sandbox on this machine, missing: {missing}")
        weak = [f"{name}: {why}" for name, why in layers.items() if why is not True and name not in QUIET]
        if weak and (loud := "; ".join(weak)) not in _warned:            # the same warning is given once
            _warned.add(loud)
            print(f"sandbox: programs run with reduced protection on this machine ({loud}); "
                  "see `python sandbox.py`", file=sys.stderr)
        if missing:
            without = {name: why for name, why in layers.items() if name not in KEPT}
            worker = self._new(self.settings | {"without": without}, plain=True)
        return worker

    def _new(self, settings: dict, plain: bool) -> WorkerHandle:
        worker = WorkerHandle(settings, plain, self.group)
        with self.lock:
            self.workers.add(worker)
        if self.closed:                                      # meanwhile: nobody else would end it
            worker.kill()
        return worker
