"""The seams of a VITS graph are found from its structure, and what is missing is named."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.vits_seams import Prior, Table, find_seams
from balacoon_tk.graph.simplify.tidy import lift_constants
from tiny_vits import TinyVits, build_tiny_vits

VARIANTS = {
    "plain": TinyVits(),
    "speakers": TinyVits(n_speakers=3),
    "resblock 1": TinyVits(resblock="1", upsample_rates=(2, 2, 2)),
    "deterministic": TinyVits(stochastic=False),
    "scalars": TinyVits(scales="scalars"),
    "split scales": TinyVits(scales="split", scale_order=(2, 0, 1)),
    "opset 13": TinyVits(opset=13, constants="nodes"),
    "opset 17": TinyVits(opset=17, identities=True),
    "extra output": TinyVits(extra_output=True),
    "if": TinyVits(squeeze="if"),
    "mask after ceil": TinyVits(ceil_mask="after"),
    "no mask at ceil": TinyVits(ceil_mask="none"),
    "scale first": TinyVits(noise_order="scale_exp"),
    "joined": TinyVits(noise_order="joined", identities=True),
    "path second": TinyVits(path_first=False),
}


def seams_of(proto):
    model = ir.from_proto(onnx.ModelProto.FromString(proto.SerializeToString()))
    lift_constants(model)
    return model.graph, find_seams(model.graph)


def places(graph, seams):
    """Say where each seam is, without names: the position of its node, or of the input."""
    position = {value: ("node", k) for k, node in enumerate(graph) for value in node.outputs}
    position |= {value: ("input", k) for k, value in enumerate(graph.inputs)}
    found = {}
    for field in fields(seams):
        part = getattr(seams, field.name)
        if isinstance(part, Table):
            part = (position[part.input], position[part.rows], part.n_rows)
        elif isinstance(part, Prior):
            part = (position[part.value], part.channels_last)
        elif isinstance(part, tuple):
            part = tuple(position[value] for value in part)
        elif part is not None:
            part = position[part]
        found[field.name] = part
    return found


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_the_seams_of_every_variant_are_found(variant):
    _, seams = seams_of(build_tiny_vits(variant)[0])
    assert seams.frame_noise.producer().op_type == "RandomNormalLike"
    assert (seams.duration_noise is not None) == variant.stochastic
    assert (seams.speakers is not None) == (variant.n_speakers > 1)
    assert seams.encodings.channels_last == variant.path_first
    assert seams.encodings.value is not seams.log_scales.value
    assert len(seams.total_frames) == 1
    assert seams.frames.producer().op_type == "Add"


def test_a_seam_is_where_the_builder_has_put_it():
    _, seams = seams_of(build_tiny_vits(TinyVits(n_speakers=3))[0])
    assert seams.phonemes.input.name == "input"
    assert seams.lengths.name == "input_lengths"
    assert seams.speakers.input.name == "sid"
    assert seams.speakers.n_rows == 3
    assert seams.durations.name == "/Ceil_output_0"
    assert seams.duration_noise.name == "/dp/RandomNormalLike_output_0"
    assert seams.scaled_duration_noise.producer().op_type == "Mul"
    assert [v.name for v in (seams.noise_scale, seams.length_scale, seams.noise_w)] == [
        "/Gather_output_0",
        "/Gather_1_output_0",
        "/Gather_2_output_0",
    ]
    assert seams.samples.name == "output"
    mean, log_scale = (prior.value.producer().inputs[0] for prior in (seams.encodings, seams.log_scales))
    assert (mean.index(), log_scale.index()) == (0, 1)  # of the one Split


@pytest.mark.parametrize("names", ["scrambled", "prefixed"])
@pytest.mark.parametrize("variant", ["plain", "speakers", "if"])
def test_names_make_no_difference(variant, names):
    options = {field.name: getattr(VARIANTS[variant], field.name) for field in fields(TinyVits)}
    renamed = TinyVits(**{**options, "names": names})
    assert places(*seams_of(build_tiny_vits(renamed)[0])) == places(
        *seams_of(build_tiny_vits(VARIANTS[variant])[0])
    )


def test_a_ceil_that_makes_no_durations_is_passed_over():
    proto = build_tiny_vits()[0]
    proto.graph.node.insert(0, helper.make_node("Ceil", ["scales"], ["other"]))
    _, seams = seams_of(proto)
    assert seams.durations.name == "/Ceil_output_0"


# --- what is no VITS voice -------------------------------------------------------------------


def nodes_of(proto, op_type):
    return [node for node in proto.graph.node if node.op_type == op_type]


def without_ceil(proto):
    for node in nodes_of(proto, "Ceil"):
        node.op_type = "Floor"


def one_product(proto):
    """Take the log scale from somewhere else than from a product with the path."""
    last = nodes_of(proto, "MatMul")[-1]
    last.op_type, last.input[0] = "Mul", last.input[1]


def uniform_noise(proto):
    nodes_of(proto, "RandomNormalLike")[-1].op_type = "RandomUniformLike"


def scaled_random(proto):
    nodes_of(proto, "RandomNormalLike")[-1].attribute.append(helper.make_attribute("scale", 0.5))


def no_frame_noise(proto):
    nodes_of(proto, "RandomNormalLike")[-1].op_type = "Identity"
    del next(n for n in proto.graph.node if n.op_type == "Identity").attribute[:]


def noisy_decoder(proto):
    """Draw noise in the decoder too, as sine generators do."""
    tanh = next(k for k, node in enumerate(proto.graph.node) if node.name == "/dec/Tanh")
    source = proto.graph.node[tanh].input[0]
    proto.graph.node[tanh].input[0] = "noisy"
    proto.graph.node.insert(tanh, helper.make_node("Add", [source, "hiss"], ["noisy"]))
    proto.graph.node.insert(tanh, helper.make_node("RandomNormalLike", [source], ["hiss"]))


def durations_in_decoder(proto):
    """Let the decoder see every duration, not only their sum."""
    tanh = next(k for k, node in enumerate(proto.graph.node) if node.name == "/dec/Tanh")
    source = proto.graph.node[tanh].input[0]
    proto.graph.node[tanh].input[0] = "louder"
    proto.graph.node.insert(tanh, helper.make_node("Add", [source, "longest"], ["louder"]))
    node = helper.make_node("ReduceMax", ["/Ceil_output_0"], ["longest"], name="longest_one", keepdims=1)
    proto.graph.node.insert(tanh, node)


def soft_scale(proto):
    """Make the scale of the noise by another function than exp."""
    exp = nodes_of(proto, "Exp")
    next(node for node in exp if node.name == "/Exp_1").op_type = "Softplus"


def no_length_scale(proto):
    before = next(node for node in proto.graph.node if node.output[0] == nodes_of(proto, "Ceil")[0].input[0])
    before.input[1] = before.input[0]


def no_embedding(proto):
    gather = next(node for node in proto.graph.node if node.name == "/enc_p/Gather")
    ids = gather.input[1]
    gather.input[1] = "no ids"
    proto.graph.node.insert(0, helper.make_node("Abs", [ids], ["no ids"]))


def another_input(proto):
    proto.graph.input.append(helper.make_tensor_value_info("tones", TensorProto.INT64, ["b", "n", 2]))
    proto.graph.node.append(helper.make_node("Abs", ["tones"], ["high tones"]))
    proto.graph.output.append(helper.make_tensor_value_info("high tones", TensorProto.INT64, None))


def two_outputs(proto):
    proto.graph.node.append(helper.make_node("Neg", ["output"], ["upside down"]))
    proto.graph.output.append(helper.make_tensor_value_info("upside down", TensorProto.FLOAT, None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_ceil, "no duration Ceil found"),
        (one_product, "1 products of an alignment path and a prior found after the duration Ceil, not 2"),
        (
            uniform_noise,
            "RandomUniformLike node '/RandomNormalLike' draws something else than standard normal",
        ),
        (scaled_random, "draws something else than standard normal noise"),
        (no_frame_noise, "no noise .* is drawn for the frames"),
        (noisy_decoder, "noise is drawn after the durations twice"),
        (durations_in_decoder, "reads the durations by ReduceMax node 'longest_one'"),
        (soft_scale, "the frames' noise must be multiplied by one Exp, not 0"),
        (no_length_scale, "the durations must be multiplied by one scale that is an input, not 0"),
        (no_embedding, "no phoneme ids found"),
        (another_input, "input 'tones' is none of phoneme ids, their number, scales and speaker"),
        (two_outputs, "2 outputs depend on the frames, not 1"),
    ],
)
def test_what_is_missing_is_named(change, message):
    proto = build_tiny_vits()[0]
    change(proto)
    with pytest.raises(ModelError, match=f"not a VITS voice: .*{message}"):
        seams_of(proto)


def test_a_graph_of_another_kind_is_no_voice():
    weight = numpy_helper.from_array(np.zeros((10, 784), np.float32), "weight")
    node = helper.make_node("Gemm", ["image", "weight"], ["digit"], transB=1)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 784])
    digit = helper.make_tensor_value_info("digit", TensorProto.FLOAT, ["b", 10])
    graph = helper.make_graph([node], "mnist", [image], [digit], [weight])
    with pytest.raises(ModelError, match="not a VITS voice: no phoneme ids found"):
        seams_of(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
