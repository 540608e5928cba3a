"""What a tracker of experiments is given of one run: its settings and its figures, as flat mappings.

A run's folder, or a `Result`, goes in. Out come the settings that the records state, and one number for each of

    agreement/METHOD                        Spearman's correlation of value and utility, or minus that with the level
    seconds/METHOD, megabytes/METHOD, rounds/METHOD            the cost of all candidates together
    largest_difference/METHOD               the largest distance of a private value from the same in plaintext
    value/METHOD/CANDIDATE                  what was opened of the candidate's value
    MEASURE/METHOD                          what `evaluate.measures` found

of an appraisal, and of private learning and the marketplace, as far as the run has them, one for each of

    accuracy/private, accuracy/in_the_clear, accuracy/commonest           on test rows
    errors/before, errors/after, errors/of                                wrong predictions of the shopper's network
    rows/offered, rows/selected, verdicts/accepted, verdicts/of           of the marketplace
    seconds/protocol, seconds/in_the_clear, megabytes/protocol, rounds/protocol
    recovered/ATTACK, chance/ATTACK, above_chance/ATTACK                  of each attack, also on an appraisal

Names may be added. They have to stay, because users' dashboards read them. Characters that a tracker refuses in names
become underscores, and names that then agree get a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpc_appraisal.reporting.learning_record import LearningRecord, above
from mpc_appraisal.reporting.record import ERRORS
from mpc_appraisal.reporting.result import Result
from mpc_appraisal.reporting.run_folders import RunFolder

TRUTH_ITSELF = "retraining"  # its value is the utility, so that its agreement says nothing
REFUSED = re.compile(r"[^\w\-. ]")  # all trackers take letters, digits, underscores, dashes, periods and spaces


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is given of one run.

    Attributes:
        settings: The public settings by name.
        numbers: The figures by name.
        name, columns, rows: The name of a table, its header and its rows: values of an appraisal, or findings.
    """

    settings: Mapping[str, Any]
    numbers: Mapping[str, float]
    name: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


VALUES = ("method", "candidate", "value", "plaintext_value", "utility", "level")
FINDINGS = ("attack", "setting", "recovered", "chance", "stopped", "meaning")


def tracked_run(run: RunFolder) -> TrackedRun | None:
    """Return what is tracked of one run; None for a run without records that are read."""
    findings = run.attacked.attacks if run.attacked is not None else ()
    numbers = {} if run.attacked is None else _of_attacks(findings) | _clear(run.attacked.plain_seconds)
    if run.result is not None:
        rows = [[getattr(record, key) for key in VALUES] for record in run.result]
        return TrackedRun(tracked_settings(run.result), tracked_numbers(run.result) | numbers, "values", VALUES, rows)
    if run.learning is not None:
        settings, numbers, findings = _settings_of(run.learning), _of_learning(run.learning), run.learning["attacks"]
    elif run.market is not None:
        settings = {key: run.market.get(key) for key in MARKET_SETTINGS if run.market.get(key) is not None}
        numbers = _of_market(run.market) | numbers
    else:
        return None
    return TrackedRun(settings, numbers, "findings", FINDINGS, [[one.get(key) for key in FINDINGS] for one in findings])


MARKET_SETTINGS = ("protocol", "session", "seed", "network", "sellers", "selection", "budget")


def _settings_of(record: LearningRecord) -> dict[str, Any]:
    stated = {key: value for key, value in record["settings"].items() if value is not None}
    return stated | {"seed": record["seed"], "session": record["session"]}


def _of_learning(record: LearningRecord) -> dict[str, float]:
    a, cost = record["accuracy"], record["cost"]
    found = {"accuracy/private": a["private"], "accuracy/in_the_clear": a["plain"], "accuracy/commonest": a["always"]}
    found |= {"seconds/protocol": cost["seconds"], "rounds/protocol": cost["rounds"]}
    found |= {"megabytes/protocol": None if record.sent is None else record.sent / 1e6} | _clear(cost["plain_seconds"])
    return {name: float(value) for name, value in found.items() if value is not None} | _of_attacks(record["attacks"])


def _of_market(facts: Mapping[str, Any]) -> dict[str, float]:
    errors = facts["errors"] or {}
    found = {f"errors/{key}": errors.get(key) for key in ("before", "after", "of")}
    found |= {"rows/offered": facts["offered"], "rows/selected": len(facts["selected"])}
    found |= {"verdicts/accepted": sum(bool(v["accepted"]) for v in facts["verdicts"])}
    found |= {"verdicts/of": len(facts["verdicts"])}
    spent = list(facts["costs"].values()) if facts["session"] != "plain" else []
    if not spent:  # nothing was sent
        return {name: float(value) for name, value in found.items() if value is not None}
    found["seconds/protocol"] = math.fsum(max(c["seconds"] for c in roles.values()) for roles in spent if roles)
    found["megabytes/protocol"] = sum(c["bytes"] for roles in spent for c in roles.values()) / 1e6
    return {name: float(value) for name, value in found.items() if value is not None}


def _of_attacks(findings: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the numbers of attacks; of several findings by one attack, each after the first has a number."""
    found: dict[str, float] = {}
    for one in findings:
        plain = REFUSED.sub("_", one["attack"])
        name, count = plain, 2
        while f"recovered/{name}" in found:
            name, count = f"{plain}_{count}", count + 1
        found |= {f"recovered/{name}": one["recovered"], f"chance/{name}": one["chance"]}
        found[f"above_chance/{name}"] = above(one)
    return found


def _clear(seconds: float) -> dict[str, float]:
    return {"seconds/in_the_clear": seconds}


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
