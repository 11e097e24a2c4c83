"""What ONNX Runtime's execution providers are asked for, so that they compute the same samples.

A graph in float32 is computed in less by some of them where the hardware can: in bfloat16, or in TF32.
Streamed and whole differ then by far more than a rounding, so each is told not to, unless whoever names it
says how.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from balacoon_tk.errors import ParameterError
from balacoon_tk.runtime.options import RuntimeOptions

_PACKAGES = {
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "CoreMLExecutionProvider": "onnxruntime for macOS",
}
"""The wheels that bring them; each stands in the place of onnxruntime."""


def check_available(options: RuntimeOptions, available: Sequence[str]) -> None:
    """Refuse an execution provider that this build of ONNX Runtime hasn't, by a `ParameterError`."""
    for position, name in enumerate(options.named_providers):
        if name not in available:
            package = _PACKAGES.get(name)
            wheel = "" if package is None else f"; the package {package}, in place of onnxruntime, has it"
            raise ParameterError(
                f"providers[{position}]={name!r} must be one of {', '.join(available)}, which this build of "
                f"ONNX Runtime has{wheel}"
            )


def provider_settings(options: RuntimeOptions) -> dict[str, dict[str, str]]:
    """Return what each execution provider is given, by its name and in their order."""
    return {
        name: _SETTINGS[name](settings, options.n_threads) if name in _SETTINGS else dict(settings)
        for name, settings in options.named_providers.items()
    }


def _cuda(settings: Mapping[str, str], _n_threads: int | None) -> dict[str, str]:
    return {"use_tf32": "0", **settings}


def _openvino(settings: Mapping[str, str], n_threads: int | None) -> dict[str, str]:
    # What it is asked for in one text or file; nothing is added to somebody's own.
    if "load_config" in settings:
        return dict(settings)
    device = settings.get("device_type", "CPU").partition(".")[0]
    config: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32"}
    # It has threads of its own, and hears nothing of the session's.
    if n_threads is not None and device == "CPU":
        config["INFERENCE_NUM_THREADS"] = n_threads
    return {**settings, "load_config": json.dumps({device: config})}


_SETTINGS: Mapping[str, Callable[[Mapping[str, str], int | None], dict[str, str]]] = {
    "CUDAExecutionProvider": _cuda,
    "OpenVINOExecutionProvider": _openvino,
}
