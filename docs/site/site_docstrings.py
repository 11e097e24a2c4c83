"""What docstrings have of reStructuredText, as Markdown: tables, and the two colons before a drawing."""

import re

import griffe

_TABLE = re.compile(
    r"^(?P<border>=+(?: +=+)+)\n(?P<head>.*)\n(?P=border)\n(?P<body>(?:.*\n)+?)(?P=border)$",
    flags=re.MULTILINE,
)
_COLONS = re.compile(r"::$", flags=re.MULTILINE)


class MarkdownDocstrings(griffe.Extension):
    """Rewrites each docstring when it is read."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Rewrite one, if there is one."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(text: str) -> str:
    """Return a docstring with its tables and drawings as Markdown has them."""
    return _COLONS.sub(":", _TABLE.sub(_table, text))


def _table(match: re.Match[str]) -> str:
    starts = [column.start() for column in re.finditer("=+", match["border"])]

    def cells(line: str) -> list[str]:
        return [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]

    rows: list[list[str]] = []
    for line in match["body"].splitlines():
        row = cells(line)
        # A line without a first cell goes on with the row above it.
        if row[0] or not rows:
            rows.append(row)
        else:
            rows[-1] = [f"{above} {below}".strip() for above, below in zip(rows[-1], row, strict=True)]
    lines = [cells(match["head"]), ["---"] * len(starts), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
