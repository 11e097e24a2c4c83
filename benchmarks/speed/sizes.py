"""What has to be installed for an engine to speak: distributions with all that they require, and a voice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import balacoon_tk
from balacoon_tk.voice.default import default_voice_folder
from peers.files import cache_folder, model_path
from peers.int8_voice import int8_voice

_MEGA = 1e6
_INSTALLED_SUFFIXES = {".py", ".pyi", ".so", ".pyd", ".txt", ".css", ".js", ".typed"}
"""Of files in the folder of a package that is worked on: others are sources, and aren't installed."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What an engine runs on."""

    distributions: tuple[str, ...]
    """Each with all that it requires."""
    alone: tuple[str, ...] = ()
    """Of these nothing but themselves: who lends its espeak-ng to others runs no voice for them."""
    voice: Callable[[], Path | None] = lambda: None
    """The file or folder that the voice is read from; None where it lies in a distribution."""


_ESPEAK = ("piper-tts",)
NEEDS = {
    "balacoon_tk": Needs(("balacoon_tk",), _ESPEAK, default_voice_folder),
    "balacoon_tk, gruut": Needs(("balacoon_tk", "gruut", "num2words"), (), default_voice_folder),
    "balacoon_tk, int8": Needs(("balacoon_tk",), _ESPEAK, int8_voice),
    "streaming-vits": Needs(("streaming-vits",), _ESPEAK, partial(cache_folder, "streaming-vits")),
    "piper-tts": Needs(("piper-tts",), (), model_path),
    "sherpa-onnx": Needs(("sherpa-onnx",), _ESPEAK, partial(cache_folder, "sherpa-onnx")),
    "torch": Needs(("torch", "transformers"), _ESPEAK, partial(cache_folder, "torch")),
    "hibari-tts": Needs(("hibari-tts",)),
}


def measure(*, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return by engine ``packages_mb``, ``voice_mb`` and the ``distributions``, of what is installed here.

    Python itself counts for nobody. Engines that make files of a voice must have made them before.
    """
    return {name: size_of(NEEDS[name]) for name in names}


def size_of(needs: Needs) -> dict[str, Any]:
    """Return the sizes of what an engine needs, in MB of 1e6 bytes."""
    named = sorted({*closure(needs.distributions), *map(canonicalize_name, needs.alone)})
    voice = needs.voice()
    return {
        "packages_mb": sum(distribution_bytes(distribution(name)) for name in named) / _MEGA,
        "voice_mb": 0.0 if voice is None else path_bytes(voice) / _MEGA,
        "distributions": named,
    }


def closure(names: Iterable[str]) -> set[str]:
    """Return distributions and all that they require on this system, without what is optional."""
    found: set[str] = set()
    wanted = [Requirement(name) for name in names]
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        found.add(name)
        for text in distribution(name).requires or ():
            other = Requirement(text)
            extras = requirement.extras or {""}
            if other.marker is None or any(other.marker.evaluate({"extra": extra}) for extra in extras):
                wanted.append(other)
    return found


def distribution_bytes(found: Distribution) -> int:
    """Return what a distribution's files take, as its RECORD names them."""
    if canonicalize_name(found.name) == canonicalize_name(balacoon_tk.__name__):
        return _own_bytes(Path(balacoon_tk.__file__).parent)
    paths = (Path(str(file.locate())) for file in found.files or ())
    # Bytecode is made of the rest, by some installers and not by others.
    return sum(path.stat().st_size for path in paths if path.is_file() and path.suffix != ".pyc")


def _own_bytes(folder: Path) -> int:
    # A clone that is worked on has no RECORD of its files.
    files = (path for path in folder.rglob("*") if path.suffix in _INSTALLED_SUFFIXES)
    return sum(path.stat().st_size for path in files)


def path_bytes(path: Path) -> int:
    """Return what a file takes, or all files of a folder; an empty folder is an error."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    if not files:
        raise FileNotFoundError(f"{path}: must hold a voice; measure end_to_end first")
    return sum(each.stat().st_size for each in files)
