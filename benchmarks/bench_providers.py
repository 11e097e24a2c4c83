"""The default voice in another execution provider of ONNX Runtime, beside its kernels for processors.

    python benchmarks/bench_providers.py OpenVINOExecutionProvider --docs docs/execution_providers.md

It runs in an environment whose ONNX Runtime has that provider, and writes what it finds beside what was found
of others. Both are timed in turn, in seconds of the processor, which other programs leave alone. With several
threads these count what waits for others in a loop: they say what a run costs, and not how soon it is done.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import onnxruntime

from balacoon_tk._files import write_whole
from balacoon_tk._typing import FloatArray
from balacoon_tk.runtime.options import CPU_PROVIDER, Provider, RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.choice import find_compiled
from balacoon_tk.voice.default import default_voice_folder
from balacoon_tk.voice.files import VoiceFiles
from balacoon_tk.voice.voice import Voice, load_voice
from native.decoding import N_FRAMES, first_push, frames_of, stream
from speed.machine import facts
from speed.markdown import stamp, table
from speed.measure import SETTLE_S, in_turn, ratio, show_progress
from speed.results import compact_json, write_between

Found = Mapping[str, Any]
RESULTS = Path(__file__).parent / "results" / "providers.json"
MARKS = ("<!-- providers -->", "<!-- end -->")
THREADS = (1, 2)
CHUNK_FRAMES = (64, 16, 8)
N_PHONEMES = (64, 443)
N_LOADS = 3
OWN_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "OpenVINOExecutionProvider": {"load_config": "{}"},
    "CUDAExecutionProvider": {"use_tf32": "1"},
}
"""With which a provider computes in the precision of its own choice."""
CACHED = ("OpenVINOExecutionProvider",)
"""Those that keep what they have compiled in a folder, ``cache_dir``."""


def measure(folder: Path, provider: str, *, n_rounds: int) -> dict[str, Any]:
    """Load, run, stream and compare a voice in both, with each number of threads."""
    found: dict[str, Any] = {}
    for k, n_threads in enumerate(THREADS):
        found[str(n_threads)] = _measure(folder, provider, n_threads, n_rounds=n_rounds)
        show_progress(f"{n_threads} threads", (k + 1) / len(THREADS))
    return found


def _measure(folder: Path, provider: str, n_threads: int, *, n_rounds: int) -> dict[str, Any]:
    load = partial(_load, folder, n_threads=n_threads)
    voices = {"processor": load(CPU_PROVIDER), "provider": load(provider)}
    engines = {name: voice.decoder for name, voice in voices.items()}
    frames = frames_of(voices["provider"].manifest.n_channels, N_FRAMES)
    ids = {n: _phoneme_ids(voices["provider"], n) for n in N_PHONEMES}
    runs = {}
    for name, voice in voices.items():
        runs |= {f"{name}, encoder, {n}": partial(voice.encoder.encode, ids[n]) for n in N_PHONEMES}
        runs[f"{name}, whole"] = partial(engines[name].whole, {"frames": frames})
        runs[f"{name}, first push"] = partial(first_push, engines[name], frames)
        runs |= {f"{name}, chunks of {n}": partial(stream, engines[name], frames, n) for n in CHUNK_FRAMES}
    loads: dict[str, Provider] = {"processor": CPU_PROVIDER, "provider": provider}
    with tempfile.TemporaryDirectory() as cache:
        if provider in CACHED:
            loads["provider, cached"] = (provider, {"cache_dir": cache})
        seconds = in_turn(
            {f"{name}, load": partial(load, each) for name, each in loads.items()},
            n_rounds=N_LOADS,
            clock=process_time,
        )
    return {
        "seconds": {**in_turn(runs, n_rounds=n_rounds, settle_s=SETTLE_S, clock=process_time), **seconds},
        "new_lengths": {name: _new_lengths(voice, n_rounds) for name, voice in voices.items()},
        "differences": _differences(voices, frames, ids[N_PHONEMES[-1]]),
        "own_precision": _own_precision(load, provider, voices["processor"], frames),
        "nodes": _nodes(folder, provider, voices["provider"], frames, ids[N_PHONEMES[0]]),
    }


def _load(folder: Path, provider: Provider, *, n_threads: int) -> Voice:
    options = RuntimeOptions(n_threads=n_threads, providers=(provider,), backend="onnxruntime")
    return load_voice(folder, options=options)


def _phoneme_ids(voice: Voice, n_phonemes: int) -> Any:
    return np.random.default_rng(n_phonemes).choice(
        np.array(voice.manifest.frontend.known_ids, np.int64), n_phonemes
    )


def _new_lengths(voice: Voice, n_rounds: int) -> dict[str, list[float]]:
    """Time whole runs of lengths that nobody has run, and of the same lengths again."""
    found: dict[str, list[float]] = {"first": [], "again": []}
    for k in range(n_rounds):
        feeds = {"frames": frames_of(voice.manifest.n_channels, N_FRAMES // 2 + k)}
        for times in found.values():
            start = process_time()
            voice.decoder.whole(feeds)
            times.append(process_time() - start)
    return found


def _differences(voices: Mapping[str, Voice], frames: FloatArray, ids: Any) -> dict[str, Any]:
    ours, theirs = (voices[name] for name in ("provider", "processor"))
    whole = _whole(ours, frames)
    encodings = [voice.encoder.encode(ids, noise_w=0.5, seed=1) for voice in (ours, theirs)]
    return {
        "streamed_to_whole": max(
            float(np.abs(_streamed(ours, frames, n) - whole).max()) for n in CHUNK_FRAMES
        ),
        "whole_to_processor": float(np.abs(whole - _whole(theirs, frames)).max()),
        "encodings_to_processor": float(np.abs(encodings[0].encodings - encodings[1].encodings).max()),
        "durations_that_differ": int((encodings[0].durations != encodings[1].durations).sum()),
    }


def _whole(voice: Voice, frames: FloatArray) -> FloatArray:
    return voice.decoder.whole({"frames": frames})["samples"].reshape(-1)


def _streamed(voice: Voice, frames: FloatArray, chunk_frames: int) -> FloatArray:
    return np.concatenate([each.reshape(-1) for each in stream(voice.decoder, frames, chunk_frames)])


def _own_precision(load: Any, provider: str, processor: Voice, frames: FloatArray) -> dict[str, Any] | None:
    """Compare a provider that nobody has told to compute in float32; None of one that has no such choice."""
    if provider not in OWN_SETTINGS:
        return None
    voice = load((provider, OWN_SETTINGS[provider]))
    whole = _whole(voice, frames)
    streamed = _streamed(voice, frames, CHUNK_FRAMES[0])
    return {
        "settings": dict(OWN_SETTINGS[provider]),
        "streamed_to_whole": float(np.abs(streamed - whole).max()),
        "whole_to_processor": float(np.abs(whole - _whole(processor, frames)).max()),
    }


def _nodes(folder: Path, provider: str, voice: Voice, frames: FloatArray, ids: Any) -> dict[str, Any]:
    """Say in how many pieces a provider runs each graph, and which operators it leaves to the processor."""
    files = find_compiled(VoiceFiles(folder), voice.options)
    found = {}
    for part, info in (("encoder", files.info.encoder), ("decoder", files.info.decoder)):
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4
        settings.enable_profiling = True
        with tempfile.TemporaryDirectory() as where:
            settings.profile_file_prefix = str(Path(where) / "profile")
            graph = files.files.path / info.file
            session = onnxruntime.InferenceSession(str(graph), settings, providers=[provider])
            session.run(None, _feeds(graph, frames, ids))
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        run = [
            event["args"] for event in events if event.get("cat") == "Node" and "provider" in event["args"]
        ]
        by_provider = {
            name: [args["op_name"] for args in run if args["provider"] == name]
            for name in (provider, CPU_PROVIDER)
        }
        found[part] = {
            "pieces": len(by_provider[provider]),
            "on_processor": dict(Counter(by_provider[CPU_PROVIDER]).most_common()),
        }
    return found


def _feeds(graph: Path, frames: FloatArray, ids: Any) -> dict[str, Any]:
    """Return inputs for one run of a graph; that of a stateful one is its stream's only push."""
    given: dict[str, Any] = {
        "frames": frames,
        "phoneme_ids": ids[None],
        "length_scale": np.ones(1, np.float32),
        "duration_noise": np.zeros((1, 2, len(ids)), np.float32),
    }
    session = Session(graph)
    if "frames" in session.inputs:
        engine = OrtEngine(graph)
        if engine.streaming is not None:
            given |= engine.save(engine.start()) | {engine.streaming.last_input: np.ones(1, np.int64)}
    return {name: given[name] for name in session.inputs}


