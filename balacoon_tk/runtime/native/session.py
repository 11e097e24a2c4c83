"""A program that is run whole, as ONNX Runtime's session runs a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.native.engine import open_executor
from balacoon_tk.runtime.native.program import Port, Program
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.process import runs
from balacoon_tk.runtime.session import TensorSpec


class NativeSession:
    """Runs a program on whole inputs; safe to use from many threads at once.

    Parameters
    ----------
    program : Program
        What `balacoon_tk.targets.native.compile_encoder` has made of an encoder.
    options : RuntimeOptions, optional
        Of these the number of threads.
    label : str
        What messages call the program.

    Attributes
    ----------
    inputs, outputs : mapping of str to TensorSpec
    kernels : str
        Name of the instruction set whose kernels run.

    Raises
    ------
    ModelError
        If an array of the program is missing or not finite, or a stage reads or writes what isn't there.
    ParameterError
        If BALACOON_TK_KERNELS names an instruction set that this processor hasn't.
    """

    def __init__(
        self, program: Program, options: RuntimeOptions | None = None, *, label: str = "<program>"
    ) -> None:
        self.label = label
        self._executor = open_executor(program, options)
        self._timeless = {port.name for port in program.inputs if program.edges[port.edge].timeless}
        self._outputs = {port.name: (port, program.edges[port.edge].timeless) for port in program.outputs}
        self.inputs = {port.name: _spec(port, port.name in self._timeless) for port in program.inputs}
        self.outputs = {name: _spec(*output) for name, output in self._outputs.items()}
        for port in program.inputs:
            if port.axis not in (-1, len(port.shape)):
                raise ModelError(
                    f"{label}: the input {port.name!r} has its time on axis {port.axis}, not last"
                )

    @property
    def kernels(self) -> str:
        """Name of the instruction set whose kernels run."""
        return self._executor.kernels

    def run(self, feeds: Mapping[str, AnyArray], outputs: Sequence[str] | None = None) -> dict[str, AnyArray]:
        """Run once on arrays and return the outputs by name (all of them if `outputs` is None)."""
        self._check(feeds)
        with runs:
            found, _ = self._executor.step(None, feeds, True)
        names = self._outputs if outputs is None else outputs
        return {name: _as_tensor(found[name], *self._outputs[name]) for name in names}

    def _check(self, feeds: Mapping[str, AnyArray]) -> None:
        # The executor takes arrays at their word, by the size of their last axis.
        for name, spec in self.inputs.items():
            array = feeds.get(name)
            if array is None:
                raise ModelError(f"{self.label}: the input {name!r} is missing")
            fits = len(array.shape) == len(spec.shape) and all(
                n == wanted for n, wanted in zip(array.shape, spec.shape, strict=True) if wanted is not None
            )
            if not fits:
                raise ModelError(f"{self.label}: input {name!r} of shape {array.shape} must be {spec.shape}")


def _spec(port: Port, timeless: bool) -> TensorSpec:
    dtype = np.dtype(np.int64 if port.symbols else np.float32)
    shape: list[int | str | None] = list(port.shape)
    if not timeless:
        shape.insert(len(shape) if port.axis == -1 else port.axis, None)
    return TensorSpec(port.name, dtype, tuple(shape))


def _as_tensor(array: AnyArray, port: Port, timeless: bool) -> AnyArray:
    """Return what an executor gives, time on its last axis, in the shape of an output."""
    if timeless:
        array = array.reshape(port.shape)
    elif port.axis != -1:
        axes = range(len(port.shape))
        array = array.transpose(*axes[: port.axis], -1, *axes[port.axis :])
    return np.ascontiguousarray(array, np.int64 if port.symbols else np.float32)
