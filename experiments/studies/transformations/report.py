"""The report on random transformations, from the lines of transformations.jsonl alone: what its template needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments.harness.page import Page, page_of, run_facts, write_page
from experiments.harness.records import ABOUT, Row, part_of, read_rows
from experiments.studies.transformations import attacks_report, instahide_report, picture, tables_report
from experiments.studies.transformations import protocols_report as protocols
from mpc_appraisal.common.roles import ASSUMPTION, ROLES
from mpc_appraisal.mpc.backends.rtas_notice import LEAKAGE as RTAS
from mpc_appraisal.transformations.instahide import LEAKAGE as INSTAHIDE

KEYS = {
    "about": ABOUT | {"size", "sizes", "missing"},
    "protocol": {"kind", "protocol", "seconds", "mb"},
    "table": {"kind", "system"},
    "attack": attacks_report.KEYS,
    "instahide": {"data"},
}


def render(folder: Path) -> Page:
    """Write transformations.md, transformations.html and the figures beside transformations.jsonl."""
    page, figures = page_and_figures(*read_rows(folder / "transformations.jsonl", KEYS))
    write_page(page, figures, folder, "transformations")
    return page


def page_and_figures(about: Row, rows: Sequence[Row]) -> tuple[Page, dict[str, Figure]]:
    parts = {part: [row for row in rows if part_of(row) == part] for part in KEYS if part != "about"}
    every, hidden, attacks = protocols.protocols(rows), parts["instahide"], parts["attack"]
    shown = picture.drawing(every)
    figures = {"transformations-protocols": shown} if shown else {}
    figures |= {"transformations-training-batch": tables_report.drawing(parts["table"])} if parts["table"] else {}
    figures |= attacks_report.drawings(attacks) | instahide_report.drawings(hidden)
    facts = run_facts(about, {"threads": "one a party", **about["sizes"]}, "transformations")
    page = page_of(
        "studies/transformations/report.md.jinja", figures, about=about, parts=parts, every=every, facts=facts,
        by={p.key: p for p in every}, compared=protocols.compared(rows), attacks=attacks, ROLES=ROLES, TRUST=ASSUMPTION,
        one=next(iter(protocols.appraised(rows, protocols.CLEAR, protocols.METHOD)), None), RTAS=RTAS,
        theorems=attacks_report.theorems(attacks), grouped=instahide_report.grouped(hidden), INSTAHIDE=INSTAHIDE,
        hide={name: instahide_report.of(hidden, name) for name in instahide_report.PARTS},
        table=tables_report.context(parts["table"]), MODELS=tables_report.MODELS,
    )  # fmt: skip
    return page, figures
