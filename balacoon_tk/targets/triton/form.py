"""A voice as a model repository of Triton, whose sequence batcher carries the decoder's states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.errors import ModelError
from balacoon_tk.graph.streaming import streaming_spec
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.source import DeployedForm, Source, Utterance
from balacoon_tk.targets.triton.config import (
    INITIAL_STATE_FOLDER,
    initial_state_file,
    model_config,
    sequence_batching,
)
from balacoon_tk.targets.triton.held_states import END_INPUT, HeldState, hold_states
from balacoon_tk.voice.files import MANIFEST_FILE

_MAX_STREAMS = 64
_MAX_IDLE_S = 60.0
_CHUNK_FRAMES = 16

_README = """\
# {name} for Triton

    tritonserver --model-repository models

**Not run on Triton.** The decoder's graph was run in ONNX Runtime as `config.pbtxt` says that the server
does: first states of zeros, or from `initial_state`, each output state as the next input state, `{end}` = 1
in the last request. Compared with the voice, the largest difference of a sample is {difference:.1e}.

1. `encoder` takes `phoneme_ids` of a sentence once and gives `encodings` and `durations`. `voice.json` has
   the ids of the phonemes, and `balacoon_tk.stages.Upsampler` makes frames of what the encoder says.
2. `decoder` takes the frames of one sentence as one sequence, a few at a time: a `sequence_id` of its own,
   `sequence_start` in the first request and `sequence_end` in the last. Each response has the samples that
   have become known; they trail the frames by {lag}, until the last.

The first request of a sequence must have at least {first} frames and later ones, the last among them, at
least {later}. A sentence of fewer than {first} frames is one request that is both the first and the last.

    from tritonclient.grpc import InferenceServerClient, InferInput

    for start, stop in chunks:
        frames = InferInput("frames", [1, {n_channels}, stop - start], "FP32")
        frames.set_data_from_numpy(upsampler.window(start, stop)[None])
        response = client.infer("decoder", [frames], sequence_id=1, sequence_start=start == 0,
                                sequence_end=stop == upsampler.n_frames)
        play(response.as_numpy("samples"))

Up to {streams} sequences go on at the same time; one that is not heard of for {idle:.0f} seconds is given up.
"""


def make_triton_form(source: Source) -> DeployedForm:
    """Write a model repository of a stateful decoder, and run that as its configuration says."""
    voice = source.voice
    if voice.target.streaming is None:
        raise ModelError(
            f"{voice.manifest.name} can't be streamed exactly "
            f"({voice.manifest.decoder.not_streamable}): the sequence batcher would have no states to carry. "
            "The forms ort and tensorrt decode whole sentences"
        )
    spec = streaming_spec(source.decoder)
    model, states = hold_states(source.decoder, spec)
    data = model.SerializeToString(deterministic=True)
    session = Session(data, RuntimeOptions(n_threads=voice.n_threads))
    held = {name for state in states for name in (state.input, state.output)} | {END_INPUT}
    encoder = Session(source.encoder)  # has no state, and is asked once a sentence
    # What the server holds is no business of a request.
    asked, given = (
        {name: tensor for name, tensor in tensors.items() if name not in held}
        for tensors in (session.inputs, session.outputs)
    )
    batching = sequence_batching(states, max_streams=_MAX_STREAMS, max_idle_s=_MAX_IDLE_S)
    configs = {
        "encoder": model_config("encoder", encoder.inputs, encoder.outputs),
        "decoder": model_config("decoder", asked, given, batching=batching),
    }
    starts = (spec.min_first_frames, spec.min_push_frames)
    worst = source.compare_samples(lambda utterance: _serve(session, states, utterance, starts))
    readme = _README.format(
        name=voice.manifest.name,
        end=END_INPUT,
        difference=worst,
        lag=spec.outputs[0].lag,
        first=spec.min_first_frames,
        later=spec.min_push_frames,
        n_channels=voice.manifest.n_channels,
        streams=_MAX_STREAMS,
        idle=_MAX_IDLE_S,
    )
    files = {
        "models/encoder/1/model.onnx": source.encoder.SerializeToString(deterministic=True),
        "models/decoder/1/model.onnx": data,
        **{f"models/{name}/config.pbtxt": text.encode() for name, text in configs.items()},
        MANIFEST_FILE: voice.manifest.to_json().encode(),
        "README.md": readme.encode(),
    }
    for file in filter(None, map(initial_state_file, states)):
        files[f"models/decoder/{INITIAL_STATE_FOLDER}/{file[0]}"] = file[1]
    return DeployedForm(files, {"samples_streamed": worst}, not_run_on="Triton")


def _serve(
    session: Session, states: Sequence[HeldState], utterance: Utterance, minima: tuple[int, int]
) -> FloatArray:
    """Send an utterance through as one sequence: what the sequence batcher does with one stream."""
    first, later = minima
    carried: dict[str, AnyArray] = {s.input: np.full(s.shape, s.fill, s.dtype) for s in states}
    pieces, start = [], 0
    while start < utterance.n_frames:
        stop = start + max(_CHUNK_FRAMES, later if start else first)
        if utterance.n_frames - stop < later:  # too few for a push of their own
            stop = utterance.n_frames
        end = np.array([stop == utterance.n_frames], np.int32)
        outputs = session.run({**utterance.part(start, stop), **carried, END_INPUT: end})
        pieces.append(outputs["samples"].reshape(-1))
        carried, start = {state.input: outputs[state.output] for state in states}, stop
    return np.concatenate(pieces)
