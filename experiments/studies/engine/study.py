"""The engines side by side: one gradient, whole appraisals, and the influence of one candidate by its rows.

Gradient and appraisals are in engine.jsonl and engine.md, rows in rows.jsonl and rows.md.
"""

from __future__ import annotations

import math
import sys
from argparse import ArgumentParser
from pathlib import Path

import torch

from experiments.harness.page import Page
from experiments.harness.records import write_rows
from experiments.harness.run import Run, Study, listed, positive, reads_data, some_of
from experiments.studies.engine import appraisals, gradient, report, rows
from experiments.studies.engine.parties import Shapes

SMALL_ROWS, FULL_ROWS = (1000, 3000), (10_000, 30_000, 100_000)


class EngineStudy(Study):
    name = "engine"
    summary = "all engines side by side, and what a candidate costs by its number of rows"
    text = __doc__
    parts = ("gradient", "appraisals", "rows")
    seeds = (1, 3)

    def options(self, parser: ArgumentParser) -> None:
        engines = ("fast", "stock", "spu")
        parser.add_argument("--engines", type=some_of(engines), default=engines, help="some of fast, stock, spu")
        parser.add_argument("--spu-python", default=sys.executable, help="the interpreter that has spu, if another one")
        parser.add_argument("--methods", type=some_of(appraisals.METHODS), default=tuple(appraisals.METHODS),
                            help="the methods of whole appraisals")  # fmt: skip
        parser.add_argument("--bound", type=float, help="a bound on centred logits; by default it follows from norms")
        parser.add_argument("--gradient-rows", type=positive, default=5940, help="rows of X in the gradient")
        parser.add_argument("--features", type=positive, default=784, help="features of random rows")
        parser.add_argument("--classes", type=positive, default=10, help="classes in the part `rows`")
        parser.add_argument("--size", type=positive, help="rows of a candidate in the whole appraisals")
        parser.add_argument("--rows", type=listed(lambda text: int(float(text))),
                            help=f"numbers of rows in the part `rows` ({FULL_ROWS}; small: {SMALL_ROWS})")  # fmt: skip

    def measure(self, run: Run) -> None:
        torch.set_num_threads(1)
        if "gradient" in run.parts or "appraisals" in run.parts:
            _measure_engines(run)
        if "rows" in run.parts:
            _measure_rows(run)

    def render(self, folder: Path) -> list[Page]:
        """Render the reports whose records are there, and refuse a folder without any."""
        pages = [rows.render(folder)] if (folder / "rows.jsonl").is_file() else []
        return [report.render(folder), *pages] if (folder / "engine.jsonl").is_file() or not pages else pages


STUDY = EngineStudy()


def _measure_engines(run: Run) -> None:
    args, mnist = run.args, reads_data()
    own, bound, kind = gradient.inputs(args.gradient_rows, args.features, mnist and args.features == 784)
    shapes = Shapes(*own["x"].shape, own["w"].shape[1], args.bound or math.ceil(bound * 4) / 4)
    found = gradient.measure(own, shapes, args, run.size.seeds) if "gradient" in run.parts else []
    methods = args.methods if "appraisals" in run.parts else ()
    found += appraisals.measure(methods, args, mnist, run.size.seeds)
    logits = own["x"].double() @ own["w"]
    given = {
        "data": kind,
        **{name: getattr(shapes, name) for name in ("rows", "features", "classes", "bound")},
        "largest_logit": float((logits - logits.mean(1, keepdim=True)).abs().max()),
        "largest_gradient": float(gradient.reference(own, torch.float64).abs().max()),
    }
    made = {"input": given, **run.about(mnist)}
    write_rows(run.out / "engine.jsonl", [each | made for each in found])


def _measure_rows(run: Run) -> None:
    """Measure each number of rows, and keep what is done if a larger one fails."""
    made, found = run.about(False), []
    for count in run.args.rows or run.size.pick(SMALL_ROWS, FULL_ROWS):
        shape = (count, run.args.features, run.args.classes)
        engine = next((engine for engine in run.args.engines if engine != "spu"), "fast")
        found.append(rows.measure(shape, engine, run.size.seeds) | made)
        write_rows(run.out / "rows.jsonl", found)
        print(f"{count} rows: {found[-1]['seconds']:.2f} s", flush=True)
