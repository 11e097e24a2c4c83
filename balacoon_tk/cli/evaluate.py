"""Measure voices and strategies over a list of sentences.

Each voice speaks each sentence by each strategy; figures come with confidence intervals. Without a file
it takes the 100 plain sentences that come with the toolkit. With -o the results are kept in that folder
as they come; the same command goes on there after it was stopped, and no sentence is done twice. Metrics
other than latency and signal need the extra 'eval'.

  balacoon-tk evaluate -v voices/joe -v joe-int8.addon -o out/evaluation
  balacoon-tk evaluate -f sentences.txt --metrics latency,signal,wer,dnsmos --strategies full,stateful
"""

from __future__ import annotations

import argparse
import sys
import time

from balacoon_tk.cli._common import (
    STANDARD_STREAM,
    ProgressLine,
    UsageError,
    add_options,
    chosen,
    comma_separated,
    positive_int,
    say,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to measure, with what, and where to keep it."""
    add = parser.add_argument
    sentences = "sentences, a line each, # begins a comment; '-' reads stdin (default: 100 that come with it)"
    add("-f", "--file", metavar="FILE", help=sentences)
    add("--hard", action="store_true", help="take the hard sentences that come with it")
    add("--limit", type=positive_int, metavar="N", help="take only so many, evenly spread")
    voices = "voice folder or .addon file; give it again for more (default: the default voice)"
    add("-v", "--voice", action="append", metavar="VOICE", help=voices)
    add_options(parser, "speaker", "frontend", "threads", "backend", "strategies")
    metrics = "latency, signal, mcd, pitch, pesq, stoi, wer, dnsmos, plcmos, or all (default: latency,signal)"
    add("--metrics", type=comma_separated, default=["latency", "signal"], metavar="A,B", help=metrics)
    add("-o", "--output", metavar="DIR", help="keep results and the report in this folder")
    add_options(parser, "json", "seed", "rounds", "chunk-frames")
    parser.set_defaults(rounds=1)  # the sentences are many, and their medians are what counts
    judge_all = "judge also audio that is the same as another to one step of 16 bits"
    add("--judge-all", action="store_true", help=judge_all)


def run(args: argparse.Namespace) -> None:
    """Evaluate and print the report."""
    from balacoon_tk.metrics import METRIC_GROUPS, evaluate

    with ProgressLine() as line:
        report = evaluate(
            args.voice or [None],  # None is the default voice
            _sentences(args),
            args.strategies,
            metrics=METRIC_GROUPS if args.metrics == ["all"] else args.metrics,
            folder=args.output,
            n_rounds=args.rounds,
            n_threads=args.threads,
            progress=_Remaining(line).show,
            **chosen(args, "seed", "speaker", "chunk_frames", "judge_all", "frontend", "backend"),
        )
    sys.stdout.write(report.to_json() if args.json else report.to_markdown())
    # After the report, which is what stdout is waited for; and to stderr, since it is none.
    if args.output is not None:
        say(f"wrote report.md, report.json and what was measured to {args.output}")


def _sentences(args: argparse.Namespace) -> tuple[str, ...]:
    from balacoon_tk.metrics import hard_sentences, plain_sentences, read_sentences
    from balacoon_tk.metrics.sentences import decode_sentences

    # A file and --hard name different sentences, and neither is an addition to the other.
    if args.hard and args.file is not None:
        raise UsageError("give --hard or a file with -f FILE, not both")
    if args.file == STANDARD_STREAM:
        sentences = decode_sentences(sys.stdin.buffer.read(), "stdin")
    elif args.file is not None:
        sentences = read_sentences(args.file)
    elif args.hard:
        sentences = tuple(sentence for kind in hard_sentences().values() for sentence in kind)
    else:
        sentences = plain_sentences()
    if args.limit is None or args.limit >= len(sentences):
        return sentences
    # Our lists go from short to long, so the first few would stand for short sentences alone.
    return tuple(sentences[i * len(sentences) // args.limit] for i in range(args.limit))


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
        self._line.bar(f"{n_done} of {n_all} sentences{rest}", n_done / n_all)
