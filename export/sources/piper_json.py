"""The JSON file beside a Piper voice, checked once, with errors that name the field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from balacoon_tk.errors import VoiceError
from balacoon_tk.voice.json_fields import JsonFields
from balacoon_tk.voice.manifest import FrontendInfo, PhonemeType, ProsodyDefaults

_PAD = "_"
_PHONEME_TYPES: tuple[PhonemeType, ...] = ("espeak", "text")


@dataclass(frozen=True, slots=True)
class PiperConfig:
    """What the JSON of a Piper voice says."""

    language: str
    sample_rate: int
    """Hz"""
    frontend: FrontendInfo
    prosody: ProsodyDefaults
    n_speakers: int
    speakers: tuple[str, ...]
    """Names in the order of their ids; empty for one speaker."""


def read_piper_json(path: Path) -> PiperConfig:
    """Read the JSON of a Piper voice.

    Raises
    ------
    VoiceError
        If the file is missing or no JSON, or a field is missing, of a wrong type or out of range.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VoiceError(
            f"{path}: no such file; a Piper voice comes with its JSON (config=... if it lies elsewhere)"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise VoiceError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(data, dict):
        raise VoiceError(f"{path}: must hold a JSON object")
    root = JsonFields(data, f"{path.name}: ")
    espeak_voice = None if root.is_null("espeak") else root.record("espeak").optional_text("voice")
    code = None if root.is_null("language") else root.record("language").optional_text("code")
    phoneme_type = _phoneme_type(root, path)
    if espeak_voice is None and phoneme_type == "espeak":
        root.record("espeak").text("voice")  # raises the error that names it
    n_speakers = 1 if root.is_null("num_speakers") else root.integer("num_speakers", minimum=1)
    return PiperConfig(
        language=code or espeak_voice or "",
        sample_rate=root.record("audio").integer("sample_rate", minimum=1),
        frontend=FrontendInfo(
            phoneme_type=phoneme_type,
            language=espeak_voice or code or "",
            phoneme_ids=_phoneme_ids(root, data, path),
        ),
        prosody=_prosody(root),
        n_speakers=n_speakers,
        speakers=_speakers(data.get("speaker_id_map"), n_speakers, path),
    )


def _phoneme_type(root: JsonFields, path: Path) -> PhonemeType:
    given = root.optional_text("phoneme_type") or "espeak"
    for known in _PHONEME_TYPES:
        if given == known:
            return known
    raise VoiceError(f"{path.name}: phoneme_type={given!r} must be one of {', '.join(_PHONEME_TYPES)}")


def _prosody(root: JsonFields) -> ProsodyDefaults:
    if root.is_null("inference"):
        return ProsodyDefaults()
    inference, default = root.record("inference"), ProsodyDefaults()
    return ProsodyDefaults(
        noise_scale=default.noise_scale
        if inference.is_null("noise_scale")
        else inference.number("noise_scale"),
        length_scale=(
            default.length_scale if inference.is_null("length_scale") else inference.positive("length_scale")
        ),
        noise_w=default.noise_w if inference.is_null("noise_w") else inference.number("noise_w"),
    )


def _phoneme_ids(root: JsonFields, data: Mapping[str, object], path: Path) -> Mapping[str, tuple[int, ...]]:
    """Return the ids of every symbol; one that stands for others (``phoneme_map``) gets the ids of these."""
    ids = root.id_lists("phoneme_id_map")
    replaced = data.get("phoneme_map") or {}
    if not isinstance(replaced, dict):
        raise VoiceError(f"{path.name}: phoneme_map must be an object")
    joined = dict(ids)
    for symbol, others in replaced.items():
        if not isinstance(others, list) or not others or any(other not in ids for other in others):
            raise VoiceError(
                f"{path.name}: phoneme_map[{symbol!r}]={others!r} must be a list of symbols of phoneme_id_map"
            )
        # In training a pad stood between any two symbols.
        pad = ids.get(_PAD, ())
        joined[symbol] = tuple(i for k, other in enumerate(others) for i in (pad if k else ()) + ids[other])
    return joined


def _speakers(names: object, n_speakers: int, path: Path) -> tuple[str, ...]:
    if n_speakers == 1:
        return ()
    speakers = [f"speaker {speaker_id}" for speaker_id in range(n_speakers)]
    if names is None:
        return tuple(speakers)
    if not isinstance(names, dict):
        raise VoiceError(f"{path.name}: speaker_id_map must be an object")
    seen: dict[int, str] = {}
    for name, speaker_id in names.items():
        if type(speaker_id) is not int or not 0 <= speaker_id < n_speakers:
            raise VoiceError(
                f"{path.name}: speaker_id_map[{name!r}]={speaker_id!r} must be an id "
                f"below num_speakers={n_speakers}"
            )
        if speaker_id in seen:
            raise VoiceError(
                f"{path.name}: speaker_id_map[{name!r}]={speaker_id} is the id of {seen[speaker_id]!r}"
            )
        seen[speaker_id] = speakers[speaker_id] = name
    return tuple(speakers)


def read_license(card: str) -> str | None:
    """Return the licence that a model card names."""
    found = re.search(r"^\W*licen[cs]e\W+(.+?)\s*$", card, re.IGNORECASE | re.MULTILINE)
    return found.group(1) if found else None
