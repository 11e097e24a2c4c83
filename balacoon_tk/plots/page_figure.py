"""A figure as a notebook's page shows it: with its alternative text, and links that save it."""

from __future__ import annotations

import html
import io
from base64 import b64encode
from collections.abc import Collection
from typing import Any

from matplotlib.figure import Figure

from balacoon_tk.plots.alternative import alt_text
from balacoon_tk.plots.figure import write_figure

_MIME_TYPES = {"png": "image/png", "svg": "image/svg+xml"}
_DOTS_PER_INCH = 90  # of the page; the picture has more, for screens that have more


class PageFigure(Figure):
    """A figure whose picture in a page has its `alt_text`, and links that save it as PNG and as SVG."""

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        alt, files = alt_text(self), {suffix: self._render(suffix) for suffix in _MIME_TYPES}
        links = " ".join(
            download_link(data, name=f"figure.{suffix}", mime=_MIME_TYPES[suffix], label=suffix.upper())
            for suffix, data in files.items()
        )
        width = round(_DOTS_PER_INCH * self.get_figwidth())
        picture = (
            f'<img alt="{html.escape(alt)}" src="{data_address(files["png"], _MIME_TYPES["png"])}" '
            f'width="{width}" style="max-width: 100%; height: auto">'
        )
        bundle = {
            "image/png": b64encode(files["png"]).decode("ascii"),
            "text/html": f'<figure style="margin: 0">{picture}<figcaption>{links}</figcaption></figure>',
            "text/plain": alt,
        }
        # For programs that take the picture alone and look for its text where IPython's Image has it.
        return bundle, {"image/png": {"alt": alt}}

    def _render(self, suffix: str) -> bytes:
        file = io.BytesIO()
        write_figure(self, file, suffix=suffix)
        return file.getvalue()


def data_address(data: bytes, mime: str) -> str:
    """Return an address that holds the data itself."""
    return f"data:{mime};base64,{b64encode(data).decode('ascii')}"


def download_link(data: bytes, *, name: str, mime: str, label: str) -> str:
    """Return a link, as HTML, that saves data as a file by one click; no kernel need run any more."""
    name = html.escape(name)
    return (
        f'<a download="{name}" href="{data_address(data, mime)}" title="save as {name}">'
        f"{html.escape(label)}</a>"
    )
