"""Reading JSON field by field, with errors that name the field by its path in the file.

A reader refuses a field that is missing; what may be left out is asked for by `JsonFields.is_null` first, or
has a reader that says so. Nothing is converted: a number that stands in quotes is a text. A file may come
from anywhere, so every number has a largest value; `balacoon_tk.voice.json_text` bounds the rest of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from balacoon_tk.errors import VoiceError
from balacoon_tk.voice.json_text import shown

_Value = TypeVar("_Value")

_INTEGER_END = 2**31  # above any rate, length or vocabulary, and no product of two overflows int64
_ID_END = 2**20  # of phonemes
_SHA256 = re.compile("[0-9a-f]{64}")
_LANGUAGE = re.compile("[A-Za-z0-9][A-Za-z0-9_+-]*")
_MOST_NAME = 200  # characters; systems take file names of 255 bytes


class JsonFields:
    """One JSON object as `json.loads` made it; `path`, ending in a dot, says where it stands in the file."""

    def __init__(self, data: object, path: str) -> None:
        if not isinstance(data, dict):
            raise VoiceError(f"{path.rstrip('.') or 'voice.json'} must be an object, not {_type_name(data)}")
        self._data: dict[str, Any] = data
        self._path = path

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all fields, in their order."""
        return tuple(self._data)

    def error(self, name: str, rule: str) -> VoiceError:
        """Return the error that names a field, its value and a rule that it breaks."""
        return VoiceError(f"{self._path}{name}={shown(self.value(name))} {rule}")

    def entry_error(self, name: str, key: str | int, rule: str) -> VoiceError:
        """Return the error that names an entry of a field that is an object or a list."""
        return VoiceError(f"{self._path}{name}[{shown(key)}]={shown(self._data[name][key])} {rule}")

    # In JSON a field that is null and one that is not there are the same to most who write it.
    def is_null(self, name: str) -> bool:
        """Say whether a field is missing or null."""
        return self._data.get(name) is None

    def value(self, name: str) -> Any:
        """Return what stands in a field, whatever it is."""
        if name not in self._data:
            raise VoiceError(f"{self._path}{name} is missing")
        return self._data[name]

    def record(self, name: str) -> JsonFields:
        """Read an object."""
        return JsonFields(self.value(name), f"{self._path}{name}.")

    def text(self, name: str) -> str:
        """Read a text."""
        return self._typed(name, str, "text")

    def optional_text(self, name: str) -> str | None:
        """Read a text, or None where the field is missing or null."""
        return None if self.is_null(name) else self.text(name)

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        """Read a text that must be one of a few."""
        value = self.text(name)
        if value not in known:
            raise self.error(name, f"must be one of {', '.join(known)}")
        return value

    def flag(self, name: str) -> bool:
        """Read true or false."""
        return self._typed(name, bool, "true or false")

    def file_name(self, name: str) -> str:
        """Read the name of a file beside voice.json."""
        value = self.text(name)
        # A path could lead out of the voice, to whatever the user may read.
        plain = value.isprintable() and not any(c in value for c in "/\\:")
        if not value or value.startswith(".") or not plain or len(value) > _MOST_NAME:
            raise self.error(name, "must be a plain file name")
        return value

    def title(self, name: str) -> str:
        """Read what something is called: a line that may stand in messages and in file names."""
        value = self.text(name)
        # Control characters would move a terminal's cursor, or change its title.
        if not value.strip() or not value.isprintable() or len(value) > _MOST_NAME:
            raise self.error(name, f"must be 1 to {_MOST_NAME} printable characters")
        return value

    def language(self, name: str) -> str:
        """Read the name of a language, such as en-us."""
        value = self.text(name)
        # Frontends look for a file of this name.
        if not _LANGUAGE.fullmatch(value) or len(value) > _MOST_NAME:
            raise self.error(name, "must be letters, digits, '-', '_' and '+', such as en-us")
        return value

    def sha256(self, name: str) -> str:
        """Read a checksum."""
        value = self.text(name)
        # In lower case, as hashlib writes them: they are compared as texts.
        if not _SHA256.fullmatch(value):
            raise self.error(name, "must be 64 hexadecimal digits")
        return value

    def distinct_texts(self, name: str) -> tuple[str, ...]:
        """Read a list of texts of which no two are equal."""
        value = self._typed(name, list, "a list of texts", _is_text)
        # Of two speakers of one name nobody could ask for the second.
        if len(set(value)) < len(value):
            position = next(k for k, item in enumerate(value) if item in value[:k])
            raise self.entry_error(name, position, "must not be there twice")
        return tuple(value)

    def optional_text_lists(self, name: str) -> tuple[tuple[str, ...], ...]:
        """Read a list of lists of texts, or of texts for their characters; none where it is missing."""
        value = [] if self.is_null(name) else self._typed(name, list, "a list of lists of texts")
        for position, item in enumerate(value):
            if not isinstance(item, (list, str)) or not all(map(_is_text, item)) or "" in list(item):
                raise self.entry_error(name, position, "must be a list of texts, none of them empty")
        return tuple(map(tuple, value))

    def integer(self, name: str, *, minimum: int, maximum: int = _INTEGER_END - 1) -> int:
        """Read an integer in [minimum, maximum]."""
        value = self.value(name)
        if type(value) is not int:  # to Python true and false are integers
            raise self._wrong(name, "an integer")
        if not minimum <= value <= maximum:
            raise self.error(name, f"must be >= {minimum} and <= {maximum}")
        return value

    def number(self, name: str, *, minimum: float = 0.0, maximum: float = math.inf) -> float:
        """Read a finite number in [minimum, maximum]."""
        value = self.value(name)
        if not _is_number(value):
            raise self._wrong(name, "a number")
        # Python's parser takes NaN and Infinity, which no field means.
        if not 0 <= value < math.inf:
            raise self.error(name, "must be >= 0 and finite")
        if not minimum <= value <= maximum:
            raise self.error(name, f"must be >= {minimum:g} and <= {maximum:g}")
        return float(value)

    def positive(self, name: str) -> float:
        """Read a finite number above 0."""
        value = self.number(name)
        if value == 0:
            raise VoiceError(f"{self._path}{name}={value} must be > 0")
        return value

    def records(self, name: str) -> tuple[JsonFields, ...]:
        """Read a list of objects; an empty one where the field is missing or null."""
        value = [] if self.is_null(name) else self._typed(name, list, "a list of objects")
        return tuple(JsonFields(item, f"{self._path}{name}[{k}].") for k, item in enumerate(value))

    def record_mapping(self, name: str) -> dict[str, JsonFields]:
        """Read an object of objects; an empty one where the field is missing or null."""
        value = {} if self.is_null(name) else self._typed(name, dict, "an object of objects")
        return {key: JsonFields(item, f"{self._path}{name}.{key}.") for key, item in value.items()}

    def text_mapping(self, name: str) -> dict[str, str]:
        """Read an object of texts."""
        return self._typed(name, dict, "an object of texts", _is_text)

    def number_mapping(self, name: str) -> dict[str, float]:
        """Read an object of finite numbers."""
        value = self._typed(name, dict, "an object of numbers", _is_number)
        for key, item in value.items():
            if not math.isfinite(item):
                raise self.entry_error(name, key, "must be finite")
        return {key: float(item) for key, item in value.items()}

    def optional_mapping(self, name: str) -> dict[str, Any]:
        """Read an object of anything; an empty one where the field is missing or null."""
        return {} if self.is_null(name) else self._typed(name, dict, "an object")

    def id_lists(self, name: str) -> dict[str, tuple[int, ...]]:
        """Read an object whose values are lists of one or more ids."""
        value = self.value(name)
        if not isinstance(value, dict) or not value:
            raise self._wrong(name, "an object that is not empty")
        for symbol, ids in value.items():
            if not isinstance(ids, list) or not ids or not all(map(_is_id, ids)):
                raise self.entry_error(name, symbol, "must be a list of one or more ids >= 0")
        # Tuples, since a record of a voice is never changed.
        return {symbol: tuple(ids) for symbol, ids in value.items()}

    def _typed(
        self, name: str, kind: type[_Value], wanted: str, fits: Callable[[object], bool] | None = None
    ) -> _Value:
        """Read a value of one type, whose items, if it has any, must all fit."""
        value = self.value(name)
        if isinstance(value, kind):
            items: Iterable[object] = value.values() if isinstance(value, dict) else cast(list[object], value)
            if fits is None or all(map(fits, items)):
                return value
        raise self._wrong(name, wanted)

    def _wrong(self, name: str, wanted: str) -> VoiceError:
        return VoiceError(f"{self._path}{name} must be {wanted}, not {_type_name(self._data[name])}")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    # An integer of hundreds of digits is JSON, but no float.
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**53)


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value < _ID_END


def _type_name(value: object) -> str:
    return "null" if value is None else type(value).__name__
