"""What a killed process leaves is removed by the next that writes there; what a living one writes never."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from balacoon_tk import _leftovers
from balacoon_tk._files import write_whole
from balacoon_tk._leftovers import MAX_NAME_BYTES, Owner, beside, remove_leftovers
from balacoon_tk.audio import WavWriter
from balacoon_tk.errors import ParameterError
from balacoon_tk.voice import install as package_module
from balacoon_tk.voice.install import check_target, install
from installed_files import files_of, is_whole, names_in
from kills import KINDS, kill_often

WEEK_S = 7 * 24 * 3600.0


def ended_pid():
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leave(path, owner, kind="tmp", *, content="half"):
    """Leave something beside a path as its owner would: a folder of a voice, or a file."""
    left = path.with_name(f".{path.name}.{owner}-0123abcd.{kind}")
    if kind == "part":
        left.write_text(content)
    else:
        left.mkdir()
        for name, data in files_of(content).items():
            (left / name).write_bytes(data)
    return left


def make_old(path, age_s):
    for each in (*path.rglob("*"), path):
        os.utime(each, (time.time() - age_s,) * 2)


HERE = Owner.here()
DEAD = {
    "its process has ended": lambda: replace(HERE, pid=ended_pid()),
    "its number is another process's now": lambda: replace(HERE, start=HERE.start + 1),
    "the machine was started again": lambda: replace(HERE, boot="000000"),
}
LIVING = {
    "this process": lambda: HERE,
    "its parent": lambda: replace(HERE, pid=os.getppid(), start=_leftovers._start_of(os.getppid())),
    "another machine's": lambda: replace(HERE, host="000000", pid=ended_pid()),
    "another container's": lambda: replace(HERE, space="000000", pid=ended_pid()),
}
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems don't say when a process started")


@linux
@pytest.mark.parametrize("kind", ["tmp", "part"])
@pytest.mark.parametrize("owner", DEAD.values(), ids=DEAD)
def test_what_a_dead_process_left_is_removed_by_the_next_that_writes(tmp_path, owner, kind):
    leave(tmp_path / "voice", owner(), kind)
    if kind == "tmp":
        install(files_of("a"), tmp_path / "other", overwrite=False)
    else:
        write_whole(tmp_path / "other", "text")
    assert names_in(tmp_path) == ["other"]


@linux
@pytest.mark.parametrize("kind", ["tmp", "old", "part"])
@pytest.mark.parametrize("owner", LIVING.values(), ids=LIVING)
def test_what_may_still_be_written_stays(tmp_path, owner, kind):
    left = leave(tmp_path / "voice", owner(), kind)
    install(files_of("a"), tmp_path / "other", overwrite=False)
    write_whole(tmp_path / "report", "text")
    assert names_in(tmp_path) == sorted([left.name, "other", "report"])


@pytest.mark.parametrize(("age_s", "stays"), [(0.9 * WEEK_S, True), (1.1 * WEEK_S, False)])
@pytest.mark.parametrize("name", ["another machine", "an older version"])
def test_where_it_cant_be_known_what_is_left_stays_for_a_week(tmp_path, name, age_s, stays):
    left = leave(tmp_path / "voice", replace(HERE, host="000000"))
    if name == "an older version":
        left = left.rename(tmp_path / ".voice.0123abcd.tmp")
    make_old(left, age_s)
    remove_leftovers(tmp_path)
    assert left.exists() == stays


def test_what_is_being_filled_stays_though_its_folder_is_old(tmp_path):
    left = leave(tmp_path / "voice", replace(HERE, host="000000"))
    make_old(left, 2 * WEEK_S)
    os.utime(left / "voice.json")
    remove_leftovers(tmp_path)
    assert left.exists()


def test_what_only_looks_like_it_stays(tmp_path):
    dead = replace(HERE, pid=ended_pid())
    names = [
        *(".voice.tmp", ".voice.0123.tmp", "voice.0123abcd.tmp", ".0123abcd.tmp", ".voice.0123abcd.bak"),
        *(f".voice.{dead}.tmp", f"voice.{dead}-0123abcd.tmp", f".voice.{dead}-0123abcd.tmp2"),
        f".voice.{replace(dead, pid=10**20)}-0123abcd.tmp",
    ]
    for name in names:
        (tmp_path / name).write_text("somebody's")
        make_old(tmp_path / name, 0.5 * WEEK_S)
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == sorted(names)


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    link = leave(tmp_path / "voice", replace(HERE, pid=ended_pid()), "part")
    link.unlink()
    link.symlink_to(tmp_path / "home")
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == ["home"]
    assert names_in(tmp_path / "home") == ["thesis.txt"]


def test_a_voice_that_was_moved_aside_comes_back_if_nothing_took_its_place(tmp_path):
    dead = replace(HERE, pid=ended_pid())
    leave(tmp_path / "voice", dead, "old", content="a")
    leave(tmp_path / "voice", dead, "tmp", content="b")
    leave(tmp_path / "taken", dead, "old", content="a")
    install(files_of("b"), tmp_path / "taken", overwrite=True)
    assert names_in(tmp_path) == ["taken", "voice"]
    assert is_whole(tmp_path / "voice", "a")
    assert is_whole(tmp_path / "taken", "b")


def test_a_folder_of_many_recordings_is_not_read_for_each(tmp_path, monkeypatch):
    scans = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: scans.append(path) or scan(path))
    leave(tmp_path / "a.wav", replace(HERE, pid=ended_pid()), "part")
    for k in range(5):
        with WavWriter(tmp_path / f"{k}.wav", 8000) as writer:
            writer.write(np.zeros(3, np.float32))
    assert names_in(tmp_path) == [f"{k}.wav" for k in range(5)]
    assert len(scans) == 1


def test_a_long_name_still_has_a_name_beside_it(tmp_path):
    write_whole(tmp_path / f"{'ü' * 125}.json", "{}")
    assert names_in(tmp_path) == [f"{'ü' * 125}.json"]
    with pytest.raises(ParameterError, match=f"its name must be of at most {MAX_NAME_BYTES} bytes"):
        check_target(tmp_path / ("a" * (MAX_NAME_BYTES + 1)), overwrite=False)
    (tmp_path / ("a" * MAX_NAME_BYTES)).mkdir()
    for _ in range(2):
        install(files_of("a"), tmp_path / ("a" * MAX_NAME_BYTES), overwrite=True)


# --- two machines with one folder ------------------------------------------------------------


# Both write what is the same voice, or replace each other's, under another host's name each.
WRITER = """
import sys, time
from pathlib import Path
from balacoon_tk import _leftovers
from balacoon_tk.voice import install as package
from installed_files import files_of
host, target, overwrite, n = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "overwrite", int(sys.argv[4])
_leftovers._host = lambda: host
write = package._write_folder
def slowly(folder, files):
    write(folder, files)
    time.sleep(0.05)
