"""English dates, decades, years and times of day."""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import re

from balacoon_tk.frontend.english.rules import Rule, any_of

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip
_SHORT_MONTHS = {month[:3]: month for month in _MONTHS} | {"Sept": "September"}
_TENS = ("tens", "twenties", "thirties", "forties", "fifties", "sixties", "seventies", "eighties", "nineties")

_CENTURIES = (
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen", "twenty",
)  # fmt: skip


def ordinal(number: int) -> str:
    """Write an ordinal as both backends read it, as in ``21st``."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def year(number: str) -> str:
    """Write a year of four digits as it is said: ``nineteen 99``, ``nineteen oh 5``, ``nineteen hundred``."""
    rest = int(number[2:])
    if not "1000" < number < "2100" or "2000" <= number < "2010":
        return number
    # A word, since two numbers might be a day and something else.
    century = _CENTURIES[int(number[:2]) - 10]
    if not rest:
        return f"{century} hundred"
    return f"{century} oh {rest}" if rest < 10 else f"{century} {rest}"


def _date(month: str, day: str, written_year: str = "") -> str | None:
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return None
    written = f"{_MONTHS[int(month) - 1]} {ordinal(int(day))}"
    if len(written_year) == 2:
        written_year = ("20" if written_year < "50" else "19") + written_year
    return f"{written}, {year(written_year)}" if written_year else written


def _month_first(match: re.Match[str]) -> str:
    month, day, written_year = match.groups()
    return _date(month, day, written_year) or _date(day, month, written_year) or match[0]


def _day_first(match: re.Match[str]) -> str:
    day, month, written_year = match.groups()
    return _date(month, day, written_year) or _date(day, month, written_year) or match[0]


def _day_of_month(match: re.Match[str]) -> str:
    month, day, ending = match.groups()
    month = _SHORT_MONTHS.get(month, month)
    return (
        f"{month} {day}{ending or ''}"
        if ending or not 1 <= int(day) <= 31
        else f"{month} {ordinal(int(day))}"
    )


def _decade(match: re.Match[str]) -> str:
    century, tens = match[1], int(match[2])
    if match[0] == "1000s":
        return "thousands"
    if not tens and century in (None, "20"):
        return "two thousands"
    if century is None:
        return _TENS[tens - 1]
    number = int(century)
    spoken = _CENTURIES[number - 10] if 10 <= number <= 20 else century
    return f"{spoken} {_TENS[tens - 1] if tens else 'hundreds'}"


def _time(match: re.Match[str]) -> str:
    hour, minute = int(match[1]), int(match[2])
    if minute >= 10:
        return match[0]
    if minute:
        return f"{hour} oh {minute}"
    if match["half"] is not None:
        return str(hour)
    return f"{hour} o'clock" if 1 <= hour <= 12 else f"{hour or 'zero'} hundred"


_DAY = r"(\d{1,2})(st|nd|rd|th)?\b(?![:.,/]\d|[-–]\d)"
_SLASHES = re.compile(r"(?<![\d/])(\d{1,2})/(\d{1,2})/(\d{4}|\d\d)(?![\d/])")
MONTH_FIRST: Rule = (_SLASHES, _month_first)
"""For dates as in ``5/6/2024``, the way that they are written in America."""
DAY_FIRST: Rule = (_SLASHES, _day_first)
"""For the same dates as they are written elsewhere."""

DATE_RULES: list[Rule] = [
    (
        re.compile(r"(?<![\d-])(\d{4})-(\d\d)-(\d\d)(?![\d-])"),
        lambda match: _date(match[2], match[3], match[1]) or match[0],
    ),
    # A month of a year; with 10 to 12 it may as well be a range of years.
    (
        re.compile(r"(?<![\d-])(\d{4})-0([1-9])(?![\d-])"),
        lambda match: f"{_MONTHS[int(match[2]) - 1]} {match[1]}",
    ),
    (re.compile(rf"\b({any_of(_MONTHS)}) {_DAY}"), _day_of_month),
    (re.compile(rf"\b({any_of(_SHORT_MONTHS)})(?:\. ?| ){_DAY}"), _day_of_month),
    (
        re.compile(rf"\b({any_of(_SHORT_MONTHS)})(?:\. ?| )(?=\d{{1,2}}[-–/]\d)"),
        lambda match: f"{_SHORT_MONTHS[match[1]]} ",
    ),
    (
        re.compile(r"(?<=\b[Oo]n )(\d{1,2})/(\d{1,2})(?![\d/])"),
        lambda match: _date(match[1], match[2]) or match[0],
    ),
    (re.compile(r"(?<![\w'])'?(\d\d)?(\d)0'?s\b"), _decade),
    (
        re.compile(
            r"(?<![\d:.])([01]?\d|2[0-3]):([0-5]\d)(?![\d:])"
            r"(?= ?(?P<half>(?:[apAP]\.?[mM]|noon|midnight)\b)?)"
        ),
        _time,
    ),
    (re.compile(r"(?<=[ap]m)[-–](?=\d)|(?<=:\d\d)[-–](?=\d{1,2}:\d\d)"), " to "),
]

_YEAR = r"(?:1[1-9]\d\d|20[1-9]\d)"
# What a number of four digits counts stands in the plural; these only look so.
_NO_PLURAL = r"(?:was|is|has|its|this|as|does|plus|versus|across|always|perhaps|his|us|yes|thus)\b"
_COUNTED = rf" (?:(?!{_NO_PLURAL})[a-z]+s|people|men|women|children|percent|million|feet|or more)\b"
_ALONE = r"(?![\w%°/+-]|[.,:]\d| ?[=+*/×÷<>])"
# These come last: what is not a year by then was read by another rule.
YEAR_RULES: list[Rule] = [
    (
        re.compile(rf"(?:(?<=\b[Ii]n )|(?<=\b[Ss]ince )|(?<=\b[Bb]y )){_YEAR}{_ALONE}"),
        lambda match: year(match[0]),
    ),
    (re.compile(rf"(?<=\b[Ii]n )10\d\d{_ALONE}"), lambda match: year(match[0])),
    (
        re.compile(rf"(?:(?<![\w.,:/$€£#+-])(?<![=+*/×÷<>-] )|(?<=[a-z]-)){_YEAR}{_ALONE}(?!{_COUNTED})"),
        lambda match: year(match[0]),
    ),
]
