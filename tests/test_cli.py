"""The command line: audio alone on stdout, one line for an error, statuses 0, 1 and 2."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from balacoon_tk.audio import read_wav
from balacoon_tk.cli import _common, main
from tiny_vits import write_tiny_vits
from tiny_voice import HOP_LENGTH, SAMPLE_RATE, SPEAKERS, pack_addon

# The tiny voice streams by overlap and says so; what it says is tested where it is meant.
pytestmark = pytest.mark.filterwarnings("ignore:tiny is streamed")


@pytest.fixture
def cli(capfdbinary, monkeypatch):
    """Run a command; return its status, what it wrote to stdout (bytes) and to stderr (text)."""

    def run(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return SimpleNamespace(status=status, out=out, err=err.decode())

    return run


def assert_one_line_error(result, message, status=1):
    assert result.status == status
    assert result.out == b""
    assert re.search(message, result.err), result.err
    assert "Traceback" not in result.err
    if status == 1:
        errors = [line for line in result.err.splitlines() if "error:" in line]
        assert len(errors) == 1
        assert errors[0].startswith("balacoon-tk: error: ")
    else:
        assert result.err.startswith("usage: ")


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
    "command", ["synthesize", "compare", "evaluate", "export", "quantize", "resynthesize", "inspect", "bench"]
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


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_whitespace_gives_an_empty_wav_file(cli, tiny_voice_folder, tmp_path, text):
    path = tmp_path / "a.wav"
    assert cli("synthesize", "-", "-v", tiny_voice_folder, "-o", path, stdin=text.encode()).status == 0
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

    monkeypatch.setattr("balacoon_tk.tts.TTS._speak", fail)
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
    monkeypatch.setattr("balacoon_tk.tts.TTS._speak", fail)
    assert_one_line_error(cli("synthesize", "hello", "-v", tiny_voice_folder), "no more")


# --- compare


def test_compare_prints_json_with_the_agreed_fields(cli, tiny_voice_folder):
    result = cli("compare", "hello there", "-v", tiny_voice_folder, "--json", "--rounds", "1")
    assert (result.status, result.err) == (0, "")
    data = json.loads(result.out)
    assert list(data) == ["voice", "text", "audio_s", "strategies"]
    assert set(data["strategies"]) == {"full", "overlap"}
    for strategy in data["strategies"].values():
        assert list(strategy) == ["ttfa_s", "total_s", "rtf", "work_ratio", "max_abs_diff", "n_chunks"]
    assert data["strategies"]["overlap"]["max_abs_diff"] <= 1e-4


def test_compare_prints_a_table_for_a_person(cli, tiny_voice_folder):
    lines = cli("compare", "hello", "-v", tiny_voice_folder, "--rounds", "2").out.decode().splitlines()
    assert re.fullmatch(r"tiny, \d\.\d\d s of audio, median of 2", lines[0])
    assert lines[1].split()[:2] == ["strategy", "TTFA"]
    assert [line.split()[0] for line in lines[2:]] == ["full", "overlap"]


def test_compare_keeps_what_was_asked_for(cli, tiny_voice_folder, tmp_path):
    out = tmp_path / "deep" / "out"
    result = cli(
        *("compare", "hello there", "-v", tiny_voice_folder, "--rounds", "1", "--seed", "5"),
        *("--wav-dir", out, "--plot", tmp_path / "compare.png", "--json", "-o", tmp_path / "report.json"),
    )
    assert (result.status, result.out) == (0, b"")
    assert sorted(path.name for path in out.iterdir()) == ["full.wav", "overlap.wav"]
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "report.json").read_text())["text"] == "hello there"
    assert str(tmp_path / "report.json") in result.err
    assert "full" in result.err, "the table is still shown"
    cli(*("synthesize", "hello there", "-v", tiny_voice_folder, "--seed", "5", "-o", tmp_path / "a.wav"))
    assert (tmp_path / "a.wav").read_bytes() == (out / "full.wav").read_bytes()


def test_compare_chooses_strategies(cli, tiny_voice_folder):
    arguments = ("compare", "hello", "-v", tiny_voice_folder, "--rounds", "1", "--json", "--strategies")
    assert list(json.loads(cli(*arguments, "full").out)["strategies"]) == ["full"]
    assert_one_line_error(cli(*arguments, "magic"), "strategy='magic' must be one of")


def test_compare_refuses_a_picture_it_can_not_draw_before_it_runs(
    cli, tiny_voice_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr("balacoon_tk.compare.compare", None)
    result = cli("compare", "hello", "-v", tiny_voice_folder, "--plot", tmp_path / "compare.wav")
    assert_one_line_error(result, r"must end in one of .*\.png")


def test_compare_needs_something_to_say(cli, tiny_voice_folder):
    assert_one_line_error(cli("compare", " ", "-v", tiny_voice_folder), "must hold something")


# --- export


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained voice as it comes: one ONNX file and its JSON."""
    return write_tiny_vits(tmp_path_factory.mktemp("trained"))


