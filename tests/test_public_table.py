"""The public table of engines: its columns say what was measured, and its measures see what they look for."""

from contextlib import suppress
from importlib.metadata import Distribution
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import run as bench_run
from balacoon_tk import TTS
from balacoon_tk.voice import load_voice
from peers import JUDGED, PEERS, TABLE, VARIANTS, missing_packages
from speed import fidelity, opinions, public, quality, results, sizes
from speed.clicks import count_clicks
from speed.machine import facts, machine_slug, peak_gflops
from speed.workers import Spoken, _samples
from tiny_voice import build_tiny_voice

RATE = 16000


@pytest.fixture(scope="module")
def tts(tmp_path_factory):
    folder = build_tiny_voice(tmp_path_factory.mktemp("voices") / "tiny", streaming=True)
    return TTS(load_voice(folder, n_threads=1))


# --- clicks -----------------------------------------------------------------------------------------------


def tone(n_samples=RATE):
    return np.sin(2 * np.pi * 220 * np.arange(n_samples) / RATE).astype(np.float32)


def test_a_jump_at_a_seam_is_a_click_and_one_elsewhere_is_not():
    whole = tone()
    streamed = whole.copy()
    streamed[4000:] += 0.1
    assert count_clicks(streamed, [2000, 4000], sample_rate=RATE, whole=whole) == 1
    assert count_clicks(streamed, [2000, 4000], sample_rate=RATE, whole=None) == 1
    assert count_clicks(streamed, [2000, 6000], sample_rate=RATE, whole=whole) == 0
    assert count_clicks(whole, [2000, 4000], sample_rate=RATE, whole=whole) == 0


def test_speech_that_bends_at_a_seam_by_itself_does_not_click():
    whole = tone()
    whole[4000:] += 0.1
    assert count_clicks(whole, [4000], sample_rate=RATE, whole=whole) == 0
    assert count_clicks(whole, [4000], sample_rate=RATE, whole=None) == 1


def test_silence_does_not_click_and_what_breaks_it_does():
    silence = np.zeros(RATE, np.float32)
    broken = silence.copy()
    broken[4000:] = 0.1
    assert count_clicks(silence, [4000], sample_rate=RATE, whole=None) == 0
    assert count_clicks(broken, [4000], sample_rate=RATE, whole=silence) == 1


# --- streamed and whole -----------------------------------------------------------------------------------


class Sentences:
    """An engine that hands over sentences, the second of them empty."""

    sample_rate = RATE

    def speak(self, text):
        yield from (tone(100), tone(0), tone(50))


class Chunks(Sentences):
    """One that cuts them, and loses a little at the seam."""

    def speak_both_ways(self, text):
        whole = tone(200)
        return [whole[:100], whole[100:] + np.float32(0.25)], whole


def test_engines_are_compared_with_themselves_where_they_can_speak_both_ways():
    found = fidelity.figures(Spoken(**_samples(Chunks(), "")))
    assert found["max_abs_diff"] == pytest.approx(0.25)
    assert (found["n_seams"], found["n_clicks"], found["audio_s"]) == (1, 1, 200 / RATE)
    found = fidelity.figures(Spoken(**_samples(Sentences(), "")))
    assert (found["max_abs_diff"], found["n_seams"], found["audio_s"]) == (None, 1, 150 / RATE)


def test_an_overlap_without_context_is_further_from_the_whole_than_one_with_some(tts):
    found = fidelity.controls("where does the time go?", tts=tts)
    without, some = found.values()
    assert without["max_abs_diff"] > 1e-3
    assert without["max_abs_diff"] > some["max_abs_diff"]
    assert without["n_seams"] > 0


# --- sizes ------------------------------------------------------------------------------------------------


def test_every_engine_of_the_table_is_known_with_what_it_needs():
    assert set(TABLE) <= {*PEERS, *VARIANTS}
    assert set(sizes.NEEDS) == set(JUDGED)
    for name in TABLE:
        missing_packages(name)


