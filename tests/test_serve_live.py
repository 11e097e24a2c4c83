"""Text in pieces over a WebSocket and Wyoming: what it sounds like, and what is wrong with it."""

import asyncio
import contextlib
import json
import socket
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

from balacoon_tk import TTS
from balacoon_tk.audio import pcm_bytes
from gate import TIMEOUT_S
from serving import PiecesGate, served
from tiny_voice import SAMPLE_RATE, SPEAKERS
from waiting import wait_for

TEXT = "So it is. Is it so? It is, and so it stays. Oh."
PIECES = ("So i", "t", " is.", " Is it so? It is, and so it st", "ays. Oh.")
OUTCOME = 'balacoon_tk_requests_total{{protocol="{}",outcome="{}"}}'

pytestmark = [
    pytest.mark.filterwarnings("ignore:tiny is streamed"),
    # A client's doing, of which the server warns its operator: as an error it would be the server's.
    pytest.mark.filterwarnings("ignore::balacoon_tk.frontend.NothingToSayWarning"),
]


@pytest.fixture(scope="module")
def tts(tiny_speakers_voice):
    return TTS(tiny_speakers_voice)


@pytest.fixture(scope="module")
def server(tts):
    with served(tts) as server:
        yield server


def whole(tts, text=TEXT, **settings):
    return b"".join(pcm_bytes(chunk.samples) for chunk in tts.stream(text, seed=5, **settings))


def streaming_threads():
    return [each for each in threading.enumerate() if each.name == "async-stream"]


def n_utterances(server, protocol):
    return sum(n for name, n in server.figures().items() if f'protocol="{protocol}"' in name)


# --- the WebSocket


@contextlib.contextmanager
def talking(server, **options):
    with connect(f"ws://127.0.0.1:{server.port}/v1/speech", compression=None, **options) as connection:
        yield connection


def send(connection, *messages):
    for message in messages:
        connection.send(json.dumps(message))


def texts(*pieces):
    return [{"type": "text", "text": piece} for piece in pieces]


def receive(connection):
    """Return the messages and the audio of one utterance."""
    messages, audio = [], []
    while not messages or messages[-1]["type"] not in ("done", "error"):
        received = connection.recv(timeout=TIMEOUT_S)
        if isinstance(received, bytes):
            audio.append(received)
        else:
            messages.append(json.loads(received))
    return messages, b"".join(audio)


def code_of(connection):
    """Return the code that a connection is closed by."""
    with pytest.raises(ConnectionClosed) as caught:
        connection.recv(timeout=TIMEOUT_S)
    return caught.value.rcvd.code


def test_pieces_sound_like_the_whole_text_and_say_where_they_are(server, tts):
    with talking(server) as connection:
        for pieces in (PIECES, [TEXT], list(TEXT)):
            start = {"type": "start", "model": "tiny", "voice": "bob", "seed": 5, "speed": 1.5}
            send(connection, start, *texts(*pieces), {"type": "end"})
            (started, *said, done), audio = receive(connection)
            assert audio == whole(tts, speaker="bob", speed=1.5)
            assert started == {
                "type": "started",
                "model": "tiny",
                "format": "s16le",
                "sample_rate": SAMPLE_RATE,
            }
            assert done == {"type": "done", "cancelled": False}
            chunks = list(tts.stream(TEXT, speaker="bob", seed=5, speed=1.5))
            phonemes = [tuple(each) for message in said for each in message["phonemes"]]
            assert phonemes == [each for chunk in chunks for each in chunk.alignment]
            words = [each for message in said for each in message["words"]]
            assert words == [
                {**each._asdict(), "text_span": list(each.text_span)}
                for chunk in chunks
                for each in chunk.words
            ]
            assert said[-1]["end_s"] == pytest.approx(len(audio) / 2 / SAMPLE_RATE)


