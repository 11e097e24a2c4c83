"""A page of the reference for each module that has public names, read from its docstrings."""

import ast
import shutil
from pathlib import Path

from site_links import ROOT

# As a user meets them; what isn't named here follows in alphabetical order.
_ORDER = (
    *("balacoon_tk", "balacoon_tk.audio", "balacoon_tk.errors", "balacoon_tk.voice", "balacoon_tk.decoder"),
    *("balacoon_tk.runtime", "balacoon_tk.pacing", "balacoon_tk.metrics", "balacoon_tk.plots"),
    *("balacoon_tk.player", "balacoon_tk.serve", "balacoon_tk.frontend", "balacoon_tk.export"),
)
# The rooms are offered by their packages; these modules offer names themselves.
_MODULES = ("audio.py", "audio_formats.py", "errors.py")


def lay_out_package(folder: Path) -> None:
    """Make a folder with the package as it is installed, export/ inside of it, for what reads docstrings."""
    package = folder / "balacoon_tk"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    for source in (*(ROOT / "balacoon_tk").iterdir(), ROOT / "export"):
        if source.is_dir():
            (package / source.name).symlink_to(source)
        elif source.suffix == ".py":
            # A package is looked for where its __init__.py really lies, and export/ isn't there.
            shutil.copyfile(source, package / source.name)


def public_names() -> dict[str, list[str]]:
    """Return the names that each module offers, in the order of the reference."""
    found = {}
    for top, name in ((ROOT / "balacoon_tk", "balacoon_tk"), (ROOT / "export", "balacoon_tk.export")):
        files = [*top.rglob("__init__.py"), *(top / each for each in _MODULES if (top / each).is_file())]
        for file in files:
            parts = file.relative_to(top).with_suffix("").parts
            # What commands are called stands on the page of the command line.
            if "cli" not in parts and (offered := _offered(file)):
                found[".".join([name, *(part for part in parts if part != "__init__")])] = offered
    order = {module: number for number, module in enumerate(_ORDER)}
    return dict(sorted(found.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))


def reference_pages() -> dict[str, str]:
    """Return the Markdown of each page, by its place in the site."""
    return {
        f"reference/{module}.md": f"# {module}\n\n::: {module}\n    options:\n      members: {names}\n"
        for module, names in public_names().items()
    }


def _offered(file: Path) -> list[str]:
    """Return what a module's ``__all__`` offers."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []
