"""What ends the making of a corpus, though it may go on later."""

from balacoon_tk.errors import BalacoonError


class CorpusError(BalacoonError, RuntimeError):
    """A run can't go on: no cluster, a worker without its voice, a full disk. What is done is kept."""
