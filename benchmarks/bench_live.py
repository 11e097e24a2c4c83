"""Text in pieces: how soon it is heard, and what a clause that is spoken alone costs; the default voice.

    python benchmarks/bench_live.py --docs docs/live_text.md  # and benchmarks/results/live.json; minutes
    python benchmarks/bench_live.py --only=latency            # the other part stays as it was measured

Latency is measured from the piece that completes the first sentence, the first letters of the next one, to
the first chunk of audio, in a program that is warm. For clauses, sentences are spoken whole and with the
first clause alone, and compared by DNSMOS and by their pitch; a second seed shows how much pitch varies
anyway.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import queue
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from balacoon_tk import TTS
from balacoon_tk._files import write_whole
from balacoon_tk.frontend.reading.reader import Reading, read
from balacoon_tk.metrics.bootstrap import PairedBootstrap
from balacoon_tk.metrics.perception import dnsmos
from balacoon_tk.metrics.sentences import hard_sentences, plain_sentences
from balacoon_tk.metrics.speech import pitch_errors
from speed.machine import facts
from speed.results import compact_json, write_between

PARTS = ("latency", "clause")
MARKS = ("<!-- live -->", "<!-- end -->")
RESULTS = Path(__file__).parent / "results" / "live.json"
TARGET_MS, SHORT_TARGET_MS = 40.0, 25.0
# A few more of the kind that assistants give: with those of the package more than fifty have a first clause.
ANSWERS = """\
Sure, I can help you with that, as soon as you tell me where you live.
If you want to cook rice, use twice as much water as rice, and a pinch of salt.
That depends on the weather, but most people bring a coat and an umbrella.
As far as I know, the museum opens at nine, and closes at six in the evening.
Here is what I found: the train leaves every hour, and takes about forty minutes.
First of all, turn off the power; then remove the cover, and look for the red switch.
I am sorry to hear that, and I hope you will feel better soon.
In most countries, the answer would be yes, although there are exceptions.
The recipe is quite simple: mix the flour, the eggs and the milk, and let it rest.
To be honest, I am not sure, but I can look it up for you.
You have two meetings today, one with your team, and one with the bank.
Once you have saved the file, close the window, and start the program again.
When the light turns green, press the button twice, and wait for the sound.
There are many reasons for that, and most of them have to do with money.
Before we begin the lesson, let me ask you a question about your last holiday.
Of the three hotels near the station, the cheapest one has no breakfast.
""".splitlines()
FIRST_SENTENCES = {
    "short": "Sure, that is easy.",
    "60 characters": "You can take the train from the main station every morning.",
    "120 characters": (
        "The first thing you should know about this recipe is that it takes a whole evening, and that it is "
        "worth every minute."
    ),
}


def latency(*, n_rounds: int) -> dict[str, Any]:
    """Measure the first chunk with one thread, as servers have it, and with all, as a `TTS` has by itself."""
    return {
        name: _latency(TTS(frontend="espeak", n_threads=n_threads), n_rounds=n_rounds)
        for name, n_threads in (("1", 1), ("all", None))
    }


def _latency(tts: TTS, *, n_rounds: int) -> dict[str, Any]:
    """Measure milliseconds to the first chunk, of a text that is there and of one that comes in pieces."""
    rows: list[tuple[str, float, float]] = []
    for _, (name, sentence) in itertools.product(range(n_rounds + 2), FIRST_SENTENCES.items()):
        # In turn, so that whatever else the machine does is in the way of both.
        start_s = time.perf_counter()
        with closing(tts.stream(f"{sentence} Then", seed=0)) as chunks:
            next(chunks)
        rows.append((name, (time.perf_counter() - start_s) * 1e3, _from_pieces_ms(tts, sentence)))
    measured = rows[2 * len(FIRST_SENTENCES) :]
    return {
        name: {
            "whole_ms": _middle([whole for other, whole, _ in measured if other == name]),
            "pieces_ms": _middle([pieces for other, _, pieces in measured if other == name]),
        }
        for name in FIRST_SENTENCES
    }


def _middle(times: list[float]) -> dict[str, float]:
    return {"median": median(times), "p10": quantiles(times, n=10)[0], "p90": quantiles(times, n=10)[-1]}


def _from_pieces_ms(tts: TTS, sentence: str) -> float:
    sent_s: list[float] = []
    heard: queue.SimpleQueue[None] = queue.SimpleQueue()

    def write() -> Iterator[str]:
        # As a language model does: word by word, a while between.
        for word in sentence.split(" "):
            yield f" {word}"
            time.sleep(0.01)
        sent_s.append(time.perf_counter())
        yield " Then"
        heard.get()

    with closing(tts.stream(write(), seed=0)) as chunks:
        next(chunks)
        found = (time.perf_counter() - sent_s[0]) * 1e3
        heard.put(None)
    return found


def clause(tts: TTS) -> dict[str, Any]:
    """Compare sentences that are spoken whole with the same ones whose first clause is spoken alone."""
    sentences = [*plain_sentences(), *itertools.chain.from_iterable(hard_sentences().values()), *ANSWERS]
    by_clause = Reading(clause=True)
    chosen = [text for text in sentences if len([*read(text)]) == 1 < len([*read(text, by_clause)])]
    rows: list[dict[str, float]] = []
    for text in chosen:
        whole, again, parted = (
            tts.synthesize(text, seed=seed, clause=alone)
            for seed, alone in ((0, False), (1, False), (0, True))
        )
        rate, first = tts.get_sampling_rate(), next(read(text, by_clause))
        of_clause, of_seed = (pitch_errors(each, whole, sample_rate=rate) for each in (parted, again))
        rows.append(
            {
                "dnsmos_whole": dnsmos(whole, sample_rate=rate).overall,
                "dnsmos_clause": dnsmos(parted, sample_rate=rate).overall,
                "dnsmos_another_seed": dnsmos(again, sample_rate=rate).overall,
                "f0_rmse_cents": of_clause.rmse_cents,
                "f0_rmse_cents_of_another_seed": of_seed.rmse_cents,
                "longer_s": (len(parted) - len(whole)) / rate,
                "characters": float(len(text)),
                "characters_of_clause": float(len(first.text)),
            }
        )
        print(f"{len(rows)} of {len(chosen)} sentences", end="\r", flush=True)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    draws = PairedBootstrap(len(rows))

    def difference(name: str, baseline: str) -> dict[str, float]:
        return asdict(draws.difference((columns[name], None), (columns[baseline], None)))

    return {
        "n_sentences": len(rows),
        "means": {name: asdict(draws.ratio(column)) for name, column in columns.items()},
        "differences": {
            "dnsmos": difference("dnsmos_clause", "dnsmos_whole"),
            "dnsmos_of_another_seed": difference("dnsmos_another_seed", "dnsmos_whole"),
            "f0_rmse_cents": difference("f0_rmse_cents", "f0_rmse_cents_of_another_seed"),
        },
    }


def to_markdown(parts: dict[str, Any]) -> str:
    """Return the figures as they stand in the docs."""
    head = ("threads", "first sentence", "in pieces", "10 % to 90 %", "of a text that is there", "target")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    rows = ((n, name, times) for n, each in parts["latency"].items() for name, times in each.items())
    for n_threads, name, times in rows:
        pieces, target = times["pieces_ms"], SHORT_TARGET_MS if name == "short" else TARGET_MS
        spread = f"{pieces['p10']:.1f} to {pieces['p90']:.1f} ms"
        whole = f"{times['whole_ms']['median']:.1f} ms"
        row = (n_threads, name, f"{pieces['median']:.1f} ms", spread, whole, f"{target:.0f} ms")
        lines.append(f"| {' | '.join(row)} |")
    found, means = parts["clause"]["differences"], parts["clause"]["means"]
    of_clause = {
        "DNSMOS, spoken whole": means["dnsmos_whole"],
        "DNSMOS, the first clause alone: difference": found["dnsmos"],
        "DNSMOS, another seed: difference": found["dnsmos_of_another_seed"],
        "F0, the first clause alone: RMSE in cents": means["f0_rmse_cents"],
        "F0, another seed: RMSE in cents": means["f0_rmse_cents_of_another_seed"],
        "seconds that it takes longer": means["longer_s"],
        "characters of the sentence": means["characters"],
        "characters of its first clause": means["characters_of_clause"],
    }
    lines += [
        "",
        f"| of {parts['clause']['n_sentences']} sentences | mean | 95 % interval |",
        "|---|---|---|",
    ]
    lines += [
        f"| {name} | {x['value']:.3g} | {x['low']:.3g} to {x['high']:.3g} |" for name, x in of_clause.items()
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure, and write JSON and the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=PARTS, help="one part; the other stays as it was measured")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--out", type=Path, default=RESULTS, help="file of the results")
    parser.add_argument("--docs", type=Path, help="Markdown file to write the tables into")
    args = parser.parse_args()
    kept = json.loads(args.out.read_text(encoding="utf-8"))["parts"] if args.out.exists() else {}
    parts = dict(kept)
    for part in PARTS if args.only is None else (args.only,):
        is_latency = part == "latency"
        parts[part] = latency(n_rounds=args.rounds) if is_latency else clause(TTS(frontend="espeak"))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    write_whole(args.out, compact_json({"facts": facts(), "load_average": load, "parts": parts}))
    report = to_markdown(parts) if set(parts) == set(PARTS) else compact_json(parts)
    if args.docs and set(parts) == set(PARTS):
        write_between(args.docs, MARKS, report)
    print(report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
