"""Text to speech on a tiny voice: the laws that hold for every strategy, text and chunk size."""

import itertools
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from balacoon_tk import TTS, AudioChunk, SpeechUtterance
from balacoon_tk.audio import to_pcm16
from balacoon_tk.decoder import STRATEGIES
from balacoon_tk.errors import ModelError, ParameterError, StreamStateError
from balacoon_tk.frontend import NothingToSayWarning, PhonemeMap, Sentence, UnknownPhonemeWarning
from balacoon_tk.stages.random import noise_stream
from balacoon_tk.stages.settings import Prosody
from balacoon_tk.stages.upsampler import Upsampler
from balacoon_tk.voice import load_voice
from balacoon_tk.voice.manifest import ProsodyDefaults
from tiny_voice import (
    HOP_LENGTH,
    SAMPLE_RATE,
    SPEAKERS,
    build_tiny_voice,
    decoder_model,
    encoder_model,
    write_voice,
)

TEXTS = ["a", "it is", "one, two; three and four!", "So it is. Is it so? It is, and so it stays. Oh."]
CHUNK_FRAMES = [1, 7, 64, 100_000, (1, 2, 3), [16, 32, 64]]
SETTINGS = {"strategy": "overlap", "seed": 5}
# Only the rounding of different matrix shapes separates the strategies: the voice is tiny.
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def tts(tiny_voice):
    return TTS(tiny_voice)


@pytest.fixture(scope="module")
def many(tiny_speakers_voice):
    return TTS(tiny_speakers_voice)


@pytest.fixture(scope="module")
def streaming_tts(tmp_path_factory):
    folder = build_tiny_voice(tmp_path_factory.mktemp("voices") / "streaming", streaming=True)
    return TTS(load_voice(folder, n_threads=1))


def samples_of(chunks):
    return np.concatenate([np.zeros(0, np.float32), *(chunk.samples for chunk in chunks)])


# --- a stream is the whole, cut ------------------------------------------------------------------


