"""Formulas as MathML, which browsers draw by themselves: no script, nothing to fetch."""

import re

# As GitHub and GitLab write them, so that a page reads the same there.
_DISPLAYED = re.compile(r"^```math\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"\$`([^`\n]+)`\$")


def render_formulas(markdown: str) -> str:
    """Return Markdown whose formulas, of LaTeX's notation, are MathML."""
    if "```math" not in markdown and "$`" not in markdown:
        return markdown
    from latex2mathml.converter import convert

    markdown = _DISPLAYED.sub(lambda m: f"<div>{convert(m[1].strip(), display='block')}</div>", markdown)
    return _INLINE.sub(lambda m: convert(m[1], display="inline"), markdown)
