"""Small decoders, and streams over them: what the tests of decoders share."""

from __future__ import annotations

import numpy as np
import onnx

from balacoon_tk.decoder import Decoder
from tiny_graphs import TinyGraph

__all__ = ["N_CHANNELS", "close", "down_and_up", "push_all", "two_rate_feeds", "two_rates", "vocoder"]

N_CHANNELS = 4

rng = np.random.default_rng(7)


def vocoder(seed: int = 0) -> onnx.ModelProto:
    """Hop 6, lag 37 samples: 6.2 frames."""
    g = TinyGraph(seed=seed)
    x = g.conv(g.frames(), N_CHANNELS, N_CHANNELS, 5, pads=[2, 2])
    x = g.up(g.op("LeakyRelu", x), N_CHANNELS, N_CHANNELS, 4, 2, pads=[1, 1])
    x = g.conv(x, N_CHANNELS, N_CHANNELS, 7, pads=[3, 3])
    x = g.op("Add", x, g.conv(x, N_CHANNELS, N_CHANNELS, 5, pads=[4, 4], dilations=[2]))
    return g.model(g.op("Tanh", g.up(x, N_CHANNELS, 1, 6, 3, pads=[1, 2])))


def two_rates() -> onnx.ModelProto:
    g = TinyGraph()
    mel, f0, speaker = g.frames(N_CHANNELS, "mel"), g.frames(1, "f0"), g.input("speaker", [1, N_CHANNELS, 1])
    x = g.up(
        g.op("Add", g.conv(mel, N_CHANNELS, N_CHANNELS, 3, pads=[1, 1]), speaker),
        N_CHANNELS,
        1,
        6,
        3,
        pads=[1, 2],
    )
    return g.model(g.conv(g.op("Mul", x, f0), 1, 1, 5, pads=[2, 2]))


def down_and_up() -> onnx.ModelProto:
    g = TinyGraph()
    x = g.conv(g.frames(), N_CHANNELS, N_CHANNELS, 3, pads=[1, 1])
    y = g.conv(x, N_CHANNELS, N_CHANNELS, 4, pads=[1, 1], strides=[2])
    z = g.conv(y, N_CHANNELS, N_CHANNELS, 6, pads=[2, 2], strides=[2])
    y = g.op("Add", y, g.up(z, N_CHANNELS, N_CHANNELS, 4, 2, pads=[1, 1]))
    return g.model(g.op("Add", x, g.up(y, N_CHANNELS, N_CHANNELS, 4, 2, pads=[1, 1])))


def two_rate_feeds(n_frames: int) -> dict[str, np.ndarray]:
    return {
        "mel": rng.standard_normal((1, N_CHANNELS, n_frames)).astype(np.float32),
        "f0": rng.standard_normal((1, 1, 3 * n_frames)).astype(np.float32),
        "speaker": np.ones((1, N_CHANNELS, 1), np.float32),
    }


def push_all(decoder: Decoder, frames: np.ndarray, sizes: list[int]) -> np.ndarray:
    parts, position = [], 0
    for k, size in enumerate(sizes):
        parts.append(decoder.push(frames[..., position : position + size], last=k == len(sizes) - 1))
        position += size
    return np.concatenate(parts, axis=-1)


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=0, atol=1e-6))
