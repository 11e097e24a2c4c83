"""Attention over time, taken out of a graph as one node, so that a rule can say what it sees.

Between the product of queries and keys and that of probabilities and values, tensors are as wide as they are
long, and no operator there has one time axis. So before time is followed, all of it becomes one node
``Window`` of queries, keys and values, if it can be told from how the mask is computed (`masks`,
`bands`) which keys a query sees. What a query doesn't see counts for nothing, whatever it is:

- its score is minus infinity; or
- its score is at least 200 below that of the query's own step, for scores within ±4000: in float32 nothing
  is left of it, as ``exp(-200)`` is 0.

The node of one that sees everything, or of which it isn't known, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.attention.bands import Band, Cases, constant, where_above
from balacoon_tk.graph.attention.check import contradicted
from balacoon_tk.graph.attention.masks import MaskReader
from balacoon_tk.graph.attention.windows import N_AXES, REFUSAL, WINDOW, Expression, Terms, Window, cases_of
from balacoon_tk.graph.edit import remove_unused
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.match import is_standard, name_of
from balacoon_tk.graph.probe import Probe
from balacoon_tk.graph.rules import ELEMENTWISE
from balacoon_tk.graph.time_inputs import TimeInputs
from balacoon_tk.graph.walk import descendants

DOMAIN, OP_TYPE = "balacoon", "Window"
"""Of the node that stands for an attention; it is in no graph that is given to anybody."""

LARGEST_SCORE, VANISHES = 4e3, 200.0
"""What products of queries and keys lie within, and how far below another a score counts for nothing."""
_ALONE = ELEMENTWISE | {"Unsqueeze", "Squeeze", "Reshape", "Flatten", "Expand"}
_PRODUCTS = frozenset({"Einsum", "Gemm", "MatMul"})


def fuse_attention(model: ir.Model, inputs: TimeInputs, *, max_frames: int | None = None) -> None:
    """Replace each attention over time by a node, in place; the values that stay keep their names.

    Where it can't be told what a query sees, or that is everything, or everything before and `max_frames`
    isn't given, the node holds the error that says so, for the rule to raise.
    """
    graph, probe = model.graph, inputs.probe
    softmaxes = [node for node in graph if _is_over_time(node, graph, probe)]
    if not softmaxes:
        return
    with_time = [value for value in graph.inputs if value.name in inputs.axes]
    found: dict[ir.Node, _Products] = {}
    leaves: dict[ir.Value, Expression] = {}
    for softmax in softmaxes:
        try:
            products = found[softmax] = _Products.around(softmax, probe)
        except NotStreamableError as error:
            _put(graph, softmax, with_time[:1], REFUSAL, error)
        else:
            leaves[products.scores.outputs[0]] = Expression("scores")
            leaves[softmax.outputs[0]] = Expression("probabilities")
    # One for all, so that a mask that several read is one expression.
    reader = MaskReader(probe, descendants(graph, with_time), leaves)
    told: dict[ir.Node, Window | NotStreamableError] = {}
    for softmax, products in found.items():
        try:
            told[softmax] = _window_of(softmax, products, reader, max_frames)
        except NotStreamableError as error:
            told[softmax] = error
    windows = {softmax: window for softmax, window in told.items() if isinstance(window, Window)}
    told |= {softmax: _contradiction(softmax) for softmax in contradicted(model, inputs, windows)}
    for softmax, result in told.items():
        products = found[softmax]
        read = [*products.scores.inputs, products.result.inputs[1]]
        if isinstance(result, Window):
            _put(graph, products.result, [*read, *result.computed()], WINDOW, result)
        else:
            _put(graph, products.result, read, REFUSAL, result)
    remove_unused(model)


def _contradiction(softmax: ir.Node) -> NotStreamableError:
    return NotStreamableError(softmax, "in a run it sees steps that its mask was taken to hide")


def _is_over_time(node: ir.Node, graph: ir.Graph, probe: Probe) -> bool:
    if node.op_type != "Softmax" or not is_standard(node):
        return False
    shapes = probe.shapes.get(name_of(node.inputs[0]), ())
    rank = len(shapes[0]) if shapes else 0
    since_13 = graph.opset_imports.get("", 0) >= 13
    axis = node.attributes.get_int("axis", -1 if since_13 else 1)
    if not 2 <= rank <= N_AXES or axis % rank != rank - 1:
        return False
    # Within pieces of a fixed length a softmax is over no time axis.
    return len({shape[-1] for shape in shapes}) > 1 and all(shape[-1] == shape[-2] for shape in shapes)


@dataclass(frozen=True, slots=True)
class _Products:
    """The two products with a softmax between."""

    scores: ir.Node
    result: ir.Node
    # The axes of both, as letters: of their operands and of what they give.
    of_scores: Terms
    of_result: Terms

    @classmethod
    def around(cls, softmax: ir.Node, probe: Probe) -> _Products:
        above = _first_others([softmax.inputs[0]], lambda value: [value.producer()], lambda node: node.inputs)
        products = [node for node in above if node.op_type in _PRODUCTS]
        users = _first_others(
            softmax.outputs, lambda value: [use.node for use in value.uses()], lambda node: node.outputs
        )
        if len(products) == len(users) == 1:
            of_scores, of_result = _terms(products[0], probe), _terms(users[0], probe)
            if of_scores is not None and of_result is not None:
                found = cls(products[0], users[0], of_scores, of_result)
                if found._are_of_attention():
                    return found
        raise NotStreamableError(
            softmax,
            "it normalises over time, as attention does, but not between one product of queries and keys and "
            "one with the values",
        )

    def _are_of_attention(self) -> bool:
        (query, key, scores), (weights, values, result) = self.of_scores, self.of_result
        i, j, step, summed = *scores[-2:], *weights[-2:]
        by_step = step in result and step not in values and summed in values and summed not in result
        return by_step and i in query and i not in key and j in key and j not in query

    @property
    def axes(self) -> tuple[int, int, int, int]:
        """Where queries, keys, values and the result have time."""
        (query, key, scores), (weights, values, result) = self.of_scores, self.of_result
        i, j, step, summed = *scores[-2:], *weights[-2:]
        return query.index(i), key.index(j), values.index(summed), result.index(step)


def _terms(node: ir.Node, probe: Probe) -> Terms | None:
    """Return the axes of a product's two operands and its result as letters, as Einsum has them."""
    if node.op_type == "MatMul":
        ranks = [len(probe.shape_of(value)) for value in node.inputs]
        outer = "abcdefgh"[: max(ranks) - 2]
        if min(ranks) < 2:
            return None
        return (
            f"{outer[len(outer) - ranks[0] + 2 :]}xy",
            f"{outer[len(outer) - ranks[1] + 2 :]}yz",
            f"{outer}xz",
        )
    equation = node.attributes.get_string("equation", "").replace(" ", "")
    terms = equation.replace("->", ",").split(",")
    plain = node.op_type == "Einsum" and "->" in equation and "." not in equation
    return (terms[0], terms[1], terms[2]) if plain and len(terms) == 3 else None


