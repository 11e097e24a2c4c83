"""Decoders in int8: what rounding may do, that streaming stays exact, and the search."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from balacoon_tk import TTS, load_voice
from balacoon_tk.audio import to_pcm16
from balacoon_tk.cli import main
from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export import export_voice, make_streaming
from balacoon_tk.export.quantize import Budget, BudgetError, mixtures, quantize_voice, voice
from balacoon_tk.export.quantize.equalize import equalize
from balacoon_tk.export.quantize.judging import EncoderCost
from balacoon_tk.export.quantize.mixtures import Block, Mixer, NativeMixer, OrtMixer, layers_of, name_nodes
from balacoon_tk.export.quantize.pause_gain import add_pause_gain, block_samples, measure_noise
from balacoon_tk.export.quantize.ranges import (
    Histogram,
    choose_range,
    collect_extents,
    collect_histograms,
)
from balacoon_tk.graph.half import halve_weights
from balacoon_tk.graph.int8 import Range, quantize_bias, quantize_kernel, read_qdq
from balacoon_tk.graph.streaming.equivalence import verify_rounding, verify_streaming
from balacoon_tk.metrics.signal import snr_db
from balacoon_tk.runtime.engine import Engine
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.choice import NATIVE
from balacoon_tk.targets.native import compile_native
from balacoon_tk.targets.ort_cpu.compile import compile_voice
from balacoon_tk.targets.ort_cpu.optimize import optimize_decoder
from balacoon_tk.targets.ort_cpu.passes.keep_blocked import changes_nothing
from balacoon_tk.voice.backends import BACKEND_VARIABLE
from balacoon_tk.voice.files import VoiceFiles
from balacoon_tk.voice.finish import PlainVoice, compile_again
from balacoon_tk.voice.manifest import Manifest
from streaming_laws import assert_streams
from tiny_graphs import TinyGraph
from tiny_vits import TinyVits, write_tiny_vits

VARIANT = TinyVits(upsample_rates=(4, 4), n_channels=16)
TEXTS = ["[[abba]]", "[[a bad cab had a bag]]", "[[gab]]", "[[fad face]]", "[[dead bee]]"] * 3


@pytest.fixture(scope="module")
def tiny_source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return export_voice(write_tiny_vits(folder, VARIANT), folder / "voice")


@pytest.fixture(scope="module")
def plain(tiny_source) -> onnx.ModelProto:
    files = VoiceFiles(tiny_source)
    return name_nodes(files.model(files.manifest.decoder))


def frames(n_frames: int, seed: int = 0) -> dict[str, np.ndarray]:
    shape = (1, VARIANT.n_channels, n_frames)
    return {"frames": np.random.default_rng(seed).standard_normal(shape).astype("f4")}


def calibrated(
    plain: onnx.ModelProto, seen: Sequence[dict[str, np.ndarray]] = (), make: type[Mixer] = OrtMixer
) -> Mixer:
    mixer = make(plain)
    histograms = collect_histograms(plain, seen or [frames(60, 1), frames(200, 2)], mixer.tensors)
    mixer.calibrate({name: choose_range(histogram, "minmax") for name, histogram in histograms.items()})
    return mixer


@pytest.mark.parametrize(
    ("low", "high"), [(-1.0, 3.0), (0.5, 2.0), (-3.0, -1.0), (0.0, 0.0), (-1e-20, 1e-20)]
)
def test_zero_is_always_a_number_of_a_range(low: float, high: float) -> None:
    chosen = Range(low, high)
    assert chosen.scale > 0
    numbers = (np.arange(256) - int(chosen.zero_point)) * chosen.scale
    assert 0.0 in numbers
    assert numbers[0] <= max(low, 0) + chosen.scale and numbers[-1] >= min(high, 0) - chosen.scale


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_range_that_is_none_is_refused(low: float, high: float) -> None:
    with pytest.raises(ParameterError, match="finite and in order"):
        Range(low, high)


def test_a_kernel_is_rounded_by_half_a_step_at_most_whatever_the_size_of_its_filters() -> None:
    weight = np.random.default_rng(0).standard_normal((5, 3, 1, 7)).astype("f4")
    weight *= np.array([1e-4, 1, 100, 0, 3], "f4").reshape(-1, 1, 1, 1)
    kernel, scales = quantize_kernel(weight)
    assert kernel.dtype == np.int8 and kernel.min() >= -127
    back = kernel * scales.reshape(-1, 1, 1, 1)
    assert (np.abs(back - weight) <= 0.501 * scales.reshape(-1, 1, 1, 1)).all()
    assert quantize_bias(np.array([1e20, -0.26], "f4"), np.array([0.5, 0.5])).tolist() == [2**31 - 1, -1]


def test_percentiles_leave_out_what_is_rare_and_entropy_lies_between() -> None:
    rng = np.random.default_rng(0)
    numbers = np.append(rng.standard_normal(200_000), [100.0, -50.0])
    histogram = Histogram(-50.0, 100.0, np.histogram(numbers, 4096, (-50, 100))[0])
    widest = choose_range(histogram, "minmax")
    assert (widest.low, widest.high) == (-50.0, 100.0)
    narrow = choose_range(histogram, "percentile", share=1e-3)
    assert -3.5 < narrow.low < -2.5 and 2.5 < narrow.high < 3.5
    assert choose_range(histogram, "entropy").scale < widest.scale / 5
    with pytest.raises(ParameterError, match="method='best' must be one of"):
        choose_range(histogram, "best")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"share=0\.5 must be in"):
        choose_range(histogram, "percentile", share=0.5)


def test_the_plain_decoder_and_the_compiled_ones_say_the_same(tiny_source, plain) -> None:
    files = VoiceFiles(tiny_source)
    assert OrtEngine(plain).streaming is None
    for name, info in files.manifest.targets.items():
        native = name == NATIVE
        engine = NativeEngine(files.program(info.decoder)) if native else OrtEngine(files.model(info.decoder))
        assert engine.contract.streaming is not None
        for n_frames in (1, 7, 90):
            feeds = frames(n_frames)
            whole = engine.whole(engine.contract.check(feeds))["samples"]
            assert np.abs(Session(plain).run(feeds)["samples"] - whole).max() <= 1e-5


def all_in_int8(plain: onnx.ModelProto) -> onnx.ModelProto:
    mixer = calibrated(plain)
    return mixer.round(layers_of(mixer.blocks))


def test_int8_streams_exactly_in_any_chunks_and_by_any_plan(plain) -> None:
    model = all_in_int8(plain)
    assert {"QLinearConv", "QLinearLeakyRelu", "QLinearAdd"} <= {node.op_type for node in model.graph.node}
    assert verify_streaming(model, make_streaming(model), tolerance=1e-6).n_runs > 10
    kept_in_int8 = [
        pair
        for pair in assert_streams(model, plans=("states", "longest segments"))
        if any(state.dtype == "uint8" and state.fill for state in pair.spec.states)
    ]
    assert kept_in_int8


@pytest.mark.parametrize("seed", range(3))
def test_each_coarser_precision_is_farther_from_the_trained_decoder(plain, seed) -> None:
    feeds = frames(80, seed + 10)
    wanted = Session(plain).run(feeds)["samples"]
    coarser = (plain, halve_weights(plain), all_in_int8(plain))
    noise = [np.square(Session(model).run(feeds)["samples"] - wanted).mean() for model in coarser]
    # Half precision keeps four bits more of a weight, which would be 256 times less noise.
    assert noise[0] == 0 < 16 * noise[1] < noise[2] < 0.1 * np.square(wanted).mean()


def test_padding_of_zeros_in_a_state_of_int8_would_be_seen(plain, monkeypatch) -> None:
    model = all_in_int8(plain)
    monkeypatch.setattr("balacoon_tk.graph.rules.local._zero_point", lambda ctx: 0.0)
    with pytest.raises(AssertionError):
        assert_streams(model, plans=("states",))


def test_each_mixture_is_close_and_int8_lies_between_two_convolutions_only(plain) -> None:
    mixer = calibrated(plain)
    assert len(mixer.blocks) > 1
    feeds = frames(80, 3)
    exact = Session(plain).run(feeds)["samples"]
    for block in mixer.blocks:
        model = mixer.round(block.layers)
        samples = Session(model).run(feeds)["samples"]
        assert samples.shape == exact.shape
        assert 0 < np.abs(samples - exact).mean() < 0.1 * np.abs(exact).mean() + 0.01
    turned = [
        sum(node.op_type == "Transpose" for node in each.graph.node)
        for each in (optimize_decoder(plain, for_int8=True).model, model)
    ]  # the flow's frames lie as rows already
    assert turned[1] - turned[0] <= 8
    for make in (OrtMixer(plain).quantize, OrtMixer(plain).round):
        with pytest.raises(ModelError, match=r"the range of .* is not known"):
            make(mixer.blocks[0].layers)


def test_a_plain_graph_in_int8_is_compiled_to_what_was_tried(plain) -> None:
    """Its QDQ pairs say all: bit by bit the same, and what any runtime makes of them, within a step."""
    mixer, feeds = calibrated(plain), frames(80, 3)
    for layers in (layers_of(mixer.blocks), *(block.layers for block in mixer.blocks)):
        in_pairs = mixer.quantize(layers)
        assert {node.domain for node in in_pairs.graph.node} == {""}
        compiled = optimize_decoder(in_pairs)
        assert compiled.passes[-1] == "int8"
        tried, ours, plainly = (
            Session(model).run(feeds)["samples"] for model in (mixer.round(layers), compiled.model, in_pairs)
        )
        np.testing.assert_array_equal(ours, tried)
        assert np.abs(plainly - tried).max() <= 2 / 255


def repeating(n_channels: int = 16) -> onnx.ModelProto:
    """A decoder that repeats one channel with a convolution of ones, as some repeat a mono excitation."""
    g = TinyGraph()
    x = g.conv(g.frames(VARIANT.n_channels), VARIANT.n_channels, 1, 7, pads=[3, 3])
    x = g.op("Conv", x, g.const(np.ones((n_channels, 1, 1)), np.float32))
    for _ in range(2):
        inner = g.conv(g.op("LeakyRelu", x, alpha=0.1), n_channels, n_channels, 5, pads=[2, 2])
        x = g.op("Add", x, inner)
    x = g.up(g.op("LeakyRelu", x, alpha=0.1), n_channels, n_channels, 8, 4, pads=[2, 2])
    return g.model(g.op("Tanh", g.conv(x, n_channels, 1, 7, pads=[3, 3])), names=["samples"])


def test_a_layer_that_is_not_rounded_is_noticed_and_flips_of_a_step_are_not(plain) -> None:
    mixer = calibrated(plain)
    layers = layers_of(mixer.blocks)
    in_pairs = mixer.quantize(layers)
    verify_rounding(in_pairs, mixer.round(layers))
    for block in mixer.blocks:
        with pytest.raises(ModelError, match=r"frames have an SNR of .*: must be >= 40"):
            verify_rounding(in_pairs, mixer.round([layer for layer in layers if layer not in block.layers]))


def test_a_plain_graph_in_int8_runs_where_the_processor_has_no_sums_of_int8_products(
    plain, monkeypatch
) -> None:
    mixer, utterance = calibrated(plain), frames(30)
    model = mixer.quantize(layers_of(mixer.blocks))
    expected = Session(model).run(utterance)["samples"]
    monkeypatch.setattr("balacoon_tk.runtime.session._sums_bytes_exactly", lambda: False)
    samples = Session(model).run(utterance)["samples"]
    assert np.abs(samples - expected).max() < 0.1 * np.abs(expected).max()


def test_a_plain_graph_in_int8_keeps_no_weight_in_floating_point() -> None:
    plain = name_nodes(repeating(n_channels=64))
    mixer = calibrated(plain)
    layers = layers_of(mixer.blocks)
    in_pairs = mixer.quantize(layers)
    assert in_pairs.ByteSize() < 0.6 * plain.ByteSize()
    weights = {node.input[1] for node in plain.graph.node if node.name in layers}
    assert len(weights) == len(layers)
    assert not weights & {tensor.name for tensor in in_pairs.graph.initializer}


def test_a_decoder_that_repeats_a_channel_is_compiled_streams_and_is_quantized() -> None:
    plain = name_nodes(repeating())
    mixer = calibrated(plain)
    in_pairs = mixer.quantize(layers_of(mixer.blocks))
    for model, precision in ((plain, "fp32"), (in_pairs, "int8")):
        made = compile_voice(
            PlainVoice(model), known_ids=(), precision=precision, progress=lambda stage, share: None
        )
        assert all(each.streaming is not None for each in made.values())  # seen to say the same in pieces
    assert_streams(plain, optimize=True)
    graph = ir.from_proto(optimize_decoder(plain).model).graph
    ones = [
        node for node in graph if node.op_type == "Conv" and np.all(node.inputs[1].const_value.numpy() == 1)
    ]
    assert [changes_nothing(node) for node in ones].count(False) == 1
    assert any(changes_nothing(node) for node in ones)


def has_gain(path: Path) -> bool:
    files = VoiceFiles(path)
    return any(node.name.startswith("pause_gain") for node in files.model(files.manifest.decoder).graph.node)


@pytest.fixture
def quick(monkeypatch):
    """A judge that hears a voice's loss from its name: the tiny voice says nothing to a recogniser.

    ONNX Runtime runs what is judged, unless a test says otherwise.
    """
    monkeypatch.setenv(BACKEND_VARIABLE, "onnxruntime")
    monkeypatch.setattr(voice, "_N_CANDIDATES", 2)
    monkeypatch.setattr(voice, "_N_CALIBRATED", 4)
    monkeypatch.setattr(voice, "measure_noise", lambda *_: 1e-6)
    monkeypatch.setattr(voice, "measure_speedup", lambda *args, **_: (2.0, 1.9))
    heard: list[str] = []

    def judge(judge, samples, reference, text):
        heard.append(text)
        lost = float(np.abs(samples - reference).mean() > 0)
        return {
            "lsd_db": lost,
            "mcd_db": lost,
            "f0_rmse_cents": None,
            "dnsmos": 3.5 - 0.04 * lost,
            "n_word_errors": 1,
            "n_words": 10,
            "n_char_errors": 2,
            "n_chars": 50,
        }

    monkeypatch.setattr(voice.Judge, "__call__", judge)
    return heard


def test_a_quantized_voice_is_smaller_speaks_and_says_what_it_lost(tiny_source, tmp_path, quick) -> None:
    stages = []
    made = quantize_voice(
        tiny_source, tmp_path / "int8", sentences=TEXTS, progress=lambda what, share: stages.append(share)
    )
    assert stages == sorted(stages) and stages[-1] == 1.0
    loaded = load_voice(made.path)
    manifest = loaded.manifest
    assert manifest.decoder.precision == "int8"
    assert manifest.not_native is None
    assert all(info.decoder.passes[-1] == "int8" for name, info in manifest.targets.items() if name != NATIVE)
    assert has_gain(made.path)
    assert manifest.stages == ()  # which were of the voice before
    assert "stateful" in loaded.strategies
    assert manifest.verified["quantized_dnsmos_drop"] == pytest.approx(0.04)
    table = json.loads((made.path / "quantization.json").read_text())
    assert table["chosen"] == made.pareto_front.chosen == "int8"
    assert made.pareto_front.to_markdown().count("\n") == 2 + len(made.pareto_front.candidates)
    figure = made.pareto_front.figure()
    assert figure.axes[0].get_ylabel().startswith("DNSMOS")
    with pytest.raises(ModelError, match="quantized already"):
        quantize_voice(made.path, tmp_path / "again", sentences=TEXTS)


def test_a_voice_in_int8_streams_exactly_and_is_compiled_again_from_its_plain_graphs(
    tiny_source, tmp_path, quick
) -> None:
    made = quantize_voice(tiny_source, tmp_path / "int8", sentences=TEXTS, quantize_encoder=False)
    files = VoiceFiles(made.path)
    compile_again(files, tmp_path / "again")
    again = VoiceFiles(tmp_path / "again").manifest
    assert again.targets == files.manifest.targets
    for n_threads in (1, 2):
        tts = TTS(load_voice(made.path, n_threads=n_threads))
        whole = tts.synthesize(TEXTS[1], seed=1)
        for chunk_frames in (1, 5, 16):
            chunks = tts.stream(TEXTS[1], strategy="stateful", seed=1, chunk_frames=chunk_frames)
            streamed = np.concatenate([to_pcm16(chunk.samples) for chunk in chunks])
            assert whole.dtype == streamed.dtype == np.int16
            np.testing.assert_array_equal(streamed, whole)
        other = TTS(load_voice(tmp_path / "again", n_threads=n_threads)).synthesize(TEXTS[1], seed=1)
        np.testing.assert_array_equal(other, whole)


@pytest.mark.parametrize(("ratio", "note"), [(0.5, "chosen"), (1.5, "dropped: encoder slower")])
def test_the_encoder_is_taken_in_int8_where_that_is_faster(
    tiny_source, tmp_path, quick, monkeypatch, ratio, note
) -> None:
    def make_int8_encoder(model):
        made = onnx.ModelProto()
        made.CopyFrom(model)
        made.doc_string = "in int8"
        return made

    cost = EncoderCost({5: ratio}, changed_durations=0.1, largest_change=1, encodings_snr_db=28.0)
    monkeypatch.setattr(voice, "make_int8_encoder", make_int8_encoder)
    monkeypatch.setattr(voice, "measure_encoder", lambda *args, **_: cost)
    made = quantize_voice(tiny_source, tmp_path / "int8", sentences=TEXTS)
    tried = next(each for each in made.pareto_front.candidates if each.name == "int8, encoder int8")
    assert (tried.note, tried.encoder_speedup, tried.changed_durations) == (note, 1 / ratio, 0.1)
    taken, loaded = note == "chosen", load_voice(made.path)
    assert made.pareto_front.chosen == ("int8, encoder int8" if taken else "int8")
    assert [each.note for each in made.pareto_front.candidates].count("chosen") == 1
    assert (VoiceFiles(made.path).model(loaded.manifest.encoder).doc_string == "in int8") == taken
    assert loaded.manifest.verified.get("quantized_encoder_speedup") == (2.0 if taken else None)
    assert len(quick) == (3 if taken else 2) * len(TEXTS)


def test_for_the_native_engine_layers_alone_are_rounded_and_all_that_are_dense(plain) -> None:
    mixer = calibrated(plain, make=NativeMixer)
    layers = layers_of(mixer.blocks)
    # Those of one tap as well, with which ONNX Runtime gets no faster.
    assert set(layers) - set(layers_of(OrtMixer(plain).blocks))
    rounded = mixer.quantize(layers)
    known = read_qdq(ir.from_proto(rounded))
    assert known.layers.keys() == set(layers)
    graph = ir.from_proto(rounded).graph
    readers = [user for node in graph if node.op_type == "QuantizeLinear" for user in readers_of(node)]
    assert {user.name for user in readers} == set(layers)
    engine, session = mixer.open(mixer.round(layers)), Session(rounded)
    # Now and then a sum falls to another step; within few frames there mostly is none that does.
    pairs = [(engine.whole(frames(3, k)), session.run(frames(3, k))) for k in range(5)]
    assert max(snr_db(*(each["samples"].ravel() for each in pair)) for pair in pairs) > 40
    bytes_of = [array for array in compile_native(rounded).arrays.values() if array.dtype == np.int8]
    assert 0 < len(bytes_of) <= len(layers)  # equal ones are kept once
    assert_streams_as_whole(engine, frames(60, 3))


def readers_of(rounding: ir.Node) -> list[ir.Node]:
    return [user for user, _ in next(iter(rounding.outputs[0].uses()))[0].outputs[0].uses()]


def assert_streams_as_whole(engine: Engine, feeds: dict[str, np.ndarray]) -> None:
    whole = engine.whole(feeds)["samples"]
    for size in (1, 7, 23):
        decoder, n_frames = StatefulDecoder(engine), feeds["frames"].shape[-1]
        pieces = [
            decoder.push(engine.contract.cut(feeds, start, start + size), last=start + size >= n_frames)
            for start in range(0, n_frames, size)
        ]
        np.testing.assert_array_equal(np.concatenate(pieces, axis=-1), whole)


def test_a_search_judges_by_the_engine_that_runs_the_voice(
    tiny_source, tmp_path, quick, monkeypatch, capsys
) -> None:
    monkeypatch.setenv(BACKEND_VARIABLE, "native")
    made = quantize_voice(tiny_source, tmp_path / "int8", sentences=TEXTS, quantize_encoder=False)
    tts = TTS(load_voice(made.path, n_threads=1))
    manifest = tts.voice.manifest
    assert tts.voice.backend.name == "native" and manifest.not_native is None
    assert has_gain(made.path) and "stateful" in tts.strategies
    whole = tts.synthesize(TEXTS[1], seed=1)
    chunks = tts.stream(TEXTS[1], strategy="stateful", seed=1, chunk_frames=3)
    np.testing.assert_array_equal(np.concatenate([to_pcm16(chunk.samples) for chunk in chunks]), whole)
    # The plain graph, which any runtime computes, if slowly and whole.
    other = load_voice(made.path, n_threads=1, backend="onnxruntime")
    assert "stateful" not in other.strategies
    assert "layers alone are in int8" in str(manifest.decoder.not_streamable)
    main(["inspect", str(made.path)])
    assert "in the native engine alone: its layers alone are in int8" in capsys.readouterr().out
    few = frames(2)
    assert snr_db(*(each.whole(few)["samples"].ravel() for each in (tts.voice.decoder, other.decoder))) > 40


def test_a_voice_whose_frames_have_no_blocks_goes_without_the_gain(
    tiny_source, tmp_path, quick, monkeypatch
) -> None:
    monkeypatch.setattr(voice, "block_samples", lambda hop: None)
    made = quantize_voice(tiny_source, tmp_path / "int8", sentences=TEXTS, quantize_encoder=False)
    assert load_voice(made.path).manifest.decoder.precision == "int8" and not has_gain(made.path)


def test_words_missed_by_chance_in_the_first_sentences_end_no_judgement(
    tiny_source, tmp_path, quick, monkeypatch
) -> None:
    listen = voice.Judge.__call__

    def unlucky(judge, samples, reference, text):
        record = listen(judge, samples, reference, text)
        return {**record, "n_word_errors": 1 + int(record["lsd_db"] > 0)}

    monkeypatch.setattr(voice.Judge, "__call__", unlucky)
    with pytest.raises(BudgetError) as caught:
        quantize_voice(tiny_source, tmp_path / "int8", sentences=TEXTS)
    judged = [each for each in caught.value.pareto_front.candidates if each.layers]
    assert all(each.n_sentences == len(TEXTS) for each in judged)


def test_where_nothing_is_limited_only_all_in_int8_is_tried(tiny_source, tmp_path, quick) -> None:
    unlimited = Budget(max_wer_increase=None, max_dnsmos_drop=None)
    assert not unlimited.is_limited and Budget().is_limited
    made = quantize_voice(tiny_source, tmp_path / "int8", sentences=TEXTS, **asdict(unlimited))
    assert [each.name for each in made.pareto_front.candidates] == ["fp32", "int8"]
    blocks = json.loads((made.path / "quantization.json").read_text())["blocks"]
    assert len(blocks) == len(made.pareto_front.blocks) > 1
    assert all(block["lsd_db"] > 0 for block in blocks)


def test_a_budget_that_is_not_met_names_the_nearest_and_installs_nothing(
    tiny_source, tmp_path, quick
) -> None:
    with pytest.raises(BudgetError, match=r"nearest is int8.*2\.00 times as fast") as caught:
        quantize_voice(tiny_source, tmp_path / "int8", sentences=TEXTS, max_dnsmos_drop=0.03)
    assert caught.value.pareto_front.chosen is None
    assert list(tmp_path.iterdir()) == []


def test_what_is_slower_is_dropped_and_named(tiny_source, tmp_path, quick, monkeypatch) -> None:
    monkeypatch.setattr(voice, "measure_speedup", lambda *args, **_: (0.9, 0.9))
    with pytest.raises(BudgetError, match=r"no candidate is faster.*dropped int8"):
        quantize_voice(tiny_source, tmp_path / "int8", sentences=TEXTS)
    assert quick == []


def test_a_search_that_was_stopped_goes_on_where_it_was(tiny_source, tmp_path, quick, monkeypatch) -> None:
    work, judge = tmp_path / "work", voice.Judge.__call__

    def interrupted(*args, **keywords):
        if len(quick) == 5:
            raise KeyboardInterrupt
        return judge(*args, **keywords)

    monkeypatch.setattr(voice.Judge, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quantize_voice(tiny_source, tmp_path / "int8", sentences=TEXTS, work_folder=work)
    assert not (tmp_path / "int8").exists()
    monkeypatch.setattr(voice.Judge, "__call__", judge)
    before = len(quick)
    quantize_voice(tiny_source, tmp_path / "int8", sentences=TEXTS, work_folder=work)
    # What another thread was hearing when it was stopped may be heard again.
    assert 2 * len(TEXTS) - before <= len(quick) - before < 2 * len(TEXTS)


def test_too_little_to_calibrate_on_is_refused(tiny_source, tmp_path) -> None:
    with pytest.raises(ParameterError, match="frames to calibrate on, which must be >= 400"):
        quantize_voice(tiny_source, tmp_path / "int8", sentences=["[[a]]"])
    with pytest.raises(ParameterError, match=r"max_dnsmos_drop=-1 must be >= 0"):
        quantize_voice(tiny_source, tmp_path / "int8", sentences=TEXTS, max_dnsmos_drop=-1)


def test_a_budget_counts_the_largest_excess_and_ignores_what_is_not_limited() -> None:
    losses = {"wer_increase": 0.03, "dnsmos_drop": 0.04, "lsd_db": 9.0}
    assert Budget().excess(losses) == pytest.approx(2.0)
    assert Budget(max_wer_increase=None).excess(losses) == 0.0
    assert Budget(None, None, 3.0).excess(losses) == pytest.approx(2.0)


def test_a_voice_of_before_is_in_fp32(tiny_source) -> None:
    data = json.loads((tiny_source / "voice.json").read_text())
    del data["decoder"]["precision"]
    assert Manifest.from_json(json.dumps(data)).decoder.precision == "fp32"
    data["decoder"]["precision"] = "int3"
    with pytest.raises(ModelError, match=r"decoder\.precision='int3' must be one of fp32, int8"):
        Manifest.from_json(json.dumps(data))


def test_blocks_are_left_out_by_what_that_brings_back_for_its_cost(monkeypatch) -> None:
    blocks = [Block("a", ("a",), 8.0), Block("b", ("b",), 1.0), Block("c", ("c",), 2.0)]
    lost = {"abc": 10.0, "bc": 4.0, "ac": 9.5, "ab": 9.0, "c": 3.9, "b": 3.5}

    def loss(mixer, kept, *_):
        return lost["".join(block.name for block in kept)]

    monkeypatch.setattr(mixtures, "_decode", lambda *_: [])
    monkeypatch.setattr(mixtures, "_loss", loss)
    shares: list[float] = []
    mixer = SimpleNamespace(blocks=blocks, plain=onnx.ModelProto())
    chain = mixtures.leave_out_blocks(mixer, [], 5, progress=shares.append)
    assert ["".join(block.name for block in mixture) for mixture in chain] == ["abc", "bc", "b"]
    assert shares == sorted(shares) and len(shares) == 5


def unequal(seed: int = 0) -> onnx.ModelProto:
    """Two convolutions with a residual connection, whose channels are of very unequal size."""
    rng = np.random.default_rng(seed)
    sizes = np.geomspace(1, 100, 16).astype("f4")
    kernels = {name: rng.standard_normal((16, 16, 1, 3)).astype("f4") / 7 for name in ("a", "b", "c")}
    kernels["a"] *= sizes.reshape(-1, 1, 1, 1)
    kernels["b"] *= sizes.reshape(-1, 1, 1, 1) / sizes.reshape(1, -1, 1, 1)
    kernels["c"] /= sizes.reshape(1, -1, 1, 1)
    bias = rng.standard_normal(16).astype("f4") * sizes
    conv = {"kernel_shape": [1, 3], "pads": [0, 1, 0, 1]}
    nodes = [
        onnx.helper.make_node("Conv", ["frames", "a", "bias"], ["wide"], "first", **conv),
        onnx.helper.make_node("LeakyRelu", ["wide"], ["active"], alpha=0.1),
        onnx.helper.make_node("Conv", ["active", "b", "bias"], ["inner"], "second", **conv),
        onnx.helper.make_node("Add", ["inner", "wide"], ["sum"]),
        onnx.helper.make_node("LeakyRelu", ["sum"], ["last"], alpha=0.1),
        onnx.helper.make_node("Conv", ["last", "c"], ["samples"], "third", **conv),
    ]
    shape = [1, 16, 1, "n_frames"]
    graph = onnx.helper.make_graph(
        nodes,
        "unequal",
        [onnx.helper.make_tensor_value_info("frames", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("samples", onnx.TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(array, name) for name, array in {**kernels, "bias": bias}.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)


def test_equal_channels_say_the_same_and_lose_less_in_int8() -> None:
    model, layers = unequal(), ["first", "second", "third"]
    rng = np.random.default_rng(1)
    seen = [{"frames": rng.standard_normal((1, 16, 1, 90)).astype("f4")} for _ in range(3)]
    before = model.SerializeToString(deterministic=True)
    equal = equalize(model, seen[:2])
    assert model.SerializeToString(deterministic=True) == before
    exact = Session(model).run(seen[2])["samples"]
    assert np.abs(Session(equal).run(seen[2])["samples"] - exact).max() <= 1e-5 * np.abs(exact).max()
    names = ["wide", "active", "inner", "sum", "last"]
    for name, extent in collect_extents(equal, seen[:2], names).items():
        assert extent.max() < 10 * extent.min(), name
        assert extent.max() <= 1.01 * collect_extents(model, seen[:2], [name])[name].max()
    lost = []
    for each in (model, equal):
        rounded = Session(calibrated(each, seen).round(layers)).run(seen[2])["samples"]
        lost.append(np.abs(rounded - exact).mean())
    assert lost[1] < lost[0] / 3


def test_channels_stay_as_they_are_where_something_else_reads_them() -> None:
    model = unequal()
    model.graph.node.append(onnx.helper.make_node("Tanh", ["sum"], ["also"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("also", onnx.TensorProto.FLOAT, None))
    frames_seen = [{"frames": np.random.default_rng(1).standard_normal((1, 16, 1, 50)).astype("f4")}]
    equal = equalize(model, frames_seen)
    for name, array in Session(model).run(frames_seen[0]).items():
        assert np.array_equal(Session(equal).run(frames_seen[0])[name], array)


def test_equalized_voices_stream_exactly_in_int8(plain) -> None:
    equal = equalize(plain, [frames(60, 1), frames(200, 2)])
    feeds = frames(70, 5)
    exact = Session(plain).run(feeds)["samples"]
    assert np.abs(Session(equal).run(feeds)["samples"] - exact).max() <= 1e-5
    kernels = [{each.name: each for each in model.graph.initializer} for model in (plain, equal)]
    assert set(kernels[1]) - set(kernels[0])  # some were scaled
    model = all_in_int8(equal)
    assert verify_streaming(model, make_streaming(model), tolerance=1e-6).n_runs > 10


def noisy(seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Speak for 70 blocks of 64 samples and pause for as long; return that, and with noise all over it."""
    rng = np.random.default_rng(seed)
    loudness = np.repeat([0.3, 1e-4], 70 * 64)
    clean = loudness * rng.standard_normal(loudness.size)
    return clean.astype("f4"), (clean + noise * rng.standard_normal(clean.size)).astype("f4")


