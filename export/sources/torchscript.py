"""Vocoders from files of TorchScript: frames in, samples out, as one ONNX graph with a dynamic time axis.

A script is a program, which torch runs when it is exported: its operators write files (``aten::from_file``),
its loops need not end. So it is read only if it is trusted. Rejected are pickles, which may run code, and
scripts that give anything but one channel of samples.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.files import check_trust
from balacoon_tk.export.sources.onnx_vocoder import random_mel, read_vocoder_json
from balacoon_tk.export.sources.source import Progress, SourceVocoder
from balacoon_tk.export.sources.torch_decoder import vocoder_of
from balacoon_tk.export.sources.torch_graph import quiet_torch

_WHAT = "a vocoder from torch"
_N_MELS = 80


class TorchScript:
    """Reads a vocoder from torch: ``vocoder.ts``, a mel spectrogram to samples, and ``vocoder.ts.json``."""

    _SUFFIXES = frozenset({".ts", ".jit", ".pt", ".pth"})

    def claims(self, path: Path) -> bool:
        """Say whether a path has the name of a file of torch."""
        return path.suffix.lower() in self._SUFFIXES and path.is_file()

    def read(
        self, path: Path, *, config: Path | None, progress: Progress, trust: bool = False
    ) -> SourceVocoder:
        """Read a vocoder, which is a program, if it is trusted; see `Source.read`."""
        progress("reading", 0.0)
        _check_script(path)
        what = "TorchScript is a program, and an export runs it"
        check_trust(path, what, "ask for the model as a graph (ONNX)", trust=trust)
        with quiet_torch(_WHAT):
            import torch

            try:
                module = torch.jit.load(os.fspath(path), map_location="cpu").eval()
            except Exception as error:  # RuntimeError, pickle's and zip's errors
                raise ModelError(f"{path}: not TorchScript that this torch can read: {error}") from error
            facts, n_channels, _ = read_vocoder_json(config, vocoder=path)
            return vocoder_of(
                module,
                # A script doesn't say how many channels it takes; most vocoders' mels have 80.
                lambda n_frames, seed: random_mel(n_channels or _N_MELS, n_frames, seed=seed),
                facts=facts,
                label=str(path),
                n_bytes=path.stat().st_size,
                progress=progress,
                what=_WHAT,
            )


def _check_script(path: Path) -> None:
    """Tell TorchScript from other files of torch by what is in it, before torch is asked."""
    # Both are zip files; a script's constants are its own, a checkpoint has data.pkl alone.
    names: list[str] = []
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    if not any(name.endswith("/constants.pkl") for name in names):
        raise ModelError(
            f"{path}: not TorchScript. A checkpoint is a pickle, which may run code, so it is not unpickled, "
            "and it holds weights without their module: build that, give it the weights by "
            "torch.load(..., weights_only=True), and call balacoon_tk.export.export_decoder"
        )
