"""When each word is said, for other programs and for people who read along: JSON lines, SubRip or WebVTT."""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import errno
import html
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from balacoon_tk._files import write_whole
from balacoon_tk.cli._common import STANDARD_STREAM, UsageError

if TYPE_CHECKING:
    from balacoon_tk.audio import AudioChunk, WordSpan

# What subtitling guides agree on: a line that is read at a glance, and is gone before it is read twice.
MAX_CAPTION = 42  # characters
MAX_CAPTION_S = 6.0
_PAUSE_S = 0.6  # a caption doesn't stay over a longer silence

_TAG = re.compile(r"<[^>]*>")
_NOT_MARKS = re.compile(r"[^\s.,!?;:…'\"“”‘’«»()—–。，、；：？！-]+")
_SPACES = re.compile(r"\s+")
_SENTENCE_END = re.compile(r"[.!?…。？！][\"'”’»)]*$")
_SENTENCE_GAP_S = 0.1  # `Mr. Smith` has none


class Caption(NamedTuple):
    """Some words that are shown together."""

    start_s: float
    end_s: float
    text: str


class Timestamps:
    """Collects the words of a stream on their way to a file, and writes them when the stream is over.

    Parameters
    ----------
    path : str
        Its end chooses the form: ``.srt`` or ``.vtt`` are captions, all else is a JSON object a line.

    Raises
    ------
    UsageError
        If it is stdout, which is for audio.
    FileNotFoundError
        If there is no such folder: better now than when all is spoken.
    """

    def __init__(self, path: str) -> None:
        if path == STANDARD_STREAM:
            raise UsageError("--timestamps - would mix words with audio: give a file")
        if not Path(path).absolute().parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._path = path
        self._words: list[WordSpan] = []
        self._pieces: list[str] = []

    def reading(self, text: str | Iterable[str]) -> str | Iterator[str]:
        """Hand the text on, and remember it: captions have its marks."""
        if isinstance(text, str):
            self._pieces.append(text)
            return text
        return self._remembered(text)

    def _remembered(self, pieces: Iterable[str]) -> Iterator[str]:
        for piece in pieces:
            self._pieces.append(piece)
            yield piece

    def following(self, chunks: Iterable[AudioChunk]) -> Iterator[AudioChunk]:
        """Hand chunks on; at the end of the stream the file is written, whole or not at all."""
        for chunk in chunks:
            yield chunk
            # Afterwards: the sound doesn't wait for it.
            self._words += chunk.words
        write_whole(self._path, self.text())

    def text(self) -> str:
        """Return what is written."""
        suffix = Path(self._path).suffix.lower()
        if suffix not in (".srt", ".vtt"):
            return "".join(f"{json.dumps(_record(word), ensure_ascii=False)}\n" for word in self._words)
        captions = enumerate(make_captions(self._words, "".join(self._pieces)), 1)
        if suffix == ".srt":
            return "\n".join(f"{number}\n{_times(each, ',')}\n{each.text}\n" for number, each in captions)
        cues = (f"\n{_times(each, '.')}\n{html.escape(each.text, quote=False)}\n" for _, each in captions)
        return "".join(["WEBVTT\n", *cues])


def make_captions(words: Sequence[WordSpan], text: str) -> Iterator[Caption]:
    """Give the captions of a text: as many words together as are read at a glance, with their marks.

    A caption ends with a sentence, before a pause, and where it would have more than `MAX_CAPTION` characters
    or last longer than `MAX_CAPTION_S` seconds.
    """
    shown, start_s, end_s = "", 0.0, 0.0
    for word, written in zip(words, _with_marks(words, text), strict=True):
        is_full = len(shown + written) > MAX_CAPTION or word.end_s - start_s > MAX_CAPTION_S
        gap_s = word.start_s - end_s
        if shown and (is_full or gap_s > (_SENTENCE_GAP_S if _SENTENCE_END.search(shown) else _PAUSE_S)):
            yield Caption(start_s, end_s, shown)
            shown = ""
        if not shown:
            start_s, written = word.start_s, written.lstrip()
        shown, end_s = shown + written, word.end_s
    if shown:
        yield Caption(start_s, end_s, shown)


def _with_marks(words: Sequence[WordSpan], text: str) -> Iterator[str]:
    """Give each word with the marks around it and, where there is one, the space before."""
    bounds = [0, *(bound for word in words for bound in word.text_span), len(text)]
    between = [_marks(text[start:stop]) for start, stop in zip(bounds[::2], bounds[1::2], strict=True)]
    # What is written at a word's end is its own; what follows a space opens the next word.
    for index, word in enumerate(words):
        before, own = between[index], between[index + 1].partition(" ")[0]
        space = " " if " " in before else ""
        opening = before.partition(" ")[2] if index else before
        yield space + opening.replace(" ", "") + _SPACES.sub(" ", word.word) + own


def _marks(text: str) -> str:
    return _SPACES.sub(" ", _NOT_MARKS.sub("", _TAG.sub("", text)))


def _record(word: WordSpan) -> dict[str, object]:
    times = {"start_s": round(word.start_s, 4), "end_s": round(word.end_s, 4)}
    return {"word": word.word, **times, "text_span": word.text_span}


def _times(caption: Caption, point: str) -> str:
    return f"{_time(caption.start_s, point)} --> {_time(caption.end_s, point)}"


def _time(seconds: float, point: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"
