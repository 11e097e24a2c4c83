"""The only file that imports onnxruntime: a graph, loaded and checked once, ready to run.

onnxruntime is imported when the first session is made, not when the package is, so that
``import balacoon_tk`` stays cheap, and a voice that the native engine runs needs no more.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.execution_providers import check_available, provider_settings
from balacoon_tk.runtime.options import HOST, Memory, RuntimeOptions
from balacoon_tk.runtime.ort_errors import reason
from balacoon_tk.runtime.process import generation, keep_for_ever, runs, watch

if TYPE_CHECKING:
    import onnx
    from onnxruntime import OrtValue

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


Tensor: TypeAlias = "OrtValue"  # a tensor that ONNX Runtime holds
NAMELESS = "<model>"
"""What messages call a graph that comes from no file."""
_WHEELS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")
"""Packages that bring it, one at a time."""
_LARGE = 16 << 20  # bytes of a graph that is handed over in a file


@dataclass(frozen=True, slots=True, eq=False)
class PackedGraph:
    """A graph in memory whose weights lie in files that are in memory as well."""

    graph: bytes
    files: Mapping[str, bytes]  # contents by the names that the graph knows them by


@dataclass(frozen=True, slots=True, eq=False)
class UnweightedGraph:
    """A graph in memory that lacks its large weights: it names files for them, which there aren't."""

    graph: bytes
    weights: Mapping[str, AnyArray]  # by their names in the graph; the runtime copies them


GraphSource: TypeAlias = "str | os.PathLike[str] | bytes | PackedGraph | onnx.ModelProto"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype and shape of one input or output of a graph."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | str | None, ...]  # a dynamic axis is its name, or None if it has none


