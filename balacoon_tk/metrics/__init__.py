"""Measures of streamed speech: how soon it sounds, whether it goes on without a gap, how it sounds.

========================  ==================================================  ==================
file                      measures                                            needs
========================  ==================================================  ==================
``registry.py``           what a metric is, and how to add one                nothing
``trace.py``              when a stream handed over what                      NumPy
``latency.py``            TTFA, continuity, underruns, work, from a trace     NumPy
``signal.py``             samples against those of the whole utterance        NumPy
``speech.py``             cepstra, pitch, PESQ and STOI against a reference   the extra ``eval``
``perception.py``         WER, CER, DNSMOS, PLCMOS: what a listener gets      the extra ``eval``
``bootstrap.py``          how far a mean over sentences can be trusted        NumPy
``sentences.py``          what to measure with                                nothing
``comparison.py``         one text by each strategy, in turn                  a voice
``sweeps.py``             one setting moved over a range                      a voice
``live.py``               text that comes in pieces, and when it is heard     a voice
``evaluation.py``         all of it over sentences, voices and strategies     what is measured
``report.py``             what it found, as a table, JSON, Markdown, picture  NumPy
========================  ==================================================  ==================

What speaks is imported when it is asked for: to look at a trace needs no ONNX Runtime.
"""

from typing import TYPE_CHECKING

from balacoon_tk._lazy import lazy_names
from balacoon_tk.metrics.bootstrap import Estimate, PairedBootstrap
from balacoon_tk.metrics.evaluation import evaluate
from balacoon_tk.metrics.latency import (
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
from balacoon_tk.metrics.live import LiveTrace, Piece, record_live, simulate_writer
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
from balacoon_tk.metrics.registry import Metric, all_metrics, metric, metric_groups
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
from balacoon_tk.metrics.trace import AUDIBLE_DBFS, REFERENCE, StreamTrace, TraceRecorder, record_stream

if TYPE_CHECKING:
    from balacoon_tk.metrics.comparison import compare
    from balacoon_tk.metrics.sweeps import sentence_frames, sweep_chunks, sweep_lengths, sweep_overlap

__all__ = [
    "AUDIBLE_DBFS",
    "DNSMOS",
    "METRICS",
    "METRIC_GROUPS",
    "REFERENCE",
    "ErrorCount",
    "Estimate",
    "LiveTrace",
    "Metric",
    "PairedBootstrap",
    "Piece",
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
    "compare",
    "continuity",
    "dnsmos",
    "evaluate",
    "first_audible_s",
    "hard_sentences",
    "lag_s",
    "log_spectral_distance_db",
    "max_abs_diff",
    "mel_cepstral_distortion_db",
    "metric",
    "normalize_english",
    "pesq",
    "pitch_errors",
    "plain_sentences",
    "playback",
    "plcmos",
    "read_sentences",
    "readiness_s",
    "record_live",
    "record_stream",
    "rtf",
    "segmental_snr_db",
    "sentence_frames",
    "simulate_writer",
    "snr_db",
    "stoi",
    "sweep_chunks",
    "sweep_lengths",
    "sweep_overlap",
    "transcribe",
    "ttfa_s",
    "underrun_ms",
    "underrun_s",
    "wer",
    "work_ratio",
    "xrt",
]

# Complete, since every file that holds a metric has been imported above.
METRICS: tuple[Metric, ...] = all_metrics()
"""Every metric that comes with the toolkit, in the order of a report."""

METRIC_GROUPS: tuple[str, ...] = metric_groups()
"""What `evaluate` can measure; all but ``latency`` and ``signal`` need the extra `eval`."""

# These speak, and so bring ONNX Runtime with them.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "comparison": ("compare",),
        "sweeps": ("sentence_frames", "sweep_chunks", "sweep_lengths", "sweep_overlap"),
    },
)
