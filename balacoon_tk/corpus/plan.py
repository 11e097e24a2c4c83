"""All that a corpus depends on, and how its work is cut: plain records that go to workers as JSON.

::

    sentences   |<-------- window -------->|<-------- window -------->|     in the order of the list
    batches     [longest][..][..][shortest]  [longest][..][..][shortest]    within a window by length

A worker takes one batch after the other. The last ones of all are short, so that workers end together;
windows are bounded, so that the list's order is found again by looking at one of them at a time. Neither
depends on how many workers there are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

from balacoon_tk._files import short_repr
from balacoon_tk.corpus.sentences import CorpusSentence
from balacoon_tk.errors import ParameterError
from balacoon_tk.runtime.options import Backend

SETTINGS_FILE = "corpus.json"
"""In the output folder: what it was made with."""

WINDOW = 1024
"""Sentences among which long ones come first."""

BATCH_SIZE = 16
"""Utterances that a worker takes at once: seconds of work, beside which handing it over is nothing."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to speak every sentence."""

    voice: str
    """What it is called in the corpus."""
    path: str
    sha256: str
    """Of its voice.json, which has that of every other file."""
    precision: str
    strategy: str
    speaker: str | None
    backend: Backend
    """`native` or `onnxruntime`: another engine rounds otherwise, so that machines may not choose."""
    frontend: str

    @property
    def name(self) -> str:
        """What its folder is called."""
        return f"{self.voice}-{self.precision}-{self.strategy}"


@dataclass(frozen=True, slots=True)
class CorpusPlan:
    """What a corpus is made of."""

    version: str
    """Of this package, since another one may round otherwise."""
    n_sentences: int
    sentences_sha256: str
    variants: tuple[Variant, ...]
    seed: int
    audio_format: str
    metrics: tuple[str, ...]
    textgrid: bool
    shard_size: int
    """Files of a folder."""

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_dict` has become."""
        data = json.loads(text)
        variants = tuple(Variant(**each) for each in data.pop("variants"))
        return cls(variants=variants, metrics=tuple(data.pop("metrics")), **data)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data

    def check_same(self, kept: Self, folder: Path) -> None:
        """Refuse a folder that was made with other settings; the message names the first that differs."""
        # A voice may be moved: it is known by its checksum.
        now, before = (
            {**each.to_dict(), "variants": [asdict(v) | {"path": ""} for v in each.variants]}
            for each in (self, kept)
        )
        for name, value in now.items():
            if value != before[name]:
                raise ParameterError(
                    f"{folder}: holds a corpus with other settings: "
                    f"{_difference(name, before[name], value)}; give another folder"
                )

    def audio_path(self, variant: Variant, index: int, sentence: CorpusSentence) -> PurePosixPath:
        """Return where an utterance lies in the folder."""
        shard = PurePosixPath("audio") / variant.name / f"{index // self.shard_size:05d}"
        return shard / f"{sentence.id}.{self.audio_format}"


@dataclass(frozen=True, slots=True)
class Batch:
    """What a worker is given at once."""

    number: int
    variant: int
    indices: tuple[int, ...]
    """Places in the list of sentences."""
    sentences: tuple[CorpusSentence, ...]

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` gives."""
        number, variant, indices, sentences = json.loads(text)
        return cls(number, variant, tuple(indices), tuple(CorpusSentence(*each) for each in sentences))

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps([self.number, self.variant, self.indices, self.sentences])

    @property
    def journal_path(self) -> PurePosixPath:
        """Where it is kept what is done of it, in the folder."""
        return PurePosixPath("journal") / f"{self.number:06d}.jsonl"


def make_batches(sentences: Sequence[CorpusSentence], n_variants: int) -> Iterator[tuple[Batch, ...]]:
    """Cut the work into batches; those of one window and variant come together."""
    number = 0
    for variant in range(n_variants):
        for start in range(0, len(sentences), WINDOW):
            window = range(start, min(start + WINDOW, len(sentences)))
            ordered = sorted(window, key=lambda index: (-len(sentences[index].text), index))
            pieces = [ordered[at : at + BATCH_SIZE] for at in range(0, len(ordered), BATCH_SIZE)]
            yield tuple(
                Batch(number + i, variant, tuple(piece), tuple(sentences[index] for index in piece))
                for i, piece in enumerate(pieces)
            )
            number += len(pieces)


def digest_sentences(sentences: Sequence[CorpusSentence]) -> str:
    """Return the SHA-256 of a list: its ids, texts and order."""
    digest = hashlib.sha256()
    for each in sentences:
        digest.update(json.dumps(each).encode() + b"\n")
    return digest.hexdigest()


def _difference(name: str, before: Any, now: Any) -> str:
    """Say of a setting what it was and is; of variants, in which field they differ."""
    if name == "sentences_sha256":
        return "the sentences are others"
    if name == "variants" and len(before) != len(now):
        before, now = (
            [f"{each['voice']} {each['precision']} {each['strategy']}" for each in x] for x in (before, now)
        )
    elif name == "variants":
        old, new = next((old, new) for old, new in zip(before, now, strict=True) if old != new)
        field = next(field for field in new if old[field] != new[field])
        name, before, now = f"{field} of {new['voice']}", old[field], new[field]
    return f"{name} was {short_repr(before)} and is {short_repr(now)}"
