"""English abbreviations, signs and addresses: those that both backends garble, and those that one does."""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Mapping

from balacoon_tk.frontend.english.rules import Rule, any_of

_ABBREVIATIONS = {
    "prof.": "professor", "gen.": "general", "col.": "colonel", "lt.": "lieutenant", "capt.": "captain",
    "sgt.": "sergeant", "rev.": "reverend", "hon.": "honorable", "gov.": "governor", "sen.": "senator",
    "rep.": "representative", "jr.": "junior", "sr.": "senior", "ave.": "avenue", "blvd.": "boulevard",
    "rd.": "road", "hwy.": "highway", "dept.": "department", "approx.": "approximately",
    "inc.": "incorporated", "corp.": "corporation", "co.": "company", "ltd.": "limited", "cf.": "compare",
    "vs.": "versus", "ph.d.": "P H D", "mt.": "mount", "maj.": "major", "cmdr.": "commander",
    "messrs.": "misters", "mme.": "madame", "bros.": "brothers", "esq.": "esquire", "misc.": "miscellaneous",
    "incl.": "including", "excl.": "excluding", "univ.": "university", "assn.": "association",
}  # fmt: skip
_OF_GRUUT = {"e.g.": "for example", "i.e.": "that is", "etc.": "etcetera", "a.k.a.": "A K A"}
# These are written without a dot as well, the ranks before a name and `Jr` behind one.
_WITHOUT_DOT = {"Prof": "professor", "Sgt": "sergeant", "Capt": "captain", "Cmdr": "commander"}
UNDOTTED = re.compile(rf"\b(?:{'|'.join(_WITHOUT_DOT)}|Jr|Sr|Ms|vs)\b")
"""What may be an abbreviation without a dot."""
_BEFORE_NUMBER = {
    "no.": "number", "nos.": "numbers", "fig.": "figure", "figs.": "figures", "vol.": "volume",
    "ch.": "chapter", "sec.": "section", "eq.": "equation", "p.": "page", "pp.": "pages", "#": "number",
}  # fmt: skip
ABBREVIATED = (*_ABBREVIATIONS, *_OF_GRUUT, "st.")
"""Abbreviations, in lower case, that end in the dot that may also end the sentence."""


def _stop(match: re.Match[str]) -> str:
    """Return the full stop that an abbreviation's dot is as well, where it ends the sentence."""
    return "." if match.end() == len(match.string) else ""


def _written_out(abbreviations: Mapping[str, str]) -> Rule:
    def write(match: re.Match[str]) -> str:
        return abbreviations[match[1].lower()] + _stop(match)

    return re.compile(rf"(?<![\w.])({any_of(abbreviations)})(?=[^\w.]|$)", re.IGNORECASE), write


WORD_RULES: list[Rule] = [
    # A line drawn with signs.
    (re.compile(r"([^\w\s.,!?'\"()])\1{3,}"), " "),
    (
        re.compile(rf"(?<![\w.])({any_of(_BEFORE_NUMBER)})\s*(?=\d)", re.IGNORECASE),
        lambda match: f"{_BEFORE_NUMBER[match[1].lower()]} ",
    ),
    _written_out(_ABBREVIATIONS),
    # A street follows its name, a saint precedes one.
    (re.compile(r"(?<=[a-z] )St\.(?! [A-Z])"), lambda match: f"Street{_stop(match)}"),
    (re.compile(r"\bFt\. (?=[A-Z])"), "Fort "),
    (re.compile(rf"\b({'|'.join(_WITHOUT_DOT)})(?= [A-Z])"), lambda match: _WITHOUT_DOT[match[1]]),
    (re.compile(r"(?<=[a-z] )Jr\b(?!\.)"), "junior"),
    (re.compile(r"(?<=[a-z] )Sr\b(?!\.)"), "senior"),
    (re.compile(r"\bvs\b(?!\.)"), "versus"),
    (re.compile(r"(?<![\w/])w/(o?)(?: |(?=[a-z]))", re.ASCII), lambda match: f"with{match[1] and 'out'} "),
    (re.compile(r"\b([CF])#(?!\w)"), r"\1 sharp"),
    (re.compile(r"~(?=\d)"), "about "),
    # Between numbers, or between letters that stand alone; elsewhere these are arrows and menus.
    (re.compile(r"(?<=\d) > (?=\S)|(?<=\b[a-z]) > (?=[a-z\d]\b)"), " is greater than "),
    (re.compile(r"(?<=\d) < (?=\S)|(?<=\b[a-z]) < (?=[a-z\d]\b)"), " is less than "),
    # Nobody says how an address begins, nor the slash that ends it.
    (re.compile(r"\bhttps?://(?:www\.)?(?=\w)(\S*?)/?(?=[.,;:!?)\"']*(?:\s|$))"), r"\1"),
]
ESPEAK_RULES: list[Rule] = [
    (re.compile(r"\bMs\.? (?=[A-Z])"), "Miz "),
    # The drip, which it reads as a number.
    (re.compile(r"(?<=[a-z] )IV\b"), "I V"),
]

