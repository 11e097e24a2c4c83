"""Run the command line as ``python -m balacoon_tk``."""

import sys

from balacoon_tk.cli import main

sys.exit(main())
