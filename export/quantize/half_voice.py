"""From a voice to one in half precision: smaller at the same speed, or for GPUs.

For GPUs graphs compute in it too (`to_half`). Their nodes are sorted into those that may be halved and those
that may not; where a tensor of floats passes from one kind to the other, it gets a cast or a second constant.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.graph.edit import Names, add_constant, remove_unused
from balacoon_tk.graph.half import MAX_HALF, halve_weights
from balacoon_tk.metrics.signal import snr_db
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.stages.encoder import Encoder
from balacoon_tk.targets.ort_cpu.compile import compile_voice
from balacoon_tk.targets.source import encode, read_source
from balacoon_tk.voice.finish import PlainVoice, Progress, finish_voice, ignore_progress, made_by, share_of
from balacoon_tk.voice.install import check_space, check_target
from balacoon_tk.voice.manifest import Manifest, Precision

# Below this something was lost that rounding to half precision doesn't explain.
_LEAST_SNR_DB = 30.0
_HALVED, _VERIFIED = 0.2, 0.9

# Sums of many numbers, what grows fast, what decides lengths or types.
SENSITIVE = frozenset(
    {
        *("Cast", "Ceil", "CumSum", "Exp", "LayerNormalization", "Pow", "Range", "ReduceMean"),
        *("ReduceSum", "Resize", "ScatterElements", "Softmax", "Softplus", "Sqrt"),
    }
)


@dataclass(frozen=True, slots=True)
class Halved:
    """A voice that was made, and what it lost."""

    path: Path
    size_ratio: float
    """Of both graphs, to those they were made of."""
    snr_db: float
    """Of the samples of the same frames."""
    changed_durations: float
    """Share of phonemes that last another number of frames."""


def halve_voice(
    voice: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    compute: bool = False,
    n_threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Halved:
    """Make a voice whose weights are stored in half precision, or that computes in it.

    Parameters
    ----------
    voice, out, n_threads, overwrite, progress
        As for `quantize_voice`.
    compute : bool
        Whether it also computes in half precision (`to_half`), which is for GPUs; otherwise the weights
        become float32 again when it is loaded (`halve_weights`), and it is as fast as before.

    Raises
    ------
    ParameterError
        If something is at `out`, or there is no room for it.
    ModelError
        If the voice isn't in float32, or loses more than rounding explains.
    VoiceError
        If the voice can't be loaded.
    """
    target, report = Path(out), progress or ignore_progress
    check_target(target, overwrite=overwrite)
    check_space(target, Path(voice))
    report("reading the voice", 0.0)
    source = read_source(Path(voice), n_threads=n_threads)
    manifest, options = source.voice.manifest, source.voice.options
    if (precision := manifest.decoder.precision) != "fp32":
        raise ModelError(f"{voice}: in {precision} already: take the voice that it was made of")
    halve = to_half if compute else halve_weights
    before = (source.plain_encoder, source.plain_decoder)
    encoder, decoder = halved = [halve(model) for model in before]

    def draw(n_frames: int, start: int) -> dict[str, AnyArray]:
        # Frames that the voice has spoken: what is lost of random ones says little of speech.
        feeds, steps = source.utterances[-1].feeds, np.arange(start, start + n_frames)
        return {**feeds, "frames": np.take(feeds["frames"], steps, axis=-1, mode="wrap")}

    compiled = compile_voice(
        PlainVoice(decoder, encoder, draw=draw),
        known_ids=manifest.frontend.known_ids,
        precision="fp16",
        progress=share_of(report, _HALVED, _VERIFIED),
    )
    engine, utterances = OrtEngine(decoder, options), source.utterances
    reader = Encoder(encoder, n_symbols=manifest.frontend.n_symbols, options=options)
    samples = [engine.whole(each.feeds)["samples"].reshape(-1) for each in utterances]
    changed = [
        encode(reader, each.phoneme_ids, each.speaker_id).durations != each.encoding.durations
        for each in utterances
    ]
    made = Halved(
        path=target,
        size_ratio=sum(model.ByteSize() for model in halved) / sum(model.ByteSize() for model in before),
        snr_db=snr_db(np.concatenate(samples), np.concatenate([each.samples for each in utterances])),
        changed_durations=float(np.concatenate(changed).mean()),
    )
    if not made.snr_db >= _LEAST_SNR_DB:
        raise ModelError(f"an SNR of {made.snr_db:.1f} dB must be >= {_LEAST_SNR_DB:g}")
    measured = {f"halved_{name}": value for name, value in asdict(made).items() if name != "path"}
    finish_voice(
        PlainVoice(decoder, encoder),
        requantized(manifest, "fp16", measured),
        target,
        compiled=compiled,
        overwrite=overwrite,
        progress=share_of(report, _VERIFIED, 1.0),
    )
    return made


def requantized(manifest: Manifest, precision: Precision, measured: Mapping[str, float]) -> Manifest:
    """Return what a voice says of itself once its graphs are of another precision."""
    return replace(
        manifest,
        decoder=replace(manifest.decoder, precision=precision),
        stages=(),  # which are of the voice that was exported
        provenance={**manifest.provenance, "quantizer": made_by()},
        verified={**manifest.verified, **measured},
    )


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an encoder or a decoder, stateful or not, that computes in half precision.

    Inputs, outputs and states stay in float32, and so does all that is there for durations alone: a rounded
    duration is another length. `SENSITIVE` operators stay as well. A CPU without arithmetic of its own in
    half precision computes in float32 between casts.
    """
    # Those of other domains, such as the ones that compute with bytes, take no other type.
    foreign = next((node for node in model.graph.node if node.domain not in ("", "ai.onnx")), None)
    if foreign is not None:
        raise ModelError(f"{foreign.domain}::{foreign.op_type} has no form in half precision")
    kept = _only_for_durations(model)
    typed = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    graph, names = typed.graph, Names(typed.graph)
    halved = {node for node in graph if node.name not in kept and _can_be_half(node)}
    made = [output for node in graph for output in node.outputs]
    # A list, and made now: the loop adds casts and constants, which are right as they are.
    for value in [*graph.inputs, *graph.initializers.values(), *made]:
        if value.dtype == ir.DataType.FLOAT:
            _let_meet(graph, value, halved, names)
    remove_unused(typed)
    # Casts were put at the end, behind those that read them.
    graph.sort()
    return ir.to_proto(typed)


