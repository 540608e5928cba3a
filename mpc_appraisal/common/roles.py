"""The three roles and their ranks."""

from __future__ import annotations

from mpc_appraisal.common.errors import InputError

MODEL_OWNER, DATA_OWNER, DEALER = "model_owner", "data_owner", "dealer"
ROLES = (MODEL_OWNER, DATA_OWNER, DEALER)  # a role's place is its rank
OWNERS = (MODEL_OWNER, DATA_OWNER)

TRUST = (
    "Semi-honest parties, a dealer that does not collude with either, no integrity of the result against a cheating "
    "party."
)


def rank_of(role: str) -> int:
    """Rank of `role`; raises InputError for an unknown one."""
    if role not in ROLES:
        raise InputError("session.role", repr(role), f"one of {', '.join(ROLES)}")
    return ROLES.index(role)
