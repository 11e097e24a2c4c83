"""Latency figures, on traces whose answers can be worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balacoon_tk.errors import ParameterError, StreamStateError
from balacoon_tk.metrics import audio_s, continuity, first_audible_s, playback, rtf, ttfa_s, xrt
from balacoon_tk.metrics.latency import (
    c50,
    c100,
    c200,
    lag_s,
    readiness_s,
    underrun_ms,
    underrun_s,
    work_ratio,
)
from balacoon_tk.metrics.trace import AUDIBLE_DBFS, StreamTrace, TraceRecorder

# Chunks of 1 s, 1 s and 2 s; the third is ready 0.5 s after the second has been played.
LATE = StreamTrace(
    sample_rate=100, ready_s=(0.5, 1.0, 3.0), n_samples=(100, 100, 200), total_s=3.25, first_audible=120
)
EARLY = StreamTrace(
    sample_rate=100, ready_s=(0.5, 1.0, 2.5), n_samples=(100, 100, 200), total_s=2.5, first_audible=0
)
NOTHING = StreamTrace(sample_rate=100, ready_s=(), n_samples=(), total_s=0.25, first_audible=None)


class FakeClock:
    """A clock that says what the test wants."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_audio_is_all_samples_over_the_rate() -> None:
    assert audio_s(LATE) == 4.0
    assert audio_s(NOTHING) == 0.0


def test_rtf_is_compute_over_audio_and_xrt_is_its_inverse() -> None:
    assert rtf(LATE) == 3.25 / 4.0
    assert xrt(LATE) == 4.0 / 3.25
    assert rtf(NOTHING) == float("inf")
    assert xrt(NOTHING) == 0.0


def test_xrt_of_a_stream_that_took_no_time_is_infinite() -> None:
    trace = StreamTrace(sample_rate=1, ready_s=(0.0,), n_samples=(1,), total_s=0.0, first_audible=0)
    assert xrt(trace) == float("inf")


def test_ttfa_is_when_the_chunk_with_the_first_audible_sample_came() -> None:
    assert ttfa_s(LATE) == 1.0
    assert ttfa_s(EARLY) == 0.5


@pytest.mark.parametrize(
    ("first_audible", "expected"), [(0, 0.5), (99, 0.5), (100, 1.0), (199, 1.0), (399, 3.0)]
)
def test_ttfa_knows_on_which_side_of_a_border_a_sample_lies(first_audible: int, expected: float) -> None:
    trace = StreamTrace(
        sample_rate=100,
        ready_s=LATE.ready_s,
        n_samples=LATE.n_samples,
        total_s=LATE.total_s,
        first_audible=first_audible,
    )
    assert ttfa_s(trace) == expected


def test_ttfa_of_silence_is_not_a_number() -> None:
    assert np.isnan(ttfa_s(NOTHING))


def test_underrun_is_how_late_the_worst_chunk_is() -> None:
    assert underrun_s(LATE) == 0.5
    assert underrun_s(EARLY) == 0.0
    assert underrun_s(NOTHING) == 0.0


def test_a_prebuffer_takes_off_what_it_covers() -> None:
    assert underrun_s(LATE, prebuffer_s=0.2) == pytest.approx(0.3)
    assert underrun_s(LATE, prebuffer_s=0.5) == 0.0
    assert underrun_s(LATE, prebuffer_s=9.0) == 0.0


def test_playback_waits_for_the_late_chunk_only() -> None:
    start_s, stop_s = playback(LATE)
    np.testing.assert_array_equal(start_s, [0.5, 1.5, 3.0])
    np.testing.assert_array_equal(stop_s, [1.5, 2.5, 5.0])
    start_s, stop_s = playback(LATE, prebuffer_s=0.5)
    np.testing.assert_array_equal(start_s, [1.0, 2.0, 3.0])
    assert all(array.size == 0 for array in playback(NOTHING))


def test_continuity_is_the_share_that_never_waits() -> None:
    assert continuity([LATE]) == 0.0
    assert continuity([LATE, EARLY]) == 0.5
    assert continuity([LATE, EARLY], prebuffer_s=0.5) == 1.0
    with pytest.raises(ParameterError, match="at least one trace"):
        continuity([])


@pytest.mark.parametrize("function", [playback, underrun_s])
def test_a_negative_prebuffer_is_refused(function: object) -> None:
    assert callable(function)
    for value in (-0.1, float("nan")):
        with pytest.raises(ParameterError, match=r"prebuffer_s=.* must be >= 0"):
            function(LATE, prebuffer_s=value)


@st.composite
def traces(draw: st.DrawFn) -> StreamTrace:
    n_chunks = draw(st.integers(1, 12))
    gaps = draw(st.lists(st.integers(0, 300), min_size=n_chunks, max_size=n_chunks))
    ready_s = tuple(float(t) / 100.0 for t in np.cumsum(gaps))
    n_samples = tuple(draw(st.lists(st.integers(1, 300), min_size=n_chunks, max_size=n_chunks)))
    return StreamTrace(
        sample_rate=100, ready_s=ready_s, n_samples=n_samples, total_s=ready_s[-1], first_audible=0
    )


@given(trace=traces(), prebuffer_ms=st.integers(0, 2000))
def test_underrun_is_the_sum_of_the_gaps_that_playback_shows(trace: StreamTrace, prebuffer_ms: int) -> None:
    prebuffer_s = prebuffer_ms / 1000.0
    start_s, stop_s = playback(trace, prebuffer_s=prebuffer_s)
    gaps_s = float(np.sum(start_s[1:] - stop_s[:-1]))
    assert underrun_s(trace, prebuffer_s=prebuffer_s) == pytest.approx(gaps_s, abs=1e-9)
    assert np.all(start_s >= np.asarray(trace.ready_s) - 1e-12), "nothing sounds before it is ready"


