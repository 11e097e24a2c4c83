"""Torch's two exporters, each as a function from a module to a graph.

The older one follows an example, and freezes what Python code makes of a length. The newer one keeps lengths
as symbols, and needs the package onnxscript. Either may give a graph that isn't the module's: whoever calls
them compares.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import onnx

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import MissingExtraError, ModelError, ParameterError
from balacoon_tk.export.sources.torch_graph import exportable, trace

if TYPE_CHECKING:
    from torch.nn import Module

Export = Callable[["Module", Mapping[str, AnyArray], Mapping[str, int], int, str], onnx.ModelProto]
"""A module, an example of its inputs, their time axes, the rank of its samples, and what messages call it."""

_OPSET = 18  # the least that the newer one writes
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def choose_exporters(name: str | None) -> dict[str, Export]:
    """Return the exporter of a name, or all that there are, in the order in which they are tried."""
    if name is not None and name not in EXPORTERS:
        raise ParameterError(f"exporter={name!r} must be one of {', '.join(EXPORTERS)}")
    chosen = dict(EXPORTERS) if name is None else {name: EXPORTERS[name]}
    if importlib.util.find_spec("onnxscript") is None:
        if name == "dynamo":
            raise MissingExtraError("torch's newer exporter", extra="export")
        chosen.pop("dynamo", None)
    return chosen


def _by_tracing(
    module: Module, example: Mapping[str, AnyArray], time_axes: Mapping[str, int], rank: int, label: str
) -> onnx.ModelProto:
    import torch

    axes = {name: {axis % example[name].ndim: f"n_{name}"} for name, axis in time_axes.items()}
    # Where it fails it prints the whole graph that it has come to.
    with contextlib.redirect_stdout(io.StringIO()):
        return trace(
            module,
            {name: torch.from_numpy(array) for name, array in example.items()},
            axes={**axes, "samples": {rank - 1: "n_samples"}},
            outputs=["samples"],
            what=label,
        )


def _by_dynamo(
    module: Module, example: Mapping[str, AnyArray], time_axes: Mapping[str, int], rank: int, label: str
) -> onnx.ModelProto:
    import torch

    from balacoon_tk.export.sources.python_choices import PythonChoices
    from balacoon_tk.export.sources.whole_operators import WholeOperators

    tensors = {name: torch.from_numpy(array) for name, array in example.items()}
    dynamic = [
        {time_axes[name] % array.ndim: torch.export.Dim.DYNAMIC} if name in time_axes else {}
        for name, array in example.items()
    ]
    try:
        with _silent(), PythonChoices(), exportable(), WholeOperators():
            module(*tensors.values())  # for what it decides by values
            program = torch.onnx.export(
                module,
                tuple(tensors.values()),
                dynamo=True,
                opset_version=_OPSET,
                input_names=list(example),
                output_names=["samples"],
                dynamic_shapes=_as_called(module, dynamic),
                verbose=False,
            )
    except Exception as error:  # a dozen unrelated types
        raise ModelError(f"torch can't export {label} to ONNX: {_reason(error)}") from error
    if program is None:
        raise ModelError(f"torch can't export {label} to ONNX: it gives no graph")
    proto: onnx.ModelProto = program.model_proto
    return proto


def _as_called(module: Module, given: Sequence[Any]) -> tuple[Any, ...]:
    """Put what is given for each input as torch wants it: what ``*args`` take is one tuple."""
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return tuple(given)
    n_named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*given[:n_named], tuple(given[n_named:]))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    # It prints what it has come to, and logs which of its own parts aren't installed.
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _reason(error: BaseException) -> str:
    # The outer ones say which step of three failed, and how to file a report.
    while error.__cause__ is not None:
        error = error.__cause__
    first, _, others = _COLOURS.sub("", str(error)).strip().partition("\n")
    # Where it lists what is wrong, the first of that.
    return f"{first} {others.partition(chr(10))[0].strip(' -')}" if first.endswith(":") else first


EXPORTERS: Mapping[str, Export] = MappingProxyType({"torchscript": _by_tracing, "dynamo": _by_dynamo})
"""By name, in the order in which they are tried."""
