"""The trainer's side of one worker process: starts it, hands it programs, reads their output, keeps time."""
import contextlib
import math
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

from isolation import kernel
from isolation.worker import (
    CLEAN,
    MEMORY_EXIT,
    ORDER,
    REPORT,
    boot,
    environment,
    receive_json,
    send_json,
)

FLOOD = 64                 # a program that prints this many times max_output is stopped
GRACE = 2.0                # seconds that a worker has to report a program that it was told to kill


class WorkerHandle:
    """One worker process, as the trainer sees it. It runs one program at a time."""

    def __init__(self, settings: dict):
        self.alive = True
        self.accepted = False          # the sandbox has checked its layers
        self.dirty = False             # it is still removing the files of its last program
        self._hello = None
        self.sock, worker_end = socket.socketpair()
        with worker_end:
            # Popen without preexec_fn is a vfork and an exec: no copy of the trainer's memory ever exists.
            self.process = subprocess.Popen(
                boot(f"serve({worker_end.fileno()})"), pass_fds=[worker_end.fileno()], env=environment(),
                cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True)
        send_json(self.sock, settings)

    def hello(self) -> dict:
        """The worker's first message, waited for once: its layers and its folder, or {"error": why}."""
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

    def run(self, source: bytes, timeout: float, max_output: int) -> dict | None:
        """Run one program and stop it at its limits: the fields of a `sandbox.Result`.

        None: the worker was dead already, and took no program.
        """
        if not self._is_clean():
            return None
        started = time.monotonic()
        with OutputPipe(max_output) as out, OutputPipe(max_output) as err:
            try:
                _send_program(self.sock, source, timeout, (out.writer, err.writer))
            except OSError:
                return None
            out.close_writer()
            err.close_writer()
            stopped, report = self._watch((out, err), started + timeout, FLOOD * max_output)
            seconds = time.monotonic() - started
            # A folder with a random name (no tmpfs) must not make two equal runs look different.
            random_name = self._hello["folder"] if self._hello.get("temporary") else None
            outcome = {"seconds": seconds, "stdout": out.text(random_name), "stderr": err.text(random_name),
                       "truncated": out.cut or err.cut}
        if not report:                                       # ended by close(), or the worker is lost
            return outcome | {"status": stopped or "killed"}
        return outcome | self._judge(report, stopped, timeout)

    def _is_clean(self) -> bool:
        """Wait until the worker has removed the files of its last program."""
        if self.dirty:
            poller = select.poll()
            poller.register(self.sock, select.POLLIN)
            self.dirty = not (poller.poll(60_000) and self.sock.recv(len(CLEAN)) == CLEAN)
        return not self.dirty

    def _watch(self, pipes: tuple, deadline: float, flood: int) -> tuple[str | None, bytes]:
        """Keep both pipes empty until the worker reports, and give the order to kill at the limits.

        Returns why that order was given ("timeout", "output" or None), and the report (b"" if none came).
        """
        stopped = None
        report = b""
        by_fd = {pipe.reader: pipe for pipe in pipes}
        poller = select.poll()
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
            if left <= 0 and stopped:
                self.alive = False                           # it did not kill: its own end will
            elif left <= 0 or stopped is None and sum(pipe.total for pipe in pipes) > flood:
                stopped = "timeout" if left <= 0 else "output"
                deadline = time.monotonic() + GRACE
                with contextlib.suppress(OSError):
                    self.sock.sendall(ORDER.pack(b"K", 0.0))
            if patience < math.inf:
                for fd in by_fd:
                    poller.register(fd, select.POLLIN)
                patience = math.inf
        return stopped, report

    def _judge(self, report: bytes, stopped: str | None, timeout: float) -> dict:
        """What the worker's report says about how the program ended; `stopped`: why we had it killed."""
        code, peak, cpu, too_much_disk, self.dirty = REPORT.unpack(report)
        used = {"max_rss_mb": peak / (1 << 10 if sys.platform == "linux" else 1 << 20)}
        if code >= 0:
            status = {0: "ok", MEMORY_EXIT: "memory"}.get(code, "error")
            return used | {"status": status, "exit_code": code}
        killed = code == -signal.SIGKILL
        out_of_time = code == -signal.SIGXCPU or killed and cpu >= timeout
        status = "killed"
        if stopped and killed:
            status = stopped
        elif out_of_time and not too_much_disk:
            status = "timeout"
        return used | {"status": status, "signal": -code}


class OutputPipe:
    """A pipe for what a program prints. Of that, the first and the last max_output / 2 bytes are kept."""

    def __init__(self, max_output: int):
        self.half = max_output // 2
        self.total = 0                 # bytes read so far
        self.first = bytearray()
        self.last = bytearray()
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
        """Take what is there. False: nothing is there, or nothing will ever come again."""
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

    def text(self, random_name: str | None) -> str:
        """All of it as text, with a line that says how much is missing from the middle."""
        for _ in range(64):                                  # what was left in the pipe
            if not self.read():
                break
        missing = self.total - len(self.first) - len(self.last)
        middle = b"\n... [%d bytes cut] ...\n" % missing if missing else b""
        text = (self.first + middle + self.last).decode("utf-8", "replace")
        return text.replace(random_name, "/tmp") if random_name else text


def _send_program(sock: socket.socket, source: bytes, cpu_seconds: float, pipes: tuple) -> None:
    """The text travels as an open file without a name: the worker passes it on, and never sees it."""
    in_memory = hasattr(os, "memfd_create")
    with open(os.memfd_create("program"), "wb", 0) if in_memory else tempfile.TemporaryFile("wb", 0) as file:
        file.write(source)
        socket.send_fds(sock, [ORDER.pack(b"R", cpu_seconds)], [file.fileno(), *pipes])
