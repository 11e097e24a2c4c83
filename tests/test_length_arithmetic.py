"""What a graph computes from lengths is followed exactly: as the runtime computes it, at every length."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import TensorProto

from balacoon_tk.graph.lengths import read_lengths
from balacoon_tk.graph.probe import probe
from balacoon_tk.graph.quasi_polynomial import (
    QuasiPolynomial,
    UnprovenError,
    larger,
    remainder,
    smaller,
)
from balacoon_tk.graph.simplify.tidy import lift_constants
from balacoon_tk.runtime.session import Session
from streaming_laws import assert_streams
from tiny_graphs import TinyGraph

N = QuasiPolynomial.through({1: 1, 2: 2})
LENGTHS = (*range(1, 40), 48, 97, 1000)

# --- functions ------------------------------------------------------------------------------------------

BINARY = {
    "+": (lambda a, b: a + b, lambda x, y: x + y),
    "-": (lambda a, b: a - b, lambda x, y: x - y),
    "*": (lambda a, b: a * b, lambda x, y: x * y),
    "min": (smaller, min),
    "max": (larger, max),
    "<": (lambda a, b: a < b, lambda x, y: Fraction(x < y)),
    "<=": (lambda a, b: a <= b, lambda x, y: Fraction(x <= y)),
    "==": (lambda a, b: a.same(b), lambda x, y: Fraction(x == y)),
    "if": (lambda a, b: a.choose(b, a), lambda x, y: y if x else x),
}
UNARY = {
    "floor": (QuasiPolynomial.floor, lambda x: Fraction(math.floor(x))),
    "ceil": (QuasiPolynomial.ceil, lambda x: Fraction(math.ceil(x))),
    "truncated": (QuasiPolynomial.truncated, lambda x: Fraction(math.trunc(x))),
    "/ 3": (lambda a: a / QuasiPolynomial.of(3), lambda x: x / 3),
    "% 4": (lambda a: remainder(a, QuasiPolynomial.of(4)), lambda x: x % 4),
    "-": (lambda a: -a, lambda x: -x),
}


def expressions():
    leaf = st.one_of(st.just("n"), st.integers(-6, 9))

    def deeper(inner):
        unary = st.tuples(st.sampled_from(list(UNARY)), inner)
        return st.one_of(unary, st.tuples(st.sampled_from(list(BINARY)), inner, inner))

    return st.recursive(leaf, deeper, max_leaves=6)


def follow(expression):
    """The expression as a function of the length, and as Python computes it."""
    if expression == "n":
        return N, Fraction
    if isinstance(expression, int):
        return QuasiPolynomial.of(expression), lambda n: Fraction(expression)
    name, *inner = expression
    functions, numbers = zip(*map(follow, inner), strict=True)
    ours, theirs = (UNARY if len(inner) == 1 else BINARY)[name]
    return ours(*functions), lambda n: theirs(*(number(n) for number in numbers))


@given(expressions())
@example(("==", ("/ 3", "n"), 15))
def test_an_expression_is_followed_exactly_or_not_at_all(expression):
    try:
        function, number = follow(expression)
    except UnprovenError:
        return
    # What comes before the polynomials hold, and of each as many numbers as say which it is: n / 3 == 15 is
    # false at most lengths.
    lengths = {*LENGTHS, *range(1, len(function.head) + 3 * len(function.classes) + 1)}
    values = [number(n) for n in lengths]
    assert [function.at(n) for n in lengths] == values
    # Constant is said of what is constant, and of nothing else.
    assert function.constant == (values[0] if len(set(values)) == 1 else None)


def test_equal_functions_are_equal_however_they_were_written():
    two = QuasiPolynomial.of(2)
    half = (N / two).floor()
    assert half + (N - half) == N
    assert (half * two + remainder(N, two)) == N
    assert (N / two).ceil() == ((N + QuasiPolynomial.of(1)) / two).floor()
    assert larger(N, QuasiPolynomial.of(1)) == N
    assert smaller(N, QuasiPolynomial.of(4)) != N


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (N * QuasiPolynomial.of(3) - QuasiPolynomial.of(2), "3*n - 2"),
        (-N * N, "-n**2"),
        (remainder(N, QuasiPolynomial.of(2)), "0 where n % 2 = 0; 1 where n % 2 = 1"),
        (smaller(N, QuasiPolynomial.of(4)), "4 from n = 4 on"),
        (QuasiPolynomial.of(0), "0"),
    ],
)
def test_a_function_is_written_as_one_would_say_it(function, text):
    assert str(function) == text


@pytest.mark.parametrize(
    "compute",
    [
        lambda: N * N * N,
        lambda: QuasiPolynomial.of(1) / N,
        lambda: N / (N - N),
        lambda: (N / QuasiPolynomial.of(5003)).floor(),
        lambda: N - QuasiPolynomial.of(100_000) < QuasiPolynomial.of(0),
        lambda: QuasiPolynomial.of(math.inf),
    ],
)
def test_what_would_take_too_long_to_write_down_is_not_followed(compute):
    with pytest.raises(UnprovenError):
        compute()


# --- graphs ---------------------------------------------------------------------------------------------


def scalar_graphs():
    """Draw expressions of a length in ONNX's operators, integers and floats mixed."""
    numbers = st.integers(1, 7)

    def deeper(inner):
        with_number = st.tuples(
            st.sampled_from(["Div", "Mod", "Mul", "Sub", "Min", "Max", "Add"]), inner, numbers
        )
        rounded = st.tuples(st.sampled_from(["Floor", "Ceil", "Trunc"]), inner, numbers)
        both = st.tuples(st.sampled_from(["Add", "Sub", "Min", "Max"]), inner, inner)
        chosen = st.tuples(st.sampled_from(["Less", "Equal", "GreaterOrEqual"]), inner, inner)
        return st.one_of(with_number, rounded, both, chosen)

    return st.recursive(st.just("n"), deeper, max_leaves=5)


