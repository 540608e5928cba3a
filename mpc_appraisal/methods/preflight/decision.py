"""The decision sentence: what a run's answer about a candidate means, by the pre-flight of the model owner.

    above your calibrated threshold 0.284: buy; expected +0.8 points of accuracy (+0.3 to +1.2), as about 1,900 of your
    own rows, 0.05 EUR a row. Calibrated on ...

    above your calibrated threshold 0.284, but below 0.331, up to which your copies do not settle it: undecided; ...

A run's records and the model owner's own pre-flight go in. Out comes the `Advice` that reports show, with a sentence
for each record where there is one. A sentence names the threshold, which is secret: it may stand in the model owner's
own files and nowhere else, and never in a record. Words may change. A price for a row is stated where the listing
states a price, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from mpc_appraisal.methods.preflight.calibration import LEVEL, Expected
from mpc_appraisal.methods.preflight.result import TRUSTED, Check, Preflight, Rate
from mpc_appraisal.reporting.advice import Advice, Recommendation
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.table import number

UNDECIDED = "undecided"


def advice(records: Iterable[Record], found: Preflight, threshold: float | None = None) -> Advice:
    """Return what the pre-flight says of these answers, with its own tables and warnings.

    threshold: the secret threshold that the model owner stated for the run, which its bits were compared with.
    """
    checks = {check.method: check for check in found.checks}
    verdicts = {}
    for record in records:
        check = checks.get(record.method)
        if check is None or record.n is None:
            continue
        one = _of_value(record, check) if record.value is not None else _of_bit(record, check, threshold)
        if one is not None:
            verdicts[record.method, record.candidate] = one
    trust = {check.method: check.verdict for check in found.checks}
    return Advice(verdicts, trust, tuple(found.warnings()), tuple(found.tables()))


def sentences(
    records: Iterable[Record], found: Preflight, threshold: float | None = None
) -> dict[tuple[str, str], str]:
    """Return {(method, candidate): its decision sentence} for each record with an answer. The arguments: `advice`."""
    return {key: one.sentence for key, one in advice(records, found, threshold).verdicts.items()}


def _of_value(record: Record, check: Check) -> Recommendation | None:
    """Return what is said of a value; None where the pre-flight found no threshold."""
    limit = check.threshold.of(record.n)
    if limit is None:
        return None
    reached = record.value >= limit
    where = f"{'above' if reached else 'below'} your calibrated threshold {number(limit, 3)}"
    meaning = check.calibration
    expected = None if meaning is None else meaning.expected(record.value, record.n)
    verdict, between = _settled(record, check, reached)
    doubt = ""
    if record.interval and record.interval[0] < limit <= record.interval[1]:
        doubt = " Without the noise the value may lie on the other side of the threshold."
    return Recommendation(verdict, limit, _whole(record, check, where + between, verdict, expected) + doubt)


def _settled(record: Record, check: Check, reached: bool) -> tuple[str, str]:
    """Return the verdict on a value, and for one that the copies do not settle the words that say so."""
    low, high = check.threshold.open_of(record.n) or (math.inf, -math.inf)
    if not low <= record.value < high:
        return _verdict(reached), ""
    end, words = (high, "below") if reached else (low, "not below")
    known = f", but {words} {number(end, 3)}, {'up to' if reached else 'from'} which" if math.isfinite(end) else ", but"
    return UNDECIDED, f"{known} your copies do not settle it"


def _verdict(buy: bool) -> str:
    return "buy" if buy else "do not buy"


def _of_bit(record: Record, check: Check, threshold: float | None) -> Recommendation | None:
    """Return what is said of one bit; None where no bit was opened to the model owner, or its threshold is unknown."""
    if record.decision is None or threshold is None:
        return None
    where = f"{'above' if record.decision else 'below'} your threshold {number(threshold, 3)}"
    limit, meaning = check.threshold.of(record.n), check.calibration
    if limit is not None:
        where += f" (calibrated: {number(limit, 3)})"
    expected = None if meaning is None else meaning.expected_side(threshold, record.decision, record.n)
    verdict = _verdict(record.decision)
    return Recommendation(verdict, threshold, _whole(record, check, where, verdict, expected))


def _whole(record: Record, check: Check, where: str, verdict: str, expected: Expected | None) -> str:
    """Return the whole sentence, with how it was calibrated and where that failed."""
    text = f"{where}: {verdict}"
    if expected is not None:
        text += "; " + _expectation(record, check, expected)
    text += ". " + _source(check)
    if check.verdict != TRUSTED:
        text += f" The pre-flight calls {check.method} {check.verdict} on this model, so that this is no guide."
    return text


def _expectation(record: Record, check: Check, expected: Expected) -> str:
    """Return what is expected, the own rows that bring as much, and their price."""
    meaning = check.calibration
    unit = f" {meaning.unit}" if meaning.unit else ""
    text = f"expected {expected.gain:+.2g}{unit} of {meaning.measure} ({expected.low:+.2g} to {expected.high:+.2g})"
    if not expected.own_rows:
        return text + ", as none of your own rows"
    text += f", as {'more than' if expected.beyond else 'about'} {_rounded(expected.own_rows):,} of your own rows"
    price = (record.listing or {}).get("price")
    if price is not None:
        at = "less than " * expected.beyond
        text += f", {at}{number(price / expected.own_rows, 2)} {record.listing['currency'] or ''}".rstrip() + " a row"
    return text


def _source(check: Check) -> str:
    """Return how the threshold was calibrated, and how often it failed where it could be tried."""
    limit, meaning = check.threshold, check.calibration
    how = "Calibrated on held-out rows of your own"
    if meaning is not None:
        how = (
            f"Calibrated on {meaning.parts} spoilt copies of {meaning.rows:,} of your test rows, with retraining; the "
            f"interval holds {100 * LEVEL:.0f}% of such copies"
        )
    failed = f"it bought {_of(limit.false_accept, 'bad')} and refused {_of(limit.false_reject, 'good')}"
    return f"{how}. Where it was tried, {failed}."


def _of(rate: Rate, what: str) -> str:
    return f"{rate.wrong} of {rate.of} {what} ones"


def _rounded(rows: int) -> int:
    """Return the number with two significant digits, since no more are known."""
    return int(float(f"{rows:.1e}"))
