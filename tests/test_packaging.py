"""What is built can be installed and used from anywhere, without the repository."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tiny_voice import SAMPLE_RATE

ROOT = Path(__file__).parent.parent
SOURCES = (
    *("balacoon_tk", "export", "tests", "benchmarks", "docs", "notebooks", ".ci", ".github"),
    *("setup.py", "pyproject.toml", "MANIFEST.in", "Makefile", "LICENSE"),
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", ".pre-commit-config.yaml"),
    *("CITATION.cff", "RELEASING.md"),
)


def run(*command, cwd, **environment):
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the repository, as it would be cloned."""
    source = tmp_path_factory.mktemp("source")
    compiled = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")
    translated = shutil.ignore_patterns("*.c")

    def built(folder, names):
        # C that is written by hand lies in folders of that name.
        return compiled(folder, names) | (set() if Path(folder).name == "src" else translated(folder, names))

    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=built)
        else:
            shutil.copy(ROOT / name, source / name)
    return source


@pytest.fixture(scope="module")
def dist(source, tmp_path_factory):
    """The sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    # Side by side and without optimisation the kernels compile faster, and are the same to install.
    config = folder / "parallel.cfg"
    config.write_text("[build_ext]\nparallel = 2\n")
    result = run(
        *(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source),
        cwd=source,
        CFLAGS="-O0 -g0",
        DIST_EXTRA_CONFIG=str(config),
        BALACOON_TK_BUILD="release",
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def site(dist, tmp_path_factory):
    """A folder with the installed wheel and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    (wheel,) = dist.glob("*.whl")
    result = run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
        *("--target", folder, wheel),
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr
    return folder


def test_the_sdist_holds_sources_and_nothing_that_was_built(source, dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in SOURCES:
        assert name in names
    patterns = ("balacoon_tk/**/*.pyx", "balacoon_tk/**/*.pyi", "balacoon_tk/**/src/*.[ch]")
    for pattern in (*patterns, "export/**/*.py", "tests/*.py"):
        wanted = {path.relative_to(source).as_posix() for path in source.glob(pattern)}
        assert wanted
        assert wanted <= names
    assert not [name for name in names if name.endswith((".so", ".pyc")) or name.startswith("build/")]
    assert not [name for name in names if name.endswith(".c") and "/src/" not in name]


def test_the_wheel_holds_the_package_and_nothing_beside_it(source, dist):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    packages = {name.partition("/")[0] for name in names if not name.partition("/")[0].endswith(".dist-info")}
    assert packages == {"balacoon_tk"}, "no module called export or tests in anybody's site-packages"
    assert {
        "balacoon_tk/py.typed",
        "balacoon_tk/stages/_upsampler.pyi",
        "balacoon_tk/export/__init__.py",
    } <= set(names)
    assert {f"balacoon_tk/metrics/data/{name}.txt" for name in ("sentences", "hard_sentences")} <= set(names)
    page = {
        f"balacoon_tk/player/{name}.{suffix}" for name in ("listening", "player") for suffix in ("css", "js")
    }
    assert page <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.endswith((".pyx", ".c", ".h"))]
    exported = {
        f"balacoon_tk/{path.relative_to(source).as_posix()}" for path in source.glob("export/**/*.py")
    }
    assert exported <= set(names)


def test_the_installed_package_is_complete(site, tmp_path):
    code = (
        "import balacoon_tk, balacoon_tk.export, balacoon_tk.cli, balacoon_tk.stages._upsampler as kernel\n"
        "print(balacoon_tk.__file__, balacoon_tk.export.__file__, kernel.__file__, sep='\\n')"
    )
    result = run(sys.executable, "-P", "-c", code, cwd=tmp_path, PYTHONPATH=str(site))
    assert result.returncode == 0, result.stderr
    for file in result.stdout.split():
        assert Path(file).is_relative_to(site)


def test_the_installed_command_speaks_from_another_folder(site, tiny_voice_folder, tmp_path):
    command = (sys.executable, "-P", "-m", "balacoon_tk")
    result = run(
        *command,
        *("synthesize", "hello there", "-v", tiny_voice_folder, "-o", "hello.wav"),
        cwd=tmp_path,
        PYTHONPATH=str(site),
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "hello.wav").stat().st_size > 44
    result = run(*command, "inspect", tiny_voice_folder, "--json", cwd=tmp_path, PYTHONPATH=str(site))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["manifest"]["sample_rate"] == SAMPLE_RATE


def test_a_kind_of_build_that_does_not_exist_is_refused(tmp_path):
    shutil.copy(ROOT / "setup.py", tmp_path)
    result = run(sys.executable, "setup.py", "--version", cwd=tmp_path, BALACOON_TK_BUILD="fast")
    assert result.returncode != 0
    assert "BALACOON_TK_BUILD='fast' must be one of release, debug, coverage" in result.stderr
    assert "Traceback" not in result.stderr
