"""One sentence before its decoder: encoded, and ready to give any of its frames."""

from __future__ import annotations

from dataclasses import dataclass

from balacoon_tk._typing import FloatArray
from balacoon_tk.frontend.phoneme_map import EncodedSentence
from balacoon_tk.stages.random import noise_stream
from balacoon_tk.stages.settings import Settings
from balacoon_tk.stages.upsampler import Upsampler
from balacoon_tk.voice.voice import Voice


@dataclass(frozen=True, slots=True, eq=False)
class PreparedSentence:
    """All that the decoder and the timeline need of a sentence."""

    encoded: EncodedSentence
    upsampler: Upsampler
    """Gives the frames."""
    speaker_embedding: FloatArray | None
    """As the encoder gave it."""

    @property
    def lead_frames(self) -> int:
        """Frames before the first phoneme that sounds: the silence that a sentence begins with."""
        first = self.encoded.first_spoken
        return 0 if first is None else int(self.upsampler.phoneme_starts[self.encoded.id_starts[first]])


def prepare_sentence(
    voice: Voice, encoded: EncodedSentence, settings: Settings, *, index: int
) -> PreparedSentence:
    """Encode a sentence, and set its frames up.

    Parameters
    ----------
    voice : Voice
    encoded : EncodedSentence
        Its ids.
    settings : Settings
        Speaker, prosody and seed.
    index : int
        Number of the sentence in its text, which chooses its noise.

    Raises
    ------
    ModelError
        If the encoder fails, or gives durations or encodings that can't be.
    """
    encoding = voice.encoder.encode(
        encoded.phoneme_ids,
        length_scale=settings.prosody.length_scale,
        noise_w=settings.prosody.noise_w,
        speaker_id=settings.speaker_id,
        seed=settings.seed,
        stream=noise_stream(index, "durations"),
    )
    upsampler = Upsampler(
        encoding.encodings,
        encoding.durations,
        log_scales=encoding.log_scales,
        noise_scale=settings.prosody.noise_scale,
        seed=settings.seed,
        stream=noise_stream(index, "frames"),
        gaussian_delta=voice.manifest.gaussian_delta,
    )
    return PreparedSentence(encoded, upsampler, encoding.speaker_embedding)
