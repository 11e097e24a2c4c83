"""Streams' states in memory of their own, where one run leaves what the next one reads.

Between two runs of a graph the caches hold nothing of Python, so that each tensor which passes through it
costs microseconds. Here none does: a run reads one set of bound tensors and writes the next::

    first ──▶ set 0 ──▶ set 1 ──▶ set 2 ──▶ set 0 …

Three sets, because the state before the newest must stay as it is: a push that fails is made again from
there, and so is a last push that brings too few frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from balacoon_tk._typing import AnyArray
from balacoon_tk.runtime.session import Binding, Session, Tensor, empty_tensor

_N_SETS = 3
_MAX_IDLE_RINGS = 32  # streams that have ended; each holds three times a stream's state


class StateRing:
    """Sets of state tensors around which one stream goes; for one thread at a time.

    Parameters
    ----------
    session : Session
        Of a stateful graph.
    first : mapping of str to Tensor
        The state before the first push, by the names of the inputs. It is only read.
    outputs : mapping of str to str
        The output that gives the next state, by the names of the inputs.
    shapes : mapping of str to tuple of int
        The shapes of every state but the first.
    constant : mapping of str to Tensor
        Inputs that are the same in every run.

    Attributes
    ----------
    number : int
        How many states came before the one that the ring is at.
    """

    def __init__(
        self,
        session: Session,
        first: Mapping[str, Tensor],
        outputs: Mapping[str, str],
        shapes: Mapping[str, tuple[int, ...]],
        constant: Mapping[str, Tensor],
    ) -> None:
        self._session = session
        self._outputs = outputs
        self._constant = constant
        dtypes = {name: session.inputs[name].dtype for name in first}
        self._sets = [
            {name: empty_tensor(shapes[name], dtypes[name]) for name in first} for _ in range(_N_SETS)
        ]
        self._first = first
        self._shapes = shapes
        self._bindings: dict[int, Binding] = {}
        self.number = 0

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The state that the ring is at; it stays as it is for one run more."""
        return self._at(self.number)

    def holds(self, number: int) -> bool:
        """Whether a state is still there: the newest, and the one before it."""
        return self.number - number <= 1

    def restart(self) -> None:
        """Go back to the state before the first push."""
        self.number = 0

    def enter(self, state: Mapping[str, Tensor]) -> bool:
        """Go on from a copy of a state that another run gave; False if its shapes are not the ring's."""
        if any(tuple(tensor.shape()) != self._shapes[name] for name, tensor in state.items()):
            return False
        for name, tensor in state.items():
            self._sets[1 % _N_SETS][name].update_inplace(tensor.numpy())
        self.number = 1
        return True

    def run(
        self, feeds: Mapping[str, AnyArray], shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, AnyArray]:
        """Run once, go on to the state that it gives, and return the outputs, whose shapes are known.

        Raises
        ------
        ModelError
            If the run fails or something doesn't fit; then this state and the one before it are as they were.
        """
        # The first state is bound apart; every other set has one place in the ring.
        key = -1 if self.number == 0 else self.number % _N_SETS
        binding = self._bindings.get(key)
        if binding is None:
            written = {self._outputs[name]: tensor for name, tensor in self._at(self.number + 1).items()}
            binding = Binding(self._session, {**self.tensors, **self._constant}, written)
            self._bindings[key] = binding
        outputs = binding.run(feeds, shapes)
        self.number += 1
        return outputs

    def _at(self, number: int) -> Mapping[str, Tensor]:
        return self._first if number == 0 else self._sets[number % _N_SETS]


class RingLease:
    """A ring that a stream has until nobody holds one of its states any more."""

    __slots__ = ("_idle", "ring")

    def __init__(self, ring: StateRing, idle: deque[StateRing]) -> None:
        self.ring = ring
        self._idle = idle

    def __del__(self) -> None:
        self.ring.restart()
        self._idle.append(self.ring)


class StateRings:
    """The rings of one graph, which later streams use again.

    Whether a graph's states keep their shapes from push to push, a stream shows; until one has, and for
    graphs of which one has shown that they don't, there is no ring.

    Parameters
    ----------
    session, first, outputs, constant
        As for `StateRing`.
    usable : bool
        Whether the graph may have rings at all.
    """

    def __init__(
        self,
        session: Session,
        first: Mapping[str, Tensor],
        outputs: Mapping[str, str],
        constant: Mapping[str, Tensor],
        *,
        usable: bool,
    ) -> None:
        self._given = session, first, outputs, constant
        self._usable = usable
        self._begins = True
        self._shapes: dict[str, tuple[int, ...]] | None = None
        self._idle: deque[StateRing] = deque(maxlen=_MAX_IDLE_RINGS)

    def learn(self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
        """Note the shapes of the state once a run has left them as they were."""
        if not self._usable or self._shapes is not None:
            return
        shapes = {name: tuple(tensor.shape()) for name, tensor in after.items()}
        if all(tuple(tensor.shape()) == shapes[name] for name, tensor in before.items()):
            self._shapes = shapes

    def borrow(self) -> RingLease | None:
        """Return a place for the state of one stream; None if there is none for this graph, or not yet."""
        if self._shapes is None:
            return None
        try:
            ring = self._idle.pop()
        except IndexError:
            session, first, outputs, constant = self._given
            ring = StateRing(session, first, outputs, self._shapes, constant)
        return RingLease(ring, self._idle)

    def borrow_for_first(self) -> RingLease | None:
        """Return a place for a stream that begins, unless a first push has shown that none will do."""
        return self.borrow() if self._begins else None

    def give_up(self, *, first_only: bool) -> None:
        """Note that a run in a ring has failed: of a first push, or of any other."""
        if first_only:
            self._begins = False
        else:
            self._shapes, self._usable = None, False
            self._idle.clear()
