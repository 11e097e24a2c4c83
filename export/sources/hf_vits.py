"""VITS models of Hugging Face's transformers: MMS-TTS in over a thousand languages, and others.

A folder is read without unpickling, checked weight by weight, and exported half by half. Its tokenizer keeps
the characters that it knows, in lower case, or gives phonemes of espeak-ng, then puts a blank, id 0, around
each; here this is said in the words of a voice's frontend::

    ids   0 | 20  0 | 59  0 | 31  0
            h        a        t
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balacoon_tk.errors import MissingExtraError, ModelError
from balacoon_tk.export.sources.files import (
    check_trust,
    folder_name,
    read_json,
    read_license,
    read_provenance,
)
from balacoon_tk.export.sources.source import Progress, SourceVoice, VoiceFacts
from balacoon_tk.export.sources.torch_graph import quiet_torch
from balacoon_tk.frontend.phoneme_map import BOS, IN_TEXT
from balacoon_tk.voice.manifest import FrontendInfo, PhonemeType, ProsodyDefaults

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import VitsModel

# The hub's card is README.md, and holds the licence in its head.
CARDS = ("README.md", "MODEL_CARD")
_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"
# Turns recordings into latents in training; some checkpoints have it, and no synthesis runs it.
_TRAINING_ONLY = "posterior_encoder."
_NORM = {"g": ".parametrizations.weight.original0", "v": ".parametrizations.weight.original1"}
_N_NAMED = 5  # weights that an error names
_BLANK = 0
_PHONEMIZER_LANGUAGE = "en-us"  # the tokenizer knows no other


class HfVits:
    """Reads a folder of a ``VitsModel``: ``config.json``, ``vocab.json`` and weights (MMS-TTS and others)."""

    def claims(self, path: Path) -> bool:
        """Say whether a path is a folder with the configuration of a model of transformers."""
        return path.is_dir() and (path / "config.json").is_file()

    def read(
        self, path: Path, *, config: Path | None, progress: Progress, trust: bool = False
    ) -> SourceVoice:
        """Read a model and cut it in two; pickled weights only if it is trusted; see `Source.read`."""
        if config is not None:
            rule = f"so config={str(config)!r} has no place"
            raise ModelError(f"{path}: the folder has its own config.json, {rule}")
        progress("reading", 0.0)
        with quiet_torch("a VitsModel"):
            model = load_vits(path, trust=trust)
            # Here, since what is in there derives from classes of torch.
            from balacoon_tk.export.sources import vits_modules

            frontend, language = read_tokenizer(path, n_symbols=model.config.vocab_size)
            progress("exporting from torch", 0.3)
            encoder = vits_modules.export_encoder(model)
            progress("exporting from torch", 0.7)
            decoder = vits_modules.export_decoder(model)
            progress("exporting from torch", 1.0)
        settings, n_speakers = model.config, model.config.num_speakers
        weights, folder = weights_file(path, trust=trust), folder_name(path)
        provenance = read_provenance(weights, name=f"{folder}/{weights.name}", cards=CARDS)
        return SourceVoice(
            facts=VoiceFacts(
                name=folder,
                language=language or frontend.language,
                license=read_license(provenance),
                sample_rate=settings.sampling_rate,
                frontend=frontend,
                prosody=ProsodyDefaults(
                    noise_scale=settings.noise_scale,
                    # Rates are speeds, and our factor is on durations.
                    length_scale=1 / settings.speaking_rate,
                    noise_w=settings.noise_scale_duration,
                ),
                speakers=tuple(f"speaker {k}" for k in range(n_speakers)) if n_speakers > 1 else (),
                provenance=provenance,
            ),
            encoder=encoder,
            decoder=decoder,
            n_channels=settings.flow_size,
            reference=vits_modules.VitsReference(model),
            n_bytes=weights.stat().st_size,
        )


def is_pickled(folder: Path, *, trust: bool) -> bool:
    """Say whether the weights of a folder are a pickle and nothing else; refuse one that isn't trusted."""
    path = folder / _PICKLED
    if (folder / _SAFE).is_file() or not path.is_file():
        return False
    check_trust(path, "a pickle, which can run code when it is read", f"ask for {_SAFE}", trust=trust)
    return True


