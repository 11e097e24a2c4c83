"""Say what a voice or an ONNX graph is, what it costs, and whether it streams.

Inputs, rates, receptive field, sizes, nodes, and the multiply-adds of a frame, which is what the graph
costs on any machine. Of a graph that can't be streamed exactly, all nodes that stand against it are named,
with what would help.

  balacoon-tk inspect voices/joe
  balacoon-tk inspect decoder.onnx --json
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from balacoon_tk.cli._common import (
    RUNTIME,
    UsageError,
    add_options,
    format_size,
    runtime_options,
    write_report,
)

if TYPE_CHECKING:
    from balacoon_tk.graph.obstacles import Obstacle, Streamability
    from balacoon_tk.voice.inspection import GraphInfo, VoiceInfo
    from balacoon_tk.voice.programs import ProgramInfo

_N_OP_TYPES = 6
_N_PLACES = 3  # of alike obstacles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to look at."""
    parser.add_argument("path", nargs="?", metavar="PATH", help="voice folder, .addon file or .onnx graph")
    parser.add_argument("-v", "--voice", metavar="VOICE", help="the same as PATH, for a voice")
    add_options(parser, *RUNTIME, "sha256", "json", "output")


def run(args: argparse.Namespace) -> None:
    """Inspect."""
    from balacoon_tk.voice.inspection import inspect_graph, inspect_voice

    if (args.path is None) == (args.voice is None):
        raise UsageError("give the PATH of a voice or of a graph")
    path: str = args.voice if args.path is None else args.path
    # By its name: whether such a file is a graph or is none, the error is to be about a graph.
    if path.lower().endswith(".onnx"):
        if args.sha256 is not None:
            raise UsageError("--sha256 is of a voice's voice.json, and a graph has none")
        graph = inspect_graph(path)
        record, lines = _graph_dict(graph), _graph_lines(graph)
    else:
        voice = inspect_voice(path, options=runtime_options(args), sha256=args.sha256)
        record, lines = _voice_dict(voice), _voice_lines(voice)
    write_report(record, "\n".join(lines), as_json=args.json, output=args.output)


def _voice_lines(info: VoiceInfo) -> Iterator[str]:
    manifest, streaming = info.manifest, info.compiled.streaming
    ms = 1e3 * manifest.hop_length / manifest.sample_rate
    a_kind = "a vocoder" if manifest.codebook_size is None else "a codec"
    kind = a_kind if manifest.text is None else manifest.language
    yield f"{manifest.name}: {kind}, {manifest.license}"
    yield f"  path              {info.path}"
    yield f"  sha256            {info.sha256} of voice.json, which has that of every other file"
    yield f"  sample rate       {manifest.sample_rate} Hz"
    yield f"  frame             {manifest.hop_length} samples ({ms:.2f} ms), {manifest.n_channels} channels"
    if manifest.text is not None:
        text, speech = manifest.frontend, manifest.speech
        speakers = ", ".join(manifest.speakers) or speech.lone_speaker or "one"
        default = f"; {manifest.speakers[number]} by itself" if (number := speech.default_speaker_id) else ""
        yield f"  speakers          {speakers}{default}"
        symbols = f"{len(text.phoneme_ids)} symbols"
        yield f"  frontend          {text.phoneme_type}, {text.language}, {symbols}"
    elif (mel := manifest.mel) is not None:
        yield (
            f"  mel               {mel.n_mels} bands from {mel.f_min:g} to {mel.f_max:g} Hz ({mel.scale}), "
            f"{mel.log}, windows of {mel.win_length}"
        )
    elif manifest.codebook_size is not None:
        yield f"  frames are        codes of {manifest.codebook_size}, from {manifest.n_channels} codebooks"
    yield f"  engine            {info.backend}"
    if info.program is not None:
        yield f"  native program    {_stages(info.program)}"
    elif info.not_native != info.backend.reason:
        yield f"  native program    none: {info.not_native}"
    if info.encoder_backend is not None:
        yield f"  encoder's engine  {info.encoder_backend}"
    if info.encoder_program is not None:
        yield f"  encoder's program {_stages(info.encoder_program)}"
    passes = ", ".join(info.compiled.decoder.passes) or "none"
    yield f"  target            {info.target}, version {info.compiled.version}; decoder's passes: {passes}"
    if streaming is not None:
        lag_ms = 1e3 * streaming.lag_samples / manifest.sample_rate
        yield (
            f"  exact streaming   lag {streaming.lag_samples} samples ({lag_ms:.0f} ms), "
            f"state {format_size(streaming.n_state_bytes)} a stream, "
            f"largest difference {streaming.max_abs_diff:.1e}"
        )
        if manifest.decoder.max_frames is not None:
            yield f"  an utterance has  at most {manifest.decoder.max_frames} frames"
    else:
        # The target is ONNX Runtime's; a program always streams.
        answer = "no" if info.program is None else "in the native engine alone"
        yield f"  exact streaming   {answer}: {manifest.decoder.not_streamable or 'compiled without it'}"
    for name, difference in manifest.verified.items():
        yield f"  verified          {name}: {difference:.1e}"
    for stage in manifest.stages:
        yield (
            f"  {stage.name:<17} {format_size(stage.n_bytes)}, RTF {stage.rtf:.3f} at export, "
            f"largest difference {stage.max_abs_diff:.1e}"
        )
    # Of a frame and of a second: the first compares graphs, the second voices of other rates.
    if (per_second := info.multiply_adds_per_audio_second) is not None:
        yield f"  decoder's work    {_count(per_second)} multiply-adds for a second of audio"
    # A graph's first line goes on the line of its part.
    for part, graph in (("encoder", info.encoder), ("decoder", info.decoder)):
        if graph is not None:
            yield ""
            yield f"{part}: {next(lines := _graph_lines(graph))}"
            yield from lines


