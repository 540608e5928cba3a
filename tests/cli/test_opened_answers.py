"""What a data owner is told of rows that it makes: the noise is that of the release, and a run measures the attack."""

from __future__ import annotations

import math

import pytest
import torch

from mpc_appraisal import Digits, GradientNorm, NoisedRelease, appraise
from mpc_appraisal.appraisal.api import _plan
from mpc_appraisal.appraisal.plan import ModelOwnerInput
from mpc_appraisal.appraisal.preparation import prepare
from mpc_appraisal.cli import attack_views
from mpc_appraisal.cli.config import compose
from mpc_appraisal.cli.opened_answers import answers_of
from mpc_appraisal.cli.run import appraise_config
from mpc_appraisal.data import Dataset

L2 = 1e-2
TRAIN, TEST = Digits().load()
OWN, KNOWN = TRAIN.subset(range(150)), TRAIN.subset(range(150, 300))
NORM = 1.001 * math.sqrt(float(torch.cat([OWN.x, KNOWN.x]).square().sum(1).max()) + 1)


def told(release: NoisedRelease, threshold: float | None = None, rows: Dataset = KNOWN):
    method = (GradientNorm(),)
    plan = _plan(method, L2, 0, release)
    prepared = prepare(ModelOwnerInput(OWN, TEST, threshold=threshold), plan, 10)
    return answers_of(plan, prepared, rows, False), prepared


def copies(count: int) -> Dataset:
    return Dataset(KNOWN.x[:1].expand(count, -1), KNOWN.y[:1].expand(count), 10, "copies")


@pytest.mark.parametrize("count", [100, 5000])
@pytest.mark.parametrize("ceiling", [None, 50.0])
def test_the_noise_is_what_the_record_of_the_same_candidate_states(count, ceiling):
    release = NoisedRelease(row_norm=NORM, epsilon=2.0, ceiling=ceiling)
    view, _ = told(release)
    record = appraise(copies(count), train=OWN, test=TEST, l2=L2, method="gradient_norm", session="plain",
                      release=release)["copies"]  # fmt: skip
    unit = 4.0 ** math.floor(8.5 - math.log2(count * NORM))  # opened = unit f^2, as the method states its scale
    expected = release.sigma * record.release["sensitivity"] / unit
    assert view.noised.deviation(count) == pytest.approx(expected, rel=1e-9)
    assert record.release["deviation"] == pytest.approx(math.sqrt(2) * release.sigma * record.release["sensitivity"])


def test_answers_differ_from_the_squared_norm_by_noise_of_that_deviation():
    view, prepared = told(NoisedRelease(row_norm=NORM))
    one, draws, count = copies(1), 400, 1000
    exact = (count * prepared.plaintext(GradientNorm(), one)[0]) ** 2
    off = torch.tensor([view.noised.answer(one, count) - exact for _ in range(draws)]) / view.noised.deviation(count)
    assert abs(off.mean()) < 6.5 / math.sqrt(draws)  # 6.5 standard errors
    assert abs(off.square().mean() - 1) < 6.5 * math.sqrt(2 / draws) and off.unique().numel() == draws


def test_a_ceiling_limits_the_copies_and_no_ceiling_does_not():
    free, _ = told(NoisedRelease(row_norm=NORM))
    capped, _ = told(NoisedRelease(row_norm=NORM, ceiling=2000.0))
    longest = math.sqrt(2 * (float(KNOWN.x.square().sum(1).max()) + 1))
    assert free.noised.most > 10_000 and capped.noised.most * longest <= 2000 < 10 * capped.noised.most * longest
    assert 1 < free.least < free.noised.most  # one row would need more noise than the ring holds


def test_bits_have_noise_too():
    release = NoisedRelease(row_norm=NORM, what="bit")
    _, prepared = told(NoisedRelease(row_norm=NORM))
    exact = 100 * prepared.plaintext(GradientNorm(), copies(1))[0]
    view, _ = told(release, threshold=exact)
    assert view.bits and view.noised is None
    assert {view.answer(copies(100)) for _ in range(200)} == {True, False}  # each has a chance of a half


@pytest.mark.parametrize("what", ["value", "bit"])
def test_a_run_with_noise_measures_the_extraction(what, tmp_path):
    bit = ["party.threshold=-20"] if what == "bit" else []
    words = ["data=wine", "scenario.labels=[0,1]", "scenario.size=30", "scenario.candidates=2", "session=plain"]
    words += ["appraisal=gradient_norm", "attack=extraction", "release=dp", "release.row_norm=8", "release.epsilon=4"]
    cfg = compose([*words, f"release.what={what}", "baselines.true_utility=false", *bit])
    found = []
    appraise_config(cfg, lambda event: None, tmp_path, attacked=found.append)
    (finding,) = found[0].attacks
    assert ("a value with noise" in finding["setting"]) == (what == "value")
    assert finding["recovered"] > finding["chance"]


def test_attacks_look_at_the_first_rows_of_every_candidate(monkeypatch):
    monkeypatch.setattr(attack_views, "MOST_ROWS", 50)
    parts = [KNOWN.subset(range(start, start + 40)) for start in (0, 40)]
    found = attack_views.rows_of(parts)
    assert torch.equal(found.x, torch.cat([KNOWN.x[:25], KNOWN.x[40:65]])) and found.rows == len(found.y) == 50
    monkeypatch.setattr(attack_views, "MOST_ROWS", 80)
    assert torch.equal(attack_views.rows_of(parts).x, KNOWN.x[:80])
