"""Keep recurrences from ending the process: in ONNX Runtime up to 1.32 some do, over tensors without numbers.

A GRU over no steps, and a GRU or LSTM over no utterances, call ``std::terminate``, which nothing catches.
Whether a graph comes to that depends on what it is run on. So each is given its input through a few nodes
that fail before, with an error like any other; else they cost microseconds and copy nothing::

    Shape ─▶ Equal 0 ─▶ Where mask, 0 ─▶ Gather of [0] ─▶ Reshape        2 is no index; 0 keeps an axis

All of them take int64 since opset 9.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from balacoon_tk.errors import ModelError
from balacoon_tk.voice.guard.wire import IS_FIXED32, IS_VARINT, Wire

GUARDED = frozenset({"GRU", "LSTM"})

_PREFIX = "balacoon_tk.guard."
_INT64 = 7
# Constants by their names: of an LSTM time may be empty, its first axis or, by `layout`, its second.
_NUMBERS = {"zero": [0], "every": [2, 2, 2], "not_first": [0, 2, 2], "not_second": [2, 0, 2]}


def guard_recurrences(data: bytes) -> bytes:
    """Return an ONNX file, which `check_graph` has passed, with a guard in front of each GRU and LSTM.

    Raises
    ------
    ModelError
        If it has names that the guards need.
    """
    if _PREFIX.encode() in data:
        raise ModelError(f"it has names that begin with {_PREFIX!r}, which are this package's own")
    wire = Wire(data)
    parts = []
    for number, start, stop in wire.fields(0, len(data)):
        if number == 7 and stop >= 0:
            parts.append(_bytes(7, b"".join(_guarded_graph(wire, start, stop))))
        else:
            parts.append(_again(wire, number, start, stop))
    # What stands there a second time is joined to the first.
    constants = (_constant(name, numbers) for name, numbers in _NUMBERS.items())
    return b"".join([*parts, _bytes(7, b"".join(_bytes(5, constant) for constant in constants))])


def _guarded_graph(wire: Wire, start: int, stop: int) -> Iterator[bytes]:
    for number, a, b in wire.fields(start, stop):
        fields = wire.fields(a, b) if number == 1 and b >= 0 else []
        op_type = next((wire.text(c, d) for key, c, d in reversed(fields) if key == 4 and d >= 0), "")
        source = next(((c, d) for key, c, d in fields if key == 1 and d >= 0), None)
        if op_type not in GUARDED or source is None:
            yield _again(wire, number, a, b)
            continue
        prefix = f"{_PREFIX}{a}."  # where it lies in the file, which no other does
        mask = "every" if op_type == "GRU" else "not_second" if _layout(wire, fields) else "not_first"
        for node in _guard(wire.text(*source), prefix, mask):
            yield _bytes(1, node)
        fields.remove((1, *source))
        rest = (_again(wire, *field) for field in fields)
        yield _bytes(1, b"".join([_bytes(1, f"{prefix}out".encode()), *rest]))


def _layout(wire: Wire, fields: list[tuple[int, int, int]]) -> int:
    for number, start, stop in fields:
        if number == 5 and stop >= 0:
            attribute = wire.fields(start, stop)
            if any(key == 1 and b >= 0 and wire.text(a, b) == "layout" for key, a, b in attribute):
                return next((a for key, a, b in attribute if key == 3 and b == IS_VARINT), 0)
    return 0


def _guard(source: str, prefix: str, mask: str) -> Iterator[bytes]:
    steps = (
        ("Shape", (source,), "shape"),
        ("Equal", (f"{prefix}shape", f"{_PREFIX}zero"), "missing"),
        ("Where", (f"{prefix}missing", f"{_PREFIX}{mask}", f"{_PREFIX}zero"), "index"),
        ("Gather", (f"{_PREFIX}zero", f"{prefix}index"), "same"),
        ("Reshape", (source, f"{prefix}same"), "out"),
    )
    for op_type, inputs, output in steps:
        names = [_bytes(1, name.encode()) for name in inputs]
        made = f"{prefix}{output}".encode()
        yield b"".join([*names, _bytes(2, made), _bytes(3, made), _bytes(4, op_type.encode())])


def _constant(name: str, numbers: list[int]) -> bytes:
    dims, dtype = b"\x08" + _varint(len(numbers)), b"\x10" + _varint(_INT64)
    raw = struct.pack(f"<{len(numbers)}q", *numbers)
    return dims + dtype + _bytes(8, f"{_PREFIX}{name}".encode()) + _bytes(9, raw)


def _again(wire: Wire, number: int, start: int, stop: int) -> bytes:
    """Return a field as it was."""
    if stop >= 0:
        return _bytes(number, wire.data[start:stop])
    if stop == IS_VARINT:
        return _varint(number << 3) + _varint(start)
    kind, length = (5, 4) if stop == IS_FIXED32 else (1, 8)
    return _varint(number << 3 | kind) + wire.data[start : start + length]


def _bytes(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
