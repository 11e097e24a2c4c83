"""The encoder: what it takes, what it gives, and what it refuses of a graph."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.stages.encoder import MAX_PHONEME_FRAMES, Encoder
from balacoon_tk.stages.upsampler import MAX_FRAMES
from tiny_voice import N_CHANNELS, N_SPEAKER_CHANNELS, SILENT, SPEAKERS, SYMBOLS, encoder_model

N_SYMBOLS = len(SYMBOLS)
SIZES = [1, 2, 17, 509]


def make_encoder(model=None):
    return Encoder(
        encoder_model() if model is None else model, n_symbols=N_SYMBOLS, options=RuntimeOptions(n_threads=1)
    )


@pytest.fixture(scope="module")
def encoder():
    return make_encoder()


@pytest.fixture(scope="module")
def speakers_encoder():
    return make_encoder(encoder_model(len(SPEAKERS)))


def ids_of(n_phonemes):
    return np.arange(n_phonemes, dtype=np.int64) % N_SYMBOLS


@pytest.mark.parametrize("n_phonemes", SIZES)
def test_encoding_has_a_row_per_phoneme(encoder, n_phonemes):
    encoding = encoder.encode(ids_of(n_phonemes))
    assert encoding.encodings.shape == encoding.log_scales.shape == (n_phonemes, N_CHANNELS)
    assert encoding.encodings.dtype == encoding.log_scales.dtype == np.float32
    assert encoding.durations.shape == (n_phonemes,)
    assert encoding.durations.dtype == np.int64
    assert encoding.n_frames == encoding.durations.sum()
    assert encoding.speaker_embedding is None
    assert all(a.flags.c_contiguous for a in (encoding.encodings, encoding.log_scales, encoding.durations))


def test_length_scale_stretches_the_durations(encoder):
    ids = ids_of(200)
    n_frames = encoder.encode(ids).n_frames
    assert encoder.encode(ids, length_scale=2.0).n_frames == pytest.approx(2 * n_frames, rel=0.1)


def test_noise_w_varies_the_durations_and_a_seed_repeats_them(encoder):
    ids = ids_of(200)

    def durations(**settings):
        return encoder.encode(ids, **settings).durations

    varied = durations(noise_w=0.8, seed=5, stream=2)
    assert np.array_equal(varied, durations(noise_w=0.8, seed=5, stream=2))
    assert not np.array_equal(varied, durations(noise_w=0.8, seed=6, stream=2))
    assert not np.array_equal(varied, durations(noise_w=0.8, seed=5, stream=4))
    assert not np.array_equal(varied, durations())
    assert np.array_equal(durations(noise_w=0.0, seed=5), durations(noise_w=0.0, seed=6))


def test_a_silent_phoneme_lasts_no_frame(encoder):
    assert encoder.encode(np.array([SYMBOLS.index(SILENT)])).n_frames == 0


def test_a_graph_may_lack_log_scales_and_noise():
    encoder = make_encoder(encoder_model(log_scales=False, noise=False))
    encoding = encoder.encode(ids_of(3), noise_w=0.8, seed=1)
    assert encoding.log_scales is None
    assert np.array_equal(encoding.durations, encoder.encode(ids_of(3)).durations)


def test_every_speaker_has_an_embedding(speakers_encoder):
    embeddings = [speakers_encoder.encode(ids_of(2), speaker_id=i).speaker_embedding for i in range(3)]
    assert all(embedding.shape == (1, N_SPEAKER_CHANNELS, 1) for embedding in embeddings)
    assert not np.array_equal(embeddings[0], embeddings[2])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array([0, N_SYMBOLS, 1]), rf"phoneme_ids\[1\]={N_SYMBOLS} must be in \[0, {N_SYMBOLS}\)"),
        (np.array([-1]), r"phoneme_ids\[0\]=-1 must be in"),
        (np.zeros(0, np.int64), r"phoneme_ids of shape \(0,\), int64 must be 1-D int64, not empty"),
        (np.zeros((1, 3), np.int64), r"phoneme_ids of shape \(1, 3\)"),
        (np.zeros(3, np.int32), "phoneme_ids of shape .*int32"),
    ],
)
def test_wrong_phoneme_ids_are_refused(encoder, ids, message):
    with pytest.raises(ParameterError, match=message):
        encoder.encode(ids)


def test_a_speaker_is_given_where_there_are_several_and_nowhere_else(encoder, speakers_encoder):
    with pytest.raises(ParameterError, match="speaker_id=1 must be None: the voice has one"):
        encoder.encode(ids_of(1), speaker_id=1)
    with pytest.raises(ParameterError, match="speaker_id=None must be a number: the voice has several"):
        speakers_encoder.encode(ids_of(1))


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"duration_factor": -1.0}, r"durations\[1\]=-\d+ must be in \[0, 2000\]"),
        ({"duration_factor": 1e5}, r"durations\[0\]=\d+ must be in \[0, 2000\]"),
        ({"duration_factor": float("nan")}, r"durations\[0\]=-?\d+ must be in"),
        ({"encoding_factor": float("nan")}, r"encodings\[0\] holds NaN or infinity"),
        ({"encoding_factor": float("inf")}, r"encodings\[0\] holds NaN or infinity"),
    ],
)
def test_durations_and_encodings_that_cannot_be_are_refused(factors, message):
    broken = make_encoder(encoder_model(**factors))
    with pytest.raises(ModelError, match=message):
        broken.encode(ids_of(3))


def test_a_duration_of_minus_one_is_refused():
    broken = make_encoder(encoder_model(duration_factor=-1.2))
    with pytest.raises(ModelError, match=r"durations\[0\]=-1 must be in"):
        broken.encode(np.array([SYMBOLS.index("_")]))


def test_a_sentence_of_hours_is_refused():
    slow = make_encoder(encoder_model(duration_factor=MAX_PHONEME_FRAMES / 6))
    with pytest.raises(ModelError, match=rf"sum\(durations\)=\d+ must be <= {MAX_FRAMES}"):
        slow.encode(ids_of(2000))


@pytest.mark.parametrize(("n_phonemes", "most"), [(3, MAX_PHONEME_FRAMES), (1000, MAX_FRAMES // 1000)])
@pytest.mark.parametrize("settings", [{"length_scale": 10.0}, {"noise_w": 2.0}])
def test_what_settings_stretch_without_end_is_cut_off(settings, n_phonemes, most):
    # Refused with the voice's own settings, as it would be too long by itself.
    slow = make_encoder(encoder_model(duration_factor=MAX_PHONEME_FRAMES / 2))
    with pytest.raises(ModelError, match="durations"):
        slow.encode(ids_of(n_phonemes))
    durations = slow.encode(ids_of(n_phonemes), **settings).durations
    assert durations.max() == most
    assert durations.dtype == np.int64
    negative = make_encoder(encoder_model(duration_factor=-1.0))
    with pytest.raises(ModelError, match=r"durations\[\d\]=-\d+ must be in"):
        negative.encode(ids_of(n_phonemes), **settings)


def renamed(model, old, new):
    for value in (*model.graph.input, *model.graph.output):
        if value.name == old:
            value.name = new
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    return model


def with_input(dtype, shape):
    model = encoder_model()
    model.graph.input.append(helper.make_tensor_value_info("speaker_id", dtype, shape))
    model.graph.output[0].name = "encodings"
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (renamed(encoder_model(), "phoneme_ids", "ids"), "input 'phoneme_ids' is missing; there are ids"),
        (renamed(encoder_model(), "durations", "w_ceil"), "output 'durations' is missing"),
        (renamed(encoder_model(), "log_scales", "logs_p"), "output 'logs_p' is none of encodings"),
        (
            with_input(TensorProto.FLOAT, [1]),
            "input 'speaker_id' of float32, rank 1 must be of int64, rank 1",
        ),
        (
            with_input(TensorProto.INT64, [1, 1]),
            "input 'speaker_id' of int64, rank 2 must be of int64, rank 1",
        ),
        (b"not a graph", "ONNX Runtime can't load it"),
        (onnx.ModelProto(), "ONNX Runtime can't load it"),
    ],
)
def test_a_graph_that_is_no_encoder_is_refused(model, message):
    with pytest.raises(ModelError, match=message):
        make_encoder(model)
