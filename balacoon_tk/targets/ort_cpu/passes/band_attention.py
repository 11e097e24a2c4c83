r"""Write attention with relative positions over the band that it has, not over the whole square.

Of the products with the embeddings of distances (`balacoon_tk.graph.spelled_out.attention`), the 2 w + 1 of
each step that aren't zero are taken, and put where they belong. A position outside of the sentence is
replaced by position 0 with the factor 0. Sums that are scattered are of opset 16.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.edit import Names, Writer
from balacoon_tk.graph.known import Shapes
from balacoon_tk.graph.match import name_of
from balacoon_tk.graph.shaped import RewritePass
from balacoon_tk.graph.spelled_out.attention import Attention, find_attention


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
        found = find_attention(node)
        if found is None or found.near_keys is None or found.near_values is None:
            return False
        band = self._band(found, found.near_keys.shape[1], graph, names)
        _rewrite_scores(found, found.near_keys, band, graph, names)
        _rewrite_result(found, found.near_values, band, graph, names)
        return True

    def _band(self, found: Attention, n_distances: int, graph: ir.Graph, names: Names) -> _Band:
        """Return where the band lies, written once for all attentions of its width."""
        n_heads = self.shapes_of(found.scores)[0][1]
        if (n_heads, n_distances) not in self._bands:
            write = Writer(graph, names, "band")
            self._bands[n_heads, n_distances] = _write_band(write, found.scores, n_heads, n_distances)
            _insert_before(found.all_scores, write.nodes, graph)
        return self._bands[n_heads, n_distances]


def _insert_before(value: ir.Value, nodes: list[ir.Node], graph: ir.Graph) -> None:
    producer = value.producer()
    assert producer is not None
    graph.insert_before(producer, nodes)


def _write_band(write: Writer, scores: ir.Value, n_heads: int, n_distances: int) -> _Band:
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


def _rewrite_scores(
    found: Attention, near_keys: AnyArray, band: _Band, graph: ir.Graph, names: Names
) -> None:
    write = Writer(graph, names, f"{name_of(found.scores)}.band")
    by_distance = write.one("MatMul", found.queries, write.constant(near_keys.transpose(0, 2, 1)))
    near = write.one("Mul", by_distance, band.inside)
    scores = write.one("ScatterElements", found.scores, band.indices, near, axis=3, reduction="add")
    _insert_before(found.all_scores, write.nodes, graph)
    found.all_scores.replace_all_uses_with(scores)


def _rewrite_result(
    found: Attention, near_values: AnyArray, band: _Band, graph: ir.Graph, names: Names
) -> None:
    write = Writer(graph, names, f"{name_of(found.products)}.band")
    near = write.one("GatherElements", found.probabilities, band.indices, axis=3)
    weighted = write.one("MatMul", write.one("Mul", near, band.inside), write.constant(near_values))
    result = write.one("Add", found.products, weighted)
    _insert_before(found.result, write.nodes, graph)
    found.result.replace_all_uses_with(result)
