"""What a native program means, in NumPy and float64: each stage on whole tensors, by its definition."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from balacoon_tk.runtime.native.program import Call, Program, Stage

__all__ = ["interpret"]

Arrays = dict[int, np.ndarray]
"""Tensors (n_steps, n_channels) by edge."""

_ONE = {
    "tanh": np.tanh,
    "exp": np.exp,
    "abs": np.abs,
    "neg": np.negative,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}
_TWO = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "leaky_relu": lambda x, slope: np.where(x > 0, x, x * slope),
}


def interpret(program: Program, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of a whole run, (shape.., n_steps) each."""
    edges: Arrays = {}
    for port in program.inputs:
        n_channels = program.edges[port.edge].n_channels
        edges[port.edge] = feeds[port.name].reshape(n_channels, -1).T.astype(np.float64)
    for stage in program.stages:
        _run(program, stage, edges)
    return {port.name: edges[port.edge].T.reshape(*port.shape, -1) for port in program.outputs}


def _run(program: Program, stage: Stage, edges: Arrays) -> None:
    loads = [call for call in stage.chain if call.function in ("load", "lookup")]
    if stage.kind == "pointwise":
        timed = [call for call in loads if not program.edges[call.edge or 0].timeless] or loads
        first = timed[0]
        n_steps = len(edges[first.edge or 0]) * (stage.n_phases if first.by_group else 1)
        tile = np.zeros((n_steps, stage.n_channels))
    else:
        assert stage.source is not None
        x = edges[stage.source][:, stage.source_channel :]
        if stage.kind == "predicted":
            tile = _predicted(stage, x, edges)
        elif stage.kind == "attend":
            tile = _attention(program, stage, x, edges)
        elif stage.kind == "spline":
            tile = _spline(stage, x, edges)
        elif stage.kind == "recur":
            tile = _recurrence(program, stage, x)
        else:
            tile = _tile(program, stage, x)
    registers = {0: tile}
    for call in stage.chain:
        if call.function == "store":
            out = edges.setdefault(
                call.edge or 0, np.zeros((len(tile), program.edges[call.edge or 0].n_channels))
            )
            out[:, call.channel : call.channel + stage.n_channels] = registers[call.a]
        else:
            registers[call.out] = _called(program, stage, call, edges, registers, len(tile))


def _tile(program: Program, stage: Stage, x: np.ndarray) -> np.ndarray:
    filters = slice(stage.first_filter, stage.first_filter + stage.n_channels)
    bias = 0 if stage.bias is None else program.arrays[stage.bias].reshape(-1)[filters]
    if stage.kind == "pad":
        return _padded(stage, x[:, : stage.n_channels])
    if stage.kind == "normalise":
        x = x[:, : stage.n_channels]
        x = x - x.mean(1, keepdims=True) * stage.centre
        return x / np.sqrt((x**2).mean(1, keepdims=True) + stage.epsilon)
    assert stage.weights is not None
    weights = program.arrays[stage.weights].astype(np.float64)
    n_groups = stage.n_channels if stage.kind == "depthwise" else stage.n_groups
    if stage.transposed:
        n_in, n_out, width = weights.shape
        per_group = n_in // n_groups
        whole = np.zeros((len(x) * stage.n_phases + width + max(0, stage.n_extra), n_groups * n_out))
        for step in range(len(x)):
            for tap in range(width):
                for g in range(n_groups):
                    part = slice(g * per_group, (g + 1) * per_group)
                    whole[step * stage.n_phases + tap, g * n_out : (g + 1) * n_out] += (
                        x[step, part] @ weights[part, :, tap]
                    )
        n_steps = len(x) * stage.n_phases + stage.n_extra if len(x) else 0
        return whole[stage.crop : stage.crop + n_steps] + bias
    weights = weights[filters]
    n_out, per_group, n_taps = weights.shape
    padded = np.pad(
        x, ((stage.pad_left, stage.pad_right), (0, 0)), mode=stage.padding if len(x) else "constant"
    )
    n_steps = (len(padded) - (n_taps - 1) * stage.dilation - 1) // stage.stride + 1 if len(x) else 0
    tile = np.zeros((n_steps, n_out))
    for step in range(n_steps):
        for tap in range(n_taps):
            row = padded[step * stage.stride + tap * stage.dilation]
            for c in range(n_out):
                g = c // (n_out // n_groups)
                tile[step, c] += row[g * per_group : (g + 1) * per_group] @ weights[c, :, tap]
            place = step * stage.stride + tap * stage.dilation - stage.pad_left
            if stage.padding_biases is not None and not 0 <= place < len(x):
                tile[step] += program.arrays[stage.padding_biases][tap, filters]
    return tile + bias


