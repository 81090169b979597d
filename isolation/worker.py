"""The two kinds of process that run beside the trainer: the worker, and the program that it forks.

A worker (`serve`, `_Worker`) imports numpy and sympy, gives up all that no program needs (namespaces, limits,
privileges, most system calls), attacks itself once to see whether that holds, and then forks for every order:

    trainer -> worker    ORDER: run (with three descriptors: the text and the ends of two pipes), or kill
    worker -> trainer    REPORT: how the program ended and what it used; then CLEAN, if it left files behind

The forked child (`become_program`) gives up its last rights (own session, CPU limit, Landlock, the second
seccomp filter), closes every descriptor but its output, and only then looks at the text that it is to run.

Where a fork server is not safe (macOS), the child is a fresh interpreter that does the same from the start.
"""
import atexit
import builtins
import contextlib
import gc
import importlib
import json
import linecache
import os
import random
import resource
import select
import signal
import socket
import struct
import sys
import tempfile
import threading
import traceback
import types

from isolation import kernel

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FILE_SIZE = 32 << 20       # bytes that one file may have
DISK_SIZE = 64 << 20       # bytes in the working folder
DISK_NAMES = 4096          # files and folders in it
OPEN_FILES = 64
MEMORY_EXIT = 203          # exit code of an uncaught MemoryError
NAME = "program.py"        # what tracebacks call the program
ORDER = struct.Struct("<cd")           # trainer -> worker: b"R" run (seconds of CPU) or b"K" kill
REPORT = struct.Struct("<iqd??")       # worker -> trainer: exit code or -signal, kB, CPU s, disk full, dirty
CLEAN = b"."                           # worker -> trainer, after a dirty report: ready for the next program
THREE_FDS = struct.Struct("3i")        # the text, stdout, stderr, as they travel with an order
LIBRARIES = ("site-packages", "dist-packages")
DEVICES = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"]
# Imported for all programs, beside what the caller names: small modules that language models often use.
STANDARD = ["bisect", "calendar", "collections", "copy", "csv", "datetime", "decimal", "fractions",
            "functools", "hashlib", "heapq", "itertools", "json", "operator", "random", "re", "statistics",
            "string", "textwrap", "time", "typing"]
# An import leaves much undone: the first integral costs sympy another 40 ms. Done once, inherited by all.
WARM_UP = {
    "numpy": "numpy.linalg.solve(numpy.eye(2), numpy.ones(2)); numpy.fft.fft(numpy.ones(4)); "
             "str(numpy.arange(3.0)); numpy.polyfit([1, 2, 3], [1, 2, 3], 1); numpy.random.seed(0)",
    "sympy": "x, y = sympy.symbols('x y'); sympy.integrate(x**2 * sympy.exp(x), x); "
             "sympy.solve(x**2 + x - 1, x); sympy.solve([x + y - 3, x - y], [x, y]); "
             "sympy.simplify(sympy.sin(x)**2 + sympy.cos(x)**2); str(sympy.factor(x**2 - y**2)); "
             "sympy.Matrix([[1, 2], [3, 4]]).inv(); sympy.limit(sympy.sin(x) / x, x, 0); "
             "sympy.factorint(360); sympy.N(sympy.pi, 30)",
}


def send_json(sock: socket.socket, message: dict) -> None:
    data = json.dumps(message).encode()
    sock.sendall(struct.pack("<I", len(data)) + data)


def receive_json(sock: socket.socket) -> dict:
    with sock.makefile("rb", buffering=0) as file:
        data, size = b"", struct.unpack("<I", file.read(4).ljust(4, b"\0"))[0]
        while len(data) < size and (part := file.read(size - len(data))):
            data += part
    return json.loads(data)


# ---- the worker's side ---------------------------------------------------------------------------

def boot(call: str) -> list[str]:
    """The command line of a new Python process that makes one call to this module, wherever the module lies.

    The hooks that Python's modules run after a fork are for processes with threads, which these do not have
    (and for reseeding `random`, which we do not want): without them a program starts 0.4 ms earlier.
    """
    code = (f"import os, sys; os.register_at_fork = lambda **hooks: None; sys.path.insert(0, {ROOT!r}); "
            f"from isolation import worker; worker.{call}")
    return [sys.executable, "-c", code]


def environment() -> dict:
    """A worker's environment variables: of the trainer's, only those that say where shared libraries are."""
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0",
                   "PYTHONUTF8": "1", "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1",
                   "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
                   # Memory in 2 MB pages: a fork copies page tables; this makes them short (2.6 -> 1.3 ms).
                   # One heap for all threads: with 64 MB of addresses each, none would be left for data.
                   "PYTHONMALLOC": "malloc",
                   "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"}
    kept = [name for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ]
    return environment | {name: os.environ[name] for name in kept}


