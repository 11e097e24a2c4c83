"""How large the tensors are that a graph makes of nothing but a size: zeros, ranges, repeats, padding.

Sizes that are constants are known before anything is run; so are those that a graph computes from constants
by the few operators that most exporters leave there. What a size is that is computed in any other way only
shows when the graph runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from balacoon_tk.errors import ModelError
from balacoon_tk.voice.guard.onnx_reader import Node, Tensor

_MOST_ELEMENTS = 1 << 24
"""Of a tensor that is made of a size: 64 MB in float32."""
_MOST_STEP = 1 << 16
"""Of a stride, a dilation or a kernel."""

_MOST_FOLLOWED = 64
"""Numbers that are followed from constant to constant: sizes are few."""

_Numbers: TypeAlias = "Sequence[float]"

# The inputs that say how large the output is, by operator.
_SIZE_INPUTS: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "DFT": (1,),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MelWeightMatrix": (0, 1),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Resize": (2, 3),
    "STFT": (1, 3),
    "Tile": (1,),
    "Upsample": (1,),
}
_SIZE_ATTRIBUTES = ("shape", "output_shape", "sample_size", "hidden_size", "pooled_shape")
_PADDING_ATTRIBUTES = ("pads", "output_padding", "paddings")
_STEP_ATTRIBUTES = (
    "strides",
    "dilations",
    "kernel_shape",
    "scales",
    "height_scale",
    "width_scale",
    "blocksize",
)

_DRAWN = frozenset({"RandomNormal", "RandomUniform"})
_MULTIPLYING = frozenset({"Pad", "Resize", "Tile", "Upsample"})
"""What makes its first input several times as large."""

# What exporters leave of the arithmetic of shapes, on constants of a few numbers.
_ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a // b if isinstance(a, int) and isinstance(b, int) else a / b,
    "Max": max,
    "Min": min,
    "Equal": lambda a, b: int(a == b),
}
_SAME = frozenset({"Identity", "Cast", "Unsqueeze", "Squeeze"})


def made_by(node: Node, constants: Mapping[str, Tensor]) -> float:
    """Return how many numbers a node makes of constant sizes, 0 if it makes none of them.

    `ModelError` says that they are too many.
    """
    for name, given in node.numbers.items():
        if name in _SIZE_ATTRIBUTES:
            _check(node, name, _product(given))
        elif name in _PADDING_ATTRIBUTES:
            _check(node, name, _product([1 + max(0, number) for number in given]))
        elif name in _STEP_ATTRIBUTES:
            _check(node, name, _product(given), _MOST_STEP)
    if node.op_type in _DRAWN:
        return _product(node.numbers.get("shape", ()))
    known = [
        numbers
        for k in _SIZE_INPUTS.get(node.op_type, ())
        if (numbers := _size(node, k, constants)) is not None
    ]
    if not known:
        return 0.0
    if node.op_type == "Range":
        # Of constants alone; what is computed from an input is as long as that.
        size = _range_length([numbers[0] if numbers else 0 for numbers in known]) if len(known) == 3 else 0.0
    elif node.op_type == "Pad":
        half = len(known[0]) // 2
        ends = zip(known[0][:half], known[0][half:], strict=False)
        size = _product([1 + max(0, before) + max(0, after) for before, after in ends])
    else:
        size = _product([number for numbers in known for number in numbers])
    source = constants.get(node.inputs[0]) if node.op_type in _MULTIPLYING else None
    size *= 1 if source is None else max(1, math.prod(source.dims))
    _check(node, "size", size)
    return size


def _size(node: Node, index: int, constants: Mapping[str, Tensor]) -> _Numbers | None:
    """Return a size, None if it isn't given, or depends on the graph's inputs, or isn't followed here."""
    tensor = constants.get(node.inputs[index]) if index < len(node.inputs) else None
    return None if tensor is None or not math.prod(tensor.dims) else tensor.values


