"""Where the seconds of a stream go: frontend, graphs, and all that this package does itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from balacoon_tk import TTS
from balacoon_tk.runtime.session import Session
from peers.protocol import NOISE_W

_RUNS = ("run", "run_with_ort_values", "run_with_iobinding")
"""All ways in which `Session` and `Binding` run a graph: one that is missing here counts as Python's time."""


def shares(tts: TTS, text: str, *, n_rounds: int) -> dict[str, list[float]]:
    """Return where the seconds of a stream go: frontend, graphs, and all that this package does itself.

    Returns
    -------
    dict of str to list of float
        ``total``, ``frontend``, ``encoder``, ``decoder`` (runs of ONNX Runtime alone), ``rest``: seconds,
        a value a round.
    """
    found: dict[str, list[float]] = {name: [] for name in ("total", "frontend", "encoder", "decoder", "rest")}
    for k in range(n_rounds + 1):
        with _clock(tts.voice.encoder._session) as encoder, _clock(tts.voice.decoder.session) as decoder:
            start = perf_counter()
            for _ in tts.stream(text, seed=0, noise_w=NOISE_W):
                pass
            total = perf_counter() - start
        start = perf_counter()
        list(tts.frontend.phonemize(text))
        frontend = perf_counter() - start
        if k:  # the first round warms up
            row = {"total": total, "frontend": frontend, "encoder": sum(encoder), "decoder": sum(decoder)}
            row["rest"] = total - frontend - row["encoder"] - row["decoder"]
            for name, seconds in row.items():
                found[name].append(seconds)
    return found


@contextmanager
def _clock(session: Session) -> Iterator[list[float]]:
    """Note the seconds of each run of a session within ONNX Runtime, below everything of this package."""
    seconds: list[float] = []

    def timed(run: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            start = perf_counter()
            result = run(*args)
            seconds.append(perf_counter() - start)
            return result

        return call

    inner = session._session
    for name in _RUNS:
        setattr(inner, name, timed(getattr(inner, name)))
    try:
        yield seconds
    finally:
        # An attribute of the object hides the method of its class; without it the method is there again.
        for name in _RUNS:
            delattr(inner, name)
