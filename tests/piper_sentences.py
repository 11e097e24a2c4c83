"""Sentences in many languages, to compare phonemes on: written for this, or made of the names in CLDR.

Babel has the names of countries and languages in each language, under Unicode's licence; joined as the
language joins lists they are sentences of ordinary words in the language's own script.
"""
# ruff: noqa: RUF001 - the look-alikes of ASCII are letters of these scripts

import random

# The espeak-ng voice, and the locale of its names.
LOCALES = {
    "ar": "ar",
    "cmn": "zh",
    "cs": "cs",
    "de": "de",
    "en-gb-x-rp": "en_GB",
    "en-us": "en_US",
    "es": "es",
    "fa": "fa",
    "fr": "fr",
    "hi": "hi",
    "it": "it",
    "ja": "ja",
    "ko": "ko",
    "nl": "nl",
    "pl": "pl",
    "pt": "pt_PT",
    "pt-br": "pt_BR",
    "ru": "ru",
    "tr": "tr",
    "uk": "uk",
    "vi": "vi",
}

WRITTEN = {
    "ar": [
        "كيف حالك اليوم؟",
        "ذهب الولد إلى المدرسة صباحا.",
        "نعم، أريد كوبا من الماء.",
        "الكتاب على الطاولة",
    ],
    "cmn": ["你好，今天天气很好。", "我们明天去北京吗？", "请给我一杯水！", "他喜欢看书，也喜欢音乐"],
    "cs": ["Dobrý den, jak se máte?", "Dnes je venku krásně.", "Kočka spí na okně, pes u dveří."],
    "de": [
        "Ich möchte gern einen Kaffee, bitte.",
        "Wo ist der Bahnhof?",
        "Das Mädchen sah den Fluss; er war grün.",
    ],
    "en-gb-x-rp": [
        "The bath was half full of water.",
        "Where are you going, then?",
        "What a lovely morning!",
    ],
    "en-us": [
        "The quick brown fox jumps over the lazy dog.",
        "Will you be here tomorrow, or not?",
        "He said that there was nothing left: no bread, no butter, no tea.",
        "What a day!",
        "no mark at the end",
    ],
    "es": ["¿Dónde está el niño?", "¡Qué bonito día!", "El perro come carne, y el gato pescado."],
    "fa": ["سلام، حال شما چطور است؟", "کتاب روی میز است."],
    "fr": [
        "Où est la gare?",
        "L'été, nous allons à la mer avec les enfants.",
        "Il fait beau; je sors, et toi?",
    ],
    "hi": ["आप कैसे हैं?", "मुझे एक गिलास पानी चाहिए।", "आज मौसम बहुत अच्छा है, चलो बाहर चलें।"],
    "it": ["Dove sono i bambini?", "Che bella giornata!", "Il gatto dorme sul tetto, il cane in casa."],
    "ja": ["こんにちは。", "きょうは いい てんき です。"],
    "ko": ["안녕하세요?", "오늘은 날씨가 좋습니다.", "물 한 잔 주세요."],
    "nl": ["Waar is het station?", "Het meisje zag de rivier, en zij was groen."],
    "pl": [
        "Gdzie jest dworzec?",
        "W Szczebrzeszynie chrząszcz brzmi w trzcinie.",
        "Dzień dobry, jak się masz?",
    ],
    "pt": ["Onde está o menino?", "Bom dia, como estás?", "A chuva cai na cidade."],
    "pt-br": [
        "Onde fica a estação?",
        "Bom dia, tudo bem com você?",
        "O gato dorme no telhado; o cão, em casa.",
    ],
    "ru": ["Привет, как дела?", "Кошка спит на окне.", "Мы завтра едем в Москву, а вы?"],
    "tr": ["Merhaba, nasılsınız?", "Bugün hava çok güzel."],
    "uk": ["Добрий день, як справи?", "Кіт спить на вікні."],
    "vi": ["Xin chào, bạn khỏe không?", "Hôm nay trời đẹp."],
}
JAPANESE = [
    "こんにちは、元気ですか？",
    "今日はとても良い天気です。",
    "何を食べますか？",
    "私は学校へ行きます。",
    "橋の端で箸を落とした！",
    "東京タワーは高いです",
    "それは、何ですか。",
]
HEBREW = ["שלום, מה שלומך?", "הילד הלך לבית הספר.", "אני רוצה כוס מים, בבקשה", "שָׁלוֹם"]


def sentences(voice: str, count: int) -> list[str]:
    """Return sentences for an espeak-ng voice: those that were written, then made ones."""
    from babel import Locale
    from babel.lists import format_list

    locale = Locale.parse(LOCALES[voice])
    # A comma of its own belongs to some names, and brackets to others.
    names = sorted({*locale.territories.values(), *locale.languages.values()})
    rng = random.Random(voice)
    made = list(WRITTEN[voice])
    while len(made) < count:
        some = rng.sample(names, rng.randint(2, 5))
        text = format_list(some, locale=locale) if rng.random() < 0.5 else ", ".join(some)
        made.append(text + rng.choice(["", ".", "!", "?", "."]))
    return made[:count]
