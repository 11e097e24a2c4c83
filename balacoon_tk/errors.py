"""Every error that the package raises on purpose.

Each derives from `BalacoonError`, so that one clause catches them all, and from the builtin that a
caller would expect, so that code which knows nothing of this package catches them too. A message
names the argument, its value and the rule: ``durations[3]=-2 must be >= 0``.
"""

__all__ = [
    "BalacoonError",
    "BusyError",
    "MissingExtraError",
    "ModelError",
    "ParameterError",
    "StreamStateError",
    "VoiceError",
]


class BalacoonError(Exception):
    """Base of all errors raised on purpose."""


class ParameterError(BalacoonError, ValueError):
    """An argument has a wrong value, shape or dtype."""


class ModelError(BalacoonError, RuntimeError):
    """A graph is not what it is said to be: not ONNX, not a voice, other inputs than expected."""


class VoiceError(ModelError):
    """A voice folder or file is missing, damaged or not of a format that this version reads."""


class StreamStateError(BalacoonError, RuntimeError):
    """A stream was used in an order it does not allow, such as a push after the last one."""


class BusyError(BalacoonError, RuntimeError):
    """So many streams play and wait that one more isn't taken; later there is room again.

    Attributes
    ----------
    n_playing, n_waiting : int
        Streams of the `TTS` when this one was refused.
    max_waiting : int
        How many may wait.
    """

    def __init__(self, n_playing: int, n_waiting: int, max_waiting: int) -> None:
        # As they are, so that the numbers are still there where it was raised in another process.
        super().__init__(n_playing, n_waiting, max_waiting)
        self.n_playing = n_playing
        self.n_waiting = n_waiting
        self.max_waiting = max_waiting

    def __str__(self) -> str:
        return (
            f"{self.n_playing} streams play and {self.n_waiting} wait: max_waiting={self.max_waiting} "
            "lets no more wait; try again later"
        )


class MissingExtraError(BalacoonError, ImportError):
    """A part that needs an optional package was called, and the package is not installed."""

    def __init__(self, what: str, *, extra: str) -> None:
        super().__init__(f'{what} needs an optional package: pip install "balacoon_tk[{extra}]"')
        self.extra = extra
