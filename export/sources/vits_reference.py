"""A `transformers.VitsModel` as it came, in torch, to compare with what is made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from balacoon_tk._typing import AnyArray, FloatArray, IntArray
from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.torchscript import quiet_torch

if TYPE_CHECKING:
    from transformers import VitsModel


class VitsReference:
    """The model's own forward pass; the noise that it draws can be given.

    Parameters
    ----------
    model : VitsModel
        Nobody else changes it.
    """

    def __init__(self, model: VitsModel) -> None:
        self._model = model

    def run(self, phoneme_ids: IntArray, *, speaker_id: int, length_scale: float) -> FloatArray:
        """Synthesize without noise."""
        samples, _ = self._run(phoneme_ids, speaker_id, length_scale)
        return samples

    def run_with_noise(
        self,
        phoneme_ids: IntArray,
        *,
        speaker_id: int,
        length_scale: float,
        duration_noise: FloatArray,
        frame_noise: FloatArray,
        noise_scale: float,
    ) -> tuple[FloatArray, AnyArray]:
        """Synthesize with noise that is given."""
        given = _GivenNoise(duration_noise, frame_noise)
        return self._run(phoneme_ids, speaker_id, length_scale, given, noise_scale)

    def exact_durations(
        self, phoneme_ids: IntArray, *, speaker_id: int, length_scale: float, duration_noise: FloatArray
    ) -> AnyArray:
        """Return the durations before they are rounded up."""
        return self._run(phoneme_ids, speaker_id, length_scale, _GivenNoise(duration_noise, None))[1]

    def _run(
        self,
        phoneme_ids: IntArray,
        speaker_id: int,
        length_scale: float,
        noise: _GivenNoise | None = None,
        noise_scale: float = 0.0,
    ) -> tuple[FloatArray, AnyArray]:
        model = self._model
        model.noise_scale, model.noise_scale_duration = noise_scale, 0.0 if noise is None else 1.0
        seen: list[torch.Tensor] = []
        hook = model.duration_predictor.register_forward_hook(
            lambda module, inputs, output: seen.append(output)
        )
        try:
            with quiet_torch("a VitsModel"), noise or _GivenNoise(None, None):
                output = model(
                    torch.from_numpy(phoneme_ids[None]),
                    speaker_id=speaker_id if model.config.num_speakers > 1 else None,
                    speaking_rate=1 / length_scale,
                )
        finally:
            hook.remove()
        samples: FloatArray = output.waveform[0].numpy()
        return samples, (torch.exp(seen[0]) * length_scale).detach().numpy().reshape(-1)


class _GivenNoise(TorchFunctionMode):  # type: ignore[misc]  # torch is not read by mypy
    """Hands out noise that was drawn before, where a model draws its own; zeros where there is none."""

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
