"""A voice as graphs that TensorRT can build engines of; what it does with them was not seen here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
import onnx

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.make_plain import make_plain
from balacoon_tk.targets.source import DeployedForm, Source, Utterance, compare_samples
from balacoon_tk.targets.tensorrt.fixed_shapes import check_shapes, fix_inputs
from balacoon_tk.targets.tensorrt.operators import check_operators
from balacoon_tk.voice.files import MANIFEST_FILE

_MOST_TO_SETTLE = 512  # frames beyond the lag after which states that still change never settle
_OPT_PHONEMES = 64
_LONGEST_S = 60  # of a sentence that can only be decoded whole

_README = """\
# {name} for TensorRT

**Not run on TensorRT.** The graphs have operators of its list only, no contrib ones, and shapes that ONNX's
inference has followed strictly. They were run in ONNX Runtime in the order below and compared with the
voice: the largest difference of a sample is {difference:.1e}. Engines without
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


@dataclass(frozen=True, slots=True)
class _Part:
    """A graph, and the sizes between which the engine must do."""

    model: onnx.ModelProto
    least: Mapping[str, int]
    """Per name of a dynamic axis; empty if all shapes are known."""
    usual: Mapping[str, int]
    most: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Cuts:
    """How a sentence is cut for graphs of fixed shapes, in frames."""

    first: int
    chunk: int
    later: int
    """Fewest frames of the last push."""

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
    """Write graphs for TensorRT and run them in ONNX Runtime as a sentence would.

    Raises
    ------
    ModelError
        If the voice has operators that TensorRT doesn't know, or its states never settle.
    """
    manifest, graph = source.voice.manifest, source.voice.decoder
    if manifest.decoder.precision == "int8":
        raise ModelError(
            f"{manifest.name} computes with bytes in ONNX Runtime's own operators: deploy the voice that it "
            "was quantized from; TensorRT quantizes for itself"
        )
    parts = {"encoder": _encoder(source, max_phonemes)}
    decoder = onnx.load_model_from_string(source.decoder)
    cuts = None
    if graph.streaming is not None:
        cuts = _Cuts(_settle(graph, chunk_frames), chunk_frames, graph.streaming.min_push_frames)
        parts |= _parts_of_stream(decoder, graph, cuts)
        longest = cuts.first + cuts.later - 1
    else:
        longest = max(utterance.n_frames for utterance in source.utterances)
        longest = max(longest, ceil(_LONGEST_S * manifest.sample_rate / manifest.hop_length))
    axis = _time_axis(decoder, "frames")
    parts["decoder_whole"] = _Part(
        check_shapes(make_plain(decoder), static=False), {axis: 1}, {axis: longest}, {axis: longest}
    )
    for name, part in parts.items():
        check_operators(part.model, name)
    sessions = {
        name: Session(part.model, RuntimeOptions(n_threads=source.voice.n_threads))
        for name, part in parts.items()
    }
    worst = compare_samples(
        lambda utterance: _decode(sessions, graph, cuts, utterance),
        source.utterances,
        tolerance=source.max_abs_diff,
    )
    readme = _README.format(
        name=manifest.name,
        difference=worst,
        commands="\n".join(_command(name, part) for name, part in parts.items()),
        order=_WHOLE_ONLY if cuts is None else _order(cuts, graph),
    )
    files = {f"{name}.onnx": part.model.SerializeToString(deterministic=True) for name, part in parts.items()}
    texts = {MANIFEST_FILE: manifest.to_json().encode(), "README.md": readme.encode()}
    return DeployedForm(files | texts, {"samples_in_parts": worst}, not_run_on="TensorRT")


def _encoder(source: Source, max_phonemes: int) -> _Part:
    model = onnx.load_model_from_string(source.encoder)
    axis = _time_axis(model, "phoneme_ids")
    most = {axis: max_phonemes}
    return _Part(check_shapes(model, static=False), {axis: 1}, {axis: min(_OPT_PHONEMES, max_phonemes)}, most)


def _time_axis(model: onnx.ModelProto, name: str) -> str:
    value = next(value for value in model.graph.input if value.name == name)
    return str(next(dim.dim_param for dim in value.type.tensor_type.shape.dim if dim.dim_param))


