"""The layout that CONTRIBUTING.md describes: which room may import which, and how much is offered."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE, EXPORT = REPOSITORY / "balacoon_tk", REPOSITORY / "export"
FILES = sorted([*PACKAGE.rglob("*.py"), *EXPORT.rglob("*.py")])


def module_of(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    if parts[0] == "export":
        parts = ("balacoon_tk", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


KERNELS = {module_of(path) for path in PACKAGE.rglob("*.pyx")}
MODULES = {module_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def imports(name: str, *, at_load: bool = False) -> set[str]:
    """Return the modules of this project that one imports; `at_load`: not in functions or for types."""

    def walk(nodes):
        for node in nodes:
            if at_load and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if at_load and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                continue
            yield node
            yield from walk(ast.iter_child_nodes(node))

    found = set()
    for node in walk(MODULES[name].body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole not in KERNELS:
                    found.add(whole if whole in MODULES else node.module)
    return {each for each in found if each in MODULES}


def test_only_the_commands_import_what_exports() -> None:
    wrong = [
        (name, each)
        for name in MODULES
        if not name.startswith(("balacoon_tk.cli.", "balacoon_tk.export"))
        for each in imports(name)
        if each.startswith("balacoon_tk.export")
    ]
    assert wrong == []


@pytest.mark.parametrize("room", ["graph", "stages", "decoder", "runtime"])
def test_a_target_is_known_to_none_of_the_rooms_below_it(room) -> None:
    wrong = {
        (name, each)
        for name in MODULES
        if name.startswith(f"balacoon_tk.{room}")
        for each in imports(name)
        if each.startswith("balacoon_tk.targets")
    }
    assert wrong == set()


def test_no_module_imports_itself_by_way_of_others() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for each in sorted(imports(name, at_load=True) - {name}):
                visit(each, (*path, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


def test_a_newcomer_finds_few_modules_at_the_top_and_few_names_to_learn() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 12
    offered = [
        ast.literal_eval(node.value)
        for tree in MODULES.values()
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert sum(len(names) for names in offered) <= 350


def test_the_server_stays_small() -> None:
    def lines(path: Path) -> int:
        text = path.read_text(encoding="utf-8")
        docstrings = {
            number
            for node in ast.walk(ast.parse(text))
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and ast.get_docstring(node) is not None
            for number in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
        }
        return sum(
            bool(line.strip()) and not line.lstrip().startswith("#") and number not in docstrings
            for number, line in enumerate(text.splitlines(), start=1)
        )

    assert sum(map(lines, (PACKAGE / "serve").glob("*.py"))) <= 500


def test_no_group_is_repeated_possessively() -> None:
    """Before Python 3.11.5 such a group keeps what its last, failed turn has taken: `(?>(?:...)*)` doesn't.

    That is https://github.com/python/cpython/issues/106052; Debian 12 has 3.11.2.
    """
    possessive = re.compile(r"\)(?:[*+?]|\{[0-9,]+\})\+")
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if possessive.search(line)
    ]
    assert found == []
