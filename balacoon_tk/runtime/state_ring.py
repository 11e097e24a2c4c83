"""Streams' states in memory of their own, where one run leaves what the next one reads.

Between two runs of a graph the caches hold nothing of Python, so that each tensor which passes through it
costs microseconds. Here none does: a run reads one set of bound tensors and writes the next::

    first ──▶ set 0 ──▶ set 1 ──▶ set 2 ──▶ set 0 …

Three sets, because the state before the newest must stay as it is: a push that fails is made again from
there, and so is a last push that brings too few frames.
"""

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from balacoon_tk._typing import AnyArray
from balacoon_tk.runtime.binding import Binding
from balacoon_tk.runtime.options import HOST
from balacoon_tk.runtime.session import Session, Tensor, empty_tensor

_N_SETS = 3
_MAX_IDLE_RINGS = 32  # streams that have ended; each holds three times a stream's state


class RingGraph(NamedTuple):
    """What all rings of a graph have in common; its mappings are by the names of the inputs."""

    session: Session
    first: Mapping[str, Tensor]  # the state before the first push, which is only read
    outputs: Mapping[str, str]  # the outputs that give the next state
    constant: Mapping[str, Tensor]  # what every run reads


class StateRing:
    """Sets of state tensors around which one stream goes; for one thread at a time."""

    def __init__(self, graph: RingGraph, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._graph = graph
        self._shapes = shapes
        specs = graph.session.inputs
        self._sets = [
            {
                name: empty_tensor(shape, specs[name].dtype, graph.session.memory)
                for name, shape in shapes.items()
            }
            for _ in range(_N_SETS)
        ]
        self._bindings: dict[int, Binding] = {}
        self.number = 0  # how many states came before the one that the ring is at

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The state that the ring is at; it stays as it is for one run more."""
        return self._at(self.number)

    def holds(self, number: int) -> bool:
        """Whether a state is still there: the newest, and the one before it."""
        return self.number - number <= 1

    def enter(self, state: Mapping[str, Tensor]) -> bool:
        """Go on from a state that another run gave; False if its shapes are not the ring's."""
        # A graph whose states change their shapes may leave them alone for a few pushes.
        if any(tuple(tensor.shape()) != self._shapes[name] for name, tensor in state.items()):
            return False
        if self._graph.session.memory == HOST:
            for name, tensor in state.items():
                self._sets[1 % _N_SETS][name].update_inplace(tensor.numpy())
        else:
            # A copy would pass through the host: the ring takes the tensors themselves, and binds them anew.
            self._sets[1 % _N_SETS] = dict(state)
            self._bindings.clear()
        # As if the first step had been run here.
        self.number = 1
        return True

    def run(
        self, feeds: Mapping[str, AnyArray], shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, AnyArray]:
        """Run once, go on to the state that it gives, and return the outputs, whose shapes are known.

        If the run fails or something doesn't fit, this state and the one before it are as they were.
        """
        # The first state is bound apart; every other set has one place in the ring.
        key = -1 if self.number == 0 else self.number % _N_SETS
        binding = self._bindings.get(key)
        if binding is None:
            graph = self._graph
            written = {graph.outputs[name]: tensor for name, tensor in self._at(self.number + 1).items()}
            binding = Binding(graph.session, {**self.tensors, **graph.constant}, written)
            self._bindings[key] = binding
        # Only if it succeeds is there a next state; the set that it was to be written to was free.
        outputs = binding.run(feeds, shapes)
        self.number += 1
        return outputs

    def _at(self, number: int) -> Mapping[str, Tensor]:
        return self._graph.first if number == 0 else self._sets[number % _N_SETS]


class RingLease:
    """A ring that a stream has until nobody holds one of its states any more."""

    __slots__ = ("_idle", "ring")

    def __init__(self, ring: StateRing, idle: deque[StateRing]) -> None:
        self.ring = ring
        self._idle = idle

    # A stream that is left in the middle is told of by nobody else.
    def __del__(self) -> None:
        self.ring.number = 0
        self._idle.append(self.ring)


class StateRings:
    """The rings of one graph, which later streams use again.

    Whether a graph's states keep their shapes from push to push, a stream shows; until one has, and for
    graphs of which one has shown that they don't, there is no ring. Nor is there one that isn't `usable`.
    """

    def __init__(self, graph: RingGraph, *, usable: bool) -> None:
        self._graph = graph
        self._usable = usable
        self._begins = True  # whether first pushes work; they have a lag, which others don't
        self._shapes: dict[str, tuple[int, ...]] | None = None
        self._idle: deque[StateRing] = deque(maxlen=_MAX_IDLE_RINGS)

    def learn(self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
        """Note the shapes of the state once a run has left them as they were."""
        if not self._usable or self._shapes is not None:
            return
        # Equal shapes before and after a step: what the state will have in all later ones.
        shapes = {name: tuple(tensor.shape()) for name, tensor in after.items()}
        if all(tuple(tensor.shape()) == shapes[name] for name, tensor in before.items()):
            self._shapes = shapes

    def borrow(self) -> RingLease | None:
        """Return a place for the state of one stream; None if there is none for this graph, or not yet."""
        if self._shapes is None:
            return None
        try:  # streams borrow from many threads, and `pop` alone is safe without a lock
            ring = self._idle.pop()
        except IndexError:
            ring = StateRing(self._graph, self._shapes)
        return RingLease(ring, self._idle)

    def borrow_for_first(self) -> RingLease | None:
        """Return a place for a stream that begins, unless a first push has shown that none will do."""
        return self.borrow() if self._begins else None

    def give_up(self, *, first_only: bool) -> None:
        """Note that a run in a ring has failed: of a first push, or of any other."""
        if first_only:
            self._begins = False
        else:
            # For good: a graph that has failed once would fail in the next stream, after the same work.
            self._shapes, self._usable = None, False
            self._idle.clear()
