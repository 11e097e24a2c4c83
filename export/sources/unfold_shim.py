"""``Tensor.unfold`` as a strided convolution, for the time of an export.

torch's exporters write it as a loop over windows, whose number is that of the example or counted while the
graph runs. A convolution with one kernel for each place of the window gives the same numbers; windows that
begin at every step are slices beside each other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING
from unittest import mock

if TYPE_CHECKING:
    from torch import Tensor


@contextlib.contextmanager
def exportable_unfold() -> Iterator[None]:
    """Let ``Tensor.unfold`` be one that can be exported."""
    import torch

    with mock.patch.object(torch.Tensor, "unfold", _unfold):
        yield


def _unfold(x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    import torch

    axis = dimension % x.dim()
    if step == 1:
        # The same tensor, begun later and ended earlier: bounds that don't depend on its length.
        before = [slice(None)] * axis
        places = [x[(*before, slice(k, k - size + 1 or None))] for k in range(size)]
        return torch.stack(places, dim=-1)
    others = [k for k in range(x.dim()) if k != axis]
    shape = [x.shape[k] for k in others]
    kernel = torch.eye(size, dtype=x.dtype, device=x.device)[:, None]
    rows = x.permute(*others, axis).reshape(-1, 1, x.shape[axis])
    windows = torch.nn.functional.conv1d(rows, kernel, stride=step)
    # (rows, size, n_windows), whose windows go where the axis was, and their places behind all.
    windows = windows.transpose(1, 2).reshape(*shape, windows.shape[2], size)
    order = list(range(len(others)))
    order.insert(axis, len(others))
    return windows.permute(*order, len(others) + 1)
