"""Vocoders in one ONNX file: mel spectrogram or a codec's codes in, samples out, with a JSON file beside it.

Two forms of the JSON are read: the record ``mel`` of voice.json with ``sample_rate`` beside it, and the
configuration that HiFi-GAN and many vocoders after it are trained with (``sampling_rate``, ``num_mels``,
``hop_size`` …). Refused are graphs that take anything beside frames, or give more than one channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.errors import ModelError, VoiceError
from balacoon_tk.export.sources.files import (
    finished,
    free_names,
    load_onnx,
    naming,
    private_copy,
    read_inputs,
    read_json,
    read_license,
    read_provenance,
)
from balacoon_tk.export.sources.istft import IstftInfo, append_istft, istft
from balacoon_tk.export.sources.source import Progress, SourceVocoder, VocoderFacts
from balacoon_tk.graph.edit import Names, Writer
from balacoon_tk.graph.probe import graph_inputs
from balacoon_tk.graph.simplify.tidy import lift_constants
from balacoon_tk.runtime.session import Session
from balacoon_tk.stages.mel import MelInfo
from balacoon_tk.voice.json_fields import JsonFields

_FIELDS = frozenset({"codebook_size", "mel", "n_channels", "num_mels"})  # that no other kind's JSON has
_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE})

# Natural logs of speech lie about here; standard normal ones make clipped noise, which hides differences.
_MEL_MEAN, _MEL_DEVIATION = -5.0, 2.0
_PROBE_FRAMES = 32
_HINT = (
    "; a vocoder's rate and mel spectrogram stand in a JSON file (config=... if it lies elsewhere), such as "
    '{"sample_rate": 16000, "mel": {"n_fft": 640, "win_length": 640, "hop_length": 160, "n_mels": 80, '
    '"f_min": 0, "f_max": 8000, "scale": "slaney", "unit_area": true, "power": 1, "log": "ln", '
    '"floor": 1e-5, "padding": "same"}}'
)
_HIFIGAN_FLOOR = 1e-5  # in `dynamic_range_compression_torch` of HiFi-GAN's meldataset.py


class OnnxVocoder:
    """Reads a vocoder: ``vocoder.onnx``, a mel spectrogram to samples, and ``vocoder.onnx.json``."""

    def claims(self, path: Path) -> bool:
        """Say whether a path is a graph that takes floats or codes alone, or is one by the JSON beside it."""
        tensors = [value.type.tensor_type for value in read_inputs(path)]
        kinds = {tensor.elem_type for tensor in tensors}
        # One without a declared shape is claimed as well, to be told of that; a voice's ids have rank 2.
        if kinds and kinds <= _FLOATS and len(tensors[0].shape.dim) in (0, 3):
            return True
        if kinds == {onnx.TensorProto.INT64} and len(tensors[0].shape.dim) == 3:
            return True
        try:
            return bool(kinds) and not _FIELDS.isdisjoint(read_json(path.with_name(f"{path.name}.json")))
        except VoiceError:
            return False

    def read(
        self, path: Path, *, config: Path | None, progress: Progress, trust: bool = False
    ) -> SourceVocoder:
        """Read a vocoder; see `Source.read`."""
        progress("reading", 0.0)
        facts, n_channels, info = read_vocoder_json(config, vocoder=path)
        try:
            model = load_onnx(path)
            progress("reading", 0.5)
            # Before the layout is looked for: that runs the graph, and wants samples of it.
            whole = model if info is None else append_istft(model, info)
            layout = find_layout(whole, n_channels=n_channels)
            decoder = to_decoder(whole, layout)
        except VoiceError:
            raise  # about the JSON, which it names
        except ModelError as error:
            raise naming(path, error) from error
        progress("reading", 1.0)
        # The appended transform is ours and not the trained model's, so it is compared with NumPy's.
        codebook_size = facts.codebook_size
        if (codebook_size is not None) != (layout.dtype == np.int64):
            raise ModelError(
                f"{path}: input {layout.input!r} is of {layout.dtype}, and the JSON has "
                f"codebook_size={codebook_size}: codes are int64 and need one, frames are float32"
            )

        def draw_frames(n_frames: int, seed: int) -> AnyArray:
            if codebook_size is not None:
                return draw_codes(codebook_size, layout.n_channels, n_frames, seed=seed)
            return random_mel(layout.n_channels, n_frames, seed=seed)

        by_numpy = None if info is None else partial(_run_istft, Session(model), layout, info)
        return SourceVocoder(
            facts=facts,
            decoder=decoder,
            n_channels=layout.n_channels,
            reference=by_numpy or layout.run,
            draw_frames=draw_frames,
            n_bytes=path.stat().st_size,
        )


@dataclass(frozen=True, slots=True)
class FrameLayout:
    """How a vocoder's graph takes its frames, and how it is run as it came."""

    session: Session
    input: str
    channel_axis: int
    """1, or 2 where time comes first."""
    n_channels: int

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """What frames are made of: float32, or codes in int64."""
        return self.session.inputs[self.input].dtype

    def order(self, frames: AnyArray) -> AnyArray:
        """Return frames (1, n_channels, n_frames) in the graph's own order of axes."""
        return frames if self.channel_axis == 1 else np.ascontiguousarray(frames.transpose(0, 2, 1))

    def run(self, frames: AnyArray) -> FloatArray:
        """Turn frames (1, n_channels, n_frames) into samples (n_samples,), by the graph as it came."""
        ((name, samples),) = self.session.run({self.input: self.order(frames)}).items()
        if samples.dtype != np.float32 or samples.size != samples.shape[-1]:
            raise _WrongSamplesError(
                f"output {name!r} of shape {samples.shape}, {samples.dtype} must be one channel, float32"
            )
        return samples.reshape(-1)


