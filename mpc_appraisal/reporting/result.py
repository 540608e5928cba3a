"""Result: the records of one run as a user gets them. It prints itself as tables and turns into a pandas frame.

Records go in, at most one for each method and candidate. Indexing, sorting and correlations are those of `RunRecords`.
A column may be added to the frame. Names of columns have to stay, because users' programs read them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from mpc_appraisal.reporting.measured import Measured
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.result_tables import plain_text
from mpc_appraisal.reporting.run_records import DERIVED, NESTED, RunRecords

RELEASED = ("kind", "decision", "winner", "rank", "low", "high", "epsilon")  # keys of a release that to_frame shows


class Result(RunRecords):
    """Hold the records of one run: at most one for each method and candidate.

    result[3], result[1:4]            by position
    result["seller a"]                its record if one method was run, baselines aside; else {method: record}
    result["influence", "seller a"]   one record
    str(result)                       values, correlations and openings as tables of text

    Raises:
        InputError: Two records share method and candidate, so that they belong to different runs.
    """

    measured: tuple[Measured, ...] = ()  # how well the values serve, where that was asked for

    def with_measured(self, measured: Iterable[Measured]) -> Result:
        """Return the same records with what the measures of `appraisal.evaluation` say of them."""
        other = type(self)(self)
        other.measured = tuple(measured)
        return other

    def without_random(self) -> Result:
        """Return the records without the random baseline's, and what the measures say of them."""
        return super().without_random().with_measured(self.measured)

    def to_frame(self):
        """Return a pandas.DataFrame with a row for each record.

        Its columns are the scalar keys of a record, total_seconds and megabytes, then `seconds.<phase>`,
        `bytes_sent.<party>` and `estimate.<key>` for each phase, party and estimated cost. A record with a release has
        `release.<key>`, too, which says what was opened of its answer, and one with a metric has `metric`. `openings`
        and `warnings` are counts.
        """
        import pandas

        rows = []
        for record in self._records:
            row = {f.name: getattr(record, f.name) for f in fields(Record) if f.name not in NESTED}
            if record.metric is None:
                del row["metric"]
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
        return plain_text(self)
