"""The files of a voice, in a folder or in one .addon file, which is read in place.

An .addon file is a ZIP archive that packs nothing: its members are read one by one, and never unpacked to the
disk. Every file but the manifest is compared with the checksum that the manifest has for it before anything
is made of it: a graph is a program.
"""

from __future__ import annotations

import hashlib
import threading
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from balacoon_tk.errors import MissingExtraError, VoiceError
from balacoon_tk.runtime.session import GraphSource, PackedGraph
from balacoon_tk.voice.manifest import FileInfo, Manifest

if TYPE_CHECKING:
    import onnx

    from balacoon_tk.runtime.native.program import Program

MANIFEST_FILE = "voice.json"

# What zipfile raises for a member that is cut, altered, encrypted or packed in an unknown way.
_DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class VoiceFiles:
    """Reads the files of a voice; `VoiceError` names what is missing or damaged."""

    def __init__(self, path: Path) -> None:
        _check_place(path)
        self.path = path
        try:
            text = self.member(MANIFEST_FILE).decode("utf-8")
        except UnicodeDecodeError as error:
            raise VoiceError(f"{MANIFEST_FILE} is not UTF-8: {error}") from error
        self.manifest = Manifest.from_json(text)
        self._weights: bytes | None = None
        self._checked = False
        self._lock = threading.Lock()  # encoder and decoder are loaded at the same time

    def member(self, name: str) -> bytes:
        """Return the content of one file, unchecked."""
        try:
            if self.path.is_dir():
                return (self.path / name).read_bytes()
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(name)
        except (FileNotFoundError, KeyError):
            raise VoiceError(f"{name} is missing") from None
        except OSError as error:
            raise VoiceError(f"{name} can't be read: {error}") from error
        except _DAMAGED_ZIP as error:
            raise VoiceError(f"{name} is damaged: {error}") from error

    def graph(self, info: FileInfo) -> GraphSource:
        """Return a graph to be loaded, once it is known to be the one that the manifest speaks of."""
        where = self._check_weights()
        data = self._checked_data(info)
        if data is None:
            return self.path / info.file
        return (
            data if self._weights is None or where is None else PackedGraph(data, {where.file: self._weights})
        )

    def program(self, info: FileInfo) -> Program:
        """Return a program of the native engine, once it is known to be the one of the manifest."""
        from balacoon_tk.voice.programs import read_program

        where = self._check_weights()
        data = self._read(info)
        if where is None:
            weights = np.empty(0, np.uint8)
        elif self._weights is not None:
            weights = np.frombuffer(self._weights, np.uint8)
        else:
            # Mapped: the engine lays the arrays out anew, and never needs all of them at once.
            try:
                weights = np.asarray(np.memmap(self.path / where.file, np.uint8, mode="r"))
            except (OSError, ValueError) as error:
                raise VoiceError(f"{where.file} can't be read: {error}") from error
        return read_program(data, weights)

    def model(self, info: FileInfo) -> onnx.ModelProto:
        """Return a graph with its weights, to be looked at or rewritten."""
        try:
            import onnx
        except ImportError as error:
            raise MissingExtraError("reading a voice's graphs", extra="voice") from error
        from balacoon_tk.voice.weights import put_back

        model, where = onnx.load_model_from_string(self._read(info)), self.manifest.weights
        return model if where is None else put_back(model, self._read(where))

    def _check_weights(self) -> FileInfo | None:
        where = self.manifest.weights
        with self._lock:  # whoever comes first checks the weights; the others wait for it
            if where is not None and not self._checked:
                self._weights = self._checked_data(where)
                self._checked = True
        return where

    def _read(self, info: FileInfo) -> bytes:
        data = self.member(info.file)
        _check(info, hashlib.sha256(data).hexdigest())
        return data

    def _checked_data(self, info: FileInfo) -> bytes | None:
        """Check a file; return its content if it lies in an .addon file."""
        if not self.path.is_dir():
            return self._read(info)
        # Whoever loads a graph from a folder reads it there: its bytes would be in memory twice.
        try:
            with (self.path / info.file).open("rb") as file:
                _check(info, hashlib.file_digest(file, "sha256").hexdigest())
        except FileNotFoundError:
            raise VoiceError(f"{info.file} is missing") from None
        except OSError as error:
            raise VoiceError(f"{info.file} can't be read: {error}") from error
        return None


def _check_place(path: Path) -> None:
    """Refuse a path that is no voice, and say what it is instead."""
    if not path.exists():
        raise VoiceError(f"{path}: no such voice folder or .addon file")
    if path.is_dir():
        if not (path / MANIFEST_FILE).is_file():
            raise VoiceError(f"{path}: not a voice folder: there is no {MANIFEST_FILE} in it")
    elif path.suffix.lower() == ".onnx":
        raise VoiceError(f"{path}: not a voice; export it first: balacoon-tk export {path.name} -o DIR")
    elif not zipfile.is_zipfile(path):
        raise VoiceError(f"{path}: neither a voice folder nor an undamaged .addon file")


def _check(info: FileInfo, sha256: str) -> None:
    if sha256 != info.sha256:
        raise VoiceError(
            f"{info.file} is damaged or another file: its sha256 {sha256[:12]}… "
            f"is not {info.sha256[:12]}…, as {MANIFEST_FILE} says"
        )
