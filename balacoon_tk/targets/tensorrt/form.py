"""A voice as graphs that TensorRT can build engines of; what it does with them was not seen here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import NamedTuple

import numpy as np
import onnx

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.errors import ModelError
from balacoon_tk.graph.streaming import make_streaming
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session
from balacoon_tk.runtime.stateful_graph import StreamingSpec
from balacoon_tk.targets.ort_cpu.optimize import ENCODER_PASSES, optimize_encoder
from balacoon_tk.targets.source import DeployedForm, Source, Utterance
from balacoon_tk.targets.tensorrt.graphs import check_operators, check_shapes, fix_inputs
from balacoon_tk.voice.files import MANIFEST_FILE

# Frames beyond the lag after which states that still change never settle.
_MOST_TO_SETTLE = 512
# The length for which TensorRT picks the encoder's kernels.
_OPT_PHONEMES = 64
# Of a sentence that can only be decoded whole.
_LONGEST_S = 60

_README = """\
# {name} for TensorRT

**Not run on TensorRT.** The graphs have operators of its list only, no contrib ones, and shapes that ONNX's
inference has followed strictly. They were run in ONNX Runtime in the order below and compared with the
voice's plain decoder: the largest difference of a sample is {difference:.1e}. Engines without
`--noTF32` round more coarsely.

{commands}

`encoder` takes the phonemes of a sentence at once. They are not padded to sizes that engines exist for: it
would hear the padding. `balacoon_tk.stages.Upsampler` makes frames of what it says; `voice.json` has the ids
of phonemes.

{order}
"""
_STREAMED = """\
Of a sentence's n frames

    n < {least}      all go to decoder_whole
    otherwise   the first {first} go to decoder_first
                {chunk} at a time go to decoder_steady, while {chunk_and_later} are left or more
                the rest, {later} to {most_last}, goes to decoder_last

and each hands its outputs `next_state_*` to the next one's inputs `state_*`. decoder_first gives {lag}
samples less than its frames are long; they come out of decoder_last. decoder_steady has no axis of unknown
length. All four hold the decoder's weights."""
_WHOLE_ONLY = "The decoder can't be streamed exactly, so there is decoder_whole alone, for all of a sentence."


class _Part(NamedTuple):
    """A graph, and how long its one axis of unknown length must, will mostly and may be; if it has one."""

    model: onnx.ModelProto
    sizes: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class _Cuts:
    """How a sentence is cut for graphs of fixed shapes, in frames."""

    first: int
    chunk: int
    # Fewest frames of the last push.
    later: int

    def __call__(self, n_frames: int) -> Iterator[tuple[str, int, int]]:
        """Yield the graph, and the first frame and the end of what it gets."""
        if n_frames < self.first + self.later:
            yield "whole", 0, n_frames
            return
        yield "first", 0, self.first
        start = self.first
        while n_frames - start >= self.chunk + self.later:
            yield "steady", start, start + self.chunk
            start += self.chunk
        yield "last", start, n_frames


def make_tensorrt_form(source: Source, *, chunk_frames: int, max_phonemes: int) -> DeployedForm:
    """Write graphs for TensorRT, and run them in ONNX Runtime as a sentence would."""
    voice, manifest = source.voice, source.voice.manifest
    if manifest.decoder.precision == "int8":
        raise ModelError(
            f"{manifest.name} was rounded to int8 already: deploy the voice that it was quantized from; "
            "TensorRT quantizes for itself"
        )
    # Standard operators are not enough: the spline of VITS's duration predictor picks the phonemes within its
    # bounds by NonZero, which TensorRT doesn't know. The other passes speed up ONNX Runtime alone.
    others = set(ENCODER_PASSES) - {"dense_spline"}
    known = manifest.frontend.known_ids
    encoder = optimize_encoder(source.plain_encoder, phoneme_ids=known, leave_out=others).model
    usual = min(_OPT_PHONEMES, max_phonemes)
    parts = {"encoder": _Part(check_shapes(encoder, static=False), (1, usual, max_phonemes))}
    decoder, cuts, order = source.plain_decoder, None, _WHOLE_ONLY
    if voice.target.streaming is not None:
        decoder = make_streaming(source.plain_decoder)  # no kernels of another runtime are asked for
    engine = OrtEngine(decoder, voice.options)
    if engine.streaming is not None:
        spec = engine.streaming
        cuts = _Cuts(_settle(engine, spec, chunk_frames), chunk_frames, spec.min_push_frames)
        parts |= _parts_of_stream(decoder, engine, spec, cuts)
        longest = cuts.first + cuts.later - 1  # whatever is longer is cut
        order = _STREAMED.format(
            least=cuts.first + cuts.later,
            first=cuts.first,
            chunk=cuts.chunk,
            chunk_and_later=cuts.chunk + cuts.later,
            later=cuts.later,
            most_last=cuts.chunk + cuts.later - 1,
            lag=spec.outputs[0].lag,
        )
    else:
        longest = max(utterance.n_frames for utterance in source.utterances)
        longest = max(longest, ceil(_LONGEST_S * manifest.sample_rate / manifest.hop_length))
    whole = check_shapes(source.plain_decoder, static=False)
    parts["decoder_whole"] = _Part(whole, (1, longest, longest))
    for name, part in parts.items():
        check_operators(part.model, name)
    options = RuntimeOptions(n_threads=voice.n_threads)
    sessions = {name: Session(part.model, options) for name, part in parts.items()}
    spoken = replace(source, utterances=source.plain_utterances())
    worst = spoken.compare_samples(lambda utterance: _decode(sessions, cuts, utterance))
    readme = _README.format(
        name=manifest.name,
        difference=worst,
        commands="\n".join(_command(name, part) for name, part in parts.items()),
        order=order,
    )
    files = {f"{name}.onnx": part.model.SerializeToString(deterministic=True) for name, part in parts.items()}
    texts = {MANIFEST_FILE: manifest.to_json().encode(), "README.md": readme.encode()}
    return DeployedForm(files | texts, {"samples_in_parts": worst}, not_run_on="TensorRT")


