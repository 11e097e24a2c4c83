"""Which engine runs a voice's encoder and decoder, each by itself: the native one, or ONNX Runtime; and why.

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Generic, Literal, TypeAlias, TypeVar, cast, get_args

from balacoon_tk._files import cache_folder, json_text, write_whole
from balacoon_tk.errors import ModelError, ParameterError, VoiceError
from balacoon_tk.runtime.engine import Engine, Feeds
from balacoon_tk.runtime.machine import cpu_name
from balacoon_tk.runtime.native.opening import open_program
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import runtime_version
from balacoon_tk.stages.encoder import Encoder
from balacoon_tk.targets.choice import VERSION, CompiledFiles, find_native
from balacoon_tk.voice.manifest import Manifest, TargetInfo
from balacoon_tk.voice.race import Race, race, race_encoders

BACKEND_VARIABLE = "BALACOON_TK_BACKEND"
"""Environment variable: what ``auto`` takes without measuring, native (where it can) or onnxruntime."""

EngineName: TypeAlias = Literal["native", "onnxruntime"]

_FORMAT_VERSION = 1
_ASKED_FOR = "it was asked for"


class BackendWarning(UserWarning):
    """The native engine can't run here, or not rightly, what a voice holds for it: ONNX Runtime does."""


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """Which engine runs a part of a voice, and why."""

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


_Runner = TypeVar("_Runner", Engine, Encoder)


@dataclass(frozen=True, slots=True, eq=False)
class Opened(Generic[_Runner]):
    """A part of a voice in one of the engines."""

    runner: _Runner
    target: TargetInfo
    """What was compiled for that engine."""
    choice: BackendChoice
    kernels: str | None = None
    """The native engine's, which depend on the processor."""
    fell_back: bool = False
    """Whether it is ONNX Runtime although there is a program."""


def open_decoders(
    manifest: Manifest, compiled: CompiledFiles, options: RuntimeOptions
) -> list[Opened[Engine]]:
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
    native = _find_native(compiled, options)
    if options.backend == "native" and isinstance(native, str):
        raise ModelError(f"backend='native' can't run it: {native}")
    return _open(
        native,
        options,
        _Choices(manifest, options, "decoder"),
        partial(_open_ort_decoder, compiled, options),
        partial(_open_native_decoder, compiled, options),
    )


def open_encoders(
    manifest: Manifest, compiled: CompiledFiles, options: RuntimeOptions
) -> list[Opened[Encoder]]:
    """Open a voice's encoder as `open_decoders` does its decoder; without a program, in ONNX Runtime."""
    native = _find_native(compiled, options)
    if not isinstance(native, str) and native.encoder is None:
        native = compiled.files.manifest.encoder_not_native or "the voice holds no program for its encoder"
    n_symbols = manifest.frontend.n_symbols
    return _open(
        native,
        options,
        _Choices(manifest, options, "encoder"),
        partial(_open_ort_encoder, compiled, options, n_symbols),
        partial(_open_native_encoder, compiled, options, n_symbols),
    )


def _open(
    native: TargetInfo | str,
    options: RuntimeOptions,
    choices: _Choices,
    open_ort: Callable[[str], Opened[_Runner]],
    open_native: Callable[[TargetInfo, str], Opened[_Runner]],
) -> list[Opened[_Runner]]:
    """Open a part of a voice; `native` is what was compiled for the native engine, or why nothing was."""
    if options.backend == "onnxruntime":
        return [open_ort(_ASKED_FOR)]
    if isinstance(native, str):
        return [open_ort(native)]
    if options.backend == "native":
        return [open_native(native, _ASKED_FOR)]
    wanted = _preferred()
    try:
        kept = None if wanted else choices.load()
        known = wanted if kept is None else kept.choice
        if known is not None and known.name == "onnxruntime":
            return [open_ort(known.reason)]
        opened = open_native(native, "" if known is None else known.reason)
    except VoiceError:  # a damaged file is no other engine's to pass over
        raise
    except ModelError as error:
        return [replace(open_ort(f"the native engine can't run it: {error}"), fell_back=True)]
    # Other instructions than those that were measured may be switched off or on in a virtual machine.
    if known is None or (kept is not None and kept.kernels != opened.kernels):
        return [opened, open_ort("")]
    return [opened]


def choose_decoder(
    opened: Sequence[Opened[Engine]], manifest: Manifest, options: RuntimeOptions, timeless: Feeds
) -> Opened[Engine]:
    """Return the one decoder that was opened, or the faster of two, and keep which one that is.

    `timeless` are the decoder's inputs without time, for the engines to be run with.
    """
    choices = _Choices(manifest, options, "decoder")
    return _choose(opened, manifest, choices, lambda first, other: race(first, other, manifest, timeless))


def choose_encoder(
    opened: Sequence[Opened[Encoder]], manifest: Manifest, options: RuntimeOptions
) -> Opened[Encoder]:
    """Return the one encoder that was opened, or the faster of two, and keep which one that is."""
    choices = _Choices(manifest, options, "encoder")
    return _choose(opened, manifest, choices, lambda first, other: race_encoders(first, other, manifest))