def serve(fd: int) -> None:
    """The life of a worker: import, give up what no program needs, then fork for every order."""
    sock = socket.socket(fileno=os.dup(fd))                  # a low number: programs close those
    os.close(fd)
    try:
        worker = _Worker(sock, receive_json(sock))
    except BaseException as error:
        send_json(sock, {"error": f"{type(error).__name__}: {error}"})
        raise
    try:
        send_json(sock, {"layers": worker.layers, "folder": worker.folder, "temporary": worker.temporary})
        worker.loop()
    finally:
        if worker.temporary:
            kernel.remove_folder(worker.folder)


class _Worker:
    """A worker: switches its layers on, then starts, watches and cleans up after one program at a time."""

    def __init__(self, sock: socket.socket, settings: dict):
        self.sock = sock
        self.settings = settings
        self.layers = {}               # name -> True, or why it is missing
        sys.path[:] = [p for p in sys.path if p != ROOT] + [p for p in settings["path"] if p not in sys.path]
        self._layer("namespaces", self._enter_namespaces)
        self._layer("fork_server", _preload, settings["preload"])
        memory = kernel.virtual_size(), settings["memory_mb"] << 20
        self.folder = self._layer("tmpfs", self._mount)
        if self.layers["namespaces"] is True:
            with contextlib.suppress(OSError):
                kernel.hide_proc(and_leave_root=self.root)
        else:
            with contextlib.suppress(OSError, AttributeError):
                kernel.adopt_orphans()
        self.temporary = self.folder is None
        if self.temporary:
            self.folder = tempfile.mkdtemp(prefix="r1ci-", dir=settings["temp"])
        os.chdir(self.folder)
        self._layer("limits", kernel.limit_resources, *memory, FILE_SIZE, OPEN_FILES)
        self._layer("session", os.getsid, 0)
        self._layer("privileges", kernel.drop_privileges)
        ruleset = self._layer("landlock", kernel.landlock_ruleset, _libraries(), [self.folder], DEVICES)
        abi = kernel.landlock_abi() if ruleset else 0
        self._layer("seccomp", lambda: kernel.install_filter(kernel.worker_filter(abi)))
        reader, writer = os.pipe()                           # stand-ins for the pipes of programs to come
        for fd in (1, 2):
            os.dup2(writer, fd)
        os.close(reader)
        os.close(writer)
        self.plan = {"ruleset": ruleset, "seccomp": None, "path": [self.folder, *sys.path]}
        if self.layers["seccomp"] is True:
            self.plan["seccomp"] = kernel.ProgramFilter()
        self.poller = select.poll()
        self.poller.register(self.sock, select.POLLIN)
        self.has_pidfd = False
        with contextlib.suppress(OSError, AttributeError):
            os.close(os.pidfd_open(os.getpid()))
            self.has_pidfd = True
        # Milliseconds between two looks at the program: without a pidfd nothing tells us that it has ended,
        # and without a tmpfs nothing stops it from filling the disk.
        self.pause = 5 if not self.has_pidfd else 50 if self.temporary else None
        _set_the_stage(self.plan["path"])
        # A collection in a program must not touch, and so copy, our pages. (No gc.collect() before: it gives
        # memory back, which breaks up the 2 MB pages and costs every fork a millisecond and a half.)
        gc.freeze()
        self._attack_myself()

    def _layer(self, name: str, switch_on, *arguments):
        """Switch a layer on, or remember why it is not."""
        self.layers[name] = self.settings["without"].get(name, True)
        if self.layers[name] is True:
            try:
                return switch_on(*arguments)
            except (OSError, ValueError) as error:
                self.layers[name] = str(error)
            except AttributeError:                           # not even a function of that name in libc
                self.layers[name] = "needs Linux"

    def _enter_namespaces(self) -> None:
        kernel.try_in_child(kernel.enter_namespaces)         # entering only some would be worse than none
        self.root = kernel.enter_namespaces()
        child = os.fork()                                    # pid 1 of the new namespace: its end ends all
        if child:
            self.sock.close()
            os.waitpid(child, 0)
            os._exit(0)
        kernel.die_with_parent()

    def _mount(self) -> str:
        if self.layers["namespaces"] is not True:
            raise OSError("it needs the namespaces")
        needed = [os.path.realpath(path) + "/" for path in (*_libraries(), sys.prefix, ROOT)]
        for target in ("/tmp", "/var/tmp", "/mnt", "/srv", "/media"):
            if os.path.isdir(target) and not any(path.startswith(target + "/") for path in needed):
                kernel.mount_private_tmp(target, DISK_SIZE, DISK_NAMES)
                return target
        raise OSError("no folder to mount it on")

    def _attack_myself(self) -> None:
        """A layer counts only if it holds: a child made like a program tries what these two forbid."""
        guarded = {1: "landlock", 2: "seccomp"}
        pid = os.fork()
        if pid == 0:
            came_through = 3                                 # the answer if the layers can't even be put on
            with contextlib.suppress(BaseException):
                _confine(9.0, self.plan)
                came_through = 0
                for bit, attack in ((1, lambda: os.listdir("/")), (2, os.fork), (2, socket.socket)):
                    with contextlib.suppress(OSError):
                        attack()
                        came_through |= bit
            os._exit(came_through)
        exit_code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        came_through = exit_code if exit_code >= 0 else 3
        self._sweep(pid)
        for bit, name in guarded.items():
            if came_through & bit and self.layers[name] is True:
                self.layers[name] = "the kernel accepted it, but a trial attack came through"
                self.plan["ruleset" if name == "landlock" else name] = None

    def loop(self) -> None:
        """Take orders until the trainer is gone. Lean on purpose: what is touched here, every fork copies."""
        space = socket.CMSG_SPACE(THREE_FDS.size)
        while True:
            data, attached, _, _ = self.sock.recvmsg(ORDER.size, space)
            if not data:
                return                                       # the trainer has ended, however it ended
            if attached:                                     # no late order to kill a program that has ended
                self._run(THREE_FDS.unpack(attached[0][2]), ORDER.unpack(data)[1])

    def _run(self, fds: tuple[int, int, int], cpu_seconds: float) -> None:
        if self.layers["fork_server"] is True:
            pid = os.fork()
            if pid == 0:
                become_program(*fds, cpu_seconds, self.plan)
        else:
            pid = self._spawn(fds, cpu_seconds)
        for fd in fds:
            os.close(fd)
        status, usage, too_much = self._wait(pid)
        if self.plan["seccomp"] is None:                     # otherwise it can't have started or locked any
            self._sweep(pid)
            os.chmod(self.folder, 0o700)
        dirty = bool(os.listdir(self.folder))
        self.sock.sendall(REPORT.pack(os.waitstatus_to_exitcode(status), usage.ru_maxrss,
                                      usage.ru_utime + usage.ru_stime, too_much, dirty))
        if dirty:                                            # no clock runs: disks may be slow
            kernel.empty_folder(self.folder)
            self.sock.sendall(CLEAN)

    def _spawn(self, fds: tuple[int, int, int], cpu_seconds: float) -> int:
        """Without a fork server: a fresh interpreter, as it would be on any machine, that confines itself."""
        kept = [fd for fd in (*fds, self.plan["ruleset"]) if fd is not None]
        moves = [(os.POSIX_SPAWN_DUP2, fd, 50 + i) for i, fd in enumerate(kept)]
        plan = self.plan | {"ruleset": 53 if len(kept) == 4 else None, "seccomp": bool(self.plan["seccomp"])}
        command = boot(f"become_fresh_program(50, 51, 52, {cpu_seconds!r}, {plan!r})")
        return os.posix_spawn(sys.executable, command, environment(), file_actions=moves)

    def _wait(self, pid: int) -> tuple:
        """Wait for the program's end: exit status, usage, and whether we killed it for filling the disk."""
        too_much = False
        exited = None
        if self.has_pidfd:
            exited = os.pidfd_open(pid)
            self.poller.register(exited, select.POLLIN)
        while True:
            ready = [fd for fd, _ in self.poller.poll(self.pause)]
            if exited is None or exited in ready:
                ended, status, usage = os.wait4(pid, os.WNOHANG)
                if ended:
                    break
            if self.temporary and not too_much:
                too_much = kernel.folder_exceeds(self.folder, DISK_SIZE, DISK_NAMES)
            if ready and not too_much:
                self.sock.recv(ORDER.size)                   # the order to kill, or nothing: no trainer
            if ready or too_much:
                os.kill(pid, signal.SIGKILL)
        if exited is not None:
            self.poller.unregister(exited)
            os.close(exited)
        return status, usage, too_much

    def _sweep(self, pid: int) -> None:
        """End whatever the program has started (where no seccomp filter forbids that it starts anything)."""
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    for child in [-1] if os.getpid() == 1 else kernel.own_children():
                        os.kill(child, signal.SIGKILL)
                    os.waitpid(-1, 0)


