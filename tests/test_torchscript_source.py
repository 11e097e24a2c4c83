"""Vocoders from torch: what comes out is the same, what can't be the same says so."""

import json
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from balacoon_tk.cli import main
from balacoon_tk.errors import MissingExtraError, ModelError, ParameterError
from balacoon_tk.export import export_decoder, export_voice
from balacoon_tk.export.sources import TorchScript, find_source
from balacoon_tk.runtime.session import Session
from balacoon_tk.stages.mel import MelInfo
from balacoon_tk.voice import load_vocoder

torch = pytest.importorskip("torch", reason='needs pip install "balacoon_tk[export]"')
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

N_MELS = 5
FRAMES = np.random.default_rng(0).standard_normal((1, N_MELS, 33), np.float32)


class Vocoder(torch.nn.Module):
    """Three layers, four samples a frame."""

    def __init__(self):
        super().__init__()
        self.pre = torch.nn.Conv1d(N_MELS, 6, 3, padding=1)
        self.up = torch.nn.ConvTranspose1d(6, 4, 8, stride=4, padding=2)
        self.post = torch.nn.Conv1d(4, 1, 3, padding=1)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, mel):
        x = torch.nn.functional.leaky_relu(self.pre(mel), 0.1)
        return torch.tanh(self.post(self.dropout(self.up(x))))


@pytest.fixture
def module():
    torch.manual_seed(0)
    return Vocoder()


def in_torch(module):
    was_training = module.training
    with torch.no_grad():
        samples = module.eval()(torch.from_numpy(FRAMES)).numpy()
    module.train(was_training)
    return samples


def in_onnx(model):
    return Session(model).run({"frames": FRAMES})["samples"]


def export(source, n_mels=N_MELS, **options):
    """Return the decoder that is made of a module, or of a script's file with its JSON beside it."""
    if isinstance(source, Path):
        return TorchScript().read(source, config=None, trust=True, progress=lambda stage, share: None).decoder
    return export_decoder(source, np.resize(FRAMES, (n_mels, 33)), **options)


def test_a_module_gives_the_same_samples_at_any_length(module):
    model = export(module)
    np.testing.assert_allclose(in_onnx(model), in_torch(module), rtol=0, atol=1e-6)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["frames", "samples"]
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == [1, N_MELS, "n_frames"]


@pytest.mark.parametrize(
    "script", [torch.jit.script, lambda m: torch.jit.trace(m, torch.zeros(1, N_MELS, 9))]
)
def test_torchscript_gives_the_same_samples_from_a_file_or_not(module, script, tmp_path):
    scripted = script(module.eval())
    scripted.save(tmp_path / "vocoder.ts")
    (tmp_path / "vocoder.ts.json").write_text(json.dumps({"sample_rate": 1000, "n_channels": N_MELS}))
    for source in (tmp_path / "vocoder.ts", scripted):
        model = export(source)
        np.testing.assert_allclose(in_onnx(model), in_torch(module), rtol=0, atol=1e-6)


def test_weight_norm_of_either_kind_is_folded_and_the_module_left_alone(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the old kind is what most vocoders have
        torch.nn.utils.weight_norm(module.pre)
    torch.nn.utils.parametrizations.weight_norm(module.up)
    names = set(module.state_dict())
    model = export(module)
    np.testing.assert_allclose(in_onnx(model), in_torch(module), rtol=0, atol=1e-6)
    layers = {node.op_type for node in model.graph.node} - {"Reshape"}
    assert layers == {"Conv", "LeakyRelu", "ConvTranspose", "Tanh"}
    assert set(module.state_dict()) == names
    assert module.training


def test_a_module_that_counts_frames_in_python_is_frozen_by_the_older_exporter_alone():
    class Counts(Vocoder):
        def forward(self, mel):
            return super().forward(mel) * float(mel.shape[-1])

    with pytest.raises(ModelError, match=r"Counts: the samples of 19 frames differ by .*at most 0\.0001"):
        export(Counts(), exporter="torchscript")
    module = Counts()
    np.testing.assert_allclose(in_onnx(export(module)), in_torch(module), rtol=0, atol=1e-4)


def test_a_module_that_cuts_at_a_fixed_length_is_frozen_by_the_older_exporter_alone():
    class Cuts(Vocoder):
        def forward(self, mel):
            return super().forward(mel[..., : int(mel.shape[-1]) - 1])

    with pytest.raises(
        ModelError, match=r"Cuts: 19 frames give samples of shape .* in ONNX and \(1, 1, 72\)"
    ):
        export(Cuts(), exporter="torchscript")
    module = Cuts()
    np.testing.assert_allclose(in_onnx(export(module)), in_torch(module), rtol=0, atol=1e-5)


def test_a_module_of_other_mels_is_refused(module):
    with pytest.raises(ModelError, match=r"doesn't take frames of shape \(1, 7, 19\)"):
        export(module, n_mels=7)


def test_a_module_of_several_channels_is_a_graph_and_no_voice(tmp_path):
    module = torch.nn.Conv1d(N_MELS, 3, 1)
    assert in_onnx(export(module)).shape == (1, 3, 33)
    with pytest.raises(ModelError, match=r"gives \(1, 3, 19\): must be samples of shape \(1, 1, n_samples\)"):
        export_decoder(module, FRAMES[0], tmp_path / "out", sample_rate=1000)


def test_what_is_no_torchscript_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"nothing\.ts: no such file"):
        find_source(tmp_path / "nothing.ts")
    (tmp_path / "text.ts").write_text("not a model")
    with pytest.raises(ModelError, match=r"text\.ts: not TorchScript"):
        export(tmp_path / "text.ts")


