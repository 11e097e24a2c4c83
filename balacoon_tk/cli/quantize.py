"""Make a voice smaller and faster within a budget of quality, or half the size.

Mixtures of int8 and floating point are timed in turn with the voice as it is and judged on sentences; the
fastest one within the budget goes into DIR, its encoder in int8 as well if that is within the budget too.
What is measured is kept in a folder beside it until then, so that the same command goes on where it was
stopped. If none is within the budget, the nearest is named and nothing is installed. Needs the extras
'export' and 'eval'.

With --precision fp16 nothing is searched: weights are stored in half the size and computed with as before,
as fast and with the same sound; with --compute-fp16 graphs compute in half precision as well, for GPUs (a CPU
gets no faster by it). Needs the extra 'export'.

  balacoon-tk quantize voices/joe -o voices/joe-int8
  balacoon-tk quantize voices/joe -o joe-int8.addon --max-dnsmos-drop 0.15 --plot pareto.png
  balacoon-tk quantize voices/joe -o voices/joe-fp16 --precision fp16
"""

from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from balacoon_tk.cli._common import ProgressLine, UsageError, add_options, chosen, write_report

# Refused with fp16 rather than ignored: who gives a budget counts on its being kept.
_ONLY_INT8 = (
    *("keep_encoder", "file", "max_wer_increase", "max_dnsmos_drop", "max_lsd_db"),
    *("method", "clipped_share", "seed", "frontend", "backend", "plot"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the voice, the budget and where the result goes."""
    add = parser.add_argument
    voice = "voice folder or .addon file (default: the default voice)"
    add("voice", nargs="?", metavar="VOICE", help=voice)
    add("-o", "--output", metavar="DIR", required=True, help="folder of the new voice, or an .addon file")
    precision = "int8 is searched for; fp16 is half the size, as fast (default: int8)"
    add("--precision", choices=("int8", "fp16"), default="int8", help=precision)
    add("--compute-fp16", action="store_true", help="of fp16: compute in it too, for GPUs")
    kept = "of int8: leave the encoder, and so durations, as it is"
    add("--keep-encoder", action="store_true", help=kept)
    add("-f", "--file", metavar="FILE", help="sentences, a line each (default: 100 that come with it)")
    add("--max-wer-increase", type=float, default=0.01, metavar="X", help="share of words (default: 0.01)")
    add("--max-dnsmos-drop", type=float, default=0.05, metavar="X", help="points (default: 0.05)")
    add("--max-lsd-db", type=float, metavar="X", help="log-spectral distance (default: any)")
    methods = ("percentile", "minmax", "entropy")
    add("--method", choices=methods, default="percentile", help="how ranges are chosen")
    add("--clipped-share", type=float, default=1e-4, metavar="X", help="of percentile (default: 0.0001)")
    add_options(parser, "seed", "threads", "backend", "frontend")
    add("--plot", metavar="FILE", help="draw quality against speed")
    add_options(parser, "json", "overwrite")


def run(args: argparse.Namespace) -> None:
    """Make the voice, and show what was tried or lost."""
    from balacoon_tk.voice.default import default_voice_folder

    if args.precision == "int8" and args.compute_fp16:
        raise UsageError("--compute-fp16 goes with --precision fp16")
    # Compared with the defaults: argparse doesn't say whether an option was given.
    for name in _ONLY_INT8 if args.precision == "fp16" else ():
        if getattr(args, name) != args.parser.get_default(name):
            raise UsageError(f"--{name.replace('_', '-')} goes with --precision int8")
    # After wrong usage is refused: the first time that it is asked for, the default voice is exported.
    voice = default_voice_folder() if args.voice is None else args.voice
    if args.precision == "fp16":
        _halve(args, voice)
    else:
        _search(args, voice)


def _halve(args: argparse.Namespace, voice: str | os.PathLike[str]) -> None:
    from balacoon_tk.export.quantize import halve_voice

    with ProgressLine() as line:
        settings = {"compute": args.compute_fp16, "n_threads": args.threads, "overwrite": args.overwrite}
        made = halve_voice(voice, args.output, progress=line.bar, **settings)
    table = (
        f"{made.path}: {made.size_ratio:.2f} of the size, {made.snr_db:.0f} dB SNR, "
        f"{100 * made.changed_durations:.2f} % of phonemes last another number of frames"
    )
    write_report({**asdict(made), "path": str(made.path)}, table, as_json=args.json)


def _search(args: argparse.Namespace, voice: str | os.PathLike[str]) -> None:
    from balacoon_tk.export import quantize_voice
    from balacoon_tk.metrics.sentences import read_sentences
    from balacoon_tk.plots import check_figure_path, save_figure

    if args.plot is not None:
        check_figure_path(args.plot)  # now: the search takes hours
    # Beside the target, so that it is on the same disk, and hidden, since it is no voice.
    target = Path(args.output)
    work = target.with_name(f".{target.name}.quantize")
    work.parent.mkdir(parents=True, exist_ok=True)
    with ProgressLine() as line:
        made = quantize_voice(
            voice,
            target,
            sentences=None if args.file is None else read_sentences(args.file),
            quantize_encoder=not args.keep_encoder,
            work_folder=work,
            n_threads=args.threads,
            progress=line.bar,
            **chosen(args, "max_wer_increase", "max_dnsmos_drop", "max_lsd_db", "method", "clipped_share"),
            **chosen(args, "seed", "frontend", "backend", "overwrite"),
        )
    # Kept if the search was stopped or found nothing: the same command then goes on from there.
    shutil.rmtree(work, ignore_errors=True)
    if args.plot is not None:
        save_figure(made.pareto_front.figure(), args.plot)
    print(made.pareto_front.to_json() if args.json else made.pareto_front.to_markdown(), end="")
