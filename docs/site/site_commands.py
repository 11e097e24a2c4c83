"""The command line as a page, made of its own parser, so that it says what the program takes."""

import argparse

from balacoon_tk.cli._main import make_parser

_HEAD = """# Command line

Every command has `--help`, which says what stands here. Audio and reports go to stdout, everything else to
stderr; the exit status is 0 if all went well, 1 if it failed, and 2 if the command was written wrongly.
"""


def command_line_page() -> str:
    """Return the Markdown of a page with a section for each command."""
    return "\n".join([_HEAD, *(_section(name, parser) for name, parser in subparsers(make_parser()).items())])


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command, by name."""
    # argparse has no public way to ask a parser what it was given.
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(commands.choices)


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    lines = [
        f"## {name}",
        "",
        _description(parser.description or ""),
        "",
        "| argument | meaning |",
        "|---|---|",
    ]
    formatter = parser._get_formatter()
    for action in parser._actions:
        if action.help and action.help != argparse.SUPPRESS and "--help" not in action.option_strings:
            words = formatter._expand_help(action).replace("|", "\\|").replace("<", "&lt;")
            lines.append(f"| {_invocation(action, formatter)} | {words} |")
    return "\n".join([*lines, ""])


def _invocation(action: argparse.Action, formatter: argparse.HelpFormatter) -> str:
    values = formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
    if not action.option_strings:
        return f"`{values}`"
    return ", ".join(f"`{flag} {values}`" if values else f"`{flag}`" for flag in action.option_strings)


def _description(text: str) -> str:
    """Return a docstring whose examples, which are indented, are blocks of commands."""
    lines: list[str] = []
    for paragraph in text.strip().split("\n\n"):
        block = paragraph.splitlines()
        if all(line.startswith("  ") for line in block):
            commands = any("balacoon-tk" in line for line in block)
            language = "sh" if commands else "text"
            lines += [f"```{language}", *(line[2:] for line in block), "```", ""]
        else:
            lines += [*block, ""]
    return "\n".join(lines)