def test_what_a_distribution_requires_is_counted_and_what_is_optional_is_not():
    found = sizes.closure(["balacoon_tk"])
    assert {"balacoon-tk", "numpy", "onnxruntime", "platformdirs"} <= found
    assert found.isdisjoint({"torch", "gruut", "onnx"})
    assert "gruut" in sizes.closure(["balacoon_tk[voice]"])


def test_the_size_of_a_distribution_is_that_of_the_files_that_are_there(tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "__init__.py").write_bytes(b"x" * 30)
    (tmp_path / "some" / "made.pyc").write_bytes(b"x" * 500)
    info = tmp_path / "some-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: some\nVersion: 1\n")
    (info / "RECORD").write_text("some/__init__.py,,\nsome/made.pyc,,\nsome/gone.py,,\n")
    assert sizes.distribution_bytes(Distribution.at(info)) == 30
    assert sizes.path_bytes(tmp_path / "some") == 530
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="must hold a voice"):
        sizes.path_bytes(tmp_path / "none")


def test_the_package_itself_is_counted_where_it_is_worked_on():
    own = sizes.distribution_bytes(Distribution.from_name("balacoon_tk"))
    kernels = sum(path.stat().st_size for path in Path(sizes.balacoon_tk.__file__).parent.rglob("*.so"))
    assert kernels < own < kernels + 5e6


# --- judges -----------------------------------------------------------------------------------------------


def test_an_engine_that_was_judged_before_is_not_judged_again(monkeypatch):
    spoken, kept = [], []
    monkeypatch.setattr(
        quality, "_speak", lambda name, texts: spoken.append(name) or ([tone()] * len(texts), RATE)
    )
    monkeypatch.setattr(quality, "judge", lambda texts, samples, rate: {"dnsmos": [3.0] * len(texts)})
    monkeypatch.setattr(quality, "visqol", lambda x, y, *, sample_rate: float(np.array_equal(x, y)))
    known = {"torch": {"dnsmos": [1.0]}}
    names = ["balacoon_tk", "torch", "balacoon_tk, int8"]
    found = quality.measure(
        names=names, texts=["a"], known=known, keep=lambda name, record: kept.append(name)
    )
    assert spoken == ["balacoon_tk", "balacoon_tk, int8", "balacoon_tk"]
    assert kept == ["balacoon_tk", "balacoon_tk, int8"]
    assert found["engines"]["torch"] == known["torch"]
    assert found["engines"]["balacoon_tk, int8"] == {"dnsmos": [3.0], "visqol": [1.0]}


def test_the_sentences_are_of_all_lengths():
    texts = quality.sentences()
    assert len(texts) == 20
    assert len(texts[0].split()) < 5 and len(texts[-1].split()) > 30


@pytest.mark.voice
@pytest.mark.skipif(not all(map(find_spec, ("distillmos", "visqol"))), reason="make peers installs both")
def test_two_judges_prefer_speech_to_noise(default_tts):
    rate = default_tts.get_sampling_rate()
    speech = default_tts.synthesize("We walked along the river until it was dark.", seed=0) / 32768.0
    noise = 0.3 * np.random.default_rng(0).standard_normal(speech.size)
    good, bad = (opinions.distillmos(each, sample_rate=rate) for each in (speech, speech + noise))
    assert 1.0 <= bad < good - 0.5 < 5.0
    same, other = (opinions.visqol(each, speech, sample_rate=rate) for each in (speech, speech + noise))
    assert other < same - 0.5
    assert same > 4.5
    find_spec("torchaudio")  # transformers asks for it as well, and is told the truth


# --- torch ------------------------------------------------------------------------------------------------


