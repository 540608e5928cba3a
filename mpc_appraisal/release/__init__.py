"""Strategies that decide what is opened of an appraisal: `Release` and its four kinds.

`Value` opens the value, `Bit` one bit of it, `Best` the best candidates alone, and `NoisedRelease` a value or a bit
with noise. Every strategy has a `ReleaseDescription`, from which the agreement, the ledgers and the record read what it
opens, to whom, and at what cost. A new strategy is added here and in conf/release. This room also exports the names of
the privacy budget, which is kept in `governance.budget`, for callers of earlier versions; those names have to stay.
"""

from mpc_appraisal.governance.budget.accounting import Mechanism, epsilon
from mpc_appraisal.governance.budget.ledger import Ledger
from mpc_appraisal.governance.budget.ledgers import LedgerSet, ledger_beside, subject
from mpc_appraisal.governance.budget.limits import Policy, Question
from mpc_appraisal.governance.budget.state import Account, Answer, Charge, Spent, verify
from mpc_appraisal.release.base import Outcome, Release
from mpc_appraisal.release.best import Best
from mpc_appraisal.release.bit import Bit
from mpc_appraisal.release.description import Privacy, ReleaseDescription
from mpc_appraisal.release.dp.release import NoisedRelease
from mpc_appraisal.release.value import Value

__all__ = [
    "Account",
    "Answer",
    "Best",
    "Bit",
    "Charge",
    "LedgerSet",
    "Ledger",
    "Mechanism",
    "Outcome",
    "Policy",
    "NoisedRelease",
    "Privacy",
    "Question",
    "Release",
    "ReleaseDescription",
    "Spent",
    "Value",
    "epsilon",
    "ledger_beside",
    "subject",
    "verify",
]
