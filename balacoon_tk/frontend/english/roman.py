"""Roman numbers in English: of kings, wars, chapters and centuries."""

from __future__ import annotations

import re

from balacoon_tk.frontend.english.dates import ordinal
from balacoon_tk.frontend.english.rules import Rule

_REIGNS = (
    "Albert", "Alexander", "Benedict", "Carl", "Catherine", "Charles", "Christian", "Clement", "Edward",
    "Elizabeth", "Ferdinand", "Francis", "Frederick", "George", "Gregory", "Gustav", "Henry", "Innocent",
    "Ivan", "James", "John", "Joseph", "Julius", "Leo", "Leopold", "Louis", "Mary", "Napoleon",
    "Nicholas", "Otto", "Paul", "Peter", "Philip", "Pius", "Ramesses", "Ramses", "Richard", "Rudolf",
    "Urban", "Wilhelm", "William",
)  # fmt: skip
# After these even one letter is a number.
_NUMBERED = (
    "Act", "Appendix", "Article", "Book", "Bowl", "Chapter", "Class", "Grade", "Level", "Part", "Phase",
    "Section", "Stage", "Title", "Type", "Volume", "War",
)  # fmt: skip

_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50}
# Up to 89: beyond, most are words or initials (CD, MIX).
_ROMAN = r"(?:XL|L?X{0,3})(?:IX|IV|V?I{0,3})(?<=[IVXL])\b"  # and no empty one, as before `Ivory`
_ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]


def _number(letters: str) -> int:
    values = [_VALUES[letter] for letter in letters]
    return sum(
        -value if value < after else value for value, after in zip(values, [*values[1:], 0], strict=True)
    )


def _reign(match: re.Match[str]) -> str:
    number = _number(match[2])
    return f"{match[1]} the {_ORDINALS[number - 1] if number <= len(_ORDINALS) else ordinal(number)}"


ROMAN_RULES: list[Rule] = [
    (re.compile(rf"\b({'|'.join(_REIGNS)}) ({_ROMAN})"), _reign),
    (re.compile(rf"\b({'|'.join(_NUMBERED)}) ({_ROMAN})"), lambda match: f"{match[1]} {_number(match[2])}"),
    (re.compile(rf"\b({_ROMAN})(?= centur(?:y|ies)\b)"), lambda match: ordinal(_number(match[1]))),
    # Any other needs a second letter, and a capital before it, as names have; XX and XXX are seldom numbers.
    (
        re.compile(rf"\b(?!An? )([A-Z][\w'-]*) (?!X+\b)(?=[IVX]{{2}})({_ROMAN})"),
        lambda match: f"{match[1]} {_number(match[2])}",
    ),
]