def _stages(program: ProgramInfo) -> str:
    kinds = ", ".join(f"{n} {kind}" for kind, n in program.kinds.items())
    off_by = "" if program.max_abs_diff is None else f"; off by {program.max_abs_diff:.1e}"
    return f"{program.n_stages} stages: {kinds}{off_by}"


def _graph_lines(info: GraphInfo) -> Iterator[str]:
    yield f"{info.file}, {format_size(info.n_bytes)}, {_count(info.n_parameters)} parameters"
    # A streaming decoder has dozens of states, which are inputs and outputs that only the stream itself sees.
    states = () if info.streaming is None else info.streaming.states
    hidden = {name for state in states for name in (state.input, state.output)}
    for kind, specs in (("input", info.inputs), ("output", info.outputs)):
        for spec in specs:
            if spec.name not in hidden:
                shape = ", ".join("?" if axis is None else str(axis) for axis in spec.shape)
                yield f"  {kind:<17} {spec.name}: {spec.dtype} ({shape})"
    if info.streaming is not None:
        size = format_size(info.streaming.n_state_bytes)
        yield f"  states            {len(info.streaming.states)}, at most {size} a stream"
        yield f"  computed again    {100 * info.streaming.recomputed_share:.1f} % of the multiply-adds"
        for line in info.streaming.plan:
            yield f"  plan              {line}"
    if (field := info.field) is not None:
        around = f"{field.left_context} + 1 + {field.lookahead} frames"
        yield f"  receptive field   {around}, {field.hop_length} samples each"
    elif info.no_field is not None:
        yield f"  receptive field   unknown: {info.no_field}"
    if info.would_stream is not None:
        yield from _streaming_lines(info.would_stream)
    # Counts come with the most frequent first.
    most = list(info.op_counts.items())
    listed = ", ".join(f"{n} {op}" for op, n in most[:_N_OP_TYPES])
    others = sum(n for _, n in most[_N_OP_TYPES:])
    yield f"  nodes             {info.n_nodes}: {listed}{f', {others} others' if others else ''}"
    if info.cost is not None:
        by_work = sorted(info.cost.by_op_type.items(), key=lambda item: -item[1])
        parts = ", ".join(f"{op} {_count(n)}" for op, n in by_work)
        yield f"  multiply-adds     {_count(info.cost.total)} a {info.cost.step}: {parts or 'none'}"


