"""The command that speaks: into a file, a pipe, or loudspeakers."""

import contextlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from balacoon_tk.audio import read_wav
from command_line import assert_one_line_error
from tiny_voice import HOP_LENGTH, SAMPLE_RATE, SPEAKERS

# The tiny voice streams by overlap and says so; what it says is tested where it is meant.
pytestmark = pytest.mark.filterwarnings("ignore:tiny is streamed")


# --- synthesize


def test_a_text_becomes_a_wav_file_and_nothing_else_is_said(cli, tiny_voice_folder, tmp_path):
    result = cli(
        "synthesize", "hello there", "-v", tiny_voice_folder, "-o", tmp_path / "a.wav", "--strategy", "full"
    )
    assert (result.status, result.out, result.err) == (0, b"", "")
    samples, sample_rate = read_wav(tmp_path / "a.wav")
    assert sample_rate == SAMPLE_RATE
    assert samples.size > 0
    assert samples.size % HOP_LENGTH == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_words_need_no_quotes(cli, tiny_voice_folder, tmp_path):
    common = ("-v", tiny_voice_folder, "--seed", "1", "-o")
    cli("synthesize", "hello there", *common, tmp_path / "a.wav")
    cli("synthesize", "hello", "there", *common, tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_arguments_files_and_stdin_say_the_same(cli, tiny_voice_folder, tmp_path):
    (tmp_path / "text.txt").write_bytes("\ufeffhello there".encode())
    common = ("-v", tiny_voice_folder, "--seed", "1", "-o", "-")
    outputs = {
        cli("synthesize", "hello there", *common).out,
        cli("synthesize", "-f", tmp_path / "text.txt", *common).out,
        cli("synthesize", "-f", "-", *common, stdin=b"hello there").out,
        cli("synthesize", "-", *common, stdin=b"hello there").out,
    }
    assert len(outputs) == 1


def test_stdout_gets_raw_pcm_and_nothing_else(cli, tiny_voice_folder, tmp_path):
    common = ("-v", tiny_voice_folder, "--seed", "1")
    result = cli("synthesize", "hello there", *common, "-o", "-")
    assert result.status == 0
    cli("synthesize", "hello there", *common, "-o", tmp_path / "a.wav")
    assert result.out == (tmp_path / "a.wav").read_bytes()[44:]
    assert f"s16le, {SAMPLE_RATE} Hz, mono" in result.err


def test_options_reach_the_voice(cli, tiny_voice_folder):
    def spoken(*options):
        result = cli("synthesize", "hello", "-v", tiny_voice_folder, "-o", "-", "--seed", "1", *options)
        assert result.status == 0, result.err
        return np.frombuffer(result.out, "<i2")

    plain = spoken()
    np.testing.assert_array_equal(spoken(), plain)
    np.testing.assert_array_equal(spoken("--strategy", "full", "--chunk-frames", "1,7"), plain)
    assert spoken("--speed", "0.5").size > plain.size
    assert abs(spoken("--volume", "0.5")).max() <= abs(plain).max() // 2 + 1
    assert not np.array_equal(spoken("--seed", "2"), plain)
    assert not np.array_equal(spoken("--noise-scale", "0"), plain)
    assert not np.array_equal(spoken("--noise-w", "0"), plain)


def test_speakers_are_chosen_by_name(cli, tiny_speakers_folder):
    outputs = {
        cli(
            "synthesize", "hello", "-v", tiny_speakers_folder, "--seed", "1", "-o", "-", "--speaker", name
        ).out
        for name in SPEAKERS
    }
    assert len(outputs) == len(SPEAKERS)


@pytest.mark.filterwarnings("default::balacoon_tk.frontend.NothingToSayWarning")
@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_whitespace_gives_an_empty_wav_file_and_a_warning(cli, tiny_voice_folder, tmp_path, text):
    path = tmp_path / "a.wav"
    result = cli("synthesize", "-", "-v", tiny_voice_folder, "-o", path, stdin=text.encode())
    assert result.status == 0
    assert "warning: there is nothing to say" in result.err
    assert read_wav(path)[0].size == 0


@pytest.mark.filterwarnings("default")
def test_warnings_are_lines_of_their_own(cli, tiny_voice_folder, tmp_path):
    result = cli("synthesize", "hello Ω", "-v", tiny_voice_folder, "-o", tmp_path / "a.wav")
    assert result.status == 0
    assert result.err
    assert all(line.startswith("balacoon-tk: warning: ") for line in result.err.splitlines())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--speed", "0"), r"speed=0.0 must be a number in"),
        (("--speed", "nan"), r"speed=nan must be a number in"),
        (("--volume", "-1"), r"volume=-1.0 must be"),
        (("--noise-scale", "inf"), r"noise_scale=inf must be"),
        (("--noise-w", "-0.1"), r"noise_w=-0.1 must be"),
        (("--seed", "-1"), r"seed=-1 must be"),
        (("--speaker", "nobody"), r"speaker='nobody' must be one of tiny"),
        (("--strategy", "magic"), r"strategy='magic' must be one of full, overlap"),
        (("--strategy", "stateful"), r"can't be streamed exactly: nobody has rewritten it"),
        (("--frontend", "magic"), r"'magic' must be one of auto"),
        (("-f", "missing.txt"), r"No such file.*missing\.txt"),
        (("-v", "missing"), r"missing: no such voice folder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(
    cli, tiny_voice_folder, tmp_path, monkeypatch, options, message
):
    monkeypatch.chdir(tmp_path)
    text = () if "-f" in options else ("hello",)
    result = cli("synthesize", *text, "-v", tiny_voice_folder, "-o", "a.wav", *options)
    assert_one_line_error(result, message)
    assert list(tmp_path.iterdir()) == []


def test_text_that_is_not_utf_8_is_refused(cli, tiny_voice_folder, tmp_path):
    result = cli("synthesize", "-", "-v", tiny_voice_folder, "-o", tmp_path / "a.wav", stdin=b"hello \xe9")
    assert_one_line_error(result, "stdin: must be UTF-8, but byte 6 is 0xe9")


def test_a_failed_stream_leaves_the_old_file(cli, tiny_voice_folder, tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")

    def fail(self, *_):
        yield from ()
        raise OSError("disk full")

    monkeypatch.setattr("balacoon_tk.stages.speaking.Speaking.chunks", fail)
    assert_one_line_error(cli("synthesize", "hello", "-v", tiny_voice_folder, "-o", path), "disk full")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.wav", b"old")]


def test_an_output_in_a_folder_that_is_not_there_is_refused(cli, tiny_voice_folder, tmp_path):
    result = cli("synthesize", "hello", "-v", tiny_voice_folder, "-o", tmp_path / "no" / "a.wav")
    assert_one_line_error(result, "No such file or directory")


def test_audio_is_not_written_to_a_terminal(cli, tiny_voice_folder, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    result = cli("synthesize", "hello", "-v", tiny_voice_folder, "-o", "-")
    assert_one_line_error(result, "-o - writes raw audio", status=2)


# --- playing


class FakeDevice:
    """Stands in for sounddevice."""

    class PortAudioError(Exception):
        """As sounddevice's."""

    def __init__(self, *, start=None, write=None):
        self.played, self.closed, self.stopped, self.settings = [], False, False, None
        self._start, self._write = start, write

    def OutputStream(self, **settings):
        self.settings = settings
        return self

    def start(self):
        if self._start:
            raise self.PortAudioError(self._start)

    def write(self, samples):
        if self._write:
            raise self._write
        self.played.append(samples)

    def stop(self):
        self.stopped = True

    def close(self, ignore_errors=True):
        self.closed = True


def test_without_an_output_it_is_played(cli, tiny_voice_folder, monkeypatch):
    device = FakeDevice()
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    result = cli("synthesize", "hello there", "-v", tiny_voice_folder, "--seed", "1")
    assert (result.status, result.out) == (0, b"")
    assert device.settings == {"samplerate": SAMPLE_RATE, "channels": 1, "dtype": "int16"}
    assert device.stopped, "waits until all has sounded"
    assert device.closed
    assert all(part.shape[1:] == (1,) for part in device.played)
    expected = cli("synthesize", "hello there", "-v", tiny_voice_folder, "--seed", "1", "-o", "-").out
    assert np.concatenate(device.played).astype("<i2").tobytes() == expected


def test_without_the_package_the_error_names_the_extra(cli, tiny_voice_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    result = cli("synthesize", "hello", "-v", tiny_voice_folder)
    assert_one_line_error(result, r"playing sound .*balacoon_tk\[play\]")


def test_without_a_device_the_error_says_what_to_do(cli, tiny_voice_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", FakeDevice(start="Error querying device -1"))
    result = cli("synthesize", "hello", "-v", tiny_voice_folder)
    assert_one_line_error(result, r"can't play sound: Error querying device -1 \(-o FILE")


def test_a_device_that_fails_in_the_middle_is_closed(cli, tiny_voice_folder, monkeypatch):
    device = FakeDevice(write=FakeDevice.PortAudioError("unplugged"))
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    assert_one_line_error(cli("synthesize", "hello", "-v", tiny_voice_folder), "device failed: unplugged")
    assert device.closed


def test_an_interrupt_stops_the_sound_at_once(cli, tiny_voice_folder, monkeypatch):
    device = FakeDevice(write=KeyboardInterrupt())
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    result = cli("synthesize", "hello", "-v", tiny_voice_folder)
    assert (result.status, result.out) == (130, b"")
    assert device.closed
    assert not device.stopped


def test_an_error_while_speaking_reaches_the_player(cli, tiny_voice_folder, monkeypatch):
    def fail(self, *_):
        yield from ()
        raise OSError("no more")

    monkeypatch.setitem(sys.modules, "sounddevice", FakeDevice())
    monkeypatch.setattr("balacoon_tk.stages.speaking.Speaking.chunks", fail)
    assert_one_line_error(cli("synthesize", "hello", "-v", tiny_voice_folder), "no more")


# --- text that comes as it is written

SPEAK = (sys.executable, "-P", "-m", "balacoon_tk", "synthesize", "-", "-o", "-", "--seed", "1")


@contextlib.contextmanager
def speaking(voice, *options):
    """Run the command with pipes, and end it whatever happens."""
    process = subprocess.Popen(
        [*SPEAK, "-v", voice, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.filterwarnings("ignore:the voice has no ids")
def test_a_sentence_is_spoken_while_the_writer_goes_on(cli, tiny_voice_folder):
    text = "hello there. is it so? héllo".encode()
    whole = cli("synthesize", "-", "-v", tiny_voice_folder, "-o", "-", "--seed", "1", stdin=text).out
    with speaking(tiny_voice_folder) as process:
        # In the middle of a letter, and nothing more until the sentence was heard.
        process.stdin.write(text[:-5])
        process.stdin.flush()
        heard = process.stdout.read(200)
        process.stdin.write(text[-5:-4])
        process.stdin.flush()
        process.stdin.write(text[-4:])
        process.stdin.close()
        assert heard + process.stdout.read() == whole
        assert process.wait() == 0


@pytest.mark.filterwarnings("ignore:the voice has no ids")
def test_what_was_written_before_a_byte_that_is_not_utf_8_is_spoken(cli, tiny_voice_folder):
    common = ("synthesize", "-", "-v", tiny_voice_folder, "-o", "-", "--seed", "1")
    result = cli(*common, stdin=b"hello th\xc3\xa9re. \xe9")
    assert result.status == 1
    assert "error: stdin: must be UTF-8, but byte 14 is 0xe9" in result.err
    assert result.out == cli(*common, stdin="hello thére.".encode()).out
    result = cli(*common, stdin=b"\xef\xbb\xbfhello \xf0\x9f")
    assert "error: stdin: must be UTF-8, but byte 9 is 0xf0" in result.err
    assert result.out == cli(*common, stdin=b"hello").out


@pytest.mark.skipif(sys.platform == "win32", reason="has other signals")
def test_an_interrupt_ends_a_wait_for_text(tiny_voice_folder):
    with speaking(tiny_voice_folder) as process:
        process.stdin.write(b"hello there. is it")
        process.stdin.flush()
        process.stdout.read(200)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert b"Traceback" not in process.stderr.read()


def test_whoever_listens_no_more_ends_it(tiny_voice_folder):
    with speaking(tiny_voice_folder) as process:
        process.stdin.write(b"hello there. is it")
        process.stdin.flush()
        process.stdout.read(200)
        process.stdout.close()
        process.stdin.write(b" so. it is. and so it stays. is it?" * 100)
        process.stdin.flush()
        assert process.wait(timeout=20) == 1
        assert b"Traceback" not in process.stderr.read()


def test_a_clause_is_spoken_before_its_sentence_is_there(tiny_voice_folder):
    with speaking(tiny_voice_folder, "--clause") as process:
        process.stdin.write(b"hello there my old friend, is")
        process.stdin.flush()
        assert len(process.stdout.read(200)) == 200
