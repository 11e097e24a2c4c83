"""What the tests of corpora share: sentences, and workers that need no process."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow.parquet

from balacoon_tk.corpus.plan import Batch
from balacoon_tk.corpus.speaker import CorpusSpeaker

__all__ = ["audio_of", "rows_in", "sentences", "speak_here"]

TEXT = "the quick brown fox jumps over a lazy dog while it rains and nobody minds at all"
WORDS = TEXT.split()


def sentences(n: int, n_words: int = 6) -> list[tuple[str, str]]:
    """Return sentences of several lengths."""
    return [
        (f"s{i:03d}", " ".join(WORDS[(i + k) % len(WORDS)] for k in range(1 + i * 5 % n_words)))
        for i in range(n)
    ]


def speak_here(plan, folder, run, batches, n_workers):
    """Take the place of `speak_locally`; several workers take batches in turn, the last ones first."""
    workers = [CorpusSpeaker(plan, folder, run) for _ in range(n_workers)]
    ordered: list[Batch] = batches if n_workers == 1 else batches[::-1]
    for number, batch in enumerate(ordered):
        yield from workers[number % n_workers].speak(batch)


def audio_of(folder: Path) -> dict[str, str]:
    """Return the checksum of every file of audio, by its place."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("audio/**/*"))
        if path.is_file()
    }


def rows_in(folder: Path, name: str = "metadata.parquet") -> list[dict]:
    """Return a manifest's rows, without what differs from run to run."""
    rows = pyarrow.parquet.read_table(folder / name).to_pylist()
    return [{key: value for key, value in row.items() if key not in ("synthesis_s", "cpu_s")} for row in rows]
