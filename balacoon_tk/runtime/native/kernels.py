"""Which instruction set the native engine's kernels use: the processor's best, or one that is asked for."""

from __future__ import annotations

import os

from balacoon_tk.errors import ParameterError
from balacoon_tk.runtime.native import _kernels

__all__ = ["KERNELS_VARIABLE", "choose_kernels"]

KERNELS_VARIABLE = "BALACOON_TK_KERNELS"
"""Environment variable that names the instruction set to use in place of the best one, for tests."""


def choose_kernels(name: str | None = None) -> str:
    """Return the name of the instruction set to run.

    Parameters
    ----------
    name : str, optional
        One that this processor can run, such as "avx2"; by default what the environment variable
        BALACOON_TK_KERNELS says, or else the best.

    Returns
    -------
    str

    Raises
    ------
    ParameterError
        If this build has no kernels of that name, or the processor can't run them.
    """
    argument = "kernels" if name else KERNELS_VARIABLE
    name = name or os.environ.get(KERNELS_VARIABLE)
    runnable = _kernels.names()
    if not name:
        return runnable[0]
    if name not in runnable:
        raise ParameterError(f"{argument}={name!r} must be one of {', '.join(runnable)} on this processor")
    return name
