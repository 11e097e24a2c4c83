"""Encoders as programs of the native engine: what they say beside ONNX Runtime, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from balacoon_tk.runtime.native.opening import open_session
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.encoders import ENCODER_TIME_AXES
from balacoon_tk.targets.native.encoder import compile_encoder
from test_optimize_encoder import LENGTHS, VARIANTS, encoder_of, feeds_of, folder


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_a_program_says_what_the_graph_says_at_every_length(variant, folder, n_threads):
    model = encoder_of(variant, folder)
    theirs = Session(model)
    ours = open_session(
        compile_encoder(model, time_axes=ENCODER_TIME_AXES), RuntimeOptions(n_threads=n_threads)
    )
    for length in LENGTHS:
        feeds = feeds_of(theirs, length)
        wanted, got = theirs.run(feeds), ours.run(feeds)
        assert {n: (a.shape, a.dtype) for n, a in got.items()} == {
            n: (a.shape, a.dtype) for n, a in wanted.items()
        }
        np.testing.assert_array_equal(got["durations"], wanted["durations"])
        for name in wanted.keys() - {"durations"}:
            np.testing.assert_allclose(got[name], wanted[name], rtol=0, atol=1e-5)
