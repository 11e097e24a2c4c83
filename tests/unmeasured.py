"""Children whose time counts, and which coverage therefore doesn't follow."""

import os


def unmeasured_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
