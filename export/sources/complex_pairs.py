"""Complex numbers as pairs of real tensors: ONNX has no others, and torch's exporters take none.

A `ComplexPair` stands in for a complex tensor while a module runs. It has the arithmetic that spectra need,
and moves both of its parts where a shape changes; of anything else an error says that it can't be exported.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from balacoon_tk.errors import ModelError

Part: TypeAlias = Tensor | float
"""A real tensor, or 0.0 for one of zeros: a graph needs no nodes for what is added to or multiplied by it."""


class ComplexPair:
    """A complex tensor as its real and its imaginary part, one of which may be 0.0."""

    def __init__(self, real: Part, imag: Part) -> None:
        self._real, self._imag = real, imag

    @property
    def real(self) -> Tensor:
        """The real part."""
        return self._full(self._real)

    @property
    def imag(self) -> Tensor:
        """The imaginary part."""
        return self._full(self._imag)

    @property
    def shape(self) -> torch.Size:
        """The shape of either part."""
        return self._given.shape

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return int(self._given.ndim)

    @property
    def device(self) -> torch.device:
        """Where the parts are."""
        return self._given.device

    @property
    def dtype(self) -> torch.dtype:
        """The type that a complex tensor of these parts would have."""
        return self._given.dtype.to_complex()

    @property
    def _given(self) -> Tensor:
        return self._real if isinstance(self._real, Tensor) else self._imag

    def _full(self, part: Part) -> Tensor:
        return part if isinstance(part, Tensor) else torch.zeros_like(self._given)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Take the place of a function of torch that is called with a pair."""
        return compute(func, args, kwargs or {})

    def __getattr__(self, name: str) -> Any:
        """Return the method that a tensor has by this name, for a pair."""
        method = None if name.startswith("_") else getattr(torch.Tensor, name, None)
        if not callable(method):
            raise AttributeError(f"a complex tensor that is exported has no {name!r}")
        return partial(_call, method, self)

    def __add__(self, other: Any) -> ComplexPair:
        x = as_pair(other)
        return _pair(_sum(self._real, x._real), _sum(self._imag, x._imag))

    def __sub__(self, other: Any) -> ComplexPair:
        x = as_pair(other)
        return _pair(_sum(self._real, x._real, -1), _sum(self._imag, x._imag, -1))

    def __rsub__(self, other: Any) -> ComplexPair:
        return as_pair(other) - self

    def __neg__(self) -> ComplexPair:
        return as_pair(0) - self

    def __mul__(self, other: Any) -> ComplexPair:
        return self._product(other, operator.mul)

    def __matmul__(self, other: Any) -> ComplexPair:
        return self._product(other, torch.matmul)

    def __rmatmul__(self, other: Any) -> ComplexPair:
        return as_pair(other) @ self

    def _product(self, other: Any, multiply: Callable[[Any, Any], Part]) -> ComplexPair:
        x, times = as_pair(other), partial(_times, multiply=multiply)
        real = _sum(times(self._real, x._real), times(self._imag, x._imag), -1)
        return _pair(real, _sum(times(self._real, x._imag), times(self._imag, x._real)))

    def __truediv__(self, other: Any) -> ComplexPair:
        x = as_pair(other)
        if isinstance(x._imag, Tensor) or x._imag:
            return self * x.conj() / _sum(_times(x._real, x._real), _times(x._imag, x._imag))
        parts = (self._real, self._imag)
        return _pair(*(part / x._real if isinstance(part, Tensor) or part else 0.0 for part in parts))

    def __rtruediv__(self, other: Any) -> ComplexPair:
        return as_pair(other) / self

    def __abs__(self) -> Tensor:
        return torch.sqrt(self.real * self.real + self.imag * self.imag)

    def __getitem__(self, index: Any) -> ComplexPair:
        found: ComplexPair = _call(torch.Tensor.__getitem__, self, index)
        return found

    __radd__, __rmul__ = __add__, __mul__

    def conj(self) -> ComplexPair:
        """Return the pair with the sign of its imaginary part turned."""
        return ComplexPair(self._real, _sum(0.0, self._imag, -1))


def as_pair(value: Any) -> ComplexPair:
    """Return a pair for a number or a tensor, real or complex."""
    if isinstance(value, ComplexPair):
        return value
    if isinstance(value, Tensor):
        if not value.is_complex():
            return ComplexPair(value, 0.0)
        # A constant of the module: by its values, as operations on it would be traced, and taken over.
        with torch._C.DisableTorchFunction():
            array = value.detach().cpu().resolve_conj().numpy()
        return ComplexPair(*(torch.from_numpy(part.copy()) for part in (array.real, array.imag)))
    number = complex(value)
    return ComplexPair(number.real, number.imag)


def is_complex(value: Any) -> bool:
    """Whether a value is complex, or a list holds one that is."""
    if isinstance(value, (list, tuple)):
        return any(map(is_complex, value))
    return isinstance(value, (ComplexPair, complex)) or (isinstance(value, Tensor) and value.is_complex())


def name_of(func: Callable[..., Any]) -> str:
    """Return the name of a function of torch, or of the attribute that it reads."""
    name = getattr(func, "__name__", "").strip("_")
    return getattr(getattr(func, "__self__", None), "__name__", name) if name == "get" else name


