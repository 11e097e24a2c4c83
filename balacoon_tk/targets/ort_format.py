"""A voice in ONNX Runtime's own format, for builds of it that are small: phones, and what is smaller.

ONNX Runtime's converter writes the graphs; it runs in a process of its own, because it sets up logging
and prints when it is imported.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from balacoon_tk._typing import FloatArray
from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import runtime_version
from balacoon_tk.stages.encoder import Encoder
from balacoon_tk.targets.source import DeployedForm, Source, Utterance, compare_encoder, compare_samples
from balacoon_tk.voice.files import MANIFEST_FILE

Platform = Literal["arm", "amd64"]
"""``amd64`` keeps convolutions in blocks of as many channels as this machine's vectors hold numbers, for
machines of its kind alone; ``arm`` has no blocks, and runs everywhere."""

_OPERATORS_FILE = "required_operators.config"
_CHUNK_FRAMES = 16

_README = """\
# {name} in ONNX Runtime's format

A voice like any other: `balacoon-tk synthesize -v FOLDER` speaks with it, and a program in another language
loads `encoder.ort` and `decoder.ort` into ONNX Runtime {runtime} or later. They need no more of it than
`required_operators.config` lists, with the types of each operator:

    ./build.sh --config MinSizeRel --minimal_build --skip_tests \\
        --include_ops_by_config required_operators.config --enable_reduced_operator_type_support

Operators of `com.microsoft` in the list are what ONNX Runtime has joined nodes to; a build has them unless it
is told to leave them out.

{layout}

The samples, whole and in chunks of {chunk} frames, were compared with those of the voice this was made of,
in ONNX Runtime {runtime}: the largest difference is {difference:.1e}.
"""
_LAYOUTS: Mapping[Platform, str] = {
    "arm": "Convolutions are in the plain layout, which runs on every processor.",
    "amd64": "Convolutions are in blocks for processors with vectors as wide as those of the machine that\n"
    "wrote this, and run on no others.",
}


def make_ort_form(source: Source, *, platform: Platform) -> DeployedForm:
    """Write a voice's graphs in ONNX Runtime's own format and run them beside the voice.

    Raises
    ------
    ModelError
        If the converter fails, or the graphs say something else than the voice's.
    """
    voice, tolerance = source.voice, source.max_abs_diff
    files = _convert({"encoder": source.encoder, "decoder": source.decoder}, platform)
    n_symbols = 1 + max(max(ids) for ids in voice.manifest.frontend.phoneme_ids.values())
    encoder = Encoder(
        files["encoder.ort"], n_symbols=n_symbols, options=RuntimeOptions(n_threads=voice.n_threads)
    )
    graph = OrtEngine(files["decoder.ort"], RuntimeOptions(n_threads=voice.n_threads))
    verified = {
        "encodings": compare_encoder(encoder, source.utterances, tolerance=tolerance),
        "samples_whole": compare_samples(
            lambda utterance: graph.whole(graph.contract.check(utterance.feeds))["samples"].reshape(-1),
            source.utterances,
            tolerance=tolerance,
        ),
    }
    if graph.streaming is not None:
        verified["samples_streamed"] = compare_samples(
            lambda utterance: _stream(graph, utterance), source.utterances, tolerance=tolerance
        )
    manifest = replace(
        voice.manifest,
        encoder=replace(voice.manifest.encoder, file="encoder.ort", sha256=_sha256(files["encoder.ort"])),
        decoder=replace(voice.manifest.decoder, file="decoder.ort", sha256=_sha256(files["decoder.ort"])),
        verified={**voice.manifest.verified, **{f"ort_{name}": value for name, value in verified.items()}},
    )
    readme = _README.format(
        name=manifest.name,
        runtime=runtime_version(),
        layout=_LAYOUTS[platform],
        chunk=_CHUNK_FRAMES,
        difference=max(value for name, value in verified.items() if name != "encodings"),
    )
    texts = {MANIFEST_FILE: manifest.to_json().encode(), "README.md": readme.encode()}
    return DeployedForm(files | texts, verified, not_run_on=None)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _stream(graph: OrtEngine, utterance: Utterance) -> FloatArray:
    decoder, n_frames = StatefulDecoder(graph), utterance.n_frames
    pieces = []
    for start in range(0, n_frames, _CHUNK_FRAMES):
        stop = start + _CHUNK_FRAMES
        pieces.append(np.asarray(decoder.push(utterance.part(start, stop), last=stop >= n_frames)))
    return np.concatenate([piece.reshape(-1) for piece in pieces])


def _convert(models: Mapping[str, bytes], platform: Platform) -> dict[str, bytes]:
    """Return the graphs and the list of their operators, by file name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for stem, data in models.items():
            (folder / f"{stem}.onnx").write_bytes(data)
        options = ["--optimization_style", "Fixed", "--enable_type_reduction", "--target_platform", platform]
        done = subprocess.run(
            [sys.executable, "-m", "onnxruntime.tools.convert_onnx_models_to_ort", *options, name],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            reason = (done.stderr.strip() or "it said nothing").splitlines()[-1]
            raise ModelError(f"ONNX Runtime's converter failed: {reason}")
        files = {f"{stem}.ort": (folder / f"{stem}.ort").read_bytes() for stem in models}
        operators = (folder / "required_operators_and_types.config").read_text(encoding="utf-8")
    # The comments name the folder.
    lines = [line for line in operators.splitlines() if line and not line.startswith("#")]
    return files | {_OPERATORS_FILE: "".join(f"{line}\n" for line in lines).encode()}
