"""Write a voice in a form that another runtime takes, and compare what it says in it with the voice.

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

from balacoon_tk._files import json_text
from balacoon_tk.cli._common import ProgressLine, format_size, positive_int

NAME = "deploy"
HELP = "write a voice for ONNX Runtime's small builds, TensorRT or Triton"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the voice, the form and where it goes."""
    parser.add_argument("voice", metavar="VOICE", help="voice folder or .addon file")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="the folder that is made")
    parser.add_argument(
        "--form", choices=("ort", "tensorrt", "triton"), required=True, help="what will run the voice"
    )
    parser.add_argument(
        "--platform",
        choices=("arm", "amd64"),
        default="arm",
        help="of ort: arm runs everywhere, amd64 on machines like this one (default: arm)",
    )
    parser.add_argument(
        "--chunk-frames",
        type=positive_int,
        default=32,
        metavar="N",
        help="of tensorrt: frames in a push (default: 32)",
    )
    parser.add_argument(
        "--max-phonemes",
        type=positive_int,
        default=512,
        metavar="N",
        help="of tensorrt: phonemes that a sentence may have (default: 512)",
    )
    parser.add_argument("--json", action="store_true", help="print what was compared as JSON")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in DIR already")


def run(args: argparse.Namespace) -> None:
    """Deploy, and say what was compared and what was not run."""
    from balacoon_tk.export import deploy_voice

    line = ProgressLine()
    made = deploy_voice(
        args.voice,
        args.output,
        form=args.form,
        platform=args.platform,
        chunk_frames=args.chunk_frames,
        max_phonemes=args.max_phonemes,
        overwrite=args.overwrite,
        progress=lambda what, share: line.bar(share, what),
    )
    line.close()
    if args.json:
        said = {
            "path": str(made.path),
            "form": made.form,
            "n_bytes": made.n_bytes,
            "verified": dict(made.verified),
            "not_run_on": made.not_run_on,
        }
        print(json_text(said), end="")
        return
    rows = [("written to", f"{made.path} ({format_size(made.n_bytes)})")]
    rows += [("verified", f"{name}: {value:.1e}") for name, value in made.verified.items()]
    if made.not_run_on is not None:
        rows.append(("not run", f"on {made.not_run_on}: only in ONNX Runtime, as {made.not_run_on} would"))
    print("\n".join(f"{name:<12} {value}" for name, value in rows))
