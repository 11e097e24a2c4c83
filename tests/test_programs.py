"""A program of the native engine in a voice: arrays among the weights, each once, and back bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.native.program import Call, Edge, Port, Program, Stage
from balacoon_tk.voice.guard.programs import _FITS
from balacoon_tk.voice.programs import pack_program, read_program
from balacoon_tk.voice.weights import WeightsWriter


def program_of(**arrays: np.ndarray) -> Program:
    """Return a program of one stage; what it computes doesn't matter to a file."""
    return Program(
        edges=(Edge("frames", 8), Edge("samples", 1)),
        stages=(
            Stage(
                "convolve",
                "conv",
                0,
                1,
                (Call("tanh"), Call("store", edge=1)),
                n_taps=3,
                weights="w",
                rate=(4, 1),
            ),
        ),
        inputs=(Port("frames", 0, (1, 8)),),
        outputs=(Port("samples", 1, (1, 1), (4, 1)),),
        arrays=arrays,
    )


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.05).astype(np.float32)


def graph_of(array: np.ndarray):
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", None]) for name in ("x", "y")]
    tensor = numpy_helper.from_array(array, "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", info[:1], info[1:], [tensor]
    )
    return helper.make_model(graph)


def stored(program: Program, *graphs: np.ndarray) -> tuple[Program, int]:
    """Return a program as it comes back from a voice with some graphs, and the bytes of their weights."""
    writer = WeightsWriter()
    for array in graphs:
        writer.take(graph_of(array))
    data = pack_program(program, writer)
    return read_program(data, np.frombuffer(writer.data, np.uint8)), len(writer.data)


def test_every_field_of_a_record_comes_back():
    """What the reader of a file doesn't know would be refused, each by its name."""
    for kind in (Edge, Stage, Call, Port):
        assert {str(each.type).removesuffix(" | None") for each in fields(kind)} <= _FITS.keys()
    stages = (
        Stage("attend", "a", 0, 4, n_in=2, n_groups=2, others=((0, 4), (0, 4)), left_context=3,
              right_context=1, distance_biases="w"),
        Stage("recur", "r", 0, 4, (Call("position"), Call("store", edge=1)), cell="lstm", own=1, weights="w"),
    )  # fmt: skip
    program = replace(program_of(w=numbers(2, 1, 5)), stages=stages)
    found, _ = stored(program)
    assert found.stages == stages


def test_a_context_that_no_voice_has_use_for_is_refused():
    stages = (Stage("attend", "a", 0, 512, left_context=1 << 20),)
    with pytest.raises(ModelError, match="its window or padding has"):
        stored(replace(program_of(w=numbers(2)), stages=stages))


@pytest.mark.parametrize(
    "array",
    [
        numbers(8, 3, 5),
        numbers(0, 3),
        np.float32(2.5) * np.ones((), np.float32),
        np.arange(-60, 60, dtype=np.int8).reshape(5, 24),
        np.arange(7, dtype=np.int64),
        numbers(300).astype(np.float16).astype(np.float32),
    ],
    ids=["odd", "empty", "scalar", "int8", "int64", "half"],
)
def test_a_program_comes_back_as_it_was(array):
    program = program_of(w=array, b=numbers(3, seed=1))
    found, _ = stored(program, numbers(96, 64))
    assert found.arrays["w"].dtype == array.dtype
    np.testing.assert_array_equal(found.arrays["w"], array, strict=True)
    assert found.fingerprint == program.fingerprint
    assert (found.edges, found.stages, found.inputs, found.outputs) == (
        program.edges,
        program.stages,
        program.inputs,
        program.outputs,
    )


@pytest.mark.parametrize(
    "change",
    [lambda w: w, lambda w: w.T, lambda w: w[::-1], lambda w: w.reshape(96, 2, 64).transpose(1, 0, 2)],
    ids=["same", "transposed", "backwards", "halves"],
)
def test_weights_that_a_graph_has_are_not_there_twice(change):
    source = numbers(96, 128)
    array = np.ascontiguousarray(change(source))
    found, n_bytes = stored(program_of(w=array), source)
    assert n_bytes == source.nbytes
    np.testing.assert_array_equal(found.arrays["w"], array)


def test_weights_that_a_graph_has_in_half_precision_are_not_there_in_full():
    half = numbers(96, 128).astype(np.float16)
    found, n_bytes = stored(program_of(w=half.astype(np.float32)), half)
    assert n_bytes == half.nbytes
    np.testing.assert_array_equal(found.arrays["w"], half.astype(np.float32), strict=True)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([1.0, np.nan], np.float32), r"arrays\['w'\] holds NaN or infinity"),
        (np.array([np.inf], np.float32), r"arrays\['w'\] holds NaN or infinity"),
        (np.array([1.0]), r"arrays\['w'\] is of float64: must be one of float32"),
    ],
)
def test_arrays_that_no_kernel_takes_are_refused(array, message):
    with pytest.raises(ModelError, match=message):
        pack_program(program_of(w=array), WeightsWriter())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"{", "not a native program"),
        (lambda data: b"[]", "not a native program"),
        (lambda data: json.dumps(json.loads(data) | {"arrays": {"w": {}}}).encode(), "not a native program"),
        (lambda data: data.replace(b'"offset": 0', b'"offset": 99'), "ends at byte"),
        (lambda data: data.replace(b'"offset": 0', b'"offset": -1'), "ends at byte"),
        (lambda data: data.replace(b'"dtype": "float32"', b'"dtype": "object"'), "must be one of float32"),
        (
            lambda data: data.replace(b'"format_version": 1', b'"format_version": 99'),
            "format_version=99 must be",
        ),
    ],
)
def test_a_file_that_is_no_program_says_so(damage, message):
    writer = WeightsWriter()
    data = damage(pack_program(program_of(w=numbers(4, 8)), writer))
    with pytest.raises(ModelError, match=message):
        read_program(data, np.frombuffer(writer.data, np.uint8))


def test_a_program_is_read_without_onnx():
    code = "import sys, balacoon_tk.voice.programs; assert 'onnx' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
