"""Codecs of transformers: codes in, and the samples of the model's own decode, whole and streamed."""

import json
import shutil

import numpy as np
import pytest

from balacoon_tk.audio import write_wav
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export import export_voice
from balacoon_tk.graph import find_obstacles
from balacoon_tk.voice import load_vocoder
from balacoon_tk.voice.files import VoiceFiles
from command_line import assert_one_line_error

torch = pytest.importorskip("torch", reason='needs pip install "balacoon_tk[export]"')
transformers = pytest.importorskip("transformers", reason='needs pip install "balacoon_tk[export]"')

CODEBOOK_SIZE = 16


def encodec(**settings):
    return transformers.EncodecModel(
        transformers.EncodecConfig(
            **{
                "num_filters": 4,
                "hidden_size": 8,
                "codebook_size": CODEBOOK_SIZE,
                "upsampling_ratios": [4, 2],
                "target_bandwidths": [48.0],
                "num_lstm_layers": 1,
                **settings,
            }
        )
    )


def dac():
    # Of an odd stride it crops a sample too many.
    return transformers.DacModel(
        transformers.DacConfig(
            encoder_hidden_size=4,
            downsampling_ratios=[2, 5],
            decoder_hidden_size=16,
            n_codebooks=3,
            codebook_size=CODEBOOK_SIZE,
            codebook_dim=4,
        )
    )


def mimi():
    return transformers.MimiModel(
        transformers.MimiConfig(
            num_filters=4,
            hidden_size=16,
            upsampling_ratios=[4, 2],
            codebook_size=CODEBOOK_SIZE,
            codebook_dim=8,
            num_quantizers=4,
            num_semantic_quantizers=1,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
            intermediate_size=16,
            sliding_window=20,
            vector_quantization_hidden_dimension=8,
            upsample_groups=16,
            frame_rate=1500,
        )
    )


def xcodec():
    return transformers.XcodecModel(
        transformers.XcodecConfig(
            acoustic_model_config={
                "model_type": "dac",
                "encoder_hidden_size": 4,
                "downsampling_ratios": [4, 2],
                "upsampling_ratios": [2, 4],
                "decoder_hidden_size": 16,
                "codebook_dim": 4,
                "codebook_size": CODEBOOK_SIZE,
                "n_codebooks": 2,
            },
            semantic_model_config={
                "model_type": "hubert",
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 16,
                "conv_dim": [8, 8],
                "conv_stride": [4, 2],
                "conv_kernel": [10, 2],
                "num_conv_pos_embeddings": 4,
                "num_conv_pos_embedding_groups": 2,
            },
            target_bandwidths=[24.0],
            codebook_size=CODEBOOK_SIZE,
        )
    )


# By kind: the model, its samples for a frame, and whether it streams.
CODECS = {"encodec": (encodec, 8), "dac": (dac, 10), "mimi": (mimi, 16), "xcodec": (xcodec, 8)}


def write(model, folder):
    """Save a model whose codebooks aren't all zero, as transformers makes those that are learnt by means."""
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if "embed" in name and buffer.is_floating_point():
                buffer.copy_(torch.randn_like(buffer) / 2)
    model.eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=CODECS)
def trained(request, tmp_path_factory):
    """Return the kind, the model, and the folder in which it was saved."""
    torch.manual_seed(0)
    model = CODECS[request.param][0]()
    return request.param, model, write(model, tmp_path_factory.mktemp("codecs") / f"tiny-{request.param}")


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """Return the kind, the model, and the voice that was made of it."""
    kind, model, folder = trained
    voice = export_voice(folder, tmp_path_factory.mktemp("voices") / kind)
    return kind, model, load_vocoder(voice, n_threads=1)


def own_samples(kind, model, codes):
    """What the model's own decode makes of codes (n_codebooks, n_frames)."""
    codes = torch.from_numpy(codes[None])
    with torch.no_grad():
        found = model.decode(codes[None], [None]) if kind == "encodec" else model.decode(audio_codes=codes)
    return found.audio_values.numpy().reshape(-1)


def test_codes_become_the_samples_of_the_models_own_decode(exported):
    kind, model, voice = exported
    manifest, (_, hop_length) = voice.manifest, CODECS[kind]
    assert (manifest.name, manifest.hop_length) == (f"tiny-{kind}", hop_length)
    assert manifest.codebook_size == CODEBOOK_SIZE
    assert manifest.sample_rate in (16_000, 24_000)
    rng = np.random.default_rng(0)
    for n_frames in (1, 2, 40):
        codes = rng.integers(0, CODEBOOK_SIZE, (manifest.n_channels, n_frames))
        expected = own_samples(kind, model, codes)
        expected = np.pad(expected, (0, n_frames * hop_length - expected.size))
        for strategy in voice.strategies:
            chunks = voice.decode(codes, strategy=strategy, chunk_frames=7)
            samples = np.concatenate([chunk.samples for chunk in chunks])
            np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-5, err_msg=strategy)
    assert manifest.analyzer is not None
    assert voice.choose_strategy(None) == "stateful"
    assert manifest.decoder.not_streamable is None


