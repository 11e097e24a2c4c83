"""A worker as a process of its own: batches come by stdin, what was spoken goes by stdout, a line each.

The first line is the plan, the folder and the run. Once stdin ends, whoever started it has ended, and so
does it, at once: nothing that it does has to be finished.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import IO

from balacoon_tk.corpus.plan import Batch, CorpusPlan
from balacoon_tk.errors import BalacoonError


def main() -> None:
    """Speak batches until there are no more."""
    # An interrupt at a terminal reaches all of a group, and whoever started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Some libraries print: what they say goes where it disturbs nobody.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(sys.stdin.buffer, lines), daemon=True).start()
        try:
            _work(lines, out)
        except BalacoonError as error:
            _tell(out, fatal=str(error))
        except Exception as error:
            _tell(out, fatal=f"unexpected {type(error).__name__}: {error}")


def _work(lines: queue.SimpleQueue[bytes], out: IO[str]) -> None:
    plan, folder, run = json.loads(lines.get())
    from balacoon_tk.corpus.speaker import CorpusSpeaker

    speaker = CorpusSpeaker(CorpusPlan.from_json(plan), Path(folder), run)
    _tell(out, ready=True)
    while True:
        for spoken in speaker.speak(Batch.from_json(lines.get())):
            _tell(out, spoken=spoken)
        _tell(out, ready=True)


def _listen(source: IO[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    for line in source:
        lines.put(line)
    os._exit(0)


def _tell(out: IO[str], **message: object) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
