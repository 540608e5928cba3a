"""`mpc-appraisal market` as a process of its own: `market_party.py enrol|upload|join ...`."""

from __future__ import annotations

import sys

from mpc_appraisal.cli.commands.market import main
from mpc_appraisal.common.errors import AppraisalError

try:
    main(sys.argv[1:])
except AppraisalError as error:
    sys.exit(f"{type(error).__name__}: {error}")
