"""Validation against oracles: subsets, verdicts, and the choice of uniformly distributed rows."""

from __future__ import annotations

import pytest
import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.low_quality import evasive, mislabelled
from mpc_appraisal.marketplace.buying.validation import subsets, uniform, validate, wrong_predictions
from mpc_appraisal.models.networks import Architecture, Dense, initial, train


def test_subsets_are_the_selection_in_its_order():
    selection = torch.tensor([9, 4, 7, 1, 0, 8, 2])
    parts = subsets(selection, 3)
    assert [part.tolist() for part in parts] == [[9, 4, 7], [1, 0, 8], [2]]
    assert [part.tolist() for part in subsets(selection, 7)] == [selection.tolist()]


@pytest.mark.parametrize("granularity", [0, 8, -2, True, 2.5])
def test_bad_granularities_are_refused(granularity):
    with pytest.raises(InputError, match=r"validation\.granularity"):
        subsets(torch.arange(7), granularity)


def predictor(wrong: int, y: torch.Tensor):
    """Make a model that predicts another class than y for the first `wrong` rows."""

    def predict(x: torch.Tensor) -> torch.Tensor:
        found = y.clone()
        found[:wrong] = (found[:wrong] + 1) % 3
        return torch.nn.functional.one_hot(found, 3).double()

    return predict


def test_verdicts_follow_the_rule_and_ties_are_accepted():
    y = torch.arange(20) % 3
    errors = {0: 5, 2: 4, 4: 6}  # by the first row of a subset; before: 5 of 20
    tried = []

    def retrain(rows):
        tried.append(rows.tolist())
        return predictor(errors[int(rows[0])], y)

    found = validate(retrain, torch.arange(6), 2, torch.zeros(20, 1), y, threshold=5 / 20)
    assert tried == [[0, 1], [2, 3], [4, 5]]
    assert [(v.subset, v.rows, v.wrong, v.of) for v in found] == [
        (0, (0, 1), 5, 20),
        (1, (2, 3), 4, 20),
        (2, (4, 5), 6, 20),
    ]
    assert [v.accepted for v in found] == [True, True, False]
    assert [v.error for v in found] == [0.25, 0.2, 0.3]


def test_kept_subsets_stay_and_set_the_threshold():
    y = torch.arange(20) % 3
    tried = []

    def retrain(rows):
        tried.append(rows.tolist())
        return predictor(4 if 9 in rows.tolist() else {2: 3, 3: 2}[len(rows)], y)

    found = validate(retrain, torch.tensor([0, 1, 9, 8, 5]), 2, torch.zeros(20, 1), y, threshold=5 / 20, keep=True)
    # first kept: 3 of 20 becomes the threshold, which the second (4) misses, so that it is not among the third's rows
    assert tried == [[0, 1], [0, 1, 9, 8], [0, 1, 5]]
    assert [v.threshold for v in found] == [0.25, 0.15, 0.15]
    assert [v.accepted for v in found] == [True, False, True]


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan"), "0.1"])
def test_bad_thresholds_are_refused(threshold):
    with pytest.raises(InputError, match=r"validation\.threshold"):
        validate(lambda rows: predictor(0, torch.zeros(2, dtype=torch.int64)), torch.arange(2), 1, torch.zeros(2, 1),
                 torch.zeros(2, dtype=torch.int64), threshold)  # fmt: skip


@pytest.mark.parametrize("scores", [torch.zeros(3), torch.zeros(2, 3), torch.full((3, 2), float("nan"))])
def test_bad_predictions_are_refused(scores):
    with pytest.raises(InputError, match=r"validation\.predictions"):
        wrong_predictions(lambda x: scores, torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))


def test_a_network_accepts_right_labels_and_refuses_wrong_ones():
    architecture = Architecture("tiny", (1, 2, 2), (Dense(8), Dense(3)))
    generator = torch.Generator().manual_seed(0)

    def blobs(n):
        y = torch.arange(n) % 3
        return 0.5 + 0.22 * torch.eye(4)[y] + 0.09 * torch.randn(n, 4, generator=generator), y

    own, offered, held = blobs(12), blobs(300), blobs(600)
    own = tuple(part[own[1] != 2] for part in own)  # the shopper has never seen the third class
    before = train(initial(architecture, 1), *own, epochs=100, lr=0.05, batch_size=4)
    threshold = wrong_predictions(before.logits, *held) / 600
    assert threshold >= 1 / 3
    accepted = {}
    for name, labels in (
        ("good", offered[1]),
        ("mislabelled", mislabelled(offered[1], 3, 0)),
        ("evasive", evasive(before.logits(offered[0]), offered[1])),
    ):

        def retrain(rows, labels=labels):
            x, y = torch.cat([own[0], offered[0][rows]]), torch.cat([own[1], labels[rows]])
            return train(before, x, y, epochs=40, lr=0.05, batch_size=16).logits

        accepted[name] = [v.accepted for v in validate(retrain, torch.arange(300), 100, *held, threshold)]
    assert accepted == {"good": [True] * 3, "mislabelled": [False] * 3, "evasive": [False] * 3}


def test_uniform_rows_are_as_many_of_each_class():
    y = torch.tensor([0] * 50 + [1] * 9 + [2] * 20)
    rows = uniform(y, 24, 3, 0)
    assert len(set(rows.tolist())) == 24 and torch.bincount(y[rows]).tolist() == [8, 8, 8]
    assert torch.equal(rows, uniform(y, 24, 3, 0)) and not torch.equal(rows, uniform(y, 24, 3, 1))
    for size in (30, 10, 0):  # more of class 1 than there are, no multiple of three, and none
        with pytest.raises(InputError, match=r"validation\.size"):
            uniform(y, size, 3, 0)
