"""What a program that serves streams counts of them, in the text format that Prometheus reads."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterator, Mapping

from balacoon_tk.runtime.admission import StreamCounts

_TTFA_S = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
_LABEL = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Figures:
    """Counts since a program began; for one thread.

    Attributes
    ----------
    requests : Counter of (protocol, outcome)
        Utterances that are over.
    audio_s : float
        Seconds of audio that were made.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.audio_s = 0.0
        self._ttfa = [0] * (len(_TTFA_S) + 1)
        self._ttfa_sum_s = 0.0

    def add_ttfa(self, ttfa_s: float) -> None:
        """Note how long after its text the first audio of a stream came."""
        self._ttfa[bisect.bisect_left(_TTFA_S, ttfa_s)] += 1
        self._ttfa_sum_s += ttfa_s

    def to_text(self, streams: Mapping[str, StreamCounts]) -> str:
        """Return all of it, and the streams that each voice has now."""
        return "".join(f"{line}\n" for line in self._lines(streams))

    def _lines(self, streams: Mapping[str, StreamCounts]) -> Iterator[str]:
        yield "# TYPE balacoon_tk_requests_total counter"
        for (protocol, outcome), n in self.requests.items():
            yield f'balacoon_tk_requests_total{{protocol="{protocol}",outcome="{outcome}"}} {n}'
        yield "# TYPE balacoon_tk_streams gauge"
        for name, counts in streams.items():
            for state, n in (("playing", counts.n_playing), ("waiting", counts.n_waiting)):
                yield f'balacoon_tk_streams{{voice="{name.translate(_LABEL)}",state="{state}"}} {n}'
        yield "# TYPE balacoon_tk_audio_seconds_total counter"
        yield f"balacoon_tk_audio_seconds_total {self.audio_s}"
        yield "# TYPE balacoon_tk_ttfa_seconds histogram"
        n_below = 0
        for limit, n in zip((*_TTFA_S, "+Inf"), self._ttfa, strict=True):
            n_below += n
            yield f'balacoon_tk_ttfa_seconds_bucket{{le="{limit}"}} {n_below}'
        yield f"balacoon_tk_ttfa_seconds_sum {self._ttfa_sum_s}"
        yield f"balacoon_tk_ttfa_seconds_count {n_below}"