def to_markdown(results: Mapping[str, Any]) -> str:
    """Return the tables of all providers that were measured."""
    lines: list[str] = []
    for provider, found in results.items():
        lines += [f"### {provider}", "", stamp(found["facts"], command="bench_providers.py"), ""]
        head = ["", *(f"{n} thread{'s' * (n != '1')}" for n in found["threads"])]
        lines += [*table(head, list(_rows(list(found["threads"].values())))), ""]
    return "\n".join(lines)


def _rows(by_threads: Sequence[Found]) -> Iterator[list[str]]:
    ours = [name.removeprefix("provider, ") for name in by_threads[0]["seconds"] if name[:8] == "provider"]
    cells: dict[str, Callable[[Found], str]] = {
        **{f"{name}: times the processor's": partial(_time, name=name) for name in ours},
        "a length for the first time: times again": _first_time,
        "largest difference of whole samples to the processor's": partial(
            _difference, to="whole_to_processor"
        ),
        "of streamed to whole samples": partial(_difference, to="streamed_to_whole"),
        "of encodings to the processor's": partial(_difference, to="encodings_to_processor"),
        "durations that differ": partial(_difference, to="durations_that_differ"),
        "without float32 asked for: to the processor's": partial(_own, to="whole_to_processor"),
        "without float32 asked for: streamed to whole": partial(_own, to="streamed_to_whole"),
        "pieces of the encoder; nodes left to the processor": partial(_pieces, part="encoder"),
        "pieces of the decoder; nodes left to the processor": partial(_pieces, part="decoder"),
    }
    for label, cell in cells.items():
        yield [label, *map(cell, by_threads)]


