"""Vocoders from torch: what comes out is the same, what can't be the same says so."""

import sys
import warnings

import numpy as np
import pytest

from balacoon_tk.errors import MissingExtraError, ModelError, ParameterError
from balacoon_tk.export.sources.torchscript import export_vocoder
from balacoon_tk.session import Session

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
    return Session(model).run({"mel": FRAMES})["samples"]


def test_a_module_gives_the_same_samples_at_any_length(module):
    model = export_vocoder(module, n_mels=N_MELS)
    np.testing.assert_allclose(in_onnx(model), in_torch(module), rtol=0, atol=1e-6)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["mel", "samples"]
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == [1, N_MELS, "n_frames"]


@pytest.mark.parametrize(
    "script", [torch.jit.script, lambda m: torch.jit.trace(m, torch.zeros(1, N_MELS, 9))]
)
def test_torchscript_gives_the_same_samples_from_a_file_or_not(module, script, tmp_path):
    scripted = script(module.eval())
    scripted.save(tmp_path / "vocoder.ts")
    for source in (tmp_path / "vocoder.ts", scripted):
        model = export_vocoder(source, n_mels=N_MELS)
        np.testing.assert_allclose(in_onnx(model), in_torch(module), rtol=0, atol=1e-6)


def test_weight_norm_of_either_kind_is_folded_and_the_module_left_alone(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the old kind is what most vocoders have
        torch.nn.utils.weight_norm(module.pre)
    torch.nn.utils.parametrizations.weight_norm(module.up)
    names = set(module.state_dict())
    model = export_vocoder(module, n_mels=N_MELS)
    np.testing.assert_allclose(in_onnx(model), in_torch(module), rtol=0, atol=1e-6)
    assert {node.op_type for node in model.graph.node} == {"Conv", "LeakyRelu", "ConvTranspose", "Tanh"}
    assert set(module.state_dict()) == names
    assert module.training


def test_a_module_that_counts_frames_in_python_is_refused(module):
    class Counts(Vocoder):
        def forward(self, mel):
            return super().forward(mel) * float(mel.shape[-1])

    with pytest.raises(ModelError, match=r"Counts: the samples of 19 frames differ by .*at most 0\.0001"):
        export_vocoder(Counts(), n_mels=N_MELS)


def test_a_module_that_cuts_at_a_fixed_length_is_refused():
    class Cuts(Vocoder):
        def forward(self, mel):
            return super().forward(mel[..., : int(mel.shape[-1]) - 1])

    with pytest.raises(
        ModelError, match=r"Cuts: 19 frames give samples of shape .* in ONNX and \(1, 1, 72\)"
    ):
        export_vocoder(Cuts(), n_mels=N_MELS)


def test_a_module_of_other_mels_is_refused(module):
    with pytest.raises(ModelError, match=r"doesn't take a mel of shape \(1, 7, 19\)"):
        export_vocoder(module, n_mels=7)


def test_a_module_of_several_channels_is_refused():
    with pytest.raises(ModelError, match=r"gives \(1, 3, 19\): must be samples of shape \(1, 1, n_samples\)"):
        export_vocoder(torch.nn.Conv1d(N_MELS, 3, 1), n_mels=N_MELS)


def test_what_is_no_torchscript_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"nothing\.ts: no such file"):
        export_vocoder(tmp_path / "nothing.ts")
    (tmp_path / "text.ts").write_text("not a model")
    with pytest.raises(ModelError, match=r"text\.ts: not TorchScript"):
        export_vocoder(tmp_path / "text.ts")


def test_no_mels_are_refused(module):
    with pytest.raises(ParameterError, match=r"n_mels=0 must be >= 1"):
        export_vocoder(module, n_mels=0)


def test_without_torch_the_extra_is_named(module, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"balacoon_tk\[export\]"):
        export_vocoder(module)
