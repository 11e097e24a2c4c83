"""The export of a foreign model, in the process that has given up what it could (`confine`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from balacoon_tk.export.pipeline import export_voice
from balacoon_tk.export.sandbox.messages import Confined, Done, Message, Progressed, encode, to_failed


def export(request: dict[str, Any], messages: int, held: list[str], missing: list[str]) -> None:
    """Export as asked for, and say on a descriptor how it goes."""

    def say(message: Message) -> None:
        data = encode(message)
        while data:
            data = data[os.write(messages, data) :]

    say(Confined(held, missing))
    try:
        source, out = Path(request.pop("source")), Path(request.pop("out"))
        config = request.pop("config")
        export_voice(
            source,
            out,
            config=None if config is None else Path(config),
            sandbox=False,
            progress=lambda stage, share: say(Progressed(stage, share)),
            **request,
        )
    except Exception as error:
        say(to_failed(error))
    else:
        say(Done())
    # Not by way of Python's end: threads of libraries may never join, and there is nothing left to do.
    os._exit(0)
