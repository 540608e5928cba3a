"""What a data owner gains that shifts its share of the value, by engine, without the check of messages and with it.

An appraisal by influence runs between three processes, of which the data owner's adds a constant to its share of the
result before it is opened. Where an engine refuses the check, the row has the refusal's words, since whoever asks for
it gets no session. All rows are of the part "cheat": protocol, checked, rows, truth (the right value), gained (the
value that was opened, or None), refusal (the words of the error, or None), revision.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

from experiments.harness.jobs import Job
from experiments.harness.records import Row
from experiments.studies.extraction.cheats import SHIFT, SOLD, Market, named, shifted
from mpc_appraisal.appraisal.covered import check_covered
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.provenance import revision
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER

ENGINES = ("fast", "stock", "rtas")


def jobs() -> list[Job]:
    """Return a job for all engines."""
    return [Job("cheat", measure, ())]


def shifted_share() -> list[Any]:
    """Return patches that add a constant to this owner's share of the result, whatever the engine."""
    from mpc_appraisal.mpc.backends.stock import StockSession

    committed = StockSession._committed
    return [*shifted(), mock.patch.object(StockSession, "_committed", lambda self, s: committed(self, s + SHIFT))]


def measure() -> list[Row]:
    """Return a row for each engine without the check, and one with it."""
    return [shift(engine, checked) for engine in ENGINES for checked in (False, True)]


def shift(engine: str, checked: bool) -> Row:
    """Let the data owner shift the value, or say why the check is refused."""
    row = {"part": "cheat", "protocol": engine, "checked": checked, "rows": SOLD, "revision": revision()}
    market = Market(checked, engine)
    try:
        check_covered(market.plan)
    except InputError as error:
        return row | {"truth": None, "gained": None, "refusal": str(error)}
    truth, found = market.session()[MODEL_OWNER], market.session(shifted_share, DATA_OWNER)[MODEL_OWNER]
    if isinstance(found, str):
        return row | {"truth": truth, "gained": None, "refusal": named(found, DATA_OWNER)}
    return row | {"truth": truth, "gained": found, "refusal": None}
