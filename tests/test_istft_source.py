"""Vocoders that give spectra get their inverse Fourier transform, which is torch's, and stream."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from balacoon_tk.errors import ModelError, VoiceError
from balacoon_tk.export import export_voice
from balacoon_tk.export.sources.istft import IstftInfo, istft
from balacoon_tk.voice import load_vocoder

N_MELS, N_FFT, HOP_LENGTH = 5, 16, 4
N_BINS = N_FFT // 2 + 1
FRAMES = np.random.default_rng(0).standard_normal((N_MELS, 53), np.float32)


def spectral_model(n_outputs=3):
    """Build a vocoder's backbone: a convolution, then magnitudes and phases, or the two parts."""
    rng = np.random.default_rng(1)
    nodes, names = [], []
    tensors = [numpy_helper.from_array(np.array(0.03, np.float32), "quiet")]
    for k, op_type in enumerate(["Exp", "Cos", "Sin"][3 - n_outputs :]):
        weight = numpy_helper.from_array(
            rng.standard_normal((N_BINS, N_MELS, 3)).astype(np.float32), f"weight_{k}"
        )
        tensors.append(weight)
        nodes += [
            helper.make_node("Conv", ["mels", f"weight_{k}"], [f"wide_{k}"], pads=[1, 1]),
            helper.make_node("Mul", [f"wide_{k}", "quiet"], [f"small_{k}"]),
            helper.make_node(op_type, [f"small_{k}"], [f"part_{k}"]),
        ]
        names.append(f"part_{k}")
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "backbone",
        [info("mels", TensorProto.FLOAT, ["batch", N_MELS, "time"])],
        [info(name, TensorProto.FLOAT, ["batch", N_BINS, "time"]) for name in names],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def write_spectral(folder, model, **istft):
    onnx.save(model, folder / "vocos.onnx")
    settings = {"n_fft": N_FFT, "win_length": N_FFT, "hop_length": HOP_LENGTH, "padding": "center"} | istft
    said = {"sample_rate": 1000, "n_channels": N_MELS, "istft": settings}
    (folder / "vocos.onnx.json").write_text(json.dumps(said))
    return folder / "vocos.onnx"


@pytest.mark.parametrize("n_outputs", [2, 3])
@pytest.mark.parametrize("padding", ["same", "center"])
@pytest.mark.parametrize("win_length", [16, 12])
def test_spectra_become_samples_that_stream(tmp_path, n_outputs, padding, win_length):
    source = write_spectral(tmp_path, spectral_model(n_outputs), padding=padding, win_length=win_length)
    vocoder = load_vocoder(export_voice(source, tmp_path / "out"), n_threads=1)
    assert (vocoder.manifest.hop_length, vocoder.strategies[-1]) == (HOP_LENGTH, "stateful")
    whole = np.concatenate([chunk.samples for chunk in vocoder.decode(FRAMES, strategy="full")])
    assert whole.shape == (53 * HOP_LENGTH,)
    for sizes in (1, 7, (3, 20)):
        streamed = np.concatenate([chunk.samples for chunk in vocoder.decode(FRAMES, chunk_frames=sizes)])
        np.testing.assert_allclose(streamed, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("win_length", [16, 12])
def test_the_transform_that_it_is_compared_with_is_torch_s(win_length):
    torch = pytest.importorskip("torch", reason='needs pip install "balacoon_tk[export]"')
    real, imaginary = np.random.default_rng(2).standard_normal((2, 1, N_BINS, 20)).astype(np.float32)
    expected = torch.istft(
        torch.complex(torch.from_numpy(real), torch.from_numpy(imaginary)),
        N_FFT,
        HOP_LENGTH,
        win_length,
        torch.hann_window(win_length),
        center=True,
        length=20 * HOP_LENGTH,
    )
    found = istft([real, imaginary], IstftInfo(N_FFT, win_length, HOP_LENGTH, "center"))
    np.testing.assert_allclose(found, expected[0].numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_fft": 15}, r"istft\.win_length=16 must be <= n_fft=15|n_fft=15 must be even"),
        ({"hop_length": 9}, r"istft\.hop_length=9 must be at most half of win_length=16"),
        ({"padding": "valid"}, r"istft\.padding='valid' must be one of same, center"),
    ],
)
def test_a_transform_that_can_not_be_is_named(tmp_path, changes, message):
    with pytest.raises(VoiceError, match=message):
        export_voice(write_spectral(tmp_path, spectral_model(), **changes), tmp_path / "out")


def test_a_graph_that_gives_samples_needs_no_transform(tmp_path):
    model = spectral_model()
    del model.graph.output[1:]
    with pytest.raises(ModelError, match=r"istft needs real and imaginary parts, .*; the graph gives part_0"):
        export_voice(write_spectral(tmp_path, model), tmp_path / "out")
