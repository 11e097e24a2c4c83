"""The schedule of chunks, against every schedule there is, and against playback."""

import dataclasses
import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balacoon_tk.decoder.chunking import push_schedule
from balacoon_tk.errors import ParameterError
from balacoon_tk.pacing.costs import CostCurve, PushCosts
from balacoon_tk.pacing.schedule import MAX_CHUNK_S, Pace, Playback, solve_schedule, steady_chunk
from balacoon_tk.stages.settings import DEFAULT_CHUNK_FRAMES

# Whole seconds and a frame of one second: sums of them are exact, so that "just in time" is seen as such.
steps = st.lists(st.integers(0, 4), min_size=1, max_size=8)


def curve(first, rises):
    seconds = [float(first)]
    for rise in rises:
        seconds.append(seconds[-1] + rise)
    return CostCurve(tuple(range(1, len(seconds) + 1)), tuple(seconds))


def make_pace(first=1, rises=(1,), lag_samples=0, hop_length=4, safety_factor=1.0):
    costs = PushCosts(curve(1, [1] * 3), curve(first, rises))
    return Pace(costs, hop_length, hop_length, lag_samples, safety_factor)


def line(overhead_s, frame_s):
    return CostCurve((1, 101), (overhead_s + frame_s, overhead_s + 101 * frame_s))


def real_pace(overhead_s=0.0085, frame_s=0.00105, safety_factor=2.0, lag_samples=10774):
    costs = PushCosts(line(0.0, 0.0003), line(overhead_s, frame_s))
    return Pace(costs, 256, 22050, lag_samples, safety_factor)


def never_waits(pace, n_frames, chunk_frames):
    """Say whether playback never waits, by the rule and not by `Pace.play`."""
    played_from = time_s = made = 0.0
    for index, push in enumerate(push_schedule(n_frames, chunk_frames, lag_frames=pace.lag_frames)):
        samples = n_frames * pace.hop_length if push.last else push.stop * pace.hop_length - pace.lag_samples
        cost = pace.costs.later if index else pace.costs.first
        time_s += pace.safety_factor * cost(push.n_frames)
        if index == 0:
            played_from = time_s
        elif time_s > played_from + made / pace.sample_rate:
            return False
        made = samples
    return True


def every_schedule(n_frames, most):
    """Give all chunks that cut so many frames, in order of their first one."""
    if n_frames <= 0:
        yield ()
        return
    for size in range(1, most + 1):
        for rest in every_schedule(n_frames - size, most):
            yield (size, *rest)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 7),
    st.integers(1, 8),
    steps,
    st.integers(0, 9),
    st.sampled_from([1.0, 2.0]),
    st.integers(1, 4),
)
def test_no_schedule_begins_with_less(n_frames, first, rises, lag_samples, safety_factor, first_frames):
    pace = make_pace(first, rises, lag_samples, safety_factor=safety_factor)
    found = solve_schedule(pace, n_frames, first_frames=first_frames, max_chunk_s=4.0)
    assert never_waits(pace, n_frames, found)
    most = steady_chunk(pace, max_chunk_s=4.0)
    for first_chunk in range(first_frames, found[0]):
        if first_chunk + pace.lag_frames < n_frames:
            left = n_frames - first_chunk
            assert not any(
                never_waits(pace, n_frames, (first_chunk, *more)) for more in every_schedule(left, most)
            )


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 9), st.integers(1, 8), steps, st.integers(0, 9), st.sampled_from([1, 2]))
def test_no_schedule_with_that_first_chunk_and_margin_works_less(
    n_frames, first, rises, lag_samples, frame_s
):
    pace = dataclasses.replace(make_pace(first, rises, lag_samples), sample_rate=4 // frame_s)
    max_chunk_s = 4.0 * frame_s
    found = solve_schedule(pace, n_frames, max_chunk_s=max_chunk_s)

    def work_s(chunk_frames):
        pushes = list(push_schedule(n_frames, chunk_frames, lag_frames=pace.lag_frames))
        return sum(pace.later_s(push.n_frames) for push in pushes[1:])

    others = [
        (found[0], *more) for more in every_schedule(n_frames, steady_chunk(pace, max_chunk_s=max_chunk_s))
    ]
    for margin in (2.0, 1.5, 1.0):
        safer = dataclasses.replace(pace, safety_factor=margin * pace.safety_factor)
        smooth = [work_s(chunks) for chunks in others if never_waits(safer, n_frames, chunks)]
        if smooth:
            assert never_waits(safer, n_frames, found)
            assert work_s(found) == min(smooth)
            return
    assert work_s(found) == 0.0


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3), steps, st.integers(0, 9))
def test_no_growing_for_any_length_works_less(first, rises, lag_samples):
    pace = make_pace(first, rises, lag_samples)
    found, steady = solve_schedule(pace, max_chunk_s=4.0), steady_chunk(pace, max_chunk_s=4.0)
    if found is None:
        return

    def work_s(chunk_frames):
        # Up to the same place far away, where all go on in the steady size.
        growing = chunk_frames[1:-1]
        left = 100 - chunk_frames[0] - sum(growing)
        return sum(map(pace.later_s, growing)) + left / steady * pace.later_s(steady)

    def in_time(margin, chunk_frames):
        safer = dataclasses.replace(pace, safety_factor=margin)
        return all(never_waits(safer, n_frames, chunk_frames) for n_frames in range(1, 30))

    grown = [(found[0], *more, steady) for n in range(6) for more in every_schedule(n, steady)]
    for margin in (2.0, 1.5, 1.0):
        smooth = [work_s(chunks) for chunks in grown if in_time(margin, chunks)]
        if smooth:
            assert in_time(margin, found)
            assert work_s(found if found[-1] == steady else (*found, steady)) <= min(smooth) + 1e-9
            return


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 120),
    st.floats(0.0, 0.02),
    st.floats(0.0001, 0.003),
    st.integers(0, 12000),
    st.floats(1, 3),
)
def test_a_schedule_for_any_length_never_waits(n_frames, overhead_s, frame_s, lag_samples, safety_factor):
    pace = real_pace(overhead_s, frame_s, safety_factor, lag_samples)
    found = solve_schedule(pace)
    assert found is not None
    assert never_waits(pace, 7 * n_frames, found)
    # One that knows the length can only be earlier.
    assert solve_schedule(pace, 7 * n_frames)[0] <= found[0]


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 200), st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(0, 9))
def test_playback_waits_where_the_rule_says_so(n_frames, chunk_frames, lag_samples):
    pace = make_pace(2, [0, 1, 1, 0, 1], lag_samples)
    played = pace.play(n_frames, chunk_frames)
    assert (played.shortest_s >= 0) == never_waits(pace, n_frames, chunk_frames)
    n_later = len(list(push_schedule(n_frames, chunk_frames, lag_frames=pace.lag_frames))) - 1
    assert (played.shortest_s == math.inf) == (n_later == 0)


