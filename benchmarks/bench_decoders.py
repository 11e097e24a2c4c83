"""Which decoders of today stream exactly, and what that costs: those of `families`, with random weights.

    python benchmarks/bench_decoders.py --docs docs/decoders.md      # and benchmarks/results; some minutes
    python benchmarks/bench_decoders.py --tiny --rounds 1 --out DIR  # see that it works

Each is exported about as large as published, made stateful, compared with its whole run in chunks of many
sizes, and timed in turn: whole, in chunks, and by overlap with the context that it needs. Each has a process
of its own, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnx

from balacoon_tk._files import write_whole
from balacoon_tk.decoder import OverlapDecoder, StatefulDecoder
from balacoon_tk.decoder.stream import Decoder
from balacoon_tk.errors import ModelError
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.receptive_field import receptive_field
from balacoon_tk.graph.streaming import make_streaming, streaming_spec
from balacoon_tk.runtime.engine import Engine, Feeds
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.native import NotNativeError, compile_native
from balacoon_tk.targets.ort_cpu.costs import OrtCpuCosts
from balacoon_tk.targets.ort_cpu.optimize import optimize_decoder
from families import FAMILIES
from speed.machine import facts
from speed.markdown import stamp, table
from speed.measure import in_turn, ratio, show_progress
from speed.resident import PeakMemory
from speed.results import compact_json, write_between

N_ROUNDS = 5
CHUNK_SAMPLES = 64 * 256
"""Samples of a chunk: 64 frames of a vocoder; a codec's frames are longer."""
N_CHUNKS = 4
Draw = Callable[[int, int], Feeds]
"""Inputs of a number of frames and a seed, time last."""
N_THREADS = 1
CHECKED_SAMPLES, MAX_CHECKED_FRAMES = 40 * 256, 64
"""What is compared beyond the lag. Not more: phases that are summed up are rounded more with each step."""
CHECKED_SIZES = (1, 3, 7, 32)
"""Frames of a chunk that are compared; mixed sizes and the whole as well."""
RESULTS = Path(__file__).parent / "results"
MARKS = ("<!-- decoders -->", "<!-- end -->")


def measure_family(name: str, *, full: bool, n_rounds: int) -> dict[str, Any]:
    """Export a decoder, make it stateful, compare and time it; ``refused`` says why, if it can't be."""
    import torch

    from balacoon_tk.export import export_decoder

    family = FAMILIES[name]
    torch.manual_seed(0)
    module = family.build(full)
    example = {key: value.numpy() for key, value in family.example(13, full).items()}
    model = export_decoder(module, example, time_axes=family.time_axes)
    found: dict[str, Any] = {
        "what": family.what,
        "n_parameters": sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer),
        "n_nodes": len(model.graph.node),
    }
    # Noise that the module draws is an input of the graph, whose one dynamic axis is found.
    time_inputs = {
        item.name: family.time_axes.get(item.name, len(item.type.tensor_type.shape.dim) - 1)
        for item in model.graph.input
        if any(axis.dim_param for axis in item.type.tensor_type.shape.dim)
    }
    try:
        optimized = optimize_decoder(model, time_inputs=time_inputs).model
        start, peak = perf_counter(), PeakMemory()
        streaming = make_streaming(optimized, time_inputs=time_inputs, costs=OrtCpuCosts(in_halves=False))
    except ModelError as error:
        return {**found, "refused": str(error)}
    found["make_streaming_s"] = perf_counter() - start
    found["make_streaming_bytes"], found["model_bytes"] = peak.n_bytes(), model.ByteSize()
    spec, engine = streaming_spec(streaming), OrtEngine(streaming, RuntimeOptions(n_threads=N_THREADS))
    noise = {item.name: item.steps_per_frame for item in spec.inputs if item.name not in family.time_axes}
    shapes = engine.contract.inputs

    def draw(n_frames: int, seed: int) -> dict[str, np.ndarray]:
        torch.manual_seed(seed)
        feeds = {key: value.numpy() for key, value in family.example(n_frames, full).items()}
        for key, axis in family.time_axes.items():
            feeds[key] = np.ascontiguousarray(np.moveaxis(feeds[key], axis, -1))
        rng = np.random.default_rng(seed)
        for key, n_steps in noise.items():
            shape = (*shapes[key].shape[:-1], n_steps * n_frames)
            feeds[key] = rng.standard_normal(shape).astype(np.float32)
        return feeds

    native = open_native(model, time_inputs)
    found["not_native"] = native if isinstance(native, str) else None
    if not isinstance(native, str):
        found["native_difference"] = compare(model, native, draw, time_inputs)
    difference = compare(model, engine, draw, time_inputs)
    (output,) = spec.outputs
    found |= {
        "difference": difference,
        "lag_frames": output.lag / output.hop_length,
        "hop_length": output.hop_length,
        "state_bytes": spec.n_state_bytes,
        "recomputed_share": spec.recomputed_share,
    }
    in_native = None if isinstance(native, str) else native
    return {**found, **time_strategies(engine, in_native, model, time_inputs, draw, n_rounds=n_rounds)}


