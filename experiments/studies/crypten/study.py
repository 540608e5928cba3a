"""What CrypTen programs do over the engine, compared with CrypTen 0.4.1 itself.

`suite` runs CrypTen's own tests that fit two parties: on CrypTen as installed, on CrypTen made importable, and over the
engine. They come from the source distribution of the package index, or from a folder that --crypten-source names. A run
goes on where an earlier one stopped, and takes about an hour on two cores. `steps` trains a CrypTen network on stock
CrypTen and over the engine, with a dealer that is pushed a script or asked, and takes minutes.
`functions` measures CrypTen's approximations and the engine's functions, error and seconds beside each other, and takes
a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments.harness import page
from experiments.harness.page import Page, run_facts
from experiments.harness.plots import BLUE, GREY, blank, plain
from experiments.harness.records import ABOUT, Row, part_of, read_rows, select, write_rows
from experiments.harness.run import Run, Study, some_of
from experiments.studies.crypten import functions, steps, suite
from experiments.studies.crypten.suite_source import ARCHIVE, source_folder
from experiments.studies.crypten.suite_worker import COMPATIBLE, ENGINE, INSTALLED

STEM = "crypten"
KEYS = {"about": ABOUT | {"size"}, "suite": suite.KEYS}
SMALL = ("test_context", "test_optim")
GOAL = 265
WORDS = {INSTALLED: "as installed", COMPATIBLE: "made importable", ENGINE: "over the engine"}


class CryptenStudy(Study):
    name = "crypten"
    summary = "CrypTen's own tests over the engine, and over CrypTen itself"
    text = __doc__
    parts = ("suite", "steps", "functions")
    seeds = (1, 2)  # turns of the steps

    def options(self, parser) -> None:
        parser.add_argument("--crypten-source", type=Path, metavar="DIR", help=f"the unpacked {ARCHIVE}")
        parser.add_argument("--files", type=some_of(suite.FILES), metavar="FILE[,FILE]",
                            help="run these files of CrypTen's tests alone")  # fmt: skip
        parser.add_argument("--sides", type=some_of(suite.SIDES), metavar="SIDE[,SIDE]",
                            help=f"run them on these sides alone: {', '.join(suite.SIDES)}")  # fmt: skip
        parser.add_argument("--cut", type=int, default=0, metavar="N",
                            help="loops of the tests over sizes take N elements at most (default: all)")  # fmt: skip

    def measure(self, run: Run) -> None:
        if "suite" in run.parts:
            self._measure_suite(run)
        if "steps" in run.parts:
            counts = (3, 3) if run.args.small else (15, 3)
            about = {"part": "about", "size": run.size.name} | run.about(data=False)
            rows = [about]
            for found in steps.measure(run.size.seeds, *counts):
                rows += found
                write_rows(run.out / "steps.jsonl", rows)  # What is measured stays, should the rest be interrupted.
        if "functions" in run.parts:
            about = {"part": "about", "size": run.size.name} | run.about(data=False)
            write_rows(
                run.out / "functions.jsonl", [about, *functions.measure(*((20, 1) if run.args.small else (1000, 5)))]
            )

    def _measure_suite(self, run: Run) -> None:
        place = run.out / f"{STEM}.jsonl"
        kept = [row for row in _rows_if_any(place) if part_of(row) not in run.parts]
        source = source_folder(run.args.crypten_source, run.work)
        files = run.args.files or (SMALL if run.args.small else suite.FILES)
        rows = suite.run_suite(
            source, run.work / "suite", run.args.sides or suite.SIDES, files, run.until, run.args.cut
        )
        about = {"part": "about", "size": run.size.name}
        write_rows(place, [about | run.about(data=False), *kept, *rows])

    def render(self, folder: Path) -> list[Page]:
        pages = {f"{STEM}.jsonl": self._suite_page, "steps.jsonl": self._steps_page,
                 "functions.jsonl": self._functions_page}  # fmt: skip
        measured = [make for name, make in pages.items() if (folder / name).is_file()]
        return [make(folder) for make in measured or pages.values()]

    def _steps_page(self, folder: Path) -> Page:
        about, rows = read_rows(folder / "steps.jsonl", {"about": ABOUT | {"size"}, "steps": steps.KEYS})
        near, far = (steps.table(rows, network) for network in (steps.LOOPBACK, steps.FAR))
        facts = {"sessions": f"{max(row['turn'] for row in rows) + 1} turns of each way on one machine, one at a delay"}
        return page.render(
            "studies/crypten/steps.md.jinja", folder, "steps", {"crypten-steps": steps.drawing(near)}, near=near,
            far=far, network=steps.FAR, goals=steps.GOALS, facts=run_facts(about, facts, self.name),
            by={line["way"]: line for line in near}, away={line["way"]: line for line in far}, ahead=steps.AHEAD,
            stock=steps.STOCK, asked=steps.ASKED,
        )  # fmt: skip

    def _functions_page(self, folder: Path) -> Page:
        about, rows = read_rows(folder / "functions.jsonl", {"about": ABOUT | {"size"}, "functions": functions.KEYS})
        lines = functions.table(rows)
        stock, _, ours = ([line["sides"][place] for line in lines] for place in range(3))
        seconds = [sum(row["seconds"] for row in side) for side in (stock, ours)]
        facts = {"sessions": f"{len(functions.SIDES)} sessions of {len(lines)} cases each, on one machine"}
        return page.render(
            "studies/crypten/functions.md.jinja", folder, "functions", {"crypten-functions": functions.drawing(lines)},
            lines=lines, most=max(row["error"] for row in ours), least=min(row["error"] for row in stock),
            worst=max(row["error"] for row in stock), faster=seconds[0] / seconds[1],
            quotient=next(line for line in lines if line["function"] == "a / [n]"),
            facts=run_facts(about, facts, self.name),
        )  # fmt: skip

    def _suite_page(self, folder: Path) -> Page:
        about, rows = read_rows(folder / f"{STEM}.jsonl", KEYS)
        tests = select(rows, part="suite")
        lines, totals = table(tests), {side: suite.totals(select(tests, side=side)) for side in suite.SIDES}
        facts = {"tests": f"those of {ARCHIVE} that fit two parties"}
        return page.render(
            "studies/crypten/report.md.jinja", folder, STEM, {"crypten-suite": drawing(totals)}, lines=lines,
            totals=totals, differing=differing(tests), cut=shortened(tests), goal=GOAL,
            unfinished=[line for line in lines if not finished(line)], words=WORDS,
            facts=run_facts(about, facts, self.name),
        )  # fmt: skip


STUDY = CryptenStudy()


def _rows_if_any(place: Path) -> list[Row]:
    return read_rows(place, KEYS)[1] if place.is_file() else []


def table(rows: Sequence[Row]) -> list[dict]:
    """Return one line for each file of tests: its name, its number of tests, and the outcomes on each side."""
    lines = []
    for file in suite.FILES:
        sides = {side: suite.totals(select(rows, side=side, file=file)) for side in suite.SIDES}
        if any(sum(found.values()) for found in sides.values()):
            tests = max(sum(sides[side].values()) for side in (COMPATIBLE, ENGINE))
            lines.append({"file": file, "tests": tests, **sides})
    return lines


def finished(line: dict) -> bool:
    """Return whether all tests of a file were run on both sides that can run them."""
    return all(sum(line[side].values()) == line["tests"] for side in (COMPATIBLE, ENGINE))


def shortened(rows: Sequence[Row]) -> list[dict]:
    """Return how many tests of each file had their loops cut, on any side, and to how many elements."""
    found = []
    for file in suite.FILES:
        some = [row for row in select(rows, file=file) if row["cut"]]
        if some:
            found.append({"file": file, "tests": len({row["test"] for row in some}), "most": some[0]["cut"]})
    return found


def differing(rows: Sequence[Row]) -> list[dict]:
    """Return each test that does not pass on a side that can run it, with the outcomes and the reasons."""
    found = []
    sides = {side: {(row["file"], row["test"]): row for row in select(rows, side=side)} for side in suite.SIDES}
    for key in sides[COMPATIBLE] | sides[ENGINE]:
        pair = [sides[side].get(key) for side in (COMPATIBLE, ENGINE)]
        if any(row is not None and row["outcome"] != "passed" for row in pair):
            reasons = [f"{WORDS[row['side']]}: {row['reason']}" for row in pair if row and row["outcome"] != "passed"]
            reason = pair[0]["reason"] if pair[0] and pair[1] and len({row["reason"] for row in pair}) == 1 else None
            outcomes = [row["outcome"] if row else page.DASH for row in pair]
            words = (reason or "; ".join(reasons)).replace("|", " ")
            found.append({"file": key[0], "test": key[1], "outcomes": outcomes, "reason": words})
    return found


def drawing(totals: dict[str, dict[str, int]]) -> Figure:
    """Draw how many tests pass on each side."""
    figure = blank(7.0, 2.2)
    axis = figure.subplots()
    sides = list(totals)
    axis.barh(range(len(sides)), [totals[side]["passed"] for side in sides], 0.5,
              color=[BLUE if side == ENGINE else GREY for side in sides])  # fmt: skip
    axis.set_yticks(range(len(sides)), [f"CrypTen\n{WORDS[side]}" for side in sides])
    axis.invert_yaxis()
    axis.set_xlabel("tests of two parties that pass")
    plain(axis, grid="x")
    return figure
