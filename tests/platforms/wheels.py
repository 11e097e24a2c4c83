"""Build a wheel for each Python that can be had here, and try each in an environment that has nothing else.

A wheel is built from the sdist and looked at by auditwheel, which says the oldest Linux that it runs on. It
is installed with the extra `voice`, and `speak.py` has to work: in a folder of its own, without the source
tree, with a cache of its own, so that the default voice is exported as well.

  PYTHONPATH=tests:benchmarks python -m platforms.wheels build [--only 3.13 --only 3.14]
  PYTHONPATH=tests:benchmarks python -m platforms.wheels test  [--only 3.13 --only 3.14]
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from platforms.places import BUILD, ROOT, VERSIONS, CommandError, Python, find_pythons
from platforms.report import record

WHEELS = BUILD / "wheels"
_SPEAK = Path(__file__).with_name("speak.py")


def build(versions: tuple[str, ...]) -> bool:
    """Build the sdist and a wheel for each Python; return whether all could be built."""
    sdist = build_sdist()
    failed = []
    for python in find_pythons(versions):
        for old in WHEELS.glob(f"*-{tag_of(python)}-*.whl"):
            old.unlink()
        print(f"Python {python.version} of {python.system}: building", flush=True)
        try:
            print(f"  {build_wheel(python, sdist).name}", flush=True)
        except CommandError as error:
            failed.append(python.version)
            print(f"  {error}", flush=True)
    return not failed


def build_sdist() -> Path:
    """Build the sdist; return it."""
    folder = BUILD / "sdist"
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (sdist,) = folder.glob("*.tar.gz")
    return sdist


def build_requirements() -> list[str]:
    """Return what a build needs, as pyproject.toml states it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return list(project["build-system"]["requires"])


def build_wheel(python: Python, sdist: Path) -> Path:
    """Build a wheel in that Python's system, and let auditwheel name it after what it asks of Linux."""
    folder = python.place.empty_folder(f"build-{python.version}")
    source = Path(shutil.copy(sdist, folder))
    executable = python.environment(folder)
    python.place.run(
        *(executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source),
        folder=folder,
    )
    (wheel,) = folder.glob("*.whl")
    command = [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(WHEELS), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(f"auditwheel: {done.stderr[-2000:]}")
    return wheel_of(python)


def test(versions: tuple[str, ...]) -> bool:
    """Try the wheels that were built; return whether all work."""
    rows: dict[str, dict[str, Any]] = {}
    for python in find_pythons(versions):
        print(f"Python {python.version} of {python.system}: trying", flush=True)
        try:
            rows[python.version] = try_wheel(python)
        except CommandError as error:
            rows[python.version] = {"error": str(error)}
        print(f"  {rows[python.version]}", flush=True)
    record("wheels", rows, keep_others=True)
    return not any("error" in row for row in rows.values())


def try_wheel(python: Python) -> dict[str, Any]:
    """Install a wheel with the default voice into an empty environment and let it speak."""
    wheel = wheel_of(python)
    folder = python.place.empty_folder(f"test-{python.version}")
    executable = install(python, folder, wheel)
    return {"wheel": platform_of(wheel)} | let_speak(python, folder, executable)


def install(python: Python, folder: Path, wheel: Path, *others: str) -> Path:
    """Make an environment with a wheel, its extra `voice` and other requirements; return its Python."""
    copy = Path(shutil.copy(wheel, folder))
    executable = python.environment(folder)
    asked = (f"{python.place.name_of(copy)}[voice]", *others)
    # Modules are compiled as they are imported: an emulator takes half an hour over all of them.
    python.place.run(executable, "-m", "pip", "install", "--quiet", "--no-compile", *asked, folder=folder)
    return executable


def let_speak(python: Python, folder: Path, executable: Path, *options: str) -> dict[str, Any]:
    """Run `speak.py` in a folder that has nothing of the source tree; return what it found."""
    shutil.copy(_SPEAK, folder)
    cache = python.place.name_of(folder / "cache")
    command = (executable, "-P", _SPEAK.name, "--out", "found.json", *options)
    python.place.run(*command, folder=folder, BALACOON_TK_CACHE=cache)
    found: dict[str, Any] = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return found


def tag_of(python: Python) -> str:
    """Return a Python's name in a wheel's: cp313-cp313t."""
    digits = python.version.replace(".", "")
    return f"cp{digits.removesuffix('t')}-cp{digits}"


def wheel_of(python: Python) -> Path:
    """Return the wheel that was built for a Python."""
    wheels = list(WHEELS.glob(f"*-{tag_of(python)}-*.whl"))
    if len(wheels) != 1:
        raise CommandError(f"there are {len(wheels)} wheels for {tag_of(python)} in {WHEELS}: make wheels")
    return wheels[0]


def platform_of(wheel: Path) -> str:
    """Return the oldest Linux that auditwheel found: manylinux_2_28."""
    found = re.search(r"manylinux_\d+_\d+", wheel.name)
    return found[0] if found else "linux"


def main() -> int:
    """Build or test; 1 if something failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("build", "test"))
    only = "this Python alone; may be given several times"
    parser.add_argument("--only", action="append", choices=VERSIONS, help=only)
    args = parser.parse_args()
    for folder in (BUILD, WHEELS):
        folder.mkdir(parents=True, exist_ok=True)
    works = {"build": build, "test": test}[args.what](tuple(args.only or VERSIONS))
    return 0 if works else 1


if __name__ == "__main__":
    raise SystemExit(main())
