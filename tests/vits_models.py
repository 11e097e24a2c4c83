"""Folders of VitsModel: of random weights, and with the trained weights of a Piper voice in it."""

import json
import math
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from transformers import VitsConfig, VitsModel

SYMBOLS = "k' abcdeéț"
TINY = {
    "vocab_size": len(SYMBOLS),
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "ffn_dim": 12,
    "flow_size": 4,
    "spectrogram_bins": 5,
    "upsample_initial_channel": 16,
    "upsample_rates": (2, 2),
    "upsample_kernel_sizes": (4, 4),
    "resblock_kernel_sizes": (3,),
    "resblock_dilation_sizes": ((1, 3),),
    "prior_encoder_num_flows": 2,
    "prior_encoder_num_wavenet_layers": 2,
    "posterior_encoder_num_wavenet_layers": 1,
    "duration_predictor_num_flows": 2,
    "depth_separable_num_layers": 1,
}
SPEAKERS = {"num_speakers": 3, "speaker_embedding_size": 6}
TOKENIZER = {"language": "fra", "add_blank": True, "normalize": True, "phonemize": False, "is_uroman": False}


def write_tiny_vits_model(folder, *, tokenizer=(), vocab=None, seed=0, **changes):
    """Write the folder of a tiny model of random weights; fields of its config may be changed."""
    torch.manual_seed(seed)
    model = VitsModel(VitsConfig(**(TINY | changes)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
        if model.config.use_stochastic_duration_prediction:
            model.duration_predictor.flows[0].translate[0] = 0.0
            model.duration_predictor.flows[0].log_scale[0] = 1.5  # some frames a phoneme, not hundreds
    write_vits_model(folder, model, {c: i for i, c in enumerate(SYMBOLS)} if vocab is None else vocab)
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER | dict(tokenizer)))
    return folder


