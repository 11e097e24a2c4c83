"""A rewritten graph is believed after it has run against the original, cut in many ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.graph.probe import graph_inputs, make_feeds
from balacoon_tk.graph.time_inputs import find_time_inputs
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session

TOLERANCE = 2e-5
"""Largest difference of a streamed to a whole sample that is put down to floating point."""


@dataclass(frozen=True, slots=True)
class StreamingCheck:
    """What was seen when a stateful graph ran against the original."""

    max_abs_diff: float
    """Largest difference of any sample, over all cuts of all utterances."""
    max_abs_diff_whole: float
    """The same, for utterances pushed whole; 0.0 where the arithmetic is the same."""
    n_runs: int
    """Utterances times ways to cut them."""


def verify_streaming(
    original: onnx.ModelProto,
    streaming: onnx.ModelProto,
    *,
    utterances: Sequence[Mapping[str, AnyArray]] | None = None,
    draw: Callable[[int, int], Mapping[str, AnyArray]] | None = None,
    time_inputs: Mapping[str, int] | None = None,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> StreamingCheck:
    """Stream utterances through the stateful graph in many ways and compare with the original's run.

    The chunks are of 1 frame, 7, the lag, the lag and one, 64, mixed sizes with empty pushes in
    between, the whole utterance, and the whole utterance with an empty last push.

    Parameters
    ----------
    original, streaming : ModelProto
        The graph as it was, and as `make_streaming` has rewritten it.
    utterances : sequence of mapping of str to ndarray, optional
        Inputs of whole utterances, time on the last axis; random ones are made in any case.
    draw : callable, optional
        Makes a random utterance such as the graph was trained on, of a number of frames and by a seed;
        standard normal values, which may be far from them, if None.
    time_inputs : mapping of str to int, optional
        As for `make_streaming`.
    tolerance : float
        Largest difference that passes.
    seed : int
        Of the random utterances and the mixed sizes.
    progress : callable, optional
        Called with the share of the comparisons that is done.

    Raises
    ------
    ModelError
        If lengths differ, or a sample differs by more than `tolerance` or isn't a number.
    """
    if tolerance < 0:
        raise ParameterError(f"tolerance={tolerance} must be >= 0")
    graph = OrtEngine(streaming)
    reference = _Reference(original, time_inputs)
    lag_frames = reference.lag_frames(graph)
    rng = np.random.default_rng(seed)
    lengths = (1, max(2, lag_frames // 2), lag_frames + 1, lag_frames + 71)
    make = draw or reference.random
    cases = [dict(make(n, seed + k)) for k, n in enumerate(lengths)]
    cases += [dict(utterance) for utterance in utterances or ()]
    worst = worst_whole = 0.0
    n_runs = 0
    for k, feeds in enumerate(cases):
        if progress is not None:
            progress(k / len(cases))
        expected = reference.run(feeds)
        n_frames = graph.contract.n_frames(graph.contract.check(feeds))
        for label, sizes in _cuts(n_frames, lag_frames, rng):
            difference = _compare(graph, feeds, sizes, expected, label)
            if not difference <= tolerance:
                raise ModelError(
                    f"streamed in {label}, {n_frames} frames differ from the whole run by {difference:.3g}: "
                    f"must be <= {tolerance:g}"
                )
            worst, n_runs = max(worst, difference), n_runs + 1
            if label == "one push":
                worst_whole = max(worst_whole, difference)
    return StreamingCheck(worst, worst_whole, n_runs)


class _Reference:
    """The original graph, run on inputs that have time on their last axis."""

    def __init__(self, original: onnx.ModelProto, time_inputs: Mapping[str, int] | None) -> None:
        model = ir.from_proto(original)
        self._inputs = find_time_inputs(model, time_inputs)
        self._values = graph_inputs(model)
        self._session = Session(original)

    def lag_frames(self, graph: OrtEngine) -> int:
        streaming = graph.streaming
        if streaming is None:
            raise ModelError("the second graph must be stateful: make_streaming makes one")
        return max(1, *(ceil(output.lag / output.hop_length) for output in streaming.outputs))

    def random(self, n_frames: int, seed: int) -> dict[str, AnyArray]:
        feeds = make_feeds(self._values, self._inputs.axes, self._inputs.steps_per_frame, n_frames, seed=seed)
        axes = self._inputs.axes
        return {
            name: np.moveaxis(array, axes[name], -1) if name in axes else array
            for name, array in feeds.items()
        }

    def run(self, feeds: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        axes, shapes = self._inputs.axes, self._inputs.probe.shapes
        outputs = self._session.run(
            {name: np.moveaxis(a, -1, axes[name]) if name in axes else a for name, a in feeds.items()}
        )
        return {name: np.moveaxis(a, _varying_axis(shapes[name]), -1) for name, a in outputs.items()}


def _varying_axis(shapes: Sequence[tuple[int, ...]]) -> int:
    return next(axis for axis, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1)


def _cuts(n_frames: int, lag_frames: int, rng: np.random.Generator) -> Iterator[tuple[str, list[int]]]:
    """Yield ways to cut an utterance: a name, and the number of frames of each push."""
    for size in dict.fromkeys((1, 7, lag_frames, lag_frames + 1, 64)):
        if size < n_frames:
            yield f"chunks of {size}", [size] * (n_frames // size) + [n_frames % size]
    sizes: list[int] = []
    while sum(sizes) < n_frames:
        sizes.append(min(int(rng.integers(0, 40)), n_frames - sum(sizes)))
    yield "mixed chunks", sizes
    yield "one push and an empty last one", [n_frames, 0]
    yield "one push", [n_frames]


def _compare(
    graph: OrtEngine,
    feeds: Mapping[str, AnyArray],
    sizes: Sequence[int],
    expected: Mapping[str, AnyArray],
    label: str,
) -> float:
    streaming = graph.streaming
    steps = {} if streaming is None else {item.name: item.steps_per_frame for item in streaming.inputs}
    decoder = StatefulDecoder(graph)
    pieces: dict[str, list[AnyArray]] = {name: [] for name in graph.contract.outputs}
    position = 0
    for k, size in enumerate(sizes):
        push = {
            name: array[..., position * steps[name] : (position + size) * steps[name]]
            if name in steps
            else array
            for name, array in feeds.items()
        }
        given = decoder.push(push, last=k == len(sizes) - 1)
        for name, samples in given.items() if isinstance(given, dict) else ((next(iter(pieces)), given),):
            pieces[name].append(samples)
        position += size
    worst = 0.0
    for name, parts in pieces.items():
        streamed = np.concatenate(parts, axis=-1)
        whole = expected[name]
        if streamed.size != whole.size:
            raise ModelError(
                f"streamed in {label}, output {name!r} has {streamed.shape[-1]} steps, whole {whole.shape}"
            )
        if whole.size:
            worst = max(worst, float(np.abs(streamed.astype(np.float64) - whole).max()))
            worst = worst if np.isfinite(worst) else float("inf")
    return worst