def _first_others(
    values: Iterable[ir.Value | None],
    neighbours: Callable[[ir.Value], Iterable[ir.Node | None]],
    onwards: Callable[[ir.Node], Iterable[ir.Value | None]],
) -> list[ir.Node]:
    """Return the first nodes, on one side of some values, that don't treat every element alone."""
    seen: dict[ir.Node, bool] = {}
    pending = list(values)
    while pending:
        value = pending.pop()
        for node in () if value is None else neighbours(value):
            if node is not None and node not in seen:
                seen[node] = is_standard(node) and node.op_type in _ALONE
                pending += onwards(node) if seen[node] else ()
    return [node for node, alone in seen.items() if not alone]


def _window_of(softmax: ir.Node, products: _Products, reader: MaskReader, max_frames: int | None) -> Window:
    before, after = softmax.inputs[0], products.result.inputs[0]
    assert before is not None and after is not None
    scores = reader.read(before, reader.natural_axes(before))
    axes = reader.natural_axes(after)
    weights = reader.read(after, axes)
    left, right = _reach(products.scores, scores, weights, max_frames)
    nodes = (products.scores, products.result)
    terms = products.of_scores, products.of_result
    return Window(left, right, scores, weights, len(axes), nodes, products.axes, terms, max_frames)


def _put(graph: ir.Graph, old: ir.Node, inputs: Sequence[ir.Value | None], key: str, held: object) -> None:
    """Put a node in the place of another, to whose output it gives its name."""
    node = ir.Node(DOMAIN, OP_TYPE, inputs, num_outputs=1, name=old.name)
    node.meta[key] = held
    before, after = old.outputs[0], node.outputs[0]
    name, before.name = before.name, f"{before.name}.before"
    after.name, after.shape, after.type = name, before.shape, before.type
    graph.insert_before(old, node)
    before.replace_all_uses_with(after, replace_graph_outputs=True)


def _reach(
    node: ir.Node, scores: Expression, weights: Expression, max_frames: int | None
) -> tuple[int | None, int]:
    """Return how many steps before and after its own a query sees."""
    band = _seen(scores)
    nothing = cases_of(weights, {"probabilities": constant(np.zeros(1))})
    if band.high == inf or band.empty or any(case.bounds != (0, 0) for case in nothing):
        raise NotStreamableError(
            node,
            "it looks at the whole time axis: every step meets every other, as in attention. It would "
            "stream with a window for the attention: a mask that lets a step see so many around it",
        )
    right = max(0, int(band.high))
    if band.low > -inf:
        return max(0, -int(band.low)), right
    if max_frames is None:
        raise NotStreamableError(
            node,
            "every step looks back to the utterance's start, so its keys and values grow without bound. With "
            "max_frames, the frames of the longest utterance, they are kept; with a window for the attention "
            "none would grow (one that has a window may show it only if exported with a longer example)",
        )
    return None, right


def _seen(scores: Expression) -> Band:
    """Return the band of distances outside of which nothing counts."""
    leaves: dict[str, Cases] = {"scores": constant(np.array([-LARGEST_SCORE, LARGEST_SCORE + 0.5]))}
    own = [
        case.bounds[0]
        for case in cases_of(scores, leaves, diagonal=True)
        if case.band.low <= 0 <= case.band.high
    ]
    least = min(own, default=-inf)
    # Where a query may not see even itself, only minus infinity is below all that it may see.
    return where_above(cases_of(scores, leaves), least - VANISHES if isfinite(least) else -inf)
