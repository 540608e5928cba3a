"""Extraction of the model through gradient-norm values: it works with guards off, and what stops it, and what not."""

from __future__ import annotations

import math

import pytest
import torch

from mpc_appraisal import Dataset, appraise
from mpc_appraisal.appraisal import GradientNorm, plaintext
from mpc_appraisal.attacks import extraction as attack
from mpc_appraisal.data import Digits, with_bias
from mpc_appraisal.errors import InputError
from mpc_appraisal.models import SoftmaxRegression
from mpc_appraisal.training import fit

ROWS, TEST = Digits().load()
TRAIN, OWN = (ROWS.subset(torch.arange(start, start + 600)) for start in (0, 600))  # the model owner's, the attacker's
LONGEST = with_bias(OWN.x.to(torch.float64)).norm(dim=1).max().item()
FAR = math.sqrt(LONGEST**2 - 1)  # probes as long as the longest row


@pytest.fixture(scope="module")
def model() -> SoftmaxRegression:
    return fit(TRAIN, 3e-3)


def small(classes: int, features: int = 4) -> SoftmaxRegression:
    draw = torch.Generator().manual_seed(classes)
    return SoftmaxRegression(torch.randn(features + 1, classes, generator=draw, dtype=torch.float64), 1e-2)


def rows(features: int = 4, count: int = 1000) -> torch.Tensor:
    return torch.randn(count, features, generator=torch.Generator().manual_seed(11), dtype=torch.float64)


def values(model: SoftmaxRegression, candidates: list[Dataset]) -> list[float]:
    return [plaintext(GradientNorm(), model, None, None, candidate)[0] for candidate in candidates]


def noisy(model: SoftmaxRegression, sigma: float, copies: int) -> tuple[list[float], list[Dataset], float]:
    """Values with noise of sigma times the sensitivity of the summed gradient to one row, sqrt(2) R."""
    candidates, noise = attack.probes(64, 10, FAR, rows=copies), sigma * math.sqrt(2) * LONGEST
    drawn = torch.randn(len(candidates), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return (torch.tensor(values(model, candidates)) + noise * drawn).tolist(), candidates, noise


def centred(theta: torch.Tensor) -> torch.Tensor:
    return theta - theta.mean(1, keepdim=True)


def test_650_appraisals_are_the_whole_model_of_digits(model):
    candidates = attack.probes(64, 10)
    stolen = attack.recover(values(model, candidates), candidates)
    assert len(candidates) == attack.appraisals(64, 10) == 650 and {c.rows for c in candidates} == {1}
    assert attack.agreement(model, stolen, TEST.x) == 1.0
    assert torch.allclose(stolen.theta, centred(model.theta), atol=1e-9, rtol=0)


def test_two_classes_take_one_appraisal_a_weight():
    model = small(2, 30)
    candidates = attack.probes(30, 2, size=1.0)
    stolen = attack.recover(values(model, candidates), candidates)
    assert len(candidates) == attack.appraisals(30, 2) == 31
    assert torch.allclose(stolen.theta, centred(model.theta), atol=1e-9, rtol=0)


def test_probabilities_follow_from_norms_of_the_gradient_by_autograd(model):
    """The identity itself, against torch's own gradient instead of the method's formula."""
    x, norms = TEST.x[:1].to(torch.float64), []
    for label in range(10):
        theta = model.theta.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(with_bias(x) @ theta, torch.tensor([label]))
        norms.append(torch.autograd.grad(loss, theta)[0].norm())
    g = (torch.stack(norms) / with_bias(x).norm()).square()
    assert torch.allclose(1 / 10 + (g.mean() - g) / 2, model.logits(x).softmax(1)[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_private_protocol_gives_the_model_away(classes):
    """Three processes: one row each, and 50 near-copies, as a minimum number of rows would ask for; one launch."""
    model = small(classes)
    sets = {n: attack.probes(4, classes, 1.0, rows=n, jitter=0.01 * (n > 1)) for n in (1, 50)}
    every = [c.renamed(f"{n} rows, {c.name}") for n, candidates in sets.items() for c in candidates]
    result = appraise(every, model=model, method="gradient_norm", session="spawn", l2=model.l2)
    assert all(record.session == "spawn" and record.openings[-1]["numbers"] == 1 for record in result)
    for n, candidates in sets.items():
        found = [result[f"{n} rows, {c.name}"].value for c in candidates]
        stolen = attack.recover(found, candidates)
        assert attack.agreement(model, stolen, rows()) >= 0.99
        assert attack.probability_error(model, stolen, rows()) <= (2e-3 if n == 1 else 1e-2)


def test_a_minimum_of_rows_stops_nothing(model):
    for jitter in (0.0, 0.05):  # exact copies; rows that all differ
        candidates = attack.probes(64, 10, rows=100, jitter=jitter)
        assert len(candidates[0].x.unique(dim=0)) == (100 if jitter else 1)
        stolen = attack.recover(values(model, candidates), candidates)
        assert attack.agreement(model, stolen, TEST.x) >= 0.99


def test_a_cap_of_20_appraisals_stops_it_and_one_of_130_does_not(model):
    """20 appraisals are x = 0 and one direction, unit or principal: near chance, the most predicted share."""
    assert 0.1 <= attack.chance(model, TEST.x) <= 0.15
    agreements = []
    for along in (torch.eye(64)[:1], attack.principal(OWN.x, 1), attack.principal(OWN.x, 12)):
        candidates = attack.probes(64, 10, directions=along)
        assert len(candidates) in (20, 130)
        stolen = attack.recover(values(model, candidates), candidates)
        agreements.append(attack.agreement(model, stolen, TEST.x))
    assert max(agreements[:2]) <= 0.25 and agreements[2] >= 0.95


@pytest.mark.parametrize("sigma", [1.0, 5.0])
def test_noise_stops_it(model, sigma):
    found, candidates, noise = noisy(model, sigma, copies=1)
    for stolen in (attack.recover(found, candidates), attack.most_likely(found, candidates, noise)):
        assert attack.agreement(model, stolen, TEST.x) <= 0.25


def test_noise_of_one_rows_sensitivity_does_not_stop_copies(model):
    found, candidates, noise = noisy(model, 1.0, copies=100)
    assert attack.agreement(model, attack.most_likely(found, candidates, noise), TEST.x) >= 0.75


def test_repeated_probes_average_noise_out():
    model, errors = small(3), []
    for repeats in (1, 100):
        candidates = attack.probes(4, 3, 1.0, repeats=repeats)
        assert len(candidates) == attack.appraisals(4, 3, repeats)
        drawn = torch.randn(len(candidates), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        found = (torch.tensor(values(model, candidates)) + 0.02 * drawn).tolist()
        errors += [
            attack.probability_error(model, stolen, rows())
            for stolen in (attack.recover(found, candidates), attack.most_likely(found, candidates, 0.02))
        ]
    assert errors[2] < errors[0] / 3 and errors[3] < errors[1] / 3


def test_bad_probes_and_values_are_named():
    candidates = attack.probes(4, 3)
    with pytest.raises(InputError, match="values"):
        attack.recover([1.0], candidates)
    with pytest.raises(InputError, match="all 3 labels"):
        attack.recover([1.0] * 14, candidates[:14])
    with pytest.raises(InputError, match="noise"):
        attack.most_likely([1.0] * 15, candidates, 0.0)
    for wrong, options in (
        ("size", {"size": 0.0}),
        ("rows", {"rows": 0}),
        ("directions", {"directions": torch.eye(3)}),
    ):
        with pytest.raises(InputError, match=wrong):
            attack.probes(4, 3, **options)
