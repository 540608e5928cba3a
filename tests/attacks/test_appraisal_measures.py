"""Attacks on appraisals as choices of the app: each against a view of which it is known what is recovered."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mpc_appraisal.attacks.measures import EVERY, Extraction, Inflation, MersenneTwister, attacks_on
from mpc_appraisal.attacks.measures.base import ANSWERS, PROTOCOL, VALUES
from mpc_appraisal.cli.config import compose, instantiate
from mpc_appraisal.cli.front import options
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods import GradientNorm, Influence, plaintext
from mpc_appraisal.models.training import fit
from mpc_appraisal.transformations.strategy import LEFT_BY, VIEWS
from mpc_appraisal.transformations.views import AnswersView, MaskedProductView, NoisedAnswers, OffersView

L2 = 1e-2


@pytest.fixture(scope="module")
def parts(digits):
    train, test = (Dataset(part.x.to(torch.float64), part.y, 10) for part in digits)
    return train.subset(range(200)), train.subset(range(200, 500)), test.subset(range(300))


@pytest.fixture(scope="module")
def answers(parts) -> AnswersView:
    own, known, test = parts
    model = fit(own, L2)
    return AnswersView(lambda data: plaintext(GradientNorm(), model, own, test, data)[0], False, model, known, test)


def only(attack, view):
    (found,) = attack.measure(view, 0)
    assert 0 <= found.recovered <= 1 and 0 <= found.chance <= 1
    return found


def test_values_of_every_direction_give_the_model_and_few_do_not(answers):
    found = only(Extraction(directions=None), answers)
    assert found.setting.startswith("650 answers, each a value")  # (64 + 1) x 10, by the formula of the attack
    assert found.recovered > 0.99 and found.points[0]["probability_error"] < 1e-3 and found.against == ANSWERS
    assert found.stopped < 0.5 and only(Extraction(directions=1), answers).recovered < 0.5


def test_values_that_say_nothing_give_nothing(answers):
    blind = replace(answers, answer=lambda data: -1.0)
    assert only(Extraction(), blind).recovered < 0.3


def test_bits_give_much_of_the_model_whatever_the_threshold(answers):
    for threshold in (-3.0, -60.0):
        told = replace(answers, answer=lambda data, t=threshold: answers.answer(data) >= t, bits=True)
        found = only(Extraction(), told)
        assert found.recovered > found.chance + 0.4 and found.recovered > found.stopped + 0.2


@pytest.fixture(scope="module")
def noised(answers) -> AnswersView:
    """Squared norms with noise of one row's size, (2 ||x'||)^2 at most: n copies have n^2 times the square of one."""
    draw, longest = torch.Generator().manual_seed(5), float(with_bias(answers.known.x).norm(dim=1).max())

    def deviation(copies: int) -> float:
        return 8 * copies * longest**2

    def answer(one: Dataset, copies: int) -> float:
        return (copies * answers.answer(one)) ** 2 + deviation(copies) * float(torch.randn((), generator=draw))

    return replace(answers, noised=NoisedAnswers(answer, deviation, 10_000))


def test_noise_stops_the_attack_for_one_row_and_not_for_many_copies(noised):
    found = only(Extraction(directions=64, copies=50_000), noised)
    assert found.setting == "650 answers, each a value with noise, of 10000 copies of a row"  # 10,000 are admitted
    assert found.recovered > 0.8 and found.stopped < 0.5 and "few rows" in found.stops
    points = {point.get("copies"): point["recovered"] for point in found.points if "copies" in point}
    assert set(points) == {100} and points[100] < found.recovered
    alone = only(Extraction(directions=64, copies=1), noised)
    assert alone.recovered < 0.5 and alone.setting.endswith("of one row")


def test_numbers_of_copies_that_are_refused_are_not_asked(noised):
    few = replace(noised, least=100)
    found = only(Extraction(directions=2, copies=1), few)
    assert found.setting.endswith("of 100 copies of a row") and len(found.points) == 1


def test_fewer_copies_are_asked_where_they_are_stated(noised):
    found = only(Extraction(directions=2, copies=1), noised)
    assert found.setting == "30 answers, each a value with noise, of one row" and len(found.points) == 1


def offers(parts, method, rows=40) -> OffersView:
    own, known, test = parts
    model = fit(own, L2)
    candidates = tuple(known.subset(range(k * rows, (k + 1) * rows)).renamed(f"{k}") for k in range(4))
    valued = {method.name: lambda data: plaintext(method, model, own, test, data)[0]}
    return OffersView(valued, candidates, own, L2)


def test_rows_next_to_nothing_have_the_best_gradient_norm_and_are_refused_where_near_rows_count_once(parts):
    found = only(Inflation(sellers=4), offers(parts, GradientNorm()))
    # each of four in turn: the honest shares are 0, 1/3, 2/3 and 1, whatever the values are
    assert found.chance == pytest.approx(0.5) and found.recovered == 1 and found.against == VALUES
    points = {point["way"]: point for point in found.points}
    assert points["near-zero rows"]["recovered"] == 1 and points["near-zero rows"]["stopped"] == 0
    assert points["copies"]["recovered"] < 0.5  # k copies have k times the norm


def test_copies_change_no_influence_and_crafted_rows_raise_it(parts):
    found = only(Inflation(sellers=4, times=3), offers(parts, Influence()))
    points = {point["way"]: point for point in found.points}
    assert points["copies"]["recovered"] == pytest.approx(found.chance, abs=1 / 6)  # rounding may turn one order round
    assert found.recovered > found.chance


def test_masks_of_torch_give_the_weights_and_masks_of_aes_do_not(answers):
    x, weights = with_bias(answers.known.x[:20]), answers.model.theta
    found = only(MersenneTwister(), MaskedProductView(x, weights))
    assert found.recovered == 1 and found.stopped == 0 and found.assumed and found.against == PROTOCOL
    few = only(MersenneTwister(), MaskedProductView(x[:2], weights))  # 2 x 65 numbers are fewer than a state has
    assert few.recovered == 0 and "320 are needed" in few.setting


def test_every_view_is_said_to_be_left_by_runs_and_protocols_leave_those_that_name_them():
    assert set(LEFT_BY) == set(VIEWS) >= {attack.reads for attack in EVERY}
    for name in set(options("protocol")) - {"shares", "rtas", "ife_shares", "ife_transform"}:
        protocol = instantiate(compose([f"protocol={name}"]).protocol)
        words = {view for view, said in LEFT_BY.items() if name in said.replace(",", " ").replace("=", " ").split()}
        assert words == set(protocol.shows), name


@pytest.mark.parametrize("attack", [Extraction(), Inflation(), MersenneTwister()])
def test_an_attack_on_appraisals_is_refused_elsewhere_with_what_it_fits(attack):
    with pytest.raises(InputError) as caught:
        attacks_on(attack, "rtas_training", ("helper",), EVERY)
    assert caught.value.name == "attack" and caught.value.value == attack.name
    assert caught.value.expected.endswith(f"this one fits {LEFT_BY[attack.reads]}")


@pytest.mark.parametrize(
    ("attack", "key", "value"),
    [(Extraction, "directions", 0), (Extraction, "size", 0), (Extraction, "copies", 0), (Inflation, "times", 0),
     (Inflation, "picked", 1.5),
     (Inflation, "known", 1), (Inflation, "sellers", 0)],
)  # fmt: skip
def test_a_bad_setting_of_an_attack_on_appraisals_is_refused_by_its_key(attack, key, value):
    with pytest.raises(InputError, match=f"^{key}\\b"):
        attack(**{key: value})