@given(trace=traces())
def test_a_prebuffer_of_the_underrun_makes_playback_smooth(trace: StreamTrace) -> None:
    assert underrun_s(trace, prebuffer_s=underrun_s(trace)) == 0.0


def test_a_recorder_notes_times_sizes_and_the_first_audible_sample() -> None:
    clock = FakeClock()
    recorder = TraceRecorder(sample_rate=100, clock=clock)
    for time_s, samples in ((0.5, np.zeros(3)), (0.75, np.zeros(0)), (1.0, np.array([0.0, -0.5, 0.5]))):
        clock.now_s = 1000.0 + time_s
        recorder.add(samples.astype(np.float32))
    clock.now_s = 1001.5
    trace = recorder.finish()
    assert trace == StreamTrace(
        sample_rate=100, ready_s=(0.5, 1.0), n_samples=(3, 3), total_s=1.5, first_audible=4
    )
    assert ttfa_s(trace) == 1.0


@pytest.mark.parametrize(
    ("samples", "first_audible"),
    [
        (np.array([0.00099, 0.00101], np.float32), 1),
        (np.array([-0.00099, -0.00101], np.float32), 1),
        (np.array([32, 33], np.int16), 1),
        (np.array([-32, -32768], np.int16), 1),
        (np.zeros(4, np.float32), None),
    ],
)
def test_audible_is_60_db_below_full_scale_in_floats_and_in_pcm(
    samples: np.ndarray, first_audible: int | None
) -> None:
    assert AUDIBLE_DBFS == -60.0
    recorder = TraceRecorder(sample_rate=100)
    recorder.add(samples)
    assert recorder.finish().first_audible == first_audible


def test_the_threshold_can_be_set() -> None:
    recorder = TraceRecorder(sample_rate=100, audible_dbfs=-20.0)
    recorder.add(np.array([0.05, 0.11], np.float32))
    assert recorder.finish().first_audible == 1


def test_a_recorder_serves_one_stream() -> None:
    recorder = TraceRecorder(sample_rate=100)
    recorder.finish()
    with pytest.raises(StreamStateError, match="one stream"):
        recorder.add(np.zeros(1, np.float32))
    with pytest.raises(StreamStateError, match="one stream"):
        recorder.finish()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_rate": 0}, "sample_rate=0 must be >= 1"),
        ({"ready_s": (0.5,)}, "must equal len"),
        ({"n_samples": (100, 0, 200)}, "must be >= 1"),
        ({"ready_s": (0.5, 0.25, 3.0)}, "must not decrease"),
        ({"ready_s": (-0.5, 0.25, 3.0)}, "must not decrease"),
        ({"ready_s": (0.5, float("nan"), 3.0)}, "must not decrease"),
        ({"total_s": 2.0}, "must not decrease"),
        ({"first_audible": 400}, r"first_audible=400 must be in \[0, 400\)"),
        ({"first_audible": -1}, "first_audible=-1 must be in"),
        ({"lag_samples": -1}, "lag_samples=-1 must be >= 0"),
    ],
)
def test_a_trace_that_cannot_have_happened_is_refused(changes: dict[str, object], message: str) -> None:
    fields: dict[str, object] = {
        "sample_rate": 100,
        "ready_s": LATE.ready_s,
        "n_samples": LATE.n_samples,
        "total_s": LATE.total_s,
        "first_audible": 120,
    }
    with pytest.raises(ParameterError, match=message):
        StreamTrace(**(fields | changes))  # type: ignore[arg-type]


def test_readiness_is_how_long_before_its_turn_a_chunk_came() -> None:
    np.testing.assert_allclose(readiness_s(LATE), [0.0, 0.5, -0.5])
    np.testing.assert_allclose(readiness_s(LATE, prebuffer_s=0.5), [0.5, 1.0, 0.0])
    assert readiness_s(NOTHING).size == 0


@given(trace=traces())
def test_the_least_readiness_is_the_underrun(trace: StreamTrace) -> None:
    assert underrun_s(trace) == max(0.0, -float(readiness_s(trace).min()))
    assert underrun_ms(trace) == 1e3 * underrun_s(trace)


@pytest.mark.parametrize(("late_ms", "expected"), [(40, (1, 1, 1)), (60, (0, 1, 1)), (150, (0, 0, 1))])
def test_c50_c100_and_c200_allow_so_many_milliseconds(late_ms: int, expected: tuple[int, ...]) -> None:
    trace = StreamTrace(
        sample_rate=1000,
        ready_s=(0.0, 0.1 + late_ms / 1000),
        n_samples=(100, 100),
        total_s=1.0,
        first_audible=0,
    )
    assert (c50([trace]), c100([trace]), c200([trace])) == expected
    assert continuity([trace]) == 0.0


def test_work_ratio_is_the_time_over_that_of_the_whole() -> None:
    assert work_ratio(LATE, EARLY) == 3.25 / 2.5
    assert work_ratio(EARLY, EARLY) == 1.0


def test_the_work_of_two_utterances_is_not_compared() -> None:
    with pytest.raises(ParameterError, match=r"400 samples at 100 Hz .* must be of one utterance"):
        work_ratio(LATE, NOTHING)


def test_lag_and_leading_silence_are_seconds_of_audio() -> None:
    recorder = TraceRecorder(sample_rate=100, lag_samples=25)
    recorder.add(np.array([0.0, 0.0, 0.5], np.float32))
    trace = recorder.finish()
    assert lag_s(trace) == 0.25
    assert first_audible_s(trace) == 0.02
    assert np.isnan(lag_s(LATE)), "nobody has said it"
    assert np.isnan(first_audible_s(NOTHING))
