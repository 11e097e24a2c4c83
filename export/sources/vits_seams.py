"""Where a VITS graph can be cut: found from its structure, not from anybody's names.

Text becomes durations by a ``Ceil``. The durations become an alignment path, and two products with
that path stretch the prior's mean and log scale from phonemes to frames. Noise is added, and the
sum is what the decoder starts from (Kim et al. 2021, https://arxiv.org/abs/2106.06103, section 2.2;
``infer`` of the reference implementation):

    ids ─ text encoder ─┬─ durations = ceil(exp(logw) · length_scale) ─ path
                        └─ mean, log_scale ──────────────────────────── path @ mean, path @ log_scale
    frames = path @ mean + noise · exp(path @ log_scale) · noise_scale ─ decoder ─ samples
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from balacoon_tk.export.sources import vits_noise
from balacoon_tk.export.sources.vits_noise import RENAMES, factors_of, label, not_a_voice, required
from balacoon_tk.graph.walk import ancestors, descendants, read_by

# Between an input and its lookup exporters put these, which change no id.
_KEEPS_ORDER = RENAMES | {"Squeeze", "Unsqueeze", "Reshape"}
_INTEGERS = (ir.DataType.INT32, ir.DataType.INT64)


@dataclass(frozen=True, slots=True)
class Table:
    """An embedding that is looked up by an input of the graph."""

    input: ir.Value
    rows: ir.Value
    """What the lookup gives."""
    n_rows: int
    n_columns: int


@dataclass(frozen=True, slots=True)
class Prior:
    """What one of the products with the path stretches to frames."""

    value: ir.Value
    channels_last: bool
    """Whether it is (1, n_phonemes, n_channels) rather than (1, n_channels, n_phonemes)."""


@dataclass(frozen=True, slots=True)
class Seams:
    """The values at which a VITS graph is cut."""

    phonemes: Table
    lengths: ir.Value | None
    """The input with the number of phonemes."""
    speakers: Table | None
    before_ceil: ir.Value
    durations: ir.Value
    """Frames per phoneme, as the path is made of them."""
    encodings: Prior
    log_scales: Prior
    frames: ir.Value
    frame_noise: ir.Value
    duration_noise: ir.Value | None
    """Output of the random node of the duration predictor; None if that is deterministic."""
    scaled_duration_noise: ir.Value | None
    noise_scale: ir.Value
    length_scale: ir.Value
    noise_w: ir.Value | None
    total_frames: tuple[ir.Value, ...]
    """The sums of the durations by which the decoder learns the number of frames."""
    samples: ir.Value


def find_seams(graph: ir.Graph) -> Seams:
    """Find where a graph, sorted and with its constants lifted, can be cut; an error says what is missing."""
    phonemes, speakers = _find_tables(graph)
    ceil, products = _find_path(graph, phonemes)
    behind_ceil = ancestors([ceil.outputs[0]])
    frame_noise, duration_noise = vits_noise.find_noises(graph, behind_ceil)
    frames, noise_factors = vits_noise.find_sum(frame_noise)
    mean, log_scale = _tell_apart(products, frames, noise_factors)
    scaled, noise_w = vits_noise.find_scaled(graph, duration_noise)
    durations, samples = _end_of_durations(ceil), _find_samples(graph, frames)
    return Seams(
        phonemes=phonemes,
        lengths=_find_lengths(graph, phonemes, speakers),
        speakers=speakers,
        before_ceil=required(ceil.inputs[0]),
        durations=durations,
        encodings=mean,
        log_scales=log_scale,
        frames=frames,
        frame_noise=frame_noise,
        duration_noise=duration_noise,
        scaled_duration_noise=scaled,
        noise_scale=vits_noise.find_scale(graph, noise_factors, "the frames' noise"),
        length_scale=vits_noise.find_scale(graph, factors_of(required(ceil.inputs[0])), "the durations"),
        noise_w=noise_w,
        total_frames=_find_totals(graph, durations, frames, samples),
        samples=samples,
    )


def _find_tables(graph: ir.Graph) -> tuple[Table, Table | None]:
    """Find the embeddings of phonemes (ids of two axes) and of speakers (ids of one)."""
    found: dict[int, Table] = {}
    for node in graph:
        if node.op_type != "Gather" or len(node.inputs) != 2:
            continue
        table, ids = node.inputs
        if table is None or table.const_value is None or len(table.const_value.shape) != 2:
            continue
        while ids is not None and (before := ids.producer()) is not None and before.op_type in _KEEPS_ORDER:
            ids = before.inputs[0]
        if ids is None or not ids.is_graph_input() or ids.dtype not in _INTEGERS or ids.shape is None:
            continue
        # Phonemes are a batch of sequences; a speaker is one number for each, or just one.
        first = found.setdefault(
            max(len(ids.shape), 1), Table(ids, node.outputs[0], *table.const_value.numpy().shape)
        )
        if first.input is not ids:
            raise not_a_voice(f"two inputs, {first.input.name!r} and {ids.name!r}, are looked up in tables")
    if 2 not in found:
        rule = "an integer input with two axes that is looked up in an embedding"
        raise not_a_voice(f"no phoneme ids found ({rule})")
    return found[2], found.get(1)


def _find_lengths(graph: ir.Graph, phonemes: Table, speakers: Table | None) -> ir.Value | None:
    known = {phonemes.input} | ({speakers.input} if speakers else set())
    inputs = (value for value in graph.inputs if value not in known and not value.is_initializer())
    # Scales are floats and found by what they multiply; an input that nothing reads asks for nothing.
    others = [value for value in inputs if value.uses() and value.dtype != ir.DataType.FLOAT]
    for value in others:
        if value.dtype not in _INTEGERS or value.shape is None or len(value.shape) != 1:
            known_kinds = "phoneme ids, their number, scales and speaker"
            raise not_a_voice(f"input {value.name!r} is none of {known_kinds}")
    if len(others) > 1:
        names = ", ".join(repr(value.name) for value in others)
        raise not_a_voice(f"inputs {names} could each be the number of phonemes")
    return others[0] if others else None


def _find_path(graph: ir.Graph, phonemes: Table) -> tuple[ir.Node, list[ir.Node]]:
    """Find the Ceil that makes durations, and the two products with the path that follows from it."""
    ceils = [node for node in graph if node.op_type == "Ceil"]
    if not ceils:
        raise not_a_voice("no duration Ceil found")
    # Ceil is common (in interpolations, say); the durations' has text before it and both products after it.
    from_text = descendants(graph, [phonemes.rows])
    most: list[ir.Node] = []
    for ceil in ceils:
        if ceil.outputs[0] not in from_text:
            continue
        after = descendants(graph, ceil.outputs)
        products = [node for node in graph if _is_product(node, after, from_text)]
        if len(products) == 2:
            return ceil, products
        most = max(most, products, key=len)
    raise not_a_voice(
        f"{len(most)} products of an alignment path and a prior found after the duration Ceil, not 2"
    )


def _is_product(node: ir.Node, after: set[ir.Value], from_text: set[ir.Value]) -> bool:
    """Say whether a node multiplies a path, which is made of durations, and a prior, which is not."""
    if node.op_type != "MatMul":
        return False
    # Either order is met, with the prior transposed or not.
    a, b = required(node.inputs[0]), required(node.inputs[1])
    return (a in after and b in from_text - after) or (b in after and a in from_text - after)


def _end_of_durations(ceil: ir.Node) -> ir.Value:
    """Go forward over what is done to the durations before they are summed."""
    # Masks are multiplied in, and some exporters keep every phoneme at one frame or more.
    value = ceil.outputs[0]
    while len(readers := value.consumers()) == 1 and readers[0].op_type in RENAMES | {"Mul", "Clip", "Max"}:
        value = readers[0].outputs[0]
    return value


def _tell_apart(
    products: list[ir.Node], frames: ir.Value, noise_factors: list[ir.Value]
) -> tuple[Prior, Prior]:
    """Tell the mean from the log scale: the one of which an Exp is taken, to scale the noise."""
    exponents = [node for factor in noise_factors if (node := factor.producer()) and node.op_type == "Exp"]
    if len(exponents) != 1:
        raise not_a_voice(f"the frames' noise must be multiplied by one Exp, not {len(exponents)}")
    in_scale = ancestors([exponents[0].outputs[0]])
    scales = [product for product in products if product.outputs[0] in in_scale]
    in_frames = ancestors([frames])
    means = [p for p in products if p not in scales and p.outputs[0] in in_frames]
    if len(scales) != 1 or len(means) != 1:
        raise not_a_voice("the products with the path are not one mean and one log scale of the frames")
    return _prior(means[0]), _prior(scales[0])


def _prior(product: ir.Node) -> Prior:
    a, b = required(product.inputs[0]), required(product.inputs[1])
    # The path depends on the durations, so on everything that the prior depends on, and on more.
    return Prior(b, True) if len(ancestors([a])) > len(ancestors([b])) else Prior(a, False)


def _find_samples(graph: ir.Graph, frames: ir.Value) -> ir.Value:
    after = descendants(graph, [frames])
    outputs = [value for value in graph.outputs if value in after]
    if len(outputs) != 1:
        raise not_a_voice(f"{len(outputs)} outputs depend on the frames, not 1")
    return outputs[0]


def _find_totals(
    graph: ir.Graph, durations: ir.Value, frames: ir.Value, samples: ir.Value
) -> tuple[ir.Value, ...]:
    """Find what the decoder reads of the durations apart from the frames: only their sum is known."""
    # The sum sizes the decoder's mask. Anything else that depends on single durations could not be streamed.
    needed = ancestors([samples], stop=[frames])
    totals = []
    for node in graph:
        if node.outputs and durations in read_by(node) and any(value in needed for value in node.outputs):
            if node.op_type != "ReduceSum":
                raise not_a_voice(f"the decoder reads the durations by {label(node)}, not only by their sum")
            totals.append(node.outputs[0])
    return tuple(totals)
