"""RunRecords: the records of one run, as a sequence that can be indexed by candidate, sorted and compared.

Records go in, at most one for each method and candidate. Out come single records, other sequences, margins and
correlations. Tables, figures and `Result` are made from this class. A new key of records whose values cannot be sorted
has to be added to NESTED.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.metrics import correlations, random_band
from mpc_appraisal.reporting.record import ERRORS, Record

NORMAL = 1.96  # standard errors that a 95% interval reaches to either side
RANDOM = "random"  # the baseline whose values mean nothing
DERIVED = ("total_seconds", "megabytes")
NESTED = (
    "seconds",
    "bytes_sent",
    "estimate",
    "openings",
    "versions",
    "release",
    "listing",
    "request",
    "budget",
    "warnings",
    "settings",
)


class MethodRecords(dict):
    """Hold the records of one candidate, {method: record}; it is what result["seller a"] is, however many methods ran.

    Where one method valued the data, the fields of its record are attributes too: result["seller a"].value. Baselines,
    and methods that give the error of another one's value, do not count.
    """

    def __getattr__(self, key: str):
        if key.startswith("__"):
            raise AttributeError(key)
        valuing = [each for each in self.values() if not each.baseline and each.method not in ERRORS]
        appraised = valuing or list(self.values())
        if len(appraised) != 1:
            raise AttributeError(f"{key}: there are several methods, so write [METHOD].{key}, with one of {list(self)}")
        return getattr(appraised[0], key)


class RunRecords(Sequence):
    """Hold the records of one run: at most one for each method and candidate.

    records[3], records[1:4]           by position
    records["seller a"]                its records by method; see `MethodRecords`
    records["influence", "seller a"]   one record

    A slice, a sorted copy and the records of one method are of the same class as the whole.

    Raises:
        InputError: Two records share method and candidate, so that they belong to different runs.
    """

    def __init__(self, records: Iterable[Record]):
        self._records = tuple(records)
        self._by_key: dict[tuple[str, str], Record] = {}
        for record in self._records:
            key = (record.method, record.candidate)
            if key in self._by_key:
                raise InputError("records", " of ".join(key) + " twice", "one record for each method and candidate")
            self._by_key[key] = record

    def __len__(self) -> int:
        return len(self._records)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunRecords) and self._records == other._records

    __hash__ = None

    @property
    def methods(self) -> list[str]:
        """The methods' names in order of appearance, baselines included."""
        return list(dict.fromkeys(record.method for record in self._records))

    @property
    def candidates(self) -> list[str]:
        """The candidates' names in order of appearance."""
        return list(dict.fromkeys(record.candidate for record in self._records))

    def without_random(self) -> RunRecords:
        """Return the records without the random baseline's, of which a report shows the band of many draws alone."""
        return type(self)(record for record in self._records if record.method != RANDOM)

    def __getitem__(self, key):
        if isinstance(key, slice):
            return type(self)(self._records[key])
        if isinstance(key, tuple):
            if key not in self._by_key:
                raise InputError("result", key, f"(method, candidate): {self.methods}, {self.candidates}")
            return self._by_key[key]
        if isinstance(key, str):
            found = {record.method: record for record in self._records if record.candidate == key}
            if not found:
                raise InputError("result", key, f"a candidate: {', '.join(self.candidates)}")
            return MethodRecords(found)
        return self._records[key]

    def of(self, method: str) -> RunRecords:
        """Return the records of one method. Raises InputError if there are none."""
        if method not in self.methods:
            raise InputError("method", method, f"one of {', '.join(self.methods)}")
        return type(self)(record for record in self._records if record.method == method)

    def sort(self, by: str = "value", descending: bool = True) -> RunRecords:
        """Return the records in the order of one of their keys, or of total_seconds or megabytes.

        Records whose key is not known come last. If the records are sorted by value, then those without a value are
        ordered by their answers: winners by rank, and yes before no. Raises InputError for a key that cannot be sorted
        by.
        """
        keys = [f.name for f in fields(Record) if f.name not in NESTED]
        if by not in (*keys, *DERIVED):
            raise InputError("by", by, f"one of {', '.join((*keys, *DERIVED))}")
        known = [record for record in self._records if getattr(record, by) is not None]
        unknown = [record for record in self._records if getattr(record, by) is None]
        if by == "value":
            unknown.sort(key=_place if descending else lambda record: tuple(-part for part in _place(record)))
        return type(self)(sorted(known, key=lambda record: getattr(record, by), reverse=descending) + unknown)

    def margin(self, record: Record) -> float | None:
        """Return half the 95% interval of a record's value by the bootstrap over the candidate's rows.

        The interval is value ± margin; `methods.influence_error` says what the interval covers. The margin is None if
        the value or its standard error, which is a method of its own, was not opened to this party. The margin is None,
        too, if the standard error is 0, as for one row or for copies of one row, because the standard error then says
        nothing.
        """
        found = [self._by_key.get((error, record.candidate)) for error, of in ERRORS.items() if of == record.method]
        known = [error.value for error in found if error is not None and error.value is not None]
        return NORMAL * -known[0] if known and known[0] < 0 and record.value is not None else None

    def best(self, method: str) -> Record:
        """Return the record of the candidate that this method values most.

        Values decide; if only the best candidates were opened, then ranks do. Raises InputError if this party was shown
        neither, and for a method that values no data.
        """
        if method in ERRORS:
            raise InputError("method", method, f"a method that values data: {method} is the error of {ERRORS[method]}")
        best, *others = self.of(method).sort()
        # Of several winners without ranks nobody knows which is the best.
        if best.value is None and not (best.winner and (best.rank == 1 or not any(r.winner for r in others))):
            raise InputError("method", method, "a method whose values, or whose best candidate, this party was shown")
        return best

    def correlations(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """Correlate values with the truth: {method: {"utility": {"spearman", "pearson"}, "level": {...}}}.

        A good method correlates positively with utility and negatively with level, because level is corruption. A
        number is None if the reference is unknown, if there are fewer than two candidates, or if all are equal. A
        method that gives the error of another one's value has no entry.
        """
        table: dict[str, dict[str, dict[str, float | None]]] = {}
        for method in self.methods:
            if method in ERRORS:
                continue
            table[method] = {}
            for reference in ("utility", "level"):
                known = [r for r in self.of(method) if r.value is not None and getattr(r, reference) is not None]
                truth = [getattr(r, reference) for r in known]
                table[method][reference] = correlations([r.value for r in known], truth)
        return table

    def random_bands(self) -> dict[str, dict[str, tuple[float, float] | None]]:
        """Return the correlations that random values reach: {"utility": {"spearman": (low, high), ...}, "level": ...}.

        The bands hold 95% of 1,000 draws; see `metrics.random_band`. A band is None where nothing is known of the
        truth.
        """
        found = {}
        for reference in ("utility", "level"):
            truth = {record.candidate: getattr(record, reference) for record in self._records}
            seed = next((record.seed for record in self._records if record.seed is not None), 0)
            found[reference] = random_band([each for each in truth.values() if each is not None], seed)
        return found

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({len(self)} records, methods={self.methods}, candidates={len(self.candidates)})"


def _place(record: Record) -> tuple[float, ...]:
    """Return a key that is smaller for the better answer of a record without a value."""
    return (record.rank or math.inf, not record.winner, not record.decision)
