"""English quantities: units, feet and inches, fractions, powers, ranges and telephone numbers."""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import re

from balacoon_tk.frontend.english.dates import year
from balacoon_tk.frontend.english.rules import NUMBER, Rule, any_of, counted, is_attribute

_UNITS = {
    "kg": "kilogram", "g": "gram", "mg": "milligram", "µg": "microgram", "mcg": "microgram", "lb": "pound",
    "lbs": "pound", "oz": "ounce", "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter",
    "µm": "micrometer", "nm": "nanometer", "ft": "foot", "sq ft": "square foot", "yd": "yard", "mi": "mile",
    "mph": "mile per hour", "kph": "kilometer per hour", "l": "liter", "L": "liter", "ml": "milliliter",
    "mL": "milliliter", "cl": "centiliter", "gal": "gallon", "Hz": "hertz", "kHz": "kilohertz",
    "MHz": "megahertz", "GHz": "gigahertz", "kB": "kilobyte", "KB": "kilobyte", "MB": "megabyte",
    "GB": "gigabyte", "TB": "terabyte", "MiB": "mebibyte", "GiB": "gibibyte", "kbps": "kilobit per second",
    "Mbps": "megabit per second", "Gbps": "gigabit per second", "fps": "frame per second",
    "rpm": "revolution per minute", "ns": "nanosecond", "µs": "microsecond", "ms": "millisecond",
    "sec": "second", "secs": "second", "min": "minute", "mins": "minute", "h": "hour", "hr": "hour",
    "hrs": "hour", "yr": "year", "yrs": "year", "W": "watt", "kW": "kilowatt", "MW": "megawatt",
    "GW": "gigawatt", "kWh": "kilowatt hour", "V": "volt", "mA": "milliampere", "mAh": "milliampere hour",
    "kJ": "kilojoule", "kcal": "kilocalorie", "dB": "decibel", "kPa": "kilopascal", "hPa": "hectopascal",
    "px": "pixel", "ppm": "part per million", "°C": "degree Celsius", "°F": "degree Fahrenheit",
}  # fmt: skip
# The same sign by its Greek letter.
_UNITS |= {unit.replace("µ", "μ"): name for unit, name in _UNITS.items() if "µ" in unit}
# After a slash only: after a number `s` would make decades seconds.
_PER = {**_UNITS, "s": "second", "day": "day", "week": "week", "month": "month", "year": "year"}
_POWERS = {"²": "square", "2": "square", "³": "cubic", "3": "cubic"}
_SCALES = {
    "k": "thousand",
    "K": "thousand",
    "M": "million",
    "mn": "million",
    "bn": "billion",
    "tn": "trillion",
}

_PARTS = {
    2: "half", 3: "third", 4: "quarter", 5: "fifth", 6: "sixth", 7: "seventh", 8: "eighth", 9: "ninth",
    10: "tenth", 12: "twelfth", 16: "sixteenth", 100: "hundredth",
}  # fmt: skip
_SIGNS = {
    "½": (1, 2), "¼": (1, 4), "¾": (3, 4), "⅓": (1, 3), "⅔": (2, 3), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5),
    "⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8),
}  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def _plural(unit: str) -> str:
    """Put the first noun of a unit into the plural, as in ``miles per hour``."""
    if "hertz" in unit:
        return unit
    if "foot" in unit:
        return unit.replace("foot", "feet")
    head, *rest = re.split(r"(?= per | Celsius| Fahrenheit)", unit)
    return f"{head}s{''.join(rest)}"


def _quantity(match: re.Match[str]) -> str:
    unit = _UNITS[match["unit"].replace("° ", "°")]
    if match["power"]:
        unit = f"{_POWERS[match['power']]} {unit}"
    plural = unit if match["joint"] == "-" or is_attribute(match) else _plural(unit)
    return counted(match["number"], unit, plural) + _per(match["per"], match["per_power"])


def _per(unit: str | None, power: str | None) -> str:
    if unit is None:
        return ""
    if unit == "s" and power:
        return " per second squared"
    return f" per {_POWERS[power]} {_PER[unit]}" if power else f" per {_PER[unit]}"


_QUOTE = re.compile(r'(?<!\d)"')


def _inches(match: re.Match[str]) -> str:
    # A quote that is open before it ends here.
    if len(_QUOTE.findall(match.string, 0, match.start())) % 2:
        return match[0]
    return counted(match[1], "inch", "inch" if re.match(" [a-z]", match.string[match.end() :]) else "inches")


def _fraction(above: int, below: int) -> str:
    if (above, below) == (1, 2):
        return "one half"
    return counted(str(above), _PARTS[below], f"{_PARTS[below]}s")


def _mixed(whole: str, above: int, below: int) -> str:
    return f"{whole} and " + ("a half" if below == 2 else _fraction(above, below))


def _written_fraction(match: re.Match[str]) -> str:
    whole, above, below = match[1], int(match[2]), int(match[3])
    if not 0 < above < below or below not in _PARTS:
        return match[0]
    return _mixed(whole.rstrip(), above, below) if whole else _fraction(above, below)


def _power(match: re.Match[str]) -> str:
    power = (match[1] or match[2] or match[3]).translate(_SUPERSCRIPTS)
    return {"2": " squared", "3": " cubed"}.get(power, f" to the {power.replace('-', 'minus ')}")


def _scientific(match: re.Match[str]) -> str:
    return f"{match[1]} times 10 to the {match[2].lstrip('+').replace('-', 'minus ')}"


