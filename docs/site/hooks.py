"""What `mkdocs build` does beside rendering docs/: pages made of other files, links, formulas, sizes.

MkDocs calls each function ``on_...`` by its name. Nothing here needs a network.
"""

import logging
import posixpath
import re
import struct
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from site_commands import command_line_page
from site_formulas import render_formulas
from site_links import PAGES, RESULTS, ROOT, rewrite_links
from site_reference import lay_out_package, reference_pages

_LOG = logging.getLogger("mkdocs.hooks.balacoon_tk")
_FIGURES = "explanation/figures"
_DOTS_PER_PIXEL = 1.25  # figures are drawn at 120 dots an inch, of which a page has 96 pixels
# Stands for the text between marks of that name in another file: <!-- README.md: name -->
_FROM_ELSEWHERE = re.compile(r"^<!-- (?P<file>[\w./]+): (?P<name>[^>]+) -->$", flags=re.MULTILINE)
_IMAGE = re.compile(r'<img alt="(?P<alt>[^"]*)" src="(?P<src>[^":]+\.png)"')
_EXTERNAL = re.compile(r'<a [^>]*?href="(https?://[^"]+)"')

# The file of the repository that a page is, where that isn't the one in docs/.
_origins: dict[str, str] = {}
_external_links: set[str] = set()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the modules into the navigation, and the package where its docstrings are read."""
    _origins.clear()
    _external_links.clear()
    lay_out_package(ROOT / "build/docs/path")
    (reference,) = (part["Reference"] for part in config.nav or [] if "Reference" in part)
    # Each is known by what follows the package's name.
    python = [{Path(uri).stem.removeprefix("balacoon_tk."): uri} for uri in reference_pages()]
    config.nav = [
        {"Reference": [*reference, {"Python": python}]} if "Reference" in part else part
        for part in config.nav or []
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is no file in docs/: top-level pages, results, the reference and figures."""
    made = {**reference_pages(), "reference/command_line.md": command_line_page()}
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    elsewhere = {uri: ROOT / name for name, uri in PAGES.items() if name != "README.md"}
    results = sorted(path for path in (ROOT / RESULTS).rglob("*") if path.is_file())
    elsewhere |= {f"benchmarks/{path.relative_to(ROOT / RESULTS).as_posix()}": path for path in results}
    for uri, path in elsewhere.items():
        _origins[uri] = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    drawn = Path(config.extra.get("figures", ROOT / "build/docs/figures"))
    if not drawn.is_dir():
        raise PluginError(
            f"{drawn} is missing: `make docs` draws the figures first (docs/site/draw_figures.py)"
        )
    for path in sorted(drawn.glob("*.png")):
        files.append(File.generated(config, f"{_FIGURES}/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what stands elsewhere, render formulas, and let links lead to pages of the site."""
    uri = page.file.src_uri
    origin = _origins.get(uri, f"docs/{uri}")
    source_url = config.extra["source"]
    markdown = rewrite_links(markdown, origin=origin, page=uri, source_url=source_url)

    def from_elsewhere(match: re.Match[str]) -> str:
        return rewrite_links(_block(match), origin=match["file"], page=uri, source_url=source_url)

    return render_formulas(_FROM_ELSEWHERE.sub(from_elsewhere, markdown))


def _block(match: re.Match[str]) -> str:
    text = (ROOT / match["file"]).read_text(encoding="utf-8")
    _, first, rest = text.partition(f"<!-- {match['name']} -->")
    block, last, _ = rest.partition("<!-- end")
    if not (first and last):
        raise PluginError(f"{match['file']} has no text between marks of the name {match['name']!r}")
    return block.strip()


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Give pictures their size, so that text doesn't jump when they come."""

    def sized(match: re.Match[str]) -> str:
        uri = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), match["src"]))
        file = files.get_file_from_path(uri)
        if file is None:  # MkDocs has said so
            return match[0]
        # The first chunk of a PNG file begins with both.
        width, height = struct.unpack(">II", file.content_bytes[16:24])
        size = f'width="{width / _DOTS_PER_PIXEL:.0f}" height="{height / _DOTS_PER_PIXEL:.0f}"'
        return f'{match[0]} {size} loading="lazy"'

    return _IMAGE.sub(sized, html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Note which other sites a page leads to."""
    _external_links.update(_EXTERNAL.findall(output))
    return output


def on_post_build(config: MkDocsConfig) -> None:
    """List links to other sites, which nothing here follows."""
    file = Path(config.site_dir) / "external_links.txt"
    file.write_text("".join(f"{url}\n" for url in sorted(_external_links)), encoding="utf-8")
    _LOG.info("%d links to other sites are in %s", len(_external_links), file)
