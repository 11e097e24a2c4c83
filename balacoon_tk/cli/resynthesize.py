"""Say a recording again with a vocoder or a codec: copy synthesis, whole or streamed.

The recording's mel spectrogram, or its codes, is all that the vocoder gets: what is lost is what it can't do.

  balacoon-tk resynthesize in.wav -v voices/hifigan -o out.wav
  balacoon-tk resynthesize in.wav -v voices/hifigan --strategy full -o out.wav --json
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from balacoon_tk.cli._audio_output import add_audio_output_argument, check_audio_output, hand_over
from balacoon_tk.cli._common import (
    RUNTIME,
    STANDARD_STREAM,
    UsageError,
    add_options,
    runtime_options,
    write_report,
)

if TYPE_CHECKING:
    from balacoon_tk._typing import FloatArray
    from balacoon_tk.audio import AudioChunk
    from balacoon_tk.metrics import StreamTrace
    from balacoon_tk.voice.voice import Voice


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the recording, the vocoder and where the audio goes."""
    recording = "WAV file, 16 bits, one channel, of the vocoder's rate; '-' is stdin"
    parser.add_argument("recording", metavar="WAV", help=recording)
    vocoder = "exported vocoder: folder or .addon file"
    parser.add_argument("-v", "--voice", metavar="VOCODER", required=True, help=vocoder)
    add_audio_output_argument(parser)
    add_options(parser, "strategy", "chunk-frames", *RUNTIME, "sha256")
    report = "print what it cost and how near it came, as JSON"
    parser.add_argument("--json", action="store_true", help=report)


def run(args: argparse.Namespace) -> None:
    """Resynthesize."""
    check_audio_output(args)
    if args.json and args.output in (None, STANDARD_STREAM):
        raise UsageError("--json takes stdout: give a file for the audio with -o FILE")
    from balacoon_tk.audio import read_wav
    from balacoon_tk.metrics import TraceRecorder
    from balacoon_tk.voice.voice import load_vocoder

    from_stdin = args.recording == STANDARD_STREAM
    # A pipe can't be gone back in, which reading a WAV file does.
    samples, sample_rate = read_wav(io.BytesIO(sys.stdin.buffer.read()) if from_stdin else args.recording)
    vocoder = load_vocoder(args.voice, options=runtime_options(args), sha256=args.sha256)
    # Chosen here rather than in the stream, so that the report can name it.
    strategy = vocoder.renderer.choose_strategy(args.strategy)
    recorder = TraceRecorder(sample_rate=sample_rate)
    kept: list[FloatArray] = []

    def chunks() -> Iterator[AudioChunk]:
        for chunk in vocoder.resynthesize(
            samples, sample_rate=sample_rate, strategy=strategy, chunk_frames=args.chunk_frames
        ):
            recorder.add(chunk.samples)
            kept.append(chunk.samples)
            yield chunk

    hand_over(chunks(), args.output, sample_rate)
    if args.json:
        report = _report(vocoder, samples, kept, recorder.finish())
        write_report({"recording": args.recording, "strategy": strategy, **report}, "", as_json=True)


def _report(
    vocoder: Voice, samples: FloatArray, kept: list[FloatArray], trace: StreamTrace
) -> dict[str, object]:
    """Return the cost, and how far the frames of both are apart."""
    import numpy as np

    from balacoon_tk.metrics import audio_s, rtf, ttfa_s

    rate = vocoder.manifest.sample_rate
    before = vocoder.analyze(samples, sample_rate=rate)
    after = vocoder.analyze(np.concatenate(kept), sample_rate=rate)
    # A vocoder gives whole frames, so the two may differ in length by the last one.
    n_frames = min(before.shape[1], after.shape[1])
    before, after = before[:, :n_frames], after[:, :n_frames]
    apart: dict[str, object] = {"mel_difference": float(np.abs(after - before).mean())}
    if vocoder.manifest.codebook_size is not None:
        apart = {"codes_kept": float((after == before).mean())}  # codes are names: no number lies between
    return {
        "voice": vocoder.manifest.name,
        "sample_rate": rate,
        "n_samples": sum(trace.n_samples),
        "n_chunks": len(trace.n_samples),
        "audio_s": audio_s(trace),
        "total_s": trace.total_s,
        "rtf": rtf(trace),
        "ttfa_s": ttfa_s(trace),
        **apart,
    }
