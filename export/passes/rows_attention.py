"""Let an attention read its heads where rows hold them, and leave to weights what weights can do.

Behind `ChannelsLastPass` queries, keys and values are rows, cut into heads and turned over to
(1, n_heads, T, C), and the results turned back. Four rewrites, made together wherever a whole attention is
found, with the relative positions of `balacoon_tk.export.passes.band_attention` or without::

    q, k, v = Reshape(Gemm(x, W), (T, n_heads, C)) for each
    p       = Softmax(Transpose(q) Transpose(k)^T)
    y       = Gemm(Reshape(Transpose(p Transpose(v))), Wo, bias)

1. Heads stay (T, n_heads, C): ONNX Runtime joins a ``Transpose`` to (n_heads, T, C) with the product that
   reads it, which it doesn't where there is an axis for a batch.
2. The scale of the scores is in the weights of the queries.
3. A bias of the keys adds the same to all scores of a query, which a softmax doesn't see.
4. Probabilities sum to 1, so a bias of the values is one of the output.

The products of queries, keys and values stay apart: cutting up a single one costs more than they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

__all__ = ["RowsAttentionPass"]

_TURN_HEADS, _TURN_KEYS = (0, 2, 1, 3), (0, 1, 3, 2)


@dataclass(frozen=True, slots=True)
class _Projection:
    """Rows times a matrix plus a vector, cut into heads."""

    rows: ir.Value
    weight: AnyArray
    """Shape (n_in, n_heads, C), float64."""
    bias: AnyArray
    """Shape (n_heads, C), float64."""


@dataclass(frozen=True, slots=True)
class _Band:
    """The terms of relative positions, see `balacoon_tk.export.passes.band_attention`."""

    indices: ir.Value
    """Shape (1, n_heads, T, 2 window + 1), int64."""
    inside: ir.Value
    """Shape (T, 2 window + 1), float32."""
    keys: AnyArray
    """Shape (1 or n_heads, C, 2 window + 1)."""
    values: AnyArray
    """Shape (1 or n_heads, 2 window + 1, C)."""


@dataclass(frozen=True, slots=True)
class _Attention:
    scores: ir.Value
    queries: _Projection
    keys: _Projection
    values: _Projection
    scale: float
    band: _Band | None
    output: ir.Node
    """Gemm of the results of all heads."""


class RowsAttentionPass(InPlacePass):
    """Rewrite each attention of rows, with relative positions or without."""

    def call(self, model: ir.Model) -> PassResult:
        """Rewrite them all."""
        found = [attention for node in model.graph if (attention := _match(node)) is not None]
        rewriting = _Rewriting(model.graph)
        for attention in found:
            rewriting.attention(attention)
        if found:
            model.graph.sort()
            remove_unused(model)
        return PassResult(model, modified=bool(found))


def _match(node: ir.Node) -> _Attention | None:
    """Return the attention whose softmax a node is."""
    if node.op_type != "Softmax" or node.attributes.get_int("axis", -1) not in (-1, 3):
        return None
    scores, probabilities = node.inputs[0], node.outputs[0]
    add = _producer(scores, "ScatterElements")
    if add is not None:
        scores = add.inputs[0]
    product = _producer(scores, "MatMul")
    by_values = _user(probabilities, "MatMul")
    if product is None or by_values is None or scores is None:
        return None
    scaled, scale = _scaled(product.inputs[0])
    queries, keys = _heads(scaled), _heads(_turned(product.inputs[1], _TURN_KEYS))
    values = _heads(by_values.inputs[1])
    result, band = by_values.outputs[0], None
    if add is not None:
        added = only_user(result)
        band = None if added is None else _match_band(add, product.inputs[0], probabilities, added)
        if band is None or added is None:
            return None
        result = added.outputs[0]
    turn = only_user(result)
    join = only_user(turn.outputs[0]) if turn is not None and _turns(turn, _TURN_HEADS) else None
    output = only_user(join.outputs[0]) if join is not None and join.op_type == "Reshape" else None
    if queries is None or keys is None or values is None or join is None or output is None:
        return None
    shapes = {projection.weight.shape[1:] for projection in (queries, keys, values)}
    n_channels = int(np.prod(values.weight.shape[1:]))
    shape, weight = constant_of(join, 1), constant_of(output, 1)
    if len(shapes) != 1 or shape is None or shape.tolist() != [-1, n_channels] or weight is None:
        return None
    if not _is_affine(output) or output.inputs[0] is not join.outputs[0]:
        return None
    return _Attention(scores, queries, keys, values, scale, band, output)


def _match_band(
    add: ir.Node, queries: ir.Value | None, probabilities: ir.Value, added: ir.Node
) -> _Band | None:
    """Return the terms of relative positions, if both are written as `BandAttentionPass` does."""
    masked = _producer(add.inputs[2], "Mul")
    by_distance = None if masked is None else _producer(masked.inputs[0], "MatMul")
    gather = _user(probabilities, "GatherElements")
    near = None if gather is None else only_user(gather.outputs[0])
    by_embedding = None if near is None or near.op_type != "Mul" else only_user(near.outputs[0])
    if masked is None or by_distance is None or gather is None or near is None or by_embedding is None:
        return None
    keys, values = constant_of(by_distance, 1), constant_of(by_embedding, 1)
    indices, inside = add.inputs[1], masked.inputs[1]
    if indices is None or inside is None or keys is None or values is None or added.op_type != "Add":
        return None
    agree = (
        by_distance.inputs[0] is queries
        and add.attributes.get_int("axis", 0) == gather.attributes.get_int("axis", 0) == 3
        and add.attributes["reduction"].as_string() == "add"
        and gather.inputs[1] is indices
        and near.inputs[1] is inside
        and by_embedding.op_type == "MatMul"
        and by_embedding.outputs[0] in added.inputs
        and keys.ndim == values.ndim == 3
    )
    return _Band(indices, inside, keys, values) if agree else None


def _heads(value: ir.Value | None) -> _Projection | None:
    """Return the rows whose product a value holds, cut into heads and turned over."""
    cut = _producer(_turned(value, _TURN_HEADS), "Reshape")
    product = None if cut is None else _producer(cut.inputs[0], "Gemm")
    shape = None if cut is None else constant_of(cut, 1)
    if product is None or shape is None or shape.size != 4 or shape[:2].tolist() != [1, -1]:
        return None
    rows, weight, bias = product.inputs[0], constant_of(product, 1), constant_of(product, 2)
    n_heads, n_channels = (int(size) for size in shape[2:])
    if rows is None or weight is None or bias is None or not _is_affine(product):
        return None
    if weight.shape[1] != n_heads * n_channels:
        return None
    return _Projection(
        rows,
        weight.astype(np.float64).reshape(-1, n_heads, n_channels),
        bias.astype(np.float64).reshape(n_heads, n_channels),
    )


def _scaled(value: ir.Value | None) -> tuple[ir.Value | None, float]:
    """Return what a value is the multiple of, and the factor."""
    for op_type in ("Div", "Mul"):
        node = _producer(value, op_type)
        number = None if node is None else scalar_of(node, 1)
        if node is not None and number:
            return node.inputs[0], 1 / number if op_type == "Div" else number
    return value, 1.0


def _is_affine(node: ir.Node) -> bool:
    """Whether a node multiplies by a matrix and adds a vector, both constant."""
    weight, bias = constant_of(node, 1), constant_of(node, 2)
    return is_plain_gemm(node) and weight is not None and bias is not None and bias.shape == weight.shape[1:]


def _producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type else None


def _user(value: ir.Value, op_type: str) -> ir.Node | None:
    """Return the only node of that type that reads a value as its first input."""
    users = [node for node, index in value.uses() if node.op_type == op_type and index == 0]
    return users[0] if len(users) == 1 else None


def _turns(node: ir.Node, perm: Sequence[int]) -> bool:
    return node.op_type == "Transpose" and tuple(node.attributes["perm"].as_ints()) == tuple(perm)


def _turned(value: ir.Value | None, perm: Sequence[int]) -> ir.Value | None:
    """Return what a value is the transpose of."""
    node = _producer(value, "Transpose")
    return node.inputs[0] if node is not None and _turns(node, perm) else None


class _Rewriting:
    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._names = Names(graph)
        self._flat: dict[ir.Value, ir.Value] = {}
        """The indices of bands as (n_heads, T, 2 window + 1)."""

    def attention(self, found: _Attention) -> None:
        """Write an attention anew."""
        write = Writer(self._graph, self._names, f"{found.output.outputs[0].name}.rows")
        self._measure_rows(write, found)
        none = np.zeros_like(found.keys.bias)
        queries = self._project(write, found.queries, found.queries.bias, found.scale)
        keys = self._project(write, found.keys, none)
        values = self._project(write, found.values, none)
        queries = write.one("Transpose", queries, perm=[1, 0, 2])
        scores = write.one("MatMul", queries, write.one("Transpose", keys, perm=[1, 2, 0]))
        band = found.band
        if band is not None:
            by_distance = write.one("MatMul", queries, write.constant(band.keys))
            scores = write.one(
                "ScatterElements",
                scores,
                self._indices(write, band),
                write.one("Mul", by_distance, band.inside),
                axis=2,
                reduction="add",
            )
        probabilities = write.one("Softmax", scores, axis=-1)
        result = write.one("MatMul", probabilities, write.one("Transpose", values, perm=[1, 0, 2]))
        if band is not None:
            near = write.one("GatherElements", probabilities, self._indices(write, band), axis=2)
            near = write.one("Mul", near, band.inside)
            result = write.one("Add", result, write.one("MatMul", near, write.constant(band.values)))
        rows = write.one("Transpose", result, perm=[1, 0, 2])
        rows = write.one("Reshape", rows, write.ints(-1, found.values.bias.size))
        bias = write.constant(_bias_with_values(found))
        old = found.output.outputs[0]
        output = write.one("Gemm", rows, found.output.inputs[1], bias)
        self._graph.insert_before(found.output, write.nodes)
        bypass(self._graph, old, output)

    def _project(
        self, write: Writer, projection: _Projection, bias: AnyArray, scale: float = 1.0
    ) -> ir.Value:
        """Write a projection as (T, n_heads, C)."""
        n_in, n_heads, n_channels = projection.weight.shape
        weight = (projection.weight * scale).reshape(n_in, -1).astype(np.float32)
        if bias.any():
            vector = write.constant((bias * scale).reshape(-1).astype(np.float32))
            rows = write.one("Gemm", projection.rows, write.constant(weight), vector)
        else:
            rows = write.one("Gemm", projection.rows, write.constant(weight))
        return write.one("Reshape", rows, write.ints(-1, n_heads, n_channels))

    def _measure_rows(self, write: Writer, found: _Attention) -> None:
        """Take the number of phonemes from the rows, where a band takes it from scores that go."""
        for node, _ in list(found.scores.uses()):
            if node.op_type == "Shape" and node.attributes.get_int("start", 0) == 3:
                length = write.one("Shape", found.queries.rows, start=0, end=1)
                node.outputs[0].replace_all_uses_with(length)

    def _indices(self, write: Writer, band: _Band) -> ir.Value:
        if band.indices not in self._flat:
            self._flat[band.indices] = write.one("Squeeze", band.indices, write.ints(0))
        return self._flat[band.indices]


def _bias_with_values(found: _Attention) -> AnyArray:
    """Return the output's bias and what the values' bias makes of its weights."""
    weight, bias = constant_of(found.output, 1), constant_of(found.output, 2)
    if weight is None or bias is None:
        raise ValueError(f"the weights of {found.output.name!r} are gone")
    of_values: AnyArray = found.values.bias.reshape(-1) @ weight.astype(np.float64)
    return (bias + of_values).astype(np.float32)
