"""Speak a text to a WAV file, a pipe or the loudspeakers.

Audio is written while it is made, so that the first sound doesn't wait for the last word:

  balacoon-tk synthesize "Hello there." -o hello.wav
  balacoon-tk synthesize -f book.txt -o - | aplay -f S16_LE -r 22050
  some-llm | balacoon-tk synthesize - -o - | aplay -f S16_LE -r 22050

Text on stdin is spoken as it comes, each sentence once the next word shows that it is over.
"""

from __future__ import annotations

import argparse
import contextlib

from balacoon_tk.cli._audio_output import add_audio_output_argument, check_audio_output, hand_over
from balacoon_tk.cli._common import add_options, chosen, open_tts, read_pieces


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to say, how, and where to."""
    add_options(parser, "text", "file", "voice", "sha256", "frontend", "threads", "backend", "speaker")
    add_audio_output_argument(parser)
    add = parser.add_argument
    add("--speed", type=float, default=1.0, metavar="X", help="2 is twice as fast (default: 1)")
    add("--volume", type=float, default=1.0, metavar="X", help="factor on the samples (default: 1)")
    add("--noise-scale", type=float, metavar="X", help="how much the sound varies (default: the voice's own)")
    add("--noise-w", type=float, metavar="X", help="how much the rhythm varies (default: the voice's own)")
    add("--seed", type=int, metavar="N", help="the same seed gives the same audio")
    add("--clause", action="store_true", help="speak the first clause before its sentence is there")
    add_options(parser, "strategy", "chunk-frames")


def run(args: argparse.Namespace) -> None:
    """Speak."""
    # Before the text: who gave no place for the audio would type a text on stdin in vain.
    check_audio_output(args)
    text = read_pieces(args)
    tts = open_tts(args)
    settings = ("speaker", "speed", "volume", "noise_scale", "noise_w", "seed", "strategy", "chunk_frames")
    # Closed also where playback was interrupted: a thread may wait for text that never comes.
    with contextlib.closing(tts.stream(text, **chosen(args, *settings, "clause"))) as chunks:
        hand_over(chunks, args.output, tts.get_sampling_rate())
