"""What a tracker of experiments is given of one run: its settings and its figures, as flat mappings.

A `Result` goes in. Out come the settings that the records state, and one number for each of

    agreement/METHOD                        Spearman's correlation of value and utility, or minus that with the level
    seconds/METHOD, megabytes/METHOD, rounds/METHOD            the cost of all candidates together
    largest_difference/METHOD               the largest distance of a private value from the same in plaintext
    value/METHOD/CANDIDATE                  what was opened of the candidate's value
    MEASURE/METHOD                          what `evaluate.measures` found

Names may be added. They have to stay, because users' dashboards read them. Characters that a tracker refuses in names
become underscores, and names that then agree get a number.
"""

from __future__ import annotations

import math
import re
from typing import Any

from mpc_appraisal.reporting.record import ERRORS
from mpc_appraisal.reporting.result import Result

TRUTH_ITSELF = "retraining"  # its value is the utility, so that its agreement says nothing
REFUSED = re.compile(r"[^\w\-. ]")  # all trackers take letters, digits, underscores, dashes, periods and spaces


def tracked_settings(result: Result) -> dict[str, Any]:
    """Return the public settings of the run by name, and the number of candidates; an empty mapping of no records."""
    if not len(result):
        return {}
    stated = dict(result[0].settings or {})
    found = {key: ", ".join(map(str, v)) if isinstance(v, (list, tuple)) else v for key, v in stated.items()}
    return found | {"seed": result[0].seed, "candidates": len(result.candidates), "role": result[0].role}


def tracked_numbers(result: Result) -> dict[str, float]:
    """Return the run's figures by name, as described above. What is unknown is left out."""
    found: dict[str, float] = {}
    names = _plain_names(result.candidates)
    correlated = result.correlations()
    for method in result.methods:
        records = list(result.of(method))
        if method not in (*ERRORS, TRUTH_ITSELF):
            utility, level = (correlated[method][kind]["spearman"] for kind in ("utility", "level"))
            if utility is not None or level is not None:
                found[f"agreement/{method}"] = -level if utility is None else utility
        if not records[0].baseline:
            found[f"seconds/{method}"] = math.fsum(record.total_seconds for record in records)
            found[f"megabytes/{method}"] = math.fsum(record.megabytes for record in records)
            found[f"rounds/{method}"] = float(sum(record.rounds for record in records))
        differences = [abs(record.difference) for record in records if record.difference is not None]
        if differences and not records[0].baseline:
            found[f"largest_difference/{method}"] = max(differences)
        found |= {f"value/{method}/{names[r.candidate]}": r.value for r in records if r.value is not None}
    found |= {f"{one.measure}/{one.method}": one.score for one in result.measured if one.score is not None}
    return found


def _plain_names(candidates: list[str]) -> dict[str, str]:
    """Return a name for each candidate that every tracker takes, and that no two candidates share."""
    found: dict[str, str] = {}
    for candidate in candidates:
        plain = REFUSED.sub("_", candidate)
        taken, name, number = set(found.values()), plain, 2
        while name in taken:
            name, number = f"{plain}_{number}", number + 1
        found[candidate] = name
    return found