def known_values(node: Node, constants: Mapping[str, Tensor]) -> Tensor | None:
    """Return what a node makes of constants: its numbers if they are few, no numbers if they aren't known.

    None says that it depends on an input of the graph, or draws what it gives.
    """
    if not node.outputs or not node.outputs[0]:
        return None
    name = node.outputs[0]
    if node.op_type == "Constant":
        return _constant(node, name)
    inputs = [constants.get(each) for each in node.inputs if each]
    if not inputs or any(each is None for each in inputs) or node.graphs:
        return None
    tensors = [each for each in inputs if each is not None]
    values = _shape(node, tensors[0])
    # Lists of numbers, one after the other; in tables they lie in other orders.
    if values is None and all(len(each.dims) <= 1 for each in tensors):
        values = _values(node, [each.values for each in tensors])
    # One number at least, so that what isn't known doesn't pass for a size of no numbers. A list that gets
    # an axis is a table.
    dims = [1] if values is None else [len(values)]
    if values is None or (node.op_type == "Unsqueeze" and tensors[0].dims):
        return Tensor(name=name, dims=[1, *dims], dtype=tensors[0].dtype)
    return Tensor(name=name, dims=dims, dtype=tensors[0].dtype, values=values)


def _constant(node: Node, name: str) -> Tensor | None:
    if node.tensors:
        tensor = next(iter(node.tensors.values()))
        return Tensor(name, tensor.dims, tensor.dtype, tensor.n_bytes, values=tensor.values)
    numbers = next((numbers for numbers in node.numbers.values() if numbers), ())
    return Tensor(name, [len(numbers)], values=tuple(numbers))


def _shape(node: Node, tensor: Tensor) -> tuple[float, ...] | None:
    # Those of a constant in the file are known; of what is computed from constants they aren't.
    is_written = tensor.n_bytes or tensor.is_external
    return tuple(tensor.dims) if node.op_type == "Shape" and is_written and not node.numbers else None


def _values(node: Node, values: Sequence[_Numbers | None]) -> tuple[float, ...] | None:
    """Return the numbers that a node makes of those of its inputs, None if that isn't known here."""
    first = values[0]
    if first is None:
        return None
    if node.op_type in _SAME:
        # Sizes are whole numbers; what a cast rounds is counted up.
        return tuple(first)
    if any(each is None for each in values):
        return None
    known = [each for each in values if each is not None]
    if node.op_type == "Concat":
        joined = tuple(number for each in known for number in each)
        return joined if len(joined) <= _MOST_FOLLOWED else None
    if node.op_type == "Gather" and len(known) == 2:
        picked = [int(k) for k in known[1]]
        inside = all(-len(first) <= k < len(first) for k in picked)
        return tuple(first[k] for k in picked) if inside and len(picked) <= _MOST_FOLLOWED else None
    if node.op_type == "ConstantOfShape":
        filled = node.tensors["value"].values if "value" in node.tensors else (0,)
        length = _product(first)
        return filled * int(length) if filled and length <= _MOST_FOLLOWED else None
    if node.op_type == "Where" and len({len(each) for each in known}) == 1 and len(known) == 3:
        return tuple(b if a else c for a, b, c in zip(*known, strict=True))
    if node.op_type in _ARITHMETIC and len(known) == 2:
        return _elementwise(_ARITHMETIC[node.op_type], *known)
    return None


def _elementwise(
    function: Callable[[float, float], float], a: _Numbers, b: _Numbers
) -> tuple[float, ...] | None:
    length = max(len(a), len(b))
    if {len(a), len(b)} - {1, length}:
        return None
    try:
        return tuple(function(a[k % len(a)], b[k % len(b)]) for k in range(length))
    except (ZeroDivisionError, OverflowError):
        return None


def _check(node: Node, what: str, size: float, limit: int = _MOST_ELEMENTS) -> None:
    # Not `size > limit`, which is false of NaN.
    if not abs(size) <= limit:
        raise ModelError(
            f"{node.op_type} node {node.name!r}: its {what} makes {size:g} numbers: must be <= {limit}"
        )


def _product(numbers: _Numbers) -> float:
    product = 1.0
    for number in numbers:
        # 0 and -1 stand for axes of another tensor, which are at least one long.
        product *= max(1.0, abs(number)) if number == number else math.inf
    return product


def _range_length(numbers: _Numbers) -> float:
    start, limit, delta = numbers
    length = (limit - start) / delta if delta else math.inf
    return abs(length) if length == length else math.inf
