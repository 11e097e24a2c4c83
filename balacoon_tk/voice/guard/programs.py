"""Whether the file of a native program holds records of the right types, of a size that can be run.

What the stages mean is judged by the native engine itself; here it is only seen that nothing stands where
something else should, and that no stage keeps or pads more than a voice has use for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, cast

from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.native.program import Call, Edge, Port, Stage
from balacoon_tk.voice.json_text import shown

_MOST_RECORDS = 20_000
_MOST_NUMBERS = 1 << 24
"""Of what a stage keeps of its source, or pads it with: 64 MB."""


def check_program_records(data: object) -> None:
    """Refuse the content of a program's file that isn't one, with a `ModelError` that names the record."""
    if not isinstance(data, dict):
        raise ModelError("not a native program: it must be an object")
    for name, kind in (("edges", Edge), ("stages", Stage), ("inputs", Port), ("outputs", Port)):
        for index, record in enumerate(_list(data, name)):
            where = f"{name}[{index}]"
            _check_record(record, kind, where)
            if kind is Stage:
                for k, call in enumerate(_list(record, "chain") if "chain" in record else ()):
                    _check_record(call, Call, f"{where}.chain[{k}]")
                _check_size(record, where)


def _list(data: Mapping[str, Any], name: str) -> list[Any]:
    records = data.get(name)
    if not isinstance(records, list) or len(records) > _MOST_RECORDS:
        raise ModelError(f"not a native program: {name} must be a list of at most {_MOST_RECORDS}")
    return records


def _check_record(record: object, kind: type[Edge | Stage | Call | Port], where: str) -> None:
    if not isinstance(record, dict):
        raise ModelError(f"not a native program: {where} must be an object")
    types = {each.name: str(each.type) for each in fields(kind)}
    for name, value in record.items():
        if name not in types:
            raise ModelError(f"not a native program: {where} has no field {shown(name)}")
        wanted = types[name]
        fits = _FITS[wanted.removesuffix(" | None")]
        if not (value is None and wanted.endswith(" | None")) and not fits(value):
            raise ModelError(f"not a native program: {where}.{name}={shown(value)} must be {wanted}")


def _check_size(stage: Mapping[str, Any], where: str) -> None:
    names = ("pad_left", "pad_right", "crop", "n_extra", "left_context", "right_context")
    sizes = {name: abs(stage.get(name) or 0) for name in names}
    kept = stage.get("n_taps", 1) * stage.get("dilation", 1) + stage.get("stride", 1)
    width = max(1, stage.get("n_channels", 1)) * max(1, stage.get("n_phases", 1))
    n_numbers = width * max(1, kept, *sizes.values())
    if n_numbers > _MOST_NUMBERS:
        raise ModelError(
            f"{where}: its window or padding has {n_numbers} numbers: must be <= {_MOST_NUMBERS}"
        )


def _is_integer(value: object) -> bool:
    return type(value) is int


def _is_number(value: object) -> bool:
    return (type(value) is int and abs(value) < 2**53) or (type(value) is float and math.isfinite(value))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_integers(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_integer, value))


# By the annotations of the records; which texts there are is the engine's to know.
_FITS: Mapping[str, Callable[[object], bool]] = {
    "str": _is_text,
    "Cell": _is_text,
    "Kind": _is_text,
    "Padding": _is_text,
    "bool": lambda value: isinstance(value, bool),
    "int": _is_integer,
    "float": _is_number,
    "tuple[Call, ...]": lambda value: isinstance(value, list),
    "tuple[int, int]": lambda value: _are_integers(value) and len(cast("list[int]", value)) == 2,
    "tuple[int, ...]": _are_integers,
    "tuple[tuple[int, int], ...]": lambda value: (
        isinstance(value, list)
        and all(_are_integers(each) and len(cast("list[int]", each)) == 2 for each in value)
    ),
}
