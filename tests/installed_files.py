"""Files of a voice that nobody can run, for tests of how they are put in place."""

from __future__ import annotations

import json
import zipfile

from balacoon_tk.voice.manifest import (
    DecoderInfo,
    FileInfo,
    FrontendInfo,
    Manifest,
    ProsodyDefaults,
    TextInfo,
)


def files_of(name, *, source="1", checked=0.0):
    """Make the files of a voice that nobody can run."""
    sha256 = source * 64
    manifest = Manifest(
        name=name,
        license="CC0",
        sample_rate=8000,
        hop_length=8,
        n_channels=4,
        text=TextInfo(
            language="en",
            frontend=FrontendInfo("text", "en", {"a": (1,)}),
            prosody=ProsodyDefaults(),
            encoder=FileInfo("encoder.onnx", sha256),
        ),
        decoder=DecoderInfo("decoder.onnx", sha256, left_context=1, lookahead=1, not_streamable="no"),
        verified={"samples": checked},
    )
    text = manifest.to_json().encode("utf-8")
    return {"encoder.onnx": name.encode(), "decoder.onnx": bytes(1000), "voice.json": text}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def read_from(target, name):
    if target.is_dir():
        return (target / name).read_bytes()
    with zipfile.ZipFile(target) as archive:
        return archive.read(name)


def voice_name(target):
    return json.loads(read_from(target, "voice.json"))["name"]


def is_whole(target, name):
    return voice_name(target) == name and read_from(target, "encoder.onnx") == name.encode()
