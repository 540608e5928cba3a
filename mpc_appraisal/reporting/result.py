"""Result: the records of one run as a user gets them. It shows itself as tables and turns into frames and figures.

Records go in, at most one for each method and candidate. Indexing, sorting and correlations are those of `RunRecords`.
A column may be added to the frames. Names of columns have to stay, because users' programs read them. pandas,
matplotlib and the templates are imported where they are used, because most processes show nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.measured import Measured, write_measured
from mpc_appraisal.reporting.record import ERRORS, Record, append
from mpc_appraisal.reporting.result_tables import plain_text
from mpc_appraisal.reporting.run_records import DERIVED, NESTED, RunRecords

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

RECORDS = "records.jsonl"
RELEASED = ("kind", "decision", "winner", "rank", "low", "high", "epsilon")  # keys of a release that to_frame shows


class Result(RunRecords):
    """Hold the records of one run: at most one for each method and candidate.

    result[3], result[1:4]            by position
    result["seller a"]                its records by method; with one method its fields too, as in .value
    result["influence", "seller a"]   one record
    result                            in a notebook or at the prompt: the result in short, as a table
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

    def to_frame(self) -> DataFrame:
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

    def summary(self) -> DataFrame:
        """Return a pandas.DataFrame with a row for each method, which is its index.

        Columns: `candidates`; `best`, the candidate with the highest value, as far as it was opened; Spearman's
        correlation of the values with the truth, `rank_with_utility` and `rank_with_level`; `largest_difference` from
        the plaintext values; and `seconds`, `megabytes` and `rounds` of all candidates together. What is unknown is
        NaN or None.
        """
        import pandas

        correlations, rows = self.correlations(), {}
        for method in (each for each in self.without_random().methods if each not in ERRORS):
            records = self.of(method)
            private = [record for record in records if record.session != "plain"]
            differences = [abs(record.difference) for record in private if record.difference is not None]
            try:
                best = records.best(method).candidate
            except InputError:
                best = None
            rows[method] = {
                "candidates": len(records),
                "best": best,
                **{f"rank_with_{of}": correlations[method][of]["spearman"] for of in ("utility", "level")},
                "largest_difference": max(differences, default=None),
                "seconds": sum(record.total_seconds for record in records),
                "megabytes": sum(record.megabytes for record in records),
                "rounds": sum(record.rounds for record in records),
            }
        return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("method")

    def plot(self) -> Figure:
        """Return a figure of the values against the truth, or by candidate where no truth is known.

        It shows itself in a notebook, and `savefig` writes it. Raises InputError where no value and no answer was
        opened to this party.
        """
        from mpc_appraisal.reporting.figures import values_figure

        figure = values_figure(self.without_random())
        if figure is None:
            raise InputError("plot", "a result without values", "a value or an answer that was opened to this party")
        return figure

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write the records to records.jsonl in a folder, and return its path. `mpc_appraisal.load(folder)` reads it.

        The folder is created if it is not there. Raises InputError where it has records already, unless `overwrite`.
        """
        path = _folder(folder) / RECORDS
        if path.exists() and not overwrite:
            raise InputError("folder", str(folder), f"a folder without {RECORDS}, or overwrite=True")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        for record in self:
            append(path, record)
        write_measured(self.measured, path.parent)
        return path

    def report(self, folder: str | Path) -> Path:
        """Write report.html, report.md, figures and a card for each private candidate, and return the HTML page's path.

        The folder is created if it is not there, and files of these names are replaced.
        """
        from mpc_appraisal.reporting.card import card_stems, write_cards
        from mpc_appraisal.reporting.report import write_report

        folder = _folder(folder)
        write_cards(self, folder)
        write_report(self, folder, cards=card_stems(self))
        return Path(folder, "report.html")

    def __repr__(self) -> str:
        from mpc_appraisal.reporting.brief import text_of

        return text_of(self)

    def _repr_html_(self) -> str:
        """Return the result in short for a notebook."""
        from mpc_appraisal.reporting.brief import html_of

        return html_of(self)

    def __str__(self) -> str:
        return plain_text(self)


def _folder(stated: str | Path) -> Path:
    """Return the path of a folder. Raises InputError where it is, or leads through, something else than a folder."""
    folder = Path(stated)
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise InputError("folder", str(stated), f"a folder, and {place} is a file")
    return folder
