"""What a party and a relay say to each other, in lines, before the relay forwards anything.

    mpc-appraisal-relay 1 VERB SESSION SEAT ROLE INSTANCE      the party's line
    wait | met INSTANCE | refused KIND WORDS | why WORDS       the relay's answers

VERB is `listen` (this party takes the seat SEAT and waits for another), `dial` (it wants to be connected with whoever
has the seat), or `why` (it asks why its session was ended). SESSION is the session's token, 64 hex digits. The relay
answers `wait` at once where the other end is not there yet. INSTANCE tells apart who listens at one seat: a party that
dials twice asks the second time for the one that it has met, or for `-`, which is anyone. After `met`, every byte
belongs to the two parties. KIND is a kind of refusal, one of the constants below.

The token is the SHA-256 of the public key in ca.pem, which all parties of a session hold, and of the session's name.
Where ca.pem holds several certificates, as without an authority, their keys' digests are taken in order of their value.
So the parties exchange no new secret. Who knows ca.pem can derive the token too. It can take a seat, but it cannot show
the certificate that the other parties expect. The lines have to stay as they are.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.mpc.net.certificates import key_digest

MAGIC = "mpc-appraisal-relay 1"
LISTEN, DIAL, WHY = VERBS = ("listen", "dial", "why")
WAIT, MET = b"wait", "met"
LINE_BYTES = 512  # neither side reads a longer line
FULL, SEATS, WAITED, OTHER = KINDS = ("full", "seats", "waited", "other")
DOMAIN = b"mpc_appraisal relay session 1\n"
GREETING = re.compile(
    rf"{MAGIC} ({'|'.join(VERBS)}) ([0-9a-f]{{64}}) ([a-z_]{{1,32}}) ([a-z_]{{1,32}}) ([0-9a-f]{{16}}|-)"
)
ANYONE = "-"
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Greeting:
    """A party's first line: see the head of this file."""

    verb: str
    session: str
    seat: str
    role: str
    instance: str = ANYONE

    @property
    def line(self) -> bytes:
        """Return the line, with its end."""
        return f"{MAGIC} {self.verb} {self.session} {self.seat} {self.role} {self.instance}\n".encode("ascii")

    def suits(self, other: Greeting) -> bool:
        """Return whether one that listens and one that dials at the same seat may be paired."""
        return ANYONE in (self.instance, other.instance) or self.instance == other.instance

    @staticmethod
    def read(line: bytes) -> Greeting | None:
        """Return the greeting that a line without its end holds, or None for any other line."""
        match = GREETING.fullmatch(line.decode("latin-1"))
        return Greeting(*match.groups()) if match else None


def session_token(authority: Path, name: str) -> str:
    """Return the token of a session, 64 hex digits, which all its parties derive alike.

    Args:
        authority: The file of the certificates that all parties trust, mostly that of one authority.
        name: The name of the session, which tells apart sessions of one authority at one time; it may be empty.

    Raises InputError: The file holds no certificate.
    """
    try:
        trusted = x509.load_pem_x509_certificates(authority.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError("session.tls", f"{authority.name}: no certificate", "an authority's certificate") from error
    keys = "\n".join(sorted(map(key_digest, trusted)))
    return hashlib.sha256(DOMAIN + keys.encode("ascii") + b"\n" + name.encode("ascii")).hexdigest()


def digest_of(token: str) -> str:
    """Return what a log calls a session: 12 hex digits, from which the token cannot be derived."""
    return hashlib.sha256(token.encode("ascii")).hexdigest()[:12]


def parse_relay(stated: object, name: str = "session.relay") -> tuple[str, int, str]:
    """Return host, port and name of the session of 'HOST:PORT' or 'HOST:PORT/NAME'.

    Raises InputError, under the name `name`, for anything else.
    """
    place, slash, session = str(stated).partition("/")
    host, colon, port = place.rpartition(":")
    host = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
    good = bool(colon and host) and not re.search(r"[\s@\[\]]", host) and port.isascii() and port.isdecimal()
    if not good or not 0 < int(port) < 65536 or (slash and not NAME.fullmatch(session)):
        expected = "HOST:PORT of a relay, or HOST:PORT/NAME with the session's name, the same name at every party"
        raise InputError(name, shown(repr(stated)), expected)
    return host, int(port), session
