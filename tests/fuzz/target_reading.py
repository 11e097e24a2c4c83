"""Texts in pieces and with markup: what is read doesn't depend on the cuts, and errors are of our own."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from texts import ATOMS, random_texts, text_of

# Of Markdown and SSML, whole and broken, which meet the atoms of other texts; `_` is a space in a tag.
_MARKS = """\
* ** *** _ __ ~~ ` ``` [a](b) [a [^1] ![x](y) ](z "t") <a@b.c> <https://x.y> # ## > - 1. |a|b| |---| *a* __b__
`c` \\* \\[ <!-- --> <br/> <b> </b> &amp; &lt; &#65; &bad; <speak> </speak> <speak/> <s> </s> <p> </p>
<break/> <break_time="3s"/> <break_strength="weak"/> <break_time="-1s"/> <sub_alias="x"> </sub>
<say-as_interpret-as="characters"> </say-as> <phoneme_alphabet="ipa"_ph="a"> </phoneme>
<prosody_rate="fast"> <prosody_rate="0"> </prosody> <emphasis> </emphasis> <audio/> <a:b_c='d'/> <![CDATA[
]]> <?x?> <!DOCTYPE_x> <speak_xml:lang="en">
"""
_MARKUP_ATOMS = [mark.replace("_", " ") if mark[0] == "<" else mark for mark in _MARKS.split()]
_KINDS = (None, "markdown", "ssml", "plain")


def _marked(data: bytes) -> str:
    """Put marks of markup between the parts of a text."""
    rng = random.Random(data)
    parts = text_of(data).split(" ")
    return " ".join(
        part if rng.random() < 0.5 else rng.choice((*_MARKUP_ATOMS, *ATOMS)) + part for part in parts
    )


def _pieces(text: str, rng: random.Random) -> Iterator[str]:
    n_cuts = rng.choice((1, 3, len(text) // 3, len(text)))
    places = sorted(rng.randrange(len(text) + 1) for _ in range(n_cuts))
    return (text[start:stop] for start, stop in itertools.pairwise([0, *places, len(text)]))


def prepare(_: Path, __: str) -> tuple[Callable[[bytes], None], Iterable[bytes]]:
    """Return what reads one text whole and in pieces, and the texts to begin with."""
    from balacoon_tk.errors import BalacoonError
    from balacoon_tk.frontend.reading.reader import Reading, read
    from balacoon_tk.frontend.reading.transducers import FLUSH

    def outcome(pieces: Iterable[object], reading: Reading) -> tuple[list[object], BalacoonError | None]:
        found: list[object] = []
        try:
            for sentence in read(pieces, reading):  # type: ignore[arg-type]
                text = sentence.text
                spans = [text.span(place, place + 1) for place in range(len(text))]
                found.append((text.text, spans, sentence.raws, sentence.controls))
        except BalacoonError as error:
            return found, error
        return found, None

    def run(data: bytes) -> None:
        choice, text = data[0] if data else 0, _marked(data[1:])
        # Half of the documents have a beginning, or nearly all would be refused by their first character.
        if _KINDS[choice & 3] in (None, "ssml") and choice & 8:
            text = f"<speak>{text}</speak>" if choice & 16 else f"<speak>{text}"
        reading = Reading(clause=bool(choice & 4), markup=_KINDS[choice & 3])  # type: ignore[arg-type]
        rng = random.Random(data)
        whole, error = outcome([text], reading)
        parted, another = outcome(_pieces(text, rng), reading)
        assert parted == whole
        assert str(another) == str(error) and type(another) is type(error)
        # Where it says what has come it is another text; nothing may break.
        outcome(itertools.chain.from_iterable((piece, FLUSH) for piece in _pieces(text, rng)), reading)
        if error is not None:
            raise error

    return run, [
        bytes([kind]) + data for kind in range(32) for data in itertools.islice(random_texts(kind), 8)
    ]
