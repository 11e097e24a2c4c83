"""The commands that measure a voice: compare, evaluate, bench."""

import json
import re
import sys
import time

import pytest

from balacoon_tk.cli import _common
from command_line import Terminal, assert_one_line_error

# The tiny voice streams by overlap and says so; what it says is tested where it is meant.
pytestmark = pytest.mark.filterwarnings("ignore:tiny is streamed")


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
    monkeypatch.setattr("balacoon_tk.metrics.comparison.compare", None)
    result = cli("compare", "hello", "-v", tiny_voice_folder, "--plot", tmp_path / "compare.wav")
    assert_one_line_error(result, r"must end in one of .*\.png")


def test_compare_needs_something_to_say(cli, tiny_voice_folder):
    assert_one_line_error(cli("compare", " ", "-v", tiny_voice_folder), "must hold something")


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