def test_nothing_stands_against_streaming_an_exported_codec(exported):
    _, _, voice = exported
    assert find_obstacles(VoiceFiles(voice.path).model(voice.manifest.decoder)) == []


@pytest.fixture(scope="module")
def trained_dac(tmp_path_factory):
    return write(dac(), tmp_path_factory.mktemp("codecs") / "tiny-dac")


def test_a_codec_is_exported_from_the_command_line(cli, trained_dac, tmp_path):
    result = cli("export", trained_dac, "-o", tmp_path / "voice", "--license", "CC0-1.0")
    assert (result.status, result.err) == (0, "")
    assert "tiny-dac, CC0-1.0" in result.out.decode()
    inspected = cli("inspect", tmp_path / "voice").out.decode()
    assert inspected.startswith("tiny-dac: a codec, CC0-1.0")
    assert f"codes of {CODEBOOK_SIZE}" in inspected


def own_codes(kind, model, samples):
    """What the model's own encode makes of samples (n_samples,): codes (n_codebooks, n_frames)."""
    more = {"bandwidth": 48.0} if kind == "encodec" else {}
    with torch.no_grad():
        codes = model.encode(torch.from_numpy(samples[None, None]), **more).audio_codes.numpy()
    return codes.reshape(-1, codes.shape[-1])


def test_a_recording_becomes_the_codes_of_the_models_own_encode(exported):
    kind, model, voice = exported
    hop_length, rate = voice.manifest.hop_length, voice.manifest.sample_rate
    recording = np.random.default_rng(3).standard_normal(31 * hop_length).astype(np.float32) / 10
    codes = voice.analyze(recording, sample_rate=rate)
    theirs = own_codes(kind, model, recording)
    assert codes.shape == theirs.shape == (voice.manifest.n_channels, 31)
    assert (codes == theirs).mean() >= 0.99
    chunks = list(voice.resynthesize(recording[:-3], sample_rate=rate, strategy="full"))
    assert sum(len(chunk.samples) for chunk in chunks) == recording.size
    for wrong, message in (
        (recording[None], r"must be \(n_samples,\)"),
        (recording * np.float32(np.nan), "NaN"),
    ):
        with pytest.raises(ParameterError, match=message):
            voice.analyze(wrong, sample_rate=rate)
    with pytest.raises(ParameterError, match="convert the recording first"):
        voice.analyze(recording, sample_rate=rate + 1)


def test_a_recording_is_said_again_from_the_command_line(cli, trained_dac, tmp_path):
    export_voice(trained_dac, tmp_path / "voice.addon")
    recording = np.random.default_rng(3).standard_normal(805).astype(np.float32) / 10
    write_wav(tmp_path / "in.wav", recording, sample_rate=16_000)
    result = cli(
        "resynthesize",
        tmp_path / "in.wav",
        "-v",
        tmp_path / "voice.addon",
        "-o",
        tmp_path / "out.wav",
        "--json",
    )
    assert result.status == 0, result.err
    report = json.loads(result.out)
    assert report["n_samples"] == 810
    assert 0 <= report["codes_kept"] <= 1


def test_what_decodes_chunks_of_its_own_is_refused(tmp_path):
    folder = write(encodec(normalize=True, chunk_length_s=1.0), tmp_path / "codec")
    with pytest.raises(ModelError, match=r"codec: config\.json has normalize or chunk_length_s"):
        export_voice(folder, tmp_path / "voice")


def test_stereo_is_refused(tmp_path):
    folder = write(encodec(audio_channels=2), tmp_path / "codec")
    with pytest.raises(ModelError, match=r"samples of shape \(1, 2, 160\): must be of one channel"):
        export_voice(folder, tmp_path / "voice")


def test_weights_that_are_missing_are_named_and_not_made_up(trained_dac, tmp_path):
    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    shutil.copytree(trained_dac, other)
    weights = load_file(other / "model.safetensors")
    del weights["decoder.conv1.weight"]
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"safetensors: decoder\.conv1\.weight must be"):
        export_voice(other, tmp_path / "voice")


def test_a_damaged_folder_is_one_line(cli, tmp_path):
    folder = tmp_path / "codec"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "encodec", "hidden_size": "eight"}))
    assert_one_line_error(cli("export", folder, "-o", tmp_path / "voice"), "transformers can't read it")
    (folder / "config.json").write_text("no json")
    assert_one_line_error(cli("export", folder, "-o", tmp_path / "voice"), "not a JSON file")
