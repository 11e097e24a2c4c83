"""A voice's decoder as a program of the native engine, believed once it has run beside the plain graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.decoder.engines import open_program
from balacoon_tk.errors import BalacoonError, ModelError
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.streaming.equivalence import TOLERANCE, verify_rounding, verify_streaming
from balacoon_tk.runtime.engine import Engine
from balacoon_tk.runtime.native.program import Program
from balacoon_tk.targets.native.compile import compile_native
from balacoon_tk.voice.manifest import Precision, StreamingInfo

if TYPE_CHECKING:
    from balacoon_tk.voice.finish import PlainVoice

# Largest difference to the plain decoder. In int8 sums in another order fall to other steps here and there,
# and each layer makes more of it: over whole utterances that says nothing, and `verify_rounding` judges.
_TOLERANCES: dict[Precision, float] = {"fp32": TOLERANCE, "fp16": 2.0**-7, "int8": inf}
_PUSH_FRAMES = 64


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
        program = compile_native(plain.decoder)
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


def _verify(
    plain: PlainVoice, engine: Engine, precision: Precision, progress: Callable[[str, float], None]
) -> StreamingInfo:
    def report(share: float) -> None:
        progress("verifying the native engine", share)

    if precision == "int8":
        verify_rounding(plain.decoder, engine, draw=plain.draw)
    check = verify_streaming(
        plain.decoder,
        engine,
        utterances=plain.utterances,
        draw=plain.draw,
        tolerance=_TOLERANCES[precision],
        own_tolerance=0.0,
        progress=report,
    )
    streaming = engine.contract.streaming
    if streaming is None:
        raise ModelError("it has no streams")
    difference = 0.0 if precision == "int8" else check.max_abs_diff
    return StreamingInfo(streaming.outputs[0].lag, _state_bytes(engine), difference)


def _state_bytes(engine: Engine) -> int:
    """Return the size of a stream's state in its middle."""
    contract, feeds = engine.contract, dict[str, AnyArray]()
    streaming = contract.streaming
    steps = {} if streaming is None else {each.name: each.steps_per_frame for each in streaming.inputs}
    for name, spec in contract.inputs.items():
        shape = [n if isinstance(n, int) else 1 for n in spec.shape]
        if name in steps:
            shape[-1] = _PUSH_FRAMES * steps[name]
        feeds[name] = np.zeros(shape, spec.dtype)
    _, state = engine.step(engine.start(), feeds, last=False)
    return sum(array.nbytes for array in engine.save(state).values())
