"""Corpora in this process: what they hold, how they go on, and what is refused."""

import errno
import json
import math
import re
import shutil
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from balacoon_tk import TTS
from balacoon_tk.corpus import CorpusError, CorpusProgress, make_corpus, speaker
from balacoon_tk.corpus.files import Interval, write_textgrid
from balacoon_tk.corpus.journal import BatchJournal, rows_of
from balacoon_tk.corpus.plan import CorpusPlan, make_batches
from balacoon_tk.corpus.report import estimate_ratio
from balacoon_tk.corpus.sentences import CorpusSentence, check_corpus_sentences
from balacoon_tk.corpus.speaker import CorpusSpeaker
from balacoon_tk.corpus.voices import Speech, find_variants
from balacoon_tk.errors import ParameterError, VoiceError
from balacoon_tk.metrics import Estimate, PairedBootstrap
from balacoon_tk.metrics.registry import _METRICS, metric
from balacoon_tk.plots import new_figure
from balacoon_tk.plots.corpus import corpus_figure
from command_line import Terminal, assert_one_line_error
from corpora import audio_of, rows_in, sentences, speak_here
from tiny_voice import HOP_LENGTH, SAMPLE_RATE, build_tiny_voice

SENTENCES = sentences(40)


@pytest.fixture(autouse=True)
def without_processes_and_pictures(monkeypatch):
    monkeypatch.setattr("balacoon_tk.corpus.making.speak_locally", speak_here)
    monkeypatch.setattr("balacoon_tk.plots.corpus.corpus_figure", lambda *_: new_figure(0.1, 0.1))


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    return build_tiny_voice(tmp_path_factory.mktemp("corpus") / "tiny", streaming=True)


@pytest.fixture(scope="module")
def made(voice, tmp_path_factory):
    """A corpus that nothing interrupted, by one worker."""
    folder = tmp_path_factory.mktemp("corpora") / "made"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("balacoon_tk.corpus.making.speak_locally", speak_here)
        make_corpus(SENTENCES, voice, folder, n_workers=1, shard_size=15, seed=3)
    return folder


# --- what there is


def test_the_manifest_says_what_was_spoken_in_the_order_of_the_list(made, voice):
    rows = rows_in(made)
    assert [(row["id"], row["text"]) for row in rows] == SENTENCES
    tts = TTS(voice, n_threads=1)
    for index, row in enumerate(rows):
        assert row["file_name"] == f"audio/tiny-fp32-full/{index // 15:05d}/{row['id']}.flac"
        samples, rate = soundfile.read(made / row["file_name"], dtype="int16")
        assert (rate, len(samples)) == (row["sample_rate"], row["n_samples"]) == (SAMPLE_RATE, len(samples))
        assert speaker.hashlib.sha256(samples.tobytes()).hexdigest() == row["samples_sha256"]
        assert sum(row["durations"]) * HOP_LENGTH == row["n_samples"] == round(row["duration_s"] * rate)
        assert len(row["phonemes"]) == len(row["durations"])
        assert "".join(row["phonemes"]).strip("^$_") == row["text"]
    again = tts.synthesize(rows[7]["text"], seed=rows[7]["seed"])
    assert np.array_equal(again, soundfile.read(made / rows[7]["file_name"], dtype="int16")[0])
    assert {row["voice_sha256"] for row in rows} == {tts.voice.sha256}
    assert not (made / "failed.parquet").exists()
    assert sorted(path.name for path in made.iterdir()) == [
        *("audio", "corpus.json", "metadata.parquet", "report.json", "report.md", "report.png")
    ]


def test_pandas_reads_the_manifest(made):
    pandas = pytest.importorskip("pandas")
    table = pandas.read_parquet(made / "metadata.parquet")
    assert list(table["id"]) == [each for each, _ in SENTENCES]
    assert table["synthesis_s"].min() > 0
    assert table["durations"][0].sum() * HOP_LENGTH == table["n_samples"][0]


