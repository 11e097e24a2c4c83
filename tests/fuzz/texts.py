"""Texts that no writer writes, made of bytes: what a fuzzer flips then changes the text in a small way."""

# ruff: noqa: RUF001 - look-alikes and marks of all kinds are meant
from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["ATOMS", "random_texts", "text_of"]

# One word of each script that a frontend may meet, most of them with marks that combine or change places.
_SCRIPTS = """\
hello Größe naïve Ελληνικά привет здравствуйте עברית שָׁלוֹם العربية مَرْحَبًا
فارسی اردو हिन्दी नमस्ते क्ष বাংলা ਪੰਜਾਬੀ ગુજરાતી ଓଡ଼ିଆ தமிழ் తెలుగు ಕನ್ನಡ
മലയാളം සිංහල ไทย สวัสดี ລາວ བོད་ မြန်မာ ქართული Հայերեն አማርኛ ខ្មែរ ᠮᠣᠩᠭᠣᠯ 你好世界
漢字 ひらがな カタカナ ｶﾀｶﾅ 한국어 ㅎㅏㄴ ᄒᆞᆫ Tiếng Việt ʻŌlelo ᏣᎳᎩ ᐃᓄᒃ ⵜⴰⵎ ߒߞߏ ܣܘܪ ދިވެހި Ⅷ ⅷ
𝔘𝔫𝔦 ﬁ ﷺ ﷽
"""
_WRITTEN = """\
a A i I x z é ß ñ ё я ж ч 中 語 あ ア 가 ก ا ש अ த 𝒳 𐐷 a. x.y. U.S.A. e.g. i.e. Mr.
Dr. No. p.m. Ph.D. A.B.C.D. я.ж. 1. 1, 1,000 1.000.000 1,0 0,5 .5 -5 +7 5% $3.50
€9 £1,234.56 ¥5 1st 2nd 33rd 0 00 007 12 123 1234 12345 123456789012 1e309 1E-5
0x1F 10:30 99:99 1/2 1/0 31/12/1999 2020-02-30 1990s 5km 20°C MMXXIV XIV iv IIII
½ ² ₂ № # @ & * ^ _ ~ \\ | / // < > <b> </s> &amp; &#0; {x} ' '' " "" ’ ’s 's n't
' s o' -- - – — … ... .. . , ; : ! ? ?! !? ¿ ¡ 。 、 ！ ？ । ։ ؟ ، ( ) [ ] [[ ]]
[[a]] [[ˈ]] www.a.com a@b.c http://x/y?z=1 co-op x-y-z AAAA aaaa bcdfg xyzzy
CamelCase ALLCAPS mIxEd O'Neil rock'n'roll
"""
_ODD = [
    *" \n\r\t\v\f\x00\x01\x02\x05\x07\x08\x0e\x1b\x7f\x80\x85\x92\x9f\xa0\xad",
    *"\u0300\u0301\u0345\u0483\u064b\u093c\u094d\u0e31\u1ab0\u20d0\u20e3\u3099\ufe0f\ufe20",
    *"\u061c\u115f\u1160\u180e\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202e\u2060\u2066\u2069\u3164\ufeff\uffa0",
    *"\ud800\udbff\udc00\udfff\ue000\uf8ff\ufdd0\ufffd\ufffe\uffff\U000e0001\U000e0041\U000f0000\U0010ffff",
    *"😀👍🏽❤⌨⠿∑√∞≠←█№™©†‡§¶•",
    "👨\u200d👩\u200d👧",
    "🇩🇪",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "1\ufe0f\u20e3",
    ". ",
    ", ",
    "\n\n",
    "\r\n",
    " a",
    "a ",
    "a. b. ",
    "a .",
    "1 ",
    "1 000 ",
    "一二三",
    "[[" * 2,
]
ATOMS = (*_SCRIPTS.split(), *_WRITTEN.split(), *_ODD)
"""What texts are made of: words and letters of all scripts, numbers, marks, characters that aren't seen."""


def text_of(data: bytes) -> str:
    """Make the text that some bytes stand for.

    The first byte says how the others are read: as UTF-8, whose broken parts become lone surrogates; as
    UTF-16, which is any character; or else in pairs, as an atom and how often it is repeated.
    """
    kind, rest = data[:1], data[1:]
    if kind <= b"\x20":
        return rest.decode("utf-8", "surrogateescape")
    if kind <= b"\x30":
        return rest[: len(rest) // 2 * 2].decode("utf-16-le", "surrogatepass")
    return "".join(
        ATOMS[(choice + 256 * (times & 1)) % len(ATOMS)] * _repeats(times >> 1)
        for choice, times in zip(rest[::2], rest[1::2], strict=False)
    )


def _repeats(number: int) -> int:
    # Most atoms once or twice; what overflows a buffer takes hundreds of one.
    return 1 + number % 3 if number < 124 else (20, 80, 300, 700)[number - 124]


def random_texts(seed: int) -> Iterator[bytes]:
    """Give bytes of texts without end, of all three kinds, most of them short."""
    rng = random.Random(seed)
    while True:
        kind = rng.choice((0x10, 0x28, 0xFF, 0xFF, 0xFF, 0xFF))
        yield bytes([kind]) + rng.randbytes(2 * rng.choice((1, 2, 3, 5, 8, 20, 60)))
