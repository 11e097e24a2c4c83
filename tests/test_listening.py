"""Listening tests: blind, at one loudness, kept, and counted as binomials are."""

import csv
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balacoon_tk.errors import MissingExtraError, ParameterError, StreamStateError
from balacoon_tk.player import ABTest, ABXTest
from balacoon_tk.player.answers import Answer, read_answers, to_csv, write_answers
from balacoon_tk.player.loudness import TARGET_LUFS, loudness_lufs, match_levels
from balacoon_tk.player.tally import count_answers
from balacoon_tk.player.trials import plan_trials

RATE = 8000
SENTENCES = ["One.", "Two, and a comma.", 'Three "quoted"\nover two lines.']


def tone(level, hz=1000.0, seconds=0.5):
    return (level * np.sin(2 * math.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def loud(_sentence):
    return tone(0.5)


def soft(_sentence):
    return np.rint(32767 * tone(0.1, hz=500.0)).astype(np.int16)


SYSTEMS = {"loud": loud, "soft": soft}


@pytest.fixture
def make(tmp_path):
    made = []

    def make(kind=ABTest, systems=SYSTEMS, sentences=SENTENCES, **options):
        made.append(kind(systems, sentences, **{"sample_rate": RATE, "path": tmp_path / "a.csv"} | options))
        return made[-1]

    yield make
    for test in made:
        test.close()


def run(test, choose):
    while test.trial is not None:
        test.answer(choose(test.trial))
        test.next()


# --- the order --------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**63 - 1), st.booleans(), st.text(max_size=5))
def test_each_sentence_comes_as_often_and_each_name_is_a_half_of_the_time(n, repeats, seed, with_x, listener):
    sentences = [str(k) for k in range(n)]
    options = {"n_repeats": repeats, "with_x": with_x, "seed": seed, "listener": listener}
    trials = plan_trials(("p", "q"), sentences, **options)
    assert [trial.number for trial in trials] == list(range(1, n * repeats + 1))
    for k in range(repeats):
        assert sorted(trial.sentence for trial in trials[k * n : (k + 1) * n]) == sorted(sentences)
    assert abs(sum(1 if trial.a == "p" else -1 for trial in trials)) == (n * repeats) % 2
    assert all({trial.a, trial.b} == {"p", "q"} for trial in trials)
    assert {trial.x for trial in trials} <= ({"A", "B"} if with_x else {None})
    assert trials == plan_trials(("p", "q"), sentences, **options)


def test_what_x_is_can_not_be_told_from_its_place_nor_from_what_was_before():
    options = {"n_repeats": 2000, "with_x": True, "seed": 3, "listener": "l"}
    trials = plan_trials(("p", "q"), ["s"], **options)
    x = np.array([trial.x == "A" for trial in trials])
    first = np.array([trial.a == "p" for trial in trials])
    bound = 4.0 / math.sqrt(len(trials))  # four standard errors
    for guess in (np.ones_like(x), first, np.roll(x, 1)):
        assert abs(np.mean(guess == x) - 0.5) < bound / 2


def test_listeners_and_seeds_have_orders_of_their_own():
    sentences = [str(k) for k in range(20)]
    orders = [
        plan_trials(("p", "q"), sentences, n_repeats=1, with_x=True, seed=seed, listener=listener)
        for seed, listener in ((1, "anna"), (2, "anna"), (1, "ben"))
    ]
    assert len(set(orders)) == 3


# --- the levels -------------------------------------------------------------------------------------------


def test_loudness_is_that_of_the_recommendation():
    """A sine of 997 Hz at full scale in one channel is at -3.01 LUFS: BS.1770-4, annex 1."""
    sine = np.sin(2 * math.pi * 997.0 * np.arange(48000 * 3) / 48000).astype(np.float32)
    assert loudness_lufs(sine, sample_rate=48000) == pytest.approx(-3.01, abs=0.05)
    assert loudness_lufs(sine / 10, sample_rate=48000) == pytest.approx(-23.01, abs=0.05)


def test_both_come_to_one_loudness_and_the_gains_are_what_was_done():
    sounds, gains_db = match_levels([tone(0.5), tone(0.02, hz=400.0)], sample_rate=RATE)
    assert [loudness_lufs(s, sample_rate=RATE) for s in sounds] == pytest.approx([TARGET_LUFS] * 2, abs=0.1)
    np.testing.assert_allclose(sounds[0], tone(0.5) * 10 ** (gains_db[0] / 20), rtol=1e-5)
    assert gains_db[0] < 0 < gains_db[1]


def test_a_peak_takes_the_gain_off_both():
    click = np.zeros(RATE, np.float32)
    click[::2000] = 0.9  # soft, for its peaks
    sounds, gains_db = match_levels([click, tone(0.5)], sample_rate=RATE)
    levels = [loudness_lufs(sound, sample_rate=RATE) for sound in sounds]
    assert np.max(np.abs(sounds[0])) == pytest.approx(10 ** (-1 / 20), abs=1e-3)
    assert levels[0] == pytest.approx(levels[1], abs=0.1) and levels[0] < TARGET_LUFS - 1
    assert max(gains_db) < 20.0


@pytest.mark.parametrize("n_samples", [1, 7, 3200, 3201, 8000])
def test_silence_and_short_sounds_have_a_level(n_samples):
    silence, level = np.zeros(n_samples, np.float32), np.full(n_samples, 0.1, np.float32)
    sounds, gains_db = match_levels([silence, level], sample_rate=RATE)
    assert gains_db[0] == 0.0 or not np.any(sounds[0])
    assert all(np.isfinite(sound).all() for sound in sounds) and np.isfinite(gains_db).all()


# --- the page is told nothing -----------------------------------------------------------------------------


def tell(test, monkeypatch, *messages):
    sent = []
    monkeypatch.setattr(test, "send", lambda content, buffers=None: sent.append((content, buffers or [])))
    for message in messages:
        test._hear(test, message, [])
    return sent


@pytest.mark.parametrize("kind", [ABTest, ABXTest])
def test_the_page_s_model_and_messages_are_the_same_whichever_is_which(kind, make, monkeypatch):
    """Two tests whose names are exchanged: nothing but the samples may differ."""
    swapped = {"loud": soft, "soft": loud}
    seen = []
    for systems in (SYSTEMS, swapped):
        test = make(kind, systems, path=None, seed=5)
        number = test.trial.number
        sent = tell(
            test,
            monkeypatch,
            {"kind": "ready"},
            {"kind": "answer", "trial": number, "choice": "A"},
            {"kind": "next", "trial": number},
        )
        state = {name: value for name, value in test.get_state().items() if not name.startswith("_")}
        state.pop("layout", None)
        heads = json.dumps([content for content, _ in sent])
        assert "loud" not in heads + json.dumps(state, default=str)
        assert "soft" not in heads + json.dumps(state, default=str)
        seen.append((heads, sorted(state)))
    assert seen[0] == seen[1]


def test_x_sounds_as_the_one_it_is(make, monkeypatch):
    test = make(ABXTest, path=None, n_repeats=3)
    assert {trial.x for trial in test._trials} == {"A", "B"}
    while test.trial is not None:
        trial, (content, buffers) = test.trial, tell(test, monkeypatch, {"kind": "ready"})[-1]
        sounds = dict(zip(content["sounds"], buffers, strict=True))
        assert sounds["X"] == sounds[trial.x] != sounds["B" if trial.x == "A" else "A"]
        test.answer("A")
        test.next()


def test_the_page_is_led_through_all_trials_and_shown_what_came_of_them(make, monkeypatch):
    test = make(ABXTest)
    sent = tell(test, monkeypatch, {"kind": "ready"})
    for number in range(1, len(SENTENCES) + 1):
        shown = sent[-1][0]
        assert (shown["trial"], shown["answered"], shown["done"]) == (number, False, number - 1)
        assert len(sent[-1][1]) == 3
        choice = test.trial.x
        sent = tell(test, monkeypatch, {"kind": "answer", "trial": number, "choice": choice})
        assert (sent[-1][0]["answered"], sent[-1][0]["done"], sent[-1][1]) == (True, number, [])
        sent = tell(test, monkeypatch, {"kind": "next", "trial": number})
    assert sent[-1][0]["kind"] == "done"
    assert sent[-1][0]["text"] == str(test.summary())
    assert sent[-1][0]["csv"] == (test._path).read_text(encoding="utf-8")


def test_a_page_that_is_behind_changes_nothing_and_is_shown_what_is_there(make, monkeypatch):
    test = make()
    test.answer("A")
    test.next()
    behind = [{"kind": "answer", "trial": 1, "choice": "B"}, {"kind": "next", "trial": 1}]
    for message in behind:
        ((content, buffers),) = tell(test, monkeypatch, message)
        assert (content["trial"], content["answered"], len(buffers)) == (2, False, 2)
    assert len(test.answers) == 1
    assert repr(test) == "<AB test of loud and soft: 1 of 3 trials are answered>"


def test_what_goes_wrong_is_said_in_the_page(make, monkeypatch):
    def broken(sentence):
        raise OSError("no voice today")

    test = make(systems={"a": broken, "b": loud})
    ((content, _),) = tell(test, monkeypatch, {"kind": "ready"})
    assert content == {"kind": "error", "text": "no voice today"}
    ((content, _),) = tell(make(), monkeypatch, {"kind": "answer", "trial": 1, "choice": "C"})
    assert "choice='C' must be one of A, B, none" in content["text"]


# --- answers are kept -------------------------------------------------------------------------------------


def test_a_row_says_what_was_asked_and_answered(make, tmp_path, monkeypatch):
    now_s = [100.0]
    monkeypatch.setattr("balacoon_tk.player.session.time.monotonic", lambda: now_s[0])
    test = make(listener="anna", seed=7)
    trial = test.trial
    now_s[0] += 2.5
    answer = test.answer("B")
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["test"], row["seed"], row["listener"], row["trial"]) == ("AB", "7", "anna", "1")
    assert (row["sentence"], row["a"], row["b"], row["x"]) == (trial.sentence, trial.a, trial.b, "")
    assert (row["answer"], row["result"], row["latency_s"]) == ("B", trial.b, "2.500")
    assert row["time"].endswith("+00:00")
    gains = {row["a"]: float(row["gain_a_db"]), row["b"]: float(row["gain_b_db"])}
    assert gains["loud"] < 0 and gains["soft"] == pytest.approx(gains["loud"] + 14.0, abs=2.0)
    assert read_answers(tmp_path / "a.csv") == [answer]


def test_a_kernel_that_dies_loses_nothing_and_another_goes_on(make):
    first = make()
    asked = first.trial
    first.answer("A")
    again = make()
    assert again.trial.number == 2
    run(again, lambda trial: "none")
    done = make()
    assert done.trial is None
    assert [each.trial for each in done.answers] == [1, 2, 3]
    assert (done.answers[0].sentence, done.answers[0].answer) == (asked.sentence, "A")
    with pytest.raises(StreamStateError, match="all 3 trials are over"):
        done.answer("A")


def test_listeners_share_a_file_also_at_once(make):
    anna, ben = make(listener="anna"), make(listener="ben")
    run(anna, lambda trial: "A")
    run(ben, lambda trial: "B")
    assert sorted((each.listener, each.trial) for each in anna.answers) == [
        (name, k) for name in ("anna", "ben") for k in (1, 2, 3)
    ]
    assert anna.summary().n_listeners == 2


def test_trials_are_answered_once_and_in_order(make):
    test = make()
    with pytest.raises(StreamStateError, match=r"trial 1 must be answered before next\(\)"):
        test.next()
    test.answer("A")
    with pytest.raises(StreamStateError, match=r"trial 1 is answered: next\(\) goes on"):
        test.answer("B")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": ABXTest}, r"row 2: an AB test of .* is another test than ABX of loud and soft"),
        ({"systems": {"loud": loud, "other": soft}}, r"row 2: an AB test .* give it a file of its own"),
        ({"sentences": ["Others."]}, r"row 2: trial 1 of listener was another one"),
    ],
)
def test_answers_of_another_test_are_refused_and_stay(make, tmp_path, change, message):
    make().answer("A")
    before = (tmp_path / "a.csv").read_bytes()
    with pytest.raises(ParameterError, match=message):
        make(**change)
    assert (tmp_path / "a.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the first row must be time,test"),
        ("a,b\n1,2\n", "the first row must be time,test"),
        ("HEAD\n1,2\n", "row 2: 2 columns must be 14"),
        ("HEAD\nt,AB,x,l,1,s,p,q,,A,p,1,0,0\n", "row 2: invalid literal"),
        ("HEAD\nt,AB,0,l,1,s,p,q,,C,p,1,0,0\n", "answer 'C' is unknown"),
        ("HEAD\nt,AB,0,l,1,s,p,q,,A,p,nan,0,0\n", "its numbers must be finite"),
        (b"\xff\xfe", "not a table of answers"),
    ],
)
def test_what_is_no_table_of_answers_is_refused(make, tmp_path, content, message):
    path = tmp_path / "a.csv"
    head = to_csv([]).strip()
    path.write_bytes(content if isinstance(content, bytes) else content.replace("HEAD", head).encode())
    before = path.read_bytes()
    with pytest.raises(ParameterError, match=message):
        make()
    assert path.read_bytes() == before


TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), min_size=1, max_size=20)


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXTS, max_size=4), TEXTS)
def test_any_text_is_read_as_it_was_written(tmp_path_factory, sentences, listener):
    path = tmp_path_factory.getbasetemp() / "texts.csv"
    answers = [
        Answer("t", "ABX", 0, listener, k, text, "p", "q", "A", "B", "wrong", 1.5, -3.25, 0.125)
        for k, text in enumerate(sentences, 1)
    ]
    write_answers(path, answers)
    assert read_answers(path) == answers


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"systems": {"a": loud}}, "must be two"),
        ({"sentences": []}, "at least one text"),
        ({"sentences": "One."}, "must be a list"),
        ({"sentences": ["One.", ""]}, "none of them empty"),
        ({"n_repeats": 0}, "n_repeats=0 must be >= 1"),
        ({"seed": -1}, "seed=-1 in"),
        ({"sample_rate": None}, "sample_rate=None must be given"),
        ({"sample_rate": 100}, r"must be in \[3000, 384000\]"),
    ],
)
def test_what_is_no_test_is_refused(make, change, message):
    with pytest.raises(ParameterError, match=message):
        make(**change)


# --- counting ---------------------------------------------------------------------------------------------


def tail(n, k):
    """Return the chance of k or more heads in n tosses."""
    return sum(math.comb(n, j) for j in range(k, n + 1)) / 2**n


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (5, 10), (9, 10), (12, 16), (0, 7)])
def test_intervals_are_exact_and_chance_is_counted(k, n):
    found = count_answers("hear it", k, n, alternative="greater")
    assert found.p_value == pytest.approx(tail(n, k), rel=1e-9)
    # Clopper and Pearson's ends: as extreme a count has a chance of 2.5 % there.
    for end, counts in ((found.low, range(k, n + 1)), (found.high, range(k + 1))):
        chance = sum(math.comb(n, j) * end**j * (1 - end) ** (n - j) for j in counts)
        assert end in (0.0, 1.0) or chance == pytest.approx(0.025, rel=1e-6)
    two_sided = count_answers("hear it", k, n).p_value
    assert two_sided == pytest.approx(min(1.0, 2 * min(tail(n, k), tail(n, n - k))), rel=1e-9)