@pytest.mark.parametrize("chunk_frames", CHUNK_FRAMES)
@pytest.mark.parametrize("text", TEXTS)
def test_stream_equals_whole(tts, text, chunk_frames):
    whole = samples_of(tts.stream(text, strategy="full", seed=5))
    parts = samples_of(tts.stream(text, strategy="overlap", seed=5, chunk_frames=chunk_frames))
    assert len(whole) > 0
    np.testing.assert_allclose(parts, whole, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("chunk_frames", CHUNK_FRAMES)
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_equals_whole_on_a_stateful_graph(streaming_tts, strategy, text, chunk_frames):
    whole = samples_of(streaming_tts.stream(text, strategy="full", seed=5))
    parts = samples_of(streaming_tts.stream(text, strategy=strategy, seed=5, chunk_frames=chunk_frames))
    np.testing.assert_allclose(parts, whole, rtol=0, atol=TOLERANCE)


def test_a_stateful_graph_speaks_as_the_graph_it_was_made_from(streaming_tts, tts):
    for text in TEXTS:
        rewritten = samples_of(streaming_tts.stream(text, strategy="full", seed=5))
        original = samples_of(tts.stream(text, strategy="full", seed=5))
        np.testing.assert_allclose(rewritten, original, rtol=0, atol=TOLERANCE)


def test_a_stateful_graph_streams_every_speaker(tmp_path, many):
    streaming = TTS(build_tiny_voice(tmp_path / "voice", SPEAKERS, streaming=True), n_threads=1)
    for speaker in SPEAKERS:
        whole = samples_of(many.stream(TEXTS[-1], strategy="full", seed=5, speaker=speaker))
        for strategy in STRATEGIES:
            parts = samples_of(streaming.stream(TEXTS[-1], strategy=strategy, seed=5, speaker=speaker))
            np.testing.assert_allclose(parts, whole, rtol=0, atol=TOLERANCE)


def test_stateful_is_chosen_where_the_voice_can(streaming_tts):
    assert streaming_tts.strategies == STRATEGIES
    chosen = samples_of(streaming_tts.stream(TEXTS[-1], seed=5))
    assert np.array_equal(chosen, samples_of(streaming_tts.stream(TEXTS[-1], seed=5, strategy="stateful")))


def test_overlap_is_chosen_with_a_warning_where_it_cannot(tts):
    with pytest.warns(UserWarning, match="tiny is streamed with strategy='overlap'") as warned:
        chosen = samples_of(tts.stream(TEXTS[-1], seed=5))
    assert [warning.filename for warning in warned] == [__file__]
    assert np.array_equal(chosen, samples_of(tts.stream(TEXTS[-1], **SETTINGS)))


def test_synthesize_joins_the_full_stream_as_int16(tts):
    samples = tts.synthesize(TEXTS[-1], seed=5)
    assert samples.dtype == np.int16
    whole = samples_of(tts.stream(TEXTS[-1], strategy="full", seed=5))
    assert np.array_equal(samples, to_pcm16(whole))


@pytest.mark.parametrize("chunk_frames", CHUNK_FRAMES)
@pytest.mark.parametrize("strategy", ["full", "overlap"])
def test_chunks_tile_the_utterance(tts, strategy, chunk_frames):
    chunks = list(tts.stream(TEXTS[-1], strategy=strategy, seed=5, chunk_frames=chunk_frames))
    assert all(isinstance(chunk, AudioChunk) and chunk.sample_rate == SAMPLE_RATE for chunk in chunks)
    assert all(chunk.samples.dtype == np.float32 and chunk.samples.shape == (n,) and n > 0
               for chunk in chunks for n in [len(chunk.samples)])  # fmt: skip
    starts = list(itertools.accumulate((len(chunk.samples) for chunk in chunks), initial=0))
    assert [chunk.start_sample for chunk in chunks] == starts[:-1]
    assert starts[-1] % HOP_LENGTH == 0


def test_chunks_have_the_size_that_was_asked_for(tts):
    sizes = [len(c.samples) // HOP_LENGTH for c in tts.stream("a" * 60, chunk_frames=(4, 8, 16), **SETTINGS)]
    assert sizes[:4] == [4, 8, 16, 16]
    assert set(sizes[2:-1]) == {16}


def test_the_first_chunk_of_a_stateful_stream_is_whole_in_spite_of_the_lag(streaming_tts):
    chunk = next(streaming_tts.stream("a" * 60, strategy="stateful", seed=5, chunk_frames=4))
    assert len(chunk.samples) >= 4 * HOP_LENGTH


def test_full_gives_one_chunk_per_sentence(tts):
    assert len(list(tts.stream("So it is. Is it so? Oh.", strategy="full", seed=5, chunk_frames=1))) == 3


def test_a_chunk_does_not_change_when_the_next_one_is_made(tts):
    chunks, copies = [], []
    for chunk in tts.stream(TEXTS[-1], chunk_frames=3, **SETTINGS):
        chunks.append(chunk.samples)
        copies.append(chunk.samples.copy())
    assert all(map(np.array_equal, chunks, copies))


def test_the_whole_is_the_stages_one_after_the_other(tts, tiny_voice):
    start, wholes = 0, list(tts.stream("So it is. Is it so?", strategy="full", seed=5, noise_w=0.5))
    for index, (text, whole) in enumerate(zip(["so it is.", "is it so?"], wholes, strict=True)):
        encoded = PhonemeMap(tiny_voice.manifest.frontend.phoneme_ids).encode(text)
        encoding = tiny_voice.encoder.encode(
            encoded.phoneme_ids, noise_w=0.5, seed=5, stream=noise_stream(index, "durations")
        )
        frames = Upsampler(
            encoding.encodings,
            encoding.durations,
            log_scales=encoding.log_scales,
            noise_scale=tiny_voice.manifest.prosody.noise_scale,
            seed=5,
            stream=noise_stream(index, "frames"),
        ).window(0, encoding.n_frames)
        samples = tiny_voice.decoder.whole({"frames": frames[None]})["samples"]
        assert np.array_equal(whole.samples, samples.ravel())
        assert whole.start_sample == start
        start += samples.size


# --- alignment -----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_frames", CHUNK_FRAMES)
@pytest.mark.parametrize("text", [*TEXTS, "don't'", "'a'"])
def test_alignment_covers_the_utterance_once_and_in_order(tts, text, chunk_frames):
    chunks = list(tts.stream(text, chunk_frames=chunk_frames, **SETTINGS))
    spans = [span for chunk in chunks for span in chunk.alignment]
    assert spans[0].start_s == 0.0
    assert spans[-1].end_s == sum(len(chunk.samples) for chunk in chunks) / SAMPLE_RATE
    assert all(before.end_s == after.start_s for before, after in itertools.pairwise(spans))
    assert all(span.start_s <= span.end_s for span in spans)
    spoken = "".join(span.phoneme for span in spans if span.phoneme not in "^$")
    assert spoken == text.lower().replace(". ", ".").replace("? ", "?")


def test_a_phoneme_stands_in_the_chunk_in_which_it_begins(tts):
    for chunk in tts.stream(TEXTS[-1], chunk_frames=5, **SETTINGS):
        end_s = (chunk.start_sample + len(chunk.samples)) / SAMPLE_RATE
        assert all(chunk.start_s <= span.start_s <= end_s for span in chunk.alignment)


def test_alignment_does_not_depend_on_the_chunks(tts):
    def spans(**settings):
        chunks = tts.stream(TEXTS[-1], seed=5, **settings)
        return [span for chunk in chunks for span in chunk.alignment]

    expected = spans(strategy="full")
    assert all(spans(strategy="overlap", chunk_frames=size) == expected for size in CHUNK_FRAMES)


# --- seeds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1, np.int64(7)])
def test_equal_seeds_give_equal_audio(tts, seed):
    assert np.array_equal(tts.synthesize(TEXTS[-1], seed=seed), tts.synthesize(TEXTS[-1], seed=int(seed)))


def test_other_seeds_give_other_audio(tts):
    for one, other in [(0, 1), (1, 2**32 + 1), (None, None)]:
        assert not np.array_equal(tts.synthesize(TEXTS[-1], seed=one), tts.synthesize(TEXTS[-1], seed=other))


def test_without_noise_the_seed_does_not_matter(tts):
    quiet = [tts.synthesize(TEXTS[-1], seed=seed, noise_scale=0, noise_w=0) for seed in (1, 2)]
    assert np.array_equal(*quiet)
    for noise in ({"noise_scale": 0}, {"noise_w": 0}):
        one, other = (tts.synthesize(TEXTS[-1], seed=seed, **noise) for seed in (1, 2))
        assert not np.array_equal(one, other)


def test_equal_sentences_of_one_text_have_noise_of_their_own(tts):
    first, second = (c.samples for c in tts.stream("So it is. So it is.", strategy="full", seed=5, noise_w=0))
    assert first.shape == second.shape
    assert not np.array_equal(first, second)
    silent = [
        c.samples
        for c in tts.stream("So it is. So it is.", strategy="full", seed=5, noise_w=0, noise_scale=0)
    ]
    assert np.array_equal(*silent)


def test_a_sentence_does_not_depend_on_what_follows(tts):
    alone = tts.synthesize("So it is.", seed=5)
    followed = tts.synthesize("So it is. And more.", seed=5)
    assert np.array_equal(followed[: len(alone)], alone)


# --- settings ------------------------------------------------------------------------------------


def test_speakers_are_known_by_name(tts, many):
    assert tts.get_speakers() == ["tiny"]
    assert many.get_speakers() == ["ada", "bob", "7"]
    assert tts.get_sampling_rate() == SAMPLE_RATE


def test_speakers_sound_different_and_the_first_is_the_default(many):
    ada, bob, seven = (many.synthesize("it is", speaker, 5) for speaker in many.get_speakers())
    assert np.array_equal(ada, many.synthesize("it is", seed=5))
    assert np.array_equal(bob, many.synthesize("it is", 1, 5))
    assert not np.array_equal(ada, bob)
    assert not np.array_equal(bob, seven)


def test_speakers_stream_as_they_speak_whole(many):
    for speaker in many.get_speakers():
        whole = samples_of(many.stream(TEXTS[-1], strategy="full", seed=5, speaker=speaker))
        parts = samples_of(many.stream(TEXTS[-1], speaker=speaker, chunk_frames=7, **SETTINGS))
        np.testing.assert_allclose(parts, whole, rtol=0, atol=TOLERANCE)


def test_speed_is_the_inverse_of_length(tts):
    lengths = [len(tts.synthesize("so it is " * 20, seed=5, speed=speed)) for speed in (0.5, 1.0, 2.0)]
    assert lengths[0] == pytest.approx(2 * lengths[1], rel=0.15)
    assert lengths[1] == pytest.approx(2 * lengths[2], rel=0.25)  # durations are rounded up


def test_volume_scales_the_samples(tts):
    whole = samples_of(tts.stream(TEXTS[1], **SETTINGS))
    loud = samples_of(tts.stream(TEXTS[1], volume=3.0, **SETTINGS))
    assert np.array_equal(loud, whole * np.float32(3))
    assert loud.dtype == np.float32
    assert not tts.synthesize(TEXTS[1], seed=5, volume=0).any()


def test_what_is_too_loud_saturates_as_int16(tts):
    samples = tts.synthesize(TEXTS[-1], seed=5, volume=10)
    assert samples.max() == 32767
    expected = np.clip(10 * samples_of(tts.stream(TEXTS[-1], strategy="full", seed=5)), -1, 1)
    np.testing.assert_allclose(samples / 32767, expected, atol=1 / 32767)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": None}, "text=None must be a str"),
        ({"text": b"so"}, "text=b'so' must be a str"),
        ({"text": "so [[it"}, "opens raw phonemes"),
        ({"strategy": "fast"}, "strategy='fast' must be one of full, overlap"),
        ({"strategy": "stateful"}, "strategy='stateful': the decoder of tiny can't be streamed exactly"),
        ({"seed": -1}, r"seed=-1 must be in \[0, 2\*\*64\)"),
        ({"seed": 2**64}, "seed=18446744073709551616 must be in"),
        ({"seed": 1.0}, "seed=1.0 must be an integer"),
        ({"seed": "1"}, "seed='1' must be an integer"),
        ({"seed": True}, "seed=True must be an integer"),
        ({"speaker": "eve"}, "speaker='eve' must be one of tiny"),
        ({"speaker": 1}, "speaker=1 must be one of tiny, or an id below 1"),
        ({"chunk_frames": 0}, "chunk_frames=0 must be one or more numbers >= 1"),
        ({"chunk_frames": (16, -1)}, r"chunk_frames=\(16, -1\) must be one or more"),
        ({"chunk_frames": ()}, r"chunk_frames=\(\) must be one or more"),
        ({"chunk_frames": 1.5}, "chunk_frames=1.5 must be an integer"),
        ({"chunk_frames": "16"}, "chunk_frames='1' must be an integer"),
        ({"speed": 0}, r"speed=0 must be a number in \[0.1, 10\]"),
        ({"speed": -1}, "speed=-1 must be"),
        ({"speed": float("nan")}, "speed=nan must be"),
        ({"speed": float("inf")}, "speed=inf must be"),
        ({"speed": None}, "speed=None must be"),
        ({"speed": "2"}, "speed='2' must be"),
        ({"speed": 10**400}, "speed=1000"),
        ({"volume": -0.1}, r"volume=-0.1 must be a number in \[0, 10\]"),
        ({"noise_scale": -1}, "noise_scale=-1 must be"),
        ({"noise_w": 5}, r"noise_w=5 must be a number in \[0, 2\]"),
    ],
)
def test_a_wrong_argument_is_refused_at_the_call(tts, arguments, message):
    settings = {"text": "so", "strategy": "overlap"} | arguments
    with pytest.raises(ParameterError, match=message):
        tts.stream(settings.pop("text"), **settings)  # before the first next()


# --- texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", " ", "\n\t \u00a0", "...", "?!", "\U0001f600 \u2192", "\x00\x07\u200b", "[[]]", "[[.]]"]
)
def test_nothing_to_say_gives_no_samples_and_a_warning(tts, text):
    with pytest.warns(NothingToSayWarning):
        assert list(tts.stream(text, **SETTINGS)) == []
    with pytest.warns(NothingToSayWarning):
        samples = tts.synthesize(text, seed=5)
    assert samples.shape == (0,)
    assert samples.dtype == np.int16


def test_a_script_that_the_voice_does_not_know_gives_no_samples_and_one_warning(tiny_voice):
    tts = TTS(tiny_voice)
    with pytest.warns(UnknownPhonemeWarning, match="no ids for these phonemes") as warned:
        assert tts.synthesize("你好。你好").shape == (0,)
    assert len(warned) == 1


def test_unknown_symbols_are_skipped(tiny_voice):
    tts = TTS(tiny_voice)
    with pytest.warns(UnknownPhonemeWarning):
        odd = tts.synthesize("so 7it8 is", seed=5)
    assert np.array_equal(odd, tts.synthesize("so it is", seed=5))


def test_sentences_without_a_known_phoneme_leave_no_gap_in_the_noise(tiny_voice):
    tts = TTS(tiny_voice)
    with pytest.warns(UnknownPhonemeWarning):
        odd = tts.synthesize("你好。 so it is.", seed=5)
    assert np.array_equal(odd, tts.synthesize("so it is.", seed=5))