def _predicted(stage: Stage, x: np.ndarray, edges: Arrays) -> np.ndarray:
    assert stage.kernels is not None
    n_kernel = stage.n_taps * stage.n_in * stage.n_channels
    kernels = edges[stage.kernels][:, stage.kernel_channel :][:, :n_kernel]
    padded = np.pad(x[:, : stage.n_in], ((stage.pad_left, stage.pad_right), (0, 0)))
    tile = np.zeros((len(kernels) * stage.kernel_steps if len(x) else 0, stage.n_channels))
    for step in range(len(tile)):
        kernel = kernels[step // stage.kernel_steps].reshape(stage.n_taps, stage.n_in, stage.n_channels)
        for tap in range(stage.n_taps):
            tile[step] += padded[step + tap * stage.dilation] @ kernel[tap]
        if stage.biases is not None:
            bias = edges[stage.biases][step // stage.kernel_steps, stage.bias_channel :]
            tile[step] += bias[: stage.n_channels]
    return tile


def _attention(program: Program, stage: Stage, x: np.ndarray, edges: Arrays) -> np.ndarray:
    n_heads, n_in, n_out = stage.n_groups, stage.n_in, stage.n_channels // stage.n_groups
    keys, values = (edges[edge][:, first:] for edge, first in stage.others)
    tile = np.zeros((len(x), stage.n_channels))
    for head in range(n_heads):
        mine, out = slice(head * n_in, (head + 1) * n_in), slice(head * n_out, (head + 1) * n_out)
        for i, query in enumerate(x[:, mine]):
            all_keys = keys[:, mine].copy()
            all_values = values[:, out].copy()
            for near, array in ((stage.near_keys, all_keys), (stage.near_values, all_values)):
                embeddings = np.zeros((1, 1, 1)) if near is None else program.arrays[near].astype(float)
                window = embeddings.shape[1] // 2
                for j in range(max(0, i - window), min(len(x), i + window + 1)):
                    array[j] += 0 if near is None else embeddings[head, j - i + window]
            scores = all_keys @ query
            if stage.left_context is not None:
                distances = np.arange(len(x)) - i
                seen = (distances >= -stage.left_context) & (distances <= stage.right_context)
                if stage.distance_biases is not None:
                    biases = program.arrays[stage.distance_biases].astype(float)[head]
                    scores[seen] += biases[i % len(biases), distances[seen] + stage.left_context]
                scores[~seen] = -np.inf
            shares = np.exp(scores - scores.max())
            tile[i, out] = shares / shares.sum() @ all_values
    return tile


def _recurrence(program: Program, stage: Stage, x: np.ndarray) -> np.ndarray:
    tile = np.zeros((len(x), stage.n_channels))
    if stage.cell == "sum":
        return np.cumsum(x[:, : stage.n_channels], 0)
    weights = program.arrays[stage.weights or ""].astype(float)
    n = weights.shape[1]
    bias = np.zeros(n) if stage.bias is None else program.arrays[stage.bias].astype(float)
    h, c = np.zeros((2, n))
    for step, row in enumerate(x):
        given = row[: len(weights)].reshape(-1, n)
        sums = (weights @ h).reshape(-1, n)
        if stage.cell == "lstm":
            i, o, f = _ONE["sigmoid"](given[:3] + sums[:3])
            c = f * c + i * np.tanh(given[3] + sums[3])
            h = o * np.tanh(c)
        elif stage.cell == "gru":
            z, r = _ONE["sigmoid"](given[:2] + sums[:2])
            h = (1 - z) * np.tanh(given[2] + r * (sums[2] + bias)) + z * h
        elif stage.cell == "gru_reset_first":
            z, r = _ONE["sigmoid"](given[:2] + sums[:2])
            h = (1 - z) * np.tanh(given[2] + weights[2 * n :] @ (r * h)) + z * h
        else:
            h = _ONE["tanh" if stage.cell == "elman_tanh" else "relu"](given[0] + sums[0])
        tile[step] = np.concatenate([h, c]) if stage.cell == "lstm" else h
    return tile


def _spline(stage: Stage, x: np.ndarray, edges: Arrays) -> np.ndarray:
    """Find the x of which the spline makes y by bisection, so that nothing is shared with the engine."""
    n, least = stage.n_in, 1e-3
    edge, first = stage.others[0]
    tile = np.zeros((len(x), 1))
    for step, y in enumerate(x[:, 0]):
        given = edges[edge][step, first : first + 3 * n - 1]
        sizes = [np.exp(part - part.max()) for part in (given[:n], given[n : 2 * n])]
        knots = [
            2 * stage.value * np.concatenate([[0], np.cumsum(least + (1 - least * n) * part / part.sum())])
            - stage.value
            for part in sizes
        ]
        slopes = np.concatenate([[1.0], np.log1p(np.exp(given[2 * n :])) + least, [1.0]])
        if not abs(y) <= stage.value:
            tile[step] = y
            continue
        low, high = -stage.value, stage.value
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if _bent(middle, *knots, slopes) < y else (low, middle)
        tile[step] = (low + high) / 2
    return tile


def _bent(x: float, at: np.ndarray, to: np.ndarray, slopes: np.ndarray) -> float:
    """Durkan et al., "Neural spline flows", 2019, equation 4."""
    k = min(max(int(np.searchsorted(at, x, side="right")) - 1, 0), len(at) - 2)
    width, height = at[k + 1] - at[k], to[k + 1] - to[k]
    s, t = height / width, (x - at[k]) / width
    above = height * (s * t**2 + slopes[k] * t * (1 - t))
    return to[k] + above / (s + (slopes[k + 1] + slopes[k] - 2 * s) * t * (1 - t))


def _padded(stage: Stage, x: np.ndarray) -> np.ndarray:
    if len(x) == 0:
        return x
    left, right = stage.pad_left, stage.pad_right
    x = x[max(0, -left) : len(x) - max(0, -right)]
    pads = ((max(0, left), max(0, right)), (0, 0))
    if stage.padding == "constant":
        return np.pad(x, pads, constant_values=stage.value)
    return np.pad(x, pads, mode=stage.padding)


def _called(
    program: Program, stage: Stage, call: Call, edges: Arrays, registers: Arrays, n_steps: int
) -> np.ndarray:
    if call.function == "load":
        rows = edges[call.edge or 0]
        if program.edges[call.edge or 0].timeless:
            rows = np.repeat(rows, n_steps, 0)
        elif call.by_group:
            rows = np.repeat(rows, stage.n_phases, 0)
        if call.broadcast:
            return np.repeat(rows[:, call.channel, np.newaxis], stage.n_channels, 1)
        if call.order is None:
            return rows[:, call.channel : call.channel + stage.n_channels]
        order = program.arrays[call.order].reshape(-1, stage.n_channels)
        out = registers.get(call.out, np.zeros((n_steps, stage.n_channels))).copy()
        for step in range(n_steps):
            places = order[step % len(order)]
            out[step, places >= 0] = rows[step, places[places >= 0]]
        return out
    if call.function == "lookup":
        symbols = edges[call.edge or 0][:, call.channel].astype(np.int64)
        return program.arrays[call.array or ""].astype(np.float64)[symbols]
    if call.function == "position":
        return np.repeat(np.arange(n_steps)[:, np.newaxis], stage.n_channels, 1).astype(float)
    b = registers[call.b or 0] if call.scalar is None else call.scalar
    if call.array is not None:
        b = program.arrays[call.array].reshape(-1).astype(np.float64)
    if call.function == "fill":
        return np.zeros((n_steps, stage.n_channels)) + b
    if call.function in _ONE:
        return _ONE[call.function](registers[call.a])
    return _TWO[call.function](registers[call.a], b)
