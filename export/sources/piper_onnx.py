"""Piper voices: VITS in one ONNX file, with a JSON file beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import AnyArray, FloatArray, IntArray
from balacoon_tk.errors import ModelError, VoiceError
from balacoon_tk.export.graph.probe import Probe
from balacoon_tk.export.graph.seams import Seams, find_seams
from balacoon_tk.export.passes.cut import cut_decoder, cut_encoder
from balacoon_tk.export.passes.edit import remove_unused
from balacoon_tk.export.passes.tidy import lift_constants, tidy
from balacoon_tk.export.sources.piper_json import PiperConfig, read_license, read_piper_json
from balacoon_tk.export.sources.source import Progress, SourceVoice, VoiceFacts
from balacoon_tk.session import Session

__all__ = ["PiperOnnx"]

_MODEL_CARD = "MODEL_CARD"


class PiperOnnx:
    """Reads a Piper voice: ``voice.onnx`` and ``voice.onnx.json``."""

    def claims(self, path: Path) -> bool:
        """Say whether a path looks like a Piper voice."""
        return path.suffix == ".onnx"

    def read(self, path: Path, *, config: Path | None, progress: Progress) -> SourceVoice:
        """Read a Piper voice and cut it into encoder and decoder.

        Raises
        ------
        ModelError
            If the graph can't be read, or is no VITS voice; the message says which part is missing.
        VoiceError
            If the JSON is missing or damaged, or doesn't fit the graph.
        """
        try:
            return self._read(path, config or path.with_name(f"{path.name}.json"), progress)
        except VoiceError:
            raise  # about the JSON, which it names
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error

    def _read(self, path: Path, config: Path, progress: Progress) -> SourceVoice:
        progress("reading", 0.0)
        original = _load(path)
        said = read_piper_json(config)
        model = ir.from_proto(original)
        lift_constants(model)
        seams = find_seams(model.graph)
        _check_fit(said, seams, config)
        whole = ir.to_proto(model).SerializeToString()
        progress("cutting", 0.3)
        encoder = _parse(whole)
        cut_encoder(encoder)
        n_channels = _tidy_encoder(encoder)
        progress("cutting", 0.7)
        decoder = _parse(whole)
        cut_decoder(decoder, n_channels=n_channels)
        tidy(decoder, {"frames": 2}, {"samples": [1, 1, "n_samples"]})
        progress("cutting", 1.0)
        return SourceVoice(
            facts=_facts(path, said),
            encoder=_finished(encoder, "encoder"),
            decoder=_finished(decoder, "decoder"),
            n_channels=n_channels,
            n_speakers=said.n_speakers,
            reference=_PiperReference(path, whole),
        )


def _load(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise ModelError("no such file")
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's errors have a module of their own in every version
        raise ModelError(f"not an ONNX file, or a damaged one: {error}") from error
    if not model.graph.node:
        raise ModelError("not an ONNX file, or a damaged one: there is no graph in it")
    return model


def _parse(data: bytes) -> ir.Model:
    # Values share their tensors, names included, with the message that they were read from.
    model: ir.Model = ir.from_proto(onnx.ModelProto.FromString(data))
    return model


def _check_fit(said: PiperConfig, seams: Seams, config: Path) -> None:
    for symbol, ids in said.frontend.phoneme_ids.items():
        if max(ids) >= seams.phonemes.n_rows:
            raise VoiceError(
                f"{config}: phoneme_id_map[{symbol!r}]={list(ids)} doesn't fit the graph, "
                f"which has an embedding of {seams.phonemes.n_rows} ids"
            )
    n_speakers = 1 if seams.speakers is None else seams.speakers.n_rows
    if said.n_speakers != n_speakers:
        raise VoiceError(
            f"{config}: num_speakers={said.n_speakers} doesn't fit the graph, which has {n_speakers} speaker"
            f"{'s' if n_speakers > 1 else ''}"
        )


def _tidy_encoder(model: ir.Model) -> int:
    """Fold the encoder's masks and declare its outputs; return the number of channels."""
    time_axes = {"phoneme_ids": 1, "duration_noise": 2}
    names = {value.name for value in model.graph.inputs}
    seen = tidy(
        model,
        {name: axis for name, axis in time_axes.items() if name in names},
        {
            "encodings": [1, "n_phonemes", "n_channels"],
            "log_scales": [1, "n_phonemes", "n_channels"],
            "durations": [1, "n_phonemes"],
            "speaker_embedding": [1, "n_speaker_channels", 1],
        },
    )
    n_channels = _channels(seen, "encodings", axis=2)
    if _channels(seen, "log_scales", axis=2) != n_channels:
        raise ModelError("not a VITS voice: the prior's mean and log scale differ in their channels")
    for value in model.graph.outputs:
        if value.name in ("encodings", "log_scales"):
            value.shape = ir.Shape([1, "n_phonemes", n_channels])
        elif value.name == "speaker_embedding":
            value.shape = ir.Shape([1, _channels(seen, "speaker_embedding", axis=1), 1])
    return n_channels