def test_neither_order_nor_number_of_workers_changes_a_sample(made, voice, tmp_path):
    make_corpus(SENTENCES, voice, tmp_path / "again", n_workers=3, shard_size=15, seed=3)
    assert audio_of(tmp_path / "again") == audio_of(made)
    assert rows_in(tmp_path / "again") == rows_in(made)


def test_a_sentence_sounds_the_same_in_another_list_and_other_with_another_seed(made, voice, tmp_path):
    make_corpus(SENTENCES[5:9], voice, tmp_path / "part", seed=3)
    make_corpus(SENTENCES[5:9], voice, tmp_path / "other", seed=4)
    wanted = [row["samples_sha256"] for row in rows_in(made)[5:9]]
    assert [row["samples_sha256"] for row in rows_in(tmp_path / "part")] == wanted
    assert not set(wanted) & {row["samples_sha256"] for row in rows_in(tmp_path / "other")}


def test_each_voice_speaks_by_each_strategy_with_the_same_seeds(voice, tmp_path):
    other = build_tiny_voice(tmp_path / "other", streaming=True)
    report = make_corpus(
        SENTENCES[:3], [voice, other], tmp_path / "out", strategies=("full", "stateful"), audio_format="wav"
    )
    rows = rows_in(tmp_path / "out")
    names = [
        f"tiny-{name}-fp32-{strategy}" for name in ("tiny", "other") for strategy in ("full", "stateful")
    ]
    assert [each.name for each in report.variants] == names
    assert [row["file_name"].split("/")[1] for row in rows] == [name for name in names for _ in range(3)]
    assert len({row["seed"] for row in rows}) == 3
    # What is streamed is the whole, on one machine by one engine.
    assert [row["n_samples"] for row in rows[:3]] == [row["n_samples"] for row in rows[3:6]]


def test_a_textgrid_holds_words_and_phonemes_that_tile_the_audio(voice, tmp_path):
    with pytest.warns(UserWarning, match="no ids for these phonemes, so they are skipped: '\"'"):
        make_corpus([("a", 'say "it" now')], voice, tmp_path / "out", textgrid=True)
    (row,) = rows_in(tmp_path / "out")
    text = (tmp_path / "out" / row["file_name"]).with_suffix(".TextGrid").read_text(encoding="utf-8")
    assert text.startswith('File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\n')
    words, phonemes = (part.split("intervals [")[1:] for part in text.split("item [")[2:])
    labels = [part.split("text = ")[1].strip().strip('"') for part in words]
    assert [label for label in labels if label] == ["say", "it", "now"]
    for tier in (words, phonemes):
        times = [[float(line.split("=")[1]) for line in part.splitlines()[1:3]] for part in tier]
        assert times[0][0] == 0.0 and times[-1][1] == pytest.approx(row["duration_s"])
        assert all(before[1] == after[0] and after[0] < after[1] for before, after in pairwise(times))


def test_a_textgrid_fills_gaps_and_leaves_out_what_lasts_no_time(tmp_path):
    write_textgrid(tmp_path / "x.TextGrid", 1.0, {"w": [Interval(0.2, 0.2, "no"), Interval(0.3, 0.5, 'a"b')]})
    lines = [line.strip() for line in (tmp_path / "x.TextGrid").read_text().splitlines()]
    assert [line[7:] for line in lines if line.startswith("text")] == ['""', '"a""b"', '""']
    assert [line for line in lines if line.startswith("xmax")][2:] == [
        "xmax = 0.3",
        "xmax = 0.5",
        "xmax = 1.0",
    ]