def open_native(model: onnx.ModelProto, time_inputs: Mapping[str, int]) -> NativeEngine | str:
    """Open a decoder in the native engine, or return what of it that doesn't know."""
    try:
        program = compile_native(model, time_inputs=dict(time_inputs))
    except (NotNativeError, NotStreamableError) as error:
        return f"{error.op_type}: {error.reason}"
    return NativeEngine(program, RuntimeOptions(n_threads=N_THREADS))


def compare(model: onnx.ModelProto, engine: Engine, draw: Draw, time_inputs: Mapping[str, int]) -> float:
    """Return the largest difference between the original's whole run and streams, of its peak."""
    streaming = engine.contract.streaming
    assert streaming is not None
    (output,) = streaming.outputs
    n_checked = min(8 + math.ceil(CHECKED_SAMPLES / output.hop_length), MAX_CHECKED_FRAMES)
    n_frames = math.ceil(output.lag / output.hop_length) + n_checked
    feeds, rng = draw(n_frames, 0), np.random.default_rng(0)
    session = Session(model)
    whole = next(iter(session.run(_as_given(feeds, time_inputs, session)).values())).reshape(-1)
    mixed = iter(lambda: int(rng.choice([1, 2, 5, 9])), None)
    schedules: list[Iterator[int]] = [repeat(size) for size in (*CHECKED_SIZES, n_frames)]
    peak, largest = float(np.abs(whole).max()), 0.0
    for sizes in (*schedules, mixed):
        samples = np.concatenate([piece.reshape(-1) for piece in pushed(engine, feeds, n_frames, sizes)])
        assert samples.shape == whole.shape
        largest = max(largest, float(np.abs(samples - whole).max()) / peak)
    return largest


def pushed(engine: Engine, feeds: Feeds, n_frames: int, sizes: Iterator[int]) -> Iterator[np.ndarray]:
    """Stream an utterance, so many frames at a time."""
    decoder, start = StatefulDecoder(engine), 0
    while start < n_frames:
        stop = min(start + next(sizes), n_frames)
        yield decoder.push(engine.contract.cut(feeds, start, stop), last=stop == n_frames)
        start = stop


def _as_given(feeds: Feeds, time_inputs: Mapping[str, int], session: Session) -> dict[str, np.ndarray]:
    # Time is last in a stream, and where the module has it in the original.
    return {
        key: np.ascontiguousarray(np.moveaxis(feeds[key], -1, time_inputs[key])) if key in time_inputs
        else feeds[key]
        for key in session.inputs
    }  # fmt: skip


