"""Put a finished voice in place, all of it or nothing.

A voice is written into a folder (or file) of another name beside its target, on the same file
system, and renamed when it is complete and on the disk:

    .name.1f3a.tmp/ ──rename──▶ name/                  where nothing was
    name/ ──rename──▶ .name.77b0.old/ ──▶ removed      where a voice was that is to be replaced

Whoever loads a voice sees the old one or the new one. Where the second of two exporters comes too
late, it finds the first one's voice; no lock is held, so none can be left behind.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from balacoon_tk.errors import ParameterError
from balacoon_tk.voice.files import MANIFEST_FILE

ADDON_SUFFIX = ".addon"

_N_ATTEMPTS = 100  # renames; each that fails means that another exporter has just succeeded
_ZIP_MODE = 0o644 << 16
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same voice gives the same file


def check_target(target: Path, *, overwrite: bool) -> None:
    """Check that a voice may be put at a path; an empty folder may be there.

    Raises
    ------
    ParameterError
        If something is there that must not, or can't, be replaced.
    """
    is_addon = target.suffix == ADDON_SUFFIX
    nearest = next(folder for folder in target.absolute().parents if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ParameterError(f"out={str(target)!r}: {nearest} must be a folder that can be written to")
    if not target.exists() and not target.is_symlink():
        return
    if target.is_dir() == is_addon:
        wanted = "a file, since it ends in .addon" if is_addon else "a folder, or end in .addon"
        raise ParameterError(f"out={str(target)!r} must be {wanted}")
    if target.is_dir() and not any(target.iterdir()):
        return
    if not overwrite:
        raise ParameterError(f"out={str(target)!r} exists; overwrite=True replaces a voice that is there")
    if target.is_dir() and not (target / MANIFEST_FILE).is_file():
        raise ParameterError(
            f"out={str(target)!r} is a folder without {MANIFEST_FILE}, so no voice: it is not replaced"
        )


def install(files: Mapping[str, bytes], target: Path, *, overwrite: bool) -> Path:
    """Write a voice's files and put them in place at once.

    Parameters
    ----------
    files : mapping of str to bytes
        Contents by file name, the manifest among them.
    target : Path
        A folder, or a file ending in ``.addon``.
    overwrite : bool
        Whether a voice that is there is replaced. Without it a voice of the same source that
        another process has put there meanwhile is taken for the result.

    Returns
    -------
    Path
        The target.

    Raises
    ------
    ParameterError
        If the target was taken meanwhile by something else.
    OSError
        If the files can't be written. Nothing is left behind then, and what was there remains.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _beside(target, "tmp") as temporary:
        if target.suffix == ADDON_SUFFIX:
            _write_addon(temporary, files)
            if overwrite or not _is_taken(target, files):
                temporary.replace(target)
        else:
            _write_folder(temporary, files)
            _swap_folder(temporary, target, files, overwrite=overwrite)
    _sync(target.parent)
    return target


@contextmanager
def _beside(target: Path, kind: str) -> Iterator[Path]:
    """Give a path beside another that nobody else has; remove what is there in the end, whatever happens."""
    path = target.with_name(f".{target.name}.{secrets.token_hex(4)}.{kind}")
    try:
        yield path
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir()  # with the user's own umask, which tempfile would not follow
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    _sync(folder)


def _write_addon(path: Path, files: Mapping[str, bytes]) -> None:
    with path.open("xb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, data in files.items():
                entry = zipfile.ZipInfo(name, _ZIP_TIME)
                entry.external_attr = _ZIP_MODE
                archive.writestr(entry, data)
        file.flush()
        os.fsync(file.fileno())


def _swap_folder(folder: Path, target: Path, files: Mapping[str, bytes], *, overwrite: bool) -> None:
    for attempt in range(_N_ATTEMPTS):
        with suppress(OSError):
            target.rmdir()  # only if it is empty; not every system renames onto an empty folder
        try:
            if overwrite:
                _replace(folder, target)
            else:
                folder.rename(target)
        except OSError as error:
            if not overwrite and _is_taken(target, files):
                return
            # Another process may have put its own voice there between two steps, and may even have moved
            # it aside again: then try again.
            in_the_way = error.errno in (errno.ENOTEMPTY, errno.EEXIST) or target.exists()
            if not in_the_way or attempt == _N_ATTEMPTS - 1:
                raise
        else:
            return


def _replace(folder: Path, target: Path) -> None:
    """Move aside what is at the target, if anything is, and put a folder there."""
    with _beside(target, "old") as old:
        try:
            with suppress(FileNotFoundError):
                target.rename(old)
            folder.rename(target)
        except BaseException:
            if not target.exists():
                with suppress(OSError):
                    old.rename(target)
            raise


def _is_taken(target: Path, files: Mapping[str, bytes]) -> bool:
    """Whether another process has put the same voice there meanwhile.

    Raises
    ------
    ParameterError
        If something else is there.
    """
    if not target.exists():
        return False
    with suppress(OSError, KeyError, ValueError, AttributeError, zipfile.BadZipFile):
        if target.is_dir():
            text = (target / MANIFEST_FILE).read_bytes()
        else:
            with zipfile.ZipFile(target) as archive:
                text = archive.read(MANIFEST_FILE)
        there, ours = (_without_measurements(data) for data in (text, files[MANIFEST_FILE]))
        if there == ours:
            return True
    raise ParameterError(f"out={str(target)!r} was taken by something else during the export")


def _without_measurements(manifest: bytes) -> dict[str, object]:
    """Return what two exports of the same source must have in common."""
    data = json.loads(manifest)
    return {name: value for name, value in data.items() if name not in ("verified", "stages")}


def _sync(folder: Path) -> None:
    """Have the names in a folder written to the disk, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