class CountingFrontend:
    """Gives endless sentences and counts how many were asked for."""

    def __init__(self):
        self.n_sentences = 0

    def phonemize(self, text):
        while True:
            self.n_sentences += 1
            yield Sentence(text, tuple(text))


def test_a_text_of_any_length_starts_at_once(tiny_voice):
    frontend = CountingFrontend()
    stream = TTS(tiny_voice, frontend=frontend).stream("so it is " * 40, chunk_frames=4, **SETTINGS)
    assert frontend.n_sentences == 0
    next(stream)
    assert frontend.n_sentences == 1


def test_a_text_of_ten_minutes_is_spoken_to_its_end(tts):
    words = 1500  # ten minutes at 150 words a minute
    text = "so it is and so it stays. " * (words // 7)
    stop = 0
    for chunk in tts.stream(text, **SETTINGS):
        assert chunk.start_sample == stop
        stop += len(chunk.samples)
    assert stop == len(tts.synthesize(text, seed=5))


def test_phonemes_that_all_last_no_frame_give_no_samples(tmp_path):
    folder = write_voice(tmp_path / "voice", encoder_model(duration_factor=0.0), decoder_model())
    voice = TTS(folder)
    assert voice.synthesize("so it is").shape == (0,)
    assert list(voice.stream("so it is", **SETTINGS)) == []


def test_durations_that_only_slow_speech_breaks_are_cut_off(tmp_path):
    # The settings were accepted at the call, so they may not fail later.
    slow = TTS(write_voice(tmp_path / "voice", encoder_model(duration_factor=300), decoder_model()))
    chunks = list(slow.stream("so", speed=0.1, **SETTINGS))
    frames = sum(len(chunk.samples) for chunk in chunks) / slow.voice.manifest.hop_length
    assert 2000 < frames <= 2000 * len(slow.phoneme_map.encode("so").phoneme_ids)


@pytest.mark.parametrize("speed", [0.1, 10])
@pytest.mark.parametrize("noise_w", [0, 2])
@pytest.mark.parametrize("noise_scale", [0, 10])
def test_settings_at_their_limits_speak(tts, speed, noise_w, noise_scale):
    settings = {"speed": speed, "noise_w": noise_w, "noise_scale": noise_scale, "volume": 10}
    assert np.isfinite(tts.synthesize("so it is", seed=3, **settings).astype(float)).all()


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"noise_w": 5.0}, r"the voice's own noise_w=5.0 must be a number in \[0, 2\]"),
        ({"noise_scale": -1.0}, r"the voice's own noise_scale=-1.0 must be a number in \[0, 10\]"),
        (
            {"length_scale": 3.0},
            r"speed=0.1 with the voice's own length_scale=3 .* it must be 0.01 to 20 times",
        ),
    ],
)
def test_the_settings_of_a_voice_have_the_same_limits(own, message):
    with pytest.raises(ParameterError, match=message):
        Prosody.choose(ProsodyDefaults(**own), speed=0.1)


