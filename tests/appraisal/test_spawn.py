"""`appraise` with three processes on this machine: values against plaintext, the ledger, the result, own methods."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES, problem

from mpc_appraisal import Dataset, Spawn, appraise
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Digits
from mpc_appraisal.data.scenarios import LabelNoise
from mpc_appraisal.methods import Appraiser, Finetuning, GradientNorm, Influence
from mpc_appraisal.models.training import fit

# |value - plaintext| by engine and method: a part of |plaintext|, and an absolute part.
TOLERANCE = {
    "fast": {
        "gradient_norm": (5e-4, 0.0),
        "influence": (0.0, 2e-4),
        "finetuning": (0.0, 5e-4),
        "label_logit": (1e-3, 1e-3),
        "positive_logits": (1e-3, 1e-3),
    },
    "stock": {
        "gradient_norm": (1e-2, 0.0),
        "influence": (1e-2, 6e-3),
        "finetuning": (0.0, 2e-3),
        "label_logit": (1e-3, 1e-3),
        "positive_logits": (1e-3, 1e-3),
    },
}
MARKET = LabelNoise(train_size=150, candidates=3, size=40, test_size=50).build(*Digits().load(), seed=0)


@dataclass(frozen=True)
class LabelLogit(Appraiser):
    """A method of this file's own, as a user's script may define one: the mean logit of the labels."""

    factor: float = 0.5
    name: ClassVar[str] = "label_logit"
    needs: ClassVar[frozenset[str]] = frozenset()
    opens: ClassVar[str] = "half the sum of the labels' logits"

    def private_shapes(self, facts):
        return {"weights": (facts.features + 1, facts.classes)}

    def prepare(self, model, train, test):
        return {"weights": model.theta}

    def score(self, owned, x, y, facts):
        return (x.matmul(owned["weights"]) * y).sum() * self.factor

    def paper_value(self, opened, facts):
        return opened / facts.rows


@dataclass(frozen=True)
class PositiveLogits(LabelLogit):
    """A method that needs a comparison, which the engine leaves to CrypTen's own protocols."""

    name: ClassVar[str] = "positive_logits"
    opens: ClassVar[str] = "half the sum of the positive logits"

    def score(self, owned, x, y, facts):
        return x.matmul(owned["weights"]).relu().sum() * self.factor


def close(record) -> bool:
    relative, absolute = TOLERANCE[record.engine][record.method]
    return abs(record.value - record.plaintext_value) <= relative * abs(record.plaintext_value) + absolute


EVENTS: list[dict] = []


@pytest.fixture(scope="module")
def result():
    methods = ["gradient_norm", Influence(damping=1e-3), Finetuning(steps=1), LabelLogit(), PositiveLogits()]
    return appraise(
        MARKET.candidates,
        train=MARKET.train,
        test=MARKET.test,
        method=methods,
        session="spawn",
        l2=3e-3,
        seed=5,
        true_utility=True,
        progress=EVENTS.append,
    )


def private(result):
    return [record for record in result if not record.baseline]


def test_private_values_are_the_plaintext_ones(result):
    assert len(private(result)) == 15
    for record in private(result):
        assert close(record), (record.method, record.candidate, record.value, record.plaintext_value)
        assert record.difference == record.value - record.plaintext_value


def test_the_tolerances_tell_candidates_apart(result):
    """A tolerance that the neighbour's value would meet as well proves nothing, so they must be smaller than that."""
    for method in ("gradient_norm", "influence", "label_logit"):
        records = result.of(method)
        for record in records:
            others = [other.plaintext_value for other in records if other is not record]
            assert not all(close(replace(record, plaintext_value=value, difference=None)) for value in others)


def test_plaintext_values_are_those_of_the_plain_session(result):
    methods = ["gradient_norm", Influence(damping=1e-3), Finetuning(steps=1), LabelLogit(), PositiveLogits()]
    plain = appraise(
        MARKET.candidates, train=MARKET.train, test=MARKET.test, method=methods, session="plain", l2=3e-3, seed=5
    )
    for record in private(result):
        theirs = plain[record.method, record.candidate]
        assert record.plaintext_value == pytest.approx(theirs.value, rel=1e-9)
        assert theirs.session == "plain" and not theirs.openings and not theirs.bytes_sent


