"""What the attacker of `extraction.py` gets past each guard: the defaults on the real protocol, the rest by formula.

A row of `guards` below is one attack: `asked` appraisals, of which `answered` were told to it; refusal: the model
owner's words to the first that was not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from extraction_parties import Market, Told

from mpc_appraisal.attacks import extraction as attack
from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods import Facts, GradientNorm
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import fit
from mpc_appraisal.release import Policy, Private

if TYPE_CHECKING:
    from bench_page import Row
    from extraction import Measure

CAP, ROWS, MANY, JITTER = Policy().plain_values, Policy().minimum_rows, 10_000, 0.05
DEFAULTS, ONE_ROW, LABELS = "defaults", "defaults, one row each", "defaults, own model first"
ALONE, BIT, DP = "to the model owner alone", "bit", "dp"


def guards(m: Measure, seeds: int, small: bool) -> list[Row]:
    """Rows of all guards for ten classes, and of the defaults alone for two."""
    found = defaults(m, "principal")
    if m.train.classes == 2:
        return found
    for name in () if small else ("unit", "own rows"):
        found += defaults(m, name)
    found += [bit(m, count, seeds) for count in (CAP, 650)]
    pairs = ((1, ROWS), (CAP, ROWS), (CAP, MANY), (650, ROWS), (650, MANY))
    return found + [noised(m, count, rows, seeds) for count, rows in pairs]


def defaults(m: Measure, name: str) -> list[Row]:
    """Through three processes: one row each; near-copies until the ledger refuses; told to the model owner alone."""
    count = CAP // (m.train.classes if m.train.classes > 2 else 1)  # points that the cap allows, and one more
    if name == "own rows":
        single, copies = (drawn(m, CAP + 1, rows, 0) for rows in (1, ROWS))
    else:
        unit = torch.eye(m.train.features, dtype=torch.float64)[:count]
        along = unit if name == "unit" else attack.principal(m.own.x, count)
        single, copies = m.probes(directions=along), m.probes(directions=along, rows=ROWS, jitter=JITTER)
    with tempfile.TemporaryDirectory() as folder, Market(Path(folder), m.model) as market:
        one, first, again = (market.session(c) for c in (single[:1], copies[:CAP], copies[CAP : CAP + 1]))
        alone = market.session(single[:CAP], "release.to=model_owner")
    known, points = copies[:CAP], name == "own rows"
    stolen = attack.most_likely(first.values, known, 1.0) if points else attack.recover(first.values, known)
    led = attack.most_likely(first.values, known, 1.0, 0.1, guess=fit(m.own, m.model.l2))
    nothing = SoftmaxRegression(torch.zeros_like(m.model.theta), 0.0)
    facts = {"session": "join", "directions": name}

    def row(guard: str, asked: int, told: Told, refused: Told, model: SoftmaxRegression, rows: int) -> Row:
        if refused.computed or refused.values:
            raise AppraisalError(f"{guard}: what should have been refused before anything is shared was not")
        answered = sum(value is not None for value in told.values)
        more = {"guard": guard, "rows": rows, "answered": answered, "refusal": refused.refusal}
        return m.row("guards", asked, [model], **facts | more)

    told = {"guard": ALONE, "rows": 1, "answered": sum(value is not None for value in alone.values)}
    return [
        row(ONE_ROW, 1, one, one, nothing, 1),
        row(DEFAULTS, CAP + 1, first, again, stolen, ROWS),
        row(LABELS, CAP + 1, first, again, led, ROWS),
        m.row("guards", len(alone.values), [nothing], **facts | told),
    ]


def drawn(m: Measure, count: int, rows: int, seed: int) -> list[Dataset]:
    """Copies of the attacker's own rows, with labels drawn at random."""
    draw = torch.Generator().manual_seed(seed)
    places = torch.randint(m.own.rows, (count,), generator=draw)
    labels = torch.randint(m.train.classes, (count,), generator=draw)
    return [repeated(m, place, label, rows) for place, label in zip(places.tolist(), labels.tolist(), strict=True)]


def repeated(m: Measure, place: int, label: int, rows: int) -> Dataset:
    """Own row number `place`, with any label; it takes the memory of one."""
    x = m.own.x[place].to(torch.float64).expand(rows, -1)
    return Dataset(x, torch.tensor(label).expand(rows), m.train.classes, f"row {place}, label {label}")


def bit(m: Measure, count: int, seeds: int) -> Row:
    """Bits about copies of the attacker's own rows with labels drawn at random; threshold: the median of their norms,
    where bits say most, and not told. Numbers of copies that bring a norm near to the threshold, chosen by the bits so
    far, gave 71% to 87% after 650 in a trial: about as much."""
    stolen = []
    for seed in range(seeds):
        candidates = drawn(m, count, ROWS, seed)
        norms = norms_of(m, candidates)
        stolen.append(attack.from_bits((norms <= norms.median()).tolist(), candidates))
    facts = {"guard": BIT, "rows": ROWS, "noise_seeds": seeds, "answered": count, "directions": "own rows"}
    return m.row("guards", count, stolen, **facts)


def noised(m: Measure, count: int, rows: int, seeds: int) -> Row:
    """release=dp at epsilon 1: noise of the model owner on the squared norm; the attacker takes its own off.

    Probes: copies of its own rows with all labels, in turn.
    """
    longest = with_bias(m.own.x.to(torch.float64)).norm(dim=1).max().item()
    release, method = Private(row_norm=longest), GradientNorm()
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
    more: dict[str, Any] = {"guard": DP, "rows": rows, "noise_seeds": seeds, "answered": count}
    return m.row("guards", count, stolen, directions="own rows", sigma=release.sigma, **more)


def norms_of(m: Measure, candidates: Sequence[Dataset]) -> torch.Tensor:
    """By the formula: of exact copies, as many times that of one."""
    single = [Dataset(c.x[:1], c.y[:1], c.classes, f"{k}") for k, c in enumerate(candidates)]
    return -candidates[0].rows * torch.tensor(m.values(single), dtype=torch.float64)
