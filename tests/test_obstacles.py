"""Will it stream, and if not, why: all that stands against it, where it comes from, and what would help."""

import pytest

from balacoon_tk.errors import ModelError
from balacoon_tk.export import NotStreamableError, make_streaming
from balacoon_tk.graph import find_obstacles, streaming
from balacoon_tk.graph.advice import advice_for
from balacoon_tk.graph.obstacles import judge_streaming
from test_streaming_refusals import OPSETS, REFUSED
from tiny_graphs import TO_THE_END, TinyGraph

N = 4


def attention(g, x):
    """Attention over frames, of one head."""
    frames = g.transpose(x, 0, 2, 1)
    scores = g.op("Softmax", g.op("MatMul", frames, x), axis=-1)
    return g.transpose(g.op("MatMul", scores, frames), 0, 2, 1)


def test_a_graph_that_streams_has_no_obstacles_and_says_what_it_costs() -> None:
    g = TinyGraph()
    y = g.up(g.conv(g.frames(), N, N, 5, pads=[2, 2]), N, 1, 8, 4, pads=[2, 2])
    model = g.model(y)
    assert find_obstacles(model) == []
    spec = judge_streaming(model).spec
    assert spec is not None
    assert spec.outputs[0].lag == 2 * 4 + 2
    assert spec.n_state_bytes > 0


def test_all_obstacles_are_found_not_only_the_first() -> None:
    g = TinyGraph()
    y = attention(g, g.conv(g.frames(), N, N, 3, pads=[1, 1]))
    y = g.op("InstanceNormalization", g.conv(y, N, N, 3, pads=[1, 1]), g.weight(N), g.weight(N))
    y = g.up(g.op("Add", y, g.op("RandomNormalLike", y)), N, N, 4, 2, pads=[1, 1])
    y = g.op("Resize", y, "", g.const([1, 1, 1.5], "float32"), mode="nearest")
    found = find_obstacles(g.model(y))
    wanted = ["MatMul", "InstanceNormalization", "RandomNormalLike", "Resize"]
    assert [each.op_type for each in found] == wanted, "and the attention once, not at each of its nodes"
    assert ["attention" in found[0].reason, "every other" in found[0].reason] == [True, True]
    for each, words in zip(found, ["window", "LayerNorm", "noise an input", "transposed"], strict=True):
        assert words in each.advice


def test_the_first_obstacle_is_what_make_streaming_refuses() -> None:
    g = TinyGraph()
    y = g.op("Sub", x := g.frames(), g.reduce("ReduceMean", x, 2))
    model = g.model(g.op("InstanceNormalization", y, g.weight(N), g.weight(N)))
    first, *others = find_obstacles(model)
    with pytest.raises(NotStreamableError) as caught:
        make_streaming(model)
    assert (first.node, first.op_type, first.reason) == (
        caught.value.node, caught.value.op_type, caught.value.reason
    )  # fmt: skip
    assert [each.op_type for each in others] == ["InstanceNormalization"], "what uses the mean is none"


def test_arithmetic_with_a_length_that_nobody_can_follow_is_one_obstacle() -> None:
    g = TinyGraph()
    x = g.frames()
    # The end of a slice, from the number of frames of which each was drawn at random: no arithmetic at all.
    drawn = g.op("Multinomial", g.reduce("ReduceMean", x, 2, keepdims=0), sample_size=1)
    end = g.op("Sub", g.const([TO_THE_END - 9]), g.op("Squeeze", g.op("Cast", drawn, to=7), g.const([0])))
    y = g.op("Slice", x, g.const([0]), g.op("Mul", end, g.const([1])), g.const([2]))
    found = find_obstacles(g.model(g.op("InstanceNormalization", y, g.weight(N), g.weight(N))))
    assert [each.op_type for each in found] == ["ReduceMean", "Multinomial", "InstanceNormalization"]


@pytest.mark.parametrize(
    ("name", "scopes", "module"),
    [
        ("/decoder/layers.0/attn/MatMul_1", None, "decoder.layers.0.attn"),
        ("/MatMul", None, None),
        ("node_matmul", "['', 'decoder', 'decoder.layers.0', 'matmul']", "decoder.layers.0"),
        ("node_matmul", "['', 'matmul']", None),
        ("node_matmul", "no list", None),
        ("MatMul_1", None, None),
    ],
)
def test_an_obstacle_says_which_part_of_the_module_it_is(name, scopes, module) -> None:
    g = TinyGraph()
    g.op("InstanceNormalization", g.frames(), g.weight(N), g.weight(N))
    g.nodes[0].name = name
    model = g.model("InstanceNormalization_0")
    if scopes is not None:
        model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    (found,) = find_obstacles(model)
    assert (found.node, found.module) == (name, module)


@pytest.mark.parametrize("name", REFUSED)
def test_every_refusal_is_an_obstacle_with_advice(name: str) -> None:
    build, op_type, reason = REFUSED[name]
    g = TinyGraph(opset=OPSETS.get(name, 20))
    x = g.op("Tanh", g.frames())
    g.domains["com.microsoft"] = 1
    found = find_obstacles(g.model(build(g, x)))
    assert (found[0].op_type, reason in found[0].reason) == (op_type, True)
    assert all(each.advice for each in found)
    assert len(found) <= 3, "a refusal is not to draw others behind it"


def test_what_no_words_are_known_of_is_answered_in_general() -> None:
    assert "overlap" in advice_for("Foo", "it does what nobody has heard of")


def test_what_has_a_rule_and_can_not_be_written_is_an_obstacle_as_well(monkeypatch) -> None:
    # No graph is known of which that is so: the first node is made one.
    def refuse(analysis, plan):
        raise NotStreamableError(
            next(iter(analysis.model.graph)), "no bounded margin makes a piece of it exact"
        )

    monkeypatch.setattr(streaming, "rewrite", refuse)
    g = TinyGraph()
    (found,) = find_obstacles(g.model(g.conv(g.frames(), N, N, 3, pads=[1, 1])))
    assert (found.node, found.op_type) == ("Conv_0", "Conv")


def test_a_stateful_graph_is_an_error_and_not_an_obstacle() -> None:
    g = TinyGraph()
    model = make_streaming(g.model(g.conv(g.frames(), N, N, 3, pads=[1, 1])))
    with pytest.raises(ModelError, match="stateful already"):
        find_obstacles(model)


def test_a_graph_that_has_no_time_is_an_error_and_not_an_obstacle() -> None:
    g = TinyGraph()
    g.input("frames", [1, N, 50])
    with pytest.raises(ModelError, match="no input has a time axis"):
        find_obstacles(g.model(g.op("Tanh", "frames")))