class _WrongSamplesError(ModelError):
    """A graph runs, and what it gives are no samples of a voice."""


def find_layout(model: onnx.ModelProto, *, n_channels: int | None) -> FrameLayout:
    """Find out how a graph takes its frames; without `n_channels` these are the input's fixed axis."""
    session = Session(model)
    for kind, specs in (("input", session.inputs), ("output", session.outputs)):
        if len(specs) != 1:
            raise ModelError(f"a vocoder has one {kind}, and this graph has {', '.join(specs) or 'none'}")
    (spec,) = session.inputs.values()
    if spec.dtype not in (np.float32, np.int64) or len(spec.shape) != 3:
        rule = "must be of float32 (codes: int64), rank 3: batch, channels and time"
        raise ModelError(f"input {spec.name!r} of {spec.dtype}, shape {list(spec.shape)} {rule}")
    if isinstance(spec.shape[0], int) and spec.shape[0] != 1:
        rule = "on axis 0, and must have a dynamic batch, or one of 1: export it so"
        raise ModelError(f"input {spec.name!r} of shape {list(spec.shape)} has {spec.shape[0]} {rule}")
    fixed = {axis: n for axis in (1, 2) if isinstance(n := spec.shape[axis], int)}
    if len(fixed) == 2:
        raise ModelError(
            f"input {spec.name!r} of shape {list(spec.shape)} has no dynamic axis for time: its length is "
            "fixed on axes 1 and 2, export it with one of them dynamic"
        )
    if n_channels is None:
        if not fixed:
            raise ModelError(
                f"input {spec.name!r} has no fixed axis: its JSON must say how many n_mels there are"
            )
        (n_channels,) = fixed.values()
    reason = f"none of its axes is n_mels={n_channels}"
    # A graph without fixed axes is tried both ways: with the wrong one its first convolution fails.
    for axis in (axis for axis in (1, 2) if fixed.get(axis) == n_channels or not fixed):
        layout = FrameLayout(session, spec.name, axis, n_channels)
        try:
            # Zeros are a frame like any other to a graph; what counts is whether it runs.
            layout.run(np.zeros((1, n_channels, _PROBE_FRAMES), spec.dtype))
        except _WrongSamplesError as error:
            reason = str(error)
        except ModelError as error:
            reason = (
                f"it fails on {_PROBE_FRAMES} frames along axis {3 - axis}; if its export froze a length "
                f"that is declared dynamic, export it again without lengths in Python code ({error})"
            )
        else:
            return layout
    raise ModelError(f"input {spec.name!r} of shape {list(spec.shape)}: {reason}")


