"""The law of streaming: whatever the pushes and whatever the plan, the output is that of the whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Literal
from unittest import mock

import numpy as np
import onnx

from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.errors import ModelError
from balacoon_tk.graph import streaming
from balacoon_tk.graph.analysis import Analysis
from balacoon_tk.graph.prepare import analyse_model
from balacoon_tk.graph.streaming.plan import CutPlan, Step, plan_cuts
from balacoon_tk.graph.streaming.segments import find_cuts, measure_segment, time_nodes
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session
from balacoon_tk.runtime.stateful_graph import StreamingSpec
from balacoon_tk.targets.ort_cpu.costs import OrtCpuCosts
from balacoon_tk.targets.ort_cpu.halves import find_halves
from balacoon_tk.targets.ort_cpu.optimize import optimize_decoder
from balacoon_tk.voice.guard.recurrences import GUARDED, guard_recurrences

__all__ = ["PLANS", "Streamed", "assert_streams", "force_plan", "random_feeds", "schedules", "stream"]

PlanKind = Literal["planned", "states", "segments", "longest segments", "halves", "mixed"]
PLANS: tuple[PlanKind, ...] = ("planned", "states", "segments", "longest segments", "halves")
Feeds = Mapping[str, np.ndarray]


def force_plan(analysis: Analysis, kind: PlanKind) -> CutPlan:
    """Make a plan that takes the same choice wherever there is one, or a random one each time."""
    if kind == "planned":
        return plan_cuts(analysis, chunk_frames=8, costs=OrtCpuCosts(in_halves=True))
    nodes = time_nodes(analysis)
    found = find_cuts(analysis, nodes)
    places = {0: next(iter(analysis.inputs.axes)), len(nodes): analysis.outputs[0]} | dict(found)
    real = dict(found)
    cuts = sorted(places.items())
    steps: list[Step] = []
    rng = np.random.default_rng(len(nodes))
    i = 0
    while i < len(cuts) - 1:
        (start, source), j, segment, form = cuts[i], i + 1, None, None
        to_the_end = len(cuts) - 1
        lasts = {"states": i, "segments": i + 1, "longest segments": to_the_end, "halves": to_the_end}
        last = lasts[kind] if kind in lasts else int(rng.integers(i, len(cuts)))
        for k in range(last, i, -1):
            stop, target = cuts[k]
            if start in real and stop in real:
                segment = measure_segment(analysis, nodes[start:stop], source, target)
                if segment is not None and kind == "halves":
                    form = find_halves(segment, analysis)
                    segment = None if form is None else segment
                if segment is not None:
                    j = k
                    break
        stop, target = cuts[j]
        steps.append(Step(tuple(nodes[start:stop]), segment, source, target, 0.0, 0.0, form))
        i = j
    return CutPlan(tuple(steps), 8)


def as_in_a_voice(model: onnx.ModelProto) -> onnx.ModelProto | bytes:
    """Guard recurrences: over an utterance that is too short they would end this process, and not a test."""
    if GUARDED.isdisjoint(node.op_type for node in model.graph.node):
        return model
    return guard_recurrences(model.SerializeToString())


def make_streaming(model: onnx.ModelProto, kind: PlanKind = "planned", **options: Any) -> onnx.ModelProto:
    """Call the real make_streaming, with the plan forced."""
    with mock.patch.object(streaming, "plan_cuts", lambda analysis, **_: force_plan(analysis, kind)):
        return streaming.make_streaming(model, **options)


@dataclass(slots=True)
class Streamed:
    """A model beside its stateful twin."""

    model: onnx.ModelProto
    kind: PlanKind = "planned"
    time_inputs: Mapping[str, int] | None = None
    n_tokens: int = 5
    max_frames: int | None = None
    optimize: bool = False
    """Whether the twin is made of the graph after all passes; the whole run is always the original's."""
    analysis: Analysis = field(init=False)
    plan: CutPlan = field(init=False)
    graph: OrtEngine = field(init=False)
    whole: Session = field(init=False)

    def __post_init__(self) -> None:
        given = None if self.time_inputs is None else dict(self.time_inputs)
        model = optimize_decoder(self.model, time_inputs=given).model if self.optimize else self.model
        self.analysis = analyse_model(model, time_inputs=given, max_frames=self.max_frames)
        self.whole = Session(as_in_a_voice(self.model), RuntimeOptions(n_threads=1))
        self._stream(self.kind)

    def twin(self, kind: PlanKind) -> Streamed:
        """The same with another plan."""
        other = copy(self)
        other._stream(kind)
        return other

    def _stream(self, kind: PlanKind) -> None:
        self.kind, self.plan = kind, force_plan(self.analysis, kind)
        with (
            mock.patch.object(streaming, "analyse_model", lambda *_, **__: self.analysis),
            mock.patch.object(streaming, "plan_cuts", lambda *_, **__: self.plan),
        ):
            twin = as_in_a_voice(streaming.make_streaming(self.model))
            self.graph = OrtEngine(twin, RuntimeOptions(n_threads=1))

    @property
    def spec(self):
        assert self.graph.streaming is not None
        return self.graph.streaming

    def feeds(self, n_frames: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Random inputs of the whole run, their axes where the original has them."""
        inputs = self.analysis.inputs
        return random_feeds(
            self.whole, inputs.axes, inputs.steps_per_frame, n_frames, seed=seed, n_tokens=self.n_tokens
        )

    def time_last(self, feeds: Feeds) -> dict[str, np.ndarray]:
        axes = self.analysis.inputs.axes
        return {
            name: np.ascontiguousarray(np.moveaxis(array, axes[name], -1)) if name in axes else array
            for name, array in feeds.items()
        }

    def run_whole(self, feeds: Feeds) -> dict[str, np.ndarray]:
        """The outputs of the original graph, with time on the last axis."""
        outputs = self.whole.run(feeds)
        return {
            name: np.moveaxis(array, self.analysis.timelines[name].axis, -1)
            for name, array in outputs.items()
        }

    def cut(self, feeds: Feeds, start: int, stop: int) -> dict[str, np.ndarray]:
        """Frames start to stop, with time on the last axis."""
        rates = self.analysis.inputs.steps_per_frame
        return {
            name: array[..., start * rates[name] : stop * rates[name]] if name in rates else array
            for name, array in feeds.items()
        }


def random_feeds(
    session: Session,
    axes: Mapping[str, int],
    steps_per_frame: Mapping[str, int],
    n_frames: int,
    *,
    seed: int,
    n_tokens: int,
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    feeds = {}
    for name, spec in session.inputs.items():
        shape = [n if isinstance(n, int) else 1 for n in spec.shape]
        if name in axes:
            shape[axes[name]] = n_frames * steps_per_frame[name]
        if spec.dtype.kind == "f":
            feeds[name] = rng.standard_normal(shape).astype(spec.dtype)
        else:
            feeds[name] = rng.integers(0, n_tokens, shape).astype(spec.dtype)
    return feeds


def as_dict(samples, graph: OrtEngine) -> dict[str, np.ndarray]:
    return samples if isinstance(samples, dict) else {next(iter(graph.contract.outputs)): samples}


def stream(pair: Streamed, feeds: Feeds, pushes: Sequence[int]) -> dict[str, np.ndarray]:
    """Push so many frames at a time, the last of them as the last push; join what comes."""
    decoder = StatefulDecoder(pair.graph)
    feeds = pair.time_last(feeds)
    given: list[dict[str, np.ndarray]] = []
    position = 0
    for k, n_frames in enumerate(pushes):
        part = pair.cut(feeds, position, position + n_frames)
        position += n_frames
        given.append(as_dict(decoder.push(part, last=k == len(pushes) - 1), pair.graph))
        if k < len(pushes) - 1:
            assert_states_fit(decoder, pair.spec)
    return {
        name: np.concatenate([part[name] for part in given], axis=-1) for name in pair.graph.contract.outputs
    }


def assert_states_fit(decoder: StatefulDecoder, spec: StreamingSpec) -> None:
    """No state is longer than it says: some targets hold so many steps of it, and no more."""
    tensors = decoder.snapshot().tensors
    for state in spec.states:
        assert tensors[state.input].shape[state.axis] <= state.max_length, state.input


def schedules(n_frames: int, lag_frames: int, *, thorough: bool) -> Iterator[list[int]]:
    """Ways to cut an utterance into pushes."""
    rng = np.random.default_rng(n_frames)
    yield [n_frames]
    if thorough:
        yield [n_frames, 0]
        yield [0, *[1] * n_frames, 0]
        for size in sorted({2, 3, 7, max(2, lag_frames), lag_frames + 1}):
            whole, rest = divmod(n_frames, size)
            if whole:
                yield [size] * whole + ([rest] if rest else [])
    else:
        yield [1] * n_frames
    for _ in range(1 + thorough):
        pushes: list[int] = []
        while (left := n_frames - sum(pushes)) > 0:
            pushes.append(int(min(left, rng.choice([0, 1, 2, 3, 5, 9, 14]))))
        yield pushes


def assert_same(got: Feeds, wanted: Feeds, *, tolerance: float, note: object) -> float:
    """Same shape and dtype always; same values exactly where the tolerance is 0."""
    largest = 0.0
    for name, whole in wanted.items():
        part = got[name]
        assert part.shape == whole.shape, f"{note}: {name} has shape {part.shape}, the whole {whole.shape}"
        assert part.dtype == whole.dtype, f"{note}: {name}"
        if not whole.size:
            continue
        if whole.dtype.kind != "f" or tolerance == 0:
            np.testing.assert_array_equal(part, whole, err_msg=str(note))
            continue
        scale = max(float(np.abs(whole.astype(np.float64)).max()), 1e-3)
        difference = float(np.abs(part.astype(np.float64) - whole).max()) / scale
        assert difference <= tolerance, f"{note}: {name} differs by {difference:.3g} of its largest value"
        largest = max(largest, difference)
    return largest


def assert_streams(
    model: onnx.ModelProto,
    *,
    tolerance: float = 1e-6,
    time_inputs: Mapping[str, int] | None = None,
    multiple: int = 1,
    n_tokens: int = 5,
    plans: Sequence[PlanKind] = PLANS,
    optimize: bool = False,
    max_frames: int | None = None,
) -> list[Streamed]:
    """Check the law over plans, utterance lengths and pushes; return the stateful twins.

    `multiple` is for graphs that fold time: the whole run takes only multiples of it.
    """
    first = Streamed(model, plans[0], time_inputs, n_tokens, max_frames, optimize)
    pairs, seen, whole_runs = [], set(), {}
    for kind in plans:
        pair = first if kind == plans[0] else first.twin(kind)
        steps = tuple((len(step.nodes), step.segment, step.form) for step in pair.plan.steps)
        if steps in seen:
            continue
        seen.add(steps)
        pairs.append(pair)
        lag_frames = pair.spec.min_first_frames - 1
        longest = -(-max(17, lag_frames + 9) // multiple) * multiple
        for n_frames in [*range(1, lag_frames + 4), longest]:
            feeds = pair.feeds(n_frames, seed=n_frames)
            if n_frames not in whole_runs:
                whole_runs[n_frames] = _try(pair.run_whole, feeds)
            wanted = whole_runs[n_frames]
            if wanted is None:
                _assert_fails_too(pair, feeds, n_frames)
                continue
            for pushes in schedules(n_frames, lag_frames, thorough=n_frames == longest):
                got = stream(pair, feeds, pushes)
                assert_same(got, wanted, tolerance=tolerance, note=(kind, n_frames, pushes))
    return pairs


def _try(run: Callable[[Feeds], dict[str, np.ndarray]], feeds: Feeds) -> dict[str, np.ndarray] | None:
    try:
        return run(feeds)
    except ModelError:
        return None


def _assert_fails_too(pair: Streamed, feeds: Feeds, n_frames: int) -> None:
    """What the whole run refuses must not be given by a stream."""
    for pushes in ([n_frames], [1] * n_frames):
        try:
            got = stream(pair, feeds, pushes)
        except ModelError:
            continue
        raise AssertionError(
            f"{(pair.kind, n_frames, pushes)}: the whole run fails, the stream gives "
            f"{ {name: array.shape for name, array in got.items()} }"
        )
