"""Array types that the package's signatures share."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
PCM16Array = NDArray[np.int16]
AnyArray = NDArray[Any]
