"""Where modules went that notebooks of 0.7 import: their old paths work for one release more.

A finder behind all others is asked only for what isn't there, so nobody else pays for it.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

_MOVED = {
    "balacoon_tk.budgets": "balacoon_tk.export.quantize.budgets",
    "balacoon_tk.chunking": "balacoon_tk.decoder.chunking",
    "balacoon_tk.compare": "balacoon_tk.metrics.comparison",
    "balacoon_tk.encoder": "balacoon_tk.stages.encoder",
    "balacoon_tk.export.graph": "balacoon_tk.graph",
    "balacoon_tk.export.graph.layers": "balacoon_tk.graph.layers",
    "balacoon_tk.export.graph.prepare": "balacoon_tk.graph.prepare",
    "balacoon_tk.export.optimize": "balacoon_tk.targets.ort_cpu.optimize",
    "balacoon_tk.export.streaming": "balacoon_tk.graph.streaming",
    "balacoon_tk.precisions": "balacoon_tk.voice.precisions",
    "balacoon_tk.random": "balacoon_tk.stages.random",
    "balacoon_tk.sweeps": "balacoon_tk.metrics.sweeps",
    "balacoon_tk.upsampler": "balacoon_tk.stages.upsampler",
    "balacoon_tk.vocoder": "balacoon_tk.voice",
}


class _MovedFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        # As a package: what has moved may have been one, whose modules are looked for after it.
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if fullname in _MOVED else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        new = _MOVED[spec.name]
        warnings.warn(f"{spec.name} has moved to {new}", DeprecationWarning, stacklevel=2)
        # A module of its own that shows the other's names: the import system writes into what it is given.
        module, moved = ModuleType(spec.name), importlib.import_module(new)
        shown = {
            name: value for name, value in vars(moved).items() if name[:2] != "__" or name == "__getattr__"
        }
        module.__dict__.update(shown)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module has what it shows already."""


def install() -> None:
    """Let the old paths be found, once."""
    if not any(isinstance(finder, _MovedFinder) for finder in sys.meta_path):
        sys.meta_path.append(_MovedFinder())
