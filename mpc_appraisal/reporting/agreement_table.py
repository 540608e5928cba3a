"""The table of a run's agreement with the truth: correlations of values with utility and with level.

The records of one run go in; a table comes out, whose last row is the band of correlations that random values reach.
The truth is a candidate's utility, the fall of the test loss by retraining with it, or its level, the corruption that a
scenario put into it. Words may change. The table has to state what it does not cover.
"""

from __future__ import annotations

from mpc_appraisal.reporting.metric_names import in_words
from mpc_appraisal.reporting.run_records import RunRecords
from mpc_appraisal.reporting.table import DASH, Table

TRUTH = "Correlation of value with the truth"


def correlations_table(result: RunRecords) -> Table:
    """Return how the values of each method correlate with utility and with level, and the band of random values.

    There are no rows and no sentences where all records are from between organisations, because nothing is known there.
    """
    rows = []
    if len(result) and all(record.session == "join" for record in result):
        return Table(TRUTH, (), "", [])
    for method, found in result.correlations().items():
        cells = [found[reference][kind] for reference in ("utility", "level") for kind in ("spearman", "pearson")]
        texts = [DASH if cell is None else f"{cell:.3f}" for cell in cells]
        if method == "retraining":  # its value is the utility
            texts[:2] = ["itself", "itself"]
        rows.append((method, *texts))
    if not rows:
        return Table(TRUTH, (), "", [], ("No records.",))
    bands = result.random_bands()
    ends = [bands[reference][kind] for reference in ("utility", "level") for kind in ("spearman", "pearson")]
    notes = [
        "Utility is the fall of the mean test loss when the model is retrained with the candidate, with which a good "
        "method correlates positively. Level is the corruption of the candidate, with which it correlates negatively."
    ]
    notes += measured(result)
    if any(ends):
        rows.append(("random", *(DASH if each is None else "{:.3f} to {:.3f}".format(*each) for each in ends)))
        notes.append(
            "Random: between these ends lie 95% of 1,000 draws of values that mean nothing. A method whose correlation "
            "is inside may be as good as chance."
        )
    if all(text == DASH for row in rows for text in row[1:]):
        notes.append(
            f"{DASH}: a correlation takes two or more candidates that differ and have a known utility or level."
        )
    if any(record.release and record.value is None for record in result):
        notes.append("Candidates whose value was not released do not count.")
    return Table(
        TRUTH,
        ("method", "utility, rank", "utility, Pearson", "level, rank", "level, Pearson"),
        "lrrrr",
        rows,
        tuple(notes),
    )


def measured(result: RunRecords) -> list[str]:
    """Return which method is measured by another metric than the mean test loss, a sentence for each metric."""
    found: dict[str, dict[str, None]] = {}
    for record in result:
        if record.metric is not None:
            found.setdefault(in_words(record.metric, record.classes == 1), {})[record.method] = None
    return [
        f"{', '.join(methods)}: values and utilities are for the fall of the {metric} of the model owner's "
        "test rows, in place of the mean test loss."
        for metric, methods in found.items()
    ]
