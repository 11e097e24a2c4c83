"""The public table: a row for each engine, and a column for what each part of a record says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from balacoon_tk.metrics import PairedBootstrap
from peers import OWN_VOICES, TWO_SPEAKERS
from speed.markdown import MS, machine_label, table

Data = Mapping[str, Any]

_THREADS = "2"
_TEXT = "440"
_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of an engine."""

    title: str
    part: str
    """Of a record, that it is taken from."""
    cell: Callable[[Data, str], str]
    """Gives what stands in the cell, from the data of the part and the engine's name."""


def _spoken(data: Data, name: str) -> Data:
    spoken: Data = data["threads"][_THREADS][name]["texts"][_TEXT]
    return spoken


def _cpu(data: Data, name: str) -> str:
    spoken = _spoken(data, name)
    return f"{_MINUTE_S * median(spoken['cpu_s']) / spoken['audio_s']:.1f}"


def _half_speed(data: Data, name: str) -> str:
    texts = data["threads"][_THREADS][name]["texts"].values()
    late_s = [seconds for text in texts for seconds in text["underrun_at_half_speed_s"]]
    return f"{100 * sum(seconds == 0 for seconds in late_s) / len(late_s):.0f} %"


def _size(data: Data, name: str) -> str:
    return f"{data[name]['packages_mb'] + data[name]['voice_mb']:.0f}"


def difference_cell(data: Data) -> str:
    """Return the difference of streamed to whole samples as a table says it."""
    difference = data["max_abs_diff"]
    return "by sentence" if difference is None else f"{difference:.1g}"


def clicks_cell(data: Data) -> str:
    """Return clicks a minute as a table says them."""
    return f"{_MINUTE_S * data['n_clicks'] / data['audio_s']:.1f}" if data["n_seams"] else "no seam"


def _word_errors(data: Data, name: str) -> str:
    record = data["engines"][name]
    return f"{100 * sum(record['n_word_errors']) / sum(record['n_words']):.1f}"


def _opinion(judge: str) -> Callable[[Data, str], str]:
    def cell(data: Data, name: str) -> str:
        values = data["engines"][name][judge]
        return f"{sum(values) / len(values):.2f}"

    return cell


COLUMNS: Final = (
    Column("TTFA (ms)", "end_to_end", lambda data, name: f"{MS * median(_spoken(data, name)['ttfa_s']):.0f}"),
    Column("xRT", "end_to_end", lambda data, name: f"{median(_spoken(data, name)['xrt']):.1f}"),
    Column("CPU (s/min)", "end_to_end", _cpu),
    Column("continuity ÷2", "end_to_end", _half_speed),
    Column("memory (MB)", "memory", lambda data, name: f"{data[_THREADS][name]:.0f}"),
    Column("installed (MB)", "sizes", _size),
    Column("streamed to whole", "fidelity", lambda data, name: difference_cell(data["engines"][name])),
    Column("clicks/min", "fidelity", lambda data, name: clicks_cell(data["engines"][name])),
    Column("WER (%)", "quality", _word_errors),
    Column("DNSMOS", "quality", _opinion("dnsmos")),
    Column("DistillMOS", "quality", _opinion("distillmos")),
)


def public_table(result: Data) -> list[str]:
    """Return the table of one record; what it has no part for is no column."""
    parts = result["parts"]
    columns = [column for column in COLUMNS if column.part in parts]
    engines = parts["end_to_end"]["threads"][_THREADS]
    rows = [[name, *(_cell(column, parts, name) for column in columns)] for name in engines]
    return table(["engine", *(column.title for column in columns)], rows)


def _cell(column: Column, parts: Data, name: str) -> str:
    try:
        return column.cell(parts[column.part], name)
    except KeyError:
        return ""  # the part was measured of other engines


