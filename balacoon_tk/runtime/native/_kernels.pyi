from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

FUNCTIONS: Final[dict[str, int]]
METHODS: Final[dict[str, int]]
N_ROWS: Final[int]
WIDTH: Final[int]
QUAD: Final[int]

def names() -> list[str]: ...
def has_dot_product(kernels: str) -> bool: ...
def peak(kernels: str, n_loops: int) -> float: ...
def convolve(
    kernels: str,
    x: NDArray[np.float32],
    weights: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    tile: NDArray[np.float32],
    stride: int = 1,
    dilation: int = 1,
    n_times: int = 1,
    half: bool = False,
) -> None: ...
def has_pairs(kernels: str) -> bool: ...
def sum_pairs_in_halves(yes: bool) -> None: ...
def convolve_bundles(
    kernels: str,
    x: NDArray[np.float32],
    weights: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    out: NDArray[np.float32],
    method: str,
    n_taps: int,
    dilation: int = 1,
    first: int = 0,
    n_times: int = 1,
) -> None: ...
def convolve_pairs_int8(
    kernels: str,
    x: NDArray[np.uint8],
    weights: NDArray[np.int8],
    scale: NDArray[np.float32],
    offsets: NDArray[np.int32],
    bias: NDArray[np.float32] | None,
    out: NDArray[np.float32],
    n_taps: int,
    dilation: int = 1,
    first: int = 0,
    n_times: int = 1,
) -> None: ...
def reads_older(method: str, n_taps: int) -> bool: ...
def convolve_int8(
    kernels: str,
    x: NDArray[np.uint8],
    weights: NDArray[np.int8],
    scale: NDArray[np.float32],
    offset: NDArray[np.int32] | None,
    bias: NDArray[np.float32] | None,
    tile: NDArray[np.float32],
    stride: int = 1,
    dilation: int = 1,
    n_times: int = 1,
) -> None: ...
def convolve_narrow(
    kernels: str,
    x: NDArray[np.float32],
    weights: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    tile: NDArray[np.float32],
    stride: int = 1,
    dilation: int = 1,
    n_times: int = 1,
) -> None: ...
def convolve_depthwise(
    kernels: str,
    x: NDArray[np.float32],
    weights: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    tile: NDArray[np.float32],
    channel: int = 0,
    width: int = 32,
    stride: int = 1,
    dilation: int = 1,
    n_times: int = 1,
) -> None: ...
def convolve_predicted(
    kernels: str,
    x: NDArray[np.float32],
    weights: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    tile: NDArray[np.float32],
    n_taps: int,
    n_columns: int,
    channel: int = 0,
    stride: int = 1,
    dilation: int = 1,
    n_times: int = 1,
) -> None: ...
def apply(
    kernels: str,
    function: str,
    a: NDArray[np.float32],
    b: NDArray[np.float32] | None,
    out: NDArray[np.float32],
    n_times: int = 1,
) -> None: ...
def load(
    kernels: str, x: NDArray[np.float32], channel: int, width: int, tile: NDArray[np.float32]
) -> None: ...
def store(
    kernels: str, tile: NDArray[np.float32], x: NDArray[np.float32], channel: int, width: int
) -> None: ...
def load_int8(
    kernels: str,
    x: NDArray[np.uint8],
    channel: int,
    width: int,
    tile: NDArray[np.float32],
    scale: float,
    zero_point: int,
) -> None: ...
def store_int8(
    kernels: str,
    tile: NDArray[np.float32],
    x: NDArray[np.uint8],
    channel: int,
    width: int,
    scale: float,
    zero_point: int,
    n_times: int = 1,
    largest: int = 255,
) -> None: ...
def finish(
    kernels: str,
    tile: NDArray[np.float32],
    added: Sequence[NDArray[np.float32]],
    scaling: str | None,
    factor: float,
    out: NDArray[np.float32] | None,
    activated: NDArray[np.uint8] | None,
    slope: float,
    scale: float,
    zero_point: int,
    n_times: int = 1,
    half: bool = False,
    largest: int = 255,
) -> None: ...
def normalise(
    kernels: str,
    x: NDArray[np.float32],
    out: NDArray[np.float32],
    epsilon: float,
    centre: bool,
    n_times: int = 1,
) -> None: ...
def softmax(kernels: str, rows: NDArray[np.float32], n: int) -> None: ...
def softmax_of_columns(kernels: str, rows: NDArray[np.float32]) -> None: ...
