"""Notebooks are valid, stripped, ask and answer, and run from any folder in fast mode."""

import ast
import json
import os
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
    assert any("image/png" in output.get("data", {}) for output in outputs), "its figures are shown"


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
