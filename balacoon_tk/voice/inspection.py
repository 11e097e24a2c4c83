"""What a voice or a graph is: inputs, rates, receptive field, sizes, and what it costs to run.

Reading a graph's nodes needs the ``export`` extra; running a voice doesn't.
"""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import BalacoonError, MissingExtraError, ModelError
from balacoon_tk.runtime.session import Session, TensorSpec
from balacoon_tk.voice.manifest import Manifest

if TYPE_CHECKING:
    import onnx

    from balacoon_tk.runtime.ort_engine import OrtEngine
    from balacoon_tk.runtime.stateful_graph import StreamingSpec
    from balacoon_tk.voice.vocoder_manifest import VocoderManifest

_ENCODER_PHONEMES = 100
"""Length at which an encoder's cost is given: attention grows with the square of it."""
_DECODER_FRAMES = (64, 128)


@dataclass(frozen=True, slots=True)
class Cost:
    """Multiply-adds of one step, by operator."""

    step: str
    """What a step is: a phoneme or a frame."""
    by_op_type: Mapping[str, float]

    @property
    def total(self) -> float:
        """Multiply-adds of one step."""
        return sum(self.by_op_type.values())


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """How far around a frame its samples look, and how many there are."""

    left_context: int
    """Frames before."""
    lookahead: int
    """Frames after."""
    hop_length: int
    """Samples per frame."""


@dataclass(frozen=True, slots=True)
class GraphInfo:
    """What one graph is."""

    file: str
    n_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    n_parameters: int
    op_counts: Mapping[str, int]
    """Nodes by operator, the most frequent first."""
    cost: Cost | None
    """None if the graph gives nothing for inputs that are made up from their shapes."""
    field: FieldInfo | None = None
    """None if the graph has no bounded receptive field, or no time axis."""
    no_field: str | None = None
    """The reason, if it has none."""
    streaming: StreamingSpec | None = None
    """What exact streaming needs, if the graph was rewritten for it."""

    @property
    def n_nodes(self) -> int:
        """Nodes at the top of the graph."""
        return sum(self.op_counts.values())


@dataclass(frozen=True, slots=True)
class VoiceInfo:
    """What one voice is."""

    path: Path
    manifest: Manifest | VocoderManifest
    encoder: GraphInfo | None
    """None for a vocoder."""
    decoder: GraphInfo

    @property
    def multiply_adds_per_audio_second(self) -> float | None:
        """Multiply-adds that the decoder needs for a second of audio, if they could be counted."""
        if self.decoder.cost is None:
            return None
        return self.decoder.cost.total * self.manifest.sample_rate / self.manifest.hop_length


def inspect_voice(path: str | os.PathLike[str]) -> VoiceInfo:
    """Load a voice, which checks all of it, and say what it is.

    Raises
    ------
    VoiceError
        If it can't be loaded.
    MissingExtraError
        If onnx is not installed.
    """
    from balacoon_tk.voice.files import read_manifest
    from balacoon_tk.voice.vocoder import load_vocoder
    from balacoon_tk.voice.voice import load_voice

    path = Path(path)
    manifest = read_manifest(path)
    voice = load_voice(path) if isinstance(manifest, Manifest) else load_vocoder(path)
    encoder = None
    if isinstance(manifest, Manifest):
        encoder = _encoder_info(_member(path, manifest.encoder.file), manifest)
    return VoiceInfo(
        path=path,
        manifest=manifest,
        encoder=encoder,
        decoder=_decoder_info(_member(path, manifest.decoder.file), voice.decoder, manifest),
    )


