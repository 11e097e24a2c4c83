"""The command line: audio alone on stdout, one line for an error, statuses 0, 1 and 2."""

import io
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from balacoon_tk.cli import _common
from command_line import Terminal, assert_one_line_error

# The tiny voice streams by overlap and says so; what it says is tested where it is meant.
pytestmark = pytest.mark.filterwarnings("ignore:tiny is streamed")


# --- the command line itself


def test_help_lists_every_command(cli):
    result = cli("--help")
    assert result.status == 0
    for name in (
        "synthesize",
        "compare",
        "evaluate",
        "export",
        "quantize",
        "resynthesize",
        "inspect",
        "bench",
    ):
        assert name in result.out.decode()


@pytest.mark.parametrize(
    "command",
    [
        *("synthesize", "compare", "evaluate", "corpus", "export", "quantize", "resynthesize", "inspect"),
        *("bench", "serve"),
    ],
)
def test_every_command_explains_itself(cli, command):
    result = cli(command, "--help")
    assert result.status == 0
    assert f"balacoon-tk {command}" in result.out.decode(), "with an example"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("speak",),
        ("synthesize",),
        ("synthesize", "a", "-f", "b"),
        ("synthesize", "a", "--speed", "fast"),
        ("synthesize", "a", "--seed", "1.5"),
        ("synthesize", "a", "--unknown"),
        ("compare",),
        ("compare", "a", "--rounds", "0"),
        ("compare", "a", "--chunk-frames", "16,x"),
        ("compare", "a", "--chunk-frames", "0"),
        ("export",),
        ("export", "a.onnx"),
        ("quantize",),
        ("quantize", "a", "-o", "b", "--method", "best"),
        ("quantize", "a", "-o", "b", "--compute-fp16"),
        ("quantize", "a", "-o", "b", "--precision", "fp16", "--max-dnsmos-drop", "0.1"),
        ("inspect",),
        ("bench", "a", "-f", "b"),
        ("bench", "--rounds", "0"),
        ("inspect", "a", "-v", "b"),
    ],
)
def test_wrong_usage_has_status_2(cli, arguments):
    result = cli(*arguments)
    assert result.status == 2
    assert result.out == b""
    assert "usage: balacoon-tk" in result.err


def test_the_version_is_the_package_s(cli):
    from importlib.metadata import version

    assert cli("--version").out.decode() == f"balacoon-tk {version('balacoon_tk')}\n"


def test_help_loads_no_heavy_module():
    code = (
        "import sys\nfrom balacoon_tk.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'onnxruntime', 'onnx', 'onnx_ir', 'matplotlib', 'gruut', 'piper', 'sounddevice'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_bug_is_one_line_too_and_a_traceback_on_request(cli, monkeypatch):
    def fail(args):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("balacoon_tk.cli.inspect.run", fail)
    monkeypatch.delenv("BALACOON_TK_TRACEBACK", raising=False)
    assert_one_line_error(cli("inspect", "x"), "unexpected ZeroDivisionError: by zero")
    monkeypatch.setenv("BALACOON_TK_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        cli("inspect", "x")


def test_an_interrupt_is_quiet(cli, monkeypatch):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("balacoon_tk.cli.inspect.run", interrupt)
    result = cli("inspect", "x")
    assert (result.status, result.out, result.err) == (130, b"", "")


def test_a_message_of_several_lines_becomes_one(cli, monkeypatch):
    def fail(args):
        raise OSError("first\nsecond\r\n  third")

    monkeypatch.setattr("balacoon_tk.cli.inspect.run", fail)
    assert cli("inspect", "x").err == "balacoon-tk: error: first second third\n"


# --- as a process


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "balacoon_tk", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_a_reader_that_goes_away_is_no_traceback(tiny_voice_folder):
    with start("synthesize", "hello there. " * 500, "-v", tiny_voice_folder, "-o", "-") as process:
        process.stdout.read(10)
        process.stdout.close()
        err = process.stderr.read().decode()
        assert process.wait(timeout=60) == 1
    assert "Traceback" not in err
    assert "Exception ignored" not in err


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_ends_a_stream_quietly_and_leaves_no_file(tiny_voice_folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "book.txt").write_text("hello there. " * 100_000)
    arguments = ("-f", tmp_path / "book.txt", "-v", tiny_voice_folder, "-o", out / "a.wav")
    with start("synthesize", *arguments) as process:
        deadline = time.monotonic() + 60
        while not list(out.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert "Traceback" not in process.stderr.read().decode()
    assert list(out.iterdir()) == []


def test_ctrl_c_during_an_import_has_the_same_status(tmp_path):
    """A dataclass is made by executing a text; Python takes an interrupt in there for one nobody caught."""
    (tmp_path / "interrupted.py").write_text(
        "import sys, types, balacoon_tk.cli._main as cli\n"
        "def run(args): exec('raise KeyboardInterrupt')\n"
        "parser = types.SimpleNamespace(parse_args=lambda _: types.SimpleNamespace(run=run))\n"
        "cli.make_parser = lambda: parser\n"
        "sys.exit(cli.main([]))\n"
    )
    command = [sys.executable, "-m", "interrupted"]
    # Only a module run by name meets this; it is found in the current folder, which the variable forbids.
    environment = os.environ | {"PYTHONSAFEPATH": ""}
    done = subprocess.run(
        command, check=False, capture_output=True, timeout=60, cwd=tmp_path, env=environment
    )
    assert done.returncode == 130, done.stderr


# --- the progress line


def test_progress_is_shown_on_a_terminal_only_and_taken_away(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        line = _common.ProgressLine()
        line.bar("a quarter", 0.25)
        line.close()
        text = stream.getvalue()
        assert bool(text) == shown
        if shown:
            assert "[######..................]  25 % a quarter" in text
            assert text.endswith("\r"), "the line is empty again"


def test_progress_is_taken_away_when_work_fails(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    with pytest.raises(ValueError, match="wrong"), _common.ProgressLine() as line:
        line.bar("half", 0.5)
        raise ValueError("wrong")
    assert stream.getvalue().endswith(" \r"), "an error begins at the beginning of an empty line"


def test_progress_is_not_written_too_often(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    line = _common.ProgressLine()
    for k in range(1000):
        line.update(str(k))
    assert stream.getvalue().count("\r") < 100


def test_a_person_at_the_terminal_is_told_how_it_went(cli, tiny_voice_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    assert cli("synthesize", "hello", "-v", tiny_voice_folder, "-o", tmp_path / "a.wav").status == 0
    assert re.search(r"\d\.\d\d s of audio in .* real time\), first sound after \d+ ms\n", stream.getvalue())
