"""Public names that are imported when they are first asked for, so that importing a package costs nothing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping


def find_name(package: str, homes: Mapping[str, str], name: str) -> object:
    """Import a public name from the module that it lives in, and keep it in its package.

    Parameters
    ----------
    package : str
        Whose ``__getattr__`` asks.
    homes : dict of str to str
        The module, relative to the package, that each name lives in.
    name : str

    Raises
    ------
    AttributeError
        If the package has no such name.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
    setattr(sys.modules[package], name, value)
    return value
