"""Kokoro and other StyleTTS 2 graphs: recognised, and refused with the reason.

Their decoder normalises each channel over the whole utterance and scales it by the style (AdaIN): mean and
deviation of all frames, also of those that are not there yet, are in every sample. So no state and no context
makes a stream of it that says the same. The nodes are looked up in the graph, so that the message is about
this very file.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import onnx

from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.signature import load_onnx, read_signature
from balacoon_tk.export.sources.source import Progress

_TOKENS = frozenset({"tokens", "input_ids"})
_STYLE, _SPEED = "style", "speed"


class Kokoro:
    """Recognises Kokoro (StyleTTS 2) in ONNX, and says why it can't be streamed exactly."""

    def claims(self, path: Path) -> bool:
        """Say whether a path is a graph that takes tokens, a style and a speed."""
        signature = read_signature(path)
        return (
            signature is not None
            and {_STYLE, _SPEED} <= set(signature.names)
            and bool(_TOKENS.intersection(signature.names))
        )

    def read(self, path: Path, *, config: Path | None, progress: Progress) -> NoReturn:
        """Refuse.

        Raises
        ------
        ModelError
            Always; the message names the nodes that need the whole utterance.
        """
        progress("reading", 0.0)
        nodes = _over_time(load_onnx(path).graph)
        found = f"{len(nodes)} nodes, {nodes[0]} first" if nodes else "in nodes that were not found"
        raise ModelError(
            f"{path}: Kokoro (StyleTTS 2) is not exported: its decoder takes mean and deviation over all "
            f"frames of the utterance (AdaIN, {found}), so every sample depends on every frame: neither a "
            "state nor any overlap gives the samples of the whole. Its own runtime speaks whole sentences"
        )


def _over_time(graph: onnx.GraphProto) -> list[str]:
    """Return what normalises in the decoder: instance normalisation, in one node or written out."""
    return [
        f"{node.op_type} {node.name!r}"
        for node in graph.node
        if node.op_type == "InstanceNormalization"
        or (node.op_type == "ReduceMean" and "decoder" in node.name and "norm" in node.name)
    ]
