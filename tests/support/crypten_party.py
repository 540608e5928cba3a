"""One party of CrypTen programs: `crypten_party.py ROLE ADDRESS WHAT`, or `crypten_party.py stock RANK FILE WHAT`.

WHAT names functions of `crypten_cases`, with commas between them: programs of both owners, which take the module
crypten and this owner's rank. What they return is printed as JSON, by their names. A stock party computes with CrypTen
as it was released, over gloo, with rank 0 as the dealer (TFP), so that a test can show what is mended.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import crypten_cases
import torch

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.mpc.net.transport import Transport


def over_the_engine(role: str, address: str, what: str) -> Any:
    from mpc_appraisal.mpc.backends.asked import AskedSession, deal_asked
    from mpc_appraisal.mpc.crypten_programs.mending import carry, mend, release
    from mpc_appraisal.mpc.net.lifecycle import attend

    def run(link, _):
        if role not in OWNERS:
            deal_asked(link, 60.0)
            return None
        session = AskedSession(link, 60.0)
        carry(session)
        found = {}
        for name in what.split(","):
            session.ledger.clear()
            found[name] = [getattr(crypten_cases, name)(mend(), session.context.engine.me)]
            found[name].append(mend().communicator.get().openings())
        release()
        session.close()
        return found

    return attend(role, Transport("tcp", freeze_timeout=30.0), address, 60.0, lambda: None, run)


def over_stock(rank: str, file: str, what: str) -> Any:
    from mpc_appraisal.mpc.protocols.crypten_compat import load

    crypten = load()
    crypten.cfg.mpc.provider = "TFP"
    stated = {"RANK": rank, "WORLD_SIZE": "2", "RENDEZVOUS": f"file://{file}", "DISTRIBUTED_BACKEND": "gloo"}
    os.environ.update(stated)
    crypten.init()
    return {name: [getattr(crypten_cases, name)(crypten, int(rank)), []] for name in what.split(",")}


def main(role: str, *arguments: str) -> int:
    torch.set_num_threads(1)
    try:
        found = over_stock(*arguments) if role == "stock" else over_the_engine(role, *arguments)
    except AppraisalError as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return error.status
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
