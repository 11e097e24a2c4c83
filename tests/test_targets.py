"""What a voice holds is plain, and what runs it is compiled: in the voice, or once into the user's cache."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import onnx
import pytest

from balacoon_tk import TTS, load_voice
from balacoon_tk._files import CACHE_VARIABLE
from balacoon_tk.errors import VoiceError
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.targets.choice import (
    NATIVE,
    ONE_THREAD,
    SEVERAL_THREADS,
    VERSION,
    choose_target,
    find_compiled,
)
from balacoon_tk.targets.ort_cpu import optimize
from balacoon_tk.voice.files import VoiceFiles
from balacoon_tk.voice.weights import WEIGHTS_FILE
from tiny_voice import pack_addon, set_field


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(exported_vits_folder, tmp_path):
    return shutil.copytree(exported_vits_folder, tmp_path / "voice")


def change(folder, **fields):
    path = folder / "voice.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    for name, value in fields.items():
        set_field(data, name.replace("__", "."), value)
    path.write_text(json.dumps(data), encoding="utf-8")


def spoken(path, n_threads=1):
    return TTS(path, n_threads=n_threads).synthesize("[[a bad bag]]", seed=3)


def test_the_graphs_of_a_voice_are_in_standard_operators_and_hold_no_state(exported_vits_folder):
    files = VoiceFiles(exported_vits_folder)
    for info in (files.manifest.encoder, files.manifest.decoder):
        model = files.model(info)
        onnx.checker.check_model(model, full_check=True)
        assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
        assert not model.metadata_props
    assert [value.name for value in files.model(files.manifest.decoder).graph.input] == ["frames"]
    # Anybody else who reads ONNX reads them, too.
    onnx.checker.check_model(exported_vits_folder / files.manifest.decoder.file)


def test_one_thread_and_several_have_a_target_each_and_the_native_engine_has_one_for_both(
    exported_vits_folder,
):
    assert choose_target(RuntimeOptions(n_threads=1)) == ONE_THREAD
    assert choose_target(RuntimeOptions(n_threads=2)) == choose_target(RuntimeOptions()) == SEVERAL_THREADS
    targets = VoiceFiles(exported_vits_folder).manifest.targets
    assert set(targets) == {ONE_THREAD, SEVERAL_THREADS, NATIVE}
    assert all(target.version == VERSION and target.streaming for target in targets.values())


def test_a_voice_with_its_compiled_graphs_needs_no_cache(folder, cache):
    spoken(folder)
    assert not cache.exists()


@pytest.mark.parametrize("changes", [{"targets": {}}, {"targets__*__version": VERSION + 1}], ids=str)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "addon"])
def test_what_is_missing_or_of_another_version_is_compiled_once(
    folder, cache, tmp_path, capsys, changes, packed
):
    expected = spoken(folder)
    change(folder, **changes)
    voice = pack_addon(folder, tmp_path / "voice.addon") if packed else folder
    before = VoiceFiles(voice).member("voice.json")
    np.testing.assert_array_equal(spoken(voice), expected)
    assert f"compiling {voice}, once, to {cache}" in capsys.readouterr().err
    (made,) = (cache / "compiled").iterdir()
    stamp = (made / "voice.json").stat().st_mtime_ns
    np.testing.assert_array_equal(spoken(voice), expected)
    assert capsys.readouterr().err == ""
    assert (made / "voice.json").stat().st_mtime_ns == stamp
    assert VoiceFiles(voice).member("voice.json") == before  # the voice itself is left alone
    assert load_voice(voice, n_threads=1).path == voice


def test_a_voice_with_other_weights_is_compiled_for_itself(folder, cache):
    change(folder, targets={})
    first = find_compiled(VoiceFiles(folder), RuntimeOptions(n_threads=1)).files.path
    data = bytearray((folder / WEIGHTS_FILE).read_bytes())
    model = onnx.load(folder / "decoder.onnx", load_external_data=False)
    place = {e.key: e.value for t in model.graph.initializer for e in t.external_data}
    data[int(place["offset"])] ^= 1  # the last bit of a weight
    (folder / WEIGHTS_FILE).write_bytes(data)
    with pytest.raises(VoiceError, match=r"weights\.bin is damaged or another file"):
        VoiceFiles(folder).model(VoiceFiles(folder).manifest.decoder)
    change(folder, weights__sha256=hashlib.sha256(data).hexdigest())
    assert find_compiled(VoiceFiles(folder), RuntimeOptions(n_threads=1)).files.path != first


def test_an_encoder_that_would_say_something_else_stays_as_it_came(exported_vits_folder, monkeypatch):
    monkeypatch.setattr(optimize, "say_the_same", lambda *arguments, **options: False)
    files = VoiceFiles(exported_vits_folder)
    plain = files.model(files.manifest.encoder)
    done = optimize.optimize_encoder(plain, phoneme_ids=files.manifest.frontend.known_ids)
    assert (done.model, done.passes) == (plain, ())