def time_strategies(
    engine: OrtEngine,
    native: NativeEngine | None,
    model: onnx.ModelProto,
    time_inputs: Mapping[str, int],
    draw: Draw,
    *,
    n_rounds: int,
) -> dict[str, Any]:
    """Time one utterance whole, streamed, by overlap where a context is enough, and in the native engine."""
    assert engine.contract.streaming is not None
    hop_length = engine.contract.streaming.outputs[0].hop_length
    chunk_frames = max(1, round(CHUNK_SAMPLES / hop_length))
    n_frames = chunk_frames * N_CHUNKS
    feeds = draw(n_frames, 0)

    def decode(decoder: Decoder, size: int) -> None:
        for start in range(0, n_frames, size):
            stop = min(start + size, n_frames)
            part: Feeds = engine.contract.cut(feeds, start, stop)
            decoder.push(part, last=stop == n_frames)

    runs = {
        "whole": lambda: engine.whole(feeds),
        "streamed": lambda: decode(StatefulDecoder(engine), chunk_frames),
    }
    if native is not None:
        runs["native, whole"] = lambda: native.whole(feeds)
        runs["native, streamed"] = lambda: decode(StatefulDecoder(native), chunk_frames)
    try:
        field = receptive_field(model, time_inputs=dict(time_inputs))
    except ModelError:
        pass
    else:
        context = {"left_context": field.left_context, "lookahead": field.lookahead}
        runs["overlap"] = lambda: decode(
            OverlapDecoder(engine, **context, hop_length=int(hop_length)), chunk_frames
        )
    return {"chunk_frames": chunk_frames, "seconds": in_turn(runs, n_rounds=n_rounds)}


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the table and how it was measured; the same result gives the same text."""
    head = [
        "decoder", "what it has", "parameters", "difference", "lag (frames)", "state", "computed twice",
        "made stateful", "engine", "streamed / whole", "streamed / overlap", "native / ONNX Runtime",
    ]  # fmt: skip
    lines = [
        *table(head, [_row(*item) for item in result["families"].items()]),
        "",
        "Random weights: as many as published where the module is from transformers; the others are written "
        "after their papers, some with fewer. The difference is the largest to the whole run, of its peak, "
        f"over chunks of {', '.join(map(str, CHECKED_SIZES))} frames, mixed sizes and the whole. Times "
        f"are medians of the ratio within a round, of {result['n_rounds']}, on one thread: an utterance of "
        f"{N_CHUNKS} chunks of about {CHUNK_SAMPLES} samples. The engine is the one that `auto` takes, which "
        "is the faster one; its stream is compared with its own whole run, and with overlap decoding in ONNX "
        "Runtime, by the context that the decoder needs. The last column compares the streams of both "
        "engines, or says what the native one doesn't know. To make a decoder stateful takes the time and "
        "the memory that stand there, the latter over the model's own size.",
        "",
        stamp(result["facts"], command="make bench-decoders"),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, found: Mapping[str, Any]) -> list[str]:
    size = f"{found['n_parameters'] / 1e6:.1f} M"
    if "refused" in found:
        return [name, found["what"], size, f"refused: {found['refused']}", *[""] * 8]
    seconds, prefix, engine = found["seconds"], "", "ONNX Runtime"
    compared = f"no: {found['not_native']}"
    if "native, streamed" in seconds:
        native = ratio(seconds["native, streamed"], seconds["streamed"])
        prefix, engine = ("native, ", "native") if native < 1 else ("", engine)
        compared = f"{native:.2f}"
    streamed, overlap = seconds[f"{prefix}streamed"], seconds.get("overlap")
    return [
        name,
        found["what"],
        size,
        f"{found['difference']:.1g}",
        f"{found['lag_frames']:.1f}",
        f"{found['state_bytes'] / 1e6:.2f} MB",
        f"{100 * found['recomputed_share']:.1f} %",
        f"{found['make_streaming_s']:.0f} s, {found['make_streaming_bytes'] / found['model_bytes']:.1f}x",
        engine,
        f"{ratio(streamed, seconds[f'{prefix}whole']):.2f}",
        "none is enough" if overlap is None else f"{ratio(streamed, overlap):.2f}",
        compared,
    ]


def main() -> int:
    """Measure all families and write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", help="some of them, with commas between: " + ", ".join(FAMILIES))
    parser.add_argument("--tiny", action="store_true", help="small ones, which are soon done")
    parser.add_argument("--rounds", type=int, default=N_ROUNDS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--docs", type=Path, help="a file that has the table between its marks")
    args = parser.parse_args()
    names: Sequence[str] = args.only.split(",") if args.only else list(FAMILIES)
    args.out.mkdir(parents=True, exist_ok=True)
    path, found = args.out / "decoders.json", dict[str, Any]()
    # Some of them are measured again, beside the others as they were.
    if args.only and path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))["families"]
    context = multiprocessing.get_context("spawn")
    for k, name in enumerate(names):
        run = partial(measure_family, name, full=not args.tiny, n_rounds=args.rounds)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found[name] = pool.submit(run).result()
        ordered = {key: found[key] for key in FAMILIES if key in found}
        result = {"facts": facts(), "n_rounds": args.rounds, "families": ordered}
        write_whole(path, compact_json(result))
        show_progress("decoders", (k + 1) / len(names))
    if args.docs is not None:
        write_between(args.docs, MARKS, to_markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
