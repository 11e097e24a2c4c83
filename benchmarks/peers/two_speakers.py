"""The default voice with layers for two speakers, of small random weights: what engines do for such a voice.

No package brings a trained VITS voice with several speakers. What a speaker adds to a graph is an embedding,
a projection of it in each part of the flow and one in front of the generator; they cost what trained ones do.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from balacoon_tk._files import cache_folder as balacoon_cache
from balacoon_tk.export import export_voice
from balacoon_tk.voice.files import MANIFEST_FILE
from peers.files import cache_folder, model_path, voice_config

N_SPEAKERS, N_SPEAKER_CHANNELS = 2, 512
_FLOWS, _N_LAYERS, _N_HIDDEN = (6, 4, 2, 0), 4, 192
_N_GENERATOR = 256
_SCALE = 1e-3
"""Of the weights: the voice still speaks."""
_SPEAKER = "speaker_embedding"


def two_speakers_path() -> Path:
    """Return the graph, with its JSON beside it; it is made the first time."""
    path = cache_folder("two-speakers") / "joe-and-another.onnx"
    if not path.is_file():
        model = onnx.load(model_path())
        _Speakers(model).add()
        onnx.checker.check_model(model)
        names = {f"speaker{k}": k for k in range(N_SPEAKERS)}
        config = {**voice_config(), "num_speakers": N_SPEAKERS, "speaker_id_map": names}
        path.with_name(f"{path.name}.json").write_text(json.dumps(config), encoding="utf-8")
        onnx.save(model, path)
    return path


def two_speakers_voice() -> Path:
    """Return the toolkit's voice of it; it is exported the first time."""
    folder = balacoon_cache() / "voices" / "two-speakers"
    if not (folder / MANIFEST_FILE).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        export_voice(two_speakers_path(), folder)
    return folder


class _Speakers:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph, self._rng = model.graph, np.random.default_rng(0)

    def add(self) -> None:
        """Add an input for the speaker, and what reads it."""
        graph = self._graph
        # Where there is no speaker, the exporter has given that name to a weight.
        self._rename("sid", "enc_p.emb.weight")
        graph.input.append(helper.make_tensor_value_info("sid", TensorProto.INT64, [1]))
        embedding = self._weight("emb_g.weight", N_SPEAKERS, N_SPEAKER_CHANNELS)
        axis = self._constant("speaker_axis", [-1])
        self._insert(
            0,
            helper.make_node("Gather", [embedding, "sid"], ["speaker_row"], "/emb_g/Gather"),
            helper.make_node("Unsqueeze", ["speaker_row", axis], [_SPEAKER], "/emb_g/Unsqueeze"),
        )
        for flow in _FLOWS:
            projected = self._project(
                f"flow.flows.{flow}.enc.cond_layer",
                2 * _N_HIDDEN * _N_LAYERS,
                before=f"/flow/flows.{flow}/enc/in_layers.0/Conv",
            )
            for layer in range(_N_LAYERS):
                start, stop = (2 * _N_HIDDEN * (layer + k) for k in range(2))
                stem = f"/flow/flows.{flow}/enc/cond.{layer}"
                ends = [self._constant(f"{stem}/{k}", [k]) for k in (start, stop, 1)]
                part = helper.make_node("Slice", [projected, *ends], [f"{stem}/part"], f"{stem}/Slice")
                self._add_to(f"/flow/flows.{flow}/enc/in_layers.{layer}/Conv", stem, part)
        projected = self._project("dec.cond", _N_GENERATOR, before="/dec/conv_pre/Conv")
        part = helper.make_node("Identity", [projected], ["/dec/cond/part"], "/dec/cond/Identity")
        self._add_to("/dec/conv_pre/Conv", "/dec/cond", part)

    def _project(self, name: str, n_channels: int, *, before: str) -> str:
        weights = self._weight(f"{name}.weight", n_channels, N_SPEAKER_CHANNELS, 1)
        # As the exporter names nodes, by whose "cond" an engine finds the speaker.
        stem = f"/{name.replace('.enc.', '/enc/').replace('flow.', 'flow/').replace('dec.', 'dec/')}"
        operands = [_SPEAKER, weights, self._weight(f"{name}.bias", n_channels)]
        node = helper.make_node("Conv", operands, [f"{stem}/out"], f"{stem}/Conv", kernel_shape=[1])
        self._insert(self._place(before), node)
        return f"{stem}/out"

    def _add_to(self, layer: str, stem: str, part: onnx.NodeProto) -> None:
        """Add what `part` gives to what a layer gives, for all who read that."""
        place = self._place(layer)
        made, total = self._graph.node[place].output[0], f"{stem}/sum"
        for node in self._graph.node:
            node.input[:] = [total if name == made else name for name in node.input]
        add = helper.make_node("Add", [made, part.output[0]], [total], f"{stem}/Add")
        self._insert(place + 1, part, add)

    def _rename(self, old: str, new: str) -> None:
        for tensor in self._graph.initializer:
            tensor.name = new if tensor.name == old else tensor.name
        for node in self._graph.node:
            node.input[:] = [new if name == old else name for name in node.input]

    def _place(self, name: str) -> int:
        return next(k for k, node in enumerate(self._graph.node) if node.name == name)

    def _insert(self, place: int, *nodes: onnx.NodeProto) -> None:
        for k, node in enumerate(nodes):
            self._graph.node.insert(place + k, node)

    def _weight(self, name: str, *shape: int) -> str:
        array = (_SCALE * self._rng.standard_normal(shape)).astype(np.float32)
        self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def _constant(self, name: str, numbers: list[int]) -> str:
        self._graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
        return name
