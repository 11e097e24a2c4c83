"""Export a trained voice, so that it can be run and streamed.

The graph is split into an encoder and a decoder, checked against the original, and put into DIR with a
voice.json that says what it is. If anything fails, nothing is left behind.

  balacoon-tk export en_US-joe-medium.onnx -o voices/joe
  balacoon-tk export --list
"""

from __future__ import annotations

import argparse
from pathlib import Path

from balacoon_tk.cli._common import ProgressLine, UsageError, format_size

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "export"
HELP = "make a voice folder of a trained model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the source and where its voice goes."""
    parser.add_argument(
        "source", nargs="?", metavar="VOICE", help="trained model, such as the .onnx file of a Piper voice"
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
    print(_summary(Path(args.source), folder))


def _print_sources() -> None:
    from balacoon_tk.export.sources import SOURCES

    for source in SOURCES:
        name = type(source).__module__.rpartition(".")[2]
        first_line = (type(source).__doc__ or "").partition("\n")[0].replace("``", "")
        print(f"{name:<16} {first_line}")


def _summary(source: Path, target: Path) -> str:
    from balacoon_tk.voice import load_voice

    manifest = load_voice(target).manifest
    decoder = manifest.decoder
    rows = [
        ("voice", f"{manifest.name}, {manifest.language}, {manifest.license}"),
        ("written to", str(target)),
        ("size", f"{_size(target)}, of {_size(source)}"),
        ("speakers", str(len(manifest.speakers) or 1)),
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
    return "\n".join(f"{name:<16} {value}" for name, value in rows)


def _size(path: Path) -> str:
    files = path.iterdir() if path.is_dir() else [path]
    return format_size(sum(file.stat().st_size for file in files))
