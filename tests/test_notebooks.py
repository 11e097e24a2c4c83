"""Notebooks are valid, stripped, ask and answer, and run from any folder in fast mode."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ALL = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
LIMIT_S = 300
LONGEST_FUNCTION = 5  # lines; what is longer belongs into the package


spec = importlib.util.spec_from_file_location("run_notebooks", ROOT / "notebooks" / "run.py")
runner = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runner)


def read(path):
    return nbformat.read(path, as_version=4)


def sources(path, kind):
    return [cell.source for cell in read(path).cells if cell.cell_type == kind]


def test_there_are_notebooks():
    assert {path.stem for path in NOTEBOOKS} >= {
        "1_hear_it",
        "2_why_chunks_click",
        "3_exact_streaming",
        "4_streaming_against_whole",
        "5_export_and_quantize",
        "6_playground",
        "7_live_text",
    }


@ALL
def test_a_notebook_is_valid_and_stripped(path):
    nbformat.validate(json.loads(path.read_text(encoding="utf-8")))
    notebook = read(path)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        assert cell.source.strip()
        assert not cell.metadata
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@ALL
def test_a_notebook_asks_in_its_first_cell_and_asserts_the_answer_in_its_last(path):
    first, last = read(path).cells[0], read(path).cells[-1]
    assert first.cell_type == "markdown"
    assert "?**" in first.source
    assert last.cell_type == "code"
    assert "assert " in last.source


@ALL
def test_a_notebook_says_how_long_it_takes_and_that_was_measured(path):
    times = json.loads(runner.RESULTS.read_text(encoding="utf-8"))
    assert runner.takes(path.stem, times) in read(path).cells[0].source
    measured = {mode for mode, part in times["modes"].items() if path.stem in part}
    assert measured >= {"fast", "look"}
    # A search over all sentences is for a machine that has nothing else to do for long.
    if "FULL" in "".join(sources(path, "code")) and path.stem != "5_export_and_quantize":
        assert "full" in measured


def test_no_cell_is_silent_for_long():
    times = json.loads(runner.RESULTS.read_text(encoding="utf-8"))
    silent = {
        (mode, name): figures["longest_silence_s"]
        for mode, part in times["modes"].items()
        for name, figures in part.items()
    }
    assert silent and max(silent.values()) <= 10.0, silent


def test_the_times_are_of_all_notebooks_and_of_no_others():
    times = json.loads(runner.RESULTS.read_text(encoding="utf-8"))
    assert list(times["modes"]) == [mode for mode in runner.MODES if mode in times["modes"]]
    assert all(set(part) <= {path.stem for path in NOTEBOOKS} for part in times["modes"].values())


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.2, "1 s"), (7.4, "7 s"), (13.0, "15 s"), (97.0, "95 s"), (260.0, "4 minutes")]
)
def test_times_are_told_as_roughly_as_they_are_known(seconds, told):
    times = {"facts": {"n_cpus": 2}, "modes": {"look": {"n": {"seconds": seconds, "load": 2.5}}}}
    assert runner.takes("n", times).startswith(f"It takes {told} as it is, on 2 cores;")
    times["modes"]["fast"] = {"n": {"seconds": seconds, "load": 4.5}}
    assert f"{told} in fast mode (`BALACOON_TK_FAST=1`), on 2 cores that had other" in runner.takes(
        "n", times
    )


def test_a_time_that_is_written_down_stands_in_its_notebook_and_nothing_else_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "FOLDER", tmp_path)
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "times.json")
    monkeypatch.setattr("speed.machine.facts", lambda: {"cpu": "this", "n_cpus": 2})
    before = read(NOTEBOOKS[0])
    nbformat.write(before, tmp_path / NOTEBOOKS[0].name)
    name = NOTEBOOKS[0].stem
    for mode, seconds in (("fast", 3.0), ("look", 21.0)):
        runner.record(name, mode, {"seconds": seconds, "load": 1.0})
    after = read(tmp_path / NOTEBOOKS[0].name)
    told = "It takes 20 s as it is, 3 s in fast mode (`BALACOON_TK_FAST=1`), on 2 cores;"
    assert after.cells[0].source.count(told) == 1
    assert after.cells[0].source.count("It takes") == 1
    assert after.cells[1:] == before.cells[1:]
    monkeypatch.setattr("speed.machine.facts", lambda: {"cpu": "another", "n_cpus": 2})
    runner.record(name, "look", {"seconds": 1.0, "load": 1.0})
    written = json.loads(runner.RESULTS.read_text(encoding="utf-8"))
    assert list(written["modes"]) == ["look"], "times of two machines don't stand in one table"


def test_silence_is_measured_between_what_a_cell_shows(tmp_path):
    cells = ["import time\nfor _ in range(4):\n    time.sleep(0.3)\n    print('here')", "time.sleep(0.9)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, tmp_path / "silent.ipynb")
    _, times = runner.execute(tmp_path / "silent.ipynb", tmp_path)
    assert 0.9 <= times["longest_silence_s"] < times["seconds"]
    assert times["seconds"] > 2.1


@ALL
def test_what_is_long_stands_in_the_package(path):
    for source in sources(path, "code"):
        code = "\n".join(line for line in source.splitlines() if not line.startswith("%"))
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < LONGEST_FUNCTION, node.name


@ALL
def test_a_notebook_shows_the_public_api_only(path):
    for source in sources(path, "code"):
        code = "\n".join(line for line in source.splitlines() if not line.startswith("%"))
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute):
                assert not node.attr.startswith("_"), node.attr
            elif isinstance(node, ast.ImportFrom) and node.module.startswith("balacoon_tk"):
                module = __import__(node.module, fromlist=["__all__"])
                assert {alias.name for alias in node.names} <= set(module.__all__)


@pytest.mark.voice
@ALL
def test_a_notebook_runs_in_fast_mode_from_another_folder(path, tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "notebooks" / "run.py"), str(path), "-o", str(tmp_path / "out")],
        env=os.environ | {"BALACOON_TK_FAST": "1", "IPYTHONDIR": str(tmp_path / "ipython")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    executed = read(tmp_path / "out" / path.name)
    outputs = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert pictures, "its figures are shown"
    for picture in pictures:
        alt = picture.metadata["image/png"]["alt"]
        assert re.search(r"\d", alt) and len(alt) > 30, alt
    images = re.findall(r"<img [^>]*>", json.dumps([output.get("data", {}) for output in outputs]))
    assert len(images) == len(pictures)
    assert all(re.search(r'alt=\\"[^"]{30}', image) for image in images)


def test_a_cell_that_fails_is_named_and_the_status_says_so(tmp_path):
    broken = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(broken, tmp_path / "broken.ipynb")
    done = subprocess.run(
        [sys.executable, str(ROOT / "notebooks" / "run.py"), "broken.ipynb", "-o", "out"],
        env=os.environ | {"IPYTHONDIR": str(tmp_path / "ipython")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 1
    assert "broken.ipynb: failed" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert not (tmp_path / "out").exists(), "no half-written notebook"
