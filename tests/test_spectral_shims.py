"""Modules of torch that compute with complex numbers: in real ones they give the same, export, and stream."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from balacoon_tk.errors import ModelError
from balacoon_tk.export import export_decoder
from balacoon_tk.runtime.session import Session
from balacoon_tk.voice import load_vocoder
from streaming_laws import assert_streams

torch = pytest.importorskip("torch", reason='needs pip install "balacoon_tk[export]"')

from torch.nn import functional  # noqa: E402 - behind the check that torch is there

from balacoon_tk.export.sources.complex_pairs import ComplexPair  # noqa: E402
from balacoon_tk.export.sources.spectral_shims import RealTransforms  # noqa: E402
from balacoon_tk.export.sources.torch_graph import quiet_torch, trace  # noqa: E402
from families.spectral import N_MELS, HarmonicHiFTNet, HiFTNet, MultiBandIstft, Vocos  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

HANN, SHORT = torch.hann_window(16), torch.hann_window(12)
X, Y = torch.randn(2, 3, 9, 7, generator=torch.Generator().manual_seed(0)).unbind()
SIGNAL = torch.randn(2, 50, generator=torch.Generator().manual_seed(1))
CONSTANT = torch.complex(Y, X)
FOLD = {"kernel_size": (1, 9), "stride": (1, 2)}


def z():
    return torch.complex(X, Y)


SAME = {
    "istft": lambda: torch.istft(X.abs() * (torch.cos(Y) + 1j * torch.sin(Y)), 16, 4, 16, HANN),
    "istft, short window": lambda: torch.istft(X * torch.exp(1j * Y), 16, 4, 12, SHORT),
    "istft, defaults": lambda: torch.istft(z(), 16),
    "arguments by name": lambda: torch.istft(input=z(), n_fft=16, window=HANN) + torch.abs(input=z()).sum(),
    "istft of one": lambda: torch.istft(z()[0], 16, 4, window=HANN),
    "istft to a length": lambda: torch.istft(z(), 16, 4, window=HANN, length=22, normalized=True),
    "istft to a longer length": lambda: torch.istft(z(), 16, 4, window=HANN, length=33),
    "istft that keeps its ends": lambda: torch.istft(z(), 16, 4, window=torch.ones(16), center=False),
    "istft of an odd size": lambda: torch.istft(z()[:, :8], 15, 4, window=torch.hann_window(15)),
    "stft": lambda: torch.stft(SIGNAL, 16, 4, 16, HANN, return_complex=True),
    "stft, zeros at the ends": lambda: torch.stft(
        SIGNAL, 16, 4, window=HANN, pad_mode="constant", normalized=True, return_complex=True),
    "stft without ends": lambda: torch.stft(SIGNAL, 16, 4, 12, SHORT, center=False, return_complex=True),
    "stft of one, as magnitudes": lambda: torch.stft(SIGNAL[0], 16, window=HANN, return_complex=True).abs(),
    **{
        f"{name} {norm} {axis}": lambda name=name, norm=norm, axis=axis: TRANSFORMS[name](axis, norm)
        for name in ("irfft", "irfft, more", "irfft, fewer", "rfft", "rfft, more", "rfft, fewer")
        for norm, axis in ((None, -1), ("ortho", 1), ("forward", 0))
    },
    "fold of a row": lambda: functional.fold(X, (1, 21), **FOLD),
    "fold of a column": lambda: functional.fold(X, (20, 1), (3, 1), stride=(3, 1), padding=(1, 0)),
    "arithmetic": lambda: (z() * (2 - 1j) + 3) / (CONSTANT + 1j) - 1j * X - (1 - X) * 1j,
    "arithmetic from the right": lambda: X - 2 / (1j - z()) + X / z() - CONSTANT.conj(),
    "parts": lambda: torch.angle(z()) * z().real + torch.imag(-z()) + abs(z()),
    "shapes": lambda: torch.cat([z().transpose(1, 2)[:, :3], X.mT[:, :1] * 1j], 1).flatten(1).sum(1),
    "a shape that is given": lambda: z().reshape((*X.shape[:2], 1, -1)).expand(3, 9, 2, 7)[:, ..., 0],
    "pairs": lambda: torch.view_as_complex(torch.stack([X, Y], 3)).chunk(3)[1] + X[1:2].to(CONSTANT.dtype),
    "turns": lambda: torch.view_as_real(torch.polar(torch.ones_like(X), Y) * CONSTANT),
    "products": lambda: z().transpose(1, 2) @ CONSTANT + torch.matmul(CONSTANT.transpose(1, 2), z()),
    "parts of other shapes": lambda: X + 1j * Y[:, :1],
    "real numbers alone": lambda: torch.softmax(X, 1),
}  # fmt: skip

TRANSFORMS = {
    "irfft": lambda axis, norm: torch.fft.irfft(z(), None, axis, norm),
    "irfft, more": lambda axis, norm: torch.fft.irfft(z(), 20, axis, norm),
    "irfft, fewer": lambda axis, norm: torch.fft.irfft(z(), 4, axis, norm),
    "rfft": lambda axis, norm: torch.fft.rfft(X, None, axis, norm),
    "rfft, more": lambda axis, norm: torch.fft.rfft(X, 12, axis, norm),
    "rfft, fewer": lambda axis, norm: torch.fft.rfft(X, 2, axis, norm),
}


@pytest.mark.parametrize("name", SAME)
def test_in_real_numbers_it_is_the_same(name):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is shorter than|.*window was not provided|.*rectangular")
        expected = SAME[name]()
        with RealTransforms():
            found = SAME[name]()
    if isinstance(found, ComplexPair):
        assert found.dtype == expected.dtype
        found = torch.complex(found.real, found.imag)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert float((found - expected).abs().max()) <= 1e-6 * float(expected.abs().max())


REFUSED = {
    "fft_ifft": lambda: torch.fft.ifft(z()),
    "sqrt": lambda: torch.sqrt(z()),
    "as a real one": lambda: z().to(torch.float32),
    "istft of 17 bins": lambda: torch.istft(torch.cat([z(), z()[:, 1:]], 1), 16, 4, window=HANN),
    "stft": lambda: torch.stft(SIGNAL, 16, 4, window=HANN, onesided=False, return_complex=True),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_real_form_is_named(name):
    with RealTransforms(), pytest.raises(ModelError, match=name):
        REFUSED[name]()


def export(module, *, with_source=False):
    """The graph of a module, which must say the same at lengths that it was not traced at."""
    inputs, axes = {"mel": torch.randn(1, N_MELS, 16)}, {"mel": {2: "n_frames"}, "samples": {1: "n_samples"}}
    if with_source:
        inputs["source"], axes["source"] = torch.randn(1, 1, 256), {2: "n_source"}
    with quiet_torch("a test"):
        proto = trace(module.eval(), inputs, axes=axes, outputs=["samples"], what="a test")
        session = Session(proto)
        for n_frames in (5, 19, 40):
            given = {"mel": torch.randn(1, N_MELS, n_frames)}
            given |= {"source": torch.randn(1, 1, 16 * n_frames)} if with_source else {}
            expected = module(*given.values()).numpy()
            (found,) = session.run({name: tensor.numpy() for name, tensor in given.items()}).values()
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    return proto


DECODERS = {
    "Vocos": lambda: Vocos("center"),
    "Vocos, same": lambda: Vocos("same"),
    "Vocos, to a length": lambda: Vocos("to a length"),
    "WavTokenizer": lambda: Vocos("same", phase="polar", n_fft=20),
    "Vocos, exponential": lambda: Vocos("center", phase="exp"),
    "Vocos, pairs": lambda: Vocos("same", phase="pairs"),
    "iSTFTNet": lambda: HiFTNet(with_source=False),
    "HiFTNet": lambda: HiFTNet(with_source=True),
    "HiFTNet with its source": HarmonicHiFTNet,
    "MB-iSTFT-VITS": MultiBandIstft,
}


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_of_spectra_is_exported_and_streams(name):
    torch.manual_seed(0)
    model = export(DECODERS[name](), with_source=name == "HiFTNet")
    assert_streams(model, tolerance=1e-5)


# Not those that centre their frames: of a single one nothing is left, which ONNX Runtime refuses to give.
@pytest.mark.parametrize("name", ["Vocos, same", "iSTFTNet", "HiFTNet"])
def test_a_decoder_of_spectra_streams_after_all_passes(name):
    torch.manual_seed(0)
    model = export(DECODERS[name](), with_source=name == "HiFTNet")
    assert_streams(model, tolerance=1e-5, optimize=True)


@pytest.mark.parametrize("name", ["Vocos", "iSTFTNet"])
def test_the_newer_exporter_s_program_has_no_complex_numbers(name):
    torch.manual_seed(0)
    module, mel = DECODERS[name]().eval(), torch.randn(1, N_MELS, 21)
    example = torch.randn(1, N_MELS, 16)
    with quiet_torch("a test"), RealTransforms():
        shapes = ({2: torch.export.Dim("n_frames", min=8, max=4096)},)
        program = torch.export.export(module, (example,), dynamic_shapes=shapes)
    values = [node.meta.get("val") for node in program.graph.nodes]
    assert not any(isinstance(value, torch.Tensor) and value.is_complex() for value in values)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(mel), module(mel), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["wavtokenizer", "xcodec2", "neucodec"])
def test_the_heads_of_published_codecs_stream(name):
    models = pytest.importorskip(
        f"transformers.models.{name}.modeling_{name}", reason='needs pip install "balacoon_tk[export]"'
    )
    (head,) = (kind for kind in vars(models).values() if getattr(kind, "__name__", "").endswith("ISTFTHead"))
    torch.manual_seed(0)
    module = head(SimpleNamespace(hidden_size=6, decoder_hidden_size=6, n_fft=16, hop_length=4)).eval()
    with quiet_torch("a test"):
        proto = trace(
            module,
            {"hidden": torch.randn(1, 16, 6)},
            axes={"hidden": {1: "n_frames"}, "samples": {2: "n_samples"}},
            outputs=["samples"],
            what="a test",
        )
        hidden = torch.randn(1, 23, 6)
        (found,) = Session(proto).run({"hidden": hidden.numpy()}).values()
        np.testing.assert_allclose(found, module(hidden).numpy(), rtol=0, atol=1e-5)
    assert_streams(proto, tolerance=1e-5)


def test_a_vocoder_of_spectra_becomes_a_voice_that_streams(tmp_path):
    torch.manual_seed(0)
    example = torch.randn(N_MELS, 40).numpy()
    export_decoder(Vocos("same"), example, tmp_path / "vocos", sample_rate=8000, mel=None)
    vocoder = load_vocoder(tmp_path / "vocos", n_threads=1)
    frames = np.random.default_rng(0).standard_normal((N_MELS, 53), np.float32)
    (whole,) = (chunk.samples for chunk in vocoder.decode(frames, strategy="full"))
    for chunk_frames in (1, 3, 7, 32):
        chunks = vocoder.decode(frames, chunk_frames=chunk_frames, strategy="stateful")
        streamed = np.concatenate([chunk.samples for chunk in chunks])
        np.testing.assert_allclose(streamed, whole, rtol=0, atol=1e-5 * np.abs(whole).max())


class Unfolding(torch.nn.Module):
    """Windows of a signal, as columns."""

    def __init__(self, padding: int, dilation: int, stride: int):
        super().__init__()
        self.pre = torch.nn.Conv1d(N_MELS, 3, 3, padding=1)
        self.post = torch.nn.Conv1d(15, 2, 3, padding=1)
        self.sizes = {"stride": (1, stride), "padding": (0, padding), "dilation": (1, dilation)}

    def forward(self, mel):
        windows = functional.unfold(self.pre(mel)[:, :, None], (1, 5), **self.sizes)
        return self.post(windows)[:, 0]


class Scattering(torch.nn.Module):
    """Frames added up by an operator that has no time."""

    def __init__(self):
        super().__init__()
        self.pre = torch.nn.Conv1d(N_MELS, 8, 3, padding=1)

    def forward(self, mel):
        frames = self.pre(mel).transpose(1, 2)
        n_frames = frames.shape[1]
        places = torch.arange(n_frames)[:, None] * 4 + torch.arange(8)[None]
        zeros = torch.zeros(1, (n_frames - 1) * 4 + 8)
        return zeros.scatter_add(1, places.reshape(1, -1), frames.reshape(1, -1))


@pytest.mark.parametrize("sizes", [(0, 1, 1), (2, 1, 1), (4, 2, 3)])
def test_windows_of_a_signal_stream_as_the_exporter_writes_them(sizes):
    torch.manual_seed(0)
    assert_streams(export(Unfolding(*sizes)), tolerance=1e-5)


def test_scattered_frames_stream_as_the_exporter_writes_them():
    torch.manual_seed(0)
    assert_streams(export(Scattering()), tolerance=1e-5)
