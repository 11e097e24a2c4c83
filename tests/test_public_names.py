"""Names that other programs rely on, and what importing them costs."""

import importlib
import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest

import balacoon_tk
from balacoon_tk import TTS, SpeechUtterance

HEAVY = (
    "anywidget",
    "gruut",
    "ipywidgets",
    "matplotlib",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "piper",
    "platformdirs",
    "torch",
)


def test_the_public_names_are_these():
    assert balacoon_tk.__all__ == ["TTS", "AudioChunk", "BalacoonError", "SpeechUtterance", "load_voice"]
    assert all(hasattr(balacoon_tk, name) for name in balacoon_tk.__all__)


def test_the_version_is_the_installed_one():
    assert balacoon_tk.__version__ == version("balacoon_tk")


PACKAGES = (
    *("decoder", "export", "frontend", "graph", "metrics", "pacing"),
    *("player", "plots", "runtime", "stages", "targets", "voice"),
)


@pytest.mark.parametrize("name", ["audio", "errors", "tts", *PACKAGES])
def test_what_a_package_offers_is_there(name):
    loaded = importlib.import_module(f"balacoon_tk.{name}")
    assert all(hasattr(loaded, each) for each in getattr(loaded, "__all__", ()))


@pytest.mark.parametrize(
    ("function", "positional"),
    [
        (TTS.__init__, ["self", "voice"]),
        (TTS.synthesize, ["self", "text", "speaker", "seed"]),
        (TTS.synthesize_chunk, ["self", "utterance", "speaker"]),
        (TTS.stream, ["self", "text"]),
        (SpeechUtterance.__init__, ["self", "text"]),
        (balacoon_tk.load_voice, ["path"]),
    ],
)
def test_what_is_not_data_is_given_by_name(function, positional):
    parameters = inspect.signature(function).parameters.values()
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == positional


def test_importing_the_package_imports_nothing_heavy():
    program = f"import sys, balacoon_tk; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_importing_the_package_starts_no_thread_and_writes_no_file(tmp_path):
    program = "import threading, balacoon_tk; print(threading.active_count())"
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "1"
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_waits_with_everything_until_a_name_is_asked_for():
    program = (
        "import sys, balacoon_tk; print(sorted(name for name in sys.modules if 'balacoon_tk.' in name)); "
        "from balacoon_tk import AudioChunk; print('numpy' in sys.modules, 'balacoon_tk.tts' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['balacoon_tk._lazy', 'balacoon_tk._moved']", "True False"]


def test_speaking_needs_no_backend_nor_metrics_until_they_are_used():
    unused = (
        "balacoon_tk.voice.default",
        "balacoon_tk.frontend.gruut",
        "balacoon_tk.metrics",
        "secrets",
        "sqlite3",
    )
    program = f"import sys; from balacoon_tk import TTS; print([x for x in {unused} if x in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["balacoon_tk", "balacoon_tk.frontend"])
def test_public_names_that_wait_are_listed_and_a_name_that_is_not_there_is_an_attribute_error(module):
    package = importlib.import_module(module)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
        _ = package.nothing