@pytest.mark.voice
def test_torch_speaks_the_default_voice(monkeypatch, tmp_path, default_tts):
    torch_vits = pytest.importorskip("peers.torch_vits")
    from piper.config import SynthesisConfig

    from peers import files
    from peers.piper_tts import load_piper

    monkeypatch.setattr(files, "_CACHE", tmp_path)
    model = torch_vits.load_torch_voice()
    assert not hasattr(model, "posterior_encoder")
    model.noise_scale = 0.0
    (sentence,) = default_tts.frontend.phonemize("Where does the time go?")
    ids = default_tts.phoneme_map.encode(sentence.phonemes).phoneme_ids
    quiet = SynthesisConfig(length_scale=1.0, noise_scale=0.0, noise_w_scale=0.0, normalize_audio=False)
    wanted = np.asarray(load_piper(1).phoneme_ids_to_audio(ids.tolist(), quiet)).reshape(-1)
    found = torch_vits.say_ids(model, ids)
    assert np.abs(found).max() > 0.1
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5)


# --- the table --------------------------------------------------------------------------------------------


def spoken_texts(ttfa_s, cpu_s, late_s):
    row = {"audio_s": 10.0, "ttfa_s": [ttfa_s], "xrt": [20.0], "cpu_s": [cpu_s]}
    return {"440": {**row, "underrun_at_half_speed_s": [0.0]}, "60": {"underrun_at_half_speed_s": [late_s]}}


def record(cpu="AMD EPYC", version="0.9.0"):
    engines = {
        "balacoon_tk": {"texts": spoken_texts(0.04, 0.5, 0.0)},
        "torch": {"texts": spoken_texts(0.4, 2.0, 0.1)},
        "hibari-tts": {"texts": spoken_texts(0.01, 0.1, 0.0)},
    }
    judged = {
        "n_word_errors": [1.0, 0.0],
        "n_words": [4.0, 6.0],
        "dnsmos": [3.0, 3.5],
        "distillmos": [4.0, 4.5],
    }
    streamed = {"max_abs_diff": 1e-6, "n_seams": 9, "n_clicks": 0, "audio_s": 60.0}
    by_sentence = {"max_abs_diff": None, "n_seams": 0, "n_clicks": 0, "audio_s": 60.0}
    size = {"packages_mb": 90.4, "voice_mb": 60.0, "distributions": ["a", "b"]}
    return {
        "facts": {"cpu": cpu, "n_cpus": 2, "versions": {"balacoon_tk": version}},
        "quick": False,
        "targets": [{"met": True}, {"met": False}],
        "parts": {
            "end_to_end": {"threads": {"2": engines}},
            "memory": {"2": {"balacoon_tk": 200.0, "torch": 800.0}},
            "sizes": {"balacoon_tk": size, "torch": size},
            "fidelity": {
                "engines": {"balacoon_tk": streamed, "torch": by_sentence},
                "controls": {"chunks without context": {**streamed, "n_clicks": 3}},
            },
            "quality": {
                "sentences": ["a", "b"],
                "engines": {"balacoon_tk": judged, "torch": {**judged, "visqol": [4.0, 4.2]}},
            },
        },
    }


def test_a_row_says_what_each_part_measured_of_an_engine():
    head, _, ours, torch, hibari = public.public_table(record())
    assert head.startswith("| engine | TTFA (ms) | xRT | CPU (s/min) | continuity ÷2 | memory (MB) |")
    assert ours == "| balacoon_tk | 40 | 20.0 | 3.0 | 100 % | 200 | 150 | 1e-06 | 0.0 | 10.0 | 3.25 | 4.25 |"
    assert torch == (
        "| torch | 400 | 20.0 | 12.0 | 50 % | 800 | 150 | by sentence | no seam | 10.0 | 3.25 | 4.25 |"
    )
    assert hibari == "| hibari-tts | 10 | 20.0 | 0.6 | 100 % |  |  |  |  |  |  |  |"


def test_a_record_that_lacks_a_part_has_no_column_of_it_and_says_so():
    older = record("Intel(R) Xeon(R) Processor", "0.7.0")
    del older["parts"]["quality"], older["parts"]["fidelity"]
    text = public.public_tables([record(), older])
    assert "No run on another maker's processor" not in text
    assert "2 cores, Intel(R) Xeon(R) Processor, balacoon_tk 0.7.0: one sentence of 10.0 s" in text
    assert "Of 2 targets 1 are met. Not in this record: fidelity, quality." in text
    assert [line for line in text.splitlines() if line.startswith("| engine")][1].endswith(
        "| installed (MB) |"
    )
    assert "No run on another maker's processor is kept yet." in public.readme_tables([record()])
    assert "all speak the default voice but hibari-tts. Of" in text
    # Where nobody has spoken yet, there is nothing to quote.
    assert "Intel" not in public.public_tables([record(), {**older, "parts": {}}])


