"""Build the Cython kernels; everything else about the package stands in pyproject.toml."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

KERNELS = (
    "decoder._overlap_trim",
    "runtime._checks",
    "runtime.native._layout",
    "stages._random",
    "stages._upsampler",
)

# Modules of the native engine, and the C that each of them is linked with.
NATIVE = "balacoon_tk/runtime/native/src"
NATIVE_KERNELS = (
    f"{NATIVE}/dispatch.c",
    *sorted(path.as_posix() for path in Path(NATIVE).glob("kernels_*.c")),
)
NATIVE_EXECUTOR = tuple(
    f"{NATIVE}/{name}.c"
    for name in ("attention", "edges", "executor", "pool", "recurrence", "spline", "tiles")
)
NATIVE_MODULES = {
    "runtime.native._kernels": NATIVE_KERNELS,
    "runtime.native._native": (*NATIVE_KERNELS, *NATIVE_EXECUTOR),
}

# Directives stand here once. `release` trusts the facades' checks; `debug` turns every check back
# on, and the suite must pass under it as well; `coverage` also lets line tracing see the kernels; `sanitize`
# is a release for sanitizers, which make so much of each line that more optimisation takes minutes.
_RELEASE: dict[str, object] = {
    "language_level": "3",
    "autotestdict": False,
    "binding": True,
    "boundscheck": False,
    "cdivision": True,
    "freethreading_compatible": True,
    "initializedcheck": False,
    "wraparound": False,
}
_DEBUG = _RELEASE | {"boundscheck": True, "initializedcheck": True}
BUILDS = {
    "release": _RELEASE,
    "debug": _DEBUG,
    "coverage": _DEBUG | {"linetrace": True},
    "sanitize": _RELEASE,
}

build = os.environ.get("BALACOON_TK_BUILD", "release")
if build not in BUILDS:
    raise SystemExit(f"BALACOON_TK_BUILD={build!r} must be one of {', '.join(BUILDS)}")

# No option changes a result. Contraction would make it depend on the machine; the other two promise
# what no kernel looks at (errno, trap flags), without which square roots and selections don't vectorise.
# Our level stands behind that of CFLAGS, which many systems set to -O2. Whoever asks for none is in a hurry.
_LEVEL = "-O1" if build == "sanitize" else "-O0" if "-O0" in os.environ.get("CFLAGS", "").split() else "-O3"
GCC_OPTIONS = [_LEVEL, "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
# The native engine is measured against a graph's outputs, and lives from products that add: there they are
# wanted. No -march: a file asks for its instructions itself, and is called where they are.
NATIVE_OPTIONS = ["-ffp-contract=fast" if option == "-ffp-contract=off" else option for option in GCC_OPTIONS]


class BuildExtensions(build_ext):
    """Compiles C that several modules are linked with once."""

    def build_extensions(self) -> None:
        """Compile the C, then the modules."""
        shared = {source for name in NATIVE_MODULES for source in NATIVE_MODULES[name]}
        objects = dict(
            zip(
                sorted(shared),
                self.compiler.compile(
                    sorted(shared), output_dir=self.build_temp, extra_preargs=_options(NATIVE_OPTIONS)
                ),
                strict=True,
            )
        )
        for ext in self.extensions:
            ext.extra_objects = [objects[source] for source in ext.sources if source in objects]
            ext.sources = [source for source in ext.sources if source not in objects]
        super().build_extensions()


def _options(options: list[str]) -> list[str]:
    # MSVC knows none of them and contracts nothing by itself. It has no vectors of GCC's either, so that it
    # builds the native engine's plain kernels, in one thread: right, but slower than ONNX Runtime.
    return [] if os.name == "nt" else options


def extension(name: str, sources: tuple[str, ...], options: list[str]) -> Extension:
    """Return a Cython module, `sources` of C linked into it."""
    return Extension(
        f"balacoon_tk.{name}",
        [f"balacoon_tk/{name.replace('.', '/')}.pyx", *sources],
        depends=sorted(path.as_posix() for path in Path(NATIVE).glob("*.h")) if sources else [],
        include_dirs=[NATIVE] if sources else [],
        extra_compile_args=_options(options),
        define_macros=[("CYTHON_TRACE_NOGIL", "1")] if build == "coverage" else [],
    )


setup(
    # export/ stays at the top level of the repository and installs as balacoon_tk.export.
    packages=[
        *find_packages(include=["balacoon_tk*"]),
        *(f"balacoon_tk.{package}" for package in find_packages(include=["export*"])),
    ],
    package_dir={"balacoon_tk": "balacoon_tk", "balacoon_tk.export": "export"},
    ext_modules=cythonize(
        [
            *(extension(name, (), GCC_OPTIONS) for name in KERNELS),
            *(extension(name, sources, NATIVE_OPTIONS) for name, sources in NATIVE_MODULES.items()),
        ],
        # The coverage plugin looks for the C file beside its source.
        build_dir=None if build == "coverage" else f"build/cython-{build}",
        compiler_directives=BUILDS[build],
    ),
    cmdclass={"build_ext": BuildExtensions},
    # Time stamps can't tell one build from another: a release after a debug build would be skipped.
    options={"build_ext": {"force": True}},
)
