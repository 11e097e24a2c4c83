"""From a voice to one in half precision: smaller at the same speed, or for GPUs."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.export.quantize.half import halve_weights, to_half
from balacoon_tk.graph.streaming.equivalence import TOLERANCE, verify_streaming
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.stages.encoder import Encoder
from balacoon_tk.targets.make_plain import make_plain
from balacoon_tk.targets.source import Source, encode, read_source
from balacoon_tk.voice.files import MANIFEST_FILE
from balacoon_tk.voice.install import check_target, install
from balacoon_tk.voice.manifest import StreamingInfo

Progress = Callable[[str, float], None]

_LEAST_SNR_DB = 30.0
"""Below this something was lost that rounding to half precision doesn't explain."""
_HALF_TOLERANCE = 2.0**-7
"""Of a streamed sample to the whole run's where both compute in half precision: a few steps at 1."""
_HALVED, _VERIFIED = 0.2, 0.9


@dataclass(frozen=True, slots=True)
class Halved:
    """A voice that was made, and what it lost."""

    path: Path
    size_ratio: float
    """Of both graphs, to those they were made of."""
    snr_db: float
    """Of the samples of the same frames."""
    changed_durations: float
    """Share of phonemes that last another number of frames."""


def halve_voice(
    voice: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    compute: bool = False,
    n_threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Halved:
    """Make a voice whose weights are stored in half precision, or that computes in it.

    Parameters
    ----------
    voice : path
        A voice folder or an .addon file.
    out : path
        Where the new voice goes: a folder, or a file ending in ``.addon``.
    compute : bool
        Whether it also computes in half precision (`to_half`), which is for GPUs; otherwise the weights
        become float32 again when it is loaded (`halve_weights`), and it is as fast as before.
    n_threads : int, optional
        Threads that one run may use.
    overwrite : bool
        Whether a voice that is at `out` is replaced.
    progress : callable, optional
        Called with the stage's name and the share of the whole that is done, from 0 to 1.

    Returns
    -------
    Halved
        The path, and what it saves and loses.

    Raises
    ------
    ParameterError
        If something is at `out`.
    ModelError
        If the voice isn't in float32, or loses more than rounding explains.
    VoiceError
        If the voice can't be loaded.
    """
    target, report = Path(out), progress or _silent
    check_target(target, overwrite=overwrite)
    report("reading the voice", 0.0)
    source = read_source(Path(voice), n_threads=n_threads)
    manifest = source.voice.manifest
    if manifest.decoder.precision != "fp32":
        raise ModelError(
            f"{voice}: in {manifest.decoder.precision} already: take the voice that it was made of"
        )
    halve = to_half if compute else halve_weights
    decoder = onnx.load_model_from_string(source.decoder)
    models = {
        manifest.encoder.file: halve(onnx.load_model_from_string(source.encoder)),
        manifest.decoder.file: halve(decoder),
    }
    files = {name: model.SerializeToString(deterministic=True) for name, model in models.items()}
    report("verifying", _HALVED)
    made = Halved(
        path=target,
        size_ratio=sum(map(len, files.values())) / (len(source.encoder) + len(source.decoder)),
        snr_db=_snr_db(source, OrtEngine(files[manifest.decoder.file], RuntimeOptions(n_threads=n_threads))),
        changed_durations=_changed_durations(source, files[manifest.encoder.file]),
    )
    if not made.snr_db >= _LEAST_SNR_DB:
        raise ModelError(f"an SNR of {made.snr_db:.1f} dB must be >= {_LEAST_SNR_DB:g}")
    streaming = manifest.decoder.streaming
    if streaming is not None:
        check = verify_streaming(
            halve(make_plain(decoder)),
            models[manifest.decoder.file],
            draw=lambda n_frames, seed: _repeated(source, n_frames, seed),
            tolerance=_HALF_TOLERANCE if compute else TOLERANCE,
            progress=lambda share: report("streaming", _HALVED + share * (_VERIFIED - _HALVED)),
        )
        streaming = StreamingInfo(streaming.lag_samples, streaming.n_state_bytes, check.max_abs_diff)
    report("writing", _VERIFIED)
    passes, sha256 = (
        (halve.__name__,),
        {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    )
    encoder_info, decoder_info = manifest.encoder, manifest.decoder
    text = replace(
        manifest,
        encoder=replace(
            encoder_info, sha256=sha256[encoder_info.file], passes=(*encoder_info.passes, *passes)
        ),
        decoder=replace(
            decoder_info,
            sha256=sha256[decoder_info.file],
            passes=(*decoder_info.passes, *passes),
            streaming=streaming,
            precision="fp16",
        ),
        stages=(),  # they are of the voice that was exported
        provenance={**manifest.provenance, "quantizer": f"balacoon_tk {version('balacoon_tk')}"},
        verified={
            **manifest.verified,
            "halved_snr_db": made.snr_db,
            "halved_changed_durations": made.changed_durations,
            "halved_size_ratio": made.size_ratio,
        },
    ).to_json()
    install({**files, MANIFEST_FILE: text.encode()}, target, overwrite=overwrite)
    report("done", 1.0)
    return made


def _repeated(source: Source, n_frames: int, start: int) -> dict[str, AnyArray]:
    """Return as many frames as are asked for, of those that the voice has spoken."""
    feeds = source.utterances[-1].feeds
    steps = np.arange(start, start + n_frames)
    return {**feeds, "frames": np.take(feeds["frames"], steps, axis=-1, mode="wrap")}


def _snr_db(source: Source, graph: OrtEngine) -> float:
    """Return the ratio of the samples' power to that of their difference, over all utterances."""
    signal = noise = 0.0
    for utterance in source.utterances:
        samples = graph.whole(graph.contract.check(utterance.feeds))["samples"].reshape(-1)
        signal += float(np.square(utterance.samples, dtype=np.float64).sum())
        noise += float(np.square(samples - utterance.samples, dtype=np.float64).sum())
    return 10 * math.log10(signal / noise) if noise else math.inf


def _changed_durations(source: Source, model: bytes) -> float:
    manifest = source.voice.manifest
    n_symbols = 1 + max(max(ids) for ids in manifest.frontend.phoneme_ids.values())
    encoder = Encoder(model, n_symbols=n_symbols, options=RuntimeOptions(n_threads=source.voice.n_threads))
    changed = n_phonemes = 0
    for utterance in source.utterances:
        durations = encode(encoder, utterance.phoneme_ids, utterance.speaker_id).durations
        changed += int((durations != utterance.encoding.durations).sum())
        n_phonemes += durations.size
    return changed / n_phonemes


def _silent(stage: str, share: float) -> None:
    """Report to nobody."""
