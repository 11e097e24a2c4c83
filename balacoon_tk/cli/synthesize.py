"""Speak a text: to a WAV file, as raw PCM on stdout, or through the loudspeakers.

Audio is written while it is made, so that the first sound doesn't wait for the last word:

  balacoon-tk synthesize "Hello there." -o hello.wav
  balacoon-tk synthesize -f book.txt -o - | aplay -f S16_LE -r 22050
  echo "Hello there." | balacoon-tk synthesize -
"""

from __future__ import annotations

import argparse

from balacoon_tk.cli._audio_output import add_audio_output_argument, check_audio_output, hand_over
from balacoon_tk.cli._common import (
    add_chunk_argument,
    add_text_arguments,
    add_voice_arguments,
    open_tts,
    read_text,
)

NAME = "synthesize"
HELP = "speak a text to a WAV file, a pipe or the loudspeakers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to say, how, and where to."""
    add_text_arguments(parser)
    add_voice_arguments(parser)
    add_audio_output_argument(parser)
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
    check_audio_output(args)
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
    hand_over(chunks, args.output, tts.get_sampling_rate())
