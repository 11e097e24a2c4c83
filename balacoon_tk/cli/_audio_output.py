"""Where the audio of a command goes, while it is made: a WAV file, a pipe or the loudspeakers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from balacoon_tk.cli._common import STANDARD_STREAM, ProgressLine, UsageError, say

if TYPE_CHECKING:
    from balacoon_tk.audio import AudioChunk


def add_audio_output_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where audio goes."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="WAV file; '-' writes raw PCM (16 bits, little-endian, one channel) to stdout; default: play it",
    )


def check_audio_output(args: argparse.Namespace) -> None:
    """Refuse to write audio to a terminal.

    Raises
    ------
    UsageError
        If stdout is one.
    """
    if args.output == STANDARD_STREAM and sys.stdout.isatty():
        raise UsageError("-o - writes raw audio: pipe it somewhere, or give a file")


def hand_over(chunks: Iterator[AudioChunk], output: str | None, sample_rate: int) -> None:
    """Write or play chunks as they are made, and tell a person at the terminal how it goes."""
    chunks = _with_progress(chunks, sample_rate)
    if output is None:
        _play(chunks, sample_rate)
    elif output == STANDARD_STREAM:
        _write_pcm(chunks, sample_rate)
    else:
        _write_file(output, chunks, sample_rate)


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
