"""The three roles, their ranks, and the sentences that state what the parties trust.

The model owner has the model, the data owner the candidates, which are the data sets on offer, and the dealer supplies
random numbers. A rank is the number of a party in a session. Roles and ranks have to stay, because messages and records
hold them. The sentences stand in requests, records and cards: with another wording, a request has another digest, and
the parties must all have the same.
"""

from __future__ import annotations

from mpc_appraisal.common.checks import one_of

MODEL_OWNER, DATA_OWNER, DEALER = "model_owner", "data_owner", "dealer"
ROLES = (MODEL_OWNER, DATA_OWNER, DEALER)  # the place of a role in this tuple is its rank
OWNERS = (MODEL_OWNER, DATA_OWNER)
# What the roles are called in the encrypted marketplace, in commands, certificates and errors.
MARKET_NAMES = {MODEL_OWNER: "shopper", DATA_OWNER: "cloud", DEALER: "authority"}

# The setting by which the owners check each other's messages, and its values as requests and records state them.
INTEGRITY, ON, OFF = "session.integrity", "on", "off"

# The setting by which all parties dial one relay; requests and records state ON and not its address.
RELAY = "session.relay"

# The trust model in one sentence, where nobody checks messages. Reports that compare engines print it.
ASSUMPTION = (
    "Semi-honest parties, a dealer that does not collude with either, no integrity of the result against a cheating "
    "party."
)
# What a cheating owner can still do where its messages are not checked. This and the trust models below stand in
# requests, records and cards.
CHEATING = (
    "A cheating owner cannot have the dealer unmask the other's rows or weights, and cannot choose what both are "
    "shown. It can shift an opened number blindly, which nothing detects, turn a bit, refuse to open after it has seen "
    "a result, and bring other data, another model or another threshold; a shifted number can be a cell of a row."
)
TRUST = (
    "The parties follow the protocol, which nothing checks, and the dealer colludes with neither owner. "
    f"{CHEATING} A cheating dealer can shift results; with one owner's help it reads the other's inputs."
)
# The trust model with session.integrity=on: both owners check all of each other's messages (`mpc.integrity`).
TRUST_CHECKED = (
    "A cheating owner is caught before anything is opened, and the dealer follows the protocol and colludes with "
    "neither owner. Each owner is shown that every message of the other one is the message that the protocol "
    "prescribes. An altered message passes with a probability of at most 2^-40; otherwise the session ends in an error "
    "that names a party, and nothing is opened. An owner can end the session, but not after it has seen a result. Not "
    "covered is what an owner itself brings in, which can be other data, another model or noise of its choice. A "
    "cheating dealer can shift results, which nothing detects; with one owner's help it reads the other's inputs."
)
# What a relay learns and can do, which follows the trust model where all parties dial one. See `mpc.net.relay`.
RELAY_TRUST = (
    "All parties dial out to one relay (session.relay), and none opens a port. Whoever runs the relay learns the "
    "parties' addresses and roles, and the times and sizes of what they send. It has no key, reads nothing and changes "
    "nothing unnoticed; it can end a session or hold it up. With a party's help it learns what that party knows, and "
    "no more."
)
# The trust model of CrypTen as shipped, see `mpc.backends.stock`.
STOCK_TRUST = (
    "The parties follow the protocol, and the dealer colludes with neither owner. The dealer takes its orders from the "
    "model owner alone (rank 0), one by one, and nothing pins what it deals: there is no script that both owners make "
    "and that the dealer compares. So a cheating model owner can have the dealer deal what the program has no use "
    "for, and may so read the data owner's rows. A cheating owner can also shift an opened number, which nothing "
    "detects, refuse to open after it has seen a result, and bring other data or another model. A cheating dealer can "
    "shift results; with one owner's help it reads the other's inputs. The generators of shares and masks are not "
    "cryptographic."
)


def rank_of(role: str) -> int:
    """Return the rank of `role`. Raises InputError for an unknown role."""
    one_of("session.role", role, ROLES)
    return ROLES.index(role)
