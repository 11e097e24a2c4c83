"""voice.json: what a voice says about itself, as frozen records that are checked once, when read.

Every error names the field by its path in the file: ``decoder.left_context=-1 must be >= 0``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, cast, get_args

from balacoon_tk.errors import VoiceError
from balacoon_tk.voice.json_fields import JsonFields

FORMAT_VERSION = 1
"""Version of voice.json that this package writes; it reads no other."""

VOCODER = "vocoder"
"""The kind of voice that has a decoder alone; see `balacoon_tk.voice.vocoder_manifest`."""

PhonemeType = Literal["espeak", "text", "characters", "exact characters", "uroman"]
Precision = Literal["fp32", "int8", "fp16"]


@dataclass(frozen=True, slots=True)
class FrontendInfo:
    """How the voice was fed in training: which phonemes, and which ids stand for them."""

    phoneme_type: PhonemeType
    """``espeak``: espeak-ng's phonemes; ``text``: the letters themselves, decomposed; ``characters``:
    those that the map knows, in lower case and composed; ``exact characters``: the same in their own case;
    ``uroman``: as ``characters``, of text that uroman has put into Latin letters."""
    language: str
    """Name of the espeak-ng voice, such as ``en-us``."""
    phoneme_ids: Mapping[str, tuple[int, ...]]
    """The ids of every symbol; one symbol may have several."""


@dataclass(frozen=True, slots=True)
class ProsodyDefaults:
    """The voice's own settings, where the caller gives none."""

    noise_scale: float = 0.667
    """Standard deviation of the prior's noise, relative to the trained one."""
    length_scale: float = 1.0
    """Factor on every duration; speed is its inverse."""
    noise_w: float = 0.8
    """Standard deviation of the noise of the stochastic duration predictor."""


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """The graph from phoneme ids to encodings and durations."""

    file: str
    sha256: str
    passes: tuple[str, ...] = ()
    """What was done to the graph to make it faster, in order."""


@dataclass(frozen=True, slots=True)
class StreamingInfo:
    """What exact streaming of the decoder costs: the decoder's graph carries its own state."""

    lag_samples: int
    """How far the output trails the input, in samples."""
    n_state_bytes: int
    """Largest size of one stream's state."""
    max_abs_diff: float
    """Largest difference of streamed to whole samples that was seen at export."""


@dataclass(frozen=True, slots=True)
class DecoderInfo:
    """The graph from frames to samples."""

    file: str
    sha256: str
    left_context: int
    """Frames before a frame that its samples depend on."""
    lookahead: int
    """Frames after a frame that its samples depend on."""
    streaming: StreamingInfo | None = None
    """None if the decoder can't be streamed exactly."""
    not_streamable: str | None = None
    """The reason, if it can't."""
    passes: tuple[str, ...] = ()
    """What was done to the graph to make it faster, in order."""
    precision: Precision = "fp32"
    """What its weights are: ``int8`` computes with bytes, those that are sensitive excepted; ``fp16`` takes
    half the room, and computes in float32 unless the passes say `to_half`."""


