"""Tensors that are bound to a graph's inputs and outputs, so that runs pass nothing through Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.session import Session, Tensor, to_tensor

_Place: TypeAlias = tuple[AnyArray, Tensor]  # the same memory
_MAX_PLACES = 6  # shapes of one input or output that a binding keeps: first pushes differ by a few frames


class Binding:
    """Tensors that one run after another reads and writes where they lie; for one thread at a time.

    What a run is given or gives through Python costs tens of microseconds a tensor, since between two runs of
    a graph the processor's caches hold nothing of Python. What is bound costs nothing.

    `inputs` and `outputs` are what every run reads and writes: all that `run` doesn't name. They lie where
    the execution provider computes; what goes through `run` is in the host's memory, and all that is copied.
    """

    def __init__(self, session: Session, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        self._session = session
        self._io = session.io_binding()
        self._places: dict[str, dict[tuple[int, ...], _Place]] = {}
        self._bound: dict[str, tuple[int, ...]] = {}
        try:
            for name, tensor in inputs.items():
                self._io.bind_ortvalue_input(name, tensor)
            for name, tensor in outputs.items():
                self._io.bind_ortvalue_output(name, tensor)
        except Exception as error:
            raise ModelError(f"{session.label}: can't bind a tensor: {error}") from error

    def run(
        self, feeds: Mapping[str, AnyArray], shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, AnyArray]:
        """Run once on copies of arrays, and return copies of the outputs that have the shapes given."""
        outputs: dict[str, AnyArray] = {}
        self._session.check_process()
        try:
            for name, array in feeds.items():
                self._place(name, array.shape, array.dtype, self._io.bind_ortvalue_input)[...] = array
            for name, shape in shapes.items():
                dtype = self._session.outputs[name].dtype
                outputs[name] = self._place(name, shape, dtype, self._io.bind_ortvalue_output)
            self._session.run_bound(self._io)
        except Exception as error:
            raise self._session.failure(error) from error
        # Copies, since the next run writes to the same places.
        return {name: array.copy() for name, array in outputs.items()}

    def _place(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[np.generic],
        bind: Callable[[str, Tensor], None],
    ) -> AnyArray:
        """Return an array of this shape, bound to an input or output."""
        places = self._places.setdefault(name, {})
        if self._bound.get(name) != shape:
            # It may be interrupted anywhere, so that what is noted as bound must be bound at every moment.
            # What is bound may go before, since no run comes in between.
            self._bound.pop(name, None)
            if shape not in places:
                # The oldest goes: a stream comes back to the shapes that it has used last.
                if len(places) == _MAX_PLACES:
                    del places[next(iter(places))]
                array = np.empty(shape, dtype)
                places[shape] = array, to_tensor(array)
            bind(name, places[shape][1])
            self._bound[name] = shape
        return places[shape][0]