def to_decoder(model: onnx.ModelProto, layout: FrameLayout) -> onnx.ModelProto:
    """Give a vocoder's graph the names, the batch and the order of axes that a voice's decoder has."""
    decoder = private_copy(model.SerializeToString())
    if decoder.functions:  # a plain graph is of standard operators
        lift_constants(decoder)
    graph = decoder.graph
    old, samples = graph_inputs(decoder)[layout.input], graph.outputs[0]
    free_names(graph, ("frames", "samples"))
    if samples.producer() is None:
        raise ModelError("the graph gives nothing but its input")
    for node in ir.traversal.RecursiveGraphIterator(graph):
        for value in node.outputs:
            value.shape = None  # what was declared may be for another batch
    names = Names(graph)
    float32 = ir.TensorType(ir.DataType.FLOAT)
    frames = ir.Value(name="frames", shape=ir.Shape([1, layout.n_channels, "n_frames"]), type=old.type)
    first, last = Writer(graph, names, "frames"), Writer(graph, names, "samples")
    turned = frames if layout.channel_axis == 1 else first.one("Transpose", frames, perm=[0, 2, 1])
    old.replace_all_uses_with(turned)
    graph.inputs[graph.inputs.index(old)] = frames
    # Vocoders give (1, n_samples) or (1, 1, n_samples); a voice's decoder has the latter.
    given = last.one("Reshape", samples, last.ints(1, 1, -1))
    given.name, given.shape, given.type = "samples", ir.Shape([1, 1, "n_samples"]), float32
    graph.insert_before(graph[0], first.nodes)
    graph.extend(last.nodes)
    graph.outputs[0] = given
    return finished(decoder, "decoder")


def _run_istft(session: Session, layout: FrameLayout, info: IstftInfo, frames: FloatArray) -> FloatArray:
    return istft(list(session.run({layout.input: layout.order(frames)}).values()), info)


def read_vocoder_json(
    config: Path | None, *, vocoder: Path
) -> tuple[VocoderFacts, int | None, IstftInfo | None]:
    """Read a vocoder's JSON, in either form, and what its file and a MODEL_CARD beside it say.

    Also return the channels of a frame, and how samples are made of spectra; None where it doesn't say.
    """
    path = config or vocoder.with_name(f"{vocoder.name}.json")
    root = JsonFields(read_json(path, hint=_HINT), f"{path.name}: ")
    # HiFi-GAN's words (Kong et al. 2020); its mel is in its meldataset.py, where scale, power, logarithm and
    # padding are fixed: they are the defaults of MelInfo.
    is_hifigan = not root.is_null("num_mels")
    sample_rate = root.integer("sampling_rate" if is_hifigan else "sample_rate", minimum=1)
    mel = None
    if is_hifigan:
        mel = MelInfo(
            n_fft=root.integer("n_fft", minimum=2),
            win_length=root.integer("win_size", minimum=1),
            hop_length=root.integer("hop_size", minimum=1),
            n_mels=root.integer("num_mels", minimum=1),
            f_min=root.number("fmin"),
            f_max=sample_rate / 2 if root.is_null("fmax") else root.positive("fmax"),
            floor=_HIFIGAN_FLOOR,
        )
    elif not root.is_null("mel"):
        mel = MelInfo.read(root.record("mel"))
    n_channels = None if mel is None else mel.n_mels
    if mel is None and not root.is_null("n_channels"):
        n_channels = root.integer("n_channels", minimum=1)
    provenance = read_provenance(vocoder)
    codebook_size = None if root.is_null("codebook_size") else root.integer("codebook_size", minimum=1)
    facts = VocoderFacts(
        name=root.optional_text("name") or vocoder.stem,
        license=root.optional_text("license") or read_license(provenance),
        sample_rate=sample_rate,
        mel=mel,
        provenance=provenance,
        codebook_size=codebook_size,
    )
    return facts, n_channels, None if root.is_null("istft") else IstftInfo.read(root.record("istft"))


def draw_codes(codebook_size: int, n_codebooks: int, n_frames: int, *, seed: int) -> AnyArray:
    """Return random codes of shape (1, n_codebooks, n_frames), int64."""
    return np.random.default_rng(seed).integers(0, codebook_size, (1, n_codebooks, n_frames))


def random_mel(n_mels: int, n_frames: int, *, seed: int) -> FloatArray:
    """Return noise as loud as the log mels of speech, of shape (1, n_mels, n_frames)."""
    mel = np.random.default_rng(seed).standard_normal((1, n_mels, n_frames))
    return (mel * _MEL_DEVIATION + _MEL_MEAN).astype(np.float32)
