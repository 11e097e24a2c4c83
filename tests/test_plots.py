"""Figures: what is drawn is what was measured, and files are whole or not there."""

import builtins
import dataclasses
import math

import numpy as np
import pytest

from balacoon_tk.audio import PhonemeSpan
from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.graph.layers import decoder_layers
from balacoon_tk.graph.prepare import analyse_model
from balacoon_tk.graph.streaming.plan import plan_cuts
from balacoon_tk.metrics import StreamTrace, rtf, ttfa_s
from balacoon_tk.metrics.comparison import Comparison, StrategyResult
from balacoon_tk.metrics.sweeps import ChunkPoint, LengthPoint, OverlapPoint
from balacoon_tk.plots import (
    PartLoss,
    comparison_figure,
    draw_chunk_sweep,
    draw_cost,
    draw_difference,
    draw_frames,
    draw_mel,
    draw_overlap_error,
    draw_plan,
    draw_pushes,
    draw_receptive_field,
    draw_sensitivity,
    draw_spectral_difference,
    draw_spectrogram,
    draw_timeline,
    draw_waveform,
    new_figure,
    save_figure,
)
from balacoon_tk.plots.audio import mel_db, spectrogram_db
from balacoon_tk.plots.figure import styles_of
from balacoon_tk.plots.quantization import ParetoPoint, draw_pareto_front
from balacoon_tk.plots.timing import draw_growth, draw_spreads, draw_streams
from tiny_voice import decoder_model

RATE = 8000


def make_result(samples, n_samples, ready_s, difference=0.0):
    trace = StreamTrace(
        sample_rate=RATE, ready_s=ready_s, n_samples=n_samples, total_s=ready_s[-1], first_audible=0
    )
    return StrategyResult(
        ttfa_s=ttfa_s(trace),
        total_s=trace.total_s,
        rtf=rtf(trace),
        work_ratio=1.0,
        max_abs_diff=difference,
        n_chunks=len(n_samples),
        traces=(trace,),
        samples=samples + np.float32(difference),
    )


def make_comparison(n_samples=RATE):
    t = np.arange(n_samples) / RATE
    samples = (0.5 * np.sin(2 * math.pi * 440.0 * t)).astype(np.float32)
    half = n_samples // 2
    return Comparison(
        voice="tone",
        text="a tone",
        sample_rate=RATE,
        audio_s=n_samples / RATE,
        strategies={
            "full": make_result(samples, (n_samples,), (0.2,)),
            "overlap": make_result(samples, (half, n_samples - half), (0.05, 0.3), 1e-6),
        },
    )


@pytest.fixture
def axes():
    return new_figure(4.0, 3.0).subplots()


