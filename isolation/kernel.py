"""What the layers ask of the kernel, as far as Python has no function for it; most of it through ctypes.

All raise OSError (or AttributeError, where libc lacks the call) if the kernel refuses. Cgroups are for the
trainer; the rest restricts the process that calls it."""
import contextlib
import ctypes
import errno
import os
import re
import resource
import struct
import sys
import time
from pathlib import Path

FILE_SIZE, DISK_SIZE, DISK_NAMES = 32 << 20, 64 << 20, 4096  # bytes of a file, of a folder, files in a folder
OPEN_FILES, THREADS = 64, 300                                # with pid_max up to twice as many threads
libc = ctypes.CDLL(None, use_errno=True)
if sys.platform == "linux":
    libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    libc.syscall.argtypes = [ctypes.c_long] * 6              # variadic in C: plain ints would be 32 bits wide


def check(result: int, what: str) -> int:
    if result == -1:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def die_with_parent() -> None:
    check(libc.prctl(1, 9, 0, 0, 0), "PR_SET_PDEATHSIG")     # when the thread that forked us is gone


def drop_privileges() -> None:
    """No capabilities, and no way to gain any through a set-uid program."""
    check(libc.prctl(38, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    header = struct.pack("Ii", 0x20080522, 0)                # _LINUX_CAPABILITY_VERSION_3, this thread
    check(libc.capset(header, bytes(24)), "capset")          # effective, permitted, inheritable: all empty


def limit_resources(memory: int) -> None:
    """Limits that programs inherit; a program gets `memory` bytes beside the address space in use by now.

    As long as a program is one process, RLIMIT_AS is its memory limit; the hard limit is a little higher, so
    that a MemoryError can be reported. Core files get 1 byte: with 0, core handlers would be started."""
    limits = {"FSIZE": (FILE_SIZE, FILE_SIZE), "NOFILE": (OPEN_FILES, OPEN_FILES), "CORE": (1, 1),
              "SIGPENDING": (64, 64)}
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        memory += int(file.read().split()[0]) * resource.getpagesize()
        limits["AS"] = (memory, memory + (32 << 20))
    for name, soft_hard in limits.items():
        with contextlib.suppress(ValueError, AttributeError):    # it is lower already, or unknown here
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), soft_hard)
    if "AS" not in limits:
        raise OSError(errno.ENOSYS, "not that of memory: this system has no usable one")


def limit_threads() -> int | None:
    """How many threads there may be at once in our namespaces."""
    if tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (6, 14):
        with contextlib.suppress(OSError):                   # before 6.14 it was a limit of the whole machine
            return Path("/proc/sys/kernel/pid_max").write_text(f"{300 + THREADS}")     # 300: RESERVED_PIDS
    if os.getuid() == 0:
        raise OSError("for root this needs Linux 6.14 or a cgroup")
    resource.setrlimit(resource.RLIMIT_NPROC, (THREADS, THREADS))        # counted in our user namespace


# ---- namespaces ----------------------------------------------------------------------------------
NEWUSER = 0x10000000
NEWNS_UTS_IPC_PID_NET = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
MS_RDONLY, MS_NOSUID_NODEV_NOEXEC, MS_REC_PRIVATE = 1, 2 | 4 | 8, 0x4000 | 0x40000


def enter_namespaces() -> None:
    """New mount, uts, ipc and network namespaces; the *next child* is pid 1 of a new pid namespace."""
    # Who is not root needs a user namespace, too. (In one, root could not import from other users' folders.)
    user, group = f"{os.getuid()} {os.getuid()} 1", f"{os.getgid()} {os.getgid()} 1"
    if libc.unshare(NEWNS_UTS_IPC_PID_NET) == -1:
        check(libc.unshare(NEWUSER | NEWNS_UTS_IPC_PID_NET), "unshare")
        for name, text in (("setgroups", "deny"), ("uid_map", user), ("gid_map", group)):
            Path(f"/proc/self/{name}").write_text(text)


