"""The model that is attacked, and what the attacker gets past each control.

The defaults are attacked on the real protocol, the others by the plaintext formula. A row of the part "guards" is one
attack: `appraisals` were asked for, `answered` of them were told to the attacker, and `refusal` has the model owner's
words to the first that was not.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from experiments.harness.records import Row
from experiments.studies.extraction.parties import Organisations, Outcome
from mpc_appraisal import appraise
from mpc_appraisal.attacks import extraction as attack
from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.data import Dataset, Digits, Mnist, with_bias
from mpc_appraisal.methods import Facts, GradientNorm
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import fit
from mpc_appraisal.release import NoisedRelease, Policy

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


DEFAULTS, ONE_ROW, LABELS = "defaults", "defaults, one row each", "defaults, own model first"
ALONE, BIT, DP = "to the model owner alone", "bit", "dp"


def attack_controls(name: str, seeds: int, small: bool) -> list[Row]:
    """Return the rows of all controls for ten classes, and of the defaults alone for two."""
    m = Victim(name)
    found = defaults(m, "principal")
    if m.train.classes == 2:
        return found
    for directions in () if small else ("unit", "own rows"):
        found += defaults(m, directions)
    found += [bits(m, count, seeds) for count in (CAP, 650)]
    pairs = ((1, ROWS), (CAP, ROWS), (CAP, MANY), (650, ROWS), (650, MANY))
    return found + [noised(m, count, rows, seeds) for count, rows in pairs]


def defaults(m: Victim, name: str) -> list[Row]:
    """Attack through three organisations: with one row each, with near-copies until the ledger refuses, and alone."""
    single, copies = _candidates(m, name)
    with tempfile.TemporaryDirectory() as folder, Organisations(Path(folder), m.model) as organisations:
        one, first, again = (organisations.session(c) for c in (single[:1], copies[:CAP], copies[CAP : CAP + 1]))
        alone = organisations.session(single[:CAP], "release.to=model_owner")
    known = copies[:CAP]
    stolen = attack.most_likely(first.values, known, 1.0) if name == "own rows" else attack.recover(first.values, known)
    led = attack.most_likely(first.values, known, 1.0, 0.1, guess=fit(m.own, m.model.l2))
    nothing = SoftmaxRegression(torch.zeros_like(m.model.theta), 0.0)

    def row(
        guard: str, asked: int, found: Outcome, refused: Outcome | None, model: SoftmaxRegression, rows: int
    ) -> Row:
        if refused and (refused.computed or refused.values):
            raise AppraisalError(f"{guard}: what should have been refused before anything is shared was not")
        answered = sum(value is not None for value in found.values)
        facts = {"guard": guard, "rows": rows, "answered": answered, "refusal": refused and refused.refusal}
        return m.row("guards", asked, [model], session="join", directions=name, **facts)

    return [
        row(ONE_ROW, 1, one, one, nothing, 1),
        row(DEFAULTS, CAP + 1, first, again, stolen, ROWS),
        row(LABELS, CAP + 1, first, again, led, ROWS),
        row(ALONE, len(alone.values), alone, None, nothing, 1),
    ]


def _candidates(m: Victim, name: str) -> tuple[list[Dataset], list[Dataset]]:
    """Return probes of one row, and of near-copies: of so many points as the cap allows, and one more."""
    if name == "own rows":
        return tuple(drawn(m, CAP + 1, rows, 0) for rows in (1, ROWS))
    count = CAP // (m.train.classes if m.train.classes > 2 else 1)
    unit = torch.eye(m.train.features, dtype=torch.float64)[:count]
    along = unit if name == "unit" else attack.principal(m.own.x, count)
    return m.probes(directions=along), m.probes(directions=along, rows=ROWS, jitter=JITTER)


def drawn(m: Victim, count: int, rows: int, seed: int) -> list[Dataset]:
    """Return copies of the attacker's own rows, with labels drawn at random."""
    draw = torch.Generator().manual_seed(seed)
    places = torch.randint(m.own.rows, (count,), generator=draw)
    labels = torch.randint(m.train.classes, (count,), generator=draw)
    return [repeated(m, place, label, rows) for place, label in zip(places.tolist(), labels.tolist(), strict=True)]


