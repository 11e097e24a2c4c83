"""A voice in other precisions: found where they were made, and in the playground a button away."""

import shutil
from dataclasses import replace

import pytest

from balacoon_tk import TTS, load_voice
from balacoon_tk._files import CACHE_VARIABLE
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export import make_precision
from balacoon_tk.player import Playground
from balacoon_tk.voice.manifest import FileInfo
from balacoon_tk.voice.precisions import PRECISIONS, find_precisions, precision_folder
from tiny_voice import SPEAKERS, decoder_model, encoder_model, write_voice

LIMIT_S = 30.0


def write(folder, precision="fp32", *, rate=8000, speakers=SPEAKERS):
    changes = {"sample_rate": rate, "decoder.precision": precision}
    n_speakers = len(speakers)
    return write_voice(
        folder, encoder_model(n_speakers), decoder_model(n_speakers), speakers=speakers, changes=changes
    )


@pytest.fixture
def tts(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return TTS(write(tmp_path / "voice"), n_threads=1)


@pytest.fixture
def quantized(tts, monkeypatch):
    """Has `quantize_voice` copy the voice, and gives what it was asked for."""
    asked = []

    def quantize(voice, out, *, progress, **options):
        asked.append(options)
        progress("judging", 0.5)
        write(out, "int8")
        return replace(made, path=out)

    from balacoon_tk.export.quantize import Quantized

    made = Quantized(None, None)
    monkeypatch.setattr("balacoon_tk.export.quantize.budgets.quantize_voice", quantize)
    return asked


@pytest.fixture
def playground(tts):
    playground = Playground(tts, text="hello there", make_precision=make_precision)
    yield playground
    playground.player.stop()
    playground.close_all()


def test_a_precision_is_found_once_it_was_made(tts, quantized):
    assert find_precisions(tts.voice) == {"fp32": tts.voice.path}
    told = []
    made = make_precision(tts.voice, "int8", progress=lambda what, share: told.append((what, share)))
    assert find_precisions(tts.voice) == {"fp32": tts.voice.path, "int8": made}
    assert told == [("judging", 0.5)]
    (options,) = quantized
    assert options["max_dnsmos_drop"] is options["max_wer_increase"] is None
    assert len(options["sentences"]) == 4
    assert options["n_threads"] == 1


def test_a_voice_in_half_precision_is_made_and_found(exported_vits_folder, tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    voice = load_voice(exported_vits_folder)
    made = make_precision(voice, "fp16")
    assert find_precisions(voice) == {"fp32": voice.path, "fp16": made}
    assert load_voice(made).manifest.decoder.precision == "fp16"
    with pytest.raises(ParameterError, match="precision='fp32' must be one of int8, fp16"):
        make_precision(voice, "fp32")


def test_other_graphs_and_other_weights_have_another_folder(tts, tmp_path):
    manifest, other = tts.voice.manifest, "0" * 64
    text = replace(manifest.speech, encoder=replace(manifest.encoder, sha256=other))
    changes = ({}, {"text": text}, {"weights": FileInfo("weights.bin", other)})
    voices = [replace(tts.voice, manifest=replace(manifest, **each)) for each in changes]
    folders = {precision_folder(voice, p) for voice in voices for p in PRECISIONS}
    assert len(folders) == len(voices) * len(PRECISIONS)
    with pytest.raises(ParameterError, match="precision='int3' must be one of fp32, int8"):
        precision_folder(tts.voice, "int3")


def test_a_precision_that_is_not_there_says_how_to_make_it(playground, tts):
    assert list(playground.precision.buttons.options) == ["fp32", "int8", "fp16"]
    assert playground.precision.make_button.layout.display == "none"
    playground.precision.buttons.value = "int8"
    assert playground.precision.make_button.layout.display == ""
    for message in (playground.precision.message, playground.message):
        playground.play()
        assert f"balacoon-tk quantize {tts.voice.path} -o FOLDER --precision int8" in message.value
        assert "press Make it" in message.value
    assert playground.player.trace is None
    playground.precision.buttons.value = "fp32"
    assert playground.precision.message.value == ""


def test_without_a_maker_there_is_no_button_and_the_command_line_is_named(tts):
    playground = Playground(tts)
    playground.precision.buttons.value = "int8"
    assert playground.precision.make_button.layout.display == "none"
    assert "balacoon-tk quantize" in playground.precision.message.value
    assert "press" not in playground.precision.message.value
    playground.close_all()


def test_what_the_button_makes_speaks(playground, quantized):
    choice = playground.precision
    choice.buttons.value = "int8"
    choice.make_button.click()
    choice.making.result()
    assert choice.is_there
    assert choice.message.value == ""
    assert not choice.make_button.disabled
    playground.play()
    trace = playground.player.wait(LIMIT_S)
    assert choice.get_tts().voice.manifest.decoder.precision == "int8"
    assert playground.traces == {"overlap, int8": trace}


def test_why_it_could_not_be_made_stands_beside_the_button(playground, monkeypatch):
    def fail(*_, **__):
        raise ModelError("nothing gets <faster>")

    monkeypatch.setattr("balacoon_tk.export.quantize.budgets.quantize_voice", fail)
    choice = playground.precision
    choice.buttons.value = "int8"
    choice.make()
    choice.making.result()
    assert "nothing gets &lt;faster&gt;" in choice.message.value
    assert not choice.make_button.disabled


def test_a_folder_that_is_given_is_chosen_by_its_name_and_removed_ones_are_named(tts, tmp_path):
    folder = write(tmp_path / "made elsewhere", "int8")
    playground = Playground(tts, voices={"int8": folder, "other": tmp_path / "gone"})
    assert list(playground.precision.buttons.options) == ["fp32", "int8", "fp16", "other"]
    playground.precision.buttons.value = "int8"
    assert playground.precision.get_tts().voice.path == folder
    playground.precision.buttons.value = "other"
    playground.play()
    assert "gone" in playground.message.value
    playground.close_all()


def test_a_voice_of_another_rate_or_other_speakers_is_refused(tts, tmp_path):
    for name, options in {"rate": {"rate": 16000}, "speakers": {"speakers": ()}}.items():
        playground = Playground(tts, voices={"int8": write(tmp_path / name, "int8", **options)})
        playground.precision.buttons.value = "int8"
        playground.play()
        assert "must have the sample rate and the speakers of fp32" in playground.message.value
        playground.close_all()


def test_a_voice_in_bytes_has_nothing_to_make(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    tts = TTS(write(tmp_path / "int8", "int8"), n_threads=1)
    playground = Playground(tts)
    assert list(playground.precision.buttons.options) == ["int8"]
    shutil.rmtree(tmp_path / "int8")
    assert playground.precision.get_tts() is tts, "what is loaded speaks on"
    playground.close_all()
