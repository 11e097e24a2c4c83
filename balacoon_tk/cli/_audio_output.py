"""Where the audio of a command goes, while it is made: a WAV file, a pipe or the loudspeakers."""

from __future__ import annotations

import argparse
import queue
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from balacoon_tk.cli._common import STANDARD_STREAM, ProgressLine, UsageError, say
from balacoon_tk.errors import BalacoonError, MissingExtraError

if TYPE_CHECKING:
    from balacoon_tk._typing import PCM16Array
    from balacoon_tk.audio import AudioChunk

_INSTEAD = "(-o FILE writes it instead)"


class PlaybackError(BalacoonError, RuntimeError):
    """There is no way to play sound on this machine."""


def add_audio_output_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where audio goes."""
    parser.add_argument(
        *("-o", "--output"),
        metavar="FILE",
        help="WAV file; '-' writes raw PCM (16 bits, little-endian, one channel) to stdout; default: play it",
    )


def check_audio_output(args: argparse.Namespace) -> None:
    """Refuse to write audio to a terminal."""
    if args.output == STANDARD_STREAM and sys.stdout.isatty():
        raise UsageError("-o - writes raw audio: pipe it somewhere, or give a file")


def hand_over(chunks: Iterator[AudioChunk], output: str | None, sample_rate: int) -> None:
    """Write or play chunks as they are made, and tell a person at the terminal how it goes."""
    from balacoon_tk.audio import WavWriter, pcm_bytes

    chunks = _with_progress(chunks, sample_rate)
    if output is None:
        _play((chunk.pcm16 for chunk in chunks), sample_rate)
    elif output == STANDARD_STREAM:
        # Raw samples say nothing of themselves, and whoever plays them needs the rate.
        say(f"raw PCM: s16le, {sample_rate} Hz, mono")
        # Flushed one by one: a player behind the pipe is to begin with the first, not with the first 64 kB.
        for chunk in chunks:
            sys.stdout.buffer.write(pcm_bytes(chunk.samples))
            sys.stdout.buffer.flush()
    else:
        # Where a stream breaks, the writer leaves no half file.
        with WavWriter(output, sample_rate) as writer:
            for chunk in chunks:
                writer.write(chunk.samples)


def _with_progress(chunks: Iterator[AudioChunk], sample_rate: int) -> Iterator[AudioChunk]:
    from balacoon_tk.metrics import TraceRecorder, audio_s, ttfa_s, xrt

    # Not a context: the summary takes the line's place, and is said only of a stream that came to its end.
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


def _play(chunks: Iterator[PCM16Array], sample_rate: int) -> None:
    """Play chunks one after another, and return when the last has sounded."""
    # PortAudio looks for devices at its import, which takes a while, and may not be there at all.
    try:
        import sounddevice
    except ImportError as error:
        raise MissingExtraError(f"playing sound {_INSTEAD}", extra="play") from error
    except OSError as error:  # what sounddevice raises where the PortAudio library is missing
        raise PlaybackError(f"can't play sound: {error} {_INSTEAD}") from error
    # Without a limit: the voice is faster than its sound, and an hour of samples is 160 MB.
    ready: queue.Queue[PCM16Array | BaseException | None] = queue.Queue()
    stopped = threading.Event()

    # In a thread of its own: the device must be fed while the next chunk is decoded.
    def produce() -> None:
        end: BaseException | None = None
        try:
            for chunk in chunks:
                if stopped.is_set():
                    return
                ready.put(chunk)
        except BaseException as error:  # raised again where the device is fed; a thread's own would be lost
            end = error
        ready.put(end)

    try:
        stream = sounddevice.OutputStream(samplerate=sample_rate, channels=1, dtype="int16")
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        raise PlaybackError(f"can't play sound: {error} {_INSTEAD}") from error
    # A daemon: a run of a graph can't be stopped, and an interrupt doesn't wait for it.
    threading.Thread(target=produce, daemon=True).start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            stream.write(item.reshape(-1, 1))
        stream.stop()  # waits until everything has sounded
    except sounddevice.PortAudioError as error:
        raise PlaybackError(f"the sound device failed: {error}") from error
    finally:
        stopped.set()
        stream.close(ignore_errors=True)
