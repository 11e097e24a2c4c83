"""Say what a voice or an ONNX graph is.

Inputs, rates, receptive field, sizes, nodes, and the multiply-adds of a frame, which is what the graph
costs on any machine.

  balacoon-tk inspect voices/joe
  balacoon-tk inspect decoder.onnx --json
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from balacoon_tk._files import json_text
from balacoon_tk.cli._common import STANDARD_STREAM, UsageError, format_size, write_text

if TYPE_CHECKING:
    from balacoon_tk.runtime.session import TensorSpec
    from balacoon_tk.voice.inspection import GraphInfo, VoiceInfo

NAME = "inspect"
HELP = "say what a voice or a graph is and what it costs"

_N_OP_TYPES = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to look at."""
    parser.add_argument("path", nargs="?", metavar="PATH", help="voice folder, .addon file or .onnx graph")
    parser.add_argument("-v", "--voice", metavar="VOICE", help="the same as PATH, for a voice")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default=STANDARD_STREAM, help="write there (default: stdout)"
    )


def run(args: argparse.Namespace) -> None:
    """Inspect."""
    from balacoon_tk.voice.inspection import inspect_graph, inspect_voice

    if (args.path is None) == (args.voice is None):
        raise UsageError("give the PATH of a voice or of a graph")
    path: str = args.voice if args.path is None else args.path
    if path.lower().endswith(".onnx"):
        graph = inspect_graph(path)
        report = json_text(_graph_dict(graph)) if args.json else "\n".join(_graph_lines(graph)) + "\n"
    else:
        voice = inspect_voice(path)
        report = json_text(_voice_dict(voice)) if args.json else "\n".join(_voice_lines(voice)) + "\n"
    write_text(args.output, report)


def _voice_lines(info: VoiceInfo) -> Iterator[str]:
    from balacoon_tk.voice.manifest import Manifest

    manifest, decoder = info.manifest, info.manifest.decoder
    ms = 1e3 * manifest.hop_length / manifest.sample_rate
    kind = manifest.language if isinstance(manifest, Manifest) else "a vocoder"
    yield f"{manifest.name}: {kind}, {manifest.license}"
    yield f"  path              {info.path}"
    yield f"  sample rate       {manifest.sample_rate} Hz"
    yield f"  frame             {manifest.hop_length} samples ({ms:.2f} ms), {manifest.n_channels} channels"
    if isinstance(manifest, Manifest):
        yield f"  speakers          {', '.join(manifest.speakers) or 'one'}"
        yield (
            f"  frontend          {manifest.frontend.phoneme_type}, {manifest.frontend.language}, "
            f"{len(manifest.frontend.phoneme_ids)} symbols"
        )
    elif manifest.mel is not None:
        mel = manifest.mel
        yield (
            f"  mel               {mel.n_mels} bands from {mel.f_min:g} to {mel.f_max:g} Hz ({mel.scale}), "
            f"{mel.log}, windows of {mel.win_length}"
        )
    if decoder.streaming is not None:
        lag_ms = 1e3 * decoder.streaming.lag_samples / manifest.sample_rate
        yield (
            f"  exact streaming   lag {decoder.streaming.lag_samples} samples ({lag_ms:.0f} ms), "
            f"state {format_size(decoder.streaming.n_state_bytes)} a stream, "
            f"largest difference {decoder.streaming.max_abs_diff:.1e}"
        )
    else:
        yield f"  exact streaming   no: {decoder.not_streamable or 'exported without it'}"
    for name, difference in manifest.verified.items():
        yield f"  verified          {name}: {difference:.1e}"
    for stage in manifest.stages:
        yield (
            f"  {stage.name:<17} {format_size(stage.n_bytes)}, RTF {stage.rtf:.3f} at export, "
            f"largest difference {stage.max_abs_diff:.1e}"
        )
    per_second = info.multiply_adds_per_audio_second
    if per_second is not None:
        yield f"  decoder's work    {_count(per_second)} multiply-adds for a second of audio"
    for part, graph in (("encoder", info.encoder), ("decoder", info.decoder)):
        if graph is None:
            continue
        yield ""
        yield f"{part}: {next(lines := _graph_lines(graph))}"
        yield from lines


