"""Listening tests in a notebook's page: which is better, and whether two differ at all.

::

    keys and buttons of the page, or a program
      ─▶ ListeningSession   trial by trial: two sounds at one loudness, whose names no page knows
      ─▶ Answer             a row of the table, written at once
      ─▶ Tally              share, exact interval, p-value

The page gets samples called A, B and X. Whoever takes a debugger to them can compare X with A and B: that a
listener is blind is no lock. What happens in the page stands in listening.js.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import anywidget
import traitlets

from balacoon_tk.audio import pcm_bytes
from balacoon_tk.player.answers import Choice, TestKind, to_csv
from balacoon_tk.player.session import ListeningSession, System

_FOLDER = Path(__file__).parent


class ListeningTest(ListeningSession, anywidget.AnyWidget):
    """What both tests are: a session whose trials a page shows, and that a program can answer as well.

    Parameters
    ----------
    systems : mapping of str to TTS or callable
        Two things by name, such as voices, precisions or strategies. A `TTS` speaks each sentence with the
        test's seed; a callable takes a sentence and gives samples, floating or int16.
    sentences : sequence of str
    path : path, optional
        CSV file of the answers, a row each, written beside and renamed after each answer. Answers that are
        there already are kept, and a listener goes on after the last one. None keeps them in memory.
    seed : int
        Of the order, in [0, 2**63), and of voices; each listener has an order of their own.
    listener : str
        Who answers, as the table has it.
    n_repeats : int
        How often each sentence comes, >= 1.
    sample_rate : int, optional
        Hz, where no `TTS` says it.

    Attributes
    ----------
    trial : Trial or None
    answers : list of Answer

    Raises
    ------
    ParameterError
        If there aren't two names, a sentence or a sample rate, or `path` has answers of another test.
    MissingExtraError
        Of the first sounds and of `summary`, if pyloudnorm or SciPy isn't there.
    """

    _esm = _FOLDER / "listening.js"
    _css = _FOLDER / "listening.css"
    _kind: ClassVar[TestKind]

    # All that a page knows besides sounds: nothing of it says which is which.
    kind = traitlets.Unicode().tag(sync=True)
    sample_rate = traitlets.Int().tag(sync=True)
    n_trials = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        systems: Mapping[str, System],
        sentences: Sequence[str],
        *,
        path: str | os.PathLike[str] | None = None,
        seed: int = 0,
        listener: str = "listener",
        n_repeats: int = 1,
        sample_rate: int | None = None,
    ) -> None:
        ListeningSession.__init__(
            self,
            self._kind,
            systems,
            sentences,
            path=path,
            seed=seed,
            listener=listener,
            n_repeats=n_repeats,
            sample_rate=sample_rate,
        )
        anywidget.AnyWidget.__init__(
            self, kind=self._kind, sample_rate=self._rate, n_trials=len(self._trials)
        )
        self.on_msg(self._hear)

    def __repr__(self) -> str:
        done = f"{self._n_answered} of {self.n_trials} trials are answered"
        return f"<{self.kind} test of {' and '.join(self._names)}: {done}>"

    def _hear(self, _: object, content: dict[str, Any], buffers: list[bytes]) -> None:
        """Take a message from the page, and show the page what is there then."""
        kind = content.get("kind")
        try:
            if kind == "answer" and content.get("trial") == self._number() and not self._answered:
                self.answer(cast(Choice, content.get("choice")))
            elif kind == "next" and content.get("trial") == self._number() and self._answered:
                self.next()
            else:
                kind = "ready"  # or the page is behind, since a program has answered: it begins anew
            self._post(whole=kind == "ready")
        except Exception as error:  # a page has nobody who would catch it: it is said there
            self.send({"kind": "error", "text": str(error) or type(error).__name__})

    def _post(self, *, whole: bool) -> None:
        """Show the page the trial as it stands, or what came of all; sounds that it has only if `whole`."""
        trial = self.trial
        if trial is None:
            self.send({"kind": "done", "text": str(self.summary()), "csv": to_csv(self.answers)})
            return
        head: dict[str, object] = {"kind": "trial", "trial": trial.number}
        head |= {"answered": self._answered, "done": self._n_answered}
        if self._answered and not whole:
            self.send(head)
            return
        sounds = self.play()
        head |= {"sentence": trial.sentence, "sounds": list(sounds)}
        self.send(head, [pcm_bytes(samples) for samples in sounds.values()])
        # What making the sounds took is no hesitation of the listener's.
        self._begun_s = time.monotonic()

    def _number(self) -> int | None:
        return None if self.trial is None else self.trial.number


class ABTest(ListeningTest):
    """Which of two is better? A and B are they, in an order that changes; "none" is an answer.

    ITU-R BS.1284 calls it a paired comparison. See `ListeningTest` for the arguments.

    Examples
    --------
    >>> test = ABTest({"fp32": tts, "int8": small}, sentences, path="ab.csv")  # doctest: +SKIP
    >>> test  # in a notebook: its page asks  # doctest: +SKIP
    >>> print(test.summary())  # doctest: +SKIP
    """

    _kind = "AB"


class ABXTest(ListeningTest):
    """Can anybody tell two apart? X is A or B, and the listener says which.

    Who hears no difference is right half of the time. See `ListeningTest` for the arguments.

    References
    ----------
    D. Clark, "High-resolution subjective testing using a double-blind comparator", Journal of the AES 30(5),
    1982. ITU-R BS.1116-3 asks in the same spirit for hidden references and for sounds of one loudness.
    """

    _kind = "ABX"