def compute(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a function of torch on arguments some of which are complex; a ModelError says that it can't be."""
    name = name_of(func)
    if name in _OF_ONE:
        return _OF_ONE[name](as_pair(next(iter((*args, *kwargs.values())))))
    if name in _FUNCTIONS:
        return _FUNCTIONS[name](*args, **kwargs)
    if getattr(func, "__name__", "") == "__get__":
        return func(*args)  # what a complex constant says of itself, such as its shape
    if name not in _BY_PARTS:
        raise ModelError(f"torch's {name!r} of complex numbers can't be exported: use their real parts")
    real, imag = (_of_parts(func, args, kwargs, part) for part in ("_real", "_imag"))
    if isinstance(real, (list, tuple)) or isinstance(imag, (list, tuple)):
        n = len(real if isinstance(real, (list, tuple)) else imag)
        columns = (part if isinstance(part, (list, tuple)) else [part] * n for part in (real, imag))
        return tuple(ComplexPair(*parts) for parts in zip(*columns, strict=True))
    return ComplexPair(real, imag)


def _call(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return compute(func, args, kwargs)


def _of_parts(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], part: str) -> Any:
    """Call a function on one part of each pair; 0.0 if that is what all of them have."""
    zeros = True

    def take(value: Any) -> Any:
        nonlocal zeros
        if isinstance(value, (list, tuple)):
            return type(value)(map(take, value))
        # Of tensors that are joined real ones have parts too; elsewhere a tensor is an index.
        if isinstance(value, Tensor) and not joined and not value.is_complex():
            return value
        if isinstance(value, (ComplexPair, Tensor)):
            pair = as_pair(value)
            zeros &= not isinstance(getattr(pair, part), Tensor)
            return pair._full(getattr(pair, part))
        return value

    joined = name_of(func) in ("cat", "concat", "stack")
    taken = [take(value) for value in args]
    return 0.0 if zeros else func(*taken, **kwargs)


def _sum(a: Part, b: Part, sign: int = 1) -> Part:
    if not isinstance(b, Tensor) and b == 0:
        return a
    if not isinstance(a, Tensor) and a == 0:
        return b if sign > 0 else -b
    return a + sign * b if sign > 0 or not isinstance(b, Tensor) else a - b


def _times(a: Part, b: Part, multiply: Callable[[Any, Any], Part] = operator.mul) -> Part:
    for x, y in ((a, b), (b, a)):
        if not isinstance(x, Tensor) and x in (0, 1):
            return 0.0 if x == 0 else y
    return multiply(a, b)


def _pair(real: Part, imag: Part) -> ComplexPair:
    # Parts that were computed apart may differ in shape, as those of a column and a matrix do.
    if isinstance(real, Tensor) and isinstance(imag, Tensor) and real.shape != imag.shape:
        return ComplexPair(*torch.broadcast_tensors(real, imag))
    # A number other than 0 is spread over the shape of the other part.
    if isinstance(real, Tensor) and not isinstance(imag, Tensor) and imag:
        return ComplexPair(real, torch.full_like(real, imag))
    if isinstance(imag, Tensor) and not isinstance(real, Tensor) and real:
        return ComplexPair(torch.full_like(imag, real), imag)
    return ComplexPair(real, imag)


def polar(abs: Part, angle: Tensor) -> ComplexPair:
    """Return a pair of magnitudes and phases."""
    return ComplexPair(_times(abs, torch.cos(angle)), _times(abs, torch.sin(angle)))


def _exp(a: ComplexPair) -> ComplexPair:
    return polar(torch.exp(a._real) if isinstance(a._real, Tensor) else 1.0, a.imag)


# Of numbers and tensors, at least one of which is complex; those of one argument get it as a pair.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("add", "iadd", "radd"), lambda a, b, *, alpha=1: as_pair(a) + as_pair(b) * alpha),
    **dict.fromkeys(("div", "divide", "truediv", "true_divide"), lambda a, b: as_pair(a) / b),
    **dict.fromkeys(("matmul", "mm", "bmm"), lambda a, b: as_pair(a) @ b),
    **dict.fromkeys(("imul", "mul", "multiply", "rmul"), lambda a, b: as_pair(a) * b),
    **dict.fromkeys(("rdiv", "rtruediv"), lambda a, b: as_pair(b) / a),
    **dict.fromkeys(("sub", "subtract"), lambda a, b, *, alpha=1: as_pair(a) - as_pair(b) * alpha),
    # Whatever type or device is asked for.
    **dict.fromkeys(("to", "type"), lambda a, *_, **__: as_pair(a)),
    "complex": ComplexPair,
    "polar": polar,
    "rsub": lambda a, b: as_pair(b) - a,
    "size": lambda a, *where: as_pair(a)._given.size(*where),
    "view_as_complex": lambda a: ComplexPair(a[..., 0], a[..., 1]),
}
_OF_ONE: dict[str, Callable[[ComplexPair], Any]] = {
    **dict.fromkeys(("abs", "absolute"), abs),
    **dict.fromkeys(("conj", "conj_physical"), ComplexPair.conj),
    **dict.fromkeys(("neg", "negative"), operator.neg),
    "angle": lambda a: torch.atan2(a.imag, a.real),
    "dim": lambda a: a.ndim,
    "exp": _exp,
    "imag": lambda a: a.imag,
    "is_complex": lambda _: True,
    "numel": lambda a: a._given.numel(),
    "real": lambda a: a.real,
    "resolve_conj": lambda a: a,
    "square": lambda a: a * a,
    "view_as_real": lambda a: torch.stack([a.real, a.imag], -1),
}

# These treat both parts alike: they move elements, or add them up.
_BY_PARTS = frozenset(
    {
        *("cat", "chunk", "clone", "concat", "contiguous", "detach", "expand", "flatten", "flip", "getitem"),
        *("index_select", "mean", "movedim", "narrow", "permute", "repeat", "reshape", "roll", "select"),
        *("split", "squeeze", "stack", "sum", "swapaxes", "transpose", "unbind", "unflatten", "unsqueeze"),
        "view",
    }
)
