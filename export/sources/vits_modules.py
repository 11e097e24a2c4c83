"""A `transformers.VitsModel` in two halves that torch's exporter can follow, and as it came to compare with.

The halves are the model's own layers with the model's own weights, run for one utterance, so without masks.
What the model's own code does in ways that depend on the length (relative attention) or on the values
(splines) is written out here in tensors alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from balacoon_tk._typing import AnyArray, FloatArray, IntArray
from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.source import GivenNoise
from balacoon_tk.export.sources.torch_graph import quiet_torch, to_graph

if TYPE_CHECKING:
    from transformers import VitsModel

# Of the reference implementation's splines, where they are no setting either.
_MIN_BIN, _MIN_SLOPE = 1e-3, 1e-3
# Lengths that no axis of channels has by chance, so that the exporter can't take one for the other.
_TRACED_PHONEMES, _TRACED_FRAMES = 11, 13


class VitsEncoderHalf(nn.Module):  # type: ignore[misc]  # torch is not read by mypy
    """Phoneme ids, length scale and noise to encodings, log scales and durations."""

    def __init__(self, model: VitsModel) -> None:
        super().__init__()
        self.text_encoder = model.text_encoder
        self.duration_predictor = model.duration_predictor
        self.embed_speaker = getattr(model, "embed_speaker", None)
        self.config = model.config

    # What a voice doesn't have is no input of its graph at all: hence the rest by position.
    def forward(self, phoneme_ids: Tensor, length_scale: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """Take ``duration_noise`` if durations are drawn, then ``speaker_id`` if there are speakers."""
        inputs = list(others)
        noise = inputs.pop(0) if self.config.use_stochastic_duration_prediction else None
        speaker = None if self.embed_speaker is None else self.embed_speaker(inputs.pop(0)).unsqueeze(-1)
        hidden = self.text_encoder.embed_tokens(phoneme_ids) * math.sqrt(self.config.hidden_size)
        near = _neighbours(hidden, self.config.window_size) if self.config.window_size else None
        for layer in self.text_encoder.encoder.layers:
            hidden = layer.layer_norm(hidden + _attend(layer.attention, hidden, near))
            hidden = layer.final_layer_norm(hidden + _feed_forward(layer.feed_forward, hidden))
        hidden = hidden.transpose(1, 2)
        prior = self.text_encoder.project(hidden).transpose(1, 2)
        if noise is None:
            log_durations = self.duration_predictor(hidden, torch.ones(1, 1, 1), speaker)
        else:
            log_durations = _log_durations(self.duration_predictor, hidden, noise, speaker)
        durations = torch.ceil(torch.exp(log_durations) * length_scale).squeeze(1).to(torch.int64)
        mean, log_scale = prior.split(self.config.flow_size, dim=-1)
        return (mean, log_scale, durations) if speaker is None else (mean, log_scale, durations, speaker)


class VitsDecoderHalf(nn.Module):  # type: ignore[misc]  # torch is not read by mypy
    """Frames, and the speaker's embedding, to samples."""

    def __init__(self, model: VitsModel) -> None:
        super().__init__()
        self.flow = model.flow
        self.generator = model.decoder

    def forward(self, frames: Tensor, speaker: Tensor | None = None) -> Tensor:
        """Undo the flow, and generate."""
        latents = self.flow(frames, torch.ones(1, 1, 1), speaker, reverse=True)
        samples: Tensor = self.generator(latents, speaker)
        return samples


def export_encoder(model: VitsModel) -> onnx.ModelProto:
    """Export the half before the frames; what a voice doesn't have is no input of it."""
    config, n = model.config, _TRACED_PHONEMES
    inputs = {"phoneme_ids": torch.arange(n)[None] % config.vocab_size, "length_scale": torch.ones(1)}
    outputs: dict[str, list[int | str]] = {
        "encodings": [1, "n_phonemes", config.flow_size],
        "log_scales": [1, "n_phonemes", config.flow_size],
        "durations": [1, "n_phonemes"],
    }
    time_axes = {"phoneme_ids": 1}
    if config.use_stochastic_duration_prediction:
        inputs["duration_noise"] = torch.zeros(1, 2, n)
        time_axes["duration_noise"] = 2
    if config.num_speakers > 1:
        inputs["speaker_id"] = torch.zeros(1, dtype=torch.int64)
        outputs["speaker_embedding"] = [1, config.speaker_embedding_size, 1]
    return to_graph(VitsEncoderHalf(model), inputs, time_axes=time_axes, outputs=outputs, name="encoder")