def test_an_exported_voice_speaks(cli, trained, tmp_path):
    result = cli("export", trained, "-o", tmp_path / "voice")
    assert (result.status, result.err) == (0, "")
    summary = result.out.decode()
    for part in ("written to", "sample rate", "receptive field", "verified"):
        assert part in summary
    assert cli("synthesize", "[[abc]]", "-v", tmp_path / "voice", "-o", tmp_path / "a.wav").status == 0
    assert read_wav(tmp_path / "a.wav")[0].size > 0


def test_an_addon_is_exported_as_well(cli, trained, tmp_path):
    addon = tmp_path / "voice.addon"
    assert cli("export", trained, "-o", addon, "--name", "Ada", "--license", "CC0-1.0").status == 0
    manifest = json.loads(cli("inspect", addon, "--json").out)["manifest"]
    assert (manifest["name"], manifest["license"]) == ("Ada", "CC0-1.0")


def test_what_is_there_already_stays_unless_asked(cli, trained, tmp_path):
    folder = tmp_path / "voice"
    assert cli("export", trained, "-o", folder, "--name", "one").status == 0
    before = (folder / "voice.json").read_bytes()
    assert_one_line_error(cli("export", trained, "-o", folder, "--name", "two"), "voice")
    assert (folder / "voice.json").read_bytes() == before
    assert cli("export", trained, "-o", folder, "--name", "two", "--overwrite").status == 0
    assert (folder / "voice.json").read_bytes() != before


def test_the_json_may_lie_elsewhere(cli, trained, tmp_path):
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(trained.read_bytes())
    assert_one_line_error(cli("export", alone, "-o", tmp_path / "voice"), r"alone\.onnx\.json")
    config = trained.with_name(f"{trained.name}.json")
    assert cli("export", alone, "-o", tmp_path / "voice", "--config", config).status == 0


def test_what_can_not_be_exported_is_one_line_and_leaves_nothing(cli, tmp_path, tiny_voice_folder):
    (tmp_path / "text.onnx").write_bytes(b"this is no graph")
    for name in ("missing.onnx", "text.onnx", tiny_voice_folder / "decoder.onnx"):
        assert_one_line_error(cli("export", tmp_path / name, "-o", tmp_path / "voice"), str(name))
    assert [path.name for path in tmp_path.iterdir()] == ["text.onnx"]


def test_the_kinds_of_model_are_listed(cli):
    result = cli("export", "--list")
    assert result.status == 0
    assert re.search(r"^piper_onnx +\S", result.out.decode(), flags=re.MULTILINE)


# --- inspect


def test_inspect_says_what_a_voice_is(cli, tiny_voice_folder):
    text = cli("inspect", tiny_voice_folder).out.decode()
    for part in (
        "tiny: en, CC0-1.0",
        f"{SAMPLE_RATE} Hz",
        "3 + 1 + 3 frames",
        "phoneme_ids: int64 (1, n)",
        "nobody has rewritten it",
        "multiply-adds",
    ):
        assert part in text


