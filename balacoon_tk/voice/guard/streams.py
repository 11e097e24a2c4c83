"""Whether what a stateful graph says of its streams can be: its states are allocated before it is run."""

from __future__ import annotations

import math
from typing import NoReturn

from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.stateful_graph import StateSpec, StreamingSpec
from balacoon_tk.voice.guard.onnx_reader import Graph
from balacoon_tk.voice.json_text import parse_json, shown

_DTYPES = ("float32", "float16", "float64", "int64", "int32", "int8", "uint8", "bool")
_MOST_STATE_BYTES = 1 << 28  # of one stream; the largest so far has a hundredth
_MOST_FRAMES, _MOST_STEPS = 1 << 20, (1 << 31) - 1


def check_streaming_spec(text: str, graph: Graph) -> None:
    """Refuse what a stateful graph says of its streams if it can't be; a `ModelError` names the field."""
    key = StreamingSpec.METADATA_KEY
    parse_json(text, key)  # bounds how deep it is
    spec = StreamingSpec.from_json(text)
    inputs, outputs = {*graph.inputs}, {*graph.outputs}
    for time_input in spec.inputs:
        _check_name("inputs", time_input.name, inputs)
        _check_integer("steps_per_frame", time_input.steps_per_frame, 1, _MOST_FRAMES)
    for output in spec.outputs:
        _check_name("outputs", output.name, outputs)
        _check_integer("lag", output.lag, 0, _MOST_STEPS)
        if not _is_number(output.hop_length) or not 0 < output.hop_length <= _MOST_FRAMES:
            _refuse("hop_length", output.hop_length, f"a number above 0 and <= {_MOST_FRAMES}")
    _check_name("last_input", spec.last_input, inputs)
    for name in ("min_first_frames", "min_push_frames", "planned_chunk_frames"):
        _check_integer(name, getattr(spec, name), 0, _MOST_FRAMES)
    if not spec.inputs or not spec.outputs or not isinstance(spec.fingerprint, str):
        raise ModelError(f"{key}: it must have inputs, outputs and a fingerprint")
    for state in spec.states:
        _check_state(state, inputs, outputs)
    if spec.n_state_bytes > _MOST_STATE_BYTES:
        raise ModelError(
            f"{key}: a stream's state has {spec.n_state_bytes} bytes: must be <= {_MOST_STATE_BYTES}"
        )


def _check_state(state: StateSpec, inputs: set[str], outputs: set[str]) -> None:
    _check_name("states.input", state.input, inputs)
    _check_name("states.output", state.output, outputs)
    if state.dtype not in _DTYPES:
        _refuse("states.dtype", state.dtype, f"one of {', '.join(_DTYPES)}")
    for n in state.shape:
        _check_integer("states.shape", n, 0, _MOST_STEPS)
    _check_integer("states.max_length", state.max_length, 0, _MOST_STEPS)
    _check_integer("states.axis", state.axis, 0, len(state.shape) - 1)
    if not _is_number(state.fill):
        _refuse("states.fill", state.fill, "a finite number")
    if 8 * math.prod(state.shape) > _MOST_STATE_BYTES:
        _refuse("states.shape", state.shape, f"at most {_MOST_STATE_BYTES} bytes")


def _check_name(what: str, name: object, known: set[str]) -> None:
    if not isinstance(name, str) or name not in known:
        _refuse(what, name, "a name of the graph")


def _check_integer(what: str, value: object, minimum: int, maximum: int) -> None:
    if type(value) is not int or not minimum <= value <= maximum:
        _refuse(what, value, f"a whole number >= {minimum} and <= {maximum}")


def _is_number(value: object) -> bool:
    # An integer of hundreds of digits is no float.
    return (type(value) is int and abs(value) < 2**53) or (type(value) is float and math.isfinite(value))


def _refuse(what: str, value: object, rule: str) -> NoReturn:
    raise ModelError(f"{StreamingSpec.METADATA_KEY}: {what}={shown(value)} must be {rule}")
