"""What was tried where: `benchmarks/results/platforms.json`, and its table in docs/platforms.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from balacoon_tk._files import json_text, write_whole
from balacoon_tk.runtime.machine import cpu_name
from platforms.places import ROOT
from speed.markdown import table
from speed.results import write_between

RESULT = ROOT / "benchmarks" / "results" / "platforms.json"
DOCS = ROOT / "docs" / "platforms.md"
COMMANDS = "`make test-wheels`, `make test-minimum` and `make test-aarch64 AARCH64=package`"
MARKS = ("<!-- platforms -->", "<!-- end -->")


def record(part: str, found: Mapping[str, Any], *, keep_others: bool = False) -> None:
    """Keep what a command found, and draw the table anew; `keep_others`: rows that it didn't try stay."""
    result = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    kept = result.get(part, {}) if keep_others else {}
    result |= {"cpu": cpu_name(), part: kept | dict(found)}
    write_whole(RESULT, json_text(dict(sorted(result.items()))))
    write_between(DOCS, MARKS, to_markdown(result))


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the table as it stands in the docs."""
    head = ("what", "Python", "NumPy, ONNX Runtime", "tag", "kernels", "streamed to whole", "outcome")
    rows = [
        _row(f"wheel, {row['libc']}" if "libc" in row else "wheel", row, version)
        for version, row in sorted(result.get("wheels", {}).items(), key=_by_version)
    ]
    if "minimum" in result:
        rows.append(_row("oldest versions that are stated", result["minimum"]))
    if "aarch64" in result:
        rows.append(_row("aarch64 under emulation", result["aarch64"]))
    lines = table(head, rows)
    return "\n".join([*lines, "", f"On {result['cpu']}; written by {COMMANDS}."])


def _row(what: str, row: Mapping[str, Any], version: str = "") -> tuple[str, ...]:
    if "error" in row:
        return what, version, "", "", "", "", f"**failed**: {row['error'].splitlines()[-1]}"
    versions = f"{row['versions']['numpy']}, {row['versions']['onnxruntime']}"
    python = f"{row['python']}{', free-threaded' if row['free_threaded'] else ''}"
    worst = max(value for name, value in row["differences"].items() if "to" not in name.split())
    said = ["speaks", row.get("suite", "")]
    if row["free_threaded"]:
        said.append(f"the GIL is {'on again' if row['gil'] else 'off'}")
    if "to_native_processor" in row:
        said.append(f"samples {row['to_native_processor']:.1g} from this machine's")
    kernels = ", ".join(row["kernels"])
    outcome = "; ".join(filter(None, said))
    return what, python, versions, row.get("wheel", ""), kernels, f"{worst:.1g}", outcome


def _by_version(item: tuple[str, Any]) -> tuple[int, bool]:
    version = item[0]
    return int(version.removesuffix("t").partition(".")[2]), version.endswith("t")
