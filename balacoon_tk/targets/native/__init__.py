"""Compile a plain decoder graph, or an encoder's, to a program of the native engine."""

from balacoon_tk.targets.native.compile import compile_native
from balacoon_tk.targets.native.encoder import compile_encoder
from balacoon_tk.targets.native.errors import NotNativeError

__all__ = ["NotNativeError", "compile_encoder", "compile_native"]