def through_gain(samples: np.ndarray, noise_power: float) -> np.ndarray:
    """Run samples through the gain behind a decoder that does nothing."""
    info = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 1, "n"]) for n in ("x", "samples")
    ]
    node = onnx.helper.make_node("Identity", ["x"], ["samples"])
    graph = onnx.helper.make_graph([node], "g", info[:1], info[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    return Session(add_pause_gain(model, noise_power, 64)).run({"x": samples[None, None]})["samples"][0, 0]


def test_the_gain_takes_noise_off_pauses_and_leaves_speech_alone() -> None:
    clean, rough = noisy(0, 1e-2)
    noise_power = measure_noise([rough], [clean], 64)
    assert noise_power == pytest.approx(1e-4, rel=0.1)
    cleaned = through_gain(rough, noise_power)
    half = clean.size // 2
    pause, speech = slice(half + 7 * 64, None), slice(7 * 64, half)
    assert np.square(cleaned[pause]).mean() < 0.05 * np.square(rough[pause]).mean()
    assert np.abs(cleaned[speech] - rough[speech]).max() < 0.01 * np.abs(rough[speech]).max()
    assert np.abs(cleaned[pause] / rough[pause]).min() == pytest.approx(0.1, rel=1e-3), "the floor"
    assert np.array_equal(through_gain(0 * rough, noise_power), 0 * rough)
    assert measure_noise([clean], [rough], 64) == 0.0, "nothing to take off"


def test_a_frame_is_cut_into_whole_blocks_or_there_is_no_gain() -> None:
    assert [block_samples(hop) for hop in (256, 300, 240, 48, 16, 7)] == [64, None, 16, 16, 16, None]


def test_a_decoder_with_the_gain_streams_exactly(plain) -> None:
    model = add_pause_gain(all_in_int8(plain), 1e-3, 16)
    feeds = frames(70, 5)
    before, after = (Session(each).run(feeds)["samples"] for each in (all_in_int8(plain), model))
    assert before.shape == after.shape and (np.abs(after) <= np.abs(before) + 1e-7).all()
    assert not np.array_equal(before, after)
    assert verify_streaming(model, make_streaming(model), tolerance=1e-6).n_runs > 10
