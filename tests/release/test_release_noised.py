"""Noised values and bits, between processes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch
from processes import DATA_OWNER, MODEL_OWNER
from test_crypten_adapter import one_party_at_a_time  # noqa: F401  both owners in one process, though CrypTen has globals
from test_release import (
    CANDIDATES,
    FAR_OFF,
    FINE,
    L2,
    OPENS,
    PRIVATE,
    SIGMA,
    SIGNS,
    SIZES,
    TEST,
    TRAIN,
    TUNED,
    TWO,
    Asked,
    C,
    D,
    R,
    launched,
    listed,
    off,
    truth,
)

from mpc_appraisal import appraise
from mpc_appraisal.appraisal.norms import published_norms
from mpc_appraisal.appraisal.plan import DataOwnerInput
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.data import Dataset
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.protocols.checks import NORM_CHECK_WHAT
from mpc_appraisal.release import Mechanism, Value, epsilon
from mpc_appraisal.release.bit import WHAT as BIT
from mpc_appraisal.release.dp.release import NOISED

# ---- with noise, between processes

OTHERS = tuple(Dataset(1000 * c.x.flip(0) + 7, torch.zeros_like(c.y), C, c.name) for c in CANDIDATES.values())


def norm_check_of(name: str) -> list[tuple[str, list[str], int]]:
    """The check that is opened with the first candidate of each method: the norms that were announced are true."""
    return [(NORM_CHECK_WHAT, list(OWNERS), 1)] if name == next(iter(CANDIDATES)) else []


def around(name: str, sign: int) -> dict[str, float]:
    return {m.name: (v := truth(R)[m.name, name]) + sign * 5 * off(m.name, v) for m in TWO}


NOISED_BITS = {(side, name): around(name, sign) for name in ("small", "large") for side, sign in SIGNS.items()}


@pytest.fixture(scope="module")
def noised():
    asked = {"value": Asked(PRIVATE, TWO), "to one": Asked(replace(PRIVATE, to=DATA_OWNER), TWO)}
    asked |= {"tuned": Asked(FINE, TUNED), "off the bound": Asked(FINE, FAR_OFF)}
    asked["other data"] = Asked(PRIVATE, TWO, candidates=OTHERS)
    bit = replace(PRIVATE, what="bit")
    asked |= {key: Asked(bit, TWO, threshold=t) for key, t in NOISED_BITS.items()}
    return launched(asked)


def test_a_noised_value_is_that_of_clipped_rows_and_its_noise_is_stated(noised):
    for records in noised["value"].values():
        for (method, name), record in records.items():
            value, published = truth(R)[method, name], record.release
            deviation = (published["high"] - published["low"]) / (2 * 1.96)
            assert published["low"] <= record.value <= published["high"]
            assert abs(record.value - value) < off(method, value) + 7 * deviation < abs(truth()[method, name] - value)
            assert listed(record) == [*norm_check_of(name), (NOISED + OPENS[method], list(OWNERS), 1)]
            assert published["deviation"] == pytest.approx(
                math.sqrt(2) * published["sigma"] * published["sensitivity"], rel=1e-12
            )
            assert published["sigma"] == SIGMA and record.failure_probability == 0.0
            assert published["epsilon"] == pytest.approx(epsilon([Mechanism("gaussian", sigma=SIGMA)], 1e-6), rel=0.1)
    both = [{key: r.value for key, r in records.items()} for records in noised["value"].values()]
    assert both[0] == both[1]


def test_the_stated_sensitivities_are_about_those_of_real_numbers(noised):
    theta = fit(TRAIN, l2=L2).theta
    mean = torch.autograd.functional.jacobian(lambda t: oracles.loss(t, TEST.x, TEST.y), theta)
    direction = np.linalg.solve(oracles.hessian(theta, TRAIN.x, TRAIN.y, L2), mean.reshape(-1)).reshape(D + 1, C)
    widest = max(np.linalg.norm(direction[:, i] - direction[:, j]) for i in range(C) for j in range(C))
    for (method, name), record in noised["value"][MODEL_OWNER].items():
        rows, published = SIZES[name][0], record.release["sensitivity"]
        if method == "influence":
            assert 2 * R * widest < published < 1.2 * 2 * R * widest  # D is announced rounded up to four bits
        else:
            scale = 2.0 ** math.floor(math.log2(2**8.5 / (rows * R)))
            assert 1 < published / (8 * (rows - 1) * scale**2 * R**2) < 1.05


def test_a_noised_value_to_one_owner(noised):
    for role, records in noised["to one"].items():
        for (method, name), record in records.items():
            assert listed(record) == [*norm_check_of(name), (NOISED + OPENS[method], [DATA_OWNER], 1)]
            if role == DATA_OWNER:
                assert abs(record.value - truth(R)[method, name]) < 5 * off(method, record.value)
            else:
                assert record.value is record.paper_value is record.release["low"] is record.release["high"] is None


@pytest.mark.parametrize("key", list(NOISED_BITS))
def test_a_noised_bit(noised, key):
    for records in noised[key].values():
        for (method, name), record in records.items():
            assert record.release["decision"] is (truth(R)[method, name] >= NOISED_BITS[key][method])
            assert listed(record) == [*norm_check_of(name), (BIT, list(OWNERS), 1)] and record.value is None
            assert record.release["sensitivity"] > 0 and record.release["epsilon"] > 0
    decisions = {r.release["decision"] for (_, name), r in noised[key][MODEL_OWNER].items() if name == key[1]}
    assert decisions == {key[0] == "below"}


def test_a_plain_session_with_noise():
    own = {"train": TRAIN, "test": TEST, "method": TWO, "session": "plain"}
    for record in appraise(CANDIDATES, release=PRIVATE, **own):
        assert abs(record.value - truth(R)[record.method, record.candidate]) < 5 * off(record.method, record.value)
        assert record.release["low"] <= record.value <= record.release["high"] and record.release["sigma"] == SIGMA
    for (side, name), t in NOISED_BITS.items():
        for record in appraise(CANDIDATES, release=replace(PRIVATE, what="bit"), threshold=t, **own):
            assert record.release["decision"] is (truth(R)[record.method, record.candidate] >= t[record.method])
            assert record.candidate != name or record.release["decision"] is (side == "below")


def test_private_finetuning_opens_one_number_and_none_of_weights_that_left_the_bound(noised):
    for key, lr in (("tuned", 1.0), ("off the bound", 40.0)):
        for (method, name), record in noised[key][DATA_OWNER].items():
            assert listed(record) == [(NOISED + OPENS[method], list(OWNERS), 1)]
            deviation = record.release["deviation"] / TEST.rows
            value = truth(R, lr)[method, name] if lr == 1.0 else 0.0
            assert abs(record.value - value) < off(method, value) + 7 * deviation
            assert record.release["sensitivity"] == 2 * FINE.ceiling * TEST.rows
    assert min(abs(truth(R, 40.0)["finetuning", name]) for name in CANDIDATES) > 0.2


def test_what_is_announced_before_does_not_depend_on_the_rows(noised):
    """The request holds what the owners announced, and its digest is the same for very different rows."""
    digests = {key: {r.request["digest"] for r in noised[key][MODEL_OWNER].values()} for key in noised}
    assert len(digests["value"]) == 1 and digests["value"] == digests["other data"]
    notes = {}
    for release in (PRIVATE, Value()):
        plan = replace(Asked(release).plan(), release=release)
        for key, data in (("these", tuple(CANDIDATES.values())), ("others", OTHERS)):
            notes[release.description.kind, key] = published_norms(DATA_OWNER, DataOwnerInput(data), None, {}, plan)
    assert notes["dp", "these"] == notes["dp", "others"] == {"row_norm": R}
    assert notes["value", "these"] != notes["value", "others"]
