"""Measure how fast a voice is on this machine.

The first sentence is timed stage by stage, and the whole text by every strategy in turn; figures are
medians. TTFA is the time from the call with the text to the first audible sample.

  balacoon-tk bench
  balacoon-tk bench -v voices/joe --threads 1 --json
"""

from __future__ import annotations

import argparse

from balacoon_tk.cli._common import (
    RUNTIME,
    ProgressLine,
    add_options,
    chosen,
    open_tts,
    read_text,
    write_report,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to measure."""
    add_options(parser, "text", "file", "voice", "sha256", "frontend", *RUNTIME, "speaker")
    add_options(parser, "rounds", "seed", "json", "output")


def run(args: argparse.Namespace) -> None:
    """Measure."""
    from balacoon_tk.metrics.comparison import BENCHMARK_TEXT, benchmark_voice

    # Without a text it is the same sentence for everybody, so that figures of two machines can be compared.
    text = read_text(args, default=BENCHMARK_TEXT)
    with ProgressLine() as line:
        settings = chosen(args, "seed", "speaker")
        speed = benchmark_voice(open_tts(args), text, n_rounds=args.rounds, progress=line.runs, **settings)
    # A table doesn't say what was timed; JSON has it in its fields.
    head = (
        f"{speed.comparison.voice}, {speed.comparison.audio_s:.2f} s of audio, first sentence of "
        f"{speed.n_phonemes} phonemes, median of {speed.n_rounds}\n\n"
    )
    write_report(speed.to_dict(), head + speed.table(), as_json=args.json, output=args.output)
