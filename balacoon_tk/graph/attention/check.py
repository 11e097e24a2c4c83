"""What was told of attentions from how their masks are computed, held against a run.

What the graph says holds at every length; a run can only show that it was read wrongly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil, inf

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.graph.attention.windows import Window
from balacoon_tk.graph.exposed import unweighted, weights_apart
from balacoon_tk.graph.match import name_of
from balacoon_tk.graph.probe import graph_inputs, make_feeds
from balacoon_tk.graph.time_inputs import TimeInputs
from balacoon_tk.runtime.session import Session

_MOST_STEPS = 1024  # of a run: its scores grow with the square


def contradicted(model: ir.Model, inputs: TimeInputs, windows: Mapping[ir.Node, Window]) -> Iterable[ir.Node]:
    """Yield the softmaxes that weigh a step outside of their window, in a run long enough to have such."""
    if not windows:
        return
    names = {name_of(softmax.outputs[0]): softmax for softmax in windows}
    arrays = _run(model, inputs, names, max(_reach(window) for window in windows.values()))
    for name, softmax in names.items():
        window, weights = windows[softmax], arrays[name]
        n_queries, n_keys = weights.shape[-2:]
        distances = np.arange(n_keys) - np.arange(n_queries)[:, None]
        hidden = (distances > window.right) | (distances < -(inf if window.left is None else window.left))
        if (weights[..., hidden] > 0).any():
            yield softmax


def _reach(window: Window) -> int:
    return (window.left or 0) + window.right


def _run(model: ir.Model, inputs: TimeInputs, names: Iterable[str], reach: int) -> dict[str, AnyArray]:
    """Run what some tensors depend on, so long that a window of that reach doesn't cover it if it can be."""
    probe = inputs.probe
    with weights_apart(model.graph) as weights:
        copy = ir.from_proto(ir.to_proto(model))
    by_name = {value.name: value for node in copy.graph for value in node.outputs}
    copy.graph.outputs[:] = [by_name[name] for name in names]
    RemoveUnusedNodesPass()(copy)
    session = Session(unweighted(ir.to_proto(copy), weights), optimize=False)
    n_steps = min(probe.shapes[name][0][-1] for name in names)
    n_times = max(1, min(ceil((reach + 2) / n_steps), _MOST_STEPS // n_steps))
    feeds = make_feeds(graph_inputs(model), inputs.axes, inputs.steps_per_frame, n_times * probe.n_frames[0])
    read = {name: array for name, array in feeds.items() if name in session.inputs}
    try:
        return session.run(read)
    except ModelError:
        # Tables may be no longer than what the probe has tried.
        shortest = make_feeds(graph_inputs(model), inputs.axes, inputs.steps_per_frame, probe.n_frames[0])
        return session.run({name: array for name, array in shortest.items() if name in read})
