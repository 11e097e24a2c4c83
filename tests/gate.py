"""A frontend that a test holds up, to see what others do meanwhile."""

import threading

from balacoon_tk.frontend import Sentence

TIMEOUT_S = 120.0
"""Also where each line that a thread runs is counted, which takes tens of times as long."""


class Gate:
    """A frontend whose second sentence comes when it is let through."""

    def __init__(self):
        self.reached, self.open = threading.Event(), threading.Event()

    def phonemize(self, text):
        yield Sentence("so", tuple("so"))
        self.reached.set()
        assert self.open.wait(TIMEOUT_S)
        for _ in range(1000):
            yield Sentence("so", tuple("so"))
