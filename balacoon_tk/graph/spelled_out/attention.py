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
_LAST = (-1, 3)


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
    if node.op_type != "Softmax" or node.attributes.get_int("axis", -1) not in _LAST:
        return None
    all_scores, probabilities = node.inputs[0], node.outputs[0]
    key = next((term for term in _terms(producer_of(all_scores, "Add")) if term.is_skewed), None)
    scores = all_scores if key is None else key.other
    product = producer_of(scores, "MatMul")
    if all_scores is None or scores is None or product is None:
        return None
    queries, keys = product.inputs
    if queries is None or keys is None or (key is not None and key.factor is not queries):
        return None
    for user, _ in probabilities.uses():
        values = user.inputs[1] if user.op_type == "MatMul" else None
        if values is None or user.inputs[0] is not probabilities:
            continue
        products = result = user.outputs[0]
        near_keys = near_values = None
        if key is not None:
            add = only_user(products)
            near_values = None if add is None else _near_values(add, products, probabilities)
            if add is None or near_values is None or not _fit(key.embedding, near_values):
                continue
            near_keys, result = key.embedding, add.outputs[0]
        return Attention(
            queries, keys, values, scores, all_scores, probabilities, products, result, near_keys, near_values
        )
    return None


def _near_values(add: ir.Node, products: ir.Value, probabilities: ir.Value) -> AnyArray | None:
    """Return the embeddings of the values of which a node adds some to products, by their probabilities."""
    for term in _terms(add):
        if term.other is products and not term.is_skewed and _origin(term.factor) is probabilities:
            return term.embedding
    return None


def _terms(add: ir.Node | None) -> Iterator[_Term]:
    """Yield the products with an embedding that a node adds."""
    if add is None or add.op_type != "Add":
        return
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
