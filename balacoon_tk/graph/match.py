"""What a node is and what it reads, for passes that look for a pattern.

Each returns None, or False, of whatever isn't what it asks for, also of inputs that are left out: a
pass leaves alone what it doesn't know.
"""

from __future__ import annotations

import onnx_ir as ir

from balacoon_tk._typing import AnyArray


def name_of(value: ir.Value | None) -> str:
    """Return a value's name, an empty one if it has none or is left out."""
    return "" if value is None or value.name is None else value.name


def label_of(node: ir.Node) -> str:
    """Return what messages call a node: its name, or that of its first output."""
    return node.name or next((value.name for value in node.outputs if value.name), None) or "<unnamed>"


def is_standard(node: ir.Node) -> bool:
    """Whether a node is of the standard operators."""
    return node.domain in ("", "ai.onnx")


def ints_of(node: ir.Node, name: str, default: list[int]) -> list[int]:
    """Return an attribute that is a list of integers."""
    return list(node.attributes.get_ints(name, default))


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    """Return what a node reads there, if it is given."""
    return node.inputs[index] if index < len(node.inputs) else None


def constant_of(node: ir.Node, index: int) -> AnyArray | None:
    """Return the array that a node reads there, if it is an initializer that nobody can replace."""
    value = input_of(node, index)
    # What is an input as well may be given another value in a run.
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def scalar_of(node: ir.Node, index: int) -> float | None:
    """Return the number that a node reads there, if it is a constant of one element."""
    array = constant_of(node, index)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def only_user(value: ir.Value) -> ir.Node | None:
    """Return the one node that reads a value, if it is one and nothing else depends on the value."""
    users = {node for node, _ in value.uses()}
    return users.pop() if len(users) == 1 and not value.is_graph_output() else None


def producer_of(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """Return the node that makes a value, if it is of some type."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type else None


def bounds_of(node: ir.Node, axis: int) -> tuple[int, int] | None:
    """Return the bounds of a slice along one axis, in steps of one."""
    starts, ends, axes, steps = (constant_of(node, index) for index in range(1, 5))
    if node.op_type != "Slice" or starts is None or ends is None or axes is None:
        return None
    if axes.tolist() != [axis] or (steps is not None and steps.tolist() != [1]):
        return None
    return int(starts[0]), int(ends[0])


def is_plain_gemm(node: ir.Node) -> bool:
    """Whether a node multiplies two matrices as they are, without factors, and may add something."""
    usual = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    return node.op_type == "Gemm" and all(
        attribute.value == usual.get(name) for name, attribute in node.attributes.items()
    )


def kernel_of(node: ir.Node | None) -> AnyArray | None:
    """Return the constant kernel (n_out, n_in, ...) of a convolution with one group and no stride.

    Its padding is written out, and its bias is a constant, if it has one.
    """
    if node is None or node.op_type != "Conv" or not is_standard(node) or "auto_pad" in node.attributes:
        return None
    weight = constant_of(node, 1)
    if weight is None or weight.ndim < 3:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and constant_of(node, 2) is None:
        return None
    if node.attributes.get_int("group", 1) != 1 or set(ints_of(node, "strides", [1])) != {1}:
        return None
    return weight


def product_of(node: ir.Node | None) -> AnyArray | None:
    """Return the matrix (n_out, n_in) of a convolution, as `kernel_of` knows them, that looks at one step."""
    weight = kernel_of(node)
    if node is None or weight is None or weight[0, 0].size != 1 or any(ints_of(node, "pads", [0])):
        return None
    return weight.reshape(weight.shape[:2])
