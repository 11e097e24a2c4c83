"""Bounded fuzzing of what strangers write, and the harness of `make fuzz`: a fault is counted, not fatal.

What is longer is `make fuzz`; the texts and the damage are the same.
"""

import os
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
import target_manifest
import target_reading
from damage import damaged_bytes, damaged_json
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_fuzz import fuzz
from texts import text_of

from balacoon_tk.errors import BalacoonError
from balacoon_tk.frontend import MAX_SENTENCE_PHONEMES, Frontend, create_frontend

BROKEN = """
import os, signal, warnings
from balacoon_tk.errors import ParameterError

def prepare(folder, name):
    def run(data):
        match data[:1]:
            case b"t": raise ParameterError("refused")
            case b"u": raise KeyError("untyped")
            case b"c": os.kill(os.getpid(), signal.SIGSEGV)
            case b"h":
                while True: pass
            case b"m": bytearray(2**40)
    return run, [b"t1", b"fine", b"u1", b"t2", b"c1", b"u2", b"h1", b"m1", b"fine"]
"""


@pytest.fixture(scope="module", params=["espeak", "gruut", "text"])
def frontend(request: pytest.FixtureRequest) -> Frontend:
    if request.param == "text":
        return create_frontend(phoneme_type="text")
    pytest.importorskip({"espeak": "piper.espeakbridge", "gruut": "gruut"}[request.param])
    return create_frontend(request.param)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_any_text_gives_phonemes_or_is_refused(frontend: Frontend, data: bytes) -> None:
    text = text_of(data)[:400]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is left out
        try:
            sentences = list(frontend.phonemize(text))
        except BalacoonError:
            assert "[[" in text
            return
    for sentence in sentences:
        assert all(len(phoneme) == 1 for phoneme in sentence.phonemes)
        assert 0 < len(sentence.phonemes) <= MAX_SENTENCE_PHONEMES or "[[" in sentence.text


def test_any_damaged_manifest_is_read_or_refused(tmp_path: Path) -> None:
    run, seeds = target_manifest.prepare(tmp_path, "")

    @settings(max_examples=100, deadline=None)
    @given(st.one_of(st.sampled_from(list(seeds)), st.binary(min_size=1, max_size=40)))
    def read(data: bytes) -> None:
        try:
            run(data)
        except BalacoonError as error:
            assert "voice.json" in str(error) or "one" in str(error) or "two" in str(error)

    read()


def test_what_is_read_does_not_depend_on_the_cuts(tmp_path: Path) -> None:
    run, seeds = target_reading.prepare(tmp_path, "")

    @settings(max_examples=100, deadline=None)
    @given(st.one_of(st.sampled_from(list(seeds)), st.binary(min_size=1, max_size=60)))
    def read(data: bytes) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of markup that is passed over
            with suppress(BalacoonError):
                run(data)

    read()


def test_damage_is_chosen_by_bytes_alone() -> None:
    valid = [{"a": [1, {"b": 2}]}, {"c": None}]
    assert damaged_json(valid, b"") == damaged_json(valid, b"\0") == b'{"a": [1, {"b": 2}]}'
    assert damaged_json(valid, b"\1") == b'{"c": null}'
    assert damaged_json(valid, b"\0\5\1\0\3") == b'{"a": -1}'
    assert damaged_bytes([b"abc"], b"\0") == b"abc"
    assert damaged_bytes([b"abc"], b"\0\1\0\0Z") == b"Zbc"
    assert text_of(b"\x10caf\xc3\xa9\xff") == "café\udcff"


def test_a_target_that_dies_is_counted_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "target_broken.py").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    result = fuzz("broken", 9, 1, input_s=0.2)
    assert {name: result[name] for name in ("inputs", "refused", "untyped", "crashes", "hangs")} == {
        "inputs": 9,
        "refused": 2,
        "untyped": 3,
        "crashes": 1,
        "hangs": 1,
    }
    assert [(death["end"], bytes.fromhex(death["input"])) for death in result["deaths"]] == [
        ("exit -11", b"c1"),
        ("hang", b"h1"),
    ]
    assert [place["place"].partition(" in ")[0] for place in result["untyped_places"]] == [
        "KeyError",
        "MemoryError",
    ]
    # A process begins with the peak of the one that started it, which here has run other tests.
    assert result["peak_memory_mb"] > 10
