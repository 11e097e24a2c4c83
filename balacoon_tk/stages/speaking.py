"""One stream: from its sentences to chunks of samples, one push after another as the caller asks for them.

::

    ids ─▶ encodings ─▶ frames         prepare_sentence, in a thread of `Prefetch` but for the first sentence
    frames ─▶ chunks of samples        Voice.render

All that changes lies in the generator `Speaking.chunks`; what leaves a stream in the middle only closes that.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import TypeAlias

import numpy as np

from balacoon_tk.audio import AudioChunk
from balacoon_tk.frontend.assembly import Sentence
from balacoon_tk.frontend.naming import NothingToSayWarning
from balacoon_tk.frontend.phoneme_map import EncodedSentence
from balacoon_tk.frontend.reading.cleaning import WIDE_FINAL_MARKS
from balacoon_tk.pacing.pacer import Pacer
from balacoon_tk.pacing.schedule import MAX_CHUNK_S
from balacoon_tk.runtime.admission import Crowd, Load
from balacoon_tk.runtime.background import Prefetch
from balacoon_tk.runtime.scheduler import ScheduledStream
from balacoon_tk.stages.sentence import PreparedSentence, Timeline, prepare_sentence
from balacoon_tk.stages.settings import Pauses, Settings
from balacoon_tk.voice.voice import Voice

_ENDED = re.compile(rf"[.!?…{WIDE_FINAL_MARKS}]\W*$")
_Prepared: TypeAlias = "tuple[float, PreparedSentence | None]"
# So much audio is made of a sentence before the next one is begun.
_AHEAD_S = MAX_CHUNK_S
# A thread that begins with the first chunk waits until that has been taken.
_HANDED_OVER_S = 0.005


class Speaking:
    """How a voice speaks one stream: with these settings, in these chunks."""

    def __init__(self, voice: Voice, settings: Settings, pacer: Pacer, stream: ScheduledStream) -> None:
        self._voice = voice
        self._settings = settings
        self._pacer = pacer
        self._stream = stream

    def chunks(
        self, sentences: Iterable[EncodedSentence], crowd: Crowd, load: Load
    ) -> Generator[AudioChunk, None, None]:
        """Give the audio of sentences as it is made; the first chunk waits until the crowd lets it in."""
        stream, settings, start, begun = self._stream, self._settings, 0, False
        manifest, volume, tail_frames = self._voice.manifest, settings.prosody.volume, 0
        try:
            # Whoever has nothing to say yet takes no place among those who wait for their turn.
            given = sentences if stream.text is None else _begun(sentences)
            coming = Prefetch(self._prepare(given), stream.closed)
            stream.enter(crowd, load)
            while (item := self._take(coming)) is not None:
                pause_s, sentence = item
                silence = self._silence(pause_s, tail_frames, sentence)
                for n_samples in silence:
                    stream.hand_over(n_samples / manifest.sample_rate)
                    yield AudioChunk(np.zeros(n_samples, np.float32), manifest.sample_rate, start)
                    start += n_samples
                if sentence is None:
                    return
                upsampler, tail_frames = sentence.upsampler, sentence.tail_frames
                timeline = Timeline(
                    sentence.encoded,
                    upsampler.phoneme_starts,
                    hop_length=manifest.hop_length,
                    sample_rate=manifest.sample_rate,
                    start_sample=start,
                )
                first, end = start, start + upsampler.n_frames * manifest.hop_length
                sizes = self._pacer.chunk_frames(sentence, silence_s=sum(silence) / manifest.sample_rate)
                chunks = self._voice.render(upsampler, sentence.speaker_embedding, settings.strategy, sizes)
                while start < end:
                    # A slot for one push, and none while the caller has the chunk.
                    with stream.slot():
                        samples = next(chunks)
                    stop = start + len(samples)
                    is_ahead = stop == end or stop - first >= _AHEAD_S * manifest.sample_rate
                    if is_ahead and not sentence.encoded.last:
                        # Nothing may come between the first sound and whoever waits for it.
                        coming.begin(delay_s=0.0 if begun else _HANDED_OVER_S)
                    begun = True
                    # Before it is handed over: while the caller has it, this generator stands still.
                    stream.hand_over(len(samples) / manifest.sample_rate)
                    yield AudioChunk(
                        samples=samples if volume == 1.0 else samples * np.float32(volume),
                        sample_rate=manifest.sample_rate,
                        start_sample=start,
                        alignment=timeline.spans(start, stop),
                        find_words=partial(timeline.words, start, stop),
                    )
                    start = stop
        finally:
            # In a child that was forked meanwhile both are another process's, and so are their locks.
            if stream.of_this_process:
                stream.drop()
                stream.leave()

    def _take(self, coming: Prefetch[_Prepared]) -> _Prepared | None:
        self._stream.needs_text = True
        try:
            return coming.take()
        finally:
            self._stream.needs_text = False

    def _prepare(self, sentences: Iterable[EncodedSentence]) -> Iterator[_Prepared]:
        """Make each sentence ready, with the pause before it; at the end, a pause that nothing follows."""
        index, rate, before, encoded = 0, 1.0, _Before(), None
        for encoded in sentences:
            if self._stream.closed.is_set():
                return
            before.add(encoded.sentence)
            # Nothing to say: what it is between counts all the same.
            if encoded.first_spoken is None:
                continue
            rate = rate if before.rate is None else before.rate
            settings = replace(self._settings, prosody=self._settings.prosody.at_rate(rate))
            with self._stream.slot():
                prepared = prepare_sentence(self._voice, encoded, settings, index=index)
            pause_s = before.pause_s(self._settings.pauses)
            index, before = index + 1, _Before(encoded.sentence)
            # Outside of the slot: while a generator waits it would hold what others wait for.
            yield pause_s, prepared
        if before.break_s:
            yield before.break_s, None
        # A stream that was closed while it waited for its text may have had something to say.
        elif encoded is None and not self._stream.closed.is_set():
            message = "there is nothing to say in the text, so there is no audio"
            warnings.warn(message, NothingToSayWarning, stacklevel=2)

    def _silence(self, pause_s: float, tail_frames: int, sentence: PreparedSentence | None) -> list[int]:
        """Return the samples that are missing in a pause, chunk by chunk; what the voice leaves counts."""
        manifest = self._voice.manifest
        lead_frames = 0 if sentence is None else sentence.lead_frames
        n_missing = round(pause_s * manifest.sample_rate) - (tail_frames + lead_frames) * manifest.hop_length
        n_most = int(MAX_CHUNK_S * manifest.sample_rate)
        return [min(n_most, n_missing - start) for start in range(0, n_missing, n_most)]


class _Before:
    """What lies between two sentences that are spoken, added up over those between that say nothing."""

    def __init__(self, spoken: Sentence | None = None) -> None:
        self.break_s = 0.0
        self.rate: float | None = None
        self._begins = spoken is None
        # Where nothing is known of sentences each is whole, and with a full stop it was, whatever follows.
        self._goes_on = spoken is not None and _ENDED.search(spoken.text) is None
        self._begins_paragraph = False

    def add(self, sentence: Sentence | None) -> None:
        """Count in what stands before a sentence."""
        controls = () if sentence is None else sentence.controls
        self._goes_on &= any(control.goes_on for control in controls)
        for control in controls:
            self.break_s += control.break_s
            self.rate = control.rate if control.rate is not None else self.rate
            self._goes_on &= control.goes_on
            self._begins_paragraph |= control.ends_paragraph

    def pause_s(self, pauses: Pauses) -> float:
        """Return how much silence is to be heard here, at the least."""
        if self.break_s or self._begins or self._goes_on:
            return self.break_s
        own = pauses.paragraph_s if self._begins_paragraph else None
        return (pauses.sentence_s if own is None else own) or 0.0


def _begun(sentences: Iterable[EncodedSentence]) -> Iterator[EncodedSentence]:
    """Wait for the first sentence, and give them all."""
    coming = iter(sentences)
    first = tuple(islice(coming, 1))
    return chain(first, coming)
