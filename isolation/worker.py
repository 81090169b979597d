"""The two kinds of process that run beside the trainer: the worker, and the program that it forks.

A worker imports numpy and sympy and gives up all that no program needs (namespaces, privileges, most system
calls). Then it forks for every ORDER of the trainer, which comes with three descriptors (a text and two files
for output), ends the fork at its time limit and REPORTs. The fork (`become_program`) gives up its last
rights, closes all but its output, and only then looks at the text that it is to run. A plain worker, where an
essential layer is missing, has imported nothing; its programs have a folder on disk."""
import atexit
import contextlib
import gc
import json
import linecache
import os
import random
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from isolation import kernel, syscalls

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MEMORY_EXIT, NAME = 203, "program.py"  # exit code of an uncaught MemoryError; a program in tracebacks
ORDER = struct.Struct("<qd")           # number of the program, seconds
REPORT = struct.Struct("<qiqd?")       # number, exit code or -signal, ru_maxrss, CPU seconds, too late?
THREE_FDS = struct.Struct("3i")        # the text, stdout, stderr, as they travel with an order
LIBRARIES = ("site-packages", "dist-packages")
DEVICES = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"]
# Imported for all programs, beside what the caller names: small modules that language models often use.
STANDARD = """bisect calendar collections copy csv datetime decimal fractions functools hashlib heapq
    itertools json operator random re statistics string textwrap time typing""".split()
# An import leaves much undone: the first integral costs sympy another 40 ms. Done once, inherited by all.
WARM_UP = {
    "numpy": "numpy.linalg.solve(numpy.eye(2), numpy.ones(2)); numpy.fft.fft(numpy.ones(4)); "
             "str(numpy.arange(3.0)); numpy.polyfit([1, 2, 3], [1, 2, 3], 1); numpy.random.seed(0)",
    "sympy": "x, y = sympy.symbols('x y'); sympy.integrate(x**2 * sympy.exp(x), x); sympy.factorint(360); "
             "sympy.solve(x**2 + x - 1, x); sympy.solve([x + y - 3, x - y], [x, y]); sympy.N(sympy.pi, 30); "
             "sympy.simplify(sympy.sin(x)**2 + sympy.cos(x)**2); str(sympy.factor(x**2 - y**2)); "
             "sympy.Matrix([[1, 2], [3, 4]]).inv(); sympy.limit(sympy.sin(x) / x, x, 0)"}


def boot(settings: dict) -> list[str]:
    """The command line of a new worker, which can import what this process can, wherever this module lies.

    Hooks of Python's modules after a fork are for those with threads; without them it takes 0.4 ms less."""
    libraries = [path for path in sys.path if os.path.basename(path) in LIBRARIES]
    code = (f"import os, sys; os.register_at_fork = lambda **hooks: None; sys.path.insert(0, {ROOT!r}); "
            "from isolation import worker; del sys.path[0]; "
            f"sys.path += [path for path in {libraries} if path not in sys.path]; worker.serve({settings!r})")
    return [sys.executable, "-c", code]


