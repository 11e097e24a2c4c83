from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from balacoon_tk._typing import AnyArray
from balacoon_tk.runtime.native.packing import PackedStage
from balacoon_tk.runtime.native.program import Program

_State = tuple[NDArray[np.int64], NDArray[np.uint8]] | tuple[()]

@final
class Executor:
    kernels: str
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int, tuple[int, ...]], ...]
    def __init__(
        self, program: Program, packed: Sequence[PackedStage], n_threads: int, kernels: str | None = None
    ) -> None: ...
    def step(
        self, state: _State | None, feeds: Mapping[str, AnyArray], last: bool
    ) -> tuple[dict[str, AnyArray], _State]: ...
    def check(self, state: _State) -> None: ...
