"""Model extraction through gradient-norm appraisals, and what stops it: agreement by number of appraisals and guard.

    python experiments/extraction.py --out DIR [--noise-seeds 3] [--small]

The attack is `mpc_appraisal/attacks/extraction.py`. On scikit-learn's digits (10 classes) and on MNIST's zeros and
ones; the model owner trains on 600 rows, the attacker has 600 others. First without guards on the private protocol with
three processes; then between organisations with the guards that they have by default (`extraction_guards.py`); then by
the plaintext formula under single guards: a minimum number of rows, a cap on appraisals, noise on the opened norm; and
beside it the attacker's own model, trained on its own labelled rows without any appraisal. m noisy appraisals of one
probe are drawn as their mean, of noise sigma / sqrt(m). Writes DIR/extraction.jsonl, and from it alone extraction.md,
.html and a figure (`extraction_page.py`); `--render-only` measures nothing and writes these again; `--small` leaves out
MNIST and the private runs without guards.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bench_common import about, write_lines
from bench_page import Row, show
from extraction_guards import JITTER, ROWS, guards
from extraction_page import KNOWN, L2, SIGMAS, SIZE, render

from mpc_appraisal import appraise
from mpc_appraisal.attacks import extraction as attack
from mpc_appraisal.data import Dataset, Digits, Mnist, with_bias
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import fit
from mpc_appraisal.reporting.table import DASH

REPEATS = (1, 4, 16, 64, 256)


def zeros_and_ones() -> tuple[Dataset, Dataset]:
    parts = [part.subset((part.y < 2).nonzero()[:, 0]) for part in Mnist().load()]
    train, test = (Dataset(part.x, part.y, 2, "MNIST 0/1") for part in parts)
    return train, test


class Measure:
    """One model and what attacks on it give, as rows."""

    def __init__(self, name: str, train: Dataset, test: Dataset, made: dict[str, Any]):
        owners, self.own = (train.subset(torch.arange(start, start + KNOWN)) for start in (0, KNOWN))
        self.train, self.test, self.model = owners, test, fit(owners, L2)
        facts = {"features": train.features, "classes": train.classes, "held_out": test.rows}
        self.about = {"data": name} | facts | {"chance": attack.chance(self.model, test.x)} | made

    def probes(self, **options: Any) -> list[Dataset]:
        return attack.probes(self.train.features, self.train.classes, **({"size": SIZE} | options))

    def values(self, candidates: Sequence[Dataset], session: str = "plain") -> list[float]:
        result = appraise(candidates, model=self.model, method="gradient_norm", session=session, l2=L2)
        return [record.value for record in result]

    def row(self, part: str, appraisals: int, stolen: Sequence[SoftmaxRegression], **facts: Any) -> Row:
        """Medians over `stolen` models."""
        found = {
            "agreement": median(attack.agreement(self.model, each, self.test.x) for each in stolen),
            "probability_error": median(attack.probability_error(self.model, each, self.test.x) for each in stolen),
        }
        rest = {"session": "plain", "directions": "unit", "rows": 1, "sigma": 0.0, "seconds": None, "noise_seeds": 0}
        rest |= {"guard": None, "answered": appraisals, "refusal": None}
        return {"part": part, "appraisals": appraisals} | rest | found | facts | self.about

    def whole(self, session: str, **options: int) -> Row:
        candidates, start = self.probes(**options), time.perf_counter()
        values = self.values(candidates, session)
        seconds = time.perf_counter() - start
        stolen = [attack.recover(values, candidates)]
        facts = {"session": session, "seconds": seconds, "rows": options.get("rows", 1)}
        return self.row("whole", len(candidates), stolen, **facts)

    def capped(self, name: str, count: int) -> Row:
        d = self.train.features
        along = torch.eye(d, dtype=torch.float64)[:count] if name == "unit" else attack.principal(self.own.x, count)
        candidates = self.probes(directions=along)
        stolen = [attack.recover(self.values(candidates), candidates)]
        return self.row("cap", len(candidates), stolen, directions=name)

    def noisy(self, sigma: float, rows: int, repeats: int, seeds: int) -> Row:
        """Noise of sigma * sqrt(2) R on f, the sensitivity of a sum to one row of norm R; probes are that long."""
        longest = with_bias(self.own.x.to(torch.float64)).norm(dim=1).max().item()
        candidates, stolen = self.probes(size=math.sqrt(longest**2 - 1), rows=rows), []
        exact, noise = torch.tensor(self.values(candidates)), sigma * math.sqrt(2 / repeats) * longest
        for seed in range(seeds):
            drawn = torch.randn(len(exact), generator=torch.Generator().manual_seed(seed))
            stolen.append(attack.most_likely((exact + noise * drawn).tolist(), candidates, noise))
        facts = {"sigma": sigma, "rows": rows, "noise_seeds": seeds}
        return self.row("noise", len(candidates) * repeats, stolen, **facts)


def measure(seeds: int, small: bool, made: dict[str, Any]) -> list[Row]:
    digits = Measure("digits", *Digits().load(), made)
    every = [digits] if small else [digits, Measure("MNIST 0/1", *zeros_and_ones(), made)]
    found = [m.whole(s) for s in ("spawn", "plain")[small:] for m in every]
    found += [row for m in every for row in guards(m, seeds, small)]
    found.append(digits.whole("plain", rows=ROWS, jitter=JITTER))
    found += [m.row("own", 0, [fit(m.own, L2)], directions=DASH, rows=0) for m in every]
    found += [digits.capped(n, k) for n in ("unit", "principal") for k in (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)]
    found += [m.capped("principal", k) for m in every[1:] for k in (1, 2, 4, 8, 16, 32)]
    repeats = REPEATS[:1] if small else REPEATS
    return found + [digits.noisy(s, rows, m, seeds) for s in SIGMAS for rows in (1, ROWS) for m in repeats]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for extraction.jsonl and the report")
    parser.add_argument("--render-only", action="store_true", help="the report of an earlier run's extraction.jsonl")
    parser.add_argument("--noise-seeds", type=int, default=3, help="draws of the noise; figures are medians")
    parser.add_argument("--small", action="store_true", help="no MNIST, and no private runs without guards")
    args = parser.parse_args(argv)
    if args.noise_seeds < 1:
        parser.error(f"--noise-seeds: got {args.noise_seeds}; expected 1 or more")
    if not args.render_only:
        made = about("extraction.py", parser, args, True)
        write_lines(args.out / "extraction.jsonl", measure(args.noise_seeds, args.small, made))
    page = render(args.out)
    show([*page.main, *page.details])


if __name__ == "__main__":
    main()
