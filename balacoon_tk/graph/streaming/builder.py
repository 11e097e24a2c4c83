"""A graph under construction: nodes, constants, states, and the scalars that slices share."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.runtime.stateful_graph import StateSpec

_TO_THE_END = 2**31 - 1


class GraphBuilder:
    """Collects the nodes of a stateful graph.

    Parameters
    ----------
    taken : set of str
        Names that the original graph uses; new names avoid them.
    opset : int
        Version of the standard operators.
    """

    def __init__(self, taken: set[str], *, opset: int) -> None:
        self._opset = opset
        self.nodes: list[ir.Node] = []
        self.initializers: dict[str, ir.Value] = {}
        self.states: list[StateSpec] = []
        self.state_inputs: list[ir.Value] = []
        self.state_outputs: list[ir.Value] = []
        self._numbers = itertools.count()
        self._taken = set(taken)
        self._shared: dict[tuple[object, ...], ir.Value] = {}
        self.last = self._input(self.fresh("last"), ir.DataType.INT64, ir.Shape([1]))

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, int | float | str | Sequence[int]] | None = None,
        *,
        name: str = "",
    ) -> ir.Value:
        """Add a node of the standard domain with one output."""
        node = ir.node(op_type, inputs, dict(attributes or {}))
        node.name = self.fresh(name or op_type)
        node.outputs[0].name = self.fresh(f"{node.name}_out")
        self.nodes.append(node)
        return node.outputs[0]

    def clone(self, node: ir.Node, inputs: Sequence[ir.Value | None], *, keep_names: bool) -> ir.Node:
        """Add a copy of a node with other inputs."""
        copy = ir.Node(
            node.domain, node.op_type, inputs, list(node.attributes.values()), num_outputs=len(node.outputs)
        )
        copy.name = node.name if keep_names else self.fresh(node.name or node.op_type)
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            if old.name:
                new.name = old.name if keep_names else self.fresh(old.name)
            else:
                new.name = ""
        self.nodes.append(copy)
        return copy

    def constant(self, array: AnyArray) -> ir.Value:
        """Return a constant; equal ones are shared."""
        key = ("constant", array.dtype.str, array.shape, array.tobytes())
        if key not in self._shared:
            name = self.fresh("const")
            value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
            value.shape, value.type = (
                ir.Shape(array.shape),
                ir.TensorType(ir.DataType.from_numpy(array.dtype)),
            )
            self.initializers[name] = value
            self._shared[key] = value
        return self._shared[key]

    def ints(self, *values: int) -> ir.Value:
        """Return a constant list of int64."""
        return self.constant(np.array(values, dtype=np.int64))

    def state(
        self,
        shape: Sequence[int],
        axis: int,
        max_length: int,
        dtype: np.dtype[np.generic],
        *,
        fill: float = 0.0,
    ) -> ir.Value:
        """Add a state and return its input; `keep` gives it its next value."""
        index = next(self._numbers)
        spec = StateSpec(
            input=self.fresh(f"state_{index}"),
            output=self.fresh(f"next_state_{index}"),
            dtype=dtype.name,
            shape=tuple(int(n) for n in shape),
            axis=axis,
            max_length=max_length,
            fill=fill,
        )
        dims: list[int | str] = [f"n_{spec.input}" if k == axis else int(n) for k, n in enumerate(shape)]
        value = self._input(spec.input, ir.DataType.from_numpy(dtype), ir.Shape(dims))
        self.states.append(spec)
        self.state_inputs.append(value)
        return value

    def keep(self, state: ir.Value, value: ir.Value) -> None:
        """Give a state its next value, which nothing but this must name."""
        spec = next(spec for spec in self.states if spec.input == state.name)
        value.name, value.type = spec.output, state.type
        self.state_outputs.append(value)

    def slice(self, value: ir.Value, axis: int, start: ir.Value | int, end: ir.Value | int) -> ir.Value:
        """Cut out steps along an axis."""
        bounds = [self.ints(bound) if isinstance(bound, int) else bound for bound in (start, end)]
        return self.op("Slice", [value, *bounds, self.ints(axis)])

    def after(self, value: ir.Value, axis: int, start: ir.Value | int) -> ir.Value:
        """Cut off the first steps, or keep the last ones (negative start)."""
        return self.slice(value, axis, start, _TO_THE_END)

    def concat(self, values: Sequence[ir.Value], axis: int) -> ir.Value:
        """Join along an axis."""
        return values[0] if len(values) == 1 else self.op("Concat", values, {"axis": axis})

    def length(self, value: ir.Value, axis: int) -> ir.Value:
        """Return the number of steps as an int64 (1,) tensor."""
        key = ("length", value, axis)
        if key not in self._shared:
            if self._opset >= 15:
                self._shared[key] = self.op("Shape", [value], {"start": axis, "end": axis + 1})
            else:
                shape = self.op("Shape", [value])
                self._shared[key] = self.op("Gather", [shape, self.ints(axis)], {"axis": 0})
        return self._shared[key]

    def end_before(self, n_steps: int) -> ir.Value | int:
        """Return a slice's end that leaves off the last `n_steps`, and nothing in the last push."""
        if n_steps == 0:
            return _TO_THE_END
        key = ("end", n_steps)
        if key not in self._shared:
            far = self._shared.get(("far",)) or self.op("Mul", [self.last, self.ints(_TO_THE_END)])
            self._shared["far",] = far
            self._shared[key] = self.op("Sub", [far, self.ints(n_steps)])
        return self._shared[key]

    def at_the_end(
        self,
        shape: Sequence[int],
        axis: int,
        n_steps: int,
        dtype: np.dtype[np.generic],
        *,
        fill: float = 0.0,
    ) -> ir.Value:
        """Return `n_steps` of padding in the last push, none before; made once for all that ask."""
        sizes = tuple(n_steps if k == axis else int(n) for k, n in enumerate(shape))
        key = ("padding", sizes, axis, dtype.name, fill)
        if key not in self._shared:
            padding = self.constant(np.full(sizes, fill, dtype=dtype))
            count = self.op("Mul", [self.last, self.ints(n_steps)])
            self._shared[key] = self.slice(padding, axis, 0, count)
        return self._shared[key]

    def fresh(self, name: str) -> str:
        """Return a name that isn't taken."""
        found, k = name, 0
        while found in self._taken:
            k += 1
            found = f"{name}_{k}"
        self._taken.add(found)
        return found

    def _input(self, name: str, dtype: ir.DataType, shape: ir.Shape) -> ir.Value:
        return ir.Value(name=name, type=ir.TensorType(dtype), shape=shape)
