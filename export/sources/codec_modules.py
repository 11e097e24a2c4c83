"""Codecs as modules that an exporter can follow: codes in, samples out, and the other way.

What transformers wrote for training and for batches is put in a plainer form that computes the same:

1. The padding of a causal convolution is arithmetic with the length that comes to a constant for whole
   frames, and reflects short utterances in a branch that tracing takes out. Zeros behind, which are cut off
   again, make both cases one.
2. A transformer asks whether several utterances stand in one row, by an operator that ONNX doesn't have,
   unless it is given its mask. It is given the one that it would make: causal, of a fixed window.
3. A decoder whose transposed convolutions crop a sample too many gives a few samples less than
   ``n_frames * hop_length``; zeros at the end stand for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.torch_graph import plain_copy

_TRIED_FRAMES = 20


class CodecDecoder(nn.Module):  # type: ignore[misc]  # torch is not read by mypy
    """Codes (1, n_codebooks, n_frames) to samples (1, 1, n_frames * hop_length)."""

    def __init__(self, model: Any, decode: Callable[[Any, Tensor], Tensor], n_missing: int = 0) -> None:
        super().__init__()
        self.model, self._decode, self.n_missing = model, decode, n_missing

    def forward(self, codes: Tensor) -> Tensor:
        """Decode."""
        samples = self._decode(self.model, codes)
        return nn.functional.pad(samples, (0, self.n_missing)) if self.n_missing else samples


class Analyzer(nn.Module):  # type: ignore[misc]  # as above
    """Samples (1, 1, n_frames * hop_length) to codes (1, n_codebooks, n_frames)."""

    def __init__(self, model: Any, encode: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self._encode = model, encode

    def forward(self, samples: Tensor) -> Tensor:
        """Encode."""
        return self._encode(self.model, samples)


class CodecModules(NamedTuple):
    """The halves of a codec, in a form that can be exported and as they came, to compare them with."""

    decoder: CodecDecoder
    own_decoder: CodecDecoder
    analyzer: Analyzer | None
    own_analyzer: Analyzer | None
    hop_length: int


def codec_modules(model: Any, *, n_codebooks: int) -> CodecModules:
    """Return the halves of a codec; a ModelError says that it isn't one channel, or has no whole frames."""
    kind, settings = _KINDS[model.config.model_type], model.config
    if getattr(settings, "normalize", False) or getattr(settings, "chunk_length_s", None) is not None:
        raise ModelError(
            "config.json has normalize or chunk_length_s: it decodes chunks of its own, each with a scale, "
            "and codes alone do not give that"
        )
    plain = plain_copy(model)
    for parent in list(plain.modules()):
        for name, part in list(parent.named_children()):
            if _is_causal(part):
                setattr(parent, name, _CausalConv(part))
    module = CodecDecoder(plain, kind.decode)
    n = _TRIED_FRAMES
    short, long = (module(torch.zeros(1, n_codebooks, k, dtype=torch.int64)) for k in (n, 2 * n))
    if short.ndim != 3 or short.shape[:2] != (1, 1):
        raise ModelError(f"it gives samples of shape {tuple(short.shape)}: must be of one channel")
    hop_length = (long.shape[-1] - short.shape[-1]) // n
    missing = n * hop_length - short.shape[-1]
    # The rates must hold at both lengths, and so few samples be missing that they are those of the end.
    if long.shape[-1] != 2 * n * hop_length - missing or not 0 <= missing < hop_length:
        raise ModelError(
            f"{n} frames give {short.shape[-1]} samples, and {2 * n} give {long.shape[-1]}: must be a whole "
            "number for each frame, but for a few at the end"
        )
    module.n_missing = missing
    own = CodecDecoder(model, kind.own_decode, missing)
    if kind.encode is None or kind.own_encode is None or getattr(model, "encoder", model) is None:
        return CodecModules(module, own, None, None, hop_length)
    analyzers = Analyzer(plain, kind.encode), Analyzer(model, kind.own_encode)
    return CodecModules(module, own, *analyzers, hop_length)


def _is_causal(part: Any) -> bool:
    # EncodecConv1d and MimiConv1d; with a norm over time they are left as they are.
    return (
        hasattr(part, "_get_extra_padding_for_conv1d")
        and part.causal
        and getattr(part, "norm_type", "weight_norm") == "weight_norm"
    )


