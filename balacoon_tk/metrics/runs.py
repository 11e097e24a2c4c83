"""Runs of a voice that are measured: what one run is, and how several take turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from balacoon_tk._typing import FloatArray
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics.trace import StreamTrace, TraceRecorder, record_stream

if TYPE_CHECKING:
    from balacoon_tk.frontend import EncodedSentence
    from balacoon_tk.tts import TTS

_T = TypeVar("_T")


def rotated(items: Sequence[_T], k: int) -> list[_T]:
    """Return the items beginning with the k-th, so that none always comes after the same other one."""
    first = k % len(items)
    return [*items[first:], *items[:first]]


def in_turn(
    runs: Sequence[Callable[[], _T]], *, n_rounds: int, progress: Callable[[int, int], None] | None = None
) -> list[list[_T]]:
    """Run everything once to warm up and then once a round, and return what each gave, a value a round.

    The first one moves to the end from round to round. A machine that slows down or speeds up meanwhile
    does the same to all of them, which it doesn't where one run is repeated before the next one's turn.
    `progress` hears how many of all runs are done, the warm-up among them.
    """
    if n_rounds < 1:
        raise ParameterError(f"n_rounds={n_rounds} must be >= 1")
    found: list[list[_T]] = [[] for _ in runs]
    n_done, n_runs = 0, len(runs) * (1 + n_rounds)
    for i_round in range(1 + n_rounds):
        # By number, since two runs may be the same one.
        for k in rotated(range(len(runs)), i_round) if runs else ():
            given = runs[k]()
            if i_round > 0:
                found[k].append(given)
            n_done += 1
            if progress is not None:
                progress(n_done, n_runs)
    return found


def speak(
    tts: TTS,
    text: str,
    *,
    strategy: str,
    seed: int,
    speaker: str | int | None = None,
    chunk_frames: int | Sequence[int] | None = None,
    lag_samples: int | None = None,
) -> tuple[StreamTrace, FloatArray]:
    """Stream a text to its end, and note when its chunks came; the samples are float32 (n_samples,)."""
    # The recorder comes first: its clock counts the call as well, which is where arguments are checked.
    recorder = TraceRecorder(sample_rate=tts.get_sampling_rate(), lag_samples=lag_samples)
    return record_stream(
        recorder, tts.stream(text, strategy=strategy, seed=seed, speaker=speaker, chunk_frames=chunk_frames)
    )


def first_sentence(tts: TTS, text: str) -> EncodedSentence:
    """Return the ids of the first sentence that sounds, as `TTS.stream` begins with it."""
    sentence = next(tts.encode_sentences(tts.frontend.phonemize(text)), None)
    if sentence is None:
        raise nothing_to_say("text", text)
    return sentence


def nothing_to_say(name: str, text: str) -> ParameterError:
    """Return the error for a text that no sound comes of; `name` is what the caller knows it by."""
    # Of a text as long as a chapter the beginning says which it is.
    return ParameterError(f"{name}={text[:60]!r} must hold something that can be spoken")
