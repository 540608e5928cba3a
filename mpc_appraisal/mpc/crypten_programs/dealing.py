"""The dealer of a CrypTen program, as a process of its own: `python -m mpc_appraisal.mpc.crypten_programs.dealing`.

The environment says where the owners are (see `meeting`). The dealer answers their requests until both end the session.
It imports no CrypTen, and sees shapes and no data.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.backends.asked import deal_asked
from mpc_appraisal.mpc.crypten_programs.meeting import Meeting, own_names
from mpc_appraisal.mpc.net.lifecycle import LINGER_SECONDS


def deal(meeting: Meeting) -> None:
    """Be the dealer of one session at `meeting`, whoever this process is there.

    Raises:
        PeerError: An owner does not come, or is lost before the end.
        DisagreementError: The owners do not ask for the same.
    """
    meeting = replace(meeting, rank=meeting.owners)
    with own_names():
        link, _ = meeting.connect()
        try:
            link.announce()
            deal_asked(link, meeting.timeout, meeting.transport.kind)
            meeting.await_others(link)
        except BaseException as error:
            link.abort(getattr(error, "public", "it was interrupted"))
            raise
        finally:
            meeting.leave(link, LINGER_SECONDS)


if __name__ == "__main__":
    try:
        deal(Meeting.of_environment())
    except AppraisalError as error:
        print(f"dealer: {error}", file=sys.stderr)
        sys.exit(error.status)
