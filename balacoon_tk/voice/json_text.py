"""Parsing JSON that may come from anywhere: no deeper, and no other texts, than what reads it can bear."""

from __future__ import annotations

import json
from typing import Any

from balacoon_tk.errors import VoiceError

_MOST_DEPTH = 32  # of objects and lists in each other; a manifest has six
_MOST_SHOWN = 100  # characters of a value in a message


def parse_json(text: str, file: str) -> Any:
    """Parse the text of a file that may come from anywhere.

    Parameters
    ----------
    text : str
    file : str
        What messages call it.

    Returns
    -------
    object
        As `json.loads` gives it: all of its texts can be encoded, and it is at most 32 levels deep.

    Raises
    ------
    VoiceError
        If it is no JSON, says one name twice in an object, or holds half of a surrogate pair.
    """
    try:
        data = json.loads(text, object_pairs_hook=_object_of)
    except _TwiceError as error:
        raise VoiceError(f"{file}: {error} must not be there twice in one object") from None
    except (ValueError, RecursionError) as error:  # ValueError: also a number of too many digits
        raise VoiceError(f"{file} is not JSON: {error}") from error
    _check_tree(data, file)
    return data


class _TwiceError(Exception):
    """A name that an object has two values for."""


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of two values Python takes the last and other readers the first: what was looked at isn't what is run.
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(shown(next(name for name in names if names.count(name) > 1)))
    return data


def _check_tree(data: object, file: str) -> None:
    """Refuse what lies too deep, and texts that no file name or terminal can take."""
    level: list[tuple[str, object]] = [("", data)]
    for _ in range(_MOST_DEPTH):
        below: list[tuple[str, object]] = []
        for path, value in level:
            if isinstance(value, dict):
                _check_text("".join(value), f"{file}: a name in {path.rstrip('.') or 'it'}")
                below += ((f"{path}{name}.", item) for name, item in value.items())
            elif isinstance(value, list):
                below += ((f"{path.rstrip('.')}[{k}].", item) for k, item in enumerate(value))
            elif isinstance(value, str):
                _check_text(value, f"{file}: {path.rstrip('.')}")
        if not below:
            return
        level = below
    raise VoiceError(f"{file} is more than {_MOST_DEPTH} levels deep")


def _check_text(text: str, what: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise VoiceError(f"{what} holds half of a surrogate pair, which is no character") from None


def shown(value: object) -> str:
    """Return how a value stands in a message: a file from anywhere must not fill a screen."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
