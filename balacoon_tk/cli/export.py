"""Make a voice folder of a trained model, which can be run and streamed.

The model is split into an encoder and a decoder (a vocoder has a decoder alone), checked against the
original in its own runtime, and put into DIR with a voice.json that says what it is. If anything fails,
nothing is left behind.

A model is read and run in a sandbox: a process of its own with bounds on memory and time, which on Linux
can't write outside its folder, run other programs or reach a network either; the summary says what held.
TorchScript and pickled weights can run code, and need --trust.

  balacoon-tk export en_US-joe-medium.onnx -o voices/joe
  balacoon-tk export hifigan.ts --config hifigan.json -o voices/hifigan --trust
  balacoon-tk export --list
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

from balacoon_tk.cli._common import (
    ProgressLine,
    UsageError,
    add_options,
    chosen,
    comma_separated,
    format_size,
    positive_int,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the source and where its voice goes."""
    add = parser.add_argument
    source = "trained model: a file or a folder (--list says of which kinds)"
    add("source", nargs="?", metavar="VOICE", help=source)
    add("-o", "--output", metavar="DIR", help="folder of the exported voice, or a file ending in .addon")
    add("--config", metavar="FILE", help="the model's JSON file (default: VOICE.json)")
    add("--name", help="name of the voice (default: that of the file)")
    license_help = "licence of the weights (default: what a MODEL_CARD beside VOICE says)"
    add("--license", metavar="TEXT", help=license_help)
    speakers_help = "names of the speakers, in the order of their ids"
    add("--speakers", type=comma_separated, metavar="A,B", help=speakers_help)
    longest = "frames of the longest utterance, for a codec whose attention looks back to the start"
    add("--max-frames", type=positive_int, metavar="N", help=longest)
    add("--trust", action="store_true", help="export what runs code: TorchScript, pickled weights (.bin)")
    minutes = "of the sandbox (default: 20, and one for each 3 MB of the model)"
    add("--max-minutes", type=positive_int, metavar="N", help=minutes)
    add("--no-sandbox", action="store_true", help="read and run the model in this process, without bounds")
    add_options(parser, "overwrite")
    add("--list", action="store_true", help="list the kinds of model that can be exported")


def run(args: argparse.Namespace) -> None:
    """Export, and show what became of the model."""
    if args.list:
        from balacoon_tk.export.sources import SOURCES

        # The first line of a source's docstring is written to be read here, without its marks for code.
        for each in SOURCES:
            name = type(each).__module__.rpartition(".")[2]
            first_line = (type(each).__doc__ or "").partition("\n")[0].replace("``", "")
            print(f"{name:<16} {first_line}")
        return
    if args.source is None or args.output is None:
        raise UsageError("give a trained VOICE and the folder that becomes of it: VOICE -o DIR")
    # The export extra is looked for here, after wrong usage: who has mistyped shouldn't install it first.
    from balacoon_tk.export import Limits, export_voice

    if args.no_sandbox and args.max_minutes is not None:
        raise UsageError("--max-minutes is of the sandbox, and doesn't go with --no-sandbox")
    wall_s = None if args.max_minutes is None else 60.0 * args.max_minutes
    with _what_held() as held, ProgressLine() as line:
        settings = chosen(args, "config", "name", "license", "speakers", "max_frames", "trust", "overwrite")
        sandbox = False if args.no_sandbox else Limits(wall_s=wall_s)
        folder = export_voice(args.source, args.output, sandbox=sandbox, progress=line.bar, **settings)
    print(_summary(folder, held[-1].removeprefix("sandbox: ") if held else "none"))


@contextlib.contextmanager
def _what_held() -> Iterator[list[str]]:
    """Collect what the sandbox logs: what it keeps a model from, and what this system can't."""
    import logging

    said: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger, handler = logging.getLogger("balacoon_tk.export.sandbox"), Collect(logging.INFO)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _summary(target: Path, held: str) -> str:
    from balacoon_tk.targets.choice import NATIVE, SEVERAL_THREADS
    from balacoon_tk.voice.voice import read_manifest

    # Read from what was written, so that the summary is of the voice and not of what was intended.
    manifest = read_manifest(target)
    decoder, streaming = manifest.decoder, manifest.targets[SEVERAL_THREADS].streaming
    rows = [("voice", f"{manifest.name}, {manifest.license}"), ("written to", str(target))]
    if manifest.text is not None:
        rows[0] = ("voice", f"{manifest.name}, {manifest.language}, {manifest.license}")
        rows.append(("speakers", str(len(manifest.speakers) or 1)))
    rows += [
        ("sample rate", f"{manifest.sample_rate} Hz"),
        ("receptive field", f"{decoder.left_context} + 1 + {decoder.lookahead} frames"),
    ]
    exact = f"no: {decoder.not_streamable or 'not rewritten'}"
    if streaming is not None:
        lag_ms, state = 1e3 * streaming.lag_samples / manifest.sample_rate, streaming.n_state_bytes
        exact = f"lag {lag_ms:.0f} ms, state {format_size(state)} a stream"
        if decoder.max_frames is not None:
            exact += f", of at most {decoder.max_frames} frames"
    rows.append(("exact streaming", exact))
    native = f"no: {manifest.not_native}"
    if (compiled := manifest.targets.get(NATIVE)) is not None:
        native = "runs the decoder" if compiled.encoder is None else "runs encoder and decoder"
    rows.append(("native engine", native))
    rows.append(("sandbox", held))
    rows += [("verified", f"{name}: {value:.1e}") for name, value in manifest.verified.items()]
    table = ["", f"{'':<16} {'size':>10} {'RTF':>8} {'largest difference':>20}"]
    table += [
        f"{stage.name:<16} {format_size(stage.n_bytes):>10} {stage.rtf:>8.3f} {stage.max_abs_diff:>20.1e}"
        for stage in manifest.stages
    ]
    return "\n".join([*(f"{name:<16} {value}" for name, value in rows), *table])
