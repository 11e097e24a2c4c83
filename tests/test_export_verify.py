"""The checks that an export runs see what they must see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.piper_onnx import PiperOnnx
from balacoon_tk.export.verify import perturb, verify_receptive_field, verify_split
from balacoon_tk.graph.receptive_field import receptive_field
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import Session
from tiny_vits import TinyVits, write_tiny_vits


def read(folder, variant):
    return PiperOnnx().read(write_tiny_vits(folder, variant), config=None, progress=lambda stage, share: None)


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    return read(tmp_path_factory.mktemp("verify"), TinyVits(n_speakers=2))


@pytest.fixture(
    scope="module",
    params=[
        TinyVits(n_speakers=2, resblock="1"),
        TinyVits(upsample_rates=(8,)),
        TinyVits(upsample_rates=(2, 3, 2)),
    ],
    ids=["speakers, resblock 1", "one stage", "three stages"],
)
def decoder(request, tmp_path_factory):
    """A decoder and its receptive field."""
    model = read(tmp_path_factory.mktemp("field"), request.param).decoder
    return model, receptive_field(model)


# --- receptive field -------------------------------------------------------------------------


def test_the_receptive_field_is_reached_to_the_sample(decoder):
    """NaN goes wherever a frame has any influence, and nowhere else."""
    model, field = decoder
    hop, frame = field.hop_length, field.lookahead + 3
    n_frames = frame + field.left_context + 4
    moved = perturb(
        Session(model, RuntimeOptions(n_threads=1)), n_frames=n_frames, frame=frame, hop_length=hop
    )
    assert moved.start == -field.lag_samples
    assert field.left_context * hop < moved.stop <= (field.left_context + 1) * hop


def test_a_change_moves_nothing_outside_the_receptive_field(decoder):
    assert verify_receptive_field(*decoder) == {"beyond_receptive_field": 0.0}


@pytest.mark.parametrize("side", ["left_context", "lookahead"])
def test_a_receptive_field_that_is_a_frame_short_is_seen(decoder, side):
    model, field = decoder
    short = replace(field, **{side: getattr(field, side) - 1})
    with pytest.raises(ModelError, match="outside the receptive field, which allows"):
        verify_receptive_field(model, short)


def test_a_decoder_that_does_not_listen_is_refused(decoder):
    text = """
    <ir_version: 8, opset_import: ["" : 15]>
    deaf (float[1, 4, n_frames] frames) => (float[1, 1, n_samples] samples) {
        start = Constant<value = int64[1] {2}>()
        end = Constant<value = int64[1] {3}>()
        one = Constant<value = int64[2] {1, 1}>()
        shape = Shape(frames)
        n = Slice(shape, start, end)
        whole = Concat<axis = 0>(one, n)
        samples = ConstantOfShape<value = float[1] {0.5}>(whole)
    }
    """
    with pytest.raises(ModelError, match="the decoder's samples don't depend on its frames"):
        verify_receptive_field(onnx.parser.parse_model(text), decoder[1])


# --- split -----------------------------------------------------------------------------------


class Stubborn:
    """A trained model that disagrees at its first run, with durations near a whole number or not."""

    def __init__(self, reference, fraction):
        self.reference, self.fraction, self.n_runs = reference, fraction, 0

    def run(self, ids, **options):
        self.n_runs += 1
        samples = self.reference.run(ids, **options)
        return samples[:-1] if self.n_runs == 1 else samples

    def run_with_noise(self, ids, *, noise, **options):
        if noise.frames is None:
            return None, np.full(len(ids), 2 + self.fraction)
        return self.reference.run_with_noise(ids, noise=noise, **options)


@pytest.mark.parametrize("fraction", [0.0, 5e-5, -5e-5])
def test_a_duration_on_the_edge_is_no_difference(voice, fraction):
    """Floating point decides there, so other phonemes are drawn."""
    stubborn = Stubborn(voice.reference, fraction)
    verified = verify_split(replace(voice, reference=stubborn))
    assert verified["samples_without_noise"] < 1e-5


def test_a_difference_elsewhere_is_one(voice):
    with pytest.raises(
        ModelError, match=r"differs from the trained one: \d+ samples must be \d+ .*n_phonemes=1,"
    ):
        verify_split(replace(voice, reference=Stubborn(voice.reference, 0.5)))


def test_every_speaker_of_a_few_is_compared(voice):
    speakers = set()

    class Listening(Stubborn):
        def run(self, ids, *, speaker_id, length_scale):
            speakers.add((speaker_id, length_scale))
            return self.reference.run(ids, speaker_id=speaker_id, length_scale=length_scale)

    shares = []
    verify_split(replace(voice, reference=Listening(voice.reference, 0)), progress=shares.append)
    assert speakers == {(0, 1.0), (0, 1.3), (1, 1.0)}
    assert shares == sorted(shares)