def test_a_sine_shows_at_its_frequency():
    t = np.arange(RATE) / RATE
    values = spectrogram_db(np.sin(2 * math.pi * 1000.0 * t).astype(np.float32), n_fft=800, hop_length=100)
    assert values.shape == (401, 1 + RATE // 100)
    middle = values[:, values.shape[1] // 2]
    assert int(middle.argmax()) * RATE / 800 == 1000.0
    assert values.max() == 0.0
    assert middle[300] == -80.0, "far from the sine there is nothing"


def test_a_click_shows_in_the_column_that_is_centred_on_it():
    samples = np.zeros(4000, np.float32)
    samples[2000] = 1.0
    values = spectrogram_db(samples, n_fft=256, hop_length=100)
    assert int(values.max(axis=0).argmax()) == 20


@pytest.mark.parametrize("n_samples", [0, 1, 255, 1023, 1024, 1025])
def test_short_and_silent_audio_has_a_spectrogram(n_samples):
    values = spectrogram_db(np.zeros(n_samples, np.float32), n_fft=1024, hop_length=256)
    assert values.shape == (513, 1 + n_samples // 256)
    np.testing.assert_array_equal(values, -80.0)


def test_the_waveform_keeps_every_peak(axes):
    samples = np.zeros(100_000, np.float32)
    samples[12_345], samples[54_321] = 0.9, -0.8
    draw_waveform(axes, samples, sample_rate=RATE, borders=[50_000])
    outline = axes.collections[0].get_paths()[0].vertices
    assert outline[:, 1].max() == np.float32(0.9)
    assert outline[:, 1].min() == np.float32(-0.8)
    (border,) = axes.collections[1].get_segments()
    np.testing.assert_array_equal(border[:, 0], 50_000 / RATE)


def test_few_samples_are_drawn_each(axes):
    samples = np.array([0.0, 0.5, -0.25], np.float32)
    draw_waveform(axes, samples, sample_rate=RATE)
    np.testing.assert_array_equal(axes.lines[0].get_data()[1], samples)


def test_the_spectrogram_spans_the_audio_and_half_the_sample_rate(axes):
    image = draw_spectrogram(axes, make_comparison().strategies["full"].samples, sample_rate=RATE)
    left, right, bottom, top = image.get_extent()
    assert (bottom, top) == (0.0, RATE / 2)
    assert left == pytest.approx(0.0, abs=0.01)
    assert right == pytest.approx(1.0, abs=0.01)


def test_the_difference_shows_its_largest_value_and_where_it_is(axes):
    reference = np.zeros(RATE, np.float32)
    other = reference.copy()
    other[6000] = -1e-4
    draw_difference(axes, {"overlap": other}, reference, sample_rate=RATE)
    times_s, worst = axes.lines[0].get_data()
    assert worst.max() == np.float32(1e-4)
    assert times_s[worst.argmax()] == pytest.approx(6000 / RATE, abs=0.01)
    assert axes.get_yscale() == "log"
    assert axes.get_legend().get_texts()[0].get_text() == "overlap: at most 1.0e-04"


def test_equal_samples_are_said_to_be_equal(axes):
    reference = np.zeros(RATE, np.float32)
    draw_difference(axes, {"stateful": reference}, reference, sample_rate=RATE)
    assert "the same to the bit" in axes.get_legend().get_texts()[0].get_text()


def test_the_spectral_difference_shows_what_is_louder_and_where(axes):
    t = np.arange(RATE) / RATE
    reference = np.sin(2 * math.pi * 500.0 * t).astype(np.float32)
    louder = (reference + 0.01 * np.sin(2 * math.pi * 3000.0 * t) * (t > 0.5)).astype(np.float32)
    image = draw_spectral_difference(axes, louder, reference, sample_rate=RATE)
    found = np.asarray(image.get_array())
    row, column = np.unravel_index(int(found.argmax()), found.shape)
    assert row / (len(found) - 1) * RATE / 2 == pytest.approx(3000.0, abs=10.0)
    assert column / found.shape[1] > 0.5
    assert found.max() == pytest.approx(40.0, abs=0.1), "a hundredth of the loudest, from the floor of -80 dB"
    assert abs(found).max(axis=0)[: found.shape[1] // 3].max() < 0.1
    same = draw_spectral_difference(axes, reference, reference, sample_rate=RATE)
    assert not np.asarray(same.get_array()).any()
    assert axes.get_ylabel() == "frequency (kHz)"


def test_spectra_of_two_lengths_are_not_compared(axes):
    with pytest.raises(ParameterError, match=r"shape \(3,\) must have that of the reference, \(4,\)"):
        draw_spectral_difference(axes, np.zeros(3, "f4"), np.zeros(4, "f4"), sample_rate=RATE)


def test_frames_span_their_time_and_the_first_channel_is_on_top(axes):
    image = draw_frames(axes, np.arange(12, dtype="f4").reshape(3, 4), frame_s=0.5)
    assert image.get_extent() == [0.0, 2.0, 3, 0.0]
    assert axes.get_ylim() == (3.0, 0.0)
    assert axes.get_xlabel() == "time (s)"


def test_the_names_of_many_engines_stand_above_their_timeline(tmp_path):
    trace = StreamTrace(sample_rate=RATE, ready_s=(0.1,), n_samples=(RATE,), total_s=0.1, first_audible=0)
    figure = new_figure(9.0, 4.0)
    few, many = figure.subplots(2, 1)
    draw_timeline(few, {str(k): trace for k in range(3)})
    draw_timeline(many, {str(k): trace for k in range(6)})
    save_figure(figure, tmp_path / "timeline.png")
    assert few.get_legend().get_window_extent().y1 <= few.get_window_extent().y1
    assert many.get_legend().get_window_extent().y0 >= many.get_window_extent().y1 - 1.0


def test_the_timeline_steps_when_a_chunk_is_ready(axes):
    draw_timeline(axes, {name: r.median_trace for name, r in make_comparison().strategies.items()})
    times_s, audio_s = axes.lines[2].get_data()
    np.testing.assert_allclose(times_s, [0.05, 0.05, 0.3])
    np.testing.assert_allclose(audio_s, [0.0, 0.5, 1.0])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["full: first sound after 200 ms", "overlap: first sound after 50 ms"]


def test_the_timeline_plays_a_late_chunk_late(axes):
    trace = StreamTrace(
        sample_rate=100, ready_s=(0.5, 3.0), n_samples=(100, 100), total_s=3.0, first_audible=0
    )
    draw_timeline(axes, {"overlap": trace})
    times_s, played_s = axes.lines[1].get_data()
    assert times_s[0] == 0.5
    assert times_s[-1] == 4.0
    waiting = (times_s > 1.6) & (times_s < 2.9)
    np.testing.assert_allclose(played_s[waiting], 1.0)


def test_a_timeline_of_nothing_is_empty(axes):
    trace = StreamTrace(sample_rate=100, ready_s=(), n_samples=(), total_s=0.1, first_audible=None)
    draw_timeline(axes, {"overlap": trace})
    assert not axes.lines
    assert [text.get_text() for text in axes.texts] == ["no audio yet"]


def test_a_sine_shows_in_its_mel_band():
    t = np.arange(RATE) / RATE
    values = mel_db(np.sin(2 * math.pi * 500.0 * t).astype(np.float32), sample_rate=RATE, n_mels=40)
    assert values.shape == (40, 1 + RATE // 256)
    assert values.max() == 0.0
    # Slaney's scale has 3 mels for 200 Hz up to 1 kHz, and 27 for a factor of 6.4 above.
    mel_of_half = 15 + 27 * math.log(4) / math.log(6.4)
    assert abs(int(values[:, values.shape[1] // 2].argmax()) - (7.5 / mel_of_half * 41 - 1)) <= 0.5


@pytest.mark.parametrize("n_samples", [0, 1, 1024])
def test_silence_has_a_mel_spectrogram(n_samples):
    values = mel_db(np.zeros(n_samples, np.float32), sample_rate=RATE)
    np.testing.assert_array_equal(values, -80.0)


ALIGNMENT = (PhonemeSpan("h", 0.0, 0.25), PhonemeSpan("$x^", 0.25, 0.251), PhonemeSpan("ə", 0.251, 1.0))


@pytest.mark.parametrize("draw", [draw_waveform, draw_mel])
def test_phonemes_stand_in_the_middle_of_their_time_and_the_shortest_are_left_out(draw, axes):
    samples = make_comparison().strategies["full"].samples
    draw(axes, samples, sample_rate=RATE, alignment=ALIGNMENT)
    assert [(text.get_text(), text.get_position()[0]) for text in axes.texts] == [
        ("h", 0.125),
        ("ə", pytest.approx(0.6255)),
    ]


def test_a_strategy_has_its_colour_in_every_picture(axes):
    traces = {name: result.median_trace for name, result in make_comparison().strategies.items()}
    draw_timeline(axes, {"overlap": traces["overlap"]})
    alone = axes.lines[0].get_color()
    other = new_figure(4.0, 3.0).subplots()
    draw_timeline(other, traces)
    assert other.lines[2].get_color() == alone != other.lines[0].get_color()


def test_six_engines_have_six_styles_and_strategies_keep_theirs():
    engines = [f"engine {k}" for k in range(6)]
    assert len(set(styles_of(engines).values())) == 6
    assert list(styles_of(engines)) == engines
    with_strategies = styles_of(["a", "stateful", "b", "full"])
    assert {name: with_strategies[name] for name in ("full", "stateful")} == {
        name: styles_of([name])[name] for name in ("full", "stateful")
    }
    assert len(set(with_strategies.values())) == 4
    assert len(styles_of([*engines, "one more"])) == 7


def make_overlap_point(context, difference, work):
    return OverlapPoint(context, difference, work, np.zeros(1, np.float32), ())


def test_the_error_against_overlap_is_drawn_in_order_and_zero_on_the_edge(axes):
    points = [make_overlap_point(8, 0.0, 2.0), make_overlap_point(0, 0.5, 1.0)]
    work = new_figure(4.0, 3.0).subplots()
    draw_overlap_error(axes, points, needed_frames=8, work_axes=work)
    np.testing.assert_array_equal(axes.lines[0].get_data(), [[0, 8], [0.5, 1e-9]])
    np.testing.assert_array_equal(work.lines[0].get_data(), [[0, 8], [1.0, 2.0]])
    assert axes.yaxis.get_major_formatter()(1e-9, 0) == "0"
    assert work.get_xlabel().endswith("(frames)")


def test_a_sweep_of_chunks_has_three_panels_with_units():
    panels = new_figure(4.0, 6.0).subplots(3, 1)
    points = [ChunkPoint("overlap", n, n / 100, 0.1 * n, 4.0 / n, 0.5, 0.0) for n in (4, 8)]
    draw_chunk_sweep(panels, points)
    assert [panel.get_ylabel() for panel in panels] == ["TTFA (ms)", "RTF", "continuity (%)"]
    np.testing.assert_allclose(panels[0].lines[0].get_data(), [[40.0, 80.0], [400.0, 800.0]])
    np.testing.assert_allclose(panels[1].lines[0].get_data()[1], [1.0, 0.5])
    np.testing.assert_allclose(panels[2].lines[0].get_data()[1], [50.0, 50.0])
    assert [text.get_text() for text in panels[1].texts] == ["real time"]


@pytest.mark.parametrize(("rtf", "labels"), [(0.05, []), (0.6, ["real time"]), (2.0, ["real time"])])
def test_a_sweep_far_from_real_time_keeps_its_size(rtf, labels, tmp_path):
    figure = new_figure(4.0, 6.0)
    panels = figure.subplots(3, 1)
    draw_chunk_sweep(panels, [ChunkPoint("overlap", n, n / 100, 0.1 * n, rtf, 0.5, 0.0) for n in (4, 8)])
    save_figure(figure, tmp_path / "sweep.png")  # a warning, which is an error here, if a panel has no room
    assert [text.get_text() for text in panels[1].texts] == labels
    assert all(panels[1].get_ylim()[1] > text.xy[1] for text in panels[1].texts)
    heights = [panel.get_window_extent().height for panel in panels]
    assert max(heights) < 1.1 * min(heights)


def test_cost_is_drawn_in_ms_for_the_whole_and_for_the_first_sound(axes):
    draw_cost(axes, [LengthPoint("full", 1.0, 0.2, 0.3), LengthPoint("full", 2.0, 0.4, 0.5)])
    whole, first = (line.get_data() for line in axes.lines)
    np.testing.assert_allclose(whole, [[1.0, 2.0], [300.0, 500.0]])
    np.testing.assert_allclose(first, [[1.0, 2.0], [200.0, 400.0]])


def test_pushes_show_what_went_in_and_what_was_known_then(axes):
    draw_pushes(axes, [(3, 8), (2, 8), (0, 4)], hop_length=4, sample_rate=4)
    pushed, known = (line.get_data() for line in axes.lines)
    np.testing.assert_array_equal(pushed, [[0, 1, 2, 3], [0.0, 3.0, 5.0, 5.0]])
    np.testing.assert_array_equal(known, [[0, 1, 2, 3], [0.0, 2.0, 4.0, 5.0]])


def test_bars_of_the_receptive_field_reach_as_far_as_each_layer_looks(axes):
    layers = decoder_layers(decoder_model())
    draw_receptive_field(axes, layers, frame_s=0.004)
    spans = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    assert spans == [(-layer.left_frames, layer.right_frames) for layer in layers]
    assert axes.get_title(loc="left") == "2.8 frames before, 2.8 after"


def test_the_plan_shows_each_stretch_that_costs_something(axes):
    plan = plan_cuts(analyse_model(decoder_model()), chunk_frames=4)
    draw_plan(axes, plan)
    costly = [step.multiply_adds for step in plan.steps if step.multiply_adds]
    widths = [bar.get_width() for bar in axes.containers[0]]
    np.testing.assert_allclose(widths, np.array(costly) / 1e6)
    assert sum(costly) == 420, "counted by hand in the tests of inspect"
    again = sum(bar.get_width() for bar in axes.containers[1]) if len(axes.containers) > 1 else 0.0
    assert again == pytest.approx(plan.recomputed_share * 420 / 1e6)


MODELS = [
    ParetoPoint("large", 5.0, 60_000_000, 4.0),
    ParetoPoint("small", 10.0, 20_000_000, 3.5),
    ParetoPoint("beaten", 8.0, 30_000_000, 3.4),
]


def test_the_pareto_front_holds_what_nothing_beats(axes):
    draw_pareto_front(axes, MODELS, quality_label="MOS (1 to 5)")
    np.testing.assert_array_equal(axes.lines[0].get_data(), [[5.0, 10.0], [4.0, 3.5]])
    best, beaten = axes.collections
    np.testing.assert_allclose(best.get_sizes(), [600.0, 200.0])
    np.testing.assert_array_equal(beaten.get_offsets(), [[8.0, 3.4]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        "speed (times faster than real time)",
        "MOS (1 to 5)",
    )


def test_the_sensitivity_of_parts_stands_against_their_work(axes):
    draw_sensitivity(axes, [PartLoss("a", 1.5, 2e6), PartLoss("b", 4.0, 8e6)])
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), [[1.5, 2.0], [4.0, 8.0]])
    assert [text.get_text() for text in axes.texts] == ["a", "b"]
    assert axes.get_xlim()[0] == axes.get_ylim()[0] == 0
    assert "dB" in axes.get_xlabel() and "million" in axes.get_ylabel()


def test_equal_models_are_both_on_the_pareto_front(axes):
    twins = [ParetoPoint(name, 5.0, 1, 4.0) for name in "ab"]
    draw_pareto_front(axes, twins, quality_label="MOS")
    np.testing.assert_array_equal(axes.lines[0].get_data(), [[5.0, 5.0], [4.0, 4.0]])


@pytest.mark.parametrize(
    "draw",
    [
        lambda axes: draw_chunk_sweep(axes.figure.subplots(3, 1), []),
        lambda axes: draw_cost(axes, []),
        lambda axes: draw_overlap_error(axes, [], needed_frames=3),
        lambda axes: draw_receptive_field(axes, []),
        lambda axes: draw_pareto_front(axes, [], quality_label="MOS"),
        lambda axes: draw_sensitivity(axes, []),
    ],
)
def test_pictures_of_nothing_are_empty_and_can_be_saved(draw, axes, tmp_path):
    draw(axes)
    save_figure(axes.figure, tmp_path / "empty.png")


@pytest.mark.parametrize("n_samples", [2, RATE])
def test_a_comparison_has_four_panels_with_units(n_samples, tmp_path):
    figure = comparison_figure(make_comparison(n_samples))
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == ["amplitude", "frequency (kHz)", "difference to full", "audio (s)", "dB below the peak"]
    save_figure(figure, tmp_path / "compare.png")
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("text", ["你好 🎉\x00 $x^ " * 100, ""])
def test_any_text_can_stand_above_a_comparison(text, tmp_path):
    comparison = dataclasses.replace(make_comparison(), text=text)
    save_figure(comparison_figure(comparison), tmp_path / "compare.png")


def test_a_comparison_of_one_strategy_can_be_drawn(tmp_path):
    comparison = make_comparison()
    alone = dataclasses.replace(comparison, strategies={"full": comparison.strategies["full"]})
    save_figure(comparison_figure(alone), tmp_path / "one.png")


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "PNG"])
def test_figures_are_written_in_the_format_of_their_name(suffix, tmp_path):
    save_figure(new_figure(1.0, 1.0), tmp_path / f"figure.{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == [f"figure.{suffix}"]


def test_the_same_figure_is_the_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        save_figure(comparison_figure(make_comparison()), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("name", ["figure", "figure.wav", "figure."])
def test_a_name_that_says_no_format_is_refused(name, tmp_path):
    with pytest.raises(ParameterError, match=r"must end in one of .*\.png"):
        save_figure(new_figure(1.0, 1.0), tmp_path / name)


def test_a_figure_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_text("old")
    figure = new_figure(1.0, 1.0)

    def fail(target, **_):
        target.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("figure.png", "old")]


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    original = builtins.__import__

    def no_matplotlib(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(MissingExtraError, match=r"balacoon_tk\[plots\]"):
        new_figure(1.0, 1.0)


def test_the_medians_of_rounds_are_written_beside_their_dots():
    axes = new_figure(4, 3).subplots()
    draw_spreads(axes, {"fast": [0.001, 0.002, 0.009], "slow": [0.25]})
    assert [text.get_text() for text in axes.texts] == ["2", "250"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fast", "slow"]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [1.0, 2.0, 9.0])


def test_growth_draws_both_curves_of_each_engine_in_milliseconds():
    axes = new_figure(4, 3).subplots()
    first, total = {"a": [(10, 0.01), (100, 0.02)]}, {"a": [(10, 0.03), (100, 0.3)]}
    draw_growth(axes, first, total)
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert drawn == {"a: all of it": [30.0, 300.0], "a: first sound": [10.0, 20.0]}


def test_streams_are_drawn_in_percent_and_milliseconds():
    figure = new_figure(4, 3)
    above, below = figure.subplots(2, 1)
    draw_streams((above, below), {"spread": [(1, 1.0), (2, 0.5)]}, {"spread": [(1, 0.0), (2, 0.25)]})
    assert list(above.lines[0].get_ydata()) == [100.0, 50.0]
    assert list(below.lines[0].get_ydata()) == [0.0, 250.0]
