"""The files of a voice, in a folder or in one .addon file, which is read in place."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path

from balacoon_tk.errors import VoiceError
from balacoon_tk.voice.manifest import DecoderInfo, EncoderInfo, Manifest
from balacoon_tk.voice.vocoder_manifest import VocoderManifest, is_vocoder

MANIFEST_FILE = "voice.json"

_DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What zipfile raises for a member that is cut, altered, encrypted or packed in an unknown way."""


def check_place(path: Path) -> None:
    """Check that a path may be a voice.

    Raises
    ------
    VoiceError
        If it can't; the message says what it is instead.
    """
    if not path.exists():
        raise VoiceError(f"{path}: no such voice folder or .addon file")
    if path.is_dir():
        if not (path / MANIFEST_FILE).is_file():
            raise VoiceError(f"{path}: not a voice folder: there is no {MANIFEST_FILE} in it")
    elif path.suffix.lower() == ".onnx":
        raise VoiceError(f"{path}: not a voice; export it first: balacoon-tk export {path.name} -o DIR")
    elif not zipfile.is_zipfile(path):
        raise VoiceError(f"{path}: neither a voice folder nor an undamaged .addon file")


def read_manifest_text(path: Path) -> str:
    """Return the text of a voice's manifest."""
    try:
        return read_member(path, MANIFEST_FILE).decode("utf-8")
    except UnicodeDecodeError as error:
        raise VoiceError(f"{MANIFEST_FILE} is not UTF-8: {error}") from error


def read_manifest(path: Path) -> Manifest | VocoderManifest:
    """Return the manifest of a voice, with a frontend or without.

    Raises
    ------
    VoiceError
        If there is no voice at the path, or its manifest is damaged.
    """
    check_place(path)
    text = read_manifest_text(path)
    return VocoderManifest.from_json(text) if is_vocoder(text) else Manifest.from_json(text)


def read_member(path: Path, name: str) -> bytes:
    """Return the content of one file of a voice."""
    try:
        if path.is_dir():
            return (path / name).read_bytes()
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except (FileNotFoundError, KeyError):
        raise VoiceError(f"{name} is missing") from None
    except OSError as error:
        raise VoiceError(f"{name} can't be read: {error}") from error
    except _DAMAGED_ZIP as error:
        raise VoiceError(f"{name} is damaged: {error}") from error


def read_graph(path: Path, info: EncoderInfo | DecoderInfo) -> Path | bytes:
    """Return a graph of a voice, once it is known to be the one that its manifest speaks of.

    That of a folder is left to be read by whoever loads it: its bytes would be there twice.
    """
    if path.is_dir():
        model: Path | bytes = path / info.file
        sha256 = _sha256(path / info.file)
    else:
        model = read_member(path, info.file)
        sha256 = hashlib.sha256(model).hexdigest()
    if sha256 != info.sha256:
        raise VoiceError(
            f"{info.file} is damaged or another file: its sha256 {sha256[:12]}… "
            f"is not {info.sha256[:12]}…, as {MANIFEST_FILE} says"
        )
    return model


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise VoiceError(f"{path.name} is missing") from None
    except OSError as error:
        raise VoiceError(f"{path.name} can't be read: {error}") from error
