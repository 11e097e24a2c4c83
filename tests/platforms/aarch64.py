"""Run the package for aarch64 on another processor: its wheel, the default voice and a part of the suite.

A Debian for aarch64 lies in a folder (`places.py`), and the kernel runs its programs by qemu. The wheel is
made by a cross compiler with that Debian's headers; all else comes as wheels for aarch64. The voice is the
one that this machine has exported: both processors speak from the same files, and their samples are compared.
Emulation says whether samples are right, never how fast they come.

  PYTHONPATH=tests:benchmarks python -m platforms.aarch64
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from balacoon_tk.voice.default import default_voice_folder
from platforms.places import ROOT, CommandError, Place, Python, find_pythons, make_debian
from platforms.report import record
from platforms.suite import QUICK_FILES, REQUIREMENTS
from platforms.wheels import build_requirements, build_sdist, install, let_speak

SUITE, VERSION = "trixie", "3.13"
LIMIT = 1e-4  # of full scale: what other orders of sums leave between two processors
_PACKAGES = ("python3.13-venv", "python3.13-dev")
_COMPILER = "aarch64-linux-gnu-gcc"
_NO_SVE = {"OPENBLAS_CORETYPE": "ARMV8"}
"""NumPy's products of float64, which tests compare with, are wrong in qemu's SVE."""


def try_aarch64() -> dict[str, Any]:
    """Build, install, speak and test; return what was found."""
    place = make_debian(SUITE, _PACKAGES, architecture="arm64")
    python = Python(VERSION, f"/usr/bin/python{VERSION}", place)
    wheel = cross_build(place)
    folder = place.empty_folder("aarch64")
    executable = install(python, folder, wheel, *REQUIREMENTS)
    voice = shutil.copytree(default_voice_folder(), folder / "voice")
    options = ("--voice", place.name_of(voice), "--samples", "spoken.npy")
    found = let_speak(python, folder, executable, *options)
    difference = compare(folder / "spoken.npy", voice)
    if difference > LIMIT:
        raise CommandError(f"samples differ by {difference:.2g} from this machine's")
    return found | {"to_native_processor": difference, "suite": run_suite(python, folder, executable)}


def cross_build(place: Place) -> Path:
    """Build the wheel by this machine's Python of the same version, with the other one's headers."""
    (python,) = find_pythons((VERSION,))
    folder = python.place.empty_folder("build-aarch64")
    assert place.root is not None
    # Without the C library's own headers, which are the cross compiler's.
    headers, other = folder / "include", place.root / "usr" / "include"
    for name in (f"python{VERSION}", f"aarch64-linux-gnu/python{VERSION}"):
        shutil.copytree(other / name, headers / name)
    executable = python.environment(folder)
    digits = VERSION.replace(".", "")
    # First, since under the name of the other platform pip would install its compilers.
    python.place.run(executable, "-m", "pip", "install", "--quiet", *build_requirements(), folder=folder)
    python.place.run(
        *(executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", folder, build_sdist()),
        folder=folder,
        CC=_COMPILER,
        LDSHARED=f"{_COMPILER} -shared",
        CFLAGS=f"-I{headers / f'python{VERSION}'} -I{headers}",
        SETUPTOOLS_EXT_SUFFIX=f".cpython-{digits}-aarch64-linux-gnu.so",
        _PYTHON_HOST_PLATFORM="linux-aarch64",
    )
    (wheel,) = folder.glob("*-linux_aarch64.whl")
    return wheel


def compare(samples: Path, voice: Path) -> float:
    """Return the largest difference of samples to those that this machine speaks from the same voice."""
    from balacoon_tk import TTS
    from platforms.speak import SEED, TEXT, largest

    tts = TTS(voice, backend="onnxruntime", n_threads=2)
    own = np.concatenate([chunk.samples for chunk in tts.stream(TEXT, seed=SEED, strategy="full")])
    others = np.load(samples)
    if own.shape != others.shape:
        raise CommandError(f"{others.shape} samples, and {own.shape} by this machine")
    return largest(own, others)


def run_suite(python: Python, folder: Path, executable: Path) -> str:
    """Run a part of the suite there; return pytest's last line."""
    for name in ("tests", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    command = (executable, "-P", "tests/platforms/suite.py", *QUICK_FILES)
    return python.place.run(*command, folder=folder, **_NO_SVE).strip().splitlines()[-1]


def main() -> int:
    """Print what was found; 1 if something failed."""
    try:
        found = try_aarch64()
    except CommandError as error:
        print(error)
        return 1
    record("aarch64", found)
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
