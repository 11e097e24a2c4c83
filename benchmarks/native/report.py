"""What the native engine was to reach, whether it does, and the tables of `docs/native.md`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, Final

from speed.markdown import MS, stamp, table, targets_table, threads_label
from speed.measure import ratio
from speed.targets import Target, check

Data = Mapping[str, Any]

_GIGA = 1e9


def _over(numerator: str, denominator: str, n_threads: str | None = None) -> Callable[[Data], float]:
    def measured(data: Data) -> float:
        seconds = (data if n_threads is None else data["threads"][n_threads])["seconds"]
        return ratio(seconds[numerator], seconds[denominator])

    return measured


def share_of_peak(data: Data, n_threads: str) -> float:
    """Return the multiply-adds of a whole run, as written, over what registers alone do in that time."""
    found = data["threads"][n_threads]
    peak_s, whole_s = found["seconds"]["peak"], found["seconds"]["native, whole"]
    return 2 * data["multiply_adds"] / found["peak_operations"] * ratio(peak_s, whole_s)


def _difference(name: str) -> Callable[[Data], float]:
    return lambda data: max(found["differences"][name] for found in data["threads"].values())


def rtf(data: Data, name: str, audio: str) -> list[float]:
    """Return the seconds that a second of audio takes, a value a round."""
    return [seconds / data["audio_s"][audio] for seconds in data["seconds"][name]]


def _engines(field: str, peer: str, engine: str = "balacoon_tk, native") -> Callable[[Data], float]:
    return lambda data: ratio(data["engines"][engine][field], data["engines"][peer][field])


def _memory(data: Data) -> float:
    return float(data["peak_mb"]["balacoon_tk, native"] / data["peak_mb"]["balacoon_tk, onnxruntime"])


TARGETS: Final = (
    *(
        Target(f"whole, fp32, over ONNX Runtime's, {threads_label(n)}", "decoding", limit,
               _over("native, whole", "onnxruntime, whole", n))
        for n, limit in (("1", 0.85), ("2", 0.75))
    ),
    *(
        Target(f"whole, fp32, of the peak, {threads_label(n)}", "decoding", 0.85,
               lambda data, n=n: share_of_peak(data, n), at_least=True)
        for n in ("1", "2")
    ),
    *(
        Target(f"chunks of {size} frames over the whole run, {threads_label(n)}", "decoding", limit,
               _over(f"native, {size}", "native, whole", n))
        for size, limit in ((64, 1.03), (16, 1.08), (8, 1.2))
        for n in ("1", "2")
    ),
    *(
        Target(f"first push over ONNX Runtime's, {threads_label(n)}", "decoding", 0.5,
               _over("native, first push", "onnxruntime, first push", n))
        for n in ("1", "2")
    ),
    Target("samples, to the trained decoder's", "decoding", 2e-5, _difference("to_trained"), unit=""),
    Target("streamed samples, to whole ones", "decoding", 0.0, _difference("streamed_to_whole"), unit=""),
    Target("the same run again", "decoding", 0.0, _difference("again"), unit=""),
    Target("int8, whole: times as fast as fp32, 1 thread", "int8", 3.0,
           _over("fp32, whole", "int8, whole"), at_least=True),
    Target("int8, chunks of 16 frames: times as fast as fp32, 1 thread", "int8", 2.5,
           _over("fp32, 16", "int8, 16"), at_least=True),
    Target("int8, points of DNSMOS lost", "int8", 0.05,
           lambda data: data["quality"]["native"]["dnsmos_drop"], unit=""),
    Target("int8, share of words more that are wrong", "int8", 0.01,
           lambda data: data["quality"]["native"]["wer_increase"], unit=""),
    Target("int8, RTF of the whole decode over hibari-tts's, 1 thread", "int8", 1.3,
           lambda data: ratio(rtf(data, "int8, whole", "decoder"), rtf(data, "hibari-tts", "hibari-tts"))),
    Target("TTFA, 60 phonemes, over piper-tts", "speaking", 0.12, _engines("ttfa_s", "piper-tts")),
    Target("TTFA, 60 phonemes, over streaming-vits", "speaking", 0.2, _engines("ttfa_s", "streaming-vits")),
    Target("TTFA, 60 phonemes, two speakers, over streaming-vits with its cached decoder", "speaking", 0.2,
           _engines("ttfa_s", "streaming-vits, two speakers", "balacoon_tk, two speakers")),
    Target("streamed in total over piper-tts whole, 60 phonemes", "speaking", 0.6,
           _engines("total_s", "piper-tts")),
    Target("peak memory over that with ONNX Runtime", "speaking", 1.0, _memory),
)  # fmt: skip
"""On the default voice; the one of two threads where nothing else is said."""


def to_markdown(result: Data) -> str:
    """Return all tables; the same result gives the same text."""
    parts, rounds = result["parts"], result["n_rounds"]
    targets = check(parts, TARGETS)
    n_met = sum(target["met"] for target in targets)
    least, most = min(result["load"]), max(result["load"])
    lines = [
        f"{n_met} of {len(targets)} are met. Times are medians over {rounds} rounds of the ratio within a "
        f"round, all runs in turn. The machine's load average was {least:.1f} to {most:.1f}, this program "
        "included.",
        "",
        *targets_table(targets),
    ]
    for part, write in (
        ("decoding", _decoding),
        ("encoding", _encoding),
        ("layers", _layers),
        ("int8", _int8),
        ("speaking", _speaking),
    ):
        if part in parts:
            lines += ["", *write(parts[part], parts)]
    return "\n".join([*lines, "", stamp(result["facts"], command="make bench-native")]) + "\n"


def _decoding(data: Data, parts: Data) -> list[str]:
    del parts
    threads = data["threads"]
    peaks = {n: _gflops(found["peak_operations"], found["seconds"]["peak"]) for n, found in threads.items()}
    rows = [
        ["multiply-adds in registers alone", *(f"{peak:.0f} GFLOP/s" for peak in peaks.values())],
        *(
            [
                f"whole, {engine}",
                *(
                    f"{MS * median(found['seconds'][f'{engine}, whole']):.0f} ms, "
                    f"{_gflops(2 * data['multiply_adds'], found['seconds'][f'{engine}, whole']):.0f} GFLOP/s"
                    for found in threads.values()
                ),
            ]
            for engine in ("native", "onnxruntime")
        ),
        ["the native one's share of the peak", *(f"{100 * share_of_peak(data, n):.0f} %" for n in threads)],
    ]
    names = [name for name in next(iter(threads.values()))["seconds"] if name != "peak"]
    chunks = sorted({int(name.rpartition(" ")[2]) for name in names if name[-1].isdigit()}, reverse=True)
    for size in chunks:
        cells = []
        for found in threads.values():
            seconds = found["seconds"]
            cells.append(
                ", ".join(
                    f"{ratio(seconds[f'{engine}, {size}'], seconds[f'{engine}, whole']):.2f}"
                    for engine in ("native", "onnxruntime")
                    if f"{engine}, {size}" in seconds
                )
            )
        rows.append([f"chunks of {size} over the whole run: native, onnxruntime", *cells])
    for engine in ("native", "onnxruntime"):
        values = (median(found["seconds"][f"{engine}, first push"]) for found in threads.values())
        rows.append([f"first push, {engine}", *(f"{MS * value:.2f} ms" for value in values)])
    kernels = next(iter(threads.values()))["kernels"]
    return [
        f"An utterance of {data['n_frames']} frames, kernels for {kernels}. A share counts the multiply-adds "
        "of the convolutions as they are written; kernels that need fewer may be beyond all of the peak.",
        "",
        *table(["decoding", *map(threads_label, threads)], rows),
    ]


def _encoding(data: Data, parts: Data) -> list[str]:
    del parts
    rows = []
    for n in data["n_phonemes"]:
        cells = []
        for found in data["threads"].values():
            ours, theirs = (found["seconds"][f"{engine}, {n}"] for engine in ("native", "onnxruntime"))
            times = f"{MS * median(ours):.1f} ms, {MS * median(theirs):.1f} ms"
            cells.append(f"{times}: {ratio(ours, theirs):.2f}")
        rows.append([f"{n} ids", *cells])
    return [
        "The encoder, from ids to encodings and durations, in the native engine, in ONNX Runtime, and the "
        "first over the second.",
        "",
        *table(["encoding", *map(threads_label, data["threads"])], rows),
    ]


def _layers(data: Data, parts: Data) -> list[str]:
    rows = []
    for label, found in data.items():
        work, seconds = 2 * found["multiply_adds"], found["seconds"]
        rows.append(
            [label, *(f"{_gflops(work, seconds[name]):.0f}" for name in ("native", "onnxruntime", "int8"))]
        )
    peak = ""
    if "decoding" in parts:
        alone = parts["decoding"]["threads"]["1"]
        peak = f" Registers alone do {_gflops(alone['peak_operations'], alone['seconds']['peak']):.0f}."
    return [
        f"Convolutions with a leaky ReLU behind, on one thread, in GFLOP/s, in int8 GOP/s.{peak}",
        "",
        *table(["convolution", "native fp32", "ONNX Runtime fp32", "native int8"], rows),
    ]


def _int8(data: Data, parts: Data) -> list[str]:
    del parts
    seconds, judged = data["seconds"], data["quality"]["native"]
    losses = [
        [
            engine,
            f"{quality['n_layers']}",
            f"{-quality['dnsmos_drop']:+.3f}",
            f"{100 * quality['wer_increase']:+.1f} %",
            f"{quality['lsd_db']:.1f} dB",
        ]
        for engine, quality in data["quality"].items()
    ]
    rows = [
        [name, f"{MS * median(seconds[name]):.0f} ms", f"{median(rtf(data, name, audio)):.4f}"]
        for name in seconds
        for audio in ("hibari-tts" if name == "hibari-tts" else "decoder",)
    ]
    return [
        "All layers in int8, in that of each engine, on one thread and the decoder alone; of hibari-tts, a "
        "small model of another voice, all from phonemes to samples. The native engine's samples have an SNR "
        f"of {data['snr_db']:.1f} dB to fp32, and streamed ones differ from whole ones by "
        f"{data['streamed_to_whole']:.1g}.",
        "",
        *table(["decoding", "time", "RTF"], rows),
        "",
        f"What {judged['n_sentences']} sentences lose against fp32:",
        "",
        *table(["int8 of", "layers", "DNSMOS", "words wrong", "log-spectral distance"], losses),
    ]


def _speaking(data: Data, parts: Data) -> list[str]:
    del parts
    rows = []
    for name, found in data["engines"].items():
        memory = data["peak_mb"].get(name)
        load = data["load_s"].get(name.rpartition(" ")[2])
        rows.append(
            [
                name,
                f"{MS * median(found['ttfa_s']):.1f} ms",
                f"{MS * median(found['total_s']):.0f} ms",
                "" if memory is None else f"{memory:.0f} MB",
                "" if load is None else f"{MS * median(load):.0f} ms",
            ]
        )
    return [
        "From text to sound, a sentence of 60 phonemes on two threads, each engine in a process of its own; "
        "memory is the peak of one that has spoken a long sentence. streaming-vits can't export its cached "
        "decoder for a voice of one speaker; that of two is the default one with layers of small random "
        "weights.",
        "",
        *table(["engine", "TTFA", "in total", "peak memory", "loading the voice"], rows),
    ]


def _gflops(n_operations: float, seconds: list[float]) -> float:
    return n_operations / median(seconds) / _GIGA
