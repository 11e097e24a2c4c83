"""What the graphs of a voice must be: their inputs and outputs, and how they fit each other.

Two looks at each graph. `check_encoder` and `check_decoder` compare what a graph declares with the manifest;
`check_encoder_run` and `check_decoder_run` run it once, on as little as there is, which shows what it doesn't
declare. All raise `ModelError`; whoever loads a voice adds the file's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from balacoon_tk.errors import ModelError

if TYPE_CHECKING:
    from balacoon_tk._typing import AnyArray
    from balacoon_tk.runtime.engine import Engine
    from balacoon_tk.runtime.session import TensorSpec
    from balacoon_tk.stages.encoder import Encoder, Encoding
    from balacoon_tk.voice.manifest import Manifest, StreamingInfo

Contract = Mapping[str, tuple[type[np.generic], int]]
"""Name of a tensor to its dtype and rank."""

ENCODER_INPUTS: Contract = {
    "phoneme_ids": (np.int64, 2),
    "length_scale": (np.float32, 1),
    "duration_noise": (np.float32, 3),
    "speaker_id": (np.int64, 1),
}
ENCODER_OUTPUTS: Contract = {
    "encodings": (np.float32, 3),
    "durations": (np.int64, 2),
    "log_scales": (np.float32, 3),
    "speaker_embedding": (np.float32, 3),
}
SPEAKER: Contract = {"speaker_embedding": (np.float32, 3)}
DECODER_OUTPUTS: Contract = {"samples": (np.float32, 3)}

_PROBE_PHONEMES = 2
_PROBE_FRAMES = 3


def check_tensors(
    kind: str, specs: Mapping[str, TensorSpec], contract: Contract, *, required: tuple[str, ...]
) -> None:
    """Check the inputs or outputs of a graph: none unknown, none that is required missing."""
    for name in required:
        if name not in specs:
            raise ModelError(f"{kind} {name!r} is missing; there are {', '.join(specs) or 'none'}")
    for name, spec in specs.items():
        if name not in contract:
            raise ModelError(f"{kind} {name!r} is none of {', '.join(contract)}")
        dtype, rank = contract[name]
        if spec.dtype != dtype or len(spec.shape) != rank:
            raise ModelError(
                f"{kind} {name!r} of {spec.dtype}, rank {len(spec.shape)} "
                f"must be of {np.dtype(dtype)}, rank {rank}"
            )


def check_encoder(encoder: Encoder, manifest: Manifest) -> None:
    """Check that an encoder is the one its manifest speaks of."""
    if encoder.n_channels not in (None, manifest.n_channels):
        raise ModelError(
            f"encodings of {encoder.n_channels} channels must have n_channels={manifest.n_channels}"
        )
    if encoder.has_speakers != bool(manifest.speakers):
        has = "has an" if encoder.has_speakers else "has no"
        raise ModelError(f"the graph {has} input speaker_id, and speakers has {len(manifest.speakers)} names")
    # In Gaussian upsampling a frame is a mix of phonemes, and no one of them has its scale.
    if encoder.has_log_scales and manifest.gaussian_delta is not None:
        raise ModelError(f"output 'log_scales' can't go with gaussian_delta={manifest.gaussian_delta:g}")


def check_decoder(
    engine: Engine, manifest: Manifest, promised: StreamingInfo | None, *, has_speaker_embedding: bool
) -> None:
    """Check that a decoder is the one its manifest speaks of, and that the encoder has what it needs."""
    contract = engine.contract
    inputs = {"frames": (manifest.frame_dtype.type, 3), **SPEAKER}
    check_tensors("input", contract.inputs, inputs, required=("frames",))
    check_tensors("output", contract.outputs, DECODER_OUTPUTS, required=("samples",))
    channels = contract.inputs["frames"].shape[1]
    if isinstance(channels, int) and channels != manifest.n_channels:
        raise ModelError(f"frames of {channels} channels must have n_channels={manifest.n_channels}")
    if "speaker_embedding" in contract.inputs and not has_speaker_embedding:
        raise ModelError("input 'speaker_embedding' must be an output of the encoder")
    if (contract.streaming is None) != (promised is None):
        graph_is = "not stateful" if contract.streaming is None else "stateful"
        raise ModelError(f"the graph is {graph_is}, and streaming says otherwise")
    if contract.streaming is not None and promised is not None:
        lag = contract.streaming.outputs[0].lag
        if lag != promised.lag_samples:
            raise ModelError(f"a lag of {lag} samples must be streaming.lag_samples={promised.lag_samples}")


def check_encoder_run(encoder: Encoder, manifest: Manifest) -> Encoding:
    """Run an encoder once, which also warms it up: the first sentence must not be slower than the second."""
    # The highest ids there are: a table of embeddings that is too short fails here, not in some sentence.
    encoding = encoder.encode(
        np.full(_PROBE_PHONEMES, manifest.frontend.n_symbols - 1, np.int64),
        speaker_id=len(manifest.speakers) - 1 if manifest.speakers else None,
    )
    n_channels = encoding.encodings.shape[1]
    if n_channels != manifest.n_channels:
        raise ModelError(f"{n_channels} channels must be n_channels={manifest.n_channels}")
    return encoding


def check_decoder_run(engine: Engine, manifest: Manifest, timeless: Mapping[str, AnyArray]) -> None:
    """Run a decoder once, which also warms it up; inputs that don't fit it raise `ParameterError`.

    `timeless` are the decoder's inputs without time.
    """
    # The highest code there is: a codebook that is too short fails here, not in some utterance.
    frames = np.full((1, manifest.n_channels, _PROBE_FRAMES), (manifest.codebook_size or 1) - 1)
    feeds = {**timeless, "frames": frames.astype(manifest.frame_dtype)}
    samples = engine.whole(engine.contract.check(feeds))["samples"]
    n_wanted = _PROBE_FRAMES * manifest.hop_length
    if samples.size != n_wanted:
        raise ModelError(
            f"{_PROBE_FRAMES} frames give {samples.size} samples, and "
            f"hop_length={manifest.hop_length} must give {n_wanted}"
        )
