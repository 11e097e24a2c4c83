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

import onnx

from balacoon_tk.decoder.renderer import decode_in_chunks
from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import runtime_version
from balacoon_tk.stages.encoder import Encoder
from balacoon_tk.targets.choice import ONE_THREAD, SEVERAL_THREADS, VERSION
from balacoon_tk.targets.source import DeployedForm, Source
from balacoon_tk.voice.files import MANIFEST_FILE
from balacoon_tk.voice.manifest import CompiledGraph, FileInfo

Platform = Literal["arm", "amd64"]

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
# amd64 keeps convolutions in blocks of as many channels as this machine's vectors hold numbers.
_LAYOUTS: Mapping[Platform, str] = {
    "arm": "Convolutions are in the plain layout, which runs on every processor.",
    "amd64": "Convolutions are in blocks for processors with vectors as wide as those of the machine that\n"
    "wrote this, and run on no others.",
}


def make_ort_form(source: Source, *, platform: Platform) -> DeployedForm:
    """Write a voice's graphs in ONNX Runtime's own format, and run them beside the voice."""
    voice, manifest, target = source.voice, source.voice.manifest, source.voice.target
    files = _convert({"encoder": source.encoder, "decoder": source.decoder}, platform)
    encoder = Encoder(files["encoder.ort"], n_symbols=manifest.frontend.n_symbols, options=voice.options)
    engine = OrtEngine(files["decoder.ort"], voice.options)
    verified = {
        "encodings": source.compare_encoder(encoder),
        "samples_whole": source.compare_samples(
            lambda utterance: engine.whole(engine.contract.check(utterance.feeds))["samples"].reshape(-1)
        ),
    }
    if engine.streaming is not None:
        verified["samples_streamed"] = source.compare_samples(
            lambda utterance: decode_in_chunks(engine, utterance.feeds, chunk_frames=_CHUNK_FRAMES)
        )
    encoding, decoding = (
        CompiledGraph(file, hashlib.sha256(files[file]).hexdigest(), info.passes if info else ())
        for file, info in (("encoder.ort", target.encoder), ("decoder.ort", target.decoder))
    )
    target = replace(target, version=VERSION, encoder=encoding, decoder=decoding)
    # There is no plain graph in it: small builds of the runtime read their own format alone.
    manifest = replace(
        manifest,
        text=replace(manifest.speech, encoder=FileInfo(encoding.file, encoding.sha256)),
        decoder=replace(manifest.decoder, file=decoding.file, sha256=decoding.sha256),
        weights=None,
        targets={SEVERAL_THREADS: target, ONE_THREAD: target},
        verified={**manifest.verified, **{f"ort_{name}": value for name, value in verified.items()}},
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


def _convert(models: Mapping[str, onnx.ModelProto], platform: Platform) -> dict[str, bytes]:
    """Return the graphs and the list of their operators, by file name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for stem, model in models.items():
            (folder / f"{stem}.onnx").write_bytes(model.SerializeToString())
        # Fixed: all is optimized now, because small builds can't do it when they load a graph.
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
    return files | {"required_operators.config": "".join(f"{line}\n" for line in lines).encode()}
