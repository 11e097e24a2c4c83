"""What a search has found: each candidate's speed, size and quality, and which of them is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from balacoon_tk._files import json_text
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export.quantize.mixtures import Block
from balacoon_tk.metrics.registry import Metric, search_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Budget:
    """What a voice may lose; None where that isn't limited."""

    max_wer_increase: float | None = 0.01
    """Share of words."""
    max_dnsmos_drop: float | None = 0.05
    max_lsd_db: float | None = None

    def __post_init__(self) -> None:
        """Check that nothing is negative."""
        for name, value in asdict(self).items():
            if value is not None and not value >= 0:
                raise ParameterError(f"{name}={value} must be >= 0")

    @property
    def is_limited(self) -> bool:
        """Whether anything is too bad for it."""
        return any(value is not None for value in asdict(self).values())

    def excess(self, losses: Mapping[str, float]) -> float:
        """Return by how much the largest loss is beyond what it may be, as a share of that; 0 within.

        `losses` holds ``wer_increase`` as a share of words, ``dnsmos_drop`` and ``lsd_db``.
        """
        # As a share of the limit: points of DNSMOS and dB can't be compared, how far each is beyond can.
        parts: list[float] = [
            (losses[name.removeprefix("max_")] - limit) / max(limit, 1e-3)
            for name, limit in asdict(self).items()
            if limit is not None
        ]
        return max([0.0, *parts])


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to quantize the decoder, and the encoder with it or not."""

    name: str
    layers: tuple[str, ...]
    """The convolutions that compute with bytes."""
    speedup: float
    """Time of the voice's own decoder over that of this one, the whole utterance at once."""
    streaming_speedup: float
    """The same, in chunks of 64 frames."""
    n_bytes: int
    """Size of the decoder."""
    size_ratio: float
    """Size over that of the voice's own decoder."""
    figures: Mapping[str, float]
    """Quality, and losses against the voice as it is, on `n_sentences`; empty if it was dropped before."""
    n_sentences: int = 0
    note: str = ""
    """Why it isn't taken, or that it is."""
    encoder_speedup: float = 1.0
    """Time of the voice's own encoder over that of this one; 1 if it is the voice's own."""
    encoder_size_ratio: float = 1.0
    """Size of the encoder over that of the voice's own."""
    changed_durations: float = 0.0
    """Share of phonemes that last another number of frames."""
    paired: tuple[str, ...] = ()
    """Those of the layers that are made in pairs of steps, of inputs of 7 bits."""


@dataclass(frozen=True, slots=True)
class ParetoFront:
    """All candidates of a search, the voice as it is among them."""

    voice: str
    budget: Budget
    candidates: tuple[Candidate, ...]
    chosen: str | None
    """Name of the fastest candidate within the budget; None if there is none."""
    blocks: tuple[Block, ...] = ()
    """What each block of convolutions loses if it is the only one in bytes."""

    def to_json(self) -> str:
        """Return all of it as JSON."""
        return json_text(asdict(self))

    def to_markdown(self) -> str:
        """Return a table, a row for each candidate."""
        head = "| candidate | faster | in chunks | size | encoder | WER | DNSMOS | LSD | sentences | |"
        rows = [head, "|" + "---|" * 10]
        for each in self.candidates:
            ratios = (each.speedup, each.streaming_speedup, each.size_ratio, each.encoder_speedup)
            quality = ["", "", ""]
            if each.figures:
                wer = f"{100 * each.figures['wer']:.1f} %"
                quality = [wer, f"{each.figures['dnsmos']:.2f}", f"{each.figures['lsd_db']:.2f} dB"]
            cells = [each.name, *(f"{ratio:.2f}" for ratio in ratios), *quality, each.n_sentences, each.note]
            rows.append("| " + " | ".join(map(str, cells)) + " |")
        return "\n".join(rows) + "\n"

    def figure(self) -> Figure:
        """Draw quality against speed, for those whose quality was measured."""
        from balacoon_tk.plots import new_figure
        from balacoon_tk.plots.quantization import ParetoPoint, draw_pareto_front

        figure = new_figure(8.0, 5.0)
        axes = figure.add_subplot()
        points = [
            ParetoPoint(each.name, each.speedup, each.n_bytes, each.figures["dnsmos"])
            for each in self.candidates
            if each.figures
        ]
        draw_pareto_front(axes, points, quality_label="DNSMOS (1 to 5)")
        axes.set(xlabel="speed of the decoder (times as fast as in floating point)")
        return figure


class BudgetError(ModelError):
    """No candidate is within the budget; `pareto_front` holds what was tried."""

    def __init__(self, front: ParetoFront) -> None:
        self.pareto_front = front
        measured = [each for each in front.candidates if each.figures and each.layers]
        # What somebody would allow next, so they are told what it costs.
        nearest = min(measured, key=lambda each: front.budget.excess(each.figures), default=None)
        if nearest is None:
            # Nobody judges what is slower, so there is no loss to name.
            dropped = ", ".join(each.name for each in front.candidates if each.layers)
            super().__init__(f"no candidate is faster than the voice as it is: dropped {dropped}")
            return
        figures = nearest.figures
        super().__init__(
            f"no candidate is within the budget; nearest is {nearest.name}: {nearest.speedup:.2f} times as "
            f"fast, WER {100 * figures['wer_increase']:+.2f} points, DNSMOS {-figures['dnsmos_drop']:+.3f}, "
            f"LSD {figures['lsd_db']:.2f} dB on {nearest.n_sentences} sentences"
        )


def summarize(
    results: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Return the figures of a candidate, and its losses against the reference's of the same sentences."""
    figures, before = (
        {name: _over(records, name, metric) for name, metric in search_metrics().items()}
        for records in (results, reference)
    )
    # Over the same sentences, so that the reference's own flaws are in neither.
    figures["dnsmos_drop"] = before["dnsmos"] - figures["dnsmos"]
    figures["wer_increase"] = figures["wer"] - before["wer"]
    return figures


def _over(records: Sequence[Mapping[str, Any]], name: str, metric: Metric) -> float:
    """Return a metric over sentences; 0 where it was measured of none."""
    over, under = metric.ratio or (name, "")
    known = [record for record in records if record.get(over) is not None]
    # Sums and no mean of rates: one word that is missed in a sentence of one is not all words.
    n_all = sum(record[under] for record in known) if under else len(known)
    return float(sum(record[over] for record in known)) / max(1, n_all)
