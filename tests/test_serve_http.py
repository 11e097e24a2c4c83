"""What OpenAI's clients ask for, over real sockets."""

import asyncio
import base64
import io
import json
import socket
import threading
import time
import wave

import av
import httpx
import numpy as np
import pytest
from openai import APIStatusError, AsyncOpenAI, OpenAI
from prometheus_client.parser import text_string_to_metric_families

from balacoon_tk import TTS
from balacoon_tk.audio import pcm_bytes
from balacoon_tk.errors import ParameterError
from balacoon_tk.runtime.admission import StreamCounts
from balacoon_tk.runtime.figures import Figures
from balacoon_tk.serve import Service
from gate import TIMEOUT_S
from serving import PiecesGate, served
from tiny_voice import SAMPLE_RATE, SPEAKERS, build_tiny_voice
from waiting import wait_for

TEXT = "So it is. Is it so? It is, and so it stays. Oh."
WAV = {"input": TEXT, "response_format": "wav"}
HTTP = 'balacoon_tk_requests_total{{protocol="http",outcome="{}"}}'

pytestmark = pytest.mark.filterwarnings("ignore:(tiny|choir) is streamed")


@pytest.fixture(scope="module")
def tts(tiny_voice):
    return TTS(tiny_voice, max_streams=4, max_waiting=0)


@pytest.fixture(scope="module")
def choir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voices") / "choir"
    build_tiny_voice(folder, SPEAKERS)
    manifest = json.loads((folder / "voice.json").read_text())
    (folder / "voice.json").write_text(json.dumps(manifest | {"name": "choir"}))
    return TTS(folder, n_threads=1)


@pytest.fixture(scope="module")
def server(tts, choir):
    with served(tts, choir) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(**changes):
    request = {"model": "tiny", "voice": "tiny", "input": TEXT, "response_format": "wav"}
    return request | {"extra_body": {"seed": 5}} | changes


def whole(tts, **settings):
    chunks = tts.stream(TEXT, seed=5, **settings)
    return np.concatenate([chunk.samples for chunk in chunks])