def test_what_has_come_so_far_is_said_at_a_flush(server, tts):
    with talking(server) as connection:
        send(connection, {"type": "start", "seed": 5}, *texts("So it"), {"type": "flush"})
        parts = [connection.recv(timeout=TIMEOUT_S) for _ in range(2)]
        assert isinstance(parts[1], bytes), "before the end has come"
        send(connection, *texts("is."), {"type": "end"})
        _, rest = receive(connection)
        assert len(parts[1] + rest) > len(whole(tts, "So it"))


def test_text_alone_begins_an_utterance_and_the_next_may_follow_at_once(server):
    utterance = [*texts("So."), {"type": "end"}]
    with talking(server) as connection:
        send(connection, *utterance, *utterance)
        for _ in range(2):
            (started, *_, done), audio = receive(connection)
            assert started["type"] == "started"
            assert len(audio) > 0
            assert done == {"type": "done", "cancelled": False}
        # Nothing is being said: nothing is stopped, and nothing told of it.
        send(connection, {"type": "cancel"}, *utterance)
        assert receive(connection)[0][-1] == {"type": "done", "cancelled": False}


def test_it_stops_when_it_is_told_to(tiny_voice):
    gate = PiecesGate()
    with served(TTS(tiny_voice, frontend=gate)) as server, talking(server) as connection:
        send(connection, *texts(TEXT))
        assert json.loads(connection.recv())["type"] == "started"
        send(connection, {"type": "cancel"})
        messages, _ = receive(connection)
        assert messages[-1] == {"type": "done", "cancelled": True}
        gate.open.set()
        assert server.figures()[OUTCOME.format("websocket", "cancelled")] == 1
        send(connection, *texts("So."), {"type": "cancel"})


@pytest.mark.parametrize(
    ("messages", "code", "error"),
    [
        (["{"], 1007, "must be JSON"),
        (["[1]"], 1007, "must be a JSON object"),
        ([b"so"], 1007, "must be JSON"),
        (['{"type": "sing"}'], 1008, "type='sing' must be start, text"),
        (['{"type": "text"}'], 1008, "text=None must be a str"),
        (['{"type": "start", "model": "eve"}'], 1008, "model='eve' must be one of tiny"),
        (['{"type": "start", "voice": "eve"}'], 1008, "speaker='eve' must be one of"),
        (['{"type": "start", "speed": 100}'], 1008, "speed=100 must be"),
        (['{"type": "start", "pitch": 1}'], 1008, "pitch: there is no such field"),
        (['{"type": "text", "text": "so [[it"}', '{"type": "end"}'], 1008, "opens raw phonemes"),
        ([json.dumps({"type": "text", "text": "a" * 1_500_000})], 1009, "at most 1048576"),
    ],
)
def test_what_is_wrong_is_said_and_closes_the_connection(server, messages, code, error):
    with talking(server) as connection:
        for message in messages:
            connection.send(message)
        received, _ = receive(connection)
        assert received[-1]["type"] == "error"
        assert error in received[-1]["error"]["message"]
        assert code_of(connection) == code


def test_one_too_many_is_told_to_come_again(tiny_voice):
    gate = PiecesGate()
    tts = TTS(tiny_voice, frontend=gate, max_streams=1, max_waiting=0)
    with served(tts) as server, talking(server) as first, talking(server) as second:
        send(first, *texts(TEXT))
        assert [first.recv(timeout=TIMEOUT_S) for _ in range(3)]
        send(second, *texts(TEXT))
        messages, _ = receive(second)
        assert messages[-1]["error"]["code"] == "busy"
        assert code_of(second) == 1013
        gate.open.set()


def test_a_page_of_another_site_is_kept_out(server):
    for origin, welcome in ((f"http://127.0.0.1:{server.port}", True), ("http://example.com", False)):
        with contextlib.ExitStack() as stack:
            if not welcome:
                stack.enter_context(pytest.raises(InvalidStatus, match="403"))
            with talking(server, origin=origin):
                pass