def _streaming_lines(found: Streamability) -> Iterator[str]:
    if found.spec is not None:
        lags = ", ".join(f"{output.lag} samples" for output in found.spec.outputs)
        state = format_size(found.spec.n_state_bytes)
        again = f"{100 * found.spec.recomputed_share:.1f} % computed again"
        yield f"  would stream      exactly: lag {lags}, state {state} a stream, {again}"
        return
    n = len(found.obstacles)
    yield f"  would stream      no: {n} {'node stands' if n == 1 else 'nodes stand'} against it"
    # The layers of a transformer are refused one by one, for one reason.
    alike: defaultdict[tuple[str, str, str], list[Obstacle]] = defaultdict(list)
    for each in found.obstacles:
        alike[each.op_type, each.reason, each.advice].append(each)
    for (op_type, reason, advice), group in alike.items():
        yield f"    {len(group)} {op_type} {_places(group)}: {reason}"
        yield f"      {advice}"


def _places(group: Sequence[Obstacle]) -> str:
    """Return where nodes are that are refused alike: in which modules, or by which names."""
    modules = list(dict.fromkeys(each.module for each in group if each.module))
    kind, names = ("in", modules) if modules else ("called", [repr(each.node) for each in group])
    more = len(names) - _N_PLACES
    return f"{kind} {', '.join(names[:_N_PLACES])}{f' and {more} more' if more > 0 else ''}"


def _voice_dict(info: VoiceInfo) -> dict[str, object]:
    manifest = asdict(info.manifest)
    # The phoneme map is hundreds of lines, and stands in voice.json for whom it interests.
    manifest.get("frontend", {}).pop("phoneme_ids", None)
    return {
        "path": str(info.path),
        "sha256": info.sha256,
        "manifest": manifest,
        "engine": asdict(info.backend),
        "native_program": info.program and asdict(info.program),
        "encoder_engine": info.encoder_backend and asdict(info.encoder_backend),
        "encoder_program": info.encoder_program and asdict(info.encoder_program),
        "multiply_adds_per_audio_second": info.multiply_adds_per_audio_second,
        "encoder": info.encoder and _graph_dict(info.encoder),
        "decoder": _graph_dict(info.decoder),
    }


def _graph_dict(info: GraphInfo) -> dict[str, object]:
    cost, streaming, would_stream = info.cost, info.streaming, info.would_stream
    return {
        **{name: getattr(info, name) for name in ("file", "n_bytes", "n_parameters", "n_nodes", "op_counts")},
        **{
            kind: [{"name": spec.name, "dtype": str(spec.dtype), "shape": list(spec.shape)} for spec in specs]
            for kind, specs in (("inputs", info.inputs), ("outputs", info.outputs))
        },
        "receptive_field": info.field and asdict(info.field),
        "no_receptive_field": info.no_field,
        "multiply_adds": cost and {"step": cost.step, "total": cost.total, "by_op_type": cost.by_op_type},
        "streaming": streaming
        and {
            "n_states": len(streaming.states),
            "n_state_bytes": streaming.n_state_bytes,
            "recomputed_share": streaming.recomputed_share,
            "plan": streaming.plan,
        },
        "would_stream": would_stream and _streaming_dict(would_stream),
    }


def _streaming_dict(found: Streamability) -> dict[str, object]:
    spec = found.spec
    return {
        "exactly": spec is not None,
        "lag": spec and {output.name: output.lag for output in spec.outputs},
        "n_state_bytes": spec and spec.n_state_bytes,
        "recomputed_share": spec and spec.recomputed_share,
        "obstacles": [asdict(each) for each in found.obstacles],
    }


def _count(n: float) -> str:
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if n >= factor:
            return f"{n / factor:.1f}{unit}"
    return f"{n:.0f}"
