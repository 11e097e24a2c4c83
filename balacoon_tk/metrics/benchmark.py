"""How fast one voice is on this machine: each stage alone, and text to sound by each strategy."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics.compare import Comparison, compare
from balacoon_tk.stages.encoder import Encoding
from balacoon_tk.stages.random import noise_stream
from balacoon_tk.stages.upsampler import Upsampler

if TYPE_CHECKING:
    from balacoon_tk.tts import TTS

BENCHMARK_TEXT = "We walked along the river until it was dark, and the boats were all tied up for the night."
"""What is spoken where no text is given: one sentence of about five seconds."""

_MS = 1e3


@dataclass(frozen=True, slots=True)
class VoiceSpeed:
    """What `benchmark_voice` found; times are medians over the rounds."""

    n_phonemes: int
    """Ids that the encoder got for the first sentence."""
    n_rounds: int
    stages_s: dict[str, float]
    """Seconds of frontend, encoder and upsampler for the first sentence."""
    comparison: Comparison
    """All of the text, by each strategy."""

    def to_dict(self) -> dict[str, object]:
        """Return what ``balacoon-tk bench --json`` prints."""
        own = {"n_phonemes": self.n_phonemes, "n_rounds": self.n_rounds, "stages_s": self.stages_s}
        return own | self.comparison.to_dict()

    def table(self) -> str:
        """Return the figures as lines of text: a stage each, then a strategy each."""
        stages = [f"{name:<12}{_MS * seconds:>10.2f} ms" for name, seconds in self.stages_s.items()]
        return "\n".join([*stages, "", self.comparison.table()])


def benchmark_voice(
    tts: TTS,
    text: str = BENCHMARK_TEXT,
    *,
    n_rounds: int = 5,
    seed: int = 0,
    speaker: str | int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VoiceSpeed:
    """Measure how fast a voice speaks a text; everything runs once before, uncounted, and then in turn.

    Parameters
    ----------
    tts : TTS
        Speaks, on the number of threads that it was made with.
    text : str
        What to say.
    n_rounds : int
        How often each is timed, >= 1.
    seed : int
        Seed of every run.
    speaker : str or int, optional
        The first one if None.
    progress : callable, optional
        Called with the number of runs done and of all runs, those of the stages not counted.

    Raises
    ------
    ParameterError
        If there is nothing to say in the text, or `n_rounds` is less than 1.
    """
    if n_rounds < 1:
        raise ParameterError(f"n_rounds={n_rounds} must be >= 1")
    voice, prosody = tts.voice, tts.voice.manifest.prosody
    sentence = next(tts.frontend.phonemize(text), None)
    if sentence is None:
        raise ParameterError(f"text={text[:60]!r} must hold something that can be spoken")
    phoneme_ids = tts.phoneme_map.encode(sentence.phonemes).phoneme_ids

    def encode() -> Encoding:
        return voice.encoder.encode(
            phoneme_ids,
            length_scale=prosody.length_scale,
            noise_w=prosody.noise_w,
            speaker_id=voice.speaker_id(speaker),
            seed=seed,
            stream=noise_stream(0, "durations"),
        )

    encoding = encode()

    def expand() -> None:
        frames = Upsampler(
            encoding.encodings,
            encoding.durations,
            log_scales=encoding.log_scales,
            noise_scale=prosody.noise_scale,
            seed=seed,
            stream=noise_stream(0, "frames"),
            gaussian_delta=voice.manifest.gaussian_delta,
        )
        frames.window(0, frames.n_frames)

    expand()
    stages: dict[str, Callable[[], object]] = {
        "frontend": lambda: next(tts.frontend.phonemize(text)),
        "encoder": encode,
        "upsampler": expand,
    }
    seconds: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(n_rounds):
        for name, run in stages.items():
            start = perf_counter()
            run()
            seconds[name].append(perf_counter() - start)
    return VoiceSpeed(
        n_phonemes=len(phoneme_ids),
        n_rounds=n_rounds,
        stages_s={name: statistics.median(found) for name, found in seconds.items()},
        comparison=compare(tts, text, n_rounds=n_rounds, seed=seed, speaker=speaker, progress=progress),
    )
