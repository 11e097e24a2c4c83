"""Voices and models where the Hugging Face hub's cache leaves them: a folder of links to blobs."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from balacoon_tk import load_voice
from balacoon_tk.errors import VoiceError
from balacoon_tk.export.sources.files import folder_name
from balacoon_tk.runtime.session import PackedGraph
from balacoon_tk.voice import read_manifest
from balacoon_tk.voice.files import VoiceFiles
from balacoon_tk.voice.finish import compile_again

FRAMES = np.random.default_rng(0).standard_normal((8, 20)).astype(np.float32)


@pytest.fixture(scope="module")
def voice(tmp_path_factory, tiny_voice_folder):
    """A voice whose graphs share a file of weights."""
    folder = tmp_path_factory.mktemp("voices") / "tiny"
    compile_again(VoiceFiles(tiny_voice_folder), folder)
    return folder


def download(voice: Path, cache: Path, *, within: str = "") -> Path:
    """Lay a voice out as the hub's cache does, and return the folder of its revision."""
    blobs = cache / "models--somebody--tiny" / "blobs"
    snapshot = blobs.parent / "snapshots" / "f0e1d2" / within
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in voice.iterdir():
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(Path("../" * (2 + bool(within)), "blobs", blob.name))
    return snapshot


def spoken(folder: Path) -> bytes:
    loaded = load_voice(folder, n_threads=1)
    return b"".join(chunk.samples.tobytes() for chunk in loaded.decode(FRAMES, chunk_frames=3))


@pytest.mark.parametrize("within", ["", "voice"])
def test_a_voice_in_the_cache_speaks_as_its_copy_does(voice, tmp_path, within):
    assert spoken(download(voice, tmp_path, within=within)) == spoken(voice)


def leave(snapshot: Path, name: str, target: Path) -> None:
    (snapshot / name).unlink()
    (snapshot / name).symlink_to(target)


def by_a_link(voice, snapshot):
    leave(snapshot, "voice.json", voice / "voice.json")


def by_a_blob_that_is_a_link(voice, snapshot):
    blob = (snapshot / "voice.json").resolve()
    blob.unlink()
    blob.symlink_to(voice / "voice.json")


def by_blobs_that_are_a_link(voice, snapshot):
    blobs = snapshot.parent.parent / "blobs"
    blobs.rename(voice.parent / "elsewhere")
    blobs.symlink_to(voice.parent / "elsewhere")


def to_a_folder_of_the_repository(voice, snapshot):
    refs = snapshot.parent.parent / "refs"
    refs.mkdir()
    shutil.copy(voice / "voice.json", refs / "main")
    leave(snapshot, "voice.json", refs / "main")


def to_another_repository(voice, snapshot):
    blobs = snapshot.parents[2] / "models--somebody--else" / "blobs"
    blobs.mkdir(parents=True)
    shutil.copy(voice / "voice.json", blobs / "00")
    leave(snapshot, "voice.json", blobs / "00")


@pytest.mark.parametrize(
    "escape",
    [
        by_a_link,
        by_a_blob_that_is_a_link,
        by_blobs_that_are_a_link,
        to_a_folder_of_the_repository,
        to_another_repository,
    ],
)
def test_a_link_that_leaves_the_blobs_is_refused(voice, tmp_path, escape):
    copy = shutil.copytree(voice, tmp_path / "copy" / "tiny")
    snapshot = download(voice, tmp_path / "cache")
    escape(copy, snapshot)
    with pytest.raises(VoiceError, match=r"voice\.json is a link that leads out of the voice's folder"):
        read_manifest(snapshot)


def test_a_folder_that_only_looks_like_the_cache_is_none(voice, tmp_path):
    snapshot = download(voice, tmp_path)
    snapshot.parent.parent.rename(tmp_path / "tiny")
    with pytest.raises(VoiceError, match=r"voice\.json is a link that leads out"):
        read_manifest(tmp_path / "tiny" / "snapshots" / "f0e1d2")


def test_a_model_in_the_cache_is_called_by_its_repository(tmp_path):
    snapshot = tmp_path / "models--somebody--mms-tts" / "snapshots" / "f0e1d2"
    (snapshot / "eng").mkdir(parents=True)
    assert folder_name(snapshot) == "mms-tts"
    assert folder_name(snapshot / "eng") == "eng"
    assert folder_name(tmp_path / "models--somebody--mms-tts") == "models--somebody--mms-tts"


def test_weights_behind_a_link_are_handed_over_in_memory(voice, tmp_path):
    snapshot = download(voice, tmp_path)
    for folder, kind in ((voice, Path), (snapshot, PackedGraph)):
        files = VoiceFiles(folder)
        assert isinstance(files.graph(files.manifest.decoder), kind)
