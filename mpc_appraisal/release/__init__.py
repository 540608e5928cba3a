"""What a released value costs: the privacy budget of a data set, kept in a ledger for each counterparty."""

from mpc_appraisal.release.accounting import Mechanism, epsilon
from mpc_appraisal.release.ledger import Account, Answer, Charge, Ledger, Spent, verify
from mpc_appraisal.release.policy import Policy, Question

__all__ = ["Account", "Answer", "Charge", "Ledger", "Mechanism", "Policy", "Question", "Spent", "epsilon", "verify"]
