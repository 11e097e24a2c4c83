"""What lies on disk as a trained model: ONNX, the JSON and the model card beside it, and where it came from.

Every source reads its files here, so that a missing or a damaged one is said in the same words for all. No
graph is run and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from balacoon_tk.errors import ModelError, VoiceError
from balacoon_tk.graph.edit import Names
from balacoon_tk.graph.opset import check_readable
from balacoon_tk.runtime.session import NAMELESS
from balacoon_tk.voice.places import hub_repository, kind_of

_LICENSE = re.compile(r"^\W*licen[cs]e\W+(.+?)\s*$", re.IGNORECASE | re.MULTILINE)


def check_trust(path: Path, what: str, instead: str, *, trust: bool) -> None:
    """Refuse a model that can run code, and say what it can do and what to ask for instead."""
    if not trust:
        raise ModelError(
            f"{path}: {what}, so it could write files or never end. Give trust=True (--trust on the command "
            f"line) only if you would run a program of whoever made it; without that, {instead}"
        )


def read_inputs(path: Path) -> list[onnx.ValueInfoProto]:
    """Return what a graph takes, enough to tell kinds of models apart; nothing if it is no readable ONNX."""
    if path.suffix.lower() != ".onnx" or not path.is_file():
        return []
    try:
        graph = load_onnx(path).graph
    except ModelError:
        # Whoever claims the name reads it again, and then says what is wrong with it.
        return []
    # Exporters before ONNX's IR version 4 list every weight among the inputs as well.
    constants = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in constants]


def folder_name(path: Path) -> str:
    """Return what a model's folder is called; in the hub's cache that is its repository, and no hash."""
    folder = path.resolve()
    repository = hub_repository(folder)
    # Deeper in it a folder has a name of its own again.
    if repository is None or folder.parent != repository / "snapshots":
        return folder.name
    return repository.name.rpartition("--")[2]


def naming(path: Path, error: ModelError) -> ModelError:
    """Return an error about a graph as one about the file that it was read from."""
    return ModelError(f"{path}: {str(error).removeprefix(f'{NAMELESS}: ')}")


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, with the weights that may lie beside it; errors don't name the path."""
    if not path.exists():
        raise ModelError("no such file")
    if (kind := kind_of(path.stat())) is not None:
        raise ModelError(f"no such file: it is {kind}")
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's errors have a module of their own in every version
        raise ModelError(f"not an ONNX file, or a damaged one: {error}") from error
    # Protobuf reads many other files without complaint, as a message of fields that it doesn't know.
    if not model.graph.node:
        raise ModelError("not an ONNX file, or a damaged one: there is no graph in it")
    check_readable(model)
    return model


def private_copy(serialized: bytes) -> ir.Model:
    """Read a graph, so that nobody else has it."""
    # Values share their tensors, names included, with the message that they were read from.
    model: ir.Model = ir.from_proto(onnx.ModelProto.FromString(serialized))
    return model


def free_names(graph: ir.Graph, wanted: Collection[str]) -> None:
    """Give whatever in a graph has one of these names another, branches included."""
    names = Names(graph)
    nodes = ir.traversal.RecursiveGraphIterator(graph)
    inner = [value for node in nodes for value in node.outputs]
    for value in [*graph.inputs, *graph.initializers.values(), *inner]:
        if value.name in wanted:
            value.name = names.take(f"{value.name}.inner")


def finished(model: ir.Model, name: str) -> onnx.ModelProto:
    """Return a graph as it goes into a voice: ``encoder`` or ``decoder``, and ours."""
    model.graph.name = name
    # The exporter's name would mislead: the graph is no longer what it wrote.
    model.producer_name, model.producer_version = "balacoon_tk", None
    return ir.to_proto(model)


def read_json(path: Path, *, hint: str = "") -> dict[str, Any]:
    """Read a JSON object; of a file that is missing the `hint` says what it would hold."""
    try:
        # Some editors begin a file with a byte order mark.
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise VoiceError(f"{path}: no such file{hint}") from error
    # RecursionError: JSON nested thousands deep, which no parser follows.
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise VoiceError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(data, dict):
        raise VoiceError(f"{path}: must hold a JSON object")
    return data


def read_provenance(
    path: Path, *, name: str | None = None, cards: Sequence[str] = ("MODEL_CARD",)
) -> dict[str, str]:
    """Return where weights came from: name and checksum of their file, and the first card beside it."""
    # A name of one's own is for files whose own says little, as ``model.safetensors`` does.
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    found = {"source_file": name or path.name, "source_sha256": sha256}
    for card in map(path.with_name, cards):
        if card.is_file():
            # People write cards in any encoding; a letter that is lost is better than no voice.
            return found | {"model_card": card.read_text(encoding="utf-8", errors="replace")}
    return found


def read_license(provenance: Mapping[str, str]) -> str:
    """Return the licence that the model card names; ``unknown`` if it names none."""
    found = _LICENSE.search(provenance.get("model_card", ""))
    return found[1] if found else "unknown"
