"""What a process that reads a foreign model gives up, before it reads anything.

Run as a program, by its path and with nothing but the standard library: what is given up holds for threads
that are started later alone, and libraries of numbers start theirs when they are imported.

| | Linux | macOS | Windows |
|---|---|---|---|
| memory | `RLIMIT_DATA` | | |
| processor time, size of a file | `RLIMIT_CPU`, `RLIMIT_FSIZE` | the same | |
| no write outside its folder, no other program | Landlock, from Linux 5.13 | | |
| no network | seccomp on x86-64 and ARM64, else a network of its own where that is allowed | | |

Time and what lies in its folder are limited by the parent, everywhere. Reading isn't limited: a model lies
anywhere, and what was read has no way out but the voice. Permissions and times of files aren't writes to
Landlock.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import signal
import struct
import sys
import threading
from collections.abc import Mapping
from typing import Any

# From linux/landlock.h; the numbers of its calls are the same on every processor.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_WANT_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _TRUNCATE, _IOCTL = 1 << 0, 1 << 1, 1 << 14, 1 << 15
_CHANGES = _WRITE_FILE | 0x1FF0  # to remove and to make what there is in a folder
_MOVE = 1 << 13
_BIND_AND_CONNECT = 0b11
_SOCKETS_AND_SIGNALS = 0b11  # to processes outside

# From linux/prctl.h, linux/seccomp.h, linux/filter.h and linux/audit.h.
_DIE_WITH_PARENT, _SET_SECCOMP, _NO_NEW_PRIVILEGES = 1, 22, 38
_FILTER = 2
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_GREATER_OR_EQUAL, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 13  # EACCES
_X32 = 0x40000000  # the first number of a second set of calls on x86-64
# The architecture, then: socket and io_uring_setup, which opens sockets as well; ptrace, process_vm_readv and
# process_vm_writev; setpgid and setsid, by which a child of its own would leave the group that is ended.
_CALLS = {
    "x86_64": (0xC000003E, (41, 425, 101, 310, 311, 109, 112)),
    "aarch64": (0xC00000B7, (198, 425, 117, 270, 271, 154, 157)),
}
_NEW_USER_AND_NETWORK = 0x10000000 | 0x40000000


def confine(folder: str, bounds: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Give up what can be; return what holds then, and what this system can't keep a process from."""
    held: list[str] = []
    missing: list[str] = []

    def note(what: str, how: str | None) -> None:
        if how is None:
            missing.append(what)
        else:
            held.append(f"{what} ({how})" if how else what)

    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
        # Without it neither of the two that follow may be asked for by anybody but root.
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        note("no write outside its folder, no other program", _landlock(libc, folder))
        note("no network", _no_network(libc))
    else:
        missing += ["no write outside its folder, no other program", "no network"]
    memory = f"at most {bounds['memory_bytes'] / 1e9:.1f} GB of memory"
    cpu = f"at most {bounds['cpu_s'] / 60:.0f} min of processor time"
    if sys.platform == "win32":
        missing += [memory, cpu]
    else:
        import resource

        # Others count what was reserved and never used, which is a multiple of it, or don't keep to it.
        on_linux = sys.platform == "linux"
        limited = on_linux and _limit(resource.RLIMIT_DATA, bounds["memory_bytes"])
        note(memory, "" if limited else None)
        # Seconds later than the signal that says why comes the one that nothing survives.
        note(cpu, "" if _limit(resource.RLIMIT_CPU, bounds["cpu_s"], grace=5) else None)
        _limit(resource.RLIMIT_FSIZE, bounds["file_bytes"])
        _limit(resource.RLIMIT_CORE, 0)
    return held, missing


def _limit(what: int, value: int, *, grace: int = 0) -> bool:
    import resource

    _, hard = resource.getrlimit(what)
    end = value + grace
    if hard != resource.RLIM_INFINITY:
        end = min(end, hard)
    try:
        resource.setrlimit(what, (min(value, end), end))
    except (OSError, ValueError):
        return False
    return True


def _landlock(libc: ctypes.CDLL, folder: str) -> str | None:
    def call(number: int, *arguments: Any) -> int:
        return int(libc.syscall(ctypes.c_long(number), *arguments))

    # Each version of the kernel's knows more to be kept from; one that is asked for too much refuses all.
    version = call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_WANT_VERSION))
    if version < 1:
        return None
    changes, on_files = _CHANGES, _WRITE_FILE
    if version >= 2:
        changes |= _MOVE
    if version >= 3:
        changes, on_files = changes | _TRUNCATE, on_files | _TRUNCATE
    if version >= 5:
        changes, on_files = changes | _IOCTL, on_files | _IOCTL
    asked = struct.pack("=Q", changes | _EXECUTE)
    if version >= 4:
        asked += struct.pack("=Q", _BIND_AND_CONNECT)
    if version >= 6:
        asked += struct.pack("=Q", _SOCKETS_AND_SIGNALS)
    rules = call(_CREATE_RULESET, asked, ctypes.c_size_t(len(asked)), ctypes.c_uint(0))
    if rules < 0:
        return None
    try:
        for path, allowed in ((folder, changes), (os.devnull, on_files)):
            place = os.open(path, getattr(os, "O_PATH", 0) | os.O_CLOEXEC)
            rule = struct.pack("=Qi", allowed, place)
            added = call(_ADD_RULE, ctypes.c_int(rules), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint(0))
            os.close(place)
            if added:
                return None
        if call(_RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint(0)):
            return None
    finally:
        os.close(rules)
    return f"Landlock {version}"


def _no_network(libc: ctypes.CDLL) -> str | None:
    if _refuse_calls(libc):
        return "seccomp"
    if libc.unshare(_NEW_USER_AND_NETWORK) == 0:
        return "a network of its own"
    return None


def _refuse_calls(libc: ctypes.CDLL) -> bool:
    """Let the calls in `_CALLS` fail, and all calls of another architecture."""
    if platform.machine() not in _CALLS or struct.calcsize("P") != 8:
        return False
    architecture, numbers = _CALLS[platform.machine()]
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_JUMP_IF_GREATER_OR_EQUAL, len(numbers) + 1, 0, _X32),
        # Over those that are still to be compared and the one that allows.
        *((_JUMP_IF_EQUAL, len(numbers) - k, 0, number) for k, number in enumerate(numbers)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    return bool(libc.prctl(_SET_SECCOMP, _FILTER, program, 0, 0) == 0)


def _end_with_parent() -> None:
    """End when nobody holds the other end of stdin any more, whatever ended the parent."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1):
                pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Read a request from stdin, give up what there is to be given up, and hand over."""
    line = b""
    while not line.endswith(b"\n"):  # by hand, since a buffer would take what the thread waits for
        part = os.read(0, 1 << 16)
        if not part:  # whoever was about to ask has died
            return
        line += part
    request: dict[str, Any] = json.loads(line)
    # Messages go where nothing else writes: whatever libraries print goes to stderr.
    messages = os.dup(1)
    os.dup2(2, 1)
    sys.dont_write_bytecode = True
    held, missing = confine(request["folder"], request["bounds"])
    _end_with_parent()
    sys.path[:] = request["path"]
    from balacoon_tk.export.sandbox.child import export

    export(request["export"], messages, held, missing)


if __name__ == "__main__":
    main()
