"""Random graphs in the native engine: each gives what ONNX Runtime gives, or is refused."""

from __future__ import annotations

import os

import onnx
from hypothesis import HealthCheck, Phase, event, given, note, settings
from hypothesis import strategies as st

from balacoon_tk.errors import ModelError
from balacoon_tk.export import NotStreamableError
from balacoon_tk.targets.native import NotNativeError
from native_laws import NativePair, assert_same_bits, push_native, trail
from streaming_laws import assert_same
from test_streaming_attention_fuzz import models as attentions
from test_streaming_fuzz import described, loads, models

N_EXAMPLES = int(os.environ.get("STREAMING_FUZZ_EXAMPLES", "0"))
"""Graphs to try, others in each run; without it the same 150 always."""

TOLERANCE = 2e-5
LONGEST_WINDOW = 8
"""Of a random operator, in frames in front of the first one it makes: the lag counts those behind."""


def examples(n: int) -> settings:
    return settings(
        max_examples=N_EXAMPLES or n,
        derandomize=not N_EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        print_blob=True,
    )


@examples(150)
@given(models(), st.data())
def test_a_random_graph_runs_natively_or_is_refused(made, data: st.DataObject) -> None:
    model, shortest = made
    note(described(model))
    check(model, shortest, data)


@examples(60)
@given(attentions(), st.data())
def test_attention_under_any_mask_runs_natively_or_is_refused(model, data: st.DataObject) -> None:
    check(model, 1, data)


def check(model: onnx.ModelProto, shortest: int, data: st.DataObject) -> None:
    """Check a graph at lengths and in pushes that are drawn."""
    try:
        pair = NativePair(model)
    except NotNativeError as error:
        event(f"refused: {error.op_type}: {error.reason[:60]}")
        return
    except NotStreamableError as error:
        event(f"not streamable: {error.op_type}")
        return
    except ModelError as error:
        event(f"error: {str(error)[:60]}")
        assert "runs at none of the lengths" in str(error) or not loads(model), error
        return
    event("native")
    streaming = pair.engine.contract.streaming
    assert streaming is not None
    lag = int(max(-(-item.lag // max(item.hop_length, 1)) for item in streaming.outputs)) + 1
    for drawn in (data.draw(st.integers(1, lag + 3)), lag + data.draw(st.integers(0, 30))):
        n_frames = max(drawn, shortest)
        feeds = pair.feeds(n_frames, seed=n_frames)
        pushes: list[int] = []
        while (left := n_frames - sum(pushes)) > 0:
            pushes.append(min(left, data.draw(st.sampled_from([1, 2, 3, 5, 0, 8, 13, lag]))))
        pushes += [0] if data.draw(st.booleans()) else []
        try:
            wanted = pair.reference(feeds)
        except ModelError:
            for way in ([n_frames], pushes):
                try:
                    got = push_native(pair.engine, pair.time_last(feeds), way)
                except ModelError:
                    continue
                raise AssertionError(f"whole run of {n_frames} fails, {way} gives {got}") from None
            continue
        feeds = pair.time_last(feeds)
        try:
            whole = pair.engine.whole(feeds)
        except ModelError as error:
            # Where a window has no room, some operators give no steps; the engine takes all for errors.
            assert n_frames <= lag + LONGEST_WINDOW, error
            assert "too short" in str(error), error
            continue
        assert_same(whole, wanted, tolerance=TOLERANCE, note=n_frames)
        for way in (pushes, [1] * n_frames):
            assert_same_bits(push_native(pair.engine, feeds, way), whole, (n_frames, way))
    n_frames = lag + 12
    found = trail(pair.engine, pair.time_last(pair.feeds(n_frames)), n_frames)
    assert all(found[item.name] <= item.lag for item in streaming.outputs), (found, streaming.outputs)
