"""Putting parts together, and the files that hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from packaging.version import Version

from balacoon_tk._files import json_text, write_whole
from speed.machine import machine_slug
from speed.pictures import draw_pictures
from speed.report import to_markdown
from speed.targets import check

MARKS: Final = ("<!-- beside other engines -->", "<!-- end of other engines -->")
"""Around the public tables, in the README and in the docs."""
PARTS: Final = (
    *("start", "stages", "end_to_end", "memory", "sizes", "fidelity", "growth", "streams", "quality"),
)
RECORDS: Final = "bench"
"""The folder of the records, a file a machine."""

_NUMBERS = re.compile(r"\[\s+([^\[\]{}\"]*?)\s+\]")


def keep_part(folder: Path, name: str, data: object, stamp: Mapping[str, Any]) -> None:
    """Keep what was measured of one part."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{name}.json", compact_json({"facts": stamp, "data": data}))


def kept_parts(folder: Path, stamp: Mapping[str, Any], names: Sequence[str] = PARTS) -> dict[str, Any]:
    """Return the data of the parts that are kept and were measured under the same stamp."""
    parts = {}
    for name in names:
        path = folder / f"{name}.json"
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            # Figures of two machines or versions in one report would be compared with each other.
            if kept["facts"] == stamp:
                parts[name] = kept["data"]
    return parts


def assemble(parts: Mapping[str, Any], stamp: Mapping[str, Any], *, quick: bool = False) -> dict[str, Any]:
    """Put parts together, and check the targets on them."""
    ordered = {name: parts[name] for name in PARTS if name in parts}
    return {"facts": stamp, "quick": quick, "targets": check(ordered), "parts": ordered}


def write(result: Mapping[str, Any], folder: Path) -> None:
    """Write a machine's record, and of all that are there the report and the pictures of the newest one."""
    records = folder / RECORDS
    records.mkdir(parents=True, exist_ok=True)
    write_whole(records / f"{machine_slug(result['facts'])}.json", compact_json(result))
    # What is rounded in the files is rounded in the report too, so that one can be made of the other.
    written = read_records(folder)
    write_whole(folder / "bench.md", "\n".join(map(to_markdown, written)))
    draw_pictures(written[0], folder)


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Return the records of all machines, those of the newest version first."""
    paths = sorted((folder / RECORDS).glob("*.json"))
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]

    def version(record: Mapping[str, Any]) -> Version:
        return Version(record["facts"]["versions"]["balacoon_tk"])

    return sorted(records, key=version, reverse=True)


def write_between(path: Path, marks: tuple[str, str], text: str) -> None:
    """Put a text between two marks of a Markdown file, in the place of what stands there."""
    head, _, rest = path.read_text(encoding="utf-8").partition(marks[0])
    write_whole(path, f"{head}{marks[0]}\n{text.strip()}\n{marks[1]}{rest.partition(marks[1])[2]}")


def compact_json(data: object) -> str:
    """Return JSON with a line for each list of numbers, and numbers of six digits."""
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", json_text(_rounded(data)))


def _rounded(data: object) -> object:
    if isinstance(data, Mapping):
        return {key: _rounded(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_rounded(value) for value in data]
    return float(f"{data:.6g}") if isinstance(data, float) else data
