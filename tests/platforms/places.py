"""Where the package is built and tried: Pythons of this system, and of others that lie in a folder.

Debian's archive has Pythons that this system hasn't, and all of them for other processors. A folder of one of
its releases is entered by chroot, which root may; one for another processor needs an emulator that the kernel
knows (on Debian the package qemu-user-static).

  PYTHONPATH=tests python -m platforms.places    # makes the folders of `RELEASES`
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "platforms"
VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.13t", "3.14t")
"""Those that wheels are built for; those without the GIL are only looked at."""

RELEASES = {
    "trixie": ("python3.13-venv", "python3.13-dev", "gcc"),
    "sid": ("python3.14-venv", "python3.14-dev", "gcc"),
}
"""Releases, and packages of them, that have the Pythons which this system may not have."""

_NOT_PASSED_ON = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "VIRTUAL_ENV", "BALACOON_TK_CACHE")
_BASE = ("base-files", "ca-certificates", "coreutils", "dash", "libc-bin", "libstdc++6")
_NETWORK_FILES = ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt")


class CommandError(Exception):
    """A command ended with another status than 0; the message has what it said last."""


@dataclass(frozen=True, slots=True)
class Place:
    """A system: this one, or another that lies in the folder `root`."""

    root: Path | None = None

    def run(self, *command: str | Path, folder: Path, **environment: str) -> str:
        """Run a command in one of its folders, and return what it printed; `CommandError` if it fails."""
        words = [self.name_of(word) if isinstance(word, Path) else word for word in command]
        variables = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
        if self.root is not None:
            inside = 'cd "$1" && shift && exec "$@"'
            # A /proc of its own goes with the command, however that ends.
            words = [
                *("unshare", "--pid", "--fork", f"--mount-proc={self.root / 'proc'}"),
                *("chroot", str(self.root), "sh", "-c", inside, "sh", self.name_of(folder), *words),
            ]
            variables |= {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root"}
        done = subprocess.run(
            words, cwd=folder, env=variables | environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}".strip()
            raise CommandError(f"{' '.join(map(str, command))}: status {done.returncode}\n{said}")
        return done.stdout

    def name_of(self, path: Path) -> str:
        """Return what a file is called there."""
        if self.root is None or not path.is_relative_to(self.root):
            return str(path)
        return f"/{path.relative_to(self.root)}"

    def empty_folder(self, name: str) -> Path:
        """Make a folder of that system to work in, in the place of what was there."""
        folder = (BUILD if self.root is None else self.root / "work") / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


@dataclass(frozen=True, slots=True)
class Python:
    """An interpreter."""

    version: str
    """As in `VERSIONS`."""
    command: str
    place: Place = field(default_factory=Place)

    @property
    def system(self) -> str:
        """Return the name of the system that it is of."""
        return "this system" if self.place.root is None else self.place.root.name

    def environment(self, folder: Path) -> Path:
        """Make a virtual environment in an empty folder; return its Python."""
        self.place.run(self.command, "-m", "venv", folder / "venv", folder=folder)
        return folder / "venv" / "bin" / "python"


def find_pythons(versions: tuple[str, ...] = VERSIONS) -> Iterator[Python]:
    """Give the first interpreter of each version: on the PATH, of pyenv, or in a folder of Debian's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in versions:
        pattern = f"{version.removesuffix('t')}.*{'t' * version.endswith('t')}/bin/python{version}"
        names = [f"python{version}", *map(str, sorted(pyenv.glob(pattern)))]
        candidates = [Python(version, name) for name in names]
        candidates += [
            Python(version, f"/usr/bin/python{version}", Place(root))
            for root in sorted(BUILD.glob("debian-*-amd64"))
        ]
        yield from islice(filter(_is_there, candidates), 1)


def _is_there(python: Python) -> bool:
    try:
        code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
        said = python.place.run(python.command, "-c", code, folder=python.place.root or BUILD)
    except (CommandError, FileNotFoundError):
        return False
    return said.strip() == python.version.removesuffix("t")


def make_debian(suite: str, packages: tuple[str, ...], *, architecture: str = "amd64") -> Place:
    """Put a release of Debian with some packages into a folder, by mmdebstrap, unless it is there."""
    root = BUILD / f"debian-{suite}-{architecture}"
    if not root.is_dir():
        part = root.with_name(f"{root.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        options = [
            f"--architectures={architecture}",
            f"--include={','.join((*_BASE, *packages))}",
            # A mirror that is a snapshot has release files that have run out.
            '--aptopt=Acquire::Check-Valid-Until "false"',
        ]
        # Only unpacked: Python needs nothing that installing does, and an emulator would take half an hour.
        subprocess.run(["mmdebstrap", "--variant=extract", *options, suite, str(part)], check=True)
        for name in _NETWORK_FILES:
            copy = part / name.lstrip("/")
            if Path(name).exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(name, copy)
        (part / "tmp").chmod(0o1777)
        part.rename(root)
    return Place(root)


if __name__ == "__main__":
    for release, packages_of_it in RELEASES.items():
        make_debian(release, packages_of_it)