class _CausalConv(nn.Module):  # type: ignore[misc]  # as above
    """A causal convolution, padded in front; its input is a whole number of strides long."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.conv, self._mode, self._n_before = part.conv, part.pad_mode, int(part.padding_total)

    def forward(self, hidden: Tensor) -> Tensor:
        """Pad and convolve."""
        if self._mode == "reflect" and self._n_before:
            # As many zeros as the reflection could lack: then it is the same whatever the length.
            hidden = nn.functional.pad(hidden, (0, self._n_before))
            hidden = nn.functional.pad(hidden, (self._n_before, 0), mode="reflect")[..., : -self._n_before]
        else:
            hidden = nn.functional.pad(hidden, (self._n_before, 0), mode=self._mode)
        result: Tensor = self.conv(hidden)
        return result


def _residual(model: Any, codes: Tensor) -> Tensor:
    result: Tensor = model.decoder(model.quantizer.decode(codes.transpose(0, 1)))
    return result


def _projected(model: Any, codes: Tensor) -> Tensor:
    result: Tensor = model.decoder(model.quantizer.from_codes(codes)[0])
    return result


def _acoustic(model: Any, codes: Tensor) -> Tensor:
    quantized = model.quantizer.decode(codes.transpose(0, 1))
    result: Tensor = model.acoustic_decoder(model.fc2(quantized.transpose(1, 2)).transpose(1, 2))
    return result


def _attending(transformer: Any, hidden: Tensor) -> Tensor:
    steps = torch.arange(hidden.shape[-1], device=hidden.device)
    behind = steps[:, None] - steps[None, :]
    seen = (behind >= 0) & (behind < transformer.config.sliding_window)
    mask = torch.where(seen, 0.0, torch.finfo(hidden.dtype).min)[None, None]
    result = transformer(hidden.transpose(1, 2), attention_mask=mask, use_cache=False).last_hidden_state
    given: Tensor = result.transpose(1, 2)
    return given


def _with_transformer(model: Any, codes: Tensor) -> Tensor:
    decoder, hidden = model.decoder, model.quantizer.decode(codes)
    if decoder.upsample is not None:
        hidden = decoder.upsample(hidden)
    result: Tensor = decoder.decoder_seanet(_attending(decoder.decoder_transformer, hidden))
    return result


def _own(model: Any, codes: Tensor) -> Tensor:
    samples: Tensor = model.decode(audio_codes=codes, return_dict=True).audio_values
    return samples if samples.ndim == 3 else samples[:, None]


def _own_of_one_chunk(model: Any, codes: Tensor) -> Tensor:
    samples: Tensor = model.decode(codes[None], [None], return_dict=True).audio_values
    return samples


def _encode_residual(model: Any, samples: Tensor) -> Tensor:
    codes: Tensor = model.quantizer.encode(model.encoder(samples)).transpose(0, 1)
    return codes


def _encode_projected(model: Any, samples: Tensor) -> Tensor:
    codes: Tensor = model.quantizer(model.encoder(samples))[1]
    return codes


def _encode_with_transformer(model: Any, samples: Tensor) -> Tensor:
    encoder = model.encoder
    hidden = _attending(encoder.encoder_transformer, encoder.encoder_seanet(samples))
    if encoder.downsample is not None:
        hidden = encoder.downsample(hidden)
    codes: Tensor = model.quantizer.encode(hidden).transpose(0, 1)
    return codes


def _encode_with_speech(model: Any, samples: Tensor) -> Tensor:
    # Plain already. It pads what is short of a frame, which whole frames decide once and for all.
    codes: Tensor = model.encode(samples, return_dict=False)
    return codes


def _own_codes(model: Any, samples: Tensor) -> Tensor:
    codes: Tensor = model.encode(samples).audio_codes
    return codes


def _own_codes_of_one_chunk(model: Any, samples: Tensor) -> Tensor:
    # Of all codebooks: without a bandwidth it takes the fewest.
    codes: Tensor = model.encode(samples, bandwidth=model.config.target_bandwidths[-1]).audio_codes[0]
    return codes


class _Kind(NamedTuple):
    """How an architecture makes samples of codes, and codes of samples: written plainly, and by itself."""

    decode: Callable[[Any, Tensor], Tensor]
    own_decode: Callable[[Any, Tensor], Tensor] = _own
    encode: Callable[[Any, Tensor], Tensor] | None = None
    own_encode: Callable[[Any, Tensor], Tensor] | None = _own_codes


_KINDS: Mapping[str, _Kind] = {
    "dac": _Kind(_projected, encode=_encode_projected),
    "encodec": _Kind(_residual, _own_of_one_chunk, _encode_residual, _own_codes_of_one_chunk),
    # It resamples what it encodes, by a package that nothing else needs.
    "higgs_audio_v2_tokenizer": _Kind(_acoustic),
    "mimi": _Kind(_with_transformer, encode=_encode_with_transformer),
    "xcodec": _Kind(_acoustic, encode=_encode_with_speech),
}
# By the name that transformers has for the architecture.
