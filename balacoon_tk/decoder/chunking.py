r"""Which frames to push, to decode and to keep: integer arithmetic, without arrays or models.

A sentence of ``n_frames`` frames is *pushed* into a decoder piece by piece. The decoder's output trails
its input by a lag, because a sample depends on frames that come after it. So the first push carries the
lag on top of the first chunk, and the last push also gives back what the lag had held (here the chunk
is 4 frames, the lag 2, the sentence 13)::

    frame        0   .   .   .   4   .   .   .   8   .   .   .  12
    push 0      [0   1   2   3 : 4   5]                                  chunk + lag frames in, chunk out
    push 1                             [6   7   8   9]                   chunk in, chunk out
    push 2                                             [10 11  12]       the rest in, the rest + lag out
    audio       |--- push 0 ---|--- push 1 ---|------- push 2 -------|

The overlap strategy decodes a *window* for every push, the new frames with context around them, and trims
the samples of the context. ``lookahead`` is its lag. With 3 frames of left context::

    push 1      frames pushed before [0, 6), now [0, 10)
                        start            keep_start       keep_stop       stop
    window                1   2   3        4   5   6   7    8   9           10
                          |left context|   |--- kept ---|   |lookahead|
    samples               |-- trimmed -|   |--- kept ---|   |-trimmed-|        hop_length for each frame

At the sentence's ends there is nothing to be context, and nothing is trimmed: the decoder pads there just
as it does when it decodes the whole.
"""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from balacoon_tk.errors import ParameterError

SLIVERS_PER_CHUNK = 4  # less than a quarter of a chunk is not worth a push of its own


@dataclass(frozen=True, slots=True)
class Push:
    """The frames [start, stop) handed to a decoder in one call."""

    start: int
    stop: int
    last: bool  # whether the sentence ends here

    @property
    def n_frames(self) -> int:
        """How many frames are handed over."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Window:
    """The frames [start, stop) to decode, of which [keep_start, keep_stop) are kept; maybe none."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    @property
    def n_frames(self) -> int:
        """How many frames are decoded."""
        return self.stop - self.start

    @property
    def n_kept(self) -> int:
        """How many frames are kept; if 0, nothing needs to be decoded."""
        return self.keep_stop - self.keep_start


def push_schedule(n_frames: int, chunk_frames: int | Sequence[int], *, lag_frames: int = 0) -> Iterator[Push]:
    """Cut a sentence into pushes that each give one chunk of audio, without gaps; none without frames.

    The last number of a sequence repeats: ``(16, 32, 64)`` is early with the first sound and then works with
    larger chunks. `lag_frames` is the lookahead of an overlap decoder, or the lag of a stateful one, rounded
    up. Numbers out of range raise `ParameterError` at the call.

    Where what is left for the last push and the lag would be a sliver, less than a quarter of the chunk
    before, that chunk takes them along: a push is at most that much later than asked for, and the last audio
    is never a blip with the full cost of a push.

    Examples
    --------
    >>> [(push.start, push.stop, push.last) for push in push_schedule(13, 4, lag_frames=2)]
    [(0, 6, False), (6, 10, False), (10, 13, True)]
    """
    check_at_least(0, n_frames=n_frames, lag_frames=lag_frames)
    if not isinstance(chunk_frames, Sequence):
        check_at_least(1, chunk_frames=chunk_frames)
        return _pushes(n_frames, (chunk_frames,), lag_frames)
    sizes = tuple(chunk_frames)
    if not sizes:
        raise ParameterError(f"chunk_frames={chunk_frames!r} must have at least one number")
    check_at_least(1, **{f"chunk_frames[{i}]": size for i, size in enumerate(sizes)})
    return _pushes(n_frames, sizes, lag_frames)


def _pushes(n_frames: int, sizes: tuple[int, ...], lag_frames: int) -> Iterator[Push]:
    start = n_pushes = 0
    while start < n_frames:
        size = sizes[min(n_pushes, len(sizes) - 1)]
        stop = start + size + (lag_frames if start == 0 else 0)
        if stop >= n_frames or SLIVERS_PER_CHUNK * (n_frames - stop + lag_frames) < size:
            stop = n_frames
        yield Push(start, stop, last=stop == n_frames)
        start = stop
        n_pushes += 1


def overlap_window(n_before: int, n_after: int, last: bool, *, left_context: int, lookahead: int) -> Window:
    """Say what to decode when a push has made the frames [0, n_before) into [0, n_after).

    A frame is ready when its lookahead is there, or the sentence's end is. All that has become ready is
    kept, so that the kept frames of all pushes tile the sentence, whatever the pushes' sizes. With nothing
    ready all four numbers are equal.
    """
    check_at_least(0, n_before=n_before, left_context=left_context, lookahead=lookahead)
    if n_after < n_before:
        raise ParameterError(f"n_after={n_after} must be >= n_before={n_before}")
    keep_start = max(0, n_before - lookahead)
    keep_stop = n_after if last else max(0, n_after - lookahead)
    if keep_start == keep_stop:
        return Window(keep_start, keep_start, keep_start, keep_start)
    return Window(max(0, keep_start - left_context), n_after, keep_start, keep_stop)


def overlap_windows(
    n_frames: int, chunk_frames: int | Sequence[int], *, left_context: int, lookahead: int
) -> Iterator[Window]:
    """Plan the windows of a sentence whose frames are all there: that of each push of `push_schedule`.

    Examples
    --------
    >>> [(w.start, w.keep_start, w.keep_stop, w.stop)
    ...  for w in overlap_windows(13, 4, left_context=3, lookahead=2)]
    [(0, 0, 4, 6), (1, 4, 8, 10), (5, 8, 13, 13)]
    """
    check_at_least(0, left_context=left_context, lookahead=lookahead)
    pushes = push_schedule(n_frames, chunk_frames, lag_frames=lookahead)
    return (
        overlap_window(push.start, push.stop, push.last, left_context=left_context, lookahead=lookahead)
        for push in pushes
    )


def check_at_least(least: int, **counts: int) -> None:
    """Refuse a number that is too small, by its name, and what is no integer."""
    for name, count in counts.items():
        if operator.index(count) < least:
            raise ParameterError(f"{name}={count} must be >= {least}")
