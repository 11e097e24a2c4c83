"""Speak a whole list of sentences, by many voices and in many processes, and judge them.

SENTENCES is a UTF-8 file with a sentence a line: the text alone, `id|text` as LJSpeech's metadata.csv, an id,
a tab and a text, Kaldi's `text`, or JSON lines with "id" and "text". DIR gets audio in folders, a Parquet
manifest that pandas and `datasets` read, and a report. A run that was stopped, in whatever way, goes on when
the same command is given again; samples depend neither on the number of workers nor on where they run. Exit
status 1 says that a sentence failed. Needs the extra 'corpus', and 'ray' for --engine ray.

  balacoon-tk corpus sentences.txt -v voices/joe -o corpus
  balacoon-tk corpus metadata.csv -v voices/joe -v voices/eve --metrics wer,dnsmos --textgrid -o corpus
  balacoon-tk corpus text -v joe.addon --engine ray --address head:6379 -o /shared/corpus
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from balacoon_tk._messages import tell
from balacoon_tk.cli._common import (
    STANDARD_STREAM,
    ProgressLine,
    add_options,
    chosen,
    comma_separated,
    positive_int,
    say,
)

if TYPE_CHECKING:
    from balacoon_tk.corpus import CorpusProgress, CorpusSentence

_LINE_EVERY_S = 30.0  # where no terminal shows a bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is said, by which voices, where, and where it goes."""
    from balacoon_tk.corpus.sentences import LIST_FORMS

    add = parser.add_argument
    add("sentences", metavar="SENTENCES", help="file with a sentence a line; '-' reads stdin")
    form = "how SENTENCES is written (default: auto, by its name and its lines)"
    add("--list-form", choices=LIST_FORMS, default="auto", help=form)
    voices = "voice folder or .addon file; give it again for more (default: the default voice)"
    add("-v", "--voice", action="append", metavar="VOICE", help=voices)
    add(
        "-o",
        "--output",
        metavar="DIR",
        required=True,
        help="folder of the corpus; one that was begun goes on",
    )
    precisions = "each voice in fp32, int8 or fp16, as it was made (default: as each is)"
    add("--precision", type=comma_separated, metavar="A,B", help=precisions)
    strategies = "full, stateful, overlap (default: full)"
    add("--strategy", type=comma_separated, default=["full"], metavar="A,B", help=strategies)
    metrics = "judge each utterance: wer, dnsmos, plcmos; needs the extra 'eval' (default: none)"
    add("--metrics", type=comma_separated, default=[], metavar="A,B", help=metrics)
    add_options(parser, "speaker", "frontend", "backend", "seed")
    add("--format", choices=("flac", "wav"), default="flac", help="of the audio (default: %(default)s)")
    add("--textgrid", action="store_true", help="write a TextGrid with words and phonemes beside each file")
    shard = "files of a folder (default: %(default)s)"
    add("--shard-size", type=positive_int, default=1000, metavar="N", help=shard)
    engine = "workers as processes here, or on Ray (default: %(default)s)"
    add("--engine", choices=("local", "ray"), default="local", help=engine)
    add("--address", metavar="HOST:PORT", help="of a Ray cluster (default: RAY_ADDRESS, or one of its own)")
    add("--workers", type=positive_int, metavar="N", help="one thread each (default: as many as processors)")
    add("--quiet", action="store_true", help="show no progress")
    add_options(parser, "json")


def run(args: argparse.Namespace) -> None:
    """Make the corpus, print its report, and fail if a sentence did."""
    from balacoon_tk.corpus import CorpusError, make_corpus

    with ProgressLine() as line:
        report = make_corpus(
            _sentences(args),
            args.voice or [None],  # None is the default voice
            args.output,
            precisions=args.precision,
            strategies=args.strategy,
            audio_format=args.format,
            n_workers=args.workers,
            progress=None if args.quiet else _Pace(line).show,
            **chosen(
                args,
                *("metrics", "speaker", "frontend", "backend", "seed", "textgrid", "shard_size"),
                *("engine", "address"),
            ),
        )
    sys.stdout.write(report.to_json() if args.json else report.to_markdown())
    if not args.quiet:
        say(f"wrote audio, metadata.parquet and report.md to {args.output}")
    if report.n_failed:
        n_all = report.n_failed + report.n_utterances
        raise CorpusError(
            f"{report.n_failed} of {n_all} utterances failed: failed.parquet says which and why"
        )


def _sentences(args: argparse.Namespace) -> tuple[CorpusSentence, ...]:
    from balacoon_tk.corpus.sentences import decode_corpus_sentences, read_corpus_sentences

    if args.sentences == STANDARD_STREAM:
        return decode_corpus_sentences(sys.stdin.buffer.read(), "stdin", form=args.list_form)
    return read_corpus_sentences(args.sentences, form=args.list_form)


class _Pace:
    """Shows how much is done, and how fast: a bar on a terminal, and a line now and then elsewhere."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line
        self._begun: tuple[float, int] | None = None
        self._said_s = 0.0

    def show(self, progress: CorpusProgress) -> None:
        """Say so; utterances of runs before set no pace."""
        now_s = time.monotonic()
        if self._begun is None:
            self._begun, self._said_s = (now_s, progress.n_done), now_s
        start_s, n_before = self._begun
        label = f"{progress.n_done} of {progress.n_all} utterances"
        if (elapsed_s := now_s - start_s) > 0 and progress.audio_s > 0:
            rest_s = elapsed_s / (progress.n_done - n_before) * (progress.n_all - progress.n_done)
            label += f", {progress.audio_s / elapsed_s:.1f} hours of audio an hour, {_time(rest_s)} left"
        label += f", {progress.n_failed} failed" if progress.n_failed else ""
        if self._line.shown:
            self._line.bar(label, progress.n_done / progress.n_all)
        elif now_s - self._said_s >= _LINE_EVERY_S:
            self._said_s = now_s
            tell(label)


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
