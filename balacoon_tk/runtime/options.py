"""How graphs are run: threads, execution providers, device. One record goes all the way down."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from balacoon_tk.errors import ParameterError

Backend: TypeAlias = Literal["auto", "native", "onnxruntime"]
"""What runs a decoder: the native engine, ONNX Runtime, or the one that was faster on this machine."""


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How the graphs of a voice are run; `ParameterError` without threads, providers or device."""

    n_threads: int | None = None
    """Threads that one run of a graph may use; the runtime's own choice (all physical cores) if None."""
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    """ONNX Runtime's execution providers, in the order in which they are asked."""
    device: str = "cpu"
    """Where runs take place. Streams on one device share its scheduler."""
    backend: Backend = "auto"
    """What runs the decoder of a voice; its encoder is always run by ONNX Runtime."""

    def __post_init__(self) -> None:
        """Refuse what can't be run with."""
        if self.n_threads is not None and self.n_threads < 1:
            raise ParameterError(f"n_threads={self.n_threads} must be >= 1")
        if not self.providers:
            raise ParameterError(f"providers={self.providers} must name at least one execution provider")
        if not self.device:
            raise ParameterError(f"device={self.device!r} must be the name of a device, such as 'cpu'")
        if self.backend not in get_args(Backend):
            raise ParameterError(f"backend={self.backend!r} must be one of {', '.join(get_args(Backend))}")


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
