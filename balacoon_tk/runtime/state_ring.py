"""A stream's state in memory of its own, where one run leaves what the next one reads."""

from __future__ import annotations

from collections.abc import Mapping

from balacoon_tk._typing import AnyArray
from balacoon_tk.runtime.session import Binding, Session, Tensor, empty_tensor

_N_SETS = 3  # the state, the one before it, and room for the next: a run that fails has spoilt neither
_INITIAL = _N_SETS


class StateRing:
    """Sets of state tensors around which a stream goes: each run reads one set and writes the next.

    So no tensor passes through Python from push to push, and none is allocated.

    Parameters
    ----------
    session : Session
        Of a stateful graph.
    initial : mapping of str to Tensor
        The state before the first push, by the names of the inputs. It is only read.
    outputs : mapping of str to str
        The output that gives the next state, by the names of the inputs.
    shapes : mapping of str to tuple of int
        The shapes of every state but the first.
    constant : mapping of str to Tensor
        Inputs that are the same in every run.
    """

    def __init__(
        self,
        session: Session,
        initial: Mapping[str, Tensor],
        outputs: Mapping[str, str],
        shapes: Mapping[str, tuple[int, ...]],
        constant: Mapping[str, Tensor],
    ) -> None:
        self._session = session
        self._outputs = outputs
        self._constant = constant
        dtypes = {name: session.inputs[name].dtype for name in initial}
        sets = [{name: empty_tensor(shapes[name], dtypes[name]) for name in initial} for _ in range(_N_SETS)]
        self._sets: list[Mapping[str, Tensor]] = [*sets, initial]
        self._shapes = shapes
        self._bindings: list[Binding | None] = [None] * len(self._sets)
        self._at = _INITIAL

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The state after the newest run; it stays as it is for one run more."""
        return self._sets[self._at]

    def restart(self) -> None:
        """Go back to the state before the first push."""
        self._at = _INITIAL

    def enter(self, state: Mapping[str, Tensor]) -> bool:
        """Go on from a copy of a state that another run gave; False if its shapes are not the ring's."""
        if any(tuple(tensor.shape()) != self._shapes[name] for name, tensor in state.items()):
            return False
        for name, tensor in state.items():
            self._sets[0][name].update_inplace(tensor.numpy())
        self._at = 0
        return True

    def run(
        self, feeds: Mapping[str, AnyArray], shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, AnyArray]:
        """Run once, go on to the state that it gives, and return the outputs, whose shapes are known.

        Raises
        ------
        ModelError
            If the run fails or something doesn't fit; then `state` and the one before it are as they were.
        """
        following = 0 if self._at == _INITIAL else (self._at + 1) % _N_SETS
        binding = self._bindings[self._at]
        if binding is None:
            written = {self._outputs[name]: tensor for name, tensor in self._sets[following].items()}
            binding = Binding(self._session, {**self._sets[self._at], **self._constant}, written)
            self._bindings[self._at] = binding
        outputs = binding.run(feeds, shapes)
        self._at = following
        return outputs
