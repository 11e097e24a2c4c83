"""balacoon-tk: the command line, a file for each command, listed in `balacoon_tk.cli._main.COMMANDS`.

Its docstring is its help, the first line the one in the list; it has

- ``add_arguments(parser)``, which declares options and positional arguments
- ``run(args)``, which does it: audio and reports go to stdout, everything else to stderr

It imports what is heavy inside ``run``, so that ``--help`` is quick.
"""

from balacoon_tk.cli._main import main

__all__ = ["main"]
