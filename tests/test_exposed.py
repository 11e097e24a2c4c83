"""A graph whose tensors are all looked at in one run."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from balacoon_tk.errors import ModelError
from balacoon_tk.graph.exposed import ExposedGraph, unweighted, weights_apart
from balacoon_tk.runtime.session import Session

CHANNELS, WIDTH = 160, 4


def product(weight: np.ndarray) -> ir.Model:
    """Return a graph that turns frames, multiplies them, halves the product and counts its steps."""
    frames = ir.Value(name="frames", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, WIDTH, "n"]))
    matrix = ir.Value(name="matrix", const_value=ir.tensor(weight))
    half = ir.Value(name="half", const_value=ir.tensor(np.float32(0.5)))
    nodes = [
        ir.node("Transpose", [frames], {"perm": [0, 2, 1]}, outputs=[ir.Value(name="rows")]),
    ]
    nodes.append(ir.node("MatMul", [nodes[0].outputs[0], matrix], outputs=[ir.Value(name="product")]))
    nodes.append(ir.node("Shape", [nodes[1].outputs[0]], outputs=[ir.Value(name="sizes")]))
    nodes.append(ir.node("Mul", [nodes[1].outputs[0], half], outputs=[ir.Value(name="y")]))
    graph = ir.Graph(
        [frames],
        nodes[-1].outputs,
        nodes=nodes,
        initializers=[matrix, half],
        opset_imports={"": 18},
        name="g",
    )
    graph.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    return ir.Model(graph, ir_version=9)


@pytest.fixture
def weight() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((WIDTH, CHANNELS)).astype(np.float32)


class TestExposedGraph:
    def test_gives_shape_and_type_of_every_tensor_and_small_ones_whole(self, weight):
        frames = np.ones((1, WIDTH, 5), np.float32)
        seen = ExposedGraph(product(weight), max_size=64).run({"frames": frames})
        assert {name: tensor.shape for name, tensor in seen.items()} == {
            "frames": (1, WIDTH, 5),
            "rows": (1, 5, WIDTH),
            "product": (1, 5, CHANNELS),
            "sizes": (3,),
            "y": (1, 5, CHANNELS),
        }
        assert seen["product"].dtype == seen["y"].dtype == np.float32
        assert seen["sizes"].array.tolist() == [1, 5, CHANNELS]
        # As many elements whatever the length, so that nobody needs to keep them.
        assert seen["product"].array is None and seen["y"].array is None

    def test_leaves_the_model_its_weights(self, weight):
        large = np.tile(weight, (1, 200))
        model = product(large)
        seen = ExposedGraph(model, max_size=10**9).run({"frames": np.ones((1, WIDTH, 2), np.float32)})
        np.testing.assert_array_equal(model.graph.initializers["matrix"].const_value.numpy(), large)
        whole = Session(ir.to_proto(model)).run({"frames": np.ones((1, WIDTH, 2), np.float32)})
        np.testing.assert_allclose(seen["y"].array, whole["y"], rtol=1e-6)

    def test_gives_weights_back_to_a_graph_that_cannot_be_loaded(self, weight):
        model = product(np.tile(weight, (2, 200)))  # of as many rows again as frames have channels
        with pytest.raises(ModelError):
            ExposedGraph(model, max_size=64).run({"frames": np.ones((1, WIDTH, 2), np.float32)})
        assert model.graph.initializers["matrix"].const_value.numpy().shape == (2 * WIDTH, 200 * CHANNELS)

    def test_measures_what_nothing_says_before_a_run(self):
        """Behind a reshape by computed sizes no shape is known, and all would be kept whole."""
        frames = ir.Value(
            name="frames", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, WIDTH, "n"])
        )
        flat = ir.Value(name="flat", const_value=ir.tensor(np.array([-1], np.int64)))
        sizes = ir.node("Shape", [frames], outputs=[ir.Value(name="sizes")])
        line = ir.node("Reshape", [frames, flat], outputs=[ir.Value(name="line")])
        back = ir.node("Reshape", [line.outputs[0], sizes.outputs[0]], outputs=[ir.Value(name="back")])
        total = ir.node("ReduceSum", [back.outputs[0]], {"keepdims": 0}, outputs=[ir.Value(name="total")])
        total.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        nodes = [sizes, line, back, total]
        graph = ir.Graph(
            [frames], total.outputs, nodes=nodes, initializers=[flat], opset_imports={"": 18}, name="g"
        )
        exposed = ExposedGraph(ir.Model(graph, ir_version=9), max_size=64)
        for n_frames in (20, 30):
            seen = exposed.run({"frames": np.ones((1, WIDTH, n_frames), np.float32)})
            assert seen["back"].shape == (1, WIDTH, n_frames) and seen["back"].array is None
            assert seen["line"].shape == (WIDTH * n_frames,) and seen["line"].array is None
            assert seen["total"].array == WIDTH * n_frames


def test_weights_whose_names_look_like_paths_are_found():
    weight = np.ones((WIDTH, 1 << 14), np.float32)
    frames = ir.Value(name="frames", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, "n", WIDTH]))
    matrix = ir.Value(name="/enc/matrix", const_value=ir.tensor(weight))
    node = ir.node("MatMul", [frames, matrix], outputs=[ir.Value(name="y")])
    graph = ir.Graph([frames], node.outputs, nodes=[node], initializers=[matrix], opset_imports={"": 17})
    with weights_apart(graph) as weights:
        proto = ir.to_proto(ir.Model(graph, ir_version=9))
    (y,) = Session(unweighted(proto, weights)).run({"frames": np.ones((1, 2, WIDTH), np.float32)}).values()
    np.testing.assert_array_equal(y, np.full((1, 2, 1 << 14), WIDTH, np.float32))
