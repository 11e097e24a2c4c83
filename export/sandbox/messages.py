"""What the process that reads a foreign model says to the one that started it: a line of JSON for each.

Nothing in a line is believed: it says what to show and which error to raise, by a name out of a list.
"""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TypeAlias

from balacoon_tk import errors
from balacoon_tk.errors import ModelError
from balacoon_tk.graph.errors import NotStreamableError

MAX_LINE_BYTES = 1 << 19
_MAX_TEXT, _MAX_LABEL = 10_000, 200

_ERRORS: Mapping[str, type[Exception]] = {
    **{name: getattr(errors, name) for name in errors.__all__},
    "NotStreamableError": NotStreamableError,
    "MemoryError": MemoryError,
}
_ATTRIBUTES = frozenset({"advice", "extra", "node", "op_type", "reason"})  # that these errors have


@dataclass(frozen=True, slots=True)
class Confined:
    """What the process has given up, and what it couldn't."""

    held: list[str]
    missing: list[str]


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far it is."""

    stage: str
    share: float


@dataclass(frozen=True, slots=True)
class Warned:
    """What is not in the voice, or in another form, as a `SourceWarning` says it."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The error that ended it."""

    kind: str
    text: str
    attributes: dict[str, str]
    errno: int | None
    filename: str | None
    where: str
    """The traceback."""


@dataclass(frozen=True, slots=True)
class Done:
    """The voice lies in its folder."""


Message: TypeAlias = "Confined | Progressed | Warned | Failed | Done"


def encode(message: Message) -> bytes:
    """Return the line of a message."""
    return json.dumps({"is": type(message).__name__, **asdict(message)}).encode("utf-8", "replace") + b"\n"


def decode(line: bytes) -> Message:
    """Read a line; a `ModelError` says that it is none of these messages."""
    try:
        data = json.loads(line)
        return _MESSAGES[data.pop("is")](data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError("the process that reads the model said what is no message") from error


def to_failed(error: BaseException) -> Failed:
    """Return the message about an error."""
    kind, text = type(error).__name__, str(error)
    errno = filename = None
    if isinstance(error, OSError) and error.errno is not None:
        # Which of its kinds it is follows from the number.
        kind, errno, text = "OSError", error.errno, error.strerror or text
        filename = None if error.filename is None else str(error.filename)
    return Failed(
        kind=kind,
        text=clean(text)[:_MAX_TEXT],
        attributes={
            name: clean(value)[:_MAX_TEXT]
            for name, value in vars(error).items()
            if isinstance(value, str) and name in _ATTRIBUTES
        },
        errno=errno,
        filename=filename,
        where=clean("".join(traceback.format_exception(error)))[-_MAX_TEXT:],
    )


def to_error(failed: Failed, *, source: str) -> Exception:
    """Return the error that a message is about, of the same type where it is one of ours or the system's."""
    error: Exception
    if failed.kind == "OSError":
        error = OSError(failed.text)
        if failed.errno is not None:
            error = OSError(failed.errno, failed.text, failed.filename)
    elif failed.kind in _ERRORS:
        kind = _ERRORS[failed.kind]
        # Not by their constructors, which put their text together from parts.
        error = kind.__new__(kind)
        error.args = (failed.text,)
        for name, value in failed.attributes.items():
            setattr(error, name, value)
    else:
        error = ModelError(f"{source}: can't be exported: {failed.kind}: {failed.text}")
    error.add_note(f"In the sandbox:\n{failed.where}")
    return error


def _text(data: Mapping[str, object], name: str, length: int = _MAX_TEXT) -> str:
    value = data[name]
    if not isinstance(value, str):
        raise TypeError(name)
    return clean(value)[:length]


def clean(text: str) -> str:
    """Return a text without what would move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _confined(data: Mapping[str, object]) -> Confined:
    both = []
    for name in ("held", "missing"):
        value = data[name]
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise TypeError(name)
        both.append([clean(each)[:_MAX_LABEL] for each in value])
    return Confined(*both)


def _progressed(data: Mapping[str, object]) -> Progressed:
    share = data["share"]
    if not isinstance(share, (int, float)) or not math.isfinite(share):
        raise TypeError("share")
    return Progressed(_text(data, "stage", _MAX_LABEL), min(max(float(share), 0.0), 1.0))


def _failed(data: Mapping[str, object]) -> Failed:
    attributes, errno = data["attributes"], data["errno"]
    if not isinstance(attributes, dict) or not _ATTRIBUTES.issuperset(attributes):
        raise TypeError("attributes")
    if errno is not None and not isinstance(errno, int):
        raise TypeError("errno")
    return Failed(
        kind=_text(data, "kind", _MAX_LABEL),
        text=_text(data, "text"),
        attributes={name: _text(attributes, name) for name in attributes},
        errno=errno,
        filename=None if data["filename"] is None else _text(data, "filename"),
        where=_text(data, "where"),
    )


_MESSAGES: Mapping[str, Callable[[Mapping[str, object]], Message]] = {
    "Confined": _confined,
    "Progressed": _progressed,
    "Warned": lambda data: Warned(_text(data, "text")),
    "Failed": _failed,
    "Done": lambda data: Done(),
}