def test_a_client_gets_the_samples_of_the_python_stream(client, tts):
    wav = client.audio.speech.create(**ask()).read()
    with wave.open(io.BytesIO(wav)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (SAMPLE_RATE, 1, 2)
    assert wav[44:] == pcm_bytes(whole(tts))


def test_a_client_streams_what_the_other_one_reads(server, client, tts):
    parts = []
    with client.audio.speech.with_streaming_response.create(**ask()) as answer:
        assert answer.headers["content-type"] == "audio/wav"
        assert answer.headers["transfer-encoding"] == "chunked"
        parts.extend(answer.iter_bytes(500))

    async def work():
        async with (
            AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
            client.audio.speech.with_streaming_response.create(**ask()) as answer,
        ):
            return b"".join([part async for part in answer.iter_bytes()])

    assert b"".join(parts) == asyncio.run(work())
    assert b"".join(parts)[44:] == pcm_bytes(whole(tts))


def test_model_voice_and_speed_choose_how_it_sounds(client, choir):
    for speaker in ("bob", {"id": "bob"}):
        request = ask(model="choir", voice=speaker, speed=2.0)
        assert client.audio.speech.create(**request).read()[44:] == pcm_bytes(
            whole(choir, speaker="bob", speed=2.0)
        )


def test_raw_samples_have_the_rate_that_clients_play_them_at(client, tts):
    request = ask(response_format="pcm")
    pcm = np.frombuffer(client.audio.speech.create(**request).read(), "<i2")
    assert len(pcm) == pytest.approx(24 * len(whole(tts)), abs=24)
    answer = client.audio.speech.with_raw_response.create(
        **request | {"extra_body": {"seed": 5, "sample_rate": 8000}}
    )
    assert answer.headers["content-type"] == "audio/pcm;rate=8000;channels=1"
    assert len(answer.content) // 2 == pytest.approx(8 * len(whole(tts)), abs=8)


@pytest.mark.parametrize("name", ["flac", "opus", "mp3"])
def test_compressed_files_can_be_read(client, tts, name):
    data = client.audio.speech.create(**ask(response_format=name)).read()
    with av.open(io.BytesIO(data)) as file:
        frames = list(file.decode(audio=0))
    found, samples = np.concatenate([frame.to_ndarray().ravel() for frame in frames]), whole(tts)
    assert {frame.layout.name for frame in frames} == {"mono"}
    if name == "flac":
        assert found.astype("<i2").tobytes() == pcm_bytes(samples)
    else:
        # Encoders put silence around it.
        assert len(found) / frames[0].sample_rate == pytest.approx(len(samples) / SAMPLE_RATE, abs=0.3)


def test_events_hold_the_same_audio(client, tts):
    with client.audio.speech.with_streaming_response.create(**ask(stream_format="sse")) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
    assert [event["type"] for event in events] == ["speech.audio.delta"] * (len(events) - 1) + [
        "speech.audio.done"
    ]
    audio = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert audio[44:] == pcm_bytes(whole(tts))
    assert events[-1]["usage"]["total_tokens"] == 0


def test_half_a_character_is_no_failure(server):
    content = b'{"input": "so \\ud800 it", "response_format": "wav"}'
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{server.url}/v1/audio/speech", content=content, headers=headers)
    assert answer.status_code == 200
    assert len(answer.content) > 44


def test_voices_are_listed(server, client):
    assert [model.id for model in client.models.list()] == ["tiny", "choir"]
    assert client.models.retrieve("choir").id == "choir"
    voices = httpx.get(f"{server.url}/v1/audio/voices").json()["voices"]
    assert [(each["model"], each["id"]) for each in voices] == [
        ("tiny", "tiny"),
        *(("choir", name) for name in SPEAKERS),
    ]
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("changes", "status", "param", "message"),
    [
        ({"model": "eve"}, 404, "model", "model='eve' must be one of tiny, choir"),
        ({"voice": "eve"}, 400, "voice", "speaker='eve' must be one of tiny"),
        ({"voice": {"id": 5}}, 400, "voice", "must be a str"),
        ({"input": 5}, 400, "input", "input=5 must be a str"),
        ({"input": "so [[it"}, 400, None, "opens raw phonemes"),
        ({"response_format": "aac"}, 400, "response_format", "must be one of wav, pcm, flac, opus, mp3"),
        ({"speed": 50.0}, 400, "speed", "speed=50.0 must be a number"),
        ({"stream_format": "wav"}, 400, "stream_format", "must be audio or sse"),
        ({"extra_body": {"pitch": 2}}, 400, "pitch", "there is no such field"),
        ({"extra_body": {"seed": "x"}}, 400, "seed", "seed='x'"),
        ({"response_format": "opus", "extra_body": {"sample_rate": 44100}}, 400, "sample_rate", "of opus"),
    ],
)
def test_what_is_wrong_is_told_as_clients_expect_it(client, changes, status, param, message):
    with pytest.raises(APIStatusError) as caught:
        client.audio.speech.create(**ask(**changes))
    assert caught.value.status_code == status
    assert message in caught.value.message
    assert caught.value.body["param"] == param
    assert caught.value.body["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b'{"input": "so"', {}, 400),
        (b'{"input": "\xff"}', {}, 400),
        (b"[1]", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"{}", {}, 400),
        (b'{"input": "so", "\\ud800": 1}', {}, 400),
        (b'{"input": "so", "model": "\\ud800"}', {}, 404),
        (b'{"input": "so"}', {"content-type": "text/plain"}, 415),
        (b" " * 10_000_000, {}, 413),
        (iter([b" " * 100_000] * 100), {}, 413),
    ],
)
def test_requests_that_say_nothing_are_refused_in_the_same_form(server, content, headers, status):
    headers = {"content-type": "application/json"} | headers
    answer = httpx.post(f"{server.url}/v1/audio/speech", content=content, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_client_that_sends_first_and_reads_then_is_told_as_well(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as connection:
        head = "POST /v1/audio/speech HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: 10000000\r\n\r\n".encode())
        for _ in range(100):
            connection.sendall(b" " * 100_000)
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_other_paths_are_refused_in_the_same_form(server):
    assert httpx.get(f"{server.url}/v2").json()["error"]["message"] == "/v2: Not Found"
    answer = httpx.get(f"{server.url}/v1/audio/speech")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_body_that_comes_slowly_is_given_up(server, monkeypatch):
    monkeypatch.setattr("balacoon_tk.serve.http._BODY_S", 0.05)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = "POST /v1/audio/speech HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: 50\r\n\r\n{{".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_asks_for_nothing_is_closed(server, monkeypatch):
    monkeypatch.setattr("balacoon_tk.cli._server._HEADERS_S", 0.05)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /v1/audio/sp")
        connection.settimeout(TIMEOUT_S)
        with pytest.raises(ConnectionResetError):
            assert connection.recv(1000) == b"" or pytest.fail("something was answered")
            raise ConnectionResetError


def test_one_too_many_is_told_when_to_come_again(tiny_voice):
    gate = PiecesGate()
    tts = TTS(tiny_voice, frontend=gate, max_streams=1, max_waiting=0)
    with served(tts) as server, OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        with client.audio.speech.with_streaming_response.create(**ask()) as answer:
            parts = answer.iter_bytes()  # kept, since an iterator that is dropped closes the connection
            next(parts)
            time.sleep(0.3)  # what it has has been played, and it waits for more
            with pytest.raises(APIStatusError) as caught:
                client.audio.speech.create(**ask())
        gate.open.set()
        assert caught.value.status_code == 503
        assert caught.value.response.headers["retry-after"] == "1"
        assert caught.value.body["code"] == "busy"
        wait_for(lambda: server.figures().get(HTTP.format("cancelled")) == 1)
        assert server.figures()[HTTP.format("busy")] == 1


def test_a_stream_ends_when_its_client_leaves(tiny_voice):
    gate = PiecesGate()
    tts = TTS(tiny_voice, frontend=gate)
    with served(tts) as server:
        n_tasks = len(server.tasks())
        for n_left in range(1, 4):
            with httpx.stream(
                "POST", f"{server.url}/v1/audio/speech", json={"input": TEXT, "response_format": "wav"}
            ) as answer:
                next(answer.iter_raw())
            wait_for(lambda n=n_left: server.figures().get(HTTP.format("cancelled")) == n)
        gate.open.set()
        wait_for(lambda: tts.count_streams() == (0, 0))
        wait_for(lambda: not [each for each in threading.enumerate() if each.name == "async-stream"])
        wait_for(lambda: len(server.tasks()) == n_tasks)


def test_whoever_reads_slowly_holds_back_its_stream_and_is_given_up(tiny_voice, monkeypatch):
    monkeypatch.setattr("balacoon_tk.cli._server.IDLE_S", 0.2)
    tts, text = TTS(tiny_voice), "so it is. " * 5000
    with served(tts, send_buffer=4096) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        body = json.dumps({"input": text, "response_format": "wav"}).encode()
        head = "POST /v1/audio/speech HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        wait_for(lambda: server.figures().get(HTTP.format("cancelled")) == 1)
        # What fits between them has been made, of an hour.
        assert server.figures()["balacoon_tk_audio_seconds_total"] * SAMPLE_RATE * 2 < 200_000


def test_what_is_counted_can_be_read(server, client):
    before = server.figures()
    client.audio.speech.create(**ask())
    text = httpx.get(f"{server.url}/metrics").text
    after = server.figures()
    assert after[HTTP.format("spoken")] == before.get(HTTP.format("spoken"), 0) + 1
    assert after["balacoon_tk_ttfa_seconds_count"] == before["balacoon_tk_ttfa_seconds_count"] + 1
    assert after["balacoon_tk_audio_seconds_total"] > before["balacoon_tk_audio_seconds_total"]
    assert "# TYPE balacoon_tk_ttfa_seconds histogram" in text
    families = {family.name for family in text_string_to_metric_families(text)}
    assert families == {
        "balacoon_tk_requests",
        "balacoon_tk_streams",
        "balacoon_tk_audio_seconds",
        "balacoon_tk_ttfa_seconds",
    }


def test_a_voice_may_be_called_anything():
    text = Figures().to_text({'so "it" is\\\n': StreamCounts(1, 2)})
    (streams,) = [each for each in text_string_to_metric_families(text) if each.name == "balacoon_tk_streams"]
    assert [(each.labels["voice"], each.labels["state"], each.value) for each in streams.samples] == [
        ('so "it" is\\\n', "playing", 1),
        ('so "it" is\\\n', "waiting", 2),
    ]


def test_a_failure_is_told_without_what_is_in_it(tiny_voice, caplog):
    class Broken:
        def phonemize(self, text):
            raise ZeroDivisionError("a secret")

    with served(TTS(tiny_voice, frontend=Broken())) as server:
        answer = httpx.post(f"{server.url}/v1/audio/speech", json=WAV)
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "internal_error"
        assert "secret" not in answer.text
        assert "a secret" in caplog.text
        assert server.figures()[HTTP.format("failed")] == 1


def test_a_failure_in_the_middle_breaks_the_connection(tiny_voice, caplog):
    class Broken(PiecesGate):
        def phonemize(self, text, reading=None):
            yield next(super().phonemize(text))
            raise ZeroDivisionError("a secret")

    with served(TTS(tiny_voice, frontend=Broken())) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(f"{server.url}/v1/audio/speech", json=WAV)
        wait_for(lambda: server.figures().get(HTTP.format("failed")) == 1)
    assert "a secret" in caplog.text
    assert "Expected ASGI message" not in caplog.text


@pytest.mark.parametrize("in_time", [True, False])
def test_streams_under_way_end_with_the_server_and_not_much_later(tiny_voice, in_time):
    gate = PiecesGate()
    with served(tts := TTS(tiny_voice, frontend=gate), grace_s=20 if in_time else 1) as server:
        stream = httpx.stream("POST", f"{server.url}/v1/audio/speech", json=WAV | {"seed": 5})
        with stream as answer:
            parts = answer.iter_raw()
            data = next(parts)
            server.server.should_exit = True
            if in_time:
                gate.open.set()
                data += b"".join(parts)
            else:
                with pytest.raises(httpx.RemoteProtocolError):
                    list(parts)
            server.thread.join(TIMEOUT_S / 2)
            assert not server.thread.is_alive()
        gate.open.set()
    if in_time:
        assert data[44:] == pcm_bytes(whole(tts))


def test_voices_of_one_name_are_refused(tts):
    for voices in ([], [tts, tts]):
        with pytest.raises(ParameterError, match="must be at least one"):
            Service(voices)
