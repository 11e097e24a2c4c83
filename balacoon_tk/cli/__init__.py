"""balacoon-tk: the command line, a file for each command.

A command is a module with ``NAME``, ``HELP``, ``add_arguments(parser)`` and ``run(args)``, listed in
`balacoon_tk.cli._main.COMMANDS`. It imports what is heavy inside ``run``, so that ``--help`` is quick.
"""

from balacoon_tk.cli._main import main

__all__ = ["main"]
