"""What native code needs of the process it runs in: that no run is under way where it forks or ends.

A fork copies the memory of all threads and only the thread that asked for it. A lock that another thread
held then stays locked in the child for ever, and a pool of threads has none. At its end Python stops daemon
threads where they come back from native code, and ONNX Runtime, which is C++, aborts the process for that.
So both wait until the runs that are under way have ended, and let none begin meanwhile. A run takes
milliseconds, and one of a whole sentence a second at most.

All of it begins with `watch`, which the first session calls; before that there is nothing to look after.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import threading
import time

# Longer than any run of a sensible voice. Whoever forks or ends must not hang for one that never ends.
_PATIENCE_S = 30.0
_LOOK_S = 0.001


class Runs:
    """The runs of native code that are under way in this process: one for each thread, none inside another.

    ``with`` marks one. There is no lock in it, since a set changes in one step, and a run that begins notes
    itself before it looks whether it may; whoever stops runs does both the other way round.
    """

    def __init__(self) -> None:
        self._under_way: set[int] = set()
        self._forking = False
        self._ending = False
        # Two threads that fork at once would let each other's runs go on.
        self._one_fork = threading.Lock()

    def __enter__(self) -> None:
        self._under_way.add(threading.get_ident())
        if self._forking or self._ending:
            self._wait_for_leave()

    def __exit__(self, *_error: object) -> None:
        self._under_way.discard(threading.get_ident())

    @property
    def n_under_way(self) -> int:
        """How many there are now."""
        return len(self._under_way)

    def before_fork(self) -> None:
        """Let no run begin, and wait for those of other threads."""
        self._one_fork.acquire()
        self._forking = True
        self._wait_for_others()

    def after_fork_in_parent(self) -> None:
        """Let them go on."""
        self._forking = False
        self._one_fork.release()

    def after_fork_in_child(self) -> None:
        """Forget those of threads that aren't there."""
        self._under_way.intersection_update({threading.get_ident()})
        self.after_fork_in_parent()

    def end(self) -> None:
        """Let no daemon thread begin a run any more, and wait for those that have."""
        self._ending = True
        self._wait_for_others()

    def _wait_for_leave(self) -> None:
        own = threading.get_ident()
        # A thread that forks from a signal's handler waits for others, and for itself it can't.
        while self._forking or (self._ending and threading.current_thread().daemon):
            self._under_way.discard(own)
            # A daemon at the end stays here: Python doesn't wait for it, and what it would say is lost.
            time.sleep(_LOOK_S if self._forking else _PATIENCE_S)
            self._under_way.add(own)

    def _wait_for_others(self) -> None:
        until_s, own = time.monotonic() + _PATIENCE_S, {threading.get_ident()}
        while self._under_way - own and time.monotonic() < until_s:
            time.sleep(_LOOK_S)


runs = Runs()
"""Those of this process."""

_n_forks = 0


def generation() -> int:
    """Return how many forks lie between this process and the one that imported this module.

    What notes it when it is made knows later whether it was made in this process.
    """
    return _n_forks


def hold_across_forks(lock: threading.Lock) -> None:
    """Hold a lock of a module while the process forks: what it guards is whole in the child, and free."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)


@functools.cache
def watch() -> None:
    """Look after forks and the end of this process from now on."""
    # Runs after Python has waited for threads that are no daemons, and before it stops the others.
    atexit.register(runs.end)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=runs.before_fork,
            after_in_parent=runs.after_fork_in_parent,
            after_in_child=_begin_as_child,
        )


def _begin_as_child() -> None:
    global _n_forks
    _n_forks += 1
    runs.after_fork_in_child()
    # What ONNX Runtime does behind Python's end, once it was imported, waits for threads that aren't here.
    # glibc hands the status of the process to what it calls first, and that may be its own `_exit`.
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        libc.on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)


def give_back_memory() -> None:
    """Give memory that was freed back to the system, where the C library keeps it until then.

    glibc keeps up to 64 MB at the end of its heap, and pieces between others for good: behind a session that
    has run, more than many a decoder's weights.
    """
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if library is not None and hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def keep_for_ever(thing: object) -> None:
    """Never free an object of Python, so that nothing waits in its destructor."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
