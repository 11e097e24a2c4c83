"""Every figure that a report summarises: its name, its unit, and how it is made of the sentences'."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that is summarised over sentences."""

    name: str
    group: str
    """What `evaluate` is asked for."""
    label: str
    unit: str
    better: int
    """1 if more is better, -1 if less is, 0 if neither."""
    ratio: tuple[str, str] | None = None
    """Fields whose sums are divided; None for the mean of the field `name`."""
    digits: int = 2
    """After the decimal point, for a person."""


METRICS: tuple[Metric, ...] = (
    Metric("ttfa_ms", "latency", "TTFA", "ms", -1, digits=1),
    Metric("rtf", "latency", "RTF", "", -1, ("total_s", "audio_s"), digits=4),
    Metric("work_ratio", "latency", "work ratio", "", -1, ("total_s", "reference_total_s")),
    Metric("underrun_ms", "latency", "underrun", "ms", -1, digits=1),
    Metric("continuity", "latency", "continuity", "", 1),
    Metric("c50", "latency", "C50", "", 1),
    Metric("c100", "latency", "C100", "", 1),
    Metric("c200", "latency", "C200", "", 1),
    Metric("lag_ms", "latency", "lag", "ms", -1, digits=1),
    Metric("n_chunks", "latency", "chunks", "", 0, digits=1),
    Metric("max_abs_diff", "signal", "largest difference", "", -1, digits=7),
    Metric("snr_db", "signal", "SNR", "dB", 1, digits=1),
    Metric("segmental_snr_db", "signal", "segmental SNR", "dB", 1, digits=1),
    Metric("log_spectral_distance_db", "signal", "log-spectral distance", "dB", -1, digits=4),
    Metric("click_db", "signal", "boundary click", "dB", -1, digits=3),
    Metric("mel_cepstral_distortion_db", "mcd", "mel-cepstral distortion", "dB", -1, digits=4),
    Metric("f0_rmse_hz", "pitch", "F0 RMSE", "Hz", -1),
    Metric("f0_rmse_cents", "pitch", "F0 RMSE", "cents", -1),
    Metric("voicing_error", "pitch", "voicing error", "", -1, digits=4),
    Metric("pesq", "pesq", "PESQ", "", 1),
    Metric("stoi", "stoi", "STOI", "", 1, digits=4),
    Metric("wer", "wer", "WER", "", -1, ("n_word_errors", "n_words"), digits=4),
    Metric("cer", "wer", "CER", "", -1, ("n_char_errors", "n_chars"), digits=4),
    Metric("dnsmos", "dnsmos", "DNSMOS overall", "", 1),
    Metric("dnsmos_signal", "dnsmos", "DNSMOS signal", "", 1),
    Metric("dnsmos_background", "dnsmos", "DNSMOS background", "", 1),
    Metric("dnsmos_p808", "dnsmos", "DNSMOS P.808", "", 1),
    Metric("plcmos", "plcmos", "PLCMOS", "", 1),
)
"""Every metric that `evaluate` summarises, by the group that it is asked for with."""

METRIC_GROUPS: tuple[str, ...] = tuple(dict.fromkeys(metric.group for metric in METRICS))
"""What `evaluate` can measure; all but ``latency`` and ``signal`` need the extra `eval`."""