def _preload(names: list[str]) -> None:
    if sys.platform != "linux":
        raise OSError("elsewhere a fork after numpy is not safe")
    for name in STANDARD + names:
        with contextlib.suppress(Exception):                 # not installed or broken: programs can't use it
            exec(WARM_UP.get(name, ""), {name: importlib.import_module(name)})  # noqa: S102 - ours


def _libraries() -> list[str]:
    """What a program may read: the folders of Python's libraries, and what libc needs for them."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, "/usr", "/usr/local", "/"}
    return [*(os.path.join(prefix, folder) for prefix in prefixes for folder in ("lib", "lib64")),
            *(path for path in sys.path if os.path.basename(path) in LIBRARIES),
            "/nix/store", "/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo"]


# ---- the program's side --------------------------------------------------------------------------

def become_program(code: int, out: int, err: int, cpu_seconds: float, plan: dict) -> None:
    """Run one program in this process, and never return: only its exit status and its output are left."""
    leave = os._exit                                         # the program may replace the one in `os`
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        source = os.pread(code, os.lseek(code, 0, os.SEEK_END), 0)
        _confine(cpu_seconds, plan)
        os.closerange(3, 1024)
        leave(_execute(source.decode().lstrip("\ufeff")))
    except MemoryError:                                      # not even room for a traceback
        leave(MEMORY_EXIT)
    finally:
        leave(1)


def become_fresh_program(code: int, out: int, err: int, cpu_seconds: float, plan: dict) -> None:
    """The same in an interpreter of its own, which has inherited nothing from a worker."""
    os.dup2(out, 1)
    os.dup2(err, 2)
    _set_the_stage(plan["path"])
    plan["seccomp"] = kernel.ProgramFilter() if plan["seccomp"] else None
    become_program(code, out, err, cpu_seconds, plan)


def _confine(cpu_seconds: float, plan: dict) -> None:
    """The steps that each program must take itself; an exception here means that it does not run at all."""
    os.setsid()
    seconds = int(cpu_seconds) + 3                           # a second line behind the trainer's clock
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    if sys.platform == "linux" and os.getppid() != 1:        # if the worker is pid 1, we end with it anyway
        kernel.die_with_parent()
    if plan["ruleset"] is not None:
        kernel.landlock_restrict(plan["ruleset"])
    if plan["seccomp"]:
        plan["seccomp"].install(os.getpid())


def _set_the_stage(path: list[str]) -> None:
    """Make this interpreter look like one that is about to run `python program.py` in its working folder.

    A worker does this once and every fork inherits it: what is done before the fork costs a program nothing.
    """
    for name in ("isolation", "isolation.worker", "isolation.kernel"):
        sys.modules.pop(name, None)
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__dict__.update(__file__=NAME, __builtins__=builtins)
    sys.argv, sys.path[:] = [NAME], path
    sys.excepthook, threading.excepthook = _print_error, _print_thread_error
    tempfile.tempdir = None
    random.seed(0)                                           # as with hashes: the same in every run
    os.environ.clear()
    os.environ.update(PATH="/usr/bin:/bin", LANG="C.UTF-8", TZ="UTC", OMP_NUM_THREADS="1", HOME=path[0],
                      TMPDIR=path[0])
    # Line by line: a program that is killed keeps what it printed. (Pipes must be there: they can't seek.)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__ = [
        open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - never closed
        for fd in (1, 2)]


def _execute(text: str) -> int:
    """Run `text` the way Python runs a file: as __main__, threads joined, exit functions called."""
    linecache.cache[NAME] = (lambda: text,)                  # where tracebacks look for source lines
    outputs = (sys.stdout, sys.stderr)
    exit_code = 0
    try:
        code = compile(text, NAME, "exec", dont_inherit=True)
        exec(code, sys.modules["__main__"].__dict__)  # noqa: S102 - the point of it all
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the program's
        exit_code = _exit_code(error)
    if threading.active_count() > 1:                         # not always: it touches many pages to copy
        threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (*outputs, sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    return exit_code


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    if isinstance(error, MemoryError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))  # room enough to say so
    sys.excepthook(type(error), error, error.__traceback__.tb_next)       # without our own frame
    return MEMORY_EXIT if isinstance(error, MemoryError) else 1


def _print_error(kind: type, error: BaseException, trace) -> None:
    traceback.print_exception(kind, error, trace)
    if isinstance(error, PermissionError):
        print("[a program here is one process without network, and has only its working folder for files]",
              file=sys.stderr)


def _print_thread_error(failure) -> None:
    if failure.exc_type is not SystemExit:
        print(f"Exception in thread {failure.thread.name if failure.thread else '?'}:", file=sys.stderr)
        _print_error(failure.exc_type, failure.exc_value, failure.exc_traceback)


