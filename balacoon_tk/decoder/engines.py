"""From a graph or a program to the engine that runs it."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from balacoon_tk.errors import BalacoonError, MissingExtraError, ModelError
from balacoon_tk.runtime.engine import Engine
from balacoon_tk.runtime.native.opening import open_program
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import NAMELESS, GraphSource, PackedGraph
from balacoon_tk.runtime.stateful_graph import StreamingSpec

if TYPE_CHECKING:
    import onnx

_COMPILER = "balacoon_tk.targets.native.compile"
"""Named and not imported: targets compile for the engines of these rooms, which know nothing of them."""


def open_engine(model: GraphSource, options: RuntimeOptions) -> Engine:
    """Open a graph in ONNX Runtime, or, if the options ask for it, in the native engine.

    Parameters
    ----------
    model : path, bytes or ModelProto
        For the native engine a plain graph, which is compiled: it brings streaming itself.
    options : RuntimeOptions
        With ``backend="auto"`` a graph is run by ONNX Runtime: only voices are measured.

    Raises
    ------
    ModelError
        If the graph can't be loaded or compiled; the message names the node and the reason.
    MissingExtraError
        If it has to be compiled, and the package onnx isn't installed.
    """
    if options.backend != "native":
        return OrtEngine(model, options)
    if options.other_providers:
        raise ModelError(f"backend='native': providers={options.providers} are ONNX Runtime's")
    return _compile(model, options)


def _compile(model: GraphSource, options: RuntimeOptions) -> Engine:
    if isinstance(model, PackedGraph):
        raise ModelError("backend='native': the graph's weights lie apart from it: give it with its weights")
    label, proto = _read(model)
    if any(item.key == StreamingSpec.METADATA_KEY for item in proto.metadata_props):
        raise ModelError(
            f"{label}: backend='native' takes the plain graph, and this is what make_streaming made of one"
        )
    try:
        program = importlib.import_module(_COMPILER).compile_native(proto)
    except BalacoonError as error:
        raise ModelError(f"{label}: backend='native' can't run it: {error}") from error
    return open_program(program, options, label=label)


def _read(model: str | os.PathLike[str] | bytes | onnx.ModelProto) -> tuple[str, onnx.ModelProto]:
    """Return what messages call a graph, and the graph."""
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("compiling a graph for the native engine", extra="voice") from error
    if isinstance(model, onnx.ModelProto):
        return NAMELESS, model
    label = f"<{len(model)} bytes>" if isinstance(model, bytes) else str(Path(model))
    try:
        if isinstance(model, bytes):
            return label, onnx.load_model_from_string(model)
        return label, onnx.load(model)
    except FileNotFoundError as error:
        raise ModelError(f"{label}: no such file") from error
    except Exception as error:  # protobuf's own type has no public name
        raise ModelError(f"{label}: not an ONNX file: {error}") from error
