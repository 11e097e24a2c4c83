"""What each pass of `balacoon_tk.targets.ort_cpu` brings: a voice with all of them, and with all but one.

    python benchmarks/bench_passes.py                       # into benchmarks/results, some minutes
    python benchmarks/bench_passes.py --rounds 2 --out DIR  # see that it works

All forms of a graph run in one process and take turns, in another order each round, so that what the machine
does meanwhile does the same to all of them. A pass earns its place where the graph takes 1.03 times as long
without it, in one column at least. What a pass does may be there for another's sake: those that find
nothing to do without it are named beside it, and its ratio is that of all of them.

Out of scope are int8 and fp16, whose passes are a part of these, and whether what comes out is right: that
the samples are equal is only looked at so that no form is fast by being wrong.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
import onnx

from balacoon_tk._files import write_whole
from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.frontend import PhonemeMap
from balacoon_tk.graph.streaming import make_streaming
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session
from balacoon_tk.stages.encoder import Encoder
from balacoon_tk.stages.sentence import own_settings, prepare_sentence
from balacoon_tk.stages.settings import DEFAULT_CHUNK_FRAMES
from balacoon_tk.targets.choice import ONE_THREAD, choose_target
from balacoon_tk.targets.ort_cpu.costs import OrtCpuCosts
from balacoon_tk.targets.ort_cpu.optimize import (
    DECODER_PASSES,
    ENCODER_PASSES,
    Optimized,
    optimize_decoder,
    optimize_encoder,
)
from balacoon_tk.voice.default import default_voice_folder
from balacoon_tk.voice.files import VoiceFiles
from balacoon_tk.voice.voice import Voice, load_voice
from speed.machine import facts
from speed.markdown import stamp, table, threads_label
from speed.measure import in_turn, show_progress, shuffled, spread
from speed.results import compact_json

ALL, HALVES = "all", "halves"
"""Forms that no pass is left out of: that of the target, and one with halves where the target has none."""
WORTH = 1.03
THREADS = (1, 2)
N_ROUNDS = 12
"""Of the whole utterance; what is shorter is timed more often, since its spread is wider."""
N_TIMES_AS_OFTEN = {"first push": 4, "whole": 1, "60 phonemes": 4, "first sound of 60": 4}
"""2 for the others."""
N_FRAMES = 440
"""Of the whole utterance; five seconds of the default voice."""
N_PHONEMES = (60, 440)
N_PUSHES = {16: 4, 64: 2}
"""Frames of a chunk, and how many are timed at once: in a stream a push finds the caches of the last one."""
MAX_ABS_DIFF = 1e-3
RESULTS = Path(__file__).parent / "results"
TIMED_DECODER_PASSES = tuple(name for name in DECODER_PASSES if name not in ("keep_rows", "split_elu"))
"""All but those that find nothing to do in a voice: `bench_decoders` has the decoders that they are for."""

Runs = Mapping[str, Callable[[], object]]
Forms = dict[str, Optimized]


def optimized_decoders(model: onnx.ModelProto) -> Forms:
    """Return a decoder after all passes, and under each pass's name after all the others."""
    left_out = {ALL: (), **{name: (name,) for name in TIMED_DECODER_PASSES}}
    return {name: optimize_decoder(model, leave_out=names) for name, names in left_out.items()}


def optimized_encoders(model: onnx.ModelProto, phoneme_ids: Sequence[int]) -> Forms:
    """Return an encoder after all passes, and under each pass's name after all the others."""
    left_out = {ALL: (), **{name: (name,) for name in ENCODER_PASSES}}
    return {
        name: optimize_encoder(model, phoneme_ids=phoneme_ids, leave_out=names)
        for name, names in left_out.items()
    }


def stateful_decoders(optimized: Forms, options: RuntimeOptions) -> dict[str, OrtEngine]:
    """Load the forms of a decoder as the target for these options has them, and one in halves or without."""
    in_halves = choose_target(options) != ONE_THREAD
    forms = {name: (form, in_halves) for name, form in optimized.items()}
    forms[HALVES] = (optimized[ALL], not in_halves)
    return {
        name: OrtEngine(make_streaming(form.model, costs=OrtCpuCosts(in_halves=halved)), options)
        for name, (form, halved) in forms.items()
    }


