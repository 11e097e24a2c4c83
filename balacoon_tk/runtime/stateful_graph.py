"""The contract of a stateful graph, which stands in its metadata: its states, and how a stream runs it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
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
    shape: tuple[int, ...]
    """Shape before the first push."""
    axis: int
    """The axis whose length changes."""
    max_length: int
    """Largest length of that axis."""
    fill: float = 0.0
    """The value that it holds before the first push."""

    @property
    def n_bytes(self) -> int:
        """Largest size in bytes."""
        sizes = [self.max_length if i == self.axis else n for i, n in enumerate(self.shape)]
        return int(np.prod(sizes)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class StreamingSpec:
    """The streaming contract that `make_streaming` writes into a graph's metadata."""

    METADATA_KEY: ClassVar[str] = "balacoon_tk.streaming"
    FORMAT_VERSION: ClassVar[int] = 1

    inputs: tuple[TimeInput, ...]
    outputs: tuple[TimeOutput, ...]
    states: tuple[StateSpec, ...]
    fingerprint: str
    """Says which graph a stream's state belongs to."""
    last_input: str
    """Name of the int64 ``(1,)`` input that is 1 in the last push and 0 before."""
    min_first_frames: int
    """Frames that the first push needs, unless it is the last one too."""
    min_push_frames: int
    """Frames that any later push needs."""
    plan: tuple[str, ...] = ()
    """The plan of cuts, a line each, for a person to read."""
    recomputed_share: float = 0.0
    """Multiply-adds that are done again, as a share of the whole, at the planned chunk size."""
    planned_chunk_frames: int = 0

    @property
    def contract(self) -> StreamingContract:
        """What a stream has to know of it."""
        return StreamingContract(
            inputs=self.inputs,
            outputs=self.outputs,
            fingerprint=self.fingerprint,
            min_first_frames=self.min_first_frames,
            min_push_frames=self.min_push_frames,
        )

    @property
    def n_state_bytes(self) -> int:
        """Largest size of one stream's state in bytes."""
        return sum(state.n_bytes for state in self.states)

    def to_json(self) -> str:
        """Return the text that stands in the graph's metadata."""
        return json.dumps({"format_version": self.FORMAT_VERSION} | asdict(self))

    @classmethod
    def from_json(cls, text: str) -> StreamingSpec:
        """Read the metadata of a graph.

        Raises
        ------
        ModelError
            If the text is damaged or of a format that this version doesn't read.
        """
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
