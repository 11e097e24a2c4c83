"""Neural codecs of Hugging Face's transformers: EnCodec, DAC, Mimi, X-Codec.

A language model of speech gives codes, a few for each frame, and a codec's decoder makes samples of them. The
folder is read by transformers itself, from the disk alone; no code in it is run. Codebooks, what adds them
up, and the decoder become one graph: frames are int64 codes (n_codebooks, n_frames).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.errors import MissingExtraError, ModelError, VoiceError
from balacoon_tk.export.sources.files import folder_name, naming, read_json, read_license, read_provenance
from balacoon_tk.export.sources.hf_vits import CARDS, is_pickled, read_config, weights_file
from balacoon_tk.export.sources.onnx_vocoder import draw_codes
from balacoon_tk.export.sources.source import Progress, SourceVocoder, VocoderFacts
from balacoon_tk.export.sources.torch_decoder import run_module, vocoder_of
from balacoon_tk.export.sources.torch_graph import quiet_torch, trace
from balacoon_tk.runtime.session import Session

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedModel

_WHAT = "a codec of transformers"
# Names of architectures; what is made of each stands in `codec_modules`, which needs torch.
_KINDS = ("dac", "encodec", "higgs_audio_v2_tokenizer", "mimi", "xcodec")
_N_NAMED = 5  # weights that an error names
_TRACED_FRAMES, _VERIFIED_FRAMES = 16, (19, 40)
_LOUDNESS = 0.1  # of noise that stands for a recording
_LEAST_EQUAL = 0.99  # share of codes


class Codec:
    """Reads a folder of a codec (EnCodec, DAC, Mimi, X-Codec): ``config.json`` and weights."""

    def claims(self, path: Path) -> bool:
        """Say whether a path is a folder with the configuration of a codec of transformers."""
        if not (path / "config.json").is_file():
            return False
        try:
            return read_json(path / "config.json").get("model_type") in _KINDS
        except VoiceError:
            return False  # whoever takes folders of transformers says what is wrong with it

    def read(
        self, path: Path, *, config: Path | None, progress: Progress, trust: bool = False
    ) -> SourceVocoder:
        """Read a codec and export its decoder; pickled weights only if it is trusted; see `Source.read`."""
        if config is not None:
            rule = f"so config={str(config)!r} has no place"
            raise ModelError(f"{path}: the folder has its own config.json, {rule}")
        progress("reading", 0.0)
        with quiet_torch(_WHAT):
            model = load_codec(path, trust=trust)
            # Here, since what is in there derives from classes of torch.
            from balacoon_tk.export.sources.codec_modules import codec_modules

            settings: Any = model.config
            n_codebooks: int = _first(settings, "n_codebooks", "num_quantizers")
            codebook_size: int = settings.codebook_size
            try:
                halves = codec_modules(model, n_codebooks=n_codebooks)
            except ModelError as error:
                raise naming(path, error) from error
            weights, folder = weights_file(path, trust=trust), folder_name(path)
            provenance = read_provenance(weights, name=f"{folder}/{weights.name}", cards=CARDS)
            trained = vocoder_of(
                halves.decoder,
                lambda n_frames, seed: draw_codes(codebook_size, n_codebooks, n_frames, seed=seed),
                facts=VocoderFacts(
                    name=folder,
                    license=read_license(provenance),
                    sample_rate=_first(settings, "sampling_rate", "sample_rate"),
                    mel=None,
                    provenance=provenance,
                    codebook_size=codebook_size,
                ),
                label=str(path),
                n_bytes=weights.stat().st_size,
                progress=progress,
                what=_WHAT,
            )
            analyzer = None
            if halves.analyzer is not None:
                analyzer = _export_analyzer(halves.analyzer, halves.own_analyzer, halves.hop_length, path)
        return replace(trained, reference=partial(_run, halves.own_decoder), analyzer=analyzer)


def _export_analyzer(module: Module, own: Module, hop_length: int, path: Path) -> onnx.ModelProto:
    """Export what makes codes of a recording, once it gives those of the codec's own method."""
    import torch

    def recording(n_frames: int) -> FloatArray:
        noise = np.random.default_rng(n_frames).standard_normal((1, 1, n_frames * hop_length), np.float32)
        return noise * np.float32(_LOUDNESS)

    what = f"{path}: what makes codes of a recording"
    proto = trace(
        module,
        {"samples": torch.from_numpy(recording(_TRACED_FRAMES))},
        axes={"samples": {2: "n_samples"}, "frames": {2: "n_frames"}},
        outputs=["frames"],
        what=what,
    )
    session = Session(proto)
    for n_frames in _VERIFIED_FRAMES:
        samples = recording(n_frames)
        ours = session.run({"samples": samples})["frames"]
        theirs = own(torch.from_numpy(samples)).numpy()
        # Where two entries of a codebook are as near, rounding decides, and the codebooks behind follow.
        if ours.shape != theirs.shape or (ours == theirs).mean() < _LEAST_EQUAL:
            raise ModelError(f"{what} gives other codes in ONNX than in torch for {n_frames} frames")
    return proto


def _run(module: Module, frames: AnyArray) -> FloatArray:
    # By its own method, so that what was put in plainer form is compared with what it was before.
    with quiet_torch(_WHAT):
        return run_module(module, {"frames": frames}).reshape(-1)


def load_codec(folder: Path, *, trust: bool = False) -> PreTrainedModel:
    """Load the codec of a folder, for inference; every weight must be there."""
    read_config(folder)
    pickled = is_pickled(folder, trust=trust)
    try:
        from transformers import AutoModel
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtraError(_WHAT, extra="export") from error
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    try:
        # By transformers: a codec's weights have had several names, and it knows all of them. What isn't
        # there it would fetch, or fill with noise: the former is forbidden, the latter looked for.
        model, report = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            output_loading_info=True,
            dtype="float32",
            trust_remote_code=False,
            use_safetensors=not pickled,
            weights_only=True,
        )
    except (
        Exception
    ) as error:  # safetensors', pickle's and its own errors, and whatever a wrong field leads to
        raise ModelError(f"{folder}: transformers can't read it: {error}") from error
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
    lacking = sorted({*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])})
    if lacking:
        more = f" and {len(lacking) - _N_NAMED} more" if len(lacking) > _N_NAMED else ""
        path = weights_file(folder, trust=trust)
        raise ModelError(f"{path}: {', '.join(lacking[:_N_NAMED])}{more} must be as config.json says")
    loaded: PreTrainedModel = model.eval()
    return loaded


def _first(settings: Any, *names: str) -> Any:
    """Return the first of some settings that there is: architectures name them differently."""
    return next(getattr(settings, name) for name in names if hasattr(settings, name))
