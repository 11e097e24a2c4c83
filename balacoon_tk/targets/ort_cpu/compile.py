"""Compile a plain voice for ONNX Runtime on a processor: passes, exact streaming, and the comparison with it.

```
plain decoder ──▶ passes ──▶ make_streaming ──▶ stateful decoder, compared in many cuts with the plain one
plain encoder ──▶ passes ──▶ of fewer nodes, compared at many lengths
```

There are two targets of the same passes. Where several threads run, narrow segments are run in halves
(`balacoon_tk.targets.ort_cpu.halves`): on two threads a whole decode takes 1.4 times as long without. Where
one thread runs, they bring nothing and cost nodes, so there they are left out. Weights are the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.half import halve_weights
from balacoon_tk.graph.streaming import make_streaming, streaming_spec
from balacoon_tk.graph.streaming.equivalence import TOLERANCE, verify_rounding, verify_streaming
from balacoon_tk.targets.choice import ONE_THREAD, SEVERAL_THREADS
from balacoon_tk.targets.ort_cpu.costs import OrtCpuCosts
from balacoon_tk.targets.ort_cpu.optimize import Optimized, optimize_decoder, optimize_encoder
from balacoon_tk.voice.manifest import Precision, StreamingInfo

if TYPE_CHECKING:
    from balacoon_tk.voice.finish import PlainVoice

# Largest difference to the plain decoder; in int8, to the compiled one before it was made stateful.
_TOLERANCES: dict[Precision, float] = {"fp32": TOLERANCE, "fp16": 2.0**-7, "int8": TOLERANCE}
# The passes' share of the time; comparing takes the rest.
_OPTIMIZED = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """The graphs of a voice as a target runs them."""

    decoder: Optimized
    encoder: Optimized | None
    """None for a vocoder."""
    streaming: StreamingInfo | None
    not_streamable: str | None
    """The reason, if the decoder can't be streamed exactly."""


def compile_voice(
    plain: PlainVoice,
    *,
    known_ids: Collection[int],
    precision: Precision = "fp32",
    max_frames: int | None = None,
    progress: Callable[[str, float], None],
) -> dict[str, Compiled]:
    """Compile a voice for several threads and for one; return what was made by the target's name.

    The encoder is compared on phonemes of `known_ids`; `max_frames` is as for `make_streaming`. `progress` is
    called with the stage's name and the share of the whole that is done, from 0 to 1.
    """
    progress("optimizing", 0.0)
    encoder = None
    if plain.encoder is not None:
        encoder = optimize_encoder(plain.encoder, phoneme_ids=sorted(known_ids))
        if precision == "fp16":
            encoder = replace(encoder, model=halve_weights(encoder.model, exact=True))
    optimized = optimize_decoder(plain.decoder)
    compared = plain.decoder
    if precision == "int8":
        # Sums that are added up in another order fall to other steps of int8 here and there, and each layer
        # makes more of it: over whole utterances only equal kernels say the same, and streaming is theirs.
        verify_rounding(plain.decoder, optimized.model, draw=plain.draw)
        compared = optimized.model
    made: dict[str, Compiled] = {}
    known: dict[bytes, StreamingInfo] = {}
    span = (1 - _OPTIMIZED) / 2
    for name, in_halves, start in ((SEVERAL_THREADS, True, _OPTIMIZED), (ONE_THREAD, False, 1 - span)):
        progress("making stateful", start)
        try:
            costs = OrtCpuCosts(in_halves=in_halves)
            model = make_streaming(optimized.model, costs=costs, max_frames=max_frames)
        except NotStreamableError as error:
            # Nothing holds the passes' graph to its numbers then: the plain one is run.
            reason = f"{error.op_type} node {error.node!r}: {error.reason}"
            as_it_is = Compiled(Optimized(plain.decoder, ()), encoder, None, reason)
            return {SEVERAL_THREADS: as_it_is, ONE_THREAD: as_it_is}
        if precision == "fp16":
            model = halve_weights(model, exact=True)  # they are stored as in the plain graph, once
        data = model.SerializeToString(deterministic=True)
        if data not in known:  # without a segment that is run in halves both are the same

            def report(share: float, start: float = start) -> None:
                progress("streaming", start + share * span)

            check = verify_streaming(
                compared,
                model,
                utterances=plain.utterances,
                draw=plain.draw,
                tolerance=_TOLERANCES[precision],
                max_frames=max_frames,
                progress=report,
            )
            spec = streaming_spec(model)
            known[data] = StreamingInfo(spec.outputs[0].lag, spec.n_state_bytes, check.max_abs_diff)
        made[name] = Compiled(Optimized(model, optimized.passes), encoder, known[data], None)
    return made
