"""What the native engine runs: a short list of stages, and the edges between them.

An edge is a tensor with time, held channels last. A stage reads a window of one edge, makes a tile of it
(`Kind`), lets a chain of functions work on the tile while it lies in the first cache (`Call`), and stores
what others read. So a convolution, its bias, the residual that is added and the activation behind are one
stage, and pass through memory once.

A program is plain data: whatever compiles a decoder makes it, and it can be written to a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError

Kind: TypeAlias = Literal[
    "convolve", "depthwise", "predicted", "pointwise", "normalise", "pad", "attend", "recur", "spline"
]
"""How a stage's tile is made of its source: a dense convolution, one of each channel by itself, a dense one
whose kernel is predicted, nothing but the chain, a norm over channels, padding, attention, a recurrence, the
inverse of a spline."""

Cell: TypeAlias = Literal["sum", "elman_tanh", "elman_relu", "gru", "gru_reset_first", "lstm"]
"""What a recurrence makes of a step and the one before: their sum, Elman's network, a GRU that resets its
state behind the product or in front of it, an LSTM."""

Padding: TypeAlias = Literal["constant", "reflect", "edge"]
"""What stands in front of the first step and behind the last."""

N_REGISTERS = 8
"""Tiles that a chain of functions has for what it computes; the stage's own lies in the first."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A tensor with time, (n_steps, n_channels)."""

    name: str
    n_channels: int
    timeless: bool = False
    """One step, which every push brings anew and stages read at every time."""
    scale: float = 0.0
    """Where it is held in bytes: what a step of these is worth; 0 where it is held in float32."""
    zero_point: int = 0
    """Where it is held in bytes: the byte that stands for 0."""
    largest: int = 255
    """Where it is held in bytes: the largest one."""


