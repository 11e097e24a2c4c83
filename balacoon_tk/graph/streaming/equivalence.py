"""A rewritten graph is believed after it has run against the original, cut in many ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, log10

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.graph.probe import graph_inputs, make_feeds
from balacoon_tk.graph.time_inputs import find_time_inputs
from balacoon_tk.runtime.engine import Engine
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session

# Largest difference of a streamed to a whole sample that is put down to floating point.
TOLERANCE = 2e-5

_LEAST_SNR_DB = 40.0
"""Of rounded graphs; a layer of many that isn't rounded gives 10 to 30, and equal rounding more than 100."""
_SHORT, _N_DRAWS = (1, 2, 5, 13), 5


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
    streaming: onnx.ModelProto | Engine,
    *,
    utterances: Sequence[Mapping[str, AnyArray]] | None = None,
    draw: Callable[[int, int], Mapping[str, AnyArray]] | None = None,
    time_inputs: Mapping[str, int] | None = None,
    tolerance: float = TOLERANCE,
    max_frames: int | None = None,
    own_tolerance: float | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> StreamingCheck:
    """Stream utterances through a stateful graph or an engine in many ways; compare with the original's run.

    The chunks are of 1 frame, 7, the lag, the lag and one, 64, mixed sizes with empty pushes in
    between, the whole utterance, and the whole utterance with an empty last push.

    Random utterances are made in any case: by `draw`, of a number of frames and a seed, or else of standard
    normal values, which may be far from what the graph was trained on. More can be given, with time on the
    last axis. None is run that is longer than `max_frames`. `progress` is called with the share of the
    comparisons that is done. A ModelError says that lengths differ, or that a sample differs by more than
    `tolerance` or isn't a number; with `own_tolerance` also that one differs by more than that from the whole
    run of what streams.
    """
    for name, given in (("tolerance", tolerance), ("own_tolerance", own_tolerance)):
        if given is not None and given < 0:
            raise ParameterError(f"{name}={given} must be >= 0")
    if max_frames is not None and max_frames < 1:
        raise ParameterError(f"max_frames={max_frames} must be >= 1")
    graph = OrtEngine(streaming) if isinstance(streaming, onnx.ModelProto) else streaming
    spec = graph.contract.streaming
    if spec is None:
        raise ModelError("the second graph must be stateful: make_streaming makes one")
    reference = _Reference(original, time_inputs)
    lag_frames = max(1, *(ceil(output.lag / output.hop_length) for output in spec.outputs))
    steps = {item.name: item.steps_per_frame for item in spec.inputs}
    rng = np.random.default_rng(seed)
    # One frame, fewer than the lag, just more, and enough for every cut: each end of the books is met.
    wanted = (1, max(2, lag_frames // 2), lag_frames + 1, lag_frames + 71)
    lengths = tuple(dict.fromkeys(n if max_frames is None else min(n, max_frames) for n in wanted))
    make = draw or reference.random
    cases = [dict(make(n, seed + k)) for k, n in enumerate(lengths)]
    cases += [dict(utterance) for utterance in utterances or ()]
    worst = worst_whole = 0.0
    n_runs = 0
    for k, feeds in enumerate(cases):
        if progress is not None:
            progress(k / len(cases))
        checked = graph.contract.check(feeds)
        n_frames = graph.contract.n_frames(checked)
        if max_frames is not None and n_frames > max_frames:
            continue
        try:
            expected = reference.run(feeds)
        except ModelError:
            # A reflection needs a few steps: what the original can't decode is nobody's to decode.
            if k >= len(lengths) - 1:
                raise
            continue
        own = None if own_tolerance is None else graph.whole(checked)
        for label, sizes in _cuts(n_frames, lag_frames, rng):
            streamed = _stream(graph, steps, feeds, sizes)
            difference = _difference(streamed, expected, label)
            _accept(
                difference, tolerance, f"streamed in {label}, {n_frames} frames differ from the whole run"
            )
            if own is not None and own_tolerance is not None:
                what = f"streamed in {label}, {n_frames} frames differ from the engine's own whole run"
                _accept(_difference(streamed, own, label), own_tolerance, what)
            worst, n_runs = max(worst, difference), n_runs + 1
            if label == "one push":
                worst_whole = max(worst_whole, difference)
    return StreamingCheck(worst, worst_whole, n_runs)


def verify_rounding(
    original: onnx.ModelProto,
    compiled: onnx.ModelProto,
    *,
    draw: Callable[[int, int], Mapping[str, AnyArray]] | None = None,
) -> None:
    """Run a graph in int8 as a target computes it beside the plain one, on short utterances.

    Where two kernels differ in their last bits, a number on the edge between two steps now and then goes to
    the other one, and each such flip makes more of them in the layers behind: over seconds of speech graphs
    that round alike are far apart. Within few frames there mostly is none, so one draw of several has to
    agree at each length.

    Parameters
    ----------
    original, compiled : ModelProto
        The plain graph, with QDQ pairs, and what was made of it; both without state.
    draw : callable, optional
        As for `verify_streaming`.

    Raises
    ------
    ModelError
        If they differ more than rare flips explain.
    """
    plainly, fast = _Reference(original, None), _Reference(compiled, None)
    for n_frames in _SHORT:
        draws = [dict((draw or plainly.random)(n_frames, seed)) for seed in range(_N_DRAWS)]
        best = max(_snr_db(plainly.run(feeds), fast.run(feeds)) for feeds in draws)
        if not best >= _LEAST_SNR_DB:
            raise ModelError(
                f"in int8, {n_frames} frames have an SNR of {best:.1f} dB to the plain graph: "
                f"must be >= {_LEAST_SNR_DB:g}"
            )


def _snr_db(ours: Mapping[str, AnyArray], theirs: Mapping[str, AnyArray]) -> float:
    """Return the lowest ratio of an output's power to that of its difference; -inf if shapes differ."""
    ratios = []
    for name, array in ours.items():
        if array.shape != theirs[name].shape:
            return -inf
        noise = float(np.square(array.astype(np.float64) - theirs[name]).sum())
        signal = float(np.square(array, dtype=np.float64).sum())
        ratios.append(inf if noise == 0.0 else 10 * log10(max(signal, 1e-30) / noise))
    return min(ratios)


class _Reference:
    """The original graph, run on inputs that have time on their last axis."""

    def __init__(self, original: onnx.ModelProto, time_inputs: Mapping[str, int] | None) -> None:
        model = ir.from_proto(original)
        self._inputs, self._values = find_time_inputs(model, time_inputs), graph_inputs(model)
        self._axes, self._session = self._inputs.axes, Session(original)

    def random(self, n_frames: int, seed: int) -> dict[str, AnyArray]:
        feeds = make_feeds(self._values, self._axes, self._inputs.steps_per_frame, n_frames, seed=seed)
        return self._turned(feeds, lambda axis: (axis, -1))

    def run(self, feeds: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        outputs = self._session.run(self._turned(feeds, lambda axis: (-1, axis)))
        return {name: np.moveaxis(a, self._time_axis(name), -1) for name, a in outputs.items()}

    def _turned(
        self, feeds: Mapping[str, AnyArray], way: Callable[[int], tuple[int, int]]
    ) -> dict[str, AnyArray]:
        return {n: np.moveaxis(a, *way(self._axes[n])) if n in self._axes else a for n, a in feeds.items()}

    def _time_axis(self, output: str) -> int:
        sizes = zip(*self._inputs.probe.shapes[output], strict=True)
        return next(axis for axis, seen in enumerate(sizes) if len(set(seen)) > 1)


def _cuts(n_frames: int, lag_frames: int, rng: np.random.Generator) -> Iterator[tuple[str, list[int]]]:
    """Yield ways to cut an utterance: a name, and the number of frames of each push."""
    for size in dict.fromkeys((1, 7, lag_frames, lag_frames + 1, 64)):
        if size < n_frames:
            yield f"chunks of {size}", [size] * (n_frames // size) + [n_frames % size]
    # Some of 0 frames: a push may bring nothing, and that must change nothing.
    sizes: list[int] = []
    while sum(sizes) < n_frames:
        sizes.append(min(int(rng.integers(0, 40)), n_frames - sum(sizes)))
    yield "mixed chunks", sizes
    yield "one push and an empty last one", [n_frames, 0]
    yield "one push", [n_frames]


def _accept(difference: float, tolerance: float, what: str) -> None:
    # Not `difference > tolerance`, which is false of NaN.
    if not difference <= tolerance:
        raise ModelError(f"{what} by {difference:.3g}: must be <= {tolerance:g}")


def _stream(
    graph: Engine, steps: Mapping[str, int], feeds: Mapping[str, AnyArray], sizes: Sequence[int]
) -> dict[str, AnyArray]:
    """Push an utterance in chunks of some sizes and return all that comes out."""
    decoder = StatefulDecoder(graph)
    pieces: dict[str, list[AnyArray]] = {name: [] for name in graph.contract.outputs}
    position = 0
    for k, size in enumerate(sizes):
        cuts = {name: array[..., position * steps[name] :] for name, array in feeds.items() if name in steps}
        push = {**feeds, **{name: array[..., : size * steps[name]] for name, array in cuts.items()}}
        given = decoder.push(push, last=k == len(sizes) - 1)
        for name, samples in given.items() if isinstance(given, dict) else ((next(iter(pieces)), given),):
            pieces[name].append(samples)
        position += size
    return {name: np.concatenate(parts, axis=-1) for name, parts in pieces.items()}


def _difference(outputs: Mapping[str, AnyArray], expected: Mapping[str, AnyArray], label: str) -> float:
    """Return the largest difference of a sample; `ModelError` if lengths differ."""
    worst = 0.0
    for name, streamed in outputs.items():
        whole = expected[name]
        if streamed.size != whole.size:
            raise ModelError(
                f"streamed in {label}, output {name!r} has {streamed.shape[-1]} steps, whole {whole.shape}"
            )
        if whole.size:
            worst = max(worst, float(np.abs(streamed.astype(np.float64) - whole).max()))
            # NaN compares as smaller than everything, which would pass.
            worst = worst if np.isfinite(worst) else float("inf")
    return worst
