"""Evaluating voices: what is measured, what is judged once, and going on after any kind of stop."""

import importlib.util
import itertools
import json
import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from balacoon_tk import TTS
from balacoon_tk.errors import MissingExtraError, ModelError, ParameterError, VoiceError
from balacoon_tk.metrics import (
    METRIC_GROUPS,
    ErrorCount,
    PairedBootstrap,
    Report,
    TraceRecorder,
    _measuring,
    evaluate,
    evaluation,
    metric,
    perception,
    plain_sentences,
    registry,
    runs,
    utterance,
)
from balacoon_tk.metrics.registry import all_metrics
from balacoon_tk.voice import load_voice
from tiny_voice import build_tiny_voice

TEXTS = ("hello there.", "and more of it.", "no.", "what is it? a long one.")
STOPPED_CLOCK = """
import itertools
from balacoon_tk.metrics import TraceRecorder, evaluate, runs
runs.TraceRecorder = lambda **options: TraceRecorder(clock=itertools.count().__next__, **options)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A voice that can do all three strategies."""
    return build_tiny_voice(tmp_path_factory.mktemp("voices") / "exact", streaming=True)


@pytest.fixture(scope="module")
def voice(folder):
    return load_voice(folder, n_threads=1)


@pytest.fixture
def stopped_clock(monkeypatch):
    """Every reading is a second after the one before: times are the same in every run."""
    monkeypatch.setattr(
        runs,
        "TraceRecorder",
        lambda **options: TraceRecorder(clock=itertools.count().__next__, **options),
    )


@pytest.fixture
def quick_picture(monkeypatch):
    """Pictures cost most of an evaluation by a tiny voice, and are looked at in a test of their own."""
    monkeypatch.setattr(Report, "figure", lambda report: report.summary)
    monkeypatch.setattr(
        "balacoon_tk.plots.save_figure", lambda figure, path: path.write_text(repr(figure), encoding="utf-8")
    )


def stand_in(monkeypatch, name, function):
    """Let another function measure what the one of this name does."""
    for each in all_metrics():
        if each.name.startswith(name):
            monkeypatch.setitem(registry._METRICS, each.name, replace(each, function=function))


@pytest.fixture
def judges(monkeypatch):
    """Judges that know what to say at once, and how often they were asked."""
    calls = {"transcribe": 0, "dnsmos": 0}

    def transcribe(pcm, *, sample_rate):
        assert pcm.dtype == np.int16
        calls["transcribe"] += 1
        return "hello"

    def dnsmos(samples, *, sample_rate):
        assert samples.dtype == np.int16
        calls["dnsmos"] += 1
        return perception.DNSMOS(3.0, 3.5, 4.0, float(samples.size))

    monkeypatch.setattr(perception, "transcribe", transcribe)
    stand_in(monkeypatch, "dnsmos", dnsmos)
    stand_in(monkeypatch, "wer", lambda text, transcript: ErrorCount(1, len(text.split())))
    stand_in(monkeypatch, "cer", lambda text, transcript: ErrorCount(2, len(text)))
    monkeypatch.setattr(evaluation, "import_eval", lambda module, *, what: None)
    return calls


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def spoken(monkeypatch):
    """Return a list that fills with the sentences that are measured."""
    seen = []
    measure = _measuring.measure

    def counted(tts, sentence, *arguments):
        seen.append(sentence)
        return measure(tts, sentence, *arguments)

    monkeypatch.setattr(_measuring, "measure", counted)
    return seen


# --- what is measured


def test_every_strategy_speaks_every_sentence_and_is_measured(voice, stopped_clock) -> None:
    report = evaluate(voice, TEXTS, chunk_frames=5)
    assert [(r["sentence"], r["strategy"]) for r in report.records] == [
        (i, strategy) for i in range(4) for strategy in ("full", "overlap", "stateful")
    ]
    assert all(record["text"] == TEXTS[record["sentence"]] for record in report.records)
    for record in report.records:
        assert record["total_s"] == record["n_chunks"] + 1, "a second for each reading of the clock"
        assert record["ttfa_ms"] >= 1000
        if record["strategy"] != "full":
            assert record["max_abs_diff"] <= 1e-4
            assert record["snr_db"] > 60
            assert record["log_spectral_distance_db"] < 0.1
    whole = [r for r in report.records if r["strategy"] == "full"]
    assert all("snr_db" not in record for record in whole), "nothing to compare the reference with"
    ratio = report.find("work_ratio", strategy="overlap").estimate
    streamed = [r for r in report.records if r["strategy"] == "overlap"]
    assert ratio.value == sum(r["total_s"] for r in streamed) / sum(r["total_s"] for r in whole)
    assert report.find("work_ratio", strategy="full").estimate.value == 1.0


