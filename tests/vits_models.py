"""Folders of VitsModel: of random weights, and with the trained weights of a Piper voice in it."""

import json
import math
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors.torch import save_file
from transformers import VitsConfig, VitsModel

from peers.piper_weights import PiperWeights, fill_before_generator

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
    weights = PiperWeights(onnx.load(path))
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
        fill_before_generator(model, weights)
        _fill_generator(model, weights)
    write_vits_model(folder, model, {s: ids[0] for s, ids in said["phoneme_id_map"].items()})
    tokenizer = TOKENIZER | {"language": "eng", "phonemize": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


def _fill_generator(model, weights):
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
