"""Speak the same text by each strategy in turn, and compare speed and samples.

Every strategy runs once to warm up and then several times, in turn with the others; figures are
medians. TTFA is the time from the call with the text to the first audible sample; work is the time
taken over that of the whole utterance in one piece; max diff is the largest difference to its samples.

  balacoon-tk compare "Hello there."
  balacoon-tk compare -f text.txt --json -o report.json --plot compare.png --wav-dir out/
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from balacoon_tk._files import json_text
from balacoon_tk.cli._common import (
    STANDARD_STREAM,
    ProgressLine,
    add_chunk_argument,
    add_text_arguments,
    add_voice_arguments,
    open_tts,
    positive_int,
    read_text,
    say,
    write_text,
)

if TYPE_CHECKING:
    from balacoon_tk.metrics.compare import Comparison

NAME = "compare"
HELP = "speak a text whole and streamed, and compare speed and samples"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to compare and what to keep of it."""
    add_text_arguments(parser)
    add_voice_arguments(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default=STANDARD_STREAM,
        help="write the report there (default: stdout)",
    )
    parser.add_argument("--json", action="store_true", help="write the report as JSON instead of a table")
    parser.add_argument("--plot", metavar="FILE", help="draw the comparison (PNG, PDF or SVG)")
    parser.add_argument("--wav-dir", metavar="DIR", help="keep the audio of each strategy as a WAV file")
    parser.add_argument(
        "--rounds", type=positive_int, default=5, metavar="N", help="timed runs of each (default: 5)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of every run (default: 0)")
    add_chunk_argument(parser)
    parser.add_argument(
        "--strategies", metavar="A,B", help="which to compare with full (default: all that the voice can do)"
    )


def run(args: argparse.Namespace) -> None:
    """Compare, report, and keep what was asked for."""
    from balacoon_tk.metrics.compare import compare

    text = read_text(args)
    if args.plot is not None:
        _check_plot(args.plot)
    line = ProgressLine()
    comparison = compare(
        open_tts(args),
        text,
        strategies=None if args.strategies is None else args.strategies.split(","),
        n_rounds=args.rounds,
        seed=args.seed,
        speaker=args.speaker,
        chunk_frames=args.chunk_frames,
        progress=lambda n_done, n_all: line.bar(n_done / n_all, f"{n_done} of {n_all} runs"),
    )
    line.close()
    # Files come before the report: who reads the report finds them in place.
    if args.wav_dir is not None:
        _write_wavs(comparison, Path(args.wav_dir))
    if args.plot is not None:
        _plot(comparison, Path(args.plot))
    table = (
        f"{comparison.voice}, {comparison.audio_s:.2f} s of audio, median of {args.rounds}\n"
        f"{comparison.table()}\n"
    )
    write_text(args.output, json_text(comparison.to_dict()) if args.json else table)
    if args.output != STANDARD_STREAM:
        sys.stderr.write(table)
        say(f"wrote {args.output}")


def _check_plot(path: str) -> None:
    """Refuse what can't be drawn before the comparison has taken its time."""
    from balacoon_tk.plots import check_figure_path

    check_figure_path(path)


def _write_wavs(comparison: Comparison, folder: Path) -> None:
    from balacoon_tk.audio import write_wav

    folder.mkdir(parents=True, exist_ok=True)
    for name, result in comparison.strategies.items():
        path = folder / f"{name}.wav"
        write_wav(path, result.samples, comparison.sample_rate)
        say(f"wrote {path}")


def _plot(comparison: Comparison, path: Path) -> None:
    from balacoon_tk.plots import comparison_figure, save_figure

    save_figure(comparison_figure(comparison), path)
    say(f"wrote {path}")
