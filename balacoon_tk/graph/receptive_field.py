"""The receptive field of a decoder, computed exactly from its graph."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf

import onnx
import onnx_ir as ir

from balacoon_tk.errors import ModelError
from balacoon_tk.graph.prepare import analyse_model


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """Which frames the samples of a frame depend on.

    The samples ``[n * hop_length, (n + 1) * hop_length)`` depend on the frames
    ``[n - left_context, n + lookahead]`` and on no others.
    """

    left_context: int
    """Frames before."""
    lookahead: int
    """Frames after."""
    hop_length: int
    """Samples per frame."""
    lag_samples: int
    """Samples by which the known part of the output trails the input: the lookahead, to the sample."""

    @property
    def n_frames(self) -> int:
        """Frames in all: ``left_context + 1 + lookahead``."""
        return self.left_context + 1 + self.lookahead


def receptive_field(
    model: onnx.ModelProto | ir.Model, *, time_inputs: dict[str, int] | None = None
) -> ReceptiveField:
    """Compute the receptive field of a decoder from its graph.

    A NotStreamableError names a node that has no bounded view of time; a ModelError says that samples are
    not a whole multiple of the frames, a recurrence looks back to the start, or frames are taken several at
    a time.
    """
    analysis = analyse_model(model, time_inputs=time_inputs)
    output = analysis.timelines[analysis.outputs[0]]
    if output.rate.denominator != 1 or output.short(analysis.n_frames) != 0:
        raise ModelError(
            f"{analysis.outputs[0]!r} has lengths {output.lengths} for {analysis.n_frames} frames: "
            "not a whole number of samples for each frame"
        )
    if output.phased:
        raise ModelError(
            "the rate falls on the way: a piece that begins at an odd frame is decoded otherwise"
        )
    if output.left == inf:
        raise ModelError("a recurrence looks back to the utterance's start: no context is enough")
    hop = int(output.rate)
    return ReceptiveField(
        left_context=ceil(output.left / hop),
        lookahead=ceil(output.lag / hop),
        hop_length=hop,
        lag_samples=int(output.lag),
    )
