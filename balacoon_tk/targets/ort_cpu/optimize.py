"""Make a voice's graphs faster: the same numbers, to the last few bits.

The decoder's passes run before it is made stateful.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir
from onnx_ir.passes import InPlacePass

from balacoon_tk.errors import ParameterError
from balacoon_tk.graph.half import fold_weight_casts
from balacoon_tk.graph.int8 import read_qdq
from balacoon_tk.graph.known import Shapes
from balacoon_tk.graph.opset import raise_opset
from balacoon_tk.graph.prepare import prepare
from balacoon_tk.graph.probe import Probe, graph_inputs, probe
from balacoon_tk.graph.spelled_out.layer_norm import FuseLayerNormPass
from balacoon_tk.graph.time_inputs import find_time_inputs
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.encoders import ENCODER_TIME_AXES, say_the_same
from balacoon_tk.targets.fold_products import FoldProductsPass
from balacoon_tk.targets.ort_cpu.int8.convolutions import round_convolutions
from balacoon_tk.targets.ort_cpu.int8.products import multiply_int8
from balacoon_tk.targets.ort_cpu.passes.band_attention import BandAttentionPass
from balacoon_tk.targets.ort_cpu.passes.channels_last import ChannelsLastPass
from balacoon_tk.targets.ort_cpu.passes.dense_spline import DenseSplinePass
from balacoon_tk.targets.ort_cpu.passes.keep_blocked import KeepBlockedPass
from balacoon_tk.targets.ort_cpu.passes.keep_rows import KeepRowsPass
from balacoon_tk.targets.ort_cpu.passes.lift_to_2d import LiftTo2dPass
from balacoon_tk.targets.ort_cpu.passes.polyphase import PolyphasePass
from balacoon_tk.targets.ort_cpu.passes.split_elu import SplitEluPass
from balacoon_tk.targets.ort_cpu.passes.split_sums import SplitSumsPass
from balacoon_tk.targets.ort_cpu.passes.wavenet.channels_last_gates import ChannelsLastGatesPass
from balacoon_tk.targets.ort_cpu.passes.wavenet.fold_projections import FoldProjectionsPass
from balacoon_tk.targets.ort_cpu.passes.wavenet.join_residual_and_skip import JoinResidualAndSkipPass

# In the order in which they are tried; each is made with the shapes that the one before has left. Each entry
# brings 3 % end to end or more, on one thread or on two, by `benchmarks/bench_passes.py`.
_DECODER_PASSES: Mapping[str, tuple[Callable[[Shapes], InPlacePass], ...]] = {
    "lift_to_2d": (LiftTo2dPass,),
    "polyphase": (PolyphasePass,),
    "keep_rows": (KeepRowsPass,),
    "split_elu": (SplitEluPass,),
    "keep_blocked": (KeepBlockedPass,),
    "wavenet": (FoldProductsPass, JoinResidualAndSkipPass, FoldProjectionsPass, ChannelsLastGatesPass),
}
# Where convolutions compute in int8: they have no blocks, and each reads what it was calibrated on.
_INT8_PASSES: Mapping[str, tuple[Callable[[Shapes], InPlacePass], ...]] = {
    "lift_to_2d": (LiftTo2dPass,),
    "polyphase": (PolyphasePass,),
    "wavenet": (FoldProductsPass, JoinResidualAndSkipPass, ChannelsLastGatesPass),
}
_ENCODER_PASSES: Mapping[str, tuple[Callable[[Probe], InPlacePass], ...]] = {
    "dense_spline": (lambda seen: DenseSplinePass(seen.shapes),),
    "band_attention": (lambda seen: BandAttentionPass(seen.shapes),),
    "fuse_layer_norm": (lambda seen: FuseLayerNormPass(seen.shapes),),
    "channels_last": (lambda seen: ChannelsLastPass(seen.shapes),),
    "split_sums": (lambda seen: SplitSumsPass(seen.shapes),),
}
# A graph of a gigabyte takes seconds to run once more, which these don't need.
_WITHOUT_SHAPES = (PolyphasePass, SplitEluPass, FoldProductsPass)
DECODER_PASSES, ENCODER_PASSES = tuple(_DECODER_PASSES), tuple(_ENCODER_PASSES)
"""Their names, in their order."""

_PROBED_LENGTHS = ((5, 8, 13), (41, 48, 72))


@dataclass(frozen=True, slots=True)
class Optimized:
    """A graph after its passes."""

    model: onnx.ModelProto
    passes: tuple[str, ...]
    """Names of those that found something to do, in their order."""


def optimize_decoder(
    model: onnx.ModelProto,
    *,
    time_inputs: Mapping[str, int] | None = None,
    for_int8: bool = False,
    leave_out: Collection[str] = (),
) -> Optimized:
    """Return a faster form of a plain decoder, which adds up the same numbers in another order.

    What its QDQ pairs round is computed in int8. Nothing is compared here: `verify_streaming` runs what is
    made of it against the original.

    Parameters
    ----------
    model : ModelProto
        The decoder, batch 1; it is not changed.
    time_inputs : mapping of str to int, optional
        The time axis of each input that has one, where it can't be found from the graph.
    for_int8 : bool
        Whether to prepare a graph in floating point for `round_convolutions`.
    leave_out : collection of str
        Of `DECODER_PASSES`, those that are not tried: what a pass brings is seen without it.

    Raises
    ------
    ModelError
        If the graph can't be run, or has no time axis.
    ParameterError
        If `leave_out` names what is no pass.
    """
    # Before `prepare`, which computes what constants alone give, small weights among it.
    in_float = ir.from_proto(model)
    fold_weight_casts(in_float)
    rounding = read_qdq(in_float)
    prepared, inputs = prepare(in_float, time_inputs=None if time_inputs is None else dict(time_inputs))
    done, has_changed = list[str](), False
    passes = _INT8_PASSES if rounding.layers or for_int8 else _DECODER_PASSES
    for name in _names_without(leave_out, passes):
        for make_pass in passes[name]:
            if has_changed and make_pass not in _WITHOUT_SHAPES:
                inputs, has_changed = find_time_inputs(prepared, inputs.axes), False
            if make_pass(inputs.probe.shapes)(prepared).modified:
                done.append(name)
                has_changed = True
    if rounding.layers and round_convolutions(prepared, rounding):
        done.append("int8")
    # Several steps may be of one name.
    return Optimized(ir.to_proto(prepared), tuple(dict.fromkeys(done)))


def optimize_encoder(
    model: onnx.ModelProto, *, phoneme_ids: Sequence[int], seed: int = 0, leave_out: Collection[str] = ()
) -> Optimized:
    """Return a faster form of an encoder of batch 1, if it was seen to say the same.

    The passes look for what VITS's exports have in common, so what they make of a graph is run beside it, on
    1 to 60 of the phonemes at random. If encodings or durations differ, the encoder stays as it came.
    """
    optimized = ir.from_proto(model)
    # Layer norms are operators since opset 17, and sums can be scattered since 16.
    if not raise_opset(optimized):
        return Optimized(model, ())
    fold_weight_casts(optimized)
    rounding = read_qdq(optimized)
    # Both sides are compared in floating point: in int8 the same sums in another order fall to other steps.
    unrounded = ir.to_proto(optimized) if rounding.layers else model
    axes = {name: axis for name, axis in ENCODER_TIME_AXES.items() if name in graph_inputs(optimized)}
    done = []
    seen: Probe | None = None
    for name in _names_without(leave_out, _ENCODER_PASSES):
        for make_pass in _ENCODER_PASSES[name]:
            # A run at six lengths takes longer than most passes: only what was changed is run again.
            seen = seen or probe(optimized, axes, dict.fromkeys(axes, 1), lengths=_PROBED_LENGTHS)
            if make_pass(seen)(optimized).modified:
                done.append(name)
                seen = None
    if not done or not say_the_same(
        Session(unrounded), Session(ir.to_proto(optimized)), phoneme_ids=phoneme_ids, seed=seed
    ):
        return Optimized(model, ())
    if rounding.dynamic and multiply_int8(optimized):
        done.append("int8")
    return Optimized(ir.to_proto(optimized), tuple(dict.fromkeys(done)))


def _names_without(names: Collection[str], passes: Collection[str]) -> list[str]:
    # A name that is none would measure nothing.
    if unknown := sorted(set(names).difference(passes)):
        raise ParameterError(f"leave_out={unknown} must be of {', '.join(passes)}")
    return [name for name in passes if name not in names]
