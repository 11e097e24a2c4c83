"""Speak a text to a WAV file, a pipe or the loudspeakers.

Audio is written while it is made, so that the first sound doesn't wait for the last word:

  balacoon-tk synthesize "Hello there." -o hello.wav
  balacoon-tk synthesize -f book.txt -o - | aplay -f S16_LE -r 22050
  some-llm | balacoon-tk synthesize - -o - | aplay -f S16_LE -r 22050

Text on stdin is spoken as it comes, each sentence once the next word shows that it is over. When each word is
said is written beside it, as captions (.srt, .vtt) or as one JSON object a line:

  balacoon-tk synthesize -f talk.txt -o talk.wav --timestamps talk.srt
"""

from __future__ import annotations

import argparse
import contextlib

from balacoon_tk.cli._audio_output import add_audio_output_argument, check_audio_output, hand_over
from balacoon_tk.cli._captions import Timestamps
from balacoon_tk.cli._common import RUNTIME, add_options, chosen, open_tts, read_pieces


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to say, how, and where to."""
    add_options(parser, "text", "file", "voice", "sha256", "frontend", *RUNTIME, "speaker")
    add_audio_output_argument(parser)
    add = parser.add_argument
    add("--speed", type=float, default=1.0, metavar="X", help="2 is twice as fast (default: 1)")
    add("--volume", type=float, default=1.0, metavar="X", help="factor on the samples (default: 1)")
    add("--noise-scale", type=float, metavar="X", help="how much the sound varies (default: the voice's own)")
    add("--noise-w", type=float, metavar="X", help="how much the rhythm varies (default: the voice's own)")
    add("--seed", type=int, metavar="N", help="the same seed gives the same audio")
    add("--clause", action="store_true", help="speak the first clause before its sentence is there")
    own = "(default: the voice's own)"
    add("--sentence-pause", type=float, metavar="S", help=f"seconds between sentences {own}")
    add("--paragraph-pause", type=float, metavar="S", help="seconds between paragraphs (default: the same)")
    markups = "plain, markdown or ssml (default: ssml where it begins with <speak, else inline Markdown)"
    add("--markup", metavar="NAME", help=f"what stands in the text beside what is said: {markups}")
    add("--timestamps", metavar="FILE", help="write when each word is said: .srt, .vtt, or JSON lines")
    add_options(parser, "strategy", "chunk-frames")


def run(args: argparse.Namespace) -> None:
    """Speak."""
    # Before the text: who gave no place for the audio would type a text on stdin in vain.
    check_audio_output(args)
    timestamps = None if args.timestamps is None else Timestamps(args.timestamps)
    text = read_pieces(args)
    text = text if timestamps is None else timestamps.reading(text)
    tts = open_tts(args)
    prosody = ("speaker", "speed", "volume", "noise_scale", "noise_w", "sentence_pause", "paragraph_pause")
    settings = chosen(args, *prosody, "seed", "strategy", "chunk_frames", "clause", "markup")
    # Closed also where playback was interrupted: a thread may wait for text that never comes.
    with contextlib.closing(tts.stream(text, **settings)) as chunks:
        spoken = chunks if timestamps is None else timestamps.following(chunks)
        hand_over(spoken, args.output, tts.get_sampling_rate())
