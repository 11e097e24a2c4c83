"""Put a finished voice in place, all of it or nothing.

A voice is written into a folder (or file) of another name beside its target, on the same file
system, and renamed when it is complete and on the disk:

    .name.1f3a.tmp/ ──rename──▶ name/                  where nothing was
    .name.1f3a.tmp/ ◀─exchange─▶ name/                 where a voice was that is to be replaced
    name/ ──rename──▶ .name.77b0.old/ ──▶ removed      the same, where the system can't exchange two folders

Whoever loads a voice sees the old one or the new one. Where the second of two exporters comes too
late, it finds the first one's voice; no lock is held, so none can be left behind. What a process leaves that
was killed meanwhile, the next one that installs into the same folder removes (`balacoon_tk._leftovers`).
"""

import errno
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from balacoon_tk._leftovers import MAX_NAME_BYTES, Kind, beside, remove, remove_leftovers
from balacoon_tk.errors import ParameterError, VoiceError
from balacoon_tk.voice.files import MANIFEST_FILE, VoiceFiles

ADDON_SUFFIX = ".addon"

_N_ATTEMPTS = 100  # renames; each that fails means that another exporter has just succeeded
_SPACE_BYTES = 32 << 20  # for graphs, which grow with layers and not with weights
_RENAME_EXCHANGE = 2  # in Linux's fs.h
_ZIP_MODE = 0o644 << 16
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that there is


def check_target(target: Path, *, overwrite: bool) -> None:
    """Check that a voice may be put at a path, where an empty folder may be, or a voice to be replaced."""
    is_addon = target.suffix == ADDON_SUFFIX
    if len(os.fsencode(target.name)) > MAX_NAME_BYTES:
        raise ParameterError(f"out={str(target)!r}: its name must be of at most {MAX_NAME_BYTES} bytes")
    # Before an export begins, since it takes minutes.
    nearest = nearest_folder(target)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ParameterError(f"out={str(target)!r}: {nearest} must be a folder that can be written to")
    # Also before: a voice that comes back is in the way, and what is removed makes room.
    remove_leftovers(nearest)
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


def nearest_folder(target: Path) -> Path:
    """Return the folder in which a path lies, or the first above it that there is."""
    return next(folder for folder in target.absolute().parents if folder.exists())


def bytes_of(path: Path) -> int:
    """Return the size of a model or a voice: of a folder, or of a file and those that are named after it."""
    inside = path.is_dir()
    n_bytes = 0
    with suppress(OSError):
        for each in (path if inside else path.absolute().parent).iterdir():
            if inside or each.name.startswith(path.name):  # model.onnx and its weights in model.onnx.data
                n_bytes += each.stat().st_size if each.is_file() else 0
    return n_bytes


def check_space(target: Path, source: Path, *, factor: int = 2) -> None:
    """Check that there is room for what will be made of a model or a voice, before the work begins."""
    n_bytes, nearest = _SPACE_BYTES + factor * bytes_of(source), nearest_folder(target)
    try:
        free = shutil.disk_usage(nearest).free
    except OSError:
        return  # not every file system says
    if free < n_bytes:
        raise ParameterError(
            f"out={str(target)!r} needs about {n_bytes / 1e6:.0f} MB, and {nearest} has {free / 1e6:.0f} MB "
            "free: make room, or write to another disk"
        )


def install(files: Mapping[str, bytes], target: Path, *, overwrite: bool) -> Path:
    """Write a voice's files, by name and with the manifest among them, and put them in place at once.

    Without `overwrite` a voice of the same source that another process has put there meanwhile is taken for
    the result; anything else there raises `ParameterError`. After an `OSError` nothing is left behind, and
    what was there remains.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent)
    with _beside(target, "tmp") as temporary:
        if target.suffix == ADDON_SUFFIX:
            _write_addon(temporary, files)
            # A file is replaced in one step, so that one look before is enough.
            if overwrite or not _is_taken(target, files):
                temporary.replace(target)
        else:
            _write_folder(temporary, files)
            _swap_folder(temporary, target, files, overwrite=overwrite)
    _sync(target.parent)
    return target


@contextmanager
def _beside(target: Path, kind: Kind) -> Iterator[Path]:
    """Give a path beside another that nobody else has; remove what is there in the end, whatever happens."""
    path = beside(target, kind)
    try:
        yield path
    finally:
        remove(path)


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir()  # with the user's own umask, which tempfile would not follow
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)  # names of extra files may have folders
        with (folder / name).open("xb") as file:
            file.write(data)
            _flush(file)
    _sync(folder)


def _write_addon(path: Path, files: Mapping[str, bytes]) -> None:
    with path.open("xb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, data in files.items():
                # Of one time and mode, so that the checksum of the file says whether two voices are the same.
                entry = zipfile.ZipInfo(name, _ZIP_TIME)
                entry.external_attr = _ZIP_MODE
                archive.writestr(entry, data)
        _flush(file)


def _flush(file: IO[bytes]) -> None:
    # A rename may reach the disk before the content does, and a power cut would leave an empty voice.
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
    if _exchange(folder, target):
        return  # and the old one is removed as what was beside it
    # Not every system renames a folder onto one that has something in it: what is there is moved aside first.
    with _beside(target, "old") as old:
        try:
            with suppress(FileNotFoundError):
                target.rename(old)
            folder.rename(target)
        # Also where the user interrupts: a folder without a voice would be worse than the old one.
        except BaseException:
            if not target.exists():
                with suppress(OSError):
                    old.rename(target)
            raise


def _exchange(first: Path, second: Path) -> bool:
    """Let two paths change places in one step; False where one is missing or the system can't do it."""
    if sys.platform != "linux":
        return False
    import ctypes

    # Python has no function for it, nor has libc before glibc 2.28.
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    if call is None:
        return False
    one, other = os.fsencode(first.absolute()), os.fsencode(second.absolute())
    return bool(call(-1, one, -1, other, _RENAME_EXCHANGE) == 0)


def _is_taken(target: Path, files: Mapping[str, bytes]) -> bool:
    """Whether another process has put the same voice there meanwhile; refuse anything else that is there."""
    if not target.exists():
        return False
    # Whatever can't be read as a voice is something else.
    with suppress(VoiceError, OSError, KeyError, ValueError, AttributeError):
        there = VoiceFiles(target).member(MANIFEST_FILE)
        if _without_measurements(there) == _without_measurements(files[MANIFEST_FILE]):
            return True
    raise ParameterError(f"out={str(target)!r} was taken by something else during the export")


def _without_measurements(manifest: bytes) -> dict[str, object]:
    # What two exports of one source have in common; times and sizes of a run differ.
    data = json.loads(manifest)
    return {name: value for name, value in data.items() if name not in ("verified", "stages")}


def _sync(folder: Path) -> None:
    # A file system writes names in a folder apart from the files; some systems can not be asked to.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