def write_vits_model(folder, model, vocab):
    """Write a model as it is published, without what only training needs."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        k: v.contiguous() for k, v in model.state_dict().items() if not k.startswith("posterior_encoder.")
    }
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(model.config.to_json_string())
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")


def write_piper_as_vits_model(folder: Path, path: Path, config: Path):
    """Put a Piper voice of medium quality into a VitsModel, which says the same.

    Piper's generator has residual blocks of another kind: ``x + conv(leaky(x))``, where a VitsModel has
    ``x + conv2(leaky(conv1(leaky(x))))``. With twice the channels one can be the other: conv1 gives y and
    -y, and ``leaky(y) - leaky(-y) = (1 + slope) * y``, so conv2 gives y. The other channels stay zero.
    """
    said = json.loads(config.read_text())
    weights = _Weights(onnx.load(path))
    settings = {
        "vocab_size": said["num_symbols"],
        "sampling_rate": said["audio"]["sample_rate"],
        "upsample_initial_channel": 512,
        "upsample_rates": (8, 8, 4),
        "upsample_kernel_sizes": (16, 16, 8),
        "resblock_kernel_sizes": (3, 5, 7),
        "resblock_dilation_sizes": ((1, 2), (2, 6), (3, 12)),
        "noise_scale": said["inference"]["noise_scale"],
        "noise_scale_duration": said["inference"]["noise_w"],
    }
    model = VitsModel(VitsConfig(**settings))
    with torch.no_grad():
        _fill(model, weights)
    write_vits_model(folder, model, {s: ids[0] for s, ids in said["phoneme_id_map"].items()})
    tokenizer = TOKENIZER | {"language": "eng", "phonemize": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


class _Weights:
    """Weights of a Piper voice by their names; kernels that have lost theirs by the bias beside them."""

    def __init__(self, model):
        self._tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._kernels = {
            n.input[2]: n.input[1] for n in model.graph.node if n.op_type == "Conv" and len(n.input) > 2
        }
        gather = next(n for n in model.graph.node if n.op_type == "Gather" and "emb" in n.name)
        self.embeddings = self._tensors[gather.input[0]]

    def __getitem__(self, name):
        return torch.from_numpy(self._tensors[name].copy())

    def conv(self, name):
        """Return weight and bias of a convolution."""
        kernel = self._kernels.get(f"{name}.bias", f"{name}.weight")
        return self[kernel], self[f"{name}.bias"]


def _fill(model, weights):
    def conv(layer, name):
        weight, bias = weights.conv(name)
        layer.weight.copy_(weight.reshape(layer.weight.shape))
        layer.bias.copy_(bias)

    def normed(layer, name):
        weight, bias = weights.conv(name)
        layer.parametrizations.weight.original1.copy_(weight)
        layer.parametrizations.weight.original0.copy_(weight.flatten(1).norm(dim=1)[:, None, None])
        layer.bias.copy_(bias)

    def norm(layer, name):
        layer.weight.copy_(weights[f"{name}.gamma"])
        layer.bias.copy_(weights[f"{name}.beta"])

    def separable(layer, name):
        for k in range(layer.num_layers):
            conv(layer.convs_dilated[k], f"{name}.convs_sep.{k}")
            conv(layer.convs_pointwise[k], f"{name}.convs_1x1.{k}")
            norm(layer.norms_1[k], f"{name}.norms_1.{k}")
            norm(layer.norms_2[k], f"{name}.norms_2.{k}")

    model.text_encoder.embed_tokens.weight.copy_(torch.from_numpy(weights.embeddings.copy()))
    for k, layer in enumerate(model.text_encoder.encoder.layers):
        attention, name = layer.attention, f"enc_p.encoder.attn_layers.{k}"
        for letter in "qkv":
            conv(getattr(attention, f"{letter}_proj"), f"{name}.conv_{letter}")
        conv(attention.out_proj, f"{name}.conv_o")
        attention.emb_rel_k.copy_(weights[f"{name}.emb_rel_k"])
        attention.emb_rel_v.copy_(weights[f"{name}.emb_rel_v"])
        norm(layer.layer_norm, f"enc_p.encoder.norm_layers_1.{k}")
        norm(layer.final_layer_norm, f"enc_p.encoder.norm_layers_2.{k}")
        for part in ("conv_1", "conv_2"):
            conv(getattr(layer.feed_forward, part), f"enc_p.encoder.ffn_layers.{k}.{part}")
    conv(model.text_encoder.project, "enc_p.proj")

    predictor = model.duration_predictor
    conv(predictor.conv_pre, "dp.pre")
    conv(predictor.conv_proj, "dp.proj")
    separable(predictor.conv_dds, "dp.convs")
    predictor.flows[0].translate.copy_(weights["dp.flows.0.m"])
    predictor.flows[0].log_scale.copy_(
        -torch.log(weights["/dp/flows.0/Exp_output_0"])
    )  # folded by the exporter
    for k in (2, 3, 4):
        flow, name = predictor.flows[k], f"dp.flows.{2 * k - 1}"
        conv(flow.conv_pre, f"{name}.pre")
        separable(flow.conv_dds, f"{name}.convs")
        conv(flow.conv_proj, f"{name}.proj")

    for k, flow in enumerate(model.flow.flows):
        name = f"flow.flows.{2 * k}"
        conv(flow.conv_pre, f"{name}.pre")
        conv(flow.conv_post, f"{name}.post")
        for i in range(flow.wavenet.num_layers):
            normed(flow.wavenet.in_layers[i], f"{name}.enc.in_layers.{i}")
            normed(flow.wavenet.res_skip_layers[i], f"{name}.enc.res_skip_layers.{i}")

    generator = model.decoder
    for parameter in generator.parameters():
        parameter.zero_()
    _put(generator.conv_pre, *weights.conv("dec.conv_pre"))
    _put(generator.conv_post, weights["dec.conv_post.weight"], None)
    for k, layer in enumerate(generator.upsampler):
        _put(layer, weights[f"dec.ups.{k}.weight"], weights[f"dec.ups.{k}.bias"])
    for k, block in enumerate(generator.resblocks):
        for i, (first, second) in enumerate(zip(block.convs1, block.convs2, strict=True)):
            weight, bias = weights.conv(f"dec.resblocks.{k}.convs.{i}")
            n = len(bias)
            first.weight[:n, :n], first.weight[n:, :n] = weight, -weight
            first.bias[:n], first.bias[n:] = bias, -bias
            middle, ones = second.weight.shape[2] // 2, torch.eye(n) / (1 + model.config.leaky_relu_slope)
            second.weight[:n, :n, middle], second.weight[:n, n:, middle] = ones, -ones


def _put(layer, weight, bias):
    """Put a layer's weights into the first channels of a wider one."""
    layer.weight[: weight.shape[0], : weight.shape[1]] = weight
    if bias is not None:
        layer.bias[: len(bias)] = bias


def speech_of(samples):
    """Return the loudest sample and the rms: speech is neither silence nor noise at full scale."""
    return float(np.abs(samples).max()), math.sqrt(float(np.mean(samples**2)))