def test_figures_are_those_of_the_bootstrap_over_sentences(voice, stopped_clock) -> None:
    report = evaluate(voice, TEXTS, chunk_frames=5, confidence=0.9, n_resamples=500)
    values = {
        strategy: [r["ttfa_ms"] for r in report.records if r["strategy"] == strategy]
        for strategy in ("full", "stateful")
    }
    bootstrap = PairedBootstrap(4, confidence=0.9, n_resamples=500)
    row = report.find("ttfa_ms", strategy="stateful")
    assert row.estimate == bootstrap.ratio(values["stateful"])
    assert row.difference == bootstrap.difference((values["stateful"], None), (values["full"], None))
    assert row.baseline == "tiny/full"
    assert report.find("ttfa_ms", strategy="full").difference is None


def test_the_first_strategy_changes_from_sentence_to_sentence(voice, monkeypatch) -> None:
    order = []
    speak = _measuring.speak

    def seen(tts, sentence, strategy, plan):
        order.append((sentence, strategy))
        return speak(tts, sentence, strategy, plan)

    monkeypatch.setattr(_measuring, "speak", seen)
    evaluate(voice, TEXTS[:3], metrics=["latency"])
    measured = order[3:]  # the first three warm up
    assert {sentence for sentence, _ in order[:3]} == {TEXTS[0]}
    assert [strategy for _, strategy in measured[::3]] == ["full", "overlap", "stateful"]
    assert len(measured) == 9


def test_a_group_that_is_not_asked_for_is_not_measured(voice) -> None:
    report = evaluate(voice, TEXTS[:1], metrics="signal")
    assert "ttfa_ms" not in report.records[0]
    with pytest.raises(ParameterError, match="metric='ttfa_ms' must be one of max_abs_diff"):
        report.find("ttfa_ms", strategy="overlap")
    with pytest.raises(ParameterError, match="voice='joe' must be one of tiny"):
        report.find("snr_db", strategy="overlap", voice="joe")


def test_a_metric_of_ones_own_is_one_decorated_function(voice, monkeypatch) -> None:
    monkeypatch.setattr(registry, "_METRICS", dict(registry._METRICS))

    @metric("peak", group="mine", label="peak", better="lower", digits=3)
    def peak(samples: np.ndarray) -> float:
        return float(np.abs(samples).max())

    @metric("share", group="mine", label="share", ratio=("n_loud", "n_all"))
    def share(samples: np.ndarray, reference: np.ndarray) -> tuple[int, int]:
        return int((samples > 0).sum()), reference.size

    report = evaluate(voice, TEXTS[:2], ["overlap"], metrics=["mine"])
    whole, streamed = report.records[:2]
    assert whole["peak"] == pytest.approx(streamed["peak"], abs=1e-4)
    assert "n_all" not in whole and streamed["n_all"] > streamed["n_loud"]
    records = [record for record in report.records if record["strategy"] == "overlap"]
    expected = sum(record["n_loud"] for record in records) / sum(record["n_all"] for record in records)
    assert report.find("share", strategy="overlap").estimate.value == expected
    assert "| peak |" in report.to_markdown()


def test_several_voices_are_compared_with_the_first(voice, folder, stopped_clock) -> None:
    report = evaluate({"a": voice, "b": folder}, TEXTS[:2], ["stateful"])
    assert list(dict.fromkeys(row.voice for row in report.summary)) == ["a", "b"]
    assert report.find("rtf", strategy="full", voice="b").baseline == "a/full"
    assert report.find("rtf", strategy="stateful", voice="b").baseline == "b/full"
    assert report.find("rtf", strategy="full", voice="b").difference.value == 0.0


def test_voices_of_one_name_are_told_apart_by_their_folder(folder, tiny_voice_folder) -> None:
    report = evaluate([folder, tiny_voice_folder], TEXTS[:1])
    assert {record["voice"] for record in report.records} == {"tiny (exact)", "tiny (tiny)"}
    assert {record["strategy"] for record in report.records} == {"full", "overlap"}, "what both can do"
    with pytest.raises(ParameterError, match="two are called 'tiny \\(exact\\)'; give a mapping"):
        evaluate([folder, folder], TEXTS[:1])


