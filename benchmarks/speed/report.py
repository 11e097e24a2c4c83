"""What was measured, as Markdown: the targets first, then a table for each part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from speed.clicks import CLICK_DB, EXCESS_DB
from speed.markdown import MS, machine_label, stamp, table, targets_table, threads_label, times
from speed.measure import ratio
from speed.public import fidelity_table, quality_table, sizes_table
from speed.targets import check

Data = Mapping[str, Any]

_GIGA = 1e9
_PREBUFFERS_S = {"continuity": 0.0, "C50": 0.05, "C100": 0.1, "C200": 0.2}


def to_markdown(result: Data) -> str:
    """Return the whole report; the same result gives the same text."""
    sections: dict[str, Callable[[Data], Iterator[str]]] = {
        "end_to_end": _end_to_end,
        "memory": _memory,
        "sizes": _sizes,
        "fidelity": _fidelity,
        "quality": _quality,
        "stages": _stages,
        "growth": _growth,
        "streams": _streams,
        "start": _start,
    }
    facts = result["facts"]
    title = f"# Speed of {facts['versions']['balacoon_tk']} on {machine_label(facts)}"
    lines = [title, "", stamp(facts), ""]
    if sets := facts.get("instruction_sets"):
        lines += [f"Of the processor's instruction sets: {', '.join(sets)}.", ""]
    if result["quick"]:
        lines += ["A quick run: few rounds, and not of all texts, lengths and streams.", ""]
    lines += _targets(result["parts"])
    for name, section in sections.items():
        if name in result["parts"]:
            lines += ["", *section(result["parts"][name])]
    missing = [name for name in sections if name not in result["parts"]]
    if missing:
        lines += ["", f"Not in this record: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


def _said(*paragraphs: str) -> list[str]:
    """Return paragraphs, an empty line after each: Markdown makes one of two that touch."""
    return [line for text in paragraphs for line in (text, "")]


def _targets(parts: Data) -> Iterator[str]:
    targets = check(parts)
    met = sum(target["met"] for target in targets)
    yield from _said(
        "## Targets",
        f"{met} of {len(targets)} are met. Times are medians over rounds of the ratio within a round; two "
        "threads where nothing else is said. A phoneme here is an id that the encoder gets, pads included.",
    )
    yield from targets_table(targets)


def _end_to_end(data: Data) -> Iterator[str]:
    yield "## From text to sound, beside other engines"
    yield ""
    yield (
        "TTFA is the time from the call with text to the first audible sample that is handed over. Each "
        "engine has a process of its own, warm; median (quartiles) over rounds in turn. CPU is the time of "
        "all threads. C50 is the share of utterances without a gap after 50 ms of buffering; ÷2 is that "
        "of a machine half as fast, without buffering."
    )
    head = ["engine", "TTFA (ms)", "total (ms)", "RTF", "xRT", "CPU (s)", "chunks"]
    head += [*_PREBUFFERS_S, "continuity ÷2"]
    for n_threads, engines in data["threads"].items():
        for key in data["texts"]:
            rows = [[name, *_engine_row(engine["texts"][key])] for name, engine in engines.items()]
            audio_s = next(iter(engines.values()))["texts"][key]["audio_s"]
            label = "one minute" if key == "minute" else f"{key} phonemes"
            yield from ("", *_said(f"### {label} ({audio_s:.1f} s), {threads_label(n_threads)}"))
            yield from table(head, rows)
    yield from ("", *_said("How each engine was set:"))
    for n_threads, engines in data["threads"].items():
        for name, engine in engines.items():
            said = "; ".join(f"{key}: {value}" for key, value in engine["settings"].items())
            yield f"- {name}, {threads_label(n_threads)}: {said}"


def _memory(data: Data) -> Iterator[str]:
    yield from _said(
        "## Memory",
        "Peak of resident memory of a process that has spoken one sentence of 440 phonemes, in MB.",
    )
    rows = [
        [name, *(f"{engines[name]:.0f}" for engines in data.values())] for name in next(iter(data.values()))
    ]
    yield from table(["engine", *(threads_label(n_threads) for n_threads in data)], rows)


def _sizes(data: Data) -> Iterator[str]:
    yield from _said(
        "## Installed sizes",
        "What has to be installed to speak, in MB of 1e6 bytes: distributions with all that they require, "
        "without Python, bytecode and what is optional, and the files that the voice is read from.",
    )
    yield from sizes_table(data)


def _fidelity(data: Data) -> Iterator[str]:
    yield from _said(
        "## Streamed and whole",
        "A text of a minute on 2 threads. The difference is the largest of a streamed sample to that of the "
        "same utterance with the same noise, its sentences decoded at once; full scale is 1. A click is a "
        f"seam that bends {CLICK_DB:g} dB sharper than the 10 ms around it, and {EXCESS_DB:g} dB sharper "
        "than the whole utterance there, where that is known. Engines that hand over whole sentences have "
        "seams between them alone. The last rows are the default voice in chunks that are known to click, on "
        "the sentence of 440 phonemes.",
    )
    yield from fidelity_table(data)


def _quality(data: Data) -> Iterator[str]:
    yield from _said(
        "## How it sounds",
        f"{len(data['sentences'])} of the plain sentences, with intervals of 95 % (bootstrap over them). "
        "Words wrong are those of Whisper tiny.en; DNSMOS and DistillMOS are opinions of "
        "two models, from 1 to 5, that know no reference, and ViSQOL one of int8 beside fp32.",
    )
    yield from quality_table(data)


def _engine_row(row: Data) -> list[str]:
    late = row["underrun_s"]
    return [
        times(row["ttfa_s"]),
        times(row["total_s"], digits=0),
        f"{median(row['rtf']):.3f}",
        f"{median(row['xrt']):.1f}",
        f"{median(row['cpu_s']):.2f}",
        str(len(row["chunks"]["ready_s"])),
        *(_share(late, prebuffer_s) for prebuffer_s in _PREBUFFERS_S.values()),
        _share(row["underrun_at_half_speed_s"], 0.0),
    ]


def _share(late_s: Sequence[float], prebuffer_s: float) -> str:
    return f"{100 * sum(seconds <= prebuffer_s for seconds in late_s) / len(late_s):.0f} %"


def _stages(data: Data) -> Iterator[str]:
    graphs = data["graphs"]
    yield from _said(
        "## Stages",
        "GFLOP/s count the multiply-adds of the trained model. A share of the peak counts those that are "
        "executed, and so is given of the encoder alone: kernels of the decoder make two outputs of fewer "
        "products than are written.",
        "Nodes in the graphs, as they are loaded, and the trained model's multiply-adds:",
    )
    lengths = list(graphs["multiply_adds"]["encoder"])
    rows = [
        [
            part,
            str(graphs["n_nodes"][part]),
            str(graphs["n_nodes_trained"][part]),
            *(f"{graphs['multiply_adds'][part][key] / _GIGA:.2f} G" for key in lengths),
        ]
        for part in graphs["n_nodes"]
    ]
    yield from table(["graph", "nodes", "nodes, trained", *(f"at {key} phonemes" for key in lengths)], rows)
    yield from ("", *_said("Frontend, to its first sentence (ms):"))
    rows = [[name, *map(times, texts.values())] for name, texts in data["frontend"].items()]
    yield from table(["frontend", *next(iter(data["frontend"].values()))], rows)
    for n_threads, found in data["threads"].items():
        peak = f"registers multiply and add {found['peak_gflops']:.0f} GFLOP/s"
        yield from ("", *_said(f"### {threads_label(n_threads)}: {peak}"))
        head = ["stage (ms)", "phonemes", "voice", "against", "", "ratio", "GFLOP/s", "of the peak"]
        yield from table(head, list(_pairs(found, graphs)))
        yield ""
        rows = list(_decodings(found, graphs["multiply_adds"]["decoder"][lengths[-1]]))
        yield from table([f"{lengths[-1]} phonemes", "ms", "over full", "GFLOP/s"], rows)
        yield ""
        yield from _before_first_sound(found, graphs["before_first_sound"], lengths[0])
        shares = found["shares"]
        total = median(shares["total"])
        parts = ", ".join(
            f"{name} {100 * median(shares[name]) / total:.1f} %"
            for name in ("frontend", "encoder", "decoder", "rest")
        )
        yield ""
        yield (
            f"A stream of {lengths[-1]} phonemes takes {MS * total:.0f} ms: {parts}. The rest is the "
            "upsampler, trimming and Python."
        )


def _before_first_sound(found: Data, multiply_adds: Data, n_phonemes: str) -> Iterator[str]:
    gflop = 2 * sum(multiply_adds.values()) / _GIGA
    encoder, push = median(found["encoder"][n_phonemes]["voice"]), median(found["first_push"])
    yield (
        f"Before the first sound of {n_phonemes} phonemes come {gflop:.2f} GFLOP of arithmetic, which at the "
        f"peak takes {MS * gflop / found['peak_gflops']:.1f} ms; the encoder takes "
        f"{MS * encoder:.1f} ms and the first push {MS * push:.1f} ms."
    )


def _pairs(found: Data, graphs: Data) -> Iterator[list[str]]:
    work = graphs["multiply_adds"]
    for stage, other, title in (
        ("encoder", "trained", "encoder"),
        ("whole", "piper-tts", "ids to samples, whole"),
    ):
        for key, seconds in found[stage].items():
            flops = 2 * work["encoder"][key] + (2 * work["decoder"][key] if stage == "whole" else 0)
            share = ""
            if stage == "encoder":
                # Of what is executed: passes have taken out arithmetic that the trained graph has.
                executed = 2 * graphs["executed"][key] / median(seconds["voice"]) / _GIGA
                share = f"{100 * executed / found['peak_gflops']:.0f} %"
            yield [
                title,
                key,
                times(seconds["voice"]),
                other,
                times(seconds[other]),
                f"{ratio(seconds['voice'], seconds[other]):.2f}",
                f"{flops / median(seconds['voice']) / _GIGA:.0f}",
                share,
            ]


def _decodings(found: Data, multiply_adds: int) -> Iterator[list[str]]:
    for how, seconds in found["upsampler"].items():
        yield [f"upsampler, {how}", times(seconds), "", ""]
    full = found["decoder"]["full"]
    for how, seconds in found["decoder"].items():
        gflops = 2 * multiply_adds / median(seconds) / _GIGA
        name = f"decoder, {how if how == 'full' else f'{how} frames'}"
        yield [name, times(seconds, digits=0), f"{ratio(seconds, full):.2f}", f"{gflops:.0f}"]


def _growth(data: Data) -> Iterator[str]:
    yield f"## Growth with the text, {data['n_threads']} threads"
    for shape, curves in data["curves"].items():
        yield from ("", *_said(f"### {shape.capitalize()}: TTFA and total (ms)"))
        columns = [
            [" / ".join(f"{MS * median(point[key]):.0f}" for key in ("ttfa_s", "total_s")) for point in curve]
            for curve in curves.values()
        ]
        lengths = [str(point["n_phonemes"]) for point in next(iter(curves.values()))]
        rows = [list(row) for row in zip(lengths, *columns, strict=True)]
        yield from table(["phonemes", *curves], rows)


def _streams(data: Data) -> Iterator[str]:
    yield "## Streams at once"
    yield ""
    yield (
        "Threads over one `TTS` with a thread each; a player asks for more when less than "
        f"{data['ahead_s']:g} s is left to play. Started at random within {data['spread_s']:g} s, or all in "
        "the same moment."
    )
    for how, points in (("within seconds", data["spread"]), ("at once", data["at once"])):
        yield from ("", *_said(f"### Started {how}"))
        rows = [
            [
                str(point["n_streams"]),
                *(_share(point["underrun_s"], prebuffer_s) for prebuffer_s in _PREBUFFERS_S.values()),
                f"{MS * max(point['underrun_s']):.0f}",
                times(point["ttfa_s"], digits=0),
                f"{100 * median(point['busy']):.0f} %",
            ]
            for point in points
        ]
        head = ["streams", *_PREBUFFERS_S, "worst wait (ms)", "TTFA (ms)", "processors busy"]
        yield from table(head, rows)


def _start(data: Data) -> Iterator[str]:
    yield from _said("## Start")
    rows = [
        ["`import balacoon_tk`", times(data["import_s"], digits=0)],
        ["`from balacoon_tk import TTS`, NumPy included", times(data["import_tts_s"], digits=0)],
        ["a warm `TTS()`", times(data["tts_s"], digits=0)],
        ["ONNX Runtime loading the same graphs", times(data["graphs_s"], digits=0)],
    ]
    yield from table(["what", "ms"], rows)
