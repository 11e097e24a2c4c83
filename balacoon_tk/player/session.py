"""A listening test without a page: trials in a blind order, answers that are kept, a tally."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, get_args

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.errors import ParameterError, StreamStateError
from balacoon_tk.player.answers import Answer, Choice, TestKind, read_answers, write_answers
from balacoon_tk.player.loudness import match_levels
from balacoon_tk.player.tally import Tally, tally_preference, tally_right
from balacoon_tk.player.trials import Trial, plan_trials
from balacoon_tk.tts import TTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

System: TypeAlias = TTS | Callable[[str], AnyArray]
"""A voice, or anything that gives samples (n_samples,) of a sentence."""


class ListeningSession:
    """What a test does, whoever asks and answers; `ABTest` says what its arguments are."""

    def __init__(
        self,
        test: TestKind,
        systems: Mapping[str, System],
        sentences: Sequence[str],
        *,
        path: str | os.PathLike[str] | None,
        seed: int,
        listener: str,
        n_repeats: int,
        sample_rate: int | None,
    ) -> None:
        if len(systems) != 2:
            raise ParameterError(f"systems={list(systems)} must be two")
        if not sentences or isinstance(sentences, str) or not all(sentences):
            raise ParameterError("sentences must be a list of at least one text, none of them empty")
        if n_repeats < 1 or not 0 <= seed < 2**63:
            raise ParameterError(f"n_repeats={n_repeats} must be >= 1 and seed={seed} in [0, 2**63)")
        self._test, self._seed, self._listener = test, seed, listener
        self._systems = dict(systems)
        self._names = tuple(systems)
        self._rate = _rate_of(systems, sample_rate)
        self._path = None if path is None else Path(path)
        self._trials = plan_trials(
            self._names, sentences, n_repeats=n_repeats, with_x=test == "ABX", seed=seed, listener=listener
        )
        self._kept: list[Answer] = []
        self._answered = False
        self._sounds: tuple[FloatArray, ...] | None = None
        done = {each.trial for each in self.answers if self._is_own(each)}
        self._waiting = [trial for trial in self._trials if trial.number not in done]
        self._begun_s = time.monotonic()

    @property
    def trial(self) -> Trial | None:
        """The trial that is to be answered, with what no page knows; None when all are over."""
        return self._waiting[0] if self._waiting else None

    @property
    def answers(self) -> list[Answer]:
        """All answers to this test, those of other listeners in the file among them."""
        if self._path is None:
            return list(self._kept)
        found = read_answers(self._path)
        for number, each in enumerate(found, 2):
            self._check(each, f"{self._path}, row {number}")
        return found

    def play(self) -> dict[str, FloatArray]:
        """Return the trial's sounds by what a listener calls them, float32 (n_samples,), at one loudness.

        A `StreamStateError` if all trials are over.
        """
        trial = self._current()
        if self._sounds is None:
            spoken = [self._speak(name, trial.sentence) for name in (trial.a, trial.b)]
            self._sounds, self._gains_db = match_levels(spoken, sample_rate=self._rate)
        sides = dict(zip(("A", "B"), self._sounds, strict=True))
        return sides if trial.x is None else sides | {"X": sides[trial.x]}

    def answer(self, choice: Choice) -> Answer:
        """Answer the trial, and keep that; `next` goes on.

        Parameters
        ----------
        choice : {"A", "B", "none"}
            Which is better, or which one X is; "none", no preference, is for AB tests alone.

        Raises
        ------
        StreamStateError
            If the trial is answered already, or all are over.
        """
        if choice not in self._choices():
            raise ParameterError(f"choice={choice!r} must be one of {', '.join(self._choices())}")
        trial = self._current()
        if self._answered:
            raise StreamStateError(f"trial {trial.number} is answered: next() goes on")
        seconds = time.monotonic() - self._begun_s
        self.play()  # of whoever answers without listening the gains are kept as well
        answer = Answer(
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            test=self._test,
            seed=self._seed,
            listener=self._listener,
            trial=trial.number,
            sentence=trial.sentence,
            a=trial.a,
            b=trial.b,
            x=trial.x or "",
            answer=choice,
            result=_result(trial, choice),
            latency_s=round(seconds, 3),
            gain_a_db=round(self._gains_db[0], 3),
            gain_b_db=round(self._gains_db[1], 3),
        )
        # Read again each time: another kernel may have added the answers of another listener.
        self._kept = [*self.answers, answer]
        if self._path is not None:
            write_answers(self._path, self._kept)
        self._answered = True
        return answer

    def next(self) -> None:
        """Go on to the next trial; a `StreamStateError` if this one isn't answered."""
        trial = self._current()
        if not self._answered:
            raise StreamStateError(f"trial {trial.number} must be answered before next()")
        self._waiting.pop(0)
        self._answered, self._sounds = False, None
        self._begun_s = time.monotonic()

    def summary(self) -> Tally:
        """Count all answers: share, exact interval, p-value."""
        first, second = self._names
        count = tally_right if self._test == "ABX" else tally_preference
        return count(self.answers, first, second)

    def figure(self) -> Figure:
        """Draw the summary."""
        return self.summary().figure()

    def _current(self) -> Trial:
        trial = self.trial
        if trial is None:
            raise StreamStateError(f"all {len(self._trials)} trials are over")
        return trial

    @property
    def _n_answered(self) -> int:
        return len(self._trials) - len(self._waiting) + self._answered

    def _choices(self) -> tuple[str, ...]:
        return ("A", "B") if self._test == "ABX" else get_args(Choice)

    def _speak(self, name: str, sentence: str) -> AnyArray:
        system = self._systems[name]
        if isinstance(system, TTS):
            return system.synthesize(sentence, seed=self._seed)
        return system(sentence)

    def _is_own(self, answer: Answer) -> bool:
        return (answer.seed, answer.listener) == (self._seed, self._listener)

    def _check(self, answer: Answer, where: str) -> None:
        """Raise a `ParameterError` if an answer that was found isn't one to this test."""
        if answer.test != self._test or {answer.a, answer.b} != set(self._names):
            raise ParameterError(
                f"{where}: an {answer.test} test of {answer.a} and {answer.b} is another test than "
                f"{self._test} of {' and '.join(self._names)}: give it a file of its own"
            )
        if self._is_own(answer):
            planned = next((trial for trial in self._trials if trial.number == answer.trial), None)
            if planned is None or _asked(planned) != (answer.sentence, answer.a, answer.b, answer.x):
                raise ParameterError(
                    f"{where}: trial {answer.trial} of {self._listener} was another one: with other "
                    "sentences or another number of repeats, give another seed or file"
                )


def _rate_of(systems: Mapping[str, System], sample_rate: int | None) -> int:
    rates = {name: each.get_sampling_rate() for name, each in systems.items() if isinstance(each, TTS)}
    if sample_rate is None and not rates:
        raise ParameterError("sample_rate=None must be given where no system is a TTS")
    rate = next(iter(rates.values())) if sample_rate is None else sample_rate
    wrong = [f"{name} has {other} Hz" for name, other in rates.items() if other != rate]
    if wrong:
        raise ParameterError(f"{', '.join(wrong)}: must be the {rate} Hz of the test")
    if not 3000 <= rate <= 384000:
        raise ParameterError(f"sample_rate={rate} must be in [3000, 384000] for a page to play it")
    return rate


def _asked(trial: Trial) -> tuple[str, str, str, str]:
    return trial.sentence, trial.a, trial.b, trial.x or ""


def _result(trial: Trial, choice: Choice) -> str:
    if trial.x is not None:
        return "right" if choice == trial.x else "wrong"
    return {"A": trial.a, "B": trial.b, "none": ""}[choice]