def mount_tmp(target: str) -> None:
    """An empty tmpfs on `target`, and one on /proc, where one can read the environment of others."""
    flags, limits = MS_NOSUID_NODEV_NOEXEC, f"size={DISK_SIZE},nr_inodes={DISK_NAMES},mode=700"
    for where, kind, how, options in (("/", None, MS_REC_PRIVATE, ""), (target, b"tmpfs", flags, limits),
                                      ("/proc", b"tmpfs", flags | MS_RDONLY, "size=4k,mode=555")):
        arguments = b"none", os.fsencode(where), kind, ctypes.c_ulong(how), options.encode()
        check(libc.mount(*arguments), f"mount {where}")


# ---- Landlock: https://docs.kernel.org/userspace-api/landlock.html -------------------------------
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446      # the same on all machines
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1, 2, 4, 8, 1 << 14
MAKE_CHAR_SOCK_BLOCK = 1 << 6 | 1 << 9 | 1 << 11


def landlock_version() -> int:
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "needs Linux")           # elsewhere these numbers are other system calls
    return check(libc.syscall(CREATE_RULESET, 0, 0, 1, 0, 0), "landlock")


def landlock_ruleset(read: list[str], write: list[str], devices: list[str]) -> int:
    """A file descriptor of a ruleset: `read` trees can be read, `write` trees also changed."""
    version = landlock_version()
    # Kinds of access that this kernel can forbid: 13 at first, then moves across folders, truncation, ioctl.
    files = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    # From 4 on: no tcp port to bind or connect to. From 6 on: no signal or abstract socket to outside.
    attributes = struct.pack("<QQQ", files, 3, 3)[:8 if version < 4 else 16 if version < 6 else 24]
    pointer = ctypes.create_string_buffer(attributes)
    ruleset = libc.syscall(CREATE_RULESET, ctypes.addressof(pointer), len(attributes), 0, 0, 0)
    check(ruleset, "landlock_create_ruleset")
    to_a_file = READ_FILE | WRITE_FILE | TRUNCATE            # a rule about a file may name nothing else
    for paths, access in ((read, READ_FILE | READ_DIR), (write, files & ~(EXECUTE | MAKE_CHAR_SOCK_BLOCK)),
                          (devices, to_a_file)):
        for path in filter(os.path.exists, paths):           # /lib64 and its like are not everywhere
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            kinds = files & (access if os.path.isdir(path) else access & to_a_file)
            pointer = ctypes.create_string_buffer(struct.pack("<Qi", kinds, fd))
            check(libc.syscall(ADD_RULE, ruleset, 1, ctypes.addressof(pointer), 0, 0), "landlock_add_rule")
            os.close(fd)
    return ruleset


def landlock_restrict(ruleset: int) -> None:
    check(libc.syscall(RESTRICT_SELF, ruleset, 0, 0, 0, 0), "landlock_restrict_self")


# ---- cgroups: https://docs.kernel.org/admin-guide/cgroup-v2.html ---------------------------------
ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")


def make_cgroup(limits: dict[str, int]) -> str:
    """The folder of a new group, with bounds (such as {"memory.max": 10**9}) for all in it together."""
    root = next((root for root in ROOTS if os.path.exists(f"{root}/cgroup.controllers")), ROOTS[0])
    own = root + Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip().rstrip("/")
    parent = own if own == root else os.path.dirname(own)    # ours has processes, so it can't limit children
    limited = Path(f"{parent}/cgroup.subtree_control").read_text().split()
    if missing := {name.partition(".")[0] for name in limits} - {"cgroup", *limited}:
        raise OSError(f"cgroups of version 2 do not limit {' and '.join(sorted(missing))} here")
    for old in os.listdir(parent):                           # what killed trainers have left, if nobody is in
        if (trainer := re.fullmatch(r"r1ci-(\d+)-\d+", old)) and not os.path.exists(f"/proc/{trainer[1]}"):
            remove_cgroup(f"{parent}/{old}", attempts=1)
    folder = f"{parent}/r1ci-{os.getpid()}-{time.monotonic_ns()}"
    os.mkdir(folder)
    try:
        for name, value in limits.items():
            Path(f"{folder}/{name}").write_text(str(value))
    except OSError:
        os.rmdir(folder)
        raise
    return folder


def remove_cgroup(folder: str, attempts: int = 50) -> None:
    """Take the group away. Its processes have just been killed, so the kernel may need a moment."""
    for _ in range(attempts):
        with contextlib.suppress(OSError):
            return os.rmdir(folder)
        time.sleep(0.02)
