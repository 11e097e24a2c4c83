"""NumPy oracles: what the kernels compute, written the plain way and without sharing any of their code."""

from itertools import pairwise

import numpy as np

_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = 0xFFFFFFFF


def philox4x32(counters, key):
    """Philox4x32-10 (Salmon et al. 2011) of counters (n, 4) under a key of two words, in 64-bit integers."""
    x0, x1, x2, x3 = np.asarray(counters, np.uint64).T
    k0, k1 = key
    for _ in range(10):
        p0, p1 = x0 * np.uint64(_M0), x2 * np.uint64(_M1)
        x0, x1, x2, x3 = (
            (p1 >> np.uint64(32)) ^ x1 ^ np.uint64(k0),
            p1 & np.uint64(_LOW),
            (p0 >> np.uint64(32)) ^ x3 ^ np.uint64(k1),
            p0 & np.uint64(_LOW),
        )
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return np.stack([x0, x1, x2, x3], axis=1).astype(np.uint32)


def philox4x32_inverse(words, key):
    """Return the counters that `philox4x32` turns into the words."""
    y0, y1, y2, y3 = np.asarray(words, np.uint64).T
    keys = [[np.uint64((k + i * w) & _LOW) for i in range(10)] for k, w in zip(key, (_W0, _W1), strict=True)]
    for k0, k1 in zip(*map(reversed, keys), strict=True):
        x2 = y1 * np.uint64(pow(_M1, -1, 2**32)) & np.uint64(_LOW)
        x0 = y3 * np.uint64(pow(_M0, -1, 2**32)) & np.uint64(_LOW)
        x1 = (x2 * np.uint64(_M1) >> np.uint64(32)) ^ y0 ^ k0
        x3 = (x0 * np.uint64(_M0) >> np.uint64(32)) ^ y2 ^ k1
        y0, y1, y2, y3 = x0, x1, x2, x3
    return np.stack([y0, y1, y2, y3], axis=1).astype(np.uint32)


def box_muller(first, second):
    """Pairs of normals from pairs of 32-bit words, in float64."""
    # The uniform is rounded to float32, as documented by the word's 31 bits; all else is exact here.
    u = ((first >> np.uint32(1)).astype(np.float32) + np.float32(0.5)).astype(np.float64) / 2**31
    r, t = np.sqrt(-2 * np.log(u)), 2 * np.pi * second.astype(np.float64) / 2**32
    return r * np.cos(t), r * np.sin(t)


def frame_noise(start, stop, *, n_channels, seed=0, stream=0):
    """Standard normals (stop - start, n_channels) in float64, value by value from their position."""
    frames = np.repeat(np.arange(start, stop, dtype=object), n_channels)
    channels = np.tile(np.arange(n_channels), stop - start)
    counters = np.array(
        [
            (c // 4, f & _LOW, f >> 32, stream)
            for f, c in zip(frames.tolist(), channels.tolist(), strict=True)
        ],
        np.uint64,
    ).reshape(-1, 4)
    words = philox4x32(counters, (seed & _LOW, seed >> 32))
    pairs = [box_muller(words[:, i], words[:, i + 1]) for i in (0, 2)]
    normals = np.stack([*pairs[0], *pairs[1]], axis=1)
    return normals[np.arange(len(channels)), channels % 4].reshape(stop - start, n_channels)


def expand(encodings, durations):
    """Frames (n_channels, n_frames) without noise."""
    return np.ascontiguousarray(np.repeat(encodings, durations, axis=0).T)


def expand_with_noise(encodings, log_scales, durations, noise, noise_scale):
    """Frames (n_channels, n_frames) with noise (n_frames, n_channels) given, in the order of VITS."""
    mean = np.repeat(encodings, durations, axis=0)
    log_scale = np.repeat(log_scales, durations, axis=0)
    return np.ascontiguousarray((mean + noise * np.exp(log_scale) * np.float32(noise_scale)).T)


def expand_with_noise_fast(encodings, log_scales, durations, noise, noise_scale):
    """The same with the exponential taken per phoneme, which is also the kernel's rounding."""
    scales = np.exp(log_scales) * np.float32(noise_scale)
    return expand_with_scaled_noise(encodings, scales, durations, noise)


def expand_with_scaled_noise(encodings, scales, durations, noise):
    """As good as NumPy gets, once the scales are there."""
    frames = noise * np.repeat(scales, durations, axis=0)
    frames += np.repeat(encodings, durations, axis=0)
    return np.ascontiguousarray(frames.T)


def expand_gaussian(encodings, durations, delta):
    """Frames (n_channels, n_frames) in float64, each a mixture by the softmax over all phonemes."""
    centres = np.cumsum(durations) - durations / 2
    energies = -delta * (np.arange(durations.sum())[:, None] - centres) ** 2
    weights = np.exp(energies - energies.max(axis=1, keepdims=True, initial=-np.inf))
    weights /= weights.sum(axis=1, keepdims=True)
    return (weights @ encodings.astype(np.float64)).T


def join(decoded, windows, hop_length):
    """The kept samples of every window, one after the other."""
    kept = [
        samples[(w.keep_start - w.start) * hop_length : (w.keep_stop - w.start) * hop_length]
        for samples, w in zip(decoded, windows, strict=True)
    ]
    return np.concatenate(kept)


class FakeDecoder:
    """A sample of frame f is a sum over the frames f - left_context to f + lookahead, all of which matter.

    Like a convolution it takes zeros beyond the frames that it is given. Integers, so sums are exact.
    """

    def __init__(self, left_context, lookahead, hop_length):
        self.left_context, self.lookahead, self.hop_length = left_context, lookahead, hop_length
        weights = np.arange(1, (left_context + 1 + lookahead) * hop_length + 1, dtype=np.int64)
        self._weights = weights.reshape(hop_length, -1)

    def __call__(self, frames):
        padded = np.pad(frames, (self.left_context, self.lookahead))
        n_taps = self._weights.shape[1]
        return np.array(
            [self._weights @ padded[f : f + n_taps] for f in range(len(frames))], np.int64
        ).reshape(-1)


def tiles(spans, n):
    """Whether the spans (start, stop) cover [0, n) once, in order, without empty ones."""
    edges = [0, *(stop for _, stop in spans)]
    return all(span == edge for span, edge in zip(spans, pairwise(edges), strict=True)) and edges[-1] == n
