"""What an owner gains that departs from the protocol, without the check of messages and with it (session.integrity).

| cheat | by | how |
|---|---|---|
| a shifted value | data owner | adds a constant to its share of the result |
| a cell of a row | model owner | weights of zeros, a direction of one feature, and a constant on one row's 1 / s |

Both run an appraisal by influence between three processes, of which the cheat's runs code of its own. Without the check
the shifted value is opened, and the cell follows from the difference of two opened values: with a constant on the
row's 1 / s, the value moves by a multiple of the cell, the same for all cells, which the column of ones tells.
With the check, the session ends in an error that names the cheat. A row of the part "cheats" has in `truth` the right
value, or the cell, in `gained` the value that the cheat had opened, or the cell that it read, and in `refusal` the
error's words.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from experiments.harness.records import Row
from mpc_appraisal import Dataset, Influence
from mpc_appraisal.appraisal.party import take_part
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, Plan
from mpc_appraisal.appraisal.sessions import Spawn, _with
from mpc_appraisal.common.errors import AppraisalError, IntegrityError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, ROLES
from mpc_appraisal.data import Digits
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.net.launch import launch
from mpc_appraisal.mpc.protocols import slopes
from mpc_appraisal.mpc.protocols.engine import Engine

L2, KNOWN, SOLD = 1e-2, 200, 300  # rows of the model owner's, twice, and of the candidate
SHIFT, ROW, CELLS = 1 << 24, 17, 4  # what is added to a share; the row that is read, and how many of its cells
SHIFTED, CELL = "a shifted value", "a cell of a row"


def is_share(value: Any) -> bool:
    """Return whether the engine computes on numbers: a careful cheat replays the honest program, on forms."""
    return isinstance(value, torch.Tensor) and not value.is_meta


def shifted() -> list[Any]:
    """Return patches that add a constant to this owner's share of the result."""
    settle, blinded = Engine.settle, Engine.blinded
    return [
        mock.patch.object(Engine, "settle", lambda self, share: settle(self, share + SHIFT * is_share(share))),
        mock.patch.object(Engine, "blinded", lambda self, share: blinded(self, share) + SHIFT * is_share(share)),
    ]


def picked(cell: int) -> list[Any]:
    """Return patches that bring weights of zeros and a direction of one feature."""
    prepare = Influence.prepare

    def chosen(self, model, train, test):
        owned = {key: torch.zeros_like(value) for key, value in prepare(self, model, train, test).items()}
        owned["direction"][cell, 0] = 1.0
        return owned

    return [mock.patch.object(Influence, "prepare", chosen)]


def lifted(cell: int) -> list[Any]:
    """Return the same patches, and one that adds a constant to this owner's share of one row's 1 / s."""
    opening = slopes.reciprocal_opening

    def higher(engine, s, how):
        found = opening(engine, s, how)
        if is_share(found.share):
            found.share = found.share.clone()
            found.share[ROW] += 1 << (found.bits - 2 + found.drop)
        return found

    return [*picked(cell), mock.patch.object(slopes, "reciprocal_opening", higher)]


def play(role: str, address: str, emit, folder: Path, plan: Plan, own: Any, cheat: Any) -> float | str | None:
    """Be one party, and return the opened value, or the words of an error."""
    with ExitStack() as patched:
        for patch in cheat() if cheat else ():
            patched.enter_context(patch)
        try:
            records = take_part(role, address, plan, lambda: own, emit, hosted=True, session_name="spawn")
        except AppraisalError as error:
            return f"{type(error).__name__}: {error}"
    return records[0].value if records else None


class Market:
    """Two owners of digits, and sessions between them in which one may cheat, with an engine and perhaps its check."""

    def __init__(self, checked: bool, engine: str = "fast"):
        data = Digits().load()[0]
        parts = [data.subset(torch.arange(k, k + n)) for k, n in ((0, KNOWN), (KNOWN, KNOWN), (2 * KNOWN, SOLD))]
        self.sold: Dataset = parts[2]
        self.own = {MODEL_OWNER: ModelOwnerInput(*parts[:2]), DATA_OWNER: DataOwnerInput((self.sold,)), DEALER: None}
        public = {"methods": ["influence"], "l2": L2}
        plan = Plan((Influence(),), L2, 0, config_hash(public), partial(fit, l2=L2), public)
        self.checked, self.plan = checked, _with(replace(plan), Spawn(engine=engine, integrity=checked), None)

    def session(self, cheat: Any = None, by: str = MODEL_OWNER) -> dict[str, float | str | None]:
        """Return what each party was shown, by role."""
        jobs = {
            role: {"plan": self.plan, "own": self.own[role], "cheat": cheat if role == by else None} for role in ROLES
        }
        return launch(play, jobs, lambda event: None)


def row(market: Market, cheat: str, by: str, truth: float, gained: float | None, refusal: str | None, **more) -> Row:
    told = {"cheat": cheat, "by": by, "checked": market.checked, "truth": truth, "gained": gained, "refusal": refusal}
    return {"part": "cheats", "data": "digits", "rows": SOLD, "error": None, "cells": None} | told | more


def cheats() -> list[Row]:
    """Return the rows of both cheats, without the check and with it."""
    return [each for checked in (False, True) for each in (shift(Market(checked)), cells(Market(checked)))]


def shift(market: Market) -> Row:
    """Let the data owner shift the value."""
    right, found = market.session()[MODEL_OWNER], market.session(shifted, DATA_OWNER)[MODEL_OWNER]
    if isinstance(found, str):
        return row(market, SHIFTED, DATA_OWNER, right, None, named(found, DATA_OWNER))
    return row(market, SHIFTED, DATA_OWNER, right, found, None)


def cells(market: Market) -> Row:
    """Let the model owner read cells of one row. `error` has the largest error of a cell, of 0 to 1."""
    at, truth = market.sold.features, market.sold.x[ROW].double()
    chosen = truth.argsort(descending=True)[: CELLS // 2].tolist() + truth.argsort()[: CELLS // 2].tolist()
    moved = []
    for cell in (at, *chosen):
        found = market.session(partial(lifted, cell), MODEL_OWNER)[DATA_OWNER]
        if isinstance(found, str):
            return row(market, CELL, MODEL_OWNER, truth[chosen[0]].item(), None, named(found, MODEL_OWNER))
        moved.append(found - market.session(partial(picked, cell), MODEL_OWNER)[DATA_OWNER])
    read = torch.tensor(moved[1:], dtype=torch.float64) / moved[0]
    error = (read - truth[chosen]).abs().max().item()
    return row(market, CELL, MODEL_OWNER, truth[chosen[0]].item(), read[0].item(), None, error=error, cells=CELLS)


def named(words: str, cheat: str) -> str:
    """Return the error's words. Raises AppraisalError where they are not the check's, or do not name the cheat."""
    if not words.startswith(IntegrityError.__name__) or cheat not in words:
        raise AppraisalError(f"cheats: got {words!r}; expected an IntegrityError that names {cheat}")
    return words.partition(": ")[2]