package._write_folder = slowly
print("ready", flush=True)
sys.stdin.readline()
for _ in range(n):
    package.install(files_of("same" if not overwrite else host), target, overwrite=overwrite)
"""


@pytest.mark.parametrize("how", ["once", "overwrite"])
def test_two_machines_write_into_one_network_folder(tmp_path, how):
    target = tmp_path / "voices" / "voice"
    if how == "overwrite":
        install(files_of("first"), target, overwrite=False)
    command = [sys.executable, "-c", WRITER]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    running = [
        subprocess.Popen(
            [*command, host, str(target), how, "1" if how == "once" else "8"],
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
            text=True,
            env=environment,
        )
        for host in ("aaaaaa", "bbbbbb")
    ]
    for process in running:
        assert process.stdout.readline() == "ready\n", process.communicate()
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    seen = set()
    while any(process.poll() is None for process in running):
        # Whoever looks sees a whole voice or, before the first, none.
        for name in ("same", "aaaaaa", "bbbbbb", "first"):
            if target.exists() and is_whole_or_changed(target, name):
                seen.add(name)
    results = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], results
    assert names_in(target.parent) == ["voice"]
    assert seen
    assert any(is_whole(target, name) for name in seen)


def is_whole_or_changed(target, name):
    try:
        return is_whole(target, name)
    except FileNotFoundError:
        return False  # it was replaced between two looks


# --- kills -----------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_at_random_moments_leave_nothing_corrupt_and_nothing_behind(tmp_path):
    n_kills = 3 * len(KINDS)
    report = kill_often(tmp_path, n_kills=n_kills, seed=int.from_bytes(os.urandom(4), "little"))
    assert report.problems == [], report
    assert report.n_killed >= n_kills


SLOW = """
import sys, time
from balacoon_tk.cli import _main, main
def run(args):
    from pathlib import Path
    from balacoon_tk.voice import install as package
    from installed_files import files_of
    def slowly(folder, files):
        folder.mkdir()
        (folder / "encoder.onnx").write_bytes(b"half")
        print("writing", flush=True)
        time.sleep(60)
    package._write_folder = slowly
    package.install(files_of("a"), Path(sys.argv[1]), overwrite=False)
import balacoon_tk.cli.bench as command
command.run = run
sys.exit(main(["bench"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no signals to be ended by")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_command_that_is_told_to_end_removes_what_it_was_writing(tmp_path, name):
    number = getattr(signal, name)
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(tmp_path / "voice")],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdout.readline() == "writing\n", process.communicate()
    assert len(names_in(tmp_path)) == 1
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    assert names_in(tmp_path) == []


def test_a_command_puts_signals_back_and_the_library_takes_none(cli, tmp_path):
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, name)]
    before = [signal.getsignal(number) for number in numbers]
    install(files_of("a"), tmp_path / "voice", overwrite=False)
    assert cli("export", "--list").status == 0
    assert [signal.getsignal(number) for number in numbers] == before


def test_the_package_writes_beside_by_one_function():
    # Whoever makes up a name of his own would leave what nobody removes.
    package = Path(package_module.__file__).parents[1]
    found = [
        path.name
        for path in package.rglob("*.py")
        if '.part"' in path.read_text(encoding="utf-8") and path.name != "_leftovers.py"
    ]
    assert found == []
    assert beside(Path("a/b")).parent == Path("a")
