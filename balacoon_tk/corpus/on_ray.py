"""Workers as actors of Ray Data, on as many machines as a cluster has.

Which actor takes which batch, and what happens when one ends, is Ray's doing: a batch that it hands out
again goes on where its journal ends. The output folder must be on storage that every node sees, since
actors write audio themselves; voices need not be, since Ray carries them to where they are missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import platform
import socket
import subprocess
import sys
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from balacoon_tk._files import cache_folder
from balacoon_tk.corpus.errors import CorpusError
from balacoon_tk.corpus.plan import SETTINGS_FILE, Batch, CorpusPlan, Variant
from balacoon_tk.corpus.speaker import CorpusSpeaker, Spoken
from balacoon_tk.errors import BalacoonError, MissingExtraError, VoiceError
from balacoon_tk.voice.files import MANIFEST_FILE, VoiceFiles
from balacoon_tk.voice.install import install

_ADDRESS_VARIABLE = "RAY_ADDRESS"  # Ray's own
_CONNECT_S, _ANSWER_S = 5.0, 20.0
_KEY_DIGITS = 16


def speak_on_ray(
    plan: CorpusPlan,
    folder: Path,
    run: str,
    batches: Sequence[Batch],
    n_workers: int | None,
    address: str | None,
) -> Generator[Spoken, None, None]:
    """Speak batches in actors, and give what was spoken as each batch is done.

    A `CorpusError` says that a node lacks what it needs, or what ended the run.
    """
    ray = _import_ray()
    with _connected(ray, n_workers, address):
        speaker_of = (json.dumps(plan.to_dict()), str(folder.absolute()), run, _digest(folder))
        # By reference: each of some hundred actors would else be sent all of them.
        different = {each.sha256: each for each in plan.variants}
        voices = {sha256: [ray.put(_pack(each))] for sha256, each in different.items()}
        n_cpus = int(ray.cluster_resources().get("CPU", 1))
        pool = ray.data.ActorPoolStrategy(size=min(n_workers or n_cpus, n_cpus, len(batches)))
        items = [{"batch": each.to_json()} for each in batches]
        spoken = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            RaySpeaker,
            batch_size=None,
            compute=pool,
            fn_constructor_args=(*speaker_of, voices, version("balacoon_tk")),
            num_cpus=1,
        )
        try:
            for row in spoken.iter_rows():
                yield _heard(json.loads(row["spoken"]))
        except ray.exceptions.RayError as error:
            raise CorpusError(f"Ray ended the run: {_last_line(error)}") from error


class RaySpeaker:
    """An actor; what it can't do is handed back and not raised, since Ray would try it again elsewhere."""

    def __init__(
        self,
        plan: str,
        folder: str,
        run: str,
        settings_sha256: str,
        voices: Mapping[str, Sequence[Any]],
        wanted_version: str,
    ) -> None:
        self._problem = ""
        if version("balacoon_tk") != wanted_version:
            self._problem = f"has balacoon_tk {version('balacoon_tk')}, and {wanted_version} is wanted"
        elif _digest(Path(folder)) != settings_sha256:
            self._problem = f"doesn't see {folder} of this run: it must be on storage that every node has"
        self._voices = voices
        self._speaker = CorpusSpeaker(CorpusPlan.from_json(plan), Path(folder), run, self._find_voice)

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, list[str]]:
        """Speak the batches of a block."""
        if self._problem:
            return {"spoken": [json.dumps({"fatal": f"{platform.node()}: the node {self._problem}"})]}
        spoken: list[str] = []
        try:
            for batch in rows["batch"]:
                spoken += [json.dumps(each) for each in self._speaker.speak(Batch.from_json(batch))]
        except BalacoonError as error:
            spoken.append(json.dumps({"fatal": str(error)}))
        return {"spoken": spoken}

    def _find_voice(self, variant: Variant) -> str:
        """Return where the voice lies on this node; what isn't there is written into its cache."""
        kept = cache_folder() / "voices" / f"corpus-{variant.sha256[:_KEY_DIGITS]}"
        for path in (Path(variant.path), kept):
            with contextlib.suppress(VoiceError):
                VoiceFiles(path, variant.sha256)
                return str(path)
        import ray

        (packed,) = self._voices[variant.sha256]
        return str(install(ray.get(packed), kept, overwrite=False))


def check_cluster(address: str | None) -> None:
    """Raise a `CorpusError` where no cluster answers; Ray itself would try again for a minute or more.

    A `MissingExtraError` says that Ray isn't installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError("engine='ray'", extra="ray")
    where = _place_of(address)
    scheme, _, place = where.rpartition("://")
    host, colon, port = place.rpartition(":")
    if not colon:
        return  # `local` and `auto`, which Ray knows at once
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise CorpusError(f"address={where!r}: no Ray cluster answers there: {error}") from error
    if scheme:
        return
    # Something answers: whether it is Ray, its own command finds out, which can be ended.
    command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "status", "--address", where]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_S, check=False)
        said = "" if done.returncode == 0 else (done.stderr.strip() or "no answer").splitlines()[-1]
    except subprocess.TimeoutExpired:
        said = f"no answer in {_ANSWER_S:.0f} s"
    if said:
        raise CorpusError(f"address={where!r}: what answers there is no Ray cluster of this version: {said}")


def _place_of(address: str | None) -> str:
    return address or os.environ.get(_ADDRESS_VARIABLE) or "local"


def _import_ray() -> Any:
    # Before it is imported: what it would say of itself, and to whom.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with warnings.catch_warnings():
        # What it deprecates of itself is not the caller's concern.
        warnings.simplefilter("ignore")
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise MissingExtraError("engine='ray'", extra="ray") from error
        context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return ray


@contextlib.contextmanager
def _connected(ray: Any, n_workers: int | None, address: str | None) -> Iterator[None]:
    """Join a cluster, or start one on this machine; one that the caller has joined stays."""
    if ray.is_initialized():
        yield
        return
    where = _place_of(address)
    own = {"include_dashboard": False, "num_cpus": n_workers} if where == "local" else {}
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        ray.init(where, log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:  # of a node that is slow to start Ray raises just that
        raise CorpusError(f"address={where!r}: no Ray cluster can be joined: {_last_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _pack(variant: Variant) -> dict[str, bytes]:
    files = VoiceFiles(Path(variant.path), variant.sha256)
    names = dict.fromkeys([MANIFEST_FILE, *(each.file for each in files.manifest.files)])
    return {name: files.member(name) for name in names}


def _digest(folder: Path) -> str:
    try:
        return hashlib.sha256((folder / SETTINGS_FILE).read_bytes()).hexdigest()
    except OSError:
        return ""


def _heard(message: Any) -> Spoken:
    if isinstance(message, dict):
        raise CorpusError(message["fatal"])
    audio_s, failed, warnings = message
    return Spoken(audio_s, failed, tuple(warnings))


def _last_line(error: BaseException) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), repr(error))
