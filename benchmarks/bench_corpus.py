"""Corpora by the default voice: what a second worker brings, what Ray costs, and whether batches would pay.

    python benchmarks/bench_corpus.py --docs docs/corpora.md  # and benchmarks/results/corpus.json; 20 minutes
    python benchmarks/bench_corpus.py --only batch            # the other parts stay as they were measured
    python benchmarks/bench_corpus.py --only none --docs docs/corpora.md     # write the tables anew
    python benchmarks/bench_corpus.py --sentences 60 --rounds 1 --out FILE  # see that it works

A run's wall time is that of a corpus of many sentences less that of a tiny one made in the same round the
same way: what is left is without starting processes or actors, loading voices and writing reports, and the
time of the tiny one is given apart, as is that of starting Ray. Runs take turns. What processors did is
counted as well, since a machine that does something else meanwhile makes all of them slower.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx

from balacoon_tk._files import write_whole
from balacoon_tk.corpus import CorpusReport, make_corpus
from balacoon_tk.corpus.plan import BATCH_SIZE
from balacoon_tk.metrics import plain_sentences
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import Session
from balacoon_tk.voice.default import default_voice_folder
from balacoon_tk.voice.files import VoiceFiles
from native.decoding import engine_of, frames_of
from speed.machine import facts
from speed.measure import in_turn, ratio, show_progress
from speed.results import compact_json, write_between

PARTS = ("workers", "ray", "batch")
MARKS = ("<!-- corpora -->", "<!-- end -->")
RESULTS = Path(__file__).parent / "results" / "corpus.json"
SPEED_UP_TARGET, OVERHEAD_TARGET = 1.85, 1.10
N_CORES = 16
"""Of a machine on paper."""
N_TINY = 32
"""Sentences of one word: two batches, so that two workers start."""
BATCH = 8
BATCH_FRAMES = (64, 448)
"""Of a steady push, and of an utterance of five seconds."""


def say(folder: Path, n_sentences: int, **how: Any) -> dict[str, float]:
    """Make one corpus, and return what it took; of a tiny one if there are no sentences."""
    texts = list(itertools.islice(itertools.cycle(plain_sentences()), n_sentences)) or ["Yes."] * N_TINY
    start_s = time.perf_counter()
    report = make_corpus(texts, None, folder, **how)
    found = {"wall_s": time.perf_counter() - start_s, "audio_s": report.audio_s, **figures_of(folder, report)}
    shutil.rmtree(folder)
    return found


def figures_of(folder: Path, report: CorpusReport) -> dict[str, float]:
    """Return what lies on the disk, and the time that workers and processors spoke."""
    audio = sum(path.stat().st_size for path in folder.glob("audio/**/*.flac"))
    manifest = (folder / "metadata.parquet").stat().st_size
    return {
        "audio_bytes": audio,
        "manifest_bytes": manifest,
        "n_utterances": report.n_utterances,
        "synthesis_s": sum(each.synthesis_s for each in report.variants),
        "cpu_s": sum(each.cpu_s for each in report.variants),
    }


def in_rounds(hows: dict[str, dict[str, Any]], *, n_sentences: int, n_rounds: int) -> dict[str, Any]:
    """Make corpora in turn; of each how, a record a round of the tiny one and of the large one."""
    found: dict[str, Any] = {name: {"tiny": [], "large": []} for name in hows}
    with tempfile.TemporaryDirectory() as folder:
        for i_round in range(n_rounds):
            for k, (name, how) in enumerate(hows.items()):
                found[name]["tiny"].append(say(Path(folder) / "tiny", 0, **how))
                found[name]["large"].append(say(Path(folder) / "large", n_sentences, **how))
                show_progress(" ".join(hows), (i_round * len(hows) + k + 1) / (n_rounds * len(hows)))
    return found


def start_cluster() -> float:
    """Start Ray on this machine, for all corpora that follow; return the seconds that it took."""
    import ray

    start_s = time.perf_counter()
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    return time.perf_counter() - start_s


def work_s(runs: dict[str, list[dict[str, float]]]) -> list[float]:
    """Return for each round the wall time without what a tiny corpus takes."""
    return [large["wall_s"] - tiny["wall_s"] for large, tiny in zip(runs["large"], runs["tiny"], strict=True)]


def batch(*, n_rounds: int) -> dict[str, Any]:
    """Time the trained decoder on one thread: utterances one by one, and all of them in one run."""
    folder, options = default_voice_folder(), RuntimeOptions(n_threads=1)
    files = VoiceFiles(folder)
    plain = files.model(files.manifest.decoder)
    one, several = Session(plain, options), Session(with_batches(plain), options)
    native = engine_of(folder, 1, "native")
    found: dict[str, Any] = {}
    for n_frames in BATCH_FRAMES:
        frames = frames_of(files.manifest.n_channels, n_frames)
        stacked = np.repeat(frames, BATCH, axis=0)
        together, alone = several.run({"frames": stacked})["samples"], one.run({"frames": frames})["samples"]
        assert np.abs(together[-1] - alone[0]).max() < 1e-4, "what is timed is the same"
        runs = {
            "onnxruntime, together": lambda stacked=stacked: several.run({"frames": stacked}),
            "onnxruntime, one by one": lambda frames=frames: [
                one.run({"frames": frames}) for _ in range(BATCH)
            ],
            "native, one by one": lambda frames=frames: [
                native.whole({"frames": frames}) for _ in range(BATCH)
            ],
        }
        # One thread each, so that what the processor does is all that there is, whoever else is there.
        found[str(n_frames)] = in_turn(runs, n_rounds=n_rounds, clock=time.process_time)
    return found


def with_batches(plain: onnx.ModelProto) -> onnx.ModelProto:
    """Return a decoder that takes any number of utterances at once."""
    model = onnx.ModelProto()
    model.CopyFrom(plain)
    # Shapes between the nodes were found for one.
    del model.graph.value_info[:]
    for each in (*model.graph.input, *model.graph.output):
        each.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def to_markdown(result: dict[str, Any]) -> str:
    """Return the figures as they stand in the docs; a part that is missing is named."""
    parts, machine = result["parts"], result["facts"]
    lines = [
        "| | sentences | start-up (s) | the rest (s) | audio hours an hour |",
        "|---|---:|---:|---:|---:|",
    ]
    said = []
    for part in ("workers", "ray"):
        if part not in parts:
            said.append(f"Not measured in this run: {part}.")
            continue
        runs = parts[part]["runs"]
        lines += [row(name, found) for name, found in runs.items()]
        first, second = map(work_s, runs.values())
        if part == "workers":
            gain = ratio(first, second)
            target = f"(target {SPEED_UP_TARGET}: {_met(gain >= SPEED_UP_TARGET, result)})"
            said.append(f"Two workers make {gain:.2f} times as much as one {target}.")
        else:
            cost, started_s = ratio(second, first), parts[part]["cluster_s"]
            target = f"(target {OVERHEAD_TARGET:.2f}: {_met(cost <= OVERHEAD_TARGET, result)})"
            said.append(
                f"On Ray, started in {started_s:.1f} s, the rest takes {cost:.2f} of the time {target}."
            )
        said.append(f"Rounds in turn: {len(first)}.")
    runs = parts["workers"]["runs"]["1 worker"]["large"]
    cost, one = median(each["cpu_s"] / each["audio_s"] for each in runs), runs[0]
    lines += [
        "",
        *said,
        f"A second of audio takes {cost:.4f} s of a processor: {1 / cost:.0f} hours in an hour of a core, "
        f"{one['audio_bytes'] / one['audio_s'] * 3600 / 1e6:.0f} MB of FLAC for each, and "
        f"{one['manifest_bytes'] / one['n_utterances'] / 1e3:.1f} kB of manifest an utterance.",
        f"{machine['n_cpus']} cores, {machine['cpu']}; load average {result['load_average']:.1f} at the end.",
        "",
        f"| {BATCH} utterances on one thread | in one run | one by one | native engine, one by one |",
        "|---|---:|---:|---:|",
    ]
    for n_frames, seconds in parts["batch"].items():
        times = [f"{1e3 * median(values):.0f} ms" for values in seconds.values()]
        lines.append(f"| {n_frames} frames each | {' | '.join(times)} |")
    return "\n".join([*lines, "", *on_paper(cost, one)]) + "\n"


def row(name: str, runs: dict[str, list[dict[str, float]]]) -> str:
    """Return what one way to make corpora took, medians of its rounds."""
    wall_s, start_s = median(work_s(runs)), median(each["wall_s"] for each in runs["tiny"])
    large, tiny = runs["large"][0], runs["tiny"][0]
    speed = (large["audio_s"] - tiny["audio_s"]) / wall_s
    return f"| {name} | {large['n_utterances']:.0f} | {start_s:.1f} | {wall_s:.1f} | {speed:.1f} |"


def on_paper(cost: float, one: dict[str, float]) -> list[str]:
    """Return what machines would make together if nothing but their processors held them up."""
    a_file_s = one["audio_s"] / one["n_utterances"]
    lines = [
        f"| machines of {N_CORES} cores | hours of audio an hour | 1000 hours take | MB/s | files a second "
        "| batches a second |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for n_machines in (1, 10, 100):
        rate = n_machines * N_CORES / cost  # seconds of audio a second
        n_files, flac = rate / a_file_s, rate * one["audio_bytes"] / one["audio_s"] / 1e6
        lines.append(
            f"| {n_machines} | {rate:.0f} | {1000 * 60 / rate:.1f} min | {flac:.0f} | {n_files:.0f} "
            f"| {n_files / BATCH_SIZE:.0f} |"
        )
    return [*lines, "", f"On paper, from the above: {1000 * cost:.0f} core hours for 1000 hours of audio."]


def _met(is_met: bool, result: dict[str, Any]) -> str:
    # Workers make a load of one for each core; what is more takes from some runs and not from others.
    if result["load_average"] > result["facts"]["n_cpus"] + 1:
        return "not judged, since other programs ran"
    return "met" if is_met else "**missed**"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    only = "one part, or none; the others stay as they were measured"
    parser.add_argument("--only", choices=(*PARTS, "none"), help=only)
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS, help="file of the results")
    parser.add_argument("--docs", type=Path, help="Markdown file to write the tables into")
    args = parser.parse_args()
    hows = {
        "workers": {"1 worker": {"n_workers": 1}, "2 workers": {"n_workers": 2}},
        "ray": {
            "2 workers, local": {"n_workers": 2},
            "2 actors of Ray": {"n_workers": 2, "engine": "ray"},
        },
    }
    parts = json.loads(args.out.read_text(encoding="utf-8"))["parts"] if args.out.exists() else {}
    for part in PARTS if args.only is None else {args.only} & {*PARTS}:
        if part == "batch":
            parts[part] = batch(n_rounds=3 * args.rounds)
        else:
            cluster_s = start_cluster() if part == "ray" else 0.0
            rounds = in_rounds(hows[part], n_sentences=args.sentences, n_rounds=args.rounds)
            parts[part] = {"cluster_s": cluster_s, "runs": rounds}
        result = {"facts": facts(), "load_average": os.getloadavg()[0], "parts": parts}
        write_whole(args.out, compact_json(result))
    if {"workers", "batch"} <= set(parts):
        # What is rounded in the file is rounded in the text, so that one can be made of the other.
        text = to_markdown(json.loads(args.out.read_text(encoding="utf-8")))
        if args.docs:
            write_between(args.docs, MARKS, text)
        print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
