"""One party that measures converted models on shares: `crypten_layer_party.py ROLE ADDRESS FOLDER WHAT [TRANSPORT]`.

WHAT is `layers`, or `training` for all programs of `crypten_training`; both owners run it over the mended CrypTen.
"""

from __future__ import annotations

import sys
import time
import traceback

import crypten_training
import torch
from attended import attended
from crypten_layers import CASES, measured

from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.mpc.backends.asked import AskedSession, deal_asked
from mpc_appraisal.mpc.crypten_programs import mending
from mpc_appraisal.mpc.net.transport import Transport


def layers(crypten) -> dict:
    """The errors of every case, or the error that it ended in."""
    found = {}
    for name, case in CASES.items():
        began = time.monotonic()
        try:
            found[name] = measured(crypten, case)
        except Exception as error:  # noqa: BLE001  The test says which case failed, and how.
            found[name] = f"{type(error).__name__}: {error}"
        print(f"{time.monotonic() - began:.2f} {name} {found[name]}", file=sys.stderr, flush=True)
    return found


PROGRAMS = (
    "gradients",
    "grouped",
    "approximations",
    "training",
    "losses",
    "own_modules",
    "added_modules",
    "dropout",
    "received",
)


def training(crypten) -> dict:
    """What each program of `crypten_training` finds, or the error that it ended in."""
    found = {}
    for name in PROGRAMS:
        began = time.monotonic()
        try:
            found[name] = getattr(crypten_training, name)(crypten)
        except Exception as error:  # noqa: BLE001  The test says which program failed, and how.
            found[name] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        print(f"{time.monotonic() - began:.2f} {name} {found[name]}", file=sys.stderr, flush=True)
    return found


def main(role: str, address: str, folder: str, what: str, transport: str = "tcp") -> int:
    kind = Transport(transport, folder if transport == "tls" else None, freeze_timeout=10.0)
    torch.set_num_threads(1)

    def run(link, _):
        if role not in OWNERS:
            deal_asked(link, 300.0, transport)
            return None
        session = AskedSession(link, 300.0, transport)
        mending.carry(session)
        found = globals()[what](mending.mend())
        mending.release()
        session.close()
        return found

    return attended(role, kind, address, 300.0, run)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
