"""streaming-vits: overlapping windows of frames, with the schedule that it calibrates for the machine.

Its decoder with a cached state can't be exported for a voice with one speaker (0.4.2 looks for a
speaker's layer in the flow), so what is measured of the default voice is what its users get for it. A voice
of two speakers (`peers.two_speakers`) has the cached decoder.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from balacoon_tk._typing import FloatArray
from peers.files import cache_folder, model_path
from peers.phonemes import offer_piper_phonemize
from peers.protocol import NOISE_SCALE, NOISE_W

_N_CALIBRATIONS = 3
"""The one that was disturbed least is taken: its schedule depends on the times of a few single runs."""


class StreamingVits:
    """`StreamingTTS.stream`, of `n_threads` threads; the first one of a number of threads is calibrated.

    Parameters
    ----------
    voice : {"default", "two speakers"}
    n_threads : int
    """

    def __init__(self, voice: str, n_threads: int) -> None:
        offer_piper_phonemize()
        from streaming_vits import Profile, StreamingTTS
        from streaming_vits.calibrate import calibrate

        folder, path = cache_folder("streaming-vits"), model_path()
        if voice == "two speakers":
            from peers.two_speakers import two_speakers_path

            folder, path = cache_folder("streaming-vits, two speakers"), two_speakers_path()
            _export_cached(path, folder)
        profile_path = folder / f"profile-{n_threads}-threads.json"

        def load(profile: Profile) -> StreamingTTS:
            return StreamingTTS(
                str(path), threads=n_threads, profile=profile, cache=str(folder), verbose=False
            )

        if not profile_path.is_file():
            tts = load(Profile())
            profiles = [
                replace(calibrate(tts, skip_margins=k > 0, verbose=False)) for k in range(_N_CALIBRATIONS)
            ]
            part = Path(f"{profile_path}.{os.getpid()}.part")
            min(profiles, key=lambda profile: profile.predicted_ttfa_ms or math.inf).save(part)
            part.replace(profile_path)
        self._tts = load(Profile.load(profile_path))
        self._scales = self._tts.scales(noise=NOISE_SCALE, length=1.0, noise_w=NOISE_W)
        self.sample_rate: int = self._tts.sample_rate

    @property
    def settings(self) -> dict[str, Any]:
        """What its calibration has found; its prebuffer is left out of TTFA."""
        profile = self._tts.profile
        return {
            "left": profile.left,
            "right": profile.right,
            "schedule": list(profile.schedule),
            "prebuffer_ms": profile.prebuffer_ms,
            "cached": self._tts.cached is not None,
        }

    def speak(self, text: str) -> Iterator[FloatArray]:
        """Give chunks of its schedule."""
        return (chunk.audio for chunk in self._tts.stream(text, scales=self._scales))

    def speak_both_ways(self, text: str) -> tuple[list[FloatArray], FloatArray]:
        """Return the chunks of frames that were drawn once, and all of those frames decoded at once."""
        ids, _ = self._tts.phoneme_ids(text)
        frames = self._tts.frontend(ids, scales=self._scales)
        # Its graph draws the noise itself, and never the same twice.
        with patch.object(self._tts, "frontend", lambda *_: frames):
            chunks = list(self.speak(text))
        return chunks, self._tts.decode_all(*frames)


def _export_cached(path: Path, folder: Path) -> None:
    """Write the graph of the decoder that carries its state, unless it is there."""
    from streaming_vits.cached import path_for
    from streaming_vits.export import export_stream
    from streaming_vits.graph import ensure_split

    out = path_for(path, folder)
    if out.is_file():
        return
    import torch

    ensure_split(path, cache=str(folder), verbose=False)
    # It names dynamic axes as torch's exporter had them before it was written anew.
    export = torch.onnx.export
    torch.onnx.export = partial(export, dynamo=False)
    try:
        part, _ = export_stream(path, f"{out}.{os.getpid()}.part", cache_dir=str(folder), verbose=False)
    finally:
        torch.onnx.export = export
    Path(part).replace(out)
