"""What a corpus says: sentences with ids, from the lists that researchers have.

===========  ==========================================  ===============================
form         a line                                      taken by itself for
===========  ==========================================  ===============================
``lines``    ``text``; ``#`` begins a comment            all other files
``ljspeech``  ``id|text``, or ``id|text|normalized``     ``.csv``, and ``|`` in each line
``tsv``      ``id``, a tab, ``text``                     ``.tsv``
``kaldi``    ``id text``                                 a file called ``text``
``jsonl``    ``{"id": "a1", "text": "Hello."}``          ``.jsonl``
===========  ==========================================  ===============================

Of three fields the last is said, which in LJSpeech is the text with its numbers written out. Sentences
without an id are called after their place in the list.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Literal, NamedTuple, TypeAlias, get_args

from balacoon_tk.errors import ParameterError

ListForm: TypeAlias = Literal["auto", "lines", "ljspeech", "tsv", "kaldi", "jsonl"]
"""How a list of sentences is written."""

LIST_FORMS: tuple[ListForm, ...] = get_args(ListForm)

_MAX_ID = 128  # characters; names of files have 255 bytes, and endings and marks come to it
_ID = re.compile(rf"\w[\w.+@=-]{{0,{_MAX_ID - 1}}}")
_SEED_BITS = 63  # a column of signed integers holds it in every program
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class CorpusSentence(NamedTuple):
    """One sentence, or as many as shall be one utterance."""

    id: str
    """Names its files, so that no two are the same, whether letters are large or small."""
    text: str

    def seed(self, run_seed: int) -> int:
        """Return the seed it is spoken with, in [0, 2**63): of a run's seed, the id and the text alone."""
        # Lengths, so that no id runs into its text.
        data = f"{run_seed} {len(self.id)} {self.id}{self.text}".encode()
        return int.from_bytes(hashlib.sha256(data).digest()[:8], "little") >> (64 - _SEED_BITS)


def read_corpus_sentences(
    path: str | os.PathLike[str], *, form: ListForm = "auto"
) -> tuple[CorpusSentence, ...]:
    """Read a list of sentences in UTF-8.

    Parameters
    ----------
    path : path
    form : {"auto", "lines", "ljspeech", "tsv", "kaldi", "jsonl"}
        How it is written; `auto` decides by the file's name, and takes ``|`` in every line for LJSpeech's.

    Raises
    ------
    ParameterError
        If it isn't UTF-8 (the message names line and byte), a line has no text, an id can't name a file or
        is there twice, or there is no sentence.
    """
    return decode_corpus_sentences(Path(path).read_bytes(), os.fspath(path), form=form)


def decode_corpus_sentences(data: bytes, name: str, *, form: ListForm = "auto") -> tuple[CorpusSentence, ...]:
    """Return the sentences of a list's bytes; `name` is what errors of `read_corpus_sentences` say."""
    if form not in LIST_FORMS:
        raise ParameterError(f"form={form!r} must be one of {', '.join(LIST_FORMS)}")
    # Not `splitlines`: a text may hold a line separator of Unicode, which ends no line of a list.
    lines = [line.rstrip("\r") for line in _decoded(data, name).split("\n")]
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    chosen = _form_of(name, [line for _, line in numbered]) if form == "auto" else form
    if chosen == "lines":
        numbered = [(number, line) for number, line in numbered if not line.lstrip().startswith("#")]
    rows = [(f"{name}: line {number}", *_fields(line, chosen, name, number)) for number, line in numbered]
    if not rows:
        raise ParameterError(f"{name}: must hold at least one sentence, a line each")
    return tuple(_checked(rows))


def check_corpus_sentences(
    sentences: Sequence[str | tuple[str, str]] | str,
) -> tuple[CorpusSentence, ...]:
    """Return texts, or pairs of id and text, as sentences; refuse what `read_corpus_sentences` does."""
    if isinstance(sentences, str):
        raise ParameterError(f"sentences={sentences[:60]!r} must be a sequence, not one str")
    rows: list[tuple[str, str | None, str]] = []
    for i, each in enumerate(sentences):
        fields = (None, each) if isinstance(each, str) else tuple(each)
        if len(fields) != 2 or not isinstance(fields[1], str):
            raise ParameterError(f"sentences[{i}]={each!r} must be a text, or an id and a text")
        rows.append((f"sentences[{i}]", *fields))
    if not rows:
        raise ParameterError("sentences must hold at least one sentence")
    return tuple(_checked(rows))


def _checked(rows: Iterable[tuple[str, object, str]]) -> Iterator[CorpusSentence]:
    """Check ids and texts, and name those that have no id."""
    places: dict[str, str] = {}
    for number, (place, given, text) in enumerate(rows, 1):
        if not text.strip():
            raise ParameterError(f"{place}: must have a text")
        found = f"{number:06d}" if given is None else given
        if not isinstance(found, str) or not _ID.fullmatch(found):
            raise ParameterError(
                f"{place}: id={found!r} must be of letters, digits and any of . _ - + @ = after the first, "
                f"{_MAX_ID} at most: it names files"
            )
        # Some file systems take 'A' and 'a' for one name, and one would be written over the other.
        if (before := places.setdefault(found.casefold(), place)) is not place:
            raise ParameterError(f"{place}: id={found!r} is that of {before} as well")
        yield CorpusSentence(found, text.strip())


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        hint = "; it begins as UTF-16 does" if data.startswith(_UTF16) else ""
        raise ParameterError(
            f"{name}: must be UTF-8, but in line {line} byte {column} is 0x{data[error.start]:02x}{hint}"
        ) from error


def _form_of(name: str, lines: Sequence[str]) -> ListForm:
    path = PurePath(name)
    by_name: dict[str, ListForm] = {".csv": "ljspeech", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
    if (form := by_name.get(path.suffix.lower())) is not None:
        return form
    if path.name == "text":
        return "kaldi"
    return "ljspeech" if lines and all("|" in line for line in lines) else "lines"


def _fields(line: str, form: ListForm, name: str, number: int) -> tuple[str | None, str]:
    if form == "lines":
        return None, line
    if form == "jsonl":
        return _json_fields(line, f"{name}: line {number}")
    separator = {"ljspeech": "|", "tsv": "\t", "kaldi": " "}[form]
    # Kaldi separates by any white space, of which a text may hold more.
    found = line.strip().split(None, 1) if form == "kaldi" else line.split(separator)
    if not 2 <= len(found) <= 3:
        raise ParameterError(
            f"{name}: line {number} has {len(found)} fields: must be an id and a text, "
            f"with {separator!r} between"
        )
    # A third field may be empty where a normalizer had nothing to write out.
    return found[0].strip(), next((field for field in reversed(found[1:]) if field.strip()), "")


def _json_fields(line: str, place: str) -> tuple[str | None, str]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ParameterError(f"{place} is no JSON: {error}") from error
    text = record.get("text") if isinstance(record, dict) else None
    if not isinstance(text, str):
        raise ParameterError(f'{place} must be an object with a "text"')
    return record.get("id"), text
