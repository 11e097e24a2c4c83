"""Counter-based normal noise: the kernel behind `balacoon_tk.random`."""


def placeholder() -> None:
    """Do nothing yet."""
