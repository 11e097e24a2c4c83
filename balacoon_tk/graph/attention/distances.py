"""What an attention adds to its scores, where that follows from the distance between query and key.

A mask or bias of positions does where it stays the same when both positions move on together: by a step, or
by as many as a block has of a mask of blocks. That is told from how it is computed: `_drift` is how much a
number grows when both move on. Then one query says all, or one block of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.attention.fuse import LARGEST_SCORE, VANISHES
from balacoon_tk.graph.attention.windows import KEYS, N_AXES, NARROW, QUERIES, Expression, Window, within
from balacoon_tk.graph.match import name_of
from balacoon_tk.graph.one_node import run_node

_RAISED = 1e3
_ON_THE_WAY = frozenset({("Div", 0), ("Sub", 0), ("Where", 1), ("Where", 2)})
"""Operators, and which of their inputs the scores may be."""
_LONGEST_PERIOD = 4096
_BY_POSITION = "the mask follows from positions, and not from distances alone"
_SAME_DRIFT = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})


class DistanceError(Exception):
    """The scores aren't a factor of products and a bias of distances; the message says what else they are."""


@dataclass(frozen=True, slots=True, eq=False)
class DistanceBiases:
    """Scores are ``factor * q[i] . k[j] + biases[head, i % period, j - i + left]``."""

    factor: float
    biases: AnyArray
    """(n_heads or 1, period, left + 1 + right), float32: the lowest of all numbers where a key isn't seen."""


def distance_biases(window: Window, model: ir.Model) -> DistanceBiases:
    """Return what an attention of a bounded window adds to its scores; a `DistanceError` if it is more."""
    if not _are_probabilities(window.weights):
        raise DistanceError("something is made of the probabilities")
    if window.left is None:
        raise DistanceError("keys and values grow without bound")
    factor, period = _factor(window.scores), _period(window.scores)
    biases, raised = (_biases(window, period, model, product) for product in (0.0, _RAISED))
    own = biases[..., window.left : window.left + 1]
    if not np.isfinite(own).all():
        raise DistanceError("a query doesn't see itself")
    # So far below the query's own that nothing is left of it, whatever both products are.
    hidden = biases < own - (2 * LARGEST_SCORE * abs(factor) + VANISHES)
    # Another number may stand where products were, as in a mask that says a score itself.
    if not np.allclose(raised[~hidden] - biases[~hidden], factor * _RAISED, rtol=1e-2):
        raise DistanceError("some scores are no products")
    # Minus infinity would be a number that no program may hold.
    return DistanceBiases(factor, np.where(hidden, np.finfo(np.float32).min, biases))


def _biases(window: Window, period: int, model: ir.Model, product: float) -> AnyArray:
    """Return the scores of a period of queries if all products were one number."""
    assert window.left is not None
    square = _Evaluation(window, period, model, product).square(window.scores)
    queries = np.arange(period)[:, np.newaxis]
    return square[:, queries, queries + np.arange(window.left + 1 + window.right)].astype(np.float32)


def _factor(scores: Expression) -> float:
    """Return what the product of queries and keys is multiplied by, on its way into the scores."""
    item, factor = scores, 1.0
    while item.op_type != "scores":
        places = [k for k, value in enumerate(item.inputs) if value is not None and _reads_scores(value)]
        place = places[0] if len(places) == 1 else -1
        known = item.op_type in ("Add", "Sum", "Cast", "Mul") or (item.op_type, place) in _ON_THE_WAY
        if place < 0 or not known:
            raise DistanceError(f"scores are more than a product and a bias ({item.op_type})")
        if item.op_type in ("Mul", "Div"):
            other = item.inputs[1 - place]
            if other is None or other.op_type != "constant" or other.array is None or other.array.size != 1:
                raise DistanceError("scores are multiplied by more than a number")
            number = float(other.array.item())
            factor *= number if item.op_type == "Mul" else 1 / number
        inner = item.inputs[place]
        assert inner is not None
        item = inner
    return factor


def _reads_scores(item: Expression) -> bool:
    return any(value.op_type == "scores" for value in within(item))


def _are_probabilities(item: Expression) -> bool:
    """Whether values are weighted by the softmax itself, or by 0 where that is NaN: a query sees itself."""
    if item.op_type == "Where":
        condition, _, otherwise = item.inputs
        if condition is None or otherwise is None:
            return False
        is_nan = condition.op_type == "IsNaN" and condition.inputs == (otherwise,)
        return is_nan and otherwise.op_type == "probabilities"
    return item.op_type == "probabilities"


def _period(scores: Expression) -> int:
    """Return after how many steps scores have the same biases again."""
    period = math.lcm(*(_divisor(item) for item in within(scores)))
    if period > _LONGEST_PERIOD:
        raise DistanceError(f"the mask comes again after {period} steps: must be <= {_LONGEST_PERIOD}")
    known: dict[Expression, float] = {}

    def of(each: Expression) -> float:
        if each not in known:
            known[each] = _drift(each, [of(value) for value in each.inputs if value is not None], period)
        return known[each]

    if of(scores):
        raise DistanceError(_BY_POSITION)
    return period


def _divisor(item: Expression) -> int:
    """Return the whole number that positions are divided by; 1 where it isn't such a division."""
    if item.op_type not in ("Div", "Mod") or not item.inputs or not _is_position(item.inputs[0]):
        return 1
    array = None if item.inputs[1] is None else item.inputs[1].array
    number = float(array.item()) if array is not None and array.size == 1 else 0.0
    return int(number) if number >= 1 and number % 1 == 0 else 1


def _is_position(item: Expression | None) -> bool:
    """Whether it is a position as it is, which is never below 0."""
    while item is not None and item.op_type == "Cast" and item.cast_to not in NARROW:
        item = item.inputs[0]
    return item is not None and item.op_type == "position"


