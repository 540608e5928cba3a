"""Model extraction through gradient-norm appraisals, and what stops it: agreement by number of appraisals and control.

The attack is mpc_appraisal's attacks.extraction, on scikit-learn's digits (10 classes) and on MNIST's zeros and ones.
First without controls on the private protocol with three processes; then between organisations with the controls that
they have by default; then by the plaintext formula under single controls: a minimum number of rows, a cap on
appraisals, noise on the opened norm; and beside it the attacker's own model, trained without any appraisal. --small
leaves out MNIST and the private runs without controls. The seeds draw the noise.
"""

from __future__ import annotations

from pathlib import Path

from experiments.harness.jobs import Job, finished, run_all
from experiments.harness.page import Page
from experiments.harness.records import Row, write_rows
from experiments.harness.run import Run, Study
from experiments.harness.size import Size
from experiments.studies.extraction.controls import attack_controls, noisy
from experiments.studies.extraction.report import render
from experiments.studies.extraction.victim import JITTER, L2, ROWS, SIGMAS, Victim
from mpc_appraisal.models.training import fit
from mpc_appraisal.reporting.table import DASH

DIRECTIONS, FEW_DIRECTIONS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64), (1, 2, 4, 8, 16, 32)


class ExtractionStudy(Study):
    name = "extraction"
    summary = "model extraction through appraisals, and which controls stop it"
    text = __doc__
    parts = ("whole", "guards", "own", "cap", "noise")
    seeds = (3, 3)

    def jobs(self, size: Size) -> list[Job]:
        names = size.pick(("digits",), ("digits", "MNIST 0/1"))
        found = [Job("whole", whole, (names, size.small))]
        found += [
            Job(f"guards-{name.replace('/', '')}", attack_controls, (name, size.seeds, size.small)) for name in names
        ]
        found += [Job("padded", padded, ()), Job("own", own, (names,)), Job("cap", capped, (names,))]
        return [*found, Job("noise", noises, (size.pick((1,), (1, 4, 16, 64, 256)), size.seeds))]

    def measure(self, run: Run) -> None:
        jobs = self.jobs(run.size)
        parts = {"padded": "whole"}
        run_all([job for job in jobs if parts.get(job.name, job.name.split("-")[0]) in run.parts], run.work, run.until)
        rows, _ = finished(jobs, run.work)
        made = run.about(data=True)
        write_rows(run.out / "extraction.jsonl", [row | made for row in rows])

    def render(self, folder: Path) -> list[Page]:
        return [render(folder)]


STUDY = ExtractionStudy()


def whole(names: tuple[str, ...], small: bool) -> list[Row]:
    return [Victim(name).whole(session) for session in ("spawn", "plain")[small:] for name in names]


def padded() -> list[Row]:
    """Probe with near-copies, as a minimum number of rows asks for."""
    return [Victim("digits").whole("plain", rows=ROWS, jitter=JITTER)]


def own(names: tuple[str, ...]) -> list[Row]:
    victims = [Victim(name) for name in names]
    return [m.row("own", 0, [fit(m.own, L2)], directions=DASH, rows=0) for m in victims]


def capped(names: tuple[str, ...]) -> list[Row]:
    digits, *others = [Victim(name) for name in names]
    found = [digits.capped(directions, count) for directions in ("unit", "principal") for count in DIRECTIONS]
    return found + [m.capped("principal", count) for m in others for count in FEW_DIRECTIONS]


def noises(repeats: tuple[int, ...], seeds: int) -> list[Row]:
    digits = Victim("digits")
    return [noisy(digits, sigma, rows, many, seeds) for sigma in SIGMAS for rows in (1, ROWS) for many in repeats]
