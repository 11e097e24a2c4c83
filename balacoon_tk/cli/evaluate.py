"""Speak a list of sentences by each voice and strategy, and report figures with confidence intervals.

Without a file it takes the 100 plain sentences that come with the toolkit. With -o the results are kept
in that folder as they come; the same command goes on there after it was stopped, and no sentence is
done twice. Metrics other than latency and signal need the extra 'eval'.

  balacoon-tk evaluate -v voices/joe -v joe-int8.addon -o out/evaluation
  balacoon-tk evaluate -f sentences.txt --metrics latency,signal,wer,dnsmos --strategies full,stateful
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from balacoon_tk.cli._common import (
    STANDARD_STREAM,
    ProgressLine,
    UsageError,
    add_chunk_argument,
    positive_int,
    say,
)

if TYPE_CHECKING:
    from balacoon_tk.metrics import Report

NAME = "evaluate"
HELP = "measure voices and strategies over a list of sentences"

_ALL = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to measure, with what, and where to keep it."""
    parser.add_argument(
        "-f",
        "--file",
        metavar="FILE",
        help="sentences, a line each, # begins a comment; '-' reads stdin (default: 100 that come with it)",
    )
    parser.add_argument("--hard", action="store_true", help="take the hard sentences that come with it")
    parser.add_argument("--limit", type=positive_int, metavar="N", help="take only so many, evenly spread")
    parser.add_argument(
        "-v",
        "--voice",
        action="append",
        metavar="VOICE",
        help="voice folder or .addon file; give it again for more (default: the default voice)",
    )
    parser.add_argument("--speaker", metavar="NAME", help="speaker of voices that have several")
    parser.add_argument("--frontend", default="auto", metavar="NAME", help="what turns text into phonemes")
    parser.add_argument("--threads", type=positive_int, metavar="N", help="threads for one run of a graph")
    parser.add_argument(
        "--strategies",
        metavar="A,B",
        help="which to evaluate with full (default: all that every voice can do)",
    )
    parser.add_argument(
        "--metrics",
        default="latency,signal",
        metavar="A,B",
        help="latency, signal, mcd, pitch, pesq, stoi, wer, dnsmos, plcmos, or all (default: latency,signal)",
    )
    parser.add_argument("-o", "--output", metavar="DIR", help="keep results and the report in this folder")
    parser.add_argument("--json", action="store_true", help="print the report as JSON instead of Markdown")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of every run (default: 0)")
    parser.add_argument(
        "--rounds", type=positive_int, default=1, metavar="N", help="timed runs of each (default: 1)"
    )
    parser.add_argument(
        "--judge-all",
        action="store_true",
        help="judge also audio that is the same as another to one step of 16 bits",
    )
    add_chunk_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Evaluate and print the report."""
    from balacoon_tk.metrics import METRIC_GROUPS, evaluate

    line = ProgressLine()
    bar = _Remaining(line)
    try:
        report = evaluate(
            args.voice or [None],
            _sentences(args),
            None if args.strategies is None else args.strategies.split(","),
            metrics=METRIC_GROUPS if args.metrics == _ALL else args.metrics.split(","),
            folder=args.output,
            seed=args.seed,
            speaker=args.speaker,
            chunk_frames=args.chunk_frames,
            n_rounds=args.rounds,
            judge_all=args.judge_all,
            frontend=args.frontend,
            n_threads=args.threads,
            progress=bar.show,
        )
    finally:
        line.close()
    _print(report, as_json=args.json)
    if args.output is not None:
        say(f"wrote report.md, report.json and what was measured to {args.output}")


def _sentences(args: argparse.Namespace) -> tuple[str, ...]:
    from balacoon_tk.metrics import hard_sentences, plain_sentences, read_sentences
    from balacoon_tk.metrics.sentences import decode_sentences

    if args.hard and args.file is not None:
        raise UsageError("give --hard or a file with -f FILE, not both")
    if args.file is not None:
        sentences = (
            decode_sentences(sys.stdin.buffer.read(), "stdin")
            if args.file == STANDARD_STREAM
            else read_sentences(args.file)
        )
    elif args.hard:
        sentences = tuple(sentence for kind in hard_sentences().values() for sentence in kind)
    else:
        sentences = plain_sentences()
    if args.limit is None or args.limit >= len(sentences):
        return sentences
    return tuple(sentences[i * len(sentences) // args.limit] for i in range(args.limit))


def _print(report: Report, *, as_json: bool) -> None:
    sys.stdout.write(report.to_json() if as_json else report.to_markdown())


class _Remaining:
    """Shows how much is done, and how long the rest will take at the pace so far."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line
        self._start: tuple[float, int] | None = None

    def show(self, n_done: int, n_all: int) -> None:
        """Draw the bar; sentences that were in the folder already set no pace."""
        now_s = time.monotonic()
        if self._start is None:
            self._start = (now_s, n_done)
        start_s, n_before = self._start
        rest = ""
        if n_done > n_before:
            rest_s = (now_s - start_s) / (n_done - n_before) * (n_all - n_done)
            rest = f", {rest_s / 60:.0f} min left" if rest_s >= 90 else f", {rest_s:.0f} s left"
        self._line.bar(n_done / n_all, f"{n_done} of {n_all} sentences{rest}")
