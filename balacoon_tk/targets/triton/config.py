"""config.pbtxt of Triton: what a model takes and gives, and which states the server carries for it.

The fields are those of `protobuf/model_config.proto` in triton-inference-server/common.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.session import TensorSpec
from balacoon_tk.targets.triton.held_states import END_INPUT, HeldState

INITIAL_STATE_FOLDER = "initial_state"
"""Where Triton looks for states that don't begin with zeros, beside a model's versions."""

_DTYPES = ("float32", "float16", "int64", "int32", "int8", "uint8")

Block = list[tuple[str, object]]
"""Names and values of a message: a str, int, bool, `Word`, list of ints, or another `Block`."""


class Word(str):
    """A name that is written without quotes."""


def model_config(
    name: str,
    inputs: Mapping[str, TensorSpec],
    outputs: Mapping[str, TensorSpec],
    *,
    batching: Block | None = None,
) -> str:
    """Return the text of a model's config.pbtxt, with `batching` if it takes streams."""
    config: Block = [
        ("name", name),
        ("backend", "onnxruntime"),
        # Batches of one stand in the graphs' own shapes: sentences have different lengths.
        ("max_batch_size", 0),
        *(("input", _tensor(spec)) for spec in inputs.values()),
        *(("output", _tensor(spec)) for spec in outputs.values()),
    ]
    if batching is not None:
        config.append(("sequence_batching", batching))
    config.append(("instance_group", [("count", 1), ("kind", Word("KIND_CPU"))]))
    return "".join(f"{line}\n" for line in _lines(config))


def sequence_batching(states: Sequence[HeldState], *, max_streams: int, max_idle_s: float) -> Block:
    """Return how Triton carries states from push to push, and says which push is a stream's last."""
    control: Block = [("kind", Word("CONTROL_SEQUENCE_END")), ("int32_false_true", [0, 1])]
    return [
        ("max_sequence_idle_microseconds", round(1e6 * max_idle_s)),
        # The other strategy, "direct", ties a stream to a slot of a batch, and there are no batches.
        ("oldest", [("max_candidate_sequences", max_streams)]),
        ("control_input", [("name", END_INPUT), ("control", control)]),
        *(("state", _state(state)) for state in states),
    ]


def initial_state_file(state: HeldState) -> tuple[str, bytes] | None:
    """Return name and content of the file that a state begins with; None if that is zeros."""
    if not state.fill:
        return None
    return f"{state.input}.bin", np.full(state.shape, state.fill, state.dtype).tobytes()


def _state(state: HeldState) -> Block:
    file = initial_state_file(state)
    kind = _kind(state.dtype, list(state.shape))
    data = ("zero_data", True) if file is None else ("data_file", file[0])
    first: Block = [("name", f"first_{state.input}"), *kind, data]
    return [("input_name", state.input), ("output_name", state.output), *kind, ("initial_state", first)]


def _tensor(spec: TensorSpec) -> Block:
    if spec.dtype.name not in _DTYPES:
        raise ModelError(f"{spec.name} of {spec.dtype} must be one of {', '.join(_DTYPES)}")
    return [
        ("name", spec.name),
        *_kind(spec.dtype.name, [n if isinstance(n, int) else -1 for n in spec.shape]),
    ]


def _kind(dtype: str, dims: list[int]) -> Block:
    return [("data_type", Word(f"TYPE_{dtype.replace('float', 'fp').upper()}")), ("dims", dims)]


def _lines(block: Block, indent: str = "") -> list[str]:
    lines = []
    for name, value in block:
        if isinstance(value, list) and value and isinstance(value[0], tuple):
            lines += [f"{indent}{name} {{", *_lines(value, f"{indent}  "), f"{indent}}}"]
        else:
            # Scalars and lists are written as in JSON.
            lines.append(f"{indent}{name}: {value if isinstance(value, Word) else json.dumps(value)}")
    return lines