def _graph_lines(info: GraphInfo) -> Iterator[str]:
    yield f"{info.file}, {format_size(info.n_bytes)}, {_count(info.n_parameters)} parameters"
    hidden = set()
    if info.streaming is not None:
        hidden = {state.input for state in info.streaming.states} | {
            state.output for state in info.streaming.states
        }
    for kind, specs in (("input", info.inputs), ("output", info.outputs)):
        for spec in specs:
            if spec.name not in hidden:
                yield f"  {kind:<17} {spec.name}: {spec.dtype} ({_shape(spec)})"
    if info.streaming is not None:
        size = format_size(info.streaming.n_state_bytes)
        yield f"  states            {len(info.streaming.states)}, at most {size} a stream"
        yield f"  computed again    {100 * info.streaming.recomputed_share:.1f} % of the multiply-adds"
        for line in info.streaming.plan:
            yield f"  plan              {line}"
    if info.field is not None:
        field = info.field
        yield (
            f"  receptive field   {field.left_context} + 1 + {field.lookahead} frames, "
            f"{field.hop_length} samples each"
        )
    elif info.no_field is not None:
        yield f"  receptive field   unknown: {info.no_field}"
    most = list(info.op_counts.items())
    listed = ", ".join(f"{n} {op}" for op, n in most[:_N_OP_TYPES])
    others = sum(n for _, n in most[_N_OP_TYPES:])
    yield f"  nodes             {info.n_nodes}: {listed}{f', {others} others' if others else ''}"
    if info.cost is not None:
        parts = ", ".join(
            f"{op} {_count(n)}" for op, n in sorted(info.cost.by_op_type.items(), key=lambda item: -item[1])
        )
        yield f"  multiply-adds     {_count(info.cost.total)} a {info.cost.step}: {parts or 'none'}"


def _voice_dict(info: VoiceInfo) -> dict[str, object]:
    manifest = asdict(info.manifest)
    # The phoneme map is hundreds of lines, and stands in voice.json for whom it interests.
    manifest.get("frontend", {}).pop("phoneme_ids", None)
    return {
        "path": str(info.path),
        "manifest": manifest,
        "multiply_adds_per_audio_second": info.multiply_adds_per_audio_second,
        "encoder": None if info.encoder is None else _graph_dict(info.encoder),
        "decoder": _graph_dict(info.decoder),
    }


def _graph_dict(info: GraphInfo) -> dict[str, object]:
    return {
        "file": info.file,
        "n_bytes": info.n_bytes,
        "n_parameters": info.n_parameters,
        "n_nodes": info.n_nodes,
        "op_counts": info.op_counts,
        "inputs": [_spec_dict(spec) for spec in info.inputs],
        "outputs": [_spec_dict(spec) for spec in info.outputs],
        "receptive_field": None if info.field is None else asdict(info.field),
        "no_receptive_field": info.no_field,
        "multiply_adds": None
        if info.cost is None
        else {"step": info.cost.step, "total": info.cost.total, "by_op_type": info.cost.by_op_type},
        "streaming": None
        if info.streaming is None
        else {
            "n_states": len(info.streaming.states),
            "n_state_bytes": info.streaming.n_state_bytes,
            "recomputed_share": info.streaming.recomputed_share,
            "plan": info.streaming.plan,
        },
    }


def _spec_dict(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "dtype": str(spec.dtype), "shape": list(spec.shape)}


def _shape(spec: TensorSpec) -> str:
    return ", ".join("?" if axis is None else str(axis) for axis in spec.shape)


def _count(n: float) -> str:
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if n >= factor:
            return f"{n / factor:.1f}{unit}"
    return f"{n:.0f}"