def environment() -> dict:
    """A worker's environment variables: of the trainer's, only those that say where shared libraries are."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    return kept | {
        "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0", "PYTHONUTF8": "1",
        "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONMALLOC": "malloc",
        # Memory in 2 MB pages: a fork copies page tables; this makes them short (2.6 -> 1.3 ms).
        # One heap for all threads: with 64 MB of addresses each, none would be left for data.
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"}


def serve(settings: dict) -> None:
    """The life of a worker. Its socket comes as descriptor 0; whatever else it inherits may be odd."""
    sock = socket.socket(fileno=os.dup(0))
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.umask(0o022)
    untouched = {signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGKILL, signal.SIGSTOP}
    for number in signal.valid_signals() - untouched:
        signal.signal(number, signal.SIG_DFL)                # an ignored SIGCHLD would hide a program's end
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    with contextlib.suppress(OSError):                       # what the kernel kills first if memory runs out
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        worker = Worker(sock, settings)
    except Exception as error:  # noqa: BLE001 - whatever it is, the trainer is told
        return sock.sendall(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
    sock.sendall(json.dumps({"layers": worker.layers}).encode())
    worker.loop()


class Worker:
    """Gives up all that no program needs, then starts and watches one program at a time.

    settings: memory_mb of a program; modules to preload; layers to do without, and why; a plain one's folder.
    `layers`: name -> True, or why it is missing. Nothing is ever taken back."""
    def __init__(self, sock: socket.socket, settings: dict):
        self.sock, self.layers = sock, dict(settings["without"])
        self.plain, self.last_rights = settings["folder"] is not None, []     # functions for programs to call
        self._layer("namespaces", self._enter_namespaces)
        self._layer("fork_server", _preload, settings["preload"])
        self._layer("limits", kernel.limit_resources, settings["memory_mb"] << 20)
        if self.layers["namespaces"] is not True:
            self.layers = dict.fromkeys(("threads", "tmpfs"), "it needs the namespaces") | self.layers
        self._layer("threads", kernel.limit_threads)
        self.folder = self._layer("tmpfs", _mount_tmp) or settings["folder"]
        os.chdir(self.folder or "/")
        self._layer("privileges", kernel.drop_privileges)
        self._layer("session", os.getsid, 0)
        if os.getpid() != 1 and sys.platform == "linux":     # of pid 1 the kernel ends all children
            self.last_rights.append(kernel.die_with_parent)
        paths = _libraries(), [self.folder or ""], DEVICES
        if ruleset := self._layer("landlock", kernel.landlock_ruleset, *paths):
            self.last_rights.append(lambda: kernel.landlock_restrict(ruleset))
        if last_filter := self._layer("seccomp", syscalls.install_first):
            self.last_rights.append(lambda: last_filter(os.getpid()))
        _set_the_stage(self.folder or "/")
        # A collection in a program must not copy our pages. (No gc.collect() before: it gives memory back
        # and breaks up the 2 MB pages and costs every fork a millisecond and a half.)
        gc.freeze()

    def _layer(self, name: str, switch_on, *arguments):
        """Switch a layer on, or remember why it is not."""
        if name not in self.layers:
            try:
                result = switch_on(*arguments)
                self.layers[name] = True
                return result
            except (OSError, ValueError) as error:
                self.layers[name] = str(error)
            except AttributeError:                           # not even a function of that name in libc
                self.layers[name] = "needs Linux"

    def _enter_namespaces(self) -> None:
        kernel.enter_namespaces()
        if child := os.fork():                               # pid 1 of the new namespace: its end ends all
            self.sock.close()
            os.waitpid(child, 0)
            os._exit(0)
        kernel.die_with_parent()

    def loop(self) -> None:
        """Take orders until the trainer is gone.

        While a program lives it shares our memory: what we touch meanwhile is copied, and the huge page
        around it is split for good. So all is prepared before the fork, and the rest done at the end."""
        space, is_clean = socket.CMSG_SPACE(THREE_FDS.size), True
        while is_clean and (attached := (message := self.sock.recvmsg(ORDER.size, space))[1]):
            fds = THREE_FDS.unpack(attached[0][2])
            number, seconds = ORDER.unpack(message[0])
            poller = select.poll()
            poller.register(self.sock, select.POLLIN)        # readable: the trainer is gone
            deadline, milliseconds = time.monotonic() + seconds, 1000 * seconds
            pid = os.fork()
            if pid == 0:
                become_program(*fds, seconds, self.last_rights)
            if not self.plain:
                fds += (exited := os.pidfd_open(pid),)
                poller.register(exited, select.POLLIN)
            ended = late = False
            while not ended:
                # A plain worker looks every 5 ms: not every system can wake it when a process ends.
                ready = poller.poll(5 if self.plain else milliseconds)
                ended, status, usage = os.wait4(pid, os.WNOHANG)
                if late := not ended and (bool(ready) or time.monotonic() >= deadline):
                    os.kill(pid, signal.SIGKILL)
                    ended, status, usage = os.wait4(pid, 0)
            for fd in fds:
                os.close(fd)
            is_clean = self._clean(pid)                      # if not: a new worker has a new folder
            with contextlib.suppress(OSError):               # is the trainer still there?
                self.sock.sendall(REPORT.pack(number, os.waitstatus_to_exitcode(status), usage.ru_maxrss,
                                              usage.ru_utime + usage.ru_stime, late))
        if self.plain:
            remove(self.folder)                              # nobody else may be left to do so

    def _clean(self, pid: int) -> bool:
        """Remove what a program left. False: not all of it could be removed."""
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL if self.plain else 0)          # whatever else it has started
        with contextlib.suppress(OSError, RecursionError):   # closed to us, or deeper than descriptors reach
            for entry in list(os.scandir(self.folder)) if self.folder else ():
                (shutil.rmtree if entry.is_dir(follow_symlinks=False) else os.unlink)(entry.path)
            return True
        return False


def remove(folder: str) -> None:             # however deep and closed: that is more than shutil.rmtree can
    for command in (["chmod", "-R", "u+rwx", folder], ["rm", "-rf", folder]):
        subprocess.run(command, stderr=subprocess.DEVNULL, check=False)


def _preload(names: list[str]) -> None:
    for name in STANDARD + names:
        with contextlib.suppress(Exception):                 # not installed or broken: programs can't use it
            exec(WARM_UP.get(name, ""), {name: __import__(name)})  # noqa: S102 - ours


def _libraries() -> list[str]:               # and what libc needs for them
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, "/usr", "/usr/local", "/"}
    return [*(os.path.join(prefix, folder) for prefix in prefixes for folder in ("lib", "lib64")),
            *(path for path in sys.path if os.path.basename(path) in LIBRARIES),
            "/nix/store", "/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo"]


def _mount_tmp() -> str:
    needed = [os.path.realpath(path) + "/" for path in (*_libraries(), sys.prefix, ROOT)]
    for target in ("/tmp", "/var/tmp", "/mnt", "/srv", "/media"):
        if os.path.isdir(target) and not any(path.startswith(target + "/") for path in needed):
            kernel.mount_tmp(target)
            return target
    raise OSError("no folder to mount it on")


# ---- the program's side --------------------------------------------------------------------------
def become_program(text: int, out: int, err: int, seconds: float, last_rights: list) -> None:
    """Run one program in this process, and never return: only its exit status and its output are left."""
    leave = os._exit                                         # the program may replace the one in `os`
    try:
        os.setsid()
        source = os.pread(text, os.lseek(text, 0, os.SEEK_END), 0)     # the move also says: it has begun
        # A descriptor 0 of its own, too: flags of a shared one would stay for the next program.
        for number, fd in enumerate((os.open("/dev/null", os.O_RDONLY), out, err)):
            os.dup2(fd, number)
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 3, int(seconds) + 4))    # if the clock fails
        for give_up in last_rights:                          # an exception here: it does not run at all
            give_up()
        os.closerange(3, 1024)
        leave(_execute(source.decode().lstrip("\ufeff")))
    except MemoryError:                                      # not even room for a traceback
        leave(MEMORY_EXIT)
    finally:
        leave(1)


def _set_the_stage(folder: str) -> None:
    """Make this interpreter look like one that is about to run `python program.py` in its working folder."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "isolation"]:
        del sys.modules[name]
    main = sys.modules["__main__"] = type(sys)("__main__")
    main.__dict__.update(__file__=NAME, __builtins__=sys.modules["builtins"])
    sys.argv, sys.path[:] = [NAME], [folder, *sys.path]
    sys.excepthook, threading.excepthook = _print_error, lambda failure: _print_error(*failure)
    random.seed(0)                                           # as with hashes: the same in every run
    os.environ.clear()
    os.environ.update(PATH="/usr/bin:/bin", LANG="C.UTF-8", TZ="UTC", OMP_NUM_THREADS="1", HOME=folder,
                      TMPDIR=folder)
    # Line by line: a program that is killed keeps what it printed.
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__ = [
        open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - never closed
        for fd in (1, 2)]


