"""A voice in other precisions: where they lie in the user's cache, and which are there.

::

    cache/voices/int8-<fingerprint>/     the decoder's convolutions in int8, the encoder as it was
    cache/voices/fp16-<fingerprint>/     weights of both in half precision

A folder is known by the graphs and weights that it was made from: whoever exports the voice anew gets others.
What makes one is `balacoon_tk.export.make_precision`.
"""

import hashlib
from pathlib import Path
from typing import get_args

from balacoon_tk._files import cache_folder
from balacoon_tk.errors import ParameterError
from balacoon_tk.voice.files import MANIFEST_FILE
from balacoon_tk.voice.manifest import Precision
from balacoon_tk.voice.voice import Voice

PRECISIONS: tuple[Precision, ...] = get_args(Precision)  # the first one is that of an export

_KEY_DIGITS = 16


def precision_folder(voice: Voice, precision: str) -> Path:
    """Return where a voice lies in another precision; nothing may be there yet.

    `ParameterError` says that there is no such precision.
    """
    if precision not in PRECISIONS:
        raise ParameterError(f"precision={precision!r} must be one of {', '.join(PRECISIONS)}")
    key = hashlib.sha256(voice.manifest.fingerprint.encode()).hexdigest()[:_KEY_DIGITS]
    return cache_folder() / "voices" / f"{precision}-{key}"


def find_precisions(voice: Voice) -> dict[str, Path]:
    """Return the folders of a voice by their precision: its own, and those that were made of it."""
    own: str = voice.manifest.decoder.precision
    found = {own: voice.path}
    for precision in PRECISIONS:
        folder = precision_folder(voice, precision)
        # A voice is in place at once or not at all; what has no manifest is no voice.
        if precision != own and (folder / MANIFEST_FILE).is_file():
            found[precision] = folder
    return found
