"""Copy the kept part of decoded windows: the kernel behind `balacoon_tk.overlap_trim`."""


def placeholder() -> None:
    """Do nothing yet."""
