"""Attacks as choices of the app: each succeeds where its study says so, and is refused where it does not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mpc_appraisal.attacks.measures import (
    EVERY,
    Collusion,
    EquivalentModel,
    EveryAttack,
    FloatDrift,
    Histogram,
    KnownRows,
    Linking,
    Membership,
    NoAttack,
    PixelRecovery,
    above_chance,
    attacks_on,
)
from mpc_appraisal.cli.config import compose, instantiate
from mpc_appraisal.cli.front import options
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, Digits
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.backends.settings import PlainSettings
from mpc_appraisal.transformations import FloatShares, RtasFast, RtasTraining, SharesTraining
from mpc_appraisal.transformations.strategy import VIEWS, LearningData
from mpc_appraisal.transformations.views import CloudView, FloatSharesView, HelperView

DATA = LearningData(*Digits().load(), 0)


def views(protocol) -> dict:
    return protocol.run(DATA, PlainSettings(), lambda event: None).views


@pytest.fixture(scope="module")
def helper() -> HelperView:
    return views(RtasTraining(rows=400))["helper"]


def only(attack, view):
    (found,) = attack.measure(view, 0)
    assert 0 <= found.recovered <= 1 and 0 <= found.chance <= 1
    return found


def test_membership_is_told_by_who_knows_the_model_and_by_nobody_else(helper):
    assert only(Membership(), helper).recovered > 0.95
    other = HelperView("entries", lambda x: helper.logits(x) + 5 * torch.rand(len(x), 10), helper.sights,
                       helper.train, helper.test)  # fmt: skip
    assert abs(only(Membership(), other).recovered - 0.5) < 0.1


def test_rows_that_stay_together_are_linked_and_single_entries_are_not(helper):
    assert only(Linking(rows=100, hidden="rows"), helper).above > 0.9
    assert only(Linking(rows=100), helper).above < 0.2


def test_the_class_mix_shows_where_rows_stay_together(helper):
    rows = HelperView("rows", helper.logits, helper.sights, helper.train, helper.test)
    found = only(Histogram(), rows)
    assert found.recovered > found.chance + 0.1


def test_known_rows_give_the_others_exactly_where_outputs_are_as_many_as_features():
    found = only(KnownRows(known=100), views(RtasFast(network="perceptron", hidden=64, rows=200))["first_layer"])
    assert found.recovered > 0.99 and found.stopped < 0.2
    few = only(KnownRows(known=3), views(RtasFast(rows=200))["first_layer"])
    assert few.recovered < found.recovered


def test_known_images_give_the_filters_with_their_bias():
    found = only(KnownRows(known=10), views(RtasFast(network="cnn", rows=200))["first_layer"])
    assert found.recovered > 0.5 > found.stopped


def test_float_shares_drift_as_the_formula_says_and_ring_shares_do_not():
    view = views(FloatShares(rows=200, epochs=9))["float_shares"]
    found = only(FloatDrift(), view)
    point = next(p for p in found.points if p["sharings"] == 10)
    # the correlation of 50 x 64 pixels has a standard error below 0.02
    assert found.recovered == point["measured"] and abs(point["measured"] - point["expected"]) < 0.12
    assert found.recovered > 0.5 and found.stopped < 0.12
    with pytest.raises(InputError, match="^train: "):
        FloatDrift().measure(
            FloatSharesView(Dataset(torch.ones(4, 3), torch.zeros(4, dtype=torch.int64), 2), 1.0, 5), 0
        )


@pytest.fixture(scope="module")
def cloud() -> CloudView:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 16), generator=generator).numpy()
    turn = torch.linalg.qr(torch.randn(10, 10, generator=generator, dtype=torch.float64))[0]
    model = fit(DATA.train, 1e-2)

    def masked(x):
        return model.logits(x) @ turn

    layer = torch.randint(-9, 10, (16, 16), generator=generator).numpy()
    return CloudView(layer, images, masked, lambda x: model.logits(x).argmax(1), DATA.train, DATA.test)


def test_the_cloud_recovers_images_from_as_many_outputs_as_pixels_and_not_from_a_few(cloud):
    assert only(PixelRecovery(rows=12), cloud).recovered == 1  # the layer has full rank
    few = replace(cloud, layer=cloud.layer[:3])
    assert only(PixelRecovery(rows=12), few).recovered == 0  # random pixels are not sparse


def test_the_cloud_copies_a_network_behind_a_turn_and_not_behind_noise(cloud):
    assert only(EquivalentModel(known=200), cloud).above > 0.7
    blind = replace(cloud, masked=lambda x: torch.rand(len(x), 10, generator=torch.Generator().manual_seed(len(x))))
    assert only(EquivalentModel(known=200), blind).above < 0.2


def test_collusion_recovers_all_and_is_outside_the_assumptions(helper):
    found = only(Collusion(), helper)
    assert found.recovered == 1 and found.chance < 0.05 and not found.assumed
    assert above_chance(0.75, 0.5) == 0.5 and above_chance(0.2, 0.5) == 0 and above_chance(1, 1) == 0


def test_an_attack_that_does_not_fit_is_refused_with_those_that_do():
    protocol = RtasFast()
    with pytest.raises(InputError) as caught:
        attacks_on(Membership(), protocol.name, protocol.shows, EVERY)
    assert str(caught.value) == (
        "attack: got membership; expected one that fits protocol=rtas_fast: none, all, known_rows; "
        "this one fits protocol=rtas, rtas_training or float_shares"
    )
    assert attacks_on(NoAttack(), "x", tuple(VIEWS), EVERY) == []
    assert attacks_on(EveryAttack(), "x", SharesTraining().shows, EVERY) == []
    assert [a.name for a in attacks_on(EveryAttack(), "x", RtasTraining().shows, EVERY)] == [
        "membership", "linking", "histogram", "collusion"
    ]  # fmt: skip
    assert Linking not in map(type, attacks_on(EveryAttack(), "x", RtasTraining(epochs=1).shows, EVERY))


@pytest.mark.parametrize("name", options("attack"))
def test_every_file_makes_its_attack_with_the_defaults_of_its_class(name):
    attack = instantiate(compose([f"attack={name}"]).attack)
    assert attack.name == name and attack == type(attack)()
    assert name in ("none", "all") or type(attack) in EVERY and attack.reads in VIEWS


@pytest.mark.parametrize(
    ("attack", "key", "value"),
    [(Membership, "batch", 1), (Membership, "tolerance", 0), (Linking, "rows", 0), (Linking, "hidden", "order"),
     (Histogram, "turns", 0), (KnownRows, "known", 0), (Collusion, "batch", 1.5),
     (PixelRecovery, "rows", 0), (EquivalentModel, "known", 0), (FloatDrift, "rows", None)],
)  # fmt: skip
def test_a_bad_setting_of_an_attack_is_refused_by_its_key(attack, key, value):
    with pytest.raises(InputError, match=f"^{key}\\b"):
        attack(**{key: value})


def test_half_of_few_rows_are_known_at_most_and_test_rows_have_to_be_others(helper):
    found = only(KnownRows(), views(RtasFast(rows=20))["first_layer"])
    assert found.setting.startswith("10 known rows")
    with pytest.raises(InputError, match="^test: "):
        Membership().measure(replace(helper, test=helper.train), 0)
