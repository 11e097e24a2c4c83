"""Silence between sentences: as long as is asked for from sound to sound, and no other sample changes."""

import asyncio
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balacoon_tk import TTS, SpeechUtterance
from balacoon_tk.decoder import STRATEGIES
from balacoon_tk.errors import ParameterError
from balacoon_tk.frontend import FLUSH, NothingToSayWarning, Sentence
from balacoon_tk.pacing.pacer import Pacer
from balacoon_tk.pacing.schedule import MAX_CHUNK_S
from balacoon_tk.voice import load_voice
from test_speech_laws import chunks, seeds, sentences
from tiny_voice import SAMPLE_RATE, build_tiny_voice

pytestmark = pytest.mark.filterwarnings("ignore:the voice has no ids")
few = settings(deadline=None, max_examples=12)
SOUNDING = "'abcdefghijklmnopqrstuvwxyz"
pauses_s = st.one_of(st.none(), st.floats(0, 10))
TEXT = "So it is. And so it stays!\n\nIs it so? Never."


@pytest.fixture(scope="module")
def tts(tmp_path_factory):
    folder = build_tiny_voice(tmp_path_factory.mktemp("voices") / "pauses", streaming=True)
    return TTS(load_voice(folder, n_threads=1))


def samples_of(stream):
    return np.concatenate([np.zeros(0, np.float32), *(chunk.samples for chunk in stream)])


def silences_s(stream):
    """Return the seconds before the first sound, between those of two sentences, and behind the last."""
    silences, begins, sound_s, n_samples = [], True, 0.0, 0
    for chunk in stream:
        n_samples += len(chunk.samples)
        for span in chunk.alignment:
            if span.phoneme in SOUNDING:
                if begins:
                    silences.append(span.start_s - sound_s)
                begins, sound_s = False, span.end_s
            begins = begins or span.phoneme == "^"
    return [*silences, n_samples / SAMPLE_RATE - sound_s]


@few
@given(
    st.lists(sentences, min_size=2, max_size=3),
    pauses_s,
    pauses_s,
    chunks,
    st.sampled_from(STRATEGIES),
    seeds,
)
def test_a_pause_is_what_is_heard_and_no_other_sample_changes(
    tts, said, sentence_pause, paragraph_pause, chunk_frames, strategy, seed
):
    text = "\n\n".join([" ".join(said), said[0]])
    plain = list(tts.stream(text, seed=seed, strategy=strategy, chunk_frames=chunk_frames))
    pauses = {"sentence_pause": sentence_pause, "paragraph_pause": paragraph_pause}
    paused = list(tts.stream(text, seed=seed, strategy=strategy, chunk_frames=chunk_frames, **pauses))
    last = sentence_pause if paragraph_pause is None else paragraph_pause
    asked = [*[sentence_pause or 0.0] * (len(said) - 1), last or 0.0]
    before, *own, after = silences_s(plain)
    first, *heard, end = silences_s(paused)
    np.testing.assert_allclose(heard, np.maximum(own, asked), rtol=0, atol=0.51 / SAMPLE_RATE)
    assert (first, end) == pytest.approx((before, after))
    spoken = [chunk for chunk in paused if chunk.alignment or chunk.samples.any()]
    np.testing.assert_array_equal(samples_of(spoken), samples_of(plain))
    assert [[span.phoneme for span in chunk.alignment] for chunk in spoken] == [
        [span.phoneme for span in chunk.alignment] for chunk in plain
    ]
    starts = [0, *accumulate(len(chunk.samples) for chunk in paused)]
    assert [chunk.start_sample for chunk in paused] == starts[:-1]


def test_alone_or_streamed_or_from_a_loop_the_samples_are_the_same(tts):
    asked = {"seed": 3, "sentence_pause": 0.3, "paragraph_pause": 0.8}

    async def collect():
        return [chunk async for chunk in tts.astream(TEXT, **asked)]

    whole = tts.synthesize(TEXT, **asked)
    assert len(whole) > len(tts.synthesize(TEXT, seed=3)) + SAMPLE_RATE
    for streamed in (list(tts.stream(TEXT, **asked)), asyncio.run(collect())):
        np.testing.assert_array_equal(np.concatenate([chunk.pcm16 for chunk in streamed]), whole)


