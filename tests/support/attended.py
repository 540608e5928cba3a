"""One party of a session in a process of a test: it prints what it has found, or its error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.net.lifecycle import attend
from mpc_appraisal.mpc.net.transport import Transport


def attended(role: str, kind: Transport, address: str | None, patience: float, run: Callable[..., Any]) -> int:
    """Run `run(link, _)` as this party, print its result as JSON or its error, and return the process's status."""
    try:
        print(json.dumps(attend(role, kind, address, patience, lambda: None, run)))
    except AppraisalError as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return error.status
    return 0
