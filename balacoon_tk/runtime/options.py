"""How graphs are run: threads, execution providers, device. One record goes all the way down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from balacoon_tk.errors import ParameterError

Backend: TypeAlias = Literal["auto", "native", "onnxruntime"]
"""What runs a decoder: the native engine, ONNX Runtime, or the one that was faster on this machine."""

Settings: TypeAlias = Mapping[str, object] | tuple[tuple[str, str], ...]
"""What an execution provider is asked for, by ONNX Runtime's names; kept as pairs of texts."""

Provider: TypeAlias = str | tuple[str, Settings]
"""An execution provider by the name that ONNX Runtime has for it, with settings or without."""

CPU_PROVIDER = "CPUExecutionProvider"
AUTO = "auto"

# Where ONNX Runtime lets a provider's tensors lie; those of all others lie in the host's memory.
_MEMORY = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda"}


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory that tensors lie in, as ONNX Runtime names it."""

    device: str = "cpu"
    device_id: int = 0

    def __str__(self) -> str:
        """Return it as the name of a device."""
        return self.device if self.device == "cpu" else f"{self.device}:{self.device_id}"


HOST = Memory()


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How the graphs of a voice are run; `ParameterError` without threads, providers or device."""

    n_threads: int | None = None
    """Threads that one run of a graph may use; the runtime's own choice (all physical cores) if None."""
    providers: Sequence[Provider] = (CPU_PROVIDER,)
    """ONNX Runtime's execution providers, in the order in which they are asked; one with settings is a pair,
    ``("OpenVINOExecutionProvider", {"device_type": "GPU"})``. Where ``CPUExecutionProvider`` stands behind
    others, it takes a voice over that these can't run."""
    device: str = AUTO
    """Where runs take place: streams on one device share its scheduler. ``auto`` becomes that of the first
    provider, such as ``cpu`` or ``cuda:0``."""
    backend: Backend = "auto"
    """What runs the encoder and the decoder of a voice."""

    def __post_init__(self) -> None:
        """Refuse what can't be run with."""
        if self.n_threads is not None and self.n_threads < 1:
            raise ParameterError(f"n_threads={self.n_threads} must be >= 1")
        if not self.providers or isinstance(self.providers, str):
            raise ParameterError(f"providers={self.providers!r} must name at least one execution provider")
        if not self.device:
            raise ParameterError(f"device={self.device!r} must be the name of a device, such as 'cpu'")
        if self.backend not in get_args(Backend):
            raise ParameterError(f"backend={self.backend!r} must be one of {', '.join(get_args(Backend))}")
        # Pairs and no mappings: options are compared, hashed and sent to other processes.
        providers = tuple(_normal(k, provider) for k, provider in enumerate(self.providers))
        object.__setattr__(self, "providers", providers)
        if self.device == AUTO:
            object.__setattr__(self, "device", str(self.memory))

    @property
    def named_providers(self) -> dict[str, dict[str, str]]:
        """The settings of each execution provider, by its name, in their order."""
        return dict(_named(provider) for provider in self.providers)

    @property
    def other_providers(self) -> tuple[str, ...]:
        """Names of the execution providers that aren't ONNX Runtime's own kernels for processors."""
        return tuple(name for name in self.named_providers if name != CPU_PROVIDER)

    def named(self, backend: str) -> str:
        """Return what runs a decoder, for what is measured of it: its speed is that of the providers."""
        return f"{backend}, {self.providers}" if self.other_providers else backend

    @property
    def memory(self) -> Memory:
        """Where the first execution provider's tensors lie."""
        name, settings = next(iter(self.named_providers.items()))
        return Memory(_MEMORY[name], int(settings.get("device_id", 0))) if name in _MEMORY else HOST

    @property
    def instead(self) -> RuntimeOptions | None:
        """The same on the processor, if it was named behind other execution providers; else None."""
        names = tuple(self.named_providers)
        if len(names) < 2 or names[-1] != CPU_PROVIDER:
            return None
        return replace(self, providers=self.providers[-1:], device=AUTO)


def choose_options(
    n_threads: int | None, backend: Backend | None, options: RuntimeOptions | None
) -> RuntimeOptions:
    """Return the options that were given, in full or by the number of threads and the backend alone."""
    if options is None:
        return RuntimeOptions(n_threads=n_threads, backend=backend or "auto")
    for name, given in (("n_threads", n_threads), ("backend", backend)):
        if given is not None:
            raise ParameterError(f"{name}={given!r} must be None where options say it")
    return options


def _named(provider: Any) -> tuple[Any, dict[str, str]]:
    if isinstance(provider, str):
        return provider, {}
    name, settings = provider
    items = settings.items() if isinstance(settings, Mapping) else settings
    return name, {str(key): str(value) for key, value in items}


def _normal(position: int, provider: Provider) -> Provider:
    """Return a provider as it is kept."""
    try:
        name, settings = _named(provider)
    except (TypeError, ValueError):
        name, settings = "", {}
    if not isinstance(name, str) or not name:
        raise ParameterError(
            f"providers[{position}]={provider!r} must be a name, or a name and a mapping of settings"
        )
    if not (number := settings.get("device_id", "0")).isdecimal():
        raise ParameterError(f"providers[{position}]: device_id={number!r} must be a whole number >= 0")
    return (name, tuple(settings.items())) if settings else name
