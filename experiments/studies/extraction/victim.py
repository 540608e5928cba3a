"""The model that is attacked, and what an attack on it gives as one row of the records."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch

from experiments.harness.records import Row
from mpc_appraisal import appraise
from mpc_appraisal.attacks import extraction as attack
from mpc_appraisal.data import Dataset, Digits, Mnist
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import fit
from mpc_appraisal.release import Policy

L2, KNOWN = 3e-3, 600  # rows of the model owner's and of the attacker's
SIZE, SIGMAS, JITTER = 2.0, (1.0, 5.0), 0.05  # of probes, and of near-copies of them
CAP, ROWS, MANY = Policy().plain_values, Policy().minimum_rows, 10_000


def zeros_and_ones() -> tuple[Dataset, Dataset]:
    parts = [part.subset((part.y < 2).nonzero()[:, 0]) for part in Mnist().load()]
    train, test = (Dataset(part.x, part.y, 2, "MNIST 0/1") for part in parts)
    return train, test


class Victim:
    """A model of 600 rows. The attacker has 600 other rows, `own`, and `test` are held out from both."""

    def __init__(self, name: str):
        train, test = Digits().load() if name == "digits" else zeros_and_ones()
        owners, self.own = (train.subset(torch.arange(start, start + KNOWN)) for start in (0, KNOWN))
        self.train, self.test, self.model = owners, test, fit(owners, L2)
        facts = {"features": train.features, "classes": train.classes, "held_out": test.rows}
        self.facts = {"data": name} | facts | {"chance": attack.chance(self.model, test.x)}

    def probes(self, **options: Any) -> list[Dataset]:
        return attack.probes(self.train.features, self.train.classes, **({"size": SIZE} | options))

    def values(self, candidates: Sequence[Dataset], session: str = "plain") -> list[float]:
        result = appraise(candidates, model=self.model, method="gradient_norm", session=session, l2=L2)
        return [record.value for record in result]

    def row(self, part: str, appraisals: int, stolen: Sequence[SoftmaxRegression], **facts: Any) -> Row:
        """Return one row: medians over the `stolen` models."""
        found = {key: median(measured(self.model, each, self.test.x) for each in stolen) for key, measured in (
            ("agreement", attack.agreement), ("probability_error", attack.probability_error)
        )}  # fmt: skip
        rest = {"session": "plain", "directions": "unit", "rows": 1, "sigma": 0.0, "seconds": None, "noise_seeds": 0}
        rest |= {"guard": None, "answered": appraisals, "refusal": None}
        return {"part": part, "appraisals": appraisals} | rest | found | facts | self.facts

    def whole(self, session: str, **options: Any) -> Row:
        """Steal the whole model without any control."""
        candidates, start = self.probes(**options), time.perf_counter()
        values = self.values(candidates, session)
        facts = {"session": session, "seconds": time.perf_counter() - start, "rows": options.get("rows", 1)}
        return self.row("whole", len(candidates), [attack.recover(values, candidates)], **facts)

    def capped(self, name: str, count: int) -> Row:
        """Probe `count` directions: those of the features, or the principal ones of the attacker's rows."""
        unit = name == "unit"
        along = torch.eye(self.train.features, dtype=torch.float64)[:count]
        candidates = self.probes(directions=along if unit else attack.principal(self.own.x, count))
        stolen = [attack.recover(self.values(candidates), candidates)]
        return self.row("cap", len(candidates), stolen, directions=name)
