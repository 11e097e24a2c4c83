"""Reading JSON field by field, with errors that name the field by its path in the file."""

from __future__ import annotations

import math
import re
from typing import Any

from balacoon_tk.errors import VoiceError

_INTEGER_END = 2**31  # above any rate, length or vocabulary, and no product of two overflows int64
_SHA256 = re.compile("[0-9a-f]{64}")


class JsonFields:
    """Reads one JSON object field by field and knows the path of each for its errors.

    Parameters
    ----------
    data : object
        What `json.loads` made.
    path : str
        Where it stands in the file, ending in a dot; empty for the file itself.
    """

    def __init__(self, data: object, path: str) -> None:
        if not isinstance(data, dict):
            raise VoiceError(f"{path.rstrip('.') or 'voice.json'} must be an object, not {_type_name(data)}")
        self._data: dict[str, Any] = data
        self._path = path

    def error(self, name: str, rule: str) -> VoiceError:
        """Return the error that names a field, its value and a rule that it breaks."""
        return VoiceError(f"{self._path}{name}={self._get(name)!r} {rule}")

    def is_null(self, name: str) -> bool:
        """Say whether a field is missing or null."""
        return self._data.get(name) is None

    def record(self, name: str) -> JsonFields:
        """Read an object."""
        return JsonFields(self._get(name), f"{self._path}{name}.")

    def text(self, name: str) -> str:
        """Read a text."""
        value = self._get(name)
        if not isinstance(value, str):
            raise self._wrong(name, "text")
        return value

    def optional_text(self, name: str) -> str | None:
        """Read a text, or None where the field is missing or null."""
        return None if self.is_null(name) else self.text(name)

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        """Read a text that must be one of a few."""
        value = self.text(name)
        if value not in known:
            raise VoiceError(f"{self._path}{name}={value!r} must be one of {', '.join(known)}")
        return value

    def flag(self, name: str) -> bool:
        """Read true or false."""
        value = self._get(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def file_name(self, name: str) -> str:
        """Read the name of a file beside voice.json; a path could lead out of the voice."""
        value = self.text(name)
        if not value or value.startswith(".") or any(c in value for c in "/\\:\0"):
            raise VoiceError(f"{self._path}{name}={value!r} must be a plain file name")
        return value

    def sha256(self, name: str) -> str:
        """Read a checksum."""
        value = self.text(name)
        if not _SHA256.fullmatch(value):
            raise VoiceError(f"{self._path}{name}={value!r} must be 64 hexadecimal digits")
        return value

    def distinct_texts(self, name: str) -> tuple[str, ...]:
        """Read a list of texts of which no two are equal."""
        value = self._get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name, "a list of texts")
        seen: set[str] = set()
        for position, item in enumerate(value):
            if item in seen:
                raise VoiceError(f"{self._path}{name}[{position}]={item!r} must not be there twice")
            seen.add(item)
        return tuple(value)

    def integer(self, name: str, *, minimum: int) -> int:
        """Read an integer of at least `minimum`."""
        value = self._get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(name, "an integer")
        if not minimum <= value < _INTEGER_END:
            raise VoiceError(f"{self._path}{name}={value} must be >= {minimum} and < {_INTEGER_END}")
        return value

    def number(self, name: str) -> float:
        """Read a finite number of at least 0."""
        value = self._get(name)
        if not _is_number(value):
            raise self._wrong(name, "a number")
        if not 0 <= value < math.inf:
            raise VoiceError(f"{self._path}{name}={value} must be >= 0 and finite")
        return float(value)

    def positive(self, name: str) -> float:
        """Read a finite number above 0."""
        value = self.number(name)
        if value == 0:
            raise VoiceError(f"{self._path}{name}={value} must be > 0")
        return value

    def optional_positive(self, name: str) -> float | None:
        """Read a finite number above 0, or None where the field is missing or null."""
        return None if self.is_null(name) else self.positive(name)

    def records(self, name: str) -> tuple[JsonFields, ...]:
        """Read a list of objects; an empty one where the field is missing or null."""
        value = [] if self.is_null(name) else self._get(name)
        if not isinstance(value, list):
            raise self._wrong(name, "a list of objects")
        return tuple(JsonFields(item, f"{self._path}{name}[{k}].") for k, item in enumerate(value))

    def text_mapping(self, name: str) -> dict[str, str]:
        """Read an object of texts."""
        value = self._get(name)
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self._wrong(name, "an object of texts")
        return value

    def number_mapping(self, name: str) -> dict[str, float]:
        """Read an object of numbers."""
        value = self._get(name)
        if not isinstance(value, dict) or not all(map(_is_number, value.values())):
            raise self._wrong(name, "an object of numbers")
        return {key: float(item) for key, item in value.items()}

    def id_lists(self, name: str) -> dict[str, tuple[int, ...]]:
        """Read an object whose values are lists of one or more ids."""
        value = self._get(name)
        if not isinstance(value, dict) or not value:
            raise self._wrong(name, "an object that is not empty")
        for symbol, ids in value.items():
            if not isinstance(ids, list) or not ids or not all(map(_is_id, ids)):
                raise VoiceError(
                    f"{self._path}{name}[{symbol!r}]={ids!r} must be a list of one or more ids >= 0"
                )
        return {symbol: tuple(ids) for symbol, ids in value.items()}

    def _get(self, name: str) -> Any:
        if name not in self._data:
            raise VoiceError(f"{self._path}{name} is missing")
        return self._data[name]

    def _wrong(self, name: str, wanted: str) -> VoiceError:
        return VoiceError(f"{self._path}{name} must be {wanted}, not {_type_name(self._data[name])}")


def _is_number(value: object) -> bool:
    # An integer of hundreds of digits is JSON, but no float.
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**53)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _INTEGER_END


def _type_name(value: object) -> str:
    return "null" if value is None else type(value).__name__
