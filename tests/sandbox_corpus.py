"""Programs for the sandbox, by class of attack, with what has to become of each; every one is really run.

All are bounded: where a protection is missing, they print ESCAPED or leave a mark in the surroundings, and do
no harm. `python sandbox_corpus.py [--without layer ...]` runs all of them without pytest (as any user) and
prints the names of those that failed.

@PID@, @PORT@, ... stand for things of the surroundings: the trainer, its listeners, a secret, a folder.
"""
import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import socket
import sys
import tempfile

HIDDEN = "kept-" + "secret-" + "4711"      # in pieces: no program's text contains it
os.environ["TRAINER_SECRET"] = HIDDEN      # before any worker starts

MEMORY = 160                               # MB: enough for the harmless ones, soon full for the others


@dataclasses.dataclass
class Case:
    family: str
    name: str
    code: str
    status: str = "ok"          # allowed ones, separated by "|"
    out: str | None = None      # expected stdout, stripped
    text: str | None = None     # must be part of for_model()
    needs: str = ""             # layers, separated by "|"; the promise holds if one of them is active
    timeout: float = 10.0

    @property
    def id(self) -> str:
        return f"{self.family}: {self.name}"


CASES: list[Case] = []


def add(family: str, name: str, code: str, status: str = "ok", out: str | None = None, **more) -> None:
    CASES.append(Case(family, name, code, status, out, **more))


def attack(family: str, name: str, code: str, needs: str = "", status: str = "error", **more) -> None:
    """A program that must not reach its last line."""
    add(family, name, code + "\nprint('ESCAPED')", status, needs=needs, **more)


class Surroundings:
    """What the programs are after: a secret, a folder to write to, listeners that must hear nothing."""

    def __init__(self):
        # Not in /tmp, which a program sees replaced by a folder of its own: here Landlock has to do the work.
        place = "/var/tmp" if os.path.isdir("/var/tmp") else None
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="surroundings-", dir=place))
        self.secret = os.path.join(self.folder, "secret")
        self.prey = os.path.join(self.folder, "prey")
        self.prey_file = os.path.join(self.prey, "file")
        os.mkdir(self.prey)
        for path in (self.secret, self.prey_file):
            with open(path, "w") as file:
                file.write(HIDDEN)
            os.chmod(path, 0o644)
            os.utime(path, (1, 1))
        self.unix_path = os.path.join(self.folder, "socket")
        self.listeners = [socket.create_server(("127.0.0.1", 0)),
                          socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_UNIX),
                          socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)]
        tcp, udp, stream, datagram = self.listeners
        udp.bind(("127.0.0.1", tcp.getsockname()[1]))
        stream.bind(self.unix_path)
        stream.listen()
        datagram.bind(self.unix_path + "-datagram")
        self.abstract = None
        if sys.platform == "linux":
            self.abstract = f"r1ci-test-{os.getpid()}-{id(self)}"
            self.listeners.append(socket.socket(socket.AF_UNIX))
            self.listeners[-1].bind("\0" + self.abstract)
            self.listeners[-1].listen()
        for listener in self.listeners:
            listener.setblocking(False)
        self.before = self._look()

    def fill_in(self, code: str) -> str:
        import sandbox
        values = {"PID": os.getpid(), "PORT": self.listeners[0].getsockname()[1], "UNIX": self.unix_path,
                  "SECRET": self.secret, "PREY": self.prey, "ABSTRACT": self.abstract,
                  "HERE": os.path.dirname(os.path.abspath(sandbox.__file__))}
        for name, value in values.items():
            code = code.replace(f"@{name}@", str(value))
        return code

    def _look(self) -> dict:
        seen = {}
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(folder, name)
                state = os.stat(path)
                content = ""
                if name in ("secret", "file"):
                    with open(path) as file:
                        content = file.read()
                seen[path] = (state.st_mode, state.st_mtime, state.st_nlink, state.st_uid, content)
        return seen

    def harm(self) -> str:
        """What a program did to us; the empty string if nothing."""
        found = []
        if self._look() != self.before:
            found.append("files outside were changed")
        for listener in self.listeners:
            with contextlib.suppress(OSError):
                if listener.type == socket.SOCK_STREAM:
                    listener.accept()[0].close()
                else:
                    listener.recv(1)
                found.append("a listener heard something")
        return "; ".join(found)

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def applies(case: Case, layers: dict) -> bool:
    """Can this promise be kept here? Without Landlock a program has a plain folder on disk."""
    has_folder = layers["tmpfs"] is True or layers["landlock"] is not True
    return not case.needs or any(layers.get(name) is True or name == "folder" and has_folder
                                 for name in case.needs.split("|"))


def complaint(case: Case, result) -> str:
    """Why this result is not the one that the case asks for; the empty string if it is."""
    if "ESCAPED" in result.stdout + result.stderr.replace("print('ESCAPED')", ""):
        return f"it escaped: {result}"
    if result.status not in case.status.split("|"):
        return f"status {result.status}, not {case.status}: {result}"
    if case.out is not None and result.stdout.strip() != case.out:
        return f"it printed {result.stdout[:300]!r}, not {case.out!r}: {result.stderr[-600:]}"
    if case.text is not None and case.text not in result.for_model():
        return f"{case.text!r} is not in {result.for_model()!r}"
    return ""


# ---- cpu -----------------------------------------------------------------------------------------

def endless(family: str, name: str, code: str, timeout: float = 0.3, **more) -> None:
    add(family, name, code, "timeout", timeout=timeout, text="longer than its time limit", **more)


