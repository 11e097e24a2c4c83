"""What a module draws while it runs, so that a graph can be given the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from unittest import mock

if TYPE_CHECKING:
    from torch import Tensor

_DRAWS = ("rand", "rand_like", "randn", "randn_like")


@contextlib.contextmanager
def recorded_noise() -> Iterator[list[Tensor]]:
    """Give a list to which torch's random functions add what they return, for as long as it is entered."""
    import torch

    drawn: list[Tensor] = []

    def recording(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def record(*args: object, **options: object) -> Tensor:
            drawn.append(draw(*args, **options))
            return drawn[-1]

        return record

    with contextlib.ExitStack() as stack:
        for name in _DRAWS:
            stack.enter_context(mock.patch.object(torch, name, recording(getattr(torch, name))))
        yield drawn
