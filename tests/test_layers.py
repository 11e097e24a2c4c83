"""The layers of a decoder and what each of them sees, on a decoder whose field is known by hand."""

from balacoon_tk.graph.layers import decoder_layers
from balacoon_tk.graph.receptive_field import receptive_field
from tiny_voice import HOP_LENGTH, decoder_model


def test_layers_widen_the_view_step_by_step():
    layers = decoder_layers(decoder_model())
    assert [layer.op_type for layer in layers] == ["Conv", "ConvTranspose", "Conv"]
    assert [layer.rate for layer in layers] == [1.0, HOP_LENGTH, HOP_LENGTH]
    # Two frames by 5 taps; then 8 taps at 4 steps a frame, of which half are cropped; then a step by 3 taps.
    up = 2.0 + 2 / HOP_LENGTH
    assert [layer.left_frames for layer in layers] == [2.0, up, up + 1 / HOP_LENGTH]
    assert [layer.right_frames for layer in layers] == [2.0, up, up + 1 / HOP_LENGTH]


def test_the_last_layer_sees_the_receptive_field():
    model = decoder_model()
    field = receptive_field(model)
    assert decoder_layers(model)[-1].right_frames * HOP_LENGTH == field.lag_samples
