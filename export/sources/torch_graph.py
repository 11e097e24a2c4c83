"""A part of a torch model as a graph of a voice."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.torchscript import first_line, plain_copy, quiet_torch
from balacoon_tk.graph.simplify.tidy import lift_constants, tidy

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_OPSET = 17


def to_graph(
    module: Module,
    inputs: Mapping[str, Tensor],
    *,
    time_axes: Mapping[str, int],
    outputs: Mapping[str, Sequence[int | str]],
    name: str,
) -> onnx.ModelProto:
    """Export a module, and fold away what only a batch or an unknown length would need.

    Parameters
    ----------
    module : Module
        Takes the inputs in their order and gives the outputs in theirs. It is not changed.
    inputs : mapping of str to Tensor
        An example of each, for a batch of 1. Lengths should be no others' (11 phonemes, 13 frames).
    time_axes : mapping of str to int
        The axis of each input whose length changes.
    outputs : mapping of str to sequence of int or str
        The shape of each; the name of an axis stands for a length that changes.
    name : str
        ``encoder`` or ``decoder``.

    Returns
    -------
    ModelProto

    Raises
    ------
    MissingExtraError
        If torch isn't installed.
    ModelError
        If torch can't export the module.
    """
    with quiet_torch("a model of torch"), tempfile.TemporaryDirectory() as folder:
        import torch

        path = Path(folder) / "part.onnx"
        try:
            torch.onnx.export(
                plain_copy(module),
                tuple(inputs.values()),
                path,
                dynamo=False,
                opset_version=_OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={key: {axis: f"n_{key}"} for key, axis in time_axes.items()},
            )
        except Exception as error:  # a dozen unrelated types
            raise ModelError(f"torch can't export the {name} to ONNX: {first_line(error)}") from error
        model = ir.from_proto(onnx.load(path))
    lift_constants(model)
    tidy(model, time_axes, outputs)
    model.graph.name = name
    model.producer_name, model.producer_version = "balacoon_tk", None
    return ir.to_proto(model)