def test_the_docs_say_what_stands_behind_the_columns():
    text = public.docs_tables([record()])
    assert "| chunks without context | 1e-06 | 9 | 3 | 3.0 |" in text
    assert "| torch | 90 | 60 | 150 | 2 |" in text
    row = next(line for line in text.splitlines() if line.startswith("| torch | 10.0 ["))
    assert row.endswith("| 3.25 [3.00, 3.50] | 4.25 [4.00, 4.50] | 4.10 [4.00, 4.20] |")


# --- records of machines ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpu", "slug"),
    [
        ("AMD EPYC", "amd-epyc-2-cores"),
        ("Intel(R) Xeon(R) Processor", "intel-xeon-2-cores"),
        ("Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz", "intel-core-i7-8700-cpu-3.20ghz-2-cores"),
    ],
)
def test_a_machine_s_record_is_called_after_it(cpu, slug):
    assert machine_slug({"cpu": cpu, "n_cpus": 2}) == slug


def test_another_machine_s_record_stays_when_one_is_written(tmp_path):
    for cpu, version in (("Intel(R) Xeon(R) Processor", "0.7.0"), ("AMD EPYC", "0.10.0"), ("Arm", "0.9.0")):
        said = {**facts(), "cpu": cpu, "versions": {"balacoon_tk": version}}
        results.write(results.assemble({}, said), tmp_path)
    order = [found["facts"]["versions"]["balacoon_tk"] for found in results.read_records(tmp_path)]
    assert order == ["0.10.0", "0.9.0", "0.7.0"]
    text = (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert text.index("# Speed of 0.10.0") < text.index("# Speed of 0.7.0")


def test_registers_do_more_than_one_operation_a_nanosecond():
    assert 1.0 < peak_gflops(1, n_rounds=3) < 10_000.0


def test_a_part_that_nobody_knows_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run.py", "--only=stages,nothing"])
    with pytest.raises(SystemExit):
        bench_run.parse()
    assert "--only=stages,nothing: nothing must be of start, stages" in capsys.readouterr().err


def test_a_run_that_goes_on_measures_what_is_missing(monkeypatch, tmp_path):
    measured, judged = [], []

    def measure(part, *, quick):
        measured.append(part)
        return {key: [1.0] for key in ("import_s", "import_tts_s", "tts_s", "graphs_s")}

    def judge(*, names, texts, known, keep):
        judged.append((tuple(names), sorted(known)))
        keep("torch", {"dnsmos": [3.0]})
        raise KeyboardInterrupt  # stopped at the next engine

    for name in ("use_own_voice", "use_its_variants"):
        monkeypatch.setattr(bench_run, name, lambda threads: None)
    monkeypatch.setattr(bench_run, "WORK", tmp_path / "work")
    monkeypatch.setattr(bench_run, "measure", measure)
    monkeypatch.setattr(quality, "measure", judge)
    table, out = tmp_path / "README.md", tmp_path / "out"
    table.write_text("above\n{}\nold\n{}\nbelow\n".format(*results.MARKS), encoding="utf-8")
    for parts in ("start", "start", "start,quality", "start,quality"):
        argv = ["run.py", f"--only={parts}", "--resume", f"--out={out}", f"--readme={table}"]
        monkeypatch.setattr("sys.argv", argv)
        with suppress(KeyboardInterrupt):
            bench_run.main()
    assert measured == ["start"]
    assert judged == [(JUDGED, []), (JUDGED, ["torch"])]
    (found,) = results.read_records(out)
    assert tuple(found["parts"]) == ("start",)
    text = table.read_text(encoding="utf-8")
    assert text.startswith("above") and text.endswith("below\n") and "old" not in text
