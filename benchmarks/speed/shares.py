"""Where the seconds of a stream go: frontend, graphs, and all that this package does itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
from typing import Any

from balacoon_tk import TTS
from balacoon_tk.runtime.engine import Engine
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session
from balacoon_tk.stages.encoder import Encoder
from peers.protocol import NOISE_W

_STEPS = ("whole", "step")
"""What another engine is asked for; its Python counts as its own time."""
_RUNS = ("run", "run_with_ort_values", "run_with_iobinding")
"""All ways in which `Session` and `Binding` run a graph: one that is missing here counts as Python's time."""


def shares(tts: TTS, text: str, *, n_rounds: int) -> dict[str, list[float]]:
    """Return where the seconds of a stream go: frontend, graphs, and all that this package does itself.

    Returns
    -------
    dict of str to list of float
        ``total``, ``frontend``, ``encoder``, ``decoder`` (runs of the engines alone), ``rest``: seconds,
        a value a round.
    """
    found: dict[str, list[float]] = {name: [] for name in ("total", "frontend", "encoder", "decoder", "rest")}
    for k in range(n_rounds + 1):
        with (
            _clock_encoder(tts.voice.encoder) as encoder,
            _clock_decoder(tts.voice.decoder) as decoder,
        ):
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


def _clock_encoder(encoder: Encoder) -> AbstractContextManager[list[float]]:
    session = encoder._session
    return _clock(session._session, _RUNS) if isinstance(session, Session) else _clock(session, ("run",))


def _clock_decoder(engine: Engine) -> AbstractContextManager[list[float]]:
    # Within ONNX Runtime, below everything of this package.
    return _clock(engine.session._session, _RUNS) if isinstance(engine, OrtEngine) else _clock(engine, _STEPS)


@contextmanager
def _clock(inner: Any, names: Sequence[str]) -> Iterator[list[float]]:
    """Note the seconds of each call of some methods."""
    seconds: list[float] = []

    def timed(run: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            start = perf_counter()
            result = run(*args, **named)
            seconds.append(perf_counter() - start)
            return result

        return call

    for name in names:
        setattr(inner, name, timed(getattr(inner, name)))
    try:
        yield seconds
    finally:
        # An attribute of the object hides the method of its class; without it the method is there again.
        for name in names:
            delattr(inner, name)
