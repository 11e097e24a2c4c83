"""A text that comes in pieces: when it was written, and when it was heard."""

from __future__ import annotations

import numpy as np
import pytest

from balacoon_tk import TTS
from balacoon_tk.audio import WordSpan
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics import LiveTrace, Piece, StreamTrace, record_live, simulate_writer
from balacoon_tk.plots import draw_live, new_figure

TEXT = "One two. Three four."
# A second of each chunk; the second one is late by half a second.
STREAM = StreamTrace(sample_rate=100, ready_s=(1.0, 2.5), n_samples=(100, 100), total_s=2.5, first_audible=0)
TRACE = LiveTrace(
    pieces=(Piece("One two. Three", 0.5), Piece(" four.", 2.0)),
    stream=STREAM,
    words=(WordSpan("One", 0.0, 0.5, (0, 3)), WordSpan("four", 1.5, 1.75, (15, 19))),
)


def test_a_writer_gives_all_of_the_text_at_its_rate():
    pieces = simulate_writer("Streaming (slowly), isn't it?\nYes. " * 100, pieces_per_s=10.0, seed=3)
    assert "".join(piece.text for piece in pieces) == "Streaming (slowly), isn't it?\nYes. " * 100
    assert pieces == simulate_writer("Streaming (slowly), isn't it?\nYes. " * 100, pieces_per_s=10.0, seed=3)
    gaps_s = np.diff([0.0, *(piece.arrives_s for piece in pieces)])
    assert (gaps_s > 0).all()
    assert np.mean(gaps_s) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_writer_writes_at_some_rate(rate):
    with pytest.raises(ParameterError, match="pieces_per_s"):
        simulate_writer(TEXT, pieces_per_s=rate)


def test_words_are_heard_when_their_chunk_plays():
    heard_s, place = TRACE.heard()
    assert heard_s.tolist() == [1.0, 1.5, 3.0, 3.25]
    assert place.tolist() == [0, 3, 15, 19]
    written_s, n_written = TRACE.written()
    assert written_s.tolist() == [0.5, 2.0] and n_written.tolist() == [14, 20]


def test_a_live_text_is_heard_before_it_is_complete(tiny_voice):
    tts = TTS(tiny_voice)
    pieces = [Piece("One two. Th", 0.0), Piece("ree four.", 0.4)]
    live, whole = (record_live(tts, pieces, strategy="full", whole=whole) for whole in (False, True))
    assert [piece.text for piece in live.pieces] == ["One two. Th", "ree four."]
    assert live.stream.ready_s[0] < live.pieces[1].arrives_s
    assert whole.pieces[1].arrives_s <= whole.stream.ready_s[0]
    assert live.words == whole.words
    assert [word.word for word in live.words] == ["One", "two", "Three", "four"]


def test_the_picture_has_what_is_written_and_what_is_heard():
    axes = new_figure(6, 4).subplots()
    silent = LiveTrace(TRACE.pieces, StreamTrace(100, (), (), 2.5, None), ())
    draw_live(axes, {"by sentence": TRACE, "silent": silent})
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["written", "by sentence: first word after 1.00 s"]
    assert [text.get_text() for text in axes.texts] == ["two.", "four."]