def test_the_median_of_several_rounds_counts(voice, monkeypatch) -> None:
    took = itertools.cycle([1.0, 9.0, 2.0])

    class Recorder(TraceRecorder):
        def __init__(self, **options):
            times = itertools.chain([0.0], itertools.repeat(next(took)))
            super().__init__(clock=times.__next__, **options)

    tts = TTS(voice)
    monkeypatch.setattr(runs, "TraceRecorder", Recorder)
    report = evaluate(tts, TEXTS[:1], ["full"], n_rounds=3)
    assert report.records[0]["total_s"] == 2.0


def test_progress_counts_sentences_of_all_voices(voice, folder) -> None:
    seen = []
    evaluate({"a": voice, "b": folder}, TEXTS[:2], progress=lambda *numbers: seen.append(numbers))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


# --- judging


def test_the_same_audio_is_judged_once_and_says_so(voice, judges) -> None:
    report = evaluate(voice, TEXTS, metrics=("wer", "dnsmos"))
    assert judges == {"transcribe": 4, "dnsmos": 4}
    for record in report.records:
        assert record.get("verdict_of") == (None if record["strategy"] == "full" else "full")
        assert record["transcript"] == "hello"
    assert "8 of 12 utterances differ" in report.to_markdown()
    assert report.find("dnsmos", strategy="stateful").difference.value == 0.0


def test_every_audio_is_judged_on_request(voice, judges) -> None:
    report = evaluate(voice, TEXTS, metrics=("wer", "dnsmos"), judge_all=True)
    assert judges == {"transcribe": 12, "dnsmos": 12}
    assert not any("verdict_of" in record for record in report.records)


@pytest.mark.parametrize(("n_steps", "n_judged"), [(1, 1), (2, 2)])
def test_one_step_of_pcm_is_the_same_audio_and_two_are_not(
    voice, judges, monkeypatch, n_steps, n_judged
) -> None:
    pcm = utterance.to_pcm16
    changes = iter([0, n_steps])

    def changed(samples):
        found = pcm(samples).copy()
        found[-1] += next(changes)
        return found

    monkeypatch.setattr(utterance, "to_pcm16", changed)
    evaluate(voice, TEXTS[:1], ["overlap"], metrics=["wer"])
    assert judges["transcribe"] == n_judged


def test_of_silence_nothing_is_understood_and_there_is_no_opinion(voice, judges, monkeypatch) -> None:
    def refuse(pcm, *, sample_rate):
        raise ParameterError("samples must not be silent throughout: there is nothing to judge")

    heard = []
    stand_in(monkeypatch, "wer", lambda text, transcript: ErrorCount(heard.append(transcript) or 2, 2))
    monkeypatch.setattr(perception, "transcribe", refuse)
    stand_in(monkeypatch, "dnsmos", lambda samples, sample_rate: refuse(samples, sample_rate=sample_rate))
    record = evaluate(voice, TEXTS[:1], ["full"], metrics=("wer", "dnsmos")).records[0]
    assert heard == [""]
    assert record["n_word_errors"] == 2
    assert "dnsmos" not in record


def test_wer_is_errors_over_words_of_all_sentences(voice, judges) -> None:
    report = evaluate(voice, TEXTS, ["full"], metrics=["wer"])
    n_words = sum(len(text.split()) for text in TEXTS)
    assert report.find("wer", strategy="full").estimate.value == 4 / n_words
    assert report.find("cer", strategy="full").estimate.value == 8 / sum(map(len, TEXTS))


def test_a_sentence_too_short_for_a_metric_is_left_out_of_it(voice) -> None:
    report = evaluate(voice, TEXTS[:2], ["overlap"], metrics=("stoi", "mcd"))
    streamed = [r for r in report.records if r["strategy"] == "overlap"]
    assert streamed[0]["stoi"] is None
    assert report.find("stoi", strategy="overlap").estimate.n == 0
    assert report.find("mel_cepstral_distortion_db", strategy="overlap").estimate.n == 2


