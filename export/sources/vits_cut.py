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
from balacoon_tk.export.sources.files import free_names
from balacoon_tk.export.sources.vits_seams import Prior, Seams, Table, find_seams
from balacoon_tk.graph.edit import Names, Writer, remove_unused
from balacoon_tk.graph.walk import ancestors, read_by

_N_NOISE_CHANNELS = 2  # the stochastic duration predictor's flow is over pairs (VITS, appendix B)


def _speakers_of_decoder(seams: Seams) -> Table | None:
    """Return the table of speakers, if the decoder depends on it apart from the frames."""
    table = seams.speakers
    if table is None or table.n_rows == 1:
        return None
    return table if table.rows in ancestors([seams.samples], stop=[seams.frames]) else None


def cut_encoder(model: ir.Model) -> None:
    """Reduce a VITS graph to its encoder, in place."""
    seams = find_seams(model.graph)
    cut = _Cut(model.graph)
    durations = _reshape(cut.last, seams.durations, 1, -1)
    outputs = {
        "encodings": cut.channels_last(seams.encodings),
        "log_scales": cut.channels_last(seams.log_scales),
        "durations": cut.last.one("Cast", durations, to=int(ir.DataType.INT64)),
    }
    if (table := _speakers_of_decoder(seams)) is not None:
        outputs["speaker_embedding"] = _reshape(cut.last, table.rows, 1, -1, 1)

    ids = cut.input("phoneme_ids", ir.DataType.INT64, [1, "n_phonemes"])
    inputs = {"phoneme_ids": ids, "length_scale": cut.input("length_scale", ir.DataType.FLOAT, [1])}
    cut.replace(seams.phonemes.input, cut.cast_like(ids, seams.phonemes.input))
    cut.replace(seams.length_scale, inputs["length_scale"])
    if seams.lengths is not None:
        cut.replace(seams.lengths, cut.cast_like(cut.first.length(ids, 1), seams.lengths))
    if seams.scaled_duration_noise is not None:
        noise = cut.input("duration_noise", ir.DataType.FLOAT, [1, _N_NOISE_CHANNELS, "n_phonemes"])
        inputs["duration_noise"] = noise
        cut.replace(seams.scaled_duration_noise, noise)
    if seams.speakers is not None and (speaker := cut.speaker(seams.speakers)) is not None:
        inputs["speaker_id"] = speaker
    cut.finish(model, inputs, outputs)


def cut_decoder(model: ir.Model, *, n_channels: int) -> None:
    """Reduce a VITS graph to its decoder, in place."""
    seams = find_seams(model.graph)
    cut = _Cut(model.graph)
    outputs = {"samples": _reshape(cut.last, seams.samples, 1, 1, -1)}
    frames = cut.input("frames", ir.DataType.FLOAT, [1, n_channels, "n_frames"])
    inputs = {"frames": frames}
    for total in seams.total_frames:
        n_frames = cut.cast_like(cut.first.length(frames, 2), seams.durations)
        # The durations are (1, 1, n_phonemes), and so is their sum unless it drops its axes.
        producer = total.producer()
        drops_axes = producer is not None and producer.attributes.get_int("keepdims", 1) == 0
        cut.replace(total, n_frames if drops_axes else _reshape(cut.first, n_frames, 1, 1, 1))
    if (table := _speakers_of_decoder(seams)) is not None:
        embedding = cut.input("speaker_embedding", ir.DataType.FLOAT, [1, table.n_columns, 1])
        inputs["speaker_embedding"] = embedding
        cut.replace(table.rows, _reshape(cut.first, embedding, *[1] * len(table.input.shape or ()), -1))
    elif seams.speakers is not None:
        cut.speaker(seams.speakers)
    cut.replace(seams.frames, frames)
    cut.finish(model, inputs, outputs)


class _Cut:
    """Puts new nodes at the graph's beginning and end, and swaps its inputs and outputs."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._names = Names(graph)
        self.first, self.last = (Writer(graph, self._names, stem) for stem in ("cut.first", "cut.last"))
        """Write in front of all that is there, and behind it."""

    def input(self, name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
        return ir.Value(name=self._names.take(name), shape=ir.Shape(shape), type=ir.TensorType(dtype))

    def cast_like(self, value: ir.Value, model: ir.Value) -> ir.Value:
        dtype = model.dtype or ir.DataType.FLOAT
        return value if dtype == ir.DataType.INT64 else self.first.one("Cast", value, to=int(dtype))

    def channels_last(self, prior: Prior) -> ir.Value:
        value = prior.value
        return value if prior.channels_last else self.last.one("Transpose", value, perm=[0, 2, 1])

    def speaker(self, table: Table) -> ir.Value | None:
        """Replace the speaker's input; a table with one row needs none."""
        rank = len(table.input.shape or ())
        if table.n_rows == 1:
            zero = self.first.constant(np.zeros([1] * rank, np.int64))
            self.replace(table.input, self.cast_like(zero, table.input))
            return None
        speaker = self.input("speaker_id", ir.DataType.INT64, [1])
        # Some graphs take the speaker as a number, others as one of a batch.
        value = speaker if rank == 1 else _reshape(self.first, speaker, *[1] * rank)
        self.replace(table.input, self.cast_like(value, table.input))
        return speaker

    def replace(self, value: ir.Value, replacement: ir.Value) -> None:
        value.replace_all_uses_with(replacement, replace_graph_outputs=True)

    def finish(
        self, model: ir.Model, inputs: Mapping[str, ir.Value], outputs: Mapping[str, ir.Value]
    ) -> None:
        graph = self._graph
        graph.insert_before(graph[0], self.first.nodes)
        graph.extend(self.last.nodes)
        graph.outputs[:], graph.inputs[:] = outputs.values(), inputs.values()
        remove_unused(model)
        for node in graph:
            for value in read_by(node):
                # An input of the whole graph, or noise: then the cut went past something.
                if value.producer() is None and value.const_value is None and value not in inputs.values():
                    raise ModelError(
                        f"not a VITS voice: {node.op_type} node {node.name!r} still needs input "
                        f"{value.name!r} after the cut"
                    )
        named = {**inputs, **outputs}
        free_names(graph, named)
        for name, value in named.items():
            value.name = name


def _reshape(write: Writer, value: ir.Value, *shape: int) -> ir.Value:
    return write.one("Reshape", value, write.ints(*shape))
