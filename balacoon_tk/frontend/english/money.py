"""English money: the sign stands before the amount and is said after it."""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import re

from balacoon_tk.frontend.english.rules import NUMBER, Rule, any_of, counted, is_attribute

# The name of a currency, and of its hundredth where that is said.
_CURRENCIES = {
    "$": ("dollar", "cent"), "US$": ("US dollar", "cent"), "CA$": ("Canadian dollar", "cent"),
    "C$": ("Canadian dollar", "cent"), "A$": ("Australian dollar", "cent"),
    "AU$": ("Australian dollar", "cent"), "NZ$": ("New Zealand dollar", "cent"),
    "HK$": ("Hong Kong dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny"), "¥": ("yen", ""),
    "₹": ("rupee", ""), "₽": ("ruble", ""), "₩": ("won", ""), "₺": ("lira", ""), "₪": ("shekel", ""),
    "¢": ("cent", ""),
}  # fmt: skip
_CODES = {
    "USD": "US dollar", "EUR": "euro", "GBP": "pound", "CAD": "Canadian dollar", "AUD": "Australian dollar",
    "JPY": "yen", "CHF": "Swiss franc", "INR": "rupee", "CNY": "yuan",
}  # fmt: skip
_ODD_PLURALS = {"yen": "yen", "won": "won", "yuan": "yuan", "penny": "pence"}
_SCALES = {
    "k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million", "b": "billion",
    "B": "billion", "bn": "billion", "T": "trillion", "tn": "trillion",
}  # fmt: skip


def _plural(unit: str) -> str:
    return _ODD_PLURALS.get(unit, f"{unit}s")


def _money(match: re.Match[str]) -> str:
    minus, per = "minus " if match["minus"] else "", " per " if match["per"] else ""
    return minus + _amount(match) + per


def _amount(match: re.Match[str]) -> str:
    number, upper = match["number"], match["upper"]
    unit, part = _CURRENCIES[match["sign"]]
    scale = match["word"] or _SCALES.get(match["letter"] or "")
    if upper:
        number = f"{number} to {upper}"
    if scale:
        number = f"{number} {scale}"
    whole, _, decimals = number.partition(".")
    if len(decimals) != 2 or not part:
        return counted(number, unit, unit if is_attribute(match) else _plural(unit))
    parts = counted(str(int(decimals)), part, _plural(part)) if decimals != "00" else ""
    if whole == "0" and parts:
        return parts
    return f"{counted(whole, unit, _plural(unit))} {parts}".rstrip()


def _money_after(match: re.Match[str]) -> str:
    unit = _CODES.get(match["sign"]) or _CURRENCIES[match["sign"]][0]
    return counted(match["number"], unit, _plural(unit))


_SIGN = any_of(_CURRENCIES)
MONEY_RULES: list[Rule] = [
    (
        re.compile(
            rf"(?:(?<!\w)(?P<minus>[-−]) ?)?(?<![\w$])(?P<sign>{_SIGN}) ?(?P<number>{NUMBER})"
            rf"(?:[-–](?:{_SIGN})?(?P<upper>{NUMBER}))?"
            r"(?:[ -](?P<word>thousand|million|billion|trillion)\b|(?P<letter>[kKmMbBT]|[bmt]n)\b)?"
            r"(?P<per>/(?=[a-z]))?"
        ),
        _money,
    ),
    (
        re.compile(rf"(?<![\w.])(?P<number>{NUMBER}) ?(?P<sign>[€£¢₽]|{any_of(_CODES)})(?!\w)"),
        _money_after,
    ),
]
