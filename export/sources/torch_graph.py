"""Models of torch as graphs: what every source that comes from torch shares.

Torch is imported inside of the functions that need it, so that exporting an ONNX file doesn't. All go through
torch's older exporter, which follows an example (``dynamo=False``): it alone reads TorchScript, and it needs
no package beside torch. What the module does in Python code that depends on the example's length is frozen by
it, so whoever calls this compares the graph with the module at other lengths.
"""

from __future__ import annotations

import contextlib
import copy
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from balacoon_tk.errors import MissingExtraError, ModelError
from balacoon_tk.export.sources.files import finished
from balacoon_tk.graph.simplify.tidy import lift_constants, tidy

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_OPSET = 17


@contextlib.contextmanager
def quiet_torch(what: str) -> Iterator[None]:
    """Run torch without gradients, and without what it says of tracing and TorchScript; `what` needs it."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(what, extra="export") from error
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def exportable() -> Iterator[None]:
    """Let torch write what its exporters don't know (complex numbers, windows) in a form that they do."""
    from balacoon_tk.export.sources.spectral_shims import RealTransforms
    from balacoon_tk.export.sources.unfold_shim import exportable_unfold

    with RealTransforms(), exportable_unfold():
        yield


def plain_copy(model: Module) -> Module:
    """Return a copy for inference on the CPU, without weight norm, old or new."""
    import torch
    from torch.nn.utils import parametrize
    from torch.nn.utils.weight_norm import WeightNorm

    for part in model.modules():
        for hook in part._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm):
                hook(part, ())  # as before a run: the weight it left in a training step can't be copied
    module: Module = copy.deepcopy(model).to("cpu").eval()
    # A script is what it was when it was made: nothing of it can be taken off.
    if isinstance(module, torch.jit.ScriptModule):
        return module
    for part in list(module.modules()):
        with contextlib.suppress(ValueError):  # it has none of the old kind
            torch.nn.utils.remove_weight_norm(part)
        if parametrize.is_parametrized(part):
            # By hand: torch's own way alters the class, which the copy shares with the caller's module.
            values = {name: getattr(part, name) for name in part.parametrizations}
            part.__class__ = parametrize.type_before_parametrizations(part)
            del part.parametrizations
            for name, value in values.items():
                setattr(part, name, torch.nn.Parameter(value))
    return module


def trace(
    module: Module,
    inputs: Mapping[str, Tensor],
    *,
    axes: Mapping[str, Mapping[int, str]],
    outputs: Sequence[str],
    what: str,
) -> onnx.ModelProto:
    """Export a module along an example of its inputs, quietly; an error calls it `what`."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.onnx"
        try:
            with exportable():
                torch.onnx.export(
                    module,
                    tuple(inputs.values()),
                    path,
                    dynamo=False,
                    opset_version=_OPSET,
                    input_names=list(inputs),
                    output_names=list(outputs),
                    dynamic_axes=axes,
                )
        except Exception as error:  # a dozen unrelated types
            # Below its first line torch prints tensors and graphs.
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(f"torch can't export {what} to ONNX: {reason}") from error
        return onnx.load(path)


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
    axes = {key: {axis: f"n_{key}"} for key, axis in time_axes.items()}
    with quiet_torch("a model of torch"):
        proto = trace(plain_copy(module), inputs, axes=axes, outputs=list(outputs), what=f"the {name}")
    model = ir.from_proto(proto)
    lift_constants(model)
    tidy(model, time_axes, outputs)
    return finished(model, name)