@pytest.mark.voice
@pytest.mark.slow
def test_a_trained_voice_is_understood_and_streams_as_good_as_whole(
    default_tts, tmp_path, quick_picture
) -> None:
    report = evaluate(
        default_tts,
        ["My brother repairs old clocks."],
        ["stateful"],
        metrics=("latency", "signal", "wer", "dnsmos"),
        folder=tmp_path / "out",
    )
    whole, streamed = report.records
    assert streamed["max_abs_diff"] < 1e-4
    assert streamed["ttfa_ms"] < whole["ttfa_ms"]
    assert report.find("wer", strategy="stateful").estimate.value == 0.0
    assert report.find("dnsmos", strategy="stateful").estimate.value > 2.5
    assert (tmp_path / "out/report.json").is_file()


# --- the report


def test_the_report_is_kept_as_json_markdown_and_a_picture(voice, tmp_path) -> None:
    out = tmp_path / "out"
    report = evaluate(voice, TEXTS, folder=out)
    assert names_in(out) == ["measured.jsonl", "report.json", "report.md", "report.png"]

    def refuse(constant):
        raise AssertionError(constant)

    data = json.loads((out / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert list(data) == ["settings", "confidence", "summary", "records"]
    assert data["settings"]["sentences"] == list(TEXTS)
    assert list(data["summary"][0]) == [
        *("voice", "strategy", "metric", "unit", "baseline", "value", "low", "high", "n"),
        *("difference", "difference_low", "difference_high"),
    ]
    assert data["summary"][0]["difference"] is None
    assert (out / "report.md").read_text(encoding="utf-8") == report.to_markdown()
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")


def test_the_markdown_has_a_line_for_each_metric_and_a_column_for_each_strategy(voice) -> None:
    text = evaluate(voice, TEXTS, metrics=["latency"]).to_markdown()
    assert "4 sentences, tiny. In brackets: 95 % confidence intervals" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[0] == "| metric | full | overlap | stateful |"
    assert {line.count("|") for line in lines if "TTFA" in line} == {5, 4}
    assert "Difference to tiny/full:" in text


def test_the_table_is_pandas_where_it_is_installed_and_records_otherwise(voice, monkeypatch) -> None:
    report = evaluate(voice, TEXTS[:1], ["overlap"])
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert [row["metric"] for row in report.table()] == [row.metric for row in report.summary]
    assert report.sentence_table() == [dict(record) for record in report.records]
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: ("frame", rows)))
    assert report.table() == ("frame", report.rows())


def test_a_figure_leaves_out_what_is_the_same_of_all(voice, stopped_clock) -> None:
    report = evaluate(voice, TEXTS, chunk_frames=5)
    figure = report.figure()
    titles = [axes.get_xlabel() for axes in figure.axes if axes.get_visible()]
    assert "RTF" in titles
    assert "TTFA (ms)" not in titles, "a second for each"
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["full", "overlap", "stateful"]
    others = [{**record, "voice": "other"} for record in report.records]
    both = Report.from_records([*report.records, *others], settings={}).figure()
    assert [tick.get_text() for tick in both.axes[0].get_yticklabels()][2:4] == [
        "tiny/stateful",
        "other/full",
    ]


def test_a_report_of_nothing_and_a_folder_that_is_not_there_are_refused(voice, tmp_path) -> None:
    with pytest.raises(ParameterError, match="records must hold at least one record"):
        Report.from_records([], settings={})
    with pytest.raises(ParameterError, match="nowhere: no such folder"):
        evaluate(voice, TEXTS[:1]).save(tmp_path / "nowhere")


# --- going on


