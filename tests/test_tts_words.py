"""Words as they sound: each once, in order, in the caller's own words, when and where they are said."""

import copy
import pickle
import threading
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balacoon_tk import TTS
from balacoon_tk.decoder import STRATEGIES
from balacoon_tk.frontend import CharacterFrontend, Sentence
from balacoon_tk.voice import load_voice
from frontend_sentences import in_threads
from test_speech_laws import chunks, seeds, texts
from tiny_voice import SAMPLE_RATE, build_tiny_voice

pytestmark = pytest.mark.filterwarnings("ignore:the voice has no ids")
few = settings(deadline=None, max_examples=15)


@pytest.fixture(scope="module")
def tts(tmp_path_factory):
    folder = build_tiny_voice(tmp_path_factory.mktemp("voices") / "words", streaming=True)
    return TTS(load_voice(folder, n_threads=1))


def words_of(stream):
    return [word for chunk in stream for word in chunk.words]


@few
@given(texts, chunks, st.sampled_from(STRATEGIES), seeds, st.sampled_from([None, 0.5]))
def test_the_words_of_all_chunks_are_those_of_the_text_once_each(
    tts, text, chunk_frames, strategy, seed, sentence_pause
):
    given = list(
        tts.stream(
            text, strategy=strategy, seed=seed, chunk_frames=chunk_frames, sentence_pause=sentence_pause
        )
    )
    words = words_of(given)
    assert [word.word for word in words] == [word.strip(".?!") for word in text.split()]
    assert all(text[slice(*word.text_span)] == word.word for word in words)
    spans = [span for chunk in given for span in chunk.alignment]
    letters = [span for span in spans if span.phoneme.isalpha()]
    for word in words:
        own, letters = letters[: len(word.word)], letters[len(word.word) :]
        assert "".join(span.phoneme for span in own) == word.word.lower()
        assert (word.start_s, word.end_s) == (own[0].start_s, own[-1].end_s)
    for chunk in given:
        begins = [round(word.start_s * SAMPLE_RATE) - chunk.start_sample for word in chunk.words]
        assert all(0 <= begin < len(chunk.samples) for begin in begins)


def test_a_text_of_more_than_a_sentence_may_have_keeps_all_its_words(tts):
    text = "so it is and so it stays, " * 60
    assert [word.word for word in words_of(tts.stream(text))] == text.replace(",", "").split()


def test_raw_phonemes_are_a_word_as_they_are_written(tts):
    text = "So [[it is]] re[[mark]]able."
    assert [word.word for word in words_of(tts.stream(text))] == ["So", "[[it is]]", "re[[mark]]able"]


def test_cleaning_keeps_the_places_of_words(tts):
    text = "“So”\u00a0\u00adit \U0001f600 i\u0301s\r\n—  naïve!"
    words = words_of(tts.stream(text))
    assert [word.word for word in words] == ["So", "it", "i\u0301s", "naïve"]
    assert [text[slice(*word.text_span)] for word in words] == [word.word for word in words]


def test_words_of_a_document_stand_in_its_text(tts):
    text = '<speak>So &amp; <sub alias="it is">it\'s</sub> '
    text += '<say-as interpret-as="characters">ab</say-as>.</speak>'
    words = words_of(tts.stream(text))
    assert [word.word for word in words] == ["So", "it's", "ab"]
    assert [text[slice(*word.text_span)] for word in words] == [word.word for word in words]


class Counting(CharacterFrontend):
    """Counts what the backend is asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def phonemize(self, *text):
        for sentence in super().phonemize(*text):
            sentence.words._say = partial(self.say, sentence.words._say)
            yield sentence

    def say(self, say, word, raws):
        self.asked.append(word)
        return say(word, raws)


def test_who_does_not_ask_for_words_pays_nothing_and_who_asks_pays_once(tiny_voice):
    frontend = Counting()
    given = list(TTS(tiny_voice, frontend=frontend).stream("So it is.", chunk_frames=1, strategy="overlap"))
    assert frontend.asked == []
    first = words_of(given)
    assert frontend.asked == ["So", "it", "is"]
    assert words_of(given) == first
    assert frontend.asked == ["So", "it", "is"]


def test_words_may_be_asked_for_by_any_thread_after_the_stream_is_closed(tts):
    stream = tts.stream("So it is and so it stays. Never.", chunk_frames=20, strategy="overlap", seed=3)
    given = [next(stream), next(stream)]
    stream.close()
    found = []
    in_threads([lambda: found.append([chunk.words for chunk in given])] * 8)
    assert len(found) == 8
    assert all(each == found[0] for each in found)
    assert [word.word for words in found[0] for word in words][:2] == ["So", "it"]
    assert threading.active_count() < 8


def test_a_chunk_is_pickled_and_copied_with_its_words(tts):
    for chunk in tts.stream("So it is. Never."):
        for other in (pickle.loads(pickle.dumps(chunk)), copy.deepcopy(chunk)):
            assert (other.words, other.alignment) == (chunk.words, chunk.alignment)
            assert (other.samples == chunk.samples).all()


def test_a_frontend_that_knows_no_places_gives_no_words(tiny_voice):
    class Own:
        def phonemize(self, text):
            yield Sentence(text, tuple(text))

    given = list(TTS(tiny_voice, frontend=Own()).stream("so it is", strategy="overlap"))
    assert [chunk.words for chunk in given] == [()] * len(given)


def test_what_words_ask_of_a_backend_is_not_named_again(tts, recwarn):
    words_of(tts.stream("So it is."))
    assert not recwarn


@pytest.mark.voice
@pytest.mark.parametrize("frontend", ["espeak", "gruut"])
def test_words_that_a_backend_joins_and_links_sound_one_after_the_other(default_tts, frontend):
    text = "More of the other people would have had to be there, didn't they, in the well-known (old) house?"
    words = words_of(TTS(default_tts.voice, frontend=frontend).stream(text, seed=1))
    assert [word.word for word in words] == [word.strip(",()?") for word in text.split()]
    assert all(word.start_s < word.end_s for word in words)
    assert all(one.end_s <= other.start_s for one, other in pairwise(words))


@few
@given(texts, st.data(), seeds)
def test_words_of_pieces_are_those_of_the_whole(tts, text, data, seed):
    text = data.draw(st.sampled_from(["{}", "<speak>{}</speak>", "“{}” \u00e9 [[a]]"])).format(text)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:stop] for start, stop in pairwise([0, *cuts, len(text)])]
    assert words_of(tts.stream(pieces, seed=seed)) == words_of(tts.stream(text, seed=seed))


def test_words_of_a_text_without_end_are_found_to_its_end(tts):
    pieces = ["\U0001f600 "] * 50_000 + ["So it is. "] * 3
    words = words_of(tts.stream(iter(pieces)))
    assert [word.word for word in words] == ["So", "it", "is"] * 3
    assert words[0].text_span == (100_000, 100_002)