@dataclass(frozen=True, slots=True)
class ExportStage:
    """What a voice was at one point of its export, on one utterance and the machine that exported it."""

    name: str
    """``source``: as it came, in its own runtime; ``cut``: in ONNX; ``voice``: after all passes."""
    n_bytes: int
    rtf: float
    """Seconds that the whole utterance took, over its own; a median, on a machine that may have been busy."""
    max_abs_diff: float
    """Largest difference of a sample to the source's, whole and streamed."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of voice.json."""

    name: str
    language: str
    license: str
    sample_rate: int
    """Hz"""
    hop_length: int
    """Samples per frame."""
    n_channels: int
    """Channels of a frame."""
    frontend: FrontendInfo
    prosody: ProsodyDefaults
    encoder: EncoderInfo
    decoder: DecoderInfo
    speakers: tuple[str, ...] = ()
    """Names in the order of their ids; empty for a voice with one speaker."""
    gaussian_delta: float | None = None
    """Sharpness of Gaussian upsampling, per frame squared; None if each encoding is repeated."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Where the weights come from: source file, its sha256, the exporter, the model card's words."""
    verified: Mapping[str, float] = field(default_factory=dict)
    """What was checked at export: the name of each check and the largest difference it saw."""
    stages: tuple[ExportStage, ...] = ()
    """What the export made of size, speed and samples, from the source on."""
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Return the text of voice.json."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read the text of voice.json.

        Raises
        ------
        VoiceError
            If the text isn't JSON, or a field is missing, of a wrong type or out of its range.
        """
        root = read_root(text)
        if not root.is_null("kind"):
            root.choice("kind", (VOCODER,))
            raise VoiceError(
                f"{root.text('name')} is a vocoder: it has no frontend and speaks no text; "
                "`balacoon-tk resynthesize` and `load_vocoder` take it"
            )
        front, prosody = root.record("frontend"), root.record("prosody")
        encoder, decoder = root.record("encoder"), root.record("decoder")
        phoneme_type = front.text("phoneme_type")
        if phoneme_type not in get_args(PhonemeType):
            raise VoiceError(
                f"frontend.phoneme_type={phoneme_type!r} must be one of {', '.join(get_args(PhonemeType))}"
            )
        return cls(
            name=root.text("name"),
            language=root.text("language"),
            license=root.text("license"),
            sample_rate=root.integer("sample_rate", minimum=1),
            hop_length=root.integer("hop_length", minimum=1),
            n_channels=root.integer("n_channels", minimum=1),
            frontend=FrontendInfo(
                phoneme_type=cast(PhonemeType, phoneme_type),
                language=front.text("language"),
                phoneme_ids=front.id_lists("phoneme_ids"),
            ),
            prosody=ProsodyDefaults(
                noise_scale=prosody.number("noise_scale"),
                length_scale=prosody.positive("length_scale"),
                noise_w=prosody.number("noise_w"),
            ),
            encoder=EncoderInfo(
                file=encoder.file_name("file"), sha256=encoder.sha256("sha256"), passes=_passes(encoder)
            ),
            decoder=read_decoder(decoder),
            speakers=root.distinct_texts("speakers"),
            gaussian_delta=root.optional_positive("gaussian_delta"),
            provenance=root.text_mapping("provenance"),
            verified=root.number_mapping("verified"),
            stages=read_stages(root),
        )


def read_root(text: str) -> JsonFields:
    """Parse the text and check that it is of a version that is read."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of too many digits
        raise VoiceError(f"voice.json is not JSON: {error}") from error
    root = JsonFields(data, "")
    version = root.integer("format_version", minimum=1)
    if version != FORMAT_VERSION:
        raise VoiceError(
            f"format_version={version}: this version reads {FORMAT_VERSION}; export the voice again"
        )
    return root


def read_decoder(decoder: JsonFields) -> DecoderInfo:
    """Read what the decoder is."""
    return DecoderInfo(
        file=decoder.file_name("file"),
        sha256=decoder.sha256("sha256"),
        left_context=decoder.integer("left_context", minimum=0),
        lookahead=decoder.integer("lookahead", minimum=0),
        streaming=_streaming(decoder),
        not_streamable=decoder.optional_text("not_streamable"),
        passes=_passes(decoder),
        precision=_precision(decoder),
    )


def read_stages(root: JsonFields) -> tuple[ExportStage, ...]:
    """Read the stages of the export; none where an older version made the voice."""
    return tuple(
        ExportStage(
            name=stage.text("name"),
            n_bytes=stage.integer("n_bytes", minimum=0),
            rtf=stage.number("rtf"),
            max_abs_diff=stage.number("max_abs_diff"),
        )
        for stage in root.records("stages")
    )


def _passes(graph: JsonFields) -> tuple[str, ...]:
    """Return what was done to a graph; voices of earlier versions don't say."""
    return () if graph.is_null("passes") else graph.distinct_texts("passes")


def _precision(decoder: JsonFields) -> Precision:
    precision = "fp32" if decoder.is_null("precision") else decoder.text("precision")
    if precision not in get_args(Precision):
        raise VoiceError(f"decoder.precision={precision!r} must be one of {', '.join(get_args(Precision))}")
    return cast(Precision, precision)


def _streaming(decoder: JsonFields) -> StreamingInfo | None:
    if decoder.is_null("streaming"):
        return None
    streaming = decoder.record("streaming")
    return StreamingInfo(
        lag_samples=streaming.integer("lag_samples", minimum=0),
        n_state_bytes=streaming.integer("n_state_bytes", minimum=0),
        max_abs_diff=streaming.number("max_abs_diff"),
    )
