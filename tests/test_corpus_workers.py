"""Corpora by processes and by Ray: they are killed and go on, and what is missing is said within seconds."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from balacoon_tk.corpus import CorpusError, make_corpus
from balacoon_tk.corpus.journal import rows_of
from balacoon_tk.corpus.on_ray import RaySpeaker, _digest, _pack
from balacoon_tk.corpus.plan import CorpusPlan, make_batches
from balacoon_tk.corpus.sentences import check_corpus_sentences
from balacoon_tk.plots import new_figure
from corpora import audio_of, rows_in, sentences, speak_here
from tiny_voice import build_tiny_voice

SENTENCES = sentences(80, n_words=120)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    return build_tiny_voice(tmp_path_factory.mktemp("corpus") / "tiny", streaming=True)


@pytest.fixture(scope="module")
def made(voice, tmp_path_factory):
    """What nothing interrupted, without processes."""
    folder = tmp_path_factory.mktemp("corpora") / "made"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("balacoon_tk.corpus.making.speak_locally", speak_here)
        patch.setattr("balacoon_tk.plots.corpus.corpus_figure", lambda *_: new_figure(0.1, 0.1))
        make_corpus(SENTENCES, voice, folder, n_workers=1)
    return folder


def children_of(pid):
    """Return the workers of a run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] not in "ZX":
                found.append(int(path.parent.name))
    return found


def begin(folder, voice, *options):
    listed = folder.with_suffix(".tsv")
    listed.write_text("".join(f"{name}\t{text}\n" for name, text in SENTENCES), encoding="utf-8")
    command = ["corpus", str(listed), "-v", str(voice), "-o", str(folder), "--workers", "2", *options]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "balacoon_tk", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for_audio(folder, n_files, process):
    due_s = time.monotonic() + 60.0
    while len([*folder.glob("audio/*/*/*.flac")]) < n_files and process.poll() is None:
        assert time.monotonic() < due_s
        time.sleep(0.002)
    assert process.poll() is None, process.stderr.read()


@LINUX
def test_killed_workers_and_a_killed_run_cost_nothing_that_was_done(made, voice, tmp_path):
    out = tmp_path / "out"
    process = begin(out, voice)
    wait_for_audio(out, 5, process)
    workers = children_of(process.pid)
    os.kill(workers[0], signal.SIGKILL)
    wait_for_audio(out, 25, process)
    assert len({*children_of(process.pid)} - {*workers}) == 1, "the one that was killed was replaced"
    process.kill()
    process.communicate()
    done = {path: path.stat().st_mtime_ns for path in out.glob("audio/*/*/*.flac")}
    journals = [batch for window in make_batches(check_corpus_sentences(SENTENCES), 1) for batch in window]
    due_s = time.monotonic() + 20.0
    while any(Path(f"/proc/{pid}").exists() for pid in workers[1:]):
        assert time.monotonic() < due_s, "workers end with whoever started them"
        time.sleep(0.01)
    kept = sum(len(rows_of(out, batch)) for batch in journals)
    assert 0 < kept < len(SENTENCES)
    process = begin(out, voice, "--json")
    said, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert json.loads(said)["n_failed"] == 0
    assert audio_of(out) == audio_of(made)
    assert rows_in(out) == rows_in(made)
    again = [path for path, when in done.items() if path.stat().st_mtime_ns != when]
    assert len(again) <= len(done) - kept + 4, "only what was being spoken, two utterances a kill"
    assert not [path for path in out.rglob(".*") if path.is_file()], "nothing is left behind"


