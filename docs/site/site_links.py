"""Where the site has what a page links to, for links that lead out of docs/."""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = "benchmarks/results"
"""Of the repository; the site has its files in benchmarks/."""

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
}
"""Files at the top of the repository, and the page that stands for each."""

# Code is matched first, so that an example of Markdown in it stays as it is.
_LINK = re.compile(
    r"(?P<code>^ *```.*?^ *```|`[^`\n]*`)|\]\((?P<target>[^)\s]+)", flags=re.MULTILINE | re.DOTALL
)


def rewrite_links(markdown: str, *, origin: str, page: str, source_url: str) -> str:
    """Return Markdown whose links lead to pages of the site, or to the repository where there is no page.

    Parameters
    ----------
    markdown : str
    origin : str
        The file that the text is from, in the repository: its links are relative to that.
    page : str
        The page that it stands on, relative to docs/.
    source_url : str
        Where files of the repository can be read.
    """

    def rewritten(match: re.Match[str]) -> str:
        target = match["target"]
        if match["code"] or "://" in target or target.startswith(("#", "mailto:")):
            return match[0]
        path, hash_sign, anchor = target.partition("#")
        place = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
        uri = _page_of(place)
        if uri is not None:
            return f"]({posixpath.relpath(uri, posixpath.dirname(page) or '.')}{hash_sign}{anchor}"
        # What isn't there is left for MkDocs to complain of.
        return f"]({source_url}{place}{hash_sign}{anchor}" if (ROOT / place).exists() else match[0]

    return _LINK.sub(rewritten, markdown)


def _page_of(place: str) -> str | None:
    if place in PAGES:
        return PAGES[place]
    for folder, there in (("docs", ""), (RESULTS, "benchmarks/")):
        if place.startswith(f"{folder}/") and not (ROOT / place).is_dir():
            return there + place.removeprefix(f"{folder}/")
    return None
