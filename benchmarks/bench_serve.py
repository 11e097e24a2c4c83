"""Measure the server: what it adds to the Python stream, 16 listeners, and what clients leave that go away.

    python benchmarks/bench_serve.py                         # a few minutes
    python benchmarks/bench_serve.py --quick                 # see that it works

The server is a process of its own, ``balacoon-tk serve`` with one thread for each run.

- First byte: from the request to the first audio in the answer, and from `TTS.stream` to its first chunk, one
  after the other for each text, so that whatever disturbs one disturbs the other.
- Listeners: each plays one text after another at the speed of its sound, from 100 ms after the first audio on
  (C100), and reads as fast as it comes. The clients share the processors with the server. Then as many listen
  to streams of this process, which tells what is the server's and what the machine's.
- Those who leave: by HTTP, the WebSocket and Wyoming, `AT_ONCE` at a time, each somewhere in the middle, by a
  farewell or without. What the process has afterwards is compared with what it had after the first of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from websockets.asyncio.client import connect

from balacoon_tk import TTS
from balacoon_tk._files import write_whole
from balacoon_tk.metrics import plain_sentences
from speed.machine import facts
from speed.results import compact_json

RESULTS = Path(__file__).parent / "results" / "serve.json"
WAV_HEADER = 44
PREBUFFER_S = 0.1
N_LISTENERS = 16
AT_ONCE = 50


@dataclass(frozen=True)
class Process:
    """A server that runs."""

    pid: int
    port: int
    wyoming_port: int

    @property
    def speech(self) -> str:
        """Where it speaks."""
        return f"http://127.0.0.1:{self.port}/v1/audio/speech"

    def metrics(self) -> dict[str, float]:
        """Return what it has counted."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics").text
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def holds(self) -> dict[str, float]:
        """Return what the process has: threads, descriptors and memory."""
        proc = Path(f"/proc/{self.pid}")
        pages = int((proc / "statm").read_text().split()[1])
        return {
            "threads": len(list((proc / "task").iterdir())),
            "descriptors": len(list((proc / "fd").iterdir())),
            "rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        }


@contextlib.contextmanager
def serving(voice: str | None, frontend: str) -> Iterator[Process]:
    """Run ``balacoon-tk serve`` until the block ends."""
    command = [sys.executable, "-m", "balacoon_tk", "serve", "--port", "0", "--wyoming", "tcp://127.0.0.1:0"]
    command += ["--frontend", frontend, "--max-waiting", "100", *(["-v", voice] if voice else [])]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        ports = []
        for line in process.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            if found := re.search(r" at \w+://127\.0\.0\.1:(\d+)$", line.strip()):
                ports.append(int(found[1]))
            if len(ports) == 2:
                break
        # What it says from now on is passed on, so that it never waits for somebody who reads.
        threading.Thread(target=lambda: sys.stderr.writelines(process.stderr or ()), daemon=True).start()
        try:
            yield Process(process.pid, *ports)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def first_bytes(server: Process, tts: TTS, texts: Sequence[str], n_rounds: int) -> dict[str, Any]:
    """Compare the first audio of an answer with the first chunk of a stream, in turn."""
    served, python = [], []
    with httpx.Client(timeout=60) as client:
        for k in range(n_rounds):
            text = texts[k % len(texts)]
            begun_s = time.perf_counter()
            stream = tts.stream(text, seed=k)
            next(stream)
            python.append(time.perf_counter() - begun_s)
            stream.close()
            time.sleep(0.05)
            begun_s = time.perf_counter()
            request = {"input": text, "response_format": "wav", "seed": k}
            with client.stream("POST", server.speech, json=request) as answer:
                n_bytes = 0
                for part in answer.iter_raw():
                    n_bytes += len(part)
                    if n_bytes > WAV_HEADER:
                        break
                served.append(time.perf_counter() - begun_s)
            time.sleep(0.05)
    more = [one - other for one, other in zip(served, python, strict=True)]
    return {
        "n": n_rounds,
        "python_median_ms": 1e3 * median(python),
        "served_median_ms": 1e3 * median(served),
        "difference_median_ms": 1e3 * median(more),
        "difference_p90_ms": 1e3 * sorted(more)[int(0.9 * len(more))],
        "ratio_median": median(one / other for one, other in zip(served, python, strict=True)),
    }


async def ask(server: Process, client: httpx.AsyncClient, text: str) -> AsyncIterator[int]:
    """Give the bytes of audio of each part of an answer, as it comes."""
    n_header = WAV_HEADER
    request = {"input": text, "response_format": "wav"}
    async with client.stream("POST", server.speech, json=request) as answer:
        answer.raise_for_status()
        async for part in answer.aiter_raw():
            n_bytes = max(0, len(part) - n_header)
            n_header -= len(part) - n_bytes
            if n_bytes:
                yield n_bytes


async def stream(tts: TTS, text: str) -> AsyncIterator[int]:
    """Give the bytes of each chunk of a Python stream, as it comes."""
    async for chunk in tts.astream(text):
        yield 2 * len(chunk.samples)


async def listen(parts: AsyncIterator[int], sample_rate: int) -> tuple[float, float]:
    """Play what comes, and return when its first came and how long playback stood still at C100, in s."""
    begun_s = time.perf_counter()
    first_s, gap_s, n_bytes = 0.0, 0.0, 0
    async for n_more in parts:
        now_s = time.perf_counter()
        if not n_bytes:
            first_s = now_s
        else:
            # What has come before ends then, if it has been played without a pause.
            ends_s = first_s + PREBUFFER_S + gap_s + n_bytes / (2 * sample_rate)
            gap_s += max(0.0, now_s - ends_s)
        n_bytes += n_more
    ends_s = first_s + PREBUFFER_S + gap_s + n_bytes / (2 * sample_rate)
    await asyncio.sleep(max(0.0, ends_s - time.perf_counter()))
    return first_s - begun_s, gap_s


async def listeners(
    speak: Callable[[str], AsyncIterator[int]], texts: Sequence[str], sample_rate: int, seconds: float
) -> dict[str, Any]:
    """Let `N_LISTENERS` play one text after another for some time."""
    end_s, heard = time.perf_counter() + seconds, []

    async def run(seed: int) -> None:
        choice = random.Random(seed)
        await asyncio.sleep(choice.uniform(0.0, 2.0))
        while time.perf_counter() < end_s:
            heard.append(await listen(speak(" ".join(choice.sample(texts, 3))), sample_rate))

    await asyncio.gather(*map(run, range(N_LISTENERS)))
    first, gaps = [first_s for first_s, _ in heard], [gap_s for _, gap_s in heard]
    return {
        "n_listeners": N_LISTENERS,
        "utterances": len(heard),
        "with_a_gap_at_c100": sum(gap_s > 0 for gap_s in gaps),
        "worst_gap_ms": 1e3 * max(gaps),
        "first_median_ms": 1e3 * median(first),
        "first_worst_ms": 1e3 * max(first),
    }


async def both_kinds(
    server: Process, tts: TTS, texts: Sequence[str], seconds: float
) -> dict[str, dict[str, Any]]:
    """Let listeners come to the server, and then as many to streams of this process."""
    rate = tts.get_sampling_rate()
    async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=None)) as client:
        served = await listeners(partial(ask, server, client), texts, rate, seconds)
    return {"served": served, "python": await listeners(partial(stream, tts), texts, rate, seconds)}


