"""Measures of streamed speech: how soon it sounds, whether it goes on without a gap, how it sounds.

========================  ==================================================  ==================
file                      measures                                            needs
========================  ==================================================  ==================
``latency.py``            TTFA, continuity, underruns, work, from a trace     NumPy
``signal.py``             samples against those of the whole utterance        NumPy
========================  ==================================================  ==================
"""

from balacoon_tk.metrics.latency import (
    AUDIBLE_DBFS,
    REFERENCE,
    StreamTrace,
    TraceRecorder,
    audio_s,
    c50,
    c100,
    c200,
    continuity,
    first_audible_s,
    lag_s,
    playback,
    readiness_s,
    rtf,
    ttfa_s,
    underrun_ms,
    underrun_s,
    work_ratio,
    xrt,
)
from balacoon_tk.metrics.signal import (
    boundary_click_db,
    log_spectral_distance_db,
    max_abs_diff,
    segmental_snr_db,
    snr_db,
)

__all__ = [
    "AUDIBLE_DBFS",
    "REFERENCE",
    "StreamTrace",
    "TraceRecorder",
    "audio_s",
    "boundary_click_db",
    "c50",
    "c100",
    "c200",
    "continuity",
    "first_audible_s",
    "lag_s",
    "log_spectral_distance_db",
    "max_abs_diff",
    "playback",
    "readiness_s",
    "rtf",
    "segmental_snr_db",
    "snr_db",
    "ttfa_s",
    "underrun_ms",
    "underrun_s",
    "work_ratio",
    "xrt",
]
