"""Engines beside each other: who is missing is named, and figures come from the same sentences."""

import importlib.util

import pytest

import peers
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics import StreamTrace
from peers import PEERS, missing_packages
from speed import beside
from speed.beside import Beside, speak_beside
from speed.workers import Utterance

RATE = 100


def trace(first_s, total_s, *, n_samples=100):
    return StreamTrace(
        sample_rate=RATE,
        ready_s=(first_s, total_s),
        n_samples=(n_samples, n_samples),
        total_s=total_s,
        first_audible=0,
    )


@pytest.fixture
def engines(monkeypatch):
    """Engines that take so many seconds; gives who spoke what, in order."""
    spoken = []

    class Fake:
        def __init__(self, name, n_threads):
            if name == "sherpa-onnx":
                raise RuntimeError("sherpa-onnx: OSError: no model")
            self.name = name

        def speak(self, text, *, warm_up):
            spoken.append((self.name, text))
            total_s = {"balacoon_tk": 0.2, "piper-tts": 0.6, "hibari-tts": 4.0}[self.name]
            return Utterance(trace(total_s / 2, total_s), 0.1)

        def close(self):
            spoken.append((self.name, "closed"))

    monkeypatch.setattr(beside, "Engine", Fake)
    return spoken


def test_every_engine_says_what_it_imports(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda package: None)
    assert all(missing_packages(name) for name in PEERS)
    monkeypatch.setattr(peers, "find_spec", importlib.util.find_spec)
    assert missing_packages("balacoon_tk, gruut") == ()


def test_engines_speak_in_turn_and_those_that_can_not_are_named(engines, monkeypatch):
    monkeypatch.setattr(
        beside, "missing_packages", lambda name: ("streaming_vits",) if name == "streaming-vits" else ()
    )
    told = []
    names = ["balacoon_tk", "streaming-vits", "piper-tts", "sherpa-onnx"]
    found = speak_beside(["a", "b"], names, progress=lambda n_done, n_all: told.append((n_done, n_all)))
    assert engines == [
        ("balacoon_tk", "a"),
        ("piper-tts", "a"),
        ("piper-tts", "b"),
        ("balacoon_tk", "b"),
        ("piper-tts", "closed"),
        ("balacoon_tk", "closed"),
    ]
    assert told == [(k, 4) for k in range(1, 5)]
    assert {name: len(traces) for name, traces in found.traces.items()} == {"balacoon_tk": 2, "piper-tts": 2}
    *_, first, second = found.to_markdown().splitlines()
    assert first == '- streaming-vits: not installed (streaming_vits): pip install "balacoon_tk[peers]"'
    assert second == "- sherpa-onnx: sherpa-onnx: OSError: no model"


def test_the_table_compares_with_the_first_sentence_by_sentence():
    found = Beside(
        {"ours": [trace(0.1, 0.2), trace(0.3, 0.4)], "theirs": [trace(1.1, 2.0), trace(1.3, 9.0)]}, {}
    )
    rows = found.to_markdown().splitlines()
    assert rows[2] == "| ours | 200 [100, 300] |  | 0.150 [0.100, 0.200] | 1.00 |"
    assert rows[3] == "| theirs | 1200 [1100, 1300] | +1000 | 2.750 [1.000, 4.500] | 0.50 [0.00, 1.00] |"


def test_without_any_engine_only_what_is_missing_is_said():
    assert Beside({}, {"piper-tts": "not installed"}).to_markdown() == "- piper-tts: not installed\n"


def test_no_sentence_is_an_error_before_any_engine_is_opened(engines):
    with pytest.raises(ParameterError, match="sentences must hold at least one sentence"):
        speak_beside([])
    assert engines == []
