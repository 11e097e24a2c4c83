"""Any decoder of torch in one call: what comes out says the same at every length, or it says why it can't."""

import numpy as np
import pytest

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export import export_decoder
from balacoon_tk.export.sources import torch_exporters
from balacoon_tk.export.sources.torch_exporters import EXPORTERS
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets import choice
from balacoon_tk.voice import load_vocoder
from balacoon_tk.voice.manifest import Manifest
from streaming_laws import assert_streams

torch = pytest.importorskip("torch", reason='needs pip install "balacoon_tk[export]"')

N_CODEBOOKS, CODEBOOK_SIZE, HOP_LENGTH = 3, 11, 4
RNG = np.random.default_rng(0)
CODES = RNG.integers(0, CODEBOOK_SIZE, (N_CODEBOOKS, 60))


class Codec(torch.nn.Module):
    """Residual codebooks and a small decoder."""

    def __init__(self):
        super().__init__()
        self.codebooks = torch.nn.ModuleList(torch.nn.Embedding(CODEBOOK_SIZE, 6) for _ in range(N_CODEBOOKS))
        self.decoder = torch.nn.Sequential(
            torch.nn.Conv1d(6, 6, 5, padding=2),
            torch.nn.ELU(),
            torch.nn.ConvTranspose1d(6, 4, 2 * HOP_LENGTH, stride=HOP_LENGTH, padding=HOP_LENGTH // 2),
            torch.nn.Conv1d(4, 1, 3, padding=1),
        )

    def latents(self, codes):
        return sum(table(codes[:, k]).transpose(1, 2) for k, table in enumerate(self.codebooks))

    def forward(self, codes):
        return torch.tanh(self.decoder(self.latents(codes)))


class Attends(Codec):
    """The same behind attention over the whole utterance."""

    def forward(self, codes):
        x = self.latents(codes)
        seen = torch.softmax(x.transpose(1, 2) @ x, dim=-1)
        return torch.tanh(self.decoder(x + 0.01 * (seen @ x.transpose(1, 2)).transpose(1, 2)))


class LooksBack(Codec):
    """The same behind causal attention without a window."""

    def forward(self, codes):
        x = self.latents(codes).transpose(1, 2)[:, None]
        seen = torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
        return torch.tanh(self.decoder((x + seen)[:, 0].transpose(1, 2)))


class SeveralRates(torch.nn.Module):
    """Codes at three rates, as SNAC has them, noise for every sample of the middle one, and a speaker."""

    def __init__(self):
        super().__init__()
        self.tables = torch.nn.ModuleList(torch.nn.Embedding(CODEBOOK_SIZE, 4) for _ in range(3))
        self.up = torch.nn.ConvTranspose1d(4, 1, 4, stride=2, padding=1)

    def forward(self, coarse, middle, fine, noise, speaker):
        x = sum(
            table(codes).transpose(1, 2).repeat_interleave(4 // 2**k, dim=2)
            for k, (table, codes) in enumerate(zip(self.tables, (coarse, middle, fine), strict=True))
        )
        return self.up(x + noise.repeat_interleave(2, dim=2) + speaker[:, :, None])


def rates(n_frames=12):
    codes = [RNG.integers(0, CODEBOOK_SIZE, (1, n_frames * 2**k)) for k in range(3)]
    return {
        **dict(zip(("coarse", "middle", "fine"), codes, strict=True)),
        "noise": RNG.standard_normal((1, 1, 2 * n_frames)).astype(np.float32),
        "speaker": RNG.standard_normal((1, 4)).astype(np.float32),
    }


TIME_AXES = {"coarse": 1, "middle": 1, "fine": 1, "noise": -1}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def in_torch(module, *arrays):
    with torch.no_grad():
        return module.eval()(*map(torch.from_numpy, arrays)).numpy()


# --- graphs


def test_a_decoder_of_codes_is_a_graph_that_streams():
    module = Codec()
    model = export_decoder(module, CODES)
    samples = Session(model).run({"frames": CODES[None]})["samples"]
    np.testing.assert_allclose(samples, in_torch(module, CODES[None]), rtol=0, atol=1e-6)
    assert_streams(model)


def test_several_inputs_at_several_rates_are_one_graph():
    module, example = SeveralRates(), rates()
    model = export_decoder(module, example, time_axes=TIME_AXES)
    assert [value.name for value in model.graph.input] == list(example)
    for n_frames in (1, 7, 50):
        feeds = rates(n_frames)
        samples = Session(model).run(feeds)["samples"]
        np.testing.assert_allclose(samples, in_torch(module, *feeds.values()), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("time_axes", "message"),
    [
        ({"fine": 2}, r"time_axes\['fine'\]=2 must be an axis of a tensor of rank 2"),
        ({"finest": 1}, "time_axes names 'finest': the inputs are coarse, middle"),
        ({}, "must name at least one input"),
    ],
)
def test_time_axes_that_do_not_fit_are_refused(time_axes, message):
    with pytest.raises(ParameterError, match=message):
        export_decoder(SeveralRates(), rates(), time_axes=time_axes)


def test_a_length_that_python_froze_names_input_and_axis():
    class Freezes(Codec):
        def forward(self, codes):
            # What tracing sees is a constant as long as the example.
            return super().forward(codes) + torch.zeros(1, 1, int(codes.shape[-1]) * HOP_LENGTH)

    message = r"19 frames run in torch and not in ONNX: .* froze axis 2 of 'frames' at 16 steps"
    with pytest.raises(ModelError, match=message):
        export_decoder(Freezes(), CODES, exporter="torchscript")
    # The other exporter keeps such a length as a symbol.
    assert_streams(export_decoder(Freezes(), CODES), plans=("planned",))


def test_the_next_exporter_is_tried_and_if_none_is_right_all_are_heard(monkeypatch):
    def fails(*_):
        raise ModelError("no such operator")

    by_tracing = EXPORTERS["torchscript"]
    monkeypatch.setattr(torch_exporters, "EXPORTERS", {"torchscript": fails, "dynamo": by_tracing})
    assert export_decoder(Codec(), CODES).graph.output[0].name == "samples"
    with pytest.raises(ModelError, match=r"^no such operator"):
        export_decoder(Codec(), CODES, exporter="torchscript")
    monkeypatch.setattr(torch_exporters, "EXPORTERS", {"torchscript": fails, "dynamo": fails})
    with pytest.raises(ModelError, match=r"Codec: none of .* torchscript: no such operator; dynamo: no such"):
        export_decoder(Codec(), CODES)


def test_an_operator_that_onnx_lacks_is_one_sentence_and_nothing_is_printed(capsys):
    class Solves(Codec):
        def forward(self, codes):
            x = self.latents(codes)
            return torch.linalg.solve(torch.eye(6)[None], x)[:, :1]

    with pytest.raises(ModelError, match="torch can't export Solves to ONNX") as caught:
        export_decoder(Solves(), CODES)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


# --- voices


def write(module, folder, **options):
    settings = {"sample_rate": 1000, "codebook_size": CODEBOOK_SIZE, **options}
    return load_vocoder(export_decoder(module, CODES, folder, **settings), n_threads=1)


def decoded(voice, strategy):
    return np.concatenate([c.samples for c in voice.decode(CODES, strategy=strategy, chunk_frames=7)])


def test_a_codec_is_a_voice_whose_frames_are_codes(tmp_path):
    module = Codec()
    voice = write(module, tmp_path / "codec")
    manifest = voice.manifest
    assert (manifest.codebook_size, manifest.n_channels) == (CODEBOOK_SIZE, N_CODEBOOKS)
    assert (manifest.hop_length, manifest.frame_dtype) == (HOP_LENGTH, np.int64)
    assert Manifest.from_json(manifest.to_json()) == manifest
    expected = in_torch(module, CODES[None]).reshape(-1)
    assert voice.choose_strategy(None) == "stateful"
    with pytest.raises(ParameterError, match="exported without its encoder"):
        voice.resynthesize(np.zeros(100, np.float32), sample_rate=1000)
    for strategy in ("full", "overlap", "stateful"):
        np.testing.assert_allclose(decoded(voice, strategy), expected, rtol=0, atol=1e-6)


def test_codes_that_no_codebook_has_are_refused_at_the_call(tmp_path):
    voice = write(Codec(), tmp_path / "codec")
    for wrong, message in (
        (CODES.astype(np.float32), "float32 must be .3, n_frames., int64"),
        (CODES - 1, r"codes from -1 to 9: must be in \[0, 11\)"),
        (CODES + 1, r"codes from 1 to 11: must be in \[0, 11\)"),
        (CODES[:2], r"frames of shape \(2, 60\)"),
    ):
        with pytest.raises(ParameterError, match=message):
            voice.decode(wrong)


def test_a_decoder_that_needs_the_whole_utterance_is_a_voice_all_the_same(tmp_path):
    module = Attends()
    voice = write(module, tmp_path / "codec")
    manifest = voice.manifest
    assert "every step meets every other" in (manifest.decoder.not_streamable or "")
    assert voice.strategies == ("full", "overlap")
    expected = in_torch(module, CODES[None]).reshape(-1)
    np.testing.assert_allclose(decoded(voice, "full"), expected, rtol=0, atol=1e-6)
    by_overlap = np.abs(decoded(voice, "overlap") - expected).max()
    # What overlap loses is in the manifest, measured on other codes.
    assert 0 < manifest.verified["overlap"] < 0.1
    assert by_overlap <= 10 * manifest.verified["overlap"]
    with pytest.raises(ParameterError, match="can't be streamed exactly"):
        voice.choose_strategy("stateful")


@pytest.mark.parametrize("max_frames", [25, 200])
def test_a_codec_that_looks_back_streams_up_to_its_longest_utterance(tmp_path, max_frames, monkeypatch):
    module = LooksBack()
    voice = write(module, tmp_path / "codec", max_frames=max_frames)
    decoder = voice.manifest.decoder
    assert (decoder.max_frames, decoder.not_streamable) == (max_frames, None)

    def assert_limited(voice):
        codes = CODES[:, :max_frames]
        expected = in_torch(module, codes[None]).reshape(-1)
        for chunk_frames in (1, 7, max_frames):
            chunks = voice.decode(codes, strategy="stateful", chunk_frames=chunk_frames)
            samples = np.concatenate([chunk.samples for chunk in chunks])
            np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-6)
        longer = np.zeros((N_CODEBOOKS, max_frames + 1), np.int64)
        with pytest.raises(ModelError, match=f"no_utterance_is_longer_than_max_frames_{max_frames}'"):
            list(voice.decode(longer, strategy="stateful", chunk_frames=9))

    assert_limited(voice)
    # Another version compiles it again, in the user's cache, for as long ones.
    monkeypatch.setenv("BALACOON_TK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "VERSION", choice.VERSION + 1)
    assert_limited(load_vocoder(tmp_path / "codec", n_threads=1))
    assert (tmp_path / "cache" / "compiled").is_dir()


def test_a_longest_utterance_is_asked_for_where_it_is_missing_and_dropped_where_it_limits_nothing(tmp_path):
    voice = write(LooksBack(), tmp_path / "without")
    assert "max_frames, the frames of the longest utterance" in (voice.manifest.decoder.not_streamable or "")
    assert write(Codec(), tmp_path / "bounded", max_frames=10).manifest.decoder.max_frames is None
    for wrong in (0, -3, 2.5):
        with pytest.raises(ParameterError, match=f"max_frames={wrong} must be an int >= 1"):
            write(Codec(), tmp_path / "other", max_frames=wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codebook_size": None}, "int64 must be float32 with codebook_size=None"),
        ({"codebook_size": 5}, r"codes that are not in \[0, codebook_size=5\)"),
        ({"sample_rate": None}, "sample_rate=None must be >= 1"),
    ],
)
def test_what_a_voice_lacks_is_said_before_anything_is_exported(tmp_path, options, message):
    with pytest.raises(ParameterError, match=message):
        write(Codec(), tmp_path / "codec", **options)
