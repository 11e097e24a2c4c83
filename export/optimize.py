"""Make a decoder faster before it is made stateful: the same samples, to the last few bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx
import onnx_ir as ir
from onnx_ir.passes import InPlacePass

from balacoon_tk.export.graph.known import Shapes
from balacoon_tk.export.graph.prepare import prepare
from balacoon_tk.export.graph.time_inputs import find_time_inputs
from balacoon_tk.export.passes.fold_scales import FoldScalesPass
from balacoon_tk.export.passes.join_residual_and_skip import JoinResidualAndSkipPass
from balacoon_tk.export.passes.keep_blocked import KeepBlockedPass
from balacoon_tk.export.passes.lift_to_2d import LiftTo2dPass
from balacoon_tk.export.passes.polyphase import PolyphasePass

__all__ = ["Optimized", "optimize_decoder"]


_PASSES: Mapping[str, Callable[[Shapes], InPlacePass]] = {
    "fold_scales": lambda shapes: FoldScalesPass(),
    "join_residual_and_skip": JoinResidualAndSkipPass,
    "lift_to_2d": LiftTo2dPass,
    "polyphase": lambda shapes: PolyphasePass(),
    "keep_blocked": KeepBlockedPass,
}
"""In the order in which they are tried; each is made with the shapes that the one before has left."""


@dataclass(frozen=True, slots=True)
class Optimized:
    """A decoder after its passes."""

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
    for name, make_pass in _PASSES.items():
        if make_pass(inputs.probe.shapes)(prepared).modified:
            done.append(name)
            inputs = find_time_inputs(prepared, inputs.axes)
    return Optimized(ir.to_proto(prepared), tuple(done))
