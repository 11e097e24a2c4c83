"""Making a corpus, from a list of sentences to a report.

::

    sentences, voices ─▶ plan      what all of it depends on, kept in corpus.json
    plan ─▶ batches                less what journals say is done
    batches ─▶ audio, journals     workers: processes here, or actors of Ray
    journals ─▶ metadata.parquet   and then report.md, report.json, report.png
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

from balacoon_tk._files import json_text, lock, write_whole
from balacoon_tk.corpus.choices import check_choices, choose_metrics, several
from balacoon_tk.corpus.files import check_audio_format
from balacoon_tk.corpus.journal import rows_of
from balacoon_tk.corpus.local import speak_locally
from balacoon_tk.corpus.manifest import METADATA_FILE, import_pyarrow, write_manifests
from balacoon_tk.corpus.on_ray import check_cluster, speak_on_ray
from balacoon_tk.corpus.plan import SETTINGS_FILE, Batch, CorpusPlan, digest_sentences, make_batches
from balacoon_tk.corpus.report import CorpusReport
from balacoon_tk.corpus.sentences import check_corpus_sentences
from balacoon_tk.corpus.speaker import Spoken
from balacoon_tk.corpus.voices import Speech, VoicePath, find_variants
from balacoon_tk.errors import ParameterError
from balacoon_tk.runtime.machine import n_processors
from balacoon_tk.runtime.options import Backend
from balacoon_tk.stages.settings import choose_seed


class CorpusProgress(NamedTuple):
    """How far a corpus is."""

    n_done: int
    """Utterances, those among them that failed and those of runs before."""
    n_all: int
    n_failed: int
    audio_s: float
    """Seconds of audio that this run has made."""


def make_corpus(
    sentences: Sequence[str | tuple[str, str]],
    voices: VoicePath | Sequence[VoicePath] | Mapping[str, VoicePath],
    folder: str | os.PathLike[str],
    *,
    precisions: Sequence[str] | None = None,
    strategies: Sequence[str] = ("full",),
    metrics: Sequence[str] = (),
    speaker: str | None = None,
    seed: int = 0,
    frontend: str = "auto",
    backend: Backend | None = None,
    audio_format: Literal["flac", "wav"] = "flac",
    textgrid: bool = False,
    shard_size: int = 1000,
    engine: Literal["local", "ray"] = "local",
    n_workers: int | None = None,
    address: str | None = None,
    progress: Callable[[CorpusProgress], None] | None = None,
) -> CorpusReport:
    """Speak each sentence by each voice, in each precision and by each strategy, into a folder.

    Each utterance has a seed of its own, of `seed`, its id and its text. It is spoken by one worker with one
    thread, so that neither their number nor their order changes a sample. A run that was stopped, in
    whatever way, goes on when it is called again with the same arguments: nothing is done twice but what
    was being spoken at that moment. A sentence that fails is recorded with its error, and so is one at which
    a worker ended twice.

    Parameters
    ----------
    sentences : sequence of str, or of pairs of id and text
        As `read_corpus_sentences` gives them. Texts without ids are called after their place.
    voices : voice, sequence of voices or mapping from name to voice
        Each a voice folder, an .addon file, or None for the default voice.
    folder : path
        Made if it isn't there; another run's is refused. For Ray on storage that every node has.
    precisions : sequence of {"fp32", "int8", "fp16"}, optional
        Of each voice, where it was made in them; what each is in itself if None.
    strategies : sequence of {"full", "stateful", "overlap"}
        How the decoder is run.
    metrics : sequence of str
        Of the groups of `balacoon_tk.metrics`, those that judge an utterance alone: ``wer``, ``dnsmos``,
        ``plcmos``.
    speaker : str, optional
        For voices with several speakers: a name or an id.
    seed : int
        In [0, 2**64).
    frontend : str
        As `TTS` has it.
    backend : {"auto", "native", "onnxruntime"}, optional
        As `TTS` has it. What ``auto`` finds when a corpus is begun speaks all of it.
    audio_format : {"flac", "wav"}
        Of 16 bits either way.
    textgrid : bool
        Whether a TextGrid with words and phonemes lies beside each file.
    shard_size : int
        Files of a folder, >= 1.
    engine : {"local", "ray"}
        Processes of this machine, or actors of Ray Data.
    n_workers : int, optional
        >= 1; if None as many as there are processors, here or in the cluster.
    address : str, optional
        Of a Ray cluster, as `ray.init` has it; that of ``RAY_ADDRESS``, or else a new one on this machine.
    progress : callable, optional
        Called with a `CorpusProgress` at the beginning and after each utterance.

    Returns
    -------
    CorpusReport
        Saved in the folder beside ``metadata.parquet``.

    Raises
    ------
    ParameterError
        If an argument is wrong, two voices can't be told apart, or the folder holds something else or is
        written to by another run; before anything is spoken.
    VoiceError
        If a voice can't be loaded; before anything is spoken.
    MissingExtraError
        If something is needed that isn't installed; before anything is spoken.
    CorpusError
        If no worker could go on. What is done is kept.

    Examples
    --------
    >>> report = make_corpus(["Hello there.", "And again."], "voices/joe", "corpus")  # doctest: +SKIP
    >>> pandas.read_parquet("corpus/metadata.parquet")  # doctest: +SKIP
    """
    checked = check_corpus_sentences(sentences)
    check_choices(audio_format, engine, n_workers, shard_size, address)
    groups, chosen = choose_metrics(metrics)
    import_pyarrow()
    check_audio_format(audio_format)
    if engine == "ray":
        check_cluster(address)
    folder = Path(folder)
    kept = _read_settings(folder)
    speech = Speech(
        None if precisions is None else several("precisions", precisions),
        several("strategies", strategies),
        speaker,
        backend,
        frontend,
    )
    plan = CorpusPlan(
        version=version("balacoon_tk"),
        n_sentences=len(checked),
        sentences_sha256=digest_sentences(checked),
        variants=find_variants(voices, speech, kept.variants if kept else ()),
        seed=choose_seed(seed),
        audio_format=audio_format,
        metrics=groups,
        textgrid=textgrid,
        shard_size=shard_size,
    )
    if kept is not None:
        plan.check_same(kept, folder)
    with _opened(folder, plan):
        # Written last of all that is made of journals: where it is, nothing is left to do.
        if not (folder / METADATA_FILE).exists():
            windows = [*make_batches(checked, len(plan.variants))]
            pending, counted = _pending(folder, windows, len(checked) * len(plan.variants))
            run = os.urandom(8).hex()
            if engine == "ray" and pending:
                spoken = speak_on_ray(plan, folder, run, pending, n_workers, address)
            else:
                spoken = speak_locally(plan, folder, run, pending, n_workers or n_processors())
            _follow(spoken, counted, progress)
            write_manifests(folder, windows, plan, chosen)
        names = [(each.voice, each.precision, each.strategy) for each in plan.variants]
        report = CorpusReport.of(folder, names, chosen)
        report.save()
    return report


def _follow(
    spoken: Generator[Spoken, None, None],
    progress: CorpusProgress,
    tell: Callable[[CorpusProgress], None] | None,
) -> None:
    """Let the work be done, and say how far it is; each warning once, whichever worker it comes from."""
    warned: set[str] = set()
    if tell is not None:
        tell(progress)
    # Closed whatever happens: workers end before the folder is let go.
    with closing(spoken):
        for each in spoken:
            for message in each.warnings:
                if message not in warned:
                    warned.add(message)
                    warnings.warn(message, stacklevel=3)
            progress = CorpusProgress(
                progress.n_done + 1,
                progress.n_all,
                progress.n_failed + each.failed,
                progress.audio_s + each.audio_s,
            )
            if tell is not None:
                tell(progress)


def _pending(
    folder: Path, windows: Sequence[Sequence[Batch]], n_all: int
) -> tuple[list[Batch], CorpusProgress]:
    """Return the batches in which something is still to be done, and how far all of it is."""
    pending, n_done, n_failed = [], 0, 0
    for window in windows:
        for batch in window:
            rows = rows_of(folder, batch)
            n_done += len(rows)
            n_failed += sum("error" in row for row in rows.values())
            if len(rows) < len(batch.indices):
                pending.append(batch)
    return pending, CorpusProgress(n_done, n_all, n_failed, 0.0)


def _read_settings(folder: Path) -> CorpusPlan | None:
    """Return what a folder was made with; None where nothing is. Anything else there is refused."""
    if not folder.is_dir():
        if folder.exists():
            raise ParameterError(f"{folder}: must be a folder, and is a file")
        return None
    try:
        return CorpusPlan.from_json((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if any(folder.iterdir()):
            raise ParameterError(
                f"{folder}: must be empty or a corpus, and has files and no {SETTINGS_FILE}"
            ) from None
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ParameterError(f"{folder / SETTINGS_FILE}: no settings of this version: {error!r}") from error


@contextmanager
def _opened(folder: Path, plan: CorpusPlan) -> Iterator[None]:
    """Keep others out of the folder, and its settings in it."""
    journals = folder / "journal"
    folder.mkdir(parents=True, exist_ok=True)
    # Of two that begin at once one has made it, and put its settings beside it.
    journals.mkdir(exist_ok=True)
    with (journals / "lock").open("ab") as file:
        lock(file, f"{folder}: another run is writing to it")
        if (folder / SETTINGS_FILE).exists():
            kept = _read_settings(folder)
            assert kept is not None
            plan.check_same(kept, folder)
        else:
            write_whole(folder / SETTINGS_FILE, json_text(plan.to_dict()))
        yield
        shutil.rmtree(journals, ignore_errors=True)
