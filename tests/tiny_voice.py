"""A voice of a few kilobytes, split already: VITS in its interface and tiny in its weights.

The decoder is a convolution over frames, a transposed convolution to samples and a convolution over
samples. Its receptive field is known by hand (`LEFT_CONTEXT`, `LOOKAHEAD`), and its biases are not
zero, so that padding at a wrong place shows in the samples.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from balacoon_tk.targets.choice import ONE_THREAD, SEVERAL_THREADS, VERSION
from balacoon_tk.voice.manifest import (
    CompiledGraph,
    DecoderInfo,
    FileInfo,
    FrontendInfo,
    Manifest,
    ProsodyDefaults,
    StreamingInfo,
    TargetInfo,
    TextInfo,
)

N_CHANNELS = 8
N_SPEAKER_CHANNELS = 4
HOP_LENGTH = 4
SAMPLE_RATE = 1000
LEFT_CONTEXT = LOOKAHEAD = 3
"""Two frames for the convolution of 5 frames, and one for the two that make samples of them."""

SYMBOLS = "_^$ '.,;:?!abcdefghijklmnopqrstuvwxyz"
"""Pad, begin, end, then everything that can be said; the id is the position."""
SILENT = "'"
"""A symbol that lasts no frame at all."""

SPEAKERS = ("ada", "bob", "7")
"""The last one's name is a number, and not its id."""

_OPSET = 17


def build_tiny_voice(folder: Path, speakers: Sequence[str] = (), *, streaming: bool = False) -> Path:
    """Write a voice folder and return it; with `streaming` its compiled decoder carries its own state."""
    decoder = decoder_model(len(speakers))
    return write_voice(folder, encoder_model(len(speakers)), decoder, streaming=streaming, speakers=speakers)


