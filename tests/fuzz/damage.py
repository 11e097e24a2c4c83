"""Damage done to valid files, as some bytes say: what a fuzzer flips changes the damage in a small way."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Iterator, Sequence

__all__ = ["BAD_VALUES", "damaged_bytes", "damaged_json"]

BAD_VALUES: tuple[object, ...] = (
    *(None, True, False, -1, 0, 1, 2, 0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), 2**31 - 1, 2**31),
    *(2**63 - 1, 2**63, 10**30, 10**400, -(2**31)),
    *("", " ", "a", "é", "\0", "\ud800", "\u202e", "a" * 5000, "1", "NaN", "voice.json", "encoder.onnx", "."),
    *("..", "../voice.json", "/etc/passwd", "/dev/zero", "C:\\x", "a/../../b", "a\nb", "en-us", "espeak"),
    *([], {}, [None], [[]], [1] * 5000, [""], ["a", "a"], {"": 1}, {"a": {"a": {}}}, {"file": "/dev/zero"}),
)
"""What stands where something else is meant."""

_EDIT = struct.Struct("<BHB")


def damaged_bytes(valid: Sequence[bytes], data: bytes) -> bytes:
    """Damage one of some files: the first byte says which, each four bytes after it what is done where."""
    damaged = bytearray(valid[(data[0] if data else 0) % len(valid)])
    for how, where, value in _edits(data):
        at = where * 7919 % (len(damaged) + 1)  # anywhere in files longer than two bytes can say
        match how % 6:
            case 0 if at < len(damaged):
                damaged[at] ^= 1 << value % 8
            case 1 if at < len(damaged):
                damaged[at] = value
            case 2:
                del damaged[at : at + 1 + value]
            case 3:
                damaged[at:at] = damaged[at : at + value]
            case 4:
                damaged[at:at] = bytes([value]) * (1 + value)
            case 5 if value > 200:
                del damaged[at:]
    return bytes(damaged)


def damaged_json(valid: Sequence[object], data: bytes) -> bytes:
    """Damage one of some JSON documents, so that it mostly remains JSON."""
    root = [copy.deepcopy(valid[(data[0] if data else 0) % len(valid)])]
    raw = b""
    for how, where, value in _edits(data):
        places = list(_places(root))
        parent, key = places[where % len(places)]
        bad = copy.deepcopy(BAD_VALUES[value % len(BAD_VALUES)])
        match how % 8:
            case 0 if parent is not root:
                del parent[key]
            case 1 if isinstance(parent, dict):
                parent[str(bad)] = parent.pop(key)
            case 2 if isinstance(parent, list):
                parent[key:key] = [bad] * (1 + value % 3)
            case 3:
                raw += bytes([1, where % 256, where // 256, value])
            case 4:  # something else of the same document
                source, name = places[value % len(places)]
                parent[key] = copy.deepcopy(source[name])
            case _:
                parent[key] = bad
    text = json.dumps(root[0]).encode()
    return damaged_bytes([text], b"\0" + raw) if raw else text


def _edits(data: bytes) -> Iterator[tuple[int, int, int]]:
    whole = len(data) - (len(data) - 1) % _EDIT.size if data else 0
    return iter(_EDIT.iter_unpack(data[1:whole]))


def _places(parent: object) -> Iterator[tuple[object, object]]:
    """Give every place of a document: what it stands in, and where."""
    items = (
        parent.items() if isinstance(parent, dict) else enumerate(parent) if isinstance(parent, list) else ()
    )
    for key, value in list(items):
        yield parent, key
        yield from _places(value)
