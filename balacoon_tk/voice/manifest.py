"""voice.json: what a voice says about itself, as frozen records that are checked once, when read.

Every error names the field by its path in the file: ``decoder.left_context=-1 must be >= 0``.

A voice holds the plain encoder and decoder, what was cut from the trained model, in standard operators.
``targets`` says what was compiled of them, for which runtime, by which version of its passes. A vocoder is a
voice whose ``encoder`` is null: frames in, samples out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar, cast, get_args

import numpy as np

from balacoon_tk.errors import VoiceError
from balacoon_tk.stages.mel import MelInfo
from balacoon_tk.voice.json_fields import JsonFields
from balacoon_tk.voice.json_text import parse_json

FORMAT_VERSION = 2
"""Version of voice.json that this package writes; it reads no other."""

PhonemeType = Literal[
    "espeak", "text", "characters", "exact characters", "uroman", "hebrew", "japanese", "thai"
]
Precision = Literal["fp32", "int8", "fp16"]

# Beyond these lies no voice that anybody could train or hear; what is reserved by them would be gigabytes.
_MOST_RATE, _MOST_HOP, _MOST_CHANNELS = 10**6, 2**16, 2**16
_MOST_CODES, _MOST_FRAMES = 2**24, 2**20  # frames of the longest utterance that there can be
_MOST_STEM = 64  # characters of a name that go into a file's
_MOST_NOISE, _LENGTH_SCALES = 10.0, (0.01, 100.0)  # a caller's noise has the same limit

_Record = TypeVar("_Record", bound="FileInfo | ProsodyDefaults | StreamingInfo | ExportStage")


@dataclass(frozen=True, slots=True)
class FrontendInfo:
    """How the voice was fed in training: which phonemes, and which ids stand for them."""

    phoneme_type: PhonemeType
    """``espeak``: espeak-ng's phonemes; ``text``: the letters themselves, decomposed; ``characters``:
    those that the map knows, in lower case and composed; ``exact characters``: the same in their own case;
    ``uroman``: as ``characters``, of text that uroman has put into Latin letters; ``hebrew``, ``japanese``
    and ``thai``: what Piper has for these languages."""
    language: str
    """Name of the espeak-ng voice, such as ``en-us``."""
    phoneme_ids: Mapping[str, tuple[int, ...]]
    """The ids of every symbol; one symbol may have several."""
    vowel_clusters: tuple[tuple[str, ...], ...] = ()
    """Phonemes that the voice learnt as one symbol where they meet, such as diphthongs."""

    @property
    def n_symbols(self) -> int:
        """All ids are below this."""
        return 1 + max(max(ids) for ids in self.phoneme_ids.values())

    @property
    def known_ids(self) -> list[int]:
        """All ids, each once, in order."""
        return sorted({number for ids in self.phoneme_ids.values() for number in ids})


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
class FileInfo:
    """A file of the voice, and how it is known."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class DecoderInfo(FileInfo):
    """The plain graph from frames to samples."""

    # What a frame's samples depend on; where nobody can compute that, a context that was tried, and
    # `verified.overlap` says what is lost with it.
    left_context: int  # frames before it
    lookahead: int  # frames after it
    not_streamable: str | None = None  # the reason, if it can't be streamed exactly
    # Of the longest utterance, where an attention looks back to the utterance's start; None if it may be any.
    max_frames: int | None = None
    # int8 rounds inputs and weights of the convolutions to 8 bits, those that are sensitive excepted; fp16
    # takes half the room, and computes in float32 unless it was made for GPUs.
    precision: Precision = "fp32"


@dataclass(frozen=True, slots=True)
class CompiledGraph(FileInfo):
    """A graph as a target runs it."""

    passes: tuple[str, ...] = ()  # what was done to the plain graph to make it faster, in order


@dataclass(frozen=True, slots=True)
class StreamingInfo:
    """What exact streaming costs: the compiled decoder carries its own state."""

    lag_samples: int  # how far the output trails the input
    n_state_bytes: int  # largest size of one stream's state
    max_abs_diff: float  # largest difference seen to the plain decoder's samples; in int8 to the whole run's


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """What was compiled for one target (see `balacoon_tk.targets`)."""

    version: int  # of the target's passes; what another version has made is made anew
    decoder: CompiledGraph
    encoder: CompiledGraph | None = None  # None for a vocoder
    streaming: StreamingInfo | None = None  # None if the decoder can't be streamed exactly


@dataclass(frozen=True, slots=True)
class ExportStage:
    """What a voice was at one point of its export, on one utterance and the machine that exported it."""

    # source: as it came, in its own runtime; plain: in ONNX; voice: as it was compiled.
    name: str
    n_bytes: int
    rtf: (
        float  # seconds that the utterance took, over its own; a median, of a machine that may have been busy
    )
    max_abs_diff: float  # largest difference of a sample to the source's, whole and streamed


