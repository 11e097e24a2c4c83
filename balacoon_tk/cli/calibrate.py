"""Measure what a voice costs on this machine, so that streams begin as early as they can and never wait.

It takes a few seconds; do it while nothing else runs. The result is kept in the user's cache for this
voice, number of threads, processor and version of ONNX Runtime, and every stream uses it from then on.

  balacoon-tk calibrate
  balacoon-tk calibrate -v voices/joe --threads 1 --json
  balacoon-tk calibrate --show
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from balacoon_tk._files import json_text
from balacoon_tk.cli._common import (
    STANDARD_STREAM,
    ProgressLine,
    add_voice_arguments,
    open_tts,
    say,
    write_text,
)
from balacoon_tk.errors import ParameterError

if TYPE_CHECKING:
    from balacoon_tk.pacing.calibration import Calibration
    from balacoon_tk.pacing.costs import CostCurve
    from balacoon_tk.tts import TTS

NAME = "calibrate"
HELP = "measure a voice on this machine, for streams that start early and never wait"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to measure and where to say what was found."""
    add_voice_arguments(parser, speaker=False)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default=STANDARD_STREAM, help="write there (default: stdout)"
    )
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--show", action="store_true", help="show what is kept, and measure nothing")
    kept.add_argument("--clear", action="store_true", help="forget what is kept for this voice and threads")


def run(args: argparse.Namespace) -> None:
    """Calibrate."""
    from balacoon_tk.pacing.calibration import calibration_file, save_calibration
    from balacoon_tk.pacing.measure import calibrate
    from balacoon_tk.tts import TTS

    tts = open_tts(args)
    path = calibration_file(tts.voice)
    if args.clear:
        path.unlink(missing_ok=True)
        say(f"there is no calibration in {path} any more")
        return
    if args.show:
        if tts.calibration is None:
            raise ParameterError(f"{path}: there is no calibration; balacoon-tk calibrate makes one")
        calibration = tts.calibration
    else:
        line = ProgressLine()
        try:
            calibration = calibrate(
                tts, progress=lambda done, total: line.bar(done / total, "measuring the voice")
            )
        finally:
            line.close()
        save_calibration(calibration, tts.voice)
        say(f"kept in {path}")
    found = TTS(tts.voice, frontend=tts.frontend, calibration=calibration)
    report = (
        json_text(_record(found, calibration)) if args.json else "\n".join(_lines(found, calibration)) + "\n"
    )
    write_text(args.output, report)


def _record(tts: TTS, calibration: Calibration) -> dict[str, Any]:
    chunks = {name: list(tts.get_chunk_frames(name)) for name in calibration.costs.pushes}
    return {**calibration.to_dict(), "safety_factor": tts.safety_factor, "chunk_frames": chunks}


def _lines(tts: TTS, calibration: Calibration) -> Iterator[str]:
    key, costs, frame_ms = calibration.key, calibration.costs, 1e3 * _frame_s(tts)
    threads = "threads of ONNX Runtime's choice" if key.n_threads is None else f"{key.n_threads} threads"
    yield f"{calibration.voice}: {threads}, {key.cpu}, ONNX Runtime {key.onnxruntime}"
    yield ""
    yield f"{calibration.frontend}, ms by phoneme ids"
    yield from _table(costs.frontend)
    yield "encoder, ms by phoneme ids"
    yield from _table(costs.encoder)
    for name, pushes in costs.pushes.items():
        yield f"{name}, ms of the first push by frames"
        yield from _table(pushes.first)
        yield f"{name}, ms of a later push by frames"
        yield from _table(pushes.later)
    yield f"sentences are heard by {costs.onset_frames:+.1f} frames from the beginning of their first phoneme"
    yield ""
    for name in costs.pushes:
        chunks = tts.get_chunk_frames(name)
        yield (
            f"{name}: chunks of {', '.join(map(str, chunks))} frames ({frame_ms:.1f} ms each), "
            f"with everything taking up to {tts.safety_factor:g} times as long"
        )


def _frame_s(tts: TTS) -> float:
    return tts.voice.manifest.hop_length / tts.get_sampling_rate()


def _table(curve: CostCurve) -> Iterator[str]:
    for row in (map(str, curve.counts), (f"{1e3 * seconds:.2f}" for seconds in curve.seconds)):
        yield "  " + "".join(cell.rjust(9) for cell in row)
