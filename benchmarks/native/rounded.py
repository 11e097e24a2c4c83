"""The default voice's decoder in int8: speed beside fp32 and beside hibari-tts, and what is lost."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hibari import Hibari

from balacoon_tk import TTS
from balacoon_tk.export.quantize.judging import decode, make_frames
from balacoon_tk.export.quantize.voice import FRONT_FILE
from balacoon_tk.metrics.signal import snr_db
from balacoon_tk.voice.voice import load_voice
from native.decoding import BACKENDS, N_FRAMES, engine_of, frames_of, stream
from peers.int8_voice import int8_voice
from speed.measure import in_turn, show_progress
from speed.texts import TEXTS

_CHUNK_FRAMES = 16
_TEXT = "440"
_SEED = 0


def measure(folder: Path, *, n_rounds: int) -> dict[str, Any]:
    """Time the decoder in int8 on one thread, each engine its own, and say what sentences lose by it.

    Returns
    -------
    dict
        ``seconds`` by the run's name, a value a round; ``audio_s`` of those that speak a text; ``quality`` by
        engine; ``snr_db`` and ``streamed_to_whole`` of the native one.
    """
    folders = [int8_voice(backend) for backend in BACKENDS]
    fp32 = engine_of(folder, 1, "native")
    native, ort = (engine_of(made, 1, backend) for made, backend in zip(folders, BACKENDS, strict=True))
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
        "quality": {backend: judged(made) for backend, made in zip(BACKENDS, folders, strict=True)},
        **samples_of(folder, folders[0]),
    }
    show_progress("int8", 1.0)
    return found


def judged(rounded: Path) -> dict[str, float]:
    """Return what sentences lose in int8, as the search for it has judged them."""
    front = json.loads((rounded / FRONT_FILE).read_text(encoding="utf-8"))
    chosen = next(each for each in front["candidates"] if each["name"] == front["chosen"])
    return {**chosen["figures"], "n_sentences": chosen["n_sentences"], "n_layers": len(chosen["layers"])}


def samples_of(folder: Path, rounded: Path) -> dict[str, float]:
    """Return how far the native engine's samples in int8 are from fp32, and streamed ones from whole ones."""
    tts = TTS(load_voice(folder, n_threads=1, backend="native"))
    (spoken,) = make_frames(tts, [TEXTS[_TEXT]], seed=_SEED)
    engine = engine_of(rounded, 1, "native")
    samples = decode(engine, spoken)
    pieces = [stream(engine, feeds["frames"], _CHUNK_FRAMES) for feeds in spoken.feeds]
    streamed = np.concatenate([piece.reshape(-1) for each in pieces for piece in each])
    return {
        "snr_db": snr_db(samples, decode(tts.voice.decoder, spoken)),
        "streamed_to_whole": float(np.abs(streamed - samples).max()),
    }