def test_the_limits_of_small_tests_are_those_that_the_page_on_listening_names():
    assert count_answers("", 9, 10, alternative="greater").p_value < 0.05
    assert count_answers("", 8, 10, alternative="greater").p_value > 0.05


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3)])
def test_counts_that_can_not_be_are_refused(k, n):
    with pytest.raises(ParameterError, match=rf"n_chosen={k} must be in \[0, n={n}\]"):
        count_answers("hear it", k, n)


def test_a_listener_who_hears_it_is_told_from_one_who_guesses(make, tmp_path):
    hears = make(ABXTest, n_repeats=4, path=tmp_path / "hears.csv")
    run(hears, lambda trial: trial.x)
    found = hears.summary()
    assert (found.n_chosen, found.n, found.share) == (12, 12, 1.0)
    assert found.p_value == pytest.approx(2**-12)
    random = np.random.default_rng(1)
    guesses = make(ABXTest, n_repeats=4, path=tmp_path / "guesses.csv")
    run(guesses, lambda trial: "AB"[random.integers(2)])
    assert guesses.summary().p_value > 0.05
    assert "12 of 12 answers tell soft from loud: 100 % (74 to 100 %" in str(found)


def test_a_preference_is_for_a_name_wherever_it_stood_and_none_decides_nothing(make):
    test = make(n_repeats=2)
    choices = iter(["none", "second", "second", "second", "first", "none"])

    def choose(trial):
        wanted = {"none": None, "first": "loud", "second": "soft"}[next(choices)]
        return "none" if wanted is None else "A" if trial.a == wanted else "B"

    run(test, choose)
    found = test.summary()
    assert (found.n_chosen, found.n, found.n_undecided) == (3, 4, 2)
    assert "3 of 4 answers prefer soft to loud: 75 %" in str(found)
    assert str(found).endswith("; 2 have no preference")


