"""Which system calls may be made: an allow-list (seccomp), as two small programs for the kernel (BPF).

The list, with a reason for every call, is syscalls.txt; the arguments that matter are in RULES. All else is
refused, so a new kernel brings nothing new to attack: "not permitted", or from number 424 on (Linux 5.1) "not
implemented", so that libc takes an older call that we can judge, such as `clone` for `clone3`. A filter sees
the number of a call and its arguments, never what a pointer points to.

A worker installs the first filter, with the whole list, once; programs inherit it. The second one takes away
what only the worker needs and holds the program's own id: it is installed for each one, so it is short."""
import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from isolation.kernel import check, landlock_version, libc

ALLOW, KILL, ERRNO, ANY = 0x7FFF0000, 0x80000000, 0x00050000, 0xFFFFFFFF     # ERRNO + number; ANY: all bits
DENY = ERRNO | errno.EPERM
ANSWERS = {"0": ERRNO, "ENOTSUP": ERRNO | errno.ENOTSUP}
MACHINES = {"x86_64": (0xC000003E, 1), "aarch64": (0xC00000B7, 2)}     # -> its name, its column in the list
LOAD, EQUAL, AT_LEAST, AND, RETURN = 0x20, 0x15, 0x35, 0x54, 0x06


def one_of(argument: int, *values: int, answer: int = ALLOW) -> list:
    """If the argument is one of `values`: a list of (answer, [(argument, mask, value), ..])."""
    return [(answer, [(argument, ANY, value)]) for value in values]


OWN = 0x70696421                                             # stands for the program's own process id
THREAD = (0x003D0F00, 0x007D0F00)      # flags of libc's threads (glibc, musl): they share all, open files too
FORK = (0x01200011, 17)                                      # a process as libc starts it
RULES = {          # call -> [(answer, tests that must all hold), ..]; if none of them holds: not permitted
    # bytes to read; blocking; inherited, not inherited; is it a terminal, how wide; copy by sharing blocks
    "ioctl": one_of(1, 0x541B, 0x5421, 0x5450, 0x5451, 0x5401, 0x5413, 0x40049409),
    # duplicate (2); inherited: get, set; flags: get, set; size of a pipe; locks (3): as flock in the list
    "fcntl": one_of(1, 0, 1030, 1, 2, 3, 4, 1032) + one_of(1, 5, 6, 7, answer=ERRNO),
    "socketpair": [(ALLOW, [(0, ANY, socket.AF_UNIX), (1, 0xF, socket.SOCK_STREAM)])],     # have no address
    "close_range": one_of(2, 0, 4),                          # 2 would give a thread files of its own
    "clone": one_of(0, *THREAD, *FORK),
    "prctl": one_of(0, 15, 16, 1, 22)}                       # names of threads; death of the parent; seccomp
RULES_BEFORE_LANDLOCK_3 = {"truncate": []} | {               # it overlooks O_RDONLY | O_TRUNC
    name: [(ALLOW, [(i, os.O_TRUNC, 0)]), (ALLOW, [(i, 3, os.O_WRONLY)]), (ALLOW, [(i, 3, os.O_RDWR)])]
    for name, i in (("open", 1), ("openat", 2))}
PROGRAM_RULES = {"clone": one_of(0, *THREAD), "prctl": one_of(0, 15, 16), "tgkill": one_of(0, OWN),
                 "kill": one_of(0, OWN, 0), "prlimit64": one_of(0, OWN, 0)}


def read_list() -> dict[str, dict[str, int]]:
    """What is answered -> the calls of this machine that get this answer: name -> number."""
    if platform.machine() not in MACHINES:
        raise OSError(errno.ENOSYS, f"no list of system calls for {platform.machine()}")
    column, found = MACHINES[platform.machine()][1], {}
    for paragraph in Path(__file__).with_suffix(".txt").read_text().split("\n\n")[1:]:
        heading, _, text = paragraph.partition("\n")
        words, calls = text.split(), found.setdefault(heading[1:heading.index("]")], {})
        calls |= {name: int(number) for name, number in zip(words[::3], words[column::3]) if number != "-"}
    return found


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction (8 bytes); if_true and if_false: how many of those that follow are skipped."""
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _call(number: int, rules: list) -> bytes:
    """What is answered to one call; all other calls go on behind it."""
    body = b""
    for answer, tests in rules:
        part = _op(RETURN, answer)
        for argument, mask, value in reversed(tests):        # a test that fails skips to the next rule
            skip = len(part) // 8
            part = _op(LOAD, 16 + 8 * argument) + _op(AND, mask) + _op(EQUAL, value, 0, skip) + part
        body += part
    body += _op(RETURN, DENY)
    return _op(EQUAL, number, 0, len(body) // 8) + body


def filters(landlock: int) -> tuple[bytes, bytes]:
    """The first filter and the second one; `landlock`: the kernel's version of that."""
    calls = read_list()
    made = calls["allow"] | calls["worker"]
    rules = RULES | (RULES_BEFORE_LANDLOCK_3 if landlock < 3 else {})
    free = [number for name, number in made.items() if name not in rules]
    return b"".join([
        _op(LOAD, 4), _op(EQUAL, MACHINES[platform.machine()][0], 1), _op(RETURN, KILL), _op(LOAD, 0),
        *(_call(made[name], rules[name]) for name in rules if name in made),
        *(_call(number, [(ANSWERS[key], [])]) for key in ANSWERS for number in calls[key].values()),
        *(_op(EQUAL, number, len(free) - i + 2) for i, number in enumerate(free)),         # to the last line
        _op(AT_LEAST, 424, 0, 1), _op(RETURN, ERRNO | errno.ENOSYS), _op(RETURN, DENY), _op(RETURN, ALLOW),
    ]), b"".join([
        _op(LOAD, 0), *(_call(number, []) for number in calls["worker"].values()),
        *(_call(made[name], rules) for name, rules in PROGRAM_RULES.items()), _op(RETURN, ALLOW)])


def installer(code: bytes) -> Callable[[int], None]:
    """A function that installs a filter for a process with a certain id; its buffer is there already."""
    places = [i for i in range(0, len(code), 4) if code[i:i + 4] == struct.pack("<I", OWN)]
    buffer = ctypes.create_string_buffer(code, len(code))
    description = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer)))

    def install(own: int) -> None:
        for place in places:
            struct.pack_into("<I", buffer, place, own)
        check(libc.prctl(22, 2, ctypes.addressof(description), 0, 0), "seccomp")   # PR_SET_SECCOMP, filter
    return install


def install_first() -> Callable[[int], None]:
    """Install the first filter; what is returned installs the second one."""
    first, second = map(installer, filters(landlock_version()))
    first(os.getpid())
    return second
