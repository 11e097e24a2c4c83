"""Write a voice for ONNX Runtime's small builds, TensorRT or Triton.

In each form, what it says is compared with the voice:

  ort       ONNX Runtime's own format, for small builds of it, with the list of operators that they need
  tensorrt  graphs of known shapes and operators, with the lines that build engines of them
  triton    a model repository whose server carries the decoder's states from push to push

Graphs for TensorRT and Triton are run in ONNX Runtime as those would run them, not on them. The folder's
README says how it is used. Needs the extra 'export'.

  balacoon-tk deploy voices/joe -o joe-phone --form ort
  balacoon-tk deploy voices/joe -o joe-server --form triton
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from balacoon_tk.cli._common import (
    ProgressLine,
    add_options,
    chosen,
    format_size,
    positive_int,
    write_report,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the voice, the form and where it goes."""
    add = parser.add_argument
    add("voice", metavar="VOICE", help="voice folder or .addon file")
    add("-o", "--output", metavar="DIR", required=True, help="the folder that is made")
    add("--form", choices=("ort", "tensorrt", "triton"), required=True, help="what will run the voice")
    runs_on = "of ort: arm runs everywhere, amd64 on machines like this one (default: arm)"
    add("--platform", choices=("arm", "amd64"), default="arm", help=runs_on)
    n_frames = "of tensorrt: frames in a push (default: 32)"
    add("--chunk-frames", type=positive_int, default=32, metavar="N", help=n_frames)
    n_phonemes = "of tensorrt: phonemes that a sentence may have (default: 512)"
    add("--max-phonemes", type=positive_int, default=512, metavar="N", help=n_phonemes)
    add_options(parser, "json", "overwrite")


def run(args: argparse.Namespace) -> None:
    """Deploy, and say what was compared and what was not run."""
    from balacoon_tk.export import deploy_voice

    with ProgressLine() as line:
        settings = chosen(args, "form", "platform", "chunk_frames", "max_phonemes", "overwrite")
        made = deploy_voice(args.voice, args.output, progress=line.bar, **settings)
    rows = [("written to", f"{made.path} ({format_size(made.n_bytes)})")]
    rows += [("verified", f"{name}: {value:.1e}") for name, value in made.verified.items()]
    # Said in so many words: what was compared in ONNX Runtime is no proof for another runtime.
    if made.not_run_on is not None:
        rows.append(("not run", f"on {made.not_run_on}: only in ONNX Runtime, as {made.not_run_on} would"))
    table = "\n".join(f"{name:<12} {value}" for name, value in rows)
    # JSON knows no paths.
    write_report({**asdict(made), "path": str(made.path)}, table, as_json=args.json)