class Session:
    """One ONNX graph in ONNX Runtime; safe to run from many threads at once.

    A path may name a file with external weights beside it. Without `optimize` ONNX Runtime leaves the graph
    as it is, so that every tensor can be looked at. All that it refuses or fails in raises `ModelError`.
    """

    def __init__(
        self,
        model: GraphSource | UnweightedGraph,
        options: RuntimeOptions | None = None,
        *,
        optimize: bool = True,
    ) -> None:
        import onnxruntime

        _watch()
        options = options or RuntimeOptions()
        check_providers(options)
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4  # errors come as exceptions; warnings are about foreign graphs
        # Within a run threads wait for each other in a loop, which is fast; between runs that would take
        # the cores from whoever plays the sound, and from every other stream.
        settings.add_session_config_entry("session.force_spinning_stop", "1")
        # The threads of a new session spin before there is a run, for 47 ms if they may, on the processor on
        # which another session is being loaded. Between two nodes of a run they wait for microseconds.
        settings.add_session_config_entry("session.intra_op.spin_duration_us", "1000")
        if not _sums_bytes_exactly():
            # Pairs of products of bytes are added up in 16 bits and clipped; this takes kernels that don't.
            # They are no faster than float32, so a processor that needs none must not get them.
            settings.add_session_config_entry("session.x64quantprecision", "1")
        if not optimize:
            settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            # Shapes are taken as soon as they can be: only then are tensors freed of which no more is asked.
            settings.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
            # Weights laid out for kernels are a second copy of them, which pays when they are used often.
            settings.add_session_config_entry("session.disable_prepacking", "1")
        if options.n_threads is not None:
            settings.intra_op_num_threads = options.n_threads
        self.label = _label(model)
        self.memory = options.memory
        self._providers = options.other_providers
        self._process = generation()
        self._survives_forks = survives_forks(options)
        providers = provider_settings(options)
        try:
            with runs:
                self._session = _load(model, settings, providers)
        except Exception as error:  # onnxruntime raises a dozen unrelated types, here and below
            where = " or ".join(self._providers) or "ONNX Runtime"
            raise ModelError(f"{self.label}: {where} can't load it: {reason(error)}") from error
        # One whose libraries aren't there is left out, and said so in a log alone.
        if left_out := sorted(providers.keys() - self._session.get_providers()):
            raise ModelError(
                f"{self.label}: ONNX Runtime can't start {', '.join(left_out)}: its libraries or its device "
                "are missing"
            )
        _loaded.add(self)
        try:
            self.inputs = _specs(self._session.get_inputs())
            self.outputs = _specs(self._session.get_outputs())
            self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        except UnicodeDecodeError as error:  # it loads a graph whose names are any bytes
            raise ModelError(f"{self.label}: a name in the graph is not UTF-8: {error}") from error

    def run(self, feeds: Mapping[str, AnyArray], outputs: Sequence[str] | None = None) -> dict[str, AnyArray]:
        """Run once on arrays and return the outputs by name (all of them if `outputs` is None)."""
        names = list(self.outputs) if outputs is None else list(outputs)
        self.check_process()
        try:
            with runs:
                return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))
        except Exception as error:
            raise self.failure(error) from error

    def run_tensors(
        self, feeds: Mapping[str, Tensor], outputs: Sequence[str], *, kept: Collection[str] = ()
    ) -> list[Tensor]:
        """Run once on tensors that ONNX Runtime holds already; nothing passes through Python.

        Outputs lie in the host's memory, but for those `kept`, which stay where they were computed.
        """
        self.check_process()
        try:
            io = self.io_binding()
            for name, tensor in feeds.items():
                io.bind_ortvalue_input(name, tensor)
            for name in outputs:
                memory = self.memory if name in kept else HOST
                io.bind_output(name, memory.device, memory.device_id)
            self.run_bound(io)
            values: list[Tensor] = io.get_outputs()
        except Exception as error:
            raise self.failure(error) from error
        return values

    def io_binding(self) -> Any:
        """Return an `onnxruntime.IOBinding` of this graph, to be run by `run_bound`."""
        return self._session.io_binding()

    def run_bound(self, io: Any) -> None:
        """Run once on what is bound; raises what ONNX Runtime raises."""
        with runs:
            self._session.run_with_iobinding(io)

    def failure(self, error: Exception) -> ModelError:
        """Return the error that says that a run has failed, and in which execution provider."""
        where = " or ".join(self._providers)
        return ModelError(f"{self.label}: the run failed{where and f' in {where}'}: {reason(error)}")

    def check_process(self) -> None:
        """Refuse to run in a child of the process that has loaded the graph, if that needs threads."""
        # A run would wait for ever for threads that a fork doesn't copy.
        if self._process != generation() and not self._survives_forks:
            raise ModelError(
                f"{self.label}: was loaded before this process was forked, which leaves ONNX Runtime's "
                "threads behind: load it in the child, load it with n_threads=1, or start children by "
                "multiprocessing.get_context('spawn')"
            )


_loaded: weakref.WeakSet[Session] = weakref.WeakSet()


@functools.cache
def _watch() -> None:
    """Look after forks and the end of the process, once there is a session."""
    watch()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_keep_loaded)


def _keep_loaded() -> None:
    # Freeing a session ends its threads, and waits for ever for those that a fork has left behind.
    for session in _loaded:
        keep_for_ever(session._session)


def _label(model: GraphSource | UnweightedGraph) -> str:
    # What messages call a graph; a path is looked for first, since ONNX Runtime says less of it.
    if isinstance(model, (str, os.PathLike)):
        if not Path(model).is_file():
            raise ModelError(f"{Path(model)}: no such file")
        return str(Path(model))
    data = model.graph if isinstance(model, PackedGraph | UnweightedGraph) else model
    return f"<{len(data)} bytes>" if isinstance(data, bytes) else NAMELESS


