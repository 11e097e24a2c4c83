"""Speak a text: to a WAV file, as raw PCM on stdout, or through the loudspeakers.

Audio is written while it is made, so that the first sound doesn't wait for the last word:

  balacoon-tk synthesize "Hello there." -o hello.wav
  balacoon-tk synthesize -f book.txt -o - | aplay -f S16_LE -r 22050
  echo "Hello there." | balacoon-tk synthesize -
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from balacoon_tk.cli._common import (
    STANDARD_STREAM,
    ProgressLine,
    UsageError,
    add_chunk_argument,
    add_text_arguments,
    add_voice_arguments,
    open_tts,
    read_text,
    say,
)

if TYPE_CHECKING:
    from balacoon_tk.audio import AudioChunk

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "synthesize"
HELP = "speak a text to a WAV file, a pipe or the loudspeakers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to say, how, and where to."""
    add_text_arguments(parser)
    add_voice_arguments(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="WAV file; '-' writes raw PCM (16 bits, little-endian, one channel) to stdout; default: play it",
    )
    parser.add_argument(
        "--speed", type=float, default=1.0, metavar="X", help="2 is twice as fast (default: 1)"
    )
    parser.add_argument(
        "--volume", type=float, default=1.0, metavar="X", help="factor on the samples (default: 1)"
    )
    parser.add_argument(
        "--noise-scale", type=float, metavar="X", help="how much the sound varies (default: the voice's own)"
    )
    parser.add_argument(
        "--noise-w", type=float, metavar="X", help="how much the rhythm varies (default: the voice's own)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same audio")
    parser.add_argument(
        "--strategy", metavar="NAME", help="full, overlap or stateful (default: the best for the voice)"
    )
    add_chunk_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Speak."""
    if args.output == STANDARD_STREAM and sys.stdout.isatty():
        raise UsageError("-o - writes raw audio: pipe it somewhere, or give a file")
    text = read_text(args)
    tts = open_tts(args)
    chunks = tts.stream(
        text,
        strategy=args.strategy,
        seed=args.seed,
        speaker=args.speaker,
        speed=args.speed,
        volume=args.volume,
        noise_scale=args.noise_scale,
        noise_w=args.noise_w,
        chunk_frames=args.chunk_frames,
    )
    sample_rate = tts.get_sampling_rate()
    chunks = _with_progress(chunks, sample_rate)
    if args.output is None:
        _play(chunks, sample_rate)
    elif args.output == STANDARD_STREAM:
        _write_pcm(chunks, sample_rate)
    else:
        _write_file(args.output, chunks, sample_rate)


def _with_progress(chunks: Iterator[AudioChunk], sample_rate: int) -> Iterator[AudioChunk]:
    """Hand chunks on, and tell a person at the terminal how it goes and how it went."""
    from balacoon_tk.metrics import TraceRecorder, audio_s, ttfa_s, xrt

    line = ProgressLine()
    recorder = TraceRecorder(sample_rate=sample_rate)
    for chunk in chunks:
        recorder.add(chunk.samples)
        line.update(f"{chunk.start_s + chunk.duration_s:.1f} s of audio")
        yield chunk
    trace = recorder.finish()
    line.close(
        f"{audio_s(trace):.2f} s of audio in {trace.total_s:.2f} s ({xrt(trace):.1f}x real time), "
        f"first sound after {ttfa_s(trace) * 1e3:.0f} ms"
    )


def _write_file(path: str, chunks: Iterator[AudioChunk], sample_rate: int) -> None:
    from balacoon_tk.audio import WavWriter

    with WavWriter(path, sample_rate) as writer:
        for chunk in chunks:
            writer.write(chunk.samples)


def _write_pcm(chunks: Iterator[AudioChunk], sample_rate: int) -> None:
    from balacoon_tk.audio import pcm_bytes

    say(f"raw PCM: s16le, {sample_rate} Hz, mono")
    out = sys.stdout.buffer
    for chunk in chunks:
        out.write(pcm_bytes(chunk.samples))
        out.flush()


def _play(chunks: Iterator[AudioChunk], sample_rate: int) -> None:
    from balacoon_tk.cli._playback import play

    play((chunk.pcm16 for chunk in chunks), sample_rate)
