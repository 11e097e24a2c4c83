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
_ROMAN = r"(?=[IVXL])(?:XL|L?X{0,3})(?:IX|IV|V?I{0,3})(?<=[IVXL])\b"
_ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]


def _number(letters: str) -> int:
    values = [_VALUES[letter] for letter in letters]
    return sum(
        -value if value < after else value for value, after in zip(values, [*values[1:], 0], strict=True)
    )


# A name may also be whom a pronoun speaks to: `John I think so`.
_TITLED = re.compile(r"\b(?:King|Queen|Pope|Emperor|Empress|Tsar|Kaiser) $")
_REIGNED = re.compile(
    r"$|[.,;:!?)']| (?:of|and|died|reigned|ruled|became|was (?:king|queen|pope|emperor|crowned|born|the))\b"
)


def _reign(match: re.Match[str]) -> str:
    before, after = match.string[: match.start()], match.string[match.end() :]
    if match[2] == "I" and not (_TITLED.search(before) or _REIGNED.match(after)):
        return match[0]
    number = _number(match[2])
    return f"{match[1]} the {_ORDINALS[number - 1] if number <= len(_ORDINALS) else ordinal(number)}"


ROMAN_RULES: list[Rule] = [
    (re.compile(r"\bWW(II?)\b"), lambda match: f"World War {len(match[1])}"),
    (re.compile(rf"\b({'|'.join(_REIGNS)}) ({_ROMAN})"), _reign),
    (re.compile(rf"\b({'|'.join(_NUMBERED)}) ({_ROMAN})"), lambda match: f"{match[1]} {_number(match[2])}"),
    (re.compile(rf"\b({_ROMAN})(?= centur(?:y|ies)\b)"), lambda match: ordinal(_number(match[1]))),
    # Any other needs a second letter. XX and XXX are seldom numbers, and IV is a drip but after a name.
    (re.compile(r"\b((?!An? )[A-Z][\w'-]*) IV(?!['\w])"), r"\1 4"),
    (
        re.compile(rf"(?<![\w'.])(?<!\b[Aa] )(?<!\b[Aa]n )(?!X+\b|IV\b)(?=[IVX]{{2}})({_ROMAN})(?!['\w])"),
        lambda match: str(_number(match[1])),
    ),
]
