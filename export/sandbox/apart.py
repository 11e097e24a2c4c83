"""A model's export in a confined process: its request, its progress and errors, the files that it leaves."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from balacoon_tk._leftovers import beside, remove, remove_leftovers
from balacoon_tk.errors import ModelError
from balacoon_tk.export.sandbox.bounds import Bounds, Limits
from balacoon_tk.export.sandbox.collect import collect
from balacoon_tk.export.sandbox.messages import Confined, Done, Failed, Progressed, Warned, decode, to_error
from balacoon_tk.export.sandbox.process import Child, environment
from balacoon_tk.export.sources.source import Progress, SourceWarning

_LOGGER = logging.getLogger("balacoon_tk.export.sandbox")


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be exported; the arguments of `export_voice` of these names."""

    source: str
    config: str | None
    name: str | None
    license: str | None
    speakers: list[str] | None
    max_frames: int | None
    trust: bool


def export_apart(request: Request, folder: Path, *, limits: Limits, progress: Progress) -> dict[str, bytes]:
    """Export a model in a process of its own, and return the files of the voice by name.

    In `folder` a hidden folder is made, and gone in the end. Errors are those of the export; a `ModelError`
    also says that the process was ended, or what it has left is no voice.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        raise ModelError(
            "there is no Python to run the export in a process of its own: sandbox=False runs it in this one"
        )
    bounds = limits.of_model(Path(request.source))
    remove_leftovers(folder)
    work = beside(folder / "export")
    voice, scratch = work / "voice", work / "tmp"
    try:
        scratch.mkdir(parents=True)
        _run(request, work, voice, scratch, bounds, progress)
        return collect(voice, max_bytes=bounds.file_bytes)
    finally:
        remove(work)


def _run(
    request: Request, work: Path, voice: Path, scratch: Path, bounds: Bounds, progress: Progress
) -> None:
    line = {
        "folder": str(work.absolute()),
        "bounds": asdict(bounds),
        "path": sys.path,
        "export": {**asdict(request), "out": str(voice)},
    }
    child = Child(environment(scratch))
    try:
        child.send(json.dumps(line).encode() + b"\n")
        end_s = time.monotonic() + bounds.wall_s
        while True:
            data = child.receive()
            if time.monotonic() > end_s:
                raise ModelError(
                    f"{request.source}: the export took longer than {bounds.wall_s / 60:.0f} minutes and was "
                    "ended: sandbox=Limits(wall_s=...) or --max-minutes allows more"
                )
            if data is None:
                if _bytes_in(work) > 2 * bounds.file_bytes:
                    raise ModelError(
                        f"{request.source}: the export wrote more than {2 * bounds.file_bytes / 1e9:.1f} GB "
                        "and was ended"
                    )
                continue
            if not data:
                raise child.died(request.source, bounds)
            message = decode(data)
            if isinstance(message, Progressed):
                progress(message.stage, message.share)
            elif isinstance(message, Confined):
                _log(message, bounds)
            elif isinstance(message, Warned):
                warnings.warn(message.text, SourceWarning, stacklevel=4)
            elif isinstance(message, Failed):
                raise to_error(message, source=request.source)
            elif isinstance(message, Done):
                return
    finally:
        child.end()


def _bytes_in(folder: Path) -> int:
    n_bytes = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                n_bytes += Path(parent, name).lstat().st_size
    return n_bytes


def _log(confined: Confined, bounds: Bounds) -> None:
    held = [*confined.held, f"at most {bounds.wall_s / 60:.0f} min"]
    without = f"; this system can't give: {', '.join(confined.missing)}" if confined.missing else ""
    _LOGGER.info("sandbox: %s%s", ", ".join(held), without)