@dataclass(frozen=True, slots=True)
class Call:
    """One function of a chain: ``registers[out] = function(registers[a], b)``.

    "lookup" reads a row of a table, of the number that an edge's channel holds. "position" gives the number
    of each step, from 0 on. "load" and "store" move between a register and an edge. A load with `by_group`
    reads the same step for all steps that the stage makes of one of its source's; one with `broadcast` reads
    one channel for all.
    """

    function: str
    out: int = 0
    a: int = 0
    b: int | None = None
    """A register, if the function takes two numbers."""
    array: str | None = None
    """The second number is one for each channel; the name of the array that holds them."""
    scalar: float | None = None
    """The second number is this one."""
    edge: int | None = None
    channel: int = 0
    """First channel of the edge that is read or written."""
    by_group: bool = False
    broadcast: bool = False
    order: str | None = None
    """Name of an array: for each channel, or each phase and channel, the edge's channel that is read, or -1
    to leave what the register holds."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a program.

    A convolution reads, for its output step t, the steps ``t * stride - pad_left + k * dilation`` of its
    source, k < n_taps; what lies outside is zeros, or what `padding` says. A transposed one is a convolution
    of `n_phases` outputs for each step of its source: phase p of step q is the output's step
    ``q * n_phases + p - crop``.
    """

    kind: Kind
    name: str
    """Of the node that it comes from."""
    source: int | None
    """Edge that is read; None for a chain that loads all that it reads."""
    n_channels: int
    """Of the output: of all groups, and of one phase."""
    chain: tuple[Call, ...] = ()
    source_channel: int = 0
    n_groups: int = 1
    n_taps: int = 1
    dilation: int = 1
    stride: int = 1
    pad_left: int = 0
    pad_right: int = 0
    n_phases: int = 1
    crop: int = 0
    n_extra: int = 0
    """Of a transposed convolution: its whole output has ``n_steps * n_phases + n_extra`` steps."""
    padding: Padding = "constant"
    """What a "pad" puts in front, `pad_left` times, and behind the last step; below 0 it crops."""
    value: float = 0.0
    """Of a "pad"; of a spline the bound outside of which it is the identity."""
    weights: str | None = None
    """Name of an array: (n_out, n_in / n_groups, n_taps), or (n_in, n_out / n_groups, n_taps) if transposed.
    In int8 the weights are int8."""
    first_filter: int = 0
    """Of a convolution that isn't transposed: which filter of its arrays is its first one. What is read apart
    is made apart, and its weights stay one array."""
    bias: str | None = None
    padding_biases: str | None = None
    """Name of an array, (n_taps, n_channels): what is added for each tap that reads the zeros in front of the
    first step or behind the last, as if these were another number."""
    scales: str | None = None
    """In int8, the name of what a sum of bytes is worth in each output channel."""
    transposed: bool = False
    kernels: int | None = None
    """Of a predicted convolution: the edge whose steps are kernels, [tap][channel in][channel out] each."""
    kernel_channel: int = 0
    """Where in a step the kernel begins."""
    kernel_steps: int = 1
    """Steps of the output that a step of the kernels makes."""
    biases: int | None = None
    """The edge of its biases, with a step for each of the kernels; None for no bias."""
    bias_channel: int = 0
    n_in: int = 0
    """Channels of the source that it reads; of an attention those of a head."""
    others: tuple[tuple[int, int], ...] = ()
    """Further edges that it reads, each with its first channel: of an attention, whose source are the queries
    of all `n_groups` heads, keys and values; of a spline, whose source is what it inverts, the widths and
    heights of its `n_in` bins before their softmax, and the derivatives between them before softplus."""
    left_context: int | None = None
    """Of an attention: the steps before its own that a query sees; None for one that sees all there are."""
    right_context: int = 0
    """The steps behind its own that it sees."""
    distance_biases: str | None = None
    """Name of an array, (n_groups, period, left_context + 1 + right_context): what is added to the scores of
    the keys that a query sees, the first one's first, by the query's step modulo the period; None for
    nothing."""
    near_keys: str | None = None
    """Name of an array, (n_groups, n_distances, n_in): embeddings of the distances -n to n, of which each is
    added to the key that lies there; None for none."""
    near_values: str | None = None
    """The same of the values, (n_groups, n_distances, n_channels / n_groups)."""
    cell: Cell | None = None
    """Of a recurrence. Its `weights` are (n_gates * n_units, n_units), gates as ONNX orders them, and its
    source brings what each gate gets of the input; `bias` is what a GRU adds to the product for its hidden
    gate, before that is reset. Its channels are its output, and behind that the cell of an LSTM."""
    own: int | None = None
    """Of a recurrence: the edge that its chain stores as it is, where it finds the step before."""
    epsilon: float = 0.0
    """Of a norm."""
    centre: bool = True
    """Whether a norm takes the mean away; one without is a root mean square norm."""
    rate: tuple[int, int] = (1, 1)
    """Steps of the source for a frame, as a fraction."""
    held_back: int = 0
    """Steps of its source's rate, a group of `n_phases` each, that it could make and leaves to the next push:
    what it is added to further on comes later, so that no output needs them yet."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the program: the edge that holds it."""

    name: str
    edge: int
    shape: tuple[int, ...]
    """All axes of the tensor but time."""
    rate: tuple[int, int] = (1, 1)
    """Steps for a frame, as a fraction; of a timeless input without meaning."""
    symbols: bool = False
    """Whether it holds whole numbers, int64: those of an input are for tables."""
    lag: int = 0
    """Of an output: the most steps by which it trails the input."""
    axis: int = -1
    """Which axis of the tensor is time; counted from the end if below 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Stages in the order in which they run."""

    edges: tuple[Edge, ...]
    stages: tuple[Stage, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    arrays: Mapping[str, AnyArray] = field(default_factory=dict)
    written: str | None = None
    """The fingerprint that stood in the program's file: arrays aren't read again for it."""

    @property
    def needs_all(self) -> bool:
        """Whether an output depends on all steps of the inputs, so that nothing of it can be streamed."""
        return any(stage.kind == "attend" and stage.left_context is None for stage in self.stages)

    @property
    def fingerprint(self) -> str:
        """Say which program it is, its weights included."""
        if self.written is not None:
            return self.written
        digest = hashlib.sha256(json.dumps(self._to_dict()).encode())
        for name in sorted(self.arrays):
            array = self.arrays[name]
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    def to_json(self) -> str:
        """Return all but the arrays."""
        head = {"format_version": FORMAT_VERSION, "fingerprint": self.fingerprint}
        return json.dumps({**head, **self._to_dict()}, indent=1)

    def _to_dict(self) -> dict[str, Any]:
        return {
            key: [_without_defaults(item) for item in getattr(self, key)]
            for key in ("edges", "stages", "inputs", "outputs")
        }

    @classmethod
    def from_json(cls, text: str, arrays: Mapping[str, AnyArray]) -> Program:
        """Return the program of a text and its arrays; `ModelError` says that there is none in it."""
        try:
            data = json.loads(text)
            if data["format_version"] != FORMAT_VERSION:
                raise ModelError(f"format_version={data['format_version']!r} must be {FORMAT_VERSION}")
            return cls(
                tuple(Edge(**item) for item in data["edges"]),
                tuple(_stage(item) for item in data["stages"]),
                tuple(map(_port, data["inputs"])),
                tuple(map(_port, data["outputs"])),
                arrays=dict(arrays),
                written=str(data["fingerprint"]),
            )
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ModelError(f"not a native program: {error}") from error


FORMAT_VERSION = 1


def _stage(data: Mapping[str, Any]) -> Stage:
    chain = tuple(Call(**item) for item in data.get("chain", ()))
    others = tuple((edge, channel) for edge, channel in data.get("others", ()))
    rate = tuple(data.get("rate", (1, 1)))
    return Stage(**{**data, "chain": chain, "others": others, "rate": rate})


def _port(data: Mapping[str, Any]) -> Port:
    return Port(**{**data, "shape": tuple(data["shape"]), "rate": tuple(data.get("rate", (1, 1)))})


def _without_defaults(item: Edge | Stage | Port) -> dict[str, Any]:
    # A file of defaults would be five times as long.
    def shorter(value: Any, data: Mapping[str, Any]) -> dict[str, Any]:
        fields = type(value).__dataclass_fields__
        return {key: data[key] for key in data if fields[key].default != getattr(value, key)}

    data = shorter(item, asdict(item))
    if isinstance(item, Stage):
        data["chain"] = [shorter(call, asdict(call)) for call in item.chain]
    return data


def steps_between(rate: Sequence[int], n_frames: int) -> int:
    """Return how many steps some frames are."""
    return n_frames * rate[0] // rate[1]
