"""Why some mutants live: by file, the line, what it becomes (`fnmatch` patterns), and the reason."""

_LENGTHS_WERE_COMPARED = "the same: both lengths were compared before"

REASONS: tuple[tuple[str, str, str, str], ...] = (
    (
        "balacoon_tk/decoder/chunking.py",
        "if stop >= n_frames or SLIVERS_PER_CHUNK * (n_frames - stop + lag_frames) < size:",
        "if stop > n_frames or *",
        "the same: what follows sets `stop` to `n_frames`, which it is already",
    ),
    (
        "balacoon_tk/decoder/overlap_trim.py",
        "for i, (samples, window) in enumerate(zip(decoded, windows, strict=True)):",
        "*strict=False*",
        _LENGTHS_WERE_COMPARED,
    ),
    (
        "balacoon_tk/decoder/overlap_trim.py",
        "pairs = [pair for pair in zip(decoded, windows, strict=True) if pair[1].n_kept]",
        "*strict=False*",
        _LENGTHS_WERE_COMPARED,
    ),
    (
        "balacoon_tk/decoder/overlap_trim.py",
        "joined = np.empty((windows[-1].keep_stop - windows[0].keep_start) * hop_length, decoded[0].dtype)",
        "*decoded[[] -1].dtype)",
        "the same: all have one dtype, or were refused",
    ),
)
