"""Measuring a voice, keeping what was found, and not believing what was not found here."""

import dataclasses
import json

import numpy as np
import pytest

from balacoon_tk import TTS
from balacoon_tk._files import CACHE_VARIABLE
from balacoon_tk.cli import main
from balacoon_tk.decoder import STRATEGIES
from balacoon_tk.errors import ParameterError
from balacoon_tk.pacing import calibration
from balacoon_tk.pacing.calibration import (
    CalibrationKey,
    CalibrationWarning,
    calibration_file,
    load_calibration,
    save_calibration,
)
from balacoon_tk.pacing.measure import calibrate
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.stages.settings import DEFAULT_CHUNK_FRAMES
from balacoon_tk.voice import load_voice
from tiny_voice import SPEAKERS, build_tiny_voice

TEXT = "So it is. Is it so? It is, and so it stays for a long, long while. Oh."


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    folder = build_tiny_voice(tmp_path_factory.mktemp("voices") / "streaming", streaming=True)
    return load_voice(folder, n_threads=1)


@pytest.fixture(scope="module")
def measured(voice):
    """What the tiny voice costs here; measured once."""
    return calibrate(TTS(voice), n_rounds=2)


def test_every_stage_is_measured_and_progress_ends_with_all_of_it(voice):
    reports = []
    found = calibrate(TTS(voice), n_rounds=1, progress=lambda done, total: reports.append((done, total)))
    assert [done for done, _ in reports] == list(range(1, reports[0][1] + 1))
    assert found.costs.pushes.keys() == {"overlap", "stateful"}
    assert found.key == CalibrationKey.of(voice)
    assert -20 < found.costs.onset_frames < 0  # the tiny voice's biases sound before the first phoneme
    lag = 3
    assert found.costs.pushes["stateful"].first.counts == tuple(lag + n for n in (1, 2, 4, 8, 16, 32, 64))
    assert found.costs.pushes["overlap"].later.counts == (1, 8, 64)
    assert all(seconds > 0 for seconds in (*found.costs.encoder.seconds, *found.costs.frontend.seconds))


def test_a_voice_of_several_speakers_is_measured_too(tmp_path):
    tts = TTS(build_tiny_voice(tmp_path / "voice", SPEAKERS, streaming=True), n_threads=1)
    assert calibrate(tts, n_rounds=1).costs.pushes.keys() == {"overlap", "stateful"}


def test_a_calibration_is_kept_for_its_voice_and_used_by_the_next_tts(voice, measured):
    assert load_calibration(voice) is None
    assert TTS(voice).calibration is None
    path = save_calibration(measured, voice)
    assert path == calibration_file(voice)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert load_calibration(voice) == measured
    assert TTS(voice).calibration == measured


def test_another_number_of_threads_another_machine_and_another_graph_have_their_own(
    voice, measured, monkeypatch
):
    save_calibration(measured, voice)
    other = dataclasses.replace(voice, options=RuntimeOptions(n_threads=2))
    assert load_calibration(other) is None
    with pytest.raises(ParameterError, match="must be of this voice and this machine"):
        save_calibration(measured, other)
    manifest = dataclasses.replace(
        voice.manifest, decoder=dataclasses.replace(voice.manifest.decoder, sha256="0" * 64)
    )
    assert load_calibration(dataclasses.replace(voice, manifest=manifest)) is None
    newer = dataclasses.replace(voice.target, version=voice.target.version + 1)
    assert load_calibration(dataclasses.replace(voice, target=newer)) is None
    native = dataclasses.replace(voice.backend, name="native")
    assert load_calibration(dataclasses.replace(voice, backend=native)) is None
    monkeypatch.setattr(calibration, "cpu_name", lambda: "another processor")
    assert load_calibration(voice) is None
    monkeypatch.undo()
    monkeypatch.setattr(calibration, "runtime_version", lambda: "0.1")
    assert load_calibration(voice) is None


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text(path.read_text()[:-40]),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text("[" * 100_000),
        lambda path: change(path, format_version=99),
        lambda path: change(path, key={}),
        lambda path: change(path, costs={}),
        lambda path: change(path, costs=None),
    ],
)
def test_a_damaged_or_foreign_file_is_named_and_not_used(voice, measured, damage):
    path = save_calibration(measured, voice)
    damage(path)
    with pytest.warns(CalibrationWarning, match="the calibration is ignored") as warned:
        tts = TTS(voice)
    assert tts.calibration is None
    assert str(path) in str(warned[0].message)
    assert tts.get_chunk_frames() == DEFAULT_CHUNK_FRAMES


def test_too_few_rounds_and_a_voice_without_english_are_refused(voice, tiny_voice):
    with pytest.raises(ParameterError, match="n_rounds=0 must be >= 1"):
        calibrate(TTS(voice), n_rounds=0)

    class Mute:
        def phonemize(self, text):
            return iter(())

    with pytest.raises(ParameterError, match="'tiny' must be able to say English sentences"):
        calibrate(TTS(tiny_voice, frontend=Mute()))


def samples_of(chunks):
    return np.concatenate([chunk.samples for chunk in chunks])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_calibration_changes_no_sample(voice, measured, strategy):
    plain, tuned = TTS(voice), TTS(voice, calibration=measured)
    expected = samples_of(plain.stream(TEXT, strategy="full", seed=5))
    for tts in (plain, tuned):
        found = samples_of(tts.stream(TEXT, strategy=strategy, seed=5))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_the_command_measures_keeps_shows_and_forgets(tmp_path, capsys):
    folder = build_tiny_voice(tmp_path / "voice", streaming=True)
    command = ["calibrate", "-v", str(folder), "--threads", "1"]
    assert main([*command, "--show"]) == 1
    assert "there is no calibration" in capsys.readouterr().err
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert record["key"]["n_threads"] == 1
    assert record["chunk_frames"].keys() == {"overlap", "stateful"}
    assert "kept in" in captured.err
    assert main([*command, "--show", "-o", str(tmp_path / "shown.txt")]) == 0
    shown = (tmp_path / "shown.txt").read_text()
    assert shown.startswith("tiny: 1 thread")
    assert "stateful: chunks of" in shown
    assert main([*command, "--clear"]) == 0
    assert main([*command, "--show"]) == 1
