"""What a voice or a graph is: inputs, rates, receptive field, sizes, and what it costs to run.

Reading a graph's nodes needs the ``export`` extra; running a voice doesn't.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import BalacoonError, MissingExtraError, ModelError
from balacoon_tk.runtime.options import Backend, RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session, TensorSpec
from balacoon_tk.runtime.stateful_graph import StreamingSpec
from balacoon_tk.targets.choice import choose_target, find_compiled, find_native
from balacoon_tk.voice.backends import BackendChoice
from balacoon_tk.voice.files import VoiceFiles
from balacoon_tk.voice.manifest import Manifest, TargetInfo
from balacoon_tk.voice.programs import ProgramInfo, describe_program
from balacoon_tk.voice.voice import load_voice

try:
    import onnx
    import onnx_ir as ir
except ImportError as _error:
    raise MissingExtraError("inspecting a graph", extra="export") from _error

from balacoon_tk.graph.cost import count_multiply_adds, count_parameters
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.obstacles import Streamability, judge_streaming
from balacoon_tk.graph.opset import check_readable
from balacoon_tk.graph.probe import make_feeds
from balacoon_tk.graph.receptive_field import receptive_field
from balacoon_tk.graph.time_inputs import find_time_inputs

_ENCODER_PHONEMES = 100  # length at which an encoder's cost is given: attention grows with the square of it
_DECODER_FRAMES = 128


@dataclass(frozen=True, slots=True)
class Cost:
    """Multiply-adds of one step, by operator."""

    step: str  # what a step is: a phoneme or a frame
    by_op_type: Mapping[str, float]

    @property
    def total(self) -> float:
        """Multiply-adds of one step."""
        return sum(self.by_op_type.values())


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """How far around a frame its samples look, and how many there are."""

    left_context: int
    lookahead: int
    hop_length: int


@dataclass(frozen=True, slots=True)
class GraphInfo:
    """What one graph is."""

    file: str
    n_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    n_parameters: int
    op_counts: Mapping[str, int]  # nodes by operator, the most frequent first
    cost: Cost | None  # None if the graph gives nothing for inputs that are made up from their shapes
    field: FieldInfo | None  # None if the graph has no bounded receptive field, or no time axis
    no_field: str | None  # the reason, if it has none
    streaming: StreamingSpec | None  # if the graph was rewritten for exact streaming
    # What a rewrite would come to, or what stands against it; None of a graph that was rewritten, or that
    # can't be asked: then `no_field` says why.
    would_stream: Streamability | None

    @property
    def n_nodes(self) -> int:
        """Nodes at the top of the graph."""
        return sum(self.op_counts.values())


@dataclass(frozen=True, slots=True)
class VoiceInfo:
    """What one voice is."""

    path: Path
    sha256: str  # of voice.json, which has the checksum of every other file
    manifest: Manifest
    backend: BackendChoice  # which engine runs its decoder here, and why
    target: str  # name of the target whose graphs ONNX Runtime runs here
    compiled: TargetInfo
    encoder_backend: BackendChoice | None  # the same of its encoder; None for a vocoder
    program: ProgramInfo | None  # of the decoder; None if the native engine can't run it
    not_native: str | None  # the reason, if it can't
    encoder_program: ProgramInfo | None  # None if the native engine can't run it, or for a vocoder
    encoder: GraphInfo | None  # as it was compiled; None for a vocoder
    decoder: GraphInfo

    @property
    def multiply_adds_per_audio_second(self) -> float | None:
        """Multiply-adds that the decoder needs for a second of audio, if they could be counted."""
        if self.decoder.cost is None:
            return None
        return self.decoder.cost.total * self.manifest.sample_rate / self.manifest.hop_length


def inspect_voice(
    path: str | os.PathLike[str],
    *,
    backend: Backend | None = None,
    options: RuntimeOptions | None = None,
    sha256: str | None = None,
) -> VoiceInfo:
    """Load a voice, which checks all of it, and say what it is; needs the package onnx.

    `backend`, `options` and `sha256` are as for `load_voice`. Nodes, states and costs are those of ONNX
    Runtime's graphs in any case.
    """
    voice = load_voice(path, backend=backend, options=options, sha256=sha256)
    files = VoiceFiles(voice.path, voice.sha256)
    compiled, manifest = find_compiled(files, voice.options), voice.manifest
    info, engine = compiled.info, voice.decoder
    if not isinstance(engine, OrtEngine):
        engine = OrtEngine(compiled.files.graph(info.decoder), voice.options)
    encoder = None
    if info.encoder is not None:
        model = compiled.files.model(info.encoder)
        session = Session(model)
        encoder = _graph_info(
            info.encoder.file, model.ByteSize(), session, model, _encoder_cost(session, model)
        )
    model = compiled.files.model(info.decoder)
    # The manifest knows the receptive field of the plain decoder; a stateful one has none of its own.
    field = FieldInfo(manifest.decoder.left_context, manifest.decoder.lookahead, manifest.hop_length)
    would_stream = None if engine.streaming else _would_stream(model)
    # A decoder that is told of the longest utterance runs no longer one.
    longest = min(_DECODER_FRAMES, manifest.decoder.max_frames or _DECODER_FRAMES)
    lengths = (longest // 2, longest)
    decoder = _graph_info(
        info.decoder.file,
        model.ByteSize(),
        engine.session,
        model,
        _cost_per_step(model, lambda n: _decoder_feeds(engine, n), lengths) if lengths[0] else None,
        field=field,
        streaming=engine.streaming,
        would_stream=would_stream,
    )
    native = find_native(compiled)
    program = encoder_program = None
    if not isinstance(native, str):
        program = describe_program(compiled.files, native.decoder, native.streaming)
        if native.encoder is not None:
            encoder_program = describe_program(compiled.files, native.encoder)
    return VoiceInfo(
        path=voice.path,
        sha256=voice.sha256,
        manifest=manifest,
        backend=voice.backend,
        target=choose_target(voice.options),
        compiled=info,
        encoder_backend=voice.encoder_backend,
        program=program,
        not_native=native if isinstance(native, str) else None,
        encoder_program=encoder_program,
        encoder=encoder,
        decoder=decoder,
    )


def inspect_graph(path: str | os.PathLike[str]) -> GraphInfo:
    """Say what any ONNX graph is that ONNX Runtime can load; needs the package onnx."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's own type has no public name
        Session(path)  # says more of what is no graph
        raise ModelError(f"{path}: not an ONNX file: {error}") from error
    session = _load(path, model)
    # Weights may lie in a file of their own.
    size = max(path.stat().st_size, model.ByteSize())
    text = session.metadata.get(StreamingSpec.METADATA_KEY)
    if text is not None:
        # What a push costs depends on its states, and the plain graph's receptive field is written nowhere.
        return _graph_info(path.name, size, session, model, None, streaming=StreamingSpec.from_json(text))
    field, no_field = _receptive_field(model)
    return _graph_info(
        path.name,
        size,
        session,
        model,
        _general_cost(model),
        field=field,
        no_field=no_field,
        would_stream=_would_stream(model),
    )


