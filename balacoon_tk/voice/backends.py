"""Which engine runs a voice's decoder: the native one, or ONNX Runtime; and why.

With ``backend="auto"`` both are run in turn the first time that a voice is loaded on a machine; which one was
faster is kept in the user's cache, and later only that is loaded. What the native engine can't run, ONNX
Runtime does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args

from balacoon_tk._files import cache_folder, json_text, write_whole
from balacoon_tk.decoder.engines import open_program
from balacoon_tk.errors import ModelError, ParameterError, VoiceError
from balacoon_tk.runtime.engine import Engine, Feeds
from balacoon_tk.runtime.machine import cpu_name
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import runtime_version
from balacoon_tk.targets.choice import VERSION, CompiledFiles, find_native
from balacoon_tk.voice.manifest import Manifest, TargetInfo
from balacoon_tk.voice.race import Race, race

BACKEND_VARIABLE = "BALACOON_TK_BACKEND"
"""Environment variable: what ``auto`` takes without measuring, native (where it can) or onnxruntime."""

EngineName: TypeAlias = Literal["native", "onnxruntime"]

_FORMAT_VERSION = 1
_ASKED_FOR = "it was asked for"


class BackendWarning(UserWarning):
    """The native engine can't run here, or not rightly, what a voice holds for it: ONNX Runtime does."""


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """Which engine runs a voice's decoder, and why."""

    name: EngineName
    reason: str

    def __str__(self) -> str:
        """Return both for a person."""
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was measured once."""

    choice: BackendChoice
    kernels: str | None
    """Those of the native engine at that time."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenedDecoder:
    """A decoder in one of the engines."""

    engine: Engine
    target: TargetInfo
    """What was compiled for that engine; the encoder is ONNX Runtime's."""
    choice: BackendChoice
    kernels: str | None = None
    """The native engine's, which depend on the processor."""
    fell_back: bool = False
    """Whether it is ONNX Runtime although there is a program."""


def open_decoders(
    manifest: Manifest, compiled: CompiledFiles, options: RuntimeOptions
) -> list[OpenedDecoder]:
    """Open a voice's decoder in the engine that runs it; in both, native first, if nobody has measured them.

    Parameters
    ----------
    manifest : Manifest
        Of the voice itself, whose compiled files may lie elsewhere.
    compiled : CompiledFiles
    options : RuntimeOptions

    Raises
    ------
    ModelError
        If the graph or the program can't be loaded; in ``auto`` ONNX Runtime takes over from the program.
    """
    if options.backend == "onnxruntime":
        return [_open_ort(compiled, options, _ASKED_FOR)]
    native = _find_native(compiled, options)
    if options.backend == "native":
        if isinstance(native, str):
            raise ModelError(f"backend='native' can't run it: {native}")
        return [_open_native(compiled, native, options, _ASKED_FOR)]
    if isinstance(native, str):
        return [_open_ort(compiled, options, native)]
    wanted = _preferred()
    try:
        kept = None if wanted else _load_kept(manifest, options)
        known = wanted if kept is None else kept.choice
        if known is not None and known.name == "onnxruntime":
            return [_open_ort(compiled, options, known.reason)]
        opened = _open_native(compiled, native, options, "" if known is None else known.reason)
    except VoiceError:  # a damaged file is no other engine's to pass over
        raise
    except ModelError as error:
        opened = _open_ort(compiled, options, f"the native engine can't run it: {error}")
        return [replace(opened, fell_back=True)]
    # Other instructions than those that were measured may be switched off or on in a virtual machine.
    if known is None or (kept is not None and kept.kernels != opened.kernels):
        return [opened, _open_ort(compiled, options, "")]
    return [opened]


def choose_decoder(
    opened: Sequence[OpenedDecoder], manifest: Manifest, options: RuntimeOptions, timeless: Feeds
) -> OpenedDecoder:
    """Return the one decoder that was opened, or the faster of two, and keep which one that is.

    `timeless` are the decoder's inputs without time, for the engines to be run with.
    """
    if len(opened) == 1:
        if opened[0].fell_back:
            message = f"{manifest.name}: {opened[0].choice.reason}; ONNX Runtime does"
            warnings.warn(message, BackendWarning, stacklevel=4)
        return opened[0]
    native, ort = opened
    found = race(native.engine, ort.engine, manifest, timeless)
    choice = _judge(found)
    if found.difference is not None:
        warnings.warn(f"{manifest.name}: {choice.reason}; ONNX Runtime runs it", BackendWarning, stacklevel=4)
    # A cache that can't be written to costs another measurement, and no voice.
    with contextlib.suppress(OSError):
        path = _choice_file(manifest, options)
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"format_version": _FORMAT_VERSION, "voice": manifest.name, "key": _key(manifest, options)}
        write_whole(path, json_text({**record, **asdict(_Kept(choice, native.kernels))}))
    return replace(native if choice.name == "native" else ort, choice=choice)


