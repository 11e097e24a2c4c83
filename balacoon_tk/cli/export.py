"""Export a trained voice, so that it can be run and streamed.

The model is split into an encoder and a decoder (a vocoder has a decoder alone), checked against the
original in its own runtime, and put into DIR with a voice.json that says what it is. If anything fails,
nothing is left behind.

  balacoon-tk export en_US-joe-medium.onnx -o voices/joe
  balacoon-tk export hifigan.ts --config hifigan.json -o voices/hifigan
  balacoon-tk export --list
"""

from __future__ import annotations

import argparse
from pathlib import Path

from balacoon_tk.cli._common import ProgressLine, UsageError, format_size

NAME = "export"
HELP = "make a voice folder of a trained model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the source and where its voice goes."""
    parser.add_argument(
        "source",
        nargs="?",
        metavar="VOICE",
        help="trained model: a file or a folder (--list says of which kinds)",
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", help="folder of the exported voice, or a file ending in .addon"
    )
    parser.add_argument("--config", metavar="FILE", help="the model's JSON file (default: VOICE.json)")
    parser.add_argument("--name", help="name of the voice (default: that of the file)")
    parser.add_argument(
        "--license",
        metavar="TEXT",
        help="licence of the weights (default: what a MODEL_CARD beside VOICE says)",
    )
    parser.add_argument("--speakers", metavar="A,B", help="names of the speakers, in the order of their ids")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in DIR already")
    parser.add_argument("--list", action="store_true", help="list the kinds of model that can be exported")


def run(args: argparse.Namespace) -> None:
    """Export, and show what became of the model."""
    if args.list:
        _print_sources()
        return
    if args.source is None or args.output is None:
        raise UsageError("give a trained VOICE and the folder that becomes of it: VOICE -o DIR")
    from balacoon_tk.export import export_voice

    line = ProgressLine()
    folder = export_voice(
        args.source,
        args.output,
        config=args.config,
        name=args.name,
        license=args.license,
        speakers=None if args.speakers is None else args.speakers.split(","),
        overwrite=args.overwrite,
        progress=lambda what, share: line.bar(share, what),
    )
    line.close()
    print(_summary(folder))


def _print_sources() -> None:
    from balacoon_tk.export.sources import SOURCES

    for source in SOURCES:
        name = type(source).__module__.rpartition(".")[2]
        first_line = (type(source).__doc__ or "").partition("\n")[0].replace("``", "")
        print(f"{name:<16} {first_line}")


def _summary(target: Path) -> str:
    from balacoon_tk.voice.files import read_manifest
    from balacoon_tk.voice.manifest import Manifest

    manifest = read_manifest(target)
    decoder = manifest.decoder
    rows = [("voice", f"{manifest.name}, {manifest.license}"), ("written to", str(target))]
    if isinstance(manifest, Manifest):
        rows[0] = ("voice", f"{manifest.name}, {manifest.language}, {manifest.license}")
        rows.append(("speakers", str(len(manifest.speakers) or 1)))
    rows += [
        ("sample rate", f"{manifest.sample_rate} Hz"),
        ("receptive field", f"{decoder.left_context} + 1 + {decoder.lookahead} frames"),
    ]
    if decoder.streaming is not None:
        lag_ms = 1e3 * decoder.streaming.lag_samples / manifest.sample_rate
        state = format_size(decoder.streaming.n_state_bytes)
        rows.append(("exact streaming", f"lag {lag_ms:.0f} ms, state {state} a stream"))
    else:
        rows.append(("exact streaming", f"no: {decoder.not_streamable or 'not rewritten'}"))
    rows += [("verified", f"{name}: {value:.1e}") for name, value in manifest.verified.items()]
    table = ["", f"{'':<16} {'size':>10} {'RTF':>8} {'largest difference':>20}"]
    table += [
        f"{stage.name:<16} {format_size(stage.n_bytes):>10} {stage.rtf:>8.3f} {stage.max_abs_diff:>20.1e}"
        for stage in manifest.stages
    ]
    return "\n".join([*(f"{name:<16} {value}" for name, value in rows), *table])
