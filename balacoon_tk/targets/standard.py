"""Compile a plain voice for any execution provider: exact streaming, in standard operators alone.

The passes of `balacoon_tk.targets.ort_cpu` lay a decoder out for ONNX Runtime's kernels for processors, and
OpenVINO 2025.4 gives more samples for it than there are: here it stays as it is. Those of the encoder write
standard operators, and fewer of them: attention without pads and slices whose sizes hang on the length, on
which OpenVINO fails for few phonemes, and a spline without NonZero, whose shape only a run knows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.half import fold_weight_casts, halve_weights
from balacoon_tk.graph.streaming import make_streaming, streaming_spec
from balacoon_tk.graph.streaming.equivalence import TOLERANCE, verify_streaming
from balacoon_tk.targets.ort_cpu.compile import Compiled
from balacoon_tk.targets.ort_cpu.optimize import Optimized, optimize_encoder
from balacoon_tk.voice.manifest import StreamingInfo

if TYPE_CHECKING:
    from balacoon_tk.voice.finish import PlainVoice
    from balacoon_tk.voice.manifest import Manifest

_ROUNDED = (
    "it is in int8, where sums that are added up in another order fall to other steps: "
    "only ONNX Runtime on a processor and the native engine stream it"
)


def compile_standard(plain: PlainVoice, manifest: Manifest) -> Compiled:
    """Compile a voice; `ModelError` says that the compiled graphs don't do what the plain ones do."""
    info, encoder = manifest.decoder, None
    if plain.encoder is not None:
        encoder = optimize_encoder(plain.encoder, phoneme_ids=manifest.frontend.known_ids)
        # Of int8 the products are ONNX Runtime's own operators.
        if any(node.domain for node in encoder.model.graph.node):
            encoder = Optimized(plain.encoder, ())
    as_it_is = Compiled(Optimized(plain.decoder, ()), encoder, None, _ROUNDED)
    if info.precision == "int8":
        return as_it_is
    decoder = ir.from_proto(plain.decoder)
    fold_weight_casts(decoder)
    try:
        model = make_streaming(ir.to_proto(decoder), max_frames=info.max_frames)
    except NotStreamableError as error:
        return replace(as_it_is, not_streamable=f"{error.op_type} node {error.node!r}: {error.reason}")
    if info.precision == "fp16":
        model = halve_weights(model, exact=True)  # as they are stored in the plain graph
    check = verify_streaming(
        plain.decoder,
        model,
        utterances=plain.utterances,
        draw=plain.draw,
        tolerance=TOLERANCE,
        max_frames=info.max_frames,
    )
    spec = streaming_spec(model)
    streaming = StreamingInfo(spec.outputs[0].lag, spec.n_state_bytes, check.max_abs_diff)
    return Compiled(Optimized(model, ()), encoder, streaming, None)
