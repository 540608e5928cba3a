"""The record of a marketplace run: one line of JSON, from which the report is made.

In go a `MarketResult` and the facts that it does not state; out comes a `MarketRecord`, which is written to a file and
read back. The record holds no pixel, no label of a row and no probability: it says which rows were selected, what the
verdicts on subsets were, what was opened to whom, and what the run cost.

A key may be added. A key that is added to KEYS is required of every record that is read, so that records of earlier
runs would be refused; known keys have to keep their names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.provenance import revision, versions
from mpc_appraisal.marketplace.result import MarketResult
from mpc_appraisal.reporting.json_lines import read_lines

KEYS = {
    "kind", "config", "revision", "versions", "time", "seed", "session", "protocol", "label", "leakage", "trust",
    "network", "sellers", "offered", "selection", "budget", "selected", "verdicts", "costs", "openings", "refused",
    "low", "errors",
}  # fmt: skip
KIND = "marketplace"
ONE_LINE = "one line of a marketplace run"


@dataclass(frozen=True)
class MarketRecord:
    """What is kept of one run.

    Attributes:
        facts: the content of the line, with the keys KEYS. Its entry `errors` belongs to experiments, where sellers are
            simulated: it counts the wrong predictions, in the clear and on independent test rows, of the network before
            the purchase and after it; its part `after` is None where no network is delivered.
    """

    facts: Mapping[str, Any]

    @staticmethod
    def of(result: MarketResult, stated: Mapping[str, Any]) -> MarketRecord:
        """Make the record of `result`.

        Args:
            result: what the run returned.
            stated: what the result does not say: config, seed, session, protocol, trust, network, sellers, offered,
                selection, budget, low and errors.
        """
        verdicts = [
            {
                "rows": len(v.rows),
                "wrong": v.wrong,
                "of": v.of,
                "threshold": v.threshold,
                "accepted": v.accepted,
                "sellers": sorted({result.selected[place][0] for place in v.rows}),
            }
            for v in result.verdicts
        ]
        return MarketRecord({
            "kind": KIND,
            "revision": revision(),
            "versions": versions(),
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **stated,
            "label": result.label,
            "leakage": list(result.leakage),
            "selected": [list(pair) for pair in result.selected],
            "verdicts": verdicts,
            "costs": result.costs,
            "openings": [opening.as_dict() for opening in result.openings],
            "refused": [list(pair) for pair in result.refused],
        })  # fmt: skip

    def __getitem__(self, key: str) -> Any:
        return self.facts[key]

    def write(self, path: str | Path) -> None:
        """Write the line to `path`, in place of whatever the file held."""
        Path(path).write_text(json.dumps(self.facts, allow_nan=False, sort_keys=True) + "\n", encoding="utf-8")

    @staticmethod
    def read(path: str | Path) -> MarketRecord:
        """Read a file that `write` wrote. Raises InputError, which names the file, for any other file."""
        try:
            found = read_lines(path, lambda facts: facts)
        except InputError as error:
            raise InputError(error.name, error.value, f"{ONE_LINE}: {error.expected}") from None
        if len(found) != 1:
            raise InputError(str(path), f"{len(found)} lines", ONE_LINE)
        missing = sorted(KEYS - set(found[0]))
        if missing or found[0]["kind"] != KIND:
            raise InputError(str(path), f"no {', '.join(missing) or KIND}", ONE_LINE)
        return MarketRecord(found[0])
