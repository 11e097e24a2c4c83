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

    def displayed(match: re.Match[str]) -> str:
        return f'<div class="formula">{convert(match[1].strip(), display="block")}</div>'

    # In a span, since Markdown takes a formula that begins a line for a block of its own.
    markdown = _DISPLAYED.sub(displayed, markdown)
    return _INLINE.sub(lambda match: f"<span>{convert(match[1], display='inline')}</span>", markdown)
