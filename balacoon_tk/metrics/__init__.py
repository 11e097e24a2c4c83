"""Measures of streamed speech: how soon it sounds, whether it goes on without a gap, how it sounds.

========================  ==================================================  ==================
file                      measures                                            needs
========================  ==================================================  ==================
``latency.py``            TTFA, continuity, underruns, work, from a trace     NumPy
``signal.py``             samples against those of the whole utterance        NumPy
``speech.py``             cepstra, pitch, PESQ and STOI against a reference   the extra ``eval``
``perception.py``         WER, CER, DNSMOS, PLCMOS: what a listener gets      the extra ``eval``
``bootstrap.py``          how far a mean over sentences can be trusted        NumPy
``sentences.py``          what to measure with                                nothing
``catalogue.py``          names and units of the figures of a report          nothing
``evaluation.py``         all of it over sentences, voices and strategies     what is measured
``report.py``             what it found, as a table, JSON, Markdown, picture  NumPy
========================  ==================================================  ==================
"""

from balacoon_tk.metrics.bootstrap import Estimate, PairedBootstrap
from balacoon_tk.metrics.catalogue import METRIC_GROUPS, METRICS, Metric
from balacoon_tk.metrics.evaluation import evaluate
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
    record_stream,
    rtf,
    ttfa_s,
    underrun_ms,
    underrun_s,
    work_ratio,
    xrt,
)
from balacoon_tk.metrics.perception import (
    DNSMOS,
    ErrorCount,
    cer,
    dnsmos,
    normalize_english,
    plcmos,
    transcribe,
    wer,
)
from balacoon_tk.metrics.report import Report, SummaryRow
from balacoon_tk.metrics.sentences import hard_sentences, plain_sentences, read_sentences
from balacoon_tk.metrics.signal import (
    boundary_click_db,
    log_spectral_distance_db,
    max_abs_diff,
    segmental_snr_db,
    snr_db,
)
from balacoon_tk.metrics.speech import PitchErrors, mel_cepstral_distortion_db, pesq, pitch_errors, stoi

__all__ = [
    "AUDIBLE_DBFS",
    "DNSMOS",
    "METRICS",
    "METRIC_GROUPS",
    "REFERENCE",
    "ErrorCount",
    "Estimate",
    "Metric",
    "PairedBootstrap",
    "PitchErrors",
    "Report",
    "StreamTrace",
    "SummaryRow",
    "TraceRecorder",
    "audio_s",
    "boundary_click_db",
    "c50",
    "c100",
    "c200",
    "cer",
    "continuity",
    "dnsmos",
    "evaluate",
    "first_audible_s",
    "hard_sentences",
    "lag_s",
    "log_spectral_distance_db",
    "max_abs_diff",
    "mel_cepstral_distortion_db",
    "normalize_english",
    "pesq",
    "pitch_errors",
    "plain_sentences",
    "playback",
    "plcmos",
    "read_sentences",
    "readiness_s",
    "record_stream",
    "rtf",
    "segmental_snr_db",
    "snr_db",
    "stoi",
    "transcribe",
    "ttfa_s",
    "underrun_ms",
    "underrun_s",
    "wer",
    "work_ratio",
    "xrt",
]
