from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Sample = TypeVar("_Sample", np.float32, np.int16)

def copy_kept(decoded: NDArray[_Sample], start: int, out: NDArray[_Sample]) -> None: ...
def join_kept(decoded: list[NDArray[_Sample]], kept: NDArray[np.int64], out: NDArray[_Sample]) -> None: ...
