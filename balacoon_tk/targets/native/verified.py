"""A voice's graphs as programs of the native engine, believed once they have run beside the plain ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import BalacoonError, ModelError
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.half import fold_weight_casts
from balacoon_tk.graph.int8 import read_qdq
from balacoon_tk.graph.streaming.equivalence import TOLERANCE, verify_streaming
from balacoon_tk.runtime.engine import Engine
from balacoon_tk.runtime.native.opening import open_program, open_session
from balacoon_tk.runtime.native.program import Program
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.encoders import ENCODER_TIME_AXES, say_the_same
from balacoon_tk.targets.native.compile import compile_native
from balacoon_tk.targets.native.encoder import compile_encoder
from balacoon_tk.voice.manifest import Precision, StreamingInfo

if TYPE_CHECKING:
    from balacoon_tk.voice.finish import PlainVoice

# Largest difference to the plain decoder; in int8 `_verify_rounding` judges.
_TOLERANCES: dict[Precision, float] = {"fp32": TOLERANCE, "fp16": 2.0**-7, "int8": inf}
_PUSH_FRAMES = 64
_ROUNDED_FRAMES, _N_DRAWS = (1, 2, 5, 13, 60), 5
_MOST_NOISE, _MOST_SHORT_NOISE = 1.25, 2.0
"""Of int8, over that of the plain decoder: over all lengths, and at one, where there are few numbers and
powers differ by half by chance."""

_Draw: TypeAlias = Callable[[int, int], Mapping[str, AnyArray]]


@dataclass(frozen=True, slots=True, eq=False)
class CompiledProgram:
    """A decoder as the native engine runs it."""

    program: Program
    streaming: StreamingInfo


def compile_decoder(
    plain: PlainVoice, *, precision: Precision, progress: Callable[[str, float], None]
) -> CompiledProgram | str:
    """Compile a voice's decoder for the native engine, or return the reason why ONNX Runtime has to run it.

    What was compiled is streamed in many cuts: it must say what the plain decoder says, and the same numbers
    whole and in chunks. `progress` is called with the stage's name and the share of the whole that is done,
    from 0 to 1.
    """
    progress("compiling for the native engine", 0.0)
    try:
        program = compile_native(_in_full(plain.decoder) if precision == "fp16" else plain.decoder)
    except NotStreamableError as error:
        return f"{error.op_type} node {error.node!r} can't be streamed exactly: {error.reason}"
    # NotNativeError, and whatever else the graph is refused for: there is an engine that runs it.
    except BalacoonError as error:
        return str(error)
    try:
        engine = open_program(program)
        return CompiledProgram(program, _verify(plain, engine, precision, progress))
    except BalacoonError as error:
        return f"its program is not believed: {error}"


def compile_voice_encoder(model: onnx.ModelProto, *, phoneme_ids: Collection[int]) -> Program | str:
    """Compile a voice's encoder for the native engine, or return the reason why ONNX Runtime has to run it.

    What was compiled must say what the plain encoder says, on 1 to 60 of the phonemes at random.
    """
    try:
        program = compile_encoder(model, time_axes=ENCODER_TIME_AXES)
        session = open_session(program)
    except NotStreamableError as error:
        return f"{error.op_type} node {error.node!r}: {error.reason}"
    # NotNativeError, and whatever else the graph is refused for: there is an engine that runs it.
    except BalacoonError as error:
        return str(error)
    if not say_the_same(session, Session(model), phoneme_ids=sorted(phoneme_ids)):
        return "its program is not believed: encodings or durations differ"
    return program


def _verify(
    plain: PlainVoice, engine: Engine, precision: Precision, progress: Callable[[str, float], None]
) -> StreamingInfo:
    def report(share: float) -> None:
        progress("verifying the native engine", share)

    draw = plain.draw or _Random(engine)
    if precision == "int8":
        _verify_rounding(plain.decoder, engine, draw)
    check = verify_streaming(
        plain.decoder,
        engine,
        utterances=plain.utterances,
        draw=draw,
        tolerance=_TOLERANCES[precision],
        own_tolerance=0.0,
        progress=report,
    )
    streaming = engine.contract.streaming
    if streaming is None:
        raise ModelError("it has no streams")
    difference = 0.0 if precision == "int8" else check.max_abs_diff
    return StreamingInfo(streaming.outputs[0].lag, _state_bytes(engine), difference)


def _in_full(model: onnx.ModelProto) -> ir.Model:
    """Return a graph whose weights are in float32 and not in half precision behind a Cast."""
    full = ir.from_proto(model)
    fold_weight_casts(full)
    return full


def _verify_rounding(original: onnx.ModelProto, engine: Engine, draw: _Draw) -> None:
    """Hold a rounded decoder to the noise that its rounding makes in the plain graph.

    The engine rounds what a layer reads, and keeps in float32 what the plain graph rounds beside that. So it
    can't be held to that graph's numbers; but it must come as near to those without any rounding.
    """
    unrounded = ir.from_proto(original)
    read_qdq(unrounded)
    exact, rounded = Session(ir.to_proto(unrounded)), Session(original)
    all_ours = all_theirs = 0.0
    for n_frames in _ROUNDED_FRAMES:
        ours = theirs = 0.0
        for seed in range(_N_DRAWS):
            feeds = engine.contract.check(dict(draw(n_frames, seed)))
            ours += _noise(engine.whole(feeds), expected := exact.run(feeds))
            theirs += _noise(rounded.run(feeds), expected)
        _check_noise(ours, theirs, _MOST_SHORT_NOISE, f"{n_frames} frames have")
        all_ours, all_theirs = all_ours + ours, all_theirs + theirs
    _check_noise(all_ours, all_theirs, _MOST_NOISE, "samples have")


def _check_noise(ours: float, theirs: float, most: float, what: str) -> None:
    # Not `ours > limit`, which is false of NaN.
    if not ours <= most * theirs:
        raise ModelError(
            f"in int8, {what} {ours / max(theirs, 1e-30):.2f} of the noise that rounding makes in the plain "
            f"decoder: must be <= {most:g}"
        )


def _noise(outputs: Mapping[str, AnyArray], expected: Mapping[str, AnyArray]) -> float:
    """Return the power of a difference; infinity if shapes differ."""
    if any(array.shape != expected[name].shape for name, array in outputs.items()):
        return inf
    return sum(
        float(np.square(array.astype(np.float64) - expected[name]).sum()) for name, array in outputs.items()
    )


class _Random:
    """Draws what an engine takes: standard normal numbers."""

    def __init__(self, engine: Engine) -> None:
        self._contract = engine.contract

    def __call__(self, n_frames: int, seed: int) -> dict[str, AnyArray]:
        """Return frames of a length; codes and ids are 0."""
        rng, feeds = np.random.default_rng(seed), dict[str, AnyArray]()
        streaming = self._contract.streaming
        steps = {} if streaming is None else {each.name: each.steps_per_frame for each in streaming.inputs}
        for name, spec in self._contract.inputs.items():
            shape = [n if isinstance(n, int) else 1 for n in spec.shape]
            if name in steps:
                shape[-1] = n_frames * steps[name]
            drawn = rng.standard_normal(shape) if spec.dtype.kind == "f" else np.zeros(shape)
            feeds[name] = drawn.astype(spec.dtype)
        return feeds


def _state_bytes(engine: Engine) -> int:
    """Return the size of a stream's state in its middle."""
    _, state = engine.step(engine.start(), _Random(engine)(_PUSH_FRAMES, 0), last=False)
    return sum(array.nbytes for array in engine.save(state).values())
