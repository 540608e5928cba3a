"""The lifecycle of a party in a session of any kind: it meets the others, runs, announces its end, and leaves.

A party of an appraisal and a role of the marketplace both go through `attend`, each with its own function to run. In
goes a transport with an address, a function that reads this party's own input, and the function to run; out comes the
function's result.

The times may change. It has to stay that a party which fails announces it to the others before it leaves, in words
without anything private, and that the model owner opens the rendezvous before it reads its input, since the others wait
for the rendezvous.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from mpc_appraisal.common.environment import keep_freed_memory
from mpc_appraisal.common.errors import AppraisalError, PeerError
from mpc_appraisal.common.roles import MODEL_OWNER
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.net.tls import TlsLink
from mpc_appraisal.mpc.net.transport import Transport

LINGER_SECONDS = 5.0  # how long the host of a rendezvous stays at most: the others still read the last messages
REFUSAL_SECONDS = 6.0  # how long a party with a bad input tries to reach the others, to announce that it stops
Link = Rendezvous | TlsLink
Input = TypeVar("Input")
Result = TypeVar("Result")


def attend(
    role: str,
    transport: Transport,
    address: str | None,
    join_timeout: float,
    read: Callable[[], Input],
    run: Callable[[Link, Input], Result],
    hosted: bool = False,
) -> Result:
    """Take `role` in a session from the meeting to the goodbye.

    The model owner hosts the rendezvous, so it opens the rendezvous before it reads its input, which may take a while;
    the others read their input first. A party that fails announces why to the others, in words without anything
    private, before it raises.

    Args:
        role: 'model_owner', 'data_owner' or 'dealer'.
        transport: how the parties are connected.
        address: 'tcp://host:port' of the rendezvous; None under torchrun.
        join_timeout: seconds to wait for the other parties to come.
        read: a function that returns this party's own input, or raises an AppraisalError for a bad input.
        run: a function of the rendezvous and the input, which is what this party does once all have met.
        hosted: True if a launcher hosts the rendezvous.

    Returns what `run` returned.

    Raises:
        PeerError: another party failed, vanished or never came. Whatever `read` and `run` raise is raised as well.
    """
    keep_freed_memory()
    rendezvous, own, refusal = None, None, None
    if role == MODEL_OWNER:
        rendezvous = transport.connect(role, address, join_timeout, hosted)
    try:
        own = read()
    except AppraisalError as error:
        refusal = error
    except BaseException:
        if rendezvous is not None:
            _leave(rendezvous, "it was interrupted")
        raise
    try:
        if rendezvous is None:
            rendezvous = transport.connect(role, address, REFUSAL_SECONDS if refusal else join_timeout, hosted)
        if refusal:
            raise refusal
        with rendezvous.interrupting():
            rendezvous.announce()
            result = run(rendezvous, own)
            with suppress(PeerError):  # this party already has everything that it came for
                rendezvous.exchange("done", {})
        rendezvous.close(LINGER_SECONDS)
        return result
    except BaseException as error:
        if rendezvous is not None:
            # A lost peer is announced to the others too. A party that talks to this one alone would otherwise take this
            # one for the lost one.
            _leave(rendezvous, error.public if isinstance(error, AppraisalError) else "it was interrupted")
        if refusal is not None:
            raise refusal from None  # whether or not the others could be reached
        raise


def _leave(rendezvous: Link, reason: str) -> None:
    """Announce to the others why this party stops, and leave."""
    rendezvous.abort(reason)
    rendezvous.close(LINGER_SECONDS)