def _parts_of_stream(
    decoder: onnx.ModelProto, engine: OrtEngine, spec: StreamingSpec, cuts: _Cuts
) -> dict[str, _Part]:
    not_last, is_last = ({spec.last_input: np.array([flag], np.int64)} for flag in (0, 1))
    first_states = {state.input: np.full(state.shape, state.fill, state.dtype) for state in spec.states}
    settled = _states_after(engine, cuts.first)
    # What is only needed at the start has no steps left after it, and needs no input either.
    spent = {name: array for name, array in settled.items() if not array.size}
    shapes = {name: array.shape for name, array in settled.items() if array.size}
    samples = engine.contract.outputs
    kept = {*samples, *(state.output for state in spec.states if state.input not in spent)}
    frames, chunk = (_shapes(engine, n_frames) for n_frames in (cuts.first, cuts.chunk))
    first = fix_inputs(decoder, {**first_states, **not_last}, frames, outputs=kept)
    steady = fix_inputs(decoder, {**spent, **not_last}, {**shapes, **chunk}, outputs=kept)
    last = fix_inputs(decoder, {**spent, **is_last}, shapes, outputs=samples)
    sizes = (cuts.later, cuts.chunk, cuts.chunk + cuts.later - 1)
    return {
        "decoder_first": _Part(check_shapes(first, static=True)),
        "decoder_steady": _Part(check_shapes(steady, static=True)),
        "decoder_last": _Part(check_shapes(last, static=False), sizes),
    }


def _shapes(engine: OrtEngine, n_frames: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the inputs of so many frames."""
    return {
        name: tuple(n if isinstance(n, int) else n_frames for n in spec.shape)
        for name, spec in engine.contract.inputs.items()
    }


def _states_after(engine: OrtEngine, *pushes: int) -> dict[str, AnyArray]:
    # Silence will do: lengths don't depend on what is said.
    state, inputs = engine.start(), engine.contract.inputs
    for n_frames in pushes:
        shapes = _shapes(engine, n_frames)
        feeds = {name: np.zeros(shape, inputs[name].dtype) for name, shape in shapes.items()}
        _, state = engine.step(state, feeds, last=False)
    return engine.save(state)


def _settle(engine: OrtEngine, spec: StreamingSpec, chunk_frames: int) -> int:
    """Return the fewest frames after which a push of a chunk leaves all states as long as they are."""
    # How the lengths of states go is up to the plan of cuts, so it is tried and not computed.
    for n_frames in range(spec.min_first_frames, spec.min_first_frames + _MOST_TO_SETTLE):
        states, later = _states_after(engine, n_frames), _states_after(engine, n_frames, chunk_frames)
        if all(array.shape == later[name].shape for name, array in states.items()):
            return n_frames
    raise ModelError(f"the states have no lengths that they keep in pushes of chunk_frames={chunk_frames}")


def _decode(sessions: Mapping[str, Session], cuts: _Cuts | None, utterance: Utterance) -> FloatArray:
    n_frames = utterance.n_frames
    steps = cuts(n_frames) if cuts is not None else iter([("whole", 0, n_frames)])
    pieces, states = [], dict[str, AnyArray]()
    for kind, start, stop in steps:
        outputs = sessions[f"decoder_{kind}"].run({**utterance.part(start, stop), **states})
        pieces.append(outputs.pop("samples").reshape(-1))
        # As the README tells programs to do it.
        states = {name.removeprefix("next_"): array for name, array in outputs.items()}
    return np.concatenate(pieces)


def _command(name: str, part: _Part) -> str:
    line = f"    trtexec --noTF32 --onnx={name}.onnx --saveEngine={name}.plan"
    dims_of = {value.name: value.type.tensor_type.shape.dim for value in part.model.graph.input}
    for option, size in zip(("minShapes", "optShapes", "maxShapes"), part.sizes or (), strict=False):
        shapes = {
            name: "x".join(str(size if dim.dim_param else dim.dim_value) for dim in dims)
            for name, dims in dims_of.items()
            if any(dim.dim_param for dim in dims)
        }
        line += f" \\\n        --{option}={','.join(f'{name}:{shape}' for name, shape in shapes.items())}"
    return line