# --- streams are independent ---------------------------------------------------------------------


def test_a_stream_may_be_left_anywhere_and_the_next_starts_clean(tts):
    expected = samples_of(tts.stream(TEXTS[-1], **SETTINGS))
    n_chunks = len(list(tts.stream(TEXTS[-1], **SETTINGS)))
    for n_taken in range(n_chunks):
        stream = tts.stream(TEXTS[-1], **SETTINGS)
        for _ in itertools.islice(stream, n_taken):
            pass
        stream.close()
        assert next(stream, None) is None
        assert np.array_equal(samples_of(tts.stream(TEXTS[-1], **SETTINGS)), expected)


def test_streams_may_be_taken_in_turn(tts):
    one, other = (tts.stream(TEXTS[-1], strategy="overlap", seed=seed, chunk_frames=3) for seed in (1, 2))
    parts = list(itertools.zip_longest(one, other))
    for i, seed in enumerate((1, 2)):
        expected = samples_of(tts.stream(TEXTS[-1], strategy="overlap", seed=seed, chunk_frames=3))
        assert np.array_equal(samples_of(part[i] for part in parts if part[i]), expected)


def test_eight_threads_get_what_one_gets(many):
    jobs = [(TEXTS[i % 4], i % 3, i, 1 + i % 5) for i in range(40)]
    barrier = threading.Barrier(8)

    def speak(job):
        text, speaker, seed, chunk_frames = job
        stream = many.stream(text, strategy="overlap", speaker=speaker, seed=seed, chunk_frames=chunk_frames)
        return samples_of(stream)

    def start_together():
        barrier.wait(timeout=60)

    expected = [speak(job) for job in jobs]
    with ThreadPoolExecutor(8, initializer=start_together) as pool:
        assert all(map(np.array_equal, pool.map(speak, jobs), expected))


