"""One stream: from its sentences to chunks of samples, one push after another as the caller asks for them.

::

    ids ─▶ encodings ─▶ frames         prepare_sentence, in a thread of `Prefetch` but for the first sentence
    frames ─▶ chunks of samples        Voice.render

All that changes lies in the generator `Speaking.chunks`; what leaves a stream in the middle only closes that.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import chain, islice

import numpy as np

from balacoon_tk.audio import AudioChunk
from balacoon_tk.frontend.phoneme_map import EncodedSentence
from balacoon_tk.pacing.pacer import Pacer
from balacoon_tk.pacing.schedule import MAX_CHUNK_S
from balacoon_tk.runtime.admission import Crowd, Load
from balacoon_tk.runtime.background import Prefetch
from balacoon_tk.runtime.scheduler import ScheduledStream
from balacoon_tk.stages.sentence import PreparedSentence, Timeline, prepare_sentence
from balacoon_tk.stages.settings import Settings
from balacoon_tk.voice.voice import Voice

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
        manifest, volume = self._voice.manifest, settings.prosody.volume
        try:
            # Whoever has nothing to say yet takes no place among those who wait for their turn.
            given = sentences if stream.text is None else _begun(sentences)
            coming = Prefetch(self._prepare(given), stream.closed)
            stream.enter(crowd, load)
            while (sentence := self._take(coming)) is not None:
                upsampler = sentence.upsampler
                timeline = Timeline(
                    sentence.encoded,
                    upsampler.phoneme_starts,
                    hop_length=manifest.hop_length,
                    sample_rate=manifest.sample_rate,
                    start_sample=start,
                )
                first, end = start, start + upsampler.n_frames * manifest.hop_length
                sizes = self._pacer.chunk_frames(sentence)
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
                    )
                    start = stop
        finally:
            # In a child that was forked meanwhile both are another process's, and so are their locks.
            if stream.of_this_process:
                stream.drop()
                stream.leave()

    def _take(self, coming: Prefetch[PreparedSentence]) -> PreparedSentence | None:
        self._stream.needs_text = True
        try:
            return coming.take()
        finally:
            self._stream.needs_text = False

    def _prepare(self, sentences: Iterable[EncodedSentence]) -> Iterator[PreparedSentence]:
        for index, encoded in enumerate(sentences):
            if self._stream.closed.is_set():
                return
            with self._stream.slot():
                prepared = prepare_sentence(self._voice, encoded, self._settings, index=index)
            # Outside of the slot: while a generator waits it would hold what others wait for.
            yield prepared


def _begun(sentences: Iterable[EncodedSentence]) -> Iterator[EncodedSentence]:
    """Wait for the first sentence, and give them all."""
    coming = iter(sentences)
    first = tuple(islice(coming, 1))
    return chain(first, coming)
