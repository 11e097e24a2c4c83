"""Forks, ends, closed streams and other processes: what a program does to a TTS that runs in it."""

import copy
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from balacoon_tk import TTS
from balacoon_tk.errors import BusyError, ModelError, StreamStateError, VoiceError
from balacoon_tk.frontend import CharacterFrontend, EspeakFrontend
from balacoon_tk.frontend.naming import LeftOutNames
from balacoon_tk.runtime.process import Runs
from balacoon_tk.voice import load_voice
from tiny_voice import build_tiny_voice
from unmeasured import unmeasured_environment

TEXT = "So it is. Is it so? It is, and so it stays. Oh."
TIMEOUT_S = 30.0
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
needs_descriptors = pytest.mark.skipif(os.name == "nt", reason="closes descriptors as a shell does")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_tiny_voice(tmp_path_factory.mktemp("voices") / "streaming", streaming=True)


# --- forks


def status_of_child(work):
    """Fork, let the child do its work, and return what it found, or the signal that ended it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: the child has one thread
        child = os.fork()
    if child == 0:
        code = 99
        try:
            code = int(work())
        finally:
            os._exit(code)
    end_s = time.monotonic() + TIMEOUT_S
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < end_s:
        time.sleep(0.002)
    if ended[0] == 0:
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the child hangs")
    return os.waitstatus_to_exitcode(ended[1])


class Busy:
    """Threads that stream for as long as the test lasts."""

    def __init__(self, tts, n=3):
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(tts, seed)) for seed in range(n)]

    def work(self, tts, seed):
        while not self.stop.is_set():
            for _ in tts.stream(TEXT, seed=seed, chunk_frames=3):
                if self.stop.is_set():
                    return

    def __enter__(self):
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_error):
        self.stop.set()
        for thread in self.threads:
            thread.join(TIMEOUT_S)


@needs_fork
@pytest.mark.parametrize("n_threads", [1, 2])
def test_children_speak_that_were_forked_while_streams_ran(folder, n_threads):
    tts = TTS(folder, n_threads=n_threads)
    expected = tts.synthesize(TEXT, seed=5)

    def speak():
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(tts.synthesize(TEXT, seed=5))) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return not (len(found) == 2 and all(np.array_equal(each, expected) for each in found))

    with Busy(tts):
        assert [status_of_child(speak) for _ in range(6)] == [0] * 6
    assert np.array_equal(tts.synthesize(TEXT, seed=5), expected)


@needs_fork
def test_a_child_reads_text_that_was_forked_while_another_thread_did():
    pytest.importorskip("piper")
    frontend, stop = EspeakFrontend(), threading.Event()

    def read():
        while not stop.is_set():
            list(frontend.phonemize("So it is."))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        expected = list(frontend.phonemize(TEXT))
        for _ in range(8):
            assert status_of_child(lambda: list(frontend.phonemize(TEXT)) != expected) == 0
    finally:
        stop.set()
        thread.join(TIMEOUT_S)


@needs_fork
def test_a_child_names_what_is_left_out_that_was_forked_while_another_thread_did():
    names, stop = LeftOutNames("left out", UserWarning), threading.Event()

    def warn():
        while not stop.is_set():
            names.warn((), stacklevel=1)

    thread = threading.Thread(target=warn)
    thread.start()
    try:
        for _ in range(200):
            assert status_of_child(lambda: bool(names.warn((), stacklevel=1))) == 0
    finally:
        stop.set()
        thread.join(TIMEOUT_S)


@needs_fork
def test_a_stream_of_the_parent_is_refused_in_the_child_and_goes_on_in_the_parent(folder):
    tts = TTS(folder, n_threads=1)
    expected = list(tts.stream(TEXT, seed=5, chunk_frames=3))
    stream = tts.stream(TEXT, seed=5, chunk_frames=3)
    first = next(stream)

    def go_on():
        try:
            next(stream)
        except StreamStateError as error:
            stream.close()
            return "begun before this process was forked" not in str(error)
        return 1

    assert status_of_child(go_on) == 0
    assert sum(len(chunk.samples) for chunk in (first, *stream)) == sum(len(c.samples) for c in expected)


@needs_fork
def test_a_graph_whose_threads_were_left_behind_says_what_to_do(folder):
    voices = {n_threads: load_voice(folder, n_threads=n_threads) for n_threads in (1, 2)}
    frames = np.zeros((8, 20), np.float32)

    def decode():
        assert sum(len(chunk.samples) for chunk in voices[1].decode(frames)) == 80
        try:
            list(voices[2].decode(frames))
        except ModelError as error:
            return "was loaded before this process was forked" not in str(error)
        return 1

    assert status_of_child(decode) == 0


@needs_fork
def test_a_voice_that_was_replaced_meanwhile_is_not_spoken_with(tmp_path):
    folder = build_tiny_voice(tmp_path / "voice", streaming=True)
    tts = TTS(folder, n_threads=2)
    build_tiny_voice(folder, ["ada", "bob"], streaming=True)

    def speak():
        try:
            tts.synthesize(TEXT)
        except VoiceError as error:
            return "sha256" not in str(error)
        return 1

    assert status_of_child(speak) == 0


@needs_fork
def test_a_child_that_ends_as_python_does_ends_with_its_own_status(folder):
    program = (
        "import os, sys\n"
        "from balacoon_tk import TTS\n"
        f"tts = TTS({str(folder)!r}, n_threads=2)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    tts.synthesize('so', seed=1)\n"
        "    print('spoken')\n"
        "    sys.exit(5)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, timeout=TIMEOUT_S
    )
    assert (done.returncode, done.stdout) == (5, b"spoken\n"), done.stderr


@needs_fork
def test_a_fork_waits_for_the_runs_of_other_threads_and_lets_none_begin():
    runs, order, begun, end = Runs(), [], threading.Event(), threading.Event()

    def first():
        with runs:
            begun.set()
            end.wait(TIMEOUT_S)
            order.append("first run")

    def fork():
        with runs:  # from a signal's handler, in the middle of its own run: it can't wait for that
            runs.before_fork()
            order.append("fork")
            runs.after_fork_in_parent()

    def second():
        with runs:
            order.append("second run")

    threads = [threading.Thread(target=work) for work in (first, fork, second)]
    threads[0].start()
    assert begun.wait(TIMEOUT_S)
    threads[1].start()
    while not runs._forking:
        time.sleep(0.001)
    threads[2].start()
    time.sleep(0.02)
    assert order == []
    end.set()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert order == ["first run", "fork", "second run"]
    assert runs.n_under_way == 0


def test_at_the_end_a_daemon_begins_no_run_and_others_may():
    runs, order = Runs(), []
    runs.end()

    def work():
        with runs:
            order.append(threading.current_thread().name)

    threading.Thread(target=work, name="daemon", daemon=True).start()
    other = threading.Thread(target=work, name="other")
    other.start()
    other.join(TIMEOUT_S)
    time.sleep(0.02)
    assert order == ["other"]


# --- the end of a program


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_program_that_ends_while_streams_run_ends_with_its_own_status(folder, n_threads):
    program = (
        "import asyncio, sys, threading, time\n"
        "from balacoon_tk import TTS\n"
        f"tts = TTS({str(folder)!r}, n_threads={n_threads})\n"
        "def speak(strategy):\n"
        "    while True:\n"
        "        list(tts.stream('so it is and so it stays ' * 40, strategy=strategy))\n"
        "for strategy in 2 * ('full', 'stateful'):\n"
        "    threading.Thread(target=speak, args=(strategy,), daemon=True).start()\n"
        "chunks = tts.astream('so it is ' * 99)\n"
        "loop = asyncio.new_event_loop()\n"
        "loop.run_until_complete(anext(chunks))\n"
        "stream = tts.stream('so it is. ' * 9)\n"
        "next(stream)\n"
        "time.sleep(0.1)\n"
        "sys.exit(7)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=TIMEOUT_S, env=unmeasured_environment()
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")


# --- standard streams that are closed

CLOSED = [
    # what the shell closes, the command's arguments, its status, and what it says
    (">&-", ("synthesize", "so", "-o", "{out}"), 0, ""),
    ("2>&-", ("synthesize", "so", "-o", "-"), 0, ""),
    ("<&- >&- 2>&-", ("synthesize", "so", "-o", "{out}"), 0, ""),
    (">&-", ("synthesize", "so", "-o", "-"), 1, "error: stdout is closed: give a file with -o"),
    ("<&-", ("synthesize", "-", "-o", "{out}"), 1, "error: stdin is closed: give a text or a file"),
    (">&-", ("inspect",), 1, "error: stdout is closed"),
    (">/dev/full", ("inspect",), 1, "error: .*No space left"),
]


@needs_descriptors
@pytest.mark.parametrize(("closed", "arguments", "status", "message"), CLOSED)
def test_a_command_works_without_standard_streams_or_says_in_a_line_why_not(
    folder, tmp_path, closed, arguments, status, message
):
    if "/dev/full" in closed and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    out = tmp_path / "out.wav"
    arguments = [*(each.format(out=out) for each in arguments), "-v", str(folder)]
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "balacoon_tk", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S)
    err = done.stderr.decode()
    assert done.returncode == status, err
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert len([line for line in err.splitlines() if "error" in line]) == (status != 0)
    if message:
        assert re.search(message, err)
    if str(out) in arguments and status == 0:
        data = out.read_bytes()
        assert data[:4] == b"RIFF"
        assert len(data) > 100
    if closed == "2>&-":
        assert len(done.stdout) % 2 == 0
        assert len(done.stdout) > 100


# --- other processes


def test_another_process_speaks_with_a_tts_that_was_pickled(folder):
    tts = TTS(folder, n_threads=1, max_streams=3)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(tts.synthesize, TEXT, seed=5).result(TIMEOUT_S)
    assert np.array_equal(found, tts.synthesize(TEXT, seed=5))


def test_a_pickle_is_the_recipe(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    tts = TTS(folder.name, n_threads=1, safety_factor=3.0, max_streams=3, max_waiting=4)
    data = pickle.dumps(tts)
    assert len(data) < 2000
    monkeypatch.chdir("/")
    other = pickle.loads(data)
    assert other.voice is not tts.voice
    assert other.voice.options == tts.voice.options
    assert (other.safety_factor, other._crowd.max_streams, other._crowd.max_waiting) == (3.0, 3, 4)
    assert np.array_equal(other.synthesize(TEXT, seed=5), tts.synthesize(TEXT, seed=5))


def test_a_frontend_of_ones_own_comes_along(folder):
    frontend = CharacterFrontend()
    assert type(pickle.loads(pickle.dumps(TTS(folder, frontend=frontend))).frontend) is CharacterFrontend


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_shares_the_voice_and_has_bounds_of_its_own(folder, copied):
    tts = TTS(folder, max_streams=1, max_waiting=0)
    other = copied(tts)
    assert other is not tts
    assert other.voice is tts.voice
    assert other.frontend is tts.frontend
    stream = tts.stream(TEXT, strategy="full", speed=0.1)
    next(stream)
    with pytest.raises(BusyError):
        tts.synthesize(TEXT)
    assert np.array_equal(other.synthesize(TEXT, seed=5), TTS(folder).synthesize(TEXT, seed=5))
    stream.close()


def test_a_stream_is_no_recipe(folder):
    tts = TTS(folder)
    for stream in (tts.stream(TEXT), tts.astream(TEXT)):
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="a stream can't be pickled or copied"):
                attempt(stream)


def test_a_refusal_keeps_its_numbers_on_the_way_to_another_process():
    error = pickle.loads(pickle.dumps(BusyError(3, 2, 2)))
    assert (error.n_playing, error.n_waiting, error.max_waiting) == (3, 2, 2)
    assert "3 streams play and 2 wait" in str(error)