endless("cpu", "loop", "while True: pass")
endless("cpu", "sleep", "import time; print('begun'); time.sleep(60)", timeout=0.6, out="begun")
endless("cpu", "loop in C", "sum(range(10**13))")
endless("cpu", "backtracking", "import re; re.match(r'(a+)+$', 'a' * 60 + 'b')")
endless("cpu", "exception in a loop", "while True:\n try:\n  while True: pass\n except BaseException: pass")
endless("cpu", "ignores signals", """import signal
for s in range(1, 65):
    try: signal.signal(s, signal.SIG_IGN)
    except (OSError, ValueError): pass
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
while True: pass""")
endless("cpu", "stops itself", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
endless("cpu", "a thread that never ends", "import threading\ndef f():\n while True: pass\n"
        "threading.Thread(target=f).start()")
endless("cpu", "four busy threads", "import threading\ndef f():\n while True: pass\n"
        "[threading.Thread(target=f).start() for _ in range(4)]")
endless("cpu", "never leaves at exit", "import atexit, time; atexit.register(time.sleep, 60)")
endless("cpu", "waits for a lock", "import threading; l = threading.Lock(); l.acquire(); l.acquire()")
add("cpu", "a daemon thread does not hold it", "import threading, time\n"
    "threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); print('end')", out="end")
add("cpu", "a huge power", "x = 10 ** 10 ** 10", "timeout|memory", timeout=0.6)

# ---- memory --------------------------------------------------------------------------------------

add("memory", "one block", "x = bytearray(2 << 30)", "memory", text="more memory than it may use")
add("memory", "a growing list", "x = []\nwhile True: x.append(bytes(1 << 20))", "memory")
add("memory", "a doubling string", "x = 'ab'\nwhile True: x += x", "memory")
add("memory", "nested lists", "x = []\nwhile True: x = [x, *range(1000)]", "memory")
attack("memory", "anonymous mmap", "import mmap; m = mmap.mmap(-1, 2 << 30)", status="error|memory")
add("memory", "spread over threads", """import threading
blocks = []
def f():
    try:
        for _ in range(20): blocks.append(bytearray(b'x') * (8 << 20))
    except MemoryError: pass
threads = [threading.Thread(target=f) for _ in range(10)]
[t.start() for t in threads]; [t.join() for t in threads]
print('ESCAPED' if len(blocks) > 20 else 'bounded')""", "ok|memory|error")
add("memory", "a caught MemoryError is no failure",
    "try: x = bytearray(2 << 30)\nexcept MemoryError: print('caught')", out="caught")
attack("tamper", "raising its own limit", "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
       "privileges")
attack("memory", "memory without a name", "import os; os.ftruncate(os.memfd_create('x'), 1 << 20)", "seccomp")
attack("memory", "shared memory that outlives it", """import ctypes
libc = ctypes.CDLL(None, use_errno=True)
i = libc.shmget(0, 4096, 0o1600)
assert i != -1, ctypes.get_errno()
libc.shmctl(i, 0, None)""", "seccomp")
attack("memory", "posix shared memory", "from multiprocessing import shared_memory as s\n"
       "m = s.SharedMemory(create=True, size=4096); m.close(); m.unlink()", "landlock")

# ---- what the kernel would do on a program's behalf ----------------------------------------------

KERNEL = """import ctypes, errno, fcntl, mmap, os, platform, random, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
arm = platform.machine() == 'aarch64'
library = os.open(random.__file__, os.O_RDONLY)
def call(*arguments):
    if libc.syscall(*map(ctypes.c_long, arguments)) == -1: return errno.errorcode[ctypes.get_errno()]
"""


def refused(name: str, *calls: str, answer: str = "EPERM") -> None:
    """System calls that must not even be looked at: with these arguments, the kernel itself would answer
    with another error, or would do something that harms nobody."""
    lines = [f"assert {call} == {answer!r}, {call}" for call in calls]
    add("kernel", name, "\n".join([KERNEL, *lines, "print('refused')"]), out="refused", needs="seccomp")


refused("pages in pipes, beyond the memory limit", "call(75 if arm else 278, -1, 0, 0, 0)",
        "call(76 if arm else 275, -1, 0, -1, 0, 0, 0)", "call(77 if arm else 276, -1, -1, 0, 0)")
refused("bigger buffers of sockets", "call(208 if arm else 54, -1, 1, 7, 0, 0)")
refused("descriptors and messages under way between sockets", "call(211 if arm else 46, -1, 0, 0)",
        "call(212 if arm else 47, -1, 0, 0)")
refused("a table of files of its own", "call(436, 2000, 2000, 2)",
        "call(220 if arm else 56, 0x10000, 0, 0, 0, 0)", "call(220 if arm else 56, 0x10900, 0, 0, 0, 0)")
refused("flags and versions of a library's file", "call(29 if arm else 16, library, 0x40086602, 0)",
        "call(29 if arm else 16, library, 0x40087602, 0)", "call(29 if arm else 16, library, 0x401C5820, 0)")
refused("hints, leases and owners of a library's file",
        *(f"call(25 if arm else 72, library, {n}, 0)" for n in (1036, 1038, 1024, 1026, 8, 10, 1031)))
refused("rules of Landlock, which take memory", "call(444, 0, 0, 99)", "call(445, -1, 0, 0, 0)",
        answer="ENOSYS")
refused("asynchronous requests, counted per user", "call(0 if arm else 206, 0, 0)")
refused("queued signals, counted per user", "call(138 if arm else 129, os.getpid(), 10, 0)",
        "call(107 if arm else 222, 99, 0, 0)")
refused("writing back everybody's files", "call(267 if arm else 306, -1)")
refused("seccomp filters, which take memory", "call(167 if arm else 157, 22, 2, 0, 0, 0)",
        "call(277 if arm else 317, 9, 0, 0)")
refused("calls of a kernel to come", *(f"call({number})" for number in (424, 442, 456, 462, 470, 511, 2000)),
        answer="ENOSYS")
refused("old and rare calls", *(f"call({number})" for number in (154, 175, 179, 250))
        if os.uname().machine == "x86_64" else ())
add("kernel", "locks that others could see", KERNEL + """
fcntl.lockf(library, fcntl.LOCK_SH); fcntl.flock(library, fcntl.LOCK_EX)
print('pretended')""", out="pretended", needs="seccomp")
add("kernel", "attributes of files are not there", KERNEL + """
try: os.listxattr('@PREY@/file')
except OSError as error: print(error.errno == errno.ENOTSUP)""", out="True", needs="seccomp")
add("kernel", "a flood of threads", KERNEL + """
# Started as libc starts them, but on 512 bytes of stack: the memory limit would allow a million.
libc.clone.restype = ctypes.c_int
pause = ctypes.cast(libc.syscall, ctypes.c_void_p)     # as the thread's function: syscall(34) is pause
stacks = ctypes.create_string_buffer(512 * 4000)
words = ctypes.create_string_buffer(64)
started = 0
for i in range(4000 if not arm else 0):
    top = (ctypes.addressof(stacks) + 512 * (i + 1)) & ~15
    if libc.clone(pause, ctypes.c_void_p(top), 0x3D0F00, ctypes.c_void_p(34), words,
                  ctypes.c_void_p(ctypes.addressof(words)), ctypes.byref(words, 32)) == -1: break
    started += 1
libc._exit(0 if started < 1000 else 3)""", "ok", needs="threads|cgroup")

# ---- disk ----------------------------------------------------------------------------------------

attack("disk", "one big file", "with open('f', 'wb') as f:\n for _ in range(40): f.write(bytes(1 << 20))")
attack("disk", "a sparse file", "open('f', 'wb').truncate(1 << 40)")
attack("disk", "many big files", """import time
for i in range(4):
    with open(f'f{i}', 'wb') as f:
        for _ in range(24): f.write(b'x' * (1 << 20)); time.sleep(0.005)
time.sleep(1)""", "tmpfs")
attack("disk", "many small files", """import time
for i in range(4300): open(f'f{i}', 'w').close()
time.sleep(1)""", "tmpfs")
add("disk", "a very deep tree", """import os
for i in range(1200): os.mkdir('d'); os.chdir('d')
open('x', 'w').write('y'); print('deep')""", out="deep", needs="folder")
add("disk", "unreadable folders", """import os
for i in range(3):
    os.mkdir(f'd{i}', 0o300)
    open(f'd{i}/f', 'w').close(); os.mkdir(f'd{i}/inner', 0); os.chmod(f'd{i}', 0)
os.mkdir('ro', 0o500); print('made')""", out="made", needs="folder")
add("disk", "links to the outside are not followed",
    "import os\nos.symlink('@PREY@', 'a'); os.symlink('/', 'b')\n"
    "os.symlink('a', 'a2'); os.mkdir('d'); os.symlink('@PREY@', 'd/c'); print('linked')", out="linked",
    needs="folder")
add("disk", "odd names",
    "for n in ('a b', 'ä', '\\n', '-rf', '.x', 'x' * 255): open(n, 'w').close()\nprint('made')", out="made",
    needs="folder")
add("disk", "its folder is empty", "import os; print(os.listdir('.'))", out="[]", needs="folder")
add("disk", "without a folder it can write nowhere",
    "import os\nfor f in ('.', '/', '/tmp', '/var/tmp', '/dev/shm', '@PREY@'):\n"
    " try: open(f + '/r1ci-escaped', 'w').close()\n except OSError: continue\n"
    " os.unlink(f + '/r1ci-escaped'); print(f)", needs="landlock", status="ok")

# ---- processes -----------------------------------------------------------------------------------

attack("process", "fork", "import os\nif os.fork() == 0: os._exit(0)", "seccomp",
       text="PermissionError")
attack("process", "vfork, clone, clone3 by number", """import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
for number, first in ((57, 0), (58, 0), (56, 17), (435, 0), (220, 17)):
    if libc.syscall(ctypes.c_long(number), ctypes.c_long(first), *[ctypes.c_long(0)] * 4) == 0:
        libc._exit(0)
    if ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS): print('other', ctypes.get_errno())
raise SystemExit(1)""", "seccomp", text="exit code 1")
attack("process", "subprocess", "import subprocess; subprocess.run(['/bin/true'])", "seccomp")
attack("process", "a shell", "import os\nassert os.system('true') == 0", "seccomp")
attack("process", "popen", "import os\nassert os.popen('echo x').read()", "seccomp")
attack("process", "exec",
       "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'print(\"ESC\" + \"APED\")'])",
       "seccomp|landlock")
attack("process", "posix_spawn", "import os; os.posix_spawn('/bin/true', ['true'], {})", "seccomp")
attack("process", "multiprocessing",
       "import multiprocessing as m\np = m.Process(target=int); p.start(); p.join()",
       "seccomp", text="one process")
attack("process", "a pool", "import multiprocessing as m\nm.Pool(2)", "seccomp|landlock", text="one process")
attack("process", "a process pool", "from concurrent.futures import ProcessPoolExecutor as P\n"
       "print(list(P(2).map(abs, [1])))", "seccomp|landlock", text="one process")
attack("process", "fork bomb of thirty", "import os, time\nfor _ in range(30):\n if os.fork() == 0:\n"
       "  time.sleep(2); os._exit(0)", "seccomp")
attack("process", "a terminal", "import pty\nif pty.fork()[0] == 0: raise SystemExit", "seccomp|landlock")
add("process", "threads are allowed", "import threading\nr = []\n"
    "t = [threading.Thread(target=r.append, args=(i,)) for i in range(8)]\n"
    "[x.start() for x in t]; [x.join() for x in t]; print(sorted(r) == list(range(8)))", out="True")

# ---- output --------------------------------------------------------------------------------------

add("output", "flood", "while True: print('x' * 1000)", "output", text="printed far more")
add("output", "flood of errors", "import sys\nwhile True: sys.stderr.write('x' * 1000)", "output")
add("output", "flood in big pieces", "import os\nwhile True: os.write(1, bytes(1 << 20))", "output")
add("output", "flood by threads", "import os, threading\ndef f():\n while True: os.write(1, b'x' * 65536)\n"
    "[threading.Thread(target=f).start() for _ in range(8)]", "output")
add("output", "long but finite", "print('a' * 100000 + 'z')", text="cut] ...")
add("output", "closed", "import os; os.close(1); os.close(2)", out="")
add("output", "not text", "import sys; sys.stdout.buffer.write(bytes(range(128, 256))); sys.stdout.flush()")
add("output", "no line end", "print('partial', end='')", out="partial")
add("output", "non-blocking pipe", "import os; os.set_blocking(1, False); print('x')", out="x")
add("output", "without buffers of the kernel", "import fcntl, os\n"
    "try: fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_DIRECT)\nexcept OSError: pass\n"
    "for i in range(300): print(i, flush=True)", out="\n".join(map(str, range(300))))
add("output", "a bigger pipe", "import fcntl\ntry: fcntl.fcntl(1, 1031, 1 << 20)\nexcept OSError: pass\n"
    "print('y' * 300000)")
add("output", "unbuffered and buffered keep their order",
    "import sys, os\nprint('a'); os.write(1, b'b\\n'); print('c')", out="a\nb\nc")
add("output", "stdout replaced", "import sys, io; sys.stdout = io.StringIO(); print('x')", out="")
add("output", "stdout removed", "import sys; sys.stdout = None; print('x')", out="")

# ---- reading files -------------------------------------------------------------------------------

READ = "filesystem-read"
attack(READ, "a secret", "open('@SECRET@').read()", "landlock")
attack(READ, "a secret through a symbolic link", "import os; os.symlink('@SECRET@', 'x'); open('x').read()",
       "landlock")
attack(READ, "a secret through a hard link", "import os; os.link('@SECRET@', 'x'); open('x').read()",
       "landlock")
attack(READ, "a secret by descriptor of its folder",
       "import os; d = os.open('@PREY@', os.O_PATH); os.read(os.open('file', os.O_RDONLY, dir_fd=d), 9)",
       "landlock")
attack(READ, "the folder above", "import os; print(os.listdir('..'))", "landlock")
attack(READ, "the root folder", "import os; os.listdir('/')", "landlock")
attack(READ, "the checkout", "open('@HERE@/sandbox.py').read()", "landlock")
attack(READ, "an import from the checkout", "import sys; sys.path.insert(0, '@HERE@'); import sandbox",
       "landlock")
attack(READ, "accounts", "open('/etc/passwd').read()", "landlock", text="PermissionError")
attack(READ, "the home", "import os, pathlib\nfor h in ('/root', '/home'): os.listdir(h)", "landlock")
attack(READ, "the trainer's environment", "open('/proc/@PID@/environ', 'rb').read()", "landlock|namespaces")
attack(READ, "the trainer's arguments", "open('/proc/@PID@/cmdline', 'rb').read()", "landlock|namespaces")
attack(READ, "the trainer's memory", "open('/proc/@PID@/mem', 'rb').read(1)", "landlock|namespaces")
attack(READ, "the worker's environment", "import os; open(f'/proc/{os.getppid()}/environ', 'rb').read()",
       "landlock|namespaces")
attack(READ, "the list of processes", "import os\nassert [x for x in os.listdir('/proc') if x.isdigit()]",
       "landlock|namespaces")
attack(READ, "another root", "import os; os.chroot('.')", "seccomp|privileges")
attack(READ, "watching a folder", "import ctypes\nassert ctypes.CDLL(None).inotify_init() >= 0", "seccomp")
attack(READ, "a file by handle", """import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
handle = ctypes.create_string_buffer(200); handle[0] = b'\\x80'
assert libc.name_to_handle_at(-100, b'/etc', handle, ctypes.byref(ctypes.c_int()), 0) == 0""", "seccomp")

# ---- writing files -------------------------------------------------------------------------------

WRITE = "filesystem-write"
attack(WRITE, "a new file", "open('@PREY@/new', 'w')", "landlock")
attack(WRITE, "appending", "open('@PREY@/file', 'a').write('x')", "landlock")
attack(WRITE, "truncating", "import os; os.truncate('@PREY@/file', 0)", "landlock")
attack(WRITE, "truncating while reading", "import os; os.open('@PREY@/file', os.O_RDONLY | os.O_TRUNC)",
       "landlock")
attack(WRITE, "removing", "import os; os.unlink('@PREY@/file')", "landlock")
attack(WRITE, "moving away", "import os; os.rename('@PREY@/file', 'x')", "landlock")
attack(WRITE, "moving over it", "import os; open('x', 'w').close(); os.rename('x', '@PREY@/file')",
       "landlock")
attack(WRITE, "a folder", "import os; os.mkdir('@PREY@/new')", "landlock")
attack(WRITE, "a link", "import os; os.symlink('x', '@PREY@/new')", "landlock")
attack(WRITE, "removing a tree", "import shutil; shutil.rmtree('@PREY@')", "landlock")
attack(WRITE, "python's own library",
       "import os; open(os.path.dirname(os.__file__) + '/r1ci_escaped.py', 'w')", "landlock")
attack(WRITE, "shared memory files", "open('/dev/shm/r1ci-escaped', 'w').close()\n"
       "import os; os.unlink('/dev/shm/r1ci-escaped')", "landlock")
attack(WRITE, "a device", "import os; os.mknod('x', 0o20666, os.makedev(1, 3))", "landlock|privileges")
add(WRITE, "rights and times outside stay as they are",
    "import os\nos.chmod('@PREY@/file', 0o777); os.utime('@PREY@/file', (9, 9)); print('pretended')",
    out="pretended", needs="seccomp")
attack(WRITE, "owner", "import os; os.chown('@PREY@/file', 12345, 12345)", "seccomp|privileges")
attack(WRITE, "extended attributes", "import os; os.setxattr('@PREY@/file', 'user.x', b'y')", "seccomp")
attack(WRITE, "mounting", """import ctypes
assert ctypes.CDLL(None).mount(b'none', b'.', b'tmpfs', 0, None) == 0""", "seccomp|privileges")
attack(WRITE, "a namespace of its own", """import ctypes
assert ctypes.CDLL(None).unshare(0x10020000) == 0""", "seccomp")

# ---- network -------------------------------------------------------------------------------------

NET = "seccomp|namespaces"
attack("network", "tcp", "import socket; socket.create_connection(('127.0.0.1', @PORT@), 2)", NET)
attack("network", "udp", "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
       "s.sendto(b'x', ('127.0.0.1', @PORT@))", NET)
attack("network", "unix path", "import socket; s = socket.socket(socket.AF_UNIX); s.connect('@UNIX@')",
       "seccomp")
attack("network", "unix datagram through a pair",
       "import socket\na, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
       "a.sendto(b'x', '@UNIX@-datagram')", "seccomp")
attack("network", "unix abstract",
       "import socket; s = socket.socket(socket.AF_UNIX); s.connect('\\0@ABSTRACT@')",
       "seccomp|namespaces|landlock")
attack("network", "listening", "import socket; socket.create_server(('127.0.0.1', 0))", "seccomp")
attack("network", "http",
       "import urllib.request; urllib.request.urlopen('http://127.0.0.1:@PORT@', timeout=2)", NET)
attack("network", "asyncio", "import asyncio; asyncio.run(asyncio.open_connection('127.0.0.1', @PORT@))", NET)
attack("network", "kernel sockets", "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
       "seccomp")
attack("network", "io_uring", "import ctypes; l = ctypes.CDLL(None)\n"
       "assert l.syscall(425, 4, ctypes.create_string_buffer(120)) >= 0", "seccomp")
add("network", "asyncio without network",
    "import asyncio\nasync def f():\n await asyncio.sleep(0); return 7\nprint(asyncio.run(f()))", out="7")

# ---- signals -------------------------------------------------------------------------------------

SIG = "seccomp|namespaces"         # SIGWINCH is ignored by default: it proves the point and harms nobody
attack("signals", "the trainer", "import os; os.kill(@PID@, 28)", SIG)
attack("signals", "the trainer's group", "import os; os.killpg(os.getpgid(@PID@), 28)", SIG)
attack("signals", "the worker", "import os; os.kill(os.getppid(), 28)", "seccomp")
attack("signals", "everybody", "import os; os.kill(-1, 0)", "seccomp")
attack("signals", "a thread of the trainer", "import ctypes\n"
       "assert ctypes.CDLL(None).syscall(234, @PID@, @PID@, 28) == 0"
       " or ctypes.CDLL(None).syscall(131, @PID@, @PID@, 28) == 0", SIG)
attack("signals", "tkill", "import ctypes, os\nassert ctypes.CDLL(None).syscall(200, os.getppid(), 28) == 0",
       "seccomp")
attack("signals", "a process descriptor", "import os; os.pidfd_open(os.getppid())", "seccomp")
attack("signals", "through a pipe's owner",
       "import fcntl, os; r, w = os.pipe(); fcntl.fcntl(r, fcntl.F_SETOWN, os.getppid())", "seccomp")
attack("signals", "the trainer's limits", "import resource; resource.prlimit(@PID@, resource.RLIMIT_NOFILE)",
       SIG)
attack("signals", "the worker's limits",
       "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU)", "seccomp")
attack("signals", "the trainer's cores", "import os; os.sched_setaffinity(@PID@, os.sched_getaffinity(0))",
       SIG)
attack("signals", "the worker's priority", "import os; os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
       "seccomp")
attack("signals", "the worker's memory", """import ctypes, os
class Vector(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]
mine = ctypes.create_string_buffer(8)
a, b = Vector(ctypes.addressof(mine), 8), Vector(id(os), 8)
assert ctypes.CDLL(None).process_vm_readv(os.getppid(), ctypes.byref(a), 1, ctypes.byref(b), 1, 0) == 8""",
       "seccomp")
attack("signals", "tracing the worker", "import ctypes, os\nl = ctypes.CDLL(None)\n"
       "assert l.ptrace(0x4206, os.getppid(), None, None) == 0; l.ptrace(17, os.getppid(), None, None)",
       "seccomp")
attack("signals", "outliving the worker", "import ctypes\nassert ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0",
       "seccomp")
attack("signals", "kill itself", "import os; os.kill(os.getpid(), 9)", status="killed", text="SIGKILL")
attack("signals", "kill its group", "import os; os.kill(0, 9)", status="killed")
attack("signals", "abort", "import os; os.abort()", status="killed", text="SIGABRT")
attack("signals", "crash", "import ctypes; ctypes.string_at(0)", status="killed", text="SIGSEGV")
add("signals", "its own handler",
    "import os, signal\nsignal.signal(signal.SIGUSR1, lambda *_: print('heard'))\n"
    "os.kill(os.getpid(), signal.SIGUSR1); signal.raise_signal(signal.SIGUSR1)", out="heard\nheard")
add("signals", "its own alarm",
    "import signal\ndef f(*_): raise TimeoutError('late')\nsignal.signal(signal.SIGALRM, f)\n"
    "signal.setitimer(signal.ITIMER_REAL, 0.05)\nimport time\ntry: time.sleep(5)\n"
    "except TimeoutError as e: print(e)", out="late")

# ---- tampering with the channel ------------------------------------------------------------------

add("tamper", "no descriptor is inherited", "import os\nopen_ones = []\nfor fd in range(3, 2000):\n"
    " try: os.fstat(fd); open_ones.append(fd)\n except OSError: pass\nprint(open_ones)", out="[]")
add("tamper", "forged reports on every descriptor", "import os, struct\nfor fd in range(3, 64):\n"
    " try: os.write(fd, struct.pack('<qiqd?', 1, 0, 1, 0.0, False))\n except OSError: pass\n"
    "raise SystemExit(5)", "error", text="exit code 5")
add("tamper", "the protocol's own words", "import sys, struct\n"
    "sys.stdout.buffer.write(struct.pack('<qiqd?', 1, 7, 1, 0.0, True) + struct.pack('<qd', 1, 9.0))\n"
    "raise SystemExit(3)", "error")
add("tamper", "sockets found in memory", """import gc, socket
for o in gc.get_objects():
    if isinstance(o, socket.socket):
        try: o.sendall(b'x'); print('ESCAPED')
        except (OSError, ValueError): pass
print('none')""", out="none")
add("tamper", "frames of the runner", """import sys, struct
frame = sys._getframe()
while frame:
    worker = frame.f_locals.get('self')
    if hasattr(worker, 'sock'):
        try: worker.sock.sendall(struct.pack('<qiqd?', 1, 0, 1, 0.0, False)); print('ESCAPED')
        except OSError: print('closed')
    frame = frame.f_back""", "ok")
add("tamper", "the way out is blocked", "import os, sys\nos._exit = sys.exit = os.abort = None; print('end')",
    out="end")
add("tamper", "every builtin is gone", "import builtins\nprint('x')\nbuiltins.__dict__.clear()",
    "ok|error", out="x")
add("tamper", "every module is gone", "import sys\nprint('x'); sys.modules.clear()", "ok|error", out="x")
add("tamper", "hooks that raise",
    "import sys, atexit, threading\nsys.excepthook = 7; atexit.register(lambda: 1 / 0)\n"
    "threading._shutdown = None; 1 / 0", "error")
add("tamper", "all descriptors closed", "import os; os.closerange(0, 2000)", "ok|error")
add("tamper", "stdin is empty", "import sys; print(repr(sys.stdin.read()))", out="''")
add("tamper", "leaves at once", "import os; print('x', flush=True); os._exit(0)", out="x")
add("tamper", "leaves at once with a code", "import os; os._exit(7)", "error", text="exit code 7")
add("tamper", "leaves from a thread",
    "import os, threading; threading.Thread(target=os._exit, args=(9,)).start()\nimport time; time.sleep(5)",
    "error")
add("tamper", "more threads than can be", "import _thread, time\n_thread.stack_size(32768)\ntry:\n"
    " for _ in range(2000): _thread.start_new_thread(time.sleep, (0.3,))\nexcept RuntimeError: pass\n"
    "print('end')", out="end")

# ---- tricks of the interpreter -------------------------------------------------------------------

TRICK = "interpreter"
add(TRICK, "an audit hook that forbids all", "import sys\nprint('x')\n"
    "def h(*a): raise RuntimeError(a)\nsys.addaudithook(h)", "ok|error", out="x")
add(TRICK, "a trace that raises",
    "import sys\ndef t(*a): raise ValueError\nsys.settrace(t)\ndef f(): pass\nf()", "error")
add(TRICK, "endless recursion", "def f(n): return f(n + 1)\nf(0)", "error", text="RecursionError")
add(TRICK, "recursion without limit",
    "import sys; sys.setrecursionlimit(10**8)\nx = []\nfor _ in range(10**5): x = [x]\nrepr(x)",
    "killed|error|memory|timeout")
add(TRICK, "fatal error", "import faulthandler; faulthandler._sigsegv()", "killed")
add(TRICK, "broken bytecode",
    "f = lambda: 0\nf.__code__ = f.__code__.replace(co_code=bytes([100, 255] * 4), co_stacksize=1)\nf()",
    "killed|error|ok|memory")
add(TRICK, "exit from __del__", "import os\nclass A:\n def __del__(self): os._exit(4)\na = A(); del a",
    "error")
add(TRICK, "exit functions run", "import atexit; atexit.register(print, 'bye'); print('hi')", out="hi\nbye")
add(TRICK, "a null byte in the text", "print(1)\0", "error")
add(TRICK, "a lone surrogate", "print('\\ud800 ok')", out="\\ud800 ok")
add(TRICK, "a byte order mark", "\ufeffprint('bom')", out="bom")
add(TRICK, "windows line ends", "if True:\r\n    print('crlf')\r\n", out="crlf")
add(TRICK, "an encoding cookie", "# -*- coding: latin-1 -*-\nprint('ä')", out="ä")
add(TRICK, "nothing", "", text="no output")
add(TRICK, "only a comment", "# nothing", text="no output")
add(TRICK, "too deep for the parser", "x = " + "(" * 5000 + ")" * 5000, "error|killed|memory")
add(TRICK, "a megabyte of text", "x = '" + "a" * (1 << 20) + "'\nprint(len(x))", out=str(1 << 20))
add(TRICK, "__main__ is the program", "import __main__; a = 5\nprint(__main__.a, __name__, __file__)",
    out="5 __main__ program.py")
add(TRICK, "the runner is no module",
    "import sys; print([m for m in sys.modules if 'sandbox' in m or m.startswith('isolation')])", out="[]")
add(TRICK, "future annotations are its own", "def f(x: undefined_name): pass", "error", text="NameError")

# ---- reward hacking ------------------------------------------------------------------------------

HACK = "reward-hack"
SEEK = "target = 'kept-' + 'secret-' + '4711'\n"
add(HACK, "answer in argv or environment", SEEK + "import os, sys\n"
    "print('ESCAPED' if target in repr((sys.argv, dict(os.environ), sys.path, sys.flags)) else 'nothing')",
    out="nothing")
add(HACK, "answer among the objects", SEEK + "import gc, sys\n"
    "found = [o for o in gc.get_objects() if isinstance(o, dict)"
    " and any(v == target for k, v in list(o.items())\n"
    "         if isinstance(v, str) and k != 'target')]\n"
    "print('ESCAPED' if found else 'nothing')", out="nothing")
add(HACK, "answer in the files at hand", SEEK + """import os, glob
found = []
for folder in ('.', '..', os.path.expanduser('~'), '/tmp', '/', '@PREY@', '@HERE@', '/proc/self', '/dev/shm'):
    for path in glob.glob(folder + '/*')[:200]:
        try:
            if os.path.isfile(path) and target in open(path, errors='replace').read(10000): found.append(path)
        except OSError: pass
print('ESCAPED' if found else 'nothing')""", out="nothing", needs="landlock")
add(HACK, "answer in the trainer's arguments", SEEK + """import glob
found = []
for path in glob.glob('/proc/[0-9]*/*'):
    if path.endswith(('/environ', '/cmdline')):
        try:
            if target in open(path, errors='replace').read(): found.append(path)
        except OSError: pass
print('ESCAPED' if found else 'nothing')""", out="nothing", needs="landlock|namespaces")
add(HACK, "printing an answer is only printing", "print('<<<42>>>')", out="<<<42>>>")
add(HACK, "the trainer's modules",
    "import sys\nprint([m for m in ('torch', 'tasks', 'pytest', 'rollout') if m in sys.modules])", out="[]")

# ---- harmless programs ---------------------------------------------------------------------------

FINE = "harmless"
add(FINE, "print", "print(2 + 2)", out="4")
add(FINE, "unicode", "print('häßlich 漢字 🎉 \\u2028'.encode().decode())", out="häßlich 漢字 🎉")
add(FINE, "unicode in the text", "größe = '漢'; print(größe * 2)", out="漢漢")
add(FINE, "big integers", "print(2 ** 4000 % 10 ** 9, len(str(3 ** 2000)))",
    out=f"{2 ** 4000 % 10 ** 9} {len(str(3 ** 2000))}")
add(FINE, "its own lines in a traceback", "def f(n):\n    return 10 // n\n\nprint('first')\nf(0)",
    "error", "first", text="""
  File "program.py", line 2, in f
    return 10 // n
           ~~~^^~~
ZeroDivisionError:""")
add(FINE, "a syntax error", "x = 1\nif x\n    print(x)",
    "error", text='File "program.py", line 2\n    if x\n')
add(FINE, "an error inside a library", "import json; json.loads('{')",
    "error", text='File "json/decoder.py", line')
add(FINE, "a chain of errors", "try: 1 / 0\nexcept Exception as e: raise KeyError('k') from e",
    "error", text="direct cause")
add(FINE, "an error in a thread",
    "import threading\ndef f(): raise ValueError('inner')\nt = threading.Thread(target=f)\n"
    "t.start(); t.join(); print('outer')", out="outer")
add(FINE, "input", "input()", "error", text="EOFError")
add(FINE, "exit codes", "import sys; sys.exit(3)", "error", text="exit code 3")
add(FINE, "exit codes beyond all numbers", "import sys; sys.exit(10 ** 30)", "error", text="exit code 255")
add(FINE, "exit with nothing", "import sys; print('x'); sys.exit()", out="x")
add(FINE, "exit with a message", "import sys; sys.exit('because')", "error", text="because")
add(FINE, "exit()", "print('x'); exit()\nprint('y')", out="x")
add(FINE, "an assertion", "assert 1 == 2, 'unequal'", "error", text="AssertionError: unequal")
add(FINE, "main guard", "def main(): print('main')\nif __name__ == '__main__': main()", out="main")
add(FINE, "classes and pickles", "import pickle, dataclasses\n@dataclasses.dataclass\nclass P:\n x: int\n"
    "print(pickle.loads(pickle.dumps(P(3))))", out="P(x=3)")
add(FINE, "files",
    "with open('f.txt', 'w') as f: f.write('ä\\n' * 3)\nprint(open('f.txt').read().count('ä'))", out="3",
    needs="folder")
add(FINE, "folders, copies, temporary files", """import os, shutil, tempfile, pathlib
os.makedirs('a/b'); pathlib.Path('a/b/c').write_text('x')
shutil.copy('a/b/c', 'd'); shutil.copytree('a', 'e'); shutil.move('d', 'a/d')
with tempfile.TemporaryDirectory() as t, tempfile.NamedTemporaryFile() as n: assert os.path.exists(n.name)
print(sorted(os.listdir('.')), sorted(os.listdir('a')))""", out="['a', 'e'] ['b', 'd']", needs="folder")
add(FINE, "a module of its own", "open('helper.py', 'w').write('v = 3')\nimport helper; print(helper.v)",
    out="3", needs="folder")
add(FINE, "os.path of __file__",
    "import os; os.chdir(os.path.dirname(os.path.abspath(__file__))); print('there')", out="there")
add(FINE, "sqlite", "import sqlite3\nc = sqlite3.connect('x.db'); c.execute('create table t (a)')\n"
    "c.execute('insert into t values (5)'); c.commit(); print(c.execute('select a from t').fetchall())",
    out="[(5,)]", needs="folder")
add(FINE, "warnings", "import warnings; warnings.warn('careful'); print('on')", out="on")
add(FINE, "random with a seed",
    "import random; random.seed(7); a = random.random(); random.seed(7); print(a == random.random())",
    out="True")
add(FINE, "random without a seed",
    "import random; print(0 <= random.random() < 1, len(set(random.choices(range(9**9), k=9))) > 7)",
    out="True True")
add(FINE, "date and time",
    "import datetime, time\nassert datetime.datetime.now().year > 2020 and time.time() > 0\n"
    "print(datetime.date(2024, 2, 29) + datetime.timedelta(365))", out="2025-02-28")
add(FINE, "time zones", "import zoneinfo, datetime\ntry: z = zoneinfo.ZoneInfo('Europe/Berlin')\n"
    "except zoneinfo.ZoneInfoNotFoundError: print('7200.0')\n"
    "else: print(datetime.datetime(2024, 7, 1, tzinfo=z).utcoffset().total_seconds())", out="7200.0")
add(FINE, "thread pool",
    "from concurrent.futures import ThreadPoolExecutor as P\nprint(sum(P(4).map(abs, range(-9, 9))))",
    out="81")
add(FINE, "hash seed", "print(hash('a') == hash('a'), list({'b', 'a', 'c'}))", "ok")
add(FINE, "decimals and fractions", "from decimal import *; from fractions import *\n"
    "print(Fraction(1, 3) + Fraction(1, 6), Decimal('0.1') * 3)", out="1/2 0.3")
add(FINE, "regular expressions and json", "import re, json; print(json.dumps(re.findall(r'\\d+', 'a1b22')))",
    out='["1", "22"]')
add(FINE, "inspect its own source",
    "import inspect\ndef f():\n    return 1\nprint(inspect.getsource(f).strip())",
    out="def f():\n    return 1")
add(FINE, "ctypes", "import ctypes; print(ctypes.CDLL(None).abs(-3))", out="3")
add(FINE, "asyncio", "import asyncio\nasync def g(i):\n await asyncio.sleep(0.01); return i\n"
    "async def f(): return await asyncio.gather(*map(g, range(3)))\nprint(asyncio.run(f()))", out="[0, 1, 2]")
add(FINE, "numbers of cores", "import os; print(os.cpu_count() >= 1)", out="True")
add(FINE, "64 MB", "x = bytearray(64 << 20); print(len(x) >> 20)", out="64")
NUMPY = {FINE + ": numpy", FINE + ": numpy memory", FINE + ": numpy file"}
SYMPY = {FINE + ": sympy", FINE + ": sympy solve"}
add(FINE, "numpy", "import numpy as np\n"
    "print(np.linalg.solve([[2, 0], [0, 4]], [2, 4]).tolist(), np.arange(6).reshape(2, 3).sum(0))",
    out="[1.0, 1.0] [3 5 7]")
add(FINE, "numpy memory", "import numpy as np; x = np.ones((1 << 27,))", "memory")
add(FINE, "numpy file", "import numpy as np; np.save('a.npy', np.eye(2)); print(np.load('a.npy').trace())",
    out="2.0", needs="folder")
add(FINE, "sympy", "from sympy import *; x = symbols('x'); print(integrate(x**2 * cos(x), x))",
    out="x**2*sin(x) + 2*x*cos(x) - 2*sin(x)")
add(FINE, "sympy solve",
    "import sympy as s; x = s.Symbol('x'); print(s.solve(x**2 - 5*x + 6, x), s.isprime(97))",
    out="[2, 3] True")


def selected(layers: dict, modules=("numpy", "sympy")) -> list[Case]:
    """The cases whose promise can be kept with these layers and these libraries."""
    absent = (NUMPY if "numpy" not in modules else set()) | (SYMPY if "sympy" not in modules else set())
    return [case for case in CASES if case.id not in absent and applies(case, layers)]


def run_all(box, cases: list[Case]) -> dict[str, str]:
    """Case id -> complaint, for all that failed."""
    surroundings = Surroundings()
    try:
        futures = [box.submit(surroundings.fill_in(case.code), case.timeout) for case in cases]
        complaints = {case.id: complaint(case, future.result()) for case, future in zip(cases, futures)}
        failed = {name: text for name, text in complaints.items() if text}
        if harm := surroundings.harm():
            failed["surroundings"] = harm
    finally:
        surroundings.close()
    return failed


def main() -> int:
    import importlib.util

    import sandbox
    parser = argparse.ArgumentParser()
    parser.add_argument("--without", nargs="*", default=[], help="layers that this machine shall not have")
    parser.add_argument("--families", nargs="*", help="only these classes of attack")
    args = parser.parse_args()
    sandbox.Sandbox._without = dict.fromkeys(args.without, "switched off by the test")
    modules = [name for name in ("numpy", "sympy") if importlib.util.find_spec(name)]
    with sandbox.Sandbox(workers=2, memory_mb=MEMORY, preload=() if args.families else modules) as box:
        cases = [case for case in selected(box.layers, modules)
                 if not args.families or case.family in args.families]
        print(json.dumps({"failed": run_all(box, cases), "cases": len(cases),
                          "layers": box.layers, "uid": os.getuid()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
