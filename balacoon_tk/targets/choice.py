"""Which target a voice is run by, and where its compiled graphs lie: in the voice, or in the user's cache."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from balacoon_tk._files import cache_folder
from balacoon_tk._messages import tell
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.voice.files import MANIFEST_FILE, VoiceFiles
from balacoon_tk.voice.manifest import TargetInfo

SEVERAL_THREADS, ONE_THREAD = "ort_cpu", "ort_cpu_1"
"""ONNX Runtime on a processor: where a run may use several threads, and where it may use one."""

STANDARD = "ort_standard"
"""ONNX Runtime's other execution providers, which get standard operators alone."""

NATIVE = "native"
"""The native engine on a processor, which runs decoders and encoders with any number of threads."""

VERSION = 7
"""Of what these targets make of a plain graph: goes up whenever that changes."""


class CompiledFiles(NamedTuple):
    """What was compiled for a target, and the files in which it lies."""

    files: VoiceFiles
    info: TargetInfo


def choose_target(options: RuntimeOptions) -> str:
    """Return the name of the target for some options."""
    if options.other_providers:
        return STANDARD
    return ONE_THREAD if options.n_threads == 1 else SEVERAL_THREADS


def find_compiled(files: VoiceFiles, options: RuntimeOptions) -> CompiledFiles:
    """Return a voice's compiled graphs; the first time, if the voice has none that fit, compile them."""
    manifest, name = files.manifest, choose_target(options)
    info = manifest.targets.get(name)
    if info is not None and info.version == VERSION:
        return CompiledFiles(files, info)
    # Whatever changes what is compiled changes the folder, so that nothing in the cache ever is out of date.
    parts = [str(VERSION), *([STANDARD] if name == STANDARD else []), manifest.fingerprint]
    key = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
    folder = cache_folder() / "compiled" / f"{manifest.stem}-{key}"
    if not (folder / MANIFEST_FILE).is_file():
        # Compiling needs onnx, which a voice that was compiled before is loaded without.
        from balacoon_tk.voice.finish import compile_again

        tell(f"balacoon_tk: compiling {files.path}, once, to {folder}")
        compile_again(files, folder, standard=name == STANDARD)
    compiled = VoiceFiles(folder)
    return CompiledFiles(compiled, compiled.manifest.targets[name])


def find_native(compiled: CompiledFiles) -> TargetInfo | str:
    """Return what was compiled for the native engine, or the reason why there is nothing that it can run."""
    manifest = compiled.files.manifest
    info = manifest.targets.get(NATIVE)
    if info is None:
        return manifest.not_native or "the voice holds no program for the native engine"
    if info.version != VERSION:
        return f"its program was compiled by version {info.version}: this one runs {VERSION}"
    return info
