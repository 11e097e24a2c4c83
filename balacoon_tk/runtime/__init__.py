"""What runs graphs: sessions, state, threads, and the scheduler of streams."""

from balacoon_tk.runtime.options import RuntimeOptions

__all__ = ["RuntimeOptions"]
