"""Who the other owner is: its certificate's key, compared with the one that this party expects.

In go this party's input and the connection; out comes nothing, or an error. A typed name binds nobody.
"""

from __future__ import annotations

from mpc_appraisal.appraisal.plan import OwnInput
from mpc_appraisal.common.errors import DisagreementError, InputError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.mpc.net.rendezvous import Rendezvous


def check_counterparty(role: str, own: OwnInput, rendezvous: Rendezvous) -> None:
    """Compare the certificate key that the other owner shows with the one that party.counterparty_key states.

    Raises InputError over a transport that shows no key, and DisagreementError for another key.
    """
    stated = own.controls.counterparty_key if own is not None else None
    if stated is None:
        return
    other = MODEL_OWNER if role == DATA_OWNER else DATA_OWNER
    found = rendezvous.certified(other)
    if found is None:
        raise InputError("party.counterparty_key", stated, "session.transport=tls: no other transport shows a key")
    if found != stated:
        raise DisagreementError(f"{other} shows a certificate key with SHA-256 {found}, which {role} does not expect")