def _execute(text: str) -> int:
    """Run `text` the way Python runs a file: as __main__, threads joined, exit functions called."""
    linecache.cache[NAME] = (lambda: text,)                  # where tracebacks look for source lines
    streams, exit_code = [sys.stdout, sys.stderr], 0
    try:
        exec(compile(text, NAME, "exec", dont_inherit=True), sys.modules["__main__"].__dict__)  # noqa: S102
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the program's
        exit_code = _exit_code(error)
    if threading.active_count() > 1:                         # not always: it touches many pages to copy
        threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (*streams, sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    return exit_code


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        if isinstance(error.code, int | None):               # what follows is what Python and the kernel do
            return (error.code or 0) & 0xFF if -2**63 <= (error.code or 0) < 2**63 else 255
        print(error.code, file=sys.stderr)
        return 1
    if isinstance(error, MemoryError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))  # room enough to say so
    sys.excepthook(type(error), error, error.__traceback__.tb_next)       # without our own frame
    return MEMORY_EXIT if isinstance(error, MemoryError) else 1


def _print_error(kind: type, error: BaseException, trace, thread: threading.Thread | None = None) -> None:
    if thread and kind is SystemExit:
        return
    if thread:
        print(f"Exception in thread {thread.name}:", file=sys.stderr)
    traceback.print_exception(kind, error, trace)
    if isinstance(error, PermissionError):
        print("[a program here is one process without network, and has only its working folder for files]",
              file=sys.stderr)
