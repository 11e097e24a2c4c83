"""espeak-ng, as Piper voices were trained with it, through the copy that piper-tts carries.

piper-tts is GPL-3.0-or-later, hence an extra; it is imported when a frontend is made, not before.
"""

from __future__ import annotations

import ctypes
import functools
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.frontend.assembly import assemble_sentences
from balacoon_tk.frontend.protocol import Sentence

_BRIDGE = "piper.espeakbridge"

# espeak-ng keeps its voice and its buffers in globals: one caller at a time in the whole process.
_LOCK = threading.Lock()

# espeak-ng marks words that it reads by another language's rules: `(en)wˈɜːd(de)`.
_LANGUAGE_SWITCH = re.compile(r"\([^()]*\)")

# It drops the rest of a word that fills its buffers, which scripts without spaces soon do.
_LONG_WORD = re.compile(r"(\S{40})(?=\S)")


class _Bridge(Protocol):
    """The part of piper's extension module that is used here."""

    def initialize(self, data_dir: str) -> None: ...
    def set_voice(self, voice: str) -> None: ...
    def get_phonemes(self, text: str) -> list[tuple[str, str, bool]]: ...


@functools.cache
def _bridge() -> _Bridge:
    """Load espeak-ng once; the caller holds the lock."""
    try:
        from piper import espeakbridge
        from piper.phonemize_espeak import ESPEAK_DATA_DIR
    except ImportError as error:
        raise MissingExtraError("the espeak frontend", extra="espeak") from error
    bridge: _Bridge = espeakbridge
    bridge.initialize(str(ESPEAK_DATA_DIR))
    return bridge


class _VoiceStruct(ctypes.Structure):
    """The beginning of `espeak_VOICE` in espeak-ng's speak_lib.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
    )


@functools.cache
def _voice_getter() -> Callable[[], object] | None:
    """Return what says which voice espeak-ng has, where the library that the bridge brought shows that."""
    try:
        get = ctypes.PyDLL(sys.modules[_BRIDGE].__file__).espeak_GetCurrentVoice
    except (AttributeError, OSError):  # Windows shows nothing of a module but how to begin it
        return None
    get.argtypes, get.restype = (), ctypes.POINTER(_VoiceStruct)

    def current() -> object:
        pointer = get()
        if not pointer:
            return None
        voice = pointer.contents
        return voice.name, voice.languages, voice.identifier

    return current


class EspeakFrontend:
    """Phonemes from espeak-ng, in any of its languages; safe to call from many threads.

    Parameters
    ----------
    voice : str
        Name of an espeak-ng voice, such as ``en-us``, ``de`` or ``cmn``.

    Raises
    ------
    MissingExtraError
        If piper-tts is not installed.
    ParameterError
        If espeak-ng has no such voice.
    """

    def __init__(self, voice: str = "en-us") -> None:
        self.voice = voice
        with _LOCK:
            bridge = _bridge()
            try:
                bridge.set_voice(voice)
            except (RuntimeError, TypeError, ValueError) as error:
                raise ParameterError(f"voice={voice!r} must be a voice that espeak-ng has") from error
            getter = _voice_getter()
            self._own = None if getter is None else getter()

    def phonemize(self, text: str) -> Iterator[Sentence]:
        """Give the sentences of a text lazily; see `Frontend.phonemize`."""
        return assemble_sentences(text, self._to_phonemes)

    def _to_phonemes(self, text: str) -> str:
        with _LOCK:
            bridge, getter = _bridge(), _voice_getter()
            # Another frontend may have set its own since. To set one takes as long as to use it.
            if getter is None or self._own is None or getter() != self._own:
                bridge.set_voice(self.voice)
            clauses = bridge.get_phonemes(_LONG_WORD.sub(r"\1 ", text))
        spoken = ""
        for phonemes, mark, _ in clauses:
            clause = _LANGUAGE_SWITCH.sub("", phonemes).strip()
            if not clause:
                continue
            if spoken:
                # espeak-ng ends a sentence at `Mr.`; the splitter knows better.
                spoken = spoken.removesuffix(".") + " "
            spoken += clause + mark
        return spoken
