"""What is spoken: plain words, so that every frontend reads the same phonemes."""

from __future__ import annotations

from itertools import cycle, islice
from typing import Final

from balacoon_tk.frontend import Frontend, PhonemeMap

TEXTS: Final = {
    "60": "Where does all the time go?",
    "200": "We walked along the river until it was dark, and the boats were all tied up for the night.",
    "440": (
        "When the last train had left the station, the old man who sold newspapers put out his lamp, "
        "counted the coins in his box, and walked home through the empty streets, where only the cats "
        "were still awake."
    ),
    "minute": (
        "The village lies where two rivers meet, an hour from the sea. In summer the water is low, and "
        "children walk across it on the stones. In winter it rises to the windows of the mill, and the "
        "miller carries his flour upstairs, bag by bag. Nobody knows who built the bridge. It was there "
        "before the church, and the oldest pictures show it with the same three arches. Once a year, on "
        "the first day of May, everybody meets in the middle of it with bread and wine. They sit at one "
        "long table from one side to the other, and whoever wants to cross must stay and eat. My father "
        "told me that a king had to wait there for a whole afternoon. He had been in a hurry when he came, "
        "and in the evening he did not want to leave. I have sat at that table every year since I was "
        "born, and I hope that it will be long enough for all who come. Last year a stranger asked why we "
        "do not eat in the square, where there is more room and less wind. An old woman laughed and said "
        "that a square belongs to one village, but a bridge belongs to both sides. Then she moved along "
        "the bench, gave him a plate, and told him to sit down before the soup was cold. He stayed until "
        "the stars came out, and this year he was the first to arrive."
    ),
}
"""Each under its number of phonemes, as the encoder counts them: ids, the pads between them included.
Those with a number are one sentence, and the last one takes about a minute to say."""

WARM_UP: Final = "It was late when we came home."
"""Spoken before each text that is timed, because the caches hold what another engine did."""

STREAM_TEXT: Final = " ".join(
    (
        "The harbour was quiet, and the last boats came in with their lights on.",
        "A man on the wall counted them as he did every night.",
        "When the last one had tied up, he went home.",
    )
)
"""What each of many streams says."""

_CLAUSES = (
    "the wind came from the west",
    "a bell rang on the hill",
    "the shops were about to close",
    "somebody laughed in the garden",
    "the bread was still warm",
    "a dog slept in the sun",
)


def text_of(n_phonemes: int, frontend: Frontend, phoneme_map: PhonemeMap) -> str:
    """Return one sentence of about so many phonemes: clauses of plain words, cut where it is long enough."""
    # Commas are words of their own, so that a text may be cut at any of them.
    words = cycle([*" , ".join(_CLAUSES).split(), ","])
    text = ""
    for word in islice(words, n_phonemes):
        longer = f"{text}," if word == "," else f"{text} {word}".strip()
        if word != "," and text and count_phonemes(f"{longer}.", frontend, phoneme_map) > n_phonemes:
            break
        text = longer
    return f"{text.rstrip(',').capitalize()}."


def sentences_of(n_phonemes: int, frontend: Frontend, phoneme_map: PhonemeMap) -> str:
    """Return a text of about so many phonemes that consists of short sentences."""
    text = ""
    for clause in cycle(_CLAUSES):
        longer = f"{text} {clause.capitalize()}.".strip()
        if text and count_phonemes(longer, frontend, phoneme_map) > n_phonemes:
            return text
        text = longer
    raise AssertionError("unreachable: a cycle doesn't end")


def count_phonemes(text: str, frontend: Frontend, phoneme_map: PhonemeMap) -> int:
    """Return the number of ids that the encoder gets for a text, over all sentences."""
    sentences = frontend.phonemize(text)
    return sum(len(phoneme_map.encode(sentence.phonemes).phoneme_ids) for sentence in sentences)