def _channels(seen: Probe, name: str, *, axis: int) -> int:
    shapes = seen.shapes[name]
    if (
        any(len(shape) != 3 or shape[0] != 1 for shape in shapes)
        or len({shape[axis] for shape in shapes}) != 1
    ):
        raise ModelError(f"not a VITS voice: {name} has shapes {', '.join(map(str, shapes))}")
    return shapes[0][axis]


def _finished(model: ir.Model, name: str) -> onnx.ModelProto:
    model.graph.name = name
    model.producer_name, model.producer_version = "balacoon_tk", None
    return ir.to_proto(model)


def _facts(path: Path, said: PiperConfig) -> VoiceFacts:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    provenance = {"source_file": path.name, "source_sha256": sha256}
    card = path.with_name(_MODEL_CARD)
    if card.is_file():
        provenance["model_card"] = card.read_text(encoding="utf-8", errors="replace")
    return VoiceFacts(
        name=path.stem,
        language=said.language,
        license=read_license(provenance.get("model_card", "")) or "unknown",
        sample_rate=said.sample_rate,
        frontend=said.frontend,
        prosody=said.prosody,
        speakers=said.speakers,
        provenance=provenance,
    )


# --- the graph as it came --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where a scale goes in: an input, and its place in it."""

    input: str
    index: int


class _PiperReference:
    """The whole graph: as it is on disk, and with its noise as inputs.

    Parameters
    ----------
    path : Path
        The voice as it came.
    whole : bytes
        The same graph, its constants lifted.
    """

    def __init__(self, path: Path, whole: bytes) -> None:
        model = _parse(whole)
        seams = find_seams(model.graph)
        self._inputs = {value.name or "": value for value in model.graph.inputs}
        self._ids = seams.phonemes.input.name or ""
        self._lengths = None if seams.lengths is None else seams.lengths.name
        self._speaker = None if seams.speakers is None else seams.speakers.input.name
        self._slots = _find_slots(seams)
        self._samples = seams.samples.name or ""
        self._path, self._whole = path, whole
        self._plain: Session | None = None
        self._noisy: Session | None = None

    def run(self, phoneme_ids: IntArray, *, speaker_id: int, length_scale: float) -> FloatArray:
        """Synthesize without noise, by the file as it came."""
        if self._plain is None:
            self._plain = Session(self._path)
        feeds = self._feeds(phoneme_ids, speaker_id, length_scale=length_scale)
        return _flat(self._plain.run(feeds, [self._samples])[self._samples])

    def run_with_noise(
        self,
        phoneme_ids: IntArray,
        *,
        speaker_id: int,
        length_scale: float,
        duration_noise: FloatArray,
        frame_noise: FloatArray,
        noise_scale: float,
    ) -> tuple[FloatArray, AnyArray]:
        """Synthesize with noise that is given."""
        if self._noisy is None:
            self._noisy = _with_noise_inputs(_parse(self._whole), durations_only=False)
        feeds = self._feeds(
            phoneme_ids, speaker_id, length_scale=length_scale, noise_w=1.0, noise_scale=noise_scale
        )
        samples, durations = _run(self._noisy, feeds, duration_noise, frame_noise)
        return _flat(samples), durations.reshape(-1)

    def exact_durations(
        self, phoneme_ids: IntArray, *, speaker_id: int, length_scale: float, duration_noise: FloatArray
    ) -> AnyArray:
        """Return the durations before they are rounded up."""
        session = _with_noise_inputs(_parse(self._whole), durations_only=True)
        feeds = self._feeds(phoneme_ids, speaker_id, length_scale=length_scale, noise_w=1.0)
        return _run(session, feeds, duration_noise, None)[0].reshape(-1)

    def _feeds(self, ids: IntArray, speaker_id: int, **scales: float) -> dict[str, AnyArray]:
        feeds: dict[str, AnyArray] = {}
        for name, value in self._inputs.items():
            shape = [n if isinstance(n, int) else 1 for n in value.shape or ()]
            dtype = (value.dtype or ir.DataType.FLOAT).numpy()
            feeds[name] = np.zeros(shape, dtype)
            if name == self._ids:
                feeds[name] = ids[None].astype(dtype)
            elif name == self._lengths:
                feeds[name] = np.full(shape, len(ids), dtype)
            elif name == self._speaker:
                feeds[name] = np.full(shape, speaker_id, dtype)
        for role, slot in self._slots.items():
            feeds[slot.input].reshape(-1)[slot.index] = scales.get(role, 0.0)
        return feeds


