"""Where the files of a voice lie: a folder or one .addon file, either of which may come from anywhere.

What is opened is a regular file that lies in the voice itself, of a size that its kind may have. Nothing is
unpacked to a disk, and what an archive says of itself is held against its size before anything is unpacked.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from balacoon_tk.errors import VoiceError
from balacoon_tk.voice.known_files import KnownFiles

_MOST_ENTRIES = 1000
_DIRECTORY_BYTES = 1 << 20  # of an archive: enough for many thousands of entries
# Weights pack to nine tenths and texts to a tenth: what a voice unpacks to is no multiple of its archive.
_MOST_RATIO, _FREE_BYTES = 4, 64 << 20
_PIECE_BYTES = 1 << 20
_REPOSITORY = re.compile("(models|datasets|spaces)--.+")
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}

# What zipfile raises for a member that is cut, altered, encrypted or packed in an unknown way.
_DAMAGED_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class Place(Protocol):
    """Gives the files of a voice by their names; `VoiceError` names what is missing, damaged or too large."""

    path: Path

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of a file of at most `limit` bytes."""
        ...

    def digest(self, name: str, limit: int, expected: str) -> str:
        """Return the sha256 of a file, which is never in memory at once and should be `expected`."""
        ...

    def size(self, name: str) -> int:
        """Return the number of bytes of a file."""
        ...

    def is_link(self, name: str) -> bool:
        """Whether a file lies elsewhere, and here is a link to it."""
        ...


class Folder:
    """A folder; its files may be links to each other, in the hub's cache to blobs, and to nothing else."""

    def __init__(self, path: Path, known: KnownFiles) -> None:
        self.path = path
        self._known = known
        self._real = path.resolve()
        repository = hub_repository(self._real)
        # Not resolved: where the blobs themselves are a link, no file's real path lies in them.
        self._homes = {self._real} if repository is None else {self._real, repository / "blobs"}

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of a file."""
        with self._open(name, limit) as file:
            return file.read()

    def digest(self, name: str, limit: int, expected: str) -> str:
        """Return the sha256 of a file, without reading it if it is known to be as `expected`."""
        with self._open(name, limit) as file:
            return self._known.digest(name, file, expected)

    def size(self, name: str) -> int:
        """Return the number of bytes of a file."""
        with _naming(name):
            return self._real_path(name).stat().st_size

    def is_link(self, name: str) -> bool:
        """Whether a file lies elsewhere."""
        return (self._real / name).is_symlink()

    def _real_path(self, name: str) -> Path:
        real = (self._real / name).resolve()
        if real.parent not in self._homes:
            raise VoiceError(
                f"{name} is a link that leads out of the voice's folder: put the file itself in its place"
            )
        return real

    @contextlib.contextmanager
    def _open(self, name: str, limit: int) -> Iterator[io.BufferedReader]:
        with _naming(name), open_regular(self._real_path(name), name) as file:
            _check_size(name, os.fstat(file.fileno()).st_size, limit)
            yield file


class Addon:
    """A ZIP archive, of which each member is read where it lies."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of a member."""
        with self._open(name, limit) as file:
            # Piece by piece: all would be unpacked before it is cut to the size that the member says it has.
            return b"".join(iter(lambda: file.read(_PIECE_BYTES), b""))

    def digest(self, name: str, limit: int, expected: str) -> str:
        """Return the sha256 of a member."""
        found = hashlib.sha256()
        with self._open(name, limit) as file:
            while piece := file.read(_PIECE_BYTES):
                found.update(piece)
        return found.hexdigest()

    def size(self, name: str) -> int:
        """Return the number of bytes of a member."""
        with _naming(name), self._archive() as archive:
            return archive.getinfo(name).file_size

    def is_link(self, name: str) -> bool:
        """Return False: an archive's members are no links to anybody."""
        return False

    @contextlib.contextmanager
    def _open(self, name: str, limit: int) -> Iterator[IO[bytes]]:
        with _naming(name), self._archive() as archive:
            _check_size(name, archive.getinfo(name).file_size, limit)
            with archive.open(name) as file:
                yield file

    @contextlib.contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        with open_regular(self.path, str(self.path)) as file:
            bounded = _DirectoryFile(file)
            if not zipfile.is_zipfile(bounded):
                raise VoiceError(f"{self.path}: neither a voice folder nor an undamaged .addon file")
            with zipfile.ZipFile(bounded) as archive:
                bounded.limit = None
                _check_directory(archive, os.fstat(file.fileno()).st_size)
                yield archive