def public_tables(results: Sequence[Data]) -> str:
    """Return the tables of all machines on which engines have spoken, each stamped."""
    lines = []
    for result in results:
        if "end_to_end" not in result["parts"]:
            continue
        facts, measured = result["facts"], result["parts"]["end_to_end"]["threads"][_THREADS]
        spoken = next(iter(measured.values()))["texts"][_TEXT]
        others = " and ".join(name for name in measured if name in OWN_VOICES)
        own = f", and all speak the default voice but {others}" if others else ""
        if set(measured) & set(TWO_SPEAKERS):
            own += "; that of two speakers has layers of small random weights besides"
        missing = [name for name in ("memory", "sizes", "fidelity", "quality") if name not in result["parts"]]
        left_out = f" Not in this record: {', '.join(missing)}." if missing else ""
        n_met = sum(target["met"] for target in result["targets"])
        n_rounds = len(spoken["ttfa_s"])
        lines += [
            *public_table(result),
            "",
            f"{machine_label(facts)}, balacoon_tk {facts['versions']['balacoon_tk']}: one sentence of "
            f"{spoken['audio_s']:.1f} s, {_THREADS} threads, medians of {n_rounds} rounds in "
            f"turn{own}. Of {len(result['targets'])} targets {n_met} are met.{left_out}",
            "",
        ]
    if len({result["facts"]["cpu"] for result in results}) == 1:
        lines += ["No run on another maker's processor is kept yet.", ""]
    return "\n".join(lines).rstrip()


def readme_tables(results: Sequence[Data]) -> str:
    """Return what the README quotes."""
    said = (
        "[docs/benchmarks.md](docs/benchmarks.md) says how each column is measured; "
        "[bench.md](benchmarks/results/bench.md) lists the targets, and has stages, growth and many streams "
        "at once."
    )
    return f"{public_tables(results)}\n\n{said}"


def docs_tables(results: Sequence[Data]) -> str:
    """Return what the docs quote: all public tables, and what stands behind columns of the newest record."""
    lines = [public_tables(results)]
    newest = results[0]["parts"]
    for part, title, write in (
        ("fidelity", "Streamed and whole, a text of a minute", fidelity_table),
        ("quality", "How it sounds, with intervals of 95 % over the sentences", quality_table),
        ("sizes", "What is installed", sizes_table),
    ):
        if part in newest:
            lines += ["", f"**{title}**", "", *write(newest[part])]
    return "\n".join(lines)


def fidelity_table(data: Data) -> list[str]:
    """Return what streaming does to each engine's samples, and to those of ways that are known to click."""
    rows = [
        [name, difference_cell(found), str(found["n_seams"]), str(found["n_clicks"]), clicks_cell(found)]
        for name, found in (*data["engines"].items(), *data["controls"].items())
    ]
    return table(["engine", "streamed to whole", "seams", "clicks", "clicks/min"], rows)


def sizes_table(data: Data) -> list[str]:
    """Return what each engine needs."""
    rows = [
        [
            name,
            f"{found['packages_mb']:.0f}",
            f"{found['voice_mb']:.0f}",
            f"{found['packages_mb'] + found['voice_mb']:.0f}",
            str(len(found["distributions"])),
        ]
        for name, found in data.items()
    ]
    return table(["engine", "packages (MB)", "voice (MB)", "together", "distributions"], rows)


def quality_table(data: Data) -> list[str]:
    """Return what judges say of each engine, with intervals over the sentences."""
    bootstrap = PairedBootstrap(len(data["sentences"]))

    def interval(form: str, *values: Sequence[float], factor: float = 1.0) -> str:
        estimate = bootstrap.ratio(*values)
        value, low, high = (format(factor * x, form) for x in (estimate.value, estimate.low, estimate.high))
        return f"{value} [{low}, {high}]"

    rows = [
        [
            name,
            interval(".1f", record["n_word_errors"], record["n_words"], factor=100.0),
            interval(".2f", record["dnsmos"]),
            interval(".2f", record["distillmos"]),
            interval(".2f", record["visqol"]) if "visqol" in record else "",
        ]
        for name, record in data["engines"].items()
    ]
    return table(["engine", "WER (%)", "DNSMOS", "DistillMOS", "ViSQOL to fp32"], rows)
