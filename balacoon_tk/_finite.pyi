import numpy as np
from numpy.typing import NDArray

def all_finite(array: NDArray[np.float32]) -> bool: ...
