"""Expand phonemes to frames: the kernel behind `balacoon_tk.upsampler`."""


def placeholder() -> None:
    """Do nothing yet."""
