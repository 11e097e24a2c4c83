"""Export a trained voice, so that it can be run and streamed.

The graph is split into an encoder and a decoder, checked against the original, and put into DIR
with a voice.json that says what it is. Nothing is left behind if that fails.

  balacoon-tk export en_US-joe-medium.onnx -o voices/joe
"""

from __future__ import annotations

import argparse

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "export"
HELP = "make a voice folder of a trained model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the source and where its voice goes."""
    parser.add_argument(
        "source", nargs="?", metavar="VOICE", help="trained model, such as a Piper voice's .onnx file"
    )
    parser.add_argument("-o", "--output", metavar="DIR", help="folder of the exported voice")
    parser.add_argument("--config", metavar="FILE", help="the model's JSON file (default: VOICE.json)")
    parser.add_argument("--overwrite", action="store_true", help="replace a voice that is there already")
    parser.add_argument("--list", action="store_true", help="list the kinds of model that can be exported")


def run(args: argparse.Namespace) -> None:
    """Export, and show what became of the model."""
