"""Protocol Buffers, as ONNX files are written in them: fields of a number, a kind and a length.

One message is read at a time, and what isn't asked for is passed over by its length, so that a file of
gigabytes costs no more than what is looked at. How many fields and numbers are read is bounded.
"""

from __future__ import annotations

import numpy as np

from balacoon_tk.errors import ModelError

IS_VARINT, IS_FIXED32, IS_FIXED64 = -1, -2, -3
"""What stands in the place of a field's end where it is a number."""

_MOST_FIELDS = 3_000_000  # seconds of reading; the largest voice has a hundredth of it
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10  # bytes
_IS_FIXED = {4: IS_FIXED32, 8: IS_FIXED64}


class Wire:
    """Reads the fields of a file; what is no such file raises `ModelError`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._left = _MOST_FIELDS

    def fields(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """Return number, start and stop of each field that has a length.

        Of one that is a number the third is below 0 and says which kind: the second is the value of a varint,
        or where a number of a fixed length begins.
        """
        data, left = self.data, self._left
        fields: list[tuple[int, int, int]] = []
        while start < stop and len(fields) <= left:
            key = data[start]
            start += 1
            if key > 127:
                key, start = self.varint(start - 1, stop)
            kind = key & 7
            if kind == _BYTES:
                if start >= stop:
                    raise ModelError("not an ONNX file: it ends within a field")
                length = data[start]
                start += 1
                if length > 127:  # most are short, and calls take most of the time
                    length, start = self.varint(start - 1, stop)
                end = start + length
                if end > stop:
                    raise ModelError("not an ONNX file: a field reaches beyond its end")
                fields.append((key >> 3, start, end))
                start = end
            elif kind == _VARINT:
                if start < stop and data[start] < 128:
                    value, start = data[start], start + 1
                else:
                    value, start = self.varint(start, stop)
                fields.append((key >> 3, value, IS_VARINT))
            elif kind in (_FIXED32, _FIXED64):
                end = start + (4 if kind == _FIXED32 else 8)
                if end > stop:
                    raise ModelError("not an ONNX file: it ends within a number")
                fields.append((key >> 3, start, IS_FIXED32 if kind == _FIXED32 else IS_FIXED64))
                start = end
            else:
                raise ModelError(f"not an ONNX file: a field of the unknown kind {kind}")
        self.spend(len(fields))
        return fields

    def varint(self, start: int, stop: int) -> tuple[int, int]:
        """Return a number, and where what follows begins."""
        value = 0
        for k in range(_LONGEST_VARINT):
            if start >= stop:
                break
            byte = self.data[start]
            start += 1
            value |= (byte & 127) << 7 * k
            if byte < 128:
                return value, start
        raise ModelError("not an ONNX file: a number that doesn't end")

    def varints(self, start: int, stop: int) -> list[int]:
        """Return the whole numbers of a field."""
        # A field of several numbers is written as one, or each by itself.
        if stop < 0:
            return [signed(start)] if stop == IS_VARINT else []
        self.spend(stop - start)
        packed = self.data[start:stop]
        if packed.isascii():  # numbers of one byte
            return list(packed)
        values: list[int] = []
        while start < stop:
            value, start = self.varint(start, stop)
            values.append(signed(value))
        return values

    def packed(self, start: int, stop: int, dtype: str) -> list[float]:
        """Return the numbers of a fixed length of a field."""
        n_bytes = np.dtype(dtype).itemsize
        if stop < 0:
            stop = start + n_bytes if stop == _IS_FIXED[n_bytes] else start
        count = (stop - start) // n_bytes
        self.spend(count)
        return decode(self.data, start, count * n_bytes, dtype)

    def spend(self, count: int) -> None:
        """Count fields or numbers that are read."""
        self._left -= count
        if self._left < 0:
            raise ModelError(f"it has more than {_MOST_FIELDS} fields and numbers, and no voice has")

    def text(self, start: int, stop: int) -> str:
        """Return a text."""
        try:
            return self.data[start:stop].decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelError(f"not an ONNX file: a name is not UTF-8: {error}") from error


def decode(data: bytes, start: int, n_bytes: int, dtype: str) -> list[float]:
    """Return the numbers that lie in a file from some byte on."""
    count = n_bytes // np.dtype(dtype).itemsize
    found: list[float] = np.frombuffer(data, dtype, count, start).tolist() if count else []
    return found


def signed(value: int) -> int:
    """Return a number as it is below 0, where its first bit of 64 says so."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
