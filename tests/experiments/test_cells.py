"""Table 1's cells of fine-tuning: which sweeps they need, and when a cell counts as near plaintext."""

from __future__ import annotations

from statistics import stdev

import pytest

from experiments.harness.page import environment, sections
from experiments.harness.size import Size
from experiments.studies.appraisal.plan import SweepPlan
from experiments.studies.appraisal.tables import CELL_DRIFT, cells

CLEAR = [0.1, 0.2, 0.4]
SPREAD = stdev(CLEAR)


def row(steps: int, rate: float, off: float | None, seed: int = 0) -> dict:
    """One seed, whose last candidate is off by so many deviations; None stands for a refusal."""
    value = [None] * 3 if off is None else [0.1, 0.2, 0.4 + off * SPREAD]
    found = {"part": "cells", "method": "finetuning", "steps": steps, "lr": rate, "seed": seed, "plaintext": CLEAR}
    return found | {"value": value, "refused": off is None, "share": [0.0] * 3, "private": [1.0, 2.0, 3.0]}


def test_a_cell_has_the_largest_drift_of_its_seeds():
    rows = [row(1, 0.1, 0.002), row(1, 0.1, -0.009, 1), row(2, 10.0, None), row(15, 10.0, 0.5), row(1, 0.001, 0.0)]
    found = cells([*rows, row(1, 0.1, 9.0) | {"part": "table1"}, row(1, 0.1, 9.0) | {"method": "influence"}])
    assert [(cell["steps"], cell["rate"], cell["seeds"]) for cell in found] == [
        (1, 0.001, 1), (1, 0.1, 2), (2, 10.0, 1), (15, 10.0, 1)
    ]  # fmt: skip
    assert [cell["drift"] for cell in found] == [0.0, pytest.approx(0.009), None, pytest.approx(0.5)]
    assert [cell["refused"] for cell in found] == [0, 0, 1, 0] and found[0]["seconds"] == 2.0


def test_the_table_counts_the_cells_within_a_percent():
    rows = [row(1, 0.1, 0.002), row(1, 0.1, None, 1), row(2, 0.1, 0.009), row(15, 0.1, 0.011), row(2, 10.0, None)]
    (table,) = sections("studies/appraisal/cells.md.jinja", "section", cells(rows), CELL_DRIFT)
    assert [cell[3] for cell in table.rows] == ["no", "yes", "no", "no"]  # a refused seed, near, far, all refused
    assert table.rows[0][4] == "1 of 2" and "Within: 1 of 4 cells" in table.notes[-1]
    empty = environment().get_template("studies/appraisal/cells.md.jinja").module.section([], CELL_DRIFT)
    assert not empty.strip()


def test_a_full_run_has_nine_cells_and_a_small_one_none(tmp_path):
    full, small = (
        SweepPlan(Size("appraisal", small, 2).settings("sweeps"), 2, tmp_path).cells for small in (False, True)
    )
    assert small == [] and {(sweep.rate, sweep.name.rpartition("steps")[2]) for sweep in full} == {
        (rate, steps) for rate in (0.001, 0.1, 10.0) for steps in ("1", "2", "15")
    }
    assert {sweep.values for sweep in full} == {(0, 1)} and len({sweep.name for sweep in full}) == 9
