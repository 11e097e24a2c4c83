"""How often, how surely, and whether that could be chance: answers counted, with an exact interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.player.answers import Answer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHANCE = 0.5
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Tally:
    """A share of answers, where it lies, and how likely chance alone is to give it.

    Answers count as independent: of several listeners, or of one sentence that comes again and again, they
    aren't quite, and the interval is then too narrow.
    """

    what: str
    """What is counted, such as ``prefer int8 to fp32``."""
    n: int
    """Answers that decide: without those of no preference."""
    n_chosen: int
    """Those of them for `what`."""
    n_undecided: int
    """Answers of no preference."""
    n_listeners: int
    share: float
    """``n_chosen / n``; NaN without answers."""
    low: float
    """Lower end of the exact interval of 95 % (Clopper and Pearson)."""
    high: float
    p_value: float
    """Exact binomial test against 0.5: one-sided for ABX, where chance is the least, two-sided for AB."""

    def __str__(self) -> str:
        if not self.n:
            return f"{self.what}: no answer that decides yet ({self.n_undecided} without a preference)"
        undecided = f"; {self.n_undecided} have no preference" if self.n_undecided else ""
        listeners = "1 listener" if self.n_listeners == 1 else f"{self.n_listeners} listeners"
        return (
            f"{self.n_chosen} of {self.n} answers {self.what}: {100 * self.share:.0f} % "
            f"({100 * self.low:.0f} to {100 * self.high:.0f} %, 95 %, Clopper-Pearson), "
            f"p = {self.p_value:.2g} against chance, {listeners}{undecided}"
        )

    def figure(self) -> Figure:
        """Draw the share and its interval beside that of chance."""
        from balacoon_tk.plots.figure import INK
        from balacoon_tk.plots.pages import intervals_figure

        estimate = (100 * self.share, 100 * self.low, 100 * self.high)
        figure = intervals_figure([self.what], {f"answers (%), {self.n} in all": [estimate]})
        figure.set_size_inches(7.0, 1.6)
        (axes,) = figure.axes
        axes.set_xlim(0.0, 100.0)
        axes.axvline(100 * CHANCE, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        told = f"dashed: chance, p = {self.p_value:.2g}" if self.n else "no answer that decides yet"
        axes.set_title(told, loc="left", fontsize="medium")
        return figure


def count_answers(
    what: str,
    n_chosen: int,
    n: int,
    *,
    n_undecided: int = 0,
    n_listeners: int = 1,
    alternative: Literal["greater", "two-sided"] = "two-sided",
) -> Tally:
    """Return the share of `n_chosen` in `n` answers, with its interval and its p-value.

    Raises
    ------
    ParameterError
        If the counts aren't ``0 <= n_chosen <= n``.

    References
    ----------
    C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26(4), 1934; H. Burstein, "Approximation formulas for error risk and sample size in
    ABX testing", Journal of the AES 36(11), 1988.
    """
    if not 0 <= n_chosen <= n:
        raise ParameterError(f"n_chosen={n_chosen} must be in [0, n={n}]")
    share, low, high, p_value = float("nan"), 0.0, 1.0, 1.0
    if n:
        try:
            from scipy.stats import binomtest
        except ImportError as error:
            raise MissingExtraError("intervals of a listening test", extra="notebooks") from error
        interval = binomtest(n_chosen, n, CHANCE).proportion_ci(CONFIDENCE, method="exact")
        share, low, high = n_chosen / n, float(interval.low), float(interval.high)
        p_value = float(binomtest(n_chosen, n, CHANCE, alternative=alternative).pvalue)
    return Tally(what, n, n_chosen, n_undecided, n_listeners, share, low, high, p_value)


def tally_preference(answers: Sequence[Answer], first: str, second: str) -> Tally:
    """Count who prefers the second to the first."""
    decided = [each for each in answers if each.result]
    return count_answers(
        f"prefer {second} to {first}",
        sum(each.result == second for each in decided),
        len(decided),
        n_undecided=len(answers) - len(decided),
        n_listeners=len({each.listener for each in answers}),
    )


def tally_right(answers: Sequence[Answer], first: str, second: str) -> Tally:
    """Count who hears which of the two X is."""
    return count_answers(
        f"tell {second} from {first}",
        sum(each.result == "right" for each in answers),
        len(answers),
        n_listeners=len({each.listener for each in answers}),
        alternative="greater",
    )
