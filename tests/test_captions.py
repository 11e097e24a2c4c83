"""Words in time as files: JSON lines, and captions that are read at a glance."""

import json
import re

import pytest

from balacoon_tk.audio import AudioChunk, WordSpan
from balacoon_tk.cli._captions import MAX_CAPTION, MAX_CAPTION_S, Timestamps, make_captions

pytestmark = pytest.mark.filterwarnings("ignore:the voice has no ids", "ignore:tiny is streamed")


def spoken(text, *, word_s=0.25, pauses=None):
    """Return the words of a text, each as long, with pauses after some of them."""
    words, now_s = [], 0.0
    for match in re.finditer(r"[\w']+", text):
        words.append(WordSpan(match[0], now_s, now_s + word_s, match.span()))
        now_s += word_s + (pauses or {}).get(match[0], 0.0)
    return words


def test_a_caption_has_the_marks_around_its_words_and_ends_with_a_sentence():
    text = 'He said: "Stop (now)!" Then—bang.'
    captions = list(make_captions(spoken(text, pauses={"now": 0.2}), text))
    assert [caption.text for caption in captions] == ['He said: "Stop (now)!"', "Then—bang."]
    assert captions[0][:2] == (0.0, 1.0)
    assert captions[1].start_s == pytest.approx(1.2)


def test_an_abbreviation_and_a_number_end_no_caption():
    text = "Mr. Smith paid 3.5 times."
    assert [caption.text for caption in make_captions(spoken(text), text)] == [text]


def test_a_caption_ends_before_a_pause():
    text = "So it is and so it stays"
    captions = list(make_captions(spoken(text, pauses={"is": 1.0}), text))
    assert [caption.text for caption in captions] == ["So it is", "and so it stays"]


def test_no_caption_is_longer_than_is_read_at_a_glance():
    text = "so it goes on and on " * 20
    captions = list(make_captions(spoken(text, word_s=0.7), text))
    assert " ".join(caption.text for caption in captions) == text.strip()
    assert all(len(caption.text) <= MAX_CAPTION for caption in captions)
    assert all(caption.end_s - caption.start_s <= MAX_CAPTION_S for caption in captions)


def test_markup_is_not_shown():
    text = "**So** <emphasis>it</emphasis> is"
    words = [
        WordSpan(word, 0.0, 0.1, (text.rindex(word), text.rindex(word) + 2)) for word in ("So", "it", "is")
    ]
    assert [caption.text for caption in make_captions(words, text)] == ["So it is"]


def written(tmp_path, name, text="So < it is. Yes!"):
    words = spoken(text, pauses={"is": 3600.0})
    timestamps = Timestamps(str(tmp_path / name))
    assert list(timestamps.reading([text[:3], text[3:]])) == [text[:3], text[3:]]
    chunks = [
        AudioChunk(None, 1000, 0, find_words=lambda part=part: tuple(part)) for part in (words[:2], words[2:])
    ]
    assert list(timestamps.following(chunks)) == chunks
    return (tmp_path / name).read_text(encoding="utf-8")


def test_json_lines_are_the_words(tmp_path):
    records = [json.loads(line) for line in written(tmp_path, "a.jsonl").splitlines()]
    assert records[1] == {"word": "it", "start_s": 0.25, "end_s": 0.5, "text_span": [5, 7]}
    assert [record["word"] for record in records] == ["So", "it", "is", "Yes"]


def test_subrip(tmp_path):
    assert written(tmp_path, "a.srt") == (
        "1\n00:00:00,000 --> 00:00:00,750\nSo it is.\n\n2\n01:00:00,750 --> 01:00:01,000\nYes!\n"
    )


def test_webvtt(tmp_path):
    assert written(tmp_path, "a.VTT", "So & it is. Yes!") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:00.750\nSo it is.\n\n01:00:00.750 --> 01:00:01.000\nYes!\n"
    )


def test_a_stream_that_breaks_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.srt"
    path.write_text("old")

    def chunks():
        yield AudioChunk(None, 1000, 0)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        list(Timestamps(str(path)).following(chunks()))
    assert [each.read_text() for each in tmp_path.iterdir()] == ["old"]


# --- the command


def synthesize(cli, *arguments, stdin=b""):
    result = cli("synthesize", *arguments, "--seed", 1, "--strategy", "full", stdin=stdin)
    assert (result.status, result.err) == (0, "")


def test_the_command_writes_the_words_of_a_text_and_of_a_pipe(cli, tiny_voice_folder, tmp_path):
    common = ("-v", tiny_voice_folder, "-o", tmp_path / "a.wav", "--sentence-pause", "0.5", "--timestamps")
    synthesize(cli, "So it is. Never!", *common, tmp_path / "a.srt")
    synthesize(cli, "-", *common, tmp_path / "b.srt", stdin=b"So it is. Never!")
    assert (tmp_path / "a.srt").read_bytes() == (tmp_path / "b.srt").read_bytes()
    assert [line for line in (tmp_path / "a.srt").read_text().splitlines() if line[:1].isalpha()] == [
        "So it is.",
        "Never!",
    ]
    synthesize(cli, "<speak>So &amp; so</speak>", *common, tmp_path / "a.jsonl")
    records = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [(record["word"], record["text_span"]) for record in records] == [("So", [7, 9]), ("so", [16, 18])]


def test_pauses_and_markup_are_options(cli, tiny_voice_folder, tmp_path):
    def length(*options):
        synthesize(cli, "So.\n\nNever.", "-v", tiny_voice_folder, "-o", tmp_path / "a.wav", *options)
        return (tmp_path / "a.wav").stat().st_size

    assert length("--paragraph-pause", "2", "--markup", "plain") > length("--sentence-pause", "1") > length()


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--timestamps", "-"), 2, "--timestamps - would mix words with audio"),
        (("--timestamps", "no/such/a.srt"), 1, "No such file or directory: 'no/such/a.srt'"),
        (("--sentence-pause", "-1"), 1, r"sentence_pause=-1.0 must be a number in [0, 10]"),
        (("--markup", "xml"), 1, "markup='xml' must be None or one of plain, markdown, ssml"),
        (("--markup", "ssml"), 1, "SSML, line 1, column 1: not well formed"),
    ],
)
def test_what_the_command_can_not_do_is_said_before_anything_is_spoken(
    cli, tiny_voice_folder, tmp_path, monkeypatch, options, status, message
):
    monkeypatch.chdir(tmp_path)
    result = cli("synthesize", "So it is.", "-v", tiny_voice_folder, "-o", "a.wav", *options)
    assert result.status == status
    assert message in result.err
    assert list(tmp_path.iterdir()) == []
