"""Decoders that `transformers` has, in tiny configurations."""

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


def latents(n_channels: int, n_frames: int) -> Mapping[str, Tensor]:
    """Return frames (1, n_channels, n_frames)."""
    return {"frames": torch.randn(1, n_channels, n_frames)}


def codes(n_codebooks: int, n_codes: int, n_frames: int) -> Mapping[str, Tensor]:
    """Return codes (1, n_codebooks, n_frames)."""
    return {"frames": torch.randint(0, n_codes, (1, n_codebooks, n_frames))}


def encodec() -> nn.Module:
    """EnCodec of 24 kHz: residual codes, a forward LSTM, causal convolutions with computed padding."""
    from transformers import EncodecConfig, EncodecModel

    config = EncodecConfig(
        num_filters=4, hidden_size=8, codebook_dim=8, codebook_size=16, upsampling_ratios=[4, 2],
        target_bandwidths=[2.0], sampling_rate=800,
    )  # fmt: skip
    model = EncodecModel(config)
    return Calling(
        lambda own, x: own.decoder(
            sum(layer.decode(x[:, k]) for k, layer in enumerate(own.quantizer.layers[:N_CODEBOOKS]))
        ),
        decoder=model.decoder,
        quantizer=model.quantizer,
    )


def dac() -> nn.Module:
    """DAC: residual codes in a narrow space, Snake, convolutions."""
    from transformers import DacConfig, DacModel

    config = DacConfig(
        encoder_hidden_size=4, decoder_hidden_size=16, downsampling_ratios=[2, 4], upsampling_ratios=[4, 2],
        hidden_size=16, codebook_dim=4, codebook_size=16, n_codebooks=2,
    )  # fmt: skip
    model = DacModel(config)
    return Calling(
        lambda own, x: own.decoder(own.quantizer.from_codes(x)[0]),
        decoder=model.decoder,
        quantizer=model.quantizer,
    )


def mimi() -> nn.Module:
    """Mimi: residual codes, upsampling, a transformer over a sliding window, causal convolutions."""
    from transformers import MimiConfig, MimiModel

    config = MimiConfig(
        num_filters=4, hidden_size=16, codebook_dim=8, vector_quantization_hidden_dimension=8,
        codebook_size=16, upsampling_ratios=[4, 2], num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, intermediate_size=16, sliding_window=6, num_quantizers=2,
        upsample_groups=16,
    )  # fmt: skip
    model = MimiModel(config)
    return Calling(
        lambda own, x: own.model.decode(x, return_dict=False)[0],
        model=model,
    )


def univnet() -> nn.Module:
    """UnivNet: kernels that are predicted for each frame."""
    from transformers import UnivNetConfig, UnivNetModel

    config = UnivNetConfig(
        model_in_channels=4, model_hidden_channels=4, num_mel_bins=5, resblock_kernel_sizes=[3, 3],
        resblock_stride_sizes=[4, 2], resblock_dilation_sizes=[[1, 3], [1, 3]],
        kernel_predictor_hidden_channels=4, kernel_predictor_num_blocks=1,
    )  # fmt: skip
    model = UnivNetModel(config)
    return Calling(lambda own, mel, noise: own.model(mel, noise, return_dict=False)[0], model=model)


def vibevoice() -> nn.Module:
    """VibeVoice's acoustic decoder: causal convolutions, ConvNeXt blocks, RMS norms."""
    from transformers.models.vibevoice_acoustic_tokenizer import configuration_vibevoice_acoustic_tokenizer as c
    from transformers.models.vibevoice_acoustic_tokenizer import modeling_vibevoice_acoustic_tokenizer as m

    config = c.VibeVoiceAcousticTokenizerConfig(
        hidden_size=6, num_filters=4, downsampling_ratios=[2, 4], depths=[1, 1, 1]
    )
    model = m.VibeVoiceAcousticTokenizerModel(config).decoder
    return Calling(lambda own, x: own.model(x).audio, model=model)


def speecht5_hifigan() -> nn.Module:
    """SpeechT5's HiFi-GAN."""
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    config = SpeechT5HifiGanConfig(
        model_in_dim=5, upsample_initial_channel=16, upsample_rates=[4, 2], upsample_kernel_sizes=[8, 4],
        resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]],
    )  # fmt: skip
    return SpeechT5HifiGan(config)


def _mel_and_noise(n_frames: int) -> Mapping[str, Tensor]:
    return {"frames": torch.randn(1, n_frames, 5), "noise": torch.randn(1, n_frames, 4)}


PUBLISHED = (
    Family("EnCodec", "codes, forward LSTM, computed padding", encodec, partial(codes, N_CODEBOOKS, 16)),
    Family("Mimi", "codes, attention over a window, computed padding", mimi, partial(codes, N_CODEBOOKS, 16)),
    Family("DAC", "codes, Snake", dac, partial(codes, N_CODEBOOKS, 16)),
    Family("VibeVoice", "causal ConvNeXt, RMS norms", vibevoice, partial(latents, 6)),
    Family("UnivNet", "predicted kernels", univnet, _mel_and_noise, {"frames": 1, "noise": 1}),
    Family(
        "SpeechT5 HiFi-GAN",
        "time first",
        speecht5_hifigan,
        lambda n: {"frames": torch.randn(1, n, 5)},
        {"frames": 1},
    ),
)