_SYMBOLS = {
    "½": "one half", "¼": "one quarter", "¾": "three quarters", "°": "degrees", "+": "plus", "=": "equals",
    "×": "times", "÷": "divided by", "±": "plus or minus", "@": "at", "&": "and", "%": "percent", "™": "",
    "®": "", "©": "copyright", "§": "section", "≈": "approximately", "≠": "is not equal to",
    "≤": "is at most", "≥": "is at least", "→": "right arrow", "←": "left arrow", "\\": "backslash",
    "∞": "infinity", "√": "square root of", "№": "number", "$": "dollars", "€": "euros",
    "£": "pounds", "¥": "yen", "º": "", "ª": "", "#": "hash", "~": "tilde", "|": "", "<": "", ">": "",
    "^": "",
}  # fmt: skip
# Letters elsewhere, and signs where they stand alone.
_LETTERS_ALONE = {"π": "pi", "Ω": "ohms", "µ": "micro", "μ": "micro"}
_LETTERS = {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}


def _bare_letter(match: re.Match[str]) -> str:
    letter = _LETTERS.get(match[0]) or unicodedata.normalize("NFD", match[0])[0]
    return letter if letter.isascii() else match[0]


@functools.lru_cache(4096)
def _in_words(number: str) -> str:
    """Write a number as America says it: without `and`, and the commas at which gruut would pause."""
    from num2words import num2words

    whole, _, decimals = number.replace(",", "").partition(".")
    words: str = num2words(int(whole)).replace(",", "").replace(" and ", " ")
    return f"{words} point {' '.join(decimals)}" if decimals else words


# Neither backend knows digits of other scripts, nor Roman and circled numbers of one character.
DIGIT_RULES: list[Rule] = [
    (re.compile("[\u2160-\u217f\u2460-\u2473]"), lambda match: unicodedata.normalize("NFKC", match[0])),
    (re.compile(r"[^\D0-9]"), lambda match: str(unicodedata.decimal(match[0]))),
    (re.compile("(?<=\\d) ?‰"), " per mille"),
]
# gruut's lexicon knows words by their bare letters only.
GRUUT_LETTERS: list[Rule] = [
    (re.compile(r"[À-ÖØ-öø-ɏḀ-ỿ]"), _bare_letter),
    (re.compile(r"(?<=[A-Za-z])[\u0300-\u036f]+"), ""),
]
# In this order: addresses and odd numbers, whose signs would be read as symbols; then symbols; then words of
# digits and letters, and numbers, once nothing else is beside them.
GRUUT_RULES: list[Rule] = [
    _written_out(_OF_GRUUT),
    (re.compile(r"(?:(?<=[a-z] )|(?<![\w.,] ))\bSt\. (?=[A-Z])"), "Saint "),
    (re.compile(r"\bwww\.(?=\w)"), "W W W dot "),
    (re.compile(r"(?<=[A-Za-z]{2})\.(?=[A-Za-z]{2})"), " dot "),
    (re.compile(r"://|(?<=[^\W\d])–(?=[^\W\d])"), " "),
    (re.compile(r"(?<=\d),(?=\d{1,2}(?!\d))"), ", "),
    (re.compile(r"(?<=\d)/(?=\d)"), " slash "),
    (re.compile(r"\d+(?:\.\d+){2,}"), lambda match: match[0].replace(".", " point ")),
    # Of times it knows those of a clock of twelve hours.
    (re.compile(r"(?<![\d:])(0?0|1[3-9]|2[0-3]):([0-5]\d)(?![\d:])"), r"\1 \2"),
    (re.compile(r"(?<![\d:])(\d{1,2}):([0-5]\d) (?=[ap]m\b)", re.IGNORECASE), r"\1 \2 "),
    (
        re.compile(r"(?<!\d)(?!(?:[01]?\d|2[0-3]):[0-5]\d(?![:\d]))\d+(?::\d+)+"),
        lambda match: match[0].replace(":", " "),
    ),
    (re.compile(r"(?<!\d)/|/(?!\d)"), " slash "),
    (re.compile(r"#(?=[A-Za-z])"), "hashtag "),
    (re.compile(r"(?<![^\W\d])[πΩµμ](?![^\W\d])"), lambda match: f" {_LETTERS_ALONE[match[0]]} "),
    (re.compile(f"[{re.escape(''.join(_SYMBOLS))}]"), lambda match: f" {_SYMBOLS[match[0]]} "),
    # Too long to be a quantity: digit by digit, as is what begins with a zero.
    (re.compile(r"\d{13,}|(?<![\d.,:/])0\d+(?!\d|[.,:/]\d)"), lambda match: " ".join(match[0])),
    # The second part of `3rd-party` would be left out.
    (re.compile(r"(?<=\d(?:st|nd|rd|th))-(?=[a-z])"), " "),
    # Digits and letters in one word, other than `1st` and `5pm`.
    (
        re.compile(r"(?<=\d)(?=[A-Za-z])(?!(?:st|nd|rd|th|[ap]\.?m)\b)|(?<=[A-Za-z])(?=\d)", re.IGNORECASE),
        " ",
    ),
    (re.compile(r"(?<=\d) (?=[ap]m\b)"), ""),
    (re.compile(r"−(?=\d)"), "-"),
    (
        re.compile(
            r"(?<![\w.,:/-])(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{3,}(?:\.\d+)?|\d+\.\d+)(?![\w:/]|[.,-]\d)"
        ),
        lambda match: _in_words(match[0]),
    ),
    # gruut reads the letters of `A.M.`, and the article in `a.m.`.
    (re.compile(r"(?<![A-Za-z])([ap])\.m\.", re.IGNORECASE), lambda match: f"{match[1].upper()}.M."),
]
