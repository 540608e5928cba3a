"""`appraise` in the clear: the model owner's own work is done once, and again only for what the records lack."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import oracles
import pytest
import torch

from mpc_appraisal import Dataset, appraise
from mpc_appraisal.appraisal import api, sessions
from mpc_appraisal.appraisal.sessions import Plain
from mpc_appraisal.methods import GradientNorm, Influence, plaintext
from mpc_appraisal.models.training import fit

torch.set_num_threads(1)
L2 = 1e-2


def data(n: int, seed: int) -> Dataset:
    return Dataset(*oracles.problem(n, 4, 3, seed, 0.1), 3, f"seed {seed}")


TRAIN, TEST, OWN = data(60, 1), data(40, 2), {"a": data(20, 3), "b": data(25, 4)}
METHODS = (Influence(), GradientNorm())


@pytest.fixture
def work(monkeypatch) -> Counter:
    """Count fits, under "fit", and preparations of each method, under its name."""
    found: Counter = Counter()

    def counted(own, plan, classes, methods=None, prepare=api.prepare):
        found.update(["fit", *(method.name for method in (plan.methods if methods is None else methods))])
        return prepare(own, plan, classes, methods)

    for module in (api, sessions):
        monkeypatch.setattr(module, "prepare", counted)
    return found


class Forgetful(Plain):
    """A plain session whose records of influence lack their plaintext value, as those of private sessions do."""

    def run(self, plan, buyer, seller, emit):
        found = super().run(plan, buyer, seller, emit)
        return [replace(one, plaintext_value=None) if one.method == "influence" else one for one in found]


def appraised(session, **stated) -> dict:
    result = appraise(OWN, train=TRAIN, test=TEST, method=METHODS, session=session, l2=L2, **stated)
    return {(one.method, one.candidate): one for one in result if not one.baseline}


def test_records_that_hold_their_plaintext_values_need_no_further_preparation(work):
    records = appraised("plain")
    assert work == {"fit": 1, "influence": 1, "gradient_norm": 1}
    model = fit(TRAIN, L2)
    for method in METHODS:
        for name, rows in OWN.items():
            value, _ = plaintext(method, model, TRAIN, TEST, rows)
            record = records[method.name, name]
            assert record.value == record.plaintext_value == value and record.difference == 0


def test_only_methods_whose_plaintext_values_are_missing_are_prepared_again(work):
    records = appraised(Forgetful())
    assert work == {"fit": 2, "influence": 2, "gradient_norm": 1}
    assert all(one.plaintext_value == one.value for one in records.values())


def test_retraining_and_baselines_take_a_fit_and_no_method(work):
    plain, retrained = appraised("plain"), appraised("plain", true_utility=True, baselines=["leave_one_out"])
    assert work == {"fit": 3, "influence": 2, "gradient_norm": 2}
    assert all(one.utility is None for one in plain.values())
    assert all(one.utility is not None and one.value == plain[key].value for key, one in retrained.items())


def test_features_far_larger_than_others_are_a_warning_at_the_line_of_the_caller():
    large = replace(TRAIN, x=TRAIN.x * torch.tensor([1.0, 1.0, 50.0, 1.0]))
    with pytest.warns(UserWarning, match="1 of 4 features are far larger than others: feature 2 ") as found:
        appraise(OWN, train=large, test=TEST, method=GradientNorm(), session="plain", l2=1.0)
    assert [Path(each.filename).name for each in found] == [Path(__file__).name]
