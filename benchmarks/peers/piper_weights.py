"""The weights of a Piper voice in the layers of transformers' `VitsModel`, whose names are others."""

from __future__ import annotations

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import VitsModel


class PiperWeights:
    """Weights by their names in training; kernels that have lost theirs by the bias beside them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._kernels = {
            n.input[2]: n.input[1] for n in model.graph.node if n.op_type == "Conv" and len(n.input) > 2
        }
        gather = next(n for n in model.graph.node if n.op_type == "Gather" and "emb" in n.name)
        self.embeddings = torch.from_numpy(self._tensors[gather.input[0]].copy())

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self._tensors[name].copy())

    def conv(self, name: str) -> tuple[Tensor, Tensor]:
        """Return weight and bias of a convolution."""
        kernel = self._kernels.get(f"{name}.bias", f"{name}.weight")
        return self[kernel], self[f"{name}.bias"]


@torch.no_grad()
def fill_before_generator(model: VitsModel, weights: PiperWeights) -> None:
    """Put in the weights of text encoder, duration predictor and flow.

    The generator is left to the caller: a `VitsModel` has residual blocks of another kind than Piper's
    voices of medium quality.
    """
    text = model.text_encoder
    text.embed_tokens.weight.copy_(weights.embeddings)
    for k, layer in enumerate(text.encoder.layers):
        attention, name = layer.attention, f"enc_p.encoder.attn_layers.{k}"
        for letter in "qkv":
            put_conv(getattr(attention, f"{letter}_proj"), *weights.conv(f"{name}.conv_{letter}"))
        put_conv(attention.out_proj, *weights.conv(f"{name}.conv_o"))
        attention.emb_rel_k.copy_(weights[f"{name}.emb_rel_k"])
        attention.emb_rel_v.copy_(weights[f"{name}.emb_rel_v"])
        _put_norm(layer.layer_norm, weights, f"enc_p.encoder.norm_layers_1.{k}")
        _put_norm(layer.final_layer_norm, weights, f"enc_p.encoder.norm_layers_2.{k}")
        for part in ("conv_1", "conv_2"):
            named = weights.conv(f"enc_p.encoder.ffn_layers.{k}.{part}")
            put_conv(getattr(layer.feed_forward, part), *named)
    put_conv(text.project, *weights.conv("enc_p.proj"))

    predictor = model.duration_predictor
    put_conv(predictor.conv_pre, *weights.conv("dp.pre"))
    put_conv(predictor.conv_proj, *weights.conv("dp.proj"))
    _put_separable(predictor.conv_dds, weights, "dp.convs")
    predictor.flows[0].translate.copy_(weights["dp.flows.0.m"])
    # Folded by the exporter, into exp(-log_scale).
    predictor.flows[0].log_scale.copy_(-torch.log(weights["/dp/flows.0/Exp_output_0"]))
    # Every other flow of the original only turns channels over; the first one runs in training alone.
    for k in range(2, len(predictor.flows)):
        flow, name = predictor.flows[k], f"dp.flows.{2 * k - 1}"
        put_conv(flow.conv_pre, *weights.conv(f"{name}.pre"))
        _put_separable(flow.conv_dds, weights, f"{name}.convs")
        put_conv(flow.conv_proj, *weights.conv(f"{name}.proj"))

    for k, flow in enumerate(model.flow.flows):
        name = f"flow.flows.{2 * k}"
        put_conv(flow.conv_pre, *weights.conv(f"{name}.pre"))
        put_conv(flow.conv_post, *weights.conv(f"{name}.post"))
        for i in range(flow.wavenet.num_layers):
            put_conv(flow.wavenet.in_layers[i], *weights.conv(f"{name}.enc.in_layers.{i}"))
            put_conv(flow.wavenet.res_skip_layers[i], *weights.conv(f"{name}.enc.res_skip_layers.{i}"))


def put_conv(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    """Put weight and bias into a layer, which may hold its weight as a direction and a length."""
    weight = weight.reshape(layer.weight.shape)  # a product with a matrix is a convolution of one tap
    if parametrize.is_parametrized(layer):
        layer.weight = weight
    else:
        layer.weight.copy_(weight)
    if bias is not None:
        layer.bias.copy_(bias)


def _put_norm(layer: nn.Module, weights: PiperWeights, name: str) -> None:
    layer.weight.copy_(weights[f"{name}.gamma"])
    layer.bias.copy_(weights[f"{name}.beta"])


def _put_separable(layer: nn.Module, weights: PiperWeights, name: str) -> None:
    for k in range(layer.num_layers):
        put_conv(layer.convs_dilated[k], *weights.conv(f"{name}.convs_sep.{k}"))
        put_conv(layer.convs_pointwise[k], *weights.conv(f"{name}.convs_1x1.{k}"))
        _put_norm(layer.norms_1[k], weights, f"{name}.norms_1.{k}")
        _put_norm(layer.norms_2[k], weights, f"{name}.norms_2.{k}")
