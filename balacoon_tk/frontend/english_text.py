"""Writes out what gruut's English would garble: units, symbols, addresses, all capitals, accents."""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Container, Iterable

_UNITS = {
    "kg": "kilograms", "mg": "milligrams", "km": "kilometers", "cm": "centimeters", "mm": "millimeters",
    "km/h": "kilometers per hour", "mph": "miles per hour", "lb": "pounds", "lbs": "pounds", "ft": "feet",
    "ml": "milliliters", "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz",
    "kB": "kilobytes", "KB": "kilobytes", "MB": "megabytes", "GB": "gigabytes", "TB": "terabytes",
    "ms": "milliseconds", "min": "minutes", "kW": "kilowatts",
    "°C": "degrees Celsius", "°F": "degrees Fahrenheit", "°": "degrees", "%": "percent",
}  # fmt: skip
_SYMBOLS = {
    "½": "one half", "¼": "one quarter", "¾": "three quarters", "²": "squared", "³": "cubed", "°": "degrees",
    "+": "plus", "=": "equals", "×": "times", "÷": "divided by", "±": "plus or minus", "@": "at", "&": "and",
    "%": "percent", "™": "", "®": "", "©": "copyright",
}  # fmt: skip
_ABBREVIATIONS = {
    "e.g.": "for example", "i.e.": "that is", "prof.": "professor", "gen.": "general", "col.": "colonel",
    "lt.": "lieutenant", "capt.": "captain", "sgt.": "sergeant", "rev.": "reverend", "hon.": "honorable",
    "gov.": "governor", "sen.": "senator", "rep.": "representative", "sr.": "senior", "ave.": "avenue",
    "blvd.": "boulevard", "dept.": "department", "approx.": "approximately", "inc.": "incorporated",
    "corp.": "corporation", "etc.": "etcetera", "cf.": "compare", "ph.d.": "P H D",
}  # fmt: skip
_BEFORE_NUMBER = {
    "no.": "number", "nos.": "numbers", "fig.": "figure", "figs.": "figures", "vol.": "volume",
    "ch.": "chapter", "sec.": "section", "eq.": "equation", "p.": "page", "pp.": "pages",
    "jan.": "January", "feb.": "February", "mar.": "March", "apr.": "April", "jun.": "June", "jul.": "July",
    "aug.": "August", "sep.": "September", "sept.": "September", "oct.": "October", "nov.": "November",
    "dec.": "December", "#": "number",
}  # fmt: skip
_TENS = ("tens", "twenties", "thirties", "forties", "fifties", "sixties", "seventies", "eighties", "nineties")
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}
)


