"""The study of what a cheating seller gains, at its smallest size."""

from __future__ import annotations

import json

import pytest

from experiments.harness.size import Size
from experiments.studies.inflation import names, probe, sellers
from experiments.studies.inflation.sellers import ALL, INSIDER, METHODS, NONE, NOTHING, TRUE, Setting
from experiments.studies.inflation.study import STUDY, page_and_figures
from mpc_appraisal.common.errors import InputError

SIZE = Size("inflation", True, 1)
ABOUT = {"size": "small", "sizes": {"a": "b"}, "missing": [], "machine": "m", "versions": {}, "revision": "r",
         "command": "c"}  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    """The records of both parts, as a file would hold them."""
    probes, listed = SIZE.settings("probe"), SIZE.settings("names")
    found = [row for job in (*probe.jobs(probes, 1), *names.jobs(probes, listed, 1)) for row in job.run(*job.arguments)]
    return json.loads(json.dumps(found, allow_nan=False))


def test_a_market_has_no_row_in_two_places():
    stage = sellers.Stage(Setting.of(SIZE.settings("probe"), "digits"), 0)
    parts = [stage.train, stage.known, stage.pool, stage.clean, *stage.honest]
    every = [tuple(row) for part in parts for row in part.x.tolist()]
    assert len(set(every)) == len(every)
    assert int((stage.bad.y != stage.clean.y).sum()) == round(0.5 * stage.bad.rows) and stage.bad.x.equal(stage.clean.x)
    assert [int((h.y < 0).sum()) for h in stage.honest] == [0, 0] and len(stage.honest) == 2


def test_copies_gain_nothing_and_are_removed_and_crafted_rows_pass(rows):
    found = probe.frame([row for row in rows if row["part"] == "probe"])
    gain = found.set_index(["attack", "guard", "method"]).gain
    assert abs(gain["copies", NONE, "influence"]) < 1e-3 and gain["copies", NONE, "gradient_norm"] < -1
    assert gain["copies", NONE, TRUE] < -0.1  # the truth is that false labels count more
    for method in METHODS:
        assert abs(gain["copies", "no copies", method]) < 1e-2 and abs(gain["near-copies", ALL, method]) < 1e-2
        assert gain[NOTHING, NONE, method] == 0
    for guard in (NONE, ALL):
        assert gain[INSIDER, guard, "influence"] > 2 > gain[INSIDER, guard, TRUE]
    assert gain["near-zero rows", NONE, "gradient_norm"] > 1 and found[found.guard == ALL].gain.isna().any()
    assert (found.fooled == (found.bought & ~found.helps)).all()


def test_several_names_are_paid_more_and_as_one_no_more(rows):
    listed = [row for row in rows if row["part"] == "names"]
    by = {(row["attack"], row["method"]): row for row in listed}
    for name in (names.SPLIT, names.REPEATED):
        influence = by[name, "influence"]
        assert influence["total"] == pytest.approx(2 * influence["whole"], rel=1e-3)
        for method in names.EVERY:
            assert by[name, method]["as_one"] == pytest.approx(by[name, method]["whole"], rel=1e-2, abs=1e-4)
    assert by[names.REPEATED, "shapley"]["total"] > by[names.WHOLE, "shapley"]["total"] > 0
    assert (
        by[names.DECOYS, "shapley"]["paid"] > by[names.WHOLE, "shapley"]["paid"] > by[names.DECOYS, "shapley"]["as_one"]
    )


def test_the_page_has_all_tables_and_both_figures(rows):
    page, figures = page_and_figures(ABOUT, rows)
    assert set(figures) == {"inflation", "inflation-names"} == {name for name, _ in page.figures}
    tables = [table for table in (*page.main, *page.details) if table.rows]
    for table in tables:
        assert all(len(line) == len(table.header) == len(table.align) for line in table.rows), table.title
    attacks = {row["attack"] for row in rows if row["part"] == "probe"}
    assert {line[0] for line in tables[0].rows} == attacks and len(attacks) == 16
    assert set(STUDY.parts) == {"probe", "names"} and len(page.main) == 1 + 2 + 4 + 1
    with pytest.raises(InputError, match="no rows of probe"):
        page_and_figures(ABOUT, [row for row in rows if row["part"] == "names"])
