"""What an export makes of size, speed and samples, from the trained model to the finished voice."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import onnx

from balacoon_tk._typing import AnyArray, FloatArray, IntArray
from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.source import SourceVocoder, SourceVoice
from balacoon_tk.export.verify import Split, draw_phoneme_ids
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session
from balacoon_tk.voice.manifest import ExportStage

_N_ROUNDS = 3
_N_PHONEMES = 30
_N_DRAWS = 5
_VOCODER_S = 1.0
_CHUNK_FRAMES = 16


@dataclass(frozen=True, slots=True)
class _Stage:
    name: str
    n_bytes: int
    run: Callable[[], FloatArray]
    """Gives the samples of the whole utterance; this is what is timed."""
    stream: Callable[[], FloatArray] | None = None
    """Gives them in chunks; this is compared, and not timed."""


def stages_of_voice(
    voice: SourceVoice, encoder: onnx.ModelProto, decoder: onnx.ModelProto
) -> tuple[ExportStage, ...]:
    """Measure a voice: as it came, cut in two, and with the graphs that are put into its folder.

    Raises
    ------
    ModelError
        If one fails, or they give different numbers of samples.
    """
    cut, finished, graph = Split(voice), Split(replace(voice, encoder=encoder)), OrtEngine(decoder)

    def stages_of(ids: IntArray) -> list[_Stage]:
        return [
            _Stage(
                "source",
                voice.n_bytes,
                lambda: voice.reference.run(ids, speaker_id=0, length_scale=1.0),
            ),
            _Stage(
                "cut",
                _n_bytes(voice.encoder, voice.decoder),
                lambda: cut.decode_frames(cut.quiet_frames(ids)),
            ),
            _Stage(
                "voice",
                _n_bytes(encoder, decoder),
                lambda: _whole(graph, finished.quiet_frames(ids)),
                lambda: _streamed(graph, finished.quiet_frames(ids)),
            ),
        ]

    for seed in range(_N_DRAWS):
        stages = stages_of(draw_phoneme_ids(voice, _N_PHONEMES, np.random.default_rng(seed)))
        # Where a duration is on the edge of two numbers, floating point decides; then others are drawn.
        if len({stage.run().size for stage in stages}) == 1:
            return _measure(stages, voice.facts.sample_rate)
    raise ModelError(f"{_N_DRAWS} random sequences have another length than the trained voice gives them")


def stages_of_vocoder(
    vocoder: SourceVocoder, decoder: onnx.ModelProto, *, hop_length: int
) -> tuple[ExportStage, ...]:
    """Measure a vocoder: as it came, in ONNX, and with the graph that is put into its folder."""
    sample_rate = vocoder.facts.sample_rate
    frames = vocoder.draw_frames(ceil(_VOCODER_S * sample_rate / hop_length), 0)
    feeds = {"frames": frames}
    cut, graph = Session(vocoder.decoder), OrtEngine(decoder)
    stages = [
        _Stage("source", vocoder.n_bytes, lambda: vocoder.reference(frames)),
        _Stage("cut", _n_bytes(vocoder.decoder), lambda: cut.run(feeds)["samples"].reshape(-1)),
        _Stage("voice", _n_bytes(decoder), lambda: _whole(graph, feeds), lambda: _streamed(graph, feeds)),
    ]
    return _measure(stages, sample_rate)


def _measure(stages: Sequence[_Stage], sample_rate: int) -> tuple[ExportStage, ...]:
    """Run all stages in turn, and compare each with the first."""
    samples = [stage.run() for stage in stages]  # which also warms them up
    seconds: list[list[float]] = [[] for _ in stages]
    for _ in range(_N_ROUNDS):
        for taken, stage in zip(seconds, stages, strict=True):
            start = time.perf_counter()
            stage.run()
            taken.append(time.perf_counter() - start)
    audio_s = samples[0].size / sample_rate
    found = []
    for stage, taken, whole in zip(stages, seconds, samples, strict=True):
        ways = [whole] if stage.stream is None else [whole, stage.stream()]
        found.append(
            ExportStage(
                name=stage.name,
                n_bytes=stage.n_bytes,
                rtf=statistics.median(taken) / audio_s,
                max_abs_diff=max(float(np.abs(way - samples[0]).max(initial=0.0)) for way in ways),
            )
        )
    return tuple(found)


def _whole(graph: OrtEngine, feeds: Mapping[str, AnyArray]) -> FloatArray:
    samples: FloatArray = graph.whole(feeds)["samples"].reshape(-1)
    return samples


def _streamed(graph: OrtEngine, feeds: Mapping[str, AnyArray]) -> FloatArray:
    """Decode in chunks where the graph can do that, else at once."""
    if graph.streaming is None:
        return _whole(graph, feeds)
    decoder = StatefulDecoder(graph)
    frames, n_frames = feeds["frames"], feeds["frames"].shape[-1]
    pieces = []
    for start in range(0, n_frames, _CHUNK_FRAMES):
        stop = start + _CHUNK_FRAMES
        pushed = decoder.push({**feeds, "frames": frames[..., start:stop]}, last=stop >= n_frames)
        pieces.append(np.asarray(pushed).reshape(-1))
    return np.concatenate(pieces)


def _n_bytes(*models: onnx.ModelProto) -> int:
    return sum(model.ByteSize() for model in models)
