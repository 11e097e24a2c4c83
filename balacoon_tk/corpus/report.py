"""What a corpus holds and what it cost, made from its manifest: a table, JSON and a picture."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from balacoon_tk._files import json_text, write_whole
from balacoon_tk.corpus.manifest import FAILED_FILE, METADATA_FILE, import_pyarrow, metric_fields
from balacoon_tk.metrics import Estimate, Metric

_NORMAL_95 = 1.959964  # standard errors on either side of a mean


@dataclass(frozen=True, slots=True)
class VariantFigures:
    """One voice in one precision by one strategy."""

    name: str
    n_utterances: int
    n_failed: int
    audio_s: float
    synthesis_s: float
    """Of workers, one thread each."""
    cpu_s: float
    """Of processors: what it costs, whoever else was there."""
    durations_s: tuple[float, float, float]
    """The 5th, 50th and 95th percentile of the utterances' lengths."""
    rtfs: tuple[float, float, float]
    """The same of their real-time factors on one thread."""
    metrics: Mapping[str, Estimate]
    """By title, with intervals of 95 %."""


@dataclass(frozen=True, slots=True)
class CorpusReport:
    """What became of a corpus; `n_failed` of its utterances were recorded with an error."""

    folder: Path
    variants: tuple[VariantFigures, ...]
    columns: Mapping[str, Mapping[str, NDArray[np.float64]]]
    """For each variant its ``duration_s`` and ``rtf``, a number an utterance."""

    @property
    def n_utterances(self) -> int:
        """Utterances there are, without those that failed."""
        return sum(each.n_utterances for each in self.variants)

    @property
    def n_failed(self) -> int:
        """Utterances that failed, with their errors in ``failed.parquet``."""
        return sum(each.n_failed for each in self.variants)

    @property
    def audio_s(self) -> float:
        """Seconds of audio."""
        return sum(each.audio_s for each in self.variants)

    @classmethod
    def of(cls, folder: Path, names: Sequence[tuple[str, str, str]], metrics: Sequence[Metric]) -> Self:
        """Read a complete corpus; `names` are voice, precision and strategy of each variant."""
        parquet = import_pyarrow().parquet
        key = ["voice", "precision", "strategy"]
        read = ["duration_s", "synthesis_s", "cpu_s", *metric_fields(metrics)]
        table = parquet.read_table(folder / METADATA_FILE, columns=[*key, *read])
        values = {name: table[name].to_numpy().astype(np.float64) for name in read}
        spoken = _numbers(table, key, names)
        failed = np.zeros(0, np.int64)
        if (folder / FAILED_FILE).exists():
            failed = _numbers(parquet.read_table(folder / FAILED_FILE, columns=key), key, names)
        variants, columns = [], {}
        for number, name in enumerate(map("-".join, names)):
            own = {each: found[spoken == number] for each, found in values.items()}
            rtf = own["synthesis_s"] / own["duration_s"]
            columns[name] = {"duration_s": own["duration_s"], "rtf": rtf}
            variants.append(
                VariantFigures(
                    name=name,
                    n_utterances=rtf.size,
                    n_failed=int(np.sum(failed == number)),
                    audio_s=float(own["duration_s"].sum()),
                    synthesis_s=float(own["synthesis_s"].sum()),
                    cpu_s=float(own["cpu_s"].sum()),
                    durations_s=_percentiles(own["duration_s"]),
                    rtfs=_percentiles(rtf),
                    metrics={each.title: _estimate(each, own) for each in metrics},
                )
            )
        return cls(folder, tuple(variants), columns)

    def to_dict(self) -> dict[str, object]:
        """Return the figures as JSON has them."""
        totals = {"n_utterances": self.n_utterances, "n_failed": self.n_failed, "audio_s": self.audio_s}
        return {"folder": str(self.folder), **totals, "variants": [asdict(each) for each in self.variants]}

    def to_json(self) -> str:
        """Return `to_dict` as JSON text; what isn't finite becomes null."""
        return json_text(self.to_dict())

    def to_markdown(self) -> str:
        """Return the figures as Markdown, a row for each variant."""
        head = ("voice", "utterances", "failed", "audio (h)", "duration (s)", "RTF, one thread", "core hours")
        titles = list(dict.fromkeys(title for each in self.variants for title in each.metrics))
        lines = [
            "# Corpus",
            "",
            f"{self.n_utterances} utterances, {self.audio_s / 3600:.2f} hours; {self.n_failed} failed.",
            "",
            f"| {' | '.join([*head, *titles])} |",
            f"|---|{'---:|' * (len(head) + len(titles) - 1)}",
        ]
        for each in self.variants:
            cells = [each.name, str(each.n_utterances), str(each.n_failed), f"{each.audio_s / 3600:.3f}"]
            cells += [_spread(each.durations_s, 2), _spread(each.rtfs, 4), f"{each.cpu_s / 3600:.3g}"]
            cells += [_interval(each.metrics[title]) for title in titles]
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", "Durations and RTF: median, and in brackets where 90 % of utterances lie."]
        lines += ["Metrics: over all utterances, with intervals of 95 %."] if titles else []
        return "\n".join(lines) + "\n"

    def save(self) -> tuple[Path, ...]:
        """Write ``report.md``, ``report.json`` and, where matplotlib is installed, ``report.png``."""
        paths = tuple(self.folder / f"report.{suffix}" for suffix in ("md", "json", "png"))
        write_whole(paths[0], self.to_markdown())
        write_whole(paths[1], self.to_json())
        if importlib.util.find_spec("matplotlib") is None:
            return paths[:2]
        from balacoon_tk.plots import save_figure
        from balacoon_tk.plots.corpus import corpus_figure

        panels = {
            title: {each.name: each.metrics[title] for each in self.variants}
            for title in dict.fromkeys(title for each in self.variants for title in each.metrics)
        }
        save_figure(corpus_figure(self.columns, panels), paths[2])
        return paths


