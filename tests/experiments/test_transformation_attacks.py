"""The study of attacks on random transformations, at its smallest size."""

from __future__ import annotations

import json

from experiments.harness.size import Size
from experiments.studies.transformations import attacks
from experiments.studies.transformations.study import page_and_figures


def test_the_small_experiment_gives_rows_tables_and_figures():
    size = Size("transformations", True, 1)
    rows = json.loads(json.dumps(attacks.measure(size.settings("attacks")), allow_nan=False))
    for row in rows:
        assert row["part"] == "attack" and 0 <= row["chance"] <= row["recovered"] <= 1 and row["meaning"]
        assert 0 <= row["stopped"] <= row["recovered"] and row["stops"] and row["protocol"]
    assert {row["protocol"] for row in rows} >= {"rtas", "rtas-fast", "rtas, float shares"}
    assert len({(row["attack"], row["setting"]) for row in rows}) == len(rows)
    about = {
        "size": "small",
        "sizes": {},
        "missing": [],
        "machine": "m",
        "versions": {},
        "revision": "r",
        "command": "c",
    }
    page, figures = page_and_figures(about, rows)
    main, theorems, precision, run = page.details
    assert run.title == "Run"
    assert len(main.rows) == len(rows) and len(theorems.rows) == 4 and len(precision.rows) == 3
    for table in (main, theorems, precision):
        assert all(len(line) == len(table.header) == len(table.align) for line in table.rows)
    assert len(set(figures) - {"transformations-protocols"}) == 3