@dataclass(frozen=True, slots=True)
class TextInfo:
    """What a voice has that speaks text; a vocoder has none of it."""

    language: str
    frontend: FrontendInfo
    prosody: ProsodyDefaults
    encoder: FileInfo  # the plain graph from phoneme ids to encodings and durations
    speakers: tuple[str, ...] = ()  # in the order of their ids; empty for a voice with one speaker
    default_speaker_id: int = 0  # who speaks where nobody is asked for
    lone_speaker: str | None = None  # name of the one that speaks alone, if it has another than the voice
    # Sharpness of Gaussian upsampling, per frame squared; None if each encoding is repeated.
    gaussian_delta: float | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of voice.json."""

    name: str
    license: str
    sample_rate: int  # Hz
    hop_length: int  # samples per frame
    n_channels: int  # of a frame
    decoder: DecoderInfo
    # What speaks text stands together here, so that one look tells what a voice is.
    text: TextInfo | None = None  # None for a vocoder; its fields stand beside the others in the file
    mel: MelInfo | None = None  # of a vocoder's frames; None if they are none, or nobody has said which
    # Of a codec, whose frames are int64 codes below it, a code of each codebook; None if frames are float32.
    codebook_size: int | None = None
    analyzer: FileInfo | None = None  # the plain graph from a recording to a codec's codes
    weights: FileInfo | None = None  # of all graphs, each once; None if the graphs hold their own
    targets: Mapping[str, TargetInfo] = field(default_factory=dict)
    not_native: str | None = None  # why no target is the native engine's; None if one is, or nobody has tried
    encoder_not_native: str | None = None  # why that target lacks the encoder, which ONNX Runtime runs then
    # Where the weights come from: source file, its sha256, the exporter, the model card's words.
    provenance: Mapping[str, str] = field(default_factory=dict)
    # Each check of the export, and the largest difference that it saw.
    verified: Mapping[str, float] = field(default_factory=dict)
    stages: tuple[ExportStage, ...] = ()  # from the source on
    format_version: int = FORMAT_VERSION

    @property
    def speech(self) -> TextInfo:
        """What a voice has that speaks text; a vocoder raises `VoiceError`, here and in what follows."""
        if self.text is None:
            raise VoiceError(
                f"{self.name} is a vocoder: it has no frontend and speaks no text; "
                "`balacoon-tk resynthesize` and `load_vocoder` take it"
            )
        return self.text

    @property
    def frame_dtype(self) -> np.dtype[np.generic]:
        """What frames are made of: float32, or a codec's codes in int64."""
        return np.dtype(np.float32 if self.codebook_size is None else np.int64)

    @property
    def language(self) -> str:
        """Language of the voice."""
        return self.speech.language

    @property
    def frontend(self) -> FrontendInfo:
        """How the voice was fed in training."""
        return self.speech.frontend

    @property
    def prosody(self) -> ProsodyDefaults:
        """The voice's own settings."""
        return self.speech.prosody

    @property
    def encoder(self) -> FileInfo:
        """The plain encoder."""
        return self.speech.encoder

    @property
    def gaussian_delta(self) -> float | None:
        """Sharpness of Gaussian upsampling."""
        return self.speech.gaussian_delta

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names in the order of their ids; empty for a voice with one speaker, and for a vocoder."""
        return () if self.text is None else self.text.speakers

    @property
    def files(self) -> tuple[FileInfo, ...]:
        """All files of the voice but voice.json."""
        compiled = (each for info in self.targets.values() for each in (info.encoder, info.decoder))
        plain = (None if self.text is None else self.text.encoder, self.decoder, self.analyzer)
        # By what they are known by: records of one file differ in what else they say.
        found = (each for each in (*plain, *compiled, self.weights) if each is not None)
        return tuple(dict.fromkeys(FileInfo(each.file, each.sha256) for each in found))

    @property
    def stem(self) -> str:
        """Its name as it may begin a file's or a folder's name, whatever the voice calls itself."""
        return re.sub(r"[^\w.-]|^\.+", "_", self.name)[:_MOST_STEM]

    @property
    def fingerprint(self) -> str:
        """The checksums of all that is computed with."""
        # Voices of one architecture differ in their weights alone, which lie beside the graphs.
        files = (None if self.text is None else self.text.encoder, self.decoder, self.weights)
        parts = ["-" if file is None else file.sha256 for file in files]
        # The same graph for another longest utterance is compiled otherwise.
        limit = [] if self.decoder.max_frames is None else [str(self.decoder.max_frames)]
        return " ".join([*parts, *limit])

    def to_json(self) -> str:
        """Return the text of voice.json."""
        # In the file a vocoder is a voice without an encoder, and not one without a `text`.
        data = asdict(self)
        text = data.pop("text") or {"encoder": None}
        return json.dumps(data | text, ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read the text of voice.json; `VoiceError` names what is no JSON, missing, or out of its range."""
        root = _read_root(text)
        manifest = cls(
            name=root.title("name"),
            license=root.text("license"),
            sample_rate=root.integer("sample_rate", minimum=1, maximum=_MOST_RATE),
            hop_length=root.integer("hop_length", minimum=1, maximum=_MOST_HOP),
            n_channels=root.integer("n_channels", minimum=1, maximum=_MOST_CHANNELS),
            decoder=_read(DecoderInfo, root.record("decoder")),
            # Null says that there is none; a field that is missing was lost.
            text=None if root.value("encoder") is None else _text(root),
            mel=None if root.is_null("mel") else MelInfo.read(root.record("mel")),
            codebook_size=(
                None
                if root.is_null("codebook_size")
                else root.integer("codebook_size", minimum=1, maximum=_MOST_CODES)
            ),
            analyzer=None if root.is_null("analyzer") else _read(FileInfo, root.record("analyzer")),
            weights=None if root.is_null("weights") else _read(FileInfo, root.record("weights")),
            targets={name: _target(record) for name, record in root.record_mapping("targets").items()},
            not_native=root.optional_text("not_native"),
            encoder_not_native=root.optional_text("encoder_not_native"),
            provenance=root.text_mapping("provenance"),
            verified=root.number_mapping("verified"),
            stages=tuple(_read(ExportStage, record) for record in root.records("stages")),
        )
        mel = manifest.mel
        if mel is not None:
            # What the vocoder's decoder reads is what a recording will be turned into.
            for name, said, wanted in (
                ("hop_length", mel.hop_length, manifest.hop_length),
                ("n_mels", mel.n_mels, manifest.n_channels),
            ):
                if said != wanted:
                    raise VoiceError(f"mel.{name}={said} must be {wanted}, as the decoder has it")
        return manifest