def _time(found: Found, name: str) -> str:
    ours, theirs = (
        found["seconds"][f"provider, {name}"],
        found["seconds"][f"processor, {name.removeprefix('cached, ')}"],
    )
    return f"{ratio(ours, theirs):.2f} ({1e3 * median(ours):.0f} ms)"


def _first_time(found: Found) -> str:
    times = found["new_lengths"]["provider"]
    return f"{ratio(times['first'], times['again']):.2f}"


def _difference(found: Found, to: str) -> str:
    return (
        f"{found['differences'][to]:.1e}" if to != "durations_that_differ" else str(found["differences"][to])
    )


def _own(found: Found, to: str) -> str:
    own = found["own_precision"]
    return "-" if own is None else f"{own[to]:.1e}"


def _pieces(found: Found, part: str) -> str:
    nodes = found["nodes"][part]
    left = ", ".join(f"{n} {name}" for name, n in nodes["on_processor"].items())
    return f"{nodes['pieces']}; {left or 'none'}"


def main() -> int:
    """Measure, and write JSON and the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("provider", help="the execution provider, by ONNX Runtime's name")
    parser.add_argument("-v", "--voice", type=Path, help="voice folder (default: the default voice)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS, help="file of the results")
    parser.add_argument("--docs", type=Path, help="Markdown file to write the tables into")
    args = parser.parse_args()
    folder = args.voice or default_voice_folder()
    results = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    found = facts()
    # Each provider's package has another name, and all are imported by one.
    found["versions"] |= {"onnxruntime": onnxruntime.__version__}
    results[args.provider] = {
        "facts": found,
        "threads": measure(folder, args.provider, n_rounds=args.rounds),
    }
    write_whole(args.out, compact_json(dict(sorted(results.items()))))
    report = to_markdown(results)
    if args.docs:
        write_between(args.docs, MARKS, report)
    print(report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
