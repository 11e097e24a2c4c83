"""The files of a voice, in a folder or in one .addon file, which is read in place.

An .addon file is a ZIP archive that packs nothing: its members are read one by one, and never unpacked to the
disk. Every file but the manifest is compared with the checksum that the manifest has for it before anything
is made of it, and a graph is looked at before ONNX Runtime sees it: it is a program. What was found before is
known while the file is the same (`known_files`). The manifest itself is known by its own checksum, which
whoever loads a voice may ask for.
"""

from __future__ import annotations

import functools
import hashlib
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from balacoon_tk.errors import MissingExtraError, ModelError, ParameterError, VoiceError
from balacoon_tk.runtime.session import GraphSource, PackedGraph
from balacoon_tk.voice.guard.graphs import ExternalFile, check_graph
from balacoon_tk.voice.guard.recurrences import GUARDED, guard_recurrences
from balacoon_tk.voice.known_files import KnownFiles
from balacoon_tk.voice.manifest import FileInfo, Manifest
from balacoon_tk.voice.places import open_place

if TYPE_CHECKING:
    import onnx

    from balacoon_tk.runtime.native.program import Program

MANIFEST_FILE = "voice.json"

_MANIFEST_BYTES = 4 << 20
_PROGRAM_BYTES = 64 << 20
_GRAPH_BYTES = (2 << 30) - 1  # ONNX's own limit
_WEIGHTS_BYTES = 16 << 30
_SHA256 = re.compile("[0-9a-fA-F]{64}")


class VoiceFiles:
    """Reads the files of a voice; `VoiceError` names what is missing or damaged.

    Parameters
    ----------
    path : Path
        A voice folder or an .addon file.
    sha256 : str, optional
        What the manifest must have; any if None.

    Attributes
    ----------
    manifest : Manifest
    sha256 : str
        Of voice.json, which has that of every other file: it stands for all of the voice.
    """

    def __init__(self, path: Path, sha256: str | None = None) -> None:
        _check_pin(sha256)
        _check_place(path)
        self.path = path
        self._known = KnownFiles(path.resolve())
        self._place = open_place(path, self._known)
        data = self._place.read(MANIFEST_FILE, _MANIFEST_BYTES)
        self.sha256 = hashlib.sha256(data).hexdigest()
        if sha256 is not None and sha256.lower() != self.sha256:
            raise VoiceError(
                f"{MANIFEST_FILE} has the sha256 {self.sha256}, and sha256={sha256!r} was asked for: "
                "this is another voice, or another version of it"
            )
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise VoiceError(f"{MANIFEST_FILE} is not UTF-8: {error}") from error
        self.manifest = Manifest.from_json(text)
        self._weights: bytes | None = None
        self._checked: set[FileInfo] = set()
        self._lock = threading.Lock()  # encoder and decoder are loaded at the same time

    def member(self, name: str) -> bytes:
        """Return the content of one file, unchecked."""
        return self._place.read(name, _GRAPH_BYTES)

    def graph(self, info: FileInfo) -> GraphSource:
        """Return a graph to be loaded, once it is known to be the manifest's, and one that may be run."""
        data, op_types = self._read_graph(info)
        where, weights = self.check_weights(), self._weights
        if op_types & GUARDED:
            data = guard_recurrences(data)
        # ONNX Runtime 1.24 takes a link to weights for one that leads astray, wherever it leads.
        elif self.path.is_dir() and (where is None or not self._place.is_link(where.file)):
            return self.path / info.file  # where the weights lie beside it
        if where is None:
            return data
        return PackedGraph(data, {where.file: weights or self._read(where, _WEIGHTS_BYTES)})

    def program(self, info: FileInfo) -> Program:
        """Return a program of the native engine, once it is known to be the one of the manifest."""
        from balacoon_tk.voice.programs import read_program

        data = self._read(info, _PROGRAM_BYTES)
        where = self.check_weights()
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

        model, where = onnx.load_model_from_string(self._read_graph(info)[0]), self.manifest.weights
        return model if where is None else put_back(model, self._read(where, _WEIGHTS_BYTES))

    def check_rest(self) -> None:
        """Compare all files with their checksums that nothing was made of yet.

        A damaged file is to be found when a voice is loaded, and not when another number of threads or
        another machine asks for it.
        """
        for info in self.manifest.files:
            if info not in self._checked:
                limit = _WEIGHTS_BYTES if info == self.manifest.weights else _GRAPH_BYTES
                self._check(info, self._place.digest(info.file, limit, info.sha256))

    def check_weights(self) -> FileInfo | None:
        """Compare the weights with their checksum, once; return which file they are, if there is one."""
        where = self.manifest.weights
        with self._lock:  # whoever comes first checks the weights; the others wait for it
            if where is not None and where not in self._checked:
                if self.path.is_dir():
                    # Whoever loads a graph from a folder reads them there: they would be in memory twice.
                    self._check(where, self._place.digest(where.file, _WEIGHTS_BYTES, where.sha256))
                else:
                    self._weights = self._read(where, _WEIGHTS_BYTES)
        return where

    def _read_graph(self, info: FileInfo) -> tuple[bytes, frozenset[str]]:
        """Return a graph that may be run, and its operators."""
        data, where = self._read(info, _GRAPH_BYTES), self.manifest.weights
        beside = None if where is None else ExternalFile(where.file, self._place.size(where.file))
        is_ort = info.file.lower().endswith(".ort")
        graph = f"{info.sha256} {beside} {'ORT' if is_ort else 'ONNX'}"
        look = functools.partial(check_graph, data, beside, is_ort=is_ort)
        try:
            return data, self._known.op_types(graph, len(data), look)
        except ModelError as error:
            raise VoiceError(f"{info.file}: {error}") from error

    def _read(self, info: FileInfo, limit: int) -> bytes:
        data = self._place.read(info.file, limit)
        self._check(info, hashlib.sha256(data).hexdigest())
        return data

    def _check(self, info: FileInfo, sha256: str) -> None:
        if sha256 != info.sha256:
            raise VoiceError(
                f"{info.file} is damaged or another file: its sha256 {sha256[:12]}… "
                f"is not {info.sha256[:12]}…, as {MANIFEST_FILE} says"
            )
        self._checked.add(FileInfo(info.file, info.sha256))


def _check_pin(sha256: str | None) -> None:
    if sha256 is not None and not _SHA256.fullmatch(str(sha256)):
        raise ParameterError(f"sha256={sha256!r} must be 64 hexadecimal digits, those of {MANIFEST_FILE}")


def _check_place(path: Path) -> None:
    """Refuse a path that is no voice, and say what it is instead."""
    try:
        there = path.exists()
    except OSError as error:
        raise VoiceError(f"{path}: can't be looked at: {error}") from error
    if not there:
        raise VoiceError(f"{path}: no such voice folder or .addon file")
    if path.is_dir():
        if not (path / MANIFEST_FILE).exists():
            raise VoiceError(f"{path}: not a voice folder: there is no {MANIFEST_FILE} in it")
    elif path.suffix.lower() == ".onnx":
        raise VoiceError(f"{path}: not a voice; export it first: balacoon-tk export {path.name} -o DIR")
