"""What a candidate costs and loses: speed in turn with the voice as it is, quality on the same frames."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from balacoon_tk import TTS
from balacoon_tk._typing import AnyArray, FloatArray, IntArray
from balacoon_tk.decoder import Engine, Strategy
from balacoon_tk.decoder.renderer import FrameArray, Renderer
from balacoon_tk.errors import ParameterError
from balacoon_tk.export.measure import timed
from balacoon_tk.metrics.registry import measure, search_metrics
from balacoon_tk.metrics.runs import in_turn, nothing_to_say
from balacoon_tk.metrics.signal import snr_db
from balacoon_tk.metrics.utterance import Utterance
from balacoon_tk.stages.encoder import Encoder
from balacoon_tk.stages.sentence import own_settings, prepare_sentence

_CHUNK_FRAMES = 64
_N_ROUNDS = 5
# A run of an encoder is short: whatever else the machine does is a large share of it.
_N_ENCODER_ROUNDS = 11
_NOISE_W = 0.8


@dataclass(frozen=True, slots=True)
class Spoken:
    """A text as a decoder reads it, sentence by sentence."""

    text: str
    feeds: tuple[Mapping[str, AnyArray], ...]
    phoneme_ids: tuple[IntArray, ...]


def make_frames(
    tts: TTS, sentences: Sequence[str], *, seed: int, encoder: Encoder | None = None
) -> tuple[Spoken, ...]:
    """Have a voice's encoder read sentences, with its own prosody.

    Another encoder makes the encodings instead, but the voice's own still says how long they last: samples
    can only be compared where they are of the same phonemes.
    """
    settings, found = own_settings(tts.voice, seed=seed), []
    for number, text in enumerate(sentences):
        feeds, read = [], []
        for index, encoded in enumerate(tts.encode_sentences(tts.frontend.phonemize(text))):
            prepared = prepare_sentence(tts.voice, encoded, settings, index=index, encoder=encoder)
            frames = prepared.upsampler
            # Phonemes that last no frame give the decoder nothing to read.
            if frames.n_frames:
                constant = tts.voice.timeless_inputs(prepared.speaker_embedding)
                feeds.append({"frames": frames.window(0, frames.n_frames)[np.newaxis], **constant})
                read.append(encoded.phoneme_ids)
        if not feeds:
            raise nothing_to_say(f"sentences[{number}]", text)
        found.append(Spoken(text, tuple(feeds), tuple(read)))
    return tuple(found)


def decode(engine: Engine, spoken: Spoken) -> FloatArray:
    """Decode a text whole."""
    return np.concatenate([engine.whole(feeds)["samples"].reshape(-1) for feeds in spoken.feeds])


class Judge:
    """Hears what texts lose; what it has heard of a reference it remembers."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._wholes: dict[str, Utterance] = {}

    def __call__(self, samples: FloatArray, reference: FloatArray, text: str) -> dict[str, Any]:
        """Return what one text lost: fields by name, without those of which a judge has no opinion.

        `samples` are `reference` itself if that is judged. A text has one reference.
        """
        # Two listeners may come at once and both make it: the second one then does the same again.
        whole = self._wholes.setdefault(text, Utterance(text, reference, self._sample_rate))
        spoken = whole if samples is reference else Utterance(text, samples, self._sample_rate, whole)
        metrics = search_metrics()
        # A search has names of its own for some, which stand in voices that were made before.
        names = {metric.name: name for name, metric in metrics.items()}
        return {names.get(field, field): value for field, value in measure(metrics.values(), spoken).items()}


def measure_speedup(
    reference: Renderer, candidate: Renderer, spoken: Sequence[Spoken]
) -> tuple[float, float]:
    """Return how much faster a candidate decodes the same frames, whole and in chunks.

    Each is the median over rounds of the reference's time over the candidate's, on as many threads.
    """
    # What can't be streamed exactly is only decoded whole: the overlap's windows are whole runs as well.
    in_chunks: Strategy = "stateful" if "stateful" in reference.strategies else "full"
    ways = [(renderer, strategy) for strategy in ("full", in_chunks) for renderer in (reference, candidate)]
    runs = [partial(timed, partial(_render, renderer, spoken, strategy)) for renderer, strategy in ways]
    seconds = np.array([[s for _, s in found] for found in in_turn(runs, n_rounds=_N_ROUNDS)])
    # Round by round and not of two medians: what slows the machine for a while slows both of a round.
    whole, chunked = np.median(seconds[::2] / seconds[1::2], axis=1)
    return float(whole), float(chunked)


def _render(renderer: Renderer, spoken: Sequence[Spoken], strategy: Strategy) -> None:
    for feeds in (feeds for text in spoken for feeds in text.feeds):
        constant = {name: values for name, values in feeds.items() if name != "frames"}
        # Frames that are there: the upsampler is no part of what is compared.
        source = FrameArray(feeds["frames"][0])
        chunk = _CHUNK_FRAMES if strategy == "stateful" else source.n_frames
        for _ in renderer.render(source, strategy, (chunk,), constant=constant):
            pass


@dataclass(frozen=True, slots=True)
class EncoderCost:
    """What was measured of two encoders in turn, on the same phonemes with the same noise."""

    time_ratios: Mapping[int, float]
    """Per number of phonemes, the candidate's time over the reference's: ratios of medians."""
    changed_durations: float
    """Share of phonemes that last another number of frames."""
    largest_change: int
    """Frames by which a duration differs at most."""
    encodings_snr_db: float


def measure_encoder(
    reference: Encoder,
    candidate: Encoder,
    phoneme_ids: Sequence[IntArray],
    *,
    n_rounds: int = _N_ENCODER_ROUNDS,
    speaker_id: int | None = None,
) -> EncoderCost:
    """Run two encoders of as many threads in turn; sentences of one length are timed together."""
    if not phoneme_ids or n_rounds < 1:
        raise ParameterError(f"{len(phoneme_ids)} sentences and n_rounds={n_rounds} must both be >= 1")
    seconds: dict[int, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    pairs = []
    for seed, ids in enumerate(phoneme_ids):
        runs = [
            partial(timed, partial(each.encode, ids, noise_w=_NOISE_W, seed=seed, speaker_id=speaker_id))
            for each in (candidate, reference)
        ]
        rounds = in_turn(runs, n_rounds=n_rounds)
        for taken, found in zip(seconds[len(ids)], rounds, strict=True):
            taken += [each for _, each in found]
        pairs.append((rounds[0][0][0], rounds[1][0][0]))
    changes = np.concatenate([np.abs(ours.durations - theirs.durations) for ours, theirs in pairs])
    return EncoderCost(
        time_ratios={n: statistics.median(a) / statistics.median(b) for n, (a, b) in seconds.items()},
        changed_durations=float((changes > 0).mean()),
        largest_change=int(changes.max()),
        encodings_snr_db=snr_db(
            *(np.concatenate([each.encodings.ravel() for each in side]) for side in zip(*pairs, strict=True))
        ),
    )
