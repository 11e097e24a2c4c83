"""The JSON beside a Piper voice: what is read of it, and that nothing else in it could change what is said.

::

    audio.sample_rate                 Hz
    espeak.voice                      the espeak-ng voice whose phonemes were learnt, such as en-us
    language.code                     the language for people, such as en_US; older files have none
    phoneme_type                      espeak, text, hebrew, japanese or thai, in any case; espeak if missing
    phoneme_id_map                    for each symbol its ids; ^ $ and _ begin, end and part them
    phoneme_map                       symbols that are said as several others
    vowel_clusters                    phonemes that are one symbol where they meet
    inference.noise_scale, .noise_w   how much sound and durations vary
    inference.length_scale            factor on the durations
    num_speakers, speaker_id_map      how many, and their ids by name
    default_speaker_id                who speaks where nobody is asked for

Of these piper-tts 1.8 has all but ``phoneme_map``, which it leaves alone; here it does what its name says.
Some fields are for training or for people; one that nobody knows is refused: it might be about phonemes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from balacoon_tk.export.sources.files import read_json, read_license, read_provenance
from balacoon_tk.export.sources.source import SourceWarning, VoiceFacts
from balacoon_tk.frontend.phoneme_map import PAD
from balacoon_tk.voice.json_fields import JsonFields
from balacoon_tk.voice.manifest import FrontendInfo, PhonemeType, ProsodyDefaults

_HINT = "; a Piper voice comes with its JSON (config=... if it lies elsewhere)"

_PHONEME_TYPES = ("espeak", "text", "hebrew", "japanese", "thai")
_UNDETERMINED = "und"  # BCP 47's name for a language that nobody has named
_MAX_SPEAKERS = 1 << 16  # each gets a name before the graph has been looked at

_READ = (
    "audio espeak language phoneme_type phoneme_id_map phoneme_map vowel_clusters inference num_speakers "
    "speaker_id_map default_speaker_id"
)
# The graph itself says how many symbols and how many samples for a frame; all else is for people.
_HARMLESS = (
    "num_symbols hop_length piper_version dataset name key title description comment notes version revision "
    "author authors creator maintainer contact organization url homepage source repository license licence "
    "license_url copyright attribution citation date created trained_on training_data base_model checkpoint "
    "epoch epochs step steps training quality modelcard model_card samples aliases files tags gender"
)
_KNOWN = frozenset(f"{_READ} {_HARMLESS}".split())


def read_piper_json(path: Path, *, voice: Path) -> VoiceFacts:
    """Read the JSON of a Piper voice, and what its file and a model card beside it say."""
    root = JsonFields(read_json(path, hint=_HINT), f"{path.name}: ")
    _refuse_unknown(root, _KNOWN)
    espeak_voice = None
    if not root.is_null("espeak"):
        espeak = root.record("espeak")
        _refuse_unknown(espeak, frozenset({"voice"}))
        espeak_voice = espeak.optional_text("voice")
    code = None if root.is_null("language") else root.record("language").optional_text("code")
    phoneme_type = _phoneme_type(root)
    if espeak_voice is None and phoneme_type == "espeak":
        root.record("espeak").text("voice")  # raises the error that names it
    provenance = read_provenance(voice)
    n_speakers = 1
    if not root.is_null("num_speakers"):
        n_speakers = max(1, root.integer("num_speakers", minimum=0, maximum=_MAX_SPEAKERS))
    return VoiceFacts(
        name=voice.stem,
        # Each stands for the other where one is missing: files of the first Piper have espeak alone.
        language=code or espeak_voice or _UNDETERMINED,
        license=read_license(provenance),
        sample_rate=root.record("audio").integer("sample_rate", minimum=1),
        frontend=FrontendInfo(
            phoneme_type=phoneme_type,
            language=espeak_voice or code or _UNDETERMINED,
            phoneme_ids=_phoneme_ids(root),
            vowel_clusters=root.optional_text_lists("vowel_clusters"),
        ),
        prosody=_prosody(root),
        speakers=_speakers(root, n_speakers),
        provenance=provenance,
        default_speaker_id=_default_speaker_id(root, n_speakers),
        lone_speaker=_lone_speaker(root, n_speakers),
    )


def _refuse_unknown(record: JsonFields, known: frozenset[str]) -> None:
    for name in record.names:
        if name not in known and not _is_remark(name, record.value(name)):
            raise record.error(
                name,
                "is no field of a Piper voice that is known here, and might change what is said: "
                "take it out of the JSON if it doesn't",
            )


def _is_remark(name: str, value: object) -> bool:
    """Say whether a field asks for nothing: empty, marked by an underscore, or a text of several words."""
    is_text = isinstance(value, str) and (" " in value.strip() or "://" in value)
    return is_text or not value or name.startswith("_")


def _phoneme_type(root: JsonFields) -> PhonemeType:
    given = root.optional_text("phoneme_type") or "espeak"
    # Files that were written by hand or from Python have it in capitals, or as the member of an Enum.
    name = given.lower().removeprefix("phonemetype.")
    if name == "pinyin":
        raise root.error(
            "phoneme_type",
            "needs g2pW, a network that no package brings, so it can't be had here: speak with piper-tts, "
            "which downloads it, or take a Chinese voice that learnt espeak-ng's phonemes",
        )
    if name not in _PHONEME_TYPES:
        raise root.error("phoneme_type", f"must be one of {', '.join(_PHONEME_TYPES)}")
    return cast(PhonemeType, name)


def _prosody(root: JsonFields) -> ProsodyDefaults:
    if root.is_null("inference"):
        return ProsodyDefaults()
    inference = root.record("inference")
    if not inference.is_null("phoneme_silence") and inference.value("phoneme_silence"):
        # The first Piper, in C++, cut sentences there and put silence between; the network never learnt it.
        rule = (
            "no silence is put in: that is a field of the first Piper, which piper-tts leaves alone as well"
        )
        warnings.warn(str(inference.error("phoneme_silence", rule)), SourceWarning, stacklevel=2)
    # A scale of 0 would be durations of 0 and so silence; noise of 0 is the most likely reading.
    readers = {
        "noise_scale": inference.number,
        "length_scale": inference.positive,
        "noise_w": inference.number,
    }
    given = {name: read(name) for name, read in readers.items() if not inference.is_null(name)}
    return ProsodyDefaults(**given)


def _phoneme_ids(root: JsonFields) -> Mapping[str, tuple[int, ...]]:
    """Return the ids of every symbol; one that stands for others (``phoneme_map``) gets the ids of these."""
    ids = root.id_lists("phoneme_id_map")
    joined = dict(ids)
    for symbol, others in root.optional_mapping("phoneme_map").items():
        listed = others if isinstance(others, list) else []
        if not listed or not all(isinstance(other, str) and other in ids for other in listed):
            raise root.entry_error("phoneme_map", symbol, "must be a list of symbols of phoneme_id_map")
        # In training a pad stood between any two symbols.
        pad = ids.get(PAD, ())
        joined[symbol] = tuple(i for k, other in enumerate(listed) for i in (pad if k else ()) + ids[other])
    return joined


def _speakers(root: JsonFields, n_speakers: int) -> tuple[str, ...]:
    if n_speakers == 1:
        return ()
    # Names may be missing for some ids or for all: such a speaker is asked for by the name that it gets here.
    speakers = [f"speaker {speaker_id}" for speaker_id in range(n_speakers)]
    seen: dict[int, str] = {}
    for name, speaker_id in root.optional_mapping("speaker_id_map").items():
        if type(speaker_id) is not int or not 0 <= speaker_id < n_speakers:
            rule = f"must be an id below num_speakers={n_speakers}"
            raise root.entry_error("speaker_id_map", name, rule)
        if speaker_id in seen:
            raise root.entry_error("speaker_id_map", name, f"is the id of {seen[speaker_id]!r}")
        seen[speaker_id] = speakers[speaker_id] = name
    return tuple(speakers)


def _default_speaker_id(root: JsonFields, n_speakers: int) -> int:
    if n_speakers == 1 or root.is_null("default_speaker_id"):
        return 0
    return root.integer("default_speaker_id", minimum=0, maximum=n_speakers - 1)


def _lone_speaker(root: JsonFields, n_speakers: int) -> str | None:
    # The graph has no input for it, so that whatever id it has is the only one.
    names = list(root.optional_mapping("speaker_id_map"))
    return names[0] if n_speakers == 1 and len(names) == 1 else None
