"""The benchmark suite itself: what it reports is what was measured, and it sees what it looks for."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import bench_corpus
import bench_decoders
import bench_guards
import bench_native
import bench_passes
from balacoon_tk import TTS
from balacoon_tk.audio import AudioChunk
from balacoon_tk.errors import ParameterError, VoiceError
from balacoon_tk.export.sources import find_source
from balacoon_tk.frontend import CharacterFrontend
from balacoon_tk.metrics import StreamTrace
from balacoon_tk.metrics.runs import rotated
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.native import compile_native
from balacoon_tk.targets.ort_cpu.optimize import ENCODER_PASSES, optimize_decoder
from balacoon_tk.voice import load_voice
from balacoon_tk.voice.files import VoiceFiles
from families import FAMILIES
from native import layers as native_layers
from native import report as native_report
from native import speaking as native_speaking
from native.decoding import CHUNK_FRAMES
from peers import TABLE
from speed import public, results, streams
from speed.end_to_end import summary
from speed.machine import machine_slug, peak_run
from speed.measure import Rounds, in_turn, ratio, spread
from speed.report import to_markdown
from speed.shares import shares
from speed.targets import TARGETS, Target, check
from speed.texts import count_phonemes, sentences_of, text_of
from speed.workers import Engine, Utterance, speak
from tiny_vits import TinyVits, write_tiny_vits
from tiny_voice import SAMPLE_RATE, build_tiny_voice
from unmeasured import unmeasured_environment

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "results"


@pytest.fixture(scope="module")
def records():
    return results.read_records(FOLDER)


@pytest.fixture(scope="module")
def committed(records):
    return records[0]


@pytest.fixture(scope="module")
def tts(tmp_path_factory):
    folder = build_tiny_voice(tmp_path_factory.mktemp("voices") / "tiny", streaming=True)
    return TTS(load_voice(folder, n_threads=1))


OLDER = {("intel-xeon-2-cores", "0.7.0")}
"""Records of machines and versions that were measured before some of the parts and engines were there."""


def test_the_committed_report_is_that_of_the_committed_figures(records):
    assert (FOLDER / "bench.md").read_text(encoding="utf-8") == "\n".join(map(to_markdown, records))
    for record in records:
        path = FOLDER / results.RECORDS / f"{machine_slug(record['facts'])}.json"
        assert path.read_text(encoding="utf-8") == results.compact_json(record)
        assert record["targets"] == json.loads(results.compact_json(check(record["parts"])))


@pytest.mark.parametrize(
    ("path", "tables"), [("README.md", public.readme_tables), ("docs/benchmarks.md", public.docs_tables)]
)
def test_the_tables_of_engines_are_those_of_the_committed_figures(records, path, tables):
    first, last = results.MARKS
    _, _, rest = (ROOT / path).read_text(encoding="utf-8").partition(first)
    assert rest.partition(last)[0].strip() == tables(records).strip()


def test_every_target_and_every_engine_was_measured(records):
    for record in records:
        facts, parts = record["facts"], record["parts"]
        older = (machine_slug(facts), facts["versions"]["balacoon_tk"]) in OLDER
        measured = [row["name"] for row in record["targets"]]
        assert older or measured == [target.name for target in TARGETS]
        assert older or tuple(parts) == results.PARTS
        engines = [tuple(found) for found in parts["end_to_end"]["threads"].values()]
        assert all(older or names == TABLE for names in engines)
        assert {name for names in engines for name in names} <= set(TABLE)


def test_writing_gives_the_committed_files_again(records, tmp_path):
    for record in records:
        results.write(record, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {path.name for path in FOLDER.iterdir()} - {
        *("streaming.json", "kernels.json", "passes.json", "passes.md", "decoders.json", "native.json"),
        *("coverage.json", "fuzz.json", "kills.json", "mutants.json", "soak.json", "live.json", "serve.json"),
        *(
            "cuts.json",
            "piper_ids.json",
            "word_boundaries.json",
            "corpus.json",
            "providers.json",
            "guards.json",
        ),
        *("platforms.json", "notebooks.json"),
    }
    written = [path.relative_to(tmp_path) for path in (tmp_path / results.RECORDS).iterdir()]
    for name in ("bench.md", *written):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()


def test_a_part_that_is_missing_is_named_and_its_targets_are_not_met_by_silence(committed):
    parts = {name: data for name, data in committed["parts"].items() if name != "streams"}
    result = results.assemble(parts, committed["facts"])
    assert not any("streams" in row["name"] for row in result["targets"])
    (missing,) = (line for line in to_markdown(result).splitlines() if line.startswith("Not in this record"))
    assert "streams" in missing


def test_parts_of_another_machine_are_not_put_together(tmp_path):
    results.keep_part(tmp_path, "start", {"import_s": [1.0]}, {"cpu": "this"})
    assert results.kept_parts(tmp_path, {"cpu": "this"}) == {"start": {"import_s": [1.0]}}
    assert results.kept_parts(tmp_path, {"cpu": "another"}) == {}


@pytest.mark.parametrize(("at_least", "below", "above"), [(False, True, False), (True, False, True)])
def test_a_target_is_met_up_to_its_limit(at_least, below, above):
    target = Target("x", "start", 0.5, lambda data: data["value"], at_least=at_least)
    assert target.keeps(0.5)
    assert target.keeps(0.4999) is below
    assert target.keeps(0.5001) is above


def test_ratios_are_taken_within_a_round():
    slow_machine_in_the_second_round = [2.0, 20.0, 2.0], [1.0, 10.0, 4.0]
    assert ratio(*slow_machine_in_the_second_round) == 2.0
    assert spread([3.0]) == (3.0, 3.0, 3.0)
    assert spread([4.0, 1.0, 2.0, 3.0, 5.0]) == (2.0, 3.0, 4.0)


def test_runs_take_turns_in_another_order_each_round():
    called = []
    seconds = in_turn({name: lambda name=name: called.append(name) for name in "abc"}, n_rounds=3)
    assert "".join(called) == "abc" + "abc" + "bca" + "cab"
    assert [len(found) for found in seconds.values()] == [3, 3, 3]
    assert list(rotated("ab", 3)) == ["b", "a"]


class Slow:
    """An engine that hands over half a second of a tone at a time, each so many seconds after the last."""

    sample_rate = SAMPLE_RATE

    def __init__(self, wait_s):
        self._wait_s = wait_s

    def speak(self, text):
        for _ in text:
            time.sleep(self._wait_s)
            yield np.full(SAMPLE_RATE // 2, 0.5, np.float32)

    def get_sampling_rate(self):
        return self.sample_rate

    def stream(self, text, *, seed):
        for k, samples in enumerate(self.speak(text)):
            yield AudioChunk(samples, self.sample_rate, k * len(samples), ())


def test_an_utterance_is_late_on_half_a_machine_before_it_is_late_on_a_whole_one():
    trace = StreamTrace(
        sample_rate=100, ready_s=(0.1, 0.8), n_samples=(100, 100), total_s=0.9, first_audible=0
    )
    figures = Utterance(trace, cpu_s=1.0).figures()
    assert figures["underrun_s"] == 0.0
    assert figures["underrun_at_half_speed_s"] == pytest.approx(0.4)
    assert figures["ttfa_s"] == 0.1
    assert figures["rtf"] == pytest.approx(0.45)


def test_an_engine_s_chunks_are_noted_as_they_come():
    utterance = speak(Slow(0.01), "abc")
    found = summary([utterance])
    assert found["audio_s"] == 1.5
    assert len(found["chunks"]["ready_s"]) == 3
    assert 0.01 <= found["ttfa_s"][0] < found["total_s"][0]
    assert found["cpu_s"][0] < found["total_s"][0]


def test_an_engine_that_fails_says_so():
    with pytest.raises(RuntimeError, match="no such engine: KeyError"):
        Engine("no such engine", 1)


@pytest.mark.voice
@pytest.mark.usefixtures("default_tts")  # so that it is exported by then
def test_an_engine_in_its_own_process_speaks():
    engine = Engine("balacoon_tk", 1)
    try:
        utterance = engine.speak("Yes.", warm_up="No.")
        assert utterance.trace.first_audible is not None
        assert 0 < utterance.figures()["ttfa_s"] <= utterance.trace.total_s
        assert utterance.cpu_s > 0
        assert engine.peak_rss_mb() > 50
        assert engine.settings["strategy"] == "stateful"
    finally:
        engine.close()


def test_streams_that_come_late_are_seen_and_others_are_not():
    late, _ = streams.play_together(Slow(0.55), "ab", starts_s=[0.0])
    in_time, busy = streams.play_together(Slow(0.01), "ab", starts_s=[0.0, 0.02])
    assert streams.underrun_s(late[0]) == pytest.approx(0.05, abs=0.03)
    assert [streams.underrun_s(trace) for trace in in_time] == [0.0, 0.0]
    assert 0.0 <= busy < 1.0


def test_a_player_asks_for_more_when_little_is_left():
    (trace,), _ = streams.play_together(Slow(0.0), "abcd", starts_s=[0.0])
    asked_s = [seconds - trace.ready_s[0] for seconds in trace.ready_s]
    assert asked_s[2] < 0.2  # a second of audio is there at once
    assert asked_s[3] == pytest.approx(0.5, abs=0.2)


def test_a_stream_s_time_is_divided_without_a_remainder(tts):
    found = shares(tts, "where does the time go?", n_rounds=2)
    for k in range(2):
        parts = [found[name][k] for name in ("frontend", "encoder", "decoder", "rest")]
        assert sum(parts) == pytest.approx(found["total"][k])
        assert min(found["encoder"][k], found["decoder"][k]) > 0
    assert "run" not in vars(tts.voice.encoder._session._session)  # the clock is taken off again


def test_a_stream_s_time_is_divided_in_the_native_engine_too(exported_vits_folder):
    tts = TTS(load_voice(exported_vits_folder, n_threads=1, backend="native"), frontend=CharacterFrontend())
    found = shares(tts, "abc", n_rounds=1)
    assert min(found["encoder"][0], found["decoder"][0]) > 0
    assert "step" not in vars(tts.voice.decoder)


@pytest.mark.parametrize("n_phonemes", [11, 60, 500])
def test_texts_are_about_as_long_as_they_should_be(tts, n_phonemes):
    frontend = CharacterFrontend()
    text = text_of(n_phonemes, frontend, tts.phoneme_map)
    assert n_phonemes - 15 <= count_phonemes(text, frontend, tts.phoneme_map) <= n_phonemes
    assert len(list(frontend.phonemize(text))) == 1
    if n_phonemes > 100:
        short = sentences_of(n_phonemes, frontend, tts.phoneme_map)
        assert n_phonemes - 80 <= count_phonemes(short, frontend, tts.phoneme_map) <= n_phonemes
        assert len(list(frontend.phonemize(short))) > 5


def test_streams_are_measured_for_every_count(tts):
    rounds = Rounds(n_tiny=1, n_short=1, n_long=1, n_minute=1, n_stream=1, n_process=1)
    found = streams.measure(rounds, counts=(1, 3), tts=tts, text="so it goes.", spread_s=0.1)
    for how in ("spread", "at once"):
        assert [(point["n_streams"], len(point["underrun_s"])) for point in found[how]] == [(1, 1), (3, 3)]


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("benchmark_hooks", ROOT / "benchmarks" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_record_of_a_faster_machine_is_scaled_before_it_is_compared(hooks):
    times = dict.fromkeys(hooks._TIMES, 3.0) | {"ops": 1 / 3, "rounds": 5}
    record = {"machine_info": {"sgemm_s": 0.01}, "benchmarks": [{"stats": times, "extra_info": {}}]}
    here = {"sgemm_s": 0.02}
    for _ in range(2):  # a record is kept between comparisons, and must not be scaled twice
        hooks.pytest_benchmark_compare_machine_info(None, None, here, record)
    stats = record["benchmarks"][0]["stats"]
    assert (stats["median"], stats["min"], stats["rounds"]) == (6.0, 6.0, 5)
    assert stats["ops"] == pytest.approx(1 / 6)


def test_what_times_the_kernels_still_calls_them_as_they_are():
    files = [ROOT / "benchmarks" / f"bench_{name}.py" for name in ("checks", "overlap_trim", "upsampler")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-disable", *files]
    environment = unmeasured_environment()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout


def test_a_record_says_nothing_of_who_made_it(hooks):
    record = {
        "machine_info": {"sgemm_s": 0.5, "node": "host", "cpu": {"brand_raw": "cpu", "flags": ["a"]}},
        "commit_info": {"author_time": "now"},
        "datetime": "now",
        "benchmarks": [{"stats": {"median": 1.0, "data": [1.0]}, "extra_info": {}}],
    }
    hooks.pytest_benchmark_update_json(None, None, record)
    assert record == {
        "machine_info": {"sgemm_s": 0.5, "cpu": {"brand_raw": "cpu"}},
        "benchmarks": [{"stats": {"median": 1.0}, "extra_info": {"ratio_to_sgemm": 2.0}}],
    }


PHONEME_IDS = range(3, 11)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    source = write_tiny_vits(tmp_path_factory.mktemp("vits"), TinyVits(relative=True, splines=True))
    return find_source(source).read(source, config=None, progress=lambda stage, share: None)


@pytest.fixture(scope="module")
def decoders(plain):
    return bench_passes.optimized_decoders(plain.decoder)


@pytest.fixture(scope="module")
def encoders(plain):
    return bench_passes.optimized_encoders(plain.encoder, PHONEME_IDS)


def passes_result(parts, n_rounds=1):
    facts = {"n_cpus": 2, "cpu": "cpu", "python": "3", "versions": {}}
    return {"facts": facts, "n_rounds": n_rounds, "load": [0.0, 1.0], "parts": parts}


def test_every_pass_is_timed_and_named(exported_vits_folder):
    parts = bench_passes.measure(VoiceFiles(exported_vits_folder), n_rounds=1, threads=(1,))
    lines = bench_passes.to_markdown(passes_result(parts)).splitlines()
    named = [line.split("`")[1] for line in lines if line.startswith("| `")]
    assert named == [*bench_passes.TIMED_DECODER_PASSES, bench_passes.HALVES, *ENCODER_PASSES]
    for part, n_columns in (("decoder", 4), ("encoder", 4)):
        columns = parts[part]["threads"]["1"]
        assert len(columns) == n_columns
        assert all(min(seconds) > 0 for forms in columns.values() for seconds in forms.values())


def test_what_is_left_out_leaves_no_mark_on_the_graph(plain, decoders, encoders):
    norms = {
        name: sum(node.op_type == "LayerNormalization" for node in form.model.graph.node)
        for name, form in encoders.items()
    }
    assert [name for name, n_norms in norms.items() if n_norms == 0] == ["fuse_layer_norm"]
    for forms in (decoders, encoders):
        for name, form in forms.items():
            assert form.passes
            assert name not in form.passes
    with pytest.raises(ParameterError, match=r"leave_out=\['polyphas'\] must be of lift_to_2d, polyphase,"):
        optimize_decoder(plain.decoder, leave_out=["polyphase", "polyphas"])


@pytest.mark.parametrize("n_threads", ["1", "2"])
@pytest.mark.parametrize(
    ("without", "verdict"),
    [
        ([1.04] * 4, "yes"),
        ([1.02] * 4, "**no**"),
        ([0.5] * 4, "**no**"),
        ([0.9, 0.9, 1.3, 1.3], "within noise"),
    ],
)
def test_a_pass_earns_its_place_by_three_percent_that_are_no_noise(n_threads, without, verdict):
    # One thread's target has no halves: there they are what is added, and the target's own what is without.
    halves = [1 / seconds for seconds in without] if n_threads == "1" else without
    seconds = {bench_passes.ALL: [1.0] * 4, "one": without, bench_passes.HALVES: halves}
    passes = {bench_passes.ALL: ["one", "two", "three"], "one": ["two"]}
    part = {"passes": passes, "threads": {n_threads: {"whole": seconds}}}
    *_, one, halves = bench_passes.to_markdown(passes_result({"decoder": part})).splitlines()
    assert one.endswith(f"| {verdict} | three |")
    assert halves.endswith(f"| {verdict} |  |")


def test_the_committed_report_of_passes_is_that_of_its_figures():
    text = (FOLDER / "passes.json").read_text(encoding="utf-8")
    written = json.loads(text)
    assert (FOLDER / "passes.md").read_text(encoding="utf-8") == bench_passes.to_markdown(written)
    assert text == results.compact_json(written)
    named = {part: list(data["passes"]) for part, data in written["parts"].items()}
    assert named == {
        "decoder": [bench_passes.ALL, *bench_passes.TIMED_DECODER_PASSES],
        "encoder": [bench_passes.ALL, *ENCODER_PASSES],
    }


# --- decoders of today ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_decoder_of_today_streams_exactly(name):
    found = bench_decoders.measure_family(name, full=False, n_rounds=1)
    assert found["difference"] <= 1e-5
    assert {"whole", "streamed"} <= found["seconds"].keys()
    assert found["model_bytes"] > 0 and found["make_streaming_bytes"] >= 0


def test_the_committed_table_of_decoders_is_that_of_its_figures():
    written = json.loads((FOLDER / "decoders.json").read_text(encoding="utf-8"))
    assert list(written["families"]) == list(FAMILIES)
    head, _, rest = (ROOT / "docs" / "decoders.md").read_text(encoding="utf-8").partition("<!-- decoders -->")
    assert head
    assert rest.partition("<!-- end -->")[0].strip() == bench_decoders.to_markdown(written).strip()


def test_a_refused_decoder_is_named_with_the_reason():
    found = {
        "what": "attention over all",
        "n_parameters": 2e6,
        "n_nodes": 5,
        "refused": "no window",
    }
    facts = {"n_cpus": 2, "cpu": "cpu", "python": "3", "versions": {}}
    text = bench_decoders.to_markdown({"facts": facts, "n_rounds": 1, "families": {"other": found}})
    assert "| other | attention over all | 2.0 M | refused: no window |" in text


def test_a_decoder_that_the_native_engine_does_not_know_is_named_with_the_node():
    found = json.loads((FOLDER / "decoders.json").read_text(encoding="utf-8"))
    (name, known), *_ = found["families"].items()
    refused = {
        **known,
        "seconds": {"whole": [1.0], "streamed": [1.0]},
        "not_native": "LSTM: unknown",
    }
    native = {"native, whole": [0.4], "native, streamed": [0.5]}
    timed = {**known, "seconds": {**refused["seconds"], **native}, "not_native": None}
    slow = {
        **timed,
        "seconds": {**timed["seconds"], "native, streamed": [1.5], "overlap": [2.0]},
    }
    for family, cells in (
        (refused, ["ONNX Runtime", "1.00", "none is enough", "no: LSTM: unknown"]),
        (timed, ["native", "1.25", "none is enough", "0.50"]),
        (slow, ["ONNX Runtime", "1.00", "0.50", "1.50"]),
    ):
        text = bench_decoders.to_markdown({**found, "families": {name: family}})
        assert text.splitlines()[2].endswith(f"| {' | '.join(cells)} |")


# --- the native engine ------------------------------------------------------------------------------------


def native_parts():
    seconds = {"1": 1.0, "2": 0.5}
    runs = ["whole", "first push", *map(str, CHUNK_FRAMES)]

    def threads(n):
        found = {f"native, {run}": [0.8 * seconds[n]] for run in runs}
        found |= {f"onnxruntime, {run}": [seconds[n]] for run in ("whole", "first push", "64", "16", "8")}
        differences = {"to_trained": 1e-6, "streamed_to_whole": 0.0, "again": 0.0}
        return {
            "kernels": "plain",
            "peak_operations": 4e9 * int(n),
            "seconds": {"peak": [0.1], **found},
            "differences": differences,
        }

    names = [*native_speaking.OURS, *native_speaking.PEERS, *native_speaking.TWO_SPEAKERS]
    engines = {
        name: {"ttfa_s": [ttfa_s], "total_s": [0.1]}
        for name, ttfa_s in zip(names, (0.01, 0.02, 0.03, 0.2, 0.01, 0.04), strict=True)
    }
    quality = {"dnsmos_drop": 0.1, "wer_increase": 0.0, "lsd_db": 5.0, "n_sentences": 3, "n_layers": 4}
    return {
        "decoding": {"multiply_adds": 1.4e10, "n_frames": 448, "threads": {n: threads(n) for n in "12"}},
        "encoding": {
            "n_phonemes": [31],
            "threads": {n: {"seconds": {"native, 31": [0.02], "onnxruntime, 31": [0.04]}} for n in "12"},
        },
        "layers": {
            "some": {
                "multiply_adds": 1e9,
                "seconds": {"native": [0.02], "onnxruntime": [0.04], "int8": [0.01]},
            }
        },
        "int8": {
            "seconds": {
                **{"fp32, whole": [1.0], "int8, whole": [0.25], "onnxruntime int8, whole": [0.4]},
                **{"fp32, 16": [1.1], "int8, 16": [0.5], "hibari-tts": [0.1]},
            },
            "audio_s": {"decoder": 5.0, "hibari-tts": 4.0},
            "quality": {"native": quality, "onnxruntime": quality},
            **{"snr_db": 6.0, "streamed_to_whole": 0.0},
        },
        "speaking": {
            "engines": engines,
            "peak_mb": {native_speaking.OURS[0]: 200.0, native_speaking.OURS[1]: 250.0},
            "load_s": {"native": [0.2], "onnxruntime": [0.4]},
        },
    }


def test_what_the_native_engine_was_to_reach_is_checked_and_told():
    parts = native_parts()
    targets = {target["name"]: target for target in check(parts, native_report.TARGETS)}
    assert len(targets) == len(native_report.TARGETS)
    whole = targets["whole, fp32, over ONNX Runtime's, 1 thread"]
    assert whole["value"] == pytest.approx(0.8) and whole["met"]
    # 28e9 operations in 0.8 s, where registers do 40e9 in one.
    share = targets["whole, fp32, of the peak, 1 thread"]
    assert share["value"] == pytest.approx(0.875) and share["met"]
    assert not targets["int8, chunks of 16 frames: times as fast as fp32, 1 thread"]["met"]
    assert targets["TTFA, 60 phonemes, over piper-tts"]["value"] == pytest.approx(0.05)
    facts = {"n_cpus": 2, "cpu": "cpu", "python": "3", "versions": {}}
    text = native_report.to_markdown({"facts": facts, "n_rounds": 1, "load": [0.1, 0.2], "parts": parts})
    assert "**missed**" in text and "| whole, native | 800 ms, 35 GFLOP/s | 400 ms, 70 GFLOP/s |" in text
    assert "| some | 100 | 50 | 200 |" in text
    assert "| 31 ids | 20.0 ms, 40.0 ms: 0.50 |" in text


def test_the_committed_table_of_the_native_engine_is_that_of_its_figures():
    text = (FOLDER / "native.json").read_text(encoding="utf-8")
    written = json.loads(text)
    assert text == results.compact_json(written)
    first, last = bench_native.MARKS
    _, _, rest = (ROOT / "docs" / "native.md").read_text(encoding="utf-8").partition(first)
    assert rest.partition(last)[0].strip() == native_report.to_markdown(written).strip()
    # The file's numbers are rounded, and so is what is computed of them.
    again = json.loads(results.compact_json(check(written["parts"], native_report.TARGETS)))
    assert [{**row, "value": None} for row in written["targets"]] == [{**row, "value": None} for row in again]
    for row, other in zip(written["targets"], again, strict=True):
        assert row["value"] == pytest.approx(other["value"], rel=1e-4)


def test_the_committed_table_of_corpora_is_that_of_its_figures():
    text = (FOLDER / "corpus.json").read_text(encoding="utf-8")
    assert text == results.compact_json(json.loads(text))
    first, last = bench_corpus.MARKS
    _, _, rest = (ROOT / "docs" / "corpora.md").read_text(encoding="utf-8").partition(first)
    assert rest.partition(last)[0].strip() == bench_corpus.to_markdown(json.loads(text)).strip()


def test_layers_of_one_shape_say_the_same_in_both_engines():
    shape = native_layers.Shape(8, 3, 2)
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 8, 50), np.float32)}
    plain, rounded = native_layers.chain_of(shape), native_layers.rounded_chain_of(shape)
    (wanted,) = Session(plain).run(feeds).values()
    (found,) = NativeEngine(compile_native(plain)).whole(feeds).values()
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    program = compile_native(rounded)
    assert sum(array.dtype == np.int8 for array in program.arrays.values()) == native_layers.N_LAYERS
    run, n_operations = peak_run(2, n_loops=100_000)
    run()
    assert n_operations > 0


def test_guards_are_seen_to_cost_and_a_voice_is_loaded_without_them(tmp_path, monkeypatch):
    folder = build_tiny_voice(tmp_path / "tiny", streaming=True)
    monkeypatch.setattr(bench_guards, "BACKENDS", ("onnxruntime",))
    parts = bench_guards.measure(folder, n_rounds=1)
    assert all(0 < share < 1 for share in parts["onnxruntime"]["share_of_a_stream"])
    (folder / "decoder.onnx").write_bytes((folder / "encoder.onnx").read_bytes())
    with pytest.raises(VoiceError, match="damaged"):
        load_voice(folder)
    bench_guards._unguarded(lambda: VoiceFiles(folder).check_rest())
    judged = {what: (value, most) for what, value, most in bench_guards.judge(parts)}
    assert list(judged) == ["onnxruntime: loading", "onnxruntime: a stream"]
