"""A second engine, of NumPy alone: a stack of convolutions and transposed ones, and tanh between them.

It has nothing of a graph or of ONNX Runtime. A stream's state are the last steps in front of each layer,
so it shows what the seam promises: whoever streams knows frames and samples, and nothing of states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.errors import ModelError, ParameterError, StreamStateError
from balacoon_tk.runtime.engine import DecoderContract, Feeds, StreamingContract, TimeInput, TimeOutput
from balacoon_tk.runtime.session import TensorSpec


@dataclass(frozen=True, slots=True, eq=False)
class Conv:
    """A convolution with 'same' padding, tanh behind it, and each step of its output repeated `up` times."""

    weight: FloatArray  # (n_out, n_in, odd width)
    up: int = 1

    @property
    def half(self) -> int:
        return self.weight.shape[2] // 2

    def valid(self, x: FloatArray) -> FloatArray:
        """Return the outputs of all whole windows of (n_in, n_steps)."""
        windows = np.lib.stride_tricks.sliding_window_view(x, self.weight.shape[2], axis=1)
        return np.repeat(np.tanh(np.einsum("kiw,itw->kt", self.weight, windows)), self.up, axis=1)


class NumpyEngine:
    """Runs a stack of layers; the last one must give one channel."""

    def __init__(self, layers: Sequence[Conv]) -> None:
        self._layers = layers
        n_channels = layers[0].weight.shape[1]
        hop_length, lag = 1, 0
        for layer in layers:
            hop_length, lag = hop_length * layer.up, (lag + layer.half) * layer.up
        f4 = np.dtype(np.float32)
        self.contract = DecoderContract(
            label="<layers>",
            inputs={"frames": TensorSpec("frames", f4, (1, n_channels, "n_frames"))},
            outputs={"samples": TensorSpec("samples", f4, (1, 1, "n_samples"))},
            time_inputs=("frames",),
            streaming=StreamingContract(
                (TimeInput("frames", 1),), (TimeOutput("samples", hop_length, lag),), "layers", 0, 0
            ),
        )

    def whole(self, feeds: Feeds) -> dict[str, AnyArray]:
        return self.step(self.start(), feeds, last=True)[0]

    def start(self) -> tuple[FloatArray, ...]:
        return tuple(
            np.zeros((layer.weight.shape[1], layer.half), np.float32) for layer in self._layers
        )  # their own padding on the left

    def step(
        self, state: tuple[FloatArray, ...], feeds: Feeds, *, last: bool
    ) -> tuple[dict[str, AnyArray], tuple[FloatArray, ...]]:
        if state is None:
            raise StreamStateError("the stream is over")
        x, following = feeds["frames"][0], []
        for layer, past in zip(self._layers, state, strict=True):
            window = np.concatenate([past, x], axis=1)
            following.append(window[:, max(0, window.shape[1] - 2 * layer.half) :])
            if last:
                window = np.pad(window, ((0, 0), (0, layer.half)))
            if window.shape[1] <= 2 * layer.half:
                x = np.zeros((layer.weight.shape[0], 0), np.float32)
            else:
                x = layer.valid(window)
        if x.shape[0] != 1:
            raise ModelError(f"{x.shape[0]} channels must be 1")
        return {"samples": x[None].astype(np.float32)}, tuple(following)

    def save(self, state: tuple[FloatArray, ...]) -> dict[str, AnyArray]:
        return {str(k): past.copy() for k, past in enumerate(state)}

    def load(self, arrays: Mapping[str, AnyArray]) -> tuple[FloatArray, ...]:
        if len(arrays) != len(self._layers):
            raise ParameterError(f"{len(arrays)} arrays must be {len(self._layers)}, one for each layer")
        return tuple(arrays[str(k)].copy() for k in range(len(self._layers)))