def test_metrics_have_columns_and_a_row_in_the_report(voice, tmp_path, monkeypatch):
    monkeypatch.setattr("balacoon_tk.metrics.registry._METRICS", dict(_METRICS))

    def peak(samples, text):
        return float(np.max(np.abs(samples))), float(len(text))

    peak.__module__ = "balacoon_tk.metrics.tried"
    metric("peak", group="tried", label="peak", unit="FS", ratio=("peak", "n_letters"))(peak)
    report = make_corpus(SENTENCES[:9], voice, tmp_path / "out", metrics=["tried"])
    rows = rows_in(tmp_path / "out")
    assert [row["n_letters"] for row in rows] == [len(text) for _, text in SENTENCES[:9]]
    found = report.variants[0].metrics["peak (FS)"]
    assert found.value == pytest.approx(
        sum(row["peak"] for row in rows) / sum(row["n_letters"] for row in rows)
    )
    assert found.low < found.value < found.high
    assert "peak (FS)" in (tmp_path / "out" / "report.md").read_text()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["n_utterances"] == 9


def test_the_interval_of_a_ratio_is_that_of_the_bootstrap():
    rng = np.random.default_rng(0)
    words = rng.integers(3, 30, 800).astype(float)
    errors = rng.binomial(words.astype(int), 0.07).astype(float)
    errors[5] = math.nan
    found, drawn = estimate_ratio(errors, words), PairedBootstrap(800).ratio([*errors], [*words])
    assert (found.value, found.n) == (pytest.approx(drawn.value), 799)
    assert (found.low, found.high) == pytest.approx((drawn.low, drawn.high), abs=5e-4)
    assert math.isnan(estimate_ratio([], []).value)


def test_a_page_shows_distributions_and_intervals_of_each_variant():
    rng = np.random.default_rng(0)
    columns = {
        name: {"duration_s": rng.gamma(4.0, 1.0, 500), "rtf": rng.normal(0.04, 0.004, 500)} for name in "ab"
    }
    panels = {"WER": dict.fromkeys("ab", Estimate(0.05, 0.04, 0.06, 500))}
    lengths, rtfs, wer, empty = corpus_figure(columns, panels).axes
    assert [axes.get_xlabel() for axes in (lengths, rtfs)] == [
        "duration of an utterance (s)",
        "RTF on one thread",
    ]
    for axes in (lengths, rtfs):
        shares = [patch.get_data().values.sum() for patch in axes.patches]
        assert shares == pytest.approx([100.0, 100.0])
    assert [label.get_text() for label in wer.get_yticklabels()] == ["a", "b"]
    assert not empty.get_visible()
    # Nothing was spoken: no curve, and no error.
    nothing = {"a": {"duration_s": np.zeros(0), "rtf": np.zeros(0)}}
    assert not corpus_figure(nothing, {}).axes[0].patches


# --- going on


def test_a_run_goes_on_where_it_was_stopped_and_nothing_is_done_twice(made, voice, tmp_path, monkeypatch):
    spoken = []
    speak = CorpusSpeaker._spoken
    monkeypatch.setattr(
        CorpusSpeaker,
        "_spoken",
        lambda self, tts, v, s, seed: (spoken.append(s.id), speak(self, tts, v, s, seed))[1],
    )
    out, seen = tmp_path / "out", []

    def stop(progress: CorpusProgress) -> None:
        seen.append(progress)
        if len(seen) % 12 == 0:
            raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            make_corpus(SENTENCES, voice, out, shard_size=15, seed=3, n_workers=1, progress=stop)
        assert not (out / "metadata.parquet").exists()
    make_corpus(SENTENCES, voice, out, shard_size=15, seed=3, n_workers=1, progress=seen.append)
    assert sorted(spoken) == [each for each, _ in SENTENCES]
    assert (seen[12].n_done, seen[12].n_all, seen[12].audio_s) == (11, 40, 0.0)
    assert audio_of(out) == audio_of(made)
    assert rows_in(out) == rows_in(made)
    # And once more, where nothing is left to do.
    before = (out / "metadata.parquet").stat().st_mtime_ns
    make_corpus(SENTENCES, voice, out, shard_size=15, seed=3, n_workers=2)
    assert len(spoken) == 40
    assert (out / "metadata.parquet").stat().st_mtime_ns == before


