"""The decision sentence: its words from known figures, in what is written for the model owner."""

from __future__ import annotations

import pytest
from test_calibration import CURVE, synthetic

from mpc_appraisal.methods.preflight.calibration import SizeTerm
from mpc_appraisal.methods.preflight.decision import advice, sentences
from mpc_appraisal.methods.preflight.result import Agreement, Check, Preflight, Rate, Threshold
from mpc_appraisal.reporting.card import write_cards
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.report import write_report
from mpc_appraisal.reporting.result import Result

LISTING = {"name": "digits-a", "digest": "a1" * 32, "commitment": "b2" * 32, "price": 100.0, "currency": "EUR"}
RELEASE = {"kind": "value", "to": ["model_owner"], "answered": False}
BIT = RELEASE | {"kind": "bit"}


def found(
    verdict: str = "trusted", calibrated: bool = True, value: float | None = 0.5, size=None, unsettled=None
) -> Preflight:
    rank = Agreement(0.9, None, 0.9, (0.9,))
    tried = Rate.count([True, False, False]), Rate.count([False] * 4)
    threshold = Threshold(value, "value", *tried, *tried, size, unsettled)
    meaning = synthetic() if calibrated else None
    check = Check("influence", verdict, rank, rank, rank, 0, 45, 3.0, threshold, calibration=meaning)
    return Preflight(1e-2, "labels", 0, 1, 10, (450, 150, 500), (600, 500), (check,), (), (), None)


def record(value=None, n=1_000, release=RELEASE, **facts) -> Record:
    return Record("influence", "seller", value, n=n, session="join", release=release, **facts)


def sentence(row: Record, preflight: Preflight | None = None, threshold: float | None = None) -> str | None:
    return sentences([row], preflight or found(), threshold).get(("influence", "seller"))


def test_a_value_above_the_threshold_is_bought_for_what_it_brings():
    gain = CURVE.gain(1_000) / 2  # (2 x 0.75 - 1) of what 1,000 own rows bring
    rows = CURVE.rows_for(gain)[0]
    text = sentence(record(0.75))
    low, high = (f"{end:+.2g}" for end in (gain * 0.5, gain * 1.5))
    assert text.startswith(f"above your calibrated threshold 0.500: buy; expected {gain:+.2g} points of accuracy (")
    assert f"({low} to {high}), as about {float(f'{rows:.1e}'):,.0f} of your own rows. Calibrated on 9 spoilt" in text
    assert "9 spoilt copies of 1,000 of your test rows" in text and "bought 1 of 3 bad ones and refused 0 of 4" in text
    assert "EUR" not in text and "a row" not in text
    priced = sentence(record(0.75, listing=LISTING))
    assert f"of your own rows, {100 / rows:.2g} EUR a row. " in priced
    assert "EUR" not in sentence(record(0.75, listing=LISTING | {"price": None, "currency": None}))


def test_a_value_below_is_not_bought_and_is_worth_none_of_ones_own_rows():
    text = sentence(record(0.25, listing=LISTING))
    assert text.startswith("below your calibrated threshold 0.500: do not buy; expected -")
    assert "as none of your own rows. " in text and "EUR" not in text


def test_more_than_the_curve_tells_of_is_said_so():
    text = sentence(record(1.0, n=5_940, listing=LISTING))
    assert "as more than 1,800 of your own rows, less than 0.056 EUR a row. " in text


def test_the_threshold_is_that_of_the_candidates_rows():
    term = SizeTerm(600, 1_000, 0.8)
    assert sentence(record(0.45), found(size=term)).startswith("below your calibrated threshold 0.500")
    assert sentence(record(0.45, n=5_940), found(size=term)).startswith(
        f"above your calibrated threshold {0.5 + term.of(5_940):.3f}: buy"
    )


def test_a_value_that_the_copies_do_not_settle_is_undecided():
    ends = found(unsettled=(0.4, 0.6))
    assert sentence(record(0.55), ends).startswith(
        "above your calibrated threshold 0.500, but below 0.600, up to which your copies do not settle it: undecided; "
    )
    assert sentence(record(0.45), ends).startswith(
        "below your calibrated threshold 0.500, but not below 0.400, from which your copies do not settle it: undecided"
    )
    assert ": buy; " in sentence(record(0.6), ends) and ": do not buy; " in sentence(record(0.39), ends)
    open_ended = sentence(record(0.9), found(unsettled=(None, None)))
    assert open_ended.startswith("above your calibrated threshold 0.500, but your copies do not settle it: undecided;")
    term = SizeTerm(600, 1_000, 0.8)  # the range moves with the threshold
    high = 0.6 + term.of(5_940)
    assert f"but below {high:.3f}, up" in sentence(record(0.45, n=5_940), found(size=term, unsettled=(0.4, 0.6)))


def test_one_bit_says_what_its_side_implies():
    yes, no = (sentence(record(release=BIT | {"decision": bit}), threshold=0.4) for bit in (True, False))
    assert yes.startswith("above your threshold 0.400 (calibrated: 0.500): buy; expected +")
    assert no.startswith("below your threshold 0.400 (calibrated: 0.500): do not buy; expected -")
    assert sentence(record(release=BIT | {"decision": True})) is None  # the threshold is not known here
    assert sentence(record(release=BIT), threshold=0.4) is None  # the bit was opened to the other side alone


@pytest.mark.parametrize("verdict", ["doubtful", "inverted"])
def test_a_method_that_is_not_trusted_is_no_guide(verdict):
    assert f"calls influence {verdict} on this model, so that this is no guide." in sentence(
        record(0.75), found(verdict)
    )


def test_without_figures_the_sentence_says_less_or_nothing():
    text = sentence(record(0.75), found(calibrated=False))
    assert text.startswith("above your calibrated threshold 0.500: buy. Calibrated on held-out rows of your own.")
    assert sentence(record(0.75), found(value=None)) is None
    assert sentences([Record("gradient_norm", "seller", -1.0, n=3)], found()) == {}
    noised = RELEASE | {"kind": "dp", "low": 0.4, "high": 0.8, "deviation": 0.1}
    assert "Without the noise the value may lie on the other side" in sentence(record(0.6, release=noised))


def test_report_and_card_begin_with_the_decision_and_are_as_before_without_one(tmp_path):
    rows = Result([record(0.75, n=10, features=3, classes=2)])
    plain = [*write_report(rows, tmp_path / "plain"), *write_cards(rows, tmp_path / "plain")]
    told = advice(rows, found())
    told_of = [*write_report(rows, tmp_path / "told", told), *write_cards(rows, tmp_path / "told", told)]
    for before, after in zip(plain, told_of, strict=True):
        if after.suffix not in (".md", ".html"):
            continue
        old, new = before.read_text(encoding="utf-8"), after.read_text(encoding="utf-8")
        assert "threshold" not in old and new != old
        first = new.index("your calibrated threshold 0.500: buy")
        assert (
            first
            < new.index("for the model owner alone")
            < new.index("Values" if "report" in after.name else "The answer")
        )
