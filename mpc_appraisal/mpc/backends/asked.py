"""A session whose dealer is asked while the program runs, for programs whose shapes depend on opened values.

`AskedSession` is an owner's session, and `deal_asked` is the dealer. Both owners run the same program, and make the
same requests in the same order; there is no dry run and no script. See `protocols.asked_dealer` for what is sent.
"""

from __future__ import annotations

from mpc_appraisal.mpc.backends.fast import DrySession, FastSession, open_channel
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.protocols.asked_dealer import answer_requests
from mpc_appraisal.mpc.protocols.asked_engine import AskedEngine
from mpc_appraisal.mpc.protocols.dealer import Dealer
from mpc_appraisal.mpc.protocols.orders import tensor_of
from mpc_appraisal.mpc.protocols.script_limits import Limits
from mpc_appraisal.mpc.ring.prg import new_key


class AskedRehearsal(DrySession):
    """A dry run that records what the program asks of the dealer, and what it takes for that."""

    _engine = AskedEngine


class AskedSession(FastSession):
    """An owner's session that asks the dealer as the program runs.

    Args:
        rendezvous: The connection to the other parties.
        timeout: The seconds that one message may take.
        transport: The transport by which the rendezvous was made, a key of `fast.CHANNELS`.
    """

    _engine = AskedEngine

    def __init__(self, rendezvous: Rendezvous, timeout: float, transport: str = "tcp"):
        super().__init__(rendezvous, timeout, transport)

    def prepare(self, program=None, script=None) -> bool:
        """Ask ahead for what `program` will need, if it runs dry; both owners call this, or neither.

        A program that cannot be run on shapes, since it opens a value on the way and goes by it, is asked for as it
        runs. So is one that turns out to make other requests than in its dry run. `script` is not used.

        Returns whether the program ran dry.
        """
        if program is None:
            return False
        dry = AskedRehearsal(self.role)
        try:
            program(dry)
        except Exception:  # Whatever a program does with a tensor that has no values; a real error comes again.
            return False
        self.context.engine.follow(dry.context.engine)
        return True

    def close(self, orderly=True):
        if orderly:
            self.context.engine.end_requests()
        super().close(orderly)


def deal_asked(rendezvous: Rendezvous, timeout: float, transport: str = "tcp", limits: Limits | None = None) -> Meter:
    """Be the dealer of one session of both owners' `AskedSession`, until both end it.

    Args:
        rendezvous: The connection to the owners.
        timeout: The seconds that one message may take.
        transport: The transport by which the rendezvous was made.
        limits: The limits on what all requests together may ask for. None allows what this machine can hold.

    Returns the count of what the dealer has sent.

    Raises:
        DisagreementError: The owners have made different requests, or requests beyond the limits.
        AppraisalError: An owner has sent something else, or a request cannot be answered.
        PeerError: An owner was lost.
    """
    meter = Meter()
    channel = open_channel(rendezvous, meter, timeout, transport)
    keys = [new_key(), new_key()]
    for rank, key in enumerate(keys):
        channel.send(tensor_of(key), rank)
    dealer = Dealer(keys, lambda correction: channel.send(correction, 0))
    answer_requests(channel, dealer, limits or Limits.of_this_machine(), lambda: None)
    channel.close()
    return meter
