"""torch: the default voice as transformers' `VitsModel`, whole, sentence by sentence.

What a program without an export would run. The weights are the voice's own, so it says the same; one kind of
layer that its generator has and `VitsModel` lacks is written out here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from piper.phoneme_ids import phonemes_to_ids
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from transformers import VitsConfig, VitsModel

from balacoon_tk._typing import FloatArray, IntArray
from peers.files import cache_folder, model_path, voice_config
from peers.phonemes import espeak_sentences
from peers.protocol import NOISE_SCALE, NOISE_W

_GENERATOR = {
    "upsample_initial_channel": 256,
    "upsample_rates": (8, 8, 4),
    "upsample_kernel_sizes": (16, 16, 8),
    "resblock_kernel_sizes": (3, 5, 7),
    "resblock_dilation_sizes": ((1, 2), (2, 6), (3, 12)),
}
"""Of Piper's voices of medium quality; all else is as `VitsConfig` has it."""


class TorchVits:
    """`VitsModel.forward` in inference mode, of `n_threads` threads."""

    def __init__(self, n_threads: int) -> None:
        torch.set_num_threads(n_threads)
        config = voice_config()
        self._model = load_torch_voice()
        self._id_map: dict[str, list[int]] = config["phoneme_id_map"]
        self._voice: str = config["espeak"]["voice"]
        self.sample_rate: int = config["audio"]["sample_rate"]

    @property
    def settings(self) -> dict[str, Any]:
        """How it runs, and how it gets its phonemes."""
        return {
            "torch": "inference_mode, set_num_threads, weight norm folded, not compiled",
            "phonemes": "by the espeak-ng of piper-tts, in the time that is measured",
        }

    def speak(self, text: str) -> Iterator[FloatArray]:
        """Give sentences."""
        for phonemes in espeak_sentences(text, self._voice):
            yield say_ids(self._model, phonemes_to_ids(phonemes, self._id_map))


def say_ids(model: VitsModel, phoneme_ids: Sequence[int] | IntArray) -> FloatArray:
    """Return the samples of phoneme ids, pads among them."""
    with torch.inference_mode():
        samples: FloatArray = model(torch.as_tensor(phoneme_ids)[None]).waveform[0].numpy()
    return samples


def load_torch_voice() -> VitsModel:
    """Return the default voice, ready to speak; its weights are converted the first time."""
    path = cache_folder("torch") / "model.safetensors"
    if not path.is_file():
        _write_weights(path)
    # Without memory for weights that are then thrown away, as `from_pretrained` does it.
    with torch.device("meta"):
        model = _create_model()
    model.load_state_dict(load_file(path), assign=True)
    return model.eval()


class _ResidualBlock(nn.Module):
    """``x + conv(leaky(x))`` for each dilation: the kind of HiFi-GAN V3 (Kong et al. 2020, appendix A.1)."""

    def __init__(self, n_channels: int, n_taps: int, dilations: Sequence[int], slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.convs = nn.ModuleList(
            nn.Conv1d(n_channels, n_channels, n_taps, dilation=each, padding=each * (n_taps - 1) // 2)
            for each in dilations
        )

    def forward(self, hidden: Tensor) -> Tensor:
        for conv in self.convs:
            hidden = hidden + conv(functional.leaky_relu(hidden, self.slope))
        return hidden


def _create_model() -> VitsModel:
    said = voice_config()
    config = VitsConfig(
        vocab_size=said["num_symbols"],
        sampling_rate=said["audio"]["sample_rate"],
        noise_scale=NOISE_SCALE,
        noise_scale_duration=NOISE_W,
        **_GENERATOR,
    )
    model = VitsModel(config)
    blocks = zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
    kinds = [(n_taps, dilations, config.leaky_relu_slope) for n_taps, dilations in blocks]
    model.decoder.resblocks = nn.ModuleList(
        _ResidualBlock(up.out_channels, *kind) for up in model.decoder.upsampler for kind in kinds
    )
    del model.posterior_encoder  # it runs in training alone
    for layer in list(model.modules()):
        if parametrize.is_parametrized(layer):
            parametrize.remove_parametrizations(layer, "weight")
    return model


@torch.no_grad()
def _write_weights(path: Path) -> None:
    # Here, since neither is needed to speak.
    import onnx

    from peers.piper_weights import PiperWeights, fill_before_generator, put_conv

    model, weights = _create_model(), PiperWeights(onnx.load(model_path()))
    fill_before_generator(model, weights)
    generator = model.decoder
    put_conv(generator.conv_pre, *weights.conv("dec.conv_pre"))
    put_conv(generator.conv_post, weights["dec.conv_post.weight"], None)
    for k, layer in enumerate(generator.upsampler):
        put_conv(layer, weights[f"dec.ups.{k}.weight"], weights[f"dec.ups.{k}.bias"])
    for k, block in enumerate(generator.resblocks):
        for i, layer in enumerate(block.convs):
            put_conv(layer, *weights.conv(f"dec.resblocks.{k}.convs.{i}"))
    part = Path(f"{path}.{os.getpid()}.part")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, part)
    part.replace(path)
