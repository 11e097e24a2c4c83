"""Play audio through the loudspeakers while it is made."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from balacoon_tk._typing import PCM16Array
from balacoon_tk.errors import BalacoonError, MissingExtraError


class PlaybackError(BalacoonError, RuntimeError):
    """There is no way to play sound on this machine."""


def play(chunks: Iterator[PCM16Array], sample_rate: int) -> None:
    """Play chunks one after another, and return when the last has sounded.

    They are made in a thread of their own: the device must be fed while the next one is decoded.

    Raises
    ------
    MissingExtraError
        If sounddevice is not installed.
    PlaybackError
        If there is no sound device, or it fails.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise MissingExtraError("playing sound (-o FILE writes it instead)", extra="play") from error
    except OSError as error:  # what sounddevice raises where the PortAudio library is missing
        raise PlaybackError(f"can't play sound: {error} (-o FILE writes it instead)") from error
    ready: queue.Queue[PCM16Array | BaseException | None] = queue.Queue()
    stopped = threading.Event()

    def produce() -> None:
        end: BaseException | None = None
        try:
            for chunk in chunks:
                if stopped.is_set():
                    return
                ready.put(chunk)
        except BaseException as error:
            end = error
        ready.put(end)

    try:
        stream = sounddevice.OutputStream(samplerate=sample_rate, channels=1, dtype="int16")
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        raise PlaybackError(f"can't play sound: {error} (-o FILE writes it instead)") from error
    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
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