def test_an_utterance_has_its_pauses_and_its_markup(tts):
    asked = {"seed": 3, "sentence_pause": 0.5, "paragraph_pause": 0.7, "markup": "ssml"}
    text = "<speak><s>So it is</s><s>Never</s><p>Oh</p></speak>"
    utterance = SpeechUtterance(text, **asked)
    parts = iter(lambda: tts.synthesize_chunk(utterance).tobytes(), b"")
    assert b"".join(parts) == tts.synthesize(text, **asked).tobytes()


def test_sentences_of_a_frontend_of_ones_own_have_pauses_and_no_markup(tts):
    class Own:
        def phonemize(self, text):
            yield from (Sentence(word, tuple(word)) for word in text.split())

    own = TTS(tts.voice, frontend=Own())
    assert silences_s(own.stream("so it", seed=3, sentence_pause=0.5))[1] == pytest.approx(0.5, abs=0.001)
    with pytest.raises(ParameterError, match="Own must be a frontend with takes_pieces=True"):
        own.stream("so it", markup="plain")


def test_a_long_pause_comes_in_chunks_of_zeros(tts):
    stream = tts.stream("So it is. Never.", seed=3, sentence_pause=10)
    silent = [chunk for chunk in stream if not chunk.alignment]
    assert len(silent) > 10
    assert all(chunk.duration_s <= MAX_CHUNK_S and not chunk.samples.any() for chunk in silent)
    assert all(chunk.words == () for chunk in silent)


def test_a_sentence_that_was_cut_has_no_pause_inside(tts):
    text = "so it is and so it stays, " * 50
    assert len(tts.synthesize(text, seed=3, sentence_pause=5)) == len(tts.synthesize(text, seed=3))


def test_what_can_not_be_said_between_two_paragraphs_parts_them_all_the_same(tts):
    given = list(tts.stream("So it is.\n\n你好。 Never.", seed=3, paragraph_pause=1.0))
    assert silences_s(given)[1] == pytest.approx(1.0, abs=0.001)


def test_the_pacer_knows_of_the_silence_before_a_sentence(tts, monkeypatch):
    told = []
    monkeypatch.setattr(
        Pacer, "chunk_frames", lambda self, sentence, *, silence_s: told.append(silence_s) or (64,)
    )
    given = list(tts.stream(TEXT, seed=3, sentence_pause=0.5))
    silent_s = sum(chunk.duration_s for chunk in given if not chunk.alignment)
    assert (len(told), told[0], sum(told)) == (4, 0.0, pytest.approx(silent_s))


@pytest.mark.parametrize("name", ["sentence_pause", "paragraph_pause"])
@pytest.mark.parametrize("value", [-0.1, 10.1, float("nan"), "1", True])
def test_a_pause_out_of_range_is_refused_at_the_call(tts, name, value):
    with pytest.raises(ParameterError, match=rf"{name}={value!r} must be a number in \[0, 10\]"):
        tts.stream(TEXT, **{name: value})


# --- SSML ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inside", "heard_s"),
    [
        ('<break time="300ms"/>So it is.', [0.3, None]),
        ('So it is.<break time="300ms"/>', [None, 0.3]),
        ('So it<break time="300ms"/> is.', [None, 0.3, None]),
        ('So it is.<break time="1s"/><break time="500ms"/>Never.', [None, 1.5, None]),
        ('So it is.<break time="300ms"/>…<break time="300ms"/>Never.', [None, 0.6, None]),
        ('So it is.<break time="200ms"/> Never. Oh.', [None, 0.2, 0.7, None]),
        ("<p>So it is.</p><p>Never.</p>", [None, 0.9, None]),
        ("<s>So it is</s><s>Never</s>", [None, 0.7, None]),
        ('So <prosody rate="slow">it</prosody> is.', [None, None, None, None]),
        ('So <prosody rate="slow">it.</prosody> Never.', [None, None, 0.7, None]),
    ],
)
def test_a_document_says_how_long_the_silence_is(tts, inside, heard_s):
    asked = {"sentence_pause": 0.7, "paragraph_pause": 0.9}
    silences = silences_s(list(tts.stream(f"<speak>{inside}</speak>", seed=3, **asked)))
    assert len(silences) == len(heard_s)
    for silence, expected in zip(silences, heard_s, strict=True):
        assert silence == pytest.approx(expected, abs=0.001) if expected else silence < 0.2


