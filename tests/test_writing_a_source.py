"""The page that says how to write a source is right: its code exports a model with Gaussian upsampling."""

import numpy as np
import pytest

from balacoon_tk import TTS
from balacoon_tk.errors import ModelError, VoiceError
from balacoon_tk.frontend.backends.characters import CharacterFrontend
from balacoon_tk.voice import load_voice
from pages import ROOT, fences, run_python

torch = pytest.importorskip("torch", reason='needs pip install "balacoon_tk[export]"')

SYMBOLS = "_^$ abcdefgh."
HOP_LENGTH = 4


class TinyJets(torch.nn.Module):
    """ESPnet's JETS in small: its GaussianUpsampling, a convolutional encoder and a generator."""

    n_channels = 6

    def __init__(self, delta=0.1):
        super().__init__()
        n, conv = self.n_channels, torch.nn.Conv1d
        self.delta = delta
        self.embedding = torch.nn.Embedding(len(SYMBOLS), n)
        self.mixing = conv(n, n, 3, padding=1)
        self.duration = torch.nn.Linear(n, 1)
        self.pitch_embedding, self.energy_embedding = torch.nn.Linear(n, n), torch.nn.Linear(n, n)
        self.generator = torch.nn.Sequential(
            conv(n, 8, 7, padding=3),
            torch.nn.LeakyReLU(0.1),
            torch.nn.ConvTranspose1d(8, 4, 2 * HOP_LENGTH, stride=HOP_LENGTH, padding=HOP_LENGTH // 2),
            torch.nn.LeakyReLU(0.1),
            conv(4, 1, 7, padding=3),
            torch.nn.Tanh(),
        )

    def encoder(self, ids):
        x = self.embedding(ids)
        return x + torch.tanh(self.mixing(x.transpose(1, 2))).transpose(1, 2)

    def duration_predictor(self, hidden):
        return 1.5 + 0.5 * torch.tanh(self.duration(hidden))[..., 0]

    def forward(self, ids, alpha=1.0):
        hidden = self.encoder(ids)
        durations = torch.round((torch.exp(self.duration_predictor(hidden)) - 1) * alpha).clamp(min=0)
        hidden = hidden + (self.pitch_embedding(hidden) + self.energy_embedding(hidden))
        frames = torch.arange(int(durations.sum()))[None, :, None].float()
        centres = (durations.cumsum(dim=-1) - durations / 2)[:, None]
        weights = torch.softmax(-self.delta * (frames - centres) ** 2, dim=2)
        return self.generator((weights @ hidden).transpose(1, 2))


@pytest.fixture(scope="module")
def code():
    """What the page's Python defines."""
    (block,) = fences(ROOT / "docs/writing_a_source.md", "python")
    names = {}
    run_python(block, names)
    return names


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return TinyJets().eval()


@pytest.fixture(scope="module")
def folder(code, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("jets") / "voice"
    return code["export_jets"](model, SYMBOLS, folder, name="tiny-jets", sample_rate=1000)


def test_the_page_s_code_exports_a_voice_that_says_what_the_model_says(folder, model):
    tts = TTS(load_voice(folder, n_threads=1), frontend=CharacterFrontend())
    assert tts.voice.manifest.gaussian_delta == 0.1
    assert tts.voice.manifest.verified.keys() == {
        "durations",
        "samples_without_noise",
        "beyond_receptive_field",
    }
    (sentence,) = tts.frontend.phonemize("abc bed hag face")
    ids = tts.phoneme_map.encode(sentence.phonemes).phoneme_ids
    with torch.no_grad():
        expected = model(torch.from_numpy(ids[None])).numpy().reshape(-1)
    for arguments in ({"strategy": "full"}, {"chunk_frames": 5}, {"strategy": "overlap", "chunk_frames": 1}):
        samples = np.concatenate([c.samples for c in tts.stream("abc bed hag face", seed=1, **arguments)])
        np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-5)


def test_another_sharpness_than_the_model_s_is_refused(code, tmp_path):
    torch.manual_seed(0)
    with pytest.raises(
        ModelError, match=r"the split voice differs from the trained one: a sample differs by"
    ):
        code["export_jets"](TinyJets(delta=0.2).eval(), SYMBOLS, tmp_path / "v", name="x", sample_rate=1000)
    assert not (tmp_path / "v").exists()


def test_a_decoder_that_attends_to_all_frames_is_refused_with_its_node(code, model, tmp_path):
    class Attends(torch.nn.Module):
        def __init__(self, generator):
            super().__init__()
            self.generator = generator

        def forward(self, frames):
            weights = torch.softmax(frames.transpose(1, 2) @ frames, dim=-1)
            return self.generator((weights @ frames.transpose(1, 2)).transpose(1, 2))

    attending = TinyJets().eval()
    attending.generator = Attends(model.generator)
    with pytest.raises(ModelError, match=r"the decoder needs the whole utterance for every sample: .* node "):
        code["export_jets"](attending, SYMBOLS, tmp_path / "v", name="x", sample_rate=1000)


def test_gaussian_upsampling_of_a_model_that_samples_is_refused(tmp_path):
    from tiny_voice import decoder_model, encoder_model, write_voice

    write_voice(tmp_path, encoder_model(), decoder_model(), changes={"gaussian_delta": 0.1})
    with pytest.raises(VoiceError, match=r"output 'log_scales' can't go with gaussian_delta=0\.1"):
        load_voice(tmp_path)
