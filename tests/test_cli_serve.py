"""The command that serves: what it says, whom it serves, and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from balacoon_tk.cli import serve
from command_line import assert_one_line_error
from gate import TIMEOUT_S

START = "balacoon-tk: serving tiny at "


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signals to one process")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_says_where_it_serves_and_ends_by_a_signal(tiny_voice_folder, number, status):
    command = [sys.executable, "-m", "balacoon_tk", "serve", "-v", str(tiny_voice_folder), "--port", "0"]
    command += ["--host", "0.0.0.0", "--wyoming", "tcp://127.0.0.1:0", "--grace", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = ""
        while "tcp://" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        ports = [int(port) for port in re.findall(rf"(?m)^{START}\w+://[\d.]+:(\d+)$", said)]
        assert "warning: whoever reaches 0.0.0.0 may use it" in said
        request = {"input": "so", "response_format": "wav"}
        answer = httpx.post(f"http://127.0.0.1:{ports[0]}/v1/audio/speech", json=request, timeout=TIMEOUT_S)
        assert answer.content[:4] == b"RIFF"
        with socket.create_connection(("127.0.0.1", ports[1]), timeout=TIMEOUT_S) as connection:
            connection.sendall(b'{"type": "ping"}\n')
            assert b'"pong"' in connection.recv(1000)
            # Somebody who is there still doesn't keep it.
            process.send_signal(number)
            assert process.wait(TIMEOUT_S) == status
        assert process.stdout.read() == ""
        assert "Traceback" not in process.stderr.read()


def test_a_place_that_is_taken_is_told_before_a_voice_is_loaded(cli):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = cli("serve", "-v", "nowhere", "--port", port)
    assert_one_line_error(result, f"can't listen at 127.0.0.1, port {port}: .*in use")


def test_what_is_wrong_is_told_in_a_line(cli, monkeypatch):
    assert_one_line_error(cli("serve", "-v", "nowhere", "--port", "0"), "nowhere")
    assert_one_line_error(cli("serve", "--host", "256.0.0.1"), "can't listen at 256.0.0.1, port 8000")
    assert_one_line_error(cli("serve", "--port", "70000"), "'70000' must be a whole number below", status=2)
    for uri in ("unix:///x", "tcp://127.0.0.1", "tcp://:1", "tcp://127.0.0.1:x"):
        assert_one_line_error(cli("serve", "--wyoming", uri), "must be tcp://HOST:PORT", status=2)
    monkeypatch.setattr(serve, "_NEEDED", ("nothing_of_that_name",))
    assert_one_line_error(
        cli("serve"), r'serving needs an optional package: pip install "balacoon_tk\[serve\]"'
    )


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("192.168.1.2", False), ("example.com", False)],
)  # fmt: skip
def test_this_machine_is_told_from_others(host, loopback):
    assert serve._is_loopback(host) is loopback