def forget_choice(manifest: Manifest, options: RuntimeOptions) -> None:
    """Forget what was measured of a voice on this machine, so that it is measured anew."""
    with contextlib.suppress(OSError):
        _choice_file(manifest, options).unlink(missing_ok=True)


def _find_native(compiled: CompiledFiles, options: RuntimeOptions) -> TargetInfo | str:
    if options.other_providers:
        return f"providers={options.providers} are ONNX Runtime's"
    return find_native(compiled)


def _open_ort(compiled: CompiledFiles, options: RuntimeOptions, reason: str) -> OpenedDecoder:
    info = compiled.info.decoder
    model = compiled.files.graph(info)
    try:
        engine = OrtEngine(model, options)
    except (ModelError, ParameterError) as error:
        raise VoiceError(f"{info.file}: {error}") from error
    return OpenedDecoder(engine, compiled.info, BackendChoice("onnxruntime", reason))


def _open_native(
    compiled: CompiledFiles, target: TargetInfo, options: RuntimeOptions, reason: str
) -> OpenedDecoder:
    file = target.decoder.file
    try:
        engine = open_program(compiled.files.program(target.decoder), options, label=file)
    except VoiceError:
        raise
    except (ModelError, ParameterError) as error:
        named = str(error).startswith(file)
        raise ModelError(str(error) if named else f"{file}: {error}") from error
    target = replace(target, encoder=compiled.info.encoder)
    return OpenedDecoder(engine, target, BackendChoice("native", reason), engine.kernels)


def _judge(found: Race) -> BackendChoice:
    if found.difference is not None:
        return BackendChoice("onnxruntime", f"on this machine the two don't agree: {found.difference}")
    if found.ratio < 1.0:
        return BackendChoice("native", f"{found.ratio:.2f} of ONNX Runtime's time on this machine")
    return BackendChoice(
        "onnxruntime", f"the native engine takes {found.ratio:.2f} of its time on this machine"
    )


def _preferred() -> BackendChoice | None:
    name = os.environ.get(BACKEND_VARIABLE, "auto")
    if name not in ("auto", "native", "onnxruntime"):
        raise ParameterError(f"{BACKEND_VARIABLE}={name!r} must be one of auto, native, onnxruntime")
    reason = f"{BACKEND_VARIABLE} says so"
    return None if name == "auto" else BackendChoice(cast(EngineName, name), reason)


def _load_kept(manifest: Manifest, options: RuntimeOptions) -> _Kept | None:
    """Return what was measured of a voice on this machine, or None if nothing is to be trusted."""
    try:
        data = json.loads(_choice_file(manifest, options).read_text(encoding="utf-8"))
        if data["format_version"] != _FORMAT_VERSION or data["key"] != _key(manifest, options):
            return None
        # By the table, so that no other name passes.
        name = {name: name for name in get_args(EngineName)}[data["choice"]["name"]]
        return _Kept(BackendChoice(name, str(data["choice"]["reason"])), data["kernels"])
    # It is measured again; nothing here is worth a voice that can't speak.
    except (OSError, KeyError, TypeError, ValueError, RecursionError):
        return None


def _choice_file(manifest: Manifest, options: RuntimeOptions) -> Path:
    text = json.dumps([_FORMAT_VERSION, _key(manifest, options)], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return cache_folder() / "backends" / f"{manifest.stem}-{digest}.json"


def _key(manifest: Manifest, options: RuntimeOptions) -> dict[str, str | int | None]:
    """Return all that a measurement depends on."""
    return {
        "voice": manifest.fingerprint,
        "compiled": VERSION,
        "n_threads": options.n_threads,
        "cpu": cpu_name(),
        "n_cpus": os.cpu_count(),
        "onnxruntime": runtime_version(),
        "balacoon_tk": version("balacoon_tk"),  # whose kernels may have become faster
    }