def test_before_the_first_answer_nothing_is_claimed(make):
    found = make().summary()
    assert (found.n, found.low, found.high, found.p_value) == (0, 0.0, 1.0, 1.0)
    assert "no answer that decides yet" in str(found)
    (axes,) = make().figure().axes
    assert axes.get_title(loc="left") == "no answer that decides yet"


def test_the_figure_has_the_interval_and_chance(make):
    test = make(ABXTest)
    run(test, lambda trial: trial.x)
    (axes,) = test.figure().axes
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [29.24, 100.0], atol=0.01)
    assert axes.lines[-1].get_xdata()[0] == 50.0
    assert axes.get_title(loc="left") == "dashed: chance, p = 0.12"


@pytest.mark.parametrize(("missing", "call"), [("pyloudnorm", "play"), ("scipy.stats", "summary")])
def test_without_the_package_the_error_names_the_extra(make, missing, call, monkeypatch):
    test = make()
    test.answer("A")
    test.next()
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=r"balacoon_tk\[notebooks\]"):
        getattr(test, call)()


def test_the_example_of_the_page_on_listening_runs(tmp_path, monkeypatch):
    import balacoon_tk
    from tiny_voice import decoder_model, encoder_model, write_voice

    voice = write_voice(tmp_path / "tiny", encoder_model(), decoder_model(), changes={"sample_rate": RATE})
    tts = balacoon_tk.TTS(voice, n_threads=1)
    monkeypatch.setattr(balacoon_tk, "TTS", lambda *_: tts)
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[1] / "docs" / "listening.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    names = {}
    exec(compile(block, "docs/listening.md", "exec"), names)
    assert names["test"].trial.sentence in names["plain_sentences"]()[:10]
    names["test"].close()


def test_voices_speak_with_the_test_s_seed_and_their_rates_must_agree(tmp_path_factory, make):
    from balacoon_tk import TTS
    from tiny_voice import decoder_model, encoder_model, write_voice

    folder, graphs = tmp_path_factory.mktemp("voices"), (encoder_model(), decoder_model())
    voices = [
        TTS(write_voice(folder / str(rate), *graphs, changes={"sample_rate": rate}), n_threads=1)
        for rate in (8000, 16000)
    ]
    test = make(systems={"a": voices[0], "b": voices[0]}, sentences=["hello"], sample_rate=None, seed=3)
    sounds = test.play()
    np.testing.assert_array_equal(sounds["A"], sounds["B"])
    (expected,), _ = match_levels([voices[0].synthesize("hello", seed=3)], sample_rate=8000)
    np.testing.assert_array_equal(sounds["A"], expected)
    with pytest.raises(ParameterError, match="b has 16000 Hz: must be the 8000 Hz of the test"):
        make(systems={"a": voices[0], "b": voices[1]}, sample_rate=None)
