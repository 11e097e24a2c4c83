"""Cut a VITS graph into an encoder and a decoder; what lay between them leaves the graph.

The expansion to frames is the upsampler's work, and the noise is drawn there too:

- encoder: ``phoneme_ids``, ``length_scale``, ``duration_noise``, ``speaker_id`` to ``encodings``,
  ``log_scales``, ``durations``, ``speaker_embedding``
- decoder: ``frames``, ``speaker_embedding`` to ``samples``

The batch is 1, so every mask is all ones, and the number of phonemes is the length of their ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.vits_seams import Prior, Seams, Table, find_seams
from balacoon_tk.graph.edit import Names, add_constant, remove_unused
from balacoon_tk.graph.walk import ancestors, read_by

_N_NOISE_CHANNELS = 2  # the stochastic duration predictor's flow is over pairs (VITS, appendix B)


def decoder_reads_speaker(seams: Seams) -> bool:
    """Whether the decoder depends on the speaker apart from the frames."""
    if seams.speakers is None or seams.speakers.n_rows == 1:
        return False
    return seams.speakers.rows in ancestors([seams.samples], stop=[seams.frames])


def cut_encoder(model: ir.Model) -> None:
    """Reduce a VITS graph to its encoder, in place.

    Raises
    ------
    ModelError
        If the graph is no VITS voice, or the encoder depends on an input that isn't known.
    """
    graph = model.graph
    seams = find_seams(graph)
    cut = _Cut(graph)
    outputs = {
        "encodings": cut.channels_last(seams.encodings),
        "log_scales": cut.channels_last(seams.log_scales),
        "durations": cut.cast(cut.reshape(seams.durations, [1, -1], seams.durations), ir.DataType.INT64),
    }
    if decoder_reads_speaker(seams) and seams.speakers is not None:
        outputs["speaker_embedding"] = cut.reshape(seams.speakers.rows, [1, -1, 1], seams.durations)

    ids = cut.input("phoneme_ids", ir.DataType.INT64, [1, "n_phonemes"])
    inputs = {"phoneme_ids": ids, "length_scale": cut.input("length_scale", ir.DataType.FLOAT, [1])}
    cut.replace(seams.phonemes.input, cut.cast_like(ids, seams.phonemes.input))
    cut.replace(seams.length_scale, inputs["length_scale"])
    if seams.lengths is not None:
        n_phonemes = cut.slice(cut.node("Shape", [ids]), 1)
        cut.replace(seams.lengths, cut.cast_like(n_phonemes, seams.lengths))
    if seams.scaled_duration_noise is not None:
        inputs["duration_noise"] = cut.input(
            "duration_noise", ir.DataType.FLOAT, [1, _N_NOISE_CHANNELS, "n_phonemes"]
        )
        cut.replace(seams.scaled_duration_noise, inputs["duration_noise"])
    if seams.speakers is not None:
        speaker = cut.speaker(seams.speakers)
        if speaker is not None:
            inputs["speaker_id"] = speaker
    cut.finish(model, inputs, outputs)


def cut_decoder(model: ir.Model, *, n_channels: int) -> None:
    """Reduce a VITS graph to its decoder, in place.

    Raises
    ------
    ModelError
        If the graph is no VITS voice, or the decoder depends on an input that isn't known.
    """
    graph = model.graph
    seams = find_seams(graph)
    cut = _Cut(graph)
    outputs = {"samples": cut.reshape(seams.samples, [1, 1, -1], seams.samples)}
    frames = cut.input("frames", ir.DataType.FLOAT, [1, n_channels, "n_frames"])
    inputs = {"frames": frames}
    for total in seams.total_frames:
        n_frames = cut.cast_like(cut.slice(cut.node("Shape", [frames]), 2), seams.durations)
        producer = total.producer()
        keeps = (
            producer is not None
            and (a := producer.attributes.get("keepdims")) is not None
            and a.as_int() == 0
        )
        cut.replace(total, n_frames if keeps else cut.reshape(n_frames, [1, 1, 1], None))
    if seams.speakers is not None:
        if decoder_reads_speaker(seams):
            n_speaker_channels = _n_columns(seams.speakers)
            shape: list[int | str] = [1, n_speaker_channels, 1]
            inputs["speaker_embedding"] = cut.input("speaker_embedding", ir.DataType.FLOAT, shape)
            rank = len(seams.speakers.input.shape or ())
            row = cut.reshape(inputs["speaker_embedding"], [1] * rank + [-1], None)
            cut.replace(seams.speakers.rows, row)
        else:
            cut.speaker(seams.speakers)
    cut.replace(seams.frames, frames)
    cut.finish(model, inputs, outputs)


def _n_columns(table: Table) -> int:
    lookup = table.rows.producer()
    weights = lookup.inputs[0] if lookup is not None else None
    if weights is None or weights.const_value is None:
        raise ModelError("the speaker table is not a constant")
    n_columns: int = weights.const_value.numpy().shape[1]
    return n_columns


class _Cut:
    """Puts new nodes at the graph's beginning and end, and swaps its inputs and outputs."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._names = Names(graph)
        self._nodes: list[ir.Node] = []
        self._tail: list[ir.Node] = []

    def input(self, name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
        unique = self._names.take(name)
        return ir.Value(name=unique, shape=ir.Shape(shape), type=ir.TensorType(dtype))

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        attributes: Mapping[str, int | list[int]] | None = None,
        *,
        last: bool = False,
    ) -> ir.Value:
        node = ir.node(op_type, inputs, attributes)
        node.outputs[0].name = self._names.take(op_type.lower())
        node.name = node.outputs[0].name
        (self._tail if last else self._nodes).append(node)
        return node.outputs[0]

    def constant(self, values: list[int]) -> ir.Value:
        return add_constant(self._graph, np.array(values, dtype=np.int64), self._names.take("constant"))

    def reshape(self, value: ir.Value, shape: list[int], after: ir.Value | None) -> ir.Value:
        """Reshape a new input, or something that is computed in the graph."""
        return self.node("Reshape", [value, self.constant(shape)], last=after is not None)

    def slice(self, shape: ir.Value, index: int) -> ir.Value:
        return self.node("Slice", [shape, self.constant([index]), self.constant([index + 1])])

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        return self.node("Cast", [value], {"to": int(dtype)}, last=True)

    def cast_like(self, value: ir.Value, model: ir.Value) -> ir.Value:
        dtype = model.dtype or ir.DataType.FLOAT
        if dtype == ir.DataType.INT64:
            return value
        return self.node("Cast", [value], {"to": int(dtype)})

    def channels_last(self, prior: Prior) -> ir.Value:
        if prior.channels_last:
            return prior.value
        return self.node("Transpose", [prior.value], {"perm": [0, 2, 1]}, last=True)

    def speaker(self, table: Table) -> ir.Value | None:
        """Replace the speaker's input; a table with one row needs none."""
        rank = len(table.input.shape or ())
        if table.n_rows == 1:
            zero = add_constant(self._graph, np.zeros([1] * rank, np.int64), self._names.take("speaker"))
            self.replace(table.input, self.cast_like(zero, table.input))
            return None
        speaker = self.input("speaker_id", ir.DataType.INT64, [1])
        value = speaker if rank == 1 else self.reshape(speaker, [1] * rank, None)
        self.replace(table.input, self.cast_like(value, table.input))
        return speaker

    def replace(self, value: ir.Value, replacement: ir.Value) -> None:
        value.replace_all_uses_with(replacement, replace_graph_outputs=True)

    def finish(
        self, model: ir.Model, inputs: Mapping[str, ir.Value], outputs: Mapping[str, ir.Value]
    ) -> None:
        graph = self._graph
        first = next(iter(graph))
        graph.insert_before(first, self._nodes)
        graph.extend(self._tail)
        graph.outputs.clear()
        graph.outputs.extend(outputs.values())
        graph.inputs.clear()
        graph.inputs.extend(inputs.values())
        remove_unused(model)
        _check_closed(graph)
        _give_names(graph, {**inputs, **outputs})


def _check_closed(graph: ir.Graph) -> None:
    """Raise an error if the graph still reads an input of the whole graph, or draws noise."""
    inputs = set(graph.inputs)
    for node in graph:
        for value in read_by(node):
            if value.producer() is None and value.const_value is None and value not in inputs:
                raise ModelError(
                    f"not a VITS voice: {node.op_type} node {node.name!r} still needs input {value.name!r} "
                    "after the cut"
                )


def _give_names(graph: ir.Graph, wanted: Mapping[str, ir.Value]) -> None:
    """Name the inputs and outputs; whoever had that name gets another."""
    names = Names(graph)
    chosen = set(wanted.values())
    values = [*graph.inputs, *graph.initializers.values()]
    for node in ir.traversal.RecursiveGraphIterator(graph):
        values += node.outputs
    for value in values:
        if value.name in wanted and value not in chosen:
            value.name = names.take(f"{value.name}.inner")
    for value in chosen:
        value.name = names.take("renamed")
    for name, value in wanted.items():
        value.name = name