def _load(
    model: GraphSource | UnweightedGraph, settings: Any, providers: Mapping[str, Mapping[str, str]]
) -> Any:
    import onnxruntime

    # What can't be run as asked is an error, and no line on stdout and another run elsewhere.
    load = functools.partial(
        onnxruntime.InferenceSession,
        sess_options=settings,
        providers=[(name, dict(given)) for name, given in providers.items()],
        enable_fallback=0,
    )
    if isinstance(model, UnweightedGraph):
        tensors = [to_tensor(array) for array in model.weights.values()]
        settings.add_external_initializers(list(model.weights), tensors)
        return load(model.graph)
    if not isinstance(model, PackedGraph):
        if isinstance(model, os.PathLike):
            model = str(Path(model))
        source = model if isinstance(model, (str, bytes)) else model.SerializeToString()
        if isinstance(source, str) or len(source) < _LARGE:
            return load(source)
        # The runtime would copy it twice before it reads it.
        with tempfile.TemporaryDirectory() as folder:
            # It goes by a file's name which of its two formats it reads.
            path = Path(folder) / ("graph.ort" if is_ort_format(source) else "graph.onnx")
            path.write_bytes(source)
            return load(str(path))
    names, contents = list(model.files), list(model.files.values())
    if hasattr(settings, "add_external_initializers_from_files_in_memory"):
        settings.add_external_initializers_from_files_in_memory(names, contents, list(map(len, contents)))
        return load(model.graph)
    # Older ones read such files from a folder alone.
    with tempfile.TemporaryDirectory() as folder:
        for name, content in model.files.items():
            (Path(folder) / name).write_bytes(content)
        path = Path(folder) / "graph.onnx"
        path.write_bytes(model.graph)
        return load(str(path))


def survives_forks(options: RuntimeOptions) -> bool:
    """Whether what is run by these options can be run in a child of the process that has loaded it."""
    # ONNX Runtime starts threads where a run may use more than the one that asks for it.
    return options.n_threads == 1 and not options.other_providers


def is_ort_format(data: bytes) -> bool:
    """Say whether a graph is in ONNX Runtime's own format, and not in ONNX."""
    return data[4:8] == b"ORTM"


def runtime_version() -> str:
    """Return the version of ONNX Runtime, without loading it where its package is known."""
    if "onnxruntime" not in sys.modules:
        for package in _WHEELS:
            with contextlib.suppress(PackageNotFoundError):
                return version(package)
    import onnxruntime

    return str(onnxruntime.__version__)


def check_providers(options: RuntimeOptions) -> None:
    """Refuse an execution provider that this build of ONNX Runtime hasn't, by a `ParameterError`."""
    # Every build has the one for processors, so a voice that needs no other loads without ONNX Runtime.
    if not options.other_providers:
        return
    import onnxruntime

    check_available(options, onnxruntime.get_available_providers())


def to_tensor(array: AnyArray, memory: Memory = HOST) -> Tensor:
    """Hand an array to ONNX Runtime once, to be used in `Session.run_tensors` or a `Binding`.

    In the host's memory it is the same numbers, elsewhere a copy.
    """
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_numpy(
        np.ascontiguousarray(array), memory.device, memory.device_id
    )


def empty_tensor(shape: Sequence[int], dtype: np.dtype[np.generic], memory: Memory = HOST) -> Tensor:
    """Return a tensor to be written to."""
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_shape_and_type(
        list(shape), dtype.type, memory.device, memory.device_id
    )


def fold_constants(model: bytes) -> bytes:
    """Return a graph with all that doesn't depend on its inputs computed, in standard operators alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # The next level writes operators of ONNX Runtime's own, which no other runtime reads.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(path)
        try:
            with runs:
                onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(f"ONNX Runtime can't load the graph: {reason(error)}") from error
        return path.read_bytes()


@functools.cache
def _sums_bytes_exactly() -> bool:
    # Whether the processor has instructions for sums of products of bytes. Where the system doesn't say,
    # there are none, which costs time and no sample.
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "vnni" in flags or "amx_int8" in flags


def _specs(args: Sequence[Any]) -> dict[str, TensorSpec]:
    return {
        arg.name: TensorSpec(arg.name, np.dtype(_DTYPES.get(arg.type, np.object_)), tuple(arg.shape))
        for arg in args
    }
