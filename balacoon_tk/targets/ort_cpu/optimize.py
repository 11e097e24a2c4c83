"""Make a voice's graphs faster: the same numbers, to the last few bits.

The decoder's passes run before it is made stateful.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import InPlacePass

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.known import Shapes
from balacoon_tk.graph.opset import raise_opset
from balacoon_tk.graph.prepare import prepare
from balacoon_tk.graph.probe import Probe, graph_inputs, probe
from balacoon_tk.graph.simplify.fix_shapes import FixShapesPass
from balacoon_tk.graph.time_inputs import find_time_inputs
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.ort_cpu.passes.band_attention import BandAttentionPass
from balacoon_tk.targets.ort_cpu.passes.channels_last import ChannelsLastPass
from balacoon_tk.targets.ort_cpu.passes.dense_spline import DenseSplinePass
from balacoon_tk.targets.ort_cpu.passes.fold_pads import FoldPadsPass
from balacoon_tk.targets.ort_cpu.passes.fuse_layer_norm import FuseLayerNormPass
from balacoon_tk.targets.ort_cpu.passes.keep_blocked import KeepBlockedPass
from balacoon_tk.targets.ort_cpu.passes.lift_to_2d import LiftTo2dPass
from balacoon_tk.targets.ort_cpu.passes.polyphase import PolyphasePass
from balacoon_tk.targets.ort_cpu.passes.split_sums import SplitSumsPass
from balacoon_tk.targets.ort_cpu.passes.wavenet.channels_last_gates import ChannelsLastGatesPass
from balacoon_tk.targets.ort_cpu.passes.wavenet.fold_products import FoldProductsPass
from balacoon_tk.targets.ort_cpu.passes.wavenet.fold_projections import FoldProjectionsPass
from balacoon_tk.targets.ort_cpu.passes.wavenet.join_residual_and_skip import JoinResidualAndSkipPass

_DECODER_PASSES: Mapping[str, tuple[Callable[[Shapes], InPlacePass], ...]] = {
    "lift_to_2d": (LiftTo2dPass,),
    "polyphase": (lambda shapes: PolyphasePass(),),
    "keep_blocked": (KeepBlockedPass,),
    "wavenet": (
        lambda shapes: FoldProductsPass(),
        JoinResidualAndSkipPass,
        FoldProjectionsPass,
        ChannelsLastGatesPass,
    ),
}
"""In the order in which they are tried; each is made with the shapes that the one before has left.

Each entry brings 3 % end to end or more, on one thread or on two, by `benchmarks/bench_passes.py`.
"""

_ENCODER_PASSES: Mapping[str, Callable[[Probe], InPlacePass]] = {
    "dense_spline": lambda seen: DenseSplinePass(seen.shapes),
    "band_attention": lambda seen: BandAttentionPass(seen.shapes),
    "fuse_layer_norm": lambda seen: FuseLayerNormPass(),
    "fold_pads": lambda seen: FoldPadsPass(),
    "fix_shapes": FixShapesPass,
    "channels_last": lambda seen: ChannelsLastPass(seen.shapes),
    "split_sums": lambda seen: SplitSumsPass(),
}
"""As for the decoder."""

_ENCODER_TIME_AXES = {"phoneme_ids": 1, "duration_noise": 2}
_PROBED_LENGTHS = ((5, 8, 13), (41, 48, 72))
_COMPARED_LENGTHS = (1, 2, 5, 13, 60)
_MAX_DIFF = 1e-4  # of encodings of unit scale; what samples may differ by
_N_DRAWS = 3


@dataclass(frozen=True, slots=True)
class Optimized:
    """A graph after its passes."""

    model: onnx.ModelProto
    passes: tuple[str, ...]
    """Names of those that found something to do, in their order."""


def optimize_decoder(model: onnx.ModelProto, *, time_inputs: Mapping[str, int] | None = None) -> Optimized:
    """Return a faster form of a decoder, which adds up the same numbers in another order.

    Nothing is compared here: `verify_streaming` runs what is made of it against the original.

    Parameters
    ----------
    model : ModelProto
        The decoder, batch 1; it is not changed.
    time_inputs : mapping of str to int, optional
        The time axis of each input that has one, where it can't be found from the graph.

    Raises
    ------
    ModelError
        If the graph can't be run, or has no time axis.
    """
    prepared, inputs = prepare(model, time_inputs=None if time_inputs is None else dict(time_inputs))
    done = []
    for name, steps in _DECODER_PASSES.items():
        for make_pass in steps:
            if make_pass(inputs.probe.shapes)(prepared).modified:
                done.append(name)
                inputs = find_time_inputs(prepared, inputs.axes)
    return Optimized(ir.to_proto(prepared), tuple(dict.fromkeys(done)))


def optimize_encoder(model: onnx.ModelProto, *, phoneme_ids: Sequence[int], seed: int = 0) -> Optimized:
    """Return a faster form of an encoder, if it was seen to say the same.

    The passes look for what VITS's exports have in common, so what they make of a graph is run
    beside it, on random sequences of 1 to 60 phonemes. If encodings or durations differ, the encoder
    stays as it came.

    Parameters
    ----------
    model : ModelProto
        The encoder, batch 1; it is not changed.
    phoneme_ids : sequence of int
        Ids that the encoder knows.
    seed : int
        Chooses the sequences and the noise.

    Raises
    ------
    ModelError
        If the graph can't be run.
    """
    optimized = ir.from_proto(model)
    if not raise_opset(optimized):
        return Optimized(model, ())
    axes = {name: axis for name, axis in _ENCODER_TIME_AXES.items() if name in graph_inputs(optimized)}
    steps = dict.fromkeys(axes, 1)
    done = []
    seen: Probe | None = None
    for name, make_pass in _ENCODER_PASSES.items():
        seen = seen or probe(optimized, axes, steps, lengths=_PROBED_LENGTHS)
        if make_pass(seen)(optimized).modified:
            done.append(name)
            seen = None
    if not done:
        return Optimized(model, ())
    result = ir.to_proto(optimized)
    same = _say_the_same(model, result, np.asarray(phoneme_ids, np.int64), np.random.default_rng(seed))
    return Optimized(result, tuple(done)) if same else Optimized(model, ())


def _say_the_same(
    model: onnx.ModelProto, other: onnx.ModelProto, known: AnyArray, rng: np.random.Generator
) -> bool:
    sessions = [Session(model), Session(other)]
    return all(
        any(_agree(*(session.run(feeds) for session in sessions)) for feeds in draws)
        for draws in (
            [_draw(sessions[0], known, length, rng) for _ in range(_N_DRAWS)] for length in _COMPARED_LENGTHS
        )
    )


def _draw(session: Session, known: AnyArray, length: int, rng: np.random.Generator) -> dict[str, AnyArray]:
    """Make random inputs of a length."""
    feeds: dict[str, AnyArray] = {
        "phoneme_ids": rng.choice(known, (1, length)),
        "length_scale": np.ones(1, np.float32),
        "duration_noise": rng.standard_normal((1, 2, length)).astype(np.float32),
        "speaker_id": np.zeros(1, np.int64),
    }
    return {name: feeds[name] for name in session.inputs}


def _agree(a: Mapping[str, AnyArray], b: Mapping[str, AnyArray]) -> bool:
    """Whether two encoders gave the same; durations on the edge of two numbers may differ in one draw."""
    return all(
        np.array_equal(a[name], b[name])
        if name == "durations"
        else float(np.abs(a[name] - b[name]).max()) <= _MAX_DIFF * max(1.0, float(np.abs(a[name]).max()))
        for name in a
    )