def _any_of(words: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


_ACCENT = re.compile(r"(?<=[A-Za-z])[\u0300-\u036f]+")
_ALL_CAPITALS = re.compile(r"[^a-z]*[A-Z]{4,}[^a-z]*")
_CAPITALS = re.compile(r"\b[A-Z]{4,}\b")
_TIME = re.compile(r"(?:[01]?\d|2[0-3]):[0-5]\d")
_FOREIGN_DIGIT = re.compile(r"[^\D0-9]")


def _quantity(match: re.Match[str]) -> str:
    number, unit = match[1], _UNITS[match[2]]
    if number == "1":
        unit = "foot" if unit == "feet" else re.sub(r"(?<=[^t])s\b", "", unit, count=1)
    return f"{number} {unit}"


def _decade(match: re.Match[str]) -> str:
    century, tens = match[1] or "", int(match[2])
    if tens:
        return f"{century} {_TENS[tens - 1]}"
    return f"{century} hundreds" if century[-1:] != "0" else f"{century[:1]} thousands"


# In this order: abbreviations and units while their dots and digits stand beside them; then addresses and
# odd numbers, whose signs would be read as symbols; then symbols; then words of digits and letters, among
# which no unit is left by then.
_RULES: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (
        re.compile(rf"(?<![\w.])({_any_of(_BEFORE_NUMBER)})\s*(?=\d)", re.IGNORECASE),
        lambda match: _BEFORE_NUMBER[match[1].lower()] + " ",
    ),
    (
        re.compile(rf"(?<![\w.])({_any_of(_ABBREVIATIONS)})(?=[^\w.]|$)", re.IGNORECASE),
        lambda match: _ABBREVIATIONS[match[1].lower()] + ("." if match.end() == len(match.string) else ""),
    ),
    # A street follows its name, a saint precedes it.
    (re.compile(r"(?:(?<=[a-z] )|(?<![\w.,] ))\bSt\. (?=[A-Z])"), "Saint "),
    (re.compile(r"\b(\d\d)?(\d)0s\b"), _decade),
    (re.compile(rf"(\d[\d.,]*) ?({_any_of(_UNITS)})(?!\w)"), _quantity),
    (re.compile(r"(?<=[A-Za-z]{2})\.(?=[A-Za-z]{2})"), " dot "),
    (re.compile(r"://"), " "),
    # gruut drops what looks like a number and is none that it knows.
    (re.compile(r"(?<![\d/])(\d+)/(\d+)(?![\d/])"), r"\1 slash \2"),
    (re.compile(r"\d+(?:\.\d+){2,}"), lambda match: match[0].replace(".", " dot ")),
    (
        re.compile(r"\d+(?::\d+)+"),
        lambda match: match[0] if _TIME.fullmatch(match[0]) else match[0].replace(":", " "),
    ),
    (re.compile(r"(?<!\d)/|/(?!\d)"), " slash "),
    (re.compile(f"[{re.escape(''.join(_SYMBOLS))}]"), lambda match: f" {_SYMBOLS[match[0]]} "),
    # Too long to be a quantity: digit by digit.
    (re.compile(r"\d{13,}"), lambda match: " ".join(match[0])),
    # Digits and letters in one word, other than `1st` and `5pm`.
    (
        re.compile(r"(?<=\d)(?=[A-Za-z])(?!(?:st|nd|rd|th|[ap]\.?m)\b)|(?<=[A-Za-z])(?=\d)", re.IGNORECASE),
        " ",
    ),
    (re.compile(r"−(?=\d)"), "-"),
    # gruut reads the letters of `A.M.`, and the article in `a.m.`.
    (re.compile(r"(?<![A-Za-z])([ap])\.m\.", re.IGNORECASE), lambda match: f"{match[1].upper()}.M."),
]

# What no rule above changes: ASCII letters, spaces and marks; a full stop at the end only, and no four
# capitals in a row. Looking at it once is faster than looking for each rule's work.
_PLAIN = re.compile(r"(?!.*[A-Z]{4})[A-Za-z ,;:!?\"'()-]*+\.?+")
_ENDS_ABBREVIATED = re.compile(rf"(?<![\w.])(?:{_any_of(_ABBREVIATIONS)})$", re.IGNORECASE)
_LONGEST_ABBREVIATION = max(map(len, _ABBREVIATIONS))


def spell_out(text: str, lexicon: Container[str]) -> str:
    """Write out units, symbols and abbreviations of a text in plain punctuation.

    Numbers, dates and money are left to gruut. A word in capitals that the lexicon has is no initialism.

    Examples
    --------
    >>> spell_out("Prof. Müller ran 5km at 20°C in the 1990s, see Fig. 3.", {"ran"})
    'professor Muller ran 5 kilometers at 20 degrees Celsius in the 19 nineties, see figure 3.'
    """
    tail = max(0, len(text) - _LONGEST_ABBREVIATION)
    if _PLAIN.fullmatch(text) and not _ENDS_ABBREVIATED.search(text, tail):
        return text
    return _apply_rules(text, lexicon)


def _apply_rules(text: str, lexicon: Container[str]) -> str:
    text = _FOREIGN_DIGIT.sub(lambda match: str(unicodedata.decimal(match[0])), text)
    text = _ACCENT.sub("", unicodedata.normalize("NFD", text.translate(_LETTERS)))
    # gruut spells words in capitals letter by letter; a headline has no initialisms that could be told.
    if _ALL_CAPITALS.fullmatch(text) and " " in text.strip():
        text = text.lower()
    text = _CAPITALS.sub(lambda match: match[0].lower() if match[0].lower() in lexicon else match[0], text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return unicodedata.normalize("NFC", text)
