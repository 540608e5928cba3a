"""The roles of the marketplace, one file each, and the seats that they take between the processes.

The roles are the shopper, who wants to buy rows, the cloud, which computes on sellers' uploads, and the key authority.
They meet as model owner, data owner and dealer, because that is how the transport knows its three parties. The code of
the marketplace says SHOPPER, CLOUD and AUTHORITY throughout; costs, errors and records carry the names of the seats, so
that the seats may not be exchanged. SPOKEN, the words of reports, may change. Sellers take no seat: they have left
before a run begins.
"""

from __future__ import annotations

from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER

SHOPPER, CLOUD, AUTHORITY = MODEL_OWNER, DATA_OWNER, DEALER
SELLERS = "sellers"  # all sellers together, in a table of costs
SPOKEN = {SHOPPER: "shopper", CLOUD: "cloud", AUTHORITY: "key authority"}
