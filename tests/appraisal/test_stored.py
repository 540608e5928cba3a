"""A candidate that stays in its file: the same values as in memory, whether it is held whole or comes in blocks."""

from __future__ import annotations

import numpy as np
import pytest
from processes import problem, write_npz

from mpc_appraisal import Dataset
from mpc_appraisal.appraisal import program as joint
from mpc_appraisal.appraisal.plan import MethodInput, Plan
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.data import StoredDataset
from mpc_appraisal.methods import Facts, Finetuning, GradientNorm, Influence, plaintext
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.session import PlainSession


@pytest.mark.parametrize("held_rows", [1000, 100])
@pytest.mark.parametrize("method", [GradientNorm(), Influence(), Finetuning(steps=2)], ids=lambda m: m.name)
def test_values_are_those_of_the_rows_in_memory(tmp_path, monkeypatch, method, held_rows):
    monkeypatch.setattr(joint, "HELD_ROWS", held_rows)
    monkeypatch.setattr(joint, "BLOCK_ROWS", 64)
    train, test, rows = (Dataset.of(*problem(n, seed=n), 3) for n in (60, 50, 300))
    path = write_npz(tmp_path / "rows.npz", rows.x.numpy(), rows.y.numpy())
    stored = StoredDataset(path, "label", 3, "rows")
    model = fit(train, 1e-2)
    facts = {"rows": Facts.of(model, train, test, rows)}
    plan = Plan((method,), 1e-2, 0, "", fit=None)
    inputs = {method.name: MethodInput(method.prepare(model, train, test))}
    (result,) = program(PlainSession(), plan, {"rows": stored}, inputs, facts, 16.0, lambda event: None)
    expected, _ = plaintext(method, model, train, test, rows)
    assert np.isclose(method.value(result.outcome.opened, facts["rows"]), expected, rtol=1e-9)
