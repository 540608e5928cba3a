"""`mpc-appraisal market` as a process of its own: `market_party.py enrol|upload|join ...`."""

from __future__ import annotations

import sys

from mpc_appraisal.errors import AppraisalError
from mpc_appraisal.marketplace.command import main

try:
    main(sys.argv[1:])
except AppraisalError as error:
    sys.exit(f"{type(error).__name__}: {error}")