def write_voice(
    folder: Path,
    encoder: onnx.ModelProto,
    decoder: onnx.ModelProto,
    *,
    streaming: bool = False,
    speakers: Sequence[str] = (),
    changes: dict[str, object] | None = None,
) -> Path:
    """Write plain graphs, compiled by no pass, and their manifest.

    `changes` are fields by their path, such as decoder.lookahead; ``*`` stands for every target.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def written(name: str, model: onnx.ModelProto) -> FileInfo:
        data = model.SerializeToString()
        (folder / name).write_bytes(data)
        return FileInfo(name, hashlib.sha256(data).hexdigest())

    plain_encoder, plain_decoder = written("encoder.onnx", encoder), written("decoder.onnx", decoder)
    target = TargetInfo(
        version=VERSION,
        decoder=CompiledGraph(plain_decoder.file, plain_decoder.sha256),
        encoder=CompiledGraph(plain_encoder.file, plain_encoder.sha256),
    )
    if streaming:
        from balacoon_tk.graph.streaming import make_streaming

        stateful = make_streaming(decoder)
        file = written("decoder.stateful.onnx", stateful)
        target = replace(
            target, decoder=CompiledGraph(file.file, file.sha256), streaming=_streaming_info(stateful)
        )
    manifest = Manifest(
        name="tiny",
        license="CC0-1.0",
        sample_rate=SAMPLE_RATE,
        hop_length=HOP_LENGTH,
        n_channels=N_CHANNELS,
        text=TextInfo(
            language="en",
            frontend=FrontendInfo(
                phoneme_type="text",
                language="en-us",
                phoneme_ids={symbol: (i,) for i, symbol in enumerate(SYMBOLS)},
            ),
            prosody=ProsodyDefaults(noise_scale=0.7, length_scale=1.0, noise_w=0.8),
            encoder=plain_encoder,
            speakers=tuple(speakers),
        ),
        decoder=DecoderInfo(
            file=plain_decoder.file,
            sha256=plain_decoder.sha256,
            left_context=LEFT_CONTEXT,
            lookahead=LOOKAHEAD,
            not_streamable=None if streaming else "nobody has rewritten it",
        ),
        targets={SEVERAL_THREADS: target, ONE_THREAD: target},
    )
    data = json.loads(manifest.to_json())
    for path, value in (changes or {}).items():
        set_field(data, path, value)
    (folder / "voice.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


def set_field(data: dict[str, object], path: str, value: object) -> None:
    """Set a field of a manifest by its path; `...` takes it out, and ``*`` stands for every name."""
    *parents, name = path.split(".")
    records = [data]
    for parent in parents:
        records = [
            each
            for record in records
            for each in (record.values() if parent == "*" else [record[parent]])  # type: ignore[attr-defined]
        ]
    for record in records:
        if value is ...:
            del record[name]
        else:
            record[name] = value


def pack_addon(folder: Path, addon: Path) -> Path:
    """Store a voice folder in one file."""
    with zipfile.ZipFile(addon, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return addon


def encoder_model(
    n_speakers: int = 0,
    *,
    n_channels: int = N_CHANNELS,
    log_scales: bool = True,
    noise: bool = True,
    duration_factor: float = 1.0,
    encoding_factor: float = 1.0,
) -> onnx.ModelProto:
    """Build an encoder: tables, one row per symbol, and durations that noise and length_scale change.

    A duration is ``ceil(table * length_scale * exp(0.3 * noise))``. The factors can make durations
    and encodings that no trained voice would give.
    """
    rng = np.random.default_rng(7)
    n_symbols = len(SYMBOLS)
    durations = rng.uniform(1.5, 6.0, n_symbols)
    durations[SYMBOLS.index("_")] = 0.9
    durations[SYMBOLS.index(SILENT)] = 0.0
    tables = {
        "encoding_table": rng.normal(size=(n_symbols, n_channels)) * encoding_factor,
        "log_scale_table": rng.normal(size=(n_symbols, n_channels)) * 0.3 - 1.0,
        "duration_table": durations * duration_factor,
        "noise_factors": np.array([0.3, 0.0]).reshape(1, 2, 1),
    }
    inputs = [
        _info("phoneme_ids", TensorProto.INT64, [1, "n"]),
        _info("length_scale", TensorProto.FLOAT, [1]),
    ]
    encodings_shape = [1, "n", n_channels]
    outputs = [
        _info("encodings", TensorProto.FLOAT, encodings_shape),
        _info("durations", TensorProto.INT64, [1, "n"]),
    ]
    nodes = [
        helper.make_node("Gather", ["encoding_table", "phoneme_ids"], ["said"]),
        helper.make_node("Gather", ["duration_table", "phoneme_ids"], ["length"]),
        helper.make_node("Mul", ["length", "length_scale"], ["scaled"]),
    ]
    if noise:
        inputs.append(_info("duration_noise", TensorProto.FLOAT, [1, 2, "n"]))
        tables["axis"] = np.array([1])
        nodes += [
            helper.make_node("Mul", ["duration_noise", "noise_factors"], ["weighted"]),
            helper.make_node("ReduceSum", ["weighted", "axis"], ["log_factor"], keepdims=0),
            helper.make_node("Exp", ["log_factor"], ["factor"]),
            helper.make_node("Mul", ["scaled", "factor"], ["varied"]),
        ]
    nodes += [
        helper.make_node("Ceil", ["varied" if noise else "scaled"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["durations"], to=TensorProto.INT64),
    ]
    if log_scales:
        outputs.append(_info("log_scales", TensorProto.FLOAT, encodings_shape))
        nodes.append(helper.make_node("Gather", ["log_scale_table", "phoneme_ids"], ["log_scales"]))
    if n_speakers:
        inputs.append(_info("speaker_id", TensorProto.INT64, [1]))
        outputs.append(_info("speaker_embedding", TensorProto.FLOAT, [1, N_SPEAKER_CHANNELS, 1]))
        tables["speaker_table"] = rng.normal(size=(n_speakers, N_SPEAKER_CHANNELS, 1))
        nodes.append(helper.make_node("Gather", ["speaker_table", "speaker_id"], ["speaker_embedding"]))
    nodes.append(helper.make_node("Identity", ["said"], ["encodings"]))
    return _model(nodes, inputs, outputs, tables)


def decoder_model(
    n_speakers: int = 0, *, n_channels: int = N_CHANNELS, gain: float = 1.0, bias: float = 0.1
) -> onnx.ModelProto:
    """Build a decoder; `gain` and `bias` can make samples that are loud or not finite."""
    rng = np.random.default_rng(11)
    n_hidden, n_upsampled = 6, 3
    tables = {
        "frame_weight": rng.normal(size=(n_hidden, n_channels, 5)) / 5,
        "frame_bias": rng.normal(size=n_hidden),
        "up_weight": rng.normal(size=(n_hidden, n_upsampled, 2 * HOP_LENGTH)) / 3,
        "up_bias": rng.normal(size=n_upsampled),
        "sample_weight": rng.normal(size=(1, n_upsampled, 3)) / 4,
        "sample_bias": np.array([bias]),
        "gain": np.array([gain]),
    }
    inputs = [_info("frames", TensorProto.FLOAT, [1, n_channels, "n_frames"])]
    nodes = [helper.make_node("Conv", ["frames", "frame_weight", "frame_bias"], ["hidden"], pads=[2, 2])]
    if n_speakers:
        inputs.append(_info("speaker_embedding", TensorProto.FLOAT, [1, N_SPEAKER_CHANNELS, 1]))
        tables["speaker_weight"] = rng.normal(size=(n_hidden, N_SPEAKER_CHANNELS, 1))
        nodes += [
            helper.make_node("Conv", ["speaker_embedding", "speaker_weight"], ["spoken_by"]),
            helper.make_node("Add", ["hidden", "spoken_by"], ["conditioned"]),
        ]
    nodes += [
        helper.make_node("LeakyRelu", ["conditioned" if n_speakers else "hidden"], ["active"], alpha=0.1),
        helper.make_node(
            "ConvTranspose",
            ["active", "up_weight", "up_bias"],
            ["upsampled"],
            strides=[HOP_LENGTH],
            pads=[HOP_LENGTH // 2] * 2,
        ),
        helper.make_node("Conv", ["upsampled", "sample_weight", "sample_bias"], ["wave"], pads=[1, 1]),
        helper.make_node("Tanh", ["wave"], ["bounded"]),
        helper.make_node("Mul", ["bounded", "gain"], ["samples"]),
    ]
    outputs = [_info("samples", TensorProto.FLOAT, [1, 1, "n_samples"])]
    return _model(nodes, inputs, outputs, tables)


def _info(name: str, dtype: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    tables: dict[str, np.ndarray],
) -> onnx.ModelProto:
    used = {name for node in nodes for name in node.input}
    tensors = [
        numpy_helper.from_array(
            table.astype(np.int64 if np.issubdtype(table.dtype, np.integer) else np.float32), name
        )
        for name, table in tables.items()
        if name in used
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _streaming_info(decoder: onnx.ModelProto) -> StreamingInfo:
    from balacoon_tk.runtime.stateful_graph import StreamingSpec

    texts = {item.key: item.value for item in decoder.metadata_props}
    spec = StreamingSpec.from_json(texts[StreamingSpec.METADATA_KEY])
    return StreamingInfo(lag_samples=spec.outputs[0].lag, n_state_bytes=spec.n_state_bytes, max_abs_diff=0.0)
