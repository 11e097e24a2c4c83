"""Torch's newer exporter: what it takes apart is written whole, and what it gives streams."""

import importlib.util

import numpy as np
import pytest

from balacoon_tk.errors import MissingExtraError, ModelError, ParameterError
from balacoon_tk.export import NotStreamableError, export_decoder, make_streaming
from streaming_laws import assert_streams

torch = pytest.importorskip("torch", reason='needs pip install "balacoon_tk[export]"')
pytest.importorskip("onnxscript", reason='needs pip install "balacoon_tk[export]"')

from torch.nn import functional  # noqa: E402 - behind the check that torch is there

from families import FAMILIES  # noqa: E402

N = 4
FRAMES = np.random.default_rng(0).standard_normal((1, N, 24)).astype(np.float32)


class Between(torch.nn.Module):
    """An operation between two convolutions."""

    def __init__(self, part, n_after=N):
        super().__init__()
        torch.manual_seed(0)
        self.part = part() if isinstance(part, type) else part
        self.before, self.after = (
            torch.nn.Conv1d(N, N, 3, padding=1),
            torch.nn.Conv1d(n_after, 1, 5, padding=2),
        )

    def forward(self, frames):
        return self.after(self.part(self.before(frames)))


def by_dynamo(part, n_after=N):
    return export_decoder(Between(part, n_after), FRAMES, exporter="dynamo")


# Each has something that the newer exporter gave no graph for, or one that didn't stream.
@pytest.mark.parametrize("name", ["EnCodec", "Vocos (EnCodec)"])
def test_a_decoder_of_today_streams_as_the_newer_exporter_gives_it(name):
    family = FAMILIES[name]
    torch.manual_seed(0)
    with torch.no_grad():
        module = family.build(False)
        example = {key: tensor.numpy() for key, tensor in family.example(16, False).items()}
    model = export_decoder(module, example, time_axes=dict(family.time_axes), exporter="dynamo")
    assert [value.name for value in model.graph.input][: len(example)] == list(example)
    assert_streams(model, tolerance=1e-5, plans=("planned",))


class Recurrence(torch.nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.layers = getattr(torch.nn, kind)(N, N, 2, **options)

    def forward(self, x):
        order = (0, 2, 1) if self.layers.batch_first else (2, 0, 1)
        return self.layers(x.permute(*order))[0].permute(
            *((0, 2, 1) if self.layers.batch_first else (1, 2, 0))
        )


def test_a_recurrence_is_one_operator_and_streams():
    model = by_dynamo(Recurrence("GRU", batch_first=True, bias=False))
    assert [node.op_type for node in model.graph.node].count("GRU") == 2
    assert_streams(model, tolerance=1e-5, plans=("planned",))


def test_a_recurrence_both_ways_is_right_and_refused():
    model = by_dynamo(Recurrence("RNN", bidirectional=True, nonlinearity="relu"), n_after=2 * N)
    with pytest.raises(NotStreamableError, match="it also runs from the utterance's end to its start"):
        make_streaming(model)


def test_what_onnx_has_no_recurrence_for_is_named():
    with pytest.raises(
        ModelError, match="LSTM with a projection of its state can't be exported: ONNX has none"
    ):
        by_dynamo(Recurrence("LSTM", proj_size=2), n_after=2)


class WithinSteps(torch.nn.Module):
    """Attention within each step, of five axes."""

    def forward(self, x):
        parts = x.transpose(1, 2).reshape(1, -1, 1, 2, N // 2)
        parts = functional.scaled_dot_product_attention(parts, parts, parts)
        return parts.reshape(1, -1, N).transpose(1, 2)


class InChunks(torch.nn.Module):
    """A mask of chunks, counted by quotients that are cut off."""

    def forward(self, x):
        i = torch.arange(x.shape[-1])
        chunk, of_key = (torch.div(n, 4, rounding_mode="trunc") for n in (i[:, None], i[None]))
        q = x.transpose(1, 2)[:, None]
        mask = (of_key <= chunk) & (of_key >= chunk - 1)
        return functional.scaled_dot_product_attention(q, q, q, attn_mask=mask)[:, 0].transpose(1, 2)


class Stretches(torch.nn.Module):
    """By an integer, to a size that follows from the length, and by a fraction."""

    def forward(self, x):
        x = functional.interpolate(x, scale_factor=2, mode="linear")
        x = functional.interpolate(x, size=x.shape[2] * 3, mode="linear")
        return functional.interpolate(x, scale_factor=1.5, mode="linear")


@pytest.mark.parametrize("part", [WithinSteps, InChunks, Stretches])
def test_what_the_newer_exporter_takes_apart_streams(part):
    assert_streams(by_dynamo(part), tolerance=1e-5, plans=("planned",))


class Sums(torch.nn.Module):
    def forward(self, frames, *others):
        return frames + sum(other.repeat_interleave(2, dim=2) for other in others)


def test_inputs_that_forward_takes_as_one_tuple_are_told_apart():
    example = {"frames": FRAMES, "second": FRAMES[:, :, ::2], "third": FRAMES[:, :1, 1::2]}
    model = export_decoder(Sums(), example, exporter="dynamo")
    assert [value.name for value in model.graph.input] == list(example)
    assert_streams(model, plans=("planned",))


class Decides(torch.nn.Module):
    def __init__(self, *floors):
        super().__init__()
        self.floors = floors

    def forward(self, x):
        for floor in self.floors:
            x = x * 2 if (x > floor).all() else x
        return x


def test_what_python_decides_by_values_is_the_example_s_answer():
    assert by_dynamo(Decides(-1e6, -1e6)).graph.node
    with pytest.raises(
        ModelError, match=r"torch can't export .*: Python code in the module decides by values"
    ):
        by_dynamo(Decides(-1e6, 1e6))


def test_a_reason_is_the_innermost_one_in_a_line_and_nothing_is_printed(capfd):
    class Solves(torch.nn.Module):
        def forward(self, x):
            return torch.linalg.solve(torch.eye(N)[None], x)

    with pytest.raises(ModelError, match=r"torch can't export .* to ONNX: [^\n\x1b]+$") as caught:
        by_dynamo(Solves)
    assert "step 1/3" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_an_exporter_is_chosen_by_its_name(monkeypatch):
    with pytest.raises(ParameterError, match="exporter='newest' must be one of torchscript, dynamo"):
        export_decoder(Between(torch.nn.Identity()), FRAMES, exporter="newest")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"balacoon_tk\[export\]"):
        by_dynamo(torch.nn.Identity())
    assert export_decoder(Between(torch.nn.Identity()), FRAMES).graph.node
