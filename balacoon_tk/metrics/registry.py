"""What can be measured of an utterance: a decorated function each, for reports and for searches alike.

::

    @metric("snr_db", group="signal", label="SNR", unit="dB", better="higher", digits=1)
    def snr_db(samples, reference): ...

That is all there is to a new metric. Its parameters without a default are named after what it needs, and
are taken from an `Utterance`: ``samples``, ``text``, ``trace``, ``transcript`` and so on. Where one call
gives several figures, each has a decorator with the `attribute` that it is; they are read from the function
upwards. A metric of one's own is evaluated once its function has been defined, under its own group.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from balacoon_tk.errors import MissingExtraError, ParameterError

if TYPE_CHECKING:
    from balacoon_tk.metrics.utterance import Utterance

_Function = TypeVar("_Function", bound=Callable[..., Any])

_ORDER = ("latency", "signal", "speech", "perception")
"""Files of this package in the order of a report, whichever is imported first; others come after them."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that is summarised over sentences; as a decorator, `metric`, it is measured by a function."""

    name: str
    _: KW_ONLY
    group: str
    """What `evaluate` is asked for."""
    label: str
    unit: str = ""
    better: Literal["higher", "lower", ""] = ""
    """Empty if it says nothing of quality."""
    digits: int = 2
    """After the decimal point, for a person."""
    ratio: tuple[str, str] | None = None
    """Fields whose sums are divided, which the function gives as a pair; None for the mean of `name`."""
    packages: tuple[str, ...] = ()
    """Of the extra `eval`, that it imports."""
    judged: bool = False
    """Whether it is a listener's verdict: of the int16 audio, and the same for audio that sounds the same."""
    search_name: str | None = None
    """What a search for a quantized voice calls it; None if that doesn't measure it."""
    attribute: str = ""
    """Of what the function gives; empty if that is the figure."""
    function: Callable[..., Any] = lambda: None
    """What measures it: nothing until it has decorated one."""

    def __call__(self, function: _Function) -> _Function:
        """Let a function measure what `evaluate` reports under this name; it stays what it is."""
        # A function defined anew takes the place of the one before: a notebook's cell is run again.
        _METRICS[self.name] = replace(self, function=function)
        return function

    @property
    def title(self) -> str:
        """Label with the unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def inputs(self) -> tuple[str, ...]:
        """What its function is called with, by name."""
        # Asked of the function each time: whoever puts another one in its place need not say it twice.
        parameters = inspect.signature(self.function).parameters.values()
        return tuple(each.name for each in parameters if each.default is each.empty)

    @property
    def is_relative(self) -> bool:
        """Whether it compares with the whole utterance, of which it has nothing to say itself."""
        return not {"reference", "reference_pitch"}.isdisjoint(self.inputs)


# As a decorator it reads as what it makes of a function.
metric = Metric

_METRICS: dict[str, Metric] = {}


def all_metrics() -> tuple[Metric, ...]:
    """Return every metric there is, in the order of a report."""
    # By file and not by import, so that a report is in one order whatever was imported first.
    homes = {each: each.function.__module__.rpartition(".")[2] for each in _METRICS.values()}
    return tuple(sorted(homes, key=lambda each: (*_ORDER, homes[each]).index(homes[each])))


def metric_groups() -> tuple[str, ...]:
    """Return what `evaluate` can be asked for."""
    return tuple(dict.fromkeys(each.group for each in all_metrics()))


def search_metrics() -> dict[str, Metric]:
    """Return what a search for a quantized voice measures, by the names that it uses."""
    return {each.search_name: each for each in all_metrics() if each.search_name is not None}


def measure(metrics: Iterable[Metric], utterance: Utterance) -> dict[str, Any]:
    """Return the fields of metrics for one utterance, each function being called once.

    What couldn't be measured is None: NaN is equal to nothing, not even to itself. A function that refuses
    the utterance, such as one word that is too short for it, ends no evaluation; a judge that refuses has
    no opinion, and its fields are left out.
    """
    # By function: four opinions come of one run of a judge, and three errors of one track of pitch.
    results: dict[Callable[..., Any], Any] = {}
    values: dict[str, Any] = {}
    for each in metrics:
        function = each.function
        if function not in results:
            try:
                inputs = {name: getattr(utterance, name) for name in each.inputs}
                # A listener never hears the floats: what is judged is what is written to a WAV file.
                if each.judged and "samples" in inputs:
                    inputs["samples"] = utterance.pcm
                results[function] = function(**inputs)
            except ParameterError:
                results[function] = None
        result = results[function]
        if result is None:
            values |= {} if each.judged else {each.name: None}
        elif each.ratio is not None:
            values |= zip(each.ratio, result, strict=True)
        else:
            value = getattr(result, each.attribute) if each.attribute else result
            values[each.name] = None if value != value else value
    return values


def import_eval(module: str, *, what: str) -> Any:
    """Import a package of the extra `eval`, or raise a `MissingExtraError` that names `what` needs it."""
    try:
        with warnings.catch_warnings():
            # What they deprecate is not the caller's concern.
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(what, extra="eval") from error
