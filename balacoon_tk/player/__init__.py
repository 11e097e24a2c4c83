"""Live playback in a notebook's page: chunks sound while the rest is still being made."""

from balacoon_tk.errors import MissingExtraError

try:
    import anywidget as _anywidget  # noqa: F401 - only to say what is missing
    import ipywidgets as _ipywidgets  # noqa: F401
except ImportError as _error:
    raise MissingExtraError("balacoon_tk.player", extra="notebooks") from _error

from balacoon_tk.player.playground import Playground
from balacoon_tk.player.progress import ProgressBar
from balacoon_tk.player.widget import Player

__all__ = ["Player", "Playground", "ProgressBar"]
