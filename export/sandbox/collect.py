"""The files of a voice that a confined process has written, once each is what the manifest says."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from balacoon_tk.errors import ModelError
from balacoon_tk.voice.files import MANIFEST_FILE
from balacoon_tk.voice.manifest import FileInfo, Manifest

_MAX_MANIFEST_BYTES = 16 << 20


def collect(folder: Path, *, max_bytes: int) -> dict[str, bytes]:
    """Read a voice's files; a `ModelError` says that something in the folder is none of them."""
    if folder.is_symlink() or not folder.is_dir():
        raise ModelError("the sandbox left no folder")
    text = _read(folder, MANIFEST_FILE, _MAX_MANIFEST_BYTES)
    try:
        manifest = Manifest.from_json(text.decode("utf-8"))
    except ValueError as error:
        raise ModelError(f"the sandbox left no manifest: {error}") from error
    files = {MANIFEST_FILE: text}
    for info in _files_of(manifest):
        data = files.get(info.file)
        if data is None:
            max_bytes -= len(data := _read(folder, info.file, max_bytes))
        if hashlib.sha256(data).hexdigest() != info.sha256:
            raise ModelError(f"the sandbox left {info.file!r}, which is not what its manifest says")
        files[info.file] = data
    if others := sorted({path.name for path in folder.iterdir()} - files.keys()):
        raise ModelError(f"the sandbox left what is no part of the voice: {', '.join(map(repr, others))}")
    return files


def _files_of(manifest: Manifest) -> Iterator[FileInfo]:
    found = [manifest.decoder, manifest.analyzer, manifest.weights]
    if manifest.text is not None:
        found.append(manifest.text.encoder)
    for target in manifest.targets.values():
        found += [target.decoder, target.encoder]
    return (info for info in found if info is not None)


def _read(folder: Path, name: str, max_bytes: int) -> bytes:
    """Read a file that is nothing but a file: no link, pipe or device, and of one name."""
    if Path(name).name != name or name == "..":
        raise ModelError(f"the sandbox left {name!r}, which is no name in its folder")
    # Windows has none of the first two, and the others none of the last.
    flags = sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | flags)
    except (OSError, ValueError) as error:
        raise ModelError(f"the sandbox left no file {name!r}: {error}") from error
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
            raise ModelError(f"the sandbox left {name!r}, which is no plain file")
        if about.st_size > max_bytes:
            raise ModelError(f"the sandbox left {name!r} of {about.st_size} bytes: at most {max_bytes}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(max_bytes + 1)
    finally:
        os.close(descriptor)