def test_inspect_gives_json_of_a_folder_and_of_an_addon(cli, tiny_voice_folder, tmp_path):
    addon = pack_addon(tiny_voice_folder, tmp_path / "tiny.addon")
    reports = [json.loads(cli("inspect", path, "--json").out) for path in (tiny_voice_folder, addon)]
    for report in reports:
        report.pop("path")
    assert reports[0] == reports[1]
    report = reports[0]
    assert report["manifest"]["hop_length"] == HOP_LENGTH
    decoder = report["decoder"]
    assert decoder["receptive_field"] == {"left_context": 3, "lookahead": 3, "hop_length": HOP_LENGTH}
    # By hand: 8 to 6 channels over 5 frames, 6 to 3 over 8 samples, 3 to 1 over 3 samples, 4 times.
    assert decoder["multiply_adds"]["by_op_type"] == {
        "Conv": 8 * 6 * 5 + 3 * 3 * HOP_LENGTH,
        "ConvTranspose": 6 * 3 * 8,
    }
    assert report["multiply_adds_per_audio_second"] == 420 * SAMPLE_RATE / HOP_LENGTH


def test_inspect_knows_a_voice_by_v_too(cli, tiny_voice_folder):
    assert cli("inspect", "-v", tiny_voice_folder).out == cli("inspect", tiny_voice_folder).out


def test_inspect_says_what_a_lone_graph_is(cli, tiny_voice_folder):
    report = json.loads(cli("inspect", tiny_voice_folder / "decoder.onnx", "--json").out)
    assert report["receptive_field"] == {"left_context": 3, "lookahead": 3, "hop_length": HOP_LENGTH}
    assert report["multiply_adds"]["total"] == 420
    assert report["n_parameters"] == 404
    assert report["op_counts"]["Conv"] == 2
    assert report["inputs"] == [{"name": "frames", "dtype": "float32", "shape": [1, 8, "n_frames"]}]


