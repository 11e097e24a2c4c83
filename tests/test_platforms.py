"""What is said about platforms: wheels, versions, workflows and the tables of docs/platforms.md."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from platforms import minimum, places, report, suite, wheels

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NATIVE_C = ROOT / "balacoon_tk" / "runtime" / "native" / "src"
STATED = {
    each.rpartition(" ")[2].replace(".", "")
    for each in PROJECT["project"]["classifiers"]
    if re.fullmatch(r"Programming Language :: Python :: \d+\.\d+", each)
}


@pytest.mark.parametrize(
    ("system", "architecture", "tag", "without"),
    [
        ("linux", "x86_64", "manylinux_x86_64", set()),
        ("linux", "aarch64", "manylinux_aarch64", set()),
        ("macos", "arm64", "macosx_arm64", set()),
        ("macos", "x86_64", "macosx_x86_64", {"314"}),  # for which ONNX Runtime has no wheel
        ("windows", "AMD64", "win_amd64", set()),
    ],
)
def test_a_wheel_is_built_for_each_python_that_is_stated(system, architecture, tag, without):
    command = [sys.executable, "-P", "-m", "cibuildwheel", "--print-build-identifiers", str(ROOT)]
    done = subprocess.run(
        [*command, "--platform", system, "--archs", architecture], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {f"cp{version}-{tag}" for version in STATED - without}


def test_the_pythons_that_are_looked_for_are_those_that_are_stated():
    assert {version.replace(".", "") for version in places.VERSIONS if not version.endswith("t")} == STATED
    assert f"cp{places.VERSIONS[0].replace('.', '')}" in min(f"cp{version}" for version in STATED)


def test_a_free_threaded_python_has_wheels_of_its_own():
    assert wheels.tag_of(places.Python("3.14", "python3.14")) == "cp314-cp314"
    assert wheels.tag_of(places.Python("3.14t", "python3.14t")) == "cp314-cp314t"


def test_the_oldest_versions_are_read_from_the_project():
    bounds = minimum.lower_bounds()
    assert set(bounds) == set(minimum.PINNED)
    assert f"numpy>={bounds['numpy']}" in PROJECT["project"]["dependencies"]
    assert f"onnx>={bounds['onnx']}" in PROJECT["project"]["optional-dependencies"]["voice"]


def test_a_file_is_called_by_its_name_in_the_other_system(tmp_path):
    place = places.Place(tmp_path)
    assert place.name_of(tmp_path / "work" / "x") == "/work/x"
    assert place.name_of(Path("/elsewhere")) == "/elsewhere"
    assert places.Place().name_of(tmp_path) == str(tmp_path)


def test_a_command_that_fails_says_what_it_said(tmp_path):
    assert places.Place().run(sys.executable, "-c", "print(1)", folder=tmp_path) == "1\n"
    with pytest.raises(places.CommandError, match=r"status 3\nnot so"):
        places.Place().run(sys.executable, "-c", "import sys; print('not so'); sys.exit(3)", folder=tmp_path)


def test_the_part_of_the_suite_that_runs_everywhere_is_there():
    files = (*suite.FILES, *suite.QUICK_FILES)
    assert [name for name in files if not (ROOT / "tests" / name).is_file()] == []
    assert set(suite.QUICK_FILES) < set(suite.FILES)


def test_the_tables_are_those_of_the_results():
    result = json.loads(report.RESULT.read_text(encoding="utf-8"))
    text = report.DOCS.read_text(encoding="utf-8")
    assert text.partition(report.MARKS[0])[2].partition(report.MARKS[1])[0].strip() == report.to_markdown(
        result
    )


def test_a_row_says_what_failed_and_what_free_threads_became():
    found = {
        "python": "3.14.0",
        "free_threaded": True,
        "gil": True,
        "versions": {"numpy": "2.4", "onnxruntime": "1.32"},
        "kernels": ["avx2", "plain"],
        "differences": {"native stateful": 2e-6, "native to onnxruntime": 5e-6},
        "wheel": "manylinux_2_28",
        "libc": "glibc2.36",
    }
    rows = {"3.14t": found, "3.9": {"error": "a\nno wheel"}, "3.14": found | {"free_threaded": False}}
    lines = report.to_markdown({"cpu": "this one", "wheels": rows}).splitlines()
    assert lines[2] == "| wheel | 3.9 |  |  |  |  | **failed**: no wheel |"
    assert "speaks |" in lines[3]
    assert "3.14.0, free-threaded" in lines[4]
    assert "2e-06 | speaks; the GIL is on again |" in lines[4]


def test_the_version_to_cite_is_the_projects():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {PROJECT['project']['version']}\n" in text


@pytest.mark.parametrize("name", [".github/workflows/ci.yml", "RELEASING.md", "docs/platforms.md"])
def test_targets_of_make_that_are_named_exist(name):
    named = re.findall(
        r"\bmake ((?:[a-z]+(?:-[a-z0-9]+)*)(?: test-[a-z0-9]+)*)", (ROOT / name).read_text("utf-8")
    )
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert named
    assert {target for each in named for target in each.split()} <= targets


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_native_engine_is_standard_c_for_compilers_without_vectors():
    # glibc's headers take these for types of the compiler, unless it is GCC.
    types = [f"-D_Float{kind}=bk_float{kind}" for kind in ("32", "64", "32x", "64x")]
    sources = [str(path) for path in sorted(NATIVE_C.glob("*.c"))]
    standard = ("-std=c11", "-pedantic-errors", "-Werror=vla", "-fsyntax-only")
    done = subprocess.run(
        ["cc", "-U__GNUC__", "-D_WIN32", *types, *standard, *sources],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # MSVC knows this word of C99 with underscores alone, unless it is asked for a standard.
    texts = {path.name: path.read_text("utf-8") for path in NATIVE_C.iterdir()}
    assert not [name for name, text in texts.items() if re.search(r"\brestrict\b", text)]


@pytest.mark.skipif(sys.platform == "win32" or shutil.which("cc") is None, reason="needs a C compiler")
def test_the_program_that_sanitizers_look_at_still_runs(tmp_path):
    built = tmp_path / "share_pool"
    sources = [ROOT / "tests" / "native" / "share_pool.c", *sorted(NATIVE_C.glob("*.c"))]
    exact = ("-O0", "-fno-math-errno", "-fno-trapping-math", f"-I{NATIVE_C}")
    subprocess.run(["cc", *exact, *sources, "-lm", "-lpthread", "-o", built], check=True)
    done = subprocess.run([built], check=True, capture_output=True, text=True)
    assert re.search(r"0 streams of \d+ wrong", done.stdout)