@pytest.mark.parametrize("protocol", ["websocket", "wyoming"])
def test_whoever_says_nothing_is_left(server, monkeypatch, protocol):
    monkeypatch.setattr("balacoon_tk.serve.conversation.IDLE_S", 0.05)
    if protocol == "websocket":
        with talking(server) as connection:
            messages, _ = receive(connection)
            assert messages[-1]["error"]["code"] == "idle"
            assert code_of(connection) == 1001
    else:
        with socket.create_connection(("127.0.0.1", server.wyoming_port)) as connection:
            assert b'"error"' in connection.makefile("rb").read()


def test_who_listens_is_not_taken_for_one_who_has_gone(tiny_voice, monkeypatch):
    monkeypatch.setattr("balacoon_tk.serve.conversation.IDLE_S", 0.4)
    gate = PiecesGate()
    with served(TTS(tiny_voice, frontend=gate)) as server, talking(server) as connection:
        send(connection, *texts(TEXT))
        begun_s = time.monotonic()
        messages, audio = receive(connection)
        # Sound has come in the first of two times that nothing was said.
        assert audio
        assert messages[-1]["error"]["code"] == "idle"
        assert time.monotonic() - begun_s > 0.6
        gate.open.set()


def test_nothing_stays_of_clients_that_leave_in_the_middle(tiny_voice):
    gate = PiecesGate()
    tts = TTS(tiny_voice, frontend=gate)
    with served(tts) as server:
        n_tasks = len(server.tasks())
        for _ in range(5):
            with talking(server) as connection:
                send(connection, *texts(TEXT))
                connection.recv(timeout=TIMEOUT_S)
            with socket.create_connection(("127.0.0.1", server.wyoming_port)) as connection:
                event = {"type": "synthesize", "data": {"text": TEXT, "voice": None}}
                connection.sendall(json.dumps(event).encode() + b"\n")
                connection.recv(10)
        for protocol in ("websocket", "wyoming"):
            name = OUTCOME.format(protocol, "cancelled")
            wait_for(lambda name=name: server.figures().get(name) == 5)
        gate.open.set()
        wait_for(lambda: tts.count_streams() == (0, 0))
        wait_for(lambda: not streaming_threads() and len(server.tasks()) == n_tasks)


# --- Wyoming


def converse(server, *events):
    """Send events, and return what is answered until the stream or the connection ends."""

    async def work():
        async with AsyncTcpClient("127.0.0.1", server.wyoming_port) as client:
            for event in events:
                await client.write_event(event if isinstance(event, Event) else event.event())
            answers = []
            last = SynthesizeStopped if isinstance(events[0], SynthesizeStart) else AudioStop
            while (event := await client.read_event()) is not None:
                answers.append(event)
                if last.is_type(event.type):
                    break
            return answers

    return asyncio.run(asyncio.wait_for(work(), TIMEOUT_S))


def audio_of(answers):
    start, *chunks = [each for each in answers if each.type in ("audio-start", "audio-chunk")]
    assert AudioStart.from_event(start) == AudioStart(SAMPLE_RATE, 2, 1)
    return b"".join(AudioChunk.from_event(each).audio for each in chunks)


def test_home_assistant_learns_which_voices_there_are(server):
    async def work():
        async with AsyncTcpClient("127.0.0.1", server.wyoming_port) as client:
            await client.write_event(Ping("so").event())
            assert Pong.from_event(await client.read_event()).text == "so"
            await client.write_event(Describe().event())
            return Info.from_event(await client.read_event())

    (program,) = asyncio.run(asyncio.wait_for(work(), TIMEOUT_S)).tts
    assert program.supports_synthesize_streaming
    (voice,) = program.voices
    assert (voice.name, voice.languages, voice.installed) == ("tiny", ["en"], True)
    assert tuple(each.name for each in voice.speakers) == SPEAKERS


def test_home_assistant_gets_a_text_spoken(server, tts, monkeypatch):
    monkeypatch.setattr("balacoon_tk.stages.settings.os.urandom", lambda n: (5).to_bytes(n, "little"))
    for voice, speaker in (
        (None, None),
        (SynthesizeVoice(name="tiny", speaker="bob"), "bob"),
        (SynthesizeVoice(language="en"), None),
    ):
        answers = converse(server, Synthesize(TEXT, voice=voice))
        assert audio_of(answers) == whole(tts, speaker=speaker)


