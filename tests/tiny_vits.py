"""A VITS voice of a few thousand random weights, as one ONNX file in the manner of torch's exporter.

It has every part of a Piper voice (text encoder with attention, duration predictor, alignment path,
flow, HiFi-GAN decoder) and the litter that an export leaves between them: masks, shape arithmetic,
zeros made from shapes. The variants differ in what exporters differ in.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SYMBOLS = "_^$ abcdefgh"
N_HIDDEN = 8
N_HEADS = 2
N_FLOWS = 2
N_WN_LAYERS = 2
N_SPEAKER_CHANNELS = 6
WINDOW = 2
N_BINS = 4
BOUND = 1.5
LONG = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TinyVits:
    """What the variants of the tiny voice differ in."""

    n_speakers: int = 1
    n_channels: int = 4
    upsample_rates: tuple[int, ...] = (4, 2)
    resblock: Literal["1", "2"] = "2"
    stochastic: bool = True
    relative: bool = False
    """Whether the attention has relative positions."""
    splines: bool = False
    """Whether the duration predictor's flow inverts splines, rather than adding."""
    scales: Literal["vector", "split", "scalars"] = "vector"
    scale_order: tuple[int, int, int] = (0, 1, 2)
    """Places of the noise scale, the length scale and the noise of durations."""
    opset: int = 15
    extra_output: bool = False
    names: Literal["exported", "scrambled", "prefixed"] = "exported"
    constants: Literal["nodes", "initializers"] = "initializers"
    identities: bool = False
    squeeze: Literal["plain", "if"] = "plain"
    ceil_mask: Literal["before", "after", "none"] = "before"
    noise_order: Literal["exp_scale", "scale_exp", "joined"] = "exp_scale"
    path_first: bool = True
    output_rank: int = 4
    seed: int = 0

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.upsample_rates)


def build_tiny_vits(variant: TinyVits = TinyVits()) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Build the monolithic ONNX model of a variant, and the JSON that belongs to it."""
    return onnx.ModelProto.FromString(_build(variant)), _config(variant)


def write_tiny_vits(folder: Path, variant: TinyVits = TinyVits(), *, name: str = "tiny.onnx") -> Path:
    """Write the model and its JSON into a folder; return the path of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(_build(variant))
    path.with_name(f"{name}.json").write_text(json.dumps(_config(variant)), encoding="utf-8")
    return path


@functools.cache
def _build(variant: TinyVits) -> bytes:
    builder = _Builder(variant)
    _Voice(variant, builder).build()
    model = builder.model()
    if variant.names != "exported":
        _rename(model, variant)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _config(variant: TinyVits) -> dict[str, Any]:
    n_speakers = variant.n_speakers
    return {
        "audio": {"sample_rate": 8000, "quality": "tiny"},
        "espeak": {"voice": "en-us"},
        "inference": {"noise_scale": 0.5, "length_scale": 1, "noise_w": 0.7},
        "phoneme_type": "espeak",
        "phoneme_map": {},
        "phoneme_id_map": {symbol: [i] for i, symbol in enumerate(SYMBOLS)},
        "num_symbols": len(SYMBOLS),
        "num_speakers": n_speakers,
        "speaker_id_map": {f"speaker{i}": i for i in range(n_speakers)} if n_speakers > 1 else {},
        "language": {"code": "en_US"},
        "dataset": "tiny",
    }


