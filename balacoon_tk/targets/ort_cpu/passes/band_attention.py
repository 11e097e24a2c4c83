r"""Write attention with relative positions over the band that it has, not over the whole square.

VITS's text encoder adds to each score a product of the query with an embedding of the distance, for
distances of up to a window w (w = 4), and to each result the same of the probabilities. Written for
tensors only, both products are taken with embeddings padded to all 2 T - 1 distances, and skewed into
place by padding, reshaping and slicing T x 2 T numbers several times. Here the 2 w + 1 products that
aren't zero are taken, and put where they belong::

    scores        = q @ k^T,  scores[i, i + d] += q[i] @ key_embedding[d]            |d| <= w
    result[i]     = sum_j p[i, j] v[j]  +  sum_d p[i, i + d] value_embedding[d]

([1] Shaw, Uszkoreit, Vaswani, "Self-Attention with Relative Position Representations", 2018,
equations 3 and 4; [2] Kim et al. 2021, appendix B). A position outside of the sentence is replaced by
position 0 with the factor 0. Sums that are scattered are of opset 16.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PassResult

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.edit import Names, Writer, only_user, remove_unused
from balacoon_tk.graph.shaped import ShapedPass

_MOVES = frozenset(
    {
        "Concat",
        "Expand",
        "Flatten",
        "Identity",
        "Pad",
        "Reshape",
        "Slice",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators that put the numbers of their first input elsewhere."""


@dataclass(frozen=True, slots=True)
class _Term:
    """A product with an embedding of distances."""

    factor: ir.Value
    embedding: AnyArray
    """Shape (1 or n_heads, 2 window + 1, channels of a head)."""


@dataclass(frozen=True, slots=True)
class _Attention:
    """One attention with relative positions."""

    add_to_scores: ir.Node
    scores: ir.Value
    key_term: _Term
    add_to_result: ir.Node
    result: ir.Value
    value_term: _Term
    probabilities: ir.Value


@dataclass(frozen=True, slots=True)
class _Band:
    """Where the band lies, for all attentions of one window and number of heads."""

    indices: ir.Value
    """Shape (1, n_heads, T, 2 window + 1), int64."""
    inside: ir.Value
    """Shape (T, 2 window + 1), float32: 1 inside of the sentence."""


class BandAttentionPass(ShapedPass):
    """Rewrite each attention whose scores and results both have a relative term."""

    def call(self, model: ir.Model) -> PassResult:
        """Rewrite them all."""
        found = [attention for node in model.graph if (attention := _match(node)) is not None]
        names = Names(model.graph)
        bands: dict[tuple[int, int], _Band] = {}
        for attention in found:
            n_heads = self._shapes[str(attention.scores.name)][0][1]
            n_distances = attention.key_term.embedding.shape[1]
            if (n_heads, n_distances) not in bands:
                write = Writer(model.graph, names, "band")
                bands[n_heads, n_distances] = _write_band(write, attention.scores, n_heads, n_distances)
                model.graph.insert_before(attention.add_to_scores, write.nodes)
            _rewrite(model.graph, attention, bands[n_heads, n_distances], names)
        if found:
            remove_unused(model)
        return PassResult(model, modified=bool(found))


def _match(node: ir.Node) -> _Attention | None:
    """Return the attention whose softmax a node is."""
    add_to_scores = None if node.op_type != "Softmax" else _producer(node.inputs[0], "Add")
    if add_to_scores is None:
        return None
    key_term, scores = _relative_term(add_to_scores)
    if key_term is None or scores is None or _producer(scores, "MatMul") is None:
        return None
    probabilities = node.outputs[0]
    for user, _ in probabilities.uses():
        add_to_result = only_user(user.outputs[0]) if user.op_type == "MatMul" else None
        if add_to_result is None or add_to_result.op_type != "Add":
            continue
        value_term, result = _weighted_term(add_to_result, probabilities)
        if value_term is None or result is not user.outputs[0] or not _fit(key_term, value_term):
            continue
        return _Attention(add_to_scores, scores, key_term, add_to_result, result, value_term, probabilities)
    return None