def repeated(m: Victim, place: int, label: int, rows: int) -> Dataset:
    """Return `rows` copies of the attacker's row number `place` with any label; they take the memory of one."""
    x = m.own.x[place].to(torch.float64).expand(rows, -1)
    return Dataset(x, torch.tensor(label).expand(rows), m.train.classes, f"row {place}, label {label}")


def bits(m: Victim, count: int, seeds: int) -> Row:
    """Attack by bits about copies of the attacker's own rows with labels drawn at random.

    The threshold is the median of their norms, where bits say most; the attacker is not told it. Numbers of copies that
    bring a norm near to the threshold, chosen by the bits so far, gave 71% to 87% after 650 in a trial: about as much.
    """
    stolen = []
    for seed in range(seeds):
        candidates = drawn(m, count, ROWS, seed)
        norms = norms_of(m, candidates)
        stolen.append(attack.from_bits((norms <= norms.median()).tolist(), candidates))
    return m.row("guards", count, stolen, guard=BIT, rows=ROWS, noise_seeds=seeds, directions="own rows")


def noised(m: Victim, count: int, rows: int, seeds: int) -> Row:
    """Attack release=dp at epsilon 1: the model owner's noise is on the squared norm, the attacker takes its own off.

    The probes are copies of the attacker's own rows with all labels, in turn.
    """
    longest = longest_row(m)
    release, method = NoisedRelease(row_norm=longest), GradientNorm()
    theta = m.model.theta - m.model.theta.mean(1, keepdim=True)
    facts = Facts.of(m.model, None, None, Dataset(m.own.x[:1], m.own.y[:1], m.train.classes, "one"))
    bound = longest * theta.norm(dim=0).max().item()
    facts = replace(facts, rows=rows, row_norm=longest, longest=longest, logit_bound=bound)
    noise = release.sigma * release.sensitivity(method, facts) / method.scale(facts) ** 2  # of f^2
    points = torch.randperm(m.own.rows, generator=torch.Generator().manual_seed(0)).tolist()
    every = [(place, label) for place in points for label in range(m.train.classes)][:count]
    candidates, stolen = [repeated(m, place, label, rows) for place, label in every], []
    exact = norms_of(m, candidates).square()
    for seed in range(seeds):
        errors = noise * torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        stolen.append(attack.most_likely((exact + errors).tolist(), candidates, noise, power=2))
    facts = {"guard": DP, "rows": rows, "noise_seeds": seeds, "sigma": release.sigma}
    return m.row("guards", count, stolen, directions="own rows", **facts)


def noisy(m: Victim, sigma: float, rows: int, repeats: int, seeds: int) -> Row:
    """Attack noise of sigma * sqrt(2) R on f, the sensitivity of a sum to one row of norm R; probes are that long.

    `repeats` appraisals of one probe are drawn as their mean, of noise sigma / sqrt(repeats).
    """
    longest = longest_row(m)
    candidates, stolen = m.probes(size=math.sqrt(longest**2 - 1), rows=rows), []
    exact, noise = torch.tensor(m.values(candidates)), sigma * math.sqrt(2 / repeats) * longest
    for seed in range(seeds):
        errors = torch.randn(len(exact), generator=torch.Generator().manual_seed(seed))
        stolen.append(attack.most_likely((exact + noise * errors).tolist(), candidates, noise))
    return m.row("noise", len(candidates) * repeats, stolen, sigma=sigma, rows=rows, noise_seeds=seeds)


def longest_row(m: Victim) -> float:
    return with_bias(m.own.x.to(torch.float64)).norm(dim=1).max().item()


def norms_of(m: Victim, candidates: Sequence[Dataset]) -> torch.Tensor:
    """Return the norms by the formula: those of exact copies are as many times that of one."""
    single = [Dataset(c.x[:1], c.y[:1], c.classes, f"{k}") for k, c in enumerate(candidates)]
    return -candidates[0].rows * torch.tensor(m.values(single), dtype=torch.float64)
