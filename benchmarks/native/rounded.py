"""The default voice's decoder in int8: speed beside fp32 and beside hibari-tts, and what is lost."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hibari import Hibari

from balacoon_tk import TTS
from balacoon_tk.export import make_precision
from balacoon_tk.export.quantize.judging import Judge, Spoken, decode, make_frames
from balacoon_tk.export.quantize.pareto import summarize
from balacoon_tk.metrics.sentences import plain_sentences
from balacoon_tk.metrics.signal import snr_db
from balacoon_tk.voice.precisions import find_precisions
from balacoon_tk.voice.voice import load_voice
from native.decoding import BACKENDS, N_FRAMES, engine_of, frames_of, stream
from speed.measure import in_turn, show_progress
from speed.texts import TEXTS

_CHUNK_FRAMES = 16
_TEXT = "440"
_SEED = 0


def measure(folder: Path, *, n_rounds: int, n_sentences: int) -> dict[str, Any]:
    """Time the decoder in int8 on one thread, and judge what sentences lose by it.

    Returns
    -------
    dict
        ``seconds`` by the run's name, a value a round; ``audio_s`` of those that speak a text; ``quality``.
    """
    rounded = int8_folder(folder)
    fp32 = engine_of(folder, 1, "native")
    native, ort = (engine_of(rounded, 1, backend) for backend in BACKENDS)
    manifest = load_voice(folder).manifest
    feeds = {"frames": frames_of(manifest.n_channels, N_FRAMES)}
    hibari = Hibari(threads=1)
    ids = [hibari.ids(phonemes) for phonemes in hibari.phonemize(TEXTS[_TEXT])]

    def speak() -> list[Any]:
        return [hibari.from_ids(each, rng=np.random.default_rng(_SEED)) for each in ids]

    runs = {
        "fp32, whole": partial(fp32.whole, feeds),
        "int8, whole": partial(native.whole, feeds),
        "onnxruntime int8, whole": partial(ort.whole, feeds),
        f"fp32, {_CHUNK_FRAMES}": partial(stream, fp32, feeds["frames"], _CHUNK_FRAMES),
        f"int8, {_CHUNK_FRAMES}": partial(stream, native, feeds["frames"], _CHUNK_FRAMES),
        "hibari-tts": speak,
    }
    seconds = in_turn(runs, n_rounds=n_rounds)
    show_progress("int8", 0.5)
    found = {
        "seconds": seconds,
        "audio_s": {
            "decoder": N_FRAMES * manifest.hop_length / manifest.sample_rate,
            "hibari-tts": sum(map(len, speak())) / hibari.sample_rate,
        },
        "quality": judge(folder, rounded, n_sentences),
    }
    show_progress("int8", 1.0)
    return found


def int8_folder(folder: Path) -> Path:
    """Return a voice with every layer in int8 that can be; it is made the first time."""
    voice = load_voice(folder, n_threads=1)
    return find_precisions(voice).get("int8") or make_precision(voice, "int8")


def judge(folder: Path, rounded: Path, n_sentences: int) -> dict[str, Any]:
    """Return what sentences lose in int8, both decoders run by the native engine on the same frames."""
    texts = plain_sentences()
    texts = [texts[(k + 1) * len(texts) // n_sentences - 1] for k in range(n_sentences)]
    tts = TTS(load_voice(folder, n_threads=1, backend="native"))
    spoken = make_frames(tts, texts, seed=_SEED)
    other = engine_of(rounded, 1, "native")
    judged = Judge(tts.get_sampling_rate())
    pairs = [(decode(tts.voice.decoder, each), decode(other, each)) for each in spoken]
    reference = [judged(exact, exact, text) for text, (exact, _) in zip(texts, pairs, strict=True)]
    records = [judged(samples, exact, text) for text, (exact, samples) in zip(texts, pairs, strict=True)]
    exact, samples = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return {
        **summarize(records, reference),
        "snr_db": snr_db(samples, exact),
        "n_sentences": n_sentences,
        "streamed_to_whole": _streamed_to_whole(other, spoken[0]),
    }


def _streamed_to_whole(engine: Any, spoken: Spoken) -> float:
    frames = spoken.feeds[0]["frames"]
    whole = engine.whole(spoken.feeds[0])["samples"].reshape(-1)
    streamed = np.concatenate([each.reshape(-1) for each in stream(engine, frames, _CHUNK_FRAMES)])
    return float(np.abs(streamed - whole).max())
