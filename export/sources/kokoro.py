"""Kokoro and other StyleTTS 2 graphs: recognised, and refused with the reason.

Their decoder normalises each channel over the whole utterance and scales it by the style (AdaIN): mean and
deviation of all frames, also of those that are not there yet, are in every sample. So no state and no context
makes a stream of it that says the same. The nodes are looked up in the graph, so that the message is about
this very file.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.files import load_onnx, read_inputs
from balacoon_tk.export.sources.source import Progress

_TOKENS = frozenset({"tokens", "input_ids"})


# Without this source PiperOnnx would claim the file, and miss a Ceil in it rather than say what is wrong.
class Kokoro:
    """Recognises Kokoro (StyleTTS 2) in ONNX, and says why it can't be streamed exactly."""

    def claims(self, path: Path) -> bool:
        """Say whether a path is a graph that takes tokens, a style and a speed."""
        names = {value.name for value in read_inputs(path)}
        return {"style", "speed"} <= names and not _TOKENS.isdisjoint(names)

    def read(self, path: Path, *, config: Path | None, progress: Progress, trust: bool = False) -> NoReturn:
        """Refuse, always; the message names the nodes that need the whole utterance."""
        progress("reading", 0.0)
        # Instance normalisation, in one node or written out. A layer norm of the text encoder is a ReduceMean
        # as well, over channels, which is no obstacle: hence the decoder's name.
        nodes = [
            f"{node.op_type} {node.name!r}"
            for node in load_onnx(path).graph.node
            if node.op_type == "InstanceNormalization"
            or (node.op_type == "ReduceMean" and "decoder" in node.name and "norm" in node.name)
        ]
        found = f"{len(nodes)} nodes, {nodes[0]} first" if nodes else "in nodes that were not found"
        raise ModelError(
            f"{path}: Kokoro (StyleTTS 2) is not exported: its decoder takes mean and deviation over all "
            f"frames of the utterance (AdaIN, {found}), so every sample depends on every frame: neither a "
            "state nor any overlap gives the samples of the whole. Its own runtime speaks whole sentences"
        )
