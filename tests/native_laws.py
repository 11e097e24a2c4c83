"""The laws of the native engine: it gives what ONNX Runtime gives, and the same bits for any pushes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.errors import ModelError
from balacoon_tk.graph.analysis import Analysis
from balacoon_tk.graph.prepare import analyse_model
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.native.program import Program
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.native import compile_native
from balacoon_tk.targets.native.lengths import with_lags
from streaming_laws import assert_same, random_feeds, schedules

__all__ = ["ONE_THREAD", "NativePair", "assert_native", "assert_same_bits", "push_native", "trail"]

ONE_THREAD = RuntimeOptions(n_threads=1)

TOLERANCE = 1e-5
"""Of the largest value: the engine sums in another order than ONNX Runtime."""

Feeds = Mapping[str, np.ndarray]


@dataclass(slots=True)
class NativePair:
    """A model in ONNX Runtime, whole, beside its native program."""

    model: onnx.ModelProto
    time_inputs: Mapping[str, int] | None = None
    n_tokens: int = 5
    n_threads: int = 1
    program: Program = field(init=False)
    engine: NativeEngine = field(init=False)
    analysis: Analysis = field(init=False)
    session: Session = field(init=False)

    def __post_init__(self) -> None:
        given = None if self.time_inputs is None else dict(self.time_inputs)
        self.program = compile_native(self.model, time_inputs=given)
        self.engine = NativeEngine(self.program, RuntimeOptions(n_threads=self.n_threads))
        self.analysis = analyse_model(self.model, time_inputs=given)
        self.session = Session(self.model, ONE_THREAD)

    def feeds(self, n_frames: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Random inputs, their axes where the model has them."""
        inputs = self.analysis.inputs
        return random_feeds(
            self.session, inputs.axes, inputs.steps_per_frame, n_frames, seed=seed, n_tokens=self.n_tokens
        )

    def time_last(self, feeds: Feeds) -> dict[str, np.ndarray]:
        """Inputs as the engine takes them."""
        axes = self.analysis.inputs.axes
        arrays = {
            name: np.ascontiguousarray(np.moveaxis(array, axes[name], -1)) if name in axes else array
            for name, array in feeds.items()
        }
        # Whole numbers of any width are int64 for the engine.
        return {
            name: array.astype(np.int64) if array.dtype.kind == "i" else array
            for name, array in arrays.items()
        }

    def reference(self, feeds: Feeds) -> dict[str, np.ndarray]:
        """What ONNX Runtime gives, with time on the last axis."""
        return {
            name: np.moveaxis(array, self.analysis.timelines[name].axis, -1)
            for name, array in self.session.run(feeds).items()
        }


def push_native(engine: NativeEngine, feeds: Feeds, pushes: Sequence[int]) -> dict[str, np.ndarray]:
    """Push so many frames at a time, the last of them as the last push; join what comes."""
    decoder = StatefulDecoder(engine)
    assert engine.contract.streaming is not None
    rates = {item.name: item.steps_per_frame for item in engine.contract.streaming.inputs}
    given: list[dict[str, np.ndarray]] = []
    position = 0
    for k, n_frames in enumerate(pushes):
        part = {
            name: array[..., position * rates[name] : (position + n_frames) * rates[name]]
            if name in rates
            else array
            for name, array in feeds.items()
        }
        position += n_frames
        samples = decoder.push(part, last=k == len(pushes) - 1)
        given.append(samples if isinstance(samples, dict) else {next(iter(engine.contract.outputs)): samples})
    return {name: np.concatenate([part[name] for part in given], axis=-1) for name in engine.contract.outputs}


def assert_same_bits(got: Feeds, wanted: Feeds, note: object = "") -> None:
    """Same shapes and values, exactly."""
    assert_same(got, wanted, tolerance=0, note=note)


def trail(engine: NativeEngine, feeds: Feeds, n_frames: int) -> dict[str, int]:
    """Push frame by frame; return by how many steps each output trails its input at most."""
    streaming = engine.contract.streaming
    assert streaming is not None
    rates = {item.name: item.steps_per_frame for item in streaming.inputs}
    state = engine.start()
    known = dict.fromkeys(engine.contract.outputs, 0)
    most = dict.fromkeys(known, 0)
    for k in range(n_frames):
        part = {
            name: array[..., k * rates[name] : (k + 1) * rates[name]] if name in rates else array
            for name, array in feeds.items()
        }
        outputs, state = engine.step(state, part, last=False)
        for item in streaming.outputs:
            known[item.name] += outputs[item.name].shape[-1]
            behind = int((k + 1) * item.hop_length) - known[item.name]
            most[item.name] = max(most[item.name], behind)
    return most


def assert_native(
    model: onnx.ModelProto,
    *,
    tolerance: float = TOLERANCE,
    time_inputs: Mapping[str, int] | None = None,
    n_tokens: int = 5,
    n_threads: int = 1,
) -> NativePair:
    """Check a model over lengths and pushes: ONNX Runtime's numbers, the bits of the whole run, the lag."""
    pair = NativePair(model, time_inputs, n_tokens, n_threads)
    streaming = pair.engine.contract.streaming
    assert streaming is not None
    # What is held back comes no later at the outputs.
    at_once = replace(pair.program, stages=tuple(replace(s, held_back=0) for s in pair.program.stages))
    assert with_lags(at_once).outputs == pair.program.outputs
    lag = max(-(-item.lag // max(item.hop_length, 1)) for item in streaming.outputs)
    longest = int(max(17, lag + 9))
    for n_frames in sorted({1, 2, 3, longest // 2, longest}):
        feeds = pair.feeds(n_frames, seed=n_frames)
        try:
            wanted = pair.reference(feeds)
        except ModelError:
            continue  # too short for it
        feeds = pair.time_last(feeds)
        try:
            whole = pair.engine.whole(feeds)
        except ModelError as error:
            # Where a window has no room, some operators give something; the engine takes all for errors.
            assert "too short" in str(error), n_frames
            assert n_frames < longest // 2, n_frames
            continue
        assert_same(whole, wanted, tolerance=tolerance, note=n_frames)
        for pushes in schedules(n_frames, int(lag), thorough=n_frames == longest):
            assert_same_bits(push_native(pair.engine, feeds, pushes), whole, (n_frames, pushes))
    n_frames = longest + 8
    found = trail(pair.engine, pair.time_last(pair.feeds(n_frames)), n_frames)
    assert found == {item.name: item.lag for item in streaming.outputs}
    return pair