def decoder_runs(engine: OrtEngine, frames: np.ndarray) -> Runs:
    """Return what is timed of one form of a decoder."""
    beginning, playing = StatefulDecoder(engine), StatefulDecoder(engine)
    lag_frames = math.ceil(beginning.lag_samples / beginning.hop_length)

    def window(n_frames: int) -> np.ndarray:
        return np.ascontiguousarray(frames[..., :n_frames])

    def first_push(chunk: np.ndarray) -> None:
        beginning.reset()
        beginning.push(chunk)

    def push(chunk: np.ndarray, count: int) -> None:
        # The stream never ends, so that every push is one from the middle of an utterance.
        for _ in range(count):
            playing.push(chunk)

    return {
        "first push": partial(first_push, window(lag_frames + DEFAULT_CHUNK_FRAMES[0])),
        **{f"{n} frames": partial(push, window(n), count) for n, count in N_PUSHES.items()},
        "whole": partial(engine.whole, {"frames": frames}),
    }


def encoder_runs(session: Session, phoneme_ids: Sequence[int]) -> Runs:
    """Return what is timed of one form of an encoder; all forms get the same ids and noise."""
    rng = np.random.default_rng(0)
    runs = {}
    for n in N_PHONEMES:
        feeds = {
            "phoneme_ids": rng.choice(np.asarray(phoneme_ids, np.int64), (1, n)),
            "length_scale": np.ones(1, np.float32),
            "duration_noise": rng.standard_normal((1, 2, n), np.float32),
            "speaker_id": np.zeros(1, np.int64),
        }
        runs[f"{n} phonemes"] = partial(session.run, {name: feeds[name] for name in session.inputs})
    return runs


def all_decoder_runs(decoders: Forms, options: RuntimeOptions) -> dict[str, Runs]:
    """Return what is timed of every form of a decoder; all get the same frames."""
    engines = stateful_decoders(decoders, options)
    n_channels = engines[ALL].contract.inputs["frames"].shape[1]
    frames = np.random.default_rng(0).standard_normal((1, n_channels, N_FRAMES), np.float32)
    check_same(engines, frames)
    return {name: decoder_runs(engine, frames) for name, engine in engines.items()}


def all_encoder_runs(encoders: Forms, voice: Voice) -> dict[str, Runs]:
    """Return what is timed of every form of a voice's encoder."""
    text = voice.manifest.frontend
    phoneme_ids = sorted(text.known_ids)
    runs = {}
    for name, form in encoders.items():
        session = Session(form.model, voice.options)
        encoder = Encoder(form.model, n_symbols=text.n_symbols, options=voice.options)
        runs[name] = {
            **encoder_runs(session, phoneme_ids),
            **first_sound_runs(replace(voice, text_encoder=encoder)),
        }
    return runs