def test_the_buffer_at_the_end_is_what_was_made_and_not_yet_played():
    pace = make_pace(1, [0] * 7, lag_samples=8)  # a second for a push, two frames of lag
    assert pace.play(20, (4, 8)).buffer_s == 20 - 2  # chunks of 4, 8 and 8, of which two came later
    assert pace.play(20, (4, 8)).shortest_s == 3  # four seconds less the first of these pushes
    # Ten seconds for a first push of 10 frames, and one for each of those of 8 and 2.
    assert pace.play(20, (8,), buffer_s=12.0) == Playback(shortest_s=2.0, buffer_s=12.0 - 10 + 20 - 1 - 1)
    assert pace.play(20, (8,), buffer_s=7.0) == Playback(shortest_s=-3.0, buffer_s=20.0 - 1 - 1)
    assert pace.play(0, (8,), buffer_s=1.5).buffer_s == 1.5


def test_a_sentence_of_no_frames_leaves_the_buffer_and_no_debt():
    pace = make_pace()
    assert pace.play(0, (8,)) == Playback(math.inf, 0.0)
    assert pace.play(0, (8,), buffer_s=0.5).buffer_s == 0.5
    assert pace.play(0, (8,), buffer_s=-0.5).buffer_s == 0.0


def test_nothing_is_heard_before_the_lag_is_over():
    pace = make_pace(lag_samples=6, hop_length=4)
    assert [pace.audio_s(n_pushed) for n_pushed in range(4)] == [0.0, 0.0, 0.5, 1.5]
    without = Pace(pace.costs, 4, 4)
    assert [without.audio_s(n_pushed) for n_pushed in range(3)] == [0.0, 1.0, 2.0]


def test_a_buffer_may_grow_for_long_before_the_steady_size_begins():
    # Each chunk of a frame leaves an eighth of one, and the steady chunk of 4 takes 3 frames.
    costs = PushCosts(line(0.0, 1.0), CostCurve((1, 2, 3, 4), (0.875, 3.0, 3.0, 3.0)))
    pace = Pace(costs, 4, 4, 0, 1.0)
    chunks = solve_schedule(pace, max_chunk_s=4.0)
    assert chunks == (*[1] * 17, 4)
    assert never_waits(pace, 200, chunks)


def test_a_steady_chunk_is_a_frame_at_least():
    # Two frames for the price of one would be cheaper, and are longer than asked for.
    pace = make_pace(5, [0])
    assert [steady_chunk(pace, max_chunk_s=most_s) for most_s in (0.1, 1.0, 1.9, 2.0)] == [1, 1, 1, 2]