# --- chunked synthesis ---------------------------------------------------------------------------

LEAVE_WARNING = pytest.mark.filterwarnings("ignore:tiny is streamed with strategy='overlap'")


@LEAVE_WARNING
def test_chunks_of_an_utterance_are_its_stream_and_then_nothing(tts):
    utterance, parts = SpeechUtterance(TEXTS[-1], seed=5), []
    while len(samples := tts.synthesize_chunk(utterance)):
        parts.append(samples)
    assert all(part.dtype == np.int16 for part in parts)
    assert len(parts) > 1
    assert np.array_equal(np.concatenate(parts), to_pcm16(samples_of(tts.stream(TEXTS[-1], **SETTINGS))))
    for _ in range(3):
        after = tts.synthesize_chunk(utterance)
        assert (after.shape, after.dtype) == ((0,), np.int16)


@LEAVE_WARNING
def test_an_utterance_with_nothing_to_say_is_over_at_once(tts):
    with pytest.warns(NothingToSayWarning):
        assert tts.synthesize_chunk(SpeechUtterance("  ")).shape == (0,)


@LEAVE_WARNING
def test_an_utterance_keeps_its_speaker(many):
    utterance = SpeechUtterance(TEXTS[-1], seed=5)
    first = many.synthesize_chunk(utterance, "bob")
    assert np.array_equal(first, next(many.stream(TEXTS[-1], speaker="bob", **SETTINGS)).pcm16)
    for same in (None, "bob", 1, "1"):
        assert len(many.synthesize_chunk(utterance, same))
    with pytest.raises(StreamStateError, match="speaker='ada' can't take over in the middle"):
        many.synthesize_chunk(utterance, "ada")
    with pytest.raises(ParameterError, match="speaker='eve' must be one of"):
        many.synthesize_chunk(utterance, "eve")
    assert len(many.synthesize_chunk(utterance))


@LEAVE_WARNING
def test_an_utterance_belongs_to_the_tts_that_began_it(tts, many):
    utterance = SpeechUtterance(TEXTS[-1])
    tts.synthesize_chunk(utterance)
    with pytest.raises(StreamStateError, match="begun by another TTS"):
        many.synthesize_chunk(utterance)


def test_a_call_that_failed_does_not_begin_the_utterance(tts):
    utterance = SpeechUtterance("so", seed=5)
    with pytest.raises(ParameterError, match="speaker='eve'"):
        tts.synthesize_chunk(utterance, "eve")
    with pytest.warns(UserWarning, match="overlap"):
        assert len(tts.synthesize_chunk(utterance))


# --- making one ----------------------------------------------------------------------------------


def test_a_tts_is_made_of_a_path_or_a_voice(tiny_voice_folder, tiny_voice, tts):
    assert TTS(tiny_voice).voice is tiny_voice
    for path in (tiny_voice_folder, str(tiny_voice_folder)):
        assert np.array_equal(TTS(path, n_threads=1).synthesize("so", seed=5), tts.synthesize("so", seed=5))


def test_threads_are_for_a_voice_that_is_not_loaded_yet(tiny_voice):
    with pytest.raises(ParameterError, match="n_threads=2 must be None for a voice that is loaded already"):
        TTS(tiny_voice, n_threads=2)


def test_a_backend_that_does_not_fit_the_voice_is_refused(tiny_voice):
    with pytest.raises(ParameterError, match="backend='espeak' must be one of auto, text"):
        TTS(tiny_voice, frontend="espeak")


def test_a_frontend_that_cannot_be_made_is_refused_after_the_voice_was_looked_at(tiny_voice_folder, tmp_path):
    with pytest.raises(ParameterError, match="backend='espeak' must be one of auto, text"):
        TTS(tiny_voice_folder, frontend="espeak")
    with pytest.raises(ModelError, match="no such voice folder"):
        TTS(tmp_path / "nowhere", frontend="espeak")
    broken = shutil.copytree(tiny_voice_folder, tmp_path / "broken")
    (broken / "decoder.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match=r"decoder\.onnx is damaged"):
        TTS(broken, frontend="espeak")
    names = {thread.name for thread in threading.enumerate()}
    assert not names & {"make-frontend", "load-decoder"}