def first_sound_runs(voice: Voice) -> Runs:
    """Return what is timed of a voice until it sounds: a sentence is encoded, and its first chunk decoded.

    Unlike an encoder that runs by itself, this one finds the caches full of the decoder.
    """
    phoneme_map = PhonemeMap.of(voice.manifest.frontend)
    symbols, rng = sorted(phoneme_map.symbols), np.random.default_rng(0)
    settings = own_settings(voice)

    def first_sound(phonemes: Sequence[str]) -> None:
        prepared = prepare_sentence(voice, phoneme_map.encode(phonemes), settings, index=0)
        embedding, strategy = prepared.speaker_embedding, settings.strategy
        chunks = voice.render(prepared.upsampler, embedding, strategy, DEFAULT_CHUNK_FRAMES)
        next(iter(chunks))

    # A symbol is an id and a pad.
    return {f"first sound of {n}": partial(first_sound, rng.choice(symbols, n // 2)) for n in N_PHONEMES}


def time_forms(
    forms: Mapping[str, Runs], *, n_rounds: int, n_threads: int
) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each column and form, a value a round."""
    # What one thread takes of a processor is known whatever else the machine does; two wait for each other.
    clock = process_time if n_threads == 1 else perf_counter
    found = {}
    for column in next(iter(forms.values())):
        runs = {name: runs_of_form[column] for name, runs_of_form in forms.items()}
        n_timed = N_TIMES_AS_OFTEN.get(column, 2) * n_rounds
        found[column] = in_turn(runs, n_rounds=n_timed, order=shuffled, clock=clock)
    return found


def measure(files: VoiceFiles, *, n_rounds: int, threads: Sequence[int] = THREADS) -> dict[str, Any]:
    """Time all forms of both graphs of a voice with one speaker, in their target for so many threads.

    Returns
    -------
    dict
        By the graph: ``passes``, the names of those that found something to do, by form; ``threads``, by
        their number, column and form the seconds, a value a round.
    """
    text = files.manifest.speech
    decoders = optimized_decoders(files.model(files.manifest.decoder))
    encoders = optimized_encoders(files.model(text.encoder), sorted(text.frontend.known_ids))
    found: dict[str, Any] = {
        part: {"passes": {name: form.passes for name, form in forms.items()}, "threads": {}}
        for part, forms in (("decoder", decoders), ("encoder", encoders))
    }
    for k, n_threads in enumerate(threads):
        options = RuntimeOptions(n_threads=n_threads)
        # A dictionary of sessions goes as soon as it was timed: all at once would be gigabytes.
        for part, make_runs in (
            ("decoder", partial(all_decoder_runs, decoders, options)),
            ("encoder", partial(all_encoder_runs, encoders, load_voice(files.path, options=options))),
        ):
            seconds = time_forms(make_runs(), n_rounds=n_rounds, n_threads=n_threads)
            found[part]["threads"][str(n_threads)] = seconds
        show_progress("passes", (k + 1) / len(threads))
    return found


def check_same(engines: Mapping[str, OrtEngine], frames: np.ndarray) -> None:
    """See that all forms of a decoder give the same samples."""
    wanted = engines[ALL].whole({"frames": frames})
    for name, engine in engines.items():
        for output, array in engine.whole({"frames": frames}).items():
            difference = float(np.abs(array - wanted[output]).max())
            assert difference <= MAX_ABS_DIFF, f"{name}: {output} differs by {difference:.2g}"


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the report; the same result gives the same text."""
    least, most = min(result["load"]), max(result["load"])
    lines = [
        "# What each pass brings",
        "",
        stamp(result["facts"], command="make bench-passes"),
        "",
        "Time without a pass over time with it, by their medians, and quartiles of the ratio within a round: "
        f"above 1 the pass makes it faster. It earns its place by {WORTH} in a column whose lower quartile "
        "is above 1 too, and else by as much within noise. One thread is timed in seconds of the processor, "
        f"two by the clock; whole is an utterance of {N_FRAMES} frames, timed in {result['n_rounds']} rounds "
        "and all else more often. The machine's load average was "
        f"{least:.1f} to {most:.1f}, this program included.",
    ]
    for part, data in result["parts"].items():
        threads = data["threads"].items()
        heads = [f"{threads_label(n)}, {column}" for n, columns in threads for column in columns]
        rows = [_row(name, data) for name in _names(data)]
        lines += ["", f"## {part.capitalize()}", ""]
        lines += table(["without", *heads, "earns its place", "then idle as well"], rows)
    return "\n".join(lines) + "\n"


def _names(data: Mapping[str, Any]) -> list[str]:
    """Return the forms that something is left out of, as they were timed."""
    first_column = next(iter(next(iter(data["threads"].values())).values()))
    return [name for name in first_column if name != ALL]


def _row(name: str, data: Mapping[str, Any]) -> list[str]:
    cells, verdict = [], "**no**"
    for n_threads, columns in data["threads"].items():
        for seconds in columns.values():
            without, with_it = seconds[name], seconds[ALL]
            if name == HALVES and n_threads == "1":
                without, with_it = with_it, without  # the target for one thread has none
            middle = median(without) / median(with_it)
            low, _, high = spread([a / b for a, b in zip(without, with_it, strict=True)])
            cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
            if middle >= WORTH and verdict != "yes":
                verdict = "yes" if low > 1 else "within noise"
    passes = data["passes"]
    idle = [each for each in passes[ALL] if each not in (name, *passes.get(name, passes[ALL]))]
    return [f"`{name}`", *cells, verdict, ", ".join(idle)]


def main() -> int:
    """Measure a voice and write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--voice", type=Path, help="a voice with one speaker; the default one if not given")
    parser.add_argument("--rounds", type=int, default=N_ROUNDS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    files = VoiceFiles(args.voice or default_voice_folder())
    load_before = os.getloadavg()[0]
    result = {
        "facts": facts(),
        "n_rounds": args.rounds,
        "parts": measure(files, n_rounds=args.rounds),
        # To be seen beside the figures: on a busy machine those of two threads say little.
        "load": [load_before, os.getloadavg()[0]],
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write_whole(args.out / "passes.json", compact_json(result))
    write_whole(args.out / "passes.md", to_markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