class _DirectoryFile(io.BufferedIOBase):
    """An archive, of whose directory no more is read at once than a voice can have entries for."""

    # A directory of gigabytes would become objects in memory before anything could be asked of it, and an
    # archive says in two places how large it is.
    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self.limit: int | None = _DIRECTORY_BYTES

    def read(self, n_bytes: int | None = -1, /) -> bytes:
        if self.limit is not None and n_bytes is not None and n_bytes > self.limit:
            raise VoiceError(f"the archive has a directory of {n_bytes} bytes: must be <= {self.limit}")
        return self._file.read(-1 if n_bytes is None else n_bytes)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def hub_repository(folder: Path) -> Path | None:
    """Return the folder of the Hugging Face hub's cache that a real path lies in; None if it lies in none.

    Of a repository that was downloaded, each revision is a folder of links, and one file stands for all of a
    content::

        models--owner--name/snapshots/<revision>/voice.json  ──▶  models--owner--name/blobs/<hash>
    """
    for snapshots in folder.parents:
        if snapshots.name == "snapshots" and _REPOSITORY.fullmatch(snapshots.parent.name):
            return snapshots.parent
    return None


def open_place(path: Path, known: KnownFiles) -> Place:
    """Return the folder or the archive at a path; an archive is looked at when a member is asked for."""
    return Folder(path, known) if path.is_dir() else Addon(path)


@contextlib.contextmanager
def open_regular(path: Path, name: str) -> Iterator[io.BufferedReader]:
    """Open a file for reading that is a regular one; `VoiceError` says what else it is.

    `name` is what the message calls it. What opening itself raises is an `OSError`.
    """
    # Asked before, since some devices do something when they are opened, and after, since another file may
    # lie there by then; and without waiting, since a pipe that nobody writes to would be waited for for ever.
    _check_regular(path.stat(), name)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(path, "rb", opener=lambda file, _: os.open(file, flags)) as file:
        _check_regular(os.fstat(file.fileno()), name)
        yield file


def kind_of(found: os.stat_result) -> str | None:
    """Return what lies there if it is no regular file, "a pipe" for one; None for a regular file."""
    if stat.S_ISREG(found.st_mode):
        return None
    return _KINDS.get(stat.S_IFMT(found.st_mode), "no file")


def _check_regular(found: os.stat_result, name: str) -> None:
    if (kind := kind_of(found)) is not None:
        raise VoiceError(f"{name} can't be read: it is {kind}, and must be a regular file")


def _check_size(name: str, n_bytes: int, limit: int) -> None:
    if n_bytes > limit:
        raise VoiceError(f"{name} has {n_bytes} bytes: must be <= {limit}")


def _check_directory(archive: zipfile.ZipFile, n_archive_bytes: int) -> None:
    """Refuse an archive that is none of a voice, by what it says of its members."""
    entries = archive.infolist()
    if len(entries) > _MOST_ENTRIES:
        raise VoiceError(f"the archive has {len(entries)} entries: must be <= {_MOST_ENTRIES}")
    if len({entry.filename for entry in entries}) < len(entries):
        raise VoiceError("the archive has two entries of one name")
    for entry in entries:
        if entry.compress_type not in _METHODS:
            # The others unpack all of a member at once, however large that is.
            known = " or ".join(_METHODS.values())
            raise VoiceError(f"{entry.filename} is packed by method {entry.compress_type}: must be {known}")
    n_bytes = sum(entry.file_size for entry in entries)
    limit = _MOST_RATIO * n_archive_bytes + _FREE_BYTES
    if n_bytes > limit:
        raise VoiceError(
            f"the archive of {n_archive_bytes} bytes says that it unpacks to {n_bytes}: must be <= {limit}"
        )


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except VoiceError:
        raise
    except (FileNotFoundError, KeyError):
        raise VoiceError(f"{name} is missing") from None
    except OSError as error:
        raise VoiceError(f"{name} can't be read: {error}") from error
    except _DAMAGED_ZIP as error:
        raise VoiceError(f"{name} is damaged: {error}") from error
