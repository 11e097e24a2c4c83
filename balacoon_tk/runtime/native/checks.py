"""Whether a program can be run: that it reads and writes nothing that isn't there.

C takes a program at its word. One may come from a file, so what it says is looked at once, before.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, NoReturn, get_args

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.native._kernels import FUNCTIONS
from balacoon_tk.runtime.native.program import N_REGISTERS, Call, Cell, Edge, Port, Program, Stage

_LARGEST = 1 << 24
"""Of any whole number in a program: products of two stay within those of C."""
_LARGEST_BYTE = 255
MOST_BINS = 32
"""Of a spline: what a row of a tile holds, BK_WIDTH in C."""
_AT_LEAST_ONE = ("n_channels", "n_groups", "n_taps", "dilation", "stride", "n_phases", "kernel_steps")


def check_program(program: Program) -> None:
    """Refuse a program that can't be run with a `ModelError` that names the stage and the fault."""
    for edge in program.edges:
        _check_numbers(edge, f"edge {edge.name!r}")
        if not 0 <= edge.zero_point <= edge.largest <= _LARGEST_BYTE:
            raise ModelError(
                f"the edge {edge.name!r}: zero_point={edge.zero_point} and largest={edge.largest} must be"
                f" 0 to {_LARGEST_BYTE}, in this order"
            )
    made = set()
    for port in program.inputs:
        _check_port(program, port)
        if port.edge in made:
            raise ModelError(f"the input {port.name!r} shares its edge with another")
        made.add(port.edge)
    # Stages without time run in front of all others, wherever they stand.
    for stage in sorted(program.stages, key=lambda stage: not _is_timeless(program, stage)):
        _StageCheck(program, stage, made).run()
    _check_padding(program)
    for port in program.outputs:
        _check_port(program, port)
        if port.edge not in made:
            raise ModelError(f"the output {port.name!r} is on an edge that no stage writes")
    if len({port.edge for port in program.outputs}) < len(program.outputs):
        raise ModelError("two outputs share an edge")


def _check_padding(program: Program) -> None:
    """Refuse an edge that would hold steps of its own in front and behind for readers of several kinds."""
    forms: dict[int | None, set[tuple[str, int, int]]] = {}
    for stage in program.stages:
        form = ("pad" if stage.kind == "pad" else stage.padding, stage.pad_left, stage.pad_right)
        if form != ("constant", 0, 0):
            forms.setdefault(stage.source, set()).add(form)
    for edge, found in forms.items():
        if len(found) > 1 and {name for name, _, _ in found} - {"constant", "pad"}:
            raise ModelError(f"the edge {edge} is padded in several ways: {sorted(found)}")


def _is_timeless(program: Program, stage: Stage) -> bool:
    edges = [call.edge for call in stage.chain if call.function == "store"]
    return all(program.edges[k].timeless for k in edges if isinstance(k, int) and 0 <= k < len(program.edges))


def _check_numbers(item: Edge | Stage | Call | Port, name: str) -> None:
    for field in fields(item):
        value, kind = getattr(item, field.name), str(field.type)
        if value is None and kind.endswith("None"):
            continue
        if kind.startswith("int"):
            if not isinstance(value, int) or abs(value) > _LARGEST:
                raise ModelError(f"{name}: {field.name}={value!r} must be a whole number up to {_LARGEST}")
            if field.name in _AT_LEAST_ONE and value < 1:
                raise ModelError(f"{name}: {field.name}={value} must be at least 1")
        elif kind.startswith("float"):
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise ModelError(f"{name}: {field.name}={value!r} must be a finite number")
        elif field.name == "rate" and not (
            len(value) == 2 and all(isinstance(n, int) and 0 < n <= _LARGEST for n in value)
        ):
            raise ModelError(f"{name}: rate={value!r} must be two whole numbers above 0")


