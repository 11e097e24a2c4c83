"""Putting parts together, and the files that hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from balacoon_tk._files import json_text, write_whole
from speed.pictures import draw_pictures
from speed.report import readme_table, to_markdown
from speed.targets import check

__all__ = ["MARKS", "PARTS", "assemble", "keep_part", "kept_parts", "write", "write_readme"]

MARKS: Final = ("<!-- beside other engines -->", "<!-- end of other engines -->")
"""Around the README's table."""
PARTS: Final = ("start", "stages", "end_to_end", "memory", "growth", "streams")

_NUMBERS = re.compile(r"\[\s+([^\[\]{}\"]*?)\s+\]")


def keep_part(folder: Path, name: str, data: object, stamp: Mapping[str, Any]) -> None:
    """Keep what was measured of one part."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{name}.json", compact_json({"facts": stamp, "data": data}))


def kept_parts(folder: Path, stamp: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of the parts that are kept and were measured under the same stamp."""
    parts = {}
    for name in PARTS:
        path = folder / f"{name}.json"
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["facts"] == stamp:
                parts[name] = kept["data"]
    return parts


def assemble(parts: Mapping[str, Any], stamp: Mapping[str, Any], *, quick: bool = False) -> dict[str, Any]:
    """Put parts together, and check the targets on them."""
    ordered = {name: parts[name] for name in PARTS if name in parts}
    return {"facts": stamp, "quick": quick, "targets": check(ordered), "parts": ordered}


def write(result: Mapping[str, Any], folder: Path) -> None:
    """Write JSON, and what is made of that: Markdown and pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    text = compact_json(result)
    written = json.loads(text)
    write_whole(folder / "bench.json", text)
    write_whole(folder / "bench.md", to_markdown(written))
    draw_pictures(written, folder)


def write_readme(path: Path, result: Mapping[str, Any]) -> None:
    """Put the table of engines between the marks of a Markdown file."""
    text = path.read_text(encoding="utf-8")
    start, end = text.index(MARKS[0]) + len(MARKS[0]), text.index(MARKS[1])
    write_whole(path, f"{text[:start]}\n{readme_table(result)}\n{text[end:]}")


def compact_json(data: object) -> str:
    """Return JSON with a line for each list of numbers, and numbers of six digits."""
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", json_text(_rounded(data)))


def _rounded(data: object) -> object:
    if isinstance(data, Mapping):
        return {key: _rounded(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_rounded(value) for value in data]
    return float(f"{data:.6g}") if isinstance(data, float) else data