def _can_be_half(node: ir.Node) -> bool:
    floats = [value for value in node.inputs if value is not None and value.dtype == ir.DataType.FLOAT]
    weights = [value.const_value.numpy() for value in floats if value.const_value is not None]
    in_reach = all(np.abs(array).max(initial=0.0) <= MAX_HALF for array in weights)
    return node.op_type not in SENSITIVE and bool(floats) and in_reach


def _let_meet(graph: ir.Graph, value: ir.Value, halved: AbstractSet[ir.Node], names: Names) -> None:
    """Make a value half if it comes out of a halved node, and give every other kind of user its own form."""
    is_half = value.producer() in halved
    others = [(user, index) for user, index in value.uses() if (user in halved) != is_half]
    if is_half:
        value.dtype = ir.DataType.FLOAT16
    is_output = is_half and value.is_graph_output()
    if not others and not is_output:
        return
    name = names.take(f"{value.name}.half")
    if value.const_value is not None:
        # No cast of a weight: it would be done again in every run, and the file would hold float32.
        other = add_constant(graph, value.const_value.numpy().astype(np.float16), name)
    else:
        kind = ir.DataType.FLOAT if is_half else ir.DataType.FLOAT16
        cast = ir.node("Cast", [value], {"to": int(kind)}, name=f"{name}.cast")
        other = cast.outputs[0]
        other.name, other.dtype = name, kind
        graph.append(cast)
    if is_output:
        # An output keeps type and name, which are what others know of the graph.
        graph.outputs[graph.outputs.index(value)] = other
        other.shape, value.name, other.name = value.shape, name, value.name
    for user, index in others:
        user.replace_input_with(index, other)


def _only_for_durations(model: onnx.ModelProto) -> AbstractSet[str | None]:
    """Return the nodes that no other output needs: those that are unused once it is gone."""
    whole, rest = ir.from_proto(model), ir.from_proto(model)
    rest.graph.outputs[:] = [value for value in rest.graph.outputs if value.name != "durations"]
    remove_unused(rest)
    return {node.name for node in whole.graph} - {node.name for node in rest.graph}