def test_home_assistant_gets_pieces_spoken_and_the_whole_text_after_them_is_left_alone(
    server, tts, monkeypatch
):
    monkeypatch.setattr("balacoon_tk.stages.settings.os.urandom", lambda n: (5).to_bytes(n, "little"))
    chunks = [SynthesizeChunk(piece) for piece in PIECES]
    before = n_utterances(server, "wyoming")
    answers = converse(server, SynthesizeStart(), *chunks, Synthesize(TEXT), SynthesizeStop())
    assert audio_of(answers) == whole(tts)
    assert [each.type for each in answers[-2:]] == ["audio-stop", "synthesize-stopped"]
    wait_for(lambda: not streaming_threads())
    assert n_utterances(server, "wyoming") == before + 1


def test_home_assistant_gets_ssml_spoken_as_such(server, tts, monkeypatch):
    monkeypatch.setattr("balacoon_tk.stages.settings.os.urandom", lambda n: (5).to_bytes(n, "little"))
    text = ' <speak>so<break time="500ms"/>it</speak>'
    answers = converse(server, Event("synthesize", {"text": text, "text_format": "ssml"}))
    assert audio_of(answers) == whole(tts, text, markup="ssml")
    assert len(whole(tts, text, markup="ssml")) > len(whole(tts, "so it"))


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"{\n", "must be JSON"),
        (b"5\n", "must be a JSON object"),
        (b'{"type": "synthesize"}\n', "text=None must be a str"),
        (b'{"type": "synthesize", "data": 5}\n', "data=5 must be a dict"),
        (b'{"type": "synthesize", "data": {"text": "so", "voice": {"name": "eve"}}}\n', "model='eve'"),
        (
            b'{"type": "synthesize", "data": {"text": "so", "voice": {"language": "xx"}}}\n',
            "model='xx' must be one of",
        ),
        (b'{"type": "synthesize", "data_length": 2000000000}\n', "at most 1048576"),
        (b'{"type": "synthesize", "payload_length": -1}\n', "at most 1048576"),
    ],
)
def test_wrong_events_are_answered_by_an_error_and_the_end(server, sent, error):
    with socket.create_connection(("127.0.0.1", server.wyoming_port), timeout=TIMEOUT_S) as connection:
        connection.sendall(sent)
        with connection.makefile("rb") as file:
            received = file.read()
    header, _, data = received.partition(b"\n")
    assert json.loads(header)["type"] == "error"
    assert error in Error(**json.loads(data)).text


def test_what_a_chunk_holds_is_sixteen_bits(server):
    assert np.frombuffer(audio_of(converse(server, Synthesize("So."))), "<i2").any()


def test_whoever_writes_faster_than_speech_can_still_stop_it(tiny_voice):
    gate = PiecesGate()
    with served(TTS(tiny_voice, frontend=gate)) as server, talking(server) as connection:
        send(connection, *texts(*["so "] * 2000), {"type": "cancel"})
        messages, _ = receive(connection)
        assert messages[-1] == {"type": "done", "cancelled": True}
        gate.open.set()


def test_whoever_writes_without_end_is_held_back(tiny_voice):
    gate = PiecesGate()
    with served(TTS(tiny_voice, frontend=gate)) as server, talking(server) as connection:
        connection.socket.settimeout(0.5)
        with pytest.raises((TimeoutError, ConnectionClosed)):
            for _ in range(100):
                send(connection, *texts("so it is. " * 50_000))
        gate.open.set()