@pytest.mark.parametrize("lag_samples", [0, 2 * 256 + 1, 9 * 256])
@pytest.mark.parametrize("costs", [(0.05, 0.0085), (0.1, 0.0095), (0.02, 0.0105)])
def test_a_last_push_that_takes_a_sliver_along_is_in_time_as_well(costs, lag_samples):
    pace = real_pace(*costs, safety_factor=1.0, lag_samples=lag_samples)
    chunks = solve_schedule(pace)
    assert all(never_waits(pace, n_frames, chunks) for n_frames in range(1, 400))
    lengths = range(pace.lag_frames + 1, 120, 4)
    assert all(never_waits(pace, n_frames, solve_schedule(pace, n_frames)) for n_frames in lengths)


@pytest.mark.parametrize(("lag_samples", "longest"), [(0, 9), (4, 8), (8, 8)])
def test_no_more_of_a_sliver_is_planned_for_than_there_can_be(lag_samples, longest):
    # Chunks of 8 take 1 frame along, which the lag may be: pushes that are longer would never be in time.
    costs = PushCosts(curve(1, [0] * 20), curve(1, [0] * (longest - 1) + [1000]))
    pace = Pace(costs, 4, 4, lag_samples, 1.0)
    assert solve_schedule(pace, max_chunk_s=8.0) == (1, 8)


def test_chunks_grow_from_little_to_the_steady_size():
    pace = real_pace()
    chunks = solve_schedule(pace)
    assert all(a <= b for a, b in pairwise(chunks))
    assert chunks[0] <= 3
    assert chunks[-1] == steady_chunk(pace)
    assert chunks[-2] < chunks[-1]
    assert 0.5 * MAX_CHUNK_S < chunks[-1] * pace.frame_s <= MAX_CHUNK_S


def test_the_first_chunk_is_the_least_that_holds_the_first_sound():
    for lag_samples in (0, 1, 256, 10774):
        pace = Pace(PushCosts(line(0.0, 1.0), line(0.0, 1.0)), 256, 22050, lag_samples)
        for silent_frames in (0.0, 0.5, 0.99, 1.0, 3.9, 4.0, 11.5):
            first = pace.first_chunk(silent_frames)
            assert pace.audio_s(first + pace.lag_frames) > silent_frames * pace.frame_s
            assert first == 1 or pace.audio_s(first - 1 + pace.lag_frames) <= silent_frames * pace.frame_s


def test_a_schedule_begins_with_what_is_asked_for_and_with_more_where_that_is_too_little():
    pace = real_pace()
    least = solve_schedule(pace)[0]
    for first_frames in (1, least, least + 1, 12, 60):
        chunks = solve_schedule(pace, first_frames=first_frames)
        assert chunks[0] == max(least, first_frames)
        assert never_waits(pace, 900, chunks)


@pytest.mark.parametrize("lead_frames", [0, 5, 6, 9, 30])
def test_the_default_never_waits_on_a_machine_of_half_the_speed(lead_frames):
    slow = real_pace(0.017, 0.0021)  # what the comment beside it promises
    first, *later = DEFAULT_CHUNK_FRAMES
    chunks = (max(first, lead_frames), *later)
    assert all(never_waits(slow, n_frames, chunks) for n_frames in range(1, 900, 7))
    slower = real_pace(0.020, 0.0024)
    assert not never_waits(slower, 900, DEFAULT_CHUNK_FRAMES)


def test_a_slower_machine_and_more_safety_ask_for_more():
    firsts = [solve_schedule(real_pace(safety_factor=factor))[0] for factor in (1, 2, 3, 4, 5)]
    assert firsts == sorted(firsts)
    assert firsts[-1] > firsts[0]


def test_just_in_time_is_in_time():
    exactly = make_pace(1, [1] * 7)  # a push takes as long as its audio
    assert solve_schedule(exactly) == (1,)
    assert solve_schedule(dataclasses.replace(exactly, safety_factor=1.01)) is None


def test_too_slow_for_any_length_is_still_enough_for_one():
    pace = real_pace(frame_s=0.02)  # not even real time
    assert solve_schedule(pace) is None
    chunks = solve_schedule(pace, 300)
    assert never_waits(pace, 300, chunks)
    assert not never_waits(pace, 300, (chunks[0] - 1, *chunks[1:]))


def test_what_is_really_given_after_the_lag_counts():
    # The lag of 4.25 frames is pushed as 5, so that a chunk of one frame gives 1.75 and its two seconds last.
    costs = PushCosts(line(0.0, 1.0), CostCurve((1,), (1.75,)))
    assert solve_schedule(Pace(costs, 4, 4, 17, 1.0), 7)[0] == 1
    assert solve_schedule(Pace(costs, 4, 4, 18, 1.0), 7)[0] == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: real_pace(safety_factor=0.9), r"safety_factor=0\.9 must be >= 1 and finite"),
        (lambda: real_pace(safety_factor=math.nan), "safety_factor=nan must be"),
        (lambda: real_pace(safety_factor=math.inf), "safety_factor=inf must be"),
        (lambda: solve_schedule(real_pace(), 0), "n_frames=0 must be >= 1"),
        (lambda: solve_schedule(real_pace(), first_frames=0), "first_frames=0 must be >= 1"),
    ],
)
def test_what_cannot_be_planned_is_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call()