def plan_of(voice, said, **changes):
    kept = TTS(voice, n_threads=1).voice
    variant = speaker.Variant(
        "tiny", str(voice), kept.sha256, "fp32", "full", None, kept.backend.name, "auto"
    )
    settings = {"variants": (variant,), "seed": 0, "audio_format": "flac", "metrics": (), "textgrid": False}
    return CorpusPlan(
        version="1", n_sentences=len(said), sentences_sha256="", shard_size=9, **settings | changes
    )


def test_a_file_that_a_power_cut_has_taken_is_made_again(voice, tmp_path):
    said = check_corpus_sentences(SENTENCES[:4])
    ((batch,),) = make_batches(said, 1)
    worker = CorpusSpeaker(plan_of(voice, said), tmp_path, "one")
    assert len([*worker.speak(batch)]) == 4
    before = audio_of(tmp_path)
    (first,) = tmp_path.glob(f"audio/*/*/{batch.sentences[0].id}.flac")
    first.unlink()
    # The last line was being written.
    journal = tmp_path / batch.journal_path
    journal.write_bytes(journal.read_bytes()[:-9])
    assert len([*worker.speak(batch)]) == 2
    assert audio_of(tmp_path) == before


def test_an_utterance_at_which_two_workers_ended_is_recorded_and_the_rest_is_spoken(voice, tmp_path):
    said = check_corpus_sentences(SENTENCES[:3])
    ((batch,),) = make_batches(said, 1)
    deadly, stopped = batch.indices[1], batch.indices[2]
    for _ in range(2):
        with BatchJournal(tmp_path, batch, "now") as journal:
            assert journal.begin(deadly)
        with BatchJournal(tmp_path, batch, "before") as journal:
            assert journal.begin(stopped)
    found = [*CorpusSpeaker(plan_of(voice, said), tmp_path, "now").speak(batch)]
    assert [each.failed for each in found] == [False, True, False]
    assert "the worker ended each time" in rows_of(tmp_path, batch)[deadly]["error"]


def test_a_sentence_that_fails_is_recorded_and_the_others_are_spoken(voice, tmp_path, cli):
    (tmp_path / "list.txt").write_text("hello|hello there\nsmile|😀\nbye|good bye\n", encoding="utf-8")
    command = ("corpus", tmp_path / "list.txt", "-v", voice, "-o", tmp_path / "out", "--workers", 1)
    result = cli(*command)
    assert result.status == 1
    assert "error: 1 of 3 utterances failed: failed.parquet says which and why" in result.err
    assert b"| tiny-fp32-full | 2 | 1 |" in result.out
    assert [row["id"] for row in rows_in(tmp_path / "out")] == ["hello", "bye"]
    (row,) = rows_in(tmp_path / "out", "failed.parquet")
    assert (row["id"], row["error"]) == ("smile", "ParameterError: there is nothing to say in the text")
    again = cli(*command, "--json", "--quiet")
    assert again.status == 1
    assert json.loads(again.out)["n_failed"] == 1


def test_a_corpus_of_failures_alone_is_complete(voice, tmp_path):
    report = make_corpus(["😀", "…"], voice, tmp_path / "out")
    assert (report.n_utterances, report.n_failed, rows_in(tmp_path / "out")) == (0, 2, [])


# --- the command