@pytest.mark.parametrize("protocol", ["websocket", "wyoming"])
def test_whoever_takes_nothing_is_given_up(tiny_voice, monkeypatch, protocol):
    for module in ("cli._server", "serve.wyoming"):
        monkeypatch.setattr(f"balacoon_tk.{module}.IDLE_S", 0.2)
    text = "so it is. " * 5000
    with served(TTS(tiny_voice), send_buffer=4096) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        port = server.port if protocol == "websocket" else server.wyoming_port
        connection.connect(("127.0.0.1", port))
        if protocol == "websocket":
            head = "GET /v1/speech HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            key = "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            connection.sendall((head + key).encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 101 ")
            message = json.dumps({"type": "text", "text": text}).encode()
            # A frame of text that is whole, masked by zeros.
            connection.sendall(b"\x81\xff" + len(message).to_bytes(8, "big") + bytes(4) + message)
        else:
            data = json.dumps({"type": "synthesize", "data": {"text": text}}).encode()
            connection.sendall(data + b"\n")
        wait_for(lambda: server.figures().get(OUTCOME.format(protocol, "cancelled")) == 1)
        assert server.figures()["balacoon_tk_audio_seconds_total"] * SAMPLE_RATE * 2 < 200_000


def test_a_line_without_end_ends_the_connection_and_no_other(server):
    address = ("127.0.0.1", server.wyoming_port)
    with (
        socket.create_connection(address, timeout=TIMEOUT_S) as connection,
        contextlib.suppress(ConnectionError),
    ):
        connection.sendall(b" " * 3_000_000)
        connection.makefile("rb").read()
    assert audio_of(converse(server, Synthesize("So.")))


@pytest.mark.parametrize("in_time", [True, False])
def test_the_server_ends_with_what_is_being_said(tiny_voice, in_time):
    gate = PiecesGate()
    with (
        served(tts := TTS(tiny_voice, frontend=gate), grace_s=20 if in_time else 1) as server,
        talking(server) as socket_,
        socket.create_connection(("127.0.0.1", server.wyoming_port), timeout=TIMEOUT_S) as connection,
        connection.makefile("rb") as received,
    ):
        connection.sendall(json.dumps({"type": "synthesize", "data": {"text": TEXT}}).encode() + b"\n")
        assert json.loads(received.readline())["type"] == "audio-start"
        wait_for(lambda: gate.reached.is_set())
        server.server.should_exit = True
        assert code_of(socket_) == 1012
        if in_time:
            gate.open.set()
        data = received.read()
        assert (b'"audio-stop"' in data) is in_time
        server.thread.join(TIMEOUT_S / 2)
        assert not server.thread.is_alive()
        gate.open.set()
    wait_for(lambda: tts.count_streams() == (0, 0))


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    st.sampled_from(
        ["so", "so it is. ", "[[", "<speak>so", "\ud800", "bob", "tiny", "ssml", 10**400, [1], {}]
    ),
)
FIELDS = st.sampled_from(
    ["model", "voice", "speed", "seed", "volume", "markup", "clause", "sentence_pause", "x"]
)
KINDS = "start text flush end cancel synthesize synthesize-start synthesize-chunk synthesize-stop describe"


@settings(max_examples=30, deadline=None)
@given(
    messages=st.lists(
        st.builds(
            lambda kind, text, fields: {
                **fields,
                "type": kind,
                "text": text,
                "data": {**fields, "text": text},
            },
            st.one_of(st.sampled_from(KINDS.split()), VALUES),
            VALUES,
            st.dictionaries(FIELDS, VALUES, max_size=2),
        ),
        max_size=6,
    )
)
def test_whatever_is_sent_is_no_failure_of_the_server(server, messages):
    n_tasks = len(server.tasks())
    lines = [json.dumps(message) for message in messages]
    with talking(server) as connection, contextlib.suppress(ConnectionClosed):
        for line in lines:
            connection.send(line)
    with (
        socket.create_connection(("127.0.0.1", server.wyoming_port)) as connection,
        contextlib.suppress(ConnectionError),
    ):
        connection.sendall("".join(f"{line}\n" for line in lines).encode())
    wait_for(lambda: len(server.tasks()) == n_tasks)
    assert not any("failed" in name for name in server.figures())
