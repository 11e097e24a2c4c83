"""Files that were looked at before: when they are looked at again, and when not."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from balacoon_tk import load_voice
from balacoon_tk.errors import ModelError, VoiceError
from balacoon_tk.voice import files, known_files
from balacoon_tk.voice.files import VoiceFiles
from balacoon_tk.voice.finish import compile_again
from balacoon_tk.voice.known_files import KnownFiles


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and files of which the clock says nothing."""
    monkeypatch.setenv("BALACOON_TK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(known_files, "_SETTLED_NS", -1)
    return tmp_path / "cache" / "known_files"


@pytest.fixture
def read(monkeypatch):
    """The sizes of the files that were read."""
    sizes, sum_up = [], known_files._sum_up

    def noting(file):
        sizes.append(os.fstat(file.fileno()).st_size)
        return sum_up(file)

    monkeypatch.setattr(known_files, "_sum_up", noting)
    return sizes


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "voice" / "weights.bin"
    path.parent.mkdir()
    path.write_bytes(bytes(1 << 20))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest(path: Path, expected: str | None = None) -> str:
    """What another process would be told."""
    with path.open("rb") as file:
        return KnownFiles(path.parent).digest(path.name, file, sha256(path) if expected is None else expected)


def test_an_unchanged_file_is_read_once(weights, read):
    assert digest(weights) == digest(weights) == sha256(weights)
    assert read == [1 << 20]


def test_each_file_of_a_folder_is_known(weights, read):
    other = weights.with_name("other.bin")
    other.write_bytes(bytes(1 << 21))
    for path in (weights, other) * 2:
        assert digest(path) == sha256(path)
    assert read == [1 << 20, 1 << 21]


def test_a_file_is_known_in_its_own_folder_alone(weights, tmp_path, read):
    digest(weights)
    copy = tmp_path / "copy" / weights.name
    copy.parent.mkdir()
    os.link(weights, copy)
    digest(copy)
    assert len(read) == 2


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\1")


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"\1" + bytes((1 << 20) - 1))
    other.replace(path)


@pytest.mark.parametrize("change", [flip, replace])
def test_a_change_is_found_whatever_it_says_of_its_time(weights, read, change):
    expected, before = digest(weights), weights.stat()
    change(weights)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = weights.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert digest(weights, expected) == sha256(weights) != expected
    assert len(read) == 2


def test_a_file_of_a_moment_ago_is_read_again(weights, read, monkeypatch):
    # The clock of the file system might not have gone on by the time of another change.
    monkeypatch.undo()
    monkeypatch.setenv("BALACOON_TK_CACHE", str(weights.parent / "cache"))
    digest(weights)
    assert not (weights.parent / "cache").exists()


def test_another_checksum_than_the_expected_one_is_not_kept(weights, read, cache):
    for _ in range(2):
        assert digest(weights, "0" * 64) == sha256(weights)
    assert len(read) == 2
    assert not cache.exists()


def test_a_file_that_is_known_is_read_where_another_checksum_is_expected(weights, read):
    digest(weights)
    assert digest(weights, "0" * 64) == sha256(weights)
    assert len(read) == 2


def test_what_is_small_is_read_each_time(weights, read, cache):
    weights.write_bytes(bytes((1 << 20) - 1))
    digest(weights)
    digest(weights)
    assert len(read) == 2
    assert not cache.exists()


def test_a_file_that_changes_while_it_is_read_is_not_kept(weights, cache, monkeypatch):
    sum_up = known_files._sum_up

    def changing(file):
        found = sum_up(file)
        os.utime(weights, ns=(0, 0))
        return found

    monkeypatch.setattr(known_files, "_sum_up", changing)
    assert digest(weights) == sha256(weights)
    assert not cache.exists()