def test_a_terminal_shows_a_bar_with_the_pace_and_what_failed(voice, tmp_path, cli, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("balacoon_tk.cli._common._REFRESH_S", 0.0)
    (tmp_path / "list.txt").write_text("hello there\n😀\ngood bye\n", encoding="utf-8")
    cli("corpus", tmp_path / "list.txt", "-v", voice, "-o", tmp_path / "out", "--workers", 1)
    shown = [line.rstrip() for line in terminal.getvalue().split("\r")]
    assert "[........................]   0 % 0 of 3 utterances" in shown
    pattern = r"\[#{24}\] 100 % 3 of 3 utterances, [\d.]+ hours of audio an hour, 0 s left, 1 failed"
    assert [line for line in shown if re.fullmatch(pattern, line)]


def test_a_log_has_a_line_now_and_then_and_quiet_none(voice, tmp_path, cli, monkeypatch):
    monkeypatch.setattr("balacoon_tk.cli.corpus._LINE_EVERY_S", 0.0)
    (tmp_path / "list.txt").write_text("hello there\n", encoding="utf-8")
    command = ("corpus", tmp_path / "list.txt", "-v", voice, "--workers", 1, "-o")
    result = cli(*command, tmp_path / "out")
    assert result.status == 0
    assert re.search(
        r"^1 of 1 utterances, [\d.]+ hours of audio an hour, 0 s left$", result.err, re.MULTILINE
    )
    assert "balacoon-tk: wrote audio, metadata.parquet and report.md to" in result.err
    assert cli(*command, tmp_path / "again", "--quiet").err == ""


def test_the_command_reads_stdin_and_says_what_is_wrong_in_one_line(voice, tmp_path, cli):
    command = ("corpus", "-", "-v", voice, "-o", tmp_path / "out", "--list-form", "kaldi", "--workers", 1)
    result = cli(*command, stdin=b"a hello\nb good bye\n")
    assert (result.status, [row["id"] for row in rows_in(tmp_path / "out")]) == (0, ["a", "b"])
    assert_one_line_error(
        cli(*command, stdin=b"a caf\xe9\n"), "stdin: must be UTF-8, but in line 1 byte 6 is 0xe9"
    )
    assert_one_line_error(
        cli(*command, stdin=b"a hello\n"), "n_sentences was 2 and is 1; give another folder"
    )
    assert_one_line_error(cli(*command, "--engine", "spark"), "invalid choice", status=2)


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 4}, "seed was 3 and is 4"),
        ({"audio_format": "wav"}, "audio_format was 'flac' and is 'wav'"),
        ({"strategies": ["stateful"]}, "strategy of tiny was 'full' and is 'stateful'"),
        ({"strategies": ["full", "stateful"]}, "variants was .* and is "),
        ({"sentences": SENTENCES[:-1]}, "n_sentences was 40 and is 39"),
        ({"sentences": [*SENTENCES[:-1], ("s039", "else")]}, "the sentences are others"),
    ],
)
def test_a_folder_of_other_settings_is_refused_and_left_as_it_is(made, voice, changes, message):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    settings = {"sentences": SENTENCES, "shard_size": 15, "seed": 3} | changes
    with pytest.raises(ParameterError, match=f"holds a corpus with other settings: {message}"):
        make_corpus(settings.pop("sentences"), voice, made, **settings)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_a_voice_that_was_moved_goes_on(made, voice, tmp_path):
    shutil.copytree(made, tmp_path / "made")
    shutil.copytree(voice, tmp_path / "moved")
    report = make_corpus(SENTENCES, tmp_path / "moved", tmp_path / "made", shard_size=15, seed=3)
    assert report.n_utterances == 40


def test_a_folder_with_something_else_in_it_is_refused(voice, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ParameterError, match=r"must be empty or a corpus, and has files and no corpus\.json"):
        make_corpus(["hello"], voice, tmp_path)
    with pytest.raises(ParameterError, match="must be a folder, and is a file"):
        make_corpus(["hello"], voice, tmp_path / "thesis.tex")
    (tmp_path / "corpus.json").write_text("[]")
    with pytest.raises(ParameterError, match="no settings of this version"):
        make_corpus(["hello"], voice, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"thesis.tex", "corpus.json"}


def test_a_second_run_in_one_folder_is_refused_while_the_first_goes_on(voice, tmp_path):
    def begin_another(_):
        with pytest.raises(ParameterError, match="another run is writing to it"):
            make_corpus(["hello"], voice, tmp_path / "out")

    make_corpus(["hello"], voice, tmp_path / "out", progress=begin_another)


