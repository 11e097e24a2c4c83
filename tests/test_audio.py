"""Samples on their way out: PCM, WAV files, chunks."""

import io
import os
import threading
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from balacoon_tk.audio import AudioChunk, WavWriter, pcm_bytes, read_wav, to_pcm16, write_wav
from balacoon_tk.errors import ModelError, ParameterError, StreamStateError

SIZES = [0, 1, 2, 17, 509]


def noise(n_samples):
    return np.random.default_rng(n_samples).uniform(-1, 1, n_samples).astype(np.float32)


def test_pcm16_rounds_to_the_nearest_step():
    steps = np.array([0.0, 0.4, 0.6, -0.4, -0.6, 1.5001])
    assert to_pcm16(steps / 32767).tolist() == [0, 0, 1, 0, -1, 2]


def test_pcm16_saturates_instead_of_wrapping_round():
    loud = np.array([-1e9, -1.001, -1.0, 1.0, 1.001, 3e38], np.float32)
    assert to_pcm16(loud).tolist() == [-32767, -32767, -32767, 32767, 32767, 32767]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pcm16_refuses_what_is_not_finite(value):
    samples = np.zeros(5, np.float32)
    samples[3] = value
    with pytest.raises(ModelError, match=r"samples\[3\]=(nan|inf|-inf) is not finite"):
        to_pcm16(samples)


@pytest.mark.parametrize("samples", [np.zeros((1, 3), np.float32), np.zeros(3, np.int64), np.zeros(3, bool)])
def test_pcm16_takes_one_channel_of_floats_or_int16(samples):
    with pytest.raises(ParameterError, match="must be 1-D floats or int16"):
        to_pcm16(samples)


def test_pcm_bytes_are_little_endian():
    assert pcm_bytes(np.array([1, -2, 256], np.int16)) == b"\x01\x00\xfe\xff\x00\x01"


@given(hnp.arrays(np.int16, st.integers(0, 40), elements=st.integers(-32767, 32767)))
def test_wav_gives_back_the_integers_that_were_written(samples):
    file = io.BytesIO()
    write_wav(file, samples, 16000)
    with wave.open(io.BytesIO(file.getvalue())) as reader:
        assert reader.getparams()[:4] == (1, 2, 16000, len(samples))
        assert np.array_equal(np.frombuffer(reader.readframes(len(samples)), "<i2"), samples)


@pytest.mark.parametrize("n_samples", SIZES)
def test_read_wav_undoes_write_wav(tmp_path, n_samples):
    samples = noise(n_samples)
    write_wav(tmp_path / "a.wav", samples, 22050)
    read, sample_rate = read_wav(tmp_path / "a.wav")
    assert sample_rate == 22050
    assert read.dtype == np.float32
    assert np.array_equal(to_pcm16(read), to_pcm16(samples))


def test_chunks_written_one_by_one_are_the_whole_file(tmp_path):
    samples = noise(509)
    write_wav(tmp_path / "whole.wav", samples, 8000)
    with WavWriter(tmp_path / "parts.wav", 8000) as writer:
        for start in range(0, 509, 17):
            writer.write(samples[start : start + 17])
    assert (tmp_path / "parts.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "a.wav"
    with WavWriter(path, 8000) as writer:
        writer.write(noise(17))
        assert not path.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]


def test_a_broken_stream_leaves_the_older_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"older")
    with pytest.raises(ModelError), WavWriter(path, 8000) as writer:
        writer.write(noise(17))
        writer.write(np.array([np.nan]))
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]
    assert path.read_bytes() == b"older"


@pytest.mark.skipif(not hasattr(os, "umask"), reason="POSIX permissions")
def test_a_file_has_the_permissions_of_any_new_file(tmp_path):
    write_wav(tmp_path / "a.wav", noise(3), 8000)
    (tmp_path / "b.txt").touch()
    assert (tmp_path / "a.wav").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a path that is no regular file")
def test_a_path_that_is_no_regular_file_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"  # stands for a device: replacing one of those would harm the machine
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_wav(pipe, noise(3), 8000)
        assert os.read(reading, 1000)[44:] == pcm_bytes(noise(3))
    finally:
        os.close(reading)
    assert pipe.is_fifo()


def test_an_open_file_stays_open_and_is_written_from_where_it_stands():
    file = io.BytesIO()
    file.write(b"before")
    write_wav(file, noise(17), 8000)
    with wave.open(io.BytesIO(file.getvalue()[6:])) as reader:
        assert reader.getnframes() == 17
    file.write(b"after")
    assert file.getvalue().endswith(b"after")


@pytest.mark.skipif(os.name != "posix", reason="needs a pipe that can be opened as a file")
def test_a_pipe_gets_a_header_of_unknown_size_and_every_sample(tmp_path):
    samples, received = noise(509), []
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb") as sink:
        reader = threading.Thread(target=lambda: received.append(source.read()))
        reader.start()
        write_wav(sink, samples, 8000)
        sink.close()
        reader.join()
    (tmp_path / "a.wav").write_bytes(received[0])
    read, sample_rate = read_wav(tmp_path / "a.wav")
    assert sample_rate == 8000
    assert np.array_equal(to_pcm16(read), to_pcm16(samples))


def test_close_may_be_called_twice_and_write_may_not_follow(tmp_path):
    writer = WavWriter(tmp_path / "a.wav", 8000)
    writer.close()
    writer.close()
    with pytest.raises(StreamStateError, match=r"write\(\) after close\(\)"):
        writer.write(noise(1))


@pytest.mark.parametrize("sample_rate", [0, -1, 2**31])
def test_wav_refuses_a_sample_rate_that_has_no_place_in_the_header(sample_rate):
    with pytest.raises(ParameterError, match="sample_rate="):
        WavWriter(io.BytesIO(), sample_rate)


@pytest.mark.parametrize("data", [b"", b"RIFF", b"not a wav file at all, only text", b"RIFF\0\0\0\0WAVEfmt "])
def test_read_wav_refuses_what_is_no_wav_file(tmp_path, data):
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(ParameterError, match="not a readable WAV file"):
        read_wav(tmp_path / "a.wav")


def test_read_wav_refuses_more_channels(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", "NONE"))
        file.writeframes(bytes(8))
    with pytest.raises(ParameterError, match="2 channels of 16 bits must be 1 of 16"):
        read_wav(tmp_path / "a.wav")


def test_read_wav_reads_what_is_there_of_a_file_that_was_cut(tmp_path):
    write_wav(tmp_path / "a.wav", np.arange(9, dtype=np.int16), 8000)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-3])
    assert to_pcm16(read_wav(tmp_path / "a.wav")[0]).tolist() == list(range(7))


def test_read_wav_says_that_a_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_wav(tmp_path / "a.wav")


def test_a_chunk_knows_its_time_and_its_pcm():
    chunk = AudioChunk(samples=np.array([0.0, 2.0], np.float32), sample_rate=8000, start_sample=4000)
    assert (chunk.start_s, chunk.duration_s) == (0.5, 2 / 8000)
    assert chunk.pcm16.tolist() == [0, 32767]
    assert chunk.alignment == ()


def test_a_chunk_is_frozen_and_slotted():
    chunk = AudioChunk(samples=noise(1), sample_rate=8000, start_sample=0)
    with pytest.raises(AttributeError):
        chunk.sample_rate = 1
    assert not hasattr(chunk, "__dict__")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_named_with_the_file_that_did_not_fit():
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        write_wav("/dev/full", np.zeros(100_000, np.int16), 8000)