def test_a_document_of_nothing_but_a_break_is_silence(tts):
    (chunk,) = tts.stream('<speak><break time="500ms"/></speak>')
    assert (len(chunk.samples), chunk.samples.any(), chunk.alignment) == (SAMPLE_RATE // 2, False, ())


def test_a_rate_is_a_speed_for_a_part_of_the_text(tts):
    still = {"noise_w": 0, "noise_scale": 0}
    given = samples_of(tts.stream('<speak>So. <prosody rate="50%">Never.</prosody> Oh.</speak>', **still))
    parts = [tts.stream("So.", **still), tts.stream("Never.", speed=0.5, **still), tts.stream("Oh.", **still)]
    np.testing.assert_array_equal(given, np.concatenate([samples_of(part) for part in parts]))


def test_rate_and_speed_together_stay_within_what_is_spoken(tts):
    text = '<speak><prosody rate="10%">So it is.</prosody></speak>'
    assert samples_of(tts.stream(text, speed=0.1)).size
    assert samples_of(tts.stream(text.replace("10%", "1000%"), speed=10)).size


def test_plain_text_stays_plain_and_what_is_asked_for_counts(tts):
    text = "<speak>So it is.</speak>"
    assert len(tts.synthesize(text, seed=3)) == len(tts.synthesize("So it is.", seed=3))
    assert len(tts.synthesize(text, seed=3, markup="plain")) > len(tts.synthesize("So it is.", seed=3))
    with pytest.raises(ParameterError, match="SSML, line 1, column 1"):
        tts.stream("So it is.", markup="ssml")
    with pytest.raises(ParameterError, match="markup='xml' must be None or one of plain, markdown, ssml"):
        tts.stream("So it is.", markup="xml")


@pytest.mark.parametrize("blank", ["\n \n", "\ufeff", " \ufeff\n"])
def test_white_space_may_stand_before_a_document(tts, blank):
    text = f"{blank}<?xml version='1.0'?>\n<speak>So it is.</speak>\n"
    expected = tts.synthesize("So it is.", seed=3)
    for markup in (None, "ssml"):
        for pieces in (text, list(text), [text]):
            np.testing.assert_array_equal(tts.synthesize(pieces, seed=3, markup=markup), expected)


@pytest.mark.parametrize("markup", [None, "ssml", "markdown", "plain"])
def test_nothing_is_said_of_nothing(tts, markup):
    for text in ("", "  \n", [], ["", " "], [FLUSH]):
        with pytest.warns(NothingToSayWarning):
            assert len(tts.synthesize(text, markup=markup)) == 0


def test_a_document_that_is_not_well_formed_is_refused_at_the_call(tts):
    with pytest.raises(ParameterError, match="SSML, line 3, column 1"):
        tts.stream("\n\n<s/>", markup="ssml")
    with pytest.raises(ParameterError, match="line 2, column 6: not well formed: mismatched tag"):
        tts.stream("<speak>So it is.\n<s></speak>")


DOCUMENT = (
    '<speak>\n<p>So it is<break time="200ms"/> and <prosody rate="slow">so it</prosody> stays.</p>'
    '<s>Never</s> <sub alias="oh">o</sub>!<break time="1s"/></speak>'
)


@few
@given(st.data(), seeds)
def test_no_way_to_cut_a_document_changes_a_sample(tts, data, seed):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(DOCUMENT)), max_size=8)))
    pieces = [DOCUMENT[start:stop] for start, stop in pairwise([0, *cuts, len(DOCUMENT)])]
    asked = {"seed": seed, "sentence_pause": 0.3}
    np.testing.assert_array_equal(tts.synthesize(pieces, **asked), tts.synthesize(DOCUMENT, **asked))


def test_flush_ends_a_sentence_of_a_document_and_another_text_may_follow_it(tts):
    pieces = [
        "<speak>So it",
        FLUSH,
        " is.",
        FLUSH,
        "</speak>",
        FLUSH,
        "Never <so>",
        FLUSH,
        "<speak>Oh.</speak>",
    ]
    words = [word.word for chunk in tts.stream(pieces) for word in chunk.words]
    assert words == ["So", "it", "is", "Never", "<so>", "Oh"]


def test_a_fault_in_a_documents_pieces_comes_after_what_was_before_it(tts):
    stream = tts.stream(["<speak><s>So it is.</s> Never", "</s></speak>"])
    heard = []
    with pytest.raises(ParameterError, match="line 1, column 32: not well formed: mismatched tag"):
        heard.extend(stream)
    assert [word.word for chunk in heard for word in chunk.words] == ["So", "it", "is", "Never"]