def _check_port(program: Program, port: Port) -> None:
    index: Any = port.edge
    if not isinstance(index, int) or not 0 <= index < len(program.edges):
        raise ModelError(f"{port.name}: edge={index!r} must be one of {len(program.edges)}")
    edge = program.edges[index]
    if not edge.timeless:
        _check_numbers(port, port.name)
    if edge.scale or math.prod(port.shape) != edge.n_channels:
        raise ModelError(
            f"{port.name}: shape={port.shape} must be that of {edge.n_channels} channels of float32"
        )


class _StageCheck:
    """One stage, and the edges that are written before it."""

    def __init__(self, program: Program, stage: Stage, made: set[int]) -> None:
        self.program = program
        self.stage = stage
        self.made = made
        self.reads: list[Edge] = []

    def refuse(self, reason: str) -> NoReturn:
        raise ModelError(f"the stage {self.stage.name!r}: {reason}")

    def run(self) -> None:
        stage = self.stage
        _check_numbers(stage, f"stage {stage.name!r}")
        if min(stage.crop, 0 if stage.kind == "pad" else min(stage.pad_left, stage.pad_right)) < 0:
            self.refuse("it crops by its padding")
        if stage.held_back < 0:
            self.refuse(f"held_back={stage.held_back} must be >= 0")
        if stage.n_channels % stage.n_groups:
            self.refuse(f"n_channels={stage.n_channels} must be a multiple of n_groups={stage.n_groups}")
        if stage.n_phases > 1 and not (stage.kind == "pointwise" or stage.transposed):
            self.refuse("it has phases and is no transposed convolution")
        if stage.transposed and (
            stage.kind not in ("convolve", "depthwise") or stage.stride > 1 or stage.dilation > 1
        ):
            self.refuse("it is transposed and has a stride, a dilation or another kind")
        if stage.crop and not stage.transposed:
            self.refuse("it is cropped and not transposed")
        if stage.kind not in ("attend", "spline") and stage.others:
            self.refuse("it reads further edges and is neither an attention nor a spline")
        of_distances = (stage.left_context, stage.distance_biases, stage.near_keys, stage.near_values)
        if stage.kind != "attend" and (any(item is not None for item in of_distances) or stage.right_context):
            self.refuse("it has a context, or biases or embeddings of distances, and is no attention")
        if stage.first_filter and (stage.kind != "convolve" or stage.transposed):
            self.refuse(f"first_filter={stage.first_filter}, and its filters aren't a part of others")
        if stage.kind not in ("convolve", "depthwise") and stage.padding_biases is not None:
            self.refuse("it has biases of padding and is no convolution")
        if stage.kind != "recur" and (stage.cell is not None or stage.own is not None):
            self.refuse("it has a cell or an edge of its own and is no recurrence")
        if stage.kind != "predicted" and (stage.kernels is not None or stage.biases is not None):
            self.refuse("it has predicted kernels or biases and is no convolution with such")
        self._source()
        for call in stage.chain:
            self._call(call)
        if not self.reads:
            self.refuse("it reads nothing")
        timeless = all(edge.timeless for edge in self.reads)
        if timeless and (stage.kind == "pad" or stage.n_taps > 1 or stage.n_phases > 1 or stage.pad_left):
            self.refuse("it makes steps of what has no time")
        stores = {call.edge for call in stage.chain if call.function == "store" and call.edge is not None}
        for edge in stores:
            if edge in self.made:
                self.refuse(f"it writes the edge {edge}, which another stage, or an input, has made")
            if self.program.edges[edge].timeless != timeless:
                self.refuse(
                    f"it writes the edge {edge}, of which it makes {'one step' if timeless else 'many'}"
                )
        self.made |= stores

    def array(self, name: Any) -> AnyArray:
        array = self.program.arrays.get(name) if isinstance(name, str) else None
        if not isinstance(array, np.ndarray):
            self.refuse(f"it reads the array {name!r}, which isn't there")
        return array

    def edge(self, index: Any) -> Edge:
        if not isinstance(index, int) or index not in self.made:
            self.refuse(f"it reads the edge {index!r}, which nothing in front of it writes")
        self.reads.append(self.program.edges[index])
        return self.program.edges[index]

    def _source(self) -> None:
        stage = self.stage
        if stage.kind == "pointwise":
            if stage.source is not None:
                self.refuse("it has a source and is a chain alone")
            return
        source = self.edge(stage.source)
        n_read = stage.n_channels
        if stage.kind in ("convolve", "depthwise"):
            n_read = self._weights(source)
        elif stage.kind == "predicted":
            n_read = self._kernels(source)
        elif stage.kind == "attend":
            n_read = self._attention(source)
        elif stage.kind == "spline":
            n_read = self._spline(source)
        elif stage.kind == "recur":
            n_read = self._recurrence(source)
        elif stage.kind not in ("normalise", "pad"):
            self.refuse(f"kind={stage.kind!r} isn't known")
        elif stage.n_groups * stage.stride * stage.n_taps > 1 or (stage.kind != "pad" and stage.pad_left):
            self.refuse("it has a window and is no convolution")
        if source.scale and (stage.kind != "convolve" or stage.scales is None):
            self.refuse("it reads bytes as if they were numbers")
        if stage.padding not in ("constant", "reflect", "edge"):
            self.refuse(f"padding={stage.padding!r} isn't known")
        if stage.kind != "pad" and stage.padding != "constant" and source.timeless:
            self.refuse("it pads what has no time")
        if stage.source_channel < 0 or stage.source_channel + n_read > source.n_channels:
            self.refuse(f"it reads {n_read} channels of {source.n_channels}")

    def _weights(self, source: Edge) -> int:
        stage = self.stage
        weights = self.array(stage.weights)
        if weights.dtype != (np.int8 if source.scale else np.float32):
            self.refuse(f"its weights are {weights.dtype}")
        per_group, n_filters = stage.n_channels // stage.n_groups, stage.n_channels
        width = weights.shape[-1] if weights.ndim == 3 else 0
        if stage.transposed:
            n_in = weights.shape[0] if weights.ndim else 0
            wanted = (n_in, per_group, width)
            if stage.kind == "depthwise":
                wanted = (stage.n_channels, 1, width)
            fits = weights.shape == wanted and n_in % stage.n_groups == 0
            fits = fits and 0 < width <= stage.n_taps * stage.n_phases
        elif stage.kind == "depthwise":
            n_in, fits = stage.n_channels, weights.shape == (stage.n_channels, 1, stage.n_taps)
        else:
            n_in = stage.n_groups * (weights.shape[1] if weights.ndim == 3 else 0)
            n_filters = self._n_filters(weights)
            fits = weights.shape == (n_filters, n_in // stage.n_groups, stage.n_taps)
        if not fits or n_in == 0:
            self.refuse(f"its weights have the shape {weights.shape}")
        for name in (stage.bias, stage.scales):
            if name is not None:
                self._vector(name, n_filters)
        if stage.padding_biases is not None:
            self._padding_biases(source, n_filters)
        return n_in

    def _n_filters(self, weights: AnyArray) -> int:
        """Return how many filters a convolution's arrays must have: its own, or more that these are of."""
        stage = self.stage
        n_filters = len(weights) if weights.ndim and stage.n_groups == 1 else stage.n_channels
        if not 0 <= stage.first_filter <= n_filters - stage.n_channels:
            self.refuse(f"it has {stage.n_channels} filters from {stage.first_filter} on, of {n_filters}")
        return n_filters

    def _padding_biases(self, source: Edge, n_filters: int) -> None:
        stage = self.stage
        biases, shape = self.array(stage.padding_biases), (stage.n_taps, n_filters)
        if stage.transposed or stage.padding != "constant" or source.scale or source.timeless:
            self.refuse("it has biases of padding, and doesn't pad with zeros")
        if biases.shape != shape or biases.dtype != np.float32:
            self.refuse(f"its biases of padding are {biases.dtype} {biases.shape}, not float32 {shape}")

    def _kernels(self, source: Edge) -> int:
        stage = self.stage
        if stage.n_in < 1 or stage.n_groups > 1 or stage.stride > 1 or stage.bias is not None:
            self.refuse(
                "its kernels are predicted, and it has groups, a stride, a bias of its own or no inputs"
            )
        wanted = [(stage.kernels, stage.kernel_channel, stage.n_taps * stage.n_in * stage.n_channels)]
        if stage.biases is not None:
            wanted.append((stage.biases, stage.bias_channel, stage.n_channels))
        for index, first, n in wanted:
            edge = self.edge(index)
            if edge.scale or edge.timeless or source.timeless:
                self.refuse("it reads kernels, or with them, what has no time or is held in bytes")
            if first < 0 or first + n > edge.n_channels:
                self.refuse(f"it reads {n} numbers from {first} on as a kernel or bias, of {edge.n_channels}")
        return stage.n_in

    def _others(self, source: Edge, *n_wanted: int) -> None:
        stage = self.stage
        if stage.stride * stage.n_taps * stage.n_phases > 1 or stage.pad_left or stage.pad_right:
            self.refuse("it has a window and is no convolution")
        others: Any = stage.others
        if len(others) != len(n_wanted) or not all(isinstance(first, int) for _, first in others):
            self.refuse(f"others={others!r} must be {len(n_wanted)} edges with a channel each")
        for (index, first), n in zip(others, n_wanted, strict=True):
            edge = self.edge(index)
            if edge.scale or edge.timeless or source.timeless:
                self.refuse("it reads what has no time or is held in bytes")
            if not 0 <= first <= edge.n_channels - n:
                self.refuse(f"it reads {n} channels from {first} on, of {edge.n_channels}")

    def _attention(self, source: Edge) -> int:
        stage = self.stage
        n_heads, n_in = stage.n_groups, stage.n_in
        if n_in < 1:
            self.refuse(f"n_in={n_in} must be at least 1")
        self._others(source, n_heads * n_in, stage.n_channels)
        if min(stage.left_context or 0, stage.right_context) < 0:
            self.refuse(f"its contexts {stage.left_context} and {stage.right_context} must not be below 0")
        if stage.left_context is None and (stage.right_context or stage.distance_biases is not None):
            self.refuse("it sees all steps, and has a right context or biases of distances")
        if stage.distance_biases is not None:
            biases = self.array(stage.distance_biases)
            shape = n_heads, *biases.shape[1:2], (stage.left_context or 0) + 1 + stage.right_context
            if biases.ndim != 3 or not biases.size or biases.shape != shape or biases.dtype != np.float32:
                self.refuse(
                    f"its biases of distances are {biases.dtype} of the shape {biases.shape}, not {shape}"
                )
        if (stage.near_keys is None) != (stage.near_values is None):
            self.refuse("it has embeddings of distances for keys alone, or for values alone")
        if stage.near_keys is not None:
            keys, values = self.array(stage.near_keys), self.array(stage.near_values)
            n_distances = keys.shape[1] if keys.ndim == 3 else 0
            shapes = (n_heads, n_distances, n_in), (n_heads, n_distances, stage.n_channels // n_heads)
            if n_distances % 2 == 0 or (keys.shape, values.shape) != shapes:
                self.refuse(f"its embeddings of distances have the shapes {keys.shape} and {values.shape}")
            if keys.dtype != np.float32 or values.dtype != np.float32:
                self.refuse(f"its embeddings of distances are {keys.dtype} and {values.dtype}")
        return n_heads * n_in

    def _recurrence(self, source: Edge) -> int:
        stage = self.stage
        if (
            stage.stride * stage.n_taps * stage.n_phases * stage.n_groups > 1
            or stage.pad_left
            or stage.pad_right
        ):
            self.refuse("it has a window and is no convolution")
        if source.timeless or stage.cell not in get_args(Cell):
            self.refuse(f"cell={stage.cell!r} isn't known, or its source has no time")
        n_gates = {"gru": 3, "gru_reset_first": 3, "lstm": 4}.get(str(stage.cell), 1)
        n_units, rest = divmod(stage.n_channels, 2 if stage.cell == "lstm" else 1)
        if stage.cell == "sum":
            if stage.weights is not None or stage.bias is not None:
                self.refuse("it is a sum and has weights")
        else:
            weights = self.array(stage.weights)
            if rest or weights.shape != (n_gates * n_units, n_units) or weights.dtype != np.float32:
                self.refuse(f"its weights have the shape {weights.shape}")
            if stage.bias is not None and (stage.cell != "gru" or self.array(stage.bias).size != n_units):
                self.refuse("its bias isn't that of a GRU's hidden gate")
        if stage.own is None or stage.chain[:1] != (Call("store", edge=stage.own),):
            self.refuse(f"its chain must begin by storing own={stage.own!r}, where it finds the step before")
        edges = self.program.edges
        if not 0 <= stage.own < len(edges) or edges[stage.own].n_channels != stage.n_channels:
            self.refuse(f"own={stage.own} must be an edge of {stage.n_channels} channels")
        if edges[stage.own].scale:
            self.refuse("it finds the step before in bytes")
        return n_gates * n_units

    def _spline(self, source: Edge) -> int:
        stage = self.stage
        if not 2 <= stage.n_in <= MOST_BINS or stage.n_channels > 1 or not stage.value > 0:
            self.refuse(
                f"n_in={stage.n_in} bins must be 2 to {MOST_BINS}, n_channels={stage.n_channels} 1, and "
                f"value={stage.value} above 0"
            )
        self._others(source, 3 * stage.n_in - 1)
        return 1

    def _vector(self, name: Any, n_channels: int | None = None) -> None:
        n_channels = n_channels or self.stage.n_channels
        if self.array(name).size not in (1, n_channels):
            self.refuse(f"its array {name!r} isn't one number for each of {n_channels} channels")

    def _call(self, call: Call) -> None:
        _check_numbers(call, f"stage {self.stage.name!r}")
        n_channels = self.stage.n_channels
        for register in (call.out, call.a, call.b or 0):
            if not 0 <= register < N_REGISTERS:
                self.refuse(f"it works in the register {register} of {N_REGISTERS}")
        if call.function == "store":
            if call.edge is None or not 0 <= call.edge < len(self.program.edges):
                self.refuse(f"it writes the edge {call.edge!r}, which there isn't")
            edge, n_used = self.program.edges[call.edge], n_channels
        elif call.function == "lookup":
            edge, n_used = self.edge(call.edge), 1
            table = self.array(call.array)
            if table.ndim != 2 or table.shape[1] != n_channels or len(table) == 0:
                self.refuse(f"its table has the shape {table.shape}")
        elif call.function == "load":
            edge, n_used = self.edge(call.edge), 1 if call.broadcast or call.order is not None else n_channels
            if edge.scale and (call.broadcast or call.order is not None):
                self.refuse("it reads single bytes")
            if call.order is not None:
                self._order(call, edge)
        elif call.function in ("fill", "position") or call.function in FUNCTIONS:
            if call.array is not None:
                self._vector(call.array)
            return
        else:
            self.refuse(f"the function {call.function!r} isn't known")
        if call.channel < 0 or call.channel + n_used > edge.n_channels:
            self.refuse(f"it uses {n_used} channels from {call.channel} on, of {edge.n_channels}")

    def _order(self, call: Call, edge: Edge) -> None:
        order = self.array(call.order)
        sizes = (self.stage.n_channels, self.stage.n_channels * self.stage.n_phases)
        if order.dtype.kind != "i" or order.size not in sizes or order.max() >= edge.n_channels:
            self.refuse(f"its order {call.order!r} isn't one of the {edge.n_channels} channels that it reads")