def test_voices_that_are_called_the_same_are_told_apart_by_folder_or_refused(voice, tmp_path):
    for place in ("a/tiny", "b/tiny"):
        shutil.copytree(voice, tmp_path / place)
    both = [tmp_path / "a/tiny", tmp_path / "b/tiny"]
    with pytest.raises(ParameterError, match="voices: 2 are called 'tiny-tiny' in fp32; rename the folder"):
        make_corpus(["hello"], both, tmp_path / "out")
    report = make_corpus(["hello"], dict(zip(("ada", "b/ob"), both, strict=True)), tmp_path / "out")
    assert [each.name for each in report.variants] == ["ada-fp32-full", "b_ob-fp32-full"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"audio_format": "mp3"}, "audio_format='mp3' must be one of flac, wav"),
        ({"engine": "spark"}, "engine='spark' must be one of local, ray"),
        ({"n_workers": 0}, "n_workers=0 must be >= 1"),
        ({"shard_size": 0}, "shard_size=0 must be >= 1"),
        ({"address": "head:6379"}, "address='head:6379' must be None without engine='ray'"),
        ({"metrics": ["mcd"]}, "metrics: 'mcd' must be one of .*wer, which judge an utterance alone"),
        ({"metrics": ["latency"]}, "metrics: 'latency' must be one of"),
        ({"strategies": ["magic"]}, "strategy='magic' must be one of"),
        ({"strategies": []}, "strategies must hold at least one"),
        ({"precisions": ["int4"]}, "precision='int4' must be one of"),
        ({"precisions": ["fp32", "fp16"]}, "isn't there in fp16; make it by `balacoon-tk quantize"),
        ({"speaker": "eve"}, "speaker='eve' must be one of tiny"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_what_can_not_be_done_is_refused_before_anything_is_written(voice, tmp_path, settings, message):
    with pytest.raises(ParameterError, match=message):
        make_corpus(["hello"], voice, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_a_voice_that_is_not_there_or_another_one_is_refused(voice, tmp_path):
    with pytest.raises(VoiceError, match="no such voice folder"):
        make_corpus(["hello"], tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ParameterError, match="voices must hold at least one"):
        make_corpus(["hello"], [], tmp_path / "out")
    said = (CorpusSentence("a", "hello"),)
    ((batch,),) = make_batches(said, 1)
    plan = plan_of(voice, said)
    another = build_tiny_voice(tmp_path / "another", ("ada", "bob"))
    for path, reason in ((tmp_path / "nowhere", "no such voice"), (another, "this is another voice")):
        worker = CorpusSpeaker(plan, tmp_path, "one", lambda _, path=path: str(path))
        with pytest.raises(CorpusError, match=f": the voice tiny isn't there: .*{reason}"):
            list(worker.speak(batch))


def test_a_full_disk_ends_the_run_with_its_name_and_what_is_done_stays(voice, tmp_path, monkeypatch):
    written, write = [], speaker.write_audio

    def write_until_full(path, samples, **options):
        written.append(path)
        if len(written) > 5:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, samples, **options)

    monkeypatch.setattr(speaker, "write_audio", write_until_full)
    with pytest.raises(CorpusError, match=r": .*out can't be written to: .*No space left on device"):
        make_corpus(SENTENCES, voice, tmp_path / "out", n_workers=1)
    monkeypatch.setattr(speaker, "write_audio", write)
    seen = []
    make_corpus(SENTENCES, voice, tmp_path / "out", n_workers=1, progress=seen.append)
    assert (seen[0].n_done, seen[-1].n_done) == (5, 40)
    assert len(rows_in(tmp_path / "out")) == 40


def test_the_engine_that_a_corpus_was_begun_with_is_asked_for_when_it_goes_on(voice):
    plan = plan_of(voice, SENTENCES)
    (kept,) = plan.variants
    speech = Speech(None, ("full",), None, None, "auto")
    assert find_variants(voice, speech, plan.variants) == plan.variants
    # The voice has no program for that one, and no other one is taken for it.
    with pytest.raises(VoiceError, match="backend='native' can't run it"):
        find_variants(voice, speech, [replace(kept, backend="native")])
