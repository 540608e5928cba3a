"""What a value means: curves with a known answer, sampling in closed form, and coverage by retraining on the digits."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.isotonic import IsotonicRegression

from mpc_appraisal.data import Digits
from mpc_appraisal.data.scenarios import LabelNoise
from mpc_appraisal.methods import Influence
from mpc_appraisal.methods.preflight.calibration import (
    Calibration,
    Curve,
    Part,
    SizeTerm,
    calibration_of,
    curve_of,
    isotonic,
    open_range,
    quantiles,
    zero_of,
)
from mpc_appraisal.methods.preflight.check import preflight
from mpc_appraisal.methods.preflight.halves import confused, offer, pairs
from mpc_appraisal.methods.preflight.study import valuer
from mpc_appraisal.models.training import accuracy, fit, union

torch.set_num_threads(1)
ROWS = (75, 150, 300, 600)
CURVE = Curve(600, 200.0, 0.75)


def test_a_curve_with_a_known_answer_is_found():
    found = curve_of(ROWS, [90 - 200 * n**-0.75 for n in ROWS], 600)
    assert found.alpha == pytest.approx(0.75, abs=1e-3) and found.scale == pytest.approx(200, rel=1e-2)
    assert found.gain(500) == pytest.approx(200 * (600**-0.75 - 1100**-0.75), rel=1e-3)
    assert curve_of(ROWS, [90.0, 89, 88, 87], 600) is None  # more rows make it worse
    assert curve_of((600, 600), [90.0, 91.0], 600) is None  # one size shows no curve


@pytest.mark.parametrize("rows", [1, 40, 500, 1_799])
def test_own_rows_are_those_at_which_the_curve_reaches_the_gain(rows):
    assert CURVE.rows_for(CURVE.gain(rows)) == (rows, False)


def test_own_rows_outside_the_curve_are_none_or_more_than_it_tells_of():
    assert CURVE.rows_for(0.0) == CURVE.rows_for(-3.0) == (0, False)
    assert CURVE.rows_for(CURVE.gain(1_801)) == (1_800, True)
    assert CURVE.rows_for(1e6) == (1_800, True)  # no number of rows reaches it


def synthetic(noise: float = 0.0, per_row: bool = False, size: SizeTerm | None = None) -> Calibration:
    """Parts of 1,000 rows whose gain is (2 value - 1) times that of so many own rows."""
    values, rng = np.linspace(0, 1, 9), np.random.default_rng(0)
    gains = (2 * values - 1 + noise * rng.standard_normal(9)) * CURVE.gain(1_000)
    parts = [Part(v, 1_000, g) for v, g in zip(values, gains, strict=True)]
    return calibration_of(parts, CURVE, "accuracy", "points", per_row, size)


@pytest.mark.parametrize(("value", "rows"), [(0.25, 1_000), (0.75, 1_000), (0.75, 100), (1.0, 5_940), (0.5, 7)])
def test_expected_gains_of_a_synthetic_buyer(value, rows):
    found = synthetic().expected(value, rows)
    true = (2 * value - 1) * CURVE.gain(rows)
    assert found.gain == pytest.approx(true, abs=1e-9) and found.low <= found.gain <= found.high
    if 0 < true <= CURVE.gain(1_800):
        assert CURVE.gain(found.own_rows) == pytest.approx(true, rel=2e-2)
    assert found.beyond == (true > CURVE.gain(1_800))
    summed = synthetic(per_row=True).expected(value * rows, rows)
    assert summed == found


def test_one_bit_takes_the_mean_of_the_parts_on_its_side():
    meaning = synthetic()
    above, below = (meaning.expected_side(0.5, reached, 1_000) for reached in (True, False))
    full = CURVE.gain(1_000)
    assert above.gain == pytest.approx(full * np.mean([0, 0.25, 0.5, 0.75, 1.0]))
    assert below.gain == pytest.approx(full * np.mean([-1, -0.75, -0.5, -0.25]))
    assert above.low < 0.0 + 1e-9 and above.high >= full - 1e-9
    assert meaning.expected_side(2.0, True, 1_000) is None


def test_the_interval_holds_what_parts_leave_to_the_curve_of_the_others():
    rng = np.random.default_rng(1)
    values = rng.random(40)
    level = 2 * values - 1 + 0.2 * rng.standard_normal(40)
    parts = [Part(v, 1_000, y * CURVE.gain(1_000)) for v, y in zip(values, level, strict=True)]
    found = calibration_of(parts, CURVE, "accuracy", "points", False)
    left = []
    for k in range(40):
        kept = np.arange(40) != k
        oracle = IsotonicRegression(out_of_bounds="clip").fit(values[kept], level[kept])
        left.append(level[k] - oracle.predict(values[k : k + 1])[0])
    assert (found.below, found.above) == pytest.approx((sorted(left)[1], sorted(left)[-2]))  # 41 / 20, rounded down
    fresh = rng.random(2_000)
    truth = 2 * fresh - 1 + 0.2 * rng.standard_normal(2_000)
    ends = [found.expected(v, 1_000) for v in fresh]
    inside = np.mean([e.low <= t * CURVE.gain(1_000) <= e.high for e, t in zip(ends, truth, strict=True)])
    assert 0.8 < inside < 0.99


def test_isotonic_regression_is_scikit_learns():
    rng = np.random.default_rng(2)
    x, y = np.round(rng.random(30), 1), rng.standard_normal(30)
    knots, levels = isotonic(x, y)
    assert np.allclose(levels, IsotonicRegression().fit(x, y).predict(knots))


def test_the_zero_is_where_the_line_between_two_knots_crosses():
    assert zero_of(np.array([0.0, 1, 2]), np.array([-1.0, -0.5, 1.5])) == pytest.approx(1.25)
    assert zero_of(np.array([2.0, 0, 1]), np.array([1.5, -1.0, -0.5])) == pytest.approx(1.25)
    assert zero_of(np.array([0.0, 1]), np.array([1.0, 2.0])) is None
    assert zero_of(np.array([0.0, 1]), np.array([-1.0, 0.0])) is None
    turned = zero_of(np.array([0.0, 1]), np.array([1.0, -3.0]))  # worse with the value: nothing is bought
    assert turned > 1.0


def test_quantiles_of_few_are_the_outermost_and_hold_zero():
    assert quantiles(np.array([0.3, -0.2, 0.1])) == (-0.2, 0.3)
    assert quantiles(np.array([0.3, 0.2])) == (0.0, 0.3)


def test_json_gives_the_calibration_back():
    meaning = synthetic(0.1, size=SizeTerm(600, 1_000, 0.7))
    assert Calibration.of(json.loads(json.dumps(meaning.as_dict()))) == meaning


def test_values_of_few_rows_are_compared_by_the_size_term():
    term = SizeTerm(600, 1_000, 0.8)
    meaning = synthetic(size=term)
    assert term.of(1_000) == 0 and term.of(100) > 0 > term.of(5_940)
    same = meaning.expected(0.75 + term.of(5_940), 5_940)
    assert same.gain == pytest.approx(synthetic().expected(0.75, 5_940).gain)


def test_the_size_term_is_the_sampling_of_a_quadratic_loss():
    """Means of normal rows under a squared loss: H = 1, a row's gradient is theta - x, and all is in closed form."""
    rng = np.random.default_rng(3)
    d, own, test = 4_000, 100, 50_000
    theta = rng.standard_normal(d) / np.sqrt(own)  # the mean of N rows around 0
    target = rng.standard_normal(d) / np.sqrt(test)
    for rows in (20, 100, 3_000):
        new = rng.standard_normal(d) / np.sqrt(rows)
        value, share = (theta - target) @ (theta - new), rows / (own + rows)
        moved = (1 - share) * theta + share * new
        gain = 0.5 * np.sum((theta - target) ** 2) - 0.5 * np.sum((moved - target) ** 2)
        least = value - gain / share  # the value at which it would gain nothing
        assert gain == pytest.approx(share * value - share**2 / 2 * np.sum((theta - new) ** 2))
        clean = (theta - target) @ (theta - rng.standard_normal(d) / np.sqrt(10 * own))
        exact = clean / 2 * share + SizeTerm(own, 10**9, clean).of(rows)  # of the model's own distance, and of sampling
        assert least == pytest.approx(exact, rel=0.1)


