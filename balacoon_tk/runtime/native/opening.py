"""From a program to what runs it here, if the native engine was built for this system."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.native.program import Program
from balacoon_tk.runtime.options import RuntimeOptions

if TYPE_CHECKING:
    from balacoon_tk.runtime.native.engine import NativeEngine
    from balacoon_tk.runtime.native.session import NativeSession


def open_program(
    program: Program, options: RuntimeOptions | None = None, *, label: str = "<program>"
) -> NativeEngine:
    """Open a decoder's program; `ModelError` says why it can't be run here."""
    with _built(label):
        from balacoon_tk.runtime.native.engine import NativeEngine
    return NativeEngine(program, options, label=label)


def open_session(
    program: Program, options: RuntimeOptions | None = None, *, label: str = "<program>"
) -> NativeSession:
    """Open a program that is run whole, as an encoder's is; `ModelError` says why it can't be run here."""
    with _built(label):
        from balacoon_tk.runtime.native.session import NativeSession
    return NativeSession(program, options, label=label)


@contextmanager
def _built(label: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ModelError(f"{label}: the native engine was not built for this system: {error}") from error