def test_what_an_utterance_costs_once_is_not_counted_for_a_frame(cli, tiny_speakers_folder):
    report = json.loads(cli("inspect", tiny_speakers_folder, "--json").out)
    assert report["decoder"]["op_counts"]["Conv"] == 3, "one of them for the speaker"
    assert report["decoder"]["multiply_adds"]["total"] == 420


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing", None, "no such voice"),
        ("missing.onnx", None, "no such file"),
        ("text.onnx", b"this is no graph", "can't load it"),
        ("empty.onnx", b"", "can't load it"),
        ("text.addon", b"this is no zip file", "neither a voice folder nor"),
    ],
)
def test_inspect_of_something_else_is_one_line(cli, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert_one_line_error(cli("inspect", tmp_path / name), message)


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
        "cli._parser = lambda: types.SimpleNamespace(parse_args=lambda _: types.SimpleNamespace(run=run))\n"
        "sys.exit(cli.main([]))\n"
    )
    command = [sys.executable, "-m", "interrupted"]
    done = subprocess.run(command, check=False, capture_output=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 130, done.stderr


# --- the progress line


class Terminal(io.StringIO):
    """A stderr that a person looks at."""

    def isatty(self):
        return True


def test_progress_is_shown_on_a_terminal_only_and_taken_away(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        line = _common.ProgressLine()
        line.bar(0.25, "a quarter")
        line.close()
        text = stream.getvalue()
        assert bool(text) == shown
        if shown:
            assert "[######..................]  25 % a quarter" in text
            assert text.endswith("\r"), "the line is empty again"


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


# --- evaluate


def test_evaluate_keeps_a_report_of_the_sentences_of_a_file(cli, tiny_voice_folder, tmp_path):
    (tmp_path / "list.txt").write_text("# mine\nhello there.\n\nand more.\n")
    out = tmp_path / "out"
    arguments = ("evaluate", "-f", tmp_path / "list.txt", "-v", tiny_voice_folder, "-o", out)
    result = cli(*arguments)
    assert result.status == 0, result.err
    assert result.out == (out / "report.md").read_bytes()
    assert "2 sentences, tiny." in result.out.decode()
    assert result.err == f"balacoon-tk: wrote report.md, report.json and what was measured to {out}\n"
    again = cli(*arguments, "--json")
    assert again.out == (out / "report.json").read_bytes()
    data = json.loads(again.out)
    assert data["settings"]["sentences"] == ["hello there.", "and more."]
    assert {row["strategy"] for row in data["summary"]} == {"full", "overlap"}


def test_evaluate_takes_several_voices_and_a_part_of_the_sentences(
    cli, tiny_voice_folder, tiny_speakers_folder
):
    voices = ("-v", tiny_voice_folder, "-v", tiny_speakers_folder)
    options = ("--strategies", "full", "--metrics", "latency", "--json", "--limit", "4")
    result = cli("evaluate", *voices, *options)
    assert result.status == 0, result.err
    data = json.loads(result.out)
    names = [f"tiny ({folder.name})" for folder in (tiny_voice_folder, tiny_speakers_folder)]
    assert list(data["settings"]["voices"]) == names
    lengths = [len(text.split()) for text in data["settings"]["sentences"]]
    assert len(lengths) == 4
    assert lengths[0] == 1 < lengths[1] < lengths[2] < lengths[3]


@pytest.mark.filterwarnings("ignore:the voice has no ids")
def test_evaluate_reads_stdin_and_knows_hard_sentences(cli, tiny_voice_folder):
    options = ("-v", tiny_voice_folder, "--metrics", "latency", "--json")
    result = cli("evaluate", "-f", "-", *options, stdin=b"hello there.\n")
    assert json.loads(result.out)["settings"]["sentences"] == ["hello there."]
    result = cli("evaluate", "--hard", "--limit", "2", *options)
    assert result.status == 0, result.err
    assert "$1,249.50" in json.loads(result.out)["settings"]["sentences"][0]
    result = cli("evaluate", "--hard", "-f", "-", *options)
    assert_one_line_error(result, "give --hard or a file", status=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-f", "missing.txt"), "No such file or directory: 'missing.txt'"),
        (("-f", "empty.txt"), "empty.txt: must hold at least one sentence"),
        (("-v", "gone"), "gone: no such voice folder or .addon file"),
        (("-o", "nowhere/out"), "nowhere/out: can't be made, because there is no folder nowhere"),
        (("--metrics", "mos"), "metrics: 'mos' must be one of latency"),
        (("--strategies", "fast"), "strategy='fast' must be one of full, overlap"),
        (("--strategies", "stateful"), "the decoder of tiny can't be streamed exactly"),
    ],
)
def test_evaluate_refuses_bad_input_in_one_line(
    cli, tiny_voice_folder, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("# nothing\n")
    assert_one_line_error(cli("evaluate", "-v", tiny_voice_folder, *arguments), message)
    assert [path.name for path in tmp_path.iterdir()] == ["empty.txt"]


def test_evaluate_names_the_extra_that_a_metric_needs(cli, tiny_voice_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    result = cli("evaluate", "-v", tiny_voice_folder, "--metrics", "wer")
    assert_one_line_error(result, r'the metric wer needs .* pip install "balacoon_tk\[eval\]"')


def test_evaluate_says_how_long_it_will_take(monkeypatch):
    from balacoon_tk.cli import evaluate

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(_common, "_REFRESH_S", 0.0)
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    times = iter([0.0, 0.0, 30.0, 30.0, 60.0, 60.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    bar = evaluate._Remaining(_common.ProgressLine())
    for n_done in (10, 11, 12):
        bar.show(n_done, 20)
    assert "10 of 20 sentences\r" in stream.getvalue(), "no pace before anything is done"
    assert "11 of 20 sentences, 4 min left" in stream.getvalue()
    assert "12 of 20 sentences, 4 min left" in stream.getvalue()


# --- bench


def test_bench_gives_every_stage_and_strategy(cli, tiny_voice_folder):
    report = json.loads(cli("bench", "to be spoken.", "-v", tiny_voice_folder, "--rounds", "2", "--json").out)
    assert list(report["stages_s"]) == ["frontend", "encoder", "upsampler"]
    assert min(report["stages_s"].values()) > 0
    assert list(report["strategies"]) == ["full", "overlap"]
    for speed in report["strategies"].values():
        assert 0 < speed["ttfa_s"] <= speed["total_s"]
    assert (report["text"], report["n_rounds"]) == ("to be spoken.", 2)


def test_bench_speaks_a_sentence_of_its_own_and_prints_a_table(cli, tiny_voice_folder):
    lines = cli("bench", "-v", tiny_voice_folder, "--rounds", "1").out.decode().splitlines()
    assert lines[0].startswith("tiny, ")
    assert [line.split()[0] for line in lines[2:] if line] == [
        *("frontend", "encoder", "upsampler", "strategy", "full", "overlap")
    ]


def test_bench_of_nothing_to_say_is_one_line(cli, tiny_voice_folder):
    assert_one_line_error(
        cli("bench", "...", "-v", tiny_voice_folder), "must hold something that can be spoken"
    )