def _drift(item: Expression, inputs: Sequence[float], period: int) -> float:
    """Return how much a number grows where query and key both move on by a period."""
    op_type = item.op_type
    if op_type == "position":
        return float(period)
    divisor = _divisor(item)
    if divisor > 1:
        return period / divisor if op_type == "Div" else 0.0
    if op_type in ("constant", "scores") or (op_type == "table" and _is_by_distance(item)):
        return 0.0
    if op_type not in ("table", "value") and inputs and not any(inputs):
        return 0.0
    if op_type in ("Add", "Sum"):
        return sum(inputs)
    if op_type == "Sub":
        return inputs[0] - inputs[1]
    if op_type == "Neg":
        return -inputs[0]
    if op_type in _SAME_DRIFT and inputs[0] == inputs[1]:
        return 0.0
    if op_type == "Mul":
        factors = [v.array for v in item.inputs if v is not None and v.op_type == "constant"]
        # A factor that isn't whole rounds otherwise at each position.
        if (
            len(factors) == 1
            and factors[0] is not None
            and factors[0].size == 1
            and factors[0].item() % 1 == 0
        ):
            return sum(inputs) * float(factors[0].item())
    # A drift is a whole number: what it is added to is cut as before.
    if op_type == "Floor" or (op_type == "Cast" and item.cast_to not in NARROW and not _cuts_below_0(item)):
        return inputs[0]
    raise DistanceError(_BY_POSITION)


def _cuts_below_0(cast: Expression) -> bool:
    """Whether a Cast may cut fractions off towards 0 that lie on either side of it."""
    inner, to = cast.inputs[0], cast.cast_to
    if inner is None or to is None or not np.issubdtype(to.numpy(), np.integer):
        return False
    return not (_divisor(inner) > 1 or _is_whole(inner))


def _is_whole(item: Expression) -> bool:
    """Whether it is whole numbers, of whatever type."""
    if item.op_type in ("position", "Floor") or item.integers:
        return True
    if item.op_type == "constant" and item.array is not None:
        return bool((item.array == np.floor(item.array)).all())
    inputs = [value for value in item.inputs if value is not None]
    return item.op_type in ("Add", "Cast", "Mul", "Neg", "Sub", "Sum") and all(map(_is_whole, inputs))


def _is_by_distance(item: Expression) -> bool:
    """Whether a table that is looked up by both positions says the same along each of its diagonals."""
    array = item.array
    if array is None or QUERIES not in item.axes or KEYS not in item.axes:
        return False
    return bool(np.array_equal(array[..., 1:, 1:], array[..., :-1, :-1]))


class _Evaluation:
    """Expressions for a period of queries, behind all that they look back to, and the keys that they see."""

    def __init__(self, window: Window, period: int, model: ir.Model, product: float) -> None:
        assert window.left is not None
        first = -(-window.left // period) * period
        self._queries = slice(first, first + period)
        self._keys = slice(first - window.left, first + period + window.right)
        self._model, self._product = model, product
        self._known: dict[Expression, AnyArray] = {}

    def square(self, item: Expression) -> AnyArray:
        """Return an expression's numbers as (n_heads or 1, queries, keys)."""
        n_queries, n_keys = (part.stop - part.start for part in (self._queries, self._keys))
        found = self.of(item)
        whole = np.broadcast_to(found, (*found.shape[:QUERIES], n_queries, n_keys))
        return whole.reshape(-1, n_queries, n_keys)

    def of(self, item: Expression) -> AnyArray:
        """Return an expression's numbers, of five axes or a single one."""
        if item not in self._known:
            self._known[item] = self._computed(item)
        return self._known[item]

    def _computed(self, item: Expression) -> AnyArray:
        if item.op_type == "scores":
            return np.full((1,) * N_AXES, self._product, np.float32)
        if item.op_type == "position":
            part = self._keys if item.axes == (KEYS,) else self._queries
            shape = [1] * N_AXES
            shape[item.axes[0] or 0] = -1
            return np.arange(part.start, part.stop, dtype=np.int64).reshape(shape)
        inputs = [None if value is None else self.of(value) for value in item.inputs]
        if item.array is not None:
            return self._constant(item, item.array, inputs)
        return self._run(item, inputs)

    def _constant(self, item: Expression, array: AnyArray, inputs: Sequence[AnyArray | None]) -> AnyArray:
        if item.op_type == "lookup":
            index, beside = inputs[0], item.axes[0]
            assert index is not None
            found: AnyArray = array[index.reshape((1,) * (N_AXES - index.ndim) + index.shape)]
            return found[..., 0] if beside is None else found.swapaxes(-1, N_AXES + beside)[..., 0]
        if item.op_type == "table":
            if self._keys.stop > array.shape[KEYS] or self._queries.stop > array.shape[QUERIES]:
                raise DistanceError("a table of positions is shorter than what a query sees")
            return array[..., self._queries, self._keys]
        # A single number without axes, as Clip asks for.
        return array.reshape(()) if array.size == 1 else array

    def _run(self, item: Expression, inputs: Sequence[AnyArray | None]) -> AnyArray:
        values = [None if array is None else ir.Value(name=f"input_{k}") for k, array in enumerate(inputs)]
        attributes = list(item.node.attributes.values()) if item.node is not None else []
        if item.node is None and item.to is not None:
            attributes = [ir.AttrInt64("to", int(item.to))]
        node = ir.Node("", item.op_type, values, attributes, num_outputs=1)
        node.outputs[0].name = "output"
        arrays = {
            name_of(value): array
            for value, array in zip(values, inputs, strict=True)
            if value is not None and array is not None
        }
        return run_node(node, arrays, self._model)
