"""The export of a foreign model, in the process that has given up what it could (`confine`)."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, TextIO

from balacoon_tk.export.pipeline import export_voice
from balacoon_tk.export.sandbox.messages import Confined, Done, Message, Progressed, Warned, encode, to_failed
from balacoon_tk.export.sources.source import SourceWarning


def export(request: dict[str, Any], messages: int, held: list[str], missing: list[str]) -> None:
    """Export as asked for, and say on a descriptor how it goes."""

    def say(message: Message) -> None:
        data = encode(message)
        while data:
            data = data[os.write(messages, data) :]

    def warn(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        # All others are about this process alone.
        if issubclass(category, SourceWarning):
            say(Warned(str(message)))

    warnings.simplefilter("always", SourceWarning)
    warnings.showwarning = warn
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
