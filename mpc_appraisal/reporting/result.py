"""Result: the records of one run, as a sequence that can be indexed by candidate, sorted and compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.record import ERRORS, Record

NORMAL = 1.96  # standard errors that a 95% interval reaches to either side
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
)
RELEASED = ("kind", "decision", "winner", "rank", "low", "high", "epsilon")  # columns of to_frame


class Result(Sequence):
    """Records of one run: at most one for each method and candidate.

    result[3], result[1:4]            by position
    result["seller a"]                its record where one method was run (baselines aside), else {method: record}
    result["influence", "seller a"]   one record
    Raises InputError when two records share method and candidate: they belong to different runs.
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
        return isinstance(other, Result) and self._records == other._records

    __hash__ = None

    @property
    def methods(self) -> list[str]:
        """Names in order of appearance, baselines included."""
        return list(dict.fromkeys(record.method for record in self._records))

    @property
    def candidates(self) -> list[str]:
        return list(dict.fromkeys(record.candidate for record in self._records))

    def __getitem__(self, key):
        if isinstance(key, slice):
            return Result(self._records[key])
        if isinstance(key, tuple):
            if key not in self._by_key:
                raise InputError("result", key, f"(method, candidate): {self.methods}, {self.candidates}")
            return self._by_key[key]
        if isinstance(key, str):
            found = {record.method: record for record in self._records if record.candidate == key}
            if not found:
                raise InputError("result", key, f"a candidate: {', '.join(self.candidates)}")
            appraised = [record for record in found.values() if not record.baseline] or list(found.values())
            return appraised[0] if len(appraised) == 1 else found
        return self._records[key]

    def of(self, method: str) -> Result:
        """The records of one method."""
        if method not in self.methods:
            raise InputError("method", method, f"one of {', '.join(self.methods)}")
        return Result(record for record in self._records if record.method == method)

    def sort(self, by: str = "value", descending: bool = True) -> Result:
        """A new Result in the order of a record's key (or total_seconds, megabytes); unknown ones come last.

        Among candidates whose value is not known, the answers order them: winners by rank, and yes before no.
        """
        keys = [f.name for f in fields(Record) if f.name not in NESTED]
        if by not in (*keys, *DERIVED):
            raise InputError("by", by, f"one of {', '.join((*keys, *DERIVED))}")
        known = [record for record in self._records if getattr(record, by) is not None]
        unknown = [record for record in self._records if getattr(record, by) is None]
        if by == "value":
            unknown.sort(key=_place if descending else lambda record: tuple(-part for part in _place(record)))
        return Result(sorted(known, key=lambda record: getattr(record, by), reverse=descending) + unknown)

    def margin(self, record: Record) -> float | None:
        """Half the 95% interval of a record's value by the bootstrap over the candidate's rows: value +- margin.

        None where the value or its standard error, a method of its own, was not told, and where that is 0, of one row
        or of copies of one: it then says nothing. What the interval covers and what not: `appraisal.influence_error`.
        """
        found = [self._by_key.get((error, record.candidate)) for error, of in ERRORS.items() if of == record.method]
        known = [error.value for error in found if error is not None and error.value is not None]
        return NORMAL * -known[0] if known and known[0] < 0 and record.value is not None else None

    def best(self, method: str) -> Record:
        """The candidate that this method values most, by value or, where only the best were told, by rank."""
        if method in ERRORS:
            raise InputError("method", method, f"a method that values data: {method} is the error of {ERRORS[method]}")
        best, *others = self.of(method).sort()
        # several winners without ranks: nobody was told which of them is the best
        if best.value is None and not (best.winner and (best.rank == 1 or not any(r.winner for r in others))):
            raise InputError("method", method, "a method whose values, or whose best candidate, this party was shown")
        return best

    def correlations(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """{method: {"utility": {"spearman", "pearson"}, "level": {...}}} of value against each reference.

        A good method correlates positively with utility, and negatively with level, for level is corruption. None
        where it has no meaning: the reference is unknown, there are fewer than two candidates, or all are equal. The
        error of another method's value has none, and is left out.
        """
        from mpc_appraisal.reporting.metrics import correlations

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

    def to_frame(self):
        """pandas.DataFrame, a row for each record: the scalar keys, total_seconds, megabytes, and a column
        `seconds.<phase>`, `bytes_sent.<party>` and `estimate.<key>` for each phase, party and estimated cost; and where
        a record has a release, `release.<key>` for what was told of its answer."""
        import pandas

        rows = []
        for record in self._records:
            row = {f.name: getattr(record, f.name) for f in fields(Record) if f.name not in NESTED}
            row |= {key: getattr(record, key) for key in DERIVED}
            row |= {f"seconds.{phase}": seconds for phase, seconds in record.seconds.items()}
            row |= {f"bytes_sent.{party}": count for party, count in record.bytes_sent.items()}
            row |= {f"estimate.{key}": value for key, value in (record.estimate or {}).items()}
            row |= {f"release.{key}": record.release[key] for key in RELEASED if record.release}
            row["openings"] = len(record.openings)
            row["warnings"] = len(record.warnings)
            rows.append(row)
        return pandas.DataFrame(rows)

    def __str__(self) -> str:
        from mpc_appraisal.reporting.result_tables import plain_text

        return plain_text(self)

    def __repr__(self) -> str:
        return f"Result({len(self)} records, methods={self.methods}, candidates={len(self.candidates)})"


def _place(record: Record) -> tuple[float, ...]:
    """Smaller for the better answer, where there is no value."""
    return (record.rank or math.inf, not record.winner, not record.decision)
