"""From a voice to a folder that another runtime takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from balacoon_tk.errors import ParameterError
from balacoon_tk.targets.ort_format import Platform, make_ort_form
from balacoon_tk.targets.source import read_source
from balacoon_tk.targets.tensorrt.form import make_tensorrt_form
from balacoon_tk.targets.triton.form import make_triton_form
from balacoon_tk.voice.finish import Progress, ignore_progress
from balacoon_tk.voice.install import ADDON_SUFFIX, check_space, check_target, install

Form = Literal["ort", "tensorrt", "triton"]

_READ, _MADE = 0.2, 0.95


@dataclass(frozen=True, slots=True)
class Deployed:
    """A folder that was made of a voice."""

    path: Path
    form: Form
    n_bytes: int
    """Size of all its files."""
    verified: Mapping[str, float]
    """What was compared with the voice in ONNX Runtime, and the largest difference."""
    not_run_on: str | None
    """The runtime that it is made for and was not run on; None if it ran on it."""


def deploy_voice(
    voice: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    form: Form,
    platform: Platform = "arm",
    chunk_frames: int = 32,
    max_phonemes: int = 512,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Deployed:
    """Write a voice in a form that another runtime takes, and compare what it says with the voice.

    Parameters
    ----------
    voice : path
        A voice folder or an .addon file.
    out : path
        The folder that is made.
    form : {"ort", "tensorrt", "triton"}
        ONNX Runtime's own format, for small builds of it; graphs of fixed shapes for TensorRT; or a model
        repository for Triton, whose server carries the decoder's states.
    platform : {"arm", "amd64"}
        For ``ort``: ``arm`` runs everywhere, ``amd64`` on machines with vectors as wide as this one's.
    chunk_frames : int
        For ``tensorrt``: frames in each push but the first and the last.
    max_phonemes : int
        For ``tensorrt``: phonemes that a sentence may have.
    overwrite : bool
        Whether what `deploy_voice` or an export has put at `out` before is replaced.
    progress : callable, optional
        Called with the stage's name and the share of the whole that is done, from 0 to 1.

    Returns
    -------
    Deployed
        The folder, what was compared, and whether it ran where it will.

    Raises
    ------
    ParameterError
        If an argument is wrong, something is at `out` that must not be replaced, or there is no room for it.
    VoiceError
        If the voice can't be loaded.
    ModelError
        If the voice can't have this form, or says something else in it.
    """
    target, report = Path(out), progress or ignore_progress
    for name, given, known in (("form", form, get_args(Form)), ("platform", platform, get_args(Platform))):
        if given not in known:
            raise ParameterError(f"{name}={given!r} must be one of {', '.join(known)}")
    numbers: dict[str, object] = {"chunk_frames": chunk_frames, "max_phonemes": max_phonemes}
    for name, number in numbers.items():
        if not isinstance(number, int) or number < 1:
            raise ParameterError(f"{name}={number!r} must be an int >= 1")
    if target.suffix == ADDON_SUFFIX:
        raise ParameterError(f"out={str(target)!r} must be a folder: other runtimes read no {ADDON_SUFFIX}")
    # Now, and not after the minutes that the rest takes.
    check_target(target, overwrite=overwrite)
    check_space(target, Path(voice))
    report("reading the voice", 0.0)
    source = read_source(Path(voice))
    report(f"making {form}", _READ)
    if form == "ort":
        made = make_ort_form(source, platform=platform)
    elif form == "triton":
        made = make_triton_form(source)
    else:
        made = make_tensorrt_form(source, chunk_frames=chunk_frames, max_phonemes=max_phonemes)
    report("writing", _MADE)
    install(made.files, target, overwrite=overwrite)
    report("done", 1.0)
    return Deployed(target, form, sum(map(len, made.files.values())), made.verified, made.not_run_on)
