"""Comparing strategies: in turn, with the warm-up left out, and against the samples of the whole."""

import functools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from balacoon_tk import TTS
from balacoon_tk.audio import AudioChunk
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.metrics import TraceRecorder
from balacoon_tk.metrics.comparison import REFERENCE, compare
from tiny_voice import SAMPLE_RATE

RATE = 100


class FakeTTS:
    """Speaks 2 s in two halves; each run takes as long as the test says, on a clock of its own."""

    strategies = ("full", "overlap", "stateful")
    voice = SimpleNamespace(manifest=SimpleNamespace(name="fake"))

    def __init__(self, seconds=None, change=None):
        self.now_s = 0.0
        self.calls = []
        self.seeds = set()
        self.samples = {name: np.full(2 * RATE, 0.5, np.float32) for name in self.strategies}
        self._seconds = {name: iter(values) for name, values in (seconds or {}).items()}
        if change is not None:
            change(self.samples)

    def clock(self):
        return self.now_s

    def get_sampling_rate(self):
        return RATE

    def stream(self, text, *, strategy, seed, speaker, chunk_frames):
        self.calls.append(strategy)
        self.seeds.add(seed)
        took_s = next(self._seconds[strategy], 1.0) if strategy in self._seconds else 1.0
        samples = self.samples[strategy]
        for k, part in enumerate(np.array_split(samples, 2)):
            self.now_s += took_s / 2
            yield AudioChunk(samples=part, sample_rate=RATE, start_sample=k * RATE)


@pytest.fixture
def run(monkeypatch):
    def run(tts, text="two seconds", **options):
        monkeypatch.setattr(
            "balacoon_tk.metrics.runs.TraceRecorder", functools.partial(TraceRecorder, clock=tts.clock)
        )
        return compare(tts, text, **options)

    return run


def test_strategies_run_in_turn_and_the_first_changes_from_round_to_round(run):
    tts = FakeTTS()
    run(tts, n_rounds=2)
    assert tts.calls == [
        *("full", "overlap", "stateful"),
        *("overlap", "stateful", "full"),
        *("stateful", "full", "overlap"),
    ]


def test_every_run_has_the_same_seed(run):
    tts = FakeTTS()
    run(tts, n_rounds=1, seed=42)
    assert tts.seeds == {42}


def test_figures_are_medians_without_the_warm_up(run):
    tts = FakeTTS({"full": [100.0, 1.0, 9.0, 2.0], "overlap": [100.0, 3.0, 4.0, 5.0]})
    results = run(tts, n_rounds=3).strategies
    assert results["full"].total_s == 2.0
    assert results["full"].ttfa_s == 1.0
    assert results["full"].rtf == 1.0
    assert results["full"].work_ratio == 1.0
    assert results["overlap"].total_s == 4.0
    assert results["overlap"].work_ratio == 2.0
    assert [trace.total_s for trace in results["overlap"].traces] == [3.0, 4.0, 5.0]
    assert results["overlap"].median_trace.total_s == 4.0


def test_the_largest_difference_is_found_wherever_it_is(run):
    def change(samples):
        samples["overlap"][-1] -= 0.25
        samples["stateful"][0] += 0.125

    results = run(FakeTTS(change=change), n_rounds=1).strategies
    assert results["full"].max_abs_diff == 0.0
    assert results["overlap"].max_abs_diff == 0.25
    assert results["stateful"].max_abs_diff == 0.125


def test_another_number_of_samples_is_an_error_and_no_difference(run):
    def change(samples):
        samples["overlap"] = samples["overlap"][:-1]

    with pytest.raises(ModelError, match="'overlap' gave 199 samples, 'full' 200"):
        run(FakeTTS(change=change), n_rounds=1)


def test_chosen_strategies_come_after_the_reference_once_each(run):
    assert list(run(FakeTTS(), strategies=["overlap", "full", "overlap"], n_rounds=1).strategies) == [
        REFERENCE,
        "overlap",
    ]


def test_progress_counts_every_run(run):
    seen = []
    run(FakeTTS(), n_rounds=1, progress=lambda *numbers: seen.append(numbers))
    assert seen == [(k, 6) for k in range(1, 7)]


@pytest.mark.parametrize("n_rounds", [0, -1])
def test_no_rounds_are_refused(run, n_rounds):
    with pytest.raises(ParameterError, match=rf"n_rounds={n_rounds} must be >= 1"):
        run(FakeTTS(), n_rounds=n_rounds)


def test_silence_has_no_first_sound_and_json_says_null(run):
    def change(samples):
        for values in samples.values():
            values[:] = 0.0

    comparison = run(FakeTTS(change=change), n_rounds=1)
    assert math.isnan(comparison.strategies["full"].ttfa_s)
    data = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert data["strategies"]["full"]["ttfa_s"] is None
    assert comparison.table().splitlines()[1].split()[1] == "silent"


def test_the_report_has_the_agreed_fields_and_no_others(run):
    data = run(FakeTTS(), n_rounds=1).to_dict()
    assert list(data) == ["voice", "text", "audio_s", "strategies"]
    assert (data["voice"], data["text"], data["audio_s"]) == ("fake", "two seconds", 2.0)
    assert list(data["strategies"]) == ["full", "overlap", "stateful"]
    for result in data["strategies"].values():
        assert list(result) == ["ttfa_s", "total_s", "rtf", "work_ratio", "max_abs_diff", "n_chunks"]


def test_the_table_has_a_line_for_each_strategy_with_xrt_beside_rtf(run):
    lines = run(FakeTTS(), n_rounds=1).table().splitlines()
    assert " ".join(lines[0].split()) == "strategy TTFA total RTF xRT work waits chunks max diff"
    assert " ".join(lines[1].split()) == "full 500.0 ms 1000 ms 0.5000 2.0x 1.00x 0 ms 2 0.0e+00"
    assert [line.split()[0] for line in lines[2:]] == ["overlap", "stateful"]


def test_a_voice_is_compared_by_all_it_can_do(tiny_voice):
    tts = TTS(tiny_voice)
    comparison = compare(tts, "hello there. and more", n_rounds=1, seed=3, chunk_frames=5)
    assert list(comparison.strategies) == list(tts.strategies)
    assert comparison.sample_rate == SAMPLE_RATE
    full, overlap = comparison.strategies["full"], comparison.strategies["overlap"]
    assert full.n_chunks == 2
    chunks = list(tts.stream("hello there. and more", strategy="overlap", seed=3, chunk_frames=5))
    assert overlap.n_chunks == len(chunks) > full.n_chunks
    np.testing.assert_array_equal(np.concatenate([chunk.samples for chunk in chunks]), overlap.samples)
    assert overlap.max_abs_diff <= 1e-4
    assert comparison.audio_s == full.samples.size / SAMPLE_RATE


@pytest.mark.filterwarnings("ignore::balacoon_tk.frontend.NothingToSayWarning")
def test_a_text_with_nothing_to_say_can_not_be_compared(tiny_voice):
    for text in ("", "  \n"):
        with pytest.raises(ParameterError, match="must hold something that can be spoken"):
            compare(TTS(tiny_voice), text, n_rounds=1)
