"""The two halves of a `transformers.VitsModel`, written so that torch's exporter can follow them.

They are the model's own layers with the model's own weights, run for one utterance, so without masks. What
the model's own code does in ways that depend on the length (relative attention) or on the values (splines)
is written out here in tensors alone; the model itself is what the result is compared with.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import VitsModel

_MIN_BIN = 1e-3
_MIN_SLOPE = 1e-3


class VitsEncoderHalf(nn.Module):  # type: ignore[misc]  # torch is not read by mypy
    """Phoneme ids, length scale and noise to encodings, log scales and durations.

    Parameters
    ----------
    model : VitsModel
        Without weight norm.
    """

    def __init__(self, model: VitsModel) -> None:
        super().__init__()
        self.text_encoder = model.text_encoder
        self.duration_predictor = model.duration_predictor
        self.embed_speaker = getattr(model, "embed_speaker", None)
        self.scale = math.sqrt(model.config.hidden_size)
        self.window = model.config.window_size
        self.n_channels = model.config.flow_size
        self.is_stochastic = model.config.use_stochastic_duration_prediction

    def forward(self, phoneme_ids: Tensor, length_scale: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """Take ``duration_noise`` if durations are drawn, then ``speaker_id`` if there are speakers."""
        inputs = list(others)
        noise = inputs.pop(0) if self.is_stochastic else None
        speaker = None if self.embed_speaker is None else self.embed_speaker(inputs.pop(0)).unsqueeze(-1)
        hidden = self.text_encoder.embed_tokens(phoneme_ids) * self.scale
        near = _Neighbours(hidden, self.window) if self.window else None
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
        outputs = (prior[..., : self.n_channels], prior[..., self.n_channels :], durations)
        return outputs if speaker is None else (*outputs, speaker)


class VitsDecoderHalf(nn.Module):  # type: ignore[misc]  # torch is not read by mypy
    """Frames, and the speaker's embedding, to samples.

    Parameters
    ----------
    model : VitsModel
        Without weight norm.
    """

    def __init__(self, model: VitsModel) -> None:
        super().__init__()
        self.flow = model.flow
        self.generator = model.decoder

    def forward(self, frames: Tensor, speaker: Tensor | None = None) -> Tensor:
        """Undo the flow, and generate."""
        latents = self.flow(frames, torch.ones(1, 1, 1), speaker, reverse=True)
        samples: Tensor = self.generator(latents, speaker)
        return samples


class _Neighbours:
    """Which positions are within the window of which, for `gather`; what isn't there has its own index.

    Parameters
    ----------
    hidden : Tensor of shape (1, n_positions, n_channels)
    window : int
        Positions before and after that have a relative embedding.
    """

    def __init__(self, hidden: Tensor, window: int) -> None:
        positions = torch.cumsum(torch.ones_like(hidden[0, :, 0], dtype=torch.int64), 0) - 1
        n = positions[-1:] + 1
        offsets = positions[None] - positions[:, None] + window
        self.offsets = torch.where((offsets >= 0) & (offsets <= 2 * window), offsets, 2 * window + 1)[None]
        """(1, n_positions, n_positions): from a pair of positions to its embedding."""
        targets = positions[:, None] + torch.arange(-window, window + 1)[None]
        self.targets = torch.where((targets >= 0) & (targets < n), targets, n)[None]
        """(1, n_positions, 2 * window + 1): from a position and an embedding to the other position."""


def _attend(attention: Any, hidden: Tensor, near: _Neighbours | None) -> Tensor:
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
        logits = logits + by_offset.gather(2, near.offsets.expand(n_heads, -1, -1))
    weights = functional.softmax(logits, dim=-1)
    attended = weights @ value
    if near is not None:
        of_offset = functional.pad(weights, (0, 1)).gather(2, near.targets.expand(n_heads, -1, -1))
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
    affine, _, *flows = predictor.flows  # the first flow is of no use in this direction, and left out
    latents = noise
    for flow in reversed(flows):
        first, second = torch.flip(latents, [1]).chunk(2, dim=1)
        parameters = flow.conv_proj(flow.conv_dds(flow.conv_pre(first), ones, condition))
        second = _inverse_spline(second, parameters.transpose(1, 2)[:, None], flow)
        latents = torch.cat([first, second], dim=1)
    latents = torch.flip(latents, [1])
    latents = (latents - affine.translate) * torch.exp(-affine.log_scale)
    return latents[:, :1]


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
    root = 2 * c / (-b - torch.sqrt((b * b - 4 * a * c).clamp(min=0)))
    x = (root * width + x_start)[..., 0]
    return torch.where((y >= -bound) & (y <= bound), x, y)


def _edges(sizes: Tensor, bound: float) -> Tensor:
    """Return the edges of bins, from -bound to bound."""
    n_bins = sizes.shape[-1]
    shares = _MIN_BIN + (1 - _MIN_BIN * n_bins) * functional.softmax(sizes, dim=-1)
    inner = torch.cumsum(shares, dim=-1)[..., :-1] * (2 * bound) - bound
    ends = functional.pad(inner, (1, 0), value=-bound)
    return functional.pad(ends, (0, 1), value=bound)
