"""What budgets buy: each search is asked for in turn, and a budget that isn't met is a result."""

from dataclasses import asdict

import pytest

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export.quantize import Budget, BudgetError, Candidate, ParetoFront, Quantized
from balacoon_tk.export.quantize.budgets import sweep_budgets

DROPS = {"fp32": 0.0, "int8": 0.2, "mixed": 0.06}
SPEEDS = {"fp32": 1.0, "int8": 2.2, "mixed": 1.5}


def candidate(name, n_sentences):
    figures = {"wer": 0.02, "dnsmos": 3.3 - DROPS[name], "lsd_db": 8.0}
    figures |= {"wer_increase": 0.0, "dnsmos_drop": DROPS[name]}
    layers = () if name == "fp32" else (name,)
    return Candidate(
        name, layers, SPEEDS[name], SPEEDS[name], 10, 0.3, figures if n_sentences else {}, n_sentences
    )


@pytest.fixture
def searches(monkeypatch):
    """A search that knows what each candidate loses; gives the arguments of each call."""
    calls = []

    def search(voice, out, *, max_dnsmos_drop, **options):
        calls.append({"out": out, "max_dnsmos_drop": max_dnsmos_drop, **options})
        budget = Budget(options["max_wer_increase"], max_dnsmos_drop, options["max_lsd_db"])
        if options["progress"] is not None:
            options["progress"]("judging", 0.5)
        tried = [candidate("fp32", 10)]
        for name in ("int8", "mixed"):
            tried.append(candidate(name, 10))
            if budget.excess(tried[-1].figures) == 0.0:
                tried += [candidate("mixed", 0)] if name == "int8" else []
                return Quantized(out, ParetoFront("joe", budget, tuple(tried), name))
        raise BudgetError(ParetoFront("joe", budget, tuple(tried), None))

    monkeypatch.setattr("balacoon_tk.export.quantize.budgets.quantize_voice", search)
    return calls


BUDGETS = {
    "anything": Budget(None, None),
    "a tenth": Budget(max_dnsmos_drop=0.1),
    "also a tenth": Budget(max_dnsmos_drop=0.11),
    "nothing": Budget(max_dnsmos_drop=0.0),
}


def test_each_budget_has_a_voice_or_a_reason(searches, tmp_path):
    sweep = sweep_budgets("voices/joe", tmp_path / "work", BUDGETS, sentences=["Hello."])
    assert [point.chosen for point in sweep.points] == ["int8", "mixed", "mixed", None]
    assert "nearest is mixed" in sweep.points[-1].message
    assert sweep.points[-1].path is None
    assert list(sweep.voices.items()) == [("int8", searches[0]["out"]), ("mixed", searches[1]["out"])]
    for call, budget in zip(searches, BUDGETS.values(), strict=True):
        assert {name: call[name] for name in asdict(budget)} == asdict(budget)
        assert call["sentences"] == ["Hello."]
    assert len({call["out"] for call in searches}) == len(searches)
    assert len({call["work_folder"] for call in searches}) == 1, "what is measured serves all of them"


def test_the_pareto_front_has_each_candidate_once_as_it_was_judged_best(searches, tmp_path):
    sweep = sweep_budgets("voices/joe", tmp_path, BUDGETS)
    assert [(each.name, each.n_sentences) for each in sweep.pareto_front.candidates] == [
        ("fp32", 10),
        ("int8", 10),
        ("mixed", 10),
    ]
    assert [each.note for each in sweep.pareto_front.candidates] == [
        "",
        "for anything",
        "for a tenth, also a tenth",
    ]
    assert len(sweep.pareto_front.figure().axes[0].texts) == 3


def test_progress_goes_through_all_searches(searches, tmp_path):
    told = []
    sweep_budgets("voices/joe", tmp_path, BUDGETS, progress=lambda what, share: told.append((what, share)))
    assert told == [(f"{name}: judging", (k + 0.5) / 4) for k, name in enumerate(BUDGETS)]


def test_no_budget_and_another_error_are_errors(searches, tmp_path, monkeypatch):
    with pytest.raises(ParameterError, match="budgets must hold at least one budget"):
        sweep_budgets("voices/joe", tmp_path / "none", {})
    assert not (tmp_path / "none").exists()

    def fail(*_, **__):
        raise ModelError("quantized already")

    monkeypatch.setattr("balacoon_tk.export.quantize.budgets.quantize_voice", fail)
    with pytest.raises(ModelError, match="quantized already"):
        sweep_budgets("voices/joe", tmp_path, BUDGETS)