def write_scalar(g, expression, length):
    if expression == "n":
        return length
    if isinstance(expression, int):
        return g.const(expression)
    op_type, *inner = expression
    first, second = (write_scalar(g, each, length) for each in inner)
    if op_type in ("Floor", "Ceil", "Trunc"):
        quotient = g.op("Div", *(g.op("Cast", each, to=TensorProto.FLOAT) for each in (first, second)))
        rounded = quotient if op_type == "Trunc" else g.op(op_type, quotient)
        return g.op("Cast", rounded, to=TensorProto.INT64)
    if op_type in ("Less", "Equal", "GreaterOrEqual"):
        return g.op("Where", g.op(op_type, first, second), second, first)
    return g.op(op_type, first, second)


@given(scalar_graphs())
def test_lengths_are_what_the_runtime_computes(expression):
    g = TinyGraph()
    x = g.frames(2)
    length = g.op("Gather", g.op("Shape", x), g.const(2))
    out = write_scalar(g, expression, length)
    proto = g.model(g.op("Identity", out))
    model = ir.from_proto(proto)
    lift_constants(model)
    seen = probe(model, {"frames": 2}, {"frames": 1}, lengths=((5, 8, 13),))
    followed = {value.name: column for value, column in read_lengths(model.graph, seen).items()}
    counts = followed.get(out)
    if counts is None:
        return
    session = Session(proto)
    for n in LENGTHS:
        result = next(iter(session.run({"frames": np.zeros((1, 2, n), np.float32)}).values()))
        assert counts.values.item().at(n) == result.item()


def seanet_padding(g, x, kernel, stride):
    """Pad as EnCodec does: as many steps at the end as the last window needs, counted in floats."""
    length = g.op("Cast", g.op("Gather", g.op("Shape", x), g.const(2)), to=TensorProto.FLOAT)
    total = kernel - stride
    windows = g.op(
        "Add", g.op("Div", g.op("Add", length, g.number(total - kernel)), g.number(stride)), g.number(1)
    )
    whole = g.op("Sub", g.op("Ceil", windows), g.number(1))
    ideal = g.op("Add", g.op("Mul", whole, g.number(stride)), g.number(kernel - total))
    extra = g.op("Cast", g.op("Sub", ideal, length), to=TensorProto.INT64)
    extra = g.op("Unsqueeze", extra, g.const([0]))
    return g.op("Pad", x, g.op("Concat", g.const([0, 0, total, 0, 0]), extra, axis=0))


def test_padding_that_length_arithmetic_hides_streams():
    g = TinyGraph()
    x = g.frames(3)
    y = g.conv(seanet_padding(g, x, 7, 1), 3, 4, 7)
    y = g.up(g.op("Elu", y), 4, 3, 4, 2)
    assert_streams(g.model(g.conv(seanet_padding(g, y, 3, 1), 3, 1, 3)))
