"""Look products of embeddings up instead of multiplying what was looked up.

A phoneme's embedding is a row of a table, and so is its product with a matrix: of another table, which is
made once. The first layer of an encoder asks for three such products, its queries, keys and values, and
scales the embeddings before::

    x = Squeeze(Gather(table, ids)) c,  Gemm(x, W, b)   ->   Gather(c table, row),  Gather(c table W + b, row)

where ``row`` is ``Squeeze(ids)``. A table of products is kept where it isn't much larger than the matrix,
which then is needed no more. The products are of double precision.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from balacoon_tk._typing import AnyArray
from balacoon_tk.export.passes.edit import (
    Names,
    Writer,
    bypass,
    constant_of,
    is_plain_gemm,
    only_user,
    remove_unused,
    scalar_of,
)

__all__ = ["FoldLookupsPass"]

_MAX_GROWTH = 2  # rows of a table for each row of the matrix


class FoldLookupsPass(InPlacePass):
    """Fold the scale of looked up rows, and products of a batch of one, into tables."""

    def call(self, model: ir.Model) -> PassResult:
        """Fold what is done to each lookup."""
        names = Names(model.graph)
        modified = False
        for node in list(model.graph):
            table = constant_of(node, 0) if node.op_type == "Gather" else None
            if table is None or table.ndim != 2 or table.dtype != np.float32:
                continue
            if node.attributes.get_int("axis", 0) != 0:
                continue
            write = Writer(model.graph, names, f"{node.outputs[0].name}.lookup")
            value, factor = _scaled(node.outputs[0])
            scaled = table.astype(np.float64) * factor
            squeezes = [user for user, _ in value.uses() if _drops_batch(user)]
            products = [
                product
                for squeeze in squeezes
                for product, index in squeeze.outputs[0].uses()
                if index == 0 and _is_worth_it(product, table)
            ]
            if not products:
                continue
            row = write.one("Squeeze", node.inputs[1], write.ints(0))
            tables = [(product.outputs[0], _product(product, scaled)) for product in products]
            tables += [(squeeze.outputs[0], scaled) for squeeze in squeezes]
            lookups = [
                (old, write.one("Gather", write.constant(rows.astype(np.float32)), row, axis=0))
                for old, rows in tables
            ]
            model.graph.insert_before(node, write.nodes)
            for old, lookup in lookups:
                modified |= bypass(model.graph, old, lookup)
        if modified:
            remove_unused(model)
        return PassResult(model, modified)


def _scaled(value: ir.Value) -> tuple[ir.Value, float]:
    """Return the multiple of a value that alone is read, and the factor; else the value itself."""
    node = only_user(value)
    if node is not None and node.op_type in ("Div", "Mul") and node.inputs[0] is value:
        number = scalar_of(node, 1)
        if number:
            return node.outputs[0], 1 / number if node.op_type == "Div" else number
    return value, 1.0


def _drops_batch(node: ir.Node) -> bool:
    axes = constant_of(node, 1) if node.op_type == "Squeeze" else None
    return axes is not None and axes.tolist() == [0]


def _is_worth_it(node: ir.Node, table: AnyArray) -> bool:
    """Whether a node multiplies by a constant matrix that isn't much smaller than a table of products."""
    weight = constant_of(node, 1) if is_plain_gemm(node) else None
    if weight is None or len(table) > _MAX_GROWTH * len(weight):
        return False
    return len(node.inputs) < 3 or constant_of(node, 2) is not None


def _product(node: ir.Node, table: AnyArray) -> AnyArray:
    weight, bias = constant_of(node, 1), constant_of(node, 2) if len(node.inputs) > 2 else None
    if weight is None:
        raise ValueError(f"the weights of {node.name!r} are gone")
    product: AnyArray = table @ weight.astype(np.float64)
    return product if bias is None else product + bias