def inspect_graph(path: str | os.PathLike[str]) -> GraphInfo:
    """Say what any ONNX graph is.

    Raises
    ------
    ModelError
        If the file isn't an ONNX graph that ONNX Runtime can load.
    MissingExtraError
        If onnx is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    session = Session(path)
    model = _parse(path.read_bytes(), str(path))
    field, no_field = _receptive_field(model)
    return _graph_info(
        path.name, path.stat().st_size, session, model, _general_cost(model), field=field, no_field=no_field
    )


def _encoder_info(file: tuple[str, bytes], manifest: Manifest) -> GraphInfo:
    name, data = file
    model, session = _parse(data, name), Session(data)
    n = _ENCODER_PHONEMES
    made_up: dict[str, AnyArray] = {
        "phoneme_ids": np.zeros((1, n), np.int64),
        "length_scale": np.ones(1, np.float32),
        "duration_noise": np.zeros((1, 2, n), np.float32),
        "speaker_id": np.zeros(1, np.int64),
    }
    counts = _count(model, {key: made_up[key] for key in session.inputs})
    cost = Cost(f"phoneme, of {n}", {op: value / n for op, value in counts.items()})
    return _graph_info(name, len(data), session, model, cost)


def _decoder_info(
    file: tuple[str, bytes], graph: OrtEngine, manifest: Manifest | VocoderManifest
) -> GraphInfo:
    name, data = file
    model = _parse(data, name)
    cost = _cost_per_step(model, lambda n: _decoder_feeds(graph, n), _DECODER_FRAMES)
    field = FieldInfo(manifest.decoder.left_context, manifest.decoder.lookahead, manifest.hop_length)
    return _graph_info(name, len(data), graph.session, model, cost, field=field, streaming=graph.streaming)


def _decoder_feeds(graph: OrtEngine, n_frames: int) -> dict[str, AnyArray]:
    """Make up one push that is the whole utterance."""
    feeds: dict[str, AnyArray] = {}
    for name, spec in graph.contract.inputs.items():
        shape = [axis if isinstance(axis, int) else 1 for axis in spec.shape]
        if name in graph.contract.time_inputs:
            shape[-1] = n_frames
        feeds[name] = np.zeros(shape, spec.dtype)
    if graph.streaming is not None:
        for state in graph.streaming.states:
            feeds[state.input] = np.full(state.shape, state.fill, state.dtype)
        feeds[graph.streaming.last_input] = np.ones(1, np.int64)
    return feeds


def _receptive_field(model: onnx.ModelProto) -> tuple[FieldInfo | None, str | None]:
    """Return the receptive field, or the reason why there is none."""
    from balacoon_tk.graph.errors import NotStreamableError
    from balacoon_tk.graph.receptive_field import receptive_field

    try:
        found = receptive_field(model)
    except NotStreamableError as error:
        return None, f"{error.op_type} node {error.node!r}: {error.reason}"
    except BalacoonError as error:
        return None, str(error)
    return FieldInfo(found.left_context, found.lookahead, found.hop_length), None


def _general_cost(model: onnx.ModelProto) -> Cost | None:
    """Count a graph of which nothing is known; None where more frames don't give more output.

    Made-up inputs may mean nothing to a graph (lengths of 0, say); what it then computes says nothing.
    """
    import onnx_ir as ir

    from balacoon_tk.graph.probe import make_feeds
    from balacoon_tk.graph.time_inputs import find_time_inputs

    try:
        ir_model = ir.from_proto(model)
        found = find_time_inputs(ir_model)
        shapes = (found.probe.shapes[output.name] for output in model.graph.output)
        if not any(first[1:] != other[1:] for first, *others in shapes for other in others):
            return None
        inputs = {value.name: value for value in ir_model.graph.inputs if value.name is not None}
        return _cost_per_step(
            model,
            lambda n: make_feeds(inputs, found.axes, found.steps_per_frame, n),
            (found.probe.n_frames[0], found.probe.n_frames[-1]),
        )
    except BalacoonError:
        return None


def _cost_per_step(
    model: onnx.ModelProto, feeds: Callable[[int], Mapping[str, AnyArray]], lengths: tuple[int, int]
) -> Cost:
    """Count at two lengths and take the slope, which leaves out what an utterance costs only once."""
    short, long = (_count(model, feeds(n)) for n in lengths)
    return Cost("frame", {op: (long[op] - short[op]) / (lengths[1] - lengths[0]) for op in long})


def _count(model: onnx.ModelProto, feeds: Mapping[str, AnyArray]) -> Counter[str]:
    from balacoon_tk.graph.cost import count_multiply_adds

    counts: Counter[str] = Counter()
    for node in count_multiply_adds(model, feeds):
        counts[node.op_type] += node.multiply_adds
    return counts


def _graph_info(
    file: str,
    n_bytes: int,
    session: Session,
    model: onnx.ModelProto,
    cost: Cost | None,
    *,
    field: FieldInfo | None = None,
    no_field: str | None = None,
    streaming: StreamingSpec | None = None,
) -> GraphInfo:
    from balacoon_tk.graph.cost import count_parameters

    return GraphInfo(
        file=file,
        n_bytes=n_bytes,
        inputs=tuple(session.inputs.values()),
        outputs=tuple(session.outputs.values()),
        n_parameters=count_parameters(model),
        op_counts=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        cost=cost,
        field=field,
        no_field=no_field,
        streaming=streaming,
    )


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("inspecting a graph", extra="export") from error
    try:
        return onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own type has no public name
        raise ModelError(f"{name}: not an ONNX file: {error}") from error


def _member(path: Path, name: str) -> tuple[str, bytes]:
    if path.is_dir():
        return name, (path / name).read_bytes()
    with zipfile.ZipFile(path) as archive:
        return name, archive.read(name)
