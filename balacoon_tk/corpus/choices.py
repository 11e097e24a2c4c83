"""What a corpus may be asked for, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from balacoon_tk.corpus.files import AUDIO_FORMATS
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics.registry import Metric, all_metrics, import_eval

_ENGINES = ("local", "ray")
# What a metric may ask of an utterance that is compared with none and was timed by no player.
_KNOWN_ALONE = {"text", "samples", "pcm", "sample_rate", "pitch", "transcript"}
_OWN_METRICS = "balacoon_tk.metrics."


def choose_metrics(names: Sequence[str]) -> tuple[tuple[str, ...], list[Metric]]:
    """Return groups in one order and their metrics, once what they need is known to be there."""
    wanted = (names,) if isinstance(names, str) else tuple(names)
    of_groups: dict[str, list[Metric]] = {}
    for each in all_metrics():
        of_groups.setdefault(each.group, []).append(each)
    # Workers have what comes with the toolkit, and not what the caller has defined.
    alone = {
        group
        for group, found in of_groups.items()
        if all(
            set(m.inputs) <= _KNOWN_ALONE and m.function.__module__.startswith(_OWN_METRICS) for m in found
        )
    }
    for name in wanted:
        if name not in alone:
            raise ParameterError(
                f"metrics: {name!r} must be one of {', '.join(sorted(alone))}, which judge an utterance alone"
            )
    chosen = [each for group in sorted(set(wanted)) for each in of_groups[group]]
    for each in chosen:
        for module in each.packages:
            import_eval(module, what=f"the metric {each.group}")
    return tuple(sorted(set(wanted))), chosen


def several(name: str, values: Sequence[str]) -> tuple[str, ...]:
    """Return a setting that may have several values, each once."""
    found = (values,) if isinstance(values, str) else tuple(dict.fromkeys(values))
    if not found:
        raise ParameterError(f"{name} must hold at least one")
    return found


def check_choices(
    audio_format: str, engine: str, n_workers: int | None, shard_size: int, address: str | None
) -> None:
    """Refuse what no corpus can be made with; the arguments are those of `make_corpus`."""
    for name, value, known in (("audio_format", audio_format, AUDIO_FORMATS), ("engine", engine, _ENGINES)):
        if value not in known:
            raise ParameterError(f"{name}={value!r} must be one of {', '.join(known)}")
    for name, number in (("n_workers", n_workers), ("shard_size", shard_size)):
        if number is not None and number < 1:
            raise ParameterError(f"{name}={number} must be >= 1")
    if address is not None and engine != "ray":
        raise ParameterError(f"address={address!r} must be None without engine='ray'")
