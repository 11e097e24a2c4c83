"""The Parquet files of a corpus: what was spoken, in the order of the list, and what failed.

``metadata.parquet`` is read by `pandas.read_parquet`, and by ``load_dataset("audiofolder", data_dir=...)``,
which looks for that name and for ``file_name``. Such a loader takes no row without a file, so that what
failed lies in a Parquet file of its own. The first one is written last: where it is, the corpus is complete.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from balacoon_tk._leftovers import beside, remove_leftovers
from balacoon_tk.corpus.errors import CorpusError
from balacoon_tk.corpus.journal import rows_of
from balacoon_tk.corpus.plan import Batch, CorpusPlan
from balacoon_tk.errors import MissingExtraError
from balacoon_tk.metrics.registry import Metric

METADATA_FILE = "metadata.parquet"
FAILED_FILE = "failed.parquet"

_HEAD = ("id", "text", "voice", "precision", "strategy", "speaker", "voice_sha256", "seed")
_WRITTEN = ("sample_rate", "hop_length", "n_samples", "duration_s", "samples_sha256")
_TAKEN = ("synthesis_s", "cpu_s")


def metric_fields(metrics: Iterable[Metric]) -> tuple[str, ...]:
    """Return the columns that metrics have, all of them numbers."""
    return tuple(dict.fromkeys(name for each in metrics for name in each.ratio or (each.name,)))


def import_pyarrow() -> Any:
    """Return pyarrow with its Parquet module, or raise a `MissingExtraError`."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("writing a corpus", extra="corpus") from error
    return pyarrow


def write_manifests(
    folder: Path, windows: Iterable[Sequence[Batch]], plan: CorpusPlan, metrics: Sequence[Metric]
) -> None:
    """Write both Parquet files from the journals.

    A `CorpusError` says that an utterance isn't there, which doesn't happen but where files were removed.
    """
    pyarrow = import_pyarrow()
    spoken, failed = _schemas(pyarrow, metrics, with_transcript="wer" in plan.metrics)
    parts = {name: beside(folder / name) for name in (FAILED_FILE, METADATA_FILE)}
    remove_leftovers(folder)
    n_failed = 0
    try:
        with (
            pyarrow.parquet.ParquetWriter(parts[METADATA_FILE], spoken) as good,
            pyarrow.parquet.ParquetWriter(parts[FAILED_FILE], failed) as bad,
        ):
            for window in windows:
                rows = [*_rows_in_order(folder, window)]
                errors = [row for row in rows if "error" in row]
                n_failed += len(errors)
                for writer, schema, chosen in (
                    (good, spoken, [row for row in rows if "error" not in row]),
                    (bad, failed, errors),
                ):
                    # A group without rows is one that some readers stumble over.
                    if chosen:
                        writer.write_table(pyarrow.Table.from_pylist(chosen, schema=schema))
        for name, part in parts.items():
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            if name == METADATA_FILE or n_failed:
                part.replace(folder / name)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _rows_in_order(folder: Path, window: Sequence[Batch]) -> Iterator[dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    for batch in window:
        found = rows_of(folder, batch)
        if missing := set(batch.indices) - set(found):
            raise CorpusError(f"{folder}: utterance {min(missing)} of batch {batch.number} isn't there")
        rows |= found
    return (rows[index] for index in sorted(rows))


def _schemas(pyarrow: Any, metrics: Sequence[Metric], *, with_transcript: bool) -> tuple[Any, Any]:
    types = {
        **dict.fromkeys(("sample_rate", "hop_length", "n_samples", "seed"), pyarrow.int64()),
        **dict.fromkeys(("duration_s", *_TAKEN, *metric_fields(metrics)), pyarrow.float64()),
        "phonemes": pyarrow.list_(pyarrow.string()),
        "durations": pyarrow.list_(pyarrow.int32()),
    }
    names = ["file_name", *_HEAD, *_WRITTEN, "phonemes", "durations", *_TAKEN, *metric_fields(metrics)]
    names += ["transcript"] if with_transcript else []

    def schema(fields: Sequence[str]) -> Any:
        return pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in fields])

    return schema(names), schema([*_HEAD, "error"])
