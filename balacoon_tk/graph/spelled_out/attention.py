r"""Attention over all steps as exporters spell it out, with relative positions or without.

VITS's text encoder adds to each score a product of the query with an embedding of the distance, for
distances of up to a window w (w = 4), and to each result the same of the probabilities::

    scores        = q @ k^T,  scores[i, i + d] += q[i] @ near_keys[d]                |d| <= w
    result[i]     = sum_j p[i, j] v[j]  +  sum_d p[i, i + d] near_values[d]

Written for tensors only, both products are taken with embeddings padded to all 2 T - 1 distances, and skewed
into place by padding, reshaping and slicing T x 2 T numbers several times.

([1] Shaw, Uszkoreit, Vaswani, "Self-Attention with Relative Position Representations", 2018,
equations 3 and 4; [2] Kim et al. 2021, appendix B.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.match import only_user, producer_of

# Operators that put the numbers of their first input elsewhere.
_RESHAPES = frozenset({"Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_MOVES = _RESHAPES | {"Concat", "Pad", "Slice", "Transpose"}


class Attention(NamedTuple):
    """One attention, as it is found."""

    queries: ir.Value
    """Scaled, (1, n_heads, T, n_channels); of a head."""
    keys: ir.Value
    """(1, n_heads, n_channels, T): transposed."""
    values: ir.Value
    scores: ir.Value
    """The products of queries and keys alone."""
    all_scores: ir.Value
    """What the softmax reads: the scores, and what relative positions add to them."""
    probabilities: ir.Value
    products: ir.Value
    """Of probabilities and values alone."""
    result: ir.Value
    """The products, and what relative positions add to them."""
    near_keys: AnyArray | None
    """Embeddings of distances, (1 or n_heads, 2 window + 1, n_channels); None without relative positions."""
    near_values: AnyArray | None


class _Term(NamedTuple):
    """A product with an embedding of distances, and what it is added to."""

    factor: ir.Value | None
    embedding: AnyArray
    other: ir.Value | None
    # Scores are skewed after the product, and probabilities before it.
    is_skewed: bool


def find_attention(node: ir.Node) -> Attention | None:
    """Return the attention that a softmax belongs to, if it is one of a form that is known."""
    all_scores = node.inputs[0] if node.op_type == "Softmax" else None
    if all_scores is None:
        return None
    scores, near_keys = _without_term(all_scores, None)
    query_by_key = producer_of(scores, "MatMul")
    probabilities = node.outputs[0]
    for user, _ in probabilities.uses():
        if query_by_key is None or user.op_type != "MatMul" or user.inputs[0] is not probabilities:
            continue
        products = result = user.outputs[0]
        near_values = None
        added = only_user(products)
        if near_keys is not None and added is not None and added.op_type == "Add":
            result = added.outputs[0]
            other, near_values = _without_term(result, probabilities)
            if other is not products or near_values is None or not _fit(near_keys, near_values):
                continue
        queries, keys, values = query_by_key.inputs[0], query_by_key.inputs[1], user.inputs[1]
        if scores is None or queries is None or keys is None or values is None:
            continue
        if (near_keys is None) == (near_values is None):
            return Attention(
                queries, keys, values, scores, all_scores, probabilities, products, result,
                near_keys, near_values,
            )  # fmt: skip
    return None


def _without_term(value: ir.Value, probabilities: ir.Value | None) -> tuple[ir.Value | None, AnyArray | None]:
    """Return what relative positions were added to, and their embeddings; the value itself if there are none.

    They are those of the values if the probabilities are given, and those of the keys if not.
    """
    add = producer_of(value, "Add")
    for term in () if add is None else _terms(add):
        fits = term.is_skewed if probabilities is None else _origin(term.factor) is probabilities
        if fits and term.is_skewed == (probabilities is None):
            return term.other, term.embedding
    return value, None


def _terms(add: ir.Node) -> Iterator[_Term]:
    """Yield the products with an embedding that a node adds."""
    for moved, other in (add.inputs, reversed(add.inputs)):
        product = producer_of(_origin(moved), "MatMul")
        embedding = None if product is None else _moved_constant(product.inputs[1])
        if product is not None and embedding is not None:
            yield _Term(product.inputs[0], embedding, other, product.outputs[0] is not moved)


def _fit(near_keys: AnyArray, near_values: AnyArray) -> bool:
    """Whether two embeddings are of one window."""
    return (
        near_keys.ndim == near_values.ndim == 3
        and near_keys.shape[:2] == near_values.shape[:2]
        and near_keys.shape[1] % 2 == 1
    )


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
