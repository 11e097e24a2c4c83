"""Speech in a notebook's page: played while it is made, side by side, and judged in listening tests."""

from balacoon_tk.errors import MissingExtraError

try:
    import anywidget as _anywidget  # noqa: F401 - only to say what is missing
    import ipywidgets as _ipywidgets  # noqa: F401
except ImportError as _error:
    raise MissingExtraError("balacoon_tk.player", extra="notebooks") from _error

from balacoon_tk.player.listening import ABTest, ABXTest
from balacoon_tk.player.playground import Playground
from balacoon_tk.player.progress import ProgressBar
from balacoon_tk.player.side_by_side import Clips, SideBySide
from balacoon_tk.player.widget import Player

__all__ = ["ABTest", "ABXTest", "Clips", "Player", "Playground", "ProgressBar", "SideBySide"]
