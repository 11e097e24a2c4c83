"""Say what is installed here and that it works; reads no file of the repository, and needs nothing for tests.

The package has to lie in this environment, speak through each engine, whole and streamed the same, and by the
installed command. What was found goes to `--out` as JSON, and the samples to `--samples`, to be compared with
those of another machine.

  python -P tests/platforms/speak.py --out found.json --samples spoken.npy
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

TEXT = "The first sound comes early. The rest of it is the same, however it was cut!"
SEED = 20
LIMIT = 1e-4  # of full scale: what rounding leaves between a whole run and a streamed one
_COMMAND_S = 600
_PACKAGES = ("balacoon_tk", "numpy", "onnxruntime", "onnx", "onnx-ir")


def main() -> None:
    """Print what was found as JSON; end with an error that names the first thing that is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-v", "--voice", help="voice to speak with (default: the default voice)")
    parser.add_argument("--out", type=Path, help="file to write what was found into")
    parser.add_argument("--samples", type=Path, help="file to write the samples into, those of ONNX Runtime")
    args = parser.parse_args()
    # What Python is about to take away breaks the next version of it.
    warnings.filterwarnings("error", category=DeprecationWarning, module=r"balacoon_tk(\.|$)")
    began_s = time.monotonic()
    found = about_python() | about_package() | speak(args.voice, args.samples) | run_command(args.voice)
    found["took_s"] = round(time.monotonic() - began_s, 1)
    text = json.dumps(found, indent=2) + "\n"
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    print(text, end="")


def about_python() -> dict[str, Any]:
    """Return which Python this is, on what."""
    return {
        "python": platform.python_version(),
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "system": platform.system(),
        "libc": "".join(platform.libc_ver()),
        "machine": platform.machine(),
    }


def about_package() -> dict[str, Any]:
    """Import what was compiled, and return which kernels this processor runs."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        import balacoon_tk
        from balacoon_tk.runtime.native import _kernels
    place = Path(balacoon_tk.__file__)
    require(place.is_relative_to(sys.prefix), f"{place} is no file of the environment in {sys.prefix}")
    return {
        "versions": {name: version(name) for name in _PACKAGES},
        "kernels": list(_kernels.names()),
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "warnings": [str(each.message) for each in caught],
    }


def speak(voice: str | None, file: Path | None) -> dict[str, Any]:
    """Speak by each engine and strategy; return the largest differences from the engine's own whole run."""
    import numpy as np

    from balacoon_tk import TTS

    differences: dict[str, float] = {}
    whole: dict[str, Any] = {}
    for backend in ("onnxruntime", "native"):
        tts = TTS(voice, backend=backend, n_threads=2)
        found = tts.voice.backend
        require(found.name == backend, f"{backend} was asked for, and it is {found}")
        for strategy in ("full", "stateful", "overlap"):
            chunks = list(tts.stream(TEXT, seed=SEED, strategy=strategy))
            samples = np.concatenate([chunk.samples for chunk in chunks])
            full = whole.setdefault(backend, samples)
            require(
                samples.size == full.size, f"{backend}, {strategy}: {samples.size} samples, not {full.size}"
            )
            differences[f"{backend} {strategy}"] = largest(samples, full)
            require(strategy == "full" or len(chunks) > 2, f"{backend}, {strategy}: {len(chunks)} chunks")
        require(largest(whole[backend], 0) > 0.05, f"{backend}: silence")
    differences["native to onnxruntime"] = largest(whole["native"], whole["onnxruntime"])
    for what, difference in differences.items():
        require(difference <= LIMIT, f"{what}: samples differ by {difference:.2g}")
    if file is not None:
        np.save(file, whole["onnxruntime"])
    seconds = whole["native"].size / TTS(voice).get_sampling_rate()
    return {"spoken_s": round(seconds, 2), "differences": differences}


def run_command(voice: str | None) -> dict[str, Any]:
    """Speak by the command that was installed; return how many samples it wrote."""
    import numpy as np

    from balacoon_tk import TTS
    from balacoon_tk.audio import read_wav, to_pcm16

    command = shutil.which("balacoon-tk", path=sysconfig.get_path("scripts"))
    require(command is not None, "no command balacoon-tk was installed")
    chosen = () if voice is None else ("-v", voice)
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "spoken.wav"
        asked = (command, "synthesize", TEXT, "--seed", str(SEED), "--backend", "native", "-o", wav, *chosen)
        done = subprocess.run(list(map(str, asked)), capture_output=True, text=True, timeout=_COMMAND_S)
        require(done.returncode == 0, f"{command}: {done.stderr}")
        samples, _ = read_wav(wav)
    expected = TTS(voice, backend="native").synthesize(TEXT, seed=SEED)
    require(samples.shape == expected.shape, f"{command} wrote {samples.shape}, not {expected.shape}")
    # By one, where the last bit of a float turned the rounding.
    difference = int(np.abs(to_pcm16(samples).astype(int) - expected).max())
    require(difference <= 1, f"{command}: samples differ by {difference} of 32768")
    return {"command_samples": int(samples.size)}


def largest(samples: Any, others: Any) -> float:
    """Return the largest difference of two runs of samples."""
    return float(abs(samples - others).max())


def require(condition: bool, otherwise: str) -> None:
    """End with an error unless a condition holds; `assert` goes with ``-O``."""
    if not condition:
        raise SystemExit(f"speak.py: {otherwise}")


if __name__ == "__main__":
    main()
