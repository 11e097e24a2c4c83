"""A voice is put in place whole or not at all, whatever happens and whoever else does it too."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from balacoon_tk.errors import ParameterError
from balacoon_tk.export import export_voice
from balacoon_tk.voice import install as package_module
from balacoon_tk.voice import load_voice
from balacoon_tk.voice.install import check_target, install
from installed_files import files_of, is_whole, names_in, voice_name
from tiny_vits import write_tiny_vits


@pytest.fixture(params=["voice", "voice.addon"])
def target(request, tmp_path):
    """Where a voice is to be, as a folder and as one file."""
    return tmp_path / "voices" / request.param


def test_a_voice_is_there_and_nothing_else(target):
    assert install(files_of("a"), target, overwrite=False) == target
    assert voice_name(target) == "a"
    assert names_in(target.parent) == [target.name]


def test_files_are_readable_for_whom_the_user_allows_it(target):
    old = os.umask(0o022)
    try:
        install(files_of("a"), target, overwrite=False)
    finally:
        os.umask(old)
    assert target.stat().st_mode & 0o777 == (0o755 if target.is_dir() else 0o644)


def test_the_same_voice_gives_the_same_addon(tmp_path):
    for name in ("a.addon", "b.addon"):
        install(files_of("a"), tmp_path / name, overwrite=False)
    assert (tmp_path / "a.addon").read_bytes() == (tmp_path / "b.addon").read_bytes()


def test_an_empty_folder_may_be_there(tmp_path):
    (tmp_path / "voice").mkdir()
    check_target(tmp_path / "voice", overwrite=False)
    install(files_of("a"), tmp_path / "voice", overwrite=False)
    assert voice_name(tmp_path / "voice") == "a"


def test_a_voice_is_replaced_where_that_is_asked_for(target):
    install(files_of("a"), target, overwrite=False)
    check_target(target, overwrite=True)
    install(files_of("b"), target, overwrite=True)
    assert voice_name(target) == "b"
    assert names_in(target.parent) == [target.name]


def test_a_voice_is_not_replaced_where_that_is_not_asked_for(target):
    install(files_of("a"), target, overwrite=False)
    with pytest.raises(ParameterError, match=r"out='.*voice.*' exists; overwrite=True replaces"):
        check_target(target, overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_voice_is_never_replaced(tmp_path, overwrite):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    with pytest.raises(ParameterError, match=r"exists|a folder without voice.json, so no voice"):
        check_target(home, overwrite=overwrite)
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError, match=r"must be a folder, or end in .addon"):
        check_target(tmp_path / "file", overwrite=overwrite)
    (tmp_path / "folder.addon").mkdir()
    with pytest.raises(ParameterError, match=r"must be a file, since it ends in .addon"):
        check_target(tmp_path / "folder.addon", overwrite=overwrite)


def test_a_place_that_can_not_be_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError, match="file must be a folder that can be written to"):
        check_target(tmp_path / "file" / "deep" / "voice", overwrite=False)
    check_target(tmp_path / "new" / "deep" / "voice", overwrite=False)
    check_target(Path("voice"), overwrite=False)


# --- trouble on the way ----------------------------------------------------------------------


TROUBLE = [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]


def fail_at(monkeypatch, owner, name, error, *, when):
    """Let a function raise an error at the calls of which `when` is true, and work at the others."""
    function, calls = getattr(owner, name), []

    def failing(*arguments):
        calls.append(arguments)
        if when(len(calls), *arguments):
            raise error
        return function(*arguments)

    monkeypatch.setattr(owner, name, failing)


@pytest.fixture
def no_exchange(monkeypatch):
    """As on systems that can't let two folders change places in one step."""
    monkeypatch.setattr(package_module, "_exchange", lambda first, second: False)


@pytest.mark.parametrize("error", TROUBLE)
@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_trouble_with_writing_leaves_the_former_voice(target, monkeypatch, call, error):
    install(files_of("a"), target, overwrite=False)
    n_files = 4 if target.is_dir() else 1  # the folder's own names among them
    fail_at(monkeypatch, os, "fsync", error, when=lambda n, *_: n == call)
    try:
        install(files_of("b"), target, overwrite=True)
    except (OSError, KeyboardInterrupt):
        assert is_whole(target, "a" if call <= n_files else "b")
    else:  # names that a system can't write to the disk by themselves are not waited for
        assert is_whole(target, "b")
    assert names_in(target.parent) == [target.name]


