"""What Python code decides by the values of tensors, for an exporter that runs it without any.

Such as ``assert (envelope > 0).all()``: torch's newer exporter has shapes alone, and stops there. The older
one takes the example's answer. So does this, where the example gave but one: which of several is asked for
can't be told, since that exporter may run the code more than once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class PythonChoices(TorchFunctionMode):  # type: ignore[misc]  # torch is not read by mypy
    """A context that notes what tensors say when asked for their truth, and says it again in an export."""

    def __init__(self) -> None:
        super().__init__()
        self._noted: set[bool] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, or answer what was noted."""
        if func is not torch.Tensor.__bool__:
            return func(*args, **(kwargs or {}))
        if not torch.compiler.is_exporting():
            answer = bool(func(*args))
            self._noted.add(answer)
            return answer
        if len(self._noted) != 1:
            raise RuntimeError("Python code in the module decides by values of tensors, now so and now so")
        return next(iter(self._noted))
