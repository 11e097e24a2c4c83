"""The commands that make a voice and say what is in one."""

import json
import re

import numpy as np
import onnx
import pytest

from balacoon_tk.audio import read_wav
from balacoon_tk.graph.streaming import make_streaming
from command_line import assert_one_line_error
from tiny_graphs import TinyGraph
from tiny_vits import write_tiny_vits
from tiny_voice import HOP_LENGTH, SAMPLE_RATE, pack_addon

# The tiny voice streams by overlap and says so; what it says is tested where it is meant.
pytestmark = pytest.mark.filterwarnings("ignore:tiny is streamed")


# --- export


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained voice as it comes: one ONNX file and its JSON."""
    return write_tiny_vits(tmp_path_factory.mktemp("trained"))


def export(cli, *arguments):
    """Export in this process, which is a second faster; how it goes otherwise, one test looks at."""
    return cli("export", "--no-sandbox", *arguments)


def test_an_exported_voice_speaks(cli, trained, tmp_path):
    result = cli("export", trained, "-o", tmp_path / "voice")
    assert (result.status, result.err) == (0, "")
    summary = result.out.decode()
    for part in ("written to", "sample rate", "receptive field", "verified", "at most 20 min"):
        assert part in summary
    assert cli("synthesize", "[[abc]]", "-v", tmp_path / "voice", "-o", tmp_path / "a.wav").status == 0
    assert read_wav(tmp_path / "a.wav")[0].size > 0


def test_a_longest_utterance_is_for_what_looks_back_and_not_for_speech(cli, trained, tmp_path):
    g = TinyGraph(opset=20)
    steps = g.transpose(g.input("mel", [1, 4, "n"]), 0, 2, 1)
    scores = g.op("MatMul", steps, g.transpose(steps, 0, 2, 1))
    ones = g.op("Expand", g.number(1), g.op("Concat", *[g.length(steps, axis=1)] * 2, axis=0))
    seen = g.op("Equal", g.op("Trilu", ones, upper=0), g.number(1))
    scores = g.op("Where", seen, scores, g.number(-np.inf))
    mixed = g.op("MatMul", g.op("Softmax", scores, axis=-1), steps)
    path = tmp_path / "back.onnx"
    onnx.save(g.model(g.up(g.transpose(mixed, 0, 2, 1), 4, 1, 4, 2, pads=[1, 1])), path)
    path.with_name("back.onnx.json").write_text(json.dumps({"sample_rate": 1000, "n_channels": 4}))
    result = export(cli, path, "-o", tmp_path / "back", "--max-frames", 40)
    assert (result.status, result.err) == (0, "")
    assert "a stream, of at most 40 frames" in result.out.decode()
    assert "at most 40 frames" in cli("inspect", tmp_path / "back").out.decode()
    error = r"max_frames=40 must be None: a voice that speaks text"
    assert_one_line_error(export(cli, trained, "-o", tmp_path / "voice", "--max-frames", 40), error)


def test_an_addon_is_exported_as_well(cli, trained, tmp_path):
    addon = tmp_path / "voice.addon"
    assert export(cli, trained, "-o", addon, "--name", "Ada", "--license", "CC0-1.0").status == 0
    manifest = json.loads(cli("inspect", addon, "--json").out)["manifest"]
    assert (manifest["name"], manifest["license"]) == ("Ada", "CC0-1.0")


def test_what_is_there_already_stays_unless_asked(cli, trained, tmp_path):
    folder = tmp_path / "voice"
    assert export(cli, trained, "-o", folder, "--name", "one").status == 0
    before = (folder / "voice.json").read_bytes()
    assert_one_line_error(export(cli, trained, "-o", folder, "--name", "two"), "voice")
    assert (folder / "voice.json").read_bytes() == before
    assert export(cli, trained, "-o", folder, "--name", "two", "--overwrite").status == 0
    assert (folder / "voice.json").read_bytes() != before


def test_the_json_may_lie_elsewhere(cli, trained, tmp_path):
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(trained.read_bytes())
    assert_one_line_error(export(cli, alone, "-o", tmp_path / "voice"), r"alone\.onnx\.json")
    config = trained.with_name(f"{trained.name}.json")
    assert export(cli, alone, "-o", tmp_path / "voice", "--config", config).status == 0


def test_what_can_not_be_exported_is_one_line_and_leaves_nothing(cli, tmp_path, tiny_voice_folder):
    (tmp_path / "text.onnx").write_bytes(b"this is no graph")
    for name in ("missing.onnx", "text.onnx", tiny_voice_folder / "decoder.onnx"):
        assert_one_line_error(export(cli, tmp_path / name, "-o", tmp_path / "voice"), str(name))
    assert [path.name for path in tmp_path.iterdir()] == ["text.onnx"]


def test_a_bound_of_the_sandbox_needs_one(cli, trained, tmp_path):
    arguments = ("export", trained, "-o", tmp_path / "voice", "--no-sandbox", "--max-minutes", 5)
    assert_one_line_error(cli(*arguments), "--max-minutes is of the sandbox", status=2)


def test_the_kinds_of_model_are_listed(cli):
    result = cli("export", "--list")
    assert result.status == 0
    assert re.search(r"^piper_onnx +\S", result.out.decode(), flags=re.MULTILINE)


# --- inspect


def test_inspect_says_what_a_voice_is(cli, tiny_voice_folder):
    text = cli("inspect", tiny_voice_folder).out.decode()
    for part in (
        "tiny: en, CC0-1.0",
        f"{SAMPLE_RATE} Hz",
        "3 + 1 + 3 frames",
        "phoneme_ids: int64 (1, n)",
        "nobody has rewritten it",
        "multiply-adds",
    ):
        assert part in text


def test_inspect_gives_json_of_a_folder_and_of_an_addon(cli, tiny_voice_folder, tmp_path):
    addon = pack_addon(tiny_voice_folder, tmp_path / "tiny.addon")
    reports = [json.loads(cli("inspect", path, "--json").out) for path in (tiny_voice_folder, addon)]
    for report in reports:
        report.pop("path")
    assert reports[0] == reports[1]
    report = reports[0]
    assert report["manifest"]["hop_length"] == HOP_LENGTH
    decoder = report["decoder"]
    assert decoder["receptive_field"] == {"left_context": 3, "lookahead": 3, "hop_length": HOP_LENGTH}
    # By hand: 8 to 6 channels over 5 frames, 6 to 3 over 8 samples, 3 to 1 over 3 samples, 4 times.
    assert decoder["multiply_adds"]["by_op_type"] == {
        "Conv": 8 * 6 * 5 + 3 * 3 * HOP_LENGTH,
        "ConvTranspose": 6 * 3 * 8,
    }
    assert report["multiply_adds_per_audio_second"] == 420 * SAMPLE_RATE / HOP_LENGTH


def test_inspect_knows_a_voice_by_v_too(cli, tiny_voice_folder):
    assert cli("inspect", "-v", tiny_voice_folder).out == cli("inspect", tiny_voice_folder).out


def test_inspect_says_what_a_lone_graph_is(cli, tiny_voice_folder):
    report = json.loads(cli("inspect", tiny_voice_folder / "decoder.onnx", "--json").out)
    assert report["receptive_field"] == {"left_context": 3, "lookahead": 3, "hop_length": HOP_LENGTH}
    assert report["multiply_adds"]["total"] == 420
    assert report["n_parameters"] == 404
    assert report["op_counts"]["Conv"] == 2
    assert report["inputs"] == [{"name": "frames", "dtype": "float32", "shape": [1, 8, "n_frames"]}]


def test_inspect_says_what_streaming_a_graph_would_cost(cli, tiny_voice_folder):
    would = json.loads(cli("inspect", tiny_voice_folder / "decoder.onnx", "--json").out)["would_stream"]
    assert (would["exactly"], would["obstacles"]) == (True, [])
    assert would["lag"].keys() == {"samples"}
    assert would["n_state_bytes"] > 0
    text = cli("inspect", tiny_voice_folder / "decoder.onnx").out.decode()
    assert re.search(r"would stream +exactly: lag \d+ samples, state .* a stream, .* % computed again", text)


def test_inspect_says_all_that_stands_against_streaming_and_what_would_help(cli, tmp_path):
    g = TinyGraph()
    y = g.frames()
    for k in range(2):
        g.op("InstanceNormalization", y, g.weight(4), g.weight(4))
        g.nodes[-1].name = f"/decoder/stages.{k}/norm/InstanceNormalization"
        y = g.nodes[-1].output[0]
    path = tmp_path / "adain.onnx"
    path.write_bytes(g.model(g.op("Add", y, g.op("RandomNormalLike", y))).SerializeToString())
    text = cli("inspect", path).out.decode()
    assert "would stream      no: 3 nodes stand against it" in text
    assert "2 InstanceNormalization in decoder.stages.0.norm, decoder.stages.1.norm: it normalises" in text
    assert "1 RandomNormalLike called 'RandomNormalLike_2': it draws its own noise" in text
    assert "LayerNorm" in text
    would = json.loads(cli("inspect", path, "--json").out)["would_stream"]
    assert (would["exactly"], would["lag"]) == (False, None)
    assert [each["module"] for each in would["obstacles"]] == [
        "decoder.stages.0.norm", "decoder.stages.1.norm", None
    ]  # fmt: skip


def test_inspect_knows_a_stateful_graph(cli, tiny_voice_folder, tmp_path):
    stateful = make_streaming(onnx.load(tiny_voice_folder / "decoder.onnx"))
    (tmp_path / "stateful.onnx").write_bytes(stateful.SerializeToString())
    report = json.loads(cli("inspect", tmp_path / "stateful.onnx", "--json").out)
    assert report["streaming"]["n_states"] > 0
    assert (report["would_stream"], report["no_receptive_field"]) == (None, None)


def test_what_an_utterance_costs_once_is_not_counted_for_a_frame(cli, tiny_speakers_folder):
    report = json.loads(cli("inspect", tiny_speakers_folder, "--json").out)
    assert report["decoder"]["op_counts"]["Conv"] == 3, "one of them for the speaker"
    assert report["decoder"]["multiply_adds"]["total"] == 420


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing", None, "no such voice"),
        ("missing.onnx", None, "no such file"),
        ("text.onnx", b"this is no graph", "can't load it"),
        ("empty.onnx", b"", "can't load it"),
        ("text.addon", b"this is no zip file", "neither a voice folder nor"),
    ],
)
def test_inspect_of_something_else_is_one_line(cli, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert_one_line_error(cli("inspect", tmp_path / name), message)
