"""Training and the best candidates between processes whose owners check each other's messages, against plaintext."""

from __future__ import annotations

import pytest
import torch
from processes import problem

from mpc_appraisal import Dataset, appraise
from mpc_appraisal.appraisal.sessions import Spawn
from mpc_appraisal.methods import Diversity, Finetuning, Influence, MlpFinetuning, Relevance
from mpc_appraisal.release import Best

torch.set_num_threads(1)
TRAIN, TEST, *SETS = (
    Dataset.of(*problem(n, seed=k), classes=3, name=name)
    for k, (name, n) in enumerate((("train", 20), ("test", 12), ("a", 15), ("b", 10), ("c", 18)), start=1)
)


def checked(candidates, methods, logit_bound="auto", **options):
    session = Spawn(integrity="on", logit_bound=logit_bound)
    return appraise(candidates, train=TRAIN, test=TEST, method=methods, session=session, **options)


@pytest.mark.parametrize(
    ("methods", "logit_bound"),
    [
        ((Finetuning(steps=2, lr=0.3), Relevance(2), Diversity(2)), "auto"),
        ((Finetuning(steps=2, lr=0.05, batch_size=8), Influence()), None),  # one bit says whether weights kept a bound
        ((MlpFinetuning(hidden=3, steps=1, pretraining=10),), "auto"),
    ],
    ids=["auto", "bound", "perceptron"],
)
def test_values_are_those_in_plaintext_and_cost_what_was_stated(methods, logit_bound):
    records = list(checked(SETS[1], methods, logit_bound))
    assert len(records) == len(methods)
    for record in records:
        assert abs(record.difference) <= record.error_bound
        assert record.estimate["rounds"] == record.rounds
        assert all(record.estimate[f"bytes_sent.{party}"] == sent for party, sent in record.bytes_sent.items())
    assert len(records[0].openings) == (2 if logit_bound is None else 1)


PRICES = {"a": 2.0, "b": 1.0, "c": 1.5}


@pytest.mark.parametrize(
    ("method", "release"),
    [
        (Influence(), Best(2, to="model_owner")),
        (Influence(), Best(3, budget=2.5, prices=PRICES)),
        (Finetuning(steps=1, lr=0.3), Best(2)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_best_are_those_in_plaintext(method, release):
    right = {r.candidate: r.value for r in appraise(SETS, train=TRAIN, test=TEST, method=method, session="plain")}
    left, money, expected = dict(right), 2.5 if release.budget else 1e9, []
    while len(expected) < release.k:
        able = {name: value for name, value in left.items() if PRICES[name] <= money}
        if not able:
            break
        expected.append(max(able, key=able.get))
        money -= PRICES[expected[-1]]
        left.pop(expected[-1])
    won = sorted(
        (r for r in checked(SETS, method, release=release) if r.release["winner"]), key=lambda r: r.release["rank"]
    )
    assert [r.candidate for r in won] == expected
    for record in won:
        assert record.value == pytest.approx(right[record.candidate], abs=record.error_bound)
