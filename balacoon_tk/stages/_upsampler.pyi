import numpy as np
from numpy.typing import NDArray

def add_up(durations: NDArray[np.int64], starts: NDArray[np.int64]) -> None: ...
def expand(
    encodings: NDArray[np.float32],
    scales: NDArray[np.float32] | None,
    factor: float,
    seed: int,
    stream: int,
    phoneme_starts: NDArray[np.int64],
    start: int,
    out: NDArray[np.float32],
) -> None: ...
def expand_gaussian(
    encodings: NDArray[np.float32],
    centres: NDArray[np.float64],
    delta: float,
    cutoff: float,
    nearest: int,
    start: int,
    weights: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None: ...
