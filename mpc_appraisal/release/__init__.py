"""What is released of an appraisal (`rule` and its strategies), and what that costs: the privacy budget of a data set,
kept in a ledger for each counterparty."""

from mpc_appraisal.governance.budget.accounting import Mechanism, epsilon
from mpc_appraisal.governance.budget.ledger import Ledger
from mpc_appraisal.governance.budget.ledgers import LedgerSet, ledger_beside, subject
from mpc_appraisal.governance.budget.limits import Policy, Question
from mpc_appraisal.governance.budget.state import Account, Answer, Charge, Spent, verify
from mpc_appraisal.release.base import Outcome, Release
from mpc_appraisal.release.best import Best
from mpc_appraisal.release.bit import Bit
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
    "Question",
    "Release",
    "Spent",
    "Value",
    "epsilon",
    "ledger_beside",
    "subject",
    "verify",
]
