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
  balacoon-tk quantize voices/joe -o joe-int8.addon --max-dnsmos-drop 0.15 --plot frontier.png
  balacoon-tk quantize voices/joe -o voices/joe-fp16 --precision fp16
"""

from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from balacoon_tk._files import json_text
from balacoon_tk.cli._common import ProgressLine, UsageError, positive_int

NAME = "quantize"
HELP = "make a voice smaller and faster within a budget of quality"

_ONLY_INT8 = (
    "keep_encoder",
    "file",
    "max_wer_increase",
    "max_dnsmos_drop",
    "max_lsd_db",
    "method",
    "clipped_share",
    "seed",
    "frontend",
    "plot",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the voice, the budget and where the result goes."""
    parser.add_argument(
        "voice", nargs="?", metavar="VOICE", help="voice folder or .addon file (default: the default voice)"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", required=True, help="folder of the new voice, or an .addon file"
    )
    parser.add_argument(
        "--precision",
        choices=("int8", "fp16"),
        default="int8",
        help="int8 is searched for; fp16 is half the size, as fast (default: int8)",
    )
    parser.add_argument("--compute-fp16", action="store_true", help="of fp16: compute in it too, for GPUs")
    parser.add_argument(
        "--keep-encoder", action="store_true", help="of int8: leave the encoder, and so durations, as it is"
    )
    parser.add_argument(
        "-f", "--file", metavar="FILE", help="sentences, a line each (default: 100 that come with it)"
    )
    parser.add_argument(
        "--max-wer-increase", type=float, default=0.01, metavar="X", help="share of words (default: 0.01)"
    )
    parser.add_argument(
        "--max-dnsmos-drop", type=float, default=0.05, metavar="X", help="points (default: 0.05)"
    )
    parser.add_argument("--max-lsd-db", type=float, metavar="X", help="log-spectral distance (default: any)")
    parser.add_argument(
        "--method",
        choices=("percentile", "minmax", "entropy"),
        default="percentile",
        help="how ranges are chosen",
    )
    parser.add_argument(
        "--clipped-share", type=float, default=1e-4, metavar="X", help="of percentile (default: 0.0001)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of every sentence (default: 0)"
    )
    parser.add_argument("--threads", type=positive_int, metavar="N", help="threads for one run of a graph")
    parser.add_argument("--frontend", default="auto", metavar="NAME", help="what turns text into phonemes")
    parser.add_argument("--plot", metavar="FILE", help="draw quality against speed")
    parser.add_argument("--json", action="store_true", help="print the frontier as JSON instead of a table")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in DIR already")


def run(args: argparse.Namespace) -> None:
    """Make the voice, and show what was tried or lost."""
    from balacoon_tk.voice.default import default_voice_folder

    _check_options(args)
    voice = default_voice_folder() if args.voice is None else args.voice
    if args.precision == "fp16":
        _halve(args, voice)
    else:
        _search(args, voice)


def _check_options(args: argparse.Namespace) -> None:
    if args.precision == "int8" and args.compute_fp16:
        raise UsageError("--compute-fp16 goes with --precision fp16")
    for name in _ONLY_INT8 if args.precision == "fp16" else ():
        if getattr(args, name) != args.parser.get_default(name):
            raise UsageError(f"--{name.replace('_', '-')} goes with --precision int8")


def _halve(args: argparse.Namespace, voice: str | os.PathLike[str]) -> None:
    from balacoon_tk.export.quantize import halve_voice

    line = ProgressLine()
    made = halve_voice(
        voice,
        args.output,
        compute=args.compute_fp16,
        n_threads=args.threads,
        overwrite=args.overwrite,
        progress=lambda what, share: line.bar(share, what),
    )
    line.close()
    if args.json:
        print(json_text({**asdict(made), "path": str(made.path)}), end="")
    else:
        print(
            f"{made.path}: {made.size_ratio:.2f} of the size, {made.snr_db:.0f} dB SNR, "
            f"{100 * made.changed_durations:.2f} % of phonemes last another number of frames"
        )


def _search(args: argparse.Namespace, voice: str | os.PathLike[str]) -> None:
    from balacoon_tk.export import quantize_voice
    from balacoon_tk.metrics.sentences import read_sentences
    from balacoon_tk.plots import check_figure_path, save_figure

    if args.plot is not None:
        check_figure_path(args.plot)
    target = Path(args.output)
    work = target.with_name(f".{target.name}.quantize")
    work.parent.mkdir(parents=True, exist_ok=True)
    line = ProgressLine()
    made = quantize_voice(
        voice,
        target,
        sentences=None if args.file is None else read_sentences(args.file),
        max_wer_increase=args.max_wer_increase,
        max_dnsmos_drop=args.max_dnsmos_drop,
        max_lsd_db=args.max_lsd_db,
        method=args.method,
        clipped_share=args.clipped_share,
        quantize_encoder=not args.keep_encoder,
        seed=args.seed,
        work_folder=work,
        frontend=args.frontend,
        n_threads=args.threads,
        overwrite=args.overwrite,
        progress=lambda what, share: line.bar(share, what),
    )
    line.close()
    shutil.rmtree(work, ignore_errors=True)
    if args.plot is not None:
        save_figure(made.frontier.figure(), args.plot)
    print(made.frontier.to_json() if args.json else made.frontier.to_markdown(), end="")