def _flat(samples: AnyArray) -> FloatArray:
    return samples.reshape(-1).astype(np.float32, copy=False)


_DURATION_NOISE, _FRAME_NOISE = "noise of durations", "noise of frames"


def _run(
    session: Session,
    feeds: Mapping[str, AnyArray],
    duration_noise: FloatArray,
    frame_noise: FloatArray | None,
) -> list[AnyArray]:
    every: dict[str, AnyArray] = {**feeds, _DURATION_NOISE: duration_noise}
    if frame_noise is not None:
        every[_FRAME_NOISE] = frame_noise
    return list(session.run({name: every[name] for name in session.inputs}).values())


def _with_noise_inputs(model: ir.Model, *, durations_only: bool) -> Session:
    """Make the random nodes inputs, and the durations before they are rounded an output."""
    graph = model.graph
    seams = find_seams(graph)
    for name, value in ((_DURATION_NOISE, seams.duration_noise), (_FRAME_NOISE, seams.frame_noise)):
        if value is not None:
            new = ir.Value(name=name, shape=ir.Shape([None] * 3), type=ir.TensorType(ir.DataType.FLOAT))
            graph.inputs.append(new)
            value.replace_all_uses_with(new)
    graph.outputs.clear()
    graph.outputs.extend([seams.before_ceil] if durations_only else [seams.samples, seams.before_ceil])
    remove_unused(model)
    for value in graph.inputs:
        if not value.uses():
            graph.inputs.remove(value)
    for value in graph.outputs:
        value.shape = None
        value.type = ir.TensorType(ir.DataType.FLOAT)
    return Session(ir.to_proto(model), optimize=False)  # optimizing takes longer than the few runs


def _find_slots(seams: Seams) -> dict[str, _Slot]:
    """Find which element of which input each scale is.

    Raises
    ------
    ModelError
        If a scale is computed from its input rather than taken.
    """
    roles = {"noise_scale": seams.noise_scale, "length_scale": seams.length_scale, "noise_w": seams.noise_w}
    return {role: _slot(role, value) for role, value in roles.items() if value is not None}


def _slot(role: str, value: ir.Value) -> _Slot:
    index = 0
    while (node := value.producer()) is not None:
        source = node.inputs[0]
        if source is None or node.op_type not in _PICKS:
            raise ModelError(f"not a VITS voice: {role} is computed by {node.op_type} from an input")
        if node.op_type in ("Gather", "Slice"):
            place = node.inputs[1]
            if place is None or place.const_value is None or place.const_value.size != 1:
                raise ModelError(f"not a VITS voice: {role} is taken from a computed place of an input")
            index = int(place.const_value.numpy().item())
        elif node.op_type == "Split":
            index = value.index() or 0
        value = source
    return _Slot(value.name or "", index)


_PICKS = frozenset({"Cast", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Unsqueeze"})
