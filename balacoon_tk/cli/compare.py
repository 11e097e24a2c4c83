"""Speak a text whole and streamed, and compare speed and samples.

Every strategy runs once to warm up and then several times, in turn with the others; figures are
medians. TTFA is the time from the call with the text to the first audible sample; work is the time
taken over that of the whole utterance in one piece; max diff is the largest difference to its samples.

  balacoon-tk compare "Hello there."
  balacoon-tk compare -f text.txt --json -o report.json --plot compare.png --wav-dir out/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from balacoon_tk._messages import tell
from balacoon_tk.cli._common import (
    RUNTIME,
    STANDARD_STREAM,
    ProgressLine,
    add_options,
    chosen,
    open_tts,
    read_text,
    say,
    write_report,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to compare and what to keep of it."""
    add_options(
        parser,
        "text",
        "file",
        "voice",
        "sha256",
        "frontend",
        *RUNTIME,
        "speaker",
        "json",
        "output",
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the comparison (PNG, PDF or SVG)")
    parser.add_argument("--wav-dir", metavar="DIR", help="keep the audio of each strategy as a WAV file")
    add_options(parser, "rounds", "seed", "chunk-frames", "strategies")


def run(args: argparse.Namespace) -> None:
    """Compare, report, and keep what was asked for."""
    from balacoon_tk.metrics.comparison import compare
    from balacoon_tk.metrics.runs import first_sentence

    text = read_text(args)
    if args.plot is not None:
        # What can't be drawn is refused before the comparison has taken its time.
        from balacoon_tk.plots import check_figure_path

        check_figure_path(args.plot)
    tts = open_tts(args)
    first_sentence(tts, text)  # raises where there is none, before anything is run and warned of
    with ProgressLine() as line:
        settings = chosen(args, "strategies", "seed", "speaker", "chunk_frames")
        comparison = compare(tts, text, n_rounds=args.rounds, progress=line.runs, **settings)
    # Files come before the report: who reads the report finds them in place.
    if args.wav_dir is not None:
        from balacoon_tk.audio import write_wav

        folder = Path(args.wav_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for name, result in comparison.strategies.items():
            write_wav(folder / f"{name}.wav", result.samples, comparison.sample_rate)
            say(f"wrote {folder / name}.wav")
    if args.plot is not None:
        from balacoon_tk.plots import comparison_figure, save_figure

        save_figure(comparison_figure(comparison), args.plot)
        say(f"wrote {args.plot}")
    head = f"{comparison.voice}, {comparison.audio_s:.2f} s of audio, median of {args.rounds}\n"
    table = head + comparison.table()
    write_report(comparison.to_dict(), table, as_json=args.json, output=args.output)
    if args.output != STANDARD_STREAM:
        # The person who waited sees the figures too, wherever the report went.
        tell(table)
        say(f"wrote {args.output}")