def _read_root(text: str) -> JsonFields:
    data = parse_json(text, "voice.json")
    root = JsonFields(data, "")
    version = root.integer("format_version", minimum=1)
    if version != FORMAT_VERSION:
        # Nothing of another version is checked yet, but where it came from may be known.
        source = data.get("provenance")
        trained = source.get("source_file") if isinstance(source, dict) else None
        raise VoiceError(
            f"format_version={version}: this version reads {FORMAT_VERSION}; export the voice again: "
            f"balacoon-tk export {trained or 'MODEL'} -o FOLDER --overwrite"
        )
    return root


# How a field is read: those of some names, and all others by what they are.
_READERS: Mapping[str, Callable[[JsonFields, str], object]] = {
    "file": JsonFields.file_name,
    "sha256": JsonFields.sha256,
    "length_scale": lambda record, name: (
        record.positive(name) and record.number(name, minimum=_LENGTH_SCALES[0], maximum=_LENGTH_SCALES[1])
    ),
    "noise_scale": lambda record, name: record.number(name, maximum=_MOST_NOISE),
    "noise_w": lambda record, name: record.number(name, maximum=_MOST_NOISE),
    "left_context": lambda record, name: record.integer(name, minimum=0, maximum=_MOST_FRAMES),
    "lookahead": lambda record, name: record.integer(name, minimum=0, maximum=_MOST_FRAMES),
    "int": lambda record, name: record.integer(name, minimum=0),
    "float": JsonFields.number,
    "int | None": lambda record, name: None if record.is_null(name) else record.integer(name, minimum=1),
    "str": JsonFields.text,
    "str | None": JsonFields.optional_text,
    "tuple[str, ...]": JsonFields.distinct_texts,
    # Voices were exported before there were others.
    "Precision": lambda record, name: (
        "fp32" if record.is_null(name) else record.choice(name, get_args(Precision))
    ),
}


def _read(kind: type[_Record], record: JsonFields) -> _Record:
    # For records that hold no other records: a field is read by its name or by its type.
    values: dict[str, Any] = {
        each.name: _READERS[each.name if each.name in _READERS else str(each.type)](record, each.name)
        for each in fields(kind)
    }
    return kind(**values)


def _text(root: JsonFields) -> TextInfo:
    # First, so that a vocoder that has lost its null is told of that.
    encoder = _read(FileInfo, root.record("encoder"))
    front, speakers = root.record("frontend"), root.distinct_texts("speakers")
    return TextInfo(
        language=root.language("language"),
        frontend=FrontendInfo(
            phoneme_type=cast(PhonemeType, front.choice("phoneme_type", get_args(PhonemeType))),
            language=front.language("language"),
            phoneme_ids=front.id_lists("phoneme_ids"),
            vowel_clusters=front.optional_text_lists("vowel_clusters"),
        ),
        prosody=_read(ProsodyDefaults, root.record("prosody")),
        encoder=encoder,
        speakers=speakers,
        default_speaker_id=_default_speaker_id(root, len(speakers)),
        lone_speaker=root.optional_text("lone_speaker"),
        gaussian_delta=None if root.is_null("gaussian_delta") else root.positive("gaussian_delta"),
    )


def _default_speaker_id(root: JsonFields, n_speakers: int) -> int:
    if root.is_null("default_speaker_id"):
        return 0
    return root.integer("default_speaker_id", minimum=0, maximum=max(n_speakers, 1) - 1)


def _target(record: JsonFields) -> TargetInfo:
    return TargetInfo(
        version=record.integer("version", minimum=1),
        decoder=_read(CompiledGraph, record.record("decoder")),
        encoder=None if record.is_null("encoder") else _read(CompiledGraph, record.record("encoder")),
        streaming=None if record.is_null("streaming") else _read(StreamingInfo, record.record("streaming")),
    )
