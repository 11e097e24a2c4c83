"""Operators that torch's newer exporter takes apart, written as the operators of ONNX that they are.

Of a recurrence it makes as many steps as the example has, or a loop, and of an interpolation indices that it
counts while the graph runs. Neither streams: what the indices do with time is no longer to be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.overrides import TorchFunctionMode

from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.complex_pairs import name_of


class WholeOperators(TorchFunctionMode):  # type: ignore[misc]  # torch is not read by mypy
    """A context in which recurrences and interpolations over one axis are exported whole.

    Only while `torch.export` runs: elsewhere torch's own functions are called.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, or what stands in for it."""
        given, write = kwargs or {}, _WRITTEN.get(name_of(func))
        if write is not None and torch.compiler.is_exporting():
            return write(func, *args, **given)
        return func(*args, **given)


def _recurrence(
    func: Callable[..., Any],
    inputs: Tensor,
    first: Any,
    weights: Sequence[Tensor],
    has_biases: Any,
    n_layers: int,
    dropout: float,
    training: bool,
    both_ways: bool,
    batch_first: bool,
    *,
    op_type: str,
    order: Sequence[int],
    activation: str | None = None,
    **settings: int,
) -> tuple[Tensor, ...]:
    """Write the layers of a recurrence, of which `order` has the gates as ONNX has them."""
    if isinstance(has_biases, Sequence):
        raise ModelError(f"{op_type} of packed sequences can't be exported: give it a padded tensor")
    states = first if isinstance(first, (tuple, list)) else (first,)
    n_ways, n_weights = 1 + both_ways, 4 if has_biases else 2
    if len(weights) != n_layers * n_ways * n_weights:
        raise ModelError(f"{op_type} with a projection of its state can't be exported: ONNX has none")
    attributes: dict[str, Any] = {"direction": "bidirectional" if both_ways else "forward", **settings}
    if activation is not None:
        attributes["activations"] = [activation] * n_ways
    x = inputs.transpose(0, 1) if batch_first else inputs  # steps, batch, channels
    last: list[list[Tensor]] = [[] for _ in states]
    for layer in range(n_layers):
        ways = range(layer * n_ways, (layer + 1) * n_ways)
        own = [
            [_gates(weight, order) for weight in weights[way * n_weights : (way + 1) * n_weights]]
            for way in ways
        ]
        kernels, recurrent = (torch.stack([way[k] for way in own]) for k in (0, 1))
        biases = torch.stack([torch.cat(way[2:]) for way in own]) if has_biases else None
        n_hidden = recurrent.shape[-1]
        state_shape = (n_ways, x.shape[1], n_hidden)
        begin = [state[ways.start : ways.stop] for state in states]
        y, *ends = torch.onnx.ops.symbolic_multi_out(
            op_type,
            (x, kernels, recurrent, biases, None, *begin),
            {"hidden_size": n_hidden, **attributes},
            dtypes=[x.dtype] * (1 + len(states)),
            shapes=[(x.shape[0], *state_shape), *[state_shape] * len(states)],
        )
        x = y.squeeze(1) if n_ways == 1 else y.transpose(1, 2).flatten(2)
        for column, end in zip(last, ends, strict=True):
            column.append(end)
    return (x.transpose(0, 1) if batch_first else x, *(torch.cat(column) for column in last))


def _gates(weight: Tensor, order: Sequence[int]) -> Tensor:
    parts = weight.chunk(len(order))
    return torch.cat([parts[k] for k in order])


def _interpolate(
    func: Callable[..., Any],
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """Write an interpolation over one axis by a fixed rate; torch writes the others well."""
    linear = mode == "linear" and input.ndim == 3 and not (recompute_scale_factor or align_corners)
    rate = _rate(input.shape[2], size, scale_factor) if linear else None
    if rate is None:
        return func(input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    return torch.onnx.ops.symbolic(
        "Resize",
        (input, None, torch.tensor([1.0, 1.0, rate])),
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
        dtype=input.dtype,
        shape=(*input.shape[:2], torch.sym_int(input.shape[2] * rate)),
    )


def _rate(length: Any, size: Any, scale_factor: Any) -> float | None:
    """Return by how much an axis grows, if that is the same at every length."""
    size, scale_factor = (n[0] if isinstance(n, (tuple, list)) else n for n in (size, scale_factor))
    if scale_factor is not None:
        return float(scale_factor)
    if not (isinstance(size, torch.SymInt) and isinstance(length, torch.SymInt)):
        return None
    # What it is for the example, if the symbols say that it is so for all.
    rate = Fraction(size.node.hint, length.node.hint)
    fixed = statically_known_true(size * rate.denominator == length * rate.numerator)
    return float(rate) if fixed else None


def _attention(
    func: Callable[..., Any],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Write an attention of other than four axes by its products; torch knows those of four alone."""
    if query.ndim == 4 or is_causal or enable_gqa:
        return func(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1) @ value


_WRITTEN: dict[str, Callable[..., Any]] = {
    # Torch has the gates of an LSTM as input, forget, cell, output, those of a GRU as reset, update, new.
    "lstm": partial(_recurrence, op_type="LSTM", order=(0, 3, 1, 2)),
    "gru": partial(_recurrence, op_type="GRU", order=(1, 0, 2), linear_before_reset=1),
    "rnn_tanh": partial(_recurrence, op_type="RNN", order=(0,), activation="Tanh"),
    "rnn_relu": partial(_recurrence, op_type="RNN", order=(0,), activation="Relu"),
    "interpolate": _interpolate,
    "scaled_dot_product_attention": _attention,
}