def _range(match: re.Match[str]) -> str:
    first, last = match[1], match[2]
    if match["equals"] is not None:
        return f"{first} minus {last}"
    is_year = len(first) == 4 and len(last) == 2
    # Downwards go scores, and the names of models.
    if len(first) > 2 and not is_year and float(first.replace(",", "")) >= float(last.replace(",", "")):
        return match[0]
    if len(first) == 4 and "1100" <= first < "2100" and len(last) in (2, 4):
        first, last = year(first), year(last) if len(last) == 4 else last
    return f"{first} to {last}"


def _telephone(match: re.Match[str]) -> str:
    # Seven digits may be a range as well: exchanges begin with 2, and few are round.
    number = match[0]
    is_range = len(number) == 8 and (number < "2" or number[1:3] in ("00", "50"))
    if is_range or (number.startswith("+") and sum(map(str.isdigit, number)) < 8):
        return number
    digits = ", ".join(" ".join(group) for group in re.findall(r"\d+", match[0]))
    return f"plus {digits}" if match[0].startswith("+") else digits


_UNIT = any_of(_UNITS).replace("°", "° ?")
_LENGTH = "(?= (?:tall|long|wide|high|deep|by)\\b)"
# In this order: what a sign makes a quantity comes before what digits beside each other may be.
QUANTITY_RULES: list[Rule] = [
    # As America writes them, then international ones, then what everyone dials.
    (
        re.compile(
            r"(?<![\w.,-])(?:\+?1[-. ])?(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-.]\d{4}(?![\w-])"
            r"|(?<![\w.,-])\+\d{1,3}(?:[ -]\(?\d{1,4}\)?){2,5}(?![\w-])"
            r"|(?<![\w.,-])\d{3}-\d{4}(?![\w-])(?! [a-z]+s\b| (?:MB|GB|Hz|km|kg|m|px)\b)"
            r"|(?:(?<=\b[Cc]all )|(?<=\b[Dd]ial ))(?:911|999|112)\b"
        ),
        _telephone,
    ),
    (re.compile(r"\b401\(?k\)?(?!\w)"), "4 oh 1 K"),
    (re.compile(r"""(?<![\w.])(\d{1,2})['′](\d{1,2})(?!\d)["″]?"""), r"\1 foot \2"),
    (re.compile(r"(?<![\w.])(\d{1,2}) ?ft\.? (\d{1,2}) ?in\b(?:\.(?= [a-z]))?"), r"\1 foot \2"),
    (re.compile(rf"(?<![\w.])(\d+)['′]{_LENGTH}"), lambda match: counted(match[1], "foot", "feet")),
    (re.compile(r'(?<![\w.])(\d+(?:\.\d+)?)["″](?!\w)'), _inches),
    (
        re.compile(rf"(?<![\w.])({NUMBER}) ?in(?:\.(?= [a-z])|{_LENGTH})"),
        lambda match: counted(match[1], "inch", "inches"),
    ),
    (
        re.compile(
            rf"(?<![A-Za-z_.])(?P<number>{NUMBER})(?P<joint>[ -]?)(?P<unit>{_UNIT})"
            rf"(?P<power>[²³]|(?<=m)[23])?(?:/(?P<per>{any_of(_PER)})(?P<per_power>[²³23])?)?"
            r"(?:\.(?= [a-z]|[,;])|(?![\w/'²³]))"
        ),
        _quantity,
    ),
    # Four and eight thousand pixels keep their letter.
    (
        re.compile(rf"(?<![\w.])(?![48]K)({NUMBER})(k|K|M|bn|mn|tn)(?![\w-])"),
        lambda match: f"{match[1]} {_SCALES[match[2]]}",
    ),
    (re.compile(rf"(?<![\w.])({NUMBER})[eE]([-+]?\d+)(?!\w)"), _scientific),
    (
        re.compile(
            r"(?<=[\w)])\^(-?\d+|[a-z]\b)|(?:(?<=\d)|(?<=\b[a-z]))([⁰¹⁴-⁹⁻][⁰¹²³⁴-⁹]*)|(?<=[\w)])([²³])(?![⁰-⁹])"
        ),
        _power,
    ),
    (re.compile(r"(?<![\w./])(24(?=/7\b)|50(?=/50\b)|9(?=/11\b))/(?!\d+/)"), r"\1 "),
    (re.compile(r"(?<![\w./-])(\d+ )?(\d{1,2})/(\d{1,3})(?![\w/])"), _written_fraction),
    (re.compile(rf"(?<![\w.])(\d+)([{''.join(_SIGNS)}])"), lambda match: _mixed(match[1], *_SIGNS[match[2]])),
    (re.compile(r"(?<![\w.])(?!0x)\d+(?:x\d+)+\b"), lambda match: match[0].replace("x", " by ")),
    (re.compile(r"(?<=\d) x (?=\d)"), " by "),
    (re.compile(rf"(?<![\w.])({NUMBER})x(?!\w)"), r"\1 times"),
    (
        re.compile(
            rf"(?<![\w./:-])({NUMBER})[-–](?!0\d)({NUMBER})(?=[ap]m\b|(?![\w/–-]|[.:]\d))(?=(?P<equals> ?=)?)"
        ),
        _range,
    ),
    (re.compile(r"(?<=\d) - (?=\d+(?:\.\d+)? ?=)"), " minus "),
    (re.compile(r"(?<=\d) ?\* ?(?=\d)"), " times "),
    (re.compile(r"(?<=\d) / (?=\d)"), " divided by "),
    # espeak-ng leaves the ending of these apart.
    (re.compile(r"(?<![\d,.])([1-9]|1[1-9])00th\b"), r"\1 hundredth"),
    (re.compile(r"(?<![\d,.])(\d{1,3})000th\b"), r"\1 thousandth"),
    (re.compile(r"(?<![\w.])\.(?=\d)"), "0."),
]
