"""Measure how fast a voice is on this machine: its stages, the first sound, and the whole.

The first sentence is timed stage by stage, and the whole text by every strategy in turn; figures are
medians. TTFA is the time from the call with the text to the first audible sample.

  balacoon-tk bench
  balacoon-tk bench -v voices/joe --threads 1 --json
"""

from __future__ import annotations

import argparse

from balacoon_tk._files import json_text
from balacoon_tk.cli._common import (
    STANDARD_STREAM,
    ProgressLine,
    UsageError,
    add_text_arguments,
    add_voice_arguments,
    open_tts,
    positive_int,
    read_text,
    write_text,
)

NAME = "bench"
HELP = "measure how fast a voice is on this machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to measure."""
    add_text_arguments(parser)
    add_voice_arguments(parser)
    parser.add_argument(
        "--rounds", type=positive_int, default=5, metavar="N", help="timed runs of each (default: 5)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of every run (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default=STANDARD_STREAM, help="write there (default: stdout)"
    )


def run(args: argparse.Namespace) -> None:
    """Measure."""
    from balacoon_tk.metrics.benchmark import BENCHMARK_TEXT, benchmark_voice

    if args.text and args.file is not None:
        raise UsageError("give a TEXT or a file with -f FILE, and not both")
    text = read_text(args) if args.text or args.file is not None else BENCHMARK_TEXT
    line = ProgressLine()
    speed = benchmark_voice(
        open_tts(args),
        text,
        n_rounds=args.rounds,
        seed=args.seed,
        speaker=args.speaker,
        progress=lambda n_done, n_all: line.bar(n_done / n_all, f"{n_done} of {n_all} runs"),
    )
    line.close()
    head = (
        f"{speed.comparison.voice}, {speed.comparison.audio_s:.2f} s of audio, first sentence of "
        f"{speed.n_phonemes} phonemes, median of {speed.n_rounds}\n\n"
    )
    write_text(args.output, json_text(speed.to_dict()) if args.json else f"{head}{speed.table()}\n")