def _parts_of_stream(decoder: onnx.ModelProto, graph: OrtEngine, cuts: _Cuts) -> dict[str, _Part]:
    spec = graph.streaming
    if spec is None:
        raise ModelError("a decoder without state has no parts")
    not_last, is_last = ({spec.last_input: np.array([flag], np.int64)} for flag in (0, 1))
    first_states = {state.input: np.full(state.shape, state.fill, state.dtype) for state in spec.states}
    settled = _states_after(graph, cuts.first)
    # What is only needed at the start has no steps left after it, and needs no input either.
    spent = {name: array for name, array in settled.items() if not array.size}
    shapes = {name: array.shape for name, array in settled.items() if array.size}
    kept = {*graph.contract.outputs, *(state.output for state in spec.states if state.input not in spent)}
    frames, chunk = (
        {name: _shape(graph, name, n_frames) for name in graph.contract.inputs}
        for n_frames in (cuts.first, cuts.chunk)
    )
    axis = _time_axis(decoder, "frames")
    first = fix_inputs(decoder, {**first_states, **not_last}, frames, outputs=kept)
    steady = fix_inputs(decoder, {**spent, **not_last}, {**shapes, **chunk}, outputs=kept)
    last = fix_inputs(decoder, {**spent, **is_last}, shapes, outputs=graph.contract.outputs)
    return {
        "decoder_first": _Part(check_shapes(first, static=True), {}, {}, {}),
        "decoder_steady": _Part(check_shapes(steady, static=True), {}, {}, {}),
        "decoder_last": _Part(
            check_shapes(last, static=False),
            {axis: cuts.later},
            {axis: cuts.chunk},
            {axis: cuts.chunk + cuts.later - 1},
        ),
    }


def _shape(graph: OrtEngine, name: str, n_frames: int) -> tuple[int, ...]:
    return tuple(n if isinstance(n, int) else n_frames for n in graph.contract.inputs[name].shape)


def _states_after(engine: OrtEngine, *pushes: int) -> dict[str, AnyArray]:
    """Return the states after pushes of so many frames of silence."""
    state = engine.start()
    for n_frames in pushes:
        feeds = {
            name: np.zeros(_shape(engine, name, n_frames), spec.dtype)
            for name, spec in engine.contract.inputs.items()
        }
        _, state = engine.step(state, feeds, last=False)
    return engine.save(state)


def _settle(engine: OrtEngine, chunk_frames: int) -> int:
    """Return the fewest frames after which a push of a chunk leaves all states as long as they are."""
    fewest = 1 if engine.streaming is None else engine.streaming.min_first_frames
    for n_frames in range(fewest, fewest + _MOST_TO_SETTLE):
        states, later = _states_after(engine, n_frames), _states_after(engine, n_frames, chunk_frames)
        if all(array.shape == later[name].shape for name, array in states.items()):
            return n_frames
    raise ModelError(f"the states have no lengths that they keep in pushes of chunk_frames={chunk_frames}")


def _decode(
    sessions: Mapping[str, Session], graph: OrtEngine, cuts: _Cuts | None, utterance: Utterance
) -> FloatArray:
    n_frames = utterance.n_frames
    steps = cuts(n_frames) if cuts is not None else iter([("whole", 0, n_frames)])
    names = {} if graph.streaming is None else {s.output: s.input for s in graph.streaming.states}
    pieces, states = [], dict[str, AnyArray]()
    for kind, start, stop in steps:
        outputs = sessions[f"decoder_{kind}"].run({**utterance.part(start, stop), **states})
        pieces.append(outputs["samples"].reshape(-1))
        states = {names[name]: array for name, array in outputs.items() if name in names}
    return np.concatenate(pieces)


def _order(cuts: _Cuts, graph: OrtEngine) -> str:
    lag = 0 if graph.streaming is None else graph.streaming.outputs[0].lag
    return _STREAMED.format(
        least=cuts.first + cuts.later,
        first=cuts.first,
        chunk=cuts.chunk,
        chunk_and_later=cuts.chunk + cuts.later,
        later=cuts.later,
        most_last=cuts.chunk + cuts.later - 1,
        lag=lag,
    )


def _command(name: str, part: _Part) -> str:
    """Return the line that builds a graph's engine."""
    line = f"    trtexec --noTF32 --onnx={name}.onnx --saveEngine={name}.plan"
    for option, sizes in (("minShapes", part.least), ("optShapes", part.usual), ("maxShapes", part.most)):
        if sizes:
            line += f" \\\n        --{option}={','.join(_profile(part.model, sizes))}"
    return line


def _profile(model: onnx.ModelProto, sizes: Mapping[str, int]) -> Iterator[str]:
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if any(dim.dim_param for dim in dims):
            shape = "x".join(str(sizes[dim.dim_param] if dim.dim_param else dim.dim_value) for dim in dims)
            yield f"{value.name}:{shape}"