@pytest.mark.parametrize("error", TROUBLE)
def test_trouble_with_putting_it_in_place_leaves_the_former_voice(target, monkeypatch, no_exchange, error):
    install(files_of("a"), target, overwrite=False)
    for name in ("rename", "replace"):
        fail_at(monkeypatch, Path, name, error, when=lambda n, source, to: source.suffix == ".tmp")
    with pytest.raises(type(error)):
        install(files_of("b"), target, overwrite=True)
    assert is_whole(target, "a")
    assert names_in(target.parent) == [target.name]


@pytest.mark.parametrize("error", TROUBLE)
def test_trouble_with_moving_the_former_voice_aside_leaves_it(tmp_path, monkeypatch, no_exchange, error):
    target = install(files_of("a"), tmp_path / "voice", overwrite=False)
    fail_at(monkeypatch, Path, "rename", error, when=lambda n, source, to: source == target)
    with pytest.raises(type(error)):
        install(files_of("b"), target, overwrite=True)
    assert is_whole(target, "a")
    assert names_in(tmp_path) == ["voice"]


@pytest.mark.parametrize("error", TROUBLE)
@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "rename"), (Path, "replace")])
def test_trouble_at_the_first_export_leaves_nothing(target, monkeypatch, owner, name, error):
    if (owner, name) == (Path, "rename" if target.suffix else "replace"):
        return  # a folder is renamed, a file replaces
    fail_at(monkeypatch, owner, name, error, when=lambda *_: True)
    with pytest.raises(type(error)):
        install(files_of("a"), target, overwrite=False)
    assert names_in(target.parent) == []


# --- two at once -----------------------------------------------------------------------------


def test_who_comes_too_late_finds_the_same_voice(target):
    install(files_of("a", checked=1e-7), target, overwrite=False)
    assert install(files_of("a", checked=2e-7), target, overwrite=False) == target
    assert names_in(target.parent) == [target.name]


def test_who_comes_too_late_with_another_voice_is_told(target):
    install(files_of("a"), target, overwrite=False)
    with pytest.raises(ParameterError, match="was taken by something else during the export"):
        install(files_of("a", source="2"), target, overwrite=False)
    assert voice_name(target) == "a"
    assert names_in(target.parent) == [target.name]


@pytest.mark.parametrize("exchanges", [True, False])
def test_many_that_replace_at_once_leave_one_whole_voice(target, exchanges, monkeypatch):
    if not exchanges:
        monkeypatch.setattr(package_module, "_exchange", lambda first, second: False)
    install(files_of("first"), target, overwrite=False)
    errors = []

    def replace_often(name):
        try:
            for _ in range(20):
                install(files_of(name), target, overwrite=True)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=replace_often, args=(f"voice {k}",)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    name = voice_name(target)
    assert name.startswith("voice ")
    assert is_whole(target, name)
    assert names_in(target.parent) == [target.name]


def test_between_moving_aside_and_moving_in_another_may_be_faster(tmp_path, monkeypatch, no_exchange):
    """Another exporter puts its voice there while ours has moved the former one aside."""
    target = tmp_path / "voice"
    install(files_of("a"), target, overwrite=False)
    rename, state = Path.rename, {"done": False}

    def rename_with_company(self, to):
        moved = rename(self, to)
        if self == target and not state["done"]:
            state["done"] = True
            install(files_of("theirs"), target, overwrite=False)
        return moved

    monkeypatch.setattr(Path, "rename", rename_with_company)
    install(files_of("ours"), target, overwrite=True)
    monkeypatch.undo()
    assert voice_name(target) == "ours"
    assert names_in(tmp_path) == ["voice"]


def test_two_processes_that_export_the_same_voice_both_succeed(tmp_path):
    source = write_tiny_vits(tmp_path / "in")
    program = f"""
import time
from balacoon_tk.export import export_voice
from balacoon_tk.voice import install as package
write = package._write_folder
def slowly(folder, files):
    write(folder, files)
    time.sleep(2)  # both have written before one of them puts its voice in place
package._write_folder = slowly
print(export_voice({str(source)!r}, {str(tmp_path / "out" / "voice")!r}))
"""
    command = [sys.executable, "-c", program]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    results = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], results
    assert names_in(tmp_path / "out") == ["voice"]
    assert load_voice(tmp_path / "out" / "voice", n_threads=1).manifest.name == "tiny"


def test_an_interrupted_export_leaves_nothing(tmp_path, monkeypatch):
    source = write_tiny_vits(tmp_path / "in")

    def interrupt(folder, files):
        folder.mkdir()
        (folder / "encoder.onnx").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(package_module, "_write_folder", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_voice(source, tmp_path / "out" / "voice")
    assert names_in(tmp_path / "out") == []
