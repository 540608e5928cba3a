"""InstaHide as a protocol of the app: which images are private, accuracies that are known beforehand, and refusals.

Oracles: data whose classes nobody can mistake, with right and with wrong labels; scikit-learn's network on the same
rows; and numbers that are counted from the settings. Keys come from the operating system, so that accuracies by the
protocol vary; their bounds are ten deviations of repeated runs away.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.neural_network import MLPClassifier

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, Digits
from mpc_appraisal.mpc.backends.settings import PlainSettings, SpawnSettings
from mpc_appraisal.transformations import InstaHideCross, InstaHideInside
from mpc_appraisal.transformations.instahide_images import drawn, pixels, rightly
from mpc_appraisal.transformations.strategy import LearningData

KINDS = [InstaHideCross, InstaHideInside]
SPAWN, PLAIN = SimpleNamespace(name="spawn"), SimpleNamespace(name="plain")


def patterns(rows: int, seed: int, classes: int = 4, shift: int = 0) -> Dataset:
    """Return rows of 64 pixels near one of four patterns far apart; `shift` makes every label wrong."""
    own, centres = np.random.default_rng(seed), np.random.default_rng(99).normal(size=(classes, 64))
    y = own.integers(classes, size=rows)
    x = centres[y] + 0.05 * own.normal(size=(rows, 64))
    return Dataset.of(x, (y + shift) % classes, classes, "patterns")


def quiet(event) -> None:
    pass


@pytest.fixture(scope="module")
def digits():
    return LearningData(*Digits().load(), 3)


def texts(x: torch.Tensor) -> Counter:
    return Counter(row.numpy().tobytes() for row in x)


def test_every_row_is_private_or_left_over_and_public_or_tested(digits):
    images = drawn(digits, 900)
    assert [len(part) for part in (images.private, images.others, images.public, images.tested)] == [900, 397, 250, 250]
    assert texts(torch.cat([images.private, images.others])) == texts(pixels(digits.train))
    assert texts(torch.cat([images.public, images.tested])) == texts(pixels(digits.test))
    again, other = drawn(digits, 900), drawn(replace(digits, seed=4), 900)
    assert torch.equal(images.private, again.private) and torch.equal(images.public, again.public)
    assert not torch.equal(images.private, other.private) and not torch.equal(images.public, other.public)
    whole = drawn(digits, None)
    assert len(whole.private) == 1297 and len(whole.others) == 0


def test_labels_stay_with_their_images(digits):
    images, known = drawn(digits, 50), {}
    for part in (digits.train, digits.test):
        known |= {row.numpy().tobytes(): int(label) for row, label in zip(pixels(part), part.y, strict=True)}
    for x, y in ((images.private, images.y), (images.tested, images.truth)):
        assert [known[row.numpy().tobytes()] for row in x] == y.tolist()
    assert torch.equal(images.labels.argmax(dim=1), images.y) and images.labels.sum() == 50


def test_images_have_mean_zero_and_deviation_one(digits):
    x = pixels(digits.train).double().numpy()
    np.testing.assert_allclose(x.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(axis=1), 1, atol=1e-5)


def test_few_images_are_equally_many_of_each_class(digits):
    images = drawn(digits, 900)
    private, labels = images.few(20)
    assert labels.sum(dim=0).tolist() == [2] * 10 and texts(private) <= texts(images.private)
    assert len(images.few(3)[0]) == 10  # one of each class at least


@pytest.mark.parametrize("kind", KINDS)
def test_classes_that_nobody_mistakes_are_learned_and_wrong_labels_are_never_right(kind):
    protocol = kind(rows=200, epochs=20, rate=0.05)
    data = LearningData(patterns(300, 1), patterns(200, 2), 0)
    found = protocol.run(data, SPAWN, quiet)
    assert found.plain_accuracy == 1.0 and found.accuracy > 0.9
    wrong = protocol.run(replace(data, test=patterns(200, 2, shift=1)), SPAWN, quiet)
    assert wrong.plain_accuracy == 0.0 and wrong.accuracy < 0.1


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_accuracies_on_digits_are_scikit_learns_and_well_above_guessing(digits):
    images = drawn(digits, 900)
    found = InstaHideCross().run(digits, SPAWN, quiet)
    other = MLPClassifier((100,), max_iter=60, random_state=0).fit(images.private.numpy(), images.y.numpy())
    reached = other.score(images.tested.numpy(), images.truth.numpy())
    assert reached > 0.9 and abs(found.plain_accuracy - reached) < 0.05
    assert found.always == max(Counter(images.truth.tolist()).values()) / 250 < 0.2
    assert found.accuracy > 0.6  # 0.86 to 0.93 in repeated runs


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_handed_out_is_counted_from_the_settings(kind):
    data = LearningData(patterns(60, 1), patterns(41, 2), 0)
    found = kind(rows=50, epochs=3, batch=16, count=2).run(data, SPAWN, quiet)
    numbers = [one["numbers"] for one in found.openings]
    assert numbers == [3 * 50 * 64, 3 * 50 * 4, 2 * 21 * 64]
    assert found.cost.bytes_sent == {"data_owner": 4 * sum(numbers)} and found.cost.seconds > 0
    assert (found.trained, found.tested, found.steps) == (50, 21, 3 * 4)
    assert all(one["to"] == ["model_owner"] for one in found.openings) and found.more["public_images"] == 20


def test_a_plain_session_encodes_nothing_for_training():
    data = LearningData(patterns(60, 1), patterns(40, 2), 0)
    found = InstaHideCross(rows=50, epochs=2).run(data, PLAIN, quiet)
    assert found.accuracy is None and found.cost is None and found.openings == ()
    assert set(found.views) == {"encodings", "cross_encodings"}


def test_only_mixtures_with_public_images_have_labels_that_recovery_reads():
    assert InstaHideCross().shows == ("encodings", "cross_encodings") and InstaHideInside().shows == ("encodings",)


def test_rightly_counts_by_hand():
    p = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    assert rightly(p, torch.tensor([0, 1, 0])) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("kind", "settings", "name"),
    [
        (InstaHideCross, {"k": 2}, "k"),
        (InstaHideCross, {"k": 9}, "k"),
        (InstaHideInside, {"k": 1}, "k"),
        (InstaHideCross, {"bound": 0.2}, "bound"),
        (InstaHideInside, {"bound": "high"}, "bound"),
        (InstaHideCross, {"least": 0.9}, "least"),
        (InstaHideCross, {"least": None}, "least"),
        (InstaHideCross, {"rows": 1}, "rows"),
        (InstaHideCross, {"rows": 2.5}, "rows"),
        (InstaHideCross, {"network": "resnet"}, "network"),
        (InstaHideCross, {"epochs": 0}, "epochs"),
        (InstaHideCross, {"batch": 0}, "batch"),
        (InstaHideCross, {"rate": 0}, "rate"),
        (InstaHideCross, {"momentum": 1}, "momentum"),
        (InstaHideCross, {"count": True}, "count"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(kind, settings, name):
    with pytest.raises(InputError) as caught:
        kind(**settings)
    assert caught.value.name == name


def test_data_that_do_not_fit_are_refused_before_anything_is_computed():
    good = LearningData(patterns(60, 1), patterns(40, 2), 0)
    InstaHideCross().check(good)
    narrow = Dataset.of(np.ones((40, 30)), np.arange(40) % 4, 4, "narrow")
    numeric = Dataset(good.train.x, good.train.y.double(), 1, "numeric")
    flat = Dataset.of(np.ones((60, 64)), np.arange(60) % 4, 4, "flat")
    cases = [
        (replace(good, train=narrow, test=narrow), "data: got 30 features"),
        (replace(good, train=numeric), "class labels"),
        (replace(good, test=patterns(15, 2)), "15 test rows; expected 16 or more"),
        (replace(good, train=flat), "60 images of one value in flat"),
    ]
    for data, words in cases:
        with pytest.raises(InputError, match=words):
            InstaHideCross().check(data)
    with pytest.raises(InputError, match=r"^rows: got 3; expected 4 or more"):
        InstaHideInside(rows=3).check(good)


def test_sessions_between_organisations_and_other_engines_are_refused():
    InstaHideCross().check_session(SpawnSettings())
    InstaHideCross().check_session(PlainSettings())
    with pytest.raises(InputError, match=r"session: got join"):
        InstaHideCross().check_session(SimpleNamespace(name="join"))
    for other in (SpawnSettings(engine="stock"), SpawnSettings(engine="rtas")):
        with pytest.raises(InputError, match=r"^engine: "):
            InstaHideCross().check_session(other)
