"""Code that stands on pages of Markdown, and how it is run: the README's, docs/ and the files at the top."""

import ast
import asyncio
import re
import shlex
import tomllib
from dataclasses import dataclass
from inspect import CO_COROUTINE
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
"""What `make` makes."""
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


def name_of(page):
    """Return what a page is called: its path in docs/, or in the repository."""
    docs = ROOT / "docs"
    return page.relative_to(docs if page.is_relative_to(docs) else ROOT).as_posix()


@dataclass(frozen=True)
class Fence:
    """A block of code between fences."""

    page: Path
    language: str
    code: str
    line: int
    """Of the code's first line in the page."""


def fences(page, *languages):
    """Return the blocks of a page, in order; of these languages alone if there are any."""
    text = page.read_text(encoding="utf-8")
    found = [Fence(page, m[1], m[2], text[: m.start(2)].count("\n") + 1) for m in _FENCE.finditer(text)]
    return [fence for fence in found if not languages or fence.language in languages]


def run_python(fence, names):
    """Run a block of Python with names that earlier ones have made; it may await, as a notebook may."""
    # So that a traceback names the page and its line.
    code = "\n" * (fence.line - 1) + fence.code
    compiled = compile(code, str(fence.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if compiled.co_flags & CO_COROUTINE:
        asyncio.run(eval(compiled, names))
    else:
        exec(compiled, names)


def pipelines(code):
    """Return the pipelines of a shell's block: each the commands that are piped together, a list of words."""
    lines = (list(_words(line)) for line in code.replace("\\\n", " ").splitlines())
    found = (each for line in lines if line for each in _parted(line, "&&"))
    return [[_without_variables(command) for command in _parted(each, "|")] for each in found]


def commands(program, *pages):
    """Return the arguments of each call of a program in the shell's blocks of pages."""
    blocks = [fence for page in pages for fence in fences(page, "sh")]
    found = [command for block in blocks for line in pipelines(block.code) for command in line]
    return [command[1:] for command in found if program_of(command) == program]


def program_of(command):
    """Return the name of the program that a command calls, wherever that lies."""
    return command[0].rpartition("/")[2]


def _words(line):
    # These part commands where they aren't quoted.
    words = shlex.shlex(line, posix=True, punctuation_chars="|&")
    words.whitespace_split = True
    return words


def _parted(words, mark):
    groups = [[]]
    for word in words:
        if word == mark:
            groups.append([])
        else:
            groups[-1].append(word)
    return groups


def _without_variables(command):
    """Drop variables that are set for one command."""
    n_variables = next(n for n, word in enumerate(command) if not re.fullmatch(r"[A-Z_]+=.*", word))
    return command[n_variables:]
