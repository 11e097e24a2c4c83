"""The part of the suite that any machine can run: what it needs beside the package is in `REQUIREMENTS`.

Kernels, the native engine, streaming of every operator, voices, speech and the command line; not export from
torch, notebooks, the server or metrics. The tests are those of this repository, the package the one that is
installed.

  python -P tests/platforms/suite.py [options of pytest] [test_kernels.py ...]
  python -P tests/platforms/suite.py --requirements    # one a line, for pip
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
REQUIREMENTS = ("hypothesis>=6.100", "pytest>=8")
FILES = (
    *("test_audio.py", "test_backends.py", "test_checks.py", "test_chunking.py", "test_cli_synthesize.py"),
    *(
        "test_engine.py",
        "test_kernels.py",
        "test_kernels_bundles.py",
        "test_leftovers.py",
        "test_native_engine.py",
        "test_native_fuzz.py",
    ),
    *(
        "test_native_packing.py",
        "test_native_pairs.py",
        "test_native_stages.py",
        "test_overlap_decoder.py",
        "test_overlap_trim.py",
    ),
    *("test_random.py", "test_stateful_decoder.py", "test_streaming_convolutions.py"),
    *("test_streaming_operators.py", "test_tts.py", "test_tts_real_voice.py", "test_upsampler.py"),
    *("test_voice.py",),
)


QUICK_FILES = (
    *("test_kernels.py", "test_kernels_bundles.py", "test_native_engine.py", "test_native_packing.py"),
    *("test_native_pairs.py", "test_native_stages.py"),
    *(
        "test_overlap_trim.py",
        "test_random.py",
        "test_stateful_decoder.py",
        "test_tts.py",
        "test_upsampler.py",
    ),
)
"""Those of an emulated processor, on which all of `FILES` would take hours."""


def main(arguments: list[str]) -> int:
    """Run the files that are named, or all of them, from whatever folder; return pytest's status."""
    if arguments == ["--requirements"]:
        print(*REQUIREMENTS, sep="\n")
        return 0
    options = [each for each in arguments if each not in FILES]
    files = [each for each in arguments if each in FILES] or FILES
    settings = ("-c", str(TESTS.parent / "pyproject.toml"), "--rootdir", str(TESTS.parent))
    command = [sys.executable, "-P", "-m", "pytest", "-q", *settings, *options]
    return subprocess.run([*command, *(str(TESTS / name) for name in files)], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
