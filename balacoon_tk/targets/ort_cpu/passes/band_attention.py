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

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.edit import Names, Writer
from balacoon_tk.graph.known import Shapes
from balacoon_tk.graph.match import name_of, only_user, producer_of
from balacoon_tk.targets.ort_cpu.passes.base import RewritePass

# Operators that put the numbers of their first input elsewhere.
_RESHAPES = frozenset({"Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_MOVES = _RESHAPES | {"Concat", "Pad", "Slice", "Transpose"}


class _Term(NamedTuple):
    """A product with an embedding of distances, and what it is added to."""

    factor: ir.Value | None
    # Shape (1 or n_heads, 2 window + 1, channels of a head).
    embedding: AnyArray
    other: ir.Value | None
    # Scores are skewed after the product, and probabilities before it.
    is_skewed: bool


class _Band(NamedTuple):
    """Where the band lies, for all attentions of one window and number of heads."""

    # Shape (1, n_heads, T, 2 window + 1), int64.
    indices: ir.Value
    # Shape (T, 2 window + 1), float32: 1 inside of the sentence.
    inside: ir.Value


class BandAttentionPass(RewritePass):
    """Rewrite each attention whose scores and results both have a relative term."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__(shapes)
        self._bands: dict[tuple[int, int], _Band] = {}

    def _rewrite(self, node: ir.Node, graph: ir.Graph, names: Names) -> bool:
        add_to_scores = producer_of(node.inputs[0], "Add") if node.op_type == "Softmax" else None
        terms = () if add_to_scores is None else _terms(add_to_scores)
        key = next((term for term in terms if term.is_skewed), None)
        if add_to_scores is None or key is None or producer_of(key.other, "MatMul") is None:
            return False
        probabilities = node.outputs[0]
        for user, _ in probabilities.uses():
            add_to_result = only_user(user.outputs[0]) if user.op_type == "MatMul" else None
            if add_to_result is None or add_to_result.op_type != "Add":
                continue
            terms = (term for term in _terms(add_to_result) if not term.is_skewed)
            value = next((term for term in terms if _origin(term.factor) is probabilities), None)
            if value is None or value.other is not user.outputs[0] or not _fit(key, value):
                continue
            band = self._band(key, add_to_scores, graph, names)
            _rewrite_scores(add_to_scores, key, band, graph, names)
            _rewrite_result(add_to_result, value._replace(factor=probabilities), band, graph, names)
            return True
        return False

    def _band(self, key: _Term, before: ir.Node, graph: ir.Graph, names: Names) -> _Band:
        """Return where the band lies, written once for all attentions of its width."""
        n_heads, n_distances = self.shapes_of(key.other)[0][1], key.embedding.shape[1]
        if (n_heads, n_distances) not in self._bands:
            write = Writer(graph, names, "band")
            self._bands[n_heads, n_distances] = _write_band(write, key.other, n_heads, n_distances)
            graph.insert_before(before, write.nodes)
        return self._bands[n_heads, n_distances]


def _terms(add: ir.Node) -> Iterator[_Term]:
    """Yield the products with an embedding that a node adds."""
    for moved, other in (add.inputs, reversed(add.inputs)):
        product = producer_of(_origin(moved), "MatMul")
        embedding = None if product is None else _moved_constant(product.inputs[1])
        if product is not None and embedding is not None:
            yield _Term(product.inputs[0], embedding, other, product.outputs[0] is not moved)


def _fit(key_term: _Term, value_term: _Term) -> bool:
    """Whether two embeddings are of one window."""
    key, value = key_term.embedding, value_term.embedding
    return key.ndim == value.ndim == 3 and key.shape[:2] == value.shape[:2] and key.shape[1] % 2 == 1


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


def _write_band(write: Writer, scores: ir.Value | None, n_heads: int, n_distances: int) -> _Band:
    n_phonemes = write.one("Shape", scores, start=3, end=4)
    one, zero = write.ints(1), write.constant(np.array(0, np.int64))
    rows = write.one("Range", zero, write.one("Squeeze", n_phonemes), write.constant(np.array(1, np.int64)))
    window = n_distances // 2
    offsets = write.ints(*range(-window, n_distances - window))
    columns = write.one("Add", write.one("Unsqueeze", rows, one), offsets)
    not_before, not_after = write.one("GreaterOrEqual", columns, zero), write.one("Less", columns, n_phonemes)
    inside = write.one("And", not_before, not_after)
    # What lies outside is gathered and scattered at position 0, where it counts for nothing.
    columns = write.one("Mul", columns, write.one("Cast", inside, to=int(ir.DataType.INT64)))
    indices = write.one("Expand", columns, write.ints(1, n_heads, 1, 1))
    return _Band(indices, write.one("Cast", inside, to=int(ir.DataType.FLOAT)))


def _rewrite_scores(add: ir.Node, key: _Term, band: _Band, graph: ir.Graph, names: Names) -> None:
    write = Writer(graph, names, f"{name_of(key.other)}.band")
    by_distance = write.one("MatMul", key.factor, write.constant(key.embedding.transpose(0, 2, 1)))
    near = write.one("Mul", by_distance, band.inside)
    scores = write.one("ScatterElements", key.other, band.indices, near, axis=3, reduction="add")
    graph.insert_before(add, write.nodes)
    add.outputs[0].replace_all_uses_with(scores)


def _rewrite_result(add: ir.Node, value: _Term, band: _Band, graph: ir.Graph, names: Names) -> None:
    write = Writer(graph, names, f"{name_of(value.other)}.band")
    near = write.one("GatherElements", value.factor, band.indices, axis=3)
    weighted = write.one("MatMul", write.one("Mul", near, band.inside), write.constant(value.embedding))
    result = write.one("Add", value.other, weighted)
    graph.insert_before(add, write.nodes)
    add.outputs[0].replace_all_uses_with(result)
