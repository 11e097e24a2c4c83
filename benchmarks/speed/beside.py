"""A list of sentences by several engines in turn, with intervals; what isn't installed is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from balacoon_tk.metrics import Estimate, PairedBootstrap, StreamTrace, audio_s, ttfa_s, underrun_s
from balacoon_tk.metrics.runs import rotated
from balacoon_tk.metrics.sentences import check_sentences
from peers import PEERS, missing_packages
from speed.texts import WARM_UP
from speed.workers import Engine

_MS = 1e3


@dataclass(frozen=True, slots=True)
class Beside:
    """What each engine took for each sentence."""

    traces: Mapping[str, Sequence[StreamTrace]]
    """A trace for each sentence, by engine."""
    missing: Mapping[str, str]
    """Engines that could not speak, and why."""

    def to_markdown(self) -> str:
        """Return a table with intervals (95 %, paired bootstrap), and a line for each engine that is missing.

        The difference is to the first engine, sentence by sentence.
        """
        lines = []
        if self.traces:
            first, *_ = self.traces.values()
            # In pairs: the sentences differ far more from each other than the engines do.
            bootstrap = PairedBootstrap(len(first))
            baseline = [_MS * ttfa_s(trace) for trace in first]
            lines += [
                "| engine | TTFA (ms) | TTFA less the first's (ms) | RTF | continuity |",
                "|---|---:|---:|---:|---:|",
            ]
            for number, (name, traces) in enumerate(self.traces.items()):
                early = [_MS * ttfa_s(trace) for trace in traces]
                later = bootstrap.difference((early, None), (baseline, None))
                rtf = bootstrap.ratio([t.total_s for t in traces], [audio_s(t) for t in traces])
                steady = bootstrap.ratio([float(underrun_s(t) == 0.0) for t in traces])
                cells = [
                    _cell(bootstrap.ratio(early), ".0f"),
                    _cell(later, "+.0f") if number else "",
                    _cell(rtf, ".3f"),
                    _cell(steady, ".2f"),
                ]
                lines.append(f"| {name} | {' | '.join(cells)} |")
            lines.append("")
        return "\n".join([*lines, *(f"- {name}: {why}" for name, why in self.missing.items())]) + "\n"


def speak_beside(
    sentences: Sequence[str],
    names: Sequence[str] = tuple(PEERS),
    *,
    n_threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Beside:
    """Speak each sentence by each engine in turn, each in a process of its own.

    Parameters
    ----------
    sentences : sequence of str
    names : sequence of str
        Of `peers.PEERS`; those that aren't installed, or can't be loaded, are left out and named.
    n_threads : int
        Threads for each.
    progress : callable, optional
        Called with the number of utterances done and of all.

    Raises
    ------
    ParameterError
        If there is no sentence, or one holds nothing.
    """
    texts = check_sentences(sentences)
    traces: dict[str, list[StreamTrace]] = {}
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        engines: dict[str, Engine] = {}
        for name in names:
            packages = missing_packages(name)
            if packages:
                missing[name] = f'not installed ({", ".join(packages)}): pip install "balacoon_tk[peers]"'
                continue
            # Installed and yet not to be loaded: a model may be missing. It is named, and the others speak.
            try:
                engines[name] = Engine(name, n_threads)
            except RuntimeError as error:
                missing[name] = str(error)
                continue
            stack.callback(engines[name].close)
            traces[name] = []
        for k, sentence in enumerate(texts):
            for n_done, name in enumerate(rotated(list(engines), k), k * len(engines) + 1):
                traces[name].append(engines[name].speak(sentence, warm_up=WARM_UP).trace)
                if progress is not None:
                    progress(n_done, len(texts) * len(engines))
    return Beside(traces, missing)


def _cell(estimate: Estimate, form: str) -> str:
    value, low, high = (format(x, form) for x in (estimate.value, estimate.low, estimate.high))
    return value if low == high else f"{value} [{low}, {high}]"
