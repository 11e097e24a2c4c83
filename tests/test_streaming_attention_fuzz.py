"""Attention under random masks: each streams exactly, or is refused. Nothing in between."""

from __future__ import annotations

import os

import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from balacoon_tk.export import NotStreamableError
from streaming_laws import Streamed, assert_same, stream
from test_streaming_attention import attention, ramp
from tiny_graphs import TinyGraph

N_EXAMPLES = int(os.environ.get("STREAMING_FUZZ_EXAMPLES", "0"))
"""Masks to try, others in each run; without it the same 60 always."""


class Maker:
    """Draws what a mask is computed of."""

    def __init__(self, draw: st.DrawFn, g: TinyGraph, x: str) -> None:
        self.draw, self.g, self.x = draw, g, x

    def one_of(self, *choices: str) -> str:
        return self.draw(st.sampled_from(choices))

    def number(self, depth: int) -> str:
        kind = self.one_of(
            "query",
            "key",
            "key",
            "query",
            *(["shifted", "block", "distance", "rest", "bounded"] * (depth > 0)),
        )
        if kind in ("query", "key"):
            return ramp(self.g, self.x, axis=int(kind == "query"))
        if kind == "distance":
            parts = (self.number(depth - 1), self.number(depth - 1))
            distance = self.g.op("Sub", *parts)
            return self.g.op("Abs", distance) if self.draw(st.booleans()) else distance
        inner, n = self.number(depth - 1), self.draw(st.integers(1, 6))
        op_type = {
            "shifted": self.one_of("Add", "Sub"),
            "block": "Div",
            "rest": "Mod",
            "bounded": self.one_of("Max", "Min"),
        }[kind]
        return self.g.op(op_type, inner, self.g.const(n))

    def condition(self, depth: int) -> str:
        kind = self.one_of("compare", "compare", *(["And", "And", "Or", "Not", "triangle"] * (depth > 0)))
        if kind == "compare":
            op_type = self.one_of("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal")
            left = self.number(2)
            right = (
                self.number(2) if self.draw(st.booleans()) else self.g.const(self.draw(st.integers(-6, 6)))
            )
            return self.g.op(op_type, left, right)
        if kind == "Not":
            return self.g.op("Not", self.condition(depth - 1))
        if kind == "triangle":
            n = self.g.length(self.x)
            shape = self.g.op("Concat", n, n, axis=0)
            full = self.g.op("Expand", self.condition(depth - 1), shape)
            whole = self.g.op("Cast", full, to=TensorProto.FLOAT)
            offset = self.g.const(self.draw(st.integers(-4, 4)))
            kept = self.g.op("Trilu", whole, offset, upper=self.draw(st.integers(0, 1)))
            return self.g.op("Greater", kept, self.g.number(0.5))
        return self.g.op(kind, self.condition(depth - 1), self.condition(depth - 1))


@st.composite
def models(draw: st.DrawFn):
    def masked(g: TinyGraph, x: str, scores: str) -> str:
        maker = Maker(draw, g, x)
        seen = maker.condition(2)
        if draw(st.integers(0, 3)):
            # Most masks on their own see too much.
            i, j = ramp(g, x, axis=1), ramp(g, x, axis=0)
            bound = g.op("LessOrEqual", g.op("Abs", g.op("Sub", i, j)), g.const(draw(st.integers(0, 6))))
            seen = g.op(draw(st.sampled_from(["And", "And", "Or"])), seen, bound)
        if not draw(st.integers(0, 5)):
            # Some scores may be what the mask says.
            scores = g.op("Where", maker.condition(1), scores, g.number(0.3))
        lowest = draw(st.sampled_from([-np.inf, -1e9]))
        if draw(st.booleans()):
            return g.op("Where", seen, scores, g.number(lowest))
        return g.op("Add", scores, g.op("Where", seen, g.number(0), g.number(lowest)))

    return attention(masked)


@settings(
    max_examples=N_EXAMPLES or 60,
    derandomize=not N_EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(models(), st.booleans())
def test_attention_under_any_mask_streams_exactly_or_is_refused(model, limited: bool) -> None:
    try:
        pair = Streamed(model, max_frames=64 if limited else None)
    except NotStreamableError as error:
        event(error.reason[:40])
        return
    event("streams")
    lag = pair.spec.min_first_frames - 1
    for n_frames in (1, lag + 1, lag + 19):
        feeds = pair.feeds(n_frames, seed=n_frames)
        wanted = pair.run_whole(feeds)
        for pushes in ([n_frames], [1] * n_frames, [3] * (n_frames // 3) + [n_frames % 3]):
            got = stream(pair, feeds, pushes)
            # A query that sees nothing has no numbers, here and there.
            assert all(np.array_equal(np.isnan(got[name]), np.isnan(wanted[name])) for name in wanted)
            assert_same(clean(got), clean(wanted), tolerance=2e-5, note=(n_frames, pushes))


def clean(arrays):
    return {name: np.nan_to_num(array) for name, array in arrays.items()}
