"""The player's side in the kernel: what goes to the page and when, and what stops."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from balacoon_tk import TTS
from balacoon_tk.audio import AudioChunk
from balacoon_tk.errors import ParameterError, StreamStateError
from balacoon_tk.player import Player, Playground, ProgressBar
from balacoon_tk.player.playground import parse_schedule
from balacoon_tk.player.widget import Synthesis
from tiny_voice import SPEAKERS, decoder_model, encoder_model, write_voice

RATE = 8000
LIMIT_S = 30.0


def make_chunk(start=0, *, n_samples=RATE, level=0.5, sample_rate=RATE):
    return AudioChunk(
        samples=np.full(n_samples, level, np.float32), sample_rate=sample_rate, start_sample=start
    )


class Page:
    """Stands in for the page: takes what the player sends, and answers."""

    def __init__(self, player, monkeypatch):
        self.messages = []
        self.came = threading.Condition()
        monkeypatch.setattr(player, "send", self.take)
        self._player = player

    def take(self, content, buffers=None):
        with self.came:
            self.messages.append((content, buffers))
            self.came.notify_all()

    def say(self, **content):
        self._player._hear(self._player, content, [])

    def wait_for(self, kind):
        with self.came:
            assert self.came.wait_for(lambda: kind in self.kinds(), LIMIT_S)

    def kinds(self):
        return [content["kind"] for content, _ in self.messages]


@pytest.fixture
def player():
    player = Player(sample_rate=RATE)
    yield player
    player.stop()
    player.close()


@pytest.fixture
def page(player, monkeypatch):
    return Page(player, monkeypatch)


def test_a_stream_goes_to_the_page_as_int16_between_start_and_end(player, page):
    page.say(kind="ready")
    player.play(iter([make_chunk(), make_chunk(RATE, level=-0.25)]))
    trace = player.wait(LIMIT_S)
    page.wait_for("end")
    assert page.kinds() == ["start", "chunk", "chunk", "end"]
    heads = [content for content, _ in page.messages]
    assert {head["stream"] for head in heads} == {1}
    assert heads[0]["sample_rate"] == RATE
    assert [head["index"] for head in heads[1:3]] == [0, 1]
    assert heads[-1]["error"] is None
    sent = [np.frombuffer(buffers[0], "<i2") for _, buffers in page.messages[1:3]]
    np.testing.assert_array_equal(sent[0], np.full(RATE, 16384, np.int16))
    np.testing.assert_array_equal(sent[1], np.full(RATE, -8192, np.int16))
    assert trace.n_samples == (RATE, RATE)


def test_what_is_made_before_the_page_is_there_waits_for_it_in_order(player, page):
    player.play(iter([make_chunk()]))
    player.wait(LIMIT_S)
    assert page.messages == []
    page.say(kind="ready")
    assert page.kinds() == ["start", "chunk", "end"]


def test_what_nobody_heard_is_dropped_when_another_stream_begins(player, page):
    player.play(iter([make_chunk()]))
    player.wait(LIMIT_S)
    player.play(iter([make_chunk()]))
    player.wait(LIMIT_S)
    page.say(kind="ready")
    assert [content["stream"] for content, _ in page.messages] == [2, 2, 2]


def test_a_chunk_of_silence_is_not_the_first_audible_one(player, page):
    page.say(kind="ready")
    player.play(iter([make_chunk(level=0.0), make_chunk(RATE)]))
    player.wait(LIMIT_S)
    assert [content["audible"] for content, _ in page.messages[1:3]] == [False, True]


def endless(closed):
    """Give chunks as fast as they are taken, and note when it is closed."""
    try:
        while True:
            yield make_chunk(n_samples=80)
            time.sleep(0.001)
    finally:
        closed.set()


@pytest.mark.parametrize("how", ["player", "page", "next"])
def test_stop_ends_the_synthesis_too(player, page, how):
    page.say(kind="ready")
    closed = threading.Event()
    player.play(endless(closed))
    page.wait_for("chunk")
    begun_s = time.perf_counter()
    if how == "player":
        player.stop()
    elif how == "page":
        page.say(kind="stop", stream=1)
    else:
        player.play(iter([make_chunk()]))
    assert closed.wait(LIMIT_S)
    assert time.perf_counter() - begun_s < 5.0
    if how != "next":
        player.wait(LIMIT_S)
        assert "end" not in page.kinds(), "the page knows already"
        n_messages = len(page.messages)
        time.sleep(0.05)
        assert len(page.messages) == n_messages


def test_a_stop_for_an_older_stream_does_not_stop_the_new_one(player, page):
    page.say(kind="ready")
    player.play(iter([make_chunk()]))
    player.wait(LIMIT_S)
    player.play(iter([make_chunk(), make_chunk(RATE)]))
    page.say(kind="stop", stream=1)
    assert len(player.wait(LIMIT_S).n_samples) == 2


def test_an_error_is_told_to_the_page_and_raised_to_who_waits(player, page):
    def stream():
        yield make_chunk()
        raise RuntimeError("no more")

    page.say(kind="ready")
    player.play(stream())
    with pytest.raises(RuntimeError, match="no more"):
        player.wait(LIMIT_S)
    page.wait_for("end")
    assert page.messages[-1][0]["error"] == "no more"


def test_a_chunk_of_another_rate_is_refused(player, page):
    player.play(iter([make_chunk(sample_rate=RATE // 2)]))
    with pytest.raises(ParameterError, match="a chunk of 4000 Hz must have the player's 8000 Hz"):
        player.wait(LIMIT_S)


def test_waiting_for_nothing_or_too_shortly_is_an_error(player, page):
    with pytest.raises(StreamStateError, match=r"wait\(\) before play\(\)"):
        player.wait()
    player.play(endless(threading.Event()))
    with pytest.raises(StreamStateError, match=r"not over after timeout_s=0\.01"):
        player.wait(0.01)


@pytest.mark.parametrize("options", [{"sample_rate": 0}, {"sample_rate": RATE, "prebuffer_s": -1.0}])
def test_what_no_page_can_play_is_refused(options):
    with pytest.raises(ParameterError, match=r"must be in \["):
        Player(**options)


def test_synthesis_does_not_run_far_ahead_of_playback():
    came, sent = threading.Event(), []

    def send(message):
        sent.append(message[0]["kind"])
        if sent.count("chunk") == 3:
            came.set()

    synthesis = Synthesis(
        iter([make_chunk(k * RATE) for k in range(10)]),
        number=1,
        sample_rate=RATE,
        send=send,
        max_ahead_s=2.0,
    )
    synthesis.start()
    assert came.wait(LIMIT_S)
    time.sleep(0.2)
    assert sent.count("chunk") == 3, "three seconds are made, and less than one has sounded"
    synthesis.stop()
    assert synthesis.join(LIMIT_S), "what waits is woken by a stop"


@pytest.mark.parametrize("text", ["16", "16,32", " 4  8, 8 "])
def test_schedules_are_read_as_people_type_them(text):
    assert parse_schedule(text) == tuple(int(n) for n in text.replace(",", " ").split())


@pytest.mark.parametrize("text", ["", " , ", "0", "-3", "8, x", "1.5", "²"])
def test_other_schedules_are_refused(text):
    with pytest.raises(ParameterError, match="must be whole numbers >= 1"):
        parse_schedule(text)


@pytest.fixture(scope="module")
def tts(tmp_path_factory):
    """Three speakers, at a rate that a page can play."""
    n_speakers = len(SPEAKERS)
    folder = write_voice(
        tmp_path_factory.mktemp("voices") / "playable",
        encoder_model(n_speakers),
        decoder_model(n_speakers),
        speakers=SPEAKERS,
        changes={"sample_rate": RATE},
    )
    return TTS(folder, n_threads=1)


@pytest.fixture
def playground(tts):
    playground = Playground(tts, text="hello there")
    yield playground
    playground.player.stop()
    playground.close_all()


def test_the_playground_plays_what_is_set(playground, tts):
    assert list(playground.strategy.options) == list(tts.strategies)
    assert list(playground.speaker.options) == tts.get_speakers()
    playground.strategy.value = "overlap"
    playground.speaker.index = 1
    playground.speed.value = 0.5
    playground.chunks.value = "5"
    playground.play()
    trace = playground.player.wait(LIMIT_S)
    expected = list(
        tts.stream("hello there", strategy="overlap", seed=1, speaker=1, speed=0.5, chunk_frames=5)
    )
    assert trace.sample_rate == RATE
    assert trace.n_samples == tuple(len(chunk.samples) for chunk in expected)
    assert playground.traces == {"overlap": trace}


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [("text", " \n", "there is no text to speak"), ("chunks", "x", "chunks=&#x27;x&#x27; must be")],
)
def test_what_can_not_be_played_is_said_beside_the_button(playground, setting, value, message):
    getattr(playground, setting).value = value
    playground.play()
    assert message in playground.message.value
    assert playground.traces == {}


def test_a_bar_shows_how_far_work_is_and_its_end_always():
    bar = ProgressBar()
    bar.show("judging", 0.25)
    fill, label = bar.children
    assert (fill.value, label.value) == (0.25, "25 % after 0 s: judging")
    for n_done in range(1, 101):
        bar.count(n_done, 100)
    assert (fill.value, label.value) == (1.0, "100 % after 0 s: 100 of 100")
    bar.close_all()


@pytest.mark.parametrize("missing", ["anywidget", "ipywidgets"])
def test_without_the_package_the_error_names_the_extra(missing):
    program = f"import sys; sys.modules[{missing!r}] = None; import balacoon_tk.player"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'pip install "balacoon_tk[notebooks]"' in done.stderr.splitlines()[-1]
