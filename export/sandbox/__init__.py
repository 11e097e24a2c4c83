"""Foreign models are read and run in a process of their own, that can do little else (`confine`).

    parent                                 child, confined
    request, as a line of JSON     ──────▶ reads the model, cuts, verifies, compiles, writes into its folder
    shows progress, raises errors  ◀────── messages
    checks every file by its hash  ◀────── the voice, in the folder
    puts it in place

The child is a fresh interpreter and no fork, so that it works in notebooks and beside threads. It has the
parent's environment without what may be secret, and ends with its parent.
"""

from balacoon_tk.export.sandbox.apart import Request, export_apart
from balacoon_tk.export.sandbox.bounds import Limits

__all__ = ["Limits", "Request", "export_apart"]