def _rename(model: onnx.ModelProto, variant: TinyVits) -> None:
    """Give every node and tensor another name, inputs and outputs included."""
    names: dict[str, str] = {"": ""}
    # Names that the split gives to its own inputs and outputs must not get in its way.
    hostile = ["frames", "durations", "samples", "encodings", "phoneme_ids", "n_frames"]

    def new(name: str) -> str:
        if name not in names:
            k = len(names)
            if variant.names == "prefixed":
                names[name] = f"net_g/{name}"
            else:
                names[name] = (
                    hostile[k // 7] if k % 7 == 0 and k // 7 < len(hostile) else f"t{k * 7919 % 9973}"
                )
        return names[name]

    def rename_graph(graph: onnx.GraphProto) -> None:
        for value in [*graph.input, *graph.initializer, *graph.value_info, *graph.output]:
            value.name = new(value.name)
        for node in graph.node:
            node.name = "" if variant.names == "scrambled" else f"net_g/{node.name}"
            node.input[:] = [new(name) for name in node.input]
            node.output[:] = [new(name) for name in node.output]
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    rename_graph(attribute.g)

    rename_graph(model.graph)


@dataclass(slots=True)
class _Builder:
    """Appends nodes one by one and names them as torch does."""

    variant: TinyVits
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    scope: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.variant.seed)

    def op(self, op_type: str, *inputs: str, n_outputs: int = 1, **attributes: Any) -> str:
        return self.ops(op_type, *inputs, n_outputs=n_outputs, **attributes)[0]

    def ops(self, op_type: str, *inputs: str, n_outputs: int = 1, **attributes: Any) -> list[str]:
        name = self._name(op_type)
        outputs = [f"{name}_output_{i}" for i in range(n_outputs)]
        self.nodes.append(helper.make_node(op_type, list(inputs), outputs, name=name, **attributes))
        return outputs

    def const(self, value: Any, dtype: Any = np.int64) -> str:
        array = np.asarray(value, dtype)
        if self.variant.constants == "nodes":
            return self.op("Constant", value=numpy_helper.from_array(array))
        key = f"const_{array.dtype}_{array.shape}_{array.tolist()}"
        self.initializers.setdefault(key, numpy_helper.from_array(array, key))
        return key

    def weight(
        self, name: str, shape: Sequence[int], scale: float | None = None, *, mean: float = 0.0
    ) -> str:
        scale = 1 / math.sqrt(math.prod(shape[1:]) or 1) if scale is None else scale
        array = (mean + self.rng.standard_normal(shape) * scale).astype(np.float32)
        self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def random(self, name: str, like: str) -> str:
        value = self.op("RandomNormalLike", like, dtype=TensorProto.FLOAT)
        return self.through(value)

    def through(self, value: str) -> str:
        """Pass a value through an Identity in the variant that has them."""
        return self.op("Identity", value) if self.variant.identities else value

    def conv(self, name: str, x: str, n_in: int, n_out: int, kernel: int = 1, *, bias: bool = True,
             dilation: int = 1, pad: int | None = None, groups: int = 1,
             bias_mean: float = 0.0) -> str:  # fmt: skip
        pad = dilation * (kernel - 1) // 2 if pad is None else pad
        weights = [self.weight(f"{name}.weight", (n_out, n_in // groups, kernel))]
        weights += [self.weight(f"{name}.bias", (n_out,), 0.3, mean=bias_mean)] if bias else []
        return self.op("Conv", x, *weights, dilations=[dilation], group=groups, kernel_shape=[kernel],
                       pads=[pad, pad], strides=[1])  # fmt: skip

    def dim(self, x: str, axis: int) -> str:
        return self.op("Gather", self.op("Shape", x), self.const(axis), axis=0)

    def vector(self, *dims: str) -> str:
        return self.op("Concat", *(self.op("Unsqueeze", d, self.const([0])) for d in dims), axis=0)

    def zeros_like(self, x: str) -> str:
        zero = numpy_helper.from_array(np.zeros(1, np.float32))
        return self.op("ConstantOfShape", self.op("Shape", x), value=zero)

    def slice(self, x: str, start: int, end: int, axis: int, step: int = 1) -> str:
        return self.op("Slice", x, *(self.const([v]) for v in (start, end, axis, step)))

    def flip(self, x: str) -> str:
        return self.slice(x, -1, -LONG, 1, -1)

    def layer_norm(self, name: str, x: str) -> str:
        y = self.op("Transpose", x, perm=[0, 2, 1])
        centred = self.op("Sub", y, self.op("ReduceMean", y, axes=[-1]))
        square = self.op("Pow", centred, self.const(2, np.float32))
        variance = self.op("Add", self.op("ReduceMean", square, axes=[-1]), self.const(1e-5, np.float32))
        y = self.op("Div", centred, self.op("Sqrt", variance))
        y = self.op("Mul", y, self.weight(f"{name}.gamma", (N_HIDDEN,), 1.0))
        y = self.op("Add", y, self.weight(f"{name}.beta", (N_HIDDEN,), 0.1))
        return self.op("Transpose", y, perm=[0, 2, 1])

    def sequence_mask(self, lengths: str, max_length: str) -> str:
        """Return 1 where a position is below the length, as (batch, 1, time)."""
        steps = self.op("Range", self.const(0), max_length, self.const(1))
        steps = self.op("Unsqueeze", steps, self.const([0]))
        inside = self.op("Less", steps, self.op("Unsqueeze", lengths, self.const([1])))
        return self.op("Cast", self.op("Unsqueeze", inside, self.const([1])), to=TensorProto.FLOAT)

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes, "main_graph", self.inputs, self.outputs, list(self.initializers.values())
        )
        opset = [helper.make_opsetid("", self.variant.opset)]
        return helper.make_model(graph, opset_imports=opset, ir_version=8, producer_name="pytorch")

    def _name(self, op_type: str) -> str:
        stem = f"{self.scope}/{op_type}"
        k = self.counts.get(stem, 0)
        self.counts[stem] = k + 1
        return f"{stem}_{k}" if k else stem


@dataclass(slots=True)
class _Voice:
    """SynthesizerTrn.infer, part by part (Kim et al. 2021, https://arxiv.org/abs/2106.06103)."""

    v: TinyVits
    b: _Builder

    def build(self) -> None:
        b, v = self.b, self.v
        ids, lengths, scales, speaker_id = self._inputs()
        noise_scale, length_scale, noise_w = scales
        g = None
        if v.n_speakers > 1:
            table = b.weight("emb_g.weight", (v.n_speakers, N_SPEAKER_CHANNELS), 1.0)
            g = b.op("Unsqueeze", b.op("Gather", table, speaker_id), b.const([-1]))
        x, mean, log_scale, x_mask = self._text_encoder(ids, lengths)
        log_w = self._duration_predictor(x, x_mask, g, noise_w)
        w_ceil = self._durations(log_w, x_mask, length_scale)
        path, y_mask = self._path(w_ceil, x_mask)
        frames = self._frames(path, mean, log_scale, noise_scale)
        frames = self._flow(frames, y_mask, g)
        self._decoder(b.op("Mul", frames, y_mask), g)
        if v.extra_output:
            b.outputs.append(helper.make_tensor_value_info(w_ceil, TensorProto.FLOAT, ["b", 1, "n"]))

    def _inputs(self) -> tuple[str, str, list[str], str]:
        b = self.b

        def declare(name: str, dtype: int, shape: list[str | int]) -> str:
            b.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
            return name

        ids = declare("input", TensorProto.INT64, ["batch_size", "phonemes"])
        lengths = declare("input_lengths", TensorProto.INT64, ["batch_size"])
        if self.v.scales == "scalars":
            names = ("noise_scale", "length_scale", "noise_scale_w")
            scales = [declare(name, TensorProto.FLOAT, [1]) for name in names]
        else:
            vector = declare("scales", TensorProto.FLOAT, [3])
            if self.v.scales == "split":
                scales = b.ops("Split", vector, b.const([1, 1, 1]), n_outputs=3, axis=0)
                scales = [b.op("Squeeze", scale, b.const([0])) for scale in scales]
            else:
                scales = [b.op("Gather", vector, b.const(i), axis=0) for i in range(3)]
            scales = [scales[place] for place in self.v.scale_order]
        speaker_id = declare("sid", TensorProto.INT64, ["batch_size"]) if self.v.n_speakers > 1 else ""
        return ids, lengths, scales, speaker_id

    def _text_encoder(self, ids: str, lengths: str) -> tuple[str, str, str, str]:
        b, h = self.b, N_HIDDEN
        b.scope = "/enc_p"
        table = b.weight("enc_p.emb.weight", (len(SYMBOLS), h), 1.0)
        x = b.op("Mul", b.op("Gather", table, ids), b.const(math.sqrt(h), np.float32))
        x = b.op("Transpose", x, perm=[0, 2, 1])
        mask = b.sequence_mask(lengths, b.dim(x, 2))
        x = b.op("Mul", x, mask)
        pair_mask = b.op("Mul", b.op("Unsqueeze", mask, b.const([2])), b.op("Unsqueeze", mask, b.const([-1])))
        x = b.layer_norm("enc_p.norm_1", b.op("Add", x, self._attention(x, pair_mask)))
        y = b.op(
            "Relu", b.conv("enc_p.ffn.conv_1", self._padded(b.op("Mul", x, mask), 3), h, 2 * h, 3, pad=0)
        )
        y = b.conv("enc_p.ffn.conv_2", self._padded(b.op("Mul", y, mask), 3), 2 * h, h, 3, pad=0)
        x = b.layer_norm("enc_p.norm_2", b.op("Add", x, b.op("Mul", y, mask)))
        x = b.op("Mul", x, mask)
        stats = b.op("Mul", b.conv("enc_p.proj", x, h, 2 * self.v.n_channels), mask)
        sizes = b.const([self.v.n_channels] * 2)
        mean, log_scale = b.ops("Split", stats, sizes, n_outputs=2, axis=1)
        return x, b.through(mean), b.through(log_scale), mask

    def _padded(self, x: str, kernel: int) -> str:
        pads = self.b.const([0, 0, (kernel - 1) // 2, 0, 0, kernel // 2])
        return self.b.op("Pad", x, pads, "", mode="constant")

    def _attention(self, x: str, pair_mask: str) -> str:
        b, h = self.b, N_HIDDEN
        b.scope = "/enc_p/attn"
        size = b.const([h // N_HEADS])

        def heads(y: str) -> str:
            # torch writes view(batch, n_heads, size, time) with the batch taken from the shape.
            batch, time = (b.op("Unsqueeze", b.dim(y, axis), b.const([0])) for axis in (0, 2))
            shape = b.op("Concat", batch, b.const([N_HEADS]), size, time, axis=0)
            return b.op("Transpose", b.op("Reshape", y, shape), perm=[0, 1, 3, 2])

        query, key, value = (heads(b.conv(f"enc_p.attn.conv_{k}", x, h, h)) for k in "qkv")
        query = b.op("Div", query, b.const(math.sqrt(h // N_HEADS), np.float32))
        scores = b.op("MatMul", query, b.op("Transpose", key, perm=[0, 1, 3, 2]))
        time = b.dim(key, 2)
        if self.v.relative:
            embedding = self._relative_embedding("enc_p.attn.emb_rel_k", time)
            by_distance = b.op("MatMul", query, b.op("Transpose", embedding, perm=[0, 1, 3, 2]))
            scores = b.op("Add", scores, self._skewed(by_distance, time))
        hidden = b.op("Equal", pair_mask, b.const(0, np.float32))
        scores = b.op("Where", hidden, b.const(-1e4, np.float32), scores)
        probabilities = b.op("Softmax", scores, axis=-1)
        y = b.op("MatMul", probabilities, value)
        if self.v.relative:
            embedding = self._relative_embedding("enc_p.attn.emb_rel_v", time)
            y = b.op("Add", y, b.op("MatMul", self._by_distance(probabilities, time), embedding))
        shape = b.op("Concat", *(b.op("Unsqueeze", b.dim(x, 0), b.const([0])), b.const([h]),
                                 b.op("Unsqueeze", b.dim(x, 2), b.const([0]))), axis=0)  # fmt: skip
        y = b.op("Reshape", b.op("Transpose", y, perm=[0, 1, 3, 2]), shape)
        y = b.conv("enc_p.attn.conv_o", y, h, h)
        b.scope = "/enc_p"
        return y

    def _relative_embedding(self, name: str, time: str) -> str:
        """The embeddings of all distances from 1 - time to time - 1; those beyond the window are zeros."""
        b = self.b
        table = b.weight(name, (1, 2 * WINDOW + 1, N_HIDDEN // N_HEADS), 0.5)
        more = b.vector(b.op("Sub", time, b.const(WINDOW + 1)))  # below zero it cuts
        zero = b.const([0])
        table = b.op("Pad", table, b.op("Concat", zero, more, zero, zero, more, zero, axis=0))
        return b.op("Unsqueeze", table, zero)

    def _skewed(self, x: str, time: str) -> str:
        """From (1, heads, time, 2 time - 1), by distance, to (1, heads, time, time), by position."""
        b = self.b
        last = b.op("Sub", time, b.const(1))
        x = b.op("Pad", x, b.const([0] * 7 + [1]))
        x = b.op("Reshape", x, b.op("Concat", b.const([1, N_HEADS, -1]), axis=0))
        zeros = b.const([0] * 5)
        x = b.op("Pad", x, b.op("Concat", zeros, b.vector(last), axis=0))
        width = b.op("Sub", b.op("Mul", time, b.const(2)), b.const(1))
        x = b.op("Reshape", x, b.op("Concat", b.const([1, N_HEADS, -1]), b.vector(width), axis=0))
        starts = b.op("Concat", b.const([0]), b.vector(last), axis=0)
        ends = b.op("Concat", b.vector(time), b.const([LONG]), axis=0)
        return b.op("Slice", x, starts, ends, b.const([2, 3]))

    def _by_distance(self, x: str, time: str) -> str:
        """The way back."""
        b = self.b
        last = b.vector(b.op("Sub", time, b.const(1)))
        x = b.op("Pad", x, b.op("Concat", b.const([0] * 7), last, axis=0))
        x = b.op("Reshape", x, b.const([1, N_HEADS, -1]))
        x = b.op("Pad", x, b.op("Concat", b.const([0, 0]), b.vector(time), b.const([0] * 3), axis=0))
        width = b.op("Mul", time, b.const(2))
        x = b.op("Reshape", x, b.op("Concat", b.const([1, N_HEADS, -1]), b.vector(width), axis=0))
        return self.b.slice(x, 1, LONG, 3)

    def _spline(self, h: str, y: str) -> str:
        """A rational-quadratic spline inverted inside of its bounds, by masks, as torch exports it."""
        b = self.b
        f = functools.partial(b.const, dtype=np.float32)
        h = b.op("Unsqueeze", b.op("Transpose", h, perm=[0, 2, 1]), b.const([1]))  # (1, 1, time, 3 n - 1)
        widths = b.op("Div", b.slice(h, 0, N_BINS, 3), f(math.sqrt(N_HIDDEN)))
        heights = b.op("Div", b.slice(h, N_BINS, 2 * N_BINS, 3), f(math.sqrt(N_HIDDEN)))
        at_bounds = f(math.log(math.exp(1 - 1e-3) - 1))
        slopes = b.op("Pad", b.slice(h, 2 * N_BINS, LONG, 3), b.const([0, 0, 0, 1, 0, 0, 0, 1]), at_bounds)
        inside = b.op("And", b.op("GreaterOrEqual", y, f(-BOUND)), b.op("LessOrEqual", y, f(BOUND)))
        where = b.op("Transpose", b.op("NonZero", inside), perm=[1, 0])
        elsewhere = b.op("Transpose", b.op("NonZero", b.op("Not", inside)), perm=[1, 0])
        result = b.op("ScatterND", b.zeros_like(y), elsewhere, b.op("GatherND", y, elsewhere))
        y, widths, heights, slopes = (b.op("GatherND", v, where) for v in (y, widths, heights, slopes))
        left, widths = self._knots(widths)
        low, heights = self._knots(heights)
        slopes = b.op("Add", b.op("Softplus", slopes), f(1e-3))
        column = b.op("Unsqueeze", y, b.const([-1]))
        passed = b.op("Cast", b.op("GreaterOrEqual", column, low), to=TensorProto.INT64)
        passed = b.op("ReduceSum", passed, b.const([-1]), keepdims=1)
        number = b.op("Min", b.op("Sub", passed, b.const(1)), b.const(N_BINS - 1))

        def own(values: str) -> str:
            return b.op("Gather", b.op("GatherElements", values, number, axis=-1), b.const(0), axis=1)

        w, h, d, e = own(widths), own(heights), own(slopes), own(b.slice(slopes, 1, LONG, 1))
        s, above = b.op("Div", h, w), b.op("Sub", y, own(low))
        bend = b.op("Sub", b.op("Add", d, e), b.op("Mul", s, f(2)))
        a = b.op("Add", b.op("Mul", above, bend), b.op("Mul", h, b.op("Sub", s, d)))
        m = b.op("Sub", b.op("Mul", h, d), b.op("Mul", above, bend))
        c = b.op("Mul", b.op("Neg", s), above)
        root = b.op("Sub", b.op("Mul", m, m), b.op("Mul", b.op("Mul", a, f(4)), c))
        below = b.op("Sub", b.op("Neg", m), b.op("Sqrt", root))
        xi = b.op("Div", b.op("Mul", c, f(2)), below)
        return b.op("ScatterND", result, where, b.op("Add", b.op("Mul", xi, w), own(left)))

    def _knots(self, sizes: str) -> tuple[str, str]:
        """Edges of the bins from the left bound to the right one, and the bins' sizes."""
        b = self.b
        f = functools.partial(b.const, dtype=np.float32)
        share = b.op("Mul", b.op("Softmax", sizes, axis=-1), f(1 - 1e-3 * N_BINS))
        edges = b.op("CumSum", b.op("Add", share, f(1e-3)), b.const(-1, np.int32))
        edges = b.op("Pad", edges, b.const([0, 1, 0, 0]))
        edges = b.op("Sub", b.op("Mul", edges, f(2 * BOUND)), f(BOUND))
        return edges, b.op("Sub", b.slice(edges, 1, LONG, 1), b.slice(edges, 0, -1, 1))

    def _duration_predictor(self, x: str, mask: str, g: str | None, noise_w: str) -> str:
        b, h = self.b, N_HIDDEN
        b.scope = "/dp"
        x = b.conv("dp.pre", x, h, h)
        if g is not None:
            x = b.op("Add", x, b.conv("dp.cond", g, N_SPEAKER_CHANNELS, h))
        x = b.conv("dp.conv", b.op("Mul", x, mask), h, h, 3, groups=h)
        x = b.op("Mul", b.layer_norm("dp.norm", b.op("Relu", x)), mask)
        if not self.v.stochastic:
            return b.op("Mul", b.conv("dp.proj", x, h, 1, bias_mean=0.6), mask)
        shape = b.op("Concat", *(b.op("Unsqueeze", b.dim(x, 0), b.const([0])), b.const([2]),
                                 b.op("Unsqueeze", b.dim(x, 2), b.const([0]))), axis=0)  # fmt: skip
        zero = numpy_helper.from_array(np.zeros(1, np.float32))
        noise = b.random("dp", b.op("ConstantOfShape", shape, value=zero))
        z = b.op("Mul", noise, noise_w)
        for k in range(2):
            z0, z1 = b.ops("Split", b.flip(z), b.const([1, 1]), n_outputs=2, axis=1)
            y = b.op("Add", b.conv(f"dp.flows.{k}.pre", z0, 1, h), x)
            y = b.op("Tanh", b.conv(f"dp.flows.{k}.conv", b.op("Mul", y, mask), h, h, 3))
            n_parameters = 3 * N_BINS - 1 if self.v.splines else 1
            y = b.op("Mul", b.conv(f"dp.flows.{k}.proj", y, h, n_parameters), mask)
            z1 = self._spline(y, z1) if self.v.splines else b.op("Sub", z1, y)
            z = b.op("Mul", b.op("Concat", z0, z1, axis=1), mask)
        logs = b.weight("dp.affine.logs", (2, 1), 0.1)
        z = b.op("Sub", z, b.weight("dp.affine.m", (2, 1), 0.1, mean=-0.6))
        z = b.op("Mul", b.op("Mul", z, b.op("Exp", b.op("Neg", logs))), mask)
        return b.ops("Split", z, b.const([1, 1]), n_outputs=2, axis=1)[0]

    def _durations(self, log_w: str, mask: str, length_scale: str) -> str:
        b, where = self.b, self.v.ceil_mask
        b.scope = ""
        w = b.op("Exp", log_w)
        w = b.op("Mul", w, mask) if where == "before" else w
        w = b.op("Ceil", b.op("Mul", w, length_scale))
        return b.through(b.op("Mul", w, mask) if where == "after" else w)

    def _path(self, w_ceil: str, x_mask: str) -> tuple[str, str]:
        b = self.b
        total = b.op("ReduceSum", w_ceil, b.const([1, 2]), keepdims=0)
        lengths = b.op("Cast", b.op("Clip", total, b.const(1, np.float32), ""), to=TensorProto.INT64)
        y_mask = b.sequence_mask(lengths, b.op("ReduceMax", lengths, keepdims=0))
        mask = b.op("Mul", b.op("Unsqueeze", x_mask, b.const([2])), b.op("Unsqueeze", y_mask, b.const([-1])))
        batch, n_frames, n_phonemes = (b.dim(mask, axis) for axis in (0, 2, 3))
        ends = b.op("CumSum", w_ceil, b.const(-1))
        ends = b.op("Reshape", ends, b.op("Unsqueeze", b.op("Mul", batch, n_phonemes), b.const([0])))
        limit = b.op("Cast", n_frames, to=TensorProto.FLOAT)
        steps = b.op("Range", b.const(0, np.float32), limit, b.const(1, np.float32))
        steps = b.op("Unsqueeze", steps, b.const([0]))
        below = b.op("Less", steps, b.op("Unsqueeze", ends, b.const([1])))
        path = b.op("Cast", below, to=TensorProto.FLOAT)
        path = b.op("Reshape", path, b.vector(batch, n_phonemes, n_frames))
        before = b.op("Pad", path, b.const([0, 1, 0, 0, 0, 0]), "", mode="constant")
        path = b.op("Sub", path, b.slice(before, 0, -1, 1))
        path = b.op("Transpose", b.op("Unsqueeze", path, b.const([1])), perm=[0, 1, 3, 2])
        path = b.op("Mul", path, mask)
        if self.v.squeeze == "plain":
            return b.op("Squeeze", path, b.const([1])), y_mask
        return self._squeeze_by_if(path), y_mask

    def _squeeze_by_if(self, x: str) -> str:
        """Write x.squeeze(1) as torch does where it can't see that the axis has length 1."""
        b = self.b
        is_one = b.op("Equal", b.dim(x, 1), b.const(1))

        def branch(name: str, op_type: str, *inputs: str) -> onnx.GraphProto:
            output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            node = helper.make_node(op_type, list(inputs), [name], name=f"{name}_node")
            return helper.make_graph([node], f"{name}_graph", [], [output])

        axes = b.const([1])
        return b.op("If", is_one, then_branch=branch("squeezed", "Squeeze", x, axes),
                    else_branch=branch("kept", "Identity", x))  # fmt: skip

    def _frames(self, path: str, mean: str, log_scale: str, noise_scale: str) -> str:
        b = self.b
        mean, log_scale = (self._expand(path, value) for value in (mean, log_scale))
        noise, scale = b.random("frames", mean), b.op("Exp", log_scale)
        match self.v.noise_order:
            case "exp_scale":
                noise = b.op("Mul", b.op("Mul", noise, scale), noise_scale)
            case "scale_exp":
                noise = b.op("Mul", scale, b.op("Mul", noise_scale, noise))
            case "joined":
                noise = b.op("Mul", noise, b.op("Mul", scale, noise_scale))
        return b.through(b.op("Add", mean, noise))

    def _expand(self, path: str, prior: str) -> str:
        b = self.b
        if self.v.path_first:
            y = b.op("MatMul", path, b.op("Transpose", prior, perm=[0, 2, 1]))
            return b.op("Transpose", y, perm=[0, 2, 1])
        return b.op("MatMul", prior, b.op("Transpose", path, perm=[0, 2, 1]))

    def _flow(self, z: str, mask: str, g: str | None) -> str:
        b, half = self.b, self.v.n_channels // 2
        for k in range(N_FLOWS):
            name = f"flow.flows.{k}"
            b.scope = f"/flow/flows.{k}"
            z0, z1 = b.ops("Split", b.flip(z), b.const([half, half]), n_outputs=2, axis=1)
            y = b.op("Mul", b.conv(f"{name}.pre", z0, half, N_HIDDEN), mask)
            y = self._wavenet(f"{name}.enc", y, mask, g)
            mean = b.op("Mul", b.conv(f"{name}.post", y, N_HIDDEN, half), mask)
            scale = b.op("Exp", b.op("Neg", b.zeros_like(mean)))
            z1 = b.op("Mul", b.op("Mul", b.op("Sub", z1, mean), scale), mask)
            z = b.op("Concat", z0, z1, axis=1)
        return z

    def _wavenet(self, name: str, x: str, mask: str, g: str | None) -> str:
        b, h = self.b, N_HIDDEN
        skip = b.zeros_like(x)
        condition = None
        if g is not None:
            condition = b.conv(f"{name}.cond_layer", g, N_SPEAKER_CHANNELS, 2 * h * N_WN_LAYERS)
        for k in range(N_WN_LAYERS):
            gates = b.conv(f"{name}.in_layers.{k}", x, h, 2 * h, 3)
            if condition is None:
                gates = b.op("Add", gates, b.zeros_like(gates))
            else:
                gates = b.op("Add", gates, b.slice(condition, 2 * h * k, 2 * h * (k + 1), 1))
            tanh = b.op("Tanh", b.slice(gates, 0, h, 1))
            y = b.op("Mul", tanh, b.op("Sigmoid", b.slice(gates, h, LONG, 1)))
            last = k == N_WN_LAYERS - 1
            y = b.conv(f"{name}.res_skip_layers.{k}", y, h, h if last else 2 * h)
            if not last:
                x = b.op("Mul", b.op("Add", x, b.slice(y, 0, h, 1)), mask)
                y = b.slice(y, h, LONG, 1)
            skip = b.op("Add", skip, y)
        return b.op("Mul", skip, mask)

    def _decoder(self, x: str, g: str | None) -> None:
        b, rates, n = self.b, self.v.upsample_rates, 16
        b.scope = "/dec"
        x = b.conv("dec.conv_pre", x, self.v.n_channels, n, 7)
        if g is not None:
            x = b.op("Add", x, b.conv("dec.cond", g, N_SPEAKER_CHANNELS, n))
        for k, rate in enumerate(rates):
            kernel = 2 * rate if rate > 1 else 3
            n_out = max(n // 2, 4)
            x = b.op("LeakyRelu", x, alpha=0.1)
            weights = [b.weight(f"dec.ups.{k}.weight", (n, n_out, kernel), 1 / math.sqrt(2 * n)),
                       b.weight(f"dec.ups.{k}.bias", (n_out,), 0.1)]  # fmt: skip
            pad = (kernel - rate) // 2
            x = b.op("ConvTranspose", x, *weights, dilations=[1], group=1, kernel_shape=[kernel],
                     pads=[pad, kernel - rate - pad], strides=[rate])  # fmt: skip
            n = n_out
            blocks = [
                self._resblock(f"dec.resblocks.{2 * k + j}", x, n, size) for j, size in enumerate((3, 5))
            ]
            x = b.op("Div", b.op("Add", *blocks), b.const(2, np.float32))
        x = b.conv("dec.conv_post", b.op("LeakyRelu", x, alpha=0.01), n, 1, 7, bias=False)
        x = b.op("Tanh", x)
        if self.v.output_rank == 4:
            x = b.op("Unsqueeze", x, b.const([1]))
        elif self.v.output_rank == 2:
            x = b.op("Squeeze", x, b.const([1]))
        shape = ["batch_size", *[1] * (self.v.output_rank - 2), "time"]
        b.nodes[-1].output[0] = "output"
        b.outputs.append(helper.make_tensor_value_info("output", TensorProto.FLOAT, shape))

    def _resblock(self, name: str, x: str, n: int, kernel: int) -> str:
        """HiFi-GAN, appendix A: block 1 has a second convolution after each dilated one, block 2 none."""
        b = self.b
        for k, dilation in enumerate((1, 3) if self.v.resblock == "1" else (1, 2)):
            y = b.op("LeakyRelu", x, alpha=0.1)
            y = b.conv(f"{name}.convs1.{k}", y, n, n, kernel, dilation=dilation)
            if self.v.resblock == "1":
                y = b.conv(f"{name}.convs2.{k}", b.op("LeakyRelu", y, alpha=0.1), n, n, kernel)
            x = b.op("Add", y, x)
        return x
