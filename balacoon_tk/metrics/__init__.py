"""Measures of streamed speech: how soon it sounds, and whether it goes on without a gap."""

from balacoon_tk.metrics.latency import (
    AUDIBLE_DBFS,
    StreamTrace,
    TraceRecorder,
    audio_s,
    continuity,
    playback,
    rtf,
    ttfa_s,
    underrun_s,
    xrt,
)

__all__ = [
    "AUDIBLE_DBFS",
    "StreamTrace",
    "TraceRecorder",
    "audio_s",
    "continuity",
    "playback",
    "rtf",
    "ttfa_s",
    "underrun_s",
    "xrt",
]
