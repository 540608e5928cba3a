"""Who the other owner is: its certificate's key, compared with the one that this party expects.

In go this party's input and the connection; out comes nothing, or an error. A typed name binds nobody. An offer that
the model owner takes has to be signed with the key that the data owner shows.
"""

from __future__ import annotations

from mpc_appraisal.appraisal.plan import OwnInput
from mpc_appraisal.common.errors import DisagreementError, InputError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.mpc.net.rendezvous import Rendezvous


def check_counterparty(role: str, own: OwnInput, rendezvous: Rendezvous) -> None:
    """Compare the certificate key that the other owner shows with the one that party.counterparty_key states.

    The key that signed party.offer is compared in the same way. Raises InputError over a transport that shows no key,
    and DisagreementError for another key.
    """
    if own is None:
        return
    other = MODEL_OWNER if role == DATA_OWNER else DATA_OWNER
    found, offer = rendezvous.certified(other), own.controls.offer
    if offer is not None and found is None:
        raise InputError("party.offer", offer.name, "session.transport=tls: no other transport shows who signed it")
    if offer is not None and found != offer.content["key"]:
        raise DisagreementError(
            f"the offer {offer.name} (party.offer) was signed with the key {offer.content['key']}; expected that of "
            f"the {other.replace('_', ' ')}, whose SHA-256 is {found}"
        )
    stated = own.controls.counterparty_key
    if stated is None:
        return
    if found is None:
        raise InputError("party.counterparty_key", stated, "session.transport=tls: no other transport shows a key")
    if found != stated:
        raise DisagreementError(f"{other} shows a certificate key with SHA-256 {found}, which {role} does not expect")
