"""Which voices speak a corpus: told apart by name, in each precision, with the engine and frontend fixed.

Each is loaded here once, in the process that begins the run: what is wrong with it is said before any worker
is started, and what has to be compiled is compiled once.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from balacoon_tk.corpus.plan import Variant
from balacoon_tk.errors import ParameterError
from balacoon_tk.runtime.options import Backend
from balacoon_tk.tts import TTS
from balacoon_tk.voice.default import default_voice_folder
from balacoon_tk.voice.files import VoiceFiles
from balacoon_tk.voice.precisions import PRECISIONS, find_precisions
from balacoon_tk.voice.voice import load_voice, read_manifest

VoicePath: TypeAlias = "str | os.PathLike[str] | None"
"""A voice folder or an .addon file; None is the default voice."""

_UNSAFE = re.compile(r"[^\w.+@=-]+")
_MAX_NAME = 100  # characters; a folder is named after it


class Speech(NamedTuple):
    """How every voice is to speak, as `make_corpus` was asked."""

    precisions: tuple[str, ...] | None
    strategies: tuple[str, ...]
    speaker: str | None
    backend: Backend | None
    frontend: str


class _Place(NamedTuple):
    name: str
    precision: str
    path: Path


def find_variants(
    voices: VoicePath | Sequence[VoicePath] | Mapping[str, VoicePath],
    speech: Speech,
    kept: Iterable[Variant] = (),
) -> tuple[Variant, ...]:
    """Return each voice in each precision and strategy; `kept` are those of a run that is to go on.

    An engine or a frontend that nobody has chosen is that of the run before, or else the best one here:
    another machine might find another one faster, and samples would be rounded otherwise.
    """
    before = {each.sha256: each for each in kept}
    return tuple(
        variant for place in _told_apart(voices, speech) for variant in _variants(place, speech, before)
    )


def _variants(place: _Place, speech: Speech, before: Mapping[str, Variant]) -> Iterator[Variant]:
    kept = before.get(VoiceFiles(place.path).sha256)
    backend, frontend = speech.backend, speech.frontend
    if kept is not None:
        backend = kept.backend if backend in (None, "auto") else backend
        frontend = kept.frontend if frontend == "auto" else frontend
    tts = TTS(place.path, n_threads=1, backend=backend, frontend=frontend)
    voice = tts.voice
    voice.speaker_id(speech.speaker)
    if frontend == "auto" and voice.manifest.frontend.phoneme_type == "espeak":
        # Backends are called after their modules.
        frontend = type(tts.frontend).__module__.rpartition(".")[2]
    for strategy in dict.fromkeys(map(voice.choose_strategy, speech.strategies)):
        yield Variant(
            voice=place.name,
            path=str(place.path.absolute()),
            sha256=voice.sha256,
            precision=place.precision,
            strategy=strategy,
            speaker=speech.speaker,
            backend=voice.backend.name,
            frontend=frontend,
        )


def _told_apart(
    voices: VoicePath | Sequence[VoicePath] | Mapping[str, VoicePath], speech: Speech
) -> list[_Place]:
    """Return where each voice lies in each precision, under a name that no other one has."""
    given: list[tuple[str | None, VoicePath]]
    if isinstance(voices, Mapping):
        given = [(name, path) for name, path in voices.items()]
    else:
        several = [voices] if voices is None or isinstance(voices, (str, os.PathLike)) else voices
        given = [(None, path) for path in several]
    if not given:
        raise ParameterError("voices must hold at least one voice")
    places = [each for name, path in given for each in _places(name, path, speech.precisions)]
    called = Counter(_called(each) for each in places)
    # The folder's name comes to it where that of the voice doesn't say which.
    named = [
        each if called[_called(each)] == 1 else each._replace(name=_safe(f"{each.name}-{each.path.stem}"))
        for each in places
    ]
    for called_so, number in Counter(map(_called, named)).items():
        if number > 1:
            name = next(each.name for each in named if _called(each) == called_so)
            raise ParameterError(
                f"voices: {number} are called {name!r} in {called_so[1]}; rename the folder of one, or give "
                "a mapping from name to voice"
            )
    return named


def _called(place: _Place) -> tuple[str, str]:
    # Some file systems take 'Joe' and 'joe' for one name.
    return place.name.casefold(), place.precision


def _places(name: str | None, path: VoicePath, precisions: tuple[str, ...] | None) -> Iterator[_Place]:
    folder = default_voice_folder() if path is None else Path(path)
    manifest = read_manifest(folder)
    called, own = _safe(manifest.name if name is None else name), manifest.decoder.precision
    if precisions is None:
        yield _Place(called, own, folder)
        return
    found = find_precisions(load_voice(folder, n_threads=1)) if set(precisions) - {own} else {own: folder}
    for precision in precisions:
        if precision not in PRECISIONS:
            raise ParameterError(f"precision={precision!r} must be one of {', '.join(PRECISIONS)}")
        if precision not in found:
            raise ParameterError(
                f"{folder}: isn't there in {precision}; make it by `balacoon-tk quantize {folder} -o FOLDER "
                f"--precision {precision}`, and give FOLDER as a voice"
            )
        yield _Place(called, precision, found[precision])


def _safe(name: str) -> str:
    """Return a name that a folder can have, and that is not hidden."""
    return _UNSAFE.sub("_", name).lstrip(".-")[:_MAX_NAME] or "voice"