def export_decoder(model: VitsModel) -> onnx.ModelProto:
    """Export the half behind the frames."""
    config = model.config
    inputs = {"frames": torch.randn(1, config.flow_size, _TRACED_FRAMES)}
    if config.num_speakers > 1:
        inputs["speaker_embedding"] = torch.randn(1, config.speaker_embedding_size, 1)
    outputs: dict[str, list[int | str]] = {"samples": [1, 1, "n_samples"]}
    return to_graph(VitsDecoderHalf(model), inputs, time_axes={"frames": 2}, outputs=outputs, name="decoder")


def _neighbours(hidden: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Return which positions are within the window of which, for `gather`; what isn't there has an index.

    That is from a pair of positions to its embedding, (1, n_positions, n_positions), and from a position and
    an embedding to the other position, (1, n_positions, 2 * window + 1).
    """
    # Counted by a sum over ones: a number that is taken from a shape may be frozen by the trace.
    positions = torch.cumsum(torch.ones_like(hidden[0, :, 0], dtype=torch.int64), 0) - 1
    n = positions[-1:] + 1
    offsets = positions[None] - positions[:, None] + window
    offsets = torch.where((offsets >= 0) & (offsets <= 2 * window), offsets, 2 * window + 1)
    targets = positions[:, None] + torch.arange(-window, window + 1)[None]
    return offsets[None], torch.where((targets >= 0) & (targets < n), targets, n)[None]


def _attend(attention: Any, hidden: Tensor, near: tuple[Tensor, Tensor] | None) -> Tensor:
    """Attend with relative positions (Shaw et al. 2018), looked up for each pair of positions.

    Beyond the window there is no embedding, which is one of zeros.
    """
    n_heads, size = attention.num_heads, attention.head_dim

    def heads(projected: Tensor) -> Tensor:
        return projected.reshape(-1, n_heads, size).transpose(0, 1)

    query = heads(attention.q_proj(hidden) * attention.scaling)
    key, value = heads(attention.k_proj(hidden)), heads(attention.v_proj(hidden))
    logits = query @ key.transpose(1, 2)
    if near is not None:
        by_offset = functional.pad(query @ attention.emb_rel_k.transpose(1, 2), (0, 1))
        logits = logits + by_offset.gather(2, near[0].expand(n_heads, -1, -1))
    weights = functional.softmax(logits, dim=-1)
    attended = weights @ value
    if near is not None:
        of_offset = functional.pad(weights, (0, 1)).gather(2, near[1].expand(n_heads, -1, -1))
        attended = attended + of_offset @ attention.emb_rel_v
    projected: Tensor = attention.out_proj(attended.transpose(0, 1).reshape(1, -1, n_heads * size))
    return projected


def _feed_forward(layer: Any, hidden: Tensor) -> Tensor:
    left, right = layer.padding[:2] if layer.padding else (0, 0)
    hidden = functional.pad(hidden.transpose(1, 2), (left, right))
    hidden = functional.pad(layer.act_fn(layer.conv_1(hidden)), (left, right))
    projected: Tensor = layer.conv_2(hidden).transpose(1, 2)
    return projected


def _log_durations(predictor: Any, hidden: Tensor, noise: Tensor, speaker: Tensor | None) -> Tensor:
    """Draw log durations: noise through the inverse of the predictor's flows (VITS, section 2.2.2)."""
    ones = torch.ones(1, 1, 1)
    condition = predictor.conv_pre(hidden)
    if speaker is not None:
        condition = condition + predictor.cond(speaker)
    condition = predictor.conv_proj(predictor.conv_dds(condition, ones))
    # Undone from the last to the first; of the two channels at the end the first is the log duration.
    affine, _, *flows = predictor.flows  # the first flow is of no use in this direction, and left out
    latents = noise
    for flow in reversed(flows):
        first, second = torch.flip(latents, [1]).chunk(2, dim=1)
        parameters = flow.conv_proj(flow.conv_dds(flow.conv_pre(first), ones, condition))
        second = _inverse_spline(second, parameters.transpose(1, 2)[:, None], flow)
        latents = torch.cat([first, second], dim=1)
    return ((torch.flip(latents, [1]) - affine.translate) * torch.exp(-affine.log_scale))[:, :1]


def _inverse_spline(y: Tensor, parameters: Tensor, flow: Any) -> Tensor:
    """Invert a monotonic rational-quadratic spline (Durkan et al. 2019, section 3.1); identity outside.

    `y` is (1, 1, n), `parameters` (1, 1, n, 3 * n_bins - 1).
    """
    n_bins, bound = flow.num_bins, flow.tail_bound
    widths, heights, slopes = parameters.split([n_bins, n_bins, n_bins - 1], dim=-1)
    scale = math.sqrt(flow.filter_channels)
    x_edges, y_edges = _edges(widths / scale, bound), _edges(heights / scale, bound)
    slope_at_ends = math.log(math.exp(1 - _MIN_SLOPE) - 1)
    slopes = _MIN_SLOPE + functional.softplus(functional.pad(slopes, (1, 1), value=slope_at_ends))
    inside = y.clamp(-bound, bound)[..., None]
    # The bin that y is in, by counting the edges below it: a search would be a loop.
    found = (inside >= y_edges[..., 1:-1]).sum(dim=-1, keepdim=True)

    def here(values: Tensor) -> Tensor:
        return values.gather(-1, found)

    x_start, y_start = here(x_edges[..., :-1]), here(y_edges[..., :-1])
    width, height = here(x_edges[..., 1:]) - x_start, here(y_edges[..., 1:]) - y_start
    slope_left, slope_right = here(slopes[..., :-1]), here(slopes[..., 1:])
    mean_slope = height / width
    rise = inside - y_start
    curve = slope_left + slope_right - 2 * mean_slope
    a = height * (mean_slope - slope_left) + rise * curve
    b = height * slope_left - rise * curve
    c = -mean_slope * rise
    # The form of the quadratic's solution that loses no digits where a is near 0; below 0 by rounding alone.
    root = 2 * c / (-b - torch.sqrt((b * b - 4 * a * c).clamp(min=0)))
    x = (root * width + x_start)[..., 0]
    return torch.where((y >= -bound) & (y <= bound), x, y)


def _edges(sizes: Tensor, bound: float) -> Tensor:
    """Return the edges of bins, from -bound to bound."""
    n_bins = sizes.shape[-1]
    shares = _MIN_BIN + (1 - _MIN_BIN * n_bins) * functional.softmax(sizes, dim=-1)
    inner = torch.cumsum(shares, dim=-1)[..., :-1] * (2 * bound) - bound
    # The ends are put in as they are: a sum of shares is 1 but for rounding, and y = bound must find a bin.
    return functional.pad(functional.pad(inner, (1, 0), value=-bound), (0, 1), value=bound)


class VitsReference:
    """A model as it came: its own forward pass, for which the noise that it draws can be given."""

    def __init__(self, model: VitsModel) -> None:
        self._model = model

    def run(self, phoneme_ids: IntArray, *, speaker_id: int, length_scale: float) -> FloatArray:
        """Synthesize without noise."""
        return self._run(phoneme_ids, speaker_id, length_scale, _Hand(None, None))[0]

    def run_with_noise(
        self, phoneme_ids: IntArray, *, speaker_id: int, length_scale: float, noise: GivenNoise
    ) -> tuple[FloatArray, AnyArray]:
        """Synthesize with noise that is given; see `NoisyReference`."""
        self._model.noise_scale = noise.frame_scale
        return self._run(phoneme_ids, speaker_id, length_scale, _Hand(noise.durations, noise.frames))

    def _run(
        self, phoneme_ids: IntArray, speaker_id: int, length_scale: float, hand: _Hand
    ) -> tuple[FloatArray, AnyArray]:
        model = self._model
        # The durations' noise is scaled already; where zeros are handed out no factor matters.
        model.noise_scale_duration = 1.0
        # The model rounds its durations at once and gives them to nobody: they are overheard.
        seen: list[torch.Tensor] = []
        hook = model.duration_predictor.register_forward_hook(lambda *call: seen.append(call[-1]))
        try:
            with quiet_torch("a VitsModel"), hand:
                output = model(
                    torch.from_numpy(phoneme_ids[None]),
                    speaker_id=speaker_id if model.config.num_speakers > 1 else None,
                    speaking_rate=1 / length_scale,
                )
        finally:
            hook.remove()
        samples: FloatArray = output.waveform[0].numpy()
        return samples, (torch.exp(seen[0]) * length_scale).detach().numpy().reshape(-1)


class _Hand(TorchFunctionMode):  # type: ignore[misc]  # torch is not read by mypy
    """Hands out noise that was drawn before, where a model draws its own; zeros where there is none.

    The model draws by two functions of torch: `randn` for the durations, `randn_like` for the frames.
    """

    def __init__(self, durations: FloatArray | None, frames: FloatArray | None) -> None:
        super().__init__()
        self._durations, self._frames = durations, frames

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.randn:
            return self._give(self._durations, args)
        if func is torch.randn_like:
            return self._give(self._frames, tuple(args[0].shape))
        return func(*args, **(kwargs or {}))

    @staticmethod
    def _give(noise: FloatArray | None, shape: tuple[int, ...]) -> torch.Tensor:
        if noise is None:
            return torch.zeros(shape)
        if noise.shape != shape:
            raise ModelError(f"noise of shape {noise.shape} must be {shape}: the durations are others")
        return torch.from_numpy(np.ascontiguousarray(noise))