def weights_file(folder: Path, *, trust: bool) -> Path:
    """Return the file with the weights: safetensors where there are both, a pickle only if it is trusted."""
    path = folder / (_PICKLED if is_pickled(folder, trust=trust) else _SAFE)
    if not path.is_file():
        raise ModelError(f"{folder}: neither {_SAFE} nor {_PICKLED} is there")
    return path


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json``, which may name no code of others."""
    config = read_json(folder / "config.json")
    # Attention by such a name is a program of the hub, which transformers fetches and runs.
    for name in ("attn_implementation", "_attn_implementation", "experts_implementation"):
        value = config.get(name)
        if value is not None and (not isinstance(value, str) or "/" in value):
            raise ModelError(f"{folder / 'config.json'}: {name}={value!r} is code of others, and is not run")
    return config


def load_vits(folder: Path, *, trust: bool = False) -> VitsModel:
    """Load the model of a folder, for inference."""
    # Not from_pretrained: it fetches what isn't there, and fills weights that are missing with noise.
    config = read_config(folder)
    if config.get("model_type") != "vits":
        raise ModelError(
            f"{folder / 'config.json'}: model_type={config.get('model_type')!r} must be 'vits': "
            "the checkpoint is of another architecture"
        )
    try:
        from transformers import VitsConfig, VitsModel
    except ImportError as error:
        raise MissingExtraError("a VitsModel", extra="export") from error
    try:
        model: VitsModel = VitsModel(VitsConfig.from_dict(config))
    except Exception as error:  # whatever a wrong field leads to
        raise ModelError(f"{folder / 'config.json'}: no VitsModel can be made of it: {error}") from error
    path = weights_file(folder, trust=trust)
    weights = {
        # Weight norm's two factors have other names in newer versions of torch.
        re.sub(r"\.weight_([gv])$", lambda found: _NORM[found[1]], name): tensor
        for name, tensor in _read_weights(path).items()
    }
    wanted, weights = (
        {name: tensor for name, tensor in tensors.items() if not name.startswith(_TRAINING_ONLY)}
        for tensors in (model.state_dict(), weights)
    )
    _check_none(path, [name for name in wanted if name not in weights], "is missing", "are missing")
    unknown = [name for name in weights if name not in wanted]
    _check_none(path, unknown, "belongs to another architecture", "belong to another architecture")
    for name, tensor in wanted.items():
        if weights[name].shape != tensor.shape:
            raise ModelError(
                f"{path}: {name} of shape {tuple(weights[name].shape)} must be {tuple(tensor.shape)}, "
                "as config.json says"
            )
    # Half precision is for the size of the file; sums in it would be the trained model's no longer.
    model.load_state_dict({name: weights[name].float() for name in wanted}, strict=False)
    model.eval()
    return model


def _read_weights(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        if path.name == _SAFE:
            from safetensors.torch import load_file

            loaded: dict[str, Tensor] = load_file(path)
            return loaded
        weights: object = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise MissingExtraError("safetensors", extra="export") from error
    except Exception as error:  # safetensors', pickle's and zip's errors
        raise ModelError(
            f"{path}: can't be read as weights alone, and nothing else in it is unpickled: {error}"
        ) from error
    if not isinstance(weights, dict) or not all(
        isinstance(value, torch.Tensor) for value in weights.values()
    ):
        raise ModelError(f"{path}: must hold tensors by name")
    return weights


def _check_none(path: Path, names: list[str], one: str, many: str) -> None:
    if not names:
        return
    listed = ", ".join(names[:_N_NAMED])
    more = f" and {len(names) - _N_NAMED} more" if len(names) > _N_NAMED else ""
    raise ModelError(f"{path}: {listed}{more} {one if len(names) == 1 else many}")


def read_tokenizer(folder: Path, *, n_symbols: int) -> tuple[FrontendInfo, str]:
    """Read ``vocab.json`` and ``tokenizer_config.json``, if there is one; also return its language."""
    path = folder / "tokenizer_config.json"
    config = read_json(path) if path.is_file() else {}
    language = config.get("language") or ""
    vocab_path = folder / "vocab.json"
    vocab: dict[str, int] = read_json(vocab_path)
    for symbol, index in vocab.items():
        if type(index) is not int or not 0 <= index < n_symbols:
            rule = f"must be in [0, {n_symbols})"
            raise ModelError(f"{vocab_path}: {symbol!r} has the id {index!r}, which {rule}")
    phonemize = _flag(config, "phonemize")
    phoneme_type: PhonemeType = "characters" if _flag(config, "normalize") else "exact characters"
    if phonemize:
        phoneme_type = "espeak"
    elif _flag(config, "is_uroman", default=False):
        phoneme_type = "uroman"
    # A blank first and after each symbol: in a voice's map that is a BOS of one id and two ids a symbol, so a
    # symbol's duration holds that of the blank after it.
    has_blanks = _flag(config, "add_blank")
    ids = {
        # A voice's map keeps some characters for the sentence's frame; in a text others stand for them.
        IN_TEXT.get(symbol, symbol): (index, _BLANK) if has_blanks else (index,)
        for symbol, index in vocab.items()
        if len(symbol) == 1  # `<unk>` and its like stand for nothing that is written
    }
    if not ids:
        raise ModelError(f"{vocab_path}: none of its symbols is a single character")
    if has_blanks:
        ids[BOS] = (_BLANK,)
    return FrontendInfo(phoneme_type, _PHONEMIZER_LANGUAGE if phonemize else language, ids), language


def _flag(config: Mapping[str, Any], name: str, *, default: bool = True) -> bool:
    """Return a setting; the defaults are the tokenizer's own."""
    value = config.get(name, default)
    if not isinstance(value, bool):
        raise ModelError(f"tokenizer_config.json: {name}={value!r} must be true or false")
    return value
