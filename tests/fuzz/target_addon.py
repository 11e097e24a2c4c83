"""An .addon file: a damaged or a hostile one is refused, and nothing is written outside its folder."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from damage import BAD_VALUES, damaged_bytes


def prepare(folder: Path, _: str) -> tuple[Callable[[bytes], None], Iterable[bytes]]:
    """Return what loads one damaged voice, and what damage to begin with."""
    from balacoon_tk.voice import load_voice
    from tiny_voice import build_tiny_voice, pack_addon

    voice = build_tiny_voice(folder / "voice")
    valid = [
        pack_addon(voice, folder / "valid.addon").read_bytes(),
        *_hostile(voice, folder / "hostile.addon"),
    ]
    place = folder / "place"
    place.mkdir()
    addon, around = place / "voice.addon", sorted(folder.iterdir())

    def run(data: bytes) -> None:
        addon.write_bytes(damaged_bytes(valid, data))
        try:
            load_voice(addon, n_threads=1, backend="onnxruntime")
        finally:
            assert sorted(folder.iterdir()) == around and list(place.iterdir()) == [addon]

    rng = random.Random(0)
    return run, [
        *(bytes([k]) for k in range(len(valid))),
        *(rng.randbytes(1 + 4 * rng.randint(1, 3)) for _ in range(100)),
    ]


def _hostile(voice: Path, path: Path) -> Iterable[bytes]:
    """Give archives whose entries have names, kinds, sizes and copies that no exporter writes."""
    for name in (each for each in BAD_VALUES if isinstance(each, str) and each.isprintable()):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(voice.iterdir()):
                archive.write(file, file.name)
            archive.writestr(name or "empty", b"x")
        yield path.read_bytes()
    for mode in (0o120777, 0o010644, 0o020644, 0o040755):  # a link, a pipe, a device, a folder
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(voice.iterdir()):
                entry = zipfile.ZipInfo(file.name)
                entry.external_attr = mode << 16
                archive.writestr(entry, file.read_bytes())
        yield path.read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(voice.iterdir()):
            archive.writestr(file.name, file.read_bytes() + b" " * 50_000_000)
    yield path.read_bytes()
