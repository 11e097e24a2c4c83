"""A folder with a `transformers.VitsModel`, read without unpickling and checked weight by weight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balacoon_tk.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import VitsModel

_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"
_TRAINING_ONLY = "posterior_encoder."
_N_NAMED = 5  # weights that an error names


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    ModelError
        If there is none.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ModelError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path}: must hold a JSON object")
    return data


def weights_file(folder: Path) -> Path:
    """Return the file with the weights: safetensors where there are both.

    Raises
    ------
    ModelError
        If there is none.
    """
    for name in (_SAFE, _PICKLED):
        if (folder / name).is_file():
            return folder / name
    raise ModelError(f"{folder}: neither {_SAFE} nor {_PICKLED} is there")


def load_vits(folder: Path) -> VitsModel:
    """Load the model of a folder, for inference.

    Raises
    ------
    MissingExtraError
        If torch, transformers or safetensors isn't installed.
    ModelError
        If a file is missing or damaged, the model is of another architecture, or its weights don't fit;
        the message names them.
    """
    config = read_json(folder / "config.json")
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
    path = weights_file(folder)
    weights = {_new_name(name): tensor for name, tensor in _read_weights(path).items()}
    wanted = {
        name: tensor for name, tensor in model.state_dict().items() if not name.startswith(_TRAINING_ONLY)
    }
    _check_names(path, [name for name in wanted if name not in weights], "is missing", "are missing")
    unknown = [name for name in weights if name not in wanted and not name.startswith(_TRAINING_ONLY)]
    _check_names(path, unknown, "belongs to another architecture", "belong to another architecture")
    for name, tensor in wanted.items():
        if weights[name].shape != tensor.shape:
            raise ModelError(
                f"{path}: {name} of shape {tuple(weights[name].shape)} must be {tuple(tensor.shape)}, "
                "as config.json says"
            )
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


def _new_name(name: str) -> str:
    """Return the name that weight norm's two factors have in newer versions of torch."""
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        if name.endswith(f".{old}"):
            return f"{name.removesuffix(old)}parametrizations.weight.{new}"
    return name


def _check_names(path: Path, names: list[str], one: str, many: str) -> None:
    if not names:
        return
    listed = ", ".join(names[:_N_NAMED])
    more = f" and {len(names) - _N_NAMED} more" if len(names) > _N_NAMED else ""
    raise ModelError(f"{path}: {listed}{more} {one if len(names) == 1 else many}")
