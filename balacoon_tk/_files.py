"""The user's cache, text files that are there whole or not at all, and JSON that every program reads."""

import json
import math
import os
from pathlib import Path

from balacoon_tk._leftovers import beside, remove_leftovers

CACHE_VARIABLE = "BALACOON_TK_CACHE"
"""Environment variable that names another cache folder."""


def cache_folder() -> Path:
    """Return the folder for what can be made again; it may not exist yet."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    import platformdirs

    return platformdirs.user_cache_path("balacoon_tk", appauthor=False)


def json_text(data: object) -> str:
    """Return data as the JSON text that a program reads: finite numbers, names as they are."""
    return json.dumps(_finite(data), ensure_ascii=False, indent=2) + "\n"


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 file beside its place and put it there when it is complete."""
    path = Path(path)
    # In the same folder, since a file can be put in place at once on its own file system only.
    remove_leftovers(path.parent)
    part = beside(path)
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _finite(data: object) -> object:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    # Python writes NaN and Infinity, which are no JSON: other programs refuse all of the file.
    return None if isinstance(data, float) and not math.isfinite(data) else data
