"""Waiting in tests for what another thread does."""

import time

from gate import TIMEOUT_S


def wait_for(condition):
    """Return when a condition is true; fail if it takes too long."""
    end_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)
