"""Run a part of the suite with the oldest versions that pyproject.toml allows.

What the package, its extra `voice` and the part of the suite in `suite.py` need is installed into an
environment of its own: the packages of `PINNED` at the lower bound that is stated, others as new as they are.
Then `speak.py` has to work there, and the tests.

  PYTHONPATH=tests:benchmarks python -m platforms.minimum
"""

from __future__ import annotations

import json
import tomllib
from typing import Any

from packaging.requirements import Requirement

from platforms.places import BUILD, ROOT, CommandError, find_pythons
from platforms.report import record
from platforms.suite import REQUIREMENTS
from platforms.wheels import build_sdist, build_wheel, install, let_speak, wheel_of

OLDEST_PYTHON = "3.11"
PINNED = ("numpy", "onnx", "onnx-ir", "onnxruntime", "platformdirs")
SUITE = ROOT / "tests" / "platforms" / "suite.py"


def lower_bounds() -> dict[str, str]:
    """Return the oldest version of each package of `PINNED` that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = map(Requirement, (*project["dependencies"], *project["optional-dependencies"]["voice"]))
    here = (each for each in stated if each.marker is None or each.marker.evaluate())
    bounds = {each.name: each.specifier for each in here if each.name in PINNED}
    return {name: spec.version for name in PINNED for spec in bounds[name] if spec.operator == ">="}


def try_minimum() -> dict[str, Any]:
    """Install the oldest versions, speak and run the tests; return what was found."""
    (python,) = find_pythons((OLDEST_PYTHON,))
    try:
        wheel = wheel_of(python)
    except CommandError:
        wheel = build_wheel(python, build_sdist())
    folder = python.place.empty_folder("minimum")
    pins = [f"{name}=={version}" for name, version in lower_bounds().items()]
    executable = install(python, folder, wheel, *REQUIREMENTS, *pins)
    found = let_speak(python, folder, executable)
    # With the voice that was just exported.
    cache = {"BALACOON_TK_CACHE": str(folder / "cache")}
    said = python.place.run(executable, "-P", str(SUITE), folder=folder, **cache)
    return found | {"suite": said.strip().splitlines()[-1]}


def main() -> int:
    """Print what was found; 1 if something failed."""
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        found = try_minimum()
    except CommandError as error:
        print(error)
        return 1
    record("minimum", found)
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
