"""What an export makes of size, speed and samples, from the trained model to the finished voice."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import ceil
from typing import TypeVar

import numpy as np
import onnx

from balacoon_tk._typing import FloatArray, IntArray
from balacoon_tk.decoder.renderer import decode_in_chunks
from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.source import SourceVocoder, SourceVoice
from balacoon_tk.export.verify import Split, draw_phoneme_ids
from balacoon_tk.metrics.runs import in_turn
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.ort_cpu.compile import Compiled
from balacoon_tk.voice.manifest import ExportStage

_NAMES = ("source", "plain", "voice")
_N_ROUNDS = 3
_N_PHONEMES = 30
_N_DRAWS = 5
_VOCODER_S = 1.0

_Run = Callable[[], FloatArray]
_T = TypeVar("_T")


def measure_stages(
    trained: SourceVoice | SourceVocoder,
    compiled: Compiled,
    *,
    hop_length: int,
    max_frames: int | None = None,
) -> tuple[ExportStage, ...]:
    """Measure a model: as it came, as plain graphs, and compiled for this machine.

    All must give as many samples, or there is nothing to compare. No vocoder is given more than `max_frames`.
    """
    engine = OrtEngine(compiled.decoder.model)
    if isinstance(trained, SourceVocoder):
        n_frames = ceil(_VOCODER_S * trained.facts.sample_rate / hop_length)
        frames = trained.draw_frames(n_frames if max_frames is None else min(n_frames, max_frames), 0)
        feeds, session = {"frames": frames}, Session(trained.decoder)
        vocoder_runs: list[_Run] = [
            lambda: trained.reference(frames),
            lambda: session.run(feeds)["samples"].reshape(-1),
            lambda: engine.whole(feeds)["samples"].reshape(-1),
            lambda: decode_in_chunks(engine, feeds),
        ]
        return _measure(trained, [(trained.decoder,), (compiled.decoder.model,)], vocoder_runs)
    encoder = trained.encoder if compiled.encoder is None else compiled.encoder.model
    plain, finished = Split(trained), Split(replace(trained, encoder=encoder))

    def runs_of(ids: IntArray) -> list[_Run]:
        # Each begins with the phonemes, since that is where the trained model begins too.
        return [
            lambda: trained.reference.run(ids, speaker_id=0, length_scale=1.0),
            lambda: plain.decode(plain.quiet_frames(ids)),
            lambda: engine.whole(finished.quiet_frames(ids))["samples"].reshape(-1),
            lambda: decode_in_chunks(engine, finished.quiet_frames(ids)),
        ]

    for seed in range(_N_DRAWS):
        runs = runs_of(draw_phoneme_ids(trained, _N_PHONEMES, np.random.default_rng(seed)))
        # Where a duration is on the edge of two numbers, floating point decides; then others are drawn.
        if len({run().size for run in runs[:3]}) == 1:
            both = [(trained.encoder, trained.decoder), (encoder, compiled.decoder.model)]
            return _measure(trained, both, runs)
    raise ModelError(f"{_N_DRAWS} random sequences have another length than the trained voice gives them")


def timed(run: Callable[[], _T]) -> tuple[_T, float]:
    """Run once; return what that gives, and the seconds that it took."""
    start_s = time.perf_counter()
    given = run()
    return given, time.perf_counter() - start_s


def _measure(
    trained: SourceVoice | SourceVocoder, graphs: Sequence[Sequence[onnx.ModelProto]], runs: Sequence[_Run]
) -> tuple[ExportStage, ...]:
    """Run the three stages in turn, and compare each with the first; the last one streamed as well."""
    *whole, stream = runs
    rounds = in_turn([partial(timed, run) for run in whole], n_rounds=_N_ROUNDS)
    samples = [found[0][0] for found in rounds]
    # A stream is compared and not timed: what it takes depends on the chunks that somebody will ask for.
    *worst, streamed = (float(np.abs(each - samples[0]).max(initial=0.0)) for each in (*samples, stream()))
    worst[-1] = max(worst[-1], streamed)
    audio_s = samples[0].size / trained.facts.sample_rate
    sizes = [trained.n_bytes, *(sum(model.ByteSize() for model in each) for each in graphs)]
    return tuple(
        ExportStage(
            name=name,
            n_bytes=n_bytes,
            rtf=statistics.median(seconds for _, seconds in found) / audio_s,
            max_abs_diff=difference,
        )
        for name, n_bytes, found, difference in zip(_NAMES, sizes, rounds, worst, strict=True)
    )
