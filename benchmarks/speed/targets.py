"""What was promised, and whether a result keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from speed.measure import ratio

Result = Mapping[str, Any]

_N_STREAMS = 16
_PREBUFFER_S = 0.1
_THREADS = "2"


@dataclass(frozen=True, slots=True)
class Target:
    """One promise; with two threads on the default voice where it says nothing else."""

    name: str
    part: str
    """The part of a result that it is checked on."""
    limit: float
    measured: Callable[[Result], float]
    """Gives the value from the data of that part."""
    at_least: bool = False
    unit: str = "x"

    def keeps(self, value: float) -> bool:
        """Say whether a value is within the limit."""
        return value >= self.limit if self.at_least else value <= self.limit


def _ttfa(engine: str, peer: str, text: str) -> Callable[[Result], float]:
    return lambda data: _engines_ratio(data, (engine, "ttfa_s"), (peer, "ttfa_s"), text)


def _engines_ratio(data: Result, ours: tuple[str, str], theirs: tuple[str, str], text: str) -> float:
    engines = data["threads"][_THREADS]
    first, second = (engines[name]["texts"][text][field] for name, field in (ours, theirs))
    return ratio(first, second)


def _encoder(text: str) -> Callable[[Result], float]:
    def measured(data: Result) -> float:
        seconds = data["threads"][_THREADS]["encoder"][text]
        return ratio(seconds["voice"], seconds["trained"])

    return measured


def _whole(data: Result) -> float:
    seconds = data["threads"][_THREADS]["whole"]["440"]
    return ratio(seconds["voice"], seconds["piper-tts"])


def _continuity(data: Result) -> float:
    """Return the share of utterances without a gap, of both frontends and all texts, on one thread.

    They are cut as the calibration says, whose factor of safety is 2.
    """
    engines = data["threads"]["1"]
    late = [
        seconds
        for name in ("balacoon_tk", "balacoon_tk, gruut")
        for text in engines[name]["texts"].values()
        for seconds in text["underrun_s"]
    ]
    return sum(seconds == 0 for seconds in late) / len(late)


def _streams(data: Result) -> float:
    (point,) = (point for point in data["spread"] if point["n_streams"] == _N_STREAMS)
    return sum(seconds <= _PREBUFFER_S for seconds in point["underrun_s"]) / len(point["underrun_s"])


def _sizes_ratio(data: Result) -> float:
    ours, theirs = (data[name]["packages_mb"] + data[name]["voice_mb"] for name in ("balacoon_tk", "torch"))
    return float(ours / theirs)


def _own_share(data: Result) -> float:
    shares = data["threads"][_THREADS]["shares"]
    return ratio(shares["rest"], shares["total"])


def _gruut(data: Result) -> float:
    return median(data["frontend"]["gruut"]["440"])


TARGETS: Final = (
    *(
        Target(
            f"TTFA from text, {frontend}, {text} phonemes, over {peer}",
            "end_to_end",
            limit,
            _ttfa(engine, peer, text),
        )
        for text, limits in (
            ("60", {"streaming-vits": 0.25, "piper-tts": 0.15}),
            ("440", {"streaming-vits": 0.5, "piper-tts": 0.12}),
        )
        for peer, limit in limits.items()
        for frontend, engine in (("espeak", "balacoon_tk"), ("gruut", "balacoon_tk, gruut"))
    ),
    Target("encoder over the trained one, 60 phonemes", "stages", 0.55, _encoder("60")),
    Target("encoder over the trained one, 440 phonemes", "stages", 0.65, _encoder("440")),
    Target("whole utterance over piper-tts's own inference, 440 phonemes", "stages", 0.85, _whole),
    Target(
        "streamed utterance in total over piper-tts whole, 440 phonemes",
        "end_to_end",
        0.95,
        lambda data: _engines_ratio(data, ("balacoon_tk", "total_s"), ("piper-tts", "total_s"), "440"),
    ),
    Target(
        "streamed utterance in total over torch whole, 440 phonemes",
        "end_to_end",
        1 / 1.4,
        lambda data: _engines_ratio(data, ("balacoon_tk", "total_s"), ("torch", "total_s"), "440"),
    ),
    Target("installed size over that of torch", "sizes", 1 / 3, _sizes_ratio),
    Target(
        "streamed samples, to whole ones",
        "fidelity",
        1e-5,
        lambda data: float(data["engines"]["balacoon_tk"]["max_abs_diff"]),
        unit="",
    ),
    Target(
        "clicks at the seams of a minute",
        "fidelity",
        0.0,
        lambda data: float(data["engines"]["balacoon_tk"]["n_clicks"]),
        unit="",
    ),
    Target(
        "continuity at real time on one thread, safety factor of 2",
        "end_to_end",
        1.0,
        _continuity,
        at_least=True,
    ),
    Target(
        f"C100 of {_N_STREAMS} simultaneous streams, started within seconds",
        "streams",
        1.0,
        _streams,
        at_least=True,
    ),
    Target("share of a stream outside of frontend and graphs, 440 phonemes", "stages", 0.02, _own_share),
    Target("gruut, warm, 440 phonemes", "stages", 0.003, _gruut, unit="s"),
    Target("import balacoon_tk", "start", 0.15, lambda data: median(data["import_s"]), unit="s"),
    Target(
        "a warm TTS() over ONNX Runtime loading its graphs",
        "start",
        1.2,
        lambda data: ratio(data["tts_s"], data["graphs_s"]),
    ),
)


def check(parts: Mapping[str, Result], targets: Sequence[Target] = TARGETS) -> list[dict[str, Any]]:
    """Return each target with its value and whether it is met; those of a missing part are left out."""
    rows = []
    for target in targets:
        if target.part not in parts:
            continue
        try:
            # A quick run has fewer texts and streams than the targets are about.
            value = target.measured(parts[target.part])
        except (KeyError, ValueError):
            continue  # a part that was measured on less than the target asks for
        rows.append(
            {
                "name": target.name,
                "limit": target.limit,
                "at_least": target.at_least,
                "unit": target.unit,
                "value": value,
                "met": target.keeps(value),
            }
        )
    return rows
