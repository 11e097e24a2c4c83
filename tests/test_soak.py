"""The soak: listeners come and go, and what is wrong is found."""

from dataclasses import replace

import numpy as np
import pytest

import soak
from balacoon_tk import TTS


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(soak, "plain_sentences", lambda: ["so it is.", "oh.", "is it so?"])
    monkeypatch.setattr(soak, "N_UTTERANCES", 4)


@pytest.mark.filterwarnings("ignore:tiny is streamed")
def test_listeners_hear_what_a_whole_run_gives_and_leave_nothing_behind(short, tiny_speakers_voice):
    found = soak.soak(TTS(tiny_speakers_voice), 5, 0.5, 3)
    heard = found["heard"]
    assert heard["errors"] == []
    assert heard["n_wrong"] == 0
    assert heard["max_abs_diff"] < 1e-6  # by rounding alone
    assert heard["n_whole"] > 0
    assert heard["late"]
    assert found["streams_left"] == [0, 0]
    assert found["after"]["python_threads"] <= found["settled"]["python_threads"]
    crowd = soak.come_at_once(TTS(tiny_speakers_voice), 6, 3)
    assert crowd["utterances"] + crowd["n_told"] == 6
    assert (crowd["wrong"], crowd["errors"]) == (0, [])


def test_what_differs_is_counted(short, tiny_voice):
    tts = TTS(tiny_voice)
    utterance = soak.make_utterances(tts, 1)[0]
    arguments = {"strategy": "full", "seed": utterance.seed, "speed": utterance.speed}
    chunks = list(tts.stream(utterance.text, **arguments))
    for wrong in (utterance.whole[:-1], utterance.whole + np.float32(0.01)):
        heard = soak.Heard()
        heard.compare(utterance, chunks, whole=True)
        assert heard.n_wrong == 0
        heard.compare(replace(utterance, whole=wrong), chunks, whole=True)
        assert (heard.n_wrong, heard.n_whole) == (1, 2)