def _load(path: Path, model: onnx.ModelProto) -> Session:
    try:
        return Session(path)
    except ModelError:
        # ONNX Runtime says of an opset that it doesn't know what only its developers understand.
        if model.graph.node:
            try:
                check_readable(model)
            except ModelError as error:
                raise ModelError(f"{path}: {error}") from error
        raise


def _encoder_cost(session: Session, model: onnx.ModelProto) -> Cost:
    n = _ENCODER_PHONEMES
    made_up: dict[str, AnyArray] = {
        "phoneme_ids": np.zeros((1, n), np.int64),
        "length_scale": np.ones(1, np.float32),
        "duration_noise": np.zeros((1, 2, n), np.float32),
        "speaker_id": np.zeros(1, np.int64),
    }
    counts = _count(model, {key: made_up[key] for key in session.inputs})
    return Cost(f"phoneme, of {n}", {op: value / n for op, value in counts.items()})


def _decoder_feeds(engine: OrtEngine, n_frames: int) -> dict[str, AnyArray]:
    # One push that is the whole utterance: its cost has nothing of a stream's beginning and end in it.
    feeds: dict[str, AnyArray] = {}
    for name, spec in engine.contract.inputs.items():
        shape = [axis if isinstance(axis, int) else 1 for axis in spec.shape]
        if name in engine.contract.time_inputs:
            shape[-1] = n_frames
        feeds[name] = np.zeros(shape, spec.dtype)
    if engine.streaming is not None:
        for state in engine.streaming.states:
            feeds[state.input] = np.full(state.shape, state.fill, state.dtype)
        feeds[engine.streaming.last_input] = np.ones(1, np.int64)
    return feeds


def _receptive_field(model: onnx.ModelProto) -> tuple[FieldInfo | None, str | None]:
    """Return the receptive field, or the reason why there is none."""
    try:
        found = receptive_field(model)
    except NotStreamableError as error:
        return None, f"{error.op_type} node {error.node!r}: {error.reason}"
    except BalacoonError as error:
        return None, str(error)
    return FieldInfo(found.left_context, found.lookahead, found.hop_length), None


def _would_stream(model: onnx.ModelProto) -> Streamability | None:
    try:
        return judge_streaming(model)
    except BalacoonError:  # it can't be run, or has no time: the receptive field's reason says so
        return None


def _general_cost(model: onnx.ModelProto) -> Cost | None:
    # None where more frames don't give more output: a cost per frame would mean nothing.
    try:
        ir_model = ir.from_proto(model)
        found = find_time_inputs(ir_model)
        # Made-up inputs may mean nothing to a graph (lengths of 0, say); what it then computes says nothing.
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
    # The slope between two lengths leaves out what an utterance costs only once.
    short, long = (_count(model, feeds(n)) for n in lengths)
    return Cost("frame", {op: (long[op] - short[op]) / (lengths[1] - lengths[0]) for op in long})


def _count(model: onnx.ModelProto, feeds: Mapping[str, AnyArray]) -> Counter[str]:
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
    would_stream: Streamability | None = None,
) -> GraphInfo:
    inputs, outputs = tuple(session.inputs.values()), tuple(session.outputs.values())
    op_counts = dict(Counter(node.op_type for node in model.graph.node).most_common())
    n_parameters = count_parameters(model)
    return GraphInfo(
        file,
        n_bytes,
        inputs,
        outputs,
        n_parameters,
        op_counts,
        cost,
        field,
        no_field,
        streaming,
        would_stream,
    )
