"""Names that other programs rely on, and what importing them costs."""

import importlib
import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest

import balacoon_tk
from balacoon_tk import TTS, SpeechUtterance

HEAVY = (
    "anywidget",
    "gruut",
    "ipywidgets",
    "matplotlib",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "piper",
    "platformdirs",
    "starlette",
    "torch",
    "uvicorn",
    "wyoming",
)


def test_the_public_names_are_these():
    assert balacoon_tk.__all__ == [
        *("FLUSH", "TTS", "AudioChunk", "BalacoonError", "SpeechUtterance", "load_voice")
    ]
    assert all(hasattr(balacoon_tk, name) for name in balacoon_tk.__all__)


def test_the_version_is_the_installed_one():
    assert balacoon_tk.__version__ == version("balacoon_tk")


PUBLIC_NAMES = {
    "audio": "AudioChunk PhonemeSpan WavWriter WordSpan pcm_bytes read_wav to_pcm16 write_wav",
    "corpus": ("CorpusError CorpusProgress CorpusReport CorpusSentence make_corpus read_corpus_sentences"),
    "decoder": (
        "Decoder Engine FullDecoder OverlapDecoder STRATEGIES StatefulDecoder Strategy StreamState "
        "open_decoder"
    ),
    "errors": (
        "BalacoonError BusyError MissingExtraError ModelError ParameterError StreamStateError VoiceError"
    ),
    "export": (
        "BudgetError Limits NotStreamableError deploy_voice export_decoder export_trained export_voice "
        "make_precision make_streaming noise_inputs quantize_voice"
    ),
    "frontend": (
        "BACKENDS CharacterFrontend Control EncodedSentence EspeakFrontend FLUSH Frontend GruutFrontend "
        "MAX_SENTENCE_PHONEMES MAX_TEXT NothingToSayWarning PhonemeMap Pieces Reading Sentence SourceText "
        "SsmlWarning "
        "UnknownPhonemeWarning UnknownWordWarning create_frontend"
    ),
    "graph": "Obstacle analyse_model decoder_layers find_obstacles",
    "metrics": (
        "AUDIBLE_DBFS DNSMOS ErrorCount Estimate LiveTrace METRICS METRIC_GROUPS Metric PairedBootstrap "
        "Piece PitchErrors REFERENCE Report StreamTrace SummaryRow TraceRecorder audio_s boundary_click_db "
        "c100 c200 c50 cer compare continuity dnsmos evaluate first_audible_s hard_sentences lag_s "
        "log_spectral_distance_db max_abs_diff mel_cepstral_distortion_db metric normalize_english "
        "pesq pitch_errors plain_sentences playback plcmos read_sentences readiness_s record_live "
        "record_stream rtf segmental_snr_db sentence_frames simulate_writer snr_db stoi sweep_chunks "
        "sweep_lengths sweep_overlap transcribe ttfa_s underrun_ms underrun_s wer work_ratio xrt"
    ),
    "pacing": "Calibration calibrate load_calibration save_calibration",
    "player": "ABTest ABXTest Clips Player Playground ProgressBar SideBySide",
    "plots": (
        "PartLoss alt_text check_figure_path comparison_figure describe draw_chunk_sweep draw_cost "
        "draw_difference draw_frames draw_live draw_mel draw_overlap_error draw_plan draw_pushes "
        "draw_receptive_field draw_sensitivity draw_spectral_difference draw_spectrogram draw_timeline "
        "draw_waveform new_figure save_figure"
    ),
    "audio_formats": "AudioFormat FORMATS StreamedFile",
    "runtime": "RuntimeOptions",
    "serve": "Service create_app",
    "stages": "DEFAULT_CHUNK_FRAMES Encoder Encoding MelInfo Upsampler mel_spectrogram noise_stream",
    "targets.ort_cpu": "OrtCpuCosts optimize_decoder",
    "tts": "SpeechUtterance TTS",
    "voice": (
        "BackendChoice BackendWarning FrontendInfo MANIFEST_FILE ProsodyDefaults Voice load_vocoder "
        "load_voice precision_folder read_manifest"
    ),
}
"""Whoever takes one away, or gives one more, says so here and in the changelog."""


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_what_a_package_offers_is_pinned_and_there(name):
    loaded = importlib.import_module(f"balacoon_tk.{name}")
    assert sorted(loaded.__all__) == PUBLIC_NAMES[name].split()
    assert all(hasattr(loaded, each) for each in loaded.__all__)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("budgets", "sweep_budgets"),
        ("chunking", "overlap_windows"),
        ("compare", "compare"),
        ("export.graph.layers", "decoder_layers"),
        ("export.graph.prepare", "analyse_model"),
        ("export.optimize", "optimize_decoder"),
        ("precisions", "precision_folder"),
        ("random", "noise_stream"),
        ("sweeps", "sweep_overlap"),
        ("upsampler", "Upsampler"),
        ("vocoder", "load_vocoder"),
    ],
)
def test_a_path_that_notebooks_of_0_7_import_is_found_and_says_where_it_went(module, name, monkeypatch):
    monkeypatch.delitem(sys.modules, f"balacoon_tk.{module}", raising=False)
    with pytest.warns(DeprecationWarning, match=r" has moved to balacoon_tk\."):
        assert hasattr(importlib.import_module(f"balacoon_tk.{module}"), name)


@pytest.mark.parametrize(
    ("function", "positional"),
    [
        (TTS.__init__, ["self", "voice"]),
        (TTS.synthesize, ["self", "text", "speaker", "seed"]),
        (TTS.synthesize_chunk, ["self", "utterance", "speaker"]),
        (TTS.stream, ["self", "text"]),
        (TTS.astream, ["self", "text"]),
        (SpeechUtterance.__init__, ["self", "text"]),
        (balacoon_tk.load_voice, ["path"]),
    ],
)
def test_what_is_not_data_is_given_by_name(function, positional):
    parameters = inspect.signature(function).parameters.values()
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == positional


def test_importing_the_package_imports_nothing_heavy():
    program = f"import sys, balacoon_tk; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_importing_the_package_starts_no_thread_and_writes_no_file(tmp_path):
    program = "import threading, balacoon_tk; print(threading.active_count())"
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "1"
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_waits_with_everything_until_a_name_is_asked_for():
    program = (
        "import sys, balacoon_tk; print(sorted(name for name in sys.modules if 'balacoon_tk.' in name)); "
        "from balacoon_tk import AudioChunk; print('numpy' in sys.modules, 'balacoon_tk.tts' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['balacoon_tk._lazy', 'balacoon_tk._moved']", "True False"]


def test_speaking_needs_no_backend_nor_metrics_until_they_are_used():
    unused = (
        "balacoon_tk.voice.default",
        "balacoon_tk.frontend.backends.gruut",
        "balacoon_tk.metrics",
        "secrets",
        "sqlite3",
    )
    program = (
        "import sys; before = set(sys.modules); from balacoon_tk import TTS; "
        f"print([x for x in {unused} if x in set(sys.modules) - before])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["balacoon_tk", "balacoon_tk.frontend"])
def test_public_names_that_wait_are_listed_and_a_name_that_is_not_there_is_an_attribute_error(module):
    package = importlib.import_module(module)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
        _ = package.nothing
