"""Build the Cython kernels; everything else about the package stands in pyproject.toml."""

import os

import numpy
from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup

KERNELS = ("_overlap_trim", "_random", "_upsampler")

# Directives stand here once. `release` trusts the facades' checks; `debug` turns every check back
# on, and the suite must pass under it as well; `coverage` also lets line tracing see the kernels.
_RELEASE: dict[str, object] = {
    "language_level": "3",
    "autotestdict": False,
    "binding": True,
    "boundscheck": False,
    "cdivision": True,
    "initializedcheck": False,
    "wraparound": False,
}
_DEBUG = _RELEASE | {"boundscheck": True, "initializedcheck": True, "wraparound": True}
BUILDS = {"release": _RELEASE, "debug": _DEBUG, "coverage": _DEBUG | {"linetrace": True}}

build = os.environ.get("BALACOON_TK_BUILD", "release")
if build not in BUILDS:
    raise SystemExit(f"BALACOON_TK_BUILD={build!r} must be one of {', '.join(BUILDS)}")

macros: list[tuple[str, str | None]] = [("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")]
if build == "coverage":
    macros.append(("CYTHON_TRACE_NOGIL", "1"))

setup(
    # export/ stays at the top level of the repository and installs as balacoon_tk.export.
    packages=[*find_packages(include=["balacoon_tk*"]), *(f"balacoon_tk.{p}" for p in find_packages(include=["export*"]))],
    package_dir={"balacoon_tk": "balacoon_tk", "balacoon_tk.export": "export"},
    ext_modules=cythonize(
        [
            Extension(
                f"balacoon_tk.{name}",
                [f"balacoon_tk/{name}.pyx"],
                include_dirs=[numpy.get_include()],
                define_macros=macros,
            )
            for name in KERNELS
        ],
        build_dir=f"build/cython-{build}",
        compiler_directives=BUILDS[build],
    ),
)
