"""Windows of a tensor are exported as what streams."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from balacoon_tk.export.sources.torch_graph import quiet_torch, to_graph  # noqa: E402
from balacoon_tk.export.sources.unfold_shim import exportable_unfold  # noqa: E402
from streaming_laws import assert_streams  # noqa: E402


@pytest.mark.parametrize(
    ("shape", "dimension", "size", "step"),
    [
        ((2, 3, 11), 2, 4, 1),
        ((2, 3, 11), -1, 5, 3),
        ((2, 11, 3), 1, 4, 4),
        ((11, 2), 0, 1, 1),
        ((7,), 0, 7, 2),
    ],
)
def test_windows_are_those_of_torch(shape, dimension, size, step):
    x = torch.randn(shape)
    wanted = x.unfold(dimension, size, step)
    with exportable_unfold():
        got = x.unfold(dimension, size, step)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(x.unfold(dimension, size, step), wanted)


@pytest.mark.parametrize("step", [1, 4])
def test_windows_over_time_stream(step):
    class Windows(torch.nn.Module):
        def forward(self, frames):
            padded = torch.nn.functional.pad(frames, (2, 3))
            windows = padded.unfold(2, 6, step) if step == 1 else frames.unfold(2, 4, 4)
            return windows.square().mean(-1)

    with quiet_torch("the test"), exportable_unfold():
        model = to_graph(
            Windows(),
            {"frames": torch.randn(1, 3, 16)},
            time_axes={"frames": 2},
            outputs={"samples": [1, 3, "n_samples"]},
            name="decoder",
        )
    assert_streams(model, multiple=step)
