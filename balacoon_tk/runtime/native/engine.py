"""The native engine: a program of fused stages, run by kernels of the package's own.

A stream's state are the steps that stages still have to read, and how far each has come. It is copied from
run to run, so that a state is never written to, and a step that fails leaves its stream as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.runtime.engine import DecoderContract, Feeds, StreamingContract, TimeInput, TimeOutput
from balacoon_tk.runtime.machine import n_processors
from balacoon_tk.runtime.native import _kernels
from balacoon_tk.runtime.native._native import Executor
from balacoon_tk.runtime.native.checks import check_program
from balacoon_tk.runtime.native.kernels import choose_kernels
from balacoon_tk.runtime.native.packing import pack
from balacoon_tk.runtime.native.program import Port, Program
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.process import runs, watch
from balacoon_tk.runtime.session import TensorSpec

_POSITIONS, _ROWS = "positions", "rows"
_State: TypeAlias = tuple[AnyArray, AnyArray] | tuple[()] | None
"""Positions and rows; None at a stream's start, and nothing behind its last step."""


class NativeEngine:
    """Runs a program; see `Engine` for the methods.

    Parameters
    ----------
    program : Program
        What `balacoon_tk.targets.native.compile_native` has made of a decoder.
    options : RuntimeOptions, optional
        Of these the number of threads.
    label : str
        What messages call the decoder.
    pairs : bool
        Whether convolutions may make steps in pairs, of fewer products, where the kernels can and it pays;
        False only to measure what that brings. Samples differ by rounding.

    Raises
    ------
    ModelError
        If an array of the program is missing or not finite, or a stage reads or writes what isn't there.
    ParameterError
        If BALACOON_TK_KERNELS names an instruction set that this processor hasn't.
    """

    def __init__(
        self,
        program: Program,
        options: RuntimeOptions | None = None,
        *,
        label: str = "<program>",
        pairs: bool = True,
    ) -> None:
        if program.needs_all:
            raise ModelError(f"{label}: an output depends on all steps of the inputs: it can't be streamed")
        self._executor = open_executor(program, options, pairs=pairs)
        self.contract = _contract(program, label)

    @property
    def kernels(self) -> str:
        """Name of the instruction set whose kernels run."""
        return self._executor.kernels

    def whole(self, feeds: Feeds) -> dict[str, AnyArray]:
        """Decode a whole utterance, or a window as if it were one."""
        return self.step(None, feeds, last=True)[0]

    def start(self) -> _State:
        """Return the state before the first push, which all streams share."""
        return None

    def step(self, state: _State, feeds: Feeds, *, last: bool) -> tuple[dict[str, AnyArray], _State]:
        """Decode the next frames; any number of them."""
        if state == ():
            raise ParameterError("the stream of this state is over")
        with runs:
            return self._executor.step(state, feeds, last)

    def save(self, state: _State) -> dict[str, AnyArray]:
        """Return a copy of a state as arrays."""
        if not state:
            return {}
        positions, rows = state
        return {_POSITIONS: positions.copy(), _ROWS: rows.copy()}

    def load(self, arrays: Mapping[str, AnyArray]) -> _State:
        """Return the state of some arrays, if they can be one of this program."""
        if not arrays:
            return self.start()
        if arrays.keys() != {_POSITIONS, _ROWS}:
            raise ParameterError(f"states {sorted(arrays)} must be {[_POSITIONS, _ROWS]}")
        for name, dtype in ((_POSITIONS, np.int64), (_ROWS, np.uint8)):
            array: Any = arrays[name]
            if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
                raise ParameterError(f"{name} must be an array of {np.dtype(dtype)} with one axis")
        state = arrays[_POSITIONS].copy(), arrays[_ROWS].copy()
        self._executor.check(state)
        return state


def open_executor(program: Program, options: RuntimeOptions | None, *, pairs: bool = True) -> Executor:
    """Check a program, and lay it out for the kernels of this processor; see `NativeEngine`."""
    n_threads = (options or RuntimeOptions()).n_threads or n_processors()
    watch()
    check_program(program)
    kernels = choose_kernels()
    in_floats = pairs and _kernels.has_pairs(kernels)
    packed = pack(program, pairs=in_floats, pairs_of_bytes=pairs, n_threads=n_threads)
    return Executor(program, packed, n_threads, kernels)


def _contract(program: Program, label: str) -> DecoderContract:
    f4 = np.dtype(np.float32)
    timed = [port for port in program.inputs if not program.edges[port.edge].timeless]
    inputs = {
        port.name: TensorSpec(
            port.name,
            np.dtype(np.int64) if port.symbols else f4,
            (*port.shape, f"n_{port.name}") if port in timed else port.shape,
        )
        for port in program.inputs
    }
    outputs = {
        port.name: TensorSpec(port.name, f4, (*port.shape, f"n_{port.name}")) for port in program.outputs
    }
    streaming = StreamingContract(
        tuple(TimeInput(port.name, port.rate[0]) for port in timed),
        tuple(TimeOutput(port.name, _hop_length(port), port.lag) for port in program.outputs),
        program.fingerprint,
        min_first_frames=0,
        min_push_frames=0,
    )
    return DecoderContract(label, inputs, outputs, tuple(port.name for port in timed), streaming)


def _hop_length(port: Port) -> float:
    hop_length = Fraction(*port.rate)
    return int(hop_length) if hop_length.denominator == 1 else float(hop_length)