@pytest.mark.parametrize(
    "text",
    ["", "[" * 100_000, "\x00", "[]", "{}", '{"format_version": 2, "digests": {}, "graphs": {}}',
     '{"format_version": 1}',
     '{"format_version": 1, "digests": 3, "graphs": {}}',
     '{"format_version": 1, "digests": {"\\ud800": []}, "graphs": {}}',
     '{"format_version": 1, "digests": {"weights.bin": null}, "graphs": {}}'],
)  # fmt: skip
def test_a_damaged_record_costs_time_alone(weights, read, cache, text):
    digest(weights)
    (record,) = cache.iterdir()
    record.write_text(text, encoding="utf-8")
    assert digest(weights) == digest(weights) == sha256(weights)
    assert len(read) == 2


def test_a_record_is_not_believed_against_the_file(weights, cache):
    expected = digest(weights)
    (record,) = cache.iterdir()
    found = json.loads(record.read_text())
    found["digests"][weights.name][-1] = "0" * 64
    record.write_text(json.dumps(found))
    assert digest(weights, expected) == expected


def test_a_cache_that_cant_be_written_costs_time_alone(weights, read, cache):
    cache.parent.write_bytes(b"")
    assert digest(weights) == digest(weights) == sha256(weights)
    assert len(read) == 2


# --- graphs


GRAPH = "0" * 64
OP_TYPES = frozenset({"Conv", "Tanh"})


@pytest.fixture
def looked(weights):
    """Ask another process's `KnownFiles` for the operators of a graph, and say whether it had to look."""

    def ask(graph=GRAPH, n_bytes=1 << 16, found=lambda: OP_TYPES):
        looks = []

        def look():
            looks.append(graph)
            return found()

        assert KnownFiles(weights.parent).op_types(graph, n_bytes, look) == OP_TYPES
        return bool(looks)

    return ask


def test_a_graph_is_looked_at_once(looked):
    assert [looked(), looked()] == [True, False]
    assert looked(GRAPH.replace("0", "1"))


def test_a_small_graph_is_looked_at_each_time(looked):
    assert [looked(n_bytes=65535), looked(n_bytes=65535)] == [True, True]


def test_another_version_looks_again(looked, monkeypatch):
    looked()
    monkeypatch.setattr(known_files, "version", lambda _: "0.0.1")
    assert looked()


def test_a_refusal_is_not_kept(weights, cache):
    def refuse():
        raise ModelError("it has a Loop")

    for _ in range(2):
        with pytest.raises(ModelError, match="it has a Loop"):
            KnownFiles(weights.parent).op_types(GRAPH, 1 << 16, refuse)
    assert not cache.exists()


@pytest.mark.parametrize("value", [None, 3, "Conv", [3], {"Conv": 1}])
def test_a_damaged_record_of_a_graph_is_looked_through(looked, cache, value):
    looked()
    (record,) = cache.iterdir()
    found = json.loads(record.read_text())
    found["graphs"] = dict.fromkeys(found["graphs"], value)
    record.write_text(json.dumps(found))
    assert [looked(), looked()] == [True, False]


def test_records_of_a_folder_are_bounded(looked, cache):
    for number in range(70):
        looked(f"{number:064}")
    (record,) = cache.iterdir()
    assert len(json.loads(record.read_text())["graphs"]) == 64
    assert not looked(f"{69:064}")
    assert looked(f"{0:064}")


# --- a voice


def test_a_voice_is_summed_up_once_and_damage_is_found_afterwards(
    tmp_path, tiny_voice_folder, read, monkeypatch
):
    monkeypatch.setattr(known_files, "_LEAST_BYTES", 1)
    monkeypatch.setattr(known_files, "_LEAST_GRAPH_BYTES", 1)
    looks, check = [], files.check_graph
    monkeypatch.setattr(files, "check_graph", lambda *args, **named: looks.append(0) or check(*args, **named))
    folder = tmp_path / "tiny"
    compile_again(VoiceFiles(tiny_voice_folder), folder)  # with weights beside the graphs
    load_voice(folder, n_threads=1)
    assert read and looks
    read.clear()
    looks.clear()
    load_voice(folder, n_threads=1)
    assert not read and not looks
    for file in folder.iterdir():
        if file.name != "voice.json":
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
            with pytest.raises(VoiceError, match=rf"{file.name} is damaged or another file"):
                load_voice(folder, n_threads=1)
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
