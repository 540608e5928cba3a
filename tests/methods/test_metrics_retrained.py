"""Influence by a metric ranks sixteen candidates of real data as the fall of that metric by retraining does.

The means of Spearman's correlation over three seeds were found to be 0.93 to 0.98 on the digits, and 0.73 to 0.97 on
CIFAR's planes and cars, where single seeds fell to 0.51 for auroc and class_weighted.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mpc_appraisal.data import ENVIRONMENT, Cifar10, Dataset, Digits
from mpc_appraisal.methods import Influence, Retraining
from mpc_appraisal.methods.metrics import METRICS
from mpc_appraisal.methods.preflight.study import valuer
from mpc_appraisal.models.training import fit, union
from mpc_appraisal.reporting.metrics import correlations

ROOT = Path(os.environ.get(ENVIRONMENT) or Path(__file__).resolve().parents[3] / "shared" / "data")
L2, OWN, EXACT, SEEDS = 1e-2, f"{__name__}:cost", "exact AUROC", (1, 2, 3)
NAMES = [*METRICS, OWN]
LEAST = {"digits": 0.85, "planes and cars": 0.65}


def cost(predictions, targets):
    """A missed row of class 0 costs five times what another costs."""
    price = torch.where(targets == 0, 5.0, 1.0)
    return (price * (1 - predictions[torch.arange(len(targets)), targets])).mean()


def planes_and_cars(generator: torch.Generator) -> tuple[Dataset, Dataset]:
    """Two classes of CIFAR-10 behind 64 random projections: 1,900 training rows and 600 test rows."""
    if not (ROOT / "cifar10").is_dir():
        pytest.skip(f"no folder cifar10 under {ROOT}: set {ENVIRONMENT} to a folder with cifar10/")
    sets = []
    for data, rows in zip(Cifar10(str(ROOT / "cifar10")).load(), (1_900, 600), strict=True):
        kept = torch.where(data.y < 2)[0]
        kept = kept[torch.randperm(len(kept), generator=generator)[:rows]]
        sets.append(Dataset(data.x[kept].double(), data.y[kept], 2))
    body = torch.randn(sets[0].features, 64, generator=generator, dtype=torch.float64) / sets[0].features ** 0.5
    return tuple(Dataset((data.x - 0.5) @ body, data.y, 2) for data in sets)


def in_groups(data: Dataset, share: float, generator: torch.Generator) -> Dataset:
    """Add a column that is 1 in a share of the rows, whose other columns are then in reverse order: another group."""
    group = torch.rand(data.rows, generator=generator) < share
    x = torch.where(group[:, None], data.x.double().flip(1), data.x.double())
    return Dataset(torch.cat([x, group[:, None].double()], 1), data.y, data.classes)


def market(source: str, seed: int) -> tuple[Dataset, Dataset, list[Dataset]]:
    """Own rows, test rows with few of class 0, and candidates that differ in noise, classes and groups."""
    g = torch.Generator().manual_seed(seed)
    train, test = Digits().load() if source == "digits" else planes_and_cars(g)
    test = test.subset(torch.where((test.y != 0) | (torch.rand(test.rows, generator=g) < 0.25))[0])
    order, rows = torch.randperm(train.rows, generator=g), 60 if source == "digits" else 100
    own, rest, candidates = train.subset(order[:300]), train.subset(order[300:]), []
    for k in range(16):
        mixed = torch.randperm(rest.rows, generator=g)
        zero = rest.y[mixed] == 0
        few = int(rows * (0.1 + k % 4 / 6))  # at least so many rows of class 0, as far as there are
        part = rest.subset(torch.cat([mixed[zero][:few], mixed[~zero]])[:rows])
        part = in_groups(part, (0.05, 0.35, 0.65, 0.95)[(k // 4 + k) % 4], g)
        wrong = torch.rand(rows, generator=g) < (0.0, 0.3, 0.15, 0.45)[k // 4]
        drawn = torch.randint(part.classes, (rows,), generator=g)
        candidates.append(Dataset(part.x, torch.where(wrong, drawn, part.y), part.classes))
    return in_groups(own, 0.25, g), in_groups(test, 0.25, g), candidates


def exact_auroc(model, test: Dataset) -> float:
    p = model.logits(test.x).softmax(1).numpy()
    return float(np.mean([roc_auc_score(test.y == c, p[:, c]) for c in range(test.classes)]))


def run(source: str, seed: int) -> dict[tuple[str, str], float]:
    """Spearman's correlation of the values by each metric with the fall of each metric by retraining."""
    own, test, candidates = market(source, seed)
    model = fit(own, L2)
    after = [fit(union(own, candidate), L2) for candidate in candidates]
    values, falls = {}, {EXACT: [exact_auroc(each, test) - exact_auroc(model, test) for each in after]}
    for name in NAMES:
        method = Influence(metric=name, group=test.features - 1 if name == "worst_group" else None)
        value = valuer(method, model, own, test)
        values[name] = [value(candidate) for candidate in candidates]
        falls[name] = [method.measure.value(model, test) - method.measure.value(each, test) for each in after]
    once = Retraining(own, test, L2, model).value(candidates[3], Influence(metric="auroc").measure)
    assert once == pytest.approx(falls["auroc"][3], abs=1e-9)
    return {(v, f): correlations(values[v], falls[f])["spearman"] for v in values for f in falls}


@pytest.fixture(scope="module", params=LEAST)
def found(request):
    """The mean over three seeds of each correlation, and the source of the data."""
    runs = [run(request.param, seed) for seed in SEEDS]
    return {pair: float(np.mean([one[pair] for one in runs])) for pair in runs[0]}, request.param


@pytest.mark.parametrize("name", NAMES)
def test_influence_by_a_metric_ranks_as_its_fall_by_retraining(name, found):
    agreement, source = found
    assert agreement[name, name] >= LEAST[source]


@pytest.mark.parametrize(("name", "fall", "margin"), [
    ("worst_group", "worst_group", 0.03), ("auroc", "auroc", 0.3), ("auroc", EXACT, 0.3)
])  # fmt: skip
def test_influence_by_the_log_loss_ranks_by_such_a_metric_worse(name, fall, margin, found):
    agreement, _ = found
    assert agreement[name, fall] > agreement["log_loss", fall] + margin
