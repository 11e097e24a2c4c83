"""What listeners have answered: a table with a row per answer, which outlives the kernel."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from balacoon_tk._files import write_whole
from balacoon_tk.errors import ParameterError

TestKind = Literal["AB", "ABX"]
Choice = Literal["A", "B", "none"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to one trial; the columns of the table, in their order."""

    time: str
    """When it was given, UTC, ISO 8601."""
    test: TestKind
    seed: int
    """Of the order of trials."""
    listener: str
    trial: int
    """From 1."""
    sentence: str
    a: str
    """Name of what sounded as A."""
    b: str
    x: str
    """What X was, "A" or "B"; empty in an AB test."""
    answer: Choice
    result: str
    """The name that is preferred, empty for none; in an ABX test "right" or "wrong"."""
    latency_s: float
    """From when the trial was shown to its answer."""
    gain_a_db: float
    """What A was multiplied by, so that all sounds have one loudness."""
    gain_b_db: float


_COLUMNS = tuple(field.name for field in fields(Answer))
_READERS = {"seed": int, "trial": int, "latency_s": float, "gain_a_db": float, "gain_b_db": float}


def to_csv(answers: Iterable[Answer]) -> str:
    """Return a table as CSV, RFC 4180 with line feeds; the first row names the columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for each in answers:
        writer.writerow(
            asdict(each)
            | {name: f"{getattr(each, name):.3f}" for name in _READERS if _READERS[name] is float}
        )
    return text.getvalue()


def read_answers(path: str | os.PathLike[str]) -> list[Answer]:
    """Read the table that `write_answers` wrote; a file that isn't there has no answers.

    Raises
    ------
    ParameterError
        If it is another table, or a row isn't what `Answer` says; it names the row.
    """
    path = Path(path)
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ParameterError(f"{path}: not a table of answers: {error}") from error
    if not rows or tuple(rows[0]) != _COLUMNS:
        raise ParameterError(f"{path}: not a table of answers: the first row must be {','.join(_COLUMNS)}")
    return [_read_row(path, number, row) for number, row in enumerate(rows[1:], 2)]


def write_answers(path: str | os.PathLike[str], answers: Iterable[Answer]) -> None:
    """Write a table, whole or not at all."""
    write_whole(path, to_csv(answers))


def _read_row(path: Path, number: int, row: list[str]) -> Answer:
    if len(row) != len(_COLUMNS):
        raise ParameterError(f"{path}, row {number}: {len(row)} columns must be {len(_COLUMNS)}")
    try:
        cells = zip(_COLUMNS, row, strict=True)
        answer = Answer(**{name: _READERS.get(name, str)(cell) for name, cell in cells})
    except ValueError as error:
        raise ParameterError(f"{path}, row {number}: {error}") from error
    if answer.test not in get_args(TestKind) or answer.answer not in get_args(Choice):
        raise ParameterError(
            f"{path}, row {number}: test {answer.test!r} or answer {answer.answer!r} is unknown"
        )
    if not all(math.isfinite(value) for value in (answer.latency_s, answer.gain_a_db, answer.gain_b_db)):
        raise ParameterError(f"{path}, row {number}: its numbers must be finite")
    return answer
