"""Measure a voice on this machine, for streams that start early and never wait.

It takes a few seconds; do it while nothing else runs. Which engine runs encoder and decoder faster is
measured first, then what each stage costs with it. The result is kept in the user's cache for this voice,
number of threads, processor and version of ONNX Runtime, and every stream uses it from then on.

  balacoon-tk calibrate
  balacoon-tk calibrate -v voices/joe --threads 1 --json
  balacoon-tk calibrate --show
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from balacoon_tk.cli._common import (
    RUNTIME,
    ProgressLine,
    add_options,
    open_tts,
    runtime_options,
    say,
    write_report,
)
from balacoon_tk.errors import ParameterError

if TYPE_CHECKING:
    from balacoon_tk.pacing.calibration import Calibration
    from balacoon_tk.pacing.costs import CostCurve
    from balacoon_tk.tts import TTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to measure and where to say what was found."""
    # No speaker: all of a voice cost the same.
    add_options(parser, "voice", "sha256", "frontend", *RUNTIME, "json", "output")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--show", action="store_true", help="show what is kept, and measure nothing")
    kept.add_argument("--clear", action="store_true", help="forget what is kept for this voice and threads")


def run(args: argparse.Namespace) -> None:
    """Calibrate."""
    from balacoon_tk.pacing.calibration import calibration_file, save_calibration
    from balacoon_tk.pacing.measure import calibrate
    from balacoon_tk.tts import TTS

    if not (args.show or args.clear):
        _forget_backend(args)
    tts = open_tts(args)
    path = calibration_file(tts.voice)
    # Where it is kept depends on voice, threads and machine, so --clear and --show open the voice as well.
    if args.clear:
        path.unlink(missing_ok=True)
        _forget_backend(args)
        say(f"there is no calibration in {path} any more")
        return
    if args.show:
        if tts.calibration is None:
            raise ParameterError(f"{path}: there is no calibration; balacoon-tk calibrate makes one")
        calibration = tts.calibration
    else:
        with ProgressLine() as line:
            calibration = calibrate(tts, progress=line.runs)
        save_calibration(calibration, tts.voice)
        say(f"kept in {path}")
    say(f"the decoder is run by {tts.voice.backend}")
    # What is shown is what streams will do, so it is asked of a TTS that knows what was found.
    found = TTS(tts.voice, frontend=tts.frontend, calibration=calibration)
    chunks = {name: list(found.get_chunk_frames(name)) for name in calibration.costs.pushes}
    record = {**calibration.to_dict(), "safety_factor": found.safety_factor, "chunk_frames": chunks}
    table = "\n".join(_lines(found, calibration, chunks))
    write_report(record, table, as_json=args.json, output=args.output)


def _forget_backend(args: argparse.Namespace) -> None:
    """Forget which engine was faster, so that the voice is loaded with both and measured anew."""
    from balacoon_tk.voice.backends import forget_choice
    from balacoon_tk.voice.default import default_voice_folder
    from balacoon_tk.voice.voice import read_manifest

    voice = default_voice_folder() if args.voice is None else args.voice
    forget_choice(read_manifest(voice, sha256=args.sha256), runtime_options(args))


def _lines(tts: TTS, calibration: Calibration, chunks: dict[str, list[int]]) -> Iterator[str]:
    key, costs = calibration.key, calibration.costs
    frame_ms = 1e3 * tts.voice.manifest.hop_length / tts.get_sampling_rate()
    threads = "threads of ONNX Runtime's choice" if key.n_threads is None else f"{key.n_threads} threads"
    yield f"{calibration.voice}: {threads}, {key.cpu}, ONNX Runtime {key.onnxruntime}, decoder: {key.backend}"
    yield ""
    yield from _curve(f"{calibration.frontend}, ms by phoneme ids", costs.frontend)
    yield from _curve("encoder, ms by phoneme ids", costs.encoder)
    for name, pushes in costs.pushes.items():
        yield from _curve(f"{name}, ms of the first push by frames", pushes.first)
        yield from _curve(f"{name}, ms of a later push by frames", pushes.later)
    yield f"sentences are heard by {costs.onset_frames:+.1f} frames from the beginning of their first phoneme"
    yield ""
    for name, n_frames in chunks.items():
        yield (
            f"{name}: chunks of {', '.join(map(str, n_frames))} frames ({frame_ms:.1f} ms each), "
            f"with everything taking up to {tts.safety_factor:g} times as long"
        )


def _curve(title: str, curve: CostCurve) -> Iterator[str]:
    yield title
    for row in (map(str, curve.counts), (f"{1e3 * seconds:.2f}" for seconds in curve.seconds)):
        yield "  " + "".join(cell.rjust(9) for cell in row)
