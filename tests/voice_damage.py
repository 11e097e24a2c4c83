"""Damage to a voice, drawn by a seed: bits, lengths, and every field of its manifest."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tiny_voice import pack_addon

# What stands in a field's place: other types, ends of ranges, and texts that lead somewhere.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31 - 1, 2**31, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e308,
    float("nan"), float("inf"), float("-inf"), "", "a", "\0", "\ud800", "é" * 300, "../../x", "/dev/zero",
    "voice.json", "\x1b[2J", "NaN", [], [[]], {}, {"": {}}, [None], ["a", "a"], {"a": None}, [0] * 1000,
)  # fmt: skip
KINDS = ("field", "field", "field", "text", "bits", "cut", "rehashed", "zip")


def paths_of(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every field of a JSON value."""
    if path:
        yield path
    if isinstance(data, dict | list):
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from paths_of(data[key], (*path, key))


def damage_field(rng: random.Random, data: Any) -> Any:
    """Return a copy of a JSON value with one field gone, renamed, retyped or moved."""
    data = copy.deepcopy(data)
    # Fields of one record are as likely as all phonemes together.
    paths = [path for path in paths_of(data) if "phoneme_ids" not in path[:-1] or rng.random() < 0.05]
    *parents, name = rng.choice(paths)
    record = data
    for parent in parents:
        record = record[parent]
    way = rng.randrange(5)
    if way == 0:
        del record[name]
    elif way == 1 and isinstance(record, dict):
        record[str(name) + rng.choice(("", " ", "2", "\ud800"))] = record.pop(name)
    elif way == 2:
        other = data
        for key in rng.choice(paths):
            other = other[key]
        record[name] = copy.deepcopy(other)
    else:
        record[name] = rng.choice(VALUES)
    return data


def damage_text(rng: random.Random, text: bytes) -> bytes:
    """Return the bytes of a text with a part of it gone, doubled, or replaced."""
    start = rng.randrange(len(text))
    stop = min(len(text), start + rng.choice((1, 2, 10, 100, 1000)))
    middle = rng.choice(
        (b"", text[start:stop] * 2, b"[" * 5000, b"\xff\xfe", b"9" * 5000, b'"\\ud800"', b"NaN")
    )
    return text[:start] + middle + text[stop:]


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    """Return data with one to eight bits flipped."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def damage_voice(rng: random.Random, folder: Path) -> tuple[str, Path]:
    """Damage a voice folder, or pack it and damage the archive; return what was done, and the voice."""
    kind = rng.choice(KINDS)
    manifest = folder / "voice.json"
    if kind == "field":
        data = json.loads(manifest.read_text())
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            data = damage_field(rng, data)
        manifest.write_text(json.dumps(data), encoding="utf-8")
    elif kind == "text":
        manifest.write_bytes(damage_text(rng, manifest.read_bytes()))
    elif kind in ("bits", "cut"):
        file = rng.choice(sorted(folder.iterdir()))
        data = file.read_bytes()
        file.write_bytes(flip_bits(rng, data) if kind == "bits" else data[: rng.randrange(len(data))])
    elif kind == "rehashed":
        rehash(folder, rng.choice(sorted(folder.glob("*.onnx"))), lambda data: flip_bits(rng, data))
    else:
        addon = pack_addon(folder, folder.with_suffix(".addon"))
        data = addon.read_bytes()
        # Of a ZIP archive the end says where all else lies.
        start = rng.choice((0, max(0, len(data) - 600)))
        addon.write_bytes(data[:start] + flip_bits(rng, data[start:]))
        return kind, addon
    return kind, folder


def rehash(folder: Path, file: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file of a voice, and the checksum that the manifest has for it."""
    before = file.read_bytes()
    after = change(before)
    file.write_bytes(after)
    old, new = (hashlib.sha256(data).hexdigest() for data in (before, after))
    manifest = folder / "voice.json"
    manifest.write_text(manifest.read_text().replace(old, new))


@contextmanager
def damaged_voice(rng: random.Random, whole: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Copy a voice to a folder and damage the copy; give what was done, and the voice."""
    shutil.copytree(whole, folder)
    try:
        yield damage_voice(rng, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".addon").unlink(missing_ok=True)