def test_without_torch_the_extra_is_named(module, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"balacoon_tk\[export\]"):
        export(module)


# --- as voices ---------------------------------------------------------------------------------------


MEL = MelInfo(n_fft=16, win_length=16, hop_length=4, n_mels=N_MELS, f_min=0.0, f_max=500.0)


def decoded(folder, frames):
    vocoder = load_vocoder(folder, n_threads=1)
    return np.concatenate([chunk.samples for chunk in vocoder.decode(frames, chunk_frames=6)])


def test_a_module_becomes_a_vocoder_that_streams(module, tmp_path):
    folder = export_decoder(module, FRAMES[0], tmp_path / "out", sample_rate=1000, mel=MEL, license="CC0-1.0")
    manifest = load_vocoder(folder, n_threads=1).manifest
    assert (manifest.name, manifest.license, manifest.mel) == ("Vocoder", "CC0-1.0", MEL)
    assert [stage.name for stage in manifest.stages] == ["source", "plain", "voice"]
    assert all(target.streaming for target in manifest.targets.values())
    np.testing.assert_allclose(decoded(folder, FRAMES[0]), in_torch(module)[0, 0], rtol=0, atol=1e-6)


def test_a_torchscript_file_becomes_a_vocoder_from_the_command_line(module, tmp_path, capsys):
    torch.jit.script(module.eval()).save(tmp_path / "tiny.ts")
    (tmp_path / "tiny.ts.json").write_text(json.dumps({"sample_rate": 1000, "mel": asdict(MEL)}))
    arguments = ["export", str(tmp_path / "tiny.ts"), "-o", str(tmp_path / "out.addon")]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "tiny.ts: TorchScript is a program, and an export runs it, so it could write files" in said
    assert "--trust" in said
    assert main([*arguments, "--trust"]) == 0
    assert "largest difference" in capsys.readouterr().out
    samples = decoded(tmp_path / "out.addon", FRAMES[0])
    np.testing.assert_allclose(samples, in_torch(module)[0, 0], rtol=0, atol=1e-6)


def test_every_kind_of_source_is_listed(capsys):
    assert main(["export", "--list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == ["codec", "hf_vits", "kokoro", "onnx_vocoder", "piper_onnx", "torchscript"]


class RunsCode:
    """What a hostile pickle is: reading it calls a function."""

    def __reduce__(self):
        return (Path.touch, (Path("code-has-run"),))


def test_a_checkpoint_is_not_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"generator": RunsCode()}, tmp_path / "g_02500000.pth")
    with pytest.raises(ModelError, match=r"pth: not TorchScript\. A checkpoint is a pickle.*export_decoder"):
        export_voice(tmp_path / "g_02500000.pth", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g_02500000.pth"]


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (FRAMES[0, 0], r"example of shape \(33,\) must be \(n_channels, n_frames\)"),
        (FRAMES[0, :, :0], "not be empty"),
        (FRAMES[0].astype(np.float64), "float64 must be float32"),
        (np.zeros((N_MELS, 9), np.int64), "int64 must be float32 with codebook_size=None"),
        ({"mel": FRAMES}, "example mel: a voice's decoder takes one array"),
    ],
)
def test_example_frames_that_do_not_fit_are_refused(module, tmp_path, example, message):
    with pytest.raises(ParameterError, match=message):
        export_decoder(module, example, tmp_path / "out", sample_rate=1000)


def test_a_mel_of_another_hop_is_refused(module, tmp_path):
    with pytest.raises(ModelError, match=r"mel\.hop_length=8 must be 4"):
        mel = replace(MEL, hop_length=8)
        export_decoder(module, FRAMES[0], tmp_path / "out", sample_rate=1000, mel=mel)