@pytest.fixture(scope="module")
def digits():
    return Digits().load()


def test_classes_that_the_model_confuses_are_drawn_more_often_and_their_labels_exchanged(digits):
    train, test = digits
    model = fit(train.subset(range(150)), 1e-2)
    rng = np.random.default_rng(0)
    drawn = pairs(model, test, 500, rng)
    p = model.logits(test.x).softmax(1)
    of = lambda a, b: float(p[test.y == a][:, b].mean() + p[test.y == b][:, a].mean())  # noqa: E731
    mean = np.mean([of(a, b) for a in range(10) for b in range(a)])
    assert np.mean([of(a, b) for a, b in drawn]) > 1.2 * mean
    turned = confused(test, 0.4, 3, 5, rng)
    changed = turned.y != test.y
    assert set(test.y[changed].tolist()) == {3, 5} and set(turned.y[changed].tolist()) == {3, 5}
    touched = (test.y == 3) | (test.y == 5)
    assert changed.sum().item() / touched.sum().item() == pytest.approx(0.4, abs=0.15)
    assert torch.equal(confused(test, 0.0, 3, 5, rng).y, test.y)


def test_intervals_cover_retraining_on_the_digits_and_the_sentence_is_about_the_right_size(digits):
    """Candidates of two sizes, from rows that the buyer has not; the truth is retraining."""
    inside, expected, truth = [], [], []
    for seed in range(3):
        for size in (80, 250):
            market = LabelNoise(120, 4, (1, 8), True, size).build(*digits, seed)
            found = preflight(market.train, market.test, "influence", 1e-2, quick=True, parts=10, seed=seed)
            meaning = found["influence"].calibration
            model = fit(market.train, 1e-2)
            value, before = valuer(Influence(), model, market.train, market.test), accuracy(model, market.test)
            for candidate in market.candidates:
                after = fit(union(market.train, candidate.data), 1e-2, 1e-5)
                gain = 100 * (accuracy(after, market.test) - before)
                told = meaning.expected(value(candidate.data), candidate.data.rows)
                inside.append(told.low <= gain <= told.high)
                expected.append(told.gain)
                truth.append(gain)
    assert len(inside) == 30 and np.mean(inside) >= 0.7
    assert np.corrcoef(expected, truth)[0, 1] > 0.6


