"""Sentences to evaluate with: a list of our own, and lists in files of the same form."""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Sequence
from pathlib import Path

from balacoon_tk.errors import ParameterError


def plain_sentences() -> tuple[str, ...]:
    """Return 100 plain English sentences, from one word to forty, short ones first.

    Without digits, abbreviations and rare names: what goes wrong in them is the voice's doing and not
    that of the text's normalisation.

    Examples
    --------
    >>> sentences = plain_sentences()
    >>> len(sentences), sentences[0], len(sentences[-1].split())
    (100, 'Yes.', 40)
    """
    return _lines(_packaged("sentences.txt"))


def hard_sentences() -> dict[str, tuple[str, ...]]:
    """Return hard English sentences by kind, such as numbers, names and tongue twisters.

    Examples
    --------
    >>> hard_sentences()["tongue twisters"][0]
    'Six slick snails slid slowly seaward.'
    """
    # A kind stands in brackets above its sentences.
    kinds: dict[str, list[str]] = {}
    for line in _packaged("hard_sentences.txt").splitlines():
        if line.startswith("["):
            kinds[line.strip("[]")] = sentences = []
        elif line and not line.startswith("#"):
            sentences.append(line)
    return {kind: tuple(found) for kind, found in kinds.items()}


def read_sentences(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read a UTF-8 file with a sentence a line; empty lines and those begun with ``#`` are left out.

    Raises
    ------
    ParameterError
        If the file isn't UTF-8 or has no sentence in it.
    """
    return decode_sentences(Path(path).read_bytes(), os.fspath(path))


def decode_sentences(data: bytes, name: str) -> tuple[str, ...]:
    """Return the sentences of a file's bytes; `name` is what the error of `read_sentences` says."""
    try:
        # Some editors begin a file with a mark of its encoding, which would be spoken.
        sentences = _lines(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ParameterError(
            f"{name}: must be UTF-8, but byte {error.start} is 0x{data[error.start]:02x}"
        ) from error
    if not sentences:
        raise ParameterError(f"{name}: must hold at least one sentence, a line each")
    return sentences


def check_sentences(sentences: Sequence[object]) -> tuple[str, ...]:
    """Return the sentences as a tuple; none, one that holds nothing and a lone str are refused."""
    # A str is a sequence of str too, whose letters would be spoken: its type alone would let it pass.
    if isinstance(sentences, str):
        raise ParameterError(f"sentences={sentences[:60]!r} must be a sequence of str, not one str")
    found: list[str] = []
    for i, sentence in enumerate(sentences):
        if not isinstance(sentence, str) or not sentence.strip():
            raise ParameterError(f"sentences[{i}]={sentence!r} must be a str with something to say in it")
        found.append(sentence)
    if not found:
        raise ParameterError("sentences must hold at least one sentence")
    return tuple(found)


def _lines(text: str) -> tuple[str, ...]:
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def _packaged(name: str) -> str:
    # By the loader and not by a path: the package may be imported from an archive.
    return (importlib.resources.files("balacoon_tk.metrics") / "data" / name).read_text(encoding="utf-8")
