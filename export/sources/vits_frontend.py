"""What a `transformers.VitsTokenizer` does to a text, in the words of a voice's frontend.

The tokenizer keeps the characters that it knows, in lower case, or gives phonemes of espeak-ng; then it
puts a blank, id 0, around each::

    ids   0 | 20  0 | 59  0 | 31  0
            h        a        t
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.vits_checkpoint import read_json
from balacoon_tk.frontend.phoneme_map import BOS, IN_TEXT
from balacoon_tk.voice.manifest import FrontendInfo, PhonemeType

_BLANK = 0
_PHONEMIZER_LANGUAGE = "en-us"  # the tokenizer knows no other


def read_tokenizer(folder: Path, *, n_symbols: int) -> tuple[FrontendInfo, str]:
    """Read the tokenizer of a folder.

    Parameters
    ----------
    folder : Path
        With ``vocab.json`` and, as a rule, ``tokenizer_config.json``.
    n_symbols : int
        Ids are below this.

    Returns
    -------
    frontend : FrontendInfo
    language : str
        As the tokenizer names it, such as ``eng``; empty if it doesn't.

    Raises
    ------
    ModelError
        If a file is missing or damaged, or an id is none of the model's.
    """
    path = folder / "tokenizer_config.json"
    config = read_json(path) if path.is_file() else {}
    language = config.get("language") or ""
    vocab = _vocab(folder, n_symbols)
    phonemize, normalize = _flag(config, "phonemize"), _flag(config, "normalize")
    phoneme_type: PhonemeType = "characters"
    if phonemize:
        phoneme_type = "espeak"
    elif _flag(config, "is_uroman", default=False):
        phoneme_type = "uroman"
    elif not normalize:
        phoneme_type = "exact characters"
    has_blanks = _flag(config, "add_blank")
    ids = {
        # A voice's map keeps some characters for the sentence's frame; in a text others stand for them.
        IN_TEXT.get(symbol, symbol): (index, _BLANK) if has_blanks else (index,)
        for symbol, index in vocab.items()
        if len(symbol) == 1
    }
    if not ids:
        raise ModelError(f"{folder / 'vocab.json'}: none of its symbols is a single character")
    if has_blanks:
        ids[BOS] = (_BLANK,)
    language_of_frontend = _PHONEMIZER_LANGUAGE if phonemize else language
    return FrontendInfo(phoneme_type=phoneme_type, language=language_of_frontend, phoneme_ids=ids), language


def _vocab(folder: Path, n_symbols: int) -> Mapping[str, int]:
    path = folder / "vocab.json"
    vocab = read_json(path)
    for symbol, index in vocab.items():
        if type(index) is not int or not 0 <= index < n_symbols:
            raise ModelError(f"{path}: {symbol!r} has the id {index!r}, which must be in [0, {n_symbols})")
    return vocab


def _flag(config: Mapping[str, Any], name: str, *, default: bool = True) -> bool:
    """Return a setting; the defaults are the tokenizer's own."""
    value = config.get(name, default)
    if not isinstance(value, bool):
        raise ModelError(f"tokenizer_config.json: {name}={value!r} must be true or false")
    return value
