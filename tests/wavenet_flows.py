"""Small flows of WaveNets, as VITS inverts them."""

from __future__ import annotations

import onnx

from tiny_graphs import TinyGraph

HALF, HIDDEN = 16, 48
FLIP = (-1, -(2**31), 1, -1)


def wavenet(
    g: TinyGraph, x: str, n_layers: int = 3, kernel: int = 3, speaker: str = "", n: int = HIDDEN
) -> str:
    """Return the sum of a stack's skip signals."""
    skip = ""
    for k in range(n_layers):
        gates = g.conv(x, n, 2 * n, kernel, pads=[kernel // 2] * 2)
        if speaker:
            gates = g.op("Add", gates, g.conv(speaker, 4, 2 * n, 1))
        acts = g.op(
            "Mul", g.op("Tanh", g.slice(gates, 0, n, 1)), g.op("Sigmoid", g.slice(gates, n, 2**62, 1))
        )
        last = k == n_layers - 1
        both = g.conv(acts, n, n if last else 2 * n, 1)
        part = both if last else g.slice(both, n, 2**62, 1)
        skip = g.op("Add", skip, part) if skip else part
        if not last:
            x = g.op("Add", x, g.slice(both, 0, n, 1))
    return skip


def couple(g: TinyGraph, x: str, *, n: int = HIDDEN, **options) -> str:
    a, b = g.split(x, HALF, HALF)
    skip = wavenet(g, g.conv(a, HALF, n, 1), n=n, **options)
    return str(g.op("Concat", a, g.op("Sub", b, g.conv(skip, n, HALF, 1)), axis=1))


def flow(n_couplings: int = 2, *, opset: int = 17, speaker: bool = False, **options) -> onnx.ModelProto:
    """Return coupling layers with flips between them, as VITS inverts them, and a convolution."""
    g = TinyGraph(opset=opset)
    x = g.frames(2 * HALF)
    g_speaker = g.input("speaker", [1, 4, 1]) if speaker else ""
    for _ in range(n_couplings):
        x = couple(g, g.slice(x, *FLIP), speaker=g_speaker, **options)
    return g.model(g.conv(x, 2 * HALF, 2, 5, pads=[2, 2]))