@LINUX
def test_an_interrupt_ends_the_run_and_its_workers(voice, tmp_path):
    process = begin(tmp_path / "out", voice)
    wait_for_audio(tmp_path / "out", 3, process)
    workers = children_of(process.pid)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in error
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_what_no_worker_can_do_ends_the_run_in_its_words(voice, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(voice, moved)
    with pytest.raises(CorpusError, match=r"the voice tiny isn't there: .*no such voice folder"):
        # Gone once the run has begun, as from a disk that was unplugged.
        make_corpus(
            ["hello"], moved, tmp_path / "out", progress=lambda _: moved.exists() and shutil.rmtree(moved)
        )


def test_workers_that_end_before_they_are_ready_end_the_run(voice, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(CorpusError, match=r"workers end before they are ready, again and again, .* status 1"):
        make_corpus(["hello"], voice, tmp_path / "out")


# --- Ray


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "nowhere.invalid:6379"])
def test_a_cluster_that_is_not_there_is_told_within_seconds(voice, tmp_path, address):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        where = address.format(port=taken.getsockname()[1])
        start_s = time.monotonic()
        with pytest.raises(CorpusError, match=f"address='{where}': no Ray cluster answers there"):
            make_corpus(["hello"], voice, tmp_path / "out", engine="ray", address=where)
    assert time.monotonic() - start_s < 10.0
    assert not (tmp_path / "out").exists()


@pytest.mark.ray
def test_ray_speaks_the_same_corpus(made, voice, tmp_path):
    pytest.importorskip("ray")
    process = begin(tmp_path / "out", voice, "--engine", "ray")
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert audio_of(tmp_path / "out") == audio_of(made)
    assert rows_in(tmp_path / "out") == rows_in(made)


def actors():
    """Return the processes in which Ray's actors speak."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(b"ray::") and b"RaySpeaker" in path.read_bytes():
                found.append(int(path.parent.name))
    return found


@LINUX
@pytest.mark.ray
def test_a_killed_actor_costs_what_it_was_speaking(made, voice, tmp_path):
    pytest.importorskip("ray")
    out = tmp_path / "out"
    process = begin(out, voice, "--engine", "ray")
    wait_for_audio(out, 5, process)
    os.kill(actors()[0], signal.SIGKILL)
    assert len([*out.glob("audio/*/*/*.flac")]) < len(SENTENCES), "it was killed while it spoke"
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert audio_of(out) == audio_of(made)
    assert rows_in(out) == rows_in(made)
    assert not [path for path in out.rglob(".*") if path.is_file()], "nothing is left behind"


@pytest.fixture
def actor(made, voice, tmp_path, monkeypatch):
    """Make the worker of a node, which sees the voice or not."""
    monkeypatch.setenv("BALACOON_TK_CACHE", str(tmp_path / "node"))
    shutil.copytree(made, tmp_path / "out", ignore=shutil.ignore_patterns("audio"))
    plan = CorpusPlan.from_json((made / "corpus.json").read_text(encoding="utf-8"))
    (variant,) = plan.variants
    text = json.dumps(plan.to_dict()).replace(json.dumps(variant.path), json.dumps("/nowhere/voice"))

    settings_there = _digest(made)

    def start(*, folder=tmp_path / "out", version=plan.version, settings=settings_there):
        packed = {variant.sha256: [_pack(variant)]}
        return RaySpeaker(text, str(folder), "run", settings, packed, version)

    return start


def first_batch():
    return next(make_batches(check_corpus_sentences(SENTENCES), 1))[0]


def test_a_voice_is_carried_to_a_node_that_lacks_it(actor, made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda packed: packed))
    spoken = actor()({"batch": [first_batch().to_json()]})["spoken"]
    assert len(spoken) == len(first_batch().indices)
    assert set(audio_of(tmp_path / "out").items()) <= set(audio_of(made).items())
    assert [path.name[:7] for path in (tmp_path / "node" / "voices").iterdir()] == ["corpus-"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "0.0.1"}, "the node has balacoon_tk .*, and 0.0.1 is wanted"),
        ({"folder": Path("/nowhere")}, "the node doesn't see /nowhere of this run: it must be on storage"),
        ({"settings": "another"}, "doesn't see .*/out of this run"),
    ],
)
def test_what_a_node_lacks_is_told(actor, changes, message):
    (told,) = actor(**changes)({"batch": [first_batch().to_json()]})["spoken"]
    assert re.search(message, json.loads(told)["fatal"])
