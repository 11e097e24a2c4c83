"""The default voice with every layer of its decoder in int8 that the native engine has."""

from __future__ import annotations

from pathlib import Path

from balacoon_tk._files import cache_folder
from balacoon_tk.runtime.options import Backend
from balacoon_tk.voice.default import default_voice_folder
from balacoon_tk.voice.files import MANIFEST_FILE

_EACH = 8
"""Each so many-th of the plain sentences calibrates and is judged."""


def int8_voice(backend: Backend = "native") -> Path:
    """Return the voice with every layer in int8 that an engine has; it is made and judged the first time."""
    made = cache_folder() / "voices" / f"int8-{backend}"
    if not (made / MANIFEST_FILE).is_file():
        # Only now: what makes a voice would count as memory of those that only speak one.
        from balacoon_tk.export import quantize_voice
        from balacoon_tk.metrics.sentences import plain_sentences

        # Without a budget the first candidate is taken, which is the one with all layers.
        quantize_voice(
            default_voice_folder(),
            made,
            sentences=plain_sentences()[_EACH - 1 :: _EACH],
            max_wer_increase=None,
            max_dnsmos_drop=None,
            quantize_encoder=False,
            n_threads=1,
            backend=backend,
        )
    return made