def _numbers(table: Any, key: Sequence[str], names: Sequence[tuple[str, str, str]]) -> NDArray[np.int64]:
    """Return for each row which variant it is of."""
    known = {name: number for number, name in enumerate(names)}
    rows = zip(*(table[name].to_pylist() for name in key), strict=True)
    return np.fromiter((known[row] for row in rows), np.int64, table.num_rows)


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float, float]:
    if not values.size:
        return (math.nan,) * 3
    low, middle, high = np.percentile(values, (5, 50, 95))
    return float(low), float(middle), float(high)


def _estimate(metric: Metric, columns: Mapping[str, NDArray[np.float64]]) -> Estimate:
    over, under = metric.ratio or (metric.name, None)
    return estimate_ratio(columns[over], columns[under] if under else np.ones(columns[over].size))


def estimate_ratio(values: ArrayLike, weights: ArrayLike) -> Estimate:
    """Return ``sum(values) / sum(weights)`` with its interval of 95 %; NaN leaves an utterance out.

    By the standard error of a ratio of sums: draws of the bootstrap would take a corpus's size times 2000.

    References
    ----------
    W. G. Cochran, "Sampling Techniques", 3rd edition, 1977, section 6.4.
    """
    x, w = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    known = ~(np.isnan(x) | np.isnan(w))
    x, w, n = x[known], w[known], int(known.sum())
    if n == 0 or w.sum() == 0:
        return Estimate(math.nan, math.nan, math.nan, n)
    ratio = float(x.sum() / w.sum())
    if n == 1:
        return Estimate(ratio, math.nan, math.nan, n)
    error = float(np.std(x - ratio * w, ddof=1) / (math.sqrt(n) * w.mean()))
    return Estimate(ratio, ratio - _NORMAL_95 * error, ratio + _NORMAL_95 * error, n)


def _spread(figures: tuple[float, float, float], digits: int) -> str:
    low, middle, high = (format(each, f".{digits}f") for each in figures)
    return f"{middle} [{low}, {high}]"


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