def _choose(
    opened: Sequence[Opened[_Runner]],
    manifest: Manifest,
    choices: _Choices,
    run: Callable[[_Runner, _Runner], Race],
) -> Opened[_Runner]:
    if len(opened) == 1:
        if opened[0].fell_back:
            message = f"{manifest.name}: {opened[0].choice.reason}; ONNX Runtime does"
            warnings.warn(message, BackendWarning, stacklevel=5)
        return opened[0]
    native, ort = opened
    found = run(native.runner, ort.runner)
    choice = _judge(found)
    if found.difference is not None:
        warnings.warn(f"{manifest.name}: {choice.reason}; ONNX Runtime runs it", BackendWarning, stacklevel=5)
    choices.keep(_Kept(choice, native.kernels))
    return replace(native if choice.name == "native" else ort, choice=choice)


def forget_choice(manifest: Manifest, options: RuntimeOptions) -> None:
    """Forget what was measured of a voice on this machine, so that it is measured anew."""
    for part in ("decoder", "encoder"):
        with contextlib.suppress(OSError):
            _Choices(manifest, options, part).path.unlink(missing_ok=True)


def _find_native(compiled: CompiledFiles, options: RuntimeOptions) -> TargetInfo | str:
    if options.other_providers:
        return f"providers={options.providers} are ONNX Runtime's"
    return find_native(compiled)


@contextmanager
def _naming(file: str) -> Iterator[None]:
    """Say of which file an error is."""
    try:
        yield
    except VoiceError:
        raise
    except (ModelError, ParameterError) as error:
        named = str(error).startswith(file)
        raise ModelError(str(error) if named else f"{file}: {error}") from error


def _open_ort_decoder(compiled: CompiledFiles, options: RuntimeOptions, reason: str) -> Opened[Engine]:
    info = compiled.info.decoder
    model = compiled.files.graph(info)
    try:
        engine = OrtEngine(model, options)
    except (ModelError, ParameterError) as error:
        raise VoiceError(f"{info.file}: {error}") from error
    return Opened(engine, compiled.info, BackendChoice("onnxruntime", reason))


def _open_native_decoder(
    compiled: CompiledFiles, options: RuntimeOptions, target: TargetInfo, reason: str
) -> Opened[Engine]:
    with _naming(target.decoder.file):
        program = compiled.files.program(target.decoder)
        engine = open_program(program, options, label=target.decoder.file)
    return Opened(engine, target, BackendChoice("native", reason), engine.kernels)


def _open_ort_encoder(
    compiled: CompiledFiles, options: RuntimeOptions, n_symbols: int, reason: str
) -> Opened[Encoder]:
    info = compiled.info.encoder
    if info is None:
        raise VoiceError("targets: the encoder was not compiled, and the voice speaks text")
    model = compiled.files.graph(info)
    try:
        encoder = Encoder(model, n_symbols=n_symbols, options=options)
    except (ModelError, ParameterError) as error:
        raise VoiceError(f"{info.file}: {error}") from error
    return Opened(encoder, compiled.info, BackendChoice("onnxruntime", reason))


def _open_native_encoder(
    compiled: CompiledFiles, options: RuntimeOptions, n_symbols: int, target: TargetInfo, reason: str
) -> Opened[Encoder]:
    assert target.encoder is not None
    with _naming(target.encoder.file):
        program = compiled.files.program(target.encoder)
        encoder = Encoder(program, n_symbols=n_symbols, options=options)
    return Opened(encoder, target, BackendChoice("native", reason), encoder.kernels)


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


class _Choices:
    """What was measured of a part of a voice on this machine, in the user's cache."""

    def __init__(self, manifest: Manifest, options: RuntimeOptions, part: str) -> None:
        self._manifest, self._options, self._part = manifest, options, part

    def load(self) -> _Kept | None:
        """Return what was kept, or None if nothing is to be trusted."""
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            if data["format_version"] != _FORMAT_VERSION or data["key"] != self._key:
                return None
            # By the table, so that no other name passes.
            name = {name: name for name in get_args(EngineName)}[data["choice"]["name"]]
            return _Kept(BackendChoice(name, str(data["choice"]["reason"])), data["kernels"])
        # It is measured again; nothing here is worth a voice that can't speak.
        except (OSError, KeyError, TypeError, ValueError, RecursionError):
            return None

    def keep(self, kept: _Kept) -> None:
        """Keep what was measured."""
        # A cache that can't be written to costs another measurement, and no voice.
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            record = {"format_version": _FORMAT_VERSION, "voice": self._manifest.name, "key": self._key}
            write_whole(self.path, json_text({**record, **asdict(kept)}))

    @property
    def path(self) -> Path:
        """Where it is kept."""
        text = json.dumps([_FORMAT_VERSION, self._key], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return cache_folder() / "backends" / f"{self._manifest.stem}-{self._part}-{digest}.json"

    @property
    def _key(self) -> dict[str, str | int | None]:
        """All that a measurement depends on."""
        return {
            "voice": self._manifest.fingerprint,
            "part": self._part,
            "compiled": VERSION,
            "n_threads": self._options.n_threads,
            "cpu": cpu_name(),
            "n_cpus": os.cpu_count(),
            "onnxruntime": runtime_version(),
            "balacoon_tk": version("balacoon_tk"),  # whose kernels may have become faster
        }
