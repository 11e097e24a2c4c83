import numpy as np
from numpy.typing import NDArray

def interleave(
    weights: NDArray[np.float32], channel: int, width: int, first_tap: int, out: NDArray[np.float32]
) -> None: ...
