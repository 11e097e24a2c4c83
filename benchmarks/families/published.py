"""Decoders that `transformers` has, as published or in tiny configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from families.family import Family

N_CODEBOOKS = 2


class Calling(nn.Module):
    """A module that runs others in some way."""

    def __init__(self, run: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run them."""
        return self.run(self, *inputs)


def codes(n_frames: int, full: bool, *, n_codes: int = 1024) -> Mapping[str, Tensor]:
    """Return codes (1, n_codebooks, n_frames)."""
    return {"frames": torch.randint(0, n_codes if full else 16, (1, N_CODEBOOKS, n_frames))}


def latents(n_frames: int, full: bool, *, n_channels: int, tiny: int) -> Mapping[str, Tensor]:
    """Return frames (1, n_channels, n_frames)."""
    return {"frames": torch.randn(1, n_channels if full else tiny, n_frames)}


def encodec(full: bool) -> nn.Module:
    """EnCodec of 24 kHz: residual codes, a forward LSTM, causal convolutions with computed padding."""
    from transformers import EncodecConfig, EncodecModel

    tiny = {
        "num_filters": 4, "hidden_size": 8, "codebook_dim": 8, "codebook_size": 16,
        "upsampling_ratios": [4, 2], "target_bandwidths": [2.0], "sampling_rate": 800,
    }  # fmt: skip
    model = EncodecModel(EncodecConfig(**({} if full else tiny)))
    return Calling(
        lambda own, x: own.decoder(
            sum(layer.decode(x[:, k]) for k, layer in enumerate(own.quantizer.layers[:N_CODEBOOKS]))
        ),
        decoder=model.decoder,
        quantizer=model.quantizer,
    )


def dac(full: bool) -> nn.Module:
    """DAC: residual codes in a narrow space, Snake, convolutions."""
    from transformers import DacConfig, DacModel

    tiny = {
        "encoder_hidden_size": 4, "decoder_hidden_size": 16, "downsampling_ratios": [2, 4],
        "upsampling_ratios": [4, 2], "hidden_size": 16, "codebook_dim": 4, "codebook_size": 16,
        "n_codebooks": 2,
    }  # fmt: skip
    model = DacModel(DacConfig(**({} if full else tiny)))
    return Calling(
        lambda own, x: own.decoder(own.quantizer.from_codes(x)[0]),
        decoder=model.decoder,
        quantizer=model.quantizer,
    )


def mimi(full: bool) -> nn.Module:
    """Mimi: residual codes, upsampling, a transformer over a sliding window, causal convolutions."""
    from transformers import MimiConfig, MimiModel

    tiny = {
        "num_filters": 4, "hidden_size": 16, "codebook_dim": 8, "vector_quantization_hidden_dimension": 8,
        "codebook_size": 16, "upsampling_ratios": [4, 2], "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 16, "sliding_window": 6,
        "num_quantizers": 2, "upsample_groups": 16,
    }  # fmt: skip
    model = MimiModel(MimiConfig(**({} if full else tiny)))
    return Calling(lambda own, x: own.model.decode(x, return_dict=False)[0], model=model)


def univnet(full: bool) -> nn.Module:
    """UnivNet: kernels that are predicted for each frame."""
    from transformers import UnivNetConfig, UnivNetModel

    tiny = {
        "model_in_channels": 4, "model_hidden_channels": 4, "num_mel_bins": 5,
        "resblock_kernel_sizes": [3, 3], "resblock_stride_sizes": [4, 2],
        "resblock_dilation_sizes": [[1, 3], [1, 3]], "kernel_predictor_hidden_channels": 4,
        "kernel_predictor_num_blocks": 1,
    }  # fmt: skip
    model = UnivNetModel(UnivNetConfig(**({} if full else tiny)))
    return Calling(lambda own, mel, noise: own.model(mel, noise, return_dict=False)[0], model=model)


def mel_and_noise(n_frames: int, full: bool) -> Mapping[str, Tensor]:
    """Return a mel spectrogram and noise, time first."""
    n_mels, n_noise = (100, 64) if full else (5, 4)
    return {"frames": torch.randn(1, n_frames, n_mels), "noise": torch.randn(1, n_frames, n_noise)}


def vibevoice(full: bool) -> nn.Module:
    """VibeVoice's acoustic decoder: causal convolutions, ConvNeXt blocks, RMS norms."""
    from transformers.models.vibevoice_acoustic_tokenizer import (
        configuration_vibevoice_acoustic_tokenizer as configuration,
    )
    from transformers.models.vibevoice_acoustic_tokenizer import (
        modeling_vibevoice_acoustic_tokenizer as modeling,
    )

    tiny = {"hidden_size": 6, "num_filters": 4, "downsampling_ratios": [2, 4], "depths": [1, 1, 1]}
    config = configuration.VibeVoiceAcousticTokenizerConfig(**({} if full else tiny))
    model = modeling.VibeVoiceAcousticTokenizerModel(config).decoder
    return Calling(lambda own, x: own.model(x).audio, model=model)


def speecht5_hifigan(full: bool) -> nn.Module:
    """SpeechT5's HiFi-GAN."""
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    tiny = {
        "model_in_dim": 5, "upsample_initial_channel": 16, "upsample_rates": [4, 2],
        "upsample_kernel_sizes": [8, 4], "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]],
    }  # fmt: skip
    return SpeechT5HifiGan(SpeechT5HifiGanConfig(**({} if full else tiny)))


def mel_first(n_frames: int, full: bool) -> Mapping[str, Tensor]:
    """Return a mel spectrogram, time first."""
    return {"frames": torch.randn(1, n_frames, 80 if full else 5)}


PUBLISHED = (
    Family("EnCodec", "codes, forward LSTM, computed padding", encodec, codes),
    Family("Mimi", "codes, attention over a window, computed padding", mimi, partial(codes, n_codes=2048)),
    Family("DAC", "codes, Snake", dac, codes),
    Family("VibeVoice", "causal ConvNeXt, RMS norms", vibevoice, partial(latents, n_channels=64, tiny=6)),
    Family("UnivNet", "predicted kernels", univnet, mel_and_noise, {"frames": 1, "noise": 1}),
    Family("SpeechT5 HiFi-GAN", "time first", speecht5_hifigan, mel_first, {"frames": 1}),
)
