"""Makes CrypTen's module carry a program that was written for it: what is wrong in it is replaced, once a process.

`mend` loads CrypTen and lets each file of this folder replace its names; the tables stand there. `carry` then lets
CrypTen compute over a session's engine, and `release` ends that. A process that never calls `mend` has CrypTen as it
was released, with the replacements of `protocols.crypten_adapter` alone, if anything imports that.
"""

from __future__ import annotations

from types import ModuleType

from mpc_appraisal.mpc.backends.fast import FastSession
from mpc_appraisal.mpc.crypten_programs import (
    communicator,
    configuration,
    encoding,
    exporting,
    functions,
    generators,
    gradients,
    graphs,
    index_gradients,
    label_privacy,
    launching,
    layers,
    normalisation,
    objects,
    pool_gradients,
    process_group,
    providers,
)
from mpc_appraisal.mpc.protocols import crypten_adapter
from mpc_appraisal.mpc.ring.prg import KEY_BYTES

MENDED = (
    configuration,
    encoding,
    generators,
    objects,
    providers,
    label_privacy,
    functions,
    gradients,
    index_gradients,
    pool_gradients,
    normalisation,
    graphs,
    layers,
    exporting,
    launching,
)
_done: list[ModuleType] = []


def mend() -> ModuleType:
    """Return the module crypten with everything replaced that the files of this folder list.

    Raises AppraisalError: CrypTen cannot be imported; the message says how to install it.
    """
    if not _done:
        crypten = crypten_adapter.crypten
        for each in MENDED:
            each.install(crypten)
        _done.append(crypten)
    return _done[0]


def carry(session: FastSession) -> communicator.ProgramCommunicator:
    """Let CrypTen compute over the engine of `session`, in this process, until `release`; both owners call this.

    The owners draw a common key from their pair stream, for the streams that a program may share with the other owner.
    The provider that the program's configuration names stays named there, and means the dealer.
    """
    crypten, engine = mend(), session.context.engine
    named = crypten.cfg.mpc.provider
    crypten_adapter.use(engine)
    crypten.cfg.mpc.provider = named if named in providers.NAMES else crypten_adapter.NAME
    providers.carry(crypten, engine)
    generators.fill(crypten, engine.pair.octets((KEY_BYTES,)).numpy().tobytes(), engine.me)
    found = communicator.ProgramCommunicator(session)
    crypten_adapter.DistributedCommunicator.instance = found
    found.main_group = process_group.open_group(found)
    return found


def release() -> None:
    """Take CrypTen off the engine. Nothing is sent; the session is closed by whoever has opened it."""
    process_group.close_group()
    crypten_adapter.DistributedCommunicator.instance = None