@pytest.mark.parametrize("n_done", [1, 2, 3])
def test_what_was_interrupted_goes_on_and_ends_the_same(
    voice, quick_picture, stopped_clock, tmp_path, monkeypatch, n_done
) -> None:
    whole = evaluate(voice, TEXTS, folder=tmp_path / "whole")

    def stop(done, n_all):
        if done == n_done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(voice, TEXTS, folder=tmp_path / "parts", progress=stop)
    assert names_in(tmp_path / "parts") == ["measured.jsonl"]
    seen = spoken(monkeypatch)
    resumed = evaluate(voice, TEXTS, folder=tmp_path / "parts")
    assert seen == list(TEXTS[n_done:])
    assert resumed.to_json() == whole.to_json()
    for name in ("report.json", "report.md", "report.png"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_process_that_was_killed_goes_on_and_ends_the_same(
    voice, quick_picture, folder, stopped_clock, tmp_path, monkeypatch
) -> None:
    program = f"""{STOPPED_CLOCK}
import os, signal
def progress(n_done, n_all):
    if n_done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
evaluate({str(folder)!r}, {TEXTS!r}, folder="out", progress=progress)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert names_in(tmp_path / "out") == ["measured.jsonl"], "no half-written report"
    seen = spoken(monkeypatch)
    resumed = evaluate(voice, TEXTS, folder=tmp_path / "out")
    assert seen == list(TEXTS[2:])
    assert resumed.to_json() == evaluate(voice, TEXTS).to_json()


def test_a_line_that_was_cut_is_done_again(
    voice, quick_picture, stopped_clock, tmp_path, monkeypatch
) -> None:
    whole = evaluate(voice, TEXTS, folder=tmp_path / "out")
    journal = tmp_path / "out" / "measured.jsonl"
    data = journal.read_bytes()
    last = data.rstrip(b"\n").rfind(b"\n") + 1
    for size in (last + 1, (last + len(data)) // 2, len(data) - 1):
        journal.write_bytes(data[:size])
        with monkeypatch.context() as patch:
            seen = spoken(patch)
            assert evaluate(voice, TEXTS, folder=tmp_path / "out").to_json() == whole.to_json()
        assert seen == [TEXTS[-1]]
        assert journal.read_bytes() == data
    journal.write_bytes(data[:10])  # killed while it wrote the settings
    assert evaluate(voice, TEXTS, folder=tmp_path / "out").to_json() == whole.to_json()


def test_a_second_call_speaks_nothing(voice, quick_picture, stopped_clock, tmp_path, monkeypatch) -> None:
    whole = evaluate(voice, TEXTS, folder=tmp_path)
    seen = spoken(monkeypatch)
    monkeypatch.setattr(_measuring, "speak", None)
    assert evaluate(voice, TEXTS, folder=tmp_path).to_json() == whole.to_json()
    assert seen == []


def test_infinite_figures_survive_the_journal(voice, quick_picture, stopped_clock, tmp_path) -> None:
    first = evaluate(voice, TEXTS[:1], ["full", "overlap"], folder=tmp_path, chunk_frames=10_000)
    again = evaluate(voice, TEXTS[:1], ["full", "overlap"], folder=tmp_path, chunk_frames=10_000)
    assert first.records == again.records
    assert again.find("snr_db", strategy="overlap").estimate.value == math.inf
    assert json.loads((tmp_path / "report.json").read_text())["records"][1]["snr_db"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed was 0 and is 1; give another folder"),
        ({"sentences": TEXTS[:2]}, r"sentences was \['hello there.'"),
        ({"strategies": ["overlap"]}, "strategies was .* and is"),
        ({"metrics": ["signal"]}, "metrics was"),
        ({"chunk_frames": 7}, "chunk_frames was"),
        ({"voices": {"other": None}}, "voices was"),
    ],
)
def test_results_of_other_settings_are_not_mixed_in(
    voice, quick_picture, folder, tmp_path, changes, message
) -> None:
    arguments = {"voices": voice, "sentences": TEXTS, "folder": tmp_path}
    evaluate(**arguments)
    if "voices" in changes:
        changes = {"voices": {"other": folder}}
    with pytest.raises(ParameterError, match=f"holds an evaluation with other settings: {message}"):
        evaluate(**(arguments | changes))


def test_a_damaged_journal_is_refused_by_its_line(voice, quick_picture, tmp_path) -> None:
    evaluate(voice, TEXTS, folder=tmp_path)
    journal = tmp_path / "measured.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    for line, message in (
        (b"{half\n", "line 3 is damaged"),
        (b"[1]\n", "no object"),
        (b"{}\n", "line 3 has no 'results'"),
    ):
        journal.write_bytes(b"".join([*lines[:2], line, *lines[3:]]))
        with pytest.raises(ParameterError, match=message):
            evaluate(voice, TEXTS, folder=tmp_path)
    journal.write_bytes(b'{"format": 9, "settings": {}}\n')
    with pytest.raises(ParameterError, match="not a journal of this version"):
        evaluate(voice, TEXTS, folder=tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("fcntl") is None, reason="needs locks of files")
def test_a_second_writer_is_refused(voice, quick_picture, tmp_path) -> None:
    def again(n_done, n_all):
        with pytest.raises(ParameterError, match=r"measured\.jsonl: another evaluation is writing to it"):
            evaluate(voice, TEXTS, folder=tmp_path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(voice, TEXTS, folder=tmp_path, progress=again)


# --- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sentences": []}, "sentences must hold at least one sentence"),
        ({"sentences": "hello"}, "must be a sequence of str, not one str"),
        ({"metrics": []}, "metrics must hold at least one of latency, signal"),
        ({"metrics": ["mos"]}, f"metrics: 'mos' must be one of {', '.join(METRIC_GROUPS)}"),
        ({"strategies": ["fast"]}, "strategy='fast' must be one of full, overlap, stateful"),
        ({"strategies": [1]}, "strategies: 1 must be one of full"),
        ({"voices": []}, "voices must hold at least one voice"),
        ({"n_rounds": 0}, "n_rounds=0 must be >= 1"),
        ({"confidence": 2.0}, r"confidence=2.0 must be in \(0, 1\)"),
        ({"n_resamples": 0}, "n_resamples=0 must be >= 1"),
        ({"chunk_frames": 0}, "chunk_frames=0 must be"),
        ({"seed": -1}, "seed=-1"),
        ({"speaker": "eve"}, "speaker='eve' must be one of tiny"),
    ],
)
def test_what_can_not_be_evaluated_is_refused_before_anything_is_spoken(
    voice, quick_picture, tmp_path, monkeypatch, changes, message
) -> None:
    monkeypatch.setattr(_measuring, "speak", None)
    arguments = {"voices": voice, "sentences": TEXTS, "folder": tmp_path / "out"}
    with pytest.raises(ParameterError, match=message):
        evaluate(**(arguments | changes))
    assert not (tmp_path / "out").exists()


def test_a_voice_that_was_removed_is_named(voice, quick_picture, tmp_path) -> None:
    with pytest.raises(VoiceError, match=r"gone: no such voice folder or \.addon file"):
        evaluate([voice, tmp_path / "gone"], TEXTS, folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_can_not_be_made_is_named(voice, quick_picture, tmp_path) -> None:
    with pytest.raises(ParameterError, match=r"out: can't be made, because there is no folder .*nowhere"):
        evaluate(voice, TEXTS, folder=tmp_path / "nowhere" / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError, match="file: must be a folder, and is a file"):
        evaluate(voice, TEXTS, folder=tmp_path / "file")


@pytest.mark.parametrize(
    ("metric", "package"),
    [
        *(("wer", "faster_whisper"), ("wer", "jiwer"), ("dnsmos", "speechmos.dnsmos")),
        *(("plcmos", "speechmos.plcmos"), ("mcd", "librosa"), ("pesq", "pesq"), ("stoi", "pystoi")),
    ],
)
def test_a_missing_extra_is_named_before_anything_is_spoken(
    voice, quick_picture, tmp_path, monkeypatch, metric, package
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(_measuring, "speak", None)
    with pytest.raises(MissingExtraError, match=rf"the metric {metric} needs .* \"balacoon_tk\[eval\]\""):
        evaluate(voice, TEXTS, metrics=[metric], folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::balacoon_tk.frontend.NothingToSayWarning")
def test_a_sentence_with_nothing_to_say_is_named_and_leaves_no_report(voice, quick_picture, tmp_path) -> None:
    with pytest.raises(ParameterError, match=r"sentences\[1\]='\.\.\.' must hold something"):
        evaluate(voice, [TEXTS[0], "...", TEXTS[1]], folder=tmp_path)
    assert names_in(tmp_path) == ["measured.jsonl"]


def test_another_number_of_samples_is_an_error_and_no_difference(
    voice, quick_picture, monkeypatch, tmp_path
) -> None:
    speak = _measuring.speak

    def shortened(tts, sentence, strategy, plan):
        trace, samples = speak(tts, sentence, strategy, plan)
        return trace, samples[: -1 if strategy == "overlap" else None]

    monkeypatch.setattr(_measuring, "speak", shortened)
    with pytest.raises(ModelError, match=r"sentences\[0\]: 'overlap' gave \d+ samples, 'full' \d+"):
        evaluate(voice, TEXTS, folder=tmp_path)
    assert not list(Path(tmp_path).glob("report*"))


def test_without_sentences_the_packaged_ones_are_spoken(voice, quick_picture, monkeypatch) -> None:
    monkeypatch.setattr(evaluation, "plain_sentences", lambda: TEXTS[:2])
    report = evaluate(voice, metrics=["latency"])
    assert {record["text"] for record in report.records} == set(TEXTS[:2])
    assert len(plain_sentences()) >= 100
