"""Build the Cython kernels; everything else about the package stands in pyproject.toml."""

import os

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup

KERNELS = ("decoder._overlap_trim", "runtime._checks", "stages._random", "stages._upsampler")

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
_DEBUG = _RELEASE | {"boundscheck": True, "initializedcheck": True}
BUILDS = {"release": _RELEASE, "debug": _DEBUG, "coverage": _DEBUG | {"linetrace": True}}

# No option changes a result. Contraction would make it depend on the machine; the other two promise
# what no kernel looks at (errno, trap flags), without which square roots and selections don't vectorise.
GCC_OPTIONS = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]

build = os.environ.get("BALACOON_TK_BUILD", "release")
if build not in BUILDS:
    raise SystemExit(f"BALACOON_TK_BUILD={build!r} must be one of {', '.join(BUILDS)}")

setup(
    # export/ stays at the top level of the repository and installs as balacoon_tk.export.
    packages=[
        *find_packages(include=["balacoon_tk*"]),
        *(f"balacoon_tk.{package}" for package in find_packages(include=["export*"])),
    ],
    package_dir={"balacoon_tk": "balacoon_tk", "balacoon_tk.export": "export"},
    ext_modules=cythonize(
        [
            Extension(
                f"balacoon_tk.{name}",
                [f"balacoon_tk/{name.replace('.', '/')}.pyx"],
                extra_compile_args=[] if os.name == "nt" else GCC_OPTIONS,
                define_macros=[("CYTHON_TRACE_NOGIL", "1")] if build == "coverage" else [],
            )
            for name in KERNELS
        ],
        # The coverage plugin looks for the C file beside its source.
        build_dir=None if build == "coverage" else f"build/cython-{build}",
        compiler_directives=BUILDS[build],
    ),
    # Time stamps can't tell one build from another: a release after a debug build would be skipped.
    options={"build_ext": {"force": True}},
)
