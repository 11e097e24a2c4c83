"""What each operator becomes in a program: one function per operator, found by its name.

A function takes the node and gives a view for each output. Tensors are seen as channels with time: all axes
but time's, in their order, are the channels.
"""

# Importing the families fills the registry.
from balacoon_tk.targets.native.operators import (
    attention,
    channels,
    functions,
    positions,
    predicted,
    recurrent,
    stretches,
    sums,
    windows,
)
from balacoon_tk.targets.native.operators.base import Context, find_operator
from balacoon_tk.targets.native.operators.windows import can_round

__all__ = ["Context", "can_round", "find_operator"]

_FAMILIES = (attention, channels, functions, positions, predicted, recurrent, stretches, sums, windows)