def _relative_term(add: ir.Node) -> tuple[_Term | None, ir.Value | None]:
    """Return a product with an embedding that is added, after it was skewed, and what it is added to."""
    for index in (0, 1):
        moved = add.inputs[index]
        product = _producer(_origin(moved), "MatMul")
        embedding = None if product is None else _moved_constant(product.inputs[1])
        factor = None if product is None or product.outputs[0] is moved else product.inputs[0]
        if factor is not None and embedding is not None:
            return _Term(factor, embedding), add.inputs[1 - index]
    return None, None


def _weighted_term(add: ir.Node, probabilities: ir.Value) -> tuple[_Term | None, ir.Value | None]:
    """Return a product of skewed probabilities with an embedding that is added, and what it is added to."""
    for index in (0, 1):
        product = _producer(add.inputs[index], "MatMul")
        embedding = None if product is None else _moved_constant(product.inputs[1])
        if product is not None and embedding is not None and _origin(product.inputs[0]) is probabilities:
            return _Term(probabilities, embedding), add.inputs[1 - index]
    return None, None


def _fit(key_term: _Term, value_term: _Term) -> bool:
    """Whether two embeddings are of one window."""
    key, value = key_term.embedding, value_term.embedding
    return key.ndim == value.ndim == 3 and key.shape[:2] == value.shape[:2] and key.shape[1] % 2 == 1


def _producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type else None


def _origin(value: ir.Value | None) -> ir.Value | None:
    """Return the value whose numbers another holds in other places."""
    while value is not None and (node := value.producer()) is not None and node.op_type in _MOVES:
        value = node.inputs[0]
    return value


def _moved_constant(value: ir.Value | None) -> AnyArray | None:
    """Return the constant whose numbers a value holds in other places, with some zeros around."""
    origin = _origin(value)
    if origin is None or origin.const_value is None or origin.is_graph_input():
        return None
    return origin.const_value.numpy()


def _write_band(write: Writer, scores: ir.Value, n_heads: int, n_distances: int) -> _Band:
    """Write where the band lies, once for all attentions of its width."""
    n_phonemes = write.one("Shape", scores, start=3, end=4)
    one, zero = write.ints(1), write.constant(np.array(0, np.int64))
    rows = write.one("Range", zero, write.one("Squeeze", n_phonemes), write.constant(np.array(1, np.int64)))
    window = n_distances // 2
    columns = write.one(
        "Add", write.one("Unsqueeze", rows, one), write.ints(*range(-window, n_distances - window))
    )
    inside = write.one(
        "And", write.one("GreaterOrEqual", columns, zero), write.one("Less", columns, n_phonemes)
    )
    columns = write.one("Mul", columns, write.one("Cast", inside, to=int(ir.DataType.INT64)))
    return _Band(
        indices=write.one("Expand", columns, write.ints(1, n_heads, 1, 1)),
        inside=write.one("Cast", inside, to=int(ir.DataType.FLOAT)),
    )


def _rewrite(graph: ir.Graph, attention: _Attention, band: _Band, names: Names) -> None:
    write = Writer(graph, names, f"{attention.scores.name}.band")
    by_distance = write.one(
        "MatMul",
        attention.key_term.factor,
        write.constant(attention.key_term.embedding.transpose(0, 2, 1)),
    )
    scores = write.one(
        "ScatterElements",
        attention.scores,
        band.indices,
        write.one("Mul", by_distance, band.inside),
        axis=3,
        reduction="add",
    )
    graph.insert_before(attention.add_to_scores, write.nodes)
    attention.add_to_scores.outputs[0].replace_all_uses_with(scores)

    write = Writer(graph, names, f"{attention.result.name}.band")
    near = write.one("GatherElements", attention.probabilities, band.indices, axis=3)
    near = write.one("Mul", near, band.inside)
    embedding = write.constant(attention.value_term.embedding)
    result = write.one("Add", attention.result, write.one("MatMul", near, embedding))
    graph.insert_before(attention.add_to_result, write.nodes)
    attention.add_to_result.outputs[0].replace_all_uses_with(result)