def test_a_record_opens_one_number_to_both_owners(result):
    for record in private(result):
        (opening,) = record.openings
        assert opening["numbers"] == 1 and opening["to"] == [MODEL_OWNER, DATA_OWNER]
    assert result["influence", "label_noise=1"].openings[0]["what"] == Influence.opens


def test_a_record_says_what_it_cost_and_whence_it_comes(result):
    hashes = {record.config_hash for record in private(result)}
    assert len(hashes) == 1 and len(hashes.pop()) == 16
    for record in private(result):
        assert record.session == "spawn" and record.seed == 5 and record.role == MODEL_OWNER
        assert (record.n, record.features, record.classes) == (40, 64, 10)
        assert {"share", "private", "plaintext"} <= set(record.seconds) and min(record.seconds.values()) >= 0
        assert set(record.bytes_sent) == set(ROLES) and min(record.bytes_sent.values()) > 0 and record.rounds > 0
        assert record.versions["torch"] and record.versions["mpc_appraisal"] and "dealer" in record.trust
    # The candidate goes to the other side masked, eight bytes a number, at least once for all methods.
    ours = [record for record in private(result) if record.candidate == "label_noise=1"]
    sent = sum(record.bytes_sent[DATA_OWNER] + record.bytes_sent[DEALER] for record in ours)
    assert sent >= 40 * 65 * 8


def test_baselines_stand_beside(result):
    assert result.methods == ["gradient_norm", "influence", "finetuning", "label_logit", "positive_logits"] + [
        "retraining",
        "random",
    ]
    for record in result.of("retraining"):
        assert record.value == record.utility and record.session == "plain" and not record.openings
    assert [record.level for record in result.of("influence")] == pytest.approx([1 / 3, 2 / 3, 1])


def test_indexing_frame_and_print(result):
    names = [candidate.name for candidate in MARKET.candidates]
    assert result.candidates == names
    record = result["gradient_norm", names[0]]
    assert record is result[names[0]]["gradient_norm"] and record.candidate == names[0]
    frame = result.to_frame()
    assert len(frame) == len(result) == 21
    assert frame.set_index(["method", "candidate"]).loc[("influence", names[1]), "value"] == (
        result["influence", names[1]].value
    )
    assert all(text in str(result) for text in (*names, "gradient_norm", "label_logit"))
    values = [r.value for r in result.of("influence").sort()]
    assert values == sorted(values, reverse=True)


def test_progress_counts_every_appraisal_once(result):
    ours = [event for event in EVENTS if event.get("method") != "retraining"]
    assert [event["done"] for event in ours] == list(range(1, 16)) and {event["of"] for event in ours} == {15}
    assert {(e["method"], e["candidate"]) for e in ours} == {(r.method, r.candidate) for r in private(result)}


def test_arrays_a_mapping_and_a_trained_model():
    x, y = problem(60, seed=1)
    train = Dataset.of(x, y, 3)
    model = fit(train, 2e-2)
    rows = problem(50, seed=3)
    sets = {
        "tensors": (torch.tensor(rows[0]), torch.tensor(rows[1])),
        "lists": (rows[0].tolist(), rows[1].tolist()),
        "zeros": Dataset.of(np.zeros((5, 4)), np.zeros(5, int), 3),
    }
    result = appraise(sets, model=model, method=GradientNorm(), session=Spawn(join_timeout=240), l2=2e-2)
    assert result.candidates == list(sets) and all(close(record) for record in result)
    assert result["tensors"].plaintext_value == result["lists"].plaintext_value
    assert result["tensors"].n == 50 and result["zeros"].n == 5 and result["tensors"].utility is None


def test_what_the_ring_cannot_hold_is_refused_before_anything_is_shared():
    arrays = {"train": (MARKET.train.x, MARKET.train.y), "test": (MARKET.test.x, MARKET.test.y), "l2": 3e-3}
    x, y = MARKET.candidates[0].data.x, MARKET.candidates[0].data.y
    with pytest.raises(InputError, match=r"^logit_bound: .*norms"):
        appraise((x, y), session=Spawn(logit_bound=2.0), **arrays)
    with pytest.raises(InputError, match="standardise the features"):
        appraise((x * 3000, y), session=Spawn(logit_bound=None), **arrays)
    for name in ("", "a /b"):
        with pytest.raises(InputError, match="name"):
            appraise({name: (x, y)}, **arrays)
