"""What a search has found: each candidate's speed, size and quality, and which of them is taken."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export.quantize.mixtures import Block

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

        Parameters
        ----------
        losses : mapping of str to float
            ``wer_increase``, ``dnsmos_drop`` and ``lsd_db``.
        """
        limits = asdict(self)
        parts = [
            (losses[name] - limits[f"max_{name}"]) / max(limits[f"max_{name}"], 1e-3)
            for name in ("wer_increase", "dnsmos_drop", "lsd_db")
            if limits[f"max_{name}"] is not None
        ]
        return max(0.0, *parts) if parts else 0.0


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


@dataclass(frozen=True, slots=True)
class Frontier:
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
        return json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"

    def to_markdown(self) -> str:
        """Return a table, a row for each candidate."""
        head = "| candidate | faster | in chunks | size | encoder | WER | DNSMOS | LSD | sentences | |"
        rows = [head, "|" + "---|" * 10]
        for each in self.candidates:
            cells = [
                each.name,
                f"{each.speedup:.2f}",
                f"{each.streaming_speedup:.2f}",
                f"{each.size_ratio:.2f}",
                f"{each.encoder_speedup:.2f}",
            ]
            if each.figures:
                wer = f"{100 * each.figures['wer']:.1f} %"
                cells += [wer, f"{each.figures['dnsmos']:.2f}", f"{each.figures['lsd_db']:.2f} dB"]
            else:
                cells += ["", "", ""]
            rows.append("| " + " | ".join([*cells, str(each.n_sentences), each.note]) + " |")
        return "\n".join(rows) + "\n"

    def figure(self) -> Figure:
        """Draw quality against speed, for those whose quality was measured.

        Raises
        ------
        MissingExtraError
            If matplotlib isn't installed.
        """
        from balacoon_tk.plots import FrontierPoint, draw_frontier
        from balacoon_tk.plots.figure import new_figure

        figure = new_figure(8.0, 5.0)
        points = [
            FrontierPoint(each.name, each.speedup, each.n_bytes, each.figures["dnsmos"])
            for each in self.candidates
            if each.figures
        ]
        axes = figure.add_subplot()
        draw_frontier(axes, points, quality_label="DNSMOS (1 to 5)")
        axes.set(xlabel="speed of the decoder (times as fast as in floating point)")
        return figure


class BudgetError(ModelError):
    """No candidate is within the budget; `frontier` holds what was tried."""

    def __init__(self, frontier: Frontier) -> None:
        self.frontier = frontier
        measured = [each for each in frontier.candidates if each.figures and each.layers]
        nearest = min(measured, key=lambda each: frontier.budget.excess(each.figures), default=None)
        if nearest is None:
            dropped = ", ".join(each.name for each in frontier.candidates if each.layers)
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
    """Return the figures of a candidate over sentences, and its losses against the reference's."""

    def mean(records: Sequence[Mapping[str, Any]], name: str) -> float:
        known = [float(record[name]) for record in records if record[name] is not None]
        return sum(known) / len(known) if known else 0.0

    def rate(records: Sequence[Mapping[str, Any]], errors: str, total: str) -> float:
        n_errors, n_total = (int(sum(record[key] for record in records)) for key in (errors, total))
        return n_errors / max(1, n_total)

    figures = {name: mean(results, name) for name in ("lsd_db", "mcd_db", "f0_rmse_cents", "dnsmos")}
    figures |= {"wer": rate(results, "n_word_errors", "n_words")}
    figures |= {"cer": rate(results, "n_char_errors", "n_chars")}
    figures["dnsmos_drop"] = mean(reference, "dnsmos") - figures["dnsmos"]
    figures["wer_increase"] = figures["wer"] - rate(reference, "n_word_errors", "n_words")
    return figures
