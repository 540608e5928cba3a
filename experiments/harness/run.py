"""The command line of all studies: `python -m experiments STUDY`, and what a study must provide for it.

A study measures and writes records, and renders its reports from these records alone.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.harness.jobs import Job, finished, run_all
from experiments.harness.page import Page, show
from experiments.harness.parties import machine
from experiments.harness.records import write_rows
from experiments.harness.size import Size
from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.common.provenance import revision, versions

ROOT = Path(__file__).resolve().parents[2]
UNTOLD = {"study", "out", "work", "only", "minutes", "render_only"}  # options that do not change what is measured
PLACES = {"spu_python": "PYTHON", "crypten_source": "DIR"}  # words in place of paths, because records hold no paths


@dataclass(frozen=True)
class Run:
    """One call of the command line: the options, and the folders that follow from them."""

    study: Study
    args: argparse.Namespace
    parser: argparse.ArgumentParser

    @property
    def size(self) -> Size:
        return Size(self.study.name, self.args.small, self.args.seeds or self.study.seeds[not self.args.small])

    @property
    def parts(self) -> Sequence[str]:
        return self.args.only or self.study.parts

    @property
    def out(self) -> Path:
        """The folder of the records and the reports."""
        default = f"outputs/{self.study.name}-small" if self.args.small else f"results/{self.study.name}"
        return self.args.out or ROOT / default

    @property
    def work(self) -> Path:
        """The folder of what is finished already."""
        default = f"{self.study.name}-small" if self.args.small else self.study.name
        return (self.args.work or ROOT / "outputs" / default).resolve()

    @property
    def until(self) -> float | None:
        """The time after which nothing more begins."""
        return None if self.args.minutes is None else time.monotonic() + 60 * self.args.minutes

    def about(self, data: bool | None = None) -> dict[str, Any]:
        """Return where and how the records are made: machine, versions, revision and the command.

        `data` tells whether files of MNIST or CIFAR-10 are read; by default a full run reads them.
        """
        data = not self.args.small if data is None else data
        words = ["OMP_NUM_THREADS=1", *["MPC_APPRAISAL_DATA=DATA"] * data, "python -m experiments", self.study.name]
        for name, value in vars(self.args).items():
            if name not in UNTOLD and value != self.parser.get_default(name):
                given = ",".join(map(str, value)) if isinstance(value, tuple) else value
                words.append(f"--{name.replace('_', '-')}")
                words += [] if given is True else [PLACES.get(name, shlex.quote(str(given)))]
        return {"machine": machine(), "versions": versions(), "revision": revision(), "command": " ".join(words)}


class PartsFailed(AppraisalError):
    """Parts of a study failed. The others were measured, and are rendered before the command ends with this error."""

    def __init__(self, parts: Sequence[str], rest: str):
        super().__init__(f"{', '.join(parts)} failed, as is said above; {rest}")


class Study(ABC):
    """What the command line needs to know of a study. `seeds` are the repetitions of a small and of a full run."""

    name: str
    summary: str
    text: str = ""
    parts: tuple[str, ...]
    seeds: tuple[int, int] = (1, 1)

    def options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options that this study alone has."""

    @abstractmethod
    def measure(self, run: Run) -> None:
        """Measure what is not finished, and write the records into run.out."""

    @abstractmethod
    def render(self, folder: Path) -> list[Page]:
        """Write the reports beside the records of `folder`. InputError names what is missing or damaged."""


class JobStudy(Study):
    """A study of jobs, whose records are one line about the run and then the rows of all finished jobs."""

    @abstractmethod
    def jobs(self, run: Run) -> Mapping[str, list[Job]]:
        """Return the jobs of each part."""

    @abstractmethod
    def facts(self, size: Size) -> dict[str, str]:
        """Return what is run, in words."""

    def measure(self, run: Run) -> None:
        """Run what is not finished, and write the rows of all that is."""
        jobs = self.jobs(run)
        wanted = [job for part, some in jobs.items() if part in run.parts for job in some]
        run_all(wanted, run.work, run.until, getattr(run.args, "workers", 1))
        rows, missing = finished([job for some in jobs.values() for job in some], run.work)
        about = {"part": "about", "size": run.size.name, "missing": missing, "sizes": self.facts(run.size)}
        write_rows(run.out / f"{self.name}.jsonl", [about | run.about(), *rows])


def positive(text: str) -> int:
    """Parse a whole number that is 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text}; expected 1 or more")
    return int(text)


def listed(parse: Callable[[str], Any] = str) -> Callable[[str], tuple]:
    """Return a parser of values with commas between them."""

    def parsed(text: str) -> tuple:
        return tuple(parse(each) for each in text.split(",") if each)

    return parsed


def some_of(known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """Return a parser of known names with commas between them."""
    names = tuple(known)

    def parsed(text: str) -> tuple[str, ...]:
        given = listed()(text)
        if strange := [each for each in given if each not in names]:
            raise argparse.ArgumentTypeError(f"got {', '.join(strange)}; expected some of {', '.join(names)}")
        return given

    return parsed


def _add_common(parser: argparse.ArgumentParser, study: Study) -> None:
    small, full = (f"outputs/{study.name}-small", f"results/{study.name}")
    parser.add_argument("--small", action="store_true", help="measure scikit-learn's digits, in minutes")
    parser.add_argument("--only", type=some_of(study.parts), metavar="PART[,PART]",
                        help=f"measure these parts alone: {', '.join(study.parts)}")  # fmt: skip
    parser.add_argument("--render-only", action="store_true", help="measure nothing, and render OUT's records again")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"records and reports ({full}; small: {small})")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help=f"finished work (outputs/{study.name}; small: {small})"
    )
    parser.add_argument("--seeds", type=positive, metavar="N",
                        help="repetitions ({1}; small: {0})".format(*study.seeds))  # fmt: skip
    parser.add_argument("--minutes", type=float, help="begin nothing more after this time; the report names the rest")


def main(studies: Iterable[Study], argv: Sequence[str] | None = None) -> None:
    """Run the command line: measure a study, and render and print its reports."""
    parser = argparse.ArgumentParser(prog="python -m experiments", description="Measure a study and render its report.")
    commands = parser.add_subparsers(dest="study", metavar="STUDY", required=True)
    known, parsers = {study.name: study for study in studies}, {}
    for name, study in known.items():
        style = argparse.RawDescriptionHelpFormatter
        parsers[name] = commands.add_parser(name, help=study.summary, description=study.text, formatter_class=style)
        _add_common(parsers[name], study)
        study.options(parsers[name])
    commands.add_parser("list", help="list the studies and their parts")
    args = parser.parse_args(argv)
    if args.study == "list":
        for name, study in known.items():
            print(f"{name}: {study.summary}\n  parts: {', '.join(study.parts)}")
        return
    run, failed = Run(known[args.study], args, parsers[args.study]), None
    try:
        if not args.render_only:
            failed = _measure(run)
        pages = run.study.render(run.out)
    except AppraisalError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    for page in pages:
        show(page)
    if failed:
        print(f"error: {failed}", file=sys.stderr)
        sys.exit(1)


def _measure(run: Run) -> PartsFailed | None:
    """Measure the study, and return the error if some of its parts failed."""
    try:
        run.study.measure(run)
    except PartsFailed as failed:
        return failed
    return None


def reads_data() -> bool:
    """Return whether a folder with MNIST and CIFAR-10 is named."""
    return bool(os.environ.get("MPC_APPRAISAL_DATA"))