async def leave(server: Process, kind: int, choice: random.Random, text: str) -> None:
    """Ask for speech, take some of it and go."""
    wait_s = choice.uniform(0.0, 0.5)
    if kind == 0:
        async with connect(f"ws://127.0.0.1:{server.port}/v1/speech", compression=None) as socket:
            for word in text.split():
                await socket.send(json.dumps({"type": "text", "text": f"{word} "}))
            await asyncio.sleep(wait_s)
            socket.transport.abort() if choice.random() < 0.5 else await socket.close()
        return
    if kind == 1:
        message = {"type": "synthesize", "data": {"text": text}}
        port, data = server.wyoming_port, json.dumps(message).encode() + b"\n"
    else:
        body = json.dumps({"input": text, "response_format": choice.choice(["wav", "opus", "mp3"])}).encode()
        head = "POST /v1/audio/speech HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        port, data = server.port, f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await reader.read(choice.randrange(1, 100_000))
    writer.transport.abort() if choice.random() < 0.5 else writer.close()


async def leaving(server: Process, texts: Sequence[str], n_clients: int) -> dict[str, Any]:
    """Let clients leave in the middle, and return what the server has before and after."""
    choice, settled = random.Random(0), None

    async def quiet() -> dict[str, float]:
        for _ in range(600):
            await asyncio.sleep(0.1)
            metrics = await asyncio.to_thread(server.metrics)
            if not any(n for name, n in metrics.items() if name.startswith("balacoon_tk_streams")):
                break
        await asyncio.sleep(1.0)
        return server.holds() | {"streams": sum(n for name, n in metrics.items() if "_streams{" in name)}

    for begin in range(0, n_clients, AT_ONCE):
        several = range(begin, min(begin + AT_ONCE, n_clients))
        text = " ".join(choice.sample(texts, 6))
        await asyncio.gather(*(leave(server, k % 3, choice, text) for k in several), return_exceptions=True)
        if begin + AT_ONCE >= n_clients // 4 and settled is None:
            settled = await quiet()
    after = await quiet()
    metrics = server.metrics()
    outcomes = {name: n for name, n in metrics.items() if name.startswith("balacoon_tk_requests_total")}
    return {"n_clients": n_clients, "settled": settled, "after": after, "outcomes": outcomes}


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--voice", help="folder or .addon file; the default voice if none")
    parser.add_argument("--frontend", default="auto")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    n_rounds, seconds, n_clients = (10, 5.0, 60) if args.quick else (100, 60.0, 1000)
    texts = list(plain_sentences())
    tts = TTS(args.voice, frontend=args.frontend, n_threads=1)
    for text in texts[:3]:
        list(tts.stream(text, seed=1))
    with serving(args.voice, args.frontend) as server:
        for k in range(3):
            httpx.post(server.speech, json={"input": texts[k], "response_format": "wav"}, timeout=60)
        report: dict[str, Any] = {
            "facts": facts() | {"load": os.getloadavg()[0]},
            "first_byte": first_bytes(server, tts, texts, n_rounds),
        }
        report["listeners"] = asyncio.run(both_kinds(server, tts, texts, seconds))
        report["leaving"] = asyncio.run(leaving(server, texts, n_clients))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    text = compact_json(report)
    write_whole(args.out, text)
    print(text)


if __name__ == "__main__":
    main()