def test_a_threshold_depends_on_the_rows_as_its_size_term_says(digits):
    train, test = digits
    found = preflight(train.subset(range(150)), test, ["influence", "gradient_norm"], quick=True)
    influence, norm = found["influence"].threshold, found["gradient_norm"].threshold
    term = influence.size
    assert (term.own, term.rows) == (150, 250) and influence.of(250) == influence.value
    assert influence.of(1_000) == pytest.approx(influence.value + term.clean / 2 * (150 / 1150 - 150 / 400))
    assert norm.size is None and norm.of(70) == 70 * norm.value
    assert found.as_dict()["checks"][0]["calibration"]["unit"] == "points"
    assert any(table.title == "What a value means" for table in found.tables())
    missing = preflight(train.subset(range(150)), test, "influence", quick=True, corruption="missing")["influence"]
    assert missing.calibration.values != found["influence"].calibration.values


def test_few_test_rows_calibrate_by_parts_of_the_training_rows(digits):
    train, test = digits
    check = preflight(train.subset(range(150)), test.subset(range(199)), quick=True)["influence"]
    assert check.calibration is None and check.threshold.size is None and check.threshold.value is not None


def test_the_open_range_is_where_the_interval_of_the_utility_holds_zero():
    x, rng = np.linspace(0, 1, 15), np.random.default_rng(1)
    y = 2 * x - 1 + 0.3 * rng.standard_normal(15)
    rest = []
    for k in range(15):
        one = np.delete(np.arange(15), k)
        found = IsotonicRegression(out_of_bounds="clip").fit(x[one], y[one])
        rest.append(y[k] - float(found.predict([x[k]])[0]))
    fitted = IsotonicRegression(out_of_bounds="clip").fit(x, y)
    low, high = open_range(x, y)
    assert 0 < low < 0.5 < high < 1
    for value in np.linspace(0, 1, 101):
        middle = float(fitted.predict([value])[0])
        if abs(value - low) > 1e-9 and abs(value - high) > 1e-9:
            assert (low < value < high) == (middle + min(rest) <= 0 < middle + max(rest)), value
    assert open_range(x, y + 5) == (None, x[0])  # all of them help
    assert open_range(x, y - 5) == (x[-1], None)  # none of them helps
    assert open_range(x, np.where(np.arange(15) % 2, 1.0, -1.0)) == (None, None)  # values say nothing


def test_copies_are_spoilt_in_two_ways_and_as_many_labels_of_each(digits):
    train, test = digits
    model = fit(train.subset(range(150)), 1e-2)
    made = offer(train.subset(range(150)), test, model, model, CURVE, 9, "labels", 0)
    clean = made.parts[0]
    assert list(made.alike) == [0, 2, 4, 6, 8] and all(part.x.equal(clean.x) for part in made.parts)
    turned = [part.y != clean.y for part in made.parts]
    for p, wrong in enumerate(turned):
        touched = set(clean.y[wrong].tolist()) | set(made.parts[p].y[wrong].tolist())
        assert len(touched) <= 2 if p % 2 == 0 else len(touched) > 2
    assert turned[7].double().mean().item() == pytest.approx(0.2 * 0.7, abs=0.06)
    missing = offer(train.subset(range(150)), test, model, model, CURVE, 5, "missing", 0)
    assert list(missing.alike) == [0, 1, 2, 3, 4]
