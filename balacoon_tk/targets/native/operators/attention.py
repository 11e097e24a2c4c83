"""Attention of which is known how far it sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.attention.distances import DistanceError, distance_biases
from balacoon_tk.graph.attention.fuse import DOMAIN, OP_TYPE
from balacoon_tk.graph.attention.windows import WINDOW, Window
from balacoon_tk.runtime.native.program import Stage
from balacoon_tk.targets.native.errors import NotNativeError
from balacoon_tk.targets.native.operators.base import Context, operator
from balacoon_tk.targets.native.views import View


@operator(OP_TYPE, domain=DOMAIN)
def _attend(ctx: Context) -> list[View]:
    window = ctx.node.meta[WINDOW]
    assert isinstance(window, Window)
    try:
        found = distance_biases(window, ctx.model)
    except DistanceError as error:
        _refuse(window, str(error))
    layout = _Layout.of(ctx, window)
    n_heads = layout.n_heads
    if len(found.biases) not in (1, n_heads):
        _refuse(window, "biases are of other heads than the queries")
    queries, keys, values = (ctx.view(k).take(order) for k, order in enumerate(layout.read))
    # Queries are fewer numbers than their products.
    if found.factor != 1:
        queries = ctx.builder.function("mul", [queries, found.factor], ctx.name)
    biases = None
    if found.biases.any():
        of_heads = np.broadcast_to(found.biases, (n_heads, *found.biases.shape[1:]))
        biases = ctx.builder.array(of_heads, f"{ctx.name}.biases")
    shape = n_heads, layout.n_in, layout.n_channels
    context = {"left_context": window.left, "right_context": window.right, "distance_biases": biases}
    result = attention(ctx, shape, queries, keys, values, **context)
    return [result.take(np.argsort(layout.made))]


def _refuse(window: Window, reason: str) -> NoReturn:
    # By a node of the graph that the user has: this one stands for all of an attention.
    raise NotNativeError(window.products[1], f"in its attention {reason}")


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """Where the channels of an attention's tensors lie: those of a head behind each other, head by head."""

    n_heads: int
    n_in: int
    n_channels: int
    read: tuple[AnyArray, ...]
    """Of queries, keys and values."""
    made: AnyArray
    """Of the result."""

    @classmethod
    def of(cls, ctx: Context, window: Window) -> _Layout:
        """Return that of a node, by the letters of its products."""
        (query, key, scores), (weights, values, result) = window.terms
        # Where the weights have the axes that the scores have.
        renamed = dict(zip(weights, scores, strict=True))
        heads = scores[:-2]
        terms = [query, key, *("".join(renamed.get(c, c.upper()) for c in term) for term in (values, result))]
        tensors = [*ctx.node.inputs[:3], ctx.node.outputs[0]]
        orders, sizes = [], []
        for term, axis, value in zip(terms, window.axes, tensors, strict=True):
            letters, shape = term[:axis] + term[axis + 1 :], ctx.channel_shape(value)
            inner = [c for c in letters if c not in heads]
            if len(inner) != 1:
                _refuse(window, "queries, keys and values don't lie as the native engine reads them")
            places = np.arange(math.prod(shape)).reshape(shape)
            present = [c for c in heads if c in letters]
            orders.append(places.transpose([letters.index(c) for c in (*present, *inner)]).reshape(-1))
            sizes.append(
                (math.prod(shape[letters.index(c)] for c in present), shape[letters.index(inner[0])])
            )
        (n_heads, n_in), *_, (_, n_channels) = sizes
        if any(n != n_heads for n, _ in sizes):
            _refuse(window, "queries, keys and values aren't of the same heads")
        return cls(n_heads, n_in, n_channels, tuple(orders[:3]), orders[3])


def attention(ctx: Context, shape: tuple[int, int, int], *read: View, **fields: Any) -> View:
    """Begin an "attend" stage of queries, keys and values, each with the channels of all heads.

    `shape` are the heads, and the channels of each one's queries and values; `fields` are of the stage.
    """
    n_heads, n_in, n_channels = shape
    queries, keys, values = (ctx.builder.gathered(view, ctx.name) for view in read)
    stage = Stage(
        kind="attend",
        name=ctx.name,
        source=None,
        n_channels=n_heads * n_channels,
        n_groups=n_heads,
        n_in=n_in,
        others=(ctx.builder.place_of(keys, ctx.name), ctx.builder.place_of(values, ctx.name)),
        **fields,
    )
    return ctx.builder.window(stage, queries, queries.rate)
