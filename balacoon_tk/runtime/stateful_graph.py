"""The contract of a stateful graph, which stands in its metadata: its states, and how a stream runs it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import prod
from typing import ClassVar

import numpy as np

from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.engine import StreamingContract, TimeInput, TimeOutput


@dataclass(frozen=True, slots=True)
class StateSpec:
    """One tensor that a stateful graph carries from push to push."""

    input: str
    output: str
    dtype: str
    shape: tuple[int, ...]  # before the first push
    axis: int  # the one whose length changes
    max_length: int  # largest length of that axis
    fill: float = 0.0  # what it holds before the first push

    @property
    def longest(self) -> list[int]:
        """Its shape where it is largest."""
        return [self.max_length if k == self.axis else n for k, n in enumerate(self.shape)]


@dataclass(frozen=True, slots=True)
class StreamingSpec(StreamingContract):
    """What `make_streaming` writes into a graph's metadata: the contract, and what an engine needs too."""

    METADATA_KEY: ClassVar[str] = "balacoon_tk.streaming"
    FORMAT_VERSION: ClassVar[int] = 1

    states: tuple[StateSpec, ...]
    last_input: str  # name of the int64 (1,) input that is 1 in the last push and 0 before
    plan: tuple[str, ...] = ()  # of cuts, a line each, for a person to read
    # Multiply-adds that are done again, as a share of the whole, at the planned chunk size.
    recomputed_share: float = 0.0
    planned_chunk_frames: int = 0

    @property
    def n_state_bytes(self) -> int:
        """Largest size of one stream's state in bytes."""
        return sum(prod(state.longest) * np.dtype(state.dtype).itemsize for state in self.states)

    def to_json(self) -> str:
        """Return the text that stands in the graph's metadata."""
        return json.dumps({"format_version": self.FORMAT_VERSION} | asdict(self))

    @classmethod
    def from_json(cls, text: str) -> StreamingSpec:
        """Read the metadata of a graph; `ModelError` if it is damaged or of another format."""
        try:
            data = json.loads(text)
            version = data.pop("format_version")
            if version != cls.FORMAT_VERSION:
                raise ModelError(
                    f"{cls.METADATA_KEY}: format_version={version}, this version reads {cls.FORMAT_VERSION}"
                )
            data["inputs"] = tuple(TimeInput(**item) for item in data["inputs"])
            data["outputs"] = tuple(TimeOutput(**item) for item in data["outputs"])
            data["states"] = tuple(
                StateSpec(**(item | {"shape": tuple(item["shape"])})) for item in data["states"]
            )
            data["plan"] = tuple(data["plan"])
            return cls(**data)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{cls.METADATA_KEY}: the graph's metadata is damaged: {error}") from error
